//! The prover with a spool and a name table of its own, and no relay.

use std::{collections::BTreeSet, time::Instant};

use p2pbridge_nametable::{
    MemoryStore, NameEventKind, Proposal, ProposedFile, Statement, digest::Gather,
};
use p2pbridge_proto::{Name, OverlayId};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::relay::spool::SEGMENT;

/// Bytes that are offered at once.
const STEP: usize = 40_000;

const ROOMY: Bounds =
    Bounds { contents: 8, queue: 64 << 20, memory: 64 << 20, batch: 1 << 20, hold: 64 << 20 };

/// One content, bound by two names, and what is to prove it.
struct Scene {
    _folder: tempfile::TempDir,
    spool: Arc<Spool>,
    names: Arc<NameTable>,
    prover: Prover,
    bytes: Bytes,
    content: ContentId,
}

fn urn(number: u8) -> Name {
    Name::btih([number; 20])
}

fn place(number: u8) -> Place {
    Place { name: urn(number), offset: 0 }
}

fn bytes_of(length: usize) -> Bytes {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
}

fn proposal(number: u8, length: u64) -> Proposal {
    Proposal {
        names: vec![urn(number)],
        title: "folder".into(),
        length,
        unit: 1 << 16,
        files: vec![ProposedFile { path: "a/file".into(), offset: 0, length, digest: None }],
        overlays: Vec::new(),
        label: "x".into(),
        stated_by: "test".into(),
        description: None,
    }
}

/// The names of bytes, by every rule.
fn names_of(bytes: &[u8]) -> BTreeSet<Name> {
    let mut gather = Gather::new(bytes.len() as u64, Rules::all());
    gather.add(0, bytes);
    let digests = gather.finish(&mut |_, _| Err(std::io::ErrorKind::Other.into())).unwrap();
    digests.names.iter().map(|computed| computed.name).collect()
}

fn until(what: &str, is: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

impl Scene {
    fn new(length: usize, bounds: Bounds) -> Self {
        Self::on(Arc::new(MemoryStore::new()), length, bounds)
    }

    fn on(store: Arc<MemoryStore>, length: usize, bounds: Bounds) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let spool = Arc::new(Spool::open(folder.path(), 1 << 30).unwrap());
        let names = Arc::new(NameTable::open(Box::new(Shared(store))).unwrap());
        let proposals = [proposal(1, length as u64), proposal(2, length as u64)];
        let content = names.bind(&proposals).unwrap()[0].files[0].content;
        let proving = Proving { rules: Rules::all(), threads: 2 };
        let rest = Duration::from_millis(5);
        let prover = Prover::with_bounds(proving, names.clone(), spool.clone(), bounds, rest);
        let prover = prover.unwrap();
        Self { _folder: folder, spool, names, prover, bytes: bytes_of(length), content }
    }

    /// Offers a part as the relay does: the spool has it by then.
    fn offer(&self, by: u8, start: usize, end: usize) {
        let part = self.store(start, end);
        self.offer_as(by, start, part, true);
    }

    fn store(&self, start: usize, end: usize) -> Bytes {
        let part = self.bytes.slice(start..end.min(self.bytes.len()));
        let origin: OverlayId = "a".parse().unwrap();
        self.spool.content(self.content).unwrap().write(start as u64, &part, &origin).unwrap();
        part
    }

    fn offer_as(&self, by: u8, start: usize, bytes: Bytes, spooled: bool) {
        let run = Verified { offset: start as u64, bytes, spooled };
        self.prover.offer(self.content, self.bytes.len() as u64, place(by), [run]);
    }

    fn offer_all(&self, by: u8) {
        (0..self.bytes.len()).step_by(STEP).for_each(|at| self.offer(by, at, at + STEP));
    }

    /// Verified names of the content.
    fn verified(&self) -> BTreeSet<Name> {
        let known = self.names.content(&self.content).map(|content| content.names);
        let verified = |known: &p2pbridge_nametable::Known| known.evidence == Evidence::Verified;
        known.into_iter().flatten().filter(verified).map(|known| known.name).collect()
    }

    fn wait_for(&self, proven: u64) {
        until("a proof", || self.prover.counts().proven >= proven);
    }

    fn settled(&self) {
        until("all that was offered being hashed", || self.prover.counts().queued == 0);
    }
}

