//! Verification: no byte is published before it matched a hash of the name under which it is served, and a source that
//! lied is found by the hashes of the name under which it sent.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use p2pbridge_proto::{Evidence, OverlayId};
use tokio::time::Instant;

use super::{
    Origin, PoolName, Shared,
    driver::{Done, Driver, State},
    lock,
};
use crate::relay::{grid::Part, spool::SpoolError};

/// How long the spool is left alone after it refused a write.
const SPOOL_REST: Duration = Duration::from_secs(5);
/// Zeros for padding, cut to size.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// How a check of a chunk ended.
pub(super) struct Checked {
    name: usize,
    chunk: u32,
    /// Bytes that were to be stored.
    storing: u64,
    outcome: Outcome,
}

enum Outcome {
    /// The bytes match. Those that were fresh are here again, each with whether the spool has taken it.
    Good { fresh: Vec<(usize, Bytes, bool)>, store_error: Option<SpoolError> },
    /// The bytes do not match.
    Bad,
    /// The spool did not give back what it held.
    Unreadable(SpoolError),
}

/// A part of a chunk, for a task of its own.
enum Piece {
    Zeros(u64),
    /// In memory, to be kept when the chunk is good: in the spool, if it has an origin here.
    Fresh {
        block: usize,
        bytes: Bytes,
        store_from: Option<OverlayId>,
    },
    /// In memory already.
    Cached {
        block: usize,
        bytes: Bytes,
    },
    /// In the spool.
    Spooled(usize),
}

impl Piece {
    fn fresh_bytes(&self) -> u64 {
        match self {
            Self::Fresh { bytes, .. } => bytes.len() as u64,
            Self::Zeros(_) | Self::Cached { .. } | Self::Spooled(_) => 0,
        }
    }
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
            if let Part::Block(number) = part
                && matches!(self.blocks[number], State::Stored)
            {
                let block = &shared.grid.blocks()[number];
                let spooled = shared.spooled.get(&block.content);
                if spooled.and_then(|held| held.origin(block.offset, block.length.into())).is_none()
                {
                    self.give_up(number);
                }
            }
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

    /// The hashes of the sending name are needed until both names are proven, and whenever there is doubt.
    fn wants_source_check(&self, name: usize, chunk: u32, number: usize) -> bool {
        let shared = &self.shared;
        let block = &shared.grid.blocks()[number];
        self.solo.contains(&(name, chunk))
            || self.names[name].unproven
            || shared.consumers.iter().any(|consumer| {
                let mut chunks = shared.names[consumer.name].places.chunks(block);
                self.names[consumer.name].unproven
                    || chunks.any(|chunk| self.names[consumer.name].doubted.contains(&chunk))
            })
    }

    pub(super) fn check_if_complete(&mut self, name: usize, chunk: u32) {
        let state = &self.names[name];
        let settled = state.checked.has(chunk)
            || state.checking.contains(&chunk)
            || state.doubted.contains(&chunk);
        if settled {
            return;
        }
        let shared = self.shared.clone();
        let parts = shared.grid.parts(&shared.names[name].binding.layout, chunk);
        let had = |part: &Part| match part {
            Part::Block(block) => matches!(self.blocks[*block], State::Here { .. } | State::Stored),
            Part::Zeros(_) => true,
        };
        if parts.iter().all(had) {
            self.start_check(name, chunk);
        }
    }

