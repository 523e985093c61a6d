//! Front: the bridge is a tracker. Stock clients that know of no other finish through it, and find each other by it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use p2pbridge_tests::{
    Ask, Bridge, Client, Config, Limits, Make, OverlayConfig, Peer, Place, Scene, Side, Torrent,
    Tracker, TrackerKind, What, check_flow, eventually, fill, free_port, mib, run, sha256_file,
    usage,
};

const SIZE: u64 = 8 * 1024 * 1024 + 4_321;
const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// A in presence, with a seeder on opentracker.
async fn home(scene: &Scene) -> (Place, PathBuf, Peer) {
    let source = scene.dir("source").join("film.bin");
    fill(&source, SIZE, 201);
    let a = Side::new(&source, "film.bin", Make::V1(18), TrackerKind::OpenHttp);
    let a = a.raise(scene, "a").await;
    let seeder =
        Peer::seed(Client::Aria2, scene, &a.what(), &scene.dir("source"), Limits::default()).await;
    a.has_seeder().await;
    (a, source, seeder)
}

/// The same bytes in B's torrent, with 1 MiB pieces.
async fn wanted(scene: &Scene, source: &std::path::Path, announce: &str) -> Torrent {
    let out = scene.file("b.torrent");
    Torrent::make(Make::V1(20), source, "b.bin", announce, &out).await
}

/// Starts the bridge with both torrents bound.
async fn start(scene: &Scene, a: &Place, b: &Torrent, front: OverlayConfig) -> Bridge {
    let config = Config::of(scene, OverlayConfig::new("a", &[a.tracker.url()]), front);
    let bridge = Bridge::start(scene, &config).await;
    bridge.bind(("a", &a.torrent.path), ("b", &b.path)).await;
    bridge
}

/// A leecher whose only tracker is the front gets what only A holds.
async fn crosses(client: Client, scheme: &str, at: IpAddr) {
    let scene = Scene::new();
    let (a, source, _seeder) = home(&scene).await;
    let front = OverlayConfig::front("b");
    let b = wanted(&scene, &source, &front.announce(scheme, at)).await;
    let bridge = start(&scene, &a, &b, front).await;
    let dir = scene.dir("leech");
    let mut leecher =
        Peer::leech_at(at, client, &scene, &What::from(&b), &dir, Limits::default()).await;
    leecher.finished(60).await;
    assert_eq!(sha256_file(&dir.join("b.bin")), sha256_file(&source));
    check_flow(&bridge, a.flow(), ("b", &b), SIZE, "demo-1").await;
    let overlay = bridge.json(["overlays", "--json"]).await.get("overlays").find("id", "b");
    assert_eq!(overlay.expect("b").get("mode").text(), "front");
}

macro_rules! crosses {
    ($($name:ident: $client:ident by $scheme:literal at $at:expr;)+) => {$(
        #[tokio::test]
        async fn $name() {
            crosses(Client::$client, $scheme, $at).await;
        }
    )+};
}

crosses! {
    aria2_by_http: Aria2 by "http" at V4;
    aria2_by_udp: Aria2 by "udp" at V4;
    aria2_by_http_over_ipv6: Aria2 by "http" at V6;
    libtorrent_by_http: LibTorrent by "http" at V4;
    libtorrent_by_udp: LibTorrent by "udp" at V4;
    libtorrent_by_http_over_ipv6: LibTorrent by "http" at V6;
    libtorrent_by_udp_over_ipv6: LibTorrent by "udp" at V6;
    transmission_by_http: Transmission by "http" at V4;
    transmission_by_udp: Transmission by "udp" at V4;
    transmission_by_http_over_ipv6: Transmission by "http" at V6;
}

/// A front alone: a tracker as any other. Nothing crosses, and nothing is billed.
async fn meets(scheme: &str, at: IpAddr) {
    let scene = Scene::new();
    let source = scene.dir("source").join("film.bin");
    fill(&source, SIZE, 202);
    let front = OverlayConfig::front("b");
    let url = front.announce(scheme, at);
    let torrent =
        Torrent::make(Make::V1(18), &source, "film.bin", &url, &scene.file("b.torrent")).await;
    let mut config = Config::of(&scene, OverlayConfig::front("a"), front);
    config.routes.clear();
    let mut bridge = Bridge::start(&scene, &config).await;
    let (what, dir, limits) = (What::from(&torrent), scene.dir("leech"), Limits::default());
    let mut leecher = Peer::leech_at(at, Client::LibTorrent, &scene, &what, &dir, limits).await;
    let _seeder =
        Peer::seed_at(at, Client::Aria2, &scene, &what, &scene.dir("source"), limits).await;
    leecher.finished(60).await;
    assert_eq!(sha256_file(&dir.join("film.bin")), sha256_file(&source));
    assert!(usage(&bridge).await.is_empty());
    bridge.program.assert_runs();
    assert!(bridge.terminate(15).await.success());
}

