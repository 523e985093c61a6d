//! The task that moves a pool: it plans what to fetch, checks what came, and publishes what is verified.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use p2pbridge_adapters::{SourceError, SourceSession};
use p2pbridge_proto::{Bits, Evidence, OverlayId};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    Origin, Shared,
    check::Checked,
    demand::{Demand, Move},
    lock,
    plan::Want,
    sources::{Source, SourceId, Sources},
};
use crate::{
    relay::{
        grid::Part,
        pool::Consumer,
        swarm::{View, one_changed},
    },
    status::chooser::Way,
};

/// How long connections to sources are kept when nobody wants anything.
const IDLE: Duration = Duration::from_secs(60);
/// How often the plan is made anew when nothing happens.
const TICK: Duration = Duration::from_secs(5);

/// How long what was asked of a source is waited for, when others could bring it sooner.
const LAGGARD: Duration = Duration::from_secs(10);
/// How often laggards are looked for.
const LOOK_FOR_LAGGARDS: Duration = Duration::from_secs(1);

/// What is known of one block.
#[derive(Debug, Clone)]
pub(super) enum State {
    /// Not here.
    Missing,
    /// Asked of a source, for a consumer.
    Fetching { source: SourceId },
    /// In memory, from a source, not yet verified by a name that is served.
    Here { bytes: Bytes, source: SourceId, origin: u16, consumer: usize },
    /// Verified, and kept by the spool (after a restart: to be verified again).
    Stored,
}

/// What a task of the driver's brought.
pub(super) enum Done {
    Opened {
        origin: Origin,
        endpoint: SocketAddr,
        took: Duration,
        result: Result<Arc<dyn SourceSession>, SourceError>,
    },
    Changed {
        source: SourceId,
        watch: Option<watch::Receiver<u64>>,
    },
    Fetched {
        source: SourceId,
        block: usize,
        origin: u16,
        consumer: usize,
        result: Result<Bytes, SourceError>,
    },
    Checked(Checked),
    Recorded,
}

/// What the driver knows of a name's chunks.
pub(super) struct NameState {
    /// Chunks that matched, and whose bytes are still had.
    pub(super) checked: Bits,
    /// Chunks that have matched at some time: the ground of evidence.
    pub(super) matched: Bits,
    /// Chunks that are being checked.
    pub(super) checking: HashSet<u32>,
    /// Chunks whose bytes are here, did not match, and wait for the source's own hashes to tell why.
    pub(super) doubted: HashSet<u32>,
    /// Whether the evidence is still to be raised.
    pub(super) unproven: bool,
}

