//! The peers that a pool downloads from: whom to try, who is connected, and who is not to be trusted.

use std::{
    cmp::Ordering,
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use p2pbridge_adapters::{SourceError, SourceSession};
use p2pbridge_proto::OverlayId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Origin, demand::Places, pace::Pace, waste::Wasted};

/// Peers that are remembered at most; others are left out until one is forgotten.
const MOST_CANDIDATES: usize = 1_000;
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LAST_RETRY: Duration = Duration::from_secs(120);
/// How long a source that made place for another is left alone.
const REST: Duration = Duration::from_secs(120);
/// How many sources the bridge may wait for in their queues, for each one that it may download from.
const QUEUES: usize = 4;
/// How long a place in a queue is kept when others could be tried instead.
const QUEUE_PATIENCE: Duration = Duration::from_secs(30 * 60);
/// How often in a row a source may refuse what it said it holds, and half of how long it is left alone after the first
/// time; twice as long after the next.
const MOST_REFUSALS: u32 = 5;
const FIRST_REST: Duration = Duration::from_millis(250);
/// How much better than the weakest the newest must be to stay.
const BETTER: f64 = 1.3;
/// What is taken at least for the throughput of a source that was not measured, in bytes a second: it is worth a trial
/// even if all others are slow.
const ASSUMED: f64 = (256u64 << 10) as f64;

/// Sessions that were given up, and whose last bytes are still to be counted; of more than that the oldest are forgotten.
const MOST_ENDING: usize = 1_000;

/// Number of a connection, never used twice in a pool.
pub(super) type SourceId = u64;

/// A connected peer.
pub(super) struct Source {
    pub(super) origin: Origin,
    pub(super) endpoint: SocketAddr,
    pub(super) session: Arc<dyn SourceSession>,
    pub(super) pace: Pace,
    pub(super) wasted: Wasted,
    /// Its throughput, as [`Sources::measure`] found it or assumed it.
    pub(super) throughput: f64,
    /// Bytes that may be asked of it at once.
    pub(super) allowance: u64,
    /// It is asked for nothing more, and goes when it has brought what it was asked for.
    pub(super) leaving: bool,
    /// Since when it gives nothing, although it tells that it holds something: the bridge stands in its queue.
    waits_since: Option<Instant>,
    /// Rounds of refusals since it last gave something, and until when it is asked for nothing after the last.
    refusals: u32,
    rests_until: Instant,
    /// Cancelled when it is given up: what was asked of it is taken back.
    pub(super) gone: CancellationToken,
}

impl Source {
    /// Whether it may be asked for so many bytes more. One block may always be under way.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        let in_flight = self.pace.in_flight();
        !self.rests() && !self.leaving && (in_flight == 0 || in_flight + bytes <= self.allowance)
    }

    /// Whether it is left alone for a moment, since it has refused something.
    fn rests(&self) -> bool {
        self.refusals > 0 && self.rests_until > Instant::now()
    }

    /// Whether it is asked for nothing, though it would give something.
    pub(super) fn is_idle(&self) -> bool {
        !self.is_asked() && !self.waits()
    }

    /// Whether anything is to come from it.
    pub(super) fn is_asked(&self) -> bool {
        self.pace.in_flight() > 0
    }

    /// Whether the bridge stands in its queue.
    fn waits(&self) -> bool {
        self.waits_since.is_some()
    }

    /// It has brought something.
    pub(super) fn gave(&mut self) {
        self.refusals = 0;
        self.waits_since = None;
    }

    /// It has refused something that it said it holds. Says until when it rests; `None` when that was once too often.
    /// What is refused at one time counts once.
    pub(super) fn refused(&mut self, now: Instant) -> Option<Instant> {
        if self.refusals == 0 || self.rests_until <= now {
            self.refusals += 1;
            self.rests_until = now + FIRST_REST.saturating_mul(1 << self.refusals.min(16));
        }
        (self.refusals <= MOST_REFUSALS).then_some(self.rests_until)
    }
}

/// A peer that is known.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    standing: Standing,
    /// Its power when it was last connected.
    power: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Fresh,
    Connecting,
    Connected,
    Failed {
        times: u32,
        until: Instant,
    },
    /// It made place for another.
    Replaced {
        until: Instant,
    },
    /// It sent bytes that were not what their hashes say, or it is the bridge itself.
    Banned,
}

