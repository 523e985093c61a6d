//! The contents in memory: packed, found by their identity and by each of their names.
//!
//! A content is 100 to 200 bytes in a slot of its own ([`packed`]); the indexes are 8-byte entries that lead from a keyed hash
//! to a slot, where what is there is compared. One lock is held for one content at a time, so that nobody waits for
//! longer than a change of one content takes, and everybody sees contents whole.

mod authors;
pub(crate) mod index;
pub(crate) mod packed;
mod slots;
mod translate;

use std::{
    ops::ControlFlow,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use p2pbridge_proto::{ContentId, Name};

use self::{
    authors::Authors,
    index::{Index, Mark, Marker},
    packed::Packed,
    slots::Slots,
};
use crate::Content;

/// Contents that [`Catalog::page`] reads while it holds the lock, and slots that it looks into.
const ROWS_AT_ONCE: usize = 64;
const SLOTS_AT_ONCE: u32 = 4_096;

/// The contents that the bridge knows. One thread at a time changes them; a reader waits for the change of one content at
/// most.
pub(crate) struct Catalog {
    marker: Marker,
    inner: RwLock<Inner>,
}

struct Inner {
    slots: Slots,
    by_name: Index,
    by_id: Index,
    authors: Authors,
    /// Where a content is packed, before it is known how long it comes to be.
    draft: Vec<u8>,
}

impl Catalog {
    pub(crate) fn new() -> Self {
        let inner = Inner {
            slots: Slots::new(),
            by_name: Index::new(),
            by_id: Index::new(),
            authors: Authors::default(),
            draft: Vec::new(),
        };
        Self { marker: Marker::new(), inner: RwLock::new(inner) }
    }

    /// Puts a content in the place of the one with its identity, if there is one. A name that another content has becomes
    /// this one's: what is put last counts. So the content that takes another's names may be put before that one is put
    /// without them, or removed, and the names are found all the time.
    pub(crate) fn put(&self, content: &Content) {
        self.write().put(&self.marker, content);
    }

    /// Takes a content out; `false` when there is none.
    pub(crate) fn remove(&self, id: &ContentId) -> bool {
        let mut inner = self.write();
        let slot = inner.slot_of_id(self.marker.id(id), id);
        slot.is_some_and(|slot| inner.remove(&self.marker, slot))
    }

    /// The content with an identity.
    pub(crate) fn get(&self, id: &ContentId) -> Option<Content> {
        let mark = self.marker.id(id);
        let inner = self.read();
        inner.unpack(inner.slot_of_id(mark, id)?)
    }

    /// The content that has a name.
    pub(crate) fn of(&self, name: &Name) -> Option<Content> {
        let mark = self.marker.name(name);
        let inner = self.read();
        inner.unpack(inner.slot_of(mark, name)?)
    }

    /// The identity of the content that has a name.
    pub(crate) fn id_of(&self, name: &Name) -> Option<ContentId> {
        let mark = self.marker.name(name);
        let inner = self.read();
        Packed(inner.slots.get(inner.slot_of(mark, name)?)?).id()
    }

    /// Contents from a cursor on, 0 at first; and the cursor to go on from, when there may be more. At most `limit`, fewer
    /// when others come and go meanwhile. Contents that stay come once each, whatever happens to others. Cursors are good for as long as this
    /// catalog lives.
    pub(crate) fn page(&self, from: u64, limit: usize) -> (Vec<Content>, Option<u64>) {
        let mut rows = Vec::new();
        let Ok(mut at) = u32::try_from(from) else { return (rows, None) };
        loop {
            let inner = self.read();
            let enough = limit.min(rows.len().saturating_add(ROWS_AT_ONCE));
            let pause = at.saturating_add(SLOTS_AT_ONCE).min(inner.slots.end());
            while at < pause && rows.len() < enough {
                rows.extend(inner.unpack(at));
                at += 1;
            }
            if at >= inner.slots.end() {
                return (rows, None);
            }
            if rows.len() >= limit {
                return (rows, Some(at.into()));
            }
        }
    }

    /// How many contents there are.
    pub(crate) fn len(&self) -> usize {
        self.read().by_id.len()
    }

    /// How many names they have.
    pub(crate) fn names(&self) -> usize {
        self.read().by_name.len()
    }

    /// Bytes of memory: of the contents, what an allocator adds to them, and the indexes.
    pub(crate) fn memory(&self) -> usize {
        let inner = self.read();
        let indexes = inner.by_name.memory() + inner.by_id.memory();
        inner.slots.memory() + indexes + inner.authors.memory() + size_of::<Self>()
    }

    /// Begins to make the catalog what a store says. Until [`Reload::finish`], what it had before is found as well.
    pub(crate) fn reload(&self) -> Reload<'_> {
        Reload { catalog: self, seen: Vec::new() }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A catalog that becomes what a store says, content by content. Dropped before it is finished, it leaves what was there and
/// what has come.
pub(crate) struct Reload<'a> {
    catalog: &'a Catalog,
    /// A bit for each slot that was put.
    seen: Vec<u64>,
}

impl Reload<'_> {
    /// Puts a content that the store has.
    pub(crate) fn put(&mut self, content: &Content) {
        let Some(slot) = self.catalog.write().put(&self.catalog.marker, content) else { return };
        let (word, bit) = (slot as usize / 64, slot % 64);
        if word >= self.seen.len() {
            self.seen.resize(word + 1, 0);
        }
        self.seen[word] |= 1 << bit;
    }

    /// Takes out all that the store has not.
    pub(crate) fn finish(self) {
        let end = self.catalog.read().slots.end();
        for slot in 0..end {
            let word = self.seen.get(slot as usize / 64).copied().unwrap_or_default();
            if word >> (slot % 64) & 1 == 0 {
                self.catalog.write().remove(&self.catalog.marker, slot);
            }
        }
    }
}

