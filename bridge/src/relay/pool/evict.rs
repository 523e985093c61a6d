//! Room in a full spool: what every served peer has may go.

use std::collections::HashSet;

use super::{
    driver::{Driver, State},
    lock,
};
use crate::relay::spool::SEGMENT;

impl Driver {
    /// Frees segments of the spool that every served peer has; gives the number of bytes.
    pub(super) fn evict_served(&mut self) -> u64 {
        let shared = self.shared.clone();
        let mut segments: HashSet<(_, u64)> = HashSet::new();
        let mut needed: HashSet<(_, u64)> = HashSet::new();
        let attendees = lock(&shared.attendees);
        for (number, block) in shared.grid.blocks().iter().enumerate() {
            let own =
                [block.offset / SEGMENT, (block.offset + u64::from(block.length) - 1) / SEGMENT];
            let lacking = attendees.values().any(|attendee| {
                let name = &shared.names[shared.consumers[attendee.consumer].name];
                let holds = |chunk| attendee.holds.as_ref().is_some_and(|holds| holds.has(chunk));
                !name.places.chunks(block).all(holds)
            });
            match &self.blocks[number] {
                State::Stored if !lacking => segments.extend(own.map(|at| (block.content, at))),
                State::Missing => {}
                _ => needed.extend(own.map(|at| (block.content, at))),
            }
        }
        drop(attendees);
        let mut freed = 0;
        for (content, segment) in segments.difference(&needed) {
            match shared.spooled.get(content).map(|held| held.evict(*segment)) {
                Some(Ok(bytes)) => freed += bytes,
                Some(Err(error)) => tracing::warn!(%error, "a segment could not be evicted"),
                None => {}
            }
        }
        if freed > 0 {
            for name in 0..shared.names.len() {
                for chunk in 0..shared.names[name].binding.layout.chunk_count() {
                    self.refresh_stored(name, chunk);
                }
            }
        }
        freed
    }
}
