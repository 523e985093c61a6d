//! The bridge's own swarms: what a tracker knows that answers from its own state. Bounded in each of its dimensions.
//!
//! Names are spread over shards with a lock each, so that threads seldom wait for one another. Peers that are silent are
//! cleared out shard by shard, by whoever comes by.

mod members;
mod shard;

use std::{
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use p2pbridge_adapters::{Answer, Asked, Handler, TrackerTerms};
use p2pbridge_proto::{
    Announce, ErrorCode, Fault, Name, PeerEvent, PeerList, Reply, Request, SwarmStat,
};
use tokio::time::Instant;

use self::shard::{Bounds, By, Shard};

/// Peers that an answer names when the asker did not say how many it wants, and at most.
const DEFAULT_WANT: usize = 50;
/// Peers that an answer names at most.
const MOST_WANT: usize = 200;
/// Shards at most; a small table has fewer, so that each has room for some swarms.
const SHARDS: usize = 64;
const SWARMS_A_SHARD: usize = 1024;

/// How much a table holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Size {
    /// Swarms.
    pub swarms: usize,
    /// Peers, in all swarms.
    pub peers: usize,
}

/// Swarms in memory.
pub struct SwarmTable {
    terms: TrackerTerms,
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    start: Instant,
}

impl Default for SwarmTable {
    fn default() -> Self {
        Self::new(TrackerTerms::default())
    }
}

impl SwarmTable {
    /// An empty table.
    #[must_use]
    pub fn new(terms: TrackerTerms) -> Self {
        // Each shard has its part of the bounds: it must have room for the largest swarm, some times over.
        let largest = terms.peers_per_swarm.saturating_mul(4).max(1);
        let shards = (terms.swarms / SWARMS_A_SHARD).min(terms.peers / largest).clamp(1, SHARDS);
        let bounds = Bounds {
            swarms: (terms.swarms / shards).max(1),
            peers: (terms.peers / shards).max(1),
            peers_per_swarm: terms.peers_per_swarm.clamp(1, u32::MAX as usize),
            silence: u32::try_from(terms.interval.as_secs().saturating_mul(2))
                .unwrap_or(u32::MAX >> 2)
                .clamp(1, u32::MAX >> 2),
        };
        let hasher = RandomState::new();
        let shard = |number| {
            Mutex::new(Shard::new(bounds, hasher.clone(), hasher.hash_one(("seed", number))))
        };
        let shards = (0..shards).map(shard).collect();
        Self { terms, hasher, shards, start: Instant::now() }
    }

    /// What the bridge keeps and says.
    #[must_use]
    pub fn terms(&self) -> &TrackerTerms {
        &self.terms
    }

    /// Takes down what a peer announces, and gives it the others.
    ///
    /// # Errors
    /// When the table is full of swarms that are in use.
    pub fn announce(
        &self,
        announce: &Announce,
        one_family: bool,
        now: Instant,
    ) -> Result<PeerList, Fault> {
        let (second, want) = (self.second(now), want(announce.num_want));
        let mut list = self.list();
        for name in &announce.names {
            let mut shard = self.shard(name);
            shard.sweep(second);
            shard.note(*name, announce, second).map_err(|shard::Full| self.full())?;
            if announce.event == PeerEvent::Stopped {
                continue;
            }
            let asker = Some(By {
                endpoint: announce.peer.endpoint,
                complete: announce.left == Some(0),
                one_family,
            });
            let (seeders, leechers) = shard.list(name, want, asker, second, &mut list.peers);
            add(&mut list.seeders, seeders);
            add(&mut list.leechers, leechers);
        }
        Ok(list)
    }

    /// Takes down what a peer announces.
    ///
    /// # Errors
    /// When the table is full of swarms that are in use.
    pub fn note(&self, announce: &Announce, now: Instant) -> Result<(), Fault> {
        let second = self.second(now);
        for name in &announce.names {
            let mut shard = self.shard(name);
            shard.sweep(second);
            shard.note(*name, announce, second).map_err(|shard::Full| self.full())?;
        }
        Ok(())
    }

