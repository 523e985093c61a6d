//! What the relay tells of itself: for the status, and for the metrics.

use std::sync::atomic::Ordering;

use p2pbridge_nametable::Binding;
use p2pbridge_proto::{Name, OverlayId, v1};

use super::{
    Member, Relay, State,
    pool::Pool,
    proof::{ProofCounts, Prover},
};
use crate::web::RelayReport;

impl Relay {
    /// How much the relay has in hand.
    #[must_use]
    pub fn report(&self) -> RelayReport {
        let common = &self.common;
        RelayReport {
            pools: self.lock().pools.len(),
            in_memory: (common.in_memory.load(Ordering::Relaxed), common.limits.in_memory),
            spool: (common.spool.used(), common.spool.bound()),
            proofs: self.proofs(),
        }
    }

    /// The swarms of an overlay, for the status.
    pub fn swarms(&self, overlay: &OverlayId) -> Vec<v1::SwarmStatus> {
        let state = self.lock();
        let of = |((id, name), member): (&(OverlayId, Name), &Member)| {
            (id == overlay).then(|| self.swarm_status(&state, id, *name, member))
        };
        state.swarms.iter().filter_map(of).collect()
    }

    /// Bytes that the spool holds.
    pub fn spooled(&self) -> u64 {
        self.common.spool.used()
    }

    /// What came of the proof by traffic so far; all 0 when it is off.
    pub fn proofs(&self) -> ProofCounts {
        self.common.prover.as_ref().map(Prover::counts).unwrap_or_default()
    }

    fn swarm_status(
        &self,
        state: &State,
        overlay: &OverlayId,
        name: Name,
        member: &Member,
    ) -> v1::SwarmStatus {
        let view = member.swarm.view();
        let sum =
            |count: &dyn Fn(&Pool) -> u32| state.pools.iter().map(|held| count(&held.pool)).sum();
        let pool_trouble = state
            .pools
            .iter()
            .filter(|held| !member.upstream.is_empty() && held.pool.served_of(overlay, &name) > 0)
            .map(|held| held.pool.trouble())
            .find(|text| !text.is_empty());
        let held_bytes = self.common.names.get(&name).map_or(0, |binding| self.held(&binding));
        let trouble = match pool_trouble {
            Some(text) => text,
            None if !view.last_error.is_empty() => format!("tracker: {}", view.last_error),
            None => String::new(),
        };
        v1::SwarmStatus {
            name: name.to_string(),
            title: member.swarm.title.clone(),
            seeders: view.seeders,
            leechers: view.leechers,
            sources: sum(&|pool| pool.sources_of(overlay, &name)),
            served_peers: sum(&|pool| pool.served_of(overlay, &name)),
            length: member.swarm.length,
            held_bytes,
            announced: view.announced,
            trouble,
        }
    }

    /// Bytes of a binding that the spool can give.
    pub(super) fn held(&self, binding: &Binding) -> u64 {
        let extents = binding.layout.extents();
        let shown: u64 = extents.iter().map(|extent| extent.length).sum();
        let held = extents.iter().filter_map(|extent| {
            let content = self.common.spool.content(extent.content).ok()?;
            Some(content.held().min(extent.length))
        });
        let held = held.sum();
        // Padding need not be held.
        if held == shown { binding.layout.length() } else { held }
    }
}
