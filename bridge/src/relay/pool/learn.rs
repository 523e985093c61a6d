//! Names whose hashes are not known yet: a source tells them, or they are made of bytes that other names have verified.

use std::{collections::HashSet, sync::atomic::Ordering};

use p2pbridge_adapters::Learned;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Duration, Instant},
};

use super::{
    driver::{Done, Driver},
    lock,
    verify::teach,
    wishes::Had,
};
use crate::relay::{grid::Part, spool::SpoolError};

/// How long a name is learned further when nothing comes, and how long it then makes place for others.
const LEARN_ON: Duration = Duration::from_secs(60);
/// How long a name is learned further when nobody is served any more: a peer may come back.
const COME_BACK: Duration = Duration::from_secs(30);
/// How long connected sources have to tell the hashes, before they are made of bytes.
const TELL: Duration = Duration::from_secs(10);

/// A name whose hashes are being learned.
pub(super) struct Learning {
    until: Instant,
    /// Its place among those that all pools learn at the same time.
    _place: OwnedSemaphorePermit,
}

/// What came of giving a chunk to a name.
pub(super) struct Taught {
    name: usize,
    chunk: u32,
    reading: u64,
    result: Result<Learned, SpoolError>,
}

impl Driver {
    /// Looks whether hashes have become known; then what is here is checked.
    pub(super) fn notice_known(&mut self) {
        let shared = self.shared.clone();
        for (name, known) in shared.names.iter().enumerate() {
            if self.names[name].known || !known.description.integrity.is_known() {
                continue;
            }
            tracing::info!(name = ?known.urn(), "the hashes of a name's chunks are known now");
            self.names[name].known = true;
            for (consumer, first) in shared.consumers.iter().zip(&mut self.first_open) {
                if consumer.name == name {
                    *first = 0;
                }
            }
            if self.serves(name) || self.names[name].unproven {
                for chunk in 0..known.binding.layout.chunk_count() {
                    self.check_if_complete(name, chunk);
                }
            }
        }
    }

