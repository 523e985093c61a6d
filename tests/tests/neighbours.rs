//! Bad neighbours: sources, trackers and peers that misbehave. The bridge lives, says what is wrong, and serves no wrong byte.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::net::Ipv4Addr;
use std::slice::from_ref;

use p2pbridge_tests::{
    BadTracker, Bridge, Client, Config, Evil, Hostile, Limits, Make, Manner, Peer, Scene, Side,
    Torrent, TrackerKind, Trackers, World, check_flow, crossing, eventually, fill, is_up, mib,
    sha256_file, sum, usage, within,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

const SIZE: u64 = 6 * 1024 * 1024 + 9;

async fn plain(scene: &Scene) -> (World, Config, std::path::PathBuf) {
    let source = scene.dir("source").join("film.bin");
    fill(&source, SIZE, 61);
    let world = World::plain(scene, &source).await;
    let config = Config::a_to_b(scene, &[world.a.tracker.url()], &[world.b.tracker.url()]);
    (world, config, source)
}

/// The same with a tracker in A whose peers come back every two seconds, so that a source that comes later is found.
async fn lively(scene: &Scene) -> (World, Config, std::path::PathBuf) {
    let source = scene.dir("source").join("film.bin");
    fill(&source, SIZE, 61);
    let a = Side::new(&source, "film.bin", Make::V1(18), TrackerKind::NpmUdp);
    let world =
        World::new(scene, a, Side::new(&source, "b.bin", Make::V1(20), TrackerKind::NpmHttp)).await;
    let config = Config::a_to_b(scene, &[world.a.tracker.url()], &[world.b.tracker.url()]);
    (world, config, source)
}

/// Starts the bridge, binds both torrents, and lets aria2 download in B.
async fn cross(scene: &Scene, world: &World, config: &Config, limits: Limits) -> (Bridge, Peer) {
    let bridge = Bridge::start(scene, config).await;
    bridge.bind(("a", &world.a.torrent.path), ("b", &world.b.torrent.path)).await;
    let leecher =
        Peer::leech(Client::Aria2, scene, &world.b.what(), &scene.dir("leech"), limits).await;
    (bridge, leecher)
}

async fn good_seeder(scene: &Scene, world: &World, limits: Limits) -> Peer {
    let seeder =
        Peer::seed(Client::LibTorrent, scene, &world.a.what(), &scene.dir("source"), limits).await;
    world.a.has_seeder().await;
    seeder
}

/// Wrong blocks are never served on, their source is banned, and the transfer finishes from another.
#[tokio::test]
async fn a_corrupt_source() {
    let scene = Scene::new();
    let (world, config, source) = lively(&scene).await;
    let mut evil =
        Evil::start(&scene, Manner::Corrupt, &world.a.torrent, &scene.dir("source")).await;
    let (mut bridge, mut leecher) = cross(&scene, &world, &config, Limits::default()).await;
    evil.said("served", 20).await;
    eventually("rejected bytes", 20, async || {
        let overlays = bridge.json(["overlays", "--json"]).await;
        (crossing(&overlays, "a", "b").get("rejected_bytes").number() > 0).then_some(())
    })
    .await;
    let _good = good_seeder(&scene, &world, Limits::default()).await;
    leecher.finished(60).await;
    assert_eq!(sha256_file(&scene.file("leech").join("b.bin")), sha256_file(&source));
    let records = eventually("the ledger having it all", 15, async || {
        let records = usage(&bridge).await;
        (sum(&records, "bytes_verified") == SIZE).then_some(records)
    })
    .await;
    assert!(sum(&records, "bytes_rejected") > 0, "{records:?}");
    assert!(evil.times("connection") <= 4, "the liar is not asked again and again");
    bridge.program.assert_runs();
}

#[tokio::test]
async fn a_source_that_vanishes() {
    let scene = Scene::new();
    let (world, config, source) = lively(&scene).await;
    let mut evil =
        Evil::start(&scene, Manner::Vanish, &world.a.torrent, &scene.dir("source")).await;
    let (bridge, mut leecher) = cross(&scene, &world, &config, Limits::default()).await;
    evil.program.ended(20).await;
    let _good = good_seeder(&scene, &world, Limits::default()).await;
    leecher.finished(60).await;
    assert_eq!(sha256_file(&scene.file("leech").join("b.bin")), sha256_file(&source));
    check_flow(&bridge, world.a.flow(), world.b.flow(), SIZE, "demo-1").await;
}

/// A source that takes the connection and says nothing holds nobody up.
#[tokio::test]
async fn a_silent_source() {
    let scene = Scene::new();
    let (world, config, source) = plain(&scene).await;
    let mut evil =
        Evil::start(&scene, Manner::Silent, &world.a.torrent, &scene.dir("source")).await;
    let _good = good_seeder(&scene, &world, Limits::default()).await;
    let (_bridge, mut leecher) = cross(&scene, &world, &config, Limits::default()).await;
    evil.said("silent", 20).await;
    leecher.finished(60).await;
    assert_eq!(sha256_file(&scene.file("leech").join("b.bin")), sha256_file(&source));
}

/// The overlay has a second tracker: the content crosses, and the status says which of them is ill, and why.
async fn bad_tracker(manner: BadTracker) {
    let scene = Scene::new();
    let (world, mut config, source) = plain(&scene).await;
    let hostile = Hostile::start(manner).await;
    config.overlays[0].trackers.insert(0, hostile.url.clone());
    let _good = good_seeder(&scene, &world, Limits::default()).await;
    let (mut bridge, mut leecher) = cross(&scene, &world, &config, Limits::default()).await;
    leecher.finished(60).await;
    assert_eq!(sha256_file(&scene.file("leech").join("b.bin")), sha256_file(&source));
    eventually("the bad tracker's health", 40, async || {
        let overlays = bridge.json(["overlays", "--json"]).await.get("overlays");
        let trackers = overlays.find("id", "a")?.get("trackers");
        let (bad, good) =
            (trackers.find("url", &hostile.url)?, trackers.find("url", &world.a.tracker.url())?);
        let told = !is_up(&bad.get("health")) && !bad.get("last_error").text().is_empty();
        (told && is_up(&good.get("health"))).then_some(())
    })
    .await;
    let (_, most) = bridge.memory();
    assert!(most < mib(150), "{most} bytes of memory");
    assert!(bridge.terminate(15).await.success());
}

#[tokio::test]
async fn a_tracker_that_is_down() {
    bad_tracker(BadTracker::Down).await;
}

#[tokio::test]
async fn a_tracker_that_is_slow() {
    bad_tracker(BadTracker::Slow).await;
}

#[tokio::test]
async fn a_tracker_that_answers_nonsense() {
    bad_tracker(BadTracker::Nonsense).await;
}

#[tokio::test]
async fn a_tracker_that_answers_ten_megabytes() {
    bad_tracker(BadTracker::Huge).await;
}

#[tokio::test]
async fn a_tracker_that_does_not_end() {
    bad_tracker(BadTracker::Endless).await;
}

/// A thousand connections to the seeder are bounded, and a real client still finishes.
#[tokio::test]
async fn a_thousand_connections() {
    let scene = Scene::new();
    let (world, config, source) = plain(&scene).await;
    let _good = good_seeder(&scene, &world, Limits::default()).await;
    let mut bridge = Bridge::start(&scene, &config).await;
    bridge.bind(("a", &world.a.torrent.path), ("b", &world.b.torrent.path)).await;
    let port = config.overlays[1].port;
    let mut crowd = Vec::new();
    for _ in 0..1_000 {
        // The bridge may refuse: that is the bound.
        if let Ok(stream) =
            within("a connection", 10, TcpStream::connect((Ipv4Addr::LOCALHOST, port))).await
        {
            crowd.push(stream);
        }
    }
    assert!(crowd.len() >= 500, "{} connections", crowd.len());
    let mut leecher =
        Peer::leech(Client::Aria2, &scene, &world.b.what(), &scene.dir("leech"), Limits::default())
            .await;
    leecher.finished(60).await;
    assert_eq!(sha256_file(&scene.file("leech").join("b.bin")), sha256_file(&source));
    let (_, most) = bridge.memory();
    assert!(most < mib(150), "{most} bytes of memory");
    bridge.program.assert_runs();
    drop(crowd);
}

/// A peer that connects to the seeder and says nothing is hung up on.
#[tokio::test]
async fn a_silent_peer_is_hung_up_on() {
    let scene = Scene::new();
    let (world, config, _) = plain(&scene).await;
    let bridge = Bridge::start(&scene, &config).await;
    bridge.bind(("a", &world.a.torrent.path), ("b", &world.b.torrent.path)).await;
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, config.overlays[1].port))
        .await
        .expect("a connection");
    let read = within("the bridge hanging up", 30, stream.read(&mut [0; 64])).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

