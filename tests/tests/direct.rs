//! The harness itself: every client downloads from every seeder over every tracker, with no bridge between.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use p2pbridge_tests::{
    Client, Evil, Limits, Make, Manner, Peer, Scene, Torrent, Tracker, TrackerKind, What, World,
    eventually, fill, free_port, sha256_file,
};

const SIZE: u64 = 3 * 1024 * 1024 + 12_345;

async fn direct(kind: TrackerKind, seeder: Client, leecher: Client, make: Make, magnet: bool) {
    let scene = Scene::new();
    let source = scene.dir("source").join("film.bin");
    fill(&source, SIZE, 7);
    let port = free_port();
    let torrent =
        Torrent::make(make, &source, "film.bin", &kind.url(port), &scene.file("film.torrent"))
            .await;
    let hash = torrent.tracker_hash();
    let tracker = Tracker::start(&scene, kind, port, &[hash]).await;
    let what = What::from(&torrent);

    let _seeder = Peer::seed(seeder, &scene, &what, &scene.dir("source"), Limits::default()).await;
    tracker.counts(&hash, 1, 0, 20).await;
    let what = if magnet { What::Magnet(torrent.magnet()) } else { what };
    let dir = scene.dir("leech");
    let mut leecher = Peer::leech(leecher, &scene, &what, &dir, Limits::default()).await;
    leecher.finished(20).await;
    assert_eq!(sha256_file(&dir.join("film.bin")), sha256_file(&source));
}

macro_rules! direct {
    ($($name:ident: $tracker:ident, $seeder:ident -> $leecher:ident, $make:expr, $magnet:expr;)+) => {$(
        #[tokio::test]
        async fn $name() {
            direct(TrackerKind::$tracker, Client::$seeder, Client::$leecher, $make, $magnet).await;
        }
    )+};
}

direct! {
    aria2_from_libtorrent_by_opentracker_http: OpenHttp, LibTorrent -> Aria2, Make::V1(18), false;
    libtorrent_from_aria2_by_opentracker_udp: OpenUdp, Aria2 -> LibTorrent, Make::V1(18), false;
    aria2_from_aria2_by_npm_udp: NpmUdp, Aria2 -> Aria2, Make::V1(20), false;
    libtorrent_from_libtorrent_by_npm_http: NpmHttp, LibTorrent -> LibTorrent, Make::Hybrid(18), false;
    libtorrent_from_libtorrent_by_aquatic_udp: AquaticUdp, LibTorrent -> LibTorrent, Make::V2(18), false;
    aria2_from_aria2_by_a_magnet: NpmHttp, Aria2 -> Aria2, Make::V1(18), true;
    libtorrent_from_transmission: NpmHttp, Transmission -> LibTorrent, Make::V1(18), true;
}

/// Transmission does not connect to loopback peers that its tracker names: it is dialled.
#[tokio::test]
async fn transmission_when_dialled_by_libtorrent() {
    let scene = Scene::new();
    let source = scene.dir("source").join("film.bin");
    fill(&source, SIZE, 8);
    let port = free_port();
    let kind = TrackerKind::NpmHttp;
    let torrent = Torrent::make(
        Make::V1(18),
        &source,
        "film.bin",
        &kind.url(port),
        &scene.file("film.torrent"),
    )
    .await;
    let _tracker = Tracker::start(&scene, kind, port, &[torrent.v1]).await;
    let what = What::from(&torrent);
    let dir = scene.dir("leech");
    let mut leecher =
        Peer::leech(Client::Transmission, &scene, &what, &dir, Limits::default()).await;
    let mut seeder =
        Peer::seed(Client::LibTorrent, &scene, &what, &scene.dir("source"), Limits::default())
            .await;
    let Peer::LibTorrent(seeder) = &mut seeder else { unreachable!() };
    seeder.connect(leecher.port()).await;
    leecher.finished(40).await;
    assert_eq!(sha256_file(&dir.join("film.bin")), sha256_file(&source));
}

/// The evil seeder is what it says: libtorrent finds its wrong blocks, and gets none of a vanished one's.
#[tokio::test]
async fn the_evil_seeder_is_evil() {
    let scene = Scene::new();
    let source = scene.dir("source").join("film.bin");
    fill(&source, SIZE, 9);
    let world = World::plain(&scene, &source).await;
    let mut evil =
        Evil::start(&scene, Manner::Corrupt, &world.a.torrent, &scene.dir("source")).await;
    let what = world.a.what();
    let mut leecher =
        Peer::leech(Client::LibTorrent, &scene, &what, &scene.dir("x"), Limits::default()).await;
    let Peer::LibTorrent(leecher) = &mut leecher else { unreachable!() };
    evil.said("served", 20).await;
    eventually("rejected bytes", 20, async || (leecher.status().await.failed > 0).then_some(()))
        .await;

    let mut gone =
        Evil::start(&scene, Manner::Vanish, &world.a.torrent, &scene.dir("source")).await;
    leecher.connect(gone.port).await;
    assert!(gone.program.ended(20).await.success());
    assert_eq!(gone.times("vanished"), 1);
    assert!(leecher.status().await.progress < 1.0);
}