/// A store that the test has a hand on.
struct Shared(Arc<MemoryStore>);

impl p2pbridge_nametable::NameStore for Shared {
    fn load(
        &self,
        each: &mut dyn FnMut(p2pbridge_nametable::Record),
    ) -> Result<p2pbridge_nametable::Cursor, p2pbridge_nametable::StoreError> {
        self.0.load(each)
    }

    fn write(
        &self,
        batch: &[p2pbridge_nametable::Change],
    ) -> Result<p2pbridge_nametable::Cursor, p2pbridge_nametable::StoreError> {
        self.0.write(batch)
    }
}

#[test]
fn when_all_bytes_have_passed_all_names_are_verified() {
    let scene = Scene::new(1_200_000, ROOMY);
    scene.offer_all(2);
    scene.wait_for(1);
    assert_eq!(scene.verified(), names_of(&scene.bytes));
    let known = scene.names.content(&scene.content).unwrap();
    let sha256 = Name::new(p2pbridge_proto::Scheme::Sha256, &Sha256::digest(&scene.bytes)).unwrap();
    let by = &known.known(&sha256).unwrap().stated_by;
    assert_eq!(**by, *format!("relay: bytes verified by {}", urn(2)));
    assert_eq!((known.title.as_str(), known.length), ("file", Some(1_200_000)));
    // What is proven is not hashed again, now or after a restart.
    scene.offer(1, 0, STEP);
    assert_eq!(scene.prover.counts().open, 0);
    let proving = Proving { rules: Rules::all(), threads: 1 };
    let again = Prover::start(proving, scene.names.clone(), scene.spool.clone()).unwrap();
    let run = Verified { offset: 0, bytes: scene.bytes.slice(..STEP), spooled: true };
    again.offer(scene.content, 1_200_000, place(2), [run]);
    assert_eq!(again.counts(), ProofCounts::default());
    again.stop();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// In any order, with overlaps, repetitions and damage to the queue: little room for waiting bytes, for memory, or none.
    #[test]
    fn the_order_does_not_matter(
        length in 1usize..600_000,
        runs in prop::collection::vec((0usize..600_000, 1usize..90_000), 0..12),
        order in any::<prop::sample::Index>(),
        queue in prop::sample::select(vec![0u64, 50_000, 64 << 20]),
        memory in prop::sample::select(vec![10_000u64, 30_000, 64 << 20]),
        hold in prop::sample::select(vec![0u64, 100_000, 64 << 20]),
    ) {
        let scene = Scene::new(length, Bounds { contents: 8, queue, memory, batch: 70_000, hold });
        let mut starts: Vec<usize> = (0..length).step_by(STEP).collect();
        let turn = order.index(starts.len());
        starts.rotate_left(turn);
        starts.chunks_mut(3).for_each(<[usize]>::reverse);
        for (start, length) in runs {
            let end = (start + length).min(scene.bytes.len());
            if start < end {
                scene.offer(1, start, end);
            }
        }
        starts.iter().for_each(|start| scene.offer(1, *start, start + STEP));
        scene.wait_for(1);
        prop_assert_eq!(scene.verified(), names_of(&scene.bytes));
        prop_assert_eq!(scene.prover.counts().queued, 0);
    }
}