impl Inner {
    fn slot_of(&self, mark: Mark, name: &Name) -> Option<u32> {
        self.by_name
            .find(mark, |slot| self.slots.get(slot).is_some_and(|bytes| Packed(bytes).has(name)))
    }

    fn slot_of_id(&self, mark: Mark, id: &ContentId) -> Option<u32> {
        self.by_id.find(mark, |slot| {
            self.slots.get(slot).and_then(|bytes| Packed(bytes).id()) == Some(*id)
        })
    }

    fn unpack(&self, slot: u32) -> Option<Content> {
        let content = Packed(self.slots.get(slot)?).unpack(self.authors.all());
        debug_assert!(content.is_some(), "what was packed here can be unpacked");
        content
    }

    fn put(&mut self, marker: &Marker, content: &Content) -> Option<u32> {
        let mark = marker.id(&content.id);
        let slot = match self.slot_of_id(mark, &content.id) {
            Some(slot) => {
                self.forget_names(marker, slot);
                slot
            }
            None => {
                let slot = self.slots.take()?;
                self.by_id.insert(mark, slot);
                slot
            }
        };
        self.draft.clear();
        packed::encode(content, |who| self.authors.place(who), &mut self.draft);
        self.slots.set(slot, Some(self.draft.as_slice().into()));
        for known in &content.names {
            let mark = marker.name(&known.name);
            // An entry of this slot is of another of its names, with the same mark.
            let slots = &self.slots;
            self.by_name.set(mark, slot, |other| {
                other != slot
                    && slots.get(other).is_some_and(|bytes| Packed(bytes).has(&known.name))
            });
        }
        Some(slot)
    }

    /// Takes out what is in a slot; `false` when nothing is.
    fn remove(&mut self, marker: &Marker, slot: u32) -> bool {
        self.forget_names(marker, slot);
        let Some(bytes) = self.slots.free(slot) else { return false };
        if let Some(id) = Packed(&bytes).id() {
            self.by_id.remove(marker.id(&id), |other| other == slot);
        }
        true
    }

    /// Takes the names of a slot's content out of the index, but those that have become another's.
    fn forget_names(&mut self, marker: &Marker, slot: u32) {
        let Some(bytes) = self.slots.get(slot) else { return };
        Packed(bytes).each(|_, scheme, digest| {
            self.by_name.remove(marker.parts(scheme, digest), |other| other == slot);
            ControlFlow::Continue(())
        });
    }
}

#[cfg(test)]
mod tests;
