//! The gate to one overlay's trackers: what they said is kept for as long as they wish, equal questions are asked once,
//! and when they are silent, what they said last is given again.
//!
//! How often each tracker may be asked, and how long it is left alone after failures, is kept by the adapter, which sees
//! every single message.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use p2pbridge_adapters::TrackerClient;
use p2pbridge_proto::{
    Announce, ErrorCode, Fault, Find, Name, OverlayId, Peer, PeerEvent, PeerList, Reply, Request,
    SwarmQuery, SwarmStat,
};
use quick_cache::sync::Cache;
use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};

use super::flights::{Flight, Flights};

/// Names whose peers are remembered.
const NAMES: usize = 10_000;
/// Peers that are remembered of a name.
const PEERS: usize = 100;
/// Names whose sizes are remembered.
const STATS: usize = 50_000;
/// How long the size of a swarm is taken for good: trackers give no time for it.
const STAT_AGE: Duration = Duration::from_secs(30);
/// Questions of the bridge's own that are under way, and announces of others.
const REFRESHES: usize = 32;
const PASSED_ON: usize = 4_096;
/// How long a tracker has to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// How long a name is not asked for again after a fault, at most and at least.
const AFTER_FAULT: Duration = Duration::from_secs(30);
const AT_LEAST: Duration = Duration::from_secs(1);
/// How often the peers of a name are taken down anew when many announce it.
const OFTEN: Duration = Duration::from_secs(1);
/// The longest time for which peers are given again while nobody answers.
const LONGEST_STALE: Duration = Duration::from_secs(2 * 3600);
/// Peers that are asked for.
const WANT: u32 = 80;

/// Peers whose last passed announce is remembered.
const PEERS_PASSED: usize = 100_000;

/// What trackers said of a name.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// The peers, and the intervals; as old as `at`.
    pub(super) list: PeerList,
    pub(super) at: Instant,
    /// Since when peers are gathered in the list: those that were named first may be gone.
    since: Instant,
    /// When it may be asked for again.
    next: Instant,
    /// Whether the last question got no answer.
    pub(super) failed: bool,
}

impl Known {
    /// Whether it is time to ask again.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next <= now
    }

    /// Whether a peer whose announce was passed on so long ago comes sooner than the tracker wishes.
    fn is_soon(&self, passed: Duration, now: Instant) -> bool {
        let min = self.list.min_interval.unwrap_or(self.list.interval / 2);
        !self.failed && self.age(now) < self.list.interval && passed < min
    }

    /// The peers, marked as old when nobody answers; none when they are too old to be of use.
    pub(super) fn peers(&self, now: Instant) -> Option<PeerList> {
        let age = self.age(now);
        let usable = age < LONGEST_STALE + self.list.interval;
        usable.then(|| PeerList { stale: self.failed.then_some(age), ..self.list.clone() })
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.at)
    }
}

/// What makes two passed announces the same question: one that a client repeats because it waits too long.
type Passed = (Name, SocketAddr, PeerEvent, Option<u64>);

/// Whose question it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// The bridge, for itself.
    Bridge,
    /// A peer, whose announce is passed on.
    Peer,
}

pub(super) struct Gate {
    overlay: OverlayId,
    client: Arc<dyn TrackerClient>,
    lists: Cache<Name, Arc<Known>>,
    stats: Cache<Name, (Instant, Option<SwarmStat>)>,
    /// When a peer's announce was last passed on, and answered.
    passed_at: Cache<(Name, SocketAddr), Instant>,
    /// Names in which the bridge itself is announced, and when it may announce itself again.
    own: Cache<Name, Instant>,
    refreshes: Flights<Name, ()>,
    passed: Flights<Passed, Result<PeerList, Fault>>,
    queries: Flights<Vec<Name>, Result<Vec<SwarmStat>, Fault>>,
}

impl Gate {
    pub(super) fn new(overlay: OverlayId, client: Arc<dyn TrackerClient>, runtime: Handle) -> Self {
        Self {
            overlay,
            client,
            lists: Cache::new(NAMES),
            stats: Cache::new(STATS),
            passed_at: Cache::new(PEERS_PASSED),
            own: Cache::new(NAMES),
            refreshes: Flights::new(REFRESHES, runtime.clone()),
            passed: Flights::new(PASSED_ON, runtime.clone()),
            queries: Flights::new(REFRESHES, runtime),
        }
    }

    /// Asks the trackers for the bridge itself, and keeps what they say.
    pub(super) async fn ask(&self, request: Request, patience: Duration) -> Result<Reply, Fault> {
        let main = request.names().first().map(Name::short);
        let event = match &request {
            Request::Announce(announce) => Some(announce.event),
            Request::Find(_) | Request::SwarmQuery(_) | Request::Search(_) => None,
        };
        let answer = self.call(request, patience, Asks::Bridge).await;
        match (main, event) {
            (Some(main), Some(PeerEvent::Stopped)) => {
                self.own.remove(&main);
            }
            (Some(main), Some(_)) => {
                let wait = match &answer {
                    Ok(Reply::Peers(list)) => list.interval.max(AT_LEAST),
                    _ => AFTER_FAULT,
                };
                self.own.insert(main, Instant::now() + wait);
            }
            _ => {}
        }
        answer
    }

