//! Choice: two overlays hold what a third wants; the bridge tells which is better, and why.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::{Duration, Instant};

use p2pbridge_tests::{
    Bridge, Client, Config, Json, Limits, Make, OverlayConfig, Peer, Scene, Side, TrackerKind,
    World, eventually, fill, mib, sha256_file,
};

/// A's route lets next to nothing cross: what B wants comes from C.
#[tokio::test]
async fn a_route_that_is_full_does_not_hold_up_the_other() {
    let scene = Scene::new();
    let source = scene.dir("source").join("film.mkv");
    fill(&source, mib(16) + 77, 1);
    let world = World::plain(&scene, &source).await;
    let side = Side::new(&source, "film.mkv", Make::V1(19), TrackerKind::NpmHttp);
    let c = side.raise(&scene, "c").await;
    let from = scene.dir("source");
    let seed =
        async |what| Peer::seed(Client::Aria2, &scene, &what, &from, Limits::default()).await;
    // A has enough seeders to take all places that are taken at first.
    let _in_a = [
        seed(world.a.what()).await,
        seed(world.a.what()).await,
        seed(world.a.what()).await,
        seed(world.a.what()).await,
    ];
    let _in_c = seed(c.what()).await;
    world.a.tracker.counts(&world.a.hash(), 4, 0, 20).await;
    c.has_seeder().await;

    let mut config = Config::a_to_b(&scene, &[world.a.tracker.url()], &[world.b.tracker.url()]);
    config.overlays.push(OverlayConfig::new("c", &[c.tracker.url()]));
    config.routes.clear();
    config.more = "[[routes]]\nfrom = \"a\"\nto = \"b\"\nmax_rate = \"64 KiB\"\n\
                   [[routes]]\nfrom = \"c\"\nto = \"b\"\ncost = 1.0\n"
        .to_owned();
    let bridge = Bridge::start(&scene, &config).await;
    let bound = [("a", &world.a.torrent), ("b", &world.b.torrent), ("c", &c.torrent)]
        .map(|(overlay, torrent)| format!("{overlay}={}", torrent.path.display()));
    bridge.must(["names", "bind", &bound[0], &bound[1], &bound[2]]).await;
    let dir = scene.dir("leech");
    let what = world.b.what();
    let mut leecher = Peer::leech(Client::LibTorrent, &scene, &what, &dir, Limits::default()).await;
    // By the route from A alone it would take more than four minutes.
    leecher.finished(60).await;
    assert_eq!(sha256_file(&dir.join("b.bin")), sha256_file(&source));
}

/// B wants what A and C hold; by the route from C it costs more.
#[tokio::test]
async fn the_score_of_each_overlay_is_explained() {
    let scene = Scene::new();
    let source = scene.dir("source").join("film.mkv");
    fill(&source, mib(8) + 77, 1);
    let world = World::plain(&scene, &source).await;
    let side = Side::new(&source, "film.mkv", Make::V1(19), TrackerKind::NpmHttp);
    let c = side.raise(&scene, "c").await;
    let from = scene.dir("source");
    let seed =
        async |what| Peer::seed(Client::Aria2, &scene, &what, &from, Limits::default()).await;
    let _in_a = seed(world.a.what()).await;
    let _in_c = seed(c.what()).await;
    world.a.has_seeder().await;
    c.has_seeder().await;

    let mut config = Config::a_to_b(&scene, &[world.a.tracker.url()], &[world.b.tracker.url()]);
    config.overlays.push(OverlayConfig::new("c", &[c.tracker.url()]));
    config.more =
        "[[routes]]\nfrom = \"c\"\nto = \"b\"\ncost = 1.0\nclasses = [\"video\"]\n".to_owned();
    let bridge = Bridge::start(&scene, &config).await;
    let bound = [("a", &world.a.torrent), ("b", &world.b.torrent), ("c", &c.torrent)]
        .map(|(overlay, torrent)| format!("{overlay}={}", torrent.path.display()));
    bridge.must(["names", "bind", &bound[0], &bound[1], &bound[2]]).await;

    // To B: both can, and A is better.
    let b = world.b.torrent.path.display().to_string();
    let explain = ["names", "resolve", "--explain", &b];
    let told = eventually("both overlays known", 20, async || {
        let ran = bridge.cli(["names", "resolve", "--explain", "--json", &b]).await;
        let told = Json::parse(&ran.stdout);
        let choices = told.get("choices").items();
        let usable = |choice: &Json| choice.get("usable").0 == true;
        (choices.len() == 2 && choices.iter().all(usable)).then_some(told)
    })
    .await;
    let from: Vec<_> =
        told.get("choices").items().iter().map(|choice| choice.get("from").0).collect();
    assert_eq!(from, ["a", "c"], "{told:?}");
    assert!(told.get("can_be_served").0 == true, "{told:?}");
    let text = bridge.must(explain).await;
    assert!(text.contains("to b:") && text.contains("the best"), "{text}");
    assert!(text.contains("1 a GiB") && text.contains("health"), "{text}");

    // To A: nothing can, and that is said at once.
    let start = Instant::now();
    let a = world.a.torrent.path.display().to_string();
    let ran = bridge.cli(["names", "resolve", "--explain", &a]).await;
    assert_eq!(ran.status.code(), Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("no route from b to a"), "{}", ran.stderr);
    assert!(ran.stderr.contains("no route from c to a"), "{}", ran.stderr);
    assert!(start.elapsed() < Duration::from_secs(5));

    // What is explained is what happens.
    let dir = scene.dir("leech");
    let what = world.b.what();
    let mut leecher = Peer::leech(Client::LibTorrent, &scene, &what, &dir, Limits::default()).await;
    leecher.finished(60).await;
    assert_eq!(sha256_file(&dir.join("b.bin")), sha256_file(&source));
    let text = bridge.must(explain).await;
    assert!(text.contains("the bridge holds") && text.contains("all of it"), "{text}");
}
