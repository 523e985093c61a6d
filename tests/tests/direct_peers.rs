//! Peers that can talk directly do: where a route allows it, those of one overlay are named as they are to those of another that know the
//! content by the same name. All others go through the relay.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Instant;

use p2pbridge_tests::{
    Ask, Bridge, Client, Config, Counting, Limits, Make, OverlayConfig, Peer, Scene, Side, Torrent,
    Tracker, TrackerKind, What, check_flow, eventually, fill, free_port, sha256_file, sum, usage,
};

const SIZE: u64 = 4 * 1024 * 1024 + 77;

fn content(scene: &Scene) -> PathBuf {
    let source = scene.dir("source").join("film.bin");
    fill(&source, SIZE, 301);
    source
}

fn here(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A torrent of the content.
async fn torrent(scene: &Scene, how: Make, name: &str, announce: &str, out: &str) -> Torrent {
    let source = scene.file("source").join("film.bin");
    Torrent::make(how, &source, name, announce, &scene.file(out)).await
}

/// One torrent for two overlays: the same info-hash, each with its own announce URL.
async fn twins(scene: &Scene, a: &str, b: &str) -> (Torrent, Torrent) {
    let a = torrent(scene, Make::V1(18), "film.bin", a, "a.torrent").await;
    let b = torrent(scene, Make::V1(18), "film.bin", b, "b.torrent").await;
    assert_eq!(a.v1, b.v1);
    (a, b)
}

/// Waits for a leecher to finish from this peer; says whether it ever had a connection to it.
async fn finished_from(leecher: &mut Peer, seeder: SocketAddr) -> bool {
    let Peer::LibTorrent(leecher) = leecher else { unreachable!("libtorrent tells its peers") };
    let mut met = false;
    eventually("all of it", 60, async || {
        met |= leecher.peers().await.contains(&seeder);
        (leecher.status().await.progress >= 1.0).then_some(())
    })
    .await;
    leecher.finished(20).await;
    met
}

/// A's tracker is npm's, B is a front, and both have one torrent.
async fn one_torrent(direct: bool, route: bool) {
    let scene = Scene::new();
    let source = content(&scene);
    let front = OverlayConfig::front("b");
    let port = free_port();
    let npm = TrackerKind::NpmHttp.url(port);
    let (a, b) = twins(&scene, &npm, &front.http()).await;
    let tracker = Tracker::start(&scene, TrackerKind::NpmHttp, port, &[a.v1]).await;
    let seeder =
        Peer::seed(Client::Aria2, &scene, &What::from(&a), &scene.dir("source"), Limits::default())
            .await;
    tracker.counts(&a.v1, 1, 0, 20).await;
    let url = front.http();
    let mut config = Config::of(&scene, OverlayConfig::new("a", &[npm]), front);
    config.direct = direct;
    if !route {
        config.routes.clear();
    }
    let mut bridge = Bridge::start(&scene, &config).await;
    bridge.bind_same(("a", &a.path), ("b", &b.path)).await;
    if !route {
        // The bridge knows of the seeder, and tells nobody; the second answer is not the first that it ever gave.
        for _ in 0..2 {
            let told = Ask::new(b.v1, 4001).at(&url).await.expect("an answer");
            assert_eq!((told.peers.as_slice(), told.failure), (&[][..], None));
        }
        assert!(usage(&bridge).await.is_empty());
        return;
    }
    let dir = scene.dir("leech");
    // Slow enough that a connection is seen.
    let limits = Limits::down(2 << 20);
    let mut leecher = Peer::leech(Client::LibTorrent, &scene, &What::from(&b), &dir, limits).await;
    let met = finished_from(&mut leecher, here(seeder.port())).await;
    assert_eq!(sha256_file(&dir.join("film.bin")), sha256_file(&source));
    assert_eq!(met, direct, "a connection to the seeder itself");
    if direct {
        assert_eq!(sum(&usage(&bridge).await, "bytes_served"), 0);
    } else {
        check_flow(&bridge, ("a", &a), ("b", &b), SIZE, "demo-1").await;
    }
    assert!(bridge.terminate(15).await.success());
}

#[tokio::test]
async fn one_torrent_with_a_direct_route() {
    one_torrent(true, true).await;
}

#[tokio::test]
async fn one_torrent_without_leave_to_name_peers() {
    one_torrent(false, true).await;
}

#[tokio::test]
async fn one_torrent_without_a_route() {
    one_torrent(false, false).await;
}

/// Two fronts of one bridge: those who announced themselves in A are named in B, at the address from which they announced; the route
/// does not lead back.
#[tokio::test]
async fn two_fronts() {
    let scene = Scene::new();
    let source = content(&scene);
    let (in_a, in_b) = (OverlayConfig::front("a"), OverlayConfig::front("b"));
    let (http_a, http_b, udp_b) = (in_a.http(), in_b.http(), in_b.udp());
    let (a, b) = twins(&scene, &http_a, &udp_b).await;
    let mut config = Config::of(&scene, in_a, in_b);
    config.direct = true;
    let bridge = Bridge::start(&scene, &config).await;
    bridge.bind_same(("a", &a.path), ("b", &b.path)).await;
    let seeder =
        Peer::seed(Client::Aria2, &scene, &What::from(&a), &scene.dir("source"), Limits::default())
            .await;
    eventually("the seeder named in b", 20, async || {
        let told = Ask::new(b.v1, 4001).from([127, 0, 0, 9]).at(&http_b).await?;
        told.peers.contains(&here(seeder.port())).then_some(())
    })
    .await;
    // Gone, so that libtorrent does not wait for it.
    Ask::new(b.v1, 4001).from([127, 0, 0, 9]).event("stopped").at(&http_b).await;
    let dir = scene.dir("leech");
    let limits = Limits::down(2 << 20);
    let mut leecher = Peer::leech(Client::LibTorrent, &scene, &What::from(&b), &dir, limits).await;
    assert!(finished_from(&mut leecher, here(seeder.port())).await);
    assert_eq!(sha256_file(&dir.join("film.bin")), sha256_file(&source));
    assert_eq!(sum(&usage(&bridge).await, "bytes_served"), 0);
    let told = Ask::new(a.v1, 4002).from([127, 0, 0, 8]).at(&http_a).await.expect("an answer");
    assert!(!told.peers.contains(&here(leecher.port())), "back against the route: {told:?}");
}

/// A hybrid torrent, known in A by its v1 name alone, and in B by its v2 name alone: its layouts agree, so its peers can meet.
#[tokio::test]
async fn the_two_names_of_a_hybrid_torrent() {
    let scene = Scene::new();
    let source = content(&scene);
    let front = OverlayConfig::front("b");
    let port = free_port();
    let url = TrackerKind::OpenHttp.url(port);
    // The same info dictionary; only the announce URL differs.
    let a = torrent(&scene, Make::Hybrid(18), "film.bin", &url, "a.torrent").await;
    let b = torrent(&scene, Make::Hybrid(18), "film.bin", &front.http(), "b.torrent").await;
    assert_eq!((a.v1, a.v2), (b.v1, b.v2));
    // opentracker serves listed names only: v2's is not.
    let tracker = Tracker::start(&scene, TrackerKind::OpenHttp, port, &[a.v1]).await;
    let seeder = Peer::seed(
        Client::LibTorrent,
        &scene,
        &What::from(&a),
        &scene.dir("source"),
        Limits::default(),
    )
    .await;
    tracker.counts(&a.v1, 1, 0, 20).await;
    let mut config = Config::of(&scene, OverlayConfig::new("a", &[url]), front);
    config.direct = true;
    let bridge = Bridge::start(&scene, &config).await;
    bridge.bind_same(("a", &a.path), ("b", &b.path)).await;
    let v2_urn = b.urns().pop().expect("a v2 name");
    let dir = scene.dir("leech");
    let magnet = What::Magnet(b.magnet_by(&v2_urn));
    let limits = Limits::down(2 << 20);
    let mut leecher = Peer::leech(Client::LibTorrent, &scene, &magnet, &dir, limits).await;
    assert!(finished_from(&mut leecher, here(seeder.port())).await);
    assert_eq!(sha256_file(&dir.join("film.bin")), sha256_file(&source));
    assert_eq!(sum(&usage(&bridge).await, "bytes_served"), 0);
}

/// Two torrents of the same bytes have two names: their peers cannot talk, and are not named, whatever the route allows.
#[tokio::test]
async fn two_torrents_go_through_the_relay() {
    let scene = Scene::new();
    let source = content(&scene);
    let front = OverlayConfig::front("b");
    let a = Side::new(&source, "film.bin", Make::V1(18), TrackerKind::OpenHttp);
    let a = a.raise(&scene, "a").await;
    let b = torrent(&scene, Make::V1(20), "b.bin", &front.http(), "b.torrent").await;
    let seeder =
        Peer::seed(Client::Aria2, &scene, &a.what(), &scene.dir("source"), Limits::default()).await;
    a.has_seeder().await;
    let mut config = Config::of(&scene, OverlayConfig::new("a", &[a.tracker.url()]), front);
    config.direct = true;
    let bridge = Bridge::start(&scene, &config).await;
    bridge.bind(("a", &a.torrent.path), ("b", &b.path)).await;
    let dir = scene.dir("leech");
    let mut leecher =
        Peer::leech(Client::LibTorrent, &scene, &What::from(&b), &dir, Limits::default()).await;
    assert!(!finished_from(&mut leecher, here(seeder.port())).await);
    assert_eq!(sha256_file(&dir.join("b.bin")), sha256_file(&source));
    check_flow(&bridge, a.flow(), ("b", &b), SIZE, "demo-1").await;
}

/// Two bridges, each with a front, and each one more peer of the other's: a question goes to the other, and not back.
#[tokio::test]
async fn two_bridges_do_not_ask_in_circles() {
    const SELDOM: &str = "interval = 4\nmin_interval = 4\n";
    let (scenes, source) = ([Scene::new(), Scene::new()], Scene::new());
    content(&source);
    let fronts = [0, 1].map(|_| OverlayConfig::front("f").with_terms(SELDOM));
    let before = fronts.each_ref().map(|front| Counting::before(front.tracker.expect("one").port));
    let urls = fronts.each_ref().map(OverlayConfig::http);
    let film = torrent(&source, Make::V1(18), "film.bin", &urls[0], "film.torrent").await;
    let began = Instant::now();
    let mut bridges = Vec::new();
    for (number, front) in fronts.into_iter().enumerate() {
        let other = format!("http://127.0.0.1:{}/announce", before[1 - number].port);
        let mut config = Config::of(&scenes[number], OverlayConfig::new("a", &[other]), front);
        config.routes = vec![("a".into(), "f".into(), "demo".into())];
        config.direct = true;
        let bridge = Bridge::start(&scenes[number], &config).await;
        bridge.bind_same(("a", &film.path), ("f", &film.path)).await;
        bridges.push(bridge);
    }
    let asks = [Ask::new(film.v1, 4001), Ask::new(film.v1, 4002).from([127, 0, 0, 2])];
    // A third, at the first bridge, is told of the second's peer.
    eventually("the other bridge's peer named", 30, async || {
        for (ask, url) in asks.iter().zip(&urls) {
            ask.at(url).await?;
        }
        let told = Ask::new(film.v1, 4003).from([127, 0, 0, 3]).at(&urls[0]).await?;
        told.peers.contains(&([127, 0, 0, 2], 4002).into()).then_some(())
    })
    .await;
    // Each asks when the other's interval is over, for itself and for its peers; a circle would turn as fast as they can.
    let counted = before.each_ref().map(Counting::seen);
    let most = 20 + 4 * began.elapsed().as_secs() as usize;
    assert!(counted.iter().all(|seen| *seen <= most), "{counted:?} questions, more than {most}");
    for mut bridge in bridges {
        assert!(bridge.terminate(15).await.success());
    }
}
