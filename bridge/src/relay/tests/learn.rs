//! Names whose hashes are not known at first.

use super::{pull::shuffled, *};

/// Hashes that are made of bytes, or told by a source.
struct Learner {
    hashes: Hashes,
    known: AtomicBool,
    given: Mutex<Bits>,
    /// Whether the bytes turn out to be those of the name.
    fits: bool,
}

impl Integrity for Learner {
    fn check(&self, chunk: u32, bytes: &[Bytes]) -> bool {
        assert!(self.is_known(), "nothing can be checked yet");
        self.hashes.check(chunk, bytes)
    }

    fn is_known(&self) -> bool {
        self.known.load(Ordering::SeqCst)
    }

    fn learn(&self, chunk: u32, bytes: &[Bytes]) -> Learned {
        let mut given = self.given.lock().unwrap();
        assert!(given.set(chunk), "each chunk is given once");
        assert!(!self.fits || self.hashes.check(chunk, bytes));
        match (given.is_full(), self.fits) {
            (false, _) => Learned::More,
            (true, false) => Learned::OtherBytes,
            (true, true) => {
                self.known.store(true, Ordering::SeqCst);
                Learned::Known
            }
        }
    }
}

/// A description whose hashes are not known.
fn unknown(name: u8, unit: u64, content: &Bytes, fits: bool) -> (Arc<Description>, Arc<Learner>) {
    let hashes = content.chunks(unit as usize).map(|chunk| Sha256::digest(chunk).into()).collect();
    let learner = Arc::new(Learner {
        hashes: Hashes(hashes),
        known: AtomicBool::new(false),
        given: Mutex::new(Bits::none(
            u32::try_from(content.len().div_ceil(unit as usize)).unwrap(),
        )),
        fits,
    });
    let known = description(name, unit, content);
    (Arc::new(Description { integrity: learner.clone(), ..(*known).clone() }), learner)
}

pub(super) fn setup<'a>(
    a: &'a Arc<Description>,
    b: &'a Arc<Description>,
    peers: Vec<(u16, Bytes)>,
    folder: &'a Path,
    table: Arc<NameTable>,
) -> Setup<'a> {
    Setup { a, b, peers, fickle: None, folder, table, spool_bound: 1 << 30 }
}

#[tokio::test]
async fn hashes_are_made_of_all_bytes_that_another_name_has_verified() {
    let content = bytes_of(9_000_000);
    for (unit_a, unit_b) in [(1 << 16, 1 << 20), (1 << 20, 100_000)] {
        let folder = tempfile::tempdir().unwrap();
        let table = table();
        let a = description(1, unit_a, &content);
        let (b, _) = unknown(2, unit_b, &content, true);
        let chunks = u32::try_from(content.len().div_ceil(unit_b as usize)).unwrap();
        let peers = vec![(1, content.clone())];
        let first = house(setup(&a, &b, peers, folder.path(), table.clone())).await;
        assert!(first.pull(&b, &shuffled(chunks, 3), 184_320).await == content);
        assert_eq!(first.sent.load(Ordering::SeqCst), content.len() as u64);
        first.verified(&b.names[0]).await;
        first.verified(&a.names[0]).await;
        first.end().await;

        let (b, learner) = unknown(2, unit_b, &content, true);
        let second = house(setup(&a, &b, Vec::new(), folder.path(), table)).await;
        assert!(second.pull(&b, &shuffled(chunks, 4), 184_320).await == content);
        assert!(learner.given.lock().unwrap().is_full());
        assert_eq!(second.meter.crossings()[0].fetched_bytes, 0);
        second.end().await;
    }
}

/// The chunks in which it begins and ends reach into other files of the source's name: only with these bytes they can be verified.
#[tokio::test]
async fn hashes_are_made_of_one_file_among_others() {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (100_003_usize, 50_001);
    let whole = bytes_of(before + 3_000_000 + after);
    let content = whole.slice(before..before + 3_000_000);
    let file = |path: &str, offset: usize, length: usize| FileSpan {
        path: path.into(),
        offset: offset as u64,
        length: length as u64,
        digest: None,
    };
    let files = vec![
        file("before", 0, before),
        file("file", before, content.len()),
        file("then", before + content.len(), after),
    ];
    let unit = 1 << 16;
    let a = Arc::new(Description { files, ..(*description(1, unit, &whole)).clone() });
    let (b, _) = unknown(2, 1 << 20, &content, true);
    let house = house(setup(&a, &b, vec![(1, whole)], folder.path(), table())).await;
    assert!(house.pull(&b, &shuffled(3, 5), 184_320).await == content);
    let sent = house.sent.load(Ordering::SeqCst);
    assert!(sent <= content.len() as u64 + 2 * unit, "{sent}");
    house.end().await;
}