    /// Whether it is time for the bridge to announce itself again.
    pub(super) fn is_due(&self, name: &Name) -> bool {
        self.own.get(&name.short()).is_none_or(|next| next <= Instant::now())
    }

    async fn call(&self, request: Request, patience: Duration, asks: Asks) -> Result<Reply, Fault> {
        // Sizes say nothing of peers, and who leaves learns of none.
        let names = match &request {
            Request::Announce(announce) if announce.event == PeerEvent::Stopped => Vec::new(),
            Request::SwarmQuery(_) | Request::Search(_) => Vec::new(),
            Request::Announce(_) | Request::Find(_) => request.names().to_vec(),
        };
        let start = Instant::now();
        // The client keeps the deadline itself; this one holds even if it does not.
        let slack = Duration::from_secs(1);
        let answer = timeout(patience + slack, self.client.call(request, start + patience));
        let answer = answer.await.unwrap_or_else(|_| {
            Err(Fault::new(ErrorCode::Unavailable, format!("no answer within {patience:?}")))
        });
        let overlay = &self.overlay;
        match &answer {
            Ok(_) => tracing::debug!(%overlay, took = ?start.elapsed(), "the tracker has answered"),
            Err(fault) => tracing::debug!(%overlay, %fault, "the tracker has not answered"),
        }
        match &answer {
            Ok(Reply::Peers(list)) => self.keep(&names, list),
            Ok(_) => {}
            Err(fault) => self.note_fault(&names, fault, asks),
        }
        answer
    }

    /// What is known of a name, however old.
    pub(super) fn known(&self, name: &Name) -> Option<Arc<Known>> {
        self.lists.get(&name.short())
    }

    /// Asks again for the peers of a content of so many bytes, when the trackers allow it; the flight lands when they have
    /// answered.
    pub(super) fn refresh(self: &Arc<Self>, names: &[Name], length: u64) -> Option<Flight<()>> {
        let main = *names.first()?;
        let announced = self.own.get(&main.short()).is_some();
        if announced || self.known(&main).is_some_and(|known| !known.is_due(Instant::now())) {
            return None;
        }
        let (gate, names) = (self.clone(), names.to_vec());
        self.refreshes.join(main, || async move {
            let find = Find { names: names.clone(), num_want: Some(WANT), length: Some(length) };
            let find = Request::Find(find);
            // What came of it is in the lists.
            if gate.call(find, PATIENCE, Asks::Bridge).await.is_ok() && gate.is_absent(&main) {
                // Some trackers make a peer of whoever asks: nobody shall be led to a bridge that brings nothing.
                let nobody = Peer::at(SocketAddr::from(([0, 0, 0, 0], 0)));
                let leave = Announce {
                    event: PeerEvent::Stopped,
                    left: Some(1),
                    num_want: Some(0),
                    ..Announce::new(nobody, names)
                };
                // Nobody waits for that.
                tokio::spawn(async move {
                    gate.call(Request::Announce(leave), PATIENCE, Asks::Bridge).await
                });
            }
        })
    }

    fn is_absent(&self, name: &Name) -> bool {
        self.own.get(&name.short()).is_none()
    }

    /// What is known already, when a peer announces sooner than the tracker wishes.
    pub(super) fn early(&self, announce: &Announce, now: Instant) -> Option<Arc<Known>> {
        let again = matches!(announce.event, PeerEvent::Regular | PeerEvent::Started);
        let name = announce.names.first().filter(|_| again)?.short();
        let passed = self.passed_at.get(&(name, announce.peer.endpoint))?;
        let passed = now.saturating_duration_since(passed);
        self.known(&name).filter(|known| known.is_soon(passed, now))
    }

    /// Passes a peer's announce on. An announce that the peer repeats while it waits is sent once.
    pub(super) async fn pass(self: &Arc<Self>, announce: Announce) -> Result<PeerList, Fault> {
        let name = announce.names.first().copied();
        let name = name.ok_or_else(|| Fault::new(ErrorCode::BadRequest, "no name"))?;
        let key = (name, announce.peer.endpoint, announce.event, announce.left);
        let gate = self.clone();
        let flight = self.passed.join_here(key, || async move {
            let (peer, event) = ((name.short(), announce.peer.endpoint), announce.event);
            let reply = gate.call(Request::Announce(announce), PATIENCE, Asks::Peer).await?;
            if event == PeerEvent::Stopped {
                gate.passed_at.remove(&peer);
            } else {
                gate.passed_at.insert(peer, Instant::now());
            }
            match reply {
                Reply::Peers(list) => Ok(list),
                Reply::Swarms(_) | Reply::Found(_) => Ok(PeerList::default()),
            }
        });
        let Some(flight) = flight else {
            let mut fault = Fault::new(ErrorCode::Overloaded, "too many announces are under way");
            fault.retry_after = Some(Duration::from_secs(60));
            return Err(fault);
        };
        let broken = || Err(Fault::new(ErrorCode::Internal, "the announce broke down"));
        flight.await.unwrap_or_else(broken)
    }