impl Standing {
    /// In which order peers are tried; `None` for those that are not. When no source has what is wanted (`lonely`), those
    /// that made place are tried again at once.
    fn turn(self, lonely: bool, now: Instant) -> Option<u8> {
        match self {
            Self::Fresh => Some(0),
            Self::Failed { until, .. } if until <= now => Some(1),
            Self::Replaced { until } if lonely || until <= now => Some(2),
            _ => None,
        }
    }
}

/// All peers that a pool knows on the giving side.
#[derive(Default)]
pub(super) struct Sources {
    candidates: HashMap<(OverlayId, usize, SocketAddr), Candidate>,
    /// How well each origin's overlay serves.
    scores: Vec<(Origin, f64)>,
    connected: HashMap<SourceId, Source>,
    /// What those send that were given up, until their sessions have ended.
    ending: VecDeque<Wasted>,
    connecting: usize,
    next: SourceId,
}

impl Sources {
    /// Takes note of peers that a tracker has named, and how well their overlay serves.
    pub(super) fn learn(&mut self, origin: &Origin, score: f64, peers: &[SocketAddr]) {
        match self.scores.iter_mut().find(|(known, _)| known == origin) {
            Some((_, known)) => *known = score,
            None => self.scores.push((origin.clone(), score)),
        }
        for peer in peers {
            if self.candidates.len() >= MOST_CANDIDATES {
                self.candidates.retain(|_, known| {
                    !matches!(known.standing, Standing::Failed { .. } | Standing::Replaced { .. })
                });
                if self.candidates.len() >= MOST_CANDIDATES {
                    return;
                }
            }
            let key = (origin.overlay.clone(), origin.name, *peer);
            let fresh = Candidate { standing: Standing::Fresh, power: None };
            self.candidates.entry(key).or_insert(fresh);
        }
    }

    /// A peer to connect to, if there is one and no more than `most` are open or being opened: of the overlay that
    /// serves best, the one that had most power before.
    pub(super) fn pick(
        &mut self,
        most: usize,
        lonely: bool,
        now: Instant,
    ) -> Option<(Origin, SocketAddr)> {
        if self.open() >= most || self.waiting() >= most.saturating_mul(QUEUES) {
            return None;
        }
        let scores = &self.scores;
        let score = |key: &(OverlayId, usize, SocketAddr)| {
            let of = |(origin, _): &&(Origin, f64)| origin.overlay == key.0 && origin.name == key.1;
            scores.iter().find(of).map_or(0.0, |(_, score)| *score)
        };
        let (_, _, key, known) = self
            .candidates
            .iter_mut()
            .filter_map(|(key, known)| {
                Some((known.standing.turn(lonely, now)?, score(key), key, known))
            })
            .min_by(|one, other| {
                let power = |known: &Candidate| known.power.unwrap_or(0.0);
                one.0
                    .cmp(&other.0)
                    .then(other.1.total_cmp(&one.1))
                    .then_with(|| power(other.3).total_cmp(&power(one.3)))
            })?;
        // How often it has failed is kept while it is tried again.
        if let Standing::Failed { until, .. } = &mut known.standing {
            *until = now + LAST_RETRY;
        } else {
            known.standing = Standing::Connecting;
        }
        let picked = (Origin { overlay: key.0.clone(), name: key.1 }, key.2);
        self.connecting += 1;
        Some(picked)
    }

    /// The overlays of the peers that may be tried now.
    pub(super) fn untried(&self, now: Instant) -> impl Iterator<Item = &OverlayId> {
        let ready = move |known: &Candidate| known.standing.turn(false, now).is_some();
        self.candidates.iter().filter(move |(_, known)| ready(known)).map(|(key, _)| &key.0)
    }

    /// When the next peer that has failed, or made place, may be tried again.
    pub(super) fn next_retry(&self, now: Instant) -> Option<Instant> {
        let until = |known: &Candidate| match known.standing {
            Standing::Failed { until, .. } | Standing::Replaced { until } if until > now => {
                Some(until)
            }
            _ => None,
        };
        self.candidates.values().filter_map(until).min()
    }

    /// A connection was made, after so long.
    pub(super) fn opened(
        &mut self,
        origin: Origin,
        endpoint: SocketAddr,
        session: Arc<dyn SourceSession>,
        took: Duration,
        now: Instant,
    ) -> SourceId {
        self.connecting = self.connecting.saturating_sub(1);
        self.set(&origin, endpoint, Standing::Connected, None);
        self.next += 1;
        let pace = Pace::new(took, now);
        let source = Source {
            wasted: Wasted::new(origin.clone(), session.waste()),
            origin,
            endpoint,
            session,
            allowance: pace.allowance(None, u64::MAX),
            throughput: ASSUMED,
            pace,
            leaving: false,
            waits_since: None,
            refusals: 0,
            rests_until: now,
            gone: CancellationToken::new(),
        };
        self.connected.insert(self.next, source);
        self.next
    }

