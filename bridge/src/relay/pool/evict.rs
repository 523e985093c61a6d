//! Room in a full spool, where what every served peer has may go, and in memory, where what nobody wants may.

use std::collections::{BTreeMap, HashSet};

use p2pbridge_proto::ContentId;
use tokio::time::{Duration, Instant};

use super::{
    Attendee,
    driver::{Driver, State},
    lock,
    plan::Chunk,
    wishes::Had,
};
use crate::relay::{grid::Block, spool::SEGMENT};

/// How often room is looked for.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(100);

impl Driver {
    /// Gives up what came for chunks that are not whole and that nobody wants any more. When this pool alone has more in
    /// memory than all may, what its peers do not want now goes too.
    pub(super) fn shed(&mut self, wanted: &[Chunk]) {
        let (shared, now) = (self.shared.clone(), Instant::now());
        if self.shed_at > now {
            return;
        }
        self.shed_at = now + LOOK_FOR_ROOM;
        let too_much = self.in_memory > shared.common.limits.in_memory;
        let wanted: HashSet<&Chunk> = wanted.iter().collect();
        let lacked = |consumer: usize, chunk: u32| {
            let attendees = lock(&shared.attendees);
            let mut own = attendees.values().filter(|attendee| attendee.consumer == consumer);
            own.any(|attendee| !attendee.holds.as_ref().is_some_and(|holds| holds.has(chunk)))
        };
        let keeps = |number: usize| {
            let block = &shared.grid.blocks()[number];
            shared.consumers.iter().enumerate().any(|(consumer, to)| {
                shared.names[to.name].places.chunks(block).any(|chunk| {
                    wanted.contains(&(to.name, chunk))
                        || self.learn_until.contains_key(&consumer)
                        || self.had(to.name, chunk) == Had::Whole
                        || (!too_much && lacked(consumer, chunk))
                })
            }) || self.solo.iter().any(|(name, chunk)| {
                shared.names[*name].places.chunks(block).any(|own| own == *chunk)
            })
        };
        let here = |(_, state): &(usize, &State)| matches!(state, State::Here { .. });
        let here = self.blocks.iter().enumerate().filter(here).map(|(number, _)| number);
        let unwanted: Vec<usize> = here.filter(|number| !keeps(*number)).collect();
        self.reject(&unwanted);
    }

    /// Makes room in the spool for a chunk that a reader waits for, when nothing is left that every peer has: what the
    /// fewest lack goes, what is served in part last, and is fetched again when it is asked for.
    pub(super) fn evict_for_wish(&mut self, bytes: u64) {
        let shared = self.shared.clone();
        let needed: HashSet<Chunk> = self.wished().collect();
        let attendees = lock(&shared.attendees);
        let mut partly: HashSet<Chunk> = HashSet::new();
        for attendee in attendees.values() {
            let name = shared.consumers[attendee.consumer].name;
            partly.extend(attendee.partly.keys().map(|chunk| (name, *chunk)));
        }
        // Whether a chunk of it is served in part, and how often a peer lacks a block of it.
        let mut lacked: BTreeMap<(ContentId, u64), (bool, usize)> = BTreeMap::new();
        let mut spared = HashSet::new();
        for (number, block) in shared.grid.blocks().iter().enumerate() {
            let is_of = |some: &HashSet<Chunk>| {
                shared.consumers.iter().any(|to| {
                    let mut chunks = shared.names[to.name].places.chunks(block);
                    chunks.any(|chunk| some.contains(&(to.name, chunk)))
                })
            };
            let spare = is_of(&needed);
            let lacks = |attendee: &&Attendee| {
                let name = &shared.names[shared.consumers[attendee.consumer].name];
                let holds = attendee.holds.as_ref();
                name.places.chunks(block).any(|chunk| holds.is_some_and(|held| !held.has(chunk)))
            };
            for segment in segments_of(block) {
                match &self.blocks[number] {
                    State::Stored if !spare => {
                        let lacking = attendees.values().filter(lacks).count();
                        let known = lacked.entry((block.content, segment)).or_default();
                        known.0 |= is_of(&partly);
                        known.1 += lacking;
                    }
                    State::Missing | State::Fetching { .. } => {}
                    // What is here may be being written.
                    State::Here { .. } | State::Stored => {
                        spared.insert((block.content, segment));
                    }
                }
            }
        }
        drop(attendees);
        let mut order: Vec<_> =
            lacked.into_iter().filter(|(segment, _)| !spared.contains(segment)).collect();
        order.sort_by_key(|(_, weight)| *weight);
        let mut freed = 0;
        for ((content, segment), _) in order {
            if freed >= bytes {
                break;
            }
            freed += self.evict_segment(content, segment);
        }
        self.look_what_is_stored(freed);
    }

    fn evict_segment(&self, content: ContentId, segment: u64) -> u64 {
        match self.shared.spooled.get(&content).map(|held| held.evict(segment)) {
            Some(Ok(bytes)) => bytes,
            Some(Err(error)) => {
                tracing::warn!(%error, "a segment could not be evicted");
                0
            }
            None => 0,
        }
    }

    /// Looks again what the spool has, when something has left it.
    fn look_what_is_stored(&mut self, freed: u64) {
        for number in 0..if freed > 0 { self.blocks.len() } else { 0 } {
            self.refresh_block(number);
        }
    }

    /// Frees segments of the spool that every served peer has; gives the number of bytes.
    pub(super) fn evict_served(&mut self) -> u64 {
        let shared = self.shared.clone();
        let mut segments: HashSet<(_, u64)> = HashSet::new();
        let mut needed: HashSet<(_, u64)> = HashSet::new();
        let attendees = lock(&shared.attendees);
        for (number, block) in shared.grid.blocks().iter().enumerate() {
            let lacking = attendees.values().any(|attendee| {
                let name = &shared.names[shared.consumers[attendee.consumer].name];
                let holds = |chunk| attendee.holds.as_ref().is_some_and(|holds| holds.has(chunk));
                !name.places.chunks(block).all(holds)
            });
            match &self.blocks[number] {
                State::Stored if !lacking => {
                    segments.extend(segments_of(block).map(|at| (block.content, at)))
                }
                State::Missing => {}
                _ => needed.extend(segments_of(block).map(|at| (block.content, at))),
            }
        }
        drop(attendees);
        let mut freed = 0;
        for (content, segment) in segments.difference(&needed) {
            freed += self.evict_segment(*content, *segment);
        }
        self.look_what_is_stored(freed);
        freed
    }
}

/// The segments in which a block lies: one, or two that follow each other.
fn segments_of(block: &Block) -> impl Iterator<Item = u64> {
    block.offset / SEGMENT..=(block.offset + u64::from(block.length).saturating_sub(1)) / SEGMENT
}
