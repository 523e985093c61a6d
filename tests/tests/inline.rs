//! Inline: the bridge stands before a tracker. Clients have one announce URL, the tracker sees their true addresses, and what A holds is
//! there also.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use p2pbridge_tests::{
    Ask, BadTracker, Bridge, Client, Config, Hostile, Limits, Make, OverlayConfig, Peer, Scene,
    Side, Torrent, Tracker, TrackerKind, What, bridge_binary, check_flow, eventually, fill,
    free_port, run, sha256_file,
};

const SIZE: u64 = 4 * 1024 * 1024 + 99;

fn at(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

/// The bridge before one tracker; nobody else is there.
async fn before(scene: &Scene, kind: TrackerKind) -> (Tracker, Bridge, String) {
    let tracker = Tracker::start(scene, kind, free_port(), &[]).await;
    let inline = OverlayConfig::inline("b", &[tracker.url()]);
    let url = inline.http();
    let mut config = Config::of(scene, OverlayConfig::front("a"), inline);
    config.routes.clear();
    let bridge = Bridge::start(scene, &config).await;
    (tracker, bridge, url)
}

/// Two real clients at two addresses: the tracker behind the bridge knows both as they are, and they find each other.
async fn true_addresses(kind: TrackerKind) {
    let scene = Scene::new();
    let source = scene.dir("source").join("film.bin");
    fill(&source, SIZE, 401);
    let (tracker, bridge, url) = before(&scene, kind).await;
    let torrent =
        Torrent::make(Make::V1(18), &source, "film.bin", &url, &scene.file("b.torrent")).await;
    let (what, dir, limits) = (What::from(&torrent), scene.dir("leech"), Limits::default());
    let mut leecher = Peer::leech_at(at(3), Client::LibTorrent, &scene, &what, &dir, limits).await;
    let seeder =
        Peer::seed_at(at(2), Client::Aria2, &scene, &what, &scene.dir("source"), limits).await;
    let both: [SocketAddr; 2] = [(at(2), seeder.port()).into(), (at(3), leecher.port()).into()];
    eventually("both in the tracker's own answer", 30, async || {
        let told =
            Ask::new(torrent.v1, 4009).from([127, 0, 0, 9]).forwarded(&tracker.url()).await?;
        both.iter().all(|peer| told.peers.contains(peer)).then_some(())
    })
    .await;
    let told = Ask::new(torrent.v1, 4010).from([127, 0, 0, 10]).at(&url).await.expect("an answer");
    assert!(both.iter().all(|peer| told.peers.contains(peer)), "{told:?}");
    assert_eq!((told.warning, told.failure), (None, None));
    assert!(told.peers.iter().all(|peer| peer.ip() != at(1)), "the bridge is nobody's peer here");
    leecher.finished(60).await;
    assert_eq!(sha256_file(&dir.join("film.bin")), sha256_file(&source));
    drop(bridge);
}

#[tokio::test]
async fn aquatic_sees_true_addresses() {
    true_addresses(TrackerKind::AquaticProxied).await;
}

#[tokio::test]
async fn npm_sees_true_addresses() {
    true_addresses(TrackerKind::NpmProxied).await;
}

/// The tracker's peers and the bridge's come in one answer, and a leecher gets what only A holds.
async fn merges(kind: TrackerKind, client: Client) {
    let scene = Scene::new();
    let source = scene.dir("source").join("film.bin");
    fill(&source, SIZE, 402);
    let a = Side::new(&source, "film.bin", Make::V1(18), TrackerKind::OpenHttp);
    let a = a.raise(&scene, "a").await;
    let limits = Limits::default();
    let _seeder = Peer::seed(Client::Aria2, &scene, &a.what(), &scene.dir("source"), limits).await;
    a.has_seeder().await;
    let tracker = Tracker::start(&scene, kind, free_port(), &[]).await;
    let inline = OverlayConfig::inline("b", &[tracker.url()]);
    let (url, bridge_peer) = (inline.http(), SocketAddr::new(at(1), inline.port));
    let b = Torrent::make(Make::V1(20), &source, "b.bin", &url, &scene.file("b.torrent")).await;
    let config = Config::of(&scene, OverlayConfig::new("a", &[a.tracker.url()]), inline);
    let bridge = Bridge::start(&scene, &config).await;
    bridge.bind(("a", &a.torrent.path), ("b", &b.path)).await;
    let idle = Ask::new(b.v1, 4005).from([127, 0, 0, 5]);
    idle.forwarded(&tracker.url()).await.expect("an answer");
    eventually("the tracker's peers and the bridge in one answer", 20, async || {
        let told = Ask::new(b.v1, 4006).from([127, 0, 0, 6]).at(&url).await?;
        let both = [bridge_peer, (at(5), 4005).into()];
        both.iter().all(|peer| told.peers.contains(peer)).then_some(())
    })
    .await;
    let dir = scene.dir("leech");
    let mut leecher = Peer::leech_at(at(2), client, &scene, &What::from(&b), &dir, limits).await;
    leecher.finished(60).await;
    assert_eq!(sha256_file(&dir.join("b.bin")), sha256_file(&source));
    check_flow(&bridge, a.flow(), ("b", &b), SIZE, "demo-1").await;
}

#[tokio::test]
async fn aquatic_and_a_merged_for_aria2() {
    merges(TrackerKind::AquaticProxied, Client::Aria2).await;
}

#[tokio::test]
async fn npm_and_a_merged_for_libtorrent() {
    merges(TrackerKind::NpmProxied, Client::LibTorrent).await;
}

#[tokio::test]
async fn npm_and_a_merged_for_transmission() {
    merges(TrackerKind::NpmProxied, Client::Transmission).await;
}

/// The tracker dies: its peers are still answered, with a warning. It comes back empty: it learns them again.
async fn dies_and_comes_back(kind: TrackerKind) {
    let scene = Scene::new();
    let (mut tracker, bridge, url) = before(&scene, kind).await;
    let hash = [9; 20];
    let one = Ask::seeder(hash, 4002).from([127, 0, 0, 2]);
    let two = Ask::new(hash, 4003).from([127, 0, 0, 3]);
    one.at(&url).await.expect("an answer");
    let told = two.at(&url).await.expect("an answer");
    assert!(told.peers.contains(&(at(2), 4002).into()), "{told:?}");
    assert_eq!(told.warning, None);

    tracker.program.kill().await;
    eventually("an answer with a warning", 20, async || {
        let told = two.event("").at(&url).await?;
        assert_eq!(told.failure, None, "{told:?}");
        let known = told.peers.contains(&(at(2), 4002).into());
        assert!(known, "who is there is told also while the tracker is down: {told:?}");
        told.warning
    })
    .await;
    // Somebody who comes only now is told of, too.
    let late = Ask::new(hash, 4004).from([127, 0, 0, 4]);
    let told = late.at(&url).await.expect("an answer");
    assert!(told.warning.is_some() && !told.peers.is_empty(), "{told:?}");

    let tracker = Tracker::start(&scene, kind, tracker.port, &[]).await;
    eventually("the tracker knowing them again", 45, async || {
        for ask in [one.event(""), two.event("")] {
            ask.at(&url).await?;
        }
        let told = Ask::new(hash, 4009).from([127, 0, 0, 9]).forwarded(&tracker.url()).await?;
        let known = [(at(2), 4002).into(), (at(3), 4003).into()];
        known.iter().all(|peer| told.peers.contains(peer)).then_some(())
    })
    .await;
    eventually("an answer without a warning", 20, async || {
        let told = two.event("").at(&url).await?;
        told.warning.is_none().then_some(())
    })
    .await;
    drop(bridge);
}

#[tokio::test]
async fn aquatic_dies_and_comes_back() {
    dies_and_comes_back(TrackerKind::AquaticProxied).await;
}

#[tokio::test]
async fn npm_dies_and_comes_back() {
    dies_and_comes_back(TrackerKind::NpmProxied).await;
}

/// What the tracker refuses is refused in the tracker's own words.
#[tokio::test]
async fn a_refusal_comes_through() {
    const REFUSAL: &[u8] =
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nd14:failure reason28:unregistered torrent, friende";
    let scene = Scene::new();
    let hostile = Hostile::start(BadTracker::Says(REFUSAL)).await;
    let inline = OverlayConfig::inline("b", std::slice::from_ref(&hostile.url));
    let url = inline.http();
    let mut config = Config::of(&scene, OverlayConfig::front("a"), inline);
    config.routes.clear();
    let _bridge = Bridge::start(&scene, &config).await;
    let told = Ask::new([3; 20], 4001).at(&url).await.expect("an answer");
    assert_eq!(told.failure.as_deref(), Some("unregistered torrent, friend"), "{told:?}");
}

/// Inline before a UDP tracker, or at a UDP port, is refused before it runs: at its line, with the reason.
#[tokio::test]
async fn udp_is_refused() {
    let scene = Scene::new();
    let tracker = OverlayConfig::inline("b", &["udp://tracker.example:6969".into()]);
    let door = OverlayConfig::inline("b", &["http://tracker.example/announce".into()])
        .with_terms("udp = [\"127.0.0.1:6969\"]\n");
    for (inline, shown) in [(tracker, "udp://tracker.example:6969"), (door, "127.0.0.1:6969")] {
        let config = Config::of(&scene, OverlayConfig::front("a"), inline);
        let path = config.write(&scene);
        let text = fs::read_to_string(&path).expect("the configuration");
        let line = text.lines().position(|line| line.contains(shown)).expect("the line") + 1;
        let path = path.to_str().expect("a plain path");
        let said = run(20, bridge_binary(), ["check-config", "--config", path]).await;
        let stderr = String::from_utf8_lossy(&said.stderr);
        assert!(!said.status.success());
        for part in [&format!("line {line}"), shown, "^", "inline", "UDP", "address"] {
            assert!(stderr.contains(part), "{part:?} in:\n{stderr}");
        }
    }
}
