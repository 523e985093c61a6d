//! A part of the table: some swarms, behind one lock.

use std::{
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
};

use indexmap::IndexMap;
use p2pbridge_proto::{Announce, Name, Peer, PeerEvent};

use super::members::{Members, Told, V4, V6, Wanted};

/// How often silent peers are looked for, in seconds.
const SWEEP: u32 = 30;
/// Swarms that are looked at to find one that can make room.
const SAMPLES: usize = 5;

/// Bounds of a shard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) swarms: usize,
    pub(super) peers: usize,
    pub(super) peers_per_swarm: usize,
    /// Seconds after which a silent peer is forgotten.
    pub(super) silence: u32,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct By {
    pub(super) endpoint: SocketAddr,
    /// It has everything.
    pub(super) complete: bool,
    /// The answer has room for addresses of this family only.
    pub(super) one_family: bool,
}

/// There is no room, and nothing that could make some.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

pub(super) struct Shard {
    bounds: Bounds,
    swarms: IndexMap<Name, Swarm, RandomState>,
    hasher: RandomState,
    peers: usize,
    next_sweep: u32,
    dice: u64,
}

#[derive(Default)]
struct Swarm {
    v4: Members<V4>,
    v6: Members<V6>,
    /// Where the bridge itself serves this name.
    hosts: Option<Box<Hosts>>,
    completed: u32,
    /// It was announced from more than one address: not a name that somebody made up.
    proven: bool,
}

struct Hosts {
    endpoints: Vec<SocketAddr>,
    complete: bool,
}

impl Swarm {
    fn peers(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Where the bridge serves it, for an asker that has everything or not.
    fn hosts(&self, complete: bool) -> &[SocketAddr] {
        match &self.hosts {
            Some(hosts) if !(complete && hosts.complete) => &hosts.endpoints,
            _ => &[],
        }
    }

    fn is_empty(&self) -> bool {
        self.peers() == 0 && self.hosts.is_none()
    }

    fn counts(&self) -> (u32, u32) {
        let ((seeders4, leechers4), (seeders6, leechers6)) = (self.v4.counts(), self.v6.counts());
        let (mut seeders, mut leechers) = (seeders4 + seeders6, leechers4 + leechers6);
        match &self.hosts {
            Some(hosts) if hosts.complete => seeders += 1,
            Some(_) => leechers += 1,
            None => {}
        }
        (seeders, leechers)
    }
}

impl Shard {
    pub(super) fn new(bounds: Bounds, hasher: RandomState, seed: u64) -> Self {
        let swarms = IndexMap::with_hasher(hasher.clone());
        Self { bounds, swarms, hasher, peers: 0, next_sweep: SWEEP, dice: seed | 1 }
    }

    pub(super) fn swarms(&self) -> usize {
        self.swarms.len()
    }

    pub(super) fn peers(&self) -> usize {
        self.peers
    }

    /// Takes down what a peer says of a name.
    pub(super) fn note(
        &mut self,
        name: Name,
        announce: &Announce,
        second: u32,
    ) -> Result<(), Full> {
        let endpoint = announce.peer.endpoint;
        if announce.event == PeerEvent::Stopped {
            self.remove(&name, endpoint);
            return Ok(());
        }
        let told = Told::new(second, announce.left == Some(0));
        let known = self.swarms.get(&name).and_then(|swarm| swarm.get(endpoint, &self.hasher));
        if known.is_none() {
            self.make_room(&name, second)?;
        }
        let pick = self.roll();
        let (bounds, hasher) = (self.bounds, &self.hasher);
        let swarm = self.swarms.entry(name).or_default();
        swarm.proven = swarm.proven || (known.is_none() && swarm.has_other_address(endpoint));
        if announce.event == PeerEvent::Completed && known.is_some_and(|told| !told.complete()) {
            swarm.completed = swarm.completed.saturating_add(1);
        }
        if known.is_none()
            && (swarm.peers() >= bounds.peers_per_swarm || self.peers >= bounds.peers)
        {
            // The newcomer takes somebody's place: the swarm stays a fair sample of who is there.
            let removed = match endpoint {
                SocketAddr::V4(_) if swarm.v4.len() > 0 => swarm.v4.remove_any(pick, hasher),
                SocketAddr::V6(_) if swarm.v6.len() > 0 => swarm.v6.remove_any(pick, hasher),
                SocketAddr::V4(_) => swarm.v6.remove_any(pick, hasher),
                SocketAddr::V6(_) => swarm.v4.remove_any(pick, hasher),
            };
            self.peers -= usize::from(removed);
        }
        let new = match endpoint {
            SocketAddr::V4(at) => swarm.v4.put(at.into(), told, hasher),
            SocketAddr::V6(at) => swarm.v6.put(at.into(), told, hasher),
        };
        self.peers += usize::from(new);
        Ok(())
    }