    /// A connection could not be made.
    pub(super) fn refused(
        &mut self,
        origin: &Origin,
        endpoint: SocketAddr,
        error: &SourceError,
        now: Instant,
    ) {
        self.connecting = self.connecting.saturating_sub(1);
        match error {
            SourceError::Ourselves => self.set(origin, endpoint, Standing::Banned, None),
            _ => self.failed(origin, endpoint, None, now),
        }
    }

    /// Measures the connected sources; none may be asked for more than `most` bytes at once.
    #[allow(clippy::cast_precision_loss, reason = "a mean of few")]
    pub(super) fn measure(&mut self, most: u64, now: Instant) {
        let measured: Vec<f64> =
            self.connected.values().filter_map(|source| source.pace.throughput(now)).collect();
        let mean = measured.iter().sum::<f64>() / measured.len().max(1) as f64;
        let assumed = mean.max(ASSUMED);
        for source in self.connected.values_mut() {
            let throughput = source.pace.throughput(now);
            source.throughput = throughput.unwrap_or(assumed);
            source.allowance = source.pace.allowance(throughput, most);
        }
    }

    /// How many there are, and what they can bring.
    pub(super) fn places(&self, most: usize, lonely: bool, now: Instant) -> Places {
        // Those in whose queues the bridge waits bring nothing, and take no place.
        let staying =
            || self.connected.values().filter(|source| !source.leaving && !source.waits());
        let room = self.waiting() < most.saturating_mul(QUEUES);
        let throughput = |source: &Source| source.pace.throughput(now);
        Places {
            open: self.open(),
            most,
            untried: room
                && self.candidates.values().any(|c| c.standing.turn(lonely, now).is_some()),
            capacity: staying().filter_map(throughput).sum(),
            unmeasured: self.connecting > 0 || staying().any(|s| throughput(s).is_none()),
        }
    }

    /// The source that is to make place when all are taken: the newest, unless it is clearly better than the weakest of
    /// the others. Says whether it is the newest. `None` when that would leave nobody.
    pub(super) fn weakest(&self, now: Instant) -> Option<(SourceId, bool)> {
        let power = |id: SourceId| {
            let source = self.connected.get(&id);
            source.and_then(|source| source.pace.power(now)).unwrap_or(0.0)
        };
        let staying = || {
            let staying = self.connected.iter().filter(|(_, s)| !s.leaving && !s.waits());
            staying.map(|(id, _)| *id)
        };
        let newest = staying().max()?;
        let weakest = staying()
            .filter(|id| *id != newest)
            .min_by(|one, other| power(*one).total_cmp(&power(*other)).then(one.cmp(other)))?;
        Some(match power(newest).partial_cmp(&(power(weakest) * BETTER)) {
            Some(Ordering::Greater | Ordering::Equal) if power(newest) > 0.0 => (weakest, false),
            _ => (newest, true),
        })
    }

    /// A connection has ended, or is given up; its peer may be tried again later.
    pub(super) fn close(&mut self, id: SourceId, now: Instant) -> Option<Source> {
        let source = self.remove(id)?;
        self.failed(&source.origin, source.endpoint, source.pace.power(now), now);
        Some(source)
    }

    /// Ends a connection for a better one.
    pub(super) fn replace(&mut self, id: SourceId, now: Instant) -> Option<Source> {
        let source = self.remove(id)?;
        let until = now + REST;
        let power = source.pace.power(now);
        self.set(&source.origin, source.endpoint, Standing::Replaced { until }, power);
        Some(source)
    }

    /// Looks which sources give nothing now, although they hold something; `chunks` are those of a name. Gives the one
    /// that shall wait no longer, since others could be tried.
    pub(super) fn note_waiting(
        &mut self,
        most: usize,
        chunks: impl Fn(usize) -> u32,
        now: Instant,
    ) -> Option<SourceId> {
        for source in self.connected.values_mut() {
            let gives = |source: &Source| {
                let chunks = 0..chunks(source.origin.name);
                source.pace.in_flight() > 0 || chunks.into_iter().any(|c| source.session.has(c))
            };
            source.waits_since = match source.session.held() > 0 && !gives(source) {
                true => source.waits_since.or(Some(now)),
                false => None,
            };
        }
        let full = self.waiting() >= most.saturating_mul(QUEUES);
        if !full || self.untried(now).next().is_none() {
            return None;
        }
        let waiting = self.connected.iter().filter_map(|(id, s)| Some((s.waits_since?, *id)));
        let (since, longest) = waiting.min()?;
        (since + QUEUE_PATIENCE <= now).then_some(longest)
    }

