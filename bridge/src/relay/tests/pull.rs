//! Peers that choose the order of the chunks themselves, and learn of none that comes later; chunks of very different
//! lengths on both sides.

use super::*;

/// Half of what the house keeps in memory, as a rule of thumb for a small chunk.
const SMALL: u64 = 1 << 16;
/// More than the house keeps in memory.
const LARGE: u64 = 6_000_001;

/// The numbers below `count`, shuffled.
pub(super) fn shuffled(count: u32, seed: u64) -> Vec<u32> {
    let mut left: Vec<u32> = (0..count).collect();
    let mut state = seed;
    let mut order = Vec::new();
    while !left.is_empty() {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.push(left.swap_remove((state >> 33) as usize % left.len()));
    }
    order
}

impl House {
    /// Downloads as a client does that asks for one chunk after the other, in this order, in runs of `run` bytes.
    pub(super) async fn pull(&self, description: &Description, order: &[u32], run: u64) -> Vec<u8> {
        let reader = self.reader(&description.names[0]).await;
        let chunks = u32::try_from(description.length.div_ceil(description.unit)).unwrap();
        let peer = reader.attend(SocketAddr::from(([127, 0, 0, 1], 1)));
        peer.holds(Bits::none(chunks));
        let mut got = vec![0; description.length as usize];
        for chunk in order {
            timeout(PATIENCE, reader.prepare(*chunk)).await.unwrap().unwrap();
            let start = u64::from(*chunk) * description.unit;
            let end = (start + description.unit).min(description.length);
            let mut at = start;
            while at < end {
                let range = at..end.min(at + run);
                let bytes = timeout(PATIENCE, reader.read(range.clone())).await.unwrap().unwrap();
                got[at as usize..range.end as usize].copy_from_slice(&bytes);
                at = range.end;
                peer.served(range);
            }
        }
        got
    }
}

fn setup<'a>(
    a: &'a Arc<Description>,
    b: &'a Arc<Description>,
    content: &Bytes,
    folder: &'a Path,
) -> Setup<'a> {
    Setup {
        a,
        b,
        peers: vec![(1, content.clone()), (2, content.clone())],
        fickle: None,
        folder,
        table: table(),
        spool_bound: 1 << 30,
    }
}

#[tokio::test]
async fn chunks_in_random_order_cross_once_however_long_they_are() {
    let content = bytes_of(40_000_000);
    for (unit_a, unit_b) in [(SMALL, LARGE), (LARGE, SMALL), (LARGE, LARGE), (LARGE, 7_000_001)] {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (description(1, unit_a, &content), description(2, unit_b, &content));
        let house = house(setup(&a, &b, &content, folder.path())).await;
        let chunks = u32::try_from(b.length.div_ceil(b.unit)).unwrap();
        let (one, two) = (shuffled(chunks, 1), shuffled(chunks, 2));
        let (one, two) = tokio::join!(house.pull(&b, &one, 184_320), house.pull(&b, &two, 184_320));
        assert!(one == content && two == content);
        assert_eq!(house.sent.load(Ordering::SeqCst), content.len() as u64, "{unit_a} {unit_b}");
        house.end().await;
    }
}

#[tokio::test]
async fn a_chunk_that_nobody_can_bring_is_refused_soon() {
    tokio::time::pause();
    let folder = tempfile::tempdir().unwrap();
    let content = bytes_of(1_000_000);
    let (a, b) = (description(1, SMALL, &content), description(2, SMALL, &content));
    let none = Setup { peers: Vec::new(), ..setup(&a, &b, &content, folder.path()) };
    let house = house(none).await;
    let reader = house.reader(&b.names[0]).await;
    let start = Instant::now();
    let error = reader.prepare(3).await.unwrap_err();
    assert_eq!(error.to_string(), "chunk 3: no source is known that could bring it");
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    assert!(matches!(reader.prepare(99).await, Err(ReadError::NotAvailable(_))));
    house.end().await;
}

#[tokio::test]
async fn a_spool_smaller_than_the_content_costs_what_cannot_be_kept() {
    let content = bytes_of(100_000_000);
    for (peers, most) in [(1, 1.3), (2, 2.2)] {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (description(1, SMALL, &content), description(2, 3_000_000, &content));
        let small = Setup { spool_bound: 64 << 20, ..setup(&a, &b, &content, folder.path()) };
        let house = house(small).await;
        let chunks = u32::try_from(b.length.div_ceil(b.unit)).unwrap();
        let orders: Vec<_> = (0..peers).map(|seed| shuffled(chunks, seed)).collect();
        let got =
            futures::future::join_all(orders.iter().map(|order| house.pull(&b, order, 184_320)));
        assert!(got.await.iter().all(|got| *got == content));
        let ratio = house.sent.load(Ordering::SeqCst) as f64 / content.len() as f64;
        println!("{peers} peers: {ratio}");
        assert!(ratio <= most, "{ratio}");
        house.end().await;
    }
}

#[tokio::test]
async fn a_content_larger_than_the_spool_crosses_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes_of(50_000_000);
    let (a, b) = (description(1, 1 << 18, &content), description(2, 1 << 20, &content));
    let small = Setup { spool_bound: 36 << 20, ..setup(&a, &b, &content, folder.path()) };
    let house = house(small).await;
    assert!(house.download(&b).await == content);
    assert!(house.relay.spooled() <= 36 << 20);
    let sent = house.sent.load(Ordering::SeqCst);
    assert!(sent <= 51_000_000, "{sent} bytes were fetched for {}", content.len());
    house.end().await;
}

#[tokio::test]
async fn chunks_that_were_begun_make_room_for_those_that_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes_of(100_000_000);
    let (a, b) = (description(1, SMALL, &content), description(2, 3_000_000, &content));
    let small = Setup { spool_bound: 64 << 20, ..setup(&a, &b, &content, folder.path()) };
    let house = house(small).await;
    let reader = house.reader(&b.names[0]).await;
    let peer = reader.attend(SocketAddr::from(([127, 0, 0, 1], 1)));
    // One run of each chunk, and then another.
    for run in 0..2 {
        for chunk in 0..34 {
            timeout(PATIENCE, reader.prepare(chunk)).await.unwrap().unwrap();
            let start = u64::from(chunk) * b.unit + run * 184_320;
            let range = start..start + 184_320;
            let bytes = timeout(PATIENCE, reader.read(range.clone())).await.unwrap().unwrap();
            assert!(bytes == content[range.start as usize..range.end as usize]);
            peer.served(range);
        }
    }
    assert!(house.relay.spooled() <= 64 << 20);
    house.end().await;
}

#[tokio::test]
async fn what_a_peer_tells_that_it_holds_is_not_served_in_part() {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes_of(1_000_000);
    let (a, b) = (description(1, SMALL, &content), description(2, 500_000, &content));
    let house = house(setup(&a, &b, &content, folder.path())).await;
    let reader = house.reader(&b.names[0]).await;
    let peer = reader.attend(SocketAddr::from(([127, 0, 0, 1], 1)));
    timeout(PATIENCE, reader.prepare(0)).await.unwrap().unwrap();
    peer.served(0..1_000);
    peer.served(500_000..501_000);
    let partly = || {
        let state = house.relay.lock();
        state.pools.iter().map(|held| held.pool.partly()).sum::<usize>()
    };
    assert_eq!(partly(), 2);
    let mut holds = Bits::none(2);
    holds.set(1);
    peer.holds(holds);
    assert_eq!(partly(), 1);
    house.end().await;
}
