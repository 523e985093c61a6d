//! Sources that let the bridge wait, refuse, or lie in one of many blocks.

use std::collections::BTreeMap;

use super::{pull::shuffled, *};

/// What a peer does.
#[derive(Default, Clone)]
struct Habit {
    /// It gives something only while this is true.
    gives: Option<Arc<AtomicBool>>,
    /// The first chunk that it holds.
    holds_from: u32,
    /// So many fetches are refused first.
    refuses: u32,
    /// It leaves after so many.
    leaves_after: Option<u32>,
    /// A byte that it sends wrong.
    lies_at: Option<u64>,
    /// So many of its first fetches are wrong.
    lies: u32,
    /// With each fetch so many bytes come in vain.
    wastes: u64,
    /// How many bytes its finer hashes are of.
    tells: Option<u64>,
    /// Whether it never says which bytes are wrong.
    ponders: bool,
}

struct Habits {
    content: Bytes,
    by_port: BTreeMap<u16, Habit>,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    opened: Vec<u16>,
    closed: Vec<u16>,
    sent: BTreeMap<u16, u64>,
    /// Of each session.
    wastes: Vec<Waste>,
}

struct Peer {
    port: u16,
    habit: Habit,
    content: Bytes,
    fetches: Mutex<u32>,
    waste: Waste,
    log: Arc<Mutex<Log>>,
    changes: Mutex<Option<watch::Sender<u64>>>,
    watch: watch::Receiver<u64>,
}

#[async_trait]
impl Leecher for Habits {
    async fn open(
        &self,
        _: Arc<Description>,
        peer: SocketAddr,
    ) -> Result<Arc<dyn SourceSession>, SourceError> {
        let port = peer.port();
        let habit = self.by_port.get(&port).cloned();
        let habit = habit.ok_or_else(|| SourceError::Unreachable("nobody there".into()))?;
        let waste = Waste::default();
        {
            let mut log = self.log.lock().unwrap();
            log.opened.push(port);
            log.wastes.push(waste.clone());
        }
        let (sender, watch) = watch::channel(0);
        Ok(Arc::new(Peer {
            port,
            habit,
            content: self.content.clone(),
            fetches: Mutex::default(),
            waste,
            log: self.log.clone(),
            changes: Mutex::new(Some(sender)),
            watch,
        }))
    }
}

#[async_trait]
impl SourceSession for Peer {
    fn has(&self, chunk: u32) -> bool {
        chunk >= self.habit.holds_from
            && self.habit.gives.as_ref().is_none_or(|gives| gives.load(Ordering::SeqCst))
    }

    fn held(&self) -> u32 {
        1
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.watch.clone()
    }