    /// Adds the peers of names to a list, each once, until it has as many as are wanted at most. A seeder is given
    /// leechers only.
    pub fn add_peers(
        &self,
        names: &[Name],
        most: usize,
        asker: Option<(SocketAddr, bool)>,
        now: Instant,
        list: &mut PeerList,
    ) {
        let asker = asker.map(|(endpoint, complete)| By { endpoint, complete, one_family: false });
        for name in names {
            let mut more = Vec::new();
            let second = self.second(now);
            let (seeders, leechers) = self.shard(name).list(name, most, asker, second, &mut more);
            add(&mut list.seeders, seeders);
            add(&mut list.leechers, leechers);
            for peer in more {
                if list.peers.len() < most
                    && !list.peers.iter().any(|known| known.endpoint == peer.endpoint)
                {
                    list.peers.push(peer);
                }
            }
        }
    }

    /// An empty answer with the table's intervals.
    #[must_use]
    pub fn list(&self) -> PeerList {
        PeerList {
            interval: self.terms.interval,
            min_interval: Some(self.terms.min_interval.min(self.terms.interval)),
            seeders: Some(0),
            leechers: Some(0),
            ..PeerList::default()
        }
    }

    /// The size of a swarm, if it is known.
    #[must_use]
    pub fn stat(&self, name: &Name) -> Option<SwarmStat> {
        let (seeders, leechers, completed) = self.shard(name).stat(name)?;
        Some(SwarmStat { name: *name, seeders, leechers, completed: Some(completed) })
    }

    /// Says where the bridge itself serves a name: these addresses come first in every answer, until they are taken back
    /// by an empty list. There is always room for what the bridge serves.
    pub fn host(&self, name: Name, endpoints: &[SocketAddr], complete: bool, now: Instant) {
        let second = self.second(now);
        self.shard(&name).host(name, endpoints, complete, second);
    }

    /// Where the bridge itself serves names, for an asker that has everything or not.
    #[must_use]
    pub fn hosts(&self, names: &[Name], complete: bool) -> Vec<SocketAddr> {
        let hosts = names.iter().flat_map(|name| self.shard(name).hosts(name, complete));
        hosts.collect()
    }

    /// Forgets a peer.
    pub fn forget(&self, names: &[Name], endpoint: SocketAddr) {
        for name in names {
            self.shard(name).remove(name, endpoint);
        }
    }

    /// How much it holds. Clears out what is silent.
    #[must_use]
    pub fn size(&self, now: Instant) -> Size {
        let mut size = Size::default();
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.sweep(self.second(now));
            size.swarms += shard.swarms();
            size.peers += shard.peers();
        }
        size
    }

    fn full(&self) -> Fault {
        let mut fault =
            Fault::new(ErrorCode::Overloaded, "the tracker keeps no more swarms; try again later");
        fault.retry_after = Some(self.terms.interval);
        fault
    }

    fn shard(&self, name: &Name) -> MutexGuard<'_, Shard> {
        // The high bits: the low ones choose the place in the shard's own table.
        let number = (self.hasher.hash_one(name) >> 40) as usize % self.shards.len();
        lock(&self.shards[number])
    }

    fn second(&self, now: Instant) -> u32 {
        let since = now.saturating_duration_since(self.start).as_secs();
        // 34 years; the highest bit is not there.
        u32::try_from(since).unwrap_or(u32::MAX).min(u32::MAX >> 1)
    }
}

/// How many peers an answer names.
pub(super) fn want(said: Option<u32>) -> usize {
    said.map_or(DEFAULT_WANT, |want| usize::try_from(want).unwrap_or(MOST_WANT)).min(MOST_WANT)
}

fn add(sum: &mut Option<u32>, more: u32) {
    *sum = Some(sum.unwrap_or(0).saturating_add(more));
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A tracker on its own: nothing but its own state.
impl Handler for SwarmTable {
    fn handle(&self, asked: Asked<'_>, request: Request) -> Answer {
        let now = Instant::now();
        Answer::Now(match request {
            Request::Announce(announce) => {
                self.announce(&announce, asked.one_family, now).map(Reply::Peers)
            }
            Request::Find(find) => {
                let mut list = self.list();
                self.add_peers(&find.names, want(find.num_want), None, now, &mut list);
                Ok(Reply::Peers(list))
            }
            Request::SwarmQuery(query) => {
                Ok(Reply::Swarms(query.names.iter().filter_map(|name| self.stat(name)).collect()))
            }
            Request::Search(_) => {
                Err(Fault::new(ErrorCode::Unsupported, "the table of swarms has no titles"))
            }
        })
    }
}

#[cfg(test)]
mod tests;
