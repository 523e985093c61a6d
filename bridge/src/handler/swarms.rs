//! The bridge's own swarms: what a tracker knows that answers from its own state.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use p2pbridge_adapters::{Answer, Asked, Handler};
use p2pbridge_proto::{
    Announce, ErrorCode, Fault, Name, Peer, PeerEvent, PeerId, PeerList, Reply, Request, SwarmStat,
};
use tokio::time::Instant;

/// Peers that an answer names when the asker did not say how many it wants, and at most.
const DEFAULT_WANT: usize = 50;
const MOST_WANT: usize = 200;

/// Bounds of a [`SwarmTable`].
#[derive(Debug, Clone, Copy)]
pub struct SwarmLimits {
    /// How long peers are told to wait between announces; a peer is forgotten after twice that.
    pub interval: Duration,
    /// Swarms at most.
    pub swarms: usize,
    /// Peers of one swarm at most.
    pub peers: usize,
}

impl Default for SwarmLimits {
    fn default() -> Self {
        Self { interval: Duration::from_secs(120), swarms: 10_000, peers: 1_000 }
    }
}

/// Swarms and their peers, in memory and bounded. It answers announces, finds and swarm queries.
#[derive(Debug, Default)]
pub struct SwarmTable {
    limits: SwarmLimits,
    swarms: Mutex<HashMap<Name, HashMap<SocketAddr, Member>>>,
}

#[derive(Debug)]
struct Member {
    id: PeerId,
    complete: bool,
    seen: Instant,
}

impl SwarmTable {
    /// An empty table with these bounds.
    #[must_use]
    pub fn new(limits: SwarmLimits) -> Self {
        Self { limits, swarms: Mutex::default() }
    }

    /// Answers a question at a moment.
    ///
    /// # Errors
    /// When a bound is reached.
    pub fn answer(&self, request: &Request, now: Instant) -> Result<Reply, Fault> {
        let mut swarms = self.swarms.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.limits.interval * 2;
        for name in request.names() {
            if let Some(swarm) = swarms.get_mut(name) {
                swarm.retain(|_, member| now.duration_since(member.seen) < old);
            }
        }
        match request {
            Request::Announce(announce) => {
                for name in &announce.names {
                    self.note(&mut swarms, *name, announce, now)?;
                }
                let asker = Some(announce.peer.endpoint);
                Ok(Reply::Peers(self.list(&swarms, &announce.names, announce.num_want, asker)))
            }
            Request::Find(find) => {
                Ok(Reply::Peers(self.list(&swarms, &find.names, find.num_want, None)))
            }
            Request::SwarmQuery(query) => {
                let stat = |name: &Name| {
                    let swarm = swarms.get(name)?;
                    let (seeders, leechers) = sizes(swarm.values());
                    Some(SwarmStat { name: *name, seeders, leechers, completed: None })
                };
                Ok(Reply::Swarms(query.names.iter().filter_map(stat).collect()))
            }
        }
    }

    fn note(
        &self,
        swarms: &mut HashMap<Name, HashMap<SocketAddr, Member>>,
        name: Name,
        announce: &Announce,
        now: Instant,
    ) -> Result<(), Fault> {
        let endpoint = announce.peer.endpoint;
        if announce.event == PeerEvent::Stopped {
            if let Some(swarm) = swarms.get_mut(&name) {
                swarm.remove(&endpoint);
                if swarm.is_empty() {
                    swarms.remove(&name);
                }
            }
            return Ok(());
        }
        if !swarms.contains_key(&name) && swarms.len() >= self.limits.swarms {
            let old = self.limits.interval * 2;
            swarms.retain(|_, swarm| swarm.values().any(|m| now.duration_since(m.seen) < old));
            if swarms.len() >= self.limits.swarms {
                return Err(self.full());
            }
        }
        let swarm = swarms.entry(name).or_default();
        if !swarm.contains_key(&endpoint) && swarm.len() >= self.limits.peers {
            return Err(self.full());
        }
        let complete = announce.left == Some(0);
        swarm.insert(endpoint, Member { id: announce.peer.id, complete, seen: now });
        Ok(())
    }