/// Two torrents whose files differ in size are not the same content, and the refusal says so.
#[tokio::test]
async fn a_binding_of_different_sizes_is_refused() {
    let scene = Scene::new();
    let (one, two) = (scene.file("one.bin"), scene.file("two.bin"));
    fill(&one, 1_000_000, 1);
    fill(&two, 1_000_001, 1);
    let trackers = Trackers::reserve(TrackerKind::OpenHttp, TrackerKind::NpmHttp);
    let a = trackers.a(&scene, &one, "one.bin", 18).await;
    let b = trackers.b(&scene, &two, "one.bin", 20).await;
    let bridge = Bridge::start(
        &scene,
        &Config::a_to_b(&scene, from_ref(&a.announce), from_ref(&b.announce)),
    )
    .await;
    let (a_item, b_item) = (format!("a={}", a.path.display()), format!("b={}", b.path.display()));
    let refused = bridge.cli(["names", "bind", &a_item, &b_item]).await;
    assert!(!refused.status.success());
    assert!(
        refused.stderr.contains("1000000") || refused.stderr.contains("1,000,000"),
        "{}",
        refused.stderr
    );
    assert!(
        refused.stderr.contains("1000001") || refused.stderr.contains("1,000,001"),
        "{}",
        refused.stderr
    );
    let list = bridge.json(["names", "list", "--json"]).await;
    assert_eq!(list.get("bindings").items().len() + list.items().len(), 0, "{list:?}");
}