/// The one that moves a pool.
pub(super) struct Driver {
    pub(super) shared: Arc<Shared>,
    pub(super) blocks: Vec<State>,
    pub(super) names: Vec<NameState>,
    pub(super) sources: Sources,
    pub(super) jobs: JoinSet<Done>,
    /// Blocks that are wanted before all others.
    pub(super) urgent: Vec<Want>,
    /// Source chunks that must come from one source alone, so that a liar is known.
    pub(super) solo: HashSet<(usize, u32)>,
    /// Checks whose bytes were given up while they ran: a bad outcome says nothing of the blocks that are here now.
    pub(super) stale: HashSet<(usize, u32)>,
    /// Whether the spool takes nothing at the moment, and until when it is left alone.
    pub(super) spool_rests: Option<Instant>,
    /// The first chunk of each consumer that is not published: all before it are.
    pub(super) first_open: Vec<u32>,
    /// When the plan is to be made anew, at the latest.
    pub(super) wake_at: Instant,
    /// Bytes that running checks will store.
    pub(super) storing: u64,
    /// Bytes asked for, or in memory and not yet stored.
    pub(super) in_memory: u64,
    /// What the served peers need of the sources.
    pub(super) demand: Demand,
    idle_since: Option<Instant>,
    /// When the swarms are to be looked at again.
    learn_at: Instant,
    look_for_laggards_at: Instant,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        let names = shared.names.iter().map(|name| {
            let chunks = name.binding.layout.chunk_count();
            NameState {
                checked: Bits::none(chunks),
                matched: Bits::none(chunks),
                checking: HashSet::new(),
                doubted: HashSet::new(),
                unproven: name.binding.evidence != Evidence::Verified,
            }
        });
        Self {
            names: names.collect(),
            blocks: shared.grid.blocks().iter().map(|_| State::Missing).collect(),
            sources: Sources::default(),
            jobs: JoinSet::new(),
            urgent: Vec::new(),
            first_open: vec![0; shared.consumers.len()],
            solo: HashSet::new(),
            stale: HashSet::new(),
            spool_rests: None,
            wake_at: now,
            storing: 0,
            in_memory: 0,
            demand: Demand::new(now),
            idle_since: None,
            learn_at: now,
            look_for_laggards_at: now,
            shared,
        }
    }

    pub(super) async fn run(mut self) {
        let shared = self.shared.clone();
        self.adopt_spooled();
        let mut swarms: Vec<_> = shared.sources.iter().map(|swarm| swarm.changes()).collect();
        loop {
            self.wake_at = Instant::now() + TICK;
            if self.learn_at <= Instant::now() {
                self.learn_sources();
            }
            self.plan();
            self.tell();
            tokio::select! {
                () = shared.retired.cancelled() => break,
                () = shared.wake.notified() => {}
                () = sleep_until(self.wake_at) => {}
                () = one_changed(&mut swarms) => self.learn_at = Instant::now(),
                Some(done) = self.jobs.join_next(), if !self.jobs.is_empty() => {
                    self.take(done);
                    // What else is ready is taken before the next plan is made.
                    while let Some(done) = self.jobs.try_join_next() {
                        self.take(done);
                    }
                }
            }
        }
        shared.common.in_memory.fetch_sub(self.in_memory, Ordering::Relaxed);
        lock(&shared.wishes).clear();
    }

    fn take(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let now = Instant::now();
        match done {
            Ok(Done::Opened { origin, endpoint, took, result: Ok(session) }) => {
                let watch = session.changes();
                tracing::debug!(%endpoint, overlay = %origin.overlay, held = session.held(), "a source is connected");
                let source = self.sources.opened(origin, endpoint, session, took, now);
                self.follow(source, watch);
            }
            Ok(Done::Opened { origin, endpoint, result: Err(error), .. }) => {
                tracing::debug!(%endpoint, overlay = %origin.overlay, %error, "a source does not answer");
                self.sources.refused(&origin, endpoint, &error, now);
            }
            Ok(Done::Changed { source, watch: Some(watch) }) => self.follow(source, watch),
            Ok(Done::Changed { source, watch: None }) => self.drop_source(source, "it has left"),
            Ok(Done::Fetched { source, block, origin, consumer, result }) => {
                self.fetched(source, block, origin, consumer, result);
            }
            Ok(Done::Checked(checked)) => self.checked(checked),
            Ok(Done::Recorded) => {}
            Err(error) if error.is_panic() => {
                tracing::error!(%error, "a task of the relay has failed");
                self.shared.retired.cancel();
            }
            Err(_) => {}
        }
    }

    /// Waits for the next change of what a source holds, or for its end.
    fn follow(&mut self, source: SourceId, mut watch: watch::Receiver<u64>) {
        self.jobs.spawn(async move {
            let alive = watch.changed().await.is_ok();
            Done::Changed { source, watch: alive.then_some(watch) }
        });
    }

    fn fetched(
        &mut self,
        source: SourceId,
        block: usize,
        origin: u16,
        consumer: usize,
        result: Result<Bytes, SourceError>,
    ) {
        let length = u64::from(self.shared.grid.blocks()[block].length);
        if let Some(source) = self.sources.get_mut(source) {
            let came = matches!(&result, Ok(bytes) if bytes.len() as u64 == length);
            source.pace.ended(length, came, Instant::now());
        }
        let meter = self.shared.meter(origin, &self.shared.consumers[consumer]);
        let expected =
            matches!(self.blocks[block], State::Fetching { source: from } if from == source);
        match result {
            Ok(bytes) if bytes.len() as u64 == length => {
                if let Some(meter) = &meter {
                    meter.fetched(length);
                }
                if !expected {
                    if let Some(meter) = &meter {
                        meter.rejected(length);
                    }
                    return;
                }
                self.blocks[block] = State::Here { bytes, source, origin, consumer };
                self.check_around(block);
            }
            Ok(_) => {
                self.lose(block, expected);
                self.ban(source, "it sent a block of another length");
            }
            Err(error) => {
                self.lose(block, expected);
                self.drop_source(source, &error.to_string());
            }
        }
    }

    fn lose(&mut self, block: usize, expected: bool) {
        if expected {
            self.forget_memory(self.shared.grid.blocks()[block].length.into());
            self.blocks[block] = State::Missing;
        }
    }

    pub(super) fn remember_memory(&mut self, bytes: u64) {
        self.in_memory += bytes;
        self.shared.common.in_memory.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn forget_memory(&mut self, bytes: u64) {
        self.in_memory = self.in_memory.saturating_sub(bytes);
        self.shared.common.in_memory.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Gives a source up; what was asked of it is asked of others.
    pub(super) fn drop_source(&mut self, id: SourceId, why: &str) {
        if let Some(source) = self.sources.close(id, Instant::now()) {
            tracing::debug!(endpoint = %source.endpoint, overlay = %source.origin.overlay, why, "a source is gone");
            self.reclaim(id);
        }
    }

    /// Gives a source up because others are better.
    fn replace_source(&mut self, id: SourceId, why: &str) {
        if let Some(source) = self.sources.replace(id, Instant::now()) {
            tracing::debug!(endpoint = %source.endpoint, overlay = %source.origin.overlay, why, "a source makes place");
            self.reclaim(id);
        }
    }

    /// Gives a source up for ever.
    pub(super) fn ban(&mut self, id: SourceId, why: &str) {
        if let Some(source) = self.sources.ban(id) {
            tracing::warn!(endpoint = %source.endpoint, overlay = %source.origin.overlay, why, "a source is banned");
            self.reclaim(id);
        }
    }

    fn reclaim(&mut self, id: SourceId) {
        for block in 0..self.blocks.len() {
            if matches!(self.blocks[block], State::Fetching { source } if source == id) {
                self.lose(block, true);
            }
        }
        // A chunk that must come from one source alone begins anew with another.
        for (name, chunk) in self.solo.clone() {
            let parts = self.shared.grid.parts(&self.shared.names[name].binding.layout, chunk);
            let sent: Vec<usize> = parts
                .iter()
                .filter_map(|part| match part {
                    Part::Block(block) => Some(*block),
                    Part::Zeros(_) => None,
                })
                .filter(|block| matches!(self.blocks[*block], State::Here { source, .. } if source == id))
                .collect();
            self.reject(&sent);
        }
    }

    fn learn_sources(&mut self) {
        let shared = self.shared.clone();
        for swarm in &shared.sources {
            let main = swarm.name();
            if let Some(name) = shared.names.iter().position(|name| name.urn() == Some(main)) {
                let origin = Origin { overlay: swarm.overlay().clone(), name };
                let view = swarm.view();
                self.sources.learn(&origin, self.score(&origin, &view), &view.peers);
            }
        }
        self.learn_at = Instant::now() + TICK;
    }

    /// How well an origin's overlay serves, for the consumer for whom it does best.
    fn score(&self, origin: &Origin, view: &View) -> f64 {
        let name = &self.shared.names[origin.name];
        let score = |to_consumer: &Consumer| {
            let (from, to) = (&origin.overlay, &to_consumer.overlay);
            let way = Way { from, to, name: name.binding.name(), class: name.class };
            let score = self.shared.common.chooser.score(way, view.facts(), None);
            // A route that is full now is of no use, however good it is.
            let blocked = self.shared.blocked_until(from, to_consumer, Instant::now()).is_some();
            if score.refusal.is_none() && !blocked { score.total } else { 0.0 }
        };
        self.shared.consumers.iter().map(score).fold(0.0, f64::max)
    }

    /// Opens connections when somebody wants something, and lets them go when nobody has for a while.
    pub(super) fn mind_sources(&mut self, wanting: bool, lonely: bool) {
        let now = Instant::now();
        if wanting {
            self.idle_since = None;
            self.follow_demand(lonely, now);
            if self.sources.is_alone() {
                self.shared.sources.iter().for_each(|swarm| swarm.hurry());
            }
            if let Some(retry) = self.sources.next_retry(now) {
                self.wake_at = self.wake_at.min(retry);
            }
            return;
        }
        let since = *self.idle_since.get_or_insert(now);
        if now.duration_since(since) >= IDLE {
            self.sources.release_all(now);
        }
    }

    /// Adds sources until they can bring what is needed, or lets the weakest go for one that was not tried.
    fn follow_demand(&mut self, lonely: bool, now: Instant) {
        let most = self.shared.common.limits.sources;
        loop {
            match self.demand.next(self.sources.places(most, lonely, now), now) {
                Move::Stay(until) => {
                    self.wake_at = until.map_or(self.wake_at, |until| self.wake_at.min(until));
                    return;
                }
                Move::Add => {
                    let Some((origin, endpoint)) = self.sources.pick(most, lonely, now) else {
                        return;
                    };
                    self.demand.added(now);
                    self.open(origin, endpoint);
                }
                Move::Replace if self.cut_leaving() => self.demand.replaced(true, now),
                Move::Replace => {
                    let Some((id, newest)) = self.sources.weakest(now) else { return };
                    self.demand.replaced(newest, now);
                    if let Some(source) = self.sources.get_mut(id) {
                        source.leaving = true;
                    }
                    self.let_go();
                    return;
                }
            }
        }
    }

    /// Ends connections that were to make place long ago, and still have not brought what they were asked for. Says
    /// whether there were any.
    fn cut_leaving(&mut self) -> bool {
        let connected = self.sources.connected().iter();
        let stuck: Vec<_> = connected.filter(|(_, s)| s.leaving).map(|(id, _)| *id).collect();
        for id in &stuck {
            self.replace_source(*id, "it does not come to an end");
        }
        !stuck.is_empty()
    }

    /// Ends connections that were to make place, and have brought what they were asked for.
    pub(super) fn let_go(&mut self) {
        let done = |source: &Source| source.leaving && source.pace.in_flight() == 0;
        let connected = self.sources.connected().iter();
        let done: Vec<_> = connected.filter(|(_, s)| done(s)).map(|(id, _)| *id).collect();
        for id in done {
            self.replace_source(id, "it is the weakest");
        }
    }

    /// Gives up sources that hold up what others could bring sooner.
    pub(super) fn give_up_laggards(&mut self) {
        let now = Instant::now();
        if self.look_for_laggards_at > now {
            return;
        }
        self.look_for_laggards_at = now + LOOK_FOR_LAGGARDS;
        let connected = self.sources.connected().iter();
        let late = connected.filter(|(_, source)| source.pace.waits(now) >= LAGGARD);
        let late: Vec<SourceId> = late.map(|(id, _)| *id).collect();
        for id in late {
            if self.others_are_sooner(id, now) {
                self.replace_source(id, "others bring sooner what it was asked for");
            }
        }
    }

    /// Whether others hold all that a source was asked for, and would bring it in half the time that it has had.
    fn others_are_sooner(&self, id: SourceId, now: Instant) -> bool {
        let shared = &self.shared;
        let Some(late) = self.sources.connected().get(&id) else { return false };
        let patience = late.pace.waits(now).as_secs_f64() / 2.0;
        let quick = |other: &&Source| {
            !other.leaving
                && other.pace.waits(now) < LAGGARD
                && other.pace.expected(late.pace.in_flight(), other.throughput) <= patience
                && shared.may_stand_in(&other.origin.overlay, &late.origin.overlay)
        };
        let others = self.sources.connected().iter().filter(|(other, _)| **other != id);
        let others: Vec<&Source> = others.map(|(_, source)| source).filter(quick).collect();
        let asked = |(number, state): (usize, &State)| {
            matches!(state, State::Fetching { source } if *source == id).then_some(number)
        };
        self.blocks.iter().enumerate().filter_map(asked).all(|number| {
            let block = &shared.grid.blocks()[number];
            others.iter().any(|other| {
                let chunk = shared.names[other.origin.name].places.chunks(block).next();
                chunk.is_some_and(|chunk| other.session.has(chunk))
            })
        })
    }

    fn open(&mut self, origin: Origin, endpoint: SocketAddr) {
        let description = self.shared.names[origin.name].description.clone();
        let leecher = self.shared.common.leechers.get(&origin.overlay).cloned();
        self.jobs.spawn(async move {
            let start = Instant::now();
            let result = match leecher {
                Some(leecher) => leecher.open(description, endpoint).await,
                None => Err(SourceError::Unreachable("the overlay has no leecher face".into())),
            };
            Done::Opened { origin, endpoint, took: start.elapsed(), result }
        });
    }

    /// Tells the status what is connected.
    fn tell(&self) {
        let mut connected: HashMap<(OverlayId, usize), u32> = HashMap::new();
        for source in self.sources.connected().values() {
            *connected.entry((source.origin.overlay.clone(), source.origin.name)).or_default() += 1;
        }
        *lock(&self.shared.connected) = connected;
    }
}