    /// The sizes of swarms; what was asked a moment ago is not asked again.
    pub(super) async fn stats(self: &Arc<Self>, names: &[Name]) -> Result<Vec<SwarmStat>, Fault> {
        let now = Instant::now();
        let fresh = |name: &Name| {
            self.stats.get(name).filter(|(at, _)| now.saturating_duration_since(*at) < STAT_AGE)
        };
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for name in names {
            match fresh(name) {
                Some((_, stat)) => found.extend(stat),
                None => missing.push(*name),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let (gate, asked) = (self.clone(), missing.clone());
        let flight = self.queries.join_here(missing, || async move {
            let query = SwarmQuery { names: asked.clone() };
            let query = Request::SwarmQuery(query);
            let reply = gate.call(query, PATIENCE, Asks::Peer).await?;
            let Reply::Swarms(stats) = reply else { return Ok(Vec::new()) };
            let now = Instant::now();
            for name in asked {
                let stat = stats.iter().find(|stat| stat.name == name).copied();
                gate.stats.insert(name, (now, stat));
            }
            Ok(stats)
        });
        let overloaded = || Fault::new(ErrorCode::Overloaded, "too many questions are under way");
        let broken = || Err(Fault::new(ErrorCode::Internal, "the question broke down"));
        found.extend(flight.ok_or_else(overloaded)?.await.unwrap_or_else(broken)?);
        Ok(found)
    }

    fn keep(&self, names: &[Name], list: &PeerList) {
        let now = Instant::now();
        let wait = list.min_interval.unwrap_or_default().max(list.interval);
        for name in names {
            let before = self.known(name);
            if before.as_ref().is_some_and(|known| !known.failed && known.age(now) < OFTEN) {
                continue;
            }
            let (mut peers, mut since) = (list.peers.clone(), now);
            if let Some(before) = before {
                // An answer to one who asked for few names few: who was named before is not gone, for a while.
                if now.saturating_duration_since(before.since) < wait {
                    since = before.since;
                    let new = |old: &&Peer| !list.peers.iter().any(|p| p.endpoint == old.endpoint);
                    peers.extend(before.list.peers.iter().filter(new).copied());
                }
            }
            peers.truncate(PEERS);
            // Token and warning are for who asked.
            let &PeerList { interval, min_interval, seeders, leechers, stale, .. } = list;
            let said =
                PeerList { interval, min_interval, seeders, leechers, stale, ..Default::default() };
            let list = PeerList { peers, ..said };
            let known = Known { list, at: now, since, next: now + wait, failed: false };
            self.lists.insert(name.short(), Arc::new(known));
        }
    }

    fn note_fault(&self, names: &[Name], fault: &Fault, asks: Asks) {
        let now = Instant::now();
        let next = now + fault.retry_after.unwrap_or(AFTER_FAULT).clamp(AT_LEAST, AFTER_FAULT);
        for name in names {
            let known = match (self.known(name), fault.code) {
                // Nothing is known that could be told in its place: only the bridge need not ask again at once.
                (None, _) if asks == Asks::Peer => continue,
                (None, _) => Known {
                    list: PeerList::default(),
                    at: now,
                    since: now,
                    next,
                    failed: fault.is_retryable(),
                },
                // Too much was asked: that says nothing of the swarm.
                (Some(_), ErrorCode::Overloaded) if asks == Asks::Peer => continue,
                (Some(known), ErrorCode::Overloaded) => {
                    Known { next: known.next.max(next), ..(*known).clone() }
                }
                (Some(known), ErrorCode::Unavailable | ErrorCode::BadAnswer) => {
                    if known.failed && known.next > now {
                        continue;
                    }
                    Known { failed: true, next: known.next.max(next), ..(*known).clone() }
                }
                // It is not served any more. What one peer may not, others may.
                (Some(_), _) if asks == Asks::Peer && fault.code != ErrorCode::UnknownName => {
                    continue;
                }
                (Some(known), _) => Known {
                    list: PeerList { interval: known.list.interval, ..PeerList::default() },
                    at: now,
                    since: now,
                    next,
                    failed: false,
                },
            };
            self.lists.insert(name.short(), Arc::new(known));
        }
    }
}
