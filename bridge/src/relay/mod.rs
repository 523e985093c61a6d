//! The relay: it takes part in swarms, and brings peers of one overlay the bytes that peers of another hold.

mod cache;
mod facts;
mod grid;
mod limits;
mod pool;
mod proof;
mod report;
mod spool;
mod swarm;
mod work;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::AtomicU64},
    time::Duration,
};

use p2pbridge_adapters::{ContentReader, Description, Leecher, Library, Seeder};
use p2pbridge_nametable::{Binding, NameTable};
use p2pbridge_proto::{ContentId, Name, OverlayId};
use thiserror::Error;
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    cache::BlockCache,
    pool::{Common, Pool, PoolName},
    proof::Prover,
    spool::Spool,
    swarm::{Around, Role, Swarm},
    work::Work,
};
use crate::{
    handler::MessageHandler,
    routes::Routes,
    status::{alarms::Alarms, chooser::Chooser, meter::Meter},
};

pub use self::{
    limits::Limits,
    proof::{ProofCounts, Proving},
};

/// How long a pool is kept when it serves nobody.
const POOL_IDLE: Duration = Duration::from_secs(120);
/// How often idle pools are looked for.
const SWEEP: Duration = Duration::from_secs(20);
/// Changes of the name table that come together are worked off together.
const SETTLE: Duration = Duration::from_millis(100);
/// Names whose hashes are learned at the same time: each of them costs a whole content.
const MOST_LEARNED: usize = 4;
/// Longest chunk that is relayed: a chunk must fit into memory to be verified.
pub const LONGEST_CHUNK: u64 = 64 << 20;

/// How a binding's description is had.
pub type Describe = Arc<dyn Fn(&Binding) -> Result<Arc<Description>, String> + Send + Sync>;

/// The data faces of an overlay.
#[derive(Clone, Default)]
pub struct DataFaces {
    /// Serves the overlay's peers.
    pub seeder: Option<Arc<dyn Seeder>>,
    /// Downloads from the overlay's peers.
    pub leecher: Option<Arc<dyn Leecher>>,
}

/// What the relay is made of.
pub struct RelayParts<'a> {
    /// The names.
    pub names: Arc<NameTable>,
    /// Their descriptions.
    pub describe: Describe,
    /// What may cross.
    pub routes: Arc<Routes>,
    /// Says which overlay serves best.
    pub chooser: Arc<Chooser>,
    /// The data faces of each overlay.
    pub faces: HashMap<OverlayId, DataFaces>,
    /// The way to the trackers.
    pub handler: Arc<MessageHandler>,
    /// What crosses is counted here.
    pub meter: Arc<Meter>,
    /// What needs an operator's eye goes here.
    pub alarms: Arc<Alarms>,
    /// The spool's folder.
    pub spool: &'a Path,
    /// Bytes that the spool may hold.
    pub spool_bound: u64,
    /// Bounds.
    pub limits: Limits,
    /// How the names of what passes are computed; not at all when absent.
    pub proving: Option<Proving>,
}