#[test]
fn what_the_spool_lost_costs_the_names_that_need_it_until_it_comes_again() {
    let bounds = Bounds { hold: 0, ..ROOMY };
    let length = SEGMENT as usize + 3_000_000;
    let scene = Scene::new(length, bounds);
    let gap = 10_000_000..10_000_000 + STEP;
    for at in (0..length).step_by(STEP).filter(|at| !gap.contains(at)) {
        scene.offer(1, at, at + STEP);
    }
    scene.settled();
    until("the hashes being back", || lock(&scene.prover.inner.desk).is_idle());
    // Flat hashes have stopped at the gap; what is behind it in the first segment goes.
    let spooled = scene.spool.content(scene.content).unwrap();
    spooled.evict(0).unwrap();
    scene.offer_as(1, gap.start, scene.bytes.slice(gap.clone()), false);
    until("a proof in part", || scene.prover.counts().in_part == 1);
    let (all, some) = (names_of(&scene.bytes), scene.verified());
    assert!(some.is_subset(&all) && some.len() < all.len());
    let lacks = |scheme| some.iter().all(|name| name.scheme() != scheme);
    use p2pbridge_proto::Scheme;
    assert!(lacks(Scheme::Sha1) && lacks(Scheme::Sha256) && lacks(Scheme::Ed2k));
    assert!(!lacks(Scheme::Tth) && !lacks(Scheme::PiecesRoot) && !lacks(Scheme::CidDagPb));
    scene.offer_all(1);
    scene.wait_for(1);
    assert_eq!(scene.verified(), all);
}

#[test]
fn bytes_that_the_spool_gives_back_otherwise_prove_nothing() {
    let scene = Scene::new(100_000, Bounds { queue: 0, ..ROOMY });
    scene.offer(1, 0, 50_000);
    let folder = scene._folder.path().join(scene.content.to_string());
    let path = folder.join("00000000.seg");
    until("the first part being hashed", || lock(&scene.prover.inner.desk).is_idle());
    let mut damaged = scene.store(50_000, 100_000);
    damaged = [&damaged[..7], &[damaged[7] ^ 1], &damaged[8..]].concat().into();
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &damaged, 50_000).unwrap();
    scene.offer(1, 50_000, 100_000);
    until("the damage being seen", || lock(&scene.prover.inner.desk).is_idle());
    assert!(scene.verified().is_empty());
    std::os::unix::fs::FileExt::write_all_at(&file, &scene.bytes[50_000..], 50_000).unwrap();
    scene.offer(1, 50_000, 100_000);
    scene.wait_for(1);
    assert_eq!(scene.verified(), names_of(&scene.bytes));
}

#[test]
fn bytes_that_two_names_verified_are_not_mixed() {
    let scene = Scene::new(400_000, ROOMY);
    let lie = Bytes::from(vec![9; 200_000]);
    scene.offer_as(1, 0, lie, false);
    scene.offer(2, 200_000, 400_000);
    scene.settled();
    assert_eq!(scene.prover.counts().proven, 0);
    scene.offer(2, 0, 200_000);
    scene.wait_for(1);
    assert_eq!(scene.verified(), names_of(&scene.bytes));
}

#[test]
fn parts_of_very_many_contents_cost_little_and_are_given_up() {
    let scene = Scene::new(200_000, Bounds { memory: 1 << 20, ..ROOMY });
    for number in 0..100 {
        let run = Verified { offset: 0, bytes: scene.bytes.slice(..STEP), spooled: false };
        let content = ContentId::from_bytes([number; 16]);
        scene.prover.offer(content, 200_000, place(1), [run]);
        assert!(scene.prover.counts().open <= 8);
    }
    assert_eq!(scene.prover.counts().given_up, 92);
    scene.offer_all(1);
    scene.wait_for(1);
    assert_eq!(scene.verified(), names_of(&scene.bytes));
}

#[test]
fn what_is_too_long_is_given_up_at_once() {
    let scene = Scene::new(100, Bounds { memory: 1_000, ..ROOMY });
    let run = || Verified { offset: 0, bytes: scene.bytes.clone(), spooled: true };
    scene.prover.offer(scene.content, 3 << 20, place(1), [run()]);
    scene.prover.offer(scene.content, 3 << 20, place(1), [run()]);
    let counts = scene.prover.counts();
    assert_eq!((counts.open, counts.given_up), (0, 1));
}

