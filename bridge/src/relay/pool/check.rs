//! Verification: no byte is published before it matched a hash of the name under which it is served, and a source that
//! lied is found by the hashes of the name under which it sent.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use p2pbridge_proto::Evidence;
use tokio::time::Instant;

use super::{
    Origin, PoolName,
    driver::{Done, Driver, State},
    lock,
    verify::{Outcome, Piece, check},
    wishes::Had,
};
use crate::relay::{grid::Part, spool::SpoolError};

/// How long the spool is left alone after it refused a write.
const SPOOL_REST: Duration = Duration::from_secs(5);
/// Bytes that are read from the spool for checks at once; one chunk always may be.
const MOST_READING: u64 = 32 << 20;

/// How a check of a chunk ended.
pub(super) struct Checked {
    name: usize,
    chunk: u32,
    /// Bytes that were to be stored.
    storing: u64,
    /// Bytes that were to be read.
    reading: u64,
    outcome: Outcome,
}

impl Driver {
    /// Takes over what the spool holds from before: whole chunks are checked, and published when they match.
    pub(super) fn adopt_spooled(&mut self) {
        let shared = self.shared.clone();
        for (number, block) in shared.grid.blocks().iter().enumerate() {
            let spooled = shared.spooled.get(&block.content);
            if spooled.and_then(|held| held.origin(block.offset, block.length.into())).is_some() {
                self.note_stored(number);
            }
        }
        for name in 0..shared.names.len() {
            for chunk in 0..shared.names[name].binding.layout.chunk_count() {
                self.check_if_complete(name, chunk);
            }
        }
    }

    /// Marks a block as stored, and remembers from which overlay it came.
    fn note_stored(&mut self, number: usize) {
        let shared = self.shared.clone();
        let block = &shared.grid.blocks()[number];
        let origin = shared
            .spooled
            .get(&block.content)
            .and_then(|held| held.origin(block.offset, block.length.into()));
        let Some(overlay) = origin else { return };
        self.blocks[number] = State::Stored;
        if shared.came_from[number].load(Ordering::Relaxed) != 0 {
            return;
        }
        let has = |(_, name): &(usize, &PoolName)| {
            name.binding.overlays.contains(&overlay) && name.places.offsets(block).next().is_some()
        };
        if let Some((name, _)) = shared.names.iter().enumerate().find(has) {
            let number_of = shared.origin_number(&Origin { overlay, name });
            shared.came_from[number].store(number_of, Ordering::Relaxed);
        }
    }

    /// Looks again whether the stored blocks of a chunk are still in the spool.
    pub(super) fn refresh_stored(&mut self, name: usize, chunk: u32) {
        let shared = self.shared.clone();
        for part in shared.grid.parts(&shared.names[name].binding.layout, chunk) {
            if let Part::Block(number) = part {
                self.refresh_block(number);
            }
        }
    }

    /// Looks again whether a stored block is still in the spool.
    pub(super) fn refresh_block(&mut self, number: usize) {
        let block = &self.shared.grid.blocks()[number];
        let held = self.shared.spooled.get(&block.content);
        let is_there = held.and_then(|held| held.origin(block.offset, block.length.into()));
        if matches!(self.blocks[number], State::Stored) && is_there.is_none() {
            self.give_up(number);
        }
    }

    /// A block has come: checks the chunks that it made whole, those of the sending name first.
    pub(super) fn check_around(&mut self, number: usize) {
        let shared = self.shared.clone();
        let block = &shared.grid.blocks()[number];
        if let State::Here { origin, .. } = &self.blocks[number]
            && let Some(origin) = shared.origin(*origin)
        {
            for chunk in shared.names[origin.name].places.chunks(block) {
                if self.wants_source_check(origin.name, chunk, number) {
                    self.check_if_complete(origin.name, chunk);
                }
                if self.names[origin.name].checking.contains(&chunk) {
                    return;
                }
            }
        }
        for consumer in &shared.consumers {
            for chunk in shared.names[consumer.name].places.chunks(block) {
                self.check_if_complete(consumer.name, chunk);
            }
        }
    }

    /// The hashes of the sending name are needed until both names are proven, as long as those of the other name are not
    /// known, and whenever there is doubt.
    fn wants_source_check(&self, name: usize, chunk: u32, number: usize) -> bool {
        let shared = &self.shared;
        let block = &shared.grid.blocks()[number];
        self.solo.contains(&(name, chunk))
            || self.names[name].unproven
            || shared.consumers.iter().any(|consumer| {
                let state = &self.names[consumer.name];
                let mut chunks = shared.names[consumer.name].places.chunks(block);
                state.unproven || !state.known || chunks.any(|chunk| state.doubted.contains(&chunk))
            })
    }