/// Why the relay cannot start.
#[derive(Debug, Error)]
pub enum RelayError {
    /// The spool is not to be had.
    #[error("the spool cannot be opened: {0}")]
    Spool(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There is no thread for the names of what passes.
    #[error("no thread can be started that proves names: {0}")]
    Threads(std::io::Error),
}

/// The relay.
pub struct Relay {
    common: Arc<Common>,
    describe: Describe,
    handler: Arc<MessageHandler>,
    faces: HashMap<OverlayId, DataFaces>,
    state: Mutex<State>,
    tasks: TaskTracker,
    stop: CancellationToken,
    dirty: Arc<Notify>,
}

#[derive(Default)]
struct State {
    swarms: BTreeMap<(OverlayId, Name), Member>,
    /// The names by which peers ask: the first 20 bytes of a digest say enough.
    asked: HashMap<(OverlayId, Vec<u8>), Name>,
    pools: Vec<Held>,
}

/// A swarm in which the bridge takes part, and as what.
struct Member {
    swarm: Arc<Swarm>,
    source: bool,
    /// The swarms from which bytes can come; empty when nothing can.
    upstream: BTreeSet<(OverlayId, Name)>,
    stop: CancellationToken,
}

struct Held {
    pool: Pool,
    /// What the pool was made of: it is retired when that changes.
    made_of: BTreeSet<(Name, Vec<OverlayId>)>,
    idle_since: Option<Instant>,
}

/// Bytes of a digest by which peers may ask for a name.
const ASKED: usize = 20;

impl Relay {
    /// Makes a relay; nothing moves before [`Relay::run`].
    ///
    /// # Errors
    /// When the spool cannot be opened.
    pub fn new(parts: RelayParts<'_>) -> Result<Arc<Self>, RelayError> {
        let spool = Spool::open(parts.spool, parts.spool_bound);
        let spool = Arc::new(spool.map_err(|error| RelayError::Spool(Box::new(error)))?);
        let leechers = parts
            .faces
            .iter()
            .filter_map(|(id, faces)| Some((id.clone(), faces.leecher.clone()?)))
            .collect();
        let prover = match parts.proving {
            Some(proving) => Prover::start(proving, parts.names.clone(), spool.clone())
                .map(Some)
                .map_err(RelayError::Threads)?,
            None => None,
        };
        let dirty = Arc::new(Notify::new());
        let wake = dirty.clone();
        parts.names.subscribe(Box::new(move || wake.notify_one()));
        dirty.notify_one();
        Ok(Arc::new(Self {
            common: Arc::new(Common {
                names: parts.names,
                routes: parts.routes,
                chooser: parts.chooser,
                leechers,
                spool,
                cache: BlockCache::new(parts.limits.memory_cache),
                prover,
                meter: parts.meter,
                alarms: parts.alarms,
                limits: parts.limits,
                in_memory: AtomicU64::new(0),
                work: Work::new(),
                learning: Arc::new(Semaphore::new(MOST_LEARNED)),
            }),
            describe: parts.describe,
            handler: parts.handler,
            faces: parts.faces,
            state: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            dirty,
        }))
    }