#[tokio::test]
async fn two_clients_find_each_other_by_http() {
    meets("http", V4).await;
}

#[tokio::test]
async fn two_clients_find_each_other_by_udp() {
    meets("udp", V4).await;
}

#[tokio::test]
async fn two_clients_find_each_other_over_ipv6() {
    meets("http", V6).await;
}

/// Real programs ask how large a swarm is, by HTTP and by UDP, before and after a peer has left.
#[tokio::test]
async fn scrapes() {
    let scene = Scene::new();
    let source = scene.dir("source").join("film.bin");
    fill(&source, mib(1), 203);
    let front = OverlayConfig::front("b").with_terms("interval = 1800\nmin_interval = 60\n");
    let (http, udp) = (front.http(), front.udp());
    let make = async |name: &str, url: &str| {
        Torrent::make(Make::V1(18), &source, "film.bin", url, &scene.file(name)).await
    };
    let (by_http, by_udp) = (make("http.torrent", &http).await, make("udp.torrent", &udp).await);
    assert_eq!(by_http.v1, by_udp.v1);
    let mut config = Config::of(&scene, OverlayConfig::front("a"), front);
    config.routes.clear();
    let _bridge = Bridge::start(&scene, &config).await;

    let show = async || {
        let path = by_http.path.to_str().expect("a plain path");
        let said = run(20, "transmission-show", ["--scrape", path]).await;
        String::from_utf8_lossy(&said.stdout).into_owned()
    };
    assert!(!show().await.contains("seeders"), "nobody has asked for it yet");
    for (url, ask) in [
        (&http, Ask::seeder(by_http.v1, 4001)),
        (&udp, Ask::seeder(by_http.v1, 4002).from([127, 0, 0, 2])),
        (&udp, Ask::new(by_http.v1, 4003)),
    ] {
        let told = ask.at(url).await.expect("an answer");
        assert_eq!((told.failure, told.interval), (None, 1800));
    }
    let said = show().await;
    assert!(said.contains("2 seeders, 1 leechers"), "{said}");

    let (what, dir) = (What::from(&by_udp), scene.dir("leech"));
    let mut real = Peer::leech(Client::LibTorrent, &scene, &what, &dir, Limits::default()).await;
    let Peer::LibTorrent(real) = &mut real else { unreachable!() };
    eventually("libtorrent among the leechers", 20, async || {
        let swarm = real.scrape().await;
        ((swarm.seeders, swarm.leechers) == (2, 2)).then_some(())
    })
    .await;
    Ask::seeder(by_http.v1, 4001).event("stopped").at(&http).await.expect("an answer");
    let said = show().await;
    assert!(said.contains("1 seeders, 2 leechers"), "{said}");
}

/// What the front hands out: everybody else of the asker's family, nobody that has stopped, and not the asker itself.
#[tokio::test]
async fn it_answers_from_its_own_state() {
    let scene = Scene::new();
    let front = OverlayConfig::front("b").with_terms("interval = 1800\nmin_interval = 60\n");
    let (http, udp, http6) = (front.http(), front.udp(), front.announce("http", V6));
    let mut config = Config::of(&scene, OverlayConfig::front("a"), front);
    config.routes.clear();
    let _bridge = Bridge::start(&scene, &config).await;
    let hash = [7; 20];
    let one = Ask::seeder(hash, 4001);
    let two = Ask::new(hash, 4002).from([127, 0, 0, 2]);
    let six = Ask::new(hash, 4006).from(Ipv6Addr::LOCALHOST);
    assert_eq!(one.at(&http).await.expect("an answer").peers, []);
    assert_eq!(two.at(&udp).await.expect("an answer").peers, [(V4, 4001).into()]);
    let told = six.at(&http6).await.expect("an answer");
    assert_eq!((told.seeders, told.leechers), (Some(1), Some(2)), "{told:?}");
    let told = one.event("").at(&udp).await.expect("an answer");
    assert!(told.peers.contains(&([127, 0, 0, 2], 4002).into()), "{told:?}");
    assert!(!told.peers.contains(&(V4, 4001).into()), "{told:?}");
    two.event("stopped").at(&http).await.expect("an answer");
    let told = one.event("").at(&udp).await.expect("an answer");
    assert!(!told.peers.contains(&([127, 0, 0, 2], 4002).into()), "{told:?}");
    assert_eq!(Ask::new([8; 20], 4001).at(&udp).await.expect("an answer").peers, []);
}

