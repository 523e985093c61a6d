//! The whole relay between made-up overlays: trackers, sources and served peers are in memory.

use std::{
    collections::HashMap,
    net::SocketAddr,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use p2pbridge_adapters::{
    ContentReader, Description, FileSpan, Integrity, Learned, Leecher, Mode, ReadError,
    SourceError, SourceSession, TrackerClient, TrackerHealth, TrackerTerms, Waste,
};
use p2pbridge_nametable::{MemoryStore, NameTable, Proposal, ProposedFile, digest::Rules};
use p2pbridge_proto::{Bits, Evidence, Fault, Name, OverlayId, Peer, PeerList, Reply, Request};
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use self::house::{House, Setup, house, house_between, house_with, table};
use super::*;
use crate::{handler::OverlayParts, routes::Route, status::choice::Weights};

const PATIENCE: Duration = Duration::from_secs(20);

fn id(text: &str) -> OverlayId {
    text.parse().unwrap()
}

fn bytes_of(length: usize) -> Bytes {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
}

/// SHA-256 of each chunk.
struct Hashes(Vec<[u8; 32]>);

impl Integrity for Hashes {
    fn check(&self, chunk: u32, bytes: &[Bytes]) -> bool {
        let mut hasher = Sha256::new();
        bytes.iter().for_each(|run| hasher.update(run));
        self.0.get(chunk as usize).is_some_and(|hash| *hash == <[u8; 32]>::from(hasher.finalize()))
    }
}

/// One file, cut into units; `hashed` is what the hashes are of.
fn description(name: u8, unit: u64, hashed: &Bytes) -> Arc<Description> {
    let hashes = hashed.chunks(unit as usize).map(|chunk| Sha256::digest(chunk).into()).collect();
    Arc::new(Description {
        names: vec![Name::btih([name; 20])],
        title: format!("name {name}"),
        length: hashed.len() as u64,
        unit,
        files: vec![FileSpan {
            path: "file".into(),
            offset: 0,
            length: hashed.len() as u64,
            digest: None,
        }],
        private: false,
        trackers: Vec::new(),
        integrity: Arc::new(Hashes(hashes)),
        source: Bytes::new(),
        native: Arc::new(()),
    })
}

fn proposal(description: &Description, overlay: &str) -> Proposal {
    Proposal {
        names: description.names.clone(),
        title: description.title.clone(),
        length: description.length,
        unit: description.unit,
        files: description
            .files
            .iter()
            .map(|file| ProposedFile {
                path: file.path.clone(),
                offset: file.offset,
                length: file.length,
                digest: file.digest,
            })
            .collect(),
        overlays: vec![id(overlay)],
        label: description.title.clone(),
        stated_by: "test".into(),
        description: None,
    }
}

/// A tracker that names these peers.
struct Tracker(Vec<SocketAddr>);

#[async_trait]
impl TrackerClient for Tracker {
    async fn call(&self, _: Request, _: Instant) -> Result<Reply, Fault> {
        Ok(Reply::Peers(PeerList {
            peers: self.0.iter().copied().map(Peer::at).collect(),
            interval: Duration::from_secs(60),
            ..PeerList::default()
        }))
    }

    fn health(&self) -> Vec<TrackerHealth> {
        Vec::new()
    }
}

/// Peers by port: what each of them sends.
struct Peers {
    by_port: HashMap<u16, Bytes>,
    sent: Arc<AtomicU64>,
    /// A peer that leaves after its first block.
    fickle: Option<u16>,
}

struct Session {
    bytes: Bytes,
    sent: Arc<AtomicU64>,
    leaves: bool,
    left: AtomicBool,
    changes: Mutex<Option<watch::Sender<u64>>>,
    watch: watch::Receiver<u64>,
}

#[async_trait]
impl Leecher for Peers {
    async fn open(
        &self,
        _: Arc<Description>,
        peer: SocketAddr,
    ) -> Result<Arc<dyn SourceSession>, SourceError> {
        let bytes = self.by_port.get(&peer.port()).cloned();
        let bytes = bytes.ok_or_else(|| SourceError::Unreachable("nobody there".into()))?;
        let (sender, watch) = watch::channel(0);
        Ok(Arc::new(Session {
            bytes,
            sent: self.sent.clone(),
            leaves: self.fickle == Some(peer.port()),
            left: AtomicBool::new(false),
            changes: Mutex::new(Some(sender)),
            watch,
        }))
    }
}

#[async_trait]
impl SourceSession for Session {
    fn has(&self, _: u32) -> bool {
        !self.left.load(Ordering::SeqCst)
    }

    fn held(&self) -> u32 {
        1
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.watch.clone()
    }

    async fn fetch(&self, range: Range<u64>) -> Result<Bytes, SourceError> {
        if self.left.load(Ordering::SeqCst) {
            return Err(SourceError::Closed("it has left".into()));
        }
        if self.leaves {
            self.left.store(true, Ordering::SeqCst);
            self.changes.lock().unwrap().take();
        }
        self.sent.fetch_add(range.end - range.start, Ordering::SeqCst);
        Ok(self.bytes.slice(range.start as usize..range.end as usize))
    }
}

/// What there is within [`PATIENCE`].
async fn soon<T>(look: impl Fn() -> Option<T>) -> T {
    let found = async {
        loop {
            match look() {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    };
    timeout(PATIENCE, found).await.expect("it comes")
}

/// Waits until something is true, no longer than [`PATIENCE`].
async fn until(is_true: impl Fn() -> bool) {
    soon(|| is_true().then_some(())).await;
}

#[tokio::test]
async fn all_bytes_cross_once_and_prove_the_binding() {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes_of(5_000_001);
    for (unit_a, unit_b) in [(1 << 16, 300_000), (300_000, 1 << 16), (1 << 23, 7_001)] {
        let (a, b) = (description(1, unit_a, &content), description(2, unit_b, &content));
        let spool = folder.path().join(format!("{unit_a}"));
        let setup = Setup {
            a: &a,
            b: &b,
            peers: vec![(1, content.clone()), (2, content.clone())],
            fickle: None,
            folder: &spool,
            table: table(),
            spool_bound: 1 << 30,
        };
        let house = house(setup).await;
        assert!(house.download(&b).await == content);
        assert_eq!(house.sent.load(Ordering::SeqCst), content.len() as u64);
        let (crossing, all) = (&house.meter.crossings()[0], content.len() as u64);
        assert_eq!((crossing.fetched_bytes, crossing.verified_bytes), (all, all));
        assert_eq!((crossing.served_bytes, crossing.rejected_bytes), (all, 0));
        let proven = async {
            while house.table.get(&b.names[0]).unwrap().evidence != Evidence::Verified {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, proven).await.expect("the binding is verified");
        house.end().await;
    }
}

#[tokio::test]
async fn a_source_that_vanishes_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes_of(3_000_000);
    let (a, b) = (description(1, 1 << 16, &content), description(2, 1 << 17, &content));
    let setup = Setup {
        a: &a,
        b: &b,
        peers: vec![(1, content.clone()), (2, content.clone())],
        fickle: Some(1),
        folder: folder.path(),
        table: table(),
        spool_bound: 1 << 30,
    };
    let house = house(setup).await;
    assert!(house.download(&b).await == content);
    house.end().await;
}

#[tokio::test]
async fn a_false_binding_is_quarantined() {
    let folder = tempfile::tempdir().unwrap();
    let (content, other) = (bytes_of(1_000_000), Bytes::from(vec![9; 1_000_000]));
    for (unit_a, unit_b) in [(1 << 16, 1 << 18), (1 << 18, 1 << 16)] {
        let (a, b) = (description(1, unit_a, &content), description(2, unit_b, &other));
        let spool = folder.path().join(format!("{unit_a}"));
        let setup = Setup {
            a: &a,
            b: &b,
            peers: vec![(1, content.clone())],
            fickle: None,
            folder: &spool,
            table: table(),
            spool_bound: 1 << 30,
        };
        let house = house(setup).await;
        let reader = house.reader(&b.names[0]).await;
        let peer = reader.attend(SocketAddr::from(([127, 0, 0, 1], 1)));
        peer.holds(Bits::none(reader.availability().snapshot().0.len()));
        timeout(PATIENCE, reader.retired().cancelled()).await.expect("the pool ends");
        assert!(reader.availability().snapshot().0.is_empty(), "unverified bytes were announced");
        assert!(house.table.get(&b.names[0]).is_none());
        assert_eq!(house.table.quarantined().len(), 1);
        house.end().await;
    }
}

#[tokio::test]
async fn the_spool_is_of_use_again_after_a_restart_unless_it_was_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes_of(2_500_000);
    let (a, b) = (description(1, 1 << 16, &content), description(2, 1 << 18, &content));
    let table = table();
    let setup = |peers: Vec<(u16, Bytes)>| Setup {
        a: &a,
        b: &b,
        peers,
        fickle: None,
        folder: folder.path(),
        table: table.clone(),
        spool_bound: 1 << 30,
    };
    let first = house(setup(vec![(1, content.clone())])).await;
    assert!(first.download(&b).await == content);
    first.end().await;

    let second = house(setup(Vec::new())).await;
    assert!(second.download(&b).await == content);
    let crossing = &second.meter.crossings()[0];
    assert_eq!((crossing.fetched_bytes, crossing.served_bytes), (0, content.len() as u64));
    second.end().await;

    let segment = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let segment = segment.join("00000000.seg");
    let mut damaged = std::fs::read(&segment).unwrap();
    damaged[700_000] ^= 1;
    std::fs::write(&segment, damaged).unwrap();
    let third = house(setup(vec![(1, content.clone())])).await;
    assert!(third.download(&b).await == content);
    let again = third.sent.load(Ordering::SeqCst);
    assert!(again > 0 && again <= 2 << 18, "{again} bytes were fetched again");
    third.end().await;
}

mod chosen;
mod house;
mod learn;
mod power;
mod proof;
mod pull;
mod queues;
mod ways;
