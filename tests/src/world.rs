//! Two swarms of the same bytes, each with its tracker.

use std::path::{Path, PathBuf};

use crate::{Make, Scene, Torrent, Tracker, TrackerKind, What, free_port};

/// What one side of a [`World`] is to be.
#[derive(Clone, Debug)]
pub struct Side {
    source: PathBuf,
    name: String,
    make: Make,
    kind: TrackerKind,
}

impl Side {
    /// The file or folder `source`, called `name` in this swarm's torrent.
    #[must_use]
    pub fn new(source: &Path, name: &str, make: Make, kind: TrackerKind) -> Self {
        Self { source: source.to_owned(), name: name.to_owned(), make, kind }
    }

    /// Makes its torrent, and starts its tracker.
    pub async fn raise(self, scene: &Scene, id: &str) -> Place {
        let port = free_port();
        let out = scene.file(&format!("{id}.torrent"));
        let torrent =
            Torrent::make(self.make, &self.source, &self.name, &self.kind.url(port), &out).await;
        let tracker = Tracker::start(scene, self.kind, port, &torrent.tracker_hashes()).await;
        Place { id: id.to_owned(), torrent, tracker }
    }
}

/// One side.
#[derive(Debug)]
pub struct Place {
    /// The overlay's id: `a` or `b`.
    pub id: String,
    /// Its torrent.
    pub torrent: Torrent,
    /// Its tracker.
    pub tracker: Tracker,
}

impl Place {
    /// What a client of this side is given.
    #[must_use]
    pub fn what(&self) -> What {
        What::from(&self.torrent)
    }

    /// By which its tracker knows the swarm.
    #[must_use]
    pub fn hash(&self) -> [u8; 20] {
        self.torrent.tracker_hash()
    }

    /// The overlay and the torrent.
    #[must_use]
    pub fn flow(&self) -> (&str, &Torrent) {
        (&self.id, &self.torrent)
    }

    /// Waits until its tracker counts a seeder.
    pub async fn has_seeder(&self) {
        self.tracker.counts(&self.hash(), 1, 0, 20).await;
    }
}

/// Swarm A and swarm B, their trackers running, nobody in them.
#[derive(Debug)]
pub struct World {
    /// Where the content is.
    pub a: Place,
    /// Where it is wanted.
    pub b: Place,
}

impl World {
    /// Makes both torrents and starts both trackers.
    pub async fn new(scene: &Scene, a: Side, b: Side) -> Self {
        Self { a: a.raise(scene, "a").await, b: b.raise(scene, "b").await }
    }

    /// A has 256 KiB pieces on opentracker, B has 1 MiB pieces and the name `b.bin` on bittorrent-tracker, both by HTTP.
    pub async fn plain(scene: &Scene, source: &Path) -> Self {
        let name = source.file_name().and_then(|name| name.to_str()).expect("a plain name");
        Self::new(
            scene,
            Side::new(source, name, Make::V1(18), TrackerKind::OpenHttp),
            Side::new(source, "b.bin", Make::V1(20), TrackerKind::NpmHttp),
        )
        .await
    }
}

/// Two trackers whose ports are known before they run, for scenarios with several torrents.
#[derive(Clone, Copy, Debug)]
pub struct Trackers {
    a: (TrackerKind, u16),
    b: (TrackerKind, u16),
}

impl Trackers {
    /// Takes two ports.
    #[must_use]
    pub fn reserve(a: TrackerKind, b: TrackerKind) -> Self {
        Self { a: (a, free_port()), b: (b, free_port()) }
    }

    /// Makes a torrent for A with pieces of 2^`power` bytes.
    pub async fn a(&self, scene: &Scene, source: &Path, name: &str, power: u32) -> Torrent {
        make(scene, "a", self.a, source, name, power).await
    }

    /// Makes a torrent for B with pieces of 2^`power` bytes.
    pub async fn b(&self, scene: &Scene, source: &Path, name: &str, power: u32) -> Torrent {
        make(scene, "b", self.b, source, name, power).await
    }

    /// Starts both, each knowing its torrents.
    pub async fn start(&self, scene: &Scene, a: &[&Torrent], b: &[&Torrent]) -> (Tracker, Tracker) {
        let hashes = |torrents: &[&Torrent]| -> Vec<[u8; 20]> {
            torrents.iter().map(|torrent| torrent.v1).collect()
        };
        (
            Tracker::start(scene, self.a.0, self.a.1, &hashes(a)).await,
            Tracker::start(scene, self.b.0, self.b.1, &hashes(b)).await,
        )
    }
}

async fn make(
    scene: &Scene,
    id: &str,
    at: (TrackerKind, u16),
    source: &Path,
    name: &str,
    power: u32,
) -> Torrent {
    let out = scene.file(&format!("{id}-{name}.torrent"));
    Torrent::make(Make::V1(power), source, name, &at.0.url(at.1), &out).await
}

/// Mebibytes in bytes.
#[must_use]
pub const fn mib(count: u64) -> u64 {
    count * 1024 * 1024
}
