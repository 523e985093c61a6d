//! A pool: all names that share contents, their peers on both sides, and the bytes between them.
//!
//! The [`driver`] is the only one that changes the state of blocks. Peers that are served touch just what is in
//! [`Shared`]: they say what they hold, read what was published, and wake the driver.

mod attendee;
mod blame;
mod check;
mod demand;
mod driver;
mod evict;
mod learn;
mod locate;
mod offer;
mod pace;
mod plan;
mod reach;
mod reader;
mod sources;
mod tend;
mod verify;
mod waste;
mod wishes;

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering},
    },
};

use p2pbridge_adapters::{Availability, Description, Leecher};
use p2pbridge_nametable::{Binding, NameTable};
use p2pbridge_proto::{ContentId, Name, OverlayId};
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub(crate) use reader::Reader;

use attendee::Attendee;
use wishes::Wishes;

use super::{
    cache::BlockCache,
    grid::{Grid, Places},
    limits::Limits,
    proof::Prover,
    spool::{Spool, SpoolError, SpooledContent},
    swarm::Swarm,
    work::Work,
};
use crate::{
    routes::Routes,
    status::{
        alarms::Alarms,
        choice::ContentClass,
        chooser::{Chooser, class_of},
        meter::{Meter, TransferKey, TransferMeter},
    },
};

/// What all pools share.
pub(crate) struct Common {
    pub(crate) names: Arc<NameTable>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) chooser: Arc<Chooser>,
    pub(crate) leechers: HashMap<OverlayId, Arc<dyn Leecher>>,
    pub(crate) spool: Arc<Spool>,
    pub(crate) cache: BlockCache,
    /// Computes names of what passes; none when that is not wanted.
    pub(crate) prover: Option<Prover>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) alarms: Arc<Alarms>,
    pub(crate) limits: Limits,
    /// Bytes that all pools have in memory, asked for or not yet stored.
    pub(crate) in_memory: AtomicU64,
    /// What runs off the async threads.
    pub(crate) work: Work,
    /// One permit for each name whose hashes may be learned at the same time.
    pub(crate) learning: Arc<Semaphore>,
}

/// Longest block: small enough to move on quickly, large enough to cost little.
pub(crate) const LONGEST_BLOCK: u32 = 256 << 10;

/// One name in a pool.
pub(crate) struct PoolName {
    pub(crate) binding: Arc<Binding>,
    pub(crate) description: Arc<Description>,
    class: ContentClass,
    places: Places,
}

impl PoolName {
    pub(crate) fn new(binding: Arc<Binding>, description: Arc<Description>) -> Self {
        let places = Places::new(&binding.layout);
        let class = class_of(&binding);
        Self { binding, description, class, places }
    }

    fn urn(&self) -> Option<Name> {
        self.binding.names.first().copied()
    }
}

/// A name as one overlay's peers download it.
pub(crate) struct Consumer {
    pub(crate) name: usize,
    pub(crate) overlay: OverlayId,
    pub(crate) availability: Availability,
    pub(crate) peers: AtomicUsize,
    meters: Mutex<HashMap<u16, Arc<TransferMeter>>>,
}

/// A name in an overlay from which the pool may download.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    overlay: OverlayId,
    name: usize,
}

/// What the driver and the served peers share.
pub(crate) struct Shared {
    pub(crate) common: Arc<Common>,
    pub(crate) names: Vec<PoolName>,
    pub(crate) consumers: Vec<Consumer>,
    pub(crate) sources: Vec<Arc<Swarm>>,
    grid: Grid,
    spooled: HashMap<ContentId, Arc<SpooledContent>>,
    /// Where each block came from: an index into `origins` plus 1, or 0.
    came_from: Vec<AtomicU16>,
    origins: RwLock<Vec<Origin>>,
    attendees: Mutex<HashMap<u64, Attendee>>,
    next_attendee: AtomicU64,
    /// Bytes that served peers have taken.
    taken: AtomicU64,
    /// Chunks that readers wait for.
    wishes: Mutex<Wishes>,
    wake: Notify,
    /// Until when hashes are learned at least, for peers that may come back.
    learns_until: Mutex<Option<Instant>>,
    trouble: Mutex<String>,
    /// Peers of each source swarm from which bytes come now.
    connected: Mutex<HashMap<(OverlayId, usize), u32>>,
    pub(crate) retired: CancellationToken,
}

