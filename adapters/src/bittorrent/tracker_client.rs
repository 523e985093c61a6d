//! The bridge as a client of the overlay's own trackers: HTTP and UDP, in tiers (BEP 12).

mod asking;
mod http;
mod memory;
mod tracker;
mod udp;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::future::join_all;
use p2pbridge_proto::{
    Announce, ErrorCode, Fault, Name, PeerEvent, PeerList, Reply, Request, SwarmStat,
};
use tokio::{sync::Semaphore, time::Instant};

use self::{
    asking::{Answer, Family, Nobody, Problem, Question},
    memory::Memory,
    tracker::{MAX_REST, Tracker},
};
use super::{
    config::TrackerUrl,
    identity::Identity,
    metainfo::wire_hash,
    translate::{announce_of_find, merged, peer_list, swarm_stat},
};
use crate::{BadInput, Budget, TrackerClient, TrackerHealth};

/// How many calls may be under way at once, in all of the overlay's trackers; more are refused.
pub const MAX_CALLS: usize = 4096;
/// The longest rest of a tracker that the bridge stands before: clients wait for it.
const MAX_REST_INLINE: Duration = Duration::from_secs(15);
/// The least time that each of several trackers has to answer, as far as there is any.
const SHARE: Duration = Duration::from_secs(3);
/// The most names of one content that are announced: a hybrid has two.
const MAX_HASHES: usize = 4;

/// Which trackers are asked, and how.
#[derive(Debug, Clone, Default)]
pub struct ClientConfig {
    /// The trackers, tier by tier.
    pub tiers: Vec<Vec<TrackerUrl>>,
    /// What each of them may be asked.
    pub budget: Budget,
    /// Whether the bridge stands before them: announces of peers are passed on with `X-Forwarded-For`, and the bridge's
    /// own ones bear it too. Over HTTP only.
    pub inline: bool,
}

/// Asks an overlay's trackers.
///
/// A question goes to one tracker: the first, tier by tier, that answers; it then stands first in its tier. A tracker
/// that does not answer is left alone for a while that grows, and is passed over meanwhile; so is one whose budget is
/// used up. Regular announces of the bridge itself are not sent more often than the tracker's `min interval` allows: the
/// last answer is given again. Of peers whose announces are passed on, nothing is kept.
pub struct BtTrackerClient {
    peer_id: [u8; 20],
    key: u32,
    inline: bool,
    families: Vec<Family>,
    tiers: Mutex<Vec<Vec<Arc<Tracker>>>>,
    memory: Mutex<Memory>,
    room: Semaphore,
}

impl BtTrackerClient {
    /// A client for a bridge at these addresses, with their real ports: of each family, the first is announced. They are
    /// where it listens, and asks from; inline they are where peers reach it. What trackers answer that cannot be read is
    /// counted in `bad_input`.
    #[must_use]
    pub fn new(
        config: &ClientConfig,
        identity: &Identity,
        listen: &[SocketAddr],
        bad_input: &Arc<BadInput>,
    ) -> Arc<Self> {
        let first = |ipv6: bool| listen.iter().find(|address| address.is_ipv6() == ipv6);
        let families = [first(false), first(true)].into_iter().flatten();
        let families = families.map(|at| Family { source: at.ip(), port: at.port() });
        let rest = if config.inline { MAX_REST_INLINE } else { MAX_REST };
        let mut id = 0..;
        let tier = |tier: &Vec<TrackerUrl>| {
            let urls = tier.iter().zip(&mut id);
            let tracker = |(url, id): (&TrackerUrl, _)| {
                let (url, bad_input) = (url.clone(), bad_input.clone());
                Arc::new(Tracker::new(id, url, config.budget, rest, bad_input))
            };
            urls.map(tracker).collect()
        };
        Arc::new(Self {
            peer_id: identity.peer_id,
            key: udp::random(),
            inline: config.inline,
            families: families.collect(),
            tiers: Mutex::new(config.tiers.iter().map(tier).collect()),
            memory: Mutex::default(),
            room: Semaphore::new(MAX_CALLS),
        })
    }

