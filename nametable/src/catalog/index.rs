use std::hash::{BuildHasher, Hasher, RandomState};

use foldhash::{SharedSeed, quality::FoldHasher};
use hashbrown::{HashTable, hash_table};
use p2pbridge_proto::{ContentId, Name};

/// Tables of one index: each grows by itself, so that growing never takes long.
const SHARDS: usize = 256;

/// Where a name or an identity may be found: 40 bits of a keyed hash lead to slots. Whoever asks compares what is there.
pub(crate) struct Index {
    shards: Box<[HashTable<Entry>]>,
    len: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: u32,
    slot: u32,
}

/// A keyed hash, cut for an [`Index`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    shard: u8,
    tag: u32,
}

impl Mark {
    /// The hash by which a table finds it: all of it follows from the tag, so that a table can grow by itself. The low bits
    /// choose the place, the high ones are compared.
    fn hash(self) -> u64 {
        spread(self.tag)
    }
}

fn spread(tag: u32) -> u64 {
    u64::from(tag).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

impl Index {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| HashTable::new()).collect(), len: 0 }
    }

    fn shard(&self, mark: Mark) -> &HashTable<Entry> {
        &self.shards[usize::from(mark.shard)]
    }

    fn shard_mut(&mut self, mark: Mark) -> &mut HashTable<Entry> {
        &mut self.shards[usize::from(mark.shard)]
    }

    /// The first slot that fits.
    #[inline]
    pub(crate) fn guess(&self, mark: Mark) -> Option<u32> {
        let entry = self.shard(mark).find(mark.hash(), |entry| entry.tag == mark.tag)?;
        Some(entry.slot)
    }

    /// The slot that fits, and of which `is_it` is true.
    #[inline]
    pub(crate) fn find(&self, mark: Mark, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let fits = |entry: &Entry| entry.tag == mark.tag && is_it(entry.slot);
        self.shard(mark).find(mark.hash(), fits).map(|entry| entry.slot)
    }

    pub(crate) fn insert(&mut self, mark: Mark, slot: u32) {
        let entry = Entry { tag: mark.tag, slot };
        self.shard_mut(mark).insert_unique(mark.hash(), entry, |entry| spread(entry.tag));
        self.len += 1;
    }

    /// Lets the entry that fits, and of whose slot `is_it` is true, lead to this slot; a new one when there is none.
    pub(crate) fn set(&mut self, mark: Mark, slot: u32, mut is_it: impl FnMut(u32) -> bool) {
        let fits = |entry: &Entry| entry.tag == mark.tag && is_it(entry.slot);
        match self.shard_mut(mark).entry(mark.hash(), fits, |entry| spread(entry.tag)) {
            hash_table::Entry::Occupied(mut entry) => entry.get_mut().slot = slot,
            hash_table::Entry::Vacant(entry) => {
                entry.insert(Entry { tag: mark.tag, slot });
                self.len += 1;
            }
        }
    }

    /// Takes out one entry that fits, and of whose slot `is_it` is true; `false` when there is none.
    pub(crate) fn remove(&mut self, mark: Mark, mut is_it: impl FnMut(u32) -> bool) -> bool {
        let fits = |entry: &Entry| entry.tag == mark.tag && is_it(entry.slot);
        let Ok(entry) = self.shard_mut(mark).find_entry(mark.hash(), fits) else { return false };
        entry.remove();
        self.len -= 1;
        true
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory.
    pub(crate) fn memory(&self) -> usize {
        let tables: usize = self.shards.iter().map(HashTable::allocation_size).sum();
        tables + size_of_val(&*self.shards)
    }
}

/// Hashes with a key that nobody knows: digests come from strangers.
pub(crate) struct Marker {
    seed: u64,
    shared: SharedSeed,
}

impl Marker {
    pub(crate) fn new() -> Self {
        let random = RandomState::new();
        Self { seed: random.hash_one(0), shared: SharedSeed::from_u64(random.hash_one(1)) }
    }

    #[inline]
    pub(crate) fn name(&self, name: &Name) -> Mark {
        self.parts(name.scheme() as u8, name.digest())
    }

    /// The mark of a name by its scheme's number and digest.
    #[inline]
    pub(crate) fn parts(&self, scheme: u8, digest: &[u8]) -> Mark {
        let mut hasher = FoldHasher::with_seed(self.seed ^ u64::from(scheme), &self.shared);
        hasher.write(digest);
        cut(hasher.finish())
    }

    #[inline]
    pub(crate) fn id(&self, id: &ContentId) -> Mark {
        self.parts(0, id.as_bytes())
    }
}

fn cut(hash: u64) -> Mark {
    Mark { shard: (hash >> 56) as u8, tag: hash as u32 }
}