/// A handle on a pool; the driver runs until it is retired.
#[derive(Clone)]
pub(crate) struct Pool(pub(crate) Arc<Shared>);

impl Pool {
    /// Makes a pool. `consumers` are (number of a name, overlay).
    pub(crate) fn new(
        common: Arc<Common>,
        names: Vec<PoolName>,
        consumers: &[(usize, OverlayId)],
        sources: Vec<Arc<Swarm>>,
        stop: &CancellationToken,
    ) -> Result<Self, SpoolError> {
        let layouts: Vec<_> = names.iter().map(|name| &*name.binding.layout).collect();
        let grid = Grid::new(&layouts, LONGEST_BLOCK);
        let mut spooled = HashMap::new();
        for block in grid.blocks() {
            if let Entry::Vacant(place) = spooled.entry(block.content) {
                place.insert(common.spool.content(block.content)?);
            }
        }
        let consumers = consumers
            .iter()
            .filter_map(|(number, overlay)| {
                let name = names.get(*number)?;
                Some(Consumer {
                    name: *number,
                    overlay: overlay.clone(),
                    availability: Availability::new(name.binding.layout.chunk_count()),
                    peers: AtomicUsize::new(0),
                    meters: Mutex::default(),
                })
            })
            .collect();
        let came_from = grid.blocks().iter().map(|_| AtomicU16::new(0)).collect();
        Ok(Self(Arc::new(Shared {
            common,
            names,
            consumers,
            sources,
            grid,
            spooled,
            came_from,
            origins: RwLock::default(),
            attendees: Mutex::default(),
            next_attendee: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            wishes: Mutex::default(),
            wake: Notify::new(),
            learns_until: Mutex::default(),
            trouble: Mutex::default(),
            connected: Mutex::default(),
            retired: stop.child_token(),
        })))
    }

    /// Runs the pool until it is retired.
    pub(crate) async fn run(self) {
        driver::Driver::new(self.0).run().await;
    }

    /// Ends the pool: its peers are let go, and find the next one when they come back.
    pub(crate) fn retire(&self) {
        self.0.retired.cancel();
    }

    /// Whether a peer is being served, or what it needs is being made.
    pub(crate) fn is_used(&self) -> bool {
        let learns = lock(&self.0.learns_until).is_some_and(|until| until > Instant::now());
        learns || !lock(&self.0.attendees).is_empty()
    }

    /// Chunks of which served peers have taken a part.
    #[cfg(test)]
    pub(crate) fn partly(&self) -> usize {
        lock(&self.0.attendees).values().map(|attendee| attendee.partly.len()).sum()
    }

    /// Bytes that served peers have taken since it was made.
    pub(crate) fn taken(&self) -> u64 {
        self.0.taken.load(Ordering::Relaxed)
    }

    /// Why nothing moves, when something is in the way.
    pub(crate) fn trouble(&self) -> String {
        lock(&self.0.trouble).clone()
    }

    /// Peers of a swarm that the pool downloads from now.
    pub(crate) fn sources_of(&self, overlay: &OverlayId, main: &Name) -> u32 {
        let number = self.0.names.iter().position(|name| name.urn() == Some(*main));
        number
            .and_then(|number| lock(&self.0.connected).get(&(overlay.clone(), number)).copied())
            .unwrap_or(0)
    }