    /// Checks a chunk whose blocks are all had, in a task of its own, and stores it when a consumer has its name.
    pub(super) fn start_check(&mut self, name: usize, chunk: u32) {
        let shared = self.shared.clone();
        let serves = shared.consumers.iter().any(|consumer| consumer.name == name);
        let store = serves && self.spool_rests.is_none_or(|until| until <= Instant::now());
        let mut pieces = Vec::new();
        for part in shared.grid.parts(&shared.names[name].binding.layout, chunk) {
            pieces.push(match part {
                Part::Zeros(zeros) => Piece::Zeros(zeros),
                Part::Block(block) => match &self.blocks[block] {
                    State::Here { bytes, .. } if !serves => {
                        Piece::Cached { block, bytes: bytes.clone() }
                    }
                    State::Here { bytes, origin, .. } => Piece::Fresh {
                        block,
                        bytes: bytes.clone(),
                        store_from: shared
                            .origin(*origin)
                            .filter(|_| store)
                            .map(|from| from.overlay),
                    },
                    State::Missing | State::Fetching { .. } => return,
                    State::Stored => {
                        let known = &shared.grid.blocks()[block];
                        match shared.common.cache.get(known.content, known.offset) {
                            Some(bytes) => Piece::Cached { block, bytes },
                            None => Piece::Spooled(block),
                        }
                    }
                },
            });
        }
        let mut storing = 0;
        if store {
            self.spool_rests = None;
            storing = pieces.iter().map(Piece::fresh_bytes).sum();
            self.storing += storing;
            if !shared.common.spool.has_room(self.storing) {
                self.evict_served();
            }
        }
        self.names[name].checking.insert(chunk);
        self.jobs.spawn(async move {
            let work = tokio::task::spawn_blocking(move || check(&shared, name, chunk, &pieces));
            match work.await {
                Ok(outcome) => Done::Checked(Checked { name, chunk, storing, outcome }),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        });
    }

    pub(super) fn checked(&mut self, checked: Checked) {
        let Checked { name, chunk, storing, outcome } = checked;
        self.storing = self.storing.saturating_sub(storing);
        self.names[name].checking.remove(&chunk);
        let stale = self.stale.remove(&(name, chunk));
        match outcome {
            // The bytes that failed have been given up meanwhile: nobody who sent others is to blame.
            Outcome::Bad if stale => self.check_if_complete(name, chunk),
            Outcome::Good { fresh, store_error } => {
                self.names[name].matched.set(chunk);
                self.solo.remove(&(name, chunk));
                let (lost, fresh): (Vec<_>, Vec<_>) =
                    fresh.into_iter().partition(|(number, ..)| self.is_lost(*number));
                let serves = self.shared.consumers.iter().any(|consumer| consumer.name == name);
                if serves {
                    self.keep(fresh, store_error);
                }
                if !lost.is_empty() {
                    // They count as rejected, and are brought again; the chunk is checked when they are here.
                    return;
                }
                self.names[name].checked.set(chunk);
                if serves {
                    self.publish(name, chunk);
                }
                self.clear_doubt(name, chunk);
                self.check_neighbours(name, chunk);
                self.prove();
            }
            Outcome::Bad => self.blame(name, chunk),
            Outcome::Unreadable(error) => {
                tracing::warn!(%error, "the spool does not give back what it holds: fetching it again");
                self.discard_stored(name, chunk);
            }
        }
    }

    /// Whether a block was given up, with its sender, while it was checked, and was never kept.
    fn is_lost(&self, number: usize) -> bool {
        matches!(self.blocks[number], State::Missing | State::Fetching { .. })
            && self.shared.came_from[number].load(Ordering::Relaxed) == 0
    }

    /// Moves the fresh blocks of a good chunk from memory to where they stay.
    fn keep(&mut self, fresh: Vec<(usize, Bytes, bool)>, error: Option<SpoolError>) {
        let shared = self.shared.clone();
        for (number, bytes, stored) in fresh {
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
                    let lacks = attendee.holds.as_ref().is_some_and(|holds| !holds.has(chunk));
                    attendee.outstanding += u32::from(lacks);
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

    pub(super) fn clear_doubt(&mut self, name: usize, chunk: u32) {
        let shared = self.shared.clone();
        for part in shared.grid.parts(&shared.names[name].binding.layout, chunk) {
            let Part::Block(number) = part else { continue };
            let block = &shared.grid.blocks()[number];
            for consumer in shared.consumers.iter().filter(|consumer| consumer.name != name) {
                for chunk in shared.names[consumer.name].places.chunks(block) {
                    self.names[consumer.name].doubted.remove(&chunk);
                }
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

/// Hashes a chunk, and stores its fresh blocks when it is good. Runs off the async threads.
fn check(shared: &Arc<Shared>, name: usize, chunk: u32, pieces: &[Piece]) -> Outcome {
    let mut bytes = Vec::with_capacity(pieces.len());
    let mut stored_before = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Zeros(zeros) => {
                let mut left = usize::try_from(*zeros).unwrap_or(usize::MAX);
                while left > 0 {
                    let run = left.min(ZEROS.len());
                    bytes.push(Bytes::from_static(&ZEROS[..run]));
                    left -= run;
                }
            }
            Piece::Fresh { bytes: fresh, .. } => bytes.push(fresh.clone()),
            Piece::Cached { block, bytes: cached } => {
                stored_before.push((*block, cached.clone()));
                bytes.push(cached.clone());
            }
            Piece::Spooled(number) => {
                let block = &shared.grid.blocks()[*number];
                let Some(held) = shared.spooled.get(&block.content) else { continue };
                match held.read(block.offset, block.length) {
                    Ok(read) => {
                        stored_before.push((*number, read.clone()));
                        bytes.push(read);
                    }
                    Err(error) => return Outcome::Unreadable(error),
                }
            }
        }
    }
    if !shared.names[name].description.integrity.check(chunk, &bytes) {
        return Outcome::Bad;
    }
    let mut fresh = Vec::new();
    let mut store_error = None;
    for piece in pieces {
        let Piece::Fresh { block: number, bytes, store_from } = piece else { continue };
        let block = &shared.grid.blocks()[*number];
        let mut stored = false;
        if let (Some(held), Some(origin)) = (shared.spooled.get(&block.content), store_from) {
            let mut written = held.write(block.offset, bytes, origin);
            if matches!(written, Err(SpoolError::Full { .. }))
                && matches!(shared.common.spool.make_room(bytes.len() as u64), Ok(true))
            {
                written = held.write(block.offset, bytes, origin);
            }
            stored = written.is_ok();
            store_error = written.err().or(store_error);
        }
        fresh.push((*number, bytes.clone(), stored));
    }
    shared.offer_for_proof(name, &fresh, &stored_before);
    Outcome::Good { fresh, store_error }
}
