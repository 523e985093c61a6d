//! The bridge as a client of the overlay's own trackers: HTTP and UDP, in tiers (BEP 12).

mod http;
mod memory;
mod tracker;
mod udp;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use futures::future::join_all;
use p2pbridge_proto::{
    Announce, ErrorCode, Fault, Name, PeerEvent, PeerList, Reply, Request, SwarmStat,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use self::{memory::Memory, tracker::Tracker};
use super::{
    config::TrackerUrl,
    identity::Identity,
    metainfo::wire_hash,
    translate::{Announcer, announce_of_find, merged, native_announce, peer_list, swarm_stat},
    wire::http::{AnnounceResponse, SwarmCounts},
};
use crate::{TrackerClient, TrackerHealth};

/// How many questions may be under way at once; more wait, as long as their deadline allows.
pub const MAX_IN_FLIGHT: usize = 64;
/// The most names of one content that are announced: a hybrid has two.
const MAX_HASHES: usize = 4;

/// Asks an overlay's trackers.
///
/// A question goes to one tracker: the first, tier by tier, that answers; it then stands first in its tier. A tracker
/// that does not answer is left alone for a while that grows, and is passed over meanwhile. Regular announces of a name
/// are not sent more often than the tracker's `min interval` allows: the last answer is given again.
pub struct BtTrackerClient {
    peer_id: [u8; 20],
    key: u32,
    families: Vec<Family>,
    tiers: Mutex<Vec<Vec<Arc<Tracker>>>>,
    memory: Mutex<Memory>,
    room: Semaphore,
}

/// A family of addresses in which the overlay's peers can reach the bridge, and in which it therefore announces.
#[derive(Debug, Clone)]
struct Family {
    source: IpAddr,
    port: u16,
    http: reqwest::Client,
}

/// What a tracker is asked.
enum Question<'a> {
    Announce { announce: &'a Announce, hash: [u8; 20], tracker_id: Option<Vec<u8>> },
    Scrape(Vec<[u8; 20]>),
}

/// What a tracker has answered.
enum Answer {
    Announced(AnnounceResponse),
    Scraped(Vec<([u8; 20], SwarmCounts)>),
}

impl Answer {
    fn announced(self) -> Option<AnnounceResponse> {
        match self {
            Self::Announced(response) => Some(response),
            Self::Scraped(_) => None,
        }
    }

    fn scraped(self) -> Option<Vec<([u8; 20], SwarmCounts)>> {
        match self {
            Self::Announced(_) => None,
            Self::Scraped(swarms) => Some(swarms),
        }
    }
}

/// Why a tracker did not give what it was asked for.
#[derive(Debug)]
enum Problem {
    /// It answered, by a refusal.
    Refused(Fault),
    /// It gave no proper answer.
    Failed(Fault),
}

impl Problem {
    fn failed(code: ErrorCode, text: impl Into<String>) -> Self {
        Self::Failed(Fault::new(code, text))
    }

    fn into_fault(self) -> Fault {
        match self {
            Self::Refused(fault) | Self::Failed(fault) => fault,
        }
    }
}

impl BtTrackerClient {
    /// A client of these trackers, tier by tier, for a bridge that listens at these addresses (with their real ports):
    /// of each family, the first is announced, and asked from.
    ///
    /// # Errors
    /// When the HTTP client cannot be set up.
    pub fn new(
        tiers: &[Vec<TrackerUrl>],
        identity: &Identity,
        listen: &[SocketAddr],
    ) -> io::Result<Arc<Self>> {
        let first = |ipv6: bool| listen.iter().find(|address| address.is_ipv6() == ipv6);
        let families = [first(false), first(true)].into_iter().flatten().map(|address| {
            let http = http::client(address.ip()).map_err(io::Error::other)?;
            Ok(Family { source: address.ip(), port: address.port(), http })
        });
        let mut id = 0..;
        let tier = |tier: &Vec<TrackerUrl>| {
            let urls = tier.iter().zip(&mut id);
            urls.map(|(url, id)| Arc::new(Tracker::new(id, url.clone()))).collect()
        };
        Ok(Arc::new(Self {
            peer_id: identity.peer_id,
            key: udp::random(),
            families: families.collect::<io::Result<_>>()?,
            tiers: Mutex::new(tiers.iter().map(tier).collect()),
            memory: Mutex::default(),
            room: Semaphore::new(MAX_IN_FLIGHT),
        }))
    }

    async fn announce(&self, announce: Announce, deadline: Instant) -> Result<PeerList, Fault> {
        if !announce.peer.endpoint.ip().is_unspecified() {
            let text =
                "a tracker records the address that it sees: the bridge can only announce itself";
            return Err(Fault::new(ErrorCode::Unsupported, text));
        }
        let hashes = hashes(&announce.names)?;
        let each = hashes.into_iter().take(MAX_HASHES).map(|(hash, _)| match announce.event {
            PeerEvent::Stopped => {
                futures::future::Either::Left(self.stop(&announce, hash, deadline))
            }
            _ => futures::future::Either::Right(self.announce_one(&announce, hash, deadline)),
        });
        let mut fault = None;
        let mut list: Option<PeerList> = None;
        for result in join_all(each).await {
            match result {
                Ok(more) => {
                    list = Some(match list {
                        Some(list) => merged(list, more),
                        None => more,
                    })
                }
                Err(error) => fault = fault.or(Some(error)),
            }
        }
        list.ok_or_else(|| fault.unwrap_or_else(|| Fault::new(ErrorCode::Internal, "no names")))
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
                    self.to_front(tracker);
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
        let result = self.in_each_family(tracker, &question, deadline).await;
        let now = Instant::now();
        let mut lists = match result {
            Ok(answers) => answers.into_iter().filter_map(Answer::announced).map(|response| {
                if let Some(warning) = &response.warning {
                    tracing::info!(tracker = %tracker.url, warning, "the tracker warns");
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
        let mut stats = Vec::new();
        let most = if tracker.url.is_udp() { udp::MAX_SCRAPE } else { http::MAX_SCRAPE };
        for some in hashes.chunks(most) {
            let question = Question::Scrape(some.iter().map(|(hash, _)| *hash).collect());
            let answers = self.in_each_family(tracker, &question, deadline).await?;
            let swarms = answers.into_iter().find_map(Answer::scraped).unwrap_or_default();
            for (hash, name) in some {
                if let Some((_, counts)) = swarms.iter().find(|(other, _)| other == hash) {
                    stats.push(swarm_stat(*name, *counts));
                }
            }
        }
        Ok(stats)
    }

    /// Asks over each family in which both the tracker and the bridge have addresses; one answer is enough.
    async fn in_each_family(
        &self,
        tracker: &Tracker,
        question: &Question<'_>,
        deadline: Instant,
    ) -> Result<Vec<Answer>, Problem> {
        let asked = Instant::now();
        let result = self.answers(tracker, question, deadline).await;
        tracker.note(&result, asked.elapsed());
        result
    }

    async fn answers(
        &self,
        tracker: &Tracker,
        question: &Question<'_>,
        deadline: Instant,
    ) -> Result<Vec<Answer>, Problem> {
        let late = |_| Problem::failed(ErrorCode::Unavailable, "no answer in time");
        let addresses = timeout_at(deadline, tracker.addresses()).await.map_err(late)??;
        let pairs = self.families.iter().filter_map(|family| {
            let address = addresses.iter().find(|a| a.is_ipv6() == family.source.is_ipv6())?;
            Some((family, *address))
        });
        let each = pairs.map(|(family, address)| {
            timeout_at(deadline, self.ask(tracker, family, address, question, deadline))
        });
        let (mut answers, mut problem) = (Vec::new(), None);
        for result in join_all(each).await {
            match result.map_err(late).flatten() {
                Ok(answer) => answers.push(answer),
                Err(error) => problem = problem.or(Some(error)),
            }
        }
        if answers.is_empty() {
            return Err(problem.unwrap_or_else(|| {
                let text = "it has no address in a family in which the overlay listens";
                Problem::failed(ErrorCode::Unavailable, text)
            }));
        }
        Ok(answers)
    }

    async fn ask(
        &self,
        tracker: &Tracker,
        family: &Family,
        address: SocketAddr,
        question: &Question<'_>,
        deadline: Instant,
    ) -> Result<Answer, Problem> {
        let by = Announcer { peer_id: self.peer_id, port: family.port, key: self.key };
        let (url, source) = (&tracker.url, family.source);
        match question {
            Question::Announce { announce, hash, tracker_id } => {
                let native = native_announce(announce, *hash, by, tracker_id.clone());
                let answer = if url.is_udp() {
                    udp::announce(tracker, address, source, native, deadline).await
                } else {
                    http::announce(&family.http, url, &native).await
                };
                answer.map(Answer::Announced)
            }
            Question::Scrape(hashes) => {
                let answer = if url.is_udp() {
                    udp::scrape(tracker, address, source, hashes, deadline).await
                } else {
                    http::scrape(&family.http, url, hashes).await
                };
                answer.map(Answer::Scraped)
            }
        }
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
        let permit = timeout_at(deadline, self.room.acquire()).await;
        let _permit = permit.map_err(|_| {
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
        }
    }

    fn health(&self) -> Vec<TrackerHealth> {
        let tiers = self.tiers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut trackers: Vec<_> = tiers.iter().flatten().collect();
        trackers.sort_by_key(|tracker| tracker.id);
        trackers.into_iter().map(|tracker| tracker.health()).collect()
    }
}

/// Why nobody answered: the first refusal, or else the first failure, and the shortest time to wait.
#[derive(Default)]
struct Nobody {
    refusal: Option<Fault>,
    failure: Option<Fault>,
}

impl Nobody {
    fn add(&mut self, problem: Problem) {
        let slot = match problem {
            Problem::Refused(_) => &mut self.refusal,
            Problem::Failed(_) => &mut self.failure,
        };
        let fault = problem.into_fault();
        match slot {
            Some(first) => {
                let both = first.retry_after.into_iter().chain(fault.retry_after);
                first.retry_after = both.min();
            }
            None => *slot = Some(fault),
        }
    }

    fn fault(self) -> Fault {
        let none = || Fault::new(ErrorCode::Unavailable, "there is no tracker to ask");
        self.refusal.or(self.failure).unwrap_or_else(none)
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
    Instant::now().checked_add(left / parts).unwrap_or(deadline).min(deadline)
}

/// Where an announce of the bridge itself comes from, in the unified form.
#[must_use]
pub fn ourselves() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0)
}

#[cfg(test)]
#[path = "tracker_client_tests.rs"]
mod tests;
