//! What the peers of an overlay call the contents that they announce.

use std::sync::{
    PoisonError, RwLock,
    atomic::{AtomicUsize, Ordering},
};

use p2pbridge_adapters::TrackerTerms;
use p2pbridge_nametable::MAX_TITLE;
use p2pbridge_proto::{Announce, Name, PeerEvent};

use super::{super::swarms::SwarmTable, Index, TitleCounts};

/// Bytes of titles for each swarm that the table may have.
const TITLE: usize = 128;
/// Titles that are looked at for each one that comes, and for each one that finds no room.
const LOOKED_AT: usize = 4;
const LOOKED_AT_FULL: usize = 64;

/// Titles that peers gave, each as long as its swarm has peers. A name keeps the title that came first: who says something
/// else later changes nothing. There are no more titles than there may be swarms, so that who is bound by the table of
/// swarms is bound here.
pub(in crate::handler) struct Announced {
    titles: RwLock<Index<Name>>,
    most: usize,
    /// So that nobody waits for the lock in overlays without titles.
    count: AtomicUsize,
}

impl Announced {
    pub(in crate::handler) fn new(terms: &TrackerTerms) -> Self {
        Self { titles: RwLock::new(Index::new()), most: terms.swarms, count: AtomicUsize::new(0) }
    }

    /// Takes down what a peer calls a content, after the table of swarms has taken the announce.
    pub(in crate::handler) fn note(&self, announce: &Announce, swarms: &SwarmTable) {
        let Some(name) = announce.names.first() else { return };
        let is_of_use = |name: &Name| swarms.stat(name).is_some();
        if announce.event == PeerEvent::Stopped {
            if self.has(name) && !is_of_use(name) {
                self.change(|titles| titles.remove(name));
            }
            return;
        }
        let (title, Some(length)) = (&announce.title, announce.length) else { return };
        let is_bad =
            |title: &str| title.chars().count() > MAX_TITLE || title.chars().any(char::is_control);
        if title.is_empty() || self.has(name) || is_bad(title) {
            return;
        }
        self.change(|titles| {
            let is_full = |titles: &Index<Name>| {
                titles.len() >= self.most || titles.title_bytes() >= self.most.saturating_mul(TITLE)
            };
            let look = if is_full(titles) { LOOKED_AT_FULL } else { LOOKED_AT };
            titles.sweep(look, is_of_use);
            if !is_full(titles) && !titles.contains(name) {
                titles.set(*name, &[title], length);
            }
        });
    }

    pub(in crate::handler) fn counts(&self) -> TitleCounts {
        self.read(TitleCounts::of)
    }

    /// What a search reads.
    pub(super) fn titles(&self) -> &RwLock<Index<Name>> {
        &self.titles
    }

    pub(super) fn read<T>(&self, search: impl FnOnce(&Index<Name>) -> T) -> T {
        search(&self.titles.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn has(&self, name: &Name) -> bool {
        self.count.load(Ordering::Relaxed) > 0 && self.read(|titles| titles.contains(name))
    }

    fn change(&self, change: impl FnOnce(&mut Index<Name>)) {
        let mut titles = self.titles.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut titles);
        self.count.store(titles.len(), Ordering::Relaxed);
    }
}
