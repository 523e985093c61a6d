//! Killed in mid-transfer, and started again: nothing acknowledged is lost, nothing is counted twice.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use p2pbridge_tests::{
    Bridge, Client, Config, Json, Limits, Peer, Scene, World, check_chains, crossing, eventually,
    fill, mib, record_id, sha256_file, sum, usage, within,
};

const SIZE: u64 = 16 * 1024 * 1024 + 555;
const PER_SECOND: u64 = 3 * 1024 * 1024;

/// How a scenario slows its transfer down, so that there is a middle to be killed in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slow {
    Seeder,
    Leecher,
}

async fn killed_in_mid_transfer(leecher: Client, slow: Slow, times: u64) {
    let size = SIZE * times;
    let scene = Scene::new();
    let source = scene.dir("source").join("film.bin");
    fill(&source, size, 31);
    let world = World::plain(&scene, &source).await;
    let up = if slow == Slow::Seeder { Limits::up(PER_SECOND) } else { Limits::default() };
    let down = if slow == Slow::Leecher { Limits::down(PER_SECOND) } else { Limits::default() };
    let _seeder =
        Peer::seed(Client::LibTorrent, &scene, &world.a.what(), &scene.dir("source"), up).await;
    world.a.has_seeder().await;
    let config = Config::a_to_b(&scene, &[world.a.tracker.url()], &[world.b.tracker.url()]);
    let mut bridge = Bridge::start(&scene, &config).await;
    bridge.bind(("a", &world.a.torrent.path), ("b", &world.b.torrent.path)).await;
    let dir = scene.dir("leech");
    let mut leecher = Peer::leech(leecher, &scene, &world.b.what(), &dir, down).await;

    let (mut seen, mut held): (Vec<Json>, u64) = (Vec::new(), 0);
    for round in 1..=times {
        // Far enough for this round, and not at its end.
        let goal = sum(&seen, "bytes_served") + mib(2);
        seen = eventually("records of a part of the transfer", 25, async || {
            let records = usage(&bridge).await;
            (sum(&records, "bytes_served") >= goal).then_some(records)
        })
        .await;
        assert!(sum(&seen, "bytes_served") < size, "round {round}: the transfer was over too soon");
        held = held.max(sum(&seen, "bytes_verified"));
        let bindings = bridge.json(["names", "list", "--json"]).await;
        bridge.kill9().await;
        bridge = Bridge::start(&scene, &config).await;

        let after = usage(&bridge).await;
        assert_eq!(
            after.get(..seen.len()),
            Some(&seen[..]),
            "round {round}: what was acknowledged is still there, as it was"
        );
        assert_eq!(bridge.json(["names", "list", "--json"]).await, bindings, "round {round}");
    }

    leecher.finished(60).await;
    assert_eq!(sha256_file(&dir.join("b.bin")), sha256_file(&source));
    // What the spool held before the kill is not fetched again.
    let before = sum(&seen, "bytes_served");
    let all = eventually("the ledger having the rest", 15, async || {
        let records = usage(&bridge).await;
        // What was counted after the last record before a kill was never acknowledged: at most the windows of two seconds each time.
        let unsaid = times * 2 * (PER_SECOND + mib(1));
        let served = sum(&records, "bytes_served");
        (served > before && served + unsaid >= size).then_some(records)
    })
    .await;
    let again = crossing(&bridge.json(["overlays", "--json"]).await, "a", "b")
        .get("fetched_bytes")
        .number();
    assert!(
        again + held <= size + mib(2),
        "{again} bytes fetched after the restart, though {held} were held before it"
    );
    check_chains(&all);
    let epochs: std::collections::BTreeSet<u64> =
        all.iter().map(|record| record_id(record).2).collect();
    assert!(epochs.len() >= 2, "each start has an epoch of its own: {epochs:?}");
    let verified = sum(&all, "bytes_verified");
    assert!(verified <= size, "{verified} bytes verified in records, of {size}");

    assert!(bridge.terminate(15).await.success());
}

#[tokio::test]
async fn killed_while_aria2_is_slow() {
    killed_in_mid_transfer(Client::Aria2, Slow::Leecher, 1).await;
}

#[tokio::test]
async fn killed_while_the_source_is_slow() {
    killed_in_mid_transfer(Client::LibTorrent, Slow::Seeder, 1).await;
}

#[tokio::test]
async fn killed_three_times() {
    killed_in_mid_transfer(Client::Aria2, Slow::Leecher, 3).await;
}

/// TERM: the daemon ends well before its deadline, with a transfer in flight, and both trackers know that it has gone.
#[tokio::test]
async fn terminated_in_mid_transfer() {
    let scene = Scene::new();
    let source = scene.dir("source").join("film.bin");
    fill(&source, SIZE, 32);
    let world = World::plain(&scene, &source).await;
    let _seeder = Peer::seed(
        Client::Aria2,
        &scene,
        &world.a.what(),
        &scene.dir("source"),
        Limits::up(PER_SECOND),
    )
    .await;
    world.a.has_seeder().await;
    let config = Config::a_to_b(&scene, &[world.a.tracker.url()], &[world.b.tracker.url()]);
    let mut bridge = Bridge::start(&scene, &config).await;
    bridge.bind(("a", &world.a.torrent.path), ("b", &world.b.torrent.path)).await;
    let dir = scene.dir("leech");
    let mut leecher =
        Peer::leech(Client::LibTorrent, &scene, &world.b.what(), &dir, Limits::default()).await;
    let seen = eventually("a first record", 20, async || {
        let records = usage(&bridge).await;
        (sum(&records, "bytes_served") > 0).then_some(records)
    })
    .await;
    let status = bridge.terminate(15).await;
    assert!(status.success(), "{status}");
    eventually("B's tracker without the bridge", 10, async || {
        let swarm = p2pbridge_tests::scrape(world.b.tracker.port, &world.b.hash()).await?;
        (swarm.seeders + swarm.leechers <= 1).then_some(())
    })
    .await;

    let bridge = Bridge::start(&scene, &config).await;
    let after = usage(&bridge).await;
    assert_eq!(after.get(..seen.len()), Some(&seen[..]));
    let Peer::LibTorrent(client) = &mut leecher else { unreachable!() };
    let got = client.status().await.downloaded;
    // A clean end flushes the ledger: every byte that the leecher has is in it.
    assert!(
        sum(&after, "bytes_served") >= got,
        "{got} bytes at the leecher, {} in the ledger",
        sum(&after, "bytes_served")
    );
    within("the leecher", 60, leecher.finished(60)).await;
    assert_eq!(sha256_file(&dir.join("b.bin")), sha256_file(&source));
}