    async fn fetch(&self, range: Range<u64>) -> Result<Bytes, SourceError> {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let fetches = {
            let mut fetches = self.fetches.lock().unwrap();
            *fetches += 1;
            *fetches
        };
        if fetches <= self.habit.refuses || !self.has(u32::MAX) {
            return Err(SourceError::Refused(range));
        }
        if self.habit.leaves_after.is_some_and(|after| fetches > after) {
            self.changes.lock().unwrap().take();
            return Err(SourceError::Closed("it has left".into()));
        }
        let mut bytes = self.content[range.start as usize..range.end as usize].to_vec();
        if let Some(at) = self.habit.lies_at.filter(|at| range.contains(at)) {
            bytes[(at - range.start) as usize] ^= 1;
        }
        if fetches <= self.habit.lies {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        self.waste.add(self.habit.wastes);
        *self.log.lock().unwrap().sent.entry(self.port).or_default() += range.end - range.start;
        Ok(bytes.into())
    }

    async fn locate(&self, chunk: u32, bytes: Vec<Bytes>) -> Option<Vec<Range<u64>>> {
        if self.habit.ponders {
            std::future::pending::<()>().await;
        }
        let width = self.habit.tells?;
        let (start, bytes) = (u64::from(chunk) * UNIT, bytes.concat());
        let end = start + bytes.len() as u64;
        let wrong =
            (start..end).zip(&bytes).filter(|(at, byte)| self.content[*at as usize] != **byte);
        let run = |(at, _): (u64, _)| {
            let at = start + (at - start) / width * width;
            at..(at + width).min(end)
        };
        Some(wrong.map(run).collect())
    }

    fn waste(&self) -> Waste {
        self.waste.clone()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.log.lock().unwrap().closed.push(self.port);
    }
}

impl Log {
    /// How often a connection with a peer was made.
    fn times(&self, port: u16) -> usize {
        self.opened.iter().filter(|opened| **opened == port).count()
    }
}

/// A gate that opens, or closes, as soon as something has happened.
fn when(
    log: &Arc<Mutex<Log>>,
    opens: bool,
    happened: impl Fn(&Log) -> bool + Send + Sync + 'static,
) -> Arc<AtomicBool> {
    let (log, gate) = (log.clone(), Arc::new(AtomicBool::new(!opens)));
    let turned = gate.clone();
    tokio::spawn(async move {
        until(|| happened(&log.lock().unwrap())).await;
        gate.store(opens, Ordering::SeqCst);
    });
    turned
}

const UNIT: u64 = 2 << 20;

/// A house with these peers, from port 100 on.
fn house_of(
    habits: Vec<Habit>,
    content: &Bytes,
    units: (u64, u64),
    sources: usize,
    folder: &Path,
    table: Arc<NameTable>,
) -> (House, Arc<Description>, Arc<Mutex<Log>>) {
    let log = Arc::new(Mutex::new(Log::default()));
    let (house, b) = logged(habits, content, units, sources, folder, table, &log);
    (house, b, log)
}

/// The same with a log that is there before.
fn logged(
    habits: Vec<Habit>,
    content: &Bytes,
    units: (u64, u64),
    sources: usize,
    folder: &Path,
    table: Arc<NameTable>,
    log: &Arc<Mutex<Log>>,
) -> (House, Arc<Description>) {
    let (a, b) = (description(1, units.0, content), description(2, units.1, content));
    let by_port: BTreeMap<u16, Habit> = (100..).zip(habits).collect();
    let setup = Setup {
        a: &a,
        b: &b,
        peers: by_port.keys().map(|port| (*port, Bytes::new())).collect(),
        fickle: None,
        folder,
        table,
        spool_bound: 1 << 30,
    };
    let leecher = Arc::new(Habits { content: content.clone(), by_port, log: log.clone() });
    let house = house_with(setup, leecher, Arc::default(), sources);
    (house, b)
}

#[tokio::test(start_paused = true)]
async fn queues_are_kept_and_take_nobodys_place() {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes_of(4_000_000);
    let gives = Arc::new(AtomicBool::new(false));
    let mut habits = vec![Habit { gives: Some(gives.clone()), ..Habit::default() }; 6];
    habits.push(Habit { leaves_after: Some(3), ..Habit::default() });
    let (house, b, log) = house_of(habits, &content, (UNIT, 1 << 16), 2, folder.path(), table());
    let peer = tokio::spawn({
        let (library, name) = (house.relay.library(id("b")), b.names[0]);
        async move {
            let reader = soon(|| library.open(&name)).await;
            let peer = reader.attend(SocketAddr::from(([127, 0, 0, 1], 2)));
            peer.holds(Bits::none(62));
            tokio::time::sleep(Duration::from_secs(300)).await;
        }
    });
    tokio::time::sleep(Duration::from_secs(200)).await;
    {
        let log = log.lock().unwrap();
        assert!(log.opened.contains(&106), "the one that gives is found: {:?}", log.opened);
        let queues: Vec<u16> = log.closed.iter().copied().filter(|port| *port < 106).collect();
        assert!(queues.is_empty(), "places in queues were given up: {queues:?}");
    }
    gives.store(true, Ordering::SeqCst);
    assert!(house.download(&b).await == content);
    peer.abort();
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_no_reason_to_part() {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes_of(4_000_000);
    let habits = vec![Habit { refuses: 9, ..Habit::default() }];
    let (house, b, log) = house_of(habits, &content, (UNIT, UNIT), 2, folder.path(), table());
    assert!(house.download(&b).await == content);
    assert_eq!(log.lock().unwrap().opened, [100]);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_nobody_holds_keeps_nobody_from_what_is_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes_of(5 * UNIT as usize);
    // More than is read ahead is missing at the beginning.
    let habits = vec![Habit { holds_from: 3, ..Habit::default() }];
    let (house, b, _) = house_of(habits, &content, (UNIT, 1 << 16), 2, folder.path(), table());
    let reader = house.reader(&b.names[0]).await;
    let peer = reader.attend(SocketAddr::from(([127, 0, 0, 1], 2)));
    peer.holds(Bits::none(160));
    let (mut seen, mut news) = (0, reader.availability().watch());
    while seen < 64 {
        for chunk in reader.availability().since(seen) {
            assert!(chunk >= 96, "chunk {chunk} is held by nobody");
            seen += 1;
            peer.gained(chunk);
        }
        if seen < 64 {
            timeout(PATIENCE, news.changed()).await.expect("it goes on").unwrap();
        }
    }
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_liar_is_banned_and_what_it_sent_is_never_served() {
    let content = bytes_of(3_000_000);
    for units in [(1 << 16, 1 << 18), (1 << 20, 1 << 15)] {
        let folder = tempfile::tempdir().unwrap();
        let log = Arc::new(Mutex::new(Log::default()));
        // Until the liar has gone there is nobody else.
        let gives = when(&log, true, |log| log.closed.contains(&100));
        let habits = vec![
            Habit { lies: u32::MAX, ..Habit::default() },
            Habit { gives: Some(gives), ..Habit::default() },
        ];
        let (house, b) = logged(habits, &content, units, 4, folder.path(), table(), &log);
        assert!(house.download(&b).await == content);
        assert!(house.table.get(&b.names[0]).is_some(), "the liar's bytes cost the binding");
        let (crossing, all) = (house.meter.crossings()[0].clone(), content.len() as u64);
        let (lies, honest, times) = {
            let log = log.lock().unwrap();
            (log.sent[&100], log.sent[&101], log.times(100))
        };
        assert!(lies > 0, "the liar was asked");
        assert_eq!((crossing.rejected_bytes, crossing.verified_bytes), (lies, all));
        assert_eq!((crossing.fetched_bytes, honest), (all + lies, all));
        assert_eq!(times, 1, "the liar was called again");
        house.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn finer_hashes_tell_which_of_several_senders_lied() {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes_of(4_000_000);
    let log = Arc::new(Mutex::new(Log::default()));
    // The first has sent a part of a chunk when it leaves, the liar goes on with it, and the third, who knows which of them
    // lied, gives nothing before that.
    let joins = when(&log, true, |log| {
        log.closed.contains(&100) && log.opened.contains(&101) && log.opened.contains(&102)
    });
    let gives = when(&log, true, |log| log.closed.contains(&101));
    let habits = vec![
        Habit { leaves_after: Some(3), ..Habit::default() },
        Habit { gives: Some(joins), lies: 1, ..Habit::default() },
        Habit { gives: Some(gives), tells: Some(1), ..Habit::default() },
    ];
    let (house, b) = logged(habits, &content, (UNIT, UNIT), 4, folder.path(), table(), &log);
    assert!(house.pull(&b, &shuffled(2, 1), 184_320).await == content);
    let crossing = house.meter.crossings()[0].clone();
    let rejected = crossing.rejected_bytes;
    assert!(rejected > 0 && rejected <= 1 << 18, "one block, not {rejected} bytes");
    assert_eq!(crossing.fetched_bytes, crossing.verified_bytes + rejected);
    assert_eq!(crossing.verified_bytes, content.len() as u64);
    assert_eq!(log.lock().unwrap().times(101), 1, "the liar was called again");
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_shares_a_wrong_run_with_a_liar_is_not_banned() {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes_of(UNIT as usize);
    let log = Arc::new(Mutex::new(Log::default()));
    // The honest one has sent some of the first blocks when it falls silent; the liar sends the others. The finer hashes are
    // of five blocks, in which both have a part, and of the last three.
    let falls_silent = when(&log, false, |log| log.sent.contains_key(&100));
    let joins = when(&log, true, |log| {
        log.sent.contains_key(&100) && log.opened.contains(&101) && log.opened.contains(&102)
    });
    let gives = when(&log, true, |log| log.closed.contains(&101));
    let habits = vec![
        Habit { gives: Some(falls_silent), ..Habit::default() },
        Habit { gives: Some(joins), lies: u32::MAX, ..Habit::default() },
        Habit { gives: Some(gives), tells: Some(5 << 18), ..Habit::default() },
    ];
    let (house, b) = logged(habits, &content, (UNIT, UNIT), 4, folder.path(), table(), &log);
    assert!(house.download(&b).await == content);
    {
        let log = log.lock().unwrap();
        let honest = log.sent[&100];
        assert!(honest > 0 && honest <= 4 << 18, "{honest}");
        assert_eq!(log.closed, [101], "only the liar was sent away");
        assert_eq!(log.times(101), 1);
    }
    let crossing = house.meter.crossings()[0].clone();
    assert_eq!(crossing.fetched_bytes, crossing.verified_bytes + crossing.rejected_bytes);
    // What was in doubt is fetched again, the honest one's bytes too.
    assert_eq!(crossing.rejected_bytes, UNIT);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_in_vain_is_counted_even_after_its_session() {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes_of(4_000_000);
    let wasteful = Habit { wastes: 1_000, ..Habit::default() };
    let habits = vec![Habit { leaves_after: Some(3), ..wasteful.clone() }, wasteful];
    let (house, b, log) = house_of(habits, &content, (UNIT, UNIT), 2, folder.path(), table());
    assert!(house.download(&b).await == content);
    let all = content.len() as u64;
    let rejects = async |bytes: u64| {
        until(|| house.meter.crossings()[0].rejected_bytes == bytes).await;
        let crossing = house.meter.crossings()[0].clone();
        assert_eq!((crossing.fetched_bytes, crossing.verified_bytes), (all + bytes, all));
    };
    let wastes = log.lock().unwrap().wastes.clone();
    let wasted: u64 = wastes.iter().map(Waste::total).sum();
    assert!(wasted > 3_000, "{wasted}");
    rejects(wasted).await;
    until(|| log.lock().unwrap().closed.contains(&100)).await;
    wastes.iter().for_each(|waste| waste.add(77));
    rejects(wasted + 77 * wastes.len() as u64).await;
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_finer_hash_of_a_proven_name_convicts_at_once() {
    let content = bytes_of(12_000_000);
    let table = table();
    for (lies_at, spool) in [(None, "first"), (Some(500_000), "second")] {
        let folder = tempfile::tempdir().unwrap();
        let habits = vec![Habit { lies_at, ..Habit::default() }, Habit::default()];
        let folder = folder.path().join(spool);
        let (house, b, log) =
            house_of(habits, &content, (6_000_000, 1 << 16), 4, &folder, table.clone());
        assert!(house.download(&b).await == content);
        let sent: u64 = log.lock().unwrap().sent.values().sum();
        assert!(sent <= content.len() as u64 + (2 << 20), "{sent}");
        house.verified(&b.names[0]).await;
        house.end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_fetched_for_a_reader_that_has_gone() {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes_of(3 * UNIT as usize);
    let gives = Arc::new(AtomicBool::new(false));
    let habits = vec![Habit { gives: Some(gives.clone()), ..Habit::default() }];
    let (house, b, log) = house_of(habits, &content, (UNIT, UNIT), 2, folder.path(), table());
    let reader = house.reader(&b.names[0]).await;
    assert!(timeout(Duration::from_secs(1), reader.prepare(0)).await.is_err());
    gives.store(true, Ordering::SeqCst);
    timeout(PATIENCE, reader.prepare(2)).await.unwrap().unwrap();
    assert_eq!(log.lock().unwrap().sent[&100], UNIT);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_came_for_a_reader_that_has_gone_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let unit = 6_000_000;
    let content = bytes_of(3 * unit);
    let gives = Arc::new(AtomicBool::new(false));
    let habits = vec![
        Habit { leaves_after: Some(14), ..Habit::default() },
        Habit { gives: Some(gives.clone()), ..Habit::default() },
    ];
    let units = (unit as u64, unit as u64);
    let (house, b, log) = house_of(habits, &content, units, 2, folder.path(), table());
    let reader = house.reader(&b.names[0]).await;
    assert!(timeout(Duration::from_secs(1), reader.prepare(0)).await.is_err());
    assert_eq!(log.lock().unwrap().sent[&100], 14 << 18);
    gives.store(true, Ordering::SeqCst);
    let both = futures::future::join(reader.prepare(1), reader.prepare(2));
    let (one, two) = timeout(PATIENCE * 2, both).await.unwrap();
    one.and(two).unwrap();
    assert_eq!(house.meter.crossings()[0].rejected_bytes, 14 << 18);
    house.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_has_sent_all_of_a_wrong_chunk_is_banned_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes_of(UNIT as usize);
    // The others join when it has sent all, and are slow to say which bytes are wrong.
    let gives = Arc::new(AtomicBool::new(false));
    let honest = Habit { gives: Some(gives.clone()), ponders: true, ..Habit::default() };
    let liar = Habit { lies_at: Some(1_900_000), ..Habit::default() };
    let habits = vec![liar, honest.clone(), honest];
    let (house, b, log) = house_of(habits, &content, (UNIT, UNIT), 4, folder.path(), table());
    let reader = house.reader(&b.names[0]).await;
    let start = Instant::now();
    let wish = tokio::spawn(async move { reader.prepare(0).await });
    // It is banned.
    until(|| log.lock().unwrap().closed.contains(&100)).await;
    gives.store(true, Ordering::SeqCst);
    timeout(PATIENCE, wish).await.unwrap().unwrap().unwrap();
    assert!(start.elapsed() < PATIENCE, "{:?}", start.elapsed());
    assert_eq!(log.lock().unwrap().sent[&100], UNIT);
    house.end().await;
}