    /// Whether a name is served.
    pub(super) fn serves(&self, name: usize) -> bool {
        self.shared.consumers.iter().any(|consumer| consumer.name == name)
    }

    /// Checks a chunk if all its bytes are here and nothing is known of them.
    pub(super) fn check_if_complete(&mut self, name: usize, chunk: u32) {
        let state = &self.names[name];
        let settled = state.checked.has(chunk)
            || state.checking.contains(&chunk)
            || state.doubted.contains(&chunk);
        if settled || self.had(name, chunk) != Had::Whole {
            return;
        }
        match state.known {
            true => self.start_check(name, chunk),
            false => self.teach_if_verified(name, chunk),
        }
    }

    /// The parts of a chunk whose bytes are all here; fresh ones are to be stored, if `store` says so. `None` when
    /// something is missing.
    pub(super) fn pieces(&self, name: usize, chunk: u32, store: bool) -> Option<Vec<Piece>> {
        let shared = &self.shared;
        let piece = |part: Part| match part {
            Part::Zeros(zeros) => Some(Piece::Zeros(zeros)),
            Part::Block(block) => match &self.blocks[block] {
                State::Here { bytes, origin, .. } => {
                    let origin = shared.origin(*origin).filter(|_| store);
                    let store_from = origin.map(|from| from.overlay);
                    Some(Piece::Fresh { block, bytes: bytes.clone(), store_from })
                }
                State::Missing | State::Fetching { .. } => None,
                State::Stored => {
                    let known = &shared.grid.blocks()[block];
                    match shared.common.cache.get(known.content, known.offset) {
                        Some(bytes) => Some(Piece::Cached { block, bytes }),
                        None => Some(Piece::Spooled(block)),
                    }
                }
            },
        };
        let parts = shared.grid.parts(&shared.names[name].binding.layout, chunk);
        parts.into_iter().map(piece).collect()
    }

    /// Whether so many bytes may be read from the spool now. If not, the chunk is looked at again when they may.
    pub(super) fn may_read(&mut self, bytes: u64, of: (usize, u32)) -> bool {
        let may = bytes == 0 || self.reading == 0 || self.reading + bytes <= MOST_READING;
        if may {
            self.reading += bytes;
        } else if self.waiting.insert(of) {
            self.waiting_order.push_back(of);
        }
        may
    }

    /// So many bytes of the spool are read; others may be now.
    pub(super) fn has_read(&mut self, bytes: u64) {
        self.reading = self.reading.saturating_sub(bytes);
        while self.reading < MOST_READING
            && let Some((name, chunk)) = self.waiting_order.pop_front()
        {
            self.waiting.remove(&(name, chunk));
            let before = self.waiting_order.len();
            self.check_if_complete(name, chunk);
            if self.waiting_order.len() > before {
                return;
            }
        }
    }

    /// Bytes of pieces that are to be read from the spool.
    pub(super) fn to_read(&self, pieces: &[Piece]) -> u64 {
        let length = |piece: &Piece| match piece {
            Piece::Spooled(block) => u64::from(self.shared.grid.blocks()[*block].length),
            Piece::Zeros(_) | Piece::Fresh { .. } | Piece::Cached { .. } => 0,
        };
        pieces.iter().map(length).sum()
    }

    /// Whether the spool takes bytes now, as far as is known.
    pub(super) fn spool_takes(&self) -> bool {
        self.spool_rests.is_none_or(|until| until <= Instant::now())
    }

