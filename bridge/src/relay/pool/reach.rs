//! Where nobody holds what comes first: the chunks behind it that somebody holds. Peers may want those alone.

use tokio::time::{Duration, Instant};

use super::{
    driver::{Driver, State},
    lock,
};
use crate::relay::grid::Part;

/// How often the chunks of a name are looked through.
const LOOK: Duration = Duration::from_secs(1);
/// Chunks that are looked at each time; the next time goes on behind them.
const LOOKED_AT: u32 = 4096;
/// Chunks of one consumer that are known to be within reach.
const MOST: usize = 256;

/// What of all consumers is within reach, though not what comes first.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// Whether the last plan, or one before it, wanted something that nobody holds.
    pub(super) lonely: bool,
    /// When it is looked again.
    again: Option<Instant>,
    /// By consumer, in order; and the chunk at which the next look begins.
    found: Vec<(Vec<u32>, u32)>,
}

impl Driver {
    /// Takes down whether something is wanted that nobody holds; a plan that was cut short may not have come to it.
    pub(super) fn note_lonely(&mut self, lonely: bool, cut: bool) {
        if lonely && !self.reach.lonely {
            // What is behind it is planned at once.
            self.wake_at = Instant::now();
        }
        self.reach.lonely = lonely || cut && self.reach.lonely;
    }

    /// Chunks of a consumer that are not published, and that somebody holds; none while what comes first is held.
    pub(super) fn within_reach(&self, consumer: usize) -> &[u32] {
        self.reach.found.get(consumer).map_or(&[], |(chunks, _)| chunks)
    }

    /// Looks for chunks that somebody holds, if the last plan wanted something that nobody holds.
    pub(super) fn look_around(&mut self) {
        let now = Instant::now();
        if !self.reach.lonely || self.sources.connected().is_empty() {
            self.reach.found.clear();
            self.reach.again = None;
            return;
        }
        if let Some(again) = self.reach.again.filter(|again| *again > now) {
            self.wake_at = self.wake_at.min(again);
            return;
        }
        let mut found = std::mem::take(&mut self.reach.found);
        found.resize_with(self.shared.consumers.len(), Default::default);
        let attendees = lock(&self.shared.attendees);
        for (consumer, (known, next)) in found.iter_mut().enumerate() {
            let to = &self.shared.consumers[consumer];
            let chunks = self.shared.names[to.name].binding.layout.chunk_count();
            let own = || attendees.values().filter(|attendee| attendee.consumer == consumer);
            let is_new = |chunk: u32| {
                !to.availability.has(chunk)
                    && own().any(|attendee| attendee.may_take(chunk))
                    && self.is_held(consumer, chunk)
            };
            // What has found no room may be for who has none: others have their turn.
            if known.len() >= MOST {
                known.clear();
            }
            known.retain(|chunk| is_new(*chunk));
            for _ in 0..LOOKED_AT.min(chunks) {
                if known.len() >= MOST {
                    break;
                }
                let chunk = *next % chunks;
                *next = chunk + 1;
                if !known.contains(&chunk) && is_new(chunk) {
                    known.push(chunk);
                }
            }
            known.sort_unstable();
        }
        drop(attendees);
        self.reach.found = found;
        self.reach.again = Some(now + LOOK);
        self.wake_at = self.wake_at.min(now + LOOK);
    }

    /// Whether connected sources hold all that is missing of a consumer's chunk.
    pub(super) fn is_held(&self, consumer: usize, chunk: u32) -> bool {
        let shared = &self.shared;
        let to = &shared.consumers[consumer];
        let layout = &shared.names[to.name].binding.layout;
        shared.grid.parts(layout, chunk).into_iter().all(|part| {
            let Part::Block(number) = part else { return true };
            if !matches!(self.blocks[number], State::Missing) {
                return true;
            }
            let block = &shared.grid.blocks()[number];
            self.sources.connected().values().any(|source| {
                let places = &shared.names[source.origin.name].places;
                shared.may_cross(&source.origin.overlay, to)
                    && places.chunks(block).next().is_some_and(|held| source.session.has(held))
            })
        })
    }
}
