//! Titles, found by their words.

use std::hash::{BuildHasher, Hash, RandomState};

use hashbrown::HashTable;

use super::{
    query::{Item, Term, hashes},
    segment::{Entry, PLACES, Segment, Work},
};

/// What one search may cost, in steps of some nanoseconds; and what looking at one title costs at least.
const WORK: usize = 1_000_000;
const LOOK: usize = 20;
/// What an allocator adds to a title.
const ALLOCATED: usize = 16;

/// Titles of contents, each of which goes by a key; a content may have several.
pub(super) struct Index<K> {
    hasher: RandomState,
    /// The last one takes what comes; an empty one may stand before it, and is filled again.
    segments: Vec<Segment<K>>,
    open: usize,
    /// Where the titles of a key are.
    by_key: HashTable<u32>,
    title_bytes: usize,
    hand: usize,
}

impl<K: Copy + Eq + Hash> Index<K> {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            segments: vec![Segment::new()],
            open: 0,
            by_key: HashTable::new(),
            title_bytes: 0,
            hand: 0,
        }
    }

    /// How many titles there are.
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory(&self) -> usize {
        let segments: usize = self.segments.iter().map(Segment::memory).sum();
        segments + self.title_bytes + self.len() * ALLOCATED + self.by_key.capacity() * 5
    }

    /// Bytes of the titles.
    pub(super) fn title_bytes(&self) -> usize {
        self.title_bytes
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        self.by_key.find(self.hasher.hash_one(key), |at| self.is(*at, key)).is_some()
    }

    /// Makes the titles of a content these, and its length this.
    pub(super) fn set(&mut self, key: K, titles: &[&str], length: u64) {
        let same = |entry: &&Entry<K>| entry.length == length && titles.contains(&&*entry.title);
        let known = self.of(&key).collect::<Vec<_>>();
        if known.len() == titles.len() && known.iter().all(same) {
            return;
        }
        self.remove(&key);
        for title in titles {
            self.put(Entry { key, length, title: (*title).into() });
        }
    }

    /// Takes out all titles of a content.
    pub(super) fn remove(&mut self, key: &K) {
        let hash = self.hasher.hash_one(key);
        loop {
            let (segments, by_key) = (&self.segments, &mut self.by_key);
            let found = by_key.find_entry(hash, |at| is(segments, *at, key));
            let Ok(entry) = found else { return };
            let (at, _) = entry.remove();
            self.take(at);
        }
    }

    /// Lets the hand go over some titles, and takes out those that are of no use any more.
    pub(super) fn sweep(&mut self, titles: usize, is_of_use: impl Fn(&K) -> bool) {
        for _ in 0..titles.min(self.len()) {
            let mut at = self.hand;
            // What was taken out is passed over.
            for _ in 0..PLACES {
                at = self.place_after(at);
                if self.entry(at).is_some() {
                    break;
                }
            }
            self.hand = at;
            let Some(key) = self.entry(at).map(|entry| entry.key) else { continue };
            if !is_of_use(&key) {
                self.remove(&key);
            }
        }
    }

    /// Gives what a term holds for, until it is told to stop instead of how many steps that takes. Gives whether it has seen all: a search costs so much
    /// and no more.
    pub(super) fn search(
        &self,
        term: &dyn Fn(&RandomState) -> Term,
        sources: &dyn Fn(&K) -> u32,
        mut each: impl FnMut(&K, &str, u64) -> Option<usize>,
    ) -> bool {
        let (term, mut work) = (term(&self.hasher), Work(WORK));
        let cost = LOOK + term.cost();
        // What came last first.
        for segment in self.segments.iter().rev() {
            let mut look = |place: usize, work: &mut Work| {
                let Some(Some(entry)) = segment.entries.get(place) else { return work.take(1) };
                let (title, length) = (&*entry.title, entry.length);
                let sources = || sources(&entry.key);
                let item = Item::new(title, length, &self.hasher, &sources);
                let mut steps = cost + title.len();
                if term.matches(&item) {
                    let Some(more) = each(&entry.key, title, length) else { return false };
                    steps += more;
                }
                work.take(steps)
            };
            let seen = match segment.candidates(&term, &mut work) {
                Some(places) => {
                    places.iter().rev().all(|place| look(usize::from(*place), &mut work))
                }
                None => (0..segment.entries.len()).rev().all(|place| look(place, &mut work)),
            };
            if !seen || !work.take(1) {
                return false;
            }
        }
        true
    }

    fn of<'a>(&'a self, key: &'a K) -> impl Iterator<Item = &'a Entry<K>> {
        let hash = self.hasher.hash_one(key);
        let found = self.by_key.iter_hash(hash).filter_map(|at| self.entry(*at as usize));
        found.filter(move |entry| entry.key == *key)
    }

    fn put(&mut self, entry: Entry<K>) {
        if self.segments.get(self.open).is_none_or(Segment::is_full) {
            self.close();
        }
        let Some(segment) = self.segments.get_mut(self.open) else { return };
        let hash = self.hasher.hash_one(entry.key);
        self.title_bytes += entry.title.len();
        let words = hashes(&entry.title, &self.hasher);
        let at = number(self.open, segment.push(entry, &words));
        let (segments, hasher) = (&self.segments, &self.hasher);
        self.by_key.insert_unique(hash, at, |at| {
            entry_at(segments, *at as usize).map_or(0, |entry| hasher.hash_one(entry.key))
        });
    }

    /// Packs the segment that is full, and opens another.
    fn close(&mut self) {
        let full = self.open;
        let sparse = self.segments.get(full).is_some_and(Segment::is_sparse);
        if !sparse && let Some(segment) = self.segments.get_mut(full) {
            segment.pack();
        }
        let empty = self.segments.iter().position(|segment| segment.entries.is_empty());
        self.open = empty.unwrap_or(self.segments.len());
        if empty.is_none() {
            self.segments.push(Segment::new());
        }
        if sparse {
            self.renew(full);
        }
    }

    /// Takes out what is at a place; a segment of which little is left is emptied into the open one.
    fn take(&mut self, at: u32) {
        let (number, place) = (at as usize / PLACES, at as usize % PLACES);
        let Some(segment) = self.segments.get_mut(number) else { return };
        let entry = segment.take(u16::try_from(place).unwrap_or(u16::MAX));
        self.title_bytes -= entry.map_or(0, |entry| entry.title.len());
        if segment.is_full() && segment.is_sparse() && number != self.open {
            self.renew(number);
        }
    }

    fn renew(&mut self, sparse: usize) {
        let Some(segment) = self.segments.get_mut(sparse) else { return };
        let moved = std::mem::replace(segment, Segment::new()).entries;
        let moved: Vec<_> = moved
            .into_iter()
            .zip(0..)
            .filter_map(|(entry, place)| Some((entry?, number(sparse, place))))
            .collect();
        // All are taken out before the first is put: a place may be another's by then.
        for (entry, at) in &moved {
            let hash = self.hasher.hash_one(entry.key);
            if let Ok(old) = self.by_key.find_entry(hash, |other| other == at) {
                old.remove();
            }
            self.title_bytes -= entry.title.len();
        }
        moved.into_iter().for_each(|(entry, _)| self.put(entry));
    }

    fn place_after(&self, at: usize) -> usize {
        let (number, place) = (at / PLACES, at % PLACES + 1);
        if self.segments.get(number).is_some_and(|segment| place < segment.entries.len()) {
            return at + 1;
        }
        let next = number + 1;
        if next < self.segments.len() { next * PLACES } else { 0 }
    }

    fn entry(&self, at: usize) -> Option<&Entry<K>> {
        entry_at(&self.segments, at)
    }

    fn is(&self, at: u32, key: &K) -> bool {
        is(&self.segments, at, key)
    }
}

fn entry_at<K>(segments: &[Segment<K>], at: usize) -> Option<&Entry<K>> {
    segments.get(at / PLACES)?.entries.get(at % PLACES)?.as_ref()
}

fn is<K: Eq>(segments: &[Segment<K>], at: u32, key: &K) -> bool {
    entry_at(segments, at as usize).is_some_and(|entry| entry.key == *key)
}

/// 2^18 segments have numbers: more titles than memory has room for.
fn number(segment: usize, place: u16) -> u32 {
    u32::try_from(segment * PLACES + usize::from(place)).unwrap_or(u32::MAX)
}
