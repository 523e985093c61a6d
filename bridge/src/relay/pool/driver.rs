//! The task that moves a pool: it plans what to fetch, checks what came, and publishes what is verified.

use std::{
    collections::{HashMap, HashSet, VecDeque},
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
    demand::Demand,
    learn::{Learning, Taught},
    locate::Located,
    lock,
    plan::{Chunk, Want},
    reach::Reach,
    sources::{SourceId, Sources},
};
use crate::relay::{grid::Part, swarm::one_changed};

/// How often the plan is made anew when nothing happens.
pub(super) const TICK: Duration = Duration::from_secs(5);

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
    Taught(Taught),
    Located(Located),
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
    /// Whether chunks can be checked.
    pub(super) known: bool,
    /// When a source of this name was first connected: from then on there is some time to tell its hashes.
    pub(super) asked_since: Option<Instant>,
    /// Chunks that were given to it, so that its hashes become known.
    pub(super) taught: Bits,
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
    /// Chunks about which sources are asked who lied, and those who have sent them.
    pub(super) suspected: HashMap<Chunk, HashSet<SourceId>>,
    /// Checks whose bytes were given up while they ran: a bad outcome says nothing of the blocks that are here now.
    pub(super) stale: HashSet<(usize, u32)>,
    /// Whether the spool takes nothing at the moment, and until when it is left alone.
    pub(super) spool_rests: Option<Instant>,
    /// The first chunk of each consumer that is not published: all before it are.
    pub(super) first_open: Vec<u32>,
    /// What somebody holds behind what nobody holds.
    pub(super) reach: Reach,
    /// When the plan is to be made anew, at the latest.
    pub(super) wake_at: Instant,
    /// Bytes that running checks will store.
    pub(super) storing: u64,
    /// Bytes that running checks read from the spool, and chunks that wait until they may be read.
    pub(super) reading: u64,
    pub(super) waiting: HashSet<(usize, u32)>,
    pub(super) waiting_order: VecDeque<(usize, u32)>,
    /// Chunks that have matched, and that the spool did not take.
    pub(super) unstored: HashSet<(usize, u32)>,
    /// Chunks that were fetched again since they contradict other names: the second time the binding is false.
    pub(super) retried: HashSet<(usize, u32)>,
    /// Consumers whose hashes are being learned, and until when, if nothing comes.
    pub(super) learn_until: HashMap<usize, Learning>,
    /// Consumers for which nothing came while they were learned, and until when they make place for others.
    pub(super) learn_rests: HashMap<usize, Instant>,
    /// When memory may be looked for again.
    pub(super) shed_at: Instant,
    /// Bytes asked for, or in memory and not yet stored.
    pub(super) in_memory: u64,
    /// What the served peers need of the sources.
    pub(super) demand: Demand,
    pub(super) idle_since: Option<Instant>,
    /// From when on trackers are asked for those who hold what nobody holds here.
    pub(super) seek_at: Instant,
    /// When the swarms are to be looked at again.
    pub(super) learn_at: Instant,
    pub(super) look_for_laggards_at: Instant,
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
                known: name.description.integrity.is_known(),
                asked_since: None,
                taught: Bits::none(chunks),
            }
        });
        Self {
            names: names.collect(),
            blocks: shared.grid.blocks().iter().map(|_| State::Missing).collect(),
            sources: Sources::default(),
            jobs: JoinSet::new(),
            urgent: Vec::new(),
            first_open: vec![0; shared.consumers.len()],
            reach: Reach::default(),
            solo: HashSet::new(),
            suspected: HashMap::new(),
            stale: HashSet::new(),
            spool_rests: None,
            wake_at: now,
            storing: 0,
            reading: 0,
            waiting: HashSet::new(),
            waiting_order: VecDeque::new(),
            unstored: HashSet::new(),
            retried: HashSet::new(),
            learn_until: HashMap::new(),
            learn_rests: HashMap::new(),
            shed_at: now,
            in_memory: 0,
            demand: Demand::new(now),
            idle_since: None,
            seek_at: now,
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
            self.count_waste();
            self.notice_known();
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
        // What has come and was not looked at is not kept.
        while let Some(done) = self.jobs.try_join_next() {
            if let Ok(Done::Fetched { origin, consumer, result: Ok(bytes), .. }) = done {
                self.count_refused(origin, consumer, &bytes);
            }
        }
        self.count_waste();
        shared.common.in_memory.fetch_sub(self.in_memory, Ordering::Relaxed);
        lock(&shared.wishes).clear();
    }

    fn take(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let now = Instant::now();
        match done {
            Ok(Done::Opened { origin, endpoint, took, result: Ok(session) }) => {
                let watch = session.changes();
                tracing::debug!(%endpoint, overlay = %origin.overlay, held = session.held(), "a source is connected");
                self.names[origin.name].asked_since.get_or_insert(now);
                let source = self.sources.opened(origin, endpoint, session, took, now);
                self.look_for_laggards_at = now;
                self.follow(source, watch);
            }
            Ok(Done::Opened { origin, endpoint, result: Err(error), .. }) => {
                tracing::debug!(%endpoint, overlay = %origin.overlay, %error, "a source does not answer");
                self.sources.refused(&origin, endpoint, &error, now);
            }
            Ok(Done::Changed { source, watch: Some(watch) }) => {
                self.look_for_laggards_at = now;
                self.follow(source, watch);
            }
            Ok(Done::Changed { source, watch: None }) => self.drop_source(source, "it has left"),
            Ok(Done::Fetched { source, block, origin, consumer, result }) => {
                self.fetched(source, block, origin, consumer, result);
            }
            Ok(Done::Checked(checked)) => self.checked(checked),
            Ok(Done::Taught(taught)) => self.taught(taught),
            Ok(Done::Located(located)) => self.located(located),
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
            if came {
                source.gave();
            }
        }
        let expected =
            matches!(self.blocks[block], State::Fetching { source: from } if from == source);
        match result {
            Ok(bytes) if bytes.len() as u64 == length => {
                if !expected {
                    self.count_refused(origin, consumer, &bytes);
                    return;
                }
                if let Some(meter) = self.shared.meter(origin, &self.shared.consumers[consumer]) {
                    meter.fetched(length);
                }
                self.blocks[block] = State::Here { bytes, source, origin, consumer };
                self.learn_on();
                self.check_around(block);
            }
            Ok(bytes) => {
                self.count_refused(origin, consumer, &bytes);
                self.lose(block, expected);
                self.ban(source, "it sent a block of another length");
            }
            // It may give it later: its queue, or what it holds, has changed.
            Err(SourceError::Refused(_)) => {
                self.lose(block, expected);
                let known = self.sources.get_mut(source);
                match known.map(|known| known.refused(Instant::now())) {
                    Some(Some(again)) => self.wake_at = self.wake_at.min(again),
                    Some(None) => self.drop_source(source, "it refuses what it says it holds"),
                    None => {}
                }
            }
            Err(error) => {
                self.lose(block, expected);
                self.drop_source(source, &error.to_string());
            }
        }
    }

    /// Counts what a fetch gave and nobody takes.
    fn count_refused(&self, origin: u16, consumer: usize, bytes: &Bytes) {
        if let Some(meter) = self.shared.meter(origin, &self.shared.consumers[consumer]) {
            meter.fetched(bytes.len() as u64);
            meter.rejected(bytes.len() as u64);
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
    pub(super) fn replace_source(&mut self, id: SourceId, why: &str) {
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

    /// Tells the status what is connected.
    fn tell(&self) {
        let mut connected: HashMap<(OverlayId, usize), u32> = HashMap::new();
        for source in self.sources.connected().values() {
            *connected.entry((source.origin.overlay.clone(), source.origin.name)).or_default() += 1;
        }
        *lock(&self.shared.connected) = connected;
    }
}