#[tokio::test]
async fn bytes_that_are_not_of_the_name_disprove_its_binding() {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes_of(3_000_000);
    let a = description(1, 1 << 16, &content);
    let (b, _) = unknown(2, 1 << 20, &content, false);
    let house = house(setup(&a, &b, vec![(1, content.clone())], folder.path(), table())).await;
    let reader = house.reader(&b.names[0]).await;
    let _peer = reader.attend(SocketAddr::from(([127, 0, 0, 1], 1)));
    assert!(timeout(PATIENCE, reader.prepare(0)).await.unwrap().is_err());
    timeout(PATIENCE, reader.retired().cancelled()).await.expect("the pool ends");
    assert!(reader.availability().snapshot().0.is_empty());
    assert!(house.table.get(&b.names[0]).is_none());
    house.end().await;
}

#[tokio::test]
async fn without_hashes_and_room_nothing_moves() {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes_of(3_000_000);
    let a = description(1, 1 << 16, &content);
    let (b, _) = unknown(2, 1 << 20, &content, true);
    let peers = vec![(1, content.clone())];
    let small = Setup { spool_bound: 2 << 20, ..setup(&a, &b, peers, folder.path(), table()) };
    let house = house(small).await;
    let reader = house.reader(&b.names[0]).await;
    let peer = reader.attend(SocketAddr::from(([127, 0, 0, 1], 1)));
    peer.holds(Bits::none(3));
    let error = timeout(PATIENCE, reader.prepare(1)).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("the spool is too small"), "{error}");
    let says =
        |swarm: &p2pbridge_proto::v1::SwarmStatus| swarm.trouble.contains("the spool is too small");
    until(|| house.relay.swarms(&id("b")).iter().any(says)).await;
    assert_eq!(house.sent.load(Ordering::SeqCst), 0);
    house.end().await;
}

/// Sources that tell the hashes of their name.
struct Telling {
    peers: Peers,
    learner: Arc<Learner>,
}

#[async_trait]
impl Leecher for Telling {
    async fn open(
        &self,
        what: Arc<Description>,
        peer: SocketAddr,
    ) -> Result<Arc<dyn SourceSession>, SourceError> {
        let session = self.peers.open(what, peer).await?;
        self.learner.known.store(true, Ordering::SeqCst);
        Ok(session)
    }
}