#[test]
fn at_a_multiple_of_a_part_both_ed2k_names_are_verified() {
    let scene = Scene::new(9_728_000, ROOMY);
    scene.offer_all(1);
    scene.wait_for(1);
    assert_eq!(scene.verified(), names_of(&scene.bytes));
    let of_ed2k = |name: &&Name| name.scheme() == p2pbridge_proto::Scheme::Ed2k;
    assert_eq!(scene.verified().iter().filter(of_ed2k).count(), 2);
}

#[test]
fn a_statement_that_the_store_does_not_take_is_made_again() {
    let store = Arc::new(MemoryStore::new());
    let scene = Scene::on(store.clone(), 100_000, ROOMY);
    store.set_full(true);
    scene.offer_all(1);
    until("a statement that waits", || scene.prover.counts().unstated == 1);
    assert!(scene.verified().is_empty());
    store.set_full(false);
    until("the statement", || !scene.verified().is_empty());
    assert_eq!(scene.prover.counts().unstated, 0);
}

#[test]
fn a_false_hint_is_dropped_counted_and_told_and_the_right_one_stands() {
    let scene = Scene::new(100_000, ROOMY);
    let right = names_of(&scene.bytes);
    let tth = *right.iter().find(|n| n.scheme() == p2pbridge_proto::Scheme::Tth).unwrap();
    let wrong = Name::new(p2pbridge_proto::Scheme::Ed2k, &[7; 16]).unwrap();
    let hint = Statement {
        content: None,
        names: vec![urn(1), wrong, tth],
        length: None,
        title: String::new(),
        evidence: Evidence::Hint,
        stated_by: "list".into(),
    };
    scene.names.state(&[hint]).unwrap();
    assert_eq!(scene.names.content_of(&wrong).unwrap().id, scene.content);
    let told: Arc<Mutex<Vec<_>>> = Arc::default();
    let hear = told.clone();
    scene.names.watch(Arc::new(move |event: &p2pbridge_nametable::NameEvent| {
        lock(&hear).push((event.kind, event.names.clone()));
    }));
    scene.offer_all(1);
    scene.wait_for(1);
    assert_eq!(scene.verified(), right);
    assert!(scene.names.content_of(&wrong).is_none());
    assert_eq!(scene.names.counts().disproved, 1);
    until("the watcher", || lock(&told).len() >= 2);
    assert_eq!(lock(&told)[0], (NameEventKind::Disproved, vec![wrong]));
    assert_eq!(lock(&told)[1].0, NameEventKind::Proved);
}

#[test]
fn what_contradicts_verified_names_is_a_conflict() {
    let scene = Scene::new(100_000, ROOMY);
    let wrong = Name::new(p2pbridge_proto::Scheme::Ed2k, &[7; 16]).unwrap();
    let published = Statement {
        content: Some(scene.content),
        names: vec![wrong],
        length: None,
        title: String::new(),
        evidence: Evidence::Verified,
        stated_by: "publish".into(),
    };
    scene.names.state(&[published]).unwrap();
    scene.offer_all(1);
    until("the conflict", || scene.names.counts().conflicts == 1);
    assert_eq!(scene.verified(), BTreeSet::from([wrong]));
    assert_eq!(scene.names.quarantined().len(), 1);
}

#[test]
fn stopped_it_finishes_nothing() {
    let scene = Scene::new(2_000_000, ROOMY);
    scene.offer(1, 0, 1_000_000);
    scene.prover.stop();
    scene.offer(1, 1_000_000, 2_000_000);
    assert!(scene.verified().is_empty());
    assert_eq!(scene.prover.counts().proven, 0);
    assert!(lock(&scene.prover.threads).is_empty());
}