#[tokio::test]
async fn a_private_torrent_is_refused() {
    let scene = Scene::new();
    let source = scene.file("film.bin");
    fill(&source, 1_000_000, 1);
    let trackers = Trackers::reserve(TrackerKind::OpenHttp, TrackerKind::NpmHttp);
    let b = trackers.b(&scene, &source, "b.bin", 20).await;
    let private = Torrent::make(
        Make::Private(18),
        &source,
        "a.bin",
        "http://127.0.0.1:9/announce",
        &scene.file("p.torrent"),
    )
    .await;
    let bridge = Bridge::start(
        &scene,
        &Config::a_to_b(&scene, from_ref(&private.announce), from_ref(&b.announce)),
    )
    .await;
    let (a_item, b_item) =
        (format!("a={}", private.path.display()), format!("b={}", b.path.display()));
    let refused = bridge.cli(["names", "bind", &a_item, &b_item]).await;
    assert!(!refused.status.success());
    assert!(refused.stderr.contains("private"), "{}", refused.stderr);
    let resolved = bridge.cli(["names", "resolve", &private.urn(), "--json"]).await;
    assert!(!resolved.status.success(), "{}", resolved.stdout);
}

/// Something that is no torrent, and a file that is not there: told apart, with the file's name.
#[tokio::test]
async fn what_is_no_torrent_is_refused() {
    let scene = Scene::new();
    let junk = scene.file("junk.torrent");
    fill(&junk, 5_000, 1);
    let bridge = Bridge::start(
        &scene,
        &Config::a_to_b(
            &scene,
            &["http://127.0.0.1:9/announce".into()],
            &["udp://127.0.0.1:9".into()],
        ),
    )
    .await;
    let (junk_item, missing_item) =
        (format!("a={}", junk.display()), format!("b={}", scene.file("no.torrent").display()));
    let refused = bridge.cli(["names", "bind", &junk_item]).await;
    assert!(
        !refused.status.success() && refused.stderr.contains("junk.torrent"),
        "{}",
        refused.stderr
    );
    let refused = bridge.cli(["names", "bind", &missing_item]).await;
    assert!(
        !refused.status.success() && refused.stderr.contains("no.torrent"),
        "{}",
        refused.stderr
    );
}

/// What is bound once in A is not lost to a leecher in B that comes when the seeder has gone: the spool has it.
#[tokio::test]
async fn the_spool_serves_when_the_source_has_gone() {
    let scene = Scene::new();
    let (world, config, source) = plain(&scene).await;
    let mut seeder = good_seeder(&scene, &world, Limits::default()).await;
    let (bridge, mut first) = cross(&scene, &world, &config, Limits::default()).await;
    first.finished(60).await;
    check_flow(&bridge, world.a.flow(), world.b.flow(), SIZE, "demo-1").await;
    seeder.kill().await;
    let dir = scene.dir("later");
    let mut second =
        Peer::leech(Client::LibTorrent, &scene, &world.b.what(), &dir, Limits::default()).await;
    second.finished(60).await;
    assert_eq!(sha256_file(&dir.join("b.bin")), sha256_file(&source));
}

/// Binding the same two torrents again changes nothing; unbinding takes them back.
#[tokio::test]
async fn binding_twice_and_unbinding() {
    let scene = Scene::new();
    let (world, config, _) = plain(&scene).await;
    // Where nobody has it, the bridge leads nobody to itself.
    let _good = good_seeder(&scene, &world, Limits::default()).await;
    let bridge = Bridge::start(&scene, &config).await;
    bridge.bind(("a", &world.a.torrent.path), ("b", &world.b.torrent.path)).await;
    let before = bridge.must(["names", "list", "--json"]).await;
    bridge.bind(("a", &world.a.torrent.path), ("b", &world.b.torrent.path)).await;
    assert_eq!(bridge.must(["names", "list", "--json"]).await, before);
    eventually("the bridge in B's swarm", 20, async || {
        let swarm = p2pbridge_tests::scrape(world.b.tracker.port, &world.b.hash()).await?;
        (swarm.seeders + swarm.leechers >= 1).then_some(())
    })
    .await;
    bridge.must(["names", "unbind", &world.b.torrent.urn()]).await;
    eventually("the bridge gone from B's swarm", 20, async || {
        let swarm = p2pbridge_tests::scrape(world.b.tracker.port, &world.b.hash()).await?;
        (swarm.seeders + swarm.leechers == 0).then_some(())
    })
    .await;
    let resolved = bridge.cli(["names", "resolve", &world.b.torrent.urn(), "--json"]).await;
    assert!(!resolved.status.success(), "{}", resolved.stdout);
}