#[tokio::test]
async fn hashes_of_a_source_are_told_or_not_needed() {
    let content = bytes_of(3_000_000);
    let b = description(2, 1 << 16, &content);
    for tells in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (a, learner) = unknown(1, 1 << 20, &content, true);
        let peers = vec![(1, content.clone())];
        let sent = Arc::new(AtomicU64::new(0));
        let peers_of =
            || Peers { by_port: peers.iter().cloned().collect(), sent: sent.clone(), fickle: None };
        let leecher: Arc<dyn Leecher> = match tells {
            true => Arc::new(Telling { peers: peers_of(), learner: learner.clone() }),
            false => Arc::new(peers_of()),
        };
        let setup = setup(&a, &b, peers.clone(), folder.path(), table());
        let house = house_with(setup, leecher, sent.clone(), 4);
        assert!(house.download(&b).await == content);
        assert_eq!(house.sent.load(Ordering::SeqCst), content.len() as u64);
        if tells {
            house.verified(&a.names[0]).await;
        }
        house.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_of_the_same_name_that_tells_nothing_stops_no_learning() {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes_of(5_000_000);
    let a = description(1, 1 << 16, &content);
    let (b, _) = unknown(2, 1 << 20, &content, true);
    let peers = vec![(1, content.clone())];
    let sent = Arc::new(AtomicU64::new(0));
    let leecher =
        |by_port| Arc::new(Peers { by_port, sent: sent.clone(), fickle: None }) as Arc<dyn Leecher>;
    let silent = leecher(HashMap::from([(8, content.clone())]));
    let setup = setup(&a, &b, peers.clone(), folder.path(), table());
    let from_a = leecher(peers.into_iter().collect());
    let house = house_between(setup, from_a, sent.clone(), 4, Some(silent));
    assert!(house.pull(&b, &shuffled(5, 5), 184_320).await == content);
    assert_eq!(house.sent.load(Ordering::SeqCst), content.len() as u64);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn hashes_are_learned_only_for_who_waits_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes_of(3_000_000);
    let a = description(1, 1 << 16, &content);
    let (b, learner) = unknown(2, 1 << 20, &content, true);
    let house = house(setup(&a, &b, vec![(1, content.clone())], folder.path(), table())).await;
    let reader = house.reader(&b.names[0]).await;
    let peer = reader.attend(SocketAddr::from(([127, 0, 0, 1], 1)));
    peer.holds(Bits::none(3));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(house.sent.load(Ordering::SeqCst), 0, "nobody has asked for anything");
    timeout(PATIENCE, reader.prepare(0)).await.unwrap().unwrap();
    assert!(learner.is_known());
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_attends_any_more_is_not_learned_further() {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes_of(100_000_000);
    let a = description(1, 1 << 16, &content);
    let (b, learner) = unknown(2, 1 << 20, &content, true);
    let sent = Arc::new(AtomicU64::new(0));
    let peers = vec![(1, content.clone())];
    let slow =
        Slow(Peers { by_port: peers.iter().cloned().collect(), sent: sent.clone(), fickle: None });
    let setup = setup(&a, &b, peers, folder.path(), table());
    let house = house_with(setup, Arc::new(slow), sent.clone(), 4);
    let reader = house.reader(&b.names[0]).await;
    let peer = reader.attend(SocketAddr::from(([127, 0, 0, 1], 1)));
    assert!(timeout(Duration::from_secs(10), reader.prepare(0)).await.is_err());
    drop(peer);
    assert!(sent.load(Ordering::SeqCst) > 1 << 20, "it is learned for who waits");
    tokio::time::sleep(Duration::from_secs(60)).await;
    let before = sent.load(Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(sent.load(Ordering::SeqCst), before, "nobody is there");
    assert!(!learner.is_known());
    house.end().await;
}

/// Peers that give a block a second.
struct Slow(Peers);

struct SlowSession(Arc<dyn SourceSession>);

#[async_trait]
impl Leecher for Slow {
    async fn open(
        &self,
        what: Arc<Description>,
        peer: SocketAddr,
    ) -> Result<Arc<dyn SourceSession>, SourceError> {
        Ok(Arc::new(SlowSession(self.0.open(what, peer).await?)))
    }
}

#[async_trait]
impl SourceSession for SlowSession {
    fn has(&self, chunk: u32) -> bool {
        self.0.has(chunk)
    }

    fn held(&self) -> u32 {
        self.0.held()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes()
    }

    async fn fetch(&self, range: Range<u64>) -> Result<Bytes, SourceError> {
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.0.fetch(range).await
    }
}

#[tokio::test]
async fn what_was_begun_for_a_peer_is_learned_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes_of(20_000_000);
    let a = description(1, 1 << 16, &content);
    let (b, learner) = unknown(2, 1 << 20, &content, true);
    let house = house(setup(&a, &b, vec![(1, content.clone())], folder.path(), table())).await;
    let reader = house.reader(&b.names[0]).await;
    let peer = reader.attend(SocketAddr::from(([127, 0, 0, 1], 1)));
    {
        let begun = || house.sent.load(Ordering::SeqCst) > 0;
        let (wish, begin) = (reader.prepare(0), until(begun));
        futures::future::select(wish, Box::pin(begin)).await;
    }
    drop(peer);
    until(|| learner.is_known()).await;
    until(|| reader.availability().snapshot().0.is_full()).await;
    assert_eq!(house.sent.load(Ordering::SeqCst), content.len() as u64);
    house.end().await;
}
