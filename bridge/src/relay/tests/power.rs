//! Sources of different speeds, on paused time.

use std::collections::BTreeMap;

use super::*;

/// What a peer is like.
#[derive(Debug, Clone, Copy)]
struct Pace {
    bytes_per_second: u64,
    delay: Duration,
}

const FAST: Pace = Pace { bytes_per_second: 4_000_000, delay: Duration::from_millis(20) };
const SLOW: Pace = Pace { bytes_per_second: 40_000, delay: Duration::from_millis(200) };
/// It answers nothing.
const DEAD: Pace = Pace { bytes_per_second: 0, delay: Duration::ZERO };

/// Peers that all hold everything, each with its pace.
struct Paced {
    content: Bytes,
    paces: BTreeMap<u16, Pace>,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    /// Bytes that each has brought.
    brought: BTreeMap<u16, u64>,
    open: usize,
    most_open: usize,
    /// Connections that were made.
    opened: Vec<u16>,
    /// Connections that were let go.
    closed: Vec<u16>,
}

struct PacedSession {
    port: u16,
    content: Bytes,
    pace: Pace,
    free_at: Mutex<Instant>,
    log: Arc<Mutex<Log>>,
    changes: watch::Sender<u64>,
}

#[async_trait]
impl Leecher for Paced {
    async fn open(
        &self,
        _: Arc<Description>,
        peer: SocketAddr,
    ) -> Result<Arc<dyn SourceSession>, SourceError> {
        let port = peer.port();
        let pace = self.paces.get(&port).copied();
        let pace = pace.ok_or_else(|| SourceError::Unreachable("nobody there".into()))?;
        tokio::time::sleep(pace.delay).await;
        let mut log = self.log.lock().unwrap();
        log.opened.push(port);
        log.open += 1;
        log.most_open = log.most_open.max(log.open);
        Ok(Arc::new(PacedSession {
            port,
            content: self.content.clone(),
            pace,
            free_at: Mutex::new(Instant::now()),
            log: self.log.clone(),
            changes: watch::Sender::new(0),
        }))
    }
}

#[async_trait]
impl SourceSession for PacedSession {
    fn has(&self, _: u32) -> bool {
        true
    }

    fn held(&self) -> u32 {
        1
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    async fn fetch(&self, range: Range<u64>) -> Result<Bytes, SourceError> {
        if self.pace.bytes_per_second == 0 {
            std::future::pending::<()>().await;
        }
        let length = range.end - range.start;
        let done = {
            let mut free_at = self.free_at.lock().unwrap();
            let start = (*free_at).max(Instant::now());
            *free_at = start + Duration::from_secs(length) / self.pace.bytes_per_second as u32;
            *free_at + self.pace.delay
        };
        tokio::time::sleep_until(done).await;
        *self.log.lock().unwrap().brought.entry(self.port).or_default() += length;
        Ok(self.content.slice(range.start as usize..range.end as usize))
    }
}

impl Drop for PacedSession {
    fn drop(&mut self) {
        let mut log = self.log.lock().unwrap();
        log.open -= 1;
        log.closed.push(self.port);
    }
}

/// What came of a transfer.
struct Outcome {
    took: Duration,
    log: Arc<Mutex<Log>>,
}

/// Lets a peer download `length` bytes, at `rate` bytes a second at most, from peers of these paces.
async fn transfer(paces: &[Pace], sources: usize, length: usize, rate: Option<u32>) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes_of(length);
    let (a, b) = (description(1, 1 << 16, &content), description(2, 1 << 16, &content));
    let ports = 100..;
    let paces: BTreeMap<u16, Pace> = ports.zip(paces.iter().copied()).collect();
    let setup = Setup {
        a: &a,
        b: &b,
        peers: paces.keys().map(|port| (*port, Bytes::new())).collect(),
        fickle: None,
        folder: folder.path(),
        table: table(),
        spool_bound: 1 << 30,
    };
    let log = Arc::new(Mutex::new(Log::default()));
    let leecher = Arc::new(Paced { content: content.clone(), paces, log: log.clone() });
    let house = house_with(setup, leecher, Arc::default(), sources);
    let start = Instant::now();
    let got = house.download_at(&b, rate).await;
    let took = start.elapsed();
    assert!(got == content);
    let crossing = &house.meter.crossings()[0];
    assert_eq!(crossing.verified_bytes, length as u64);
    assert_eq!(crossing.fetched_bytes, crossing.verified_bytes + crossing.rejected_bytes);
    house.end().await;
    Outcome { took, log }
}

#[tokio::test(start_paused = true)]
async fn no_more_sources_are_added_than_are_needed() {
    let outcome = transfer(&[FAST; 10], 8, 30_000_000, Some(2_000_000)).await;
    let log = outcome.log.lock().unwrap();
    assert!(log.most_open <= 3, "{:?}", log.opened);
    assert!(outcome.took < Duration::from_secs(17), "{:?}", outcome.took);
}

#[tokio::test(start_paused = true)]
async fn sources_are_added_until_what_is_needed_is_met() {
    let medium = Pace { bytes_per_second: 400_000, ..FAST };
    let outcome = transfer(&[medium; 12], 12, 30_000_000, Some(2_000_000)).await;
    let log = outcome.log.lock().unwrap();
    assert!((5..=9).contains(&log.most_open), "{:?}", log.opened);
    assert!(outcome.took < Duration::from_secs(20), "{:?}", outcome.took);
}

#[tokio::test(start_paused = true)]
async fn fast_sources_carry_the_load_and_slow_ones_hold_nothing_up() {
    let outcome = transfer(&[FAST, SLOW, FAST, SLOW], 4, 40_000_000, None).await;
    let log = outcome.log.lock().unwrap();
    let slow: u64 = [101, 103].iter().filter_map(|port| log.brought.get(port)).sum();
    assert!(slow < 2_000_000, "{:?}", log.brought);
    assert!(outcome.took < Duration::from_secs(9), "{:?}", outcome.took);
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_source_was_asked_for_is_brought_by_others() {
    let outcome = transfer(&[DEAD, FAST], 4, 10_000_000, None).await;
    let log = outcome.log.lock().unwrap();
    assert!(log.closed.contains(&100), "{:?}", log.closed);
    assert!(outcome.took < Duration::from_secs(20), "{:?}", outcome.took);
}

#[tokio::test(start_paused = true)]
async fn the_weakest_makes_place_for_better_ones() {
    let mut paces = vec![Pace { bytes_per_second: 100_000, ..SLOW }; 6];
    paces.extend([FAST; 2]);
    let outcome = transfer(&paces, 3, 60_000_000, None).await;
    let log = outcome.log.lock().unwrap();
    assert!(log.most_open <= 3, "{:?}", log.opened);
    let fast: u64 = [106, 107].iter().filter_map(|port| log.brought.get(port)).sum();
    assert!(fast > 30_000_000, "{:?}", log.brought);
    // Three slow ones would take 200 seconds.
    assert!(outcome.took < Duration::from_secs(120), "{:?}", outcome.took);
}