    async fn announce(&self, announce: Announce, deadline: Instant) -> Result<PeerList, Fault> {
        let ours = announce.peer.endpoint.ip().is_unspecified() && announce.peer.id.is_empty();
        self.check(&announce, ours)?;
        let mut hashes = hashes(&announce.names)?;
        hashes.truncate(MAX_HASHES);
        let one = async |hash| match announce.event {
            _ if !ours => self.forward(&announce, hash, deadline).await,
            PeerEvent::Stopped => self.stop(&announce, hash, deadline).await,
            _ => self.announce_one(&announce, hash, deadline).await,
        };
        let mut results = Vec::new();
        // A tracker that may be down is probed with one question, after which it can be asked the others.
        match hashes.as_slice() {
            [(hash, _)] => results.push(one(*hash).await),
            several if self.is_doubtful() => {
                for (hash, _) in several {
                    results.push(one(*hash).await);
                }
            }
            several => results = join_all(several.iter().map(|(hash, _)| one(*hash))).await,
        }
        let mut fault = None;
        let mut list: Option<PeerList> = None;
        for result in results {
            match (result, list.take()) {
                (Ok(more), Some(some)) => list = Some(merged(some, more)),
                (Ok(first), None) => list = Some(first),
                (Err(error), some) => {
                    list = some;
                    fault = fault.or(Some(error));
                }
            }
        }
        list.ok_or_else(|| fault.unwrap_or_else(|| Fault::new(ErrorCode::Internal, "no names")))
    }

    /// Whether the trackers can be told of this peer at all.
    fn check(&self, announce: &Announce, ours: bool) -> Result<(), Fault> {
        let unsupported = |text| Err(Fault::new(ErrorCode::Unsupported, text));
        let specific = || self.families.iter().any(|family| !family.source.is_unspecified());
        match (self.inline, ours) {
            (false, true) => Ok(()),
            (false, false) => unsupported(
                "a tracker records the address that it sees: the bridge can only announce itself",
            ),
            (true, true) if specific() => Ok(()),
            (true, true) => unsupported(
                "a tracker behind the bridge is told every peer's address, and no specific one of the bridge is \
                 known: name one in `public`, or in `listen`",
            ),
            (true, false) if announce.peer.id.as_bytes().len() == 20 => Ok(()),
            (true, false) => unsupported("a peer's id has 20 bytes in BitTorrent"),
        }
    }

    /// Passes a peer's announce on.
    async fn forward(
        &self,
        announce: &Announce,
        hash: [u8; 20],
        deadline: Instant,
    ) -> Result<PeerList, Fault> {
        let mut nobody = Nobody::default();
        let candidates = self.candidates(None, &mut nobody);
        for (at, tracker) in candidates.iter().enumerate() {
            let pass = match tracker.pass(Instant::now()) {
                Ok(pass) => pass,
                Err(fault) => {
                    nobody.add(Problem::Failed(fault));
                    continue;
                }
            };
            let until = share(deadline, candidates.len() - at);
            let question = Question::Forward { announce, hash };
            match self.in_each_family(tracker, pass, &question, until).await {
                Ok(answers) => {
                    if nobody.has_failure() {
                        self.to_front(tracker);
                    }
                    let response = answers.into_iter().find_map(Answer::announced);
                    return Ok(response.map(peer_list).unwrap_or_default());
                }
                Err(problem) => nobody.add(problem),
            }
        }
        Err(nobody.fault())
    }

    async fn announce_one(
        &self,
        announce: &Announce,
        hash: [u8; 20],
        deadline: Instant,
    ) -> Result<PeerList, Fault> {
        if matches!(announce.event, PeerEvent::Regular | PeerEvent::Paused)
            && let Some(list) = self.memory().cached(&hash, Instant::now())
        {
            return Ok(list);
        }
        let mut nobody = Nobody::default();
        let candidates = self.candidates(Some(&hash), &mut nobody);
        for (at, tracker) in candidates.iter().enumerate() {
            let until = share(deadline, candidates.len() - at);
            match self.announce_to(tracker, announce, hash, until).await {
                Ok(list) => {
                    if nobody.has_failure() {
                        self.to_front(tracker);
                    }
                    return Ok(list);
                }
                Err(problem) => nobody.add(problem),
            }
        }
        Err(nobody.fault())
    }