    /// Adds a name's peers to an answer, the bridge first; gives how many seeders and leechers there are.
    pub(super) fn list(
        &mut self,
        name: &Name,
        most: usize,
        by: Option<By>,
        second: u32,
        out: &mut Vec<Peer>,
    ) -> (u32, u32) {
        let start = self.roll();
        let Some(swarm) = self.swarms.get(name) else { return (0, 0) };
        let leechers_only = by.is_some_and(|by| by.complete);
        let asker = by.map(|by| by.endpoint);
        // A packet of UDP has room for one family.
        let only = by.filter(|by| by.one_family).map(|by| by.endpoint.is_ipv4());
        let fits = |ipv4: bool| only.is_none_or(|only| only == ipv4);
        let others = swarm.hosts(leechers_only).iter();
        let others = others.filter(|own| asker != Some(**own) && fits(own.is_ipv4()));
        out.extend(others.take(most.saturating_sub(out.len())).copied().map(Peer::at));
        let since = second.saturating_sub(self.bounds.silence);
        let v4 = match asker {
            Some(SocketAddr::V4(at)) => Some(at.into()),
            _ => None,
        };
        let v6 = match asker {
            Some(SocketAddr::V6(at)) => Some(at.into()),
            _ => None,
        };
        let v4 = Wanted { most, start, asker: v4, leechers_only, since };
        let v6 = Wanted { most, start, asker: v6, leechers_only, since };
        // The asker's own family first.
        if asker.is_some_and(|asker| asker.is_ipv6()) {
            swarm.v6.pick(&v6, out);
            if fits(true) {
                swarm.v4.pick(&v4, out);
            }
        } else {
            swarm.v4.pick(&v4, out);
            if fits(false) {
                swarm.v6.pick(&v6, out);
            }
        }
        swarm.counts()
    }

    /// Where the bridge serves a name, for an asker that has everything or not.
    pub(super) fn hosts(&self, name: &Name, complete: bool) -> Vec<SocketAddr> {
        self.swarms.get(name).map(|swarm| swarm.hosts(complete).to_vec()).unwrap_or_default()
    }

    /// (Seeders, leechers, completed downloads) of a name that is known.
    pub(super) fn stat(&self, name: &Name) -> Option<(u32, u32, u32)> {
        let swarm = self.swarms.get(name)?;
        let (seeders, leechers) = swarm.counts();
        Some((seeders, leechers, swarm.completed))
    }

    /// Says where the bridge itself serves a name; with no address, that it does not.
    pub(super) fn host(
        &mut self,
        name: Name,
        endpoints: &[SocketAddr],
        complete: bool,
        second: u32,
    ) {
        if endpoints.is_empty() {
            if let Some(swarm) = self.swarms.get_mut(&name) {
                swarm.hosts = None;
                self.drop_if_empty(&name);
            }
            return;
        }
        if !self.swarms.contains_key(&name) && self.make_room(&name, second) == Err(Full) {
            // What the bridge serves itself goes before what others announce.
            let place = self.swarms.iter().position(|(_, swarm)| swarm.hosts.is_none());
            if let Some((_, swarm)) = place.and_then(|place| self.swarms.swap_remove_index(place)) {
                self.peers -= swarm.peers();
            }
        }
        let swarm = self.swarms.entry(name).or_default();
        swarm.hosts = Some(Box::new(Hosts { endpoints: endpoints.to_vec(), complete }));
    }

