//! All that is known of an overlay's peers: by what they announced to the bridge, and by what its trackers said.

use std::{collections::HashSet, net::SocketAddr, sync::Arc};

use p2pbridge_proto::{Announce, Name, OverlayId, Peer, PeerList};
use tokio::time::Instant;

use crate::status::choice::SwarmFacts;

use super::{
    flights::Flight,
    gate::Gate,
    search::Announced,
    swarms::{SwarmTable, want},
};

/// The peers of an overlay. Every one of them announced itself, or was named by a tracker to which it did.
pub(super) struct PeerBook {
    pub(super) id: OverlayId,
    /// What was announced to the bridge; not in presence.
    pub(super) table: Option<SwarmTable>,
    /// What was announced to the bridge is called so.
    pub(super) titles: Option<Announced>,
    /// The way to its trackers, when it has any.
    pub(super) gate: Option<Arc<Gate>>,
    /// Where its peers reach the bridge.
    pub(super) reachable: Vec<SocketAddr>,
    /// Where the bridge may be seen.
    pub(super) own: HashSet<SocketAddr>,
}

/// Who asks, and how much.
#[derive(Clone, Copy)]
pub(super) struct Asker {
    pub(super) endpoint: SocketAddr,
    /// It has everything.
    pub(super) complete: bool,
    /// Peers in the answer at most.
    pub(super) most: usize,
    /// The answer has room for addresses of the asker's family only.
    pub(super) one_family: bool,
}

impl Asker {
    pub(super) fn of(announce: &Announce, one_family: bool) -> Self {
        Self {
            endpoint: announce.peer.endpoint,
            complete: announce.left == Some(0),
            most: want(announce.num_want),
            one_family,
        }
    }

    /// Asks without being a peer.
    pub(super) fn nobody(num_want: Option<u32>) -> Self {
        let endpoint = SocketAddr::from(([0, 0, 0, 0], 0));
        Self { endpoint, complete: false, most: want(num_want), one_family: false }
    }

    fn takes(&self, endpoint: SocketAddr) -> bool {
        endpoint != self.endpoint
            && !(self.one_family && endpoint.is_ipv4() != self.endpoint.is_ipv4())
    }
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
        let mut counts = (None, None);
        if let Some(table) = &self.table {
            let mut announced = PeerList::default();
            let from = Some((asker.endpoint, asker.complete));
            table.add_peers(names, asker.most, from, now, &mut announced);
            self.add(announced.peers, asker, list);
            counts = (announced.seeders, announced.leechers);
        }
        // All names of one content are asked for together, and are known together.
        if let (Some(gate), Some(main)) = (&self.gate, names.first())
            && let Some(known) = gate.known(main).and_then(|known| known.peers(now))
        {
            if !known.peers.is_empty() {
                list.stale = list.stale.max(known.stale);
            }
            self.add(known.peers, asker, list);
            // Mostly the same peers.
            counts = (counts.0.max(known.seeders), counts.1.max(known.leechers));
        }
        list.seeders = sum(list.seeders, counts.0);
        list.leechers = sum(list.leechers, counts.1);
    }

    /// Adds what is not in the list yet, and neither the asker nor the bridge.
    pub(super) fn add(&self, more: Vec<Peer>, asker: &Asker, list: &mut PeerList) {
        for peer in more {
            if list.peers.len() >= asker.most {
                break;
            }
            let known = |other: &Peer| other.endpoint == peer.endpoint;
            if asker.takes(peer.endpoint)
                && !self.is_bridge(peer.endpoint)
                && !list.peers.iter().any(known)
            {
                list.peers.push(peer);
            }
        }
    }

    /// Takes down what a peer calls a content, when the table has taken its announce.
    pub(super) fn note_title(&self, announce: &Announce) {
        if let (Some(titles), Some(table)) = (&self.titles, &self.table) {
            titles.note(announce, table);
        }
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
    pub(super) fn refresh(&self, names: &[Name], length: u64) -> Option<Flight<()>> {
        let gate = self.gate.as_ref()?;
        let unknown = gate.known(names.first()?).is_none();
        gate.refresh(names, length).filter(|_| unknown)
    }

    /// Whether this is where the bridge itself may be seen in this overlay.
    pub(super) fn is_bridge(&self, endpoint: SocketAddr) -> bool {
        self.own.contains(&endpoint)
    }
}

pub(super) fn sum(one: Option<u32>, other: Option<u32>) -> Option<u32> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.saturating_add(other)),
        (one, other) => one.or(other),
    }
}