    /// Checks a chunk whose blocks are all had, in a task of its own, and stores it.
    pub(super) fn start_check(&mut self, name: usize, chunk: u32) {
        let shared = self.shared.clone();
        let wished = self.is_wished(name, chunk);
        let store = wished || self.spool_takes();
        let Some(pieces) = self.pieces(name, chunk, store) else { return };
        let reading = self.to_read(&pieces);
        if !self.names[name].known || !self.may_read(reading, (name, chunk)) {
            return;
        }
        let mut storing = 0;
        if store {
            self.spool_rests = None;
            storing = pieces.iter().map(Piece::fresh_bytes).sum();
            self.storing += storing;
            let has_room = |driver: &Self| shared.common.spool.has_room(driver.storing);
            if storing > 0 && !has_room(self) {
                self.evict_served();
            }
            if storing > 0 && wished && !has_room(self) {
                self.evict_for_wish(storing);
            }
        }
        self.names[name].checking.insert(chunk);
        self.jobs.spawn(async move {
            let common = shared.common.clone();
            match common.work.check(move || check(&shared, name, chunk, &pieces)).await {
                Ok(outcome) => Done::Checked(Checked { name, chunk, storing, reading, outcome }),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        });
    }

    /// Takes what came of a check.
    pub(super) fn checked(&mut self, checked: Checked) {
        let Checked { name, chunk, storing, reading, outcome } = checked;
        self.storing = self.storing.saturating_sub(storing);
        self.reading = self.reading.saturating_sub(reading);
        self.names[name].checking.remove(&chunk);
        let stale = self.stale.remove(&(name, chunk));
        match outcome {
            // The bytes that failed have been given up meanwhile: nobody who sent others is to blame.
            Outcome::Bad if stale => self.check_if_complete(name, chunk),
            Outcome::Good { fresh, store_error } => self.good(name, chunk, fresh, store_error),
            Outcome::Bad => self.blame(name, chunk),
            Outcome::Unreadable(error) => {
                tracing::warn!(%error, "the spool does not give back what it holds: fetching it again");
                self.discard_stored(name, chunk);
            }
        }
        self.has_read(0);
    }

    /// A chunk has matched.
    fn good(
        &mut self,
        name: usize,
        chunk: u32,
        fresh: Vec<(usize, Bytes, bool)>,
        store_error: Option<SpoolError>,
    ) {
        self.names[name].matched.set(chunk);
        self.solo.remove(&(name, chunk));
        let (lost, fresh): (Vec<_>, Vec<_>) =
            fresh.into_iter().partition(|(number, ..)| self.is_lost(*number));
        let serves = self.serves(name);
        let kept = fresh.iter().all(|(.., stored)| *stored);
        self.keep(fresh, store_error, serves);
        if !lost.is_empty() {
            // They count as rejected, and are brought again; the chunk is checked when they are here.
            return;
        }
        // What is served from the cache alone may be gone the next moment.
        if kept || !serves {
            self.names[name].checked.set(chunk);
        }
        if !kept && !serves {
            self.unstored.insert((name, chunk));
        }
        if serves {
            self.publish(name, chunk);
        }
        self.clear_doubt(name, chunk);
        self.check_neighbours(name, chunk);
        self.prove();
    }

    /// Has chunks checked, and so stored, again that the spool did not take.
    pub(super) fn store_again(&mut self) {
        if self.unstored.is_empty() || !self.spool_takes() {
            return;
        }
        for (name, chunk) in std::mem::take(&mut self.unstored) {
            self.names[name].checked.clear(chunk);
            self.check_if_complete(name, chunk);
        }
    }

    /// Whether a block is part of a chunk that has matched by another name.
    pub(super) fn is_vouched(&self, number: usize, by_others_than: usize) -> bool {
        let block = &self.shared.grid.blocks()[number];
        let names = self.shared.names.iter().zip(&self.names).enumerate();
        names.filter(|(name, _)| *name != by_others_than).any(|(_, (name, state))| {
            name.places.chunks(block).any(|chunk| state.checked.has(chunk))
        })
    }

    /// A block's bytes are not had any more: that its chunks have matched says nothing of what comes instead.
    pub(super) fn unvouch(&mut self, number: usize) {
        let shared = self.shared.clone();
        let block = &shared.grid.blocks()[number];
        for (name, known) in shared.names.iter().enumerate() {
            for chunk in known.places.chunks(block) {
                self.names[name].checked.clear(chunk);
            }
        }
    }

    /// Whether a block was given up, with its sender, while it was checked, and was never kept.
    fn is_lost(&self, number: usize) -> bool {
        matches!(self.blocks[number], State::Missing | State::Fetching { .. })
            && self.shared.came_from[number].load(Ordering::Relaxed) == 0
    }

    /// Moves the fresh blocks of a good chunk from memory to where they stay. Those that the spool did not take stay in
    /// the cache when they are `served`, else where they are.
    fn keep(&mut self, fresh: Vec<(usize, Bytes, bool)>, error: Option<SpoolError>, served: bool) {
        let shared = self.shared.clone();
        for (number, bytes, stored) in fresh {
            if matches!(self.blocks[number], State::Stored) || (!stored && !served) {
                continue;
            }
            let block = &shared.grid.blocks()[number];
            let length = bytes.len() as u64;
            if let State::Here { origin, consumer, .. } = self.blocks[number] {
                shared.came_from[number].store(origin, Ordering::Relaxed);
                if let Some(meter) = shared.meter(origin, &shared.consumers[consumer]) {
                    meter.verified(length);
                }
            }
            if matches!(self.blocks[number], State::Here { .. } | State::Fetching { .. }) {
                self.forget_memory(length);
            }
            shared.common.cache.put(block.content, block.offset, bytes);
            self.blocks[number] = if stored { State::Stored } else { State::Missing };
            if !stored {
                self.unvouch(number);
            }
        }
        let Some(error) = error else {
            if self.spool_rests.is_none() {
                shared.common.alarms.clear("spool");
            }
            return;
        };
        if matches!(error, SpoolError::Full { .. }) && self.evict_served() > 0 {
            return;
        }
        self.spool_rests = Some(Instant::now() + SPOOL_REST);
        let text = format!("spool: {error}");
        shared.set_trouble(text.clone());
        shared.common.alarms.raise("spool", text);
    }

    /// Announces a chunk to the consumers of its name, as far as routes allow that its bytes go there.
    fn publish(&mut self, name: usize, chunk: u32) {
        let shared = self.shared.clone();
        let parts = shared.grid.parts(&shared.names[name].binding.layout, chunk);
        let mut attendees = lock(&shared.attendees);
        for (number, consumer) in shared.consumers.iter().enumerate() {
            let allowed = |part: &Part| match part {
                Part::Zeros(_) => true,
                Part::Block(block) => shared
                    .origin(shared.came_from[*block].load(Ordering::Relaxed))
                    .is_some_and(|origin| shared.may_cross(&origin.overlay, consumer)),
            };
            if consumer.name != name || !parts.iter().all(allowed) {
                continue;
            }
            if consumer.availability.add(chunk) {
                if let Some(meter) = parts.iter().find_map(|part| match part {
                    Part::Block(block) => {
                        shared.meter(shared.came_from[*block].load(Ordering::Relaxed), consumer)
                    }
                    Part::Zeros(_) => None,
                }) {
                    meter.chunk();
                }
                for attendee in attendees.values_mut().filter(|a| a.consumer == number) {
                    attendee.published(chunk);
                }
            }
            lock(&shared.wishes).answer((number, chunk), Ok(()));
        }
    }

    /// What was good by one name may settle, or make possible, the check by another.
    fn check_neighbours(&mut self, name: usize, chunk: u32) {
        let shared = self.shared.clone();
        for part in shared.grid.parts(&shared.names[name].binding.layout, chunk) {
            let Part::Block(number) = part else { continue };
            let block = &shared.grid.blocks()[number];
            for consumer in shared.consumers.iter().filter(|consumer| consumer.name != name) {
                for chunk in shared.names[consumer.name].places.chunks(block) {
                    self.check_if_complete(consumer.name, chunk);
                }
            }
        }
    }

    /// Lets go of doubts about chunks of other names, in so far as their bytes are gone, or all good by other names.
    pub(super) fn clear_doubt(&mut self, name: usize, chunk: u32) {
        let shared = self.shared.clone();
        let mut doubts = Vec::new();
        for part in shared.grid.parts(&shared.names[name].binding.layout, chunk) {
            let Part::Block(number) = part else { continue };
            let block = &shared.grid.blocks()[number];
            let others = shared.names.iter().zip(&self.names).enumerate();
            for (other, (known, state)) in others.filter(|(other, _)| *other != name) {
                let chunks = known.places.chunks(block);
                doubts.extend(chunks.filter(|c| state.doubted.contains(c)).map(|c| (other, c)));
            }
        }
        doubts.dedup();
        for (name, chunk) in doubts {
            let parts = shared.grid.parts(&shared.names[name].binding.layout, chunk);
            let is_good = |part: &Part| match part {
                Part::Block(number) => self.is_vouched(*number, name),
                Part::Zeros(_) => true,
            };
            if self.had(name, chunk) != Had::Whole || parts.iter().all(is_good) {
                self.names[name].doubted.remove(&chunk);
            }
        }
    }

    /// Raises the evidence of names whose every chunk has matched, once another name matched the same bytes.
    fn prove(&mut self) {
        let full: Vec<usize> = (0..self.names.len())
            .filter(|name| {
                self.names[*name].matched.is_full() && !self.names[*name].matched.is_empty()
            })
            .collect();
        if full.len() < 2 {
            return;
        }
        for name in full {
            if !std::mem::take(&mut self.names[name].unproven) {
                continue;
            }
            let table = self.shared.common.names.clone();
            let Some(main) = self.shared.names[name].urn() else { continue };
            tracing::info!(name = %main, "every byte has matched: the binding is verified");
            self.jobs.spawn(async move {
                let raise = move || table.raise(&main, Evidence::Verified).map(|_| ());
                if let Ok(Err(error)) = tokio::task::spawn_blocking(raise).await {
                    tracing::warn!(%error, "the evidence could not be raised");
                }
                Done::Recorded
            });
        }
    }
}