    /// Forgets a peer.
    pub(super) fn remove(&mut self, name: &Name, endpoint: SocketAddr) {
        let Some(swarm) = self.swarms.get_mut(name) else { return };
        let removed = match endpoint {
            SocketAddr::V4(at) => swarm.v4.remove(at.into(), &self.hasher),
            SocketAddr::V6(at) => swarm.v6.remove(at.into(), &self.hasher),
        };
        self.peers -= usize::from(removed);
        self.drop_if_empty(name);
    }

    /// Forgets who has been silent for long, now and then.
    pub(super) fn sweep(&mut self, second: u32) {
        if second < self.next_sweep {
            return;
        }
        self.next_sweep = second.saturating_add(SWEEP.min(self.bounds.silence));
        let (since, hasher) = (second.saturating_sub(self.bounds.silence), &self.hasher);
        let mut gone = 0;
        self.swarms.retain(|_, swarm| {
            gone += swarm.v4.expire(since, hasher) + swarm.v6.expire(since, hasher);
            !swarm.is_empty()
        });
        self.peers -= gone;
        if self.swarms.capacity() > 4 * self.swarms.len() + 1024 {
            self.swarms.shrink_to(2 * self.swarms.len());
        }
    }

    /// Room for one more peer of a name: when the shard is full, a swarm that somebody announced only once, or of which
    /// nothing was heard for half of the time, has to go.
    fn make_room(&mut self, name: &Name, second: u32) -> Result<(), Full> {
        let is_new = !self.swarms.contains_key(name);
        let full = |shard: &Self| {
            (is_new && shard.swarms.len() >= shard.bounds.swarms)
                || shard.peers >= shard.bounds.peers
        };
        if !full(self) {
            return Ok(());
        }
        let old = second.saturating_sub(self.bounds.silence / 2);
        for _ in 0..SAMPLES {
            let place = usize::try_from(self.roll()).unwrap_or(0) % self.swarms.len().max(1);
            let Some((victim, swarm)) = self.swarms.get_index(place) else { break };
            let unused = !swarm.proven || swarm.v4.last_heard().max(swarm.v6.last_heard()) < old;
            if victim != name && swarm.hosts.is_none() && unused {
                self.peers -= swarm.peers();
                self.swarms.swap_remove_index(place);
                if !full(self) {
                    return Ok(());
                }
            }
        }
        // A known swarm can go on: its newcomer takes somebody's place.
        if is_new || self.swarms.get(name).is_none_or(|swarm| swarm.peers() == 0) {
            Err(Full)
        } else {
            Ok(())
        }
    }

    fn drop_if_empty(&mut self, name: &Name) {
        if self.swarms.get(name).is_some_and(Swarm::is_empty) {
            self.swarms.swap_remove(name);
        }
    }

    /// A number that nobody outside can guess well: not for secrets (xorshift64*).
    fn roll(&mut self) -> u64 {
        self.dice ^= self.dice >> 12;
        self.dice ^= self.dice << 25;
        self.dice ^= self.dice >> 27;
        self.dice.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }
}

impl Swarm {
    /// Whether a peer of another address than this is there; the first one is looked at.
    fn has_other_address(&self, endpoint: SocketAddr) -> bool {
        let first = self.v4.first().or_else(|| self.v6.first());
        first.is_some_and(|first| first.ip() != endpoint.ip())
    }

    fn get(&self, endpoint: SocketAddr, hasher: &impl BuildHasher) -> Option<Told> {
        match endpoint {
            SocketAddr::V4(at) => self.v4.get(at.into(), hasher),
            SocketAddr::V6(at) => self.v6.get(at.into(), hasher),
        }
    }
}