    /// Tells every tracker that has heard of the name that the bridge leaves.
    async fn stop(
        &self,
        announce: &Announce,
        hash: [u8; 20],
        deadline: Instant,
    ) -> Result<PeerList, Fault> {
        let told = self.memory().told(&hash);
        let mut nobody = Nobody::default();
        let mut candidates = self.candidates(None, &mut nobody);
        candidates.retain(|tracker| told.contains(&tracker.id));
        let each =
            candidates.iter().map(|tracker| self.announce_to(tracker, announce, hash, deadline));
        let mut answered = told.is_empty();
        for result in join_all(each).await {
            match result {
                Ok(_) => answered = true,
                Err(problem) => nobody.add(problem),
            }
        }
        self.memory().forget(&hash);
        if answered { Ok(PeerList::default()) } else { Err(nobody.fault()) }
    }

    async fn announce_to(
        &self,
        tracker: &Tracker,
        announce: &Announce,
        hash: [u8; 20],
        deadline: Instant,
    ) -> Result<PeerList, Problem> {
        let tracker_id = self.memory().tracker_id(&hash, tracker.id);
        let question = Question::Announce { announce, hash, tracker_id };
        let pass = tracker.pass(Instant::now()).map_err(Problem::Failed)?;
        let result = self.in_each_family(tracker, pass, &question, deadline).await;
        let now = Instant::now();
        let mut lists = match result {
            Ok(answers) => answers.into_iter().filter_map(Answer::announced).map(|response| {
                if let Some(warning) = &response.warning {
                    // The whole URL may bear a passkey.
                    tracing::info!(tracker = tracker.url.host(), warning, "the tracker warns");
                }
                self.memory().answered(hash, tracker.id, response.tracker_id.clone(), now);
                peer_list(response)
            }),
            Err(problem) => {
                if let Problem::Refused(fault) = &problem {
                    self.memory().refused(hash, tracker.id, fault, now);
                }
                return Err(problem);
            }
        };
        let list = lists.next().unwrap_or_default();
        let list = lists.fold(list, merged);
        self.memory().keep(hash, &list, now);
        Ok(list)
    }

    async fn scrape(&self, names: &[Name], deadline: Instant) -> Result<Vec<SwarmStat>, Fault> {
        let hashes = hashes(names)?;
        let mut nobody = Nobody::default();
        let candidates = self.candidates(None, &mut nobody);
        for (at, tracker) in candidates.iter().enumerate() {
            let until = share(deadline, candidates.len() - at);
            match self.scrape_at(tracker, &hashes, until).await {
                Ok(swarms) => return Ok(swarms),
                Err(problem) => nobody.add(problem),
            }
        }
        Err(nobody.fault())
    }

    async fn scrape_at(
        &self,
        tracker: &Tracker,
        hashes: &[([u8; 20], Name)],
        deadline: Instant,
    ) -> Result<Vec<SwarmStat>, Problem> {
        if !tracker.url.is_udp() {
            // Known without asking: it says nothing of how the tracker is.
            http::scrape_target(tracker)?;
        }
        let mut stats = Vec::new();
        let most = if tracker.url.is_udp() { udp::MAX_SCRAPE } else { http::MAX_SCRAPE };
        for some in hashes.chunks(most) {
            let question = Question::Scrape(some.iter().map(|(hash, _)| *hash).collect());
            let pass = tracker.pass(Instant::now()).map_err(Problem::Failed)?;
            let answers = self.in_each_family(tracker, pass, &question, deadline).await?;
            let swarms = answers.into_iter().find_map(Answer::scraped).unwrap_or_default();
            for (hash, name) in some {
                if let Some((_, counts)) = swarms.iter().find(|(other, _)| other == hash) {
                    stats.push(swarm_stat(*name, *counts));
                }
            }
        }
        Ok(stats)
    }