    /// Gives a served name a chunk whose bytes other names have verified.
    pub(super) fn teach_if_verified(&mut self, name: usize, chunk: u32) {
        let shared = self.shared.clone();
        if self.names[name].taught.has(chunk) || !self.serves(name) {
            return;
        }
        let parts = shared.grid.parts(&shared.names[name].binding.layout, chunk);
        let is_good = |part: &Part| match part {
            Part::Block(number) => self.is_vouched(*number, name),
            Part::Zeros(_) => true,
        };
        if !parts.iter().all(is_good) {
            return;
        }
        let Some(pieces) = self.pieces(name, chunk, false) else { return };
        let reading = self.to_read(&pieces);
        if !self.may_read(reading, (name, chunk)) {
            return;
        }
        self.names[name].checking.insert(chunk);
        self.jobs.spawn(async move {
            let common = shared.common.clone();
            match common.work.check(move || teach(&shared, name, chunk, &pieces)).await {
                Ok(result) => Done::Taught(Taught { name, chunk, reading, result }),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        });
    }

    /// Takes what came of giving a chunk to a name.
    pub(super) fn taught(&mut self, taught: Taught) {
        let Taught { name, chunk, reading, result } = taught;
        self.names[name].checking.remove(&chunk);
        self.stale.remove(&(name, chunk));
        match result {
            Ok(Learned::More) => {
                self.names[name].taught.set(chunk);
            }
            Ok(Learned::Known) => {
                self.names[name].taught.set(chunk);
                self.notice_known();
            }
            Ok(Learned::OtherBytes) => self.disprove(name),
            Err(error) => {
                tracing::warn!(%error, "the spool does not give back what it holds: fetching it again");
                self.discard_stored(name, chunk);
            }
        }
        // Hashes may have become known while it was being given.
        if self.names[name].known {
            self.check_if_complete(name, chunk);
        }
        self.has_read(reading);
    }

    /// Whether a name's hashes can be learned of bytes alone: they are not known, and no connected source may still tell
    /// them.
    pub(super) fn learns(&self, name: usize) -> bool {
        !self.names[name].known && self.may_be_told_until(name) <= Some(Instant::now())
    }

    /// Until when the sources of a name have time to tell its hashes, if one is connected.
    fn may_be_told_until(&self, name: usize) -> Option<Instant> {
        let mut sources = self.sources.connected().values();
        let own = sources.any(|source| source.origin.name == name);
        self.names[name].asked_since.filter(|_| own).map(|since| since + TELL)
    }

    /// Whether the spool could hold all bytes of a name, of which its hashes would be made.
    pub(super) fn could_hold(&self, name: usize) -> bool {
        let extents = self.shared.names[name].binding.layout.extents();
        extents.iter().map(|extent| extent.length).sum::<u64>() <= self.shared.common.spool.bound()
    }

    /// The next chunk that is to be given to a name, if one is.
    pub(super) fn next_to_learn(&mut self, consumer: usize) -> u32 {
        let name = self.shared.consumers[consumer].name;
        let first = &mut self.first_open[consumer];
        while self.names[name].taught.has(*first) {
            *first += 1;
        }
        *first
    }

    /// Consumers whose hashes are to be learned: those for which a reader waits, as far as there are places, and on as
    /// long as something comes and a peer is served. Tells the pool, which stays that long.
    pub(super) fn learning(&mut self) -> Vec<usize> {
        let (shared, now) = (self.shared.clone(), Instant::now());
        let wished: HashSet<usize> =
            lock(&shared.wishes).open().into_iter().map(|((consumer, _), _)| consumer).collect();
        self.learn_rests.retain(|_, until| *until > now);
        for (number, to) in shared.consumers.iter().enumerate() {
            if !self.learns(to.name) || !self.could_hold(to.name) {
                self.learn_until.remove(&number);
                if let Some(until) = self.may_be_told_until(to.name).filter(|until| *until > now) {
                    self.wake_at = self.wake_at.min(until);
                }
            } else if let Some(learning) = self.learn_until.get_mut(&number) {
                if to.peers.load(Ordering::Relaxed) == 0 && !wished.contains(&number) {
                    learning.until = learning.until.min(now + COME_BACK);
                } else if learning.until <= now {
                    self.learn_rests.insert(number, now + LEARN_ON);
                }
            } else if wished.contains(&number)
                && !self.learn_rests.contains_key(&number)
                && let Ok(place) = shared.common.learning.clone().try_acquire_owned()
            {
                self.learn_until.insert(number, Learning { until: now + LEARN_ON, _place: place });
            }
        }
        self.learn_until.retain(|_, learning| learning.until > now);
        *lock(&shared.learns_until) =
            self.learn_until.values().map(|learning| learning.until).max();
        self.learn_until.keys().copied().collect()
    }

    /// Something has come: what is being learned for somebody is learned further.
    pub(super) fn learn_on(&mut self) {
        let until = Instant::now() + LEARN_ON;
        self.learn_rests.clear();
        for (consumer, learning) in &mut self.learn_until {
            if self.shared.consumers[*consumer].peers.load(Ordering::Relaxed) > 0 {
                learning.until = until;
            }
        }
    }

    /// Why a name whose hashes are not known is not served, for the operator; `None` when it is a matter of time.
    pub(super) fn unlearnable(&self, name: usize) -> Option<&'static str> {
        (self.learns(name) && !self.could_hold(name)).then_some(
            "the hashes of its chunks are not known, no source tells them, and the spool is too small to make them of the whole content",
        )
    }

    /// Whether a chunk of a name whose hashes are not known has all its bytes here.
    pub(super) fn awaits_hashes(&self, name: usize, chunk: u32) -> bool {
        !self.names[name].known && self.had(name, chunk) == Had::Whole
    }
}