    fn full(&self) -> Fault {
        let mut fault = Fault::new(ErrorCode::Overloaded, "the tracker is full");
        fault.retry_after = Some(self.limits.interval);
        fault
    }

    fn list(
        &self,
        swarms: &HashMap<Name, HashMap<SocketAddr, Member>>,
        names: &[Name],
        want: Option<u32>,
        asker: Option<SocketAddr>,
    ) -> PeerList {
        let want = want.map_or(DEFAULT_WANT, |want| usize::try_from(want).unwrap_or(MOST_WANT));
        let members = || names.iter().filter_map(|name| swarms.get(name)).flatten();
        let (seeders, leechers) = sizes(members().map(|(_, member)| member));
        let peers = members()
            .filter(|(endpoint, _)| asker != Some(**endpoint))
            .take(want.min(MOST_WANT))
            .map(|(endpoint, member)| Peer { id: member.id, endpoint: *endpoint })
            .collect();
        PeerList {
            peers,
            interval: self.limits.interval,
            min_interval: None,
            seeders: Some(seeders),
            leechers: Some(leechers),
            ..PeerList::default()
        }
    }
}

fn sizes<'a>(members: impl Iterator<Item = &'a Member>) -> (u32, u32) {
    members.fold((0, 0), |(seeders, leechers), member| {
        if member.complete { (seeders + 1, leechers) } else { (seeders, leechers + 1) }
    })
}

impl Handler for SwarmTable {
    fn handle(&self, _asked: Asked<'_>, request: Request) -> Answer {
        Answer::Now(self.answer(&request, Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announce(name: u8, port: u16, left: u64, event: PeerEvent) -> Request {
        Request::Announce(Announce {
            event,
            left: Some(left),
            ..Announce::new(Peer::at(([127, 0, 0, 1], port).into()), vec![Name::btih([name; 20])])
        })
    }

    fn peers(reply: Result<Reply, Fault>) -> PeerList {
        match reply.unwrap() {
            Reply::Peers(list) => list,
            Reply::Swarms(_) => panic!("a list of swarms"),
        }
    }

    #[test]
    fn a_peer_sees_the_others_until_they_leave_or_are_silent() {
        let table = SwarmTable::default();
        let start = Instant::now();
        table.answer(&announce(1, 1, 0, PeerEvent::Started), start).unwrap();
        let list = peers(table.answer(&announce(1, 2, 9, PeerEvent::Started), start));
        assert_eq!((list.peers.len(), list.seeders, list.leechers), (1, Some(1), Some(1)));
        table.answer(&announce(1, 1, 0, PeerEvent::Stopped), start).unwrap();
        assert!(
            peers(table.answer(&announce(1, 2, 9, PeerEvent::Regular), start)).peers.is_empty()
        );
        let later = start + Duration::from_secs(241);
        let list = peers(table.answer(&announce(1, 3, 9, PeerEvent::Started), later));
        assert!(list.peers.is_empty());
    }

    #[test]
    fn it_is_bounded() {
        let limits = SwarmLimits { interval: Duration::from_secs(60), swarms: 2, peers: 2 };
        let table = SwarmTable::new(limits);
        let now = Instant::now();
        for name in [1, 2] {
            table.answer(&announce(name, 1, 0, PeerEvent::Started), now).unwrap();
        }
        let refused = table.answer(&announce(3, 1, 0, PeerEvent::Started), now).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Overloaded);
        table.answer(&announce(1, 2, 0, PeerEvent::Started), now).unwrap();
        assert!(table.answer(&announce(1, 3, 0, PeerEvent::Started), now).is_err());
        let later = now + Duration::from_secs(121);
        assert!(table.answer(&announce(3, 1, 0, PeerEvent::Started), later).is_ok());
    }
}