    /// The trackers to ask, in order, without those that want to be left alone.
    fn candidates(&self, hash: Option<&[u8; 20]>, nobody: &mut Nobody) -> Vec<Arc<Tracker>> {
        let now = Instant::now();
        let tiers = self.tiers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut candidates = Vec::new();
        for tracker in tiers.iter().flatten() {
            let refusal = hash.and_then(|hash| self.memory().refusal(hash, tracker.id, now));
            match (refusal, tracker.resting(now)) {
                (Some(fault), _) => nobody.add(Problem::Refused(fault)),
                (None, Some(fault)) => nobody.add(Problem::Failed(fault)),
                (None, None) => candidates.push(tracker.clone()),
            }
        }
        candidates
    }

    /// Whether a tracker has not answered since it failed.
    fn is_doubtful(&self) -> bool {
        let tiers = self.tiers.lock().unwrap_or_else(PoisonError::into_inner);
        tiers.iter().flatten().any(|tracker| tracker.is_doubtful())
    }

    fn to_front(&self, tracker: &Tracker) {
        let mut tiers = self.tiers.lock().unwrap_or_else(PoisonError::into_inner);
        for tier in tiers.iter_mut() {
            if let Some(at) = tier.iter().position(|other| other.id == tracker.id)
                && let Some(front) = tier.get_mut(..=at)
            {
                front.rotate_right(1);
            }
        }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl TrackerClient for BtTrackerClient {
    async fn call(&self, request: Request, deadline: Instant) -> Result<Reply, Fault> {
        let _permit = self.room.try_acquire().map_err(|_| {
            Fault::new(ErrorCode::Overloaded, "too many questions to trackers are under way")
        })?;
        match request {
            Request::Announce(announce) => {
                self.announce(announce, deadline).await.map(Reply::Peers)
            }
            Request::Find(find) => {
                self.announce(announce_of_find(find), deadline).await.map(Reply::Peers)
            }
            Request::SwarmQuery(query) => {
                self.scrape(&query.names, deadline).await.map(Reply::Swarms)
            }
            Request::Search(_) => {
                Err(Fault::new(ErrorCode::Unsupported, "a BitTorrent tracker cannot search"))
            }
        }
    }

    fn health(&self) -> Vec<TrackerHealth> {
        let tiers = self.tiers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut trackers: Vec<_> = tiers.iter().flatten().collect();
        trackers.sort_by_key(|tracker| tracker.id);
        trackers.into_iter().map(|tracker| tracker.health()).collect()
    }
}

/// The hashes of names on the wire, each once.
fn hashes(names: &[Name]) -> Result<Vec<([u8; 20], Name)>, Fault> {
    let mut hashes: Vec<([u8; 20], Name)> = Vec::new();
    for name in names {
        if let Some(hash) = wire_hash(name)
            && !hashes.iter().any(|(other, _)| *other == hash)
        {
            hashes.push((hash, *name));
        }
    }
    if hashes.is_empty() {
        let text = "none of the names is of BitTorrent (btih or btmh)";
        return Err(Fault::new(ErrorCode::Unsupported, text));
    }
    Ok(hashes)
}

/// The deadline of one of so many trackers that are asked one after another: a dead one must not eat up the time.
fn share(deadline: Instant, trackers: usize) -> Instant {
    let left = deadline.saturating_duration_since(Instant::now());
    let parts = u32::try_from(trackers).unwrap_or(u32::MAX).max(1);
    // Nor may many of them leave a slow one no time at all.
    let part = (left / parts).max(SHARE).min(left);
    Instant::now().checked_add(part).unwrap_or(deadline).min(deadline)
}

/// Where an announce of the bridge itself comes from, in the unified form.
#[must_use]
pub fn ourselves() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0)
}

#[cfg(test)]
#[path = "tracker_client_tests.rs"]
mod tests;