    /// When the next source that has refused something may be asked again.
    pub(super) fn next_ask(&self, now: Instant) -> Option<Instant> {
        let resting = self.connected.values().filter(|source| source.rests());
        resting.map(|source| source.rests_until).filter(|until| *until > now).min()
    }

    /// Ends connections that are not needed; their peers may be tried again at once. Places in queues are kept: they are
    /// hard to come by.
    pub(super) fn release_all(&mut self, now: Instant) {
        let (waiting, idle) = self.connected.drain().partition(|(_, source)| source.waits());
        self.connected = waiting;
        let idle: HashMap<SourceId, Source> = idle;
        for source in idle.into_values() {
            self.ends(source.wasted);
            let power = source.pace.power(now);
            let key = (source.origin.overlay, source.origin.name, source.endpoint);
            self.candidates.insert(key, Candidate { standing: Standing::Fresh, power });
        }
    }

    /// Ends a connection for ever: its peer sent bytes that were wrong.
    pub(super) fn ban(&mut self, id: SourceId) -> Option<Source> {
        let source = self.remove(id)?;
        self.set(&source.origin, source.endpoint, Standing::Banned, None);
        Some(source)
    }

    /// Looks at what comes in vain from those that are connected, and from those that were until `count` says that no more
    /// will come.
    pub(super) fn wasted(&mut self, mut count: impl FnMut(&mut Wasted) -> bool) {
        for source in self.connected.values_mut() {
            count(&mut source.wasted);
        }
        self.ending.retain_mut(count);
    }

    /// The connected peers.
    pub(super) fn connected(&self) -> &HashMap<SourceId, Source> {
        &self.connected
    }

    /// A connected peer.
    pub(super) fn get_mut(&mut self, id: SourceId) -> Option<&mut Source> {
        self.connected.get_mut(&id)
    }

    /// Whether nobody is connected, and nobody is being tried.
    pub(super) fn is_alone(&self) -> bool {
        self.connected.is_empty() && self.connecting == 0
    }

    /// How many peers are known that are neither banned nor the bridge itself.
    pub(super) fn usable(&self) -> usize {
        self.candidates.values().filter(|known| known.standing != Standing::Banned).count()
    }

    /// How many peers were banned.
    pub(super) fn banned(&self) -> usize {
        self.candidates.values().filter(|known| known.standing == Standing::Banned).count()
    }

    /// Sources that bring something, or are being connected.
    fn open(&self) -> usize {
        self.connected.len() - self.waiting() + self.connecting
    }

    /// Sources in whose queues the bridge stands.
    pub(super) fn waiting(&self) -> usize {
        self.connected.values().filter(|source| source.waits()).count()
    }

    fn remove(&mut self, id: SourceId) -> Option<Source> {
        let source = self.connected.remove(&id)?;
        source.gone.cancel();
        self.ends(source.wasted.clone());
        Some(source)
    }

    fn ends(&mut self, wasted: Wasted) {
        if self.ending.len() >= MOST_ENDING {
            self.ending.pop_front();
        }
        self.ending.push_back(wasted);
    }

    fn set(
        &mut self,
        origin: &Origin,
        endpoint: SocketAddr,
        standing: Standing,
        power: Option<f64>,
    ) {
        let key = (origin.overlay.clone(), origin.name, endpoint);
        self.candidates.insert(key, Candidate { standing, power });
    }

    fn failed(&mut self, origin: &Origin, endpoint: SocketAddr, power: Option<f64>, now: Instant) {
        let key = (origin.overlay.clone(), origin.name, endpoint);
        let times = match self.candidates.get(&key).map(|known| known.standing) {
            Some(Standing::Failed { times, .. }) => times.saturating_add(1),
            Some(Standing::Banned) => return,
            _ => 1,
        };
        let wait = FIRST_RETRY.saturating_mul(1 << times.saturating_sub(1).min(16)).min(LAST_RETRY);
        let standing = Standing::Failed { times, until: now + wait };
        self.candidates.insert(key, Candidate { standing, power });
    }
}

#[cfg(test)]
mod tests;