    /// Peers of a swarm that the pool serves now.
    pub(crate) fn served_of(&self, overlay: &OverlayId, main: &Name) -> u32 {
        let of = |consumer: &&Consumer| {
            consumer.overlay == *overlay
                && self.0.names.get(consumer.name).and_then(PoolName::urn) == Some(*main)
        };
        let peers = self.0.consumers.iter().find(of).map_or(0, |c| c.peers.load(Ordering::Relaxed));
        u32::try_from(peers).unwrap_or(u32::MAX)
    }

    /// The way in for a peer of an overlay that asks for a name.
    pub(crate) fn reader(&self, overlay: &OverlayId, main: &Name) -> Option<Reader> {
        let consumer = self.0.consumers.iter().position(|consumer| {
            consumer.overlay == *overlay
                && self.0.names.get(consumer.name).and_then(PoolName::urn) == Some(*main)
        })?;
        Some(Reader::new(self.0.clone(), consumer))
    }
}

impl Shared {
    /// The index of an origin, plus 1.
    fn origin_number(&self, origin: &Origin) -> u16 {
        let find = |origins: &Vec<Origin>| origins.iter().position(|known| known == origin);
        let number = |at: usize| u16::try_from(at + 1).unwrap_or(0);
        if let Some(at) = find(&self.origins.read().unwrap_or_else(PoisonError::into_inner)) {
            return number(at);
        }
        let mut origins = self.origins.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = find(&origins) {
            return number(at);
        }
        origins.push(origin.clone());
        number(origins.len() - 1)
    }

    fn origin(&self, number: u16) -> Option<Origin> {
        let origins = self.origins.read().unwrap_or_else(PoisonError::into_inner);
        origins.get(usize::from(number).checked_sub(1)?).cloned()
    }

    /// Whether bytes from an origin may go to a consumer's overlay.
    fn may_cross(&self, from: &OverlayId, consumer: &Consumer) -> bool {
        *from == consumer.overlay || self.common.routes.between(from, &consumer.overlay).is_some()
    }

    /// From when on the limit of the route lets bytes cross again; `None` when it does now, or there is none.
    fn blocked_until(&self, from: &OverlayId, to: &Consumer, now: Instant) -> Option<Instant> {
        let route = self.common.routes.between(from, &to.overlay)?;
        self.common.routes.get(route)?.blocked_until(now)
    }

    /// Whether bytes from one overlay may go wherever those from another may.
    fn may_stand_in(&self, other: &OverlayId, from: &OverlayId) -> bool {
        other == from
            || self
                .consumers
                .iter()
                .all(|to| self.may_cross(other, to) || !self.may_cross(from, to))
    }

    /// The meter of what crosses from an origin to a consumer; `None` for bytes that do not cross.
    fn meter(&self, origin_number: u16, consumer: &Consumer) -> Option<Arc<TransferMeter>> {
        if let Some(meter) = lock(&consumer.meters).get(&origin_number) {
            return Some(meter.clone());
        }
        let origin = self.origin(origin_number)?;
        let route = self.common.routes.between(&origin.overlay, &consumer.overlay)?;
        let destination = self.names.get(consumer.name)?;
        let meter = self.common.meter.transfer(TransferKey {
            transfer_id: super::random_id(),
            agreement: self.common.routes.get(route)?.agreement.clone(),
            source_overlay: origin.overlay.clone(),
            destination_overlay: consumer.overlay.clone(),
            source_name: self.names.get(origin.name)?.urn()?,
            destination_name: destination.urn()?,
            title: destination.binding.title.clone(),
        });
        lock(&consumer.meters).insert(origin_number, meter.clone());
        Some(meter)
    }

    fn set_trouble(&self, text: impl Into<String>) {
        let text = text.into();
        let mut trouble = lock(&self.trouble);
        if *trouble != text {
            if !text.is_empty() {
                tracing::warn!(trouble = %text, "a transfer does not move");
            }
            *trouble = text;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
