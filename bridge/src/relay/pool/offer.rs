//! What was verified is offered to be hashed by every rule.

use std::collections::HashMap;

use bytes::Bytes;
use p2pbridge_proto::ContentId;

use super::Shared;
use crate::relay::proof::{Place, Verified};

impl Shared {
    /// Offers blocks of a chunk that matched: fresh ones, each with whether the spool has taken it, and those that the
    /// spool had before. Only what is served counts: the hashes of a name that is but a source say nothing more.
    pub(super) fn offer_for_proof(
        &self,
        name: usize,
        fresh: &[(usize, Bytes, bool)],
        stored: &[(usize, Bytes)],
    ) {
        let Some(prover) = &self.common.prover else { return };
        if !self.consumers.iter().any(|consumer| consumer.name == name) {
            return;
        }
        let fresh = fresh.iter().map(|(number, bytes, stored)| (*number, bytes, *stored));
        let stored = stored.iter().map(|(number, bytes)| (*number, bytes, true));
        let mut runs: HashMap<ContentId, Vec<Verified>> = HashMap::new();
        for (number, bytes, spooled) in fresh.chain(stored) {
            let Some(block) = self.grid.blocks().get(number) else { continue };
            let run = Verified { offset: block.offset, bytes: bytes.clone(), spooled };
            runs.entry(block.content).or_default().push(run);
        }
        for (content, runs) in runs {
            if let Some((place, length)) = self.whole(name, content) {
                prover.offer(content, length, place, runs);
            }
        }
    }

    /// Where a name shows a content from its first byte to its last, and how long that is; `None` when it shows a part.
    fn whole(&self, name: usize, content: ContentId) -> Option<(Place, u64)> {
        let extents = |name: &super::PoolName| {
            let extents = name.places.extents(content).iter();
            extents.map(|extent| extent.content_range().end).max().unwrap_or(0)
        };
        let length = self.names.iter().map(extents).max()?;
        let name = self.names.get(name)?;
        let whole = name
            .places
            .extents(content)
            .iter()
            .find(|extent| extent.content_offset == 0 && extent.length == length)?;
        Some((Place { name: name.urn()?, offset: whole.offset }, length))
    }
}