/// With `names = "bound"` it is a tracker of what is bound here, and of nothing else.
#[tokio::test]
async fn names_that_are_not_bound_are_refused() {
    let scene = Scene::new();
    let source = scene.dir("source").join("film.bin");
    fill(&source, mib(1), 204);
    let front = OverlayConfig::front("b").with_terms("names = \"bound\"\n");
    let (http, udp) = (front.http(), front.udp());
    let b = wanted(&scene, &source, &http).await;
    let mut config = Config::of(&scene, OverlayConfig::front("a"), front);
    config.routes.clear();
    let bridge = Bridge::start(&scene, &config).await;
    let refused =
        async |url: &str| Ask::new(b.v1, 4001).at(url).await.expect("an answer").failure.is_some();
    assert!(refused(&http).await && refused(&udp).await);
    bridge.must(["names", "bind", &format!("b={}", b.path.display())]).await;
    eventually("the name served", 10, async || (!refused(&http).await).then_some(())).await;
    assert!(!refused(&udp).await);
    assert!(Ask::new([1; 20], 4001).at(&http).await.expect("an answer").failure.is_some());
}

/// A forwarded address counts where the operator says so, and only there.
#[tokio::test]
async fn forwarded_addresses() {
    for (trusted, terms) in [(false, "min_interval = 1\n"), (true, "trust_forwarded_for = true\n")]
    {
        let scene = Scene::new();
        let front = OverlayConfig::front("b").with_terms(terms);
        let http = front.http();
        let mut config = Config::of(&scene, OverlayConfig::front("a"), front);
        config.routes.clear();
        let _bridge = Bridge::start(&scene, &config).await;
        let far = Ask::new([6; 20], 4001).from([127, 0, 0, 44]);
        let told = far.forwarded(&http).await.expect("an answer");
        assert_eq!(told.failure, None);
        let from = if trusted { far.from } else { V4 };
        let other = Ask::new([6; 20], 4002).from([127, 0, 0, 45]);
        let told = other.forwarded(&http).await.expect("an answer");
        assert_eq!(told.peers, [(from, 4001).into()], "trusted: {trusted}");
    }
}

/// The torrent's own tracker is there and knows nobody who has it: the front is its second tier.
#[tokio::test]
async fn one_more_tier() {
    let scene = Scene::new();
    let (a, source, _seeder) = home(&scene).await;
    let front = OverlayConfig::front("b");
    let port = free_port();
    let npm = TrackerKind::NpmHttp.url(port);
    let b = wanted(&scene, &source, &format!("{npm} {}", front.http())).await;
    let tracker = Tracker::start(&scene, TrackerKind::NpmHttp, port, &[b.v1]).await;
    let bridge = start(&scene, &a, &b, front).await;
    let dir = scene.dir("leech");
    let mut leecher =
        Peer::leech(Client::Transmission, &scene, &What::from(&b), &dir, Limits::default()).await;
    tracker.counts(&b.v1, 0, 1, 20).await;
    leecher.finished(60).await;
    assert_eq!(sha256_file(&dir.join("b.bin")), sha256_file(&source));
    check_flow(&bridge, a.flow(), ("b", &b), SIZE, "demo-1").await;
}

/// The torrent's own tracker is down: clients go on to the front.
#[tokio::test]
async fn the_tier_after_a_dead_tracker() {
    let scene = Scene::new();
    let (a, source, _seeder) = home(&scene).await;
    let front = OverlayConfig::front("b");
    let dead = TrackerKind::NpmHttp.url(free_port());
    let b = wanted(&scene, &source, &format!("{dead} {}", front.udp())).await;
    let _bridge = start(&scene, &a, &b, front).await;
    let dir = scene.dir("leech");
    let mut leecher =
        Peer::leech(Client::LibTorrent, &scene, &What::from(&b), &dir, Limits::default()).await;
    leecher.finished(60).await;
    assert_eq!(sha256_file(&dir.join("b.bin")), sha256_file(&source));
}

/// Killed in the middle and started again, the front knows nobody; its peers come back, and go on.
#[tokio::test]
async fn restarted() {
    let scene = Scene::new();
    let (a, source, _seeder) = home(&scene).await;
    let front = OverlayConfig::front("b");
    let b = wanted(&scene, &source, &front.http()).await;
    let mut bridge = start(&scene, &a, &b, front).await;
    let (dir, slow) = (scene.dir("leech"), Limits::down(mib(1)));
    let mut leecher = Peer::leech(Client::LibTorrent, &scene, &What::from(&b), &dir, slow).await;
    let Peer::LibTorrent(real) = &mut leecher else { unreachable!() };
    eventually("some of it", 40, async || (real.status().await.done > 0).then_some(())).await;
    bridge.kill9().await;
    assert!(real.status().await.progress < 1.0);
    let bridge = Bridge::start(&scene, &bridge.config).await;
    leecher.finished(60).await;
    assert_eq!(sha256_file(&dir.join("b.bin")), sha256_file(&source));
    drop(bridge);
}