    /// Follows the name table, and takes part in swarms as it says, until told to stop; then takes leave of them.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.dirty.notified() => {
                    tokio::time::sleep(SETTLE).await;
                    self.refresh();
                }
                _ = sweep.tick() => self.sweep(),
            }
        }
        for member in self.lock().swarms.values() {
            member.stop.cancel();
        }
        for held in self.lock().pools.drain(..) {
            held.pool.retire();
        }
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        let common = self.common.clone();
        let stopped = tokio::task::spawn_blocking(move || {
            common.prover.iter().for_each(Prover::stop);
        });
        if let Err(error) = stopped.await {
            tracing::error!(%error, "the proof by traffic broke down");
        }
    }

    /// What the seeder of an overlay may serve.
    pub fn library(self: &Arc<Self>, overlay: OverlayId) -> Arc<dyn Library> {
        Arc::new(Shelf { relay: Arc::downgrade(self), overlay })
    }

    /// How many bytes of a name's contents have been taken by peers that are served now; `None` when none is.
    pub fn in_use(&self, name: &Name) -> Option<u64> {
        let state = self.lock();
        let has = |held: &&Held| held.made_of.iter().any(|(other, _)| other == name);
        let used = state.pools.iter().filter(has).filter(|held| held.pool.is_used());
        used.map(|held| held.pool.taken()).reduce(u64::saturating_add)
    }

    /// Brings swarms and pools in line with the name table.
    fn refresh(self: &Arc<Self>) {
        let wanted = self.wanted_swarms();
        let mut state = self.lock();
        state.swarms.retain(|key, member| {
            let stays = wanted.contains_key(key);
            if !stays {
                member.stop.cancel();
            }
            stays
        });
        for (key, (binding, source, upstream)) in &wanted {
            let member = state.swarms.entry(key.clone()).or_insert_with(|| self.join(key, binding));
            member.source = *source;
            member.upstream.clone_from(upstream);
        }
        // The links between swarms are made when all of them are there.
        for member in state.swarms.values() {
            let upstream = member.upstream.iter().filter_map(|key| state.swarms.get(key));
            let upstream = upstream.map(|member| member.swarm.clone()).collect();
            member.swarm.set_role(Role { source: member.source, upstream });
        }
        state.asked = wanted
            .iter()
            .filter(|(_, (_, _, upstream))| !upstream.is_empty())
            .flat_map(|((overlay, main), (binding, ..))| {
                binding.names.iter().map(|name| {
                    let asked = name.digest().iter().take(ASKED).copied().collect();
                    ((overlay.clone(), asked), *main)
                })
            })
            .collect();
        state.pools.retain(|held| {
            let stays = held.made_of.iter().all(|(name, overlays)| {
                self.common.names.get(name).is_some_and(|binding| binding.overlays == *overlays)
            }) && held
                .made_of
                .first()
                .is_some_and(|(name, _)| made_of(&self.component(name)) == held.made_of);
            if !stays {
                held.pool.retire();
            }
            stays
        });
    }

    fn join(self: &Arc<Self>, key: &(OverlayId, Name), binding: &Arc<Binding>) -> Member {
        let swarm = Arc::new(Swarm::new(key.0.clone(), binding));
        let stop = self.stop.child_token();
        let (weak, binding) = (Arc::downgrade(self), binding.clone());
        let around = Around {
            handler: self.handler.clone(),
            seeder: self.faces.get(&key.0).and_then(|faces| faces.seeder.clone()),
            held: Box::new(move || weak.upgrade().map_or(0, |relay| relay.held(&binding))),
        };
        self.tasks.spawn(swarm.clone().run(around, stop.clone()));
        Member { swarm, source: false, upstream: BTreeSet::new(), stop }
    }

    /// The swarms in which the bridge has something to do: the binding, whether bytes may be taken from it, and the
    /// swarms from which bytes may come.
    #[allow(clippy::type_complexity, reason = "an inner value, named right where it is used")]
    fn wanted_swarms(
        &self,
    ) -> BTreeMap<(OverlayId, Name), (Arc<Binding>, bool, BTreeSet<(OverlayId, Name)>)> {
        let mut wanted: BTreeMap<(OverlayId, Name), (Arc<Binding>, bool, BTreeSet<_>)> =
            BTreeMap::new();
        let mut after = None;
        loop {
            let (page, next) = self.common.names.list(after.as_ref(), 1_000);
            for binding in page {
                let Some((_, others)) = self.common.names.resolve(&binding.name()) else {
                    continue;
                };
                for other in others.iter().chain([&binding]) {
                    for from in &other.overlays {
                        for to in binding.overlays.iter().filter(|to| *to != from) {
                            if self.common.routes.between(from, to).is_none() {
                                continue;
                            }
                            // Peers of the same name talk to each other: nothing needs to be brought.
                            let same = other.name() == binding.name();
                            if same && self.handler.hands_over(from, to) {
                                continue;
                            }
                            let source = (from.clone(), other.name());
                            let destination = (to.clone(), binding.name());
                            wanted
                                .entry(source.clone())
                                .or_insert_with(|| (other.clone(), false, BTreeSet::new()))
                                .1 = true;
                            wanted
                                .entry(destination)
                                .or_insert_with(|| (binding.clone(), false, BTreeSet::new()))
                                .2
                                .insert(source);
                        }
                    }
                }
            }
            match next {
                Some(next) => after = Some(next),
                None => return wanted,
            }
        }
    }

    /// All bindings that share contents with a name, directly or by others.
    fn component(&self, name: &Name) -> Vec<Arc<Binding>> {
        let mut found: BTreeMap<Name, Arc<Binding>> = BTreeMap::new();
        let mut open = vec![*name];
        while let Some(name) = open.pop() {
            let Some((binding, others)) = self.common.names.resolve(&name) else { continue };
            for binding in others.into_iter().chain([binding]) {
                let main = binding.name();
                if found.insert(main, binding).is_none() {
                    open.push(main);
                }
            }
        }
        found.into_values().collect()
    }

    /// What a peer of an overlay gets when it asks for a name.
    fn open(self: &Arc<Self>, overlay: &OverlayId, asked: &Name) -> Option<Arc<dyn ContentReader>> {
        let mut state = self.lock();
        let digest: Vec<u8> = asked.digest().iter().take(ASKED).copied().collect();
        let main = *state.asked.get(&(overlay.clone(), digest))?;
        let component = self.component(&main);
        let made_of = made_of(&component);
        let at = match state.pools.iter().position(|held| held.made_of == made_of) {
            Some(at) => at,
            None => {
                let pool = self.make_pool(&state, &component)?;
                self.tasks.spawn(pool.clone().run());
                state.pools.push(Held { pool, made_of, idle_since: None });
                state.pools.len() - 1
            }
        };
        let reader = state.pools.get(at)?.pool.reader(overlay, &main)?;
        Some(Arc::new(reader))
    }

    fn make_pool(&self, state: &State, component: &[Arc<Binding>]) -> Option<Pool> {
        let mut names = Vec::new();
        for binding in component {
            match (self.describe)(binding) {
                // Bind refuses private names too; this door stays closed whatever happened there.
                Ok(description) if description.private => {}
                Ok(description) if description.unit > LONGEST_CHUNK => tracing::warn!(
                    name = %binding.name(),
                    unit = description.unit,
                    "a name whose chunks are longer than {LONGEST_CHUNK} bytes is not relayed"
                ),
                Ok(description) => {
                    self.common.alarms.clear(&format!("description {}", binding.name()));
                    names.push(PoolName::new(binding.clone(), description));
                }
                Err(error) => {
                    tracing::error!(name = %binding.name(), %error, "a name's description is lost: bind it again");
                    self.common.alarms.raise(
                        &format!("description {}", binding.name()),
                        format!(
                            "the description of {} is lost ({error}): bind it again",
                            binding.name()
                        ),
                    );
                }
            }
        }
        let mut consumers = Vec::new();
        let mut sources = Vec::new();
        for (number, name) in names.iter().enumerate() {
            for overlay in &name.binding.overlays {
                if let Some(member) = state.swarms.get(&(overlay.clone(), name.binding.name())) {
                    if !member.upstream.is_empty() {
                        consumers.push((number, overlay.clone()));
                    }
                    if member.source {
                        sources.push(member.swarm.clone());
                    }
                }
            }
        }
        match Pool::new(self.common.clone(), names, &consumers, sources, &self.stop) {
            Ok(pool) => Some(pool),
            Err(error) => {
                self.common.alarms.raise("spool", format!("spool: {error}"));
                None
            }
        }
    }

    /// Lets pools go that have served nobody for a while.
    fn sweep(&self) {
        let now = Instant::now();
        self.lock().pools.retain_mut(|held| {
            if held.pool.is_used() {
                held.idle_since = None;
                return true;
            }
            let since = *held.idle_since.get_or_insert(now);
            let stays = now.duration_since(since) < POOL_IDLE;
            if !stays {
                held.pool.retire();
            }
            stays
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn made_of(component: &[Arc<Binding>]) -> BTreeSet<(Name, Vec<OverlayId>)> {
    component.iter().map(|binding| (binding.name(), binding.overlays.clone())).collect()
}

/// What one overlay's peers may be served.
struct Shelf {
    relay: Weak<Relay>,
    overlay: OverlayId,
}

impl Library for Shelf {
    fn open(&self, name: &Name) -> Option<Arc<dyn ContentReader>> {
        self.relay.upgrade()?.open(&self.overlay, name)
    }
}

/// Random text that is unique for ever.
fn random_id() -> String {
    // Without random bytes from the system nothing else would work either; a time is better than a panic.
    ContentId::random()
        .map_or_else(|_| jiff::Timestamp::now().as_nanosecond().to_string(), |id| id.to_string())
}

#[cfg(test)]
mod tests;
