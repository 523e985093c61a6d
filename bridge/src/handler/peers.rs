//! All that is known of an overlay's peers: by what they announced to the bridge, and by what its trackers said.

use std::{net::SocketAddr, sync::Arc};

use p2pbridge_proto::{Name, OverlayId, Peer, PeerList};
use tokio::time::Instant;

use crate::status::choice::SwarmFacts;

use super::{flights::Flight, gate::Gate, swarms::SwarmTable};

/// The peers of an overlay. Every one of them announced itself, or was named by a tracker to which it did.
pub(super) struct PeerBook {
    pub(super) id: OverlayId,
    /// What was announced to the bridge; not in presence.
    pub(super) table: Option<SwarmTable>,
    /// The way to its trackers, when it has any.
    pub(super) gate: Option<Arc<Gate>>,
    /// Where its peers reach the bridge.
    pub(super) seeder: Vec<SocketAddr>,
}

/// Who asks, and how much.
#[derive(Clone, Copy)]
pub(super) struct Asker {
    pub(super) endpoint: SocketAddr,
    /// It has everything.
    pub(super) complete: bool,
    /// Peers in the answer at most.
    pub(super) most: usize,
}

impl PeerBook {
    /// Adds the peers that go by these names, without the bridge itself.
    pub(super) fn add_peers(
        &self,
        names: &[Name],
        asker: &Asker,
        now: Instant,
        list: &mut PeerList,
    ) {
        if let Some(table) = &self.table {
            let mut own = PeerList::default();
            let from = Some((asker.endpoint, asker.complete));
            table.add_peers(names, asker.most, from, now, &mut own);
            self.add(own, asker, list);
        }
        // All names of one content are asked for together, and are known together.
        if let (Some(gate), Some(main)) = (&self.gate, names.first())
            && let Some(known) = gate.known(main).and_then(|known| known.peers(now))
        {
            self.add(known, asker, list);
        }
    }

    /// Adds what is not in the list yet, and neither the asker nor the bridge.
    pub(super) fn add(&self, more: PeerList, asker: &Asker, list: &mut PeerList) {
        for peer in more.peers {
            if list.peers.len() >= asker.most {
                break;
            }
            let known = |other: &Peer| other.endpoint == peer.endpoint;
            if peer.endpoint != asker.endpoint
                && !self.is_bridge(peer.endpoint)
                && !list.peers.iter().any(known)
            {
                list.peers.push(peer);
            }
        }
        list.seeders = sum(list.seeders, more.seeders);
        list.leechers = sum(list.leechers, more.leechers);
    }

    /// What is known of the swarm that goes by these names; `None` before anything is.
    pub(super) fn facts(&self, names: &[Name]) -> Option<SwarmFacts> {
        let stats =
            self.table.iter().flat_map(|table| names.iter().filter_map(|n| table.stat(&n.short())));
        let own = stats.map(|stat| SwarmFacts {
            seeds: Some(stat.seeders),
            peers: stat.seeders.saturating_add(stat.leechers),
        });
        let known = self.gate.as_ref().and_then(|gate| gate.known(names.first()?));
        let said = known.filter(|known| !known.list.peers.is_empty() || !known.failed);
        let said = said.map(|known| SwarmFacts {
            seeds: known.list.seeders,
            peers: u32::try_from(known.list.peers.len()).unwrap_or(u32::MAX),
        });
        own.chain(said).max_by_key(|facts| facts.peers)
    }

    /// Asks the trackers for peers of these names, when it is time. A flight is given when nothing is known yet: it is
    /// worth waiting for.
    pub(super) fn refresh(&self, names: &[Name]) -> Option<Flight<()>> {
        let gate = self.gate.as_ref()?;
        let unknown = gate.known(names.first()?).is_none();
        gate.refresh(names).filter(|_| unknown)
    }

    /// Whether this is where the bridge itself listens in this overlay.
    pub(super) fn is_bridge(&self, endpoint: SocketAddr) -> bool {
        let is = |own: &SocketAddr| {
            let ip = endpoint.ip();
            own.port() == endpoint.port()
                && (own.ip() == ip || ip.is_loopback() && own.ip().is_unspecified())
        };
        self.seeder.iter().any(is)
    }
}

fn sum(one: Option<u32>, other: Option<u32>) -> Option<u32> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    }
}
