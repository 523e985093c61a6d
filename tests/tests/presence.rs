//! Presence: a stock leecher in swarm B gets a file that only swarm A holds. Neither it, nor its tracker, nor swarm A knows of a bridge.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use p2pbridge_tests::{
    Bridge, Client, Config, Limits, Make, Peer, Scene, Side, TrackerKind, Trackers, What, World,
    check_flow, check_overlays, crossing, eventually, fill, mib, sha256_file, tree,
};

/// What differs between the cases.
struct Case {
    a: (TrackerKind, Client),
    b: (TrackerKind, Client),
    make_a: Make,
    make_b: Make,
    magnet: bool,
    /// The leecher is there, alone, before the bridge knows of anything.
    leecher_first: bool,
}

/// One file, 256 KiB pieces in A, 1 MiB pieces and another name in B.
async fn crosses(case: Case) {
    let scene = Scene::new();
    let source = scene.dir("source").join("film.bin");
    fill(&source, mib(24) + 4_321, 1);
    let world = World::new(
        &scene,
        Side::new(&source, "film.bin", case.make_a, case.a.0),
        Side::new(&source, "another name.bin", case.make_b, case.b.0),
    )
    .await;
    let _seeder =
        Peer::seed(case.a.1, &scene, &world.a.what(), &scene.dir("source"), Limits::default())
            .await;
    world.a.has_seeder().await;
    let dir = scene.dir("leech");
    let what = if case.magnet { What::Magnet(world.b.torrent.magnet()) } else { world.b.what() };

    let config = Config::a_to_b(&scene, &[world.a.tracker.url()], &[world.b.tracker.url()]);
    let bridge = Bridge::start(&scene, &config).await;
    let mut leecher = if case.leecher_first {
        let leecher = Peer::leech(case.b.1, &scene, &what, &dir, Limits::default()).await;
        // With a magnet link aria2 does not know what it lacks, and is counted as a seeder.
        let (seeders, leechers) = if case.magnet { (1, 0) } else { (0, 1) };
        world.b.tracker.counts(&world.b.hash(), seeders, leechers, 20).await;
        bridge.bind(("a", &world.a.torrent.path), ("b", &world.b.torrent.path)).await;
        leecher
    } else {
        bridge.bind(("a", &world.a.torrent.path), ("b", &world.b.torrent.path)).await;
        // To B's tracker the bridge is one more peer.
        eventually("the bridge in B's swarm", 20, async || {
            let swarm = p2pbridge_tests::scrape(world.b.tracker.port, &world.b.hash()).await?;
            (swarm.seeders + swarm.leechers >= 1).then_some(())
        })
        .await;
        Peer::leech(case.b.1, &scene, &what, &dir, Limits::default()).await
    };
    leecher.finished(60).await;
    assert_eq!(sha256_file(&dir.join("another name.bin")), sha256_file(&source));

    check_overlays(&bridge, &world, mib(24) + 4_321).await;
    check_flow(&bridge, world.a.flow(), world.b.flow(), mib(24) + 4_321, "demo-1").await;
}

macro_rules! crosses {
    ($($name:ident: $from_tracker:ident $from:ident -> $to_tracker:ident $to:ident, $a:ident::$make_a:ident($power_a:literal) to $b:ident::$make_b:ident($power_b:literal), magnet $magnet:expr, leecher first $first:expr;)+) => {$(
        #[tokio::test]
        async fn $name() {
            crosses(Case {
                a: (TrackerKind::$from_tracker, Client::$from),
                b: (TrackerKind::$to_tracker, Client::$to),
                make_a: Make::$make_a($power_a),
                make_b: Make::$make_b($power_b),
                magnet: $magnet,
                leecher_first: $first,
            })
            .await;
        }
    )+};
}

crosses! {
    http_aria2_to_http_aria2: OpenHttp Aria2 -> NpmHttp Aria2, Make::V1(18) to Make::V1(20), magnet false, leecher first true;
    http_aria2_to_udp_libtorrent: OpenHttp Aria2 -> NpmUdp LibTorrent, Make::V1(18) to Make::V1(20), magnet false, leecher first false;
    http_aria2_to_http_transmission: OpenHttp Aria2 -> NpmHttp Transmission, Make::V1(18) to Make::V1(20), magnet false, leecher first true;
    udp_aria2_to_http_libtorrent: OpenUdp Aria2 -> NpmHttp LibTorrent, Make::V1(18) to Make::V1(20), magnet false, leecher first true;
    http_libtorrent_to_http_libtorrent: OpenHttp LibTorrent -> NpmHttp LibTorrent, Make::V1(18) to Make::V1(20), magnet false, leecher first false;
    udp_libtorrent_to_udp_aria2: OpenUdp LibTorrent -> NpmUdp Aria2, Make::V1(18) to Make::V1(20), magnet false, leecher first false;
    udp_libtorrent_to_udp_transmission: OpenUdp LibTorrent -> NpmUdp Transmission, Make::V1(18) to Make::V1(20), magnet false, leecher first true;
    http_libtorrent_to_aquatic_aria2: OpenHttp LibTorrent -> AquaticUdp Aria2, Make::V1(18) to Make::V1(20), magnet false, leecher first false;
    http_aria2_to_aquatic_libtorrent: OpenHttp Aria2 -> AquaticUdp LibTorrent, Make::V1(18) to Make::V1(20), magnet false, leecher first false;
    npm_aria2_to_opentracker_libtorrent: NpmHttp Aria2 -> OpenUdp LibTorrent, Make::V1(18) to Make::V1(20), magnet false, leecher first false;
    a_magnet_for_aria2: OpenHttp LibTorrent -> NpmHttp Aria2, Make::V1(18) to Make::V1(20), magnet true, leecher first true;
    a_magnet_for_libtorrent: OpenHttp Aria2 -> NpmUdp LibTorrent, Make::V1(18) to Make::V1(20), magnet true, leecher first false;
    a_hybrid_torrent_for_libtorrent: OpenHttp Aria2 -> NpmHttp LibTorrent, Make::V1(18) to Make::Hybrid(20), magnet false, leecher first false;
    libtorrent_with_a_magnet_is_there_first: OpenHttp Aria2 -> NpmHttp LibTorrent, Make::V1(18) to Make::V1(20), magnet true, leecher first false;
    a_v2_torrent_for_libtorrent: OpenHttp Aria2 -> NpmHttp LibTorrent, Make::V1(18) to Make::V2(20), magnet false, leecher first false;
    out_of_a_v2_torrent: OpenHttp LibTorrent -> NpmHttp Aria2, Make::V2(18) to Make::V1(20), magnet false, leecher first false;
    out_of_a_hybrid_torrent: OpenUdp LibTorrent -> NpmHttp Aria2, Make::Hybrid(19) to Make::V1(20), magnet false, leecher first false;
    out_of_a_hybrid_into_a_v2_torrent: NpmHttp LibTorrent -> NpmUdp LibTorrent, Make::Hybrid(18) to Make::V2(20), magnet false, leecher first true;
    http_transmission_to_http_aria2: OpenHttp Transmission -> NpmHttp Aria2, Make::V1(18) to Make::V1(20), magnet false, leecher first false;
    equal_pieces_under_another_name: OpenHttp Aria2 -> NpmHttp Aria2, Make::V1(18) to Make::V1(18), magnet false, leecher first false;
}

/// Files of odd sizes in nested folders, without padding, so that pieces run across their borders; one file is empty.
async fn folders(leecher: Client, make_b: Make) {
    let scene = Scene::new();
    let root = scene.dir("source").join("album");
    for (index, (path, length)) in [
        ("cover.png", 70_001),
        ("disc 1/01.flac", mib(3) + 17),
        ("disc 1/02.flac", mib(5) + 1),
        ("disc 2/extras/deep/03.flac", 999_983),
        ("disc 2/extras/empty.txt", 0),
        ("disc 2/notes.txt", 13),
        ("zz.bin", mib(2)),
    ]
    .into_iter()
    .enumerate()
    {
        fill(&root.join(path), length, 100 + index as u64);
    }
    let bytes: u64 = tree(&root).values().map(|(length, _)| length).sum();
    let world = World::new(
        &scene,
        Side::new(&root, "album", Make::V1(18), TrackerKind::OpenHttp),
        Side::new(&root, "the album", make_b, TrackerKind::NpmHttp),
    )
    .await;
    let _seeder =
        Peer::seed(Client::Aria2, &scene, &world.a.what(), &scene.dir("source"), Limits::default())
            .await;
    world.a.has_seeder().await;
    let bridge = Bridge::start(
        &scene,
        &Config::a_to_b(&scene, &[world.a.tracker.url()], &[world.b.tracker.url()]),
    )
    .await;
    bridge.bind(("a", &world.a.torrent.path), ("b", &world.b.torrent.path)).await;
    let dir = scene.dir("leech");
    let mut leecher = Peer::leech(leecher, &scene, &world.b.what(), &dir, Limits::default()).await;
    leecher.finished(60).await;
    assert_eq!(tree(&dir.join("the album")), tree(&root));
    check_flow(&bridge, world.a.flow(), world.b.flow(), bytes, "demo-1").await;
}

#[tokio::test]
async fn files_in_nested_folders_for_aria2() {
    folders(Client::Aria2, Make::V1(20)).await;
}

#[tokio::test]
async fn files_in_nested_folders_for_libtorrent() {
    folders(Client::LibTorrent, Make::V1(20)).await;
}

/// In a hybrid torrent every file begins at a piece: the layouts differ by pad files.
#[tokio::test]
async fn files_in_nested_folders_of_a_hybrid_torrent() {
    folders(Client::LibTorrent, Make::Hybrid(18)).await;
}

/// Content 1 goes from A to B while content 2 goes from B to A.
#[tokio::test]
async fn both_ways_at_once() {
    let scene = Scene::new();
    let (one, two) = (scene.dir("source").join("one.bin"), scene.dir("source").join("two.bin"));
    fill(&one, mib(12) + 1, 11);
    fill(&two, mib(10) + 77, 12);
    let trackers = Trackers::reserve(TrackerKind::OpenHttp, TrackerKind::NpmHttp);
    let a1 = trackers.a(&scene, &one, "one.bin", 18).await;
    let b1 = trackers.b(&scene, &one, "one in b.bin", 20).await;
    let a2 = trackers.a(&scene, &two, "two in a.bin", 19).await;
    let b2 = trackers.b(&scene, &two, "two.bin", 18).await;
    let (a, b) = trackers.start(&scene, &[&a1, &a2], &[&b1, &b2]).await;
    let source = scene.dir("source");
    let _one =
        Peer::seed(Client::Aria2, &scene, &What::from(&a1), &source, Limits::default()).await;
    let _two =
        Peer::seed(Client::LibTorrent, &scene, &What::from(&b2), &source, Limits::default()).await;
    a.counts(&a1.v1, 1, 0, 20).await;
    b.counts(&b2.v1, 1, 0, 20).await;
    let bridge = Bridge::start(&scene, &Config::both_ways(&scene, &[a.url()], &[b.url()])).await;
    bridge.bind(("a", &a1.path), ("b", &b1.path)).await;
    bridge.bind(("a", &a2.path), ("b", &b2.path)).await;
    let dir = scene.dir("leech");
    let mut in_b =
        Peer::leech(Client::Aria2, &scene, &What::from(&b1), &dir, Limits::default()).await;
    let mut in_a =
        Peer::leech(Client::LibTorrent, &scene, &What::from(&a2), &dir, Limits::default()).await;
    in_b.finished(60).await;
    in_a.finished(60).await;
    assert_eq!(sha256_file(&dir.join("one in b.bin")), sha256_file(&one));
    assert_eq!(sha256_file(&dir.join("two in a.bin")), sha256_file(&two));
    check_flow(&bridge, ("a", &a1), ("b", &b1), mib(12) + 1, "demo-1").await;
    check_flow(&bridge, ("b", &b2), ("a", &a2), mib(10) + 77, "demo-2").await;
}

/// Three contents, and two leechers of the first at once: it is fetched once and served twice.
#[tokio::test]
async fn three_contents_and_two_leechers() {
    let scene = Scene::new();
    let trackers = Trackers::reserve(TrackerKind::OpenHttp, TrackerKind::NpmHttp);
    let source = scene.dir("source");
    let (mut in_a, mut in_b) = (Vec::new(), Vec::new());
    for index in 0..3_u32 {
        let file = source.join(format!("{index}.bin"));
        fill(&file, mib(8) + u64::from(index), 20 + u64::from(index));
        in_a.push(trackers.a(&scene, &file, &format!("{index}.bin"), 18).await);
        in_b.push(trackers.b(&scene, &file, &format!("b{index}.bin"), 20).await);
    }
    let (a, b) = trackers
        .start(&scene, &in_a.iter().collect::<Vec<_>>(), &in_b.iter().collect::<Vec<_>>())
        .await;
    let mut seeders = Vec::new();
    for torrent in &in_a {
        seeders.push(
            Peer::seed(Client::Aria2, &scene, &What::from(torrent), &source, Limits::default())
                .await,
        );
        a.counts(&torrent.v1, 1, 0, 20).await;
    }
    let bridge = Bridge::start(&scene, &Config::a_to_b(&scene, &[a.url()], &[b.url()])).await;
    for (in_a, in_b) in in_a.iter().zip(&in_b) {
        bridge.bind(("a", &in_a.path), ("b", &in_b.path)).await;
    }
    let mut leechers = Vec::new();
    for (dir, client, index) in [
        ("x", Client::Aria2, 0),
        ("y", Client::LibTorrent, 0),
        ("x", Client::LibTorrent, 1),
        ("x", Client::Aria2, 2),
    ] {
        let dir = scene.dir(dir);
        let what = What::from(&in_b[index]);
        leechers.push((
            Peer::leech(client, &scene, &what, &dir, Limits::default()).await,
            dir,
            index,
        ));
    }
    for (leecher, dir, index) in &mut leechers {
        leecher.finished(60).await;
        let got = sha256_file(&dir.join(format!("b{index}.bin")));
        assert_eq!(got, sha256_file(&source.join(format!("{index}.bin"))), "content {index}");
    }
    for index in 0..3 {
        let (from, to) = (("a", &in_a[index]), ("b", &in_b[index]));
        check_flow(&bridge, from, to, mib(8) + index as u64, "demo-1").await;
    }
}

/// Without a route nothing crosses, and nothing is announced.
#[tokio::test]
async fn nothing_crosses_without_a_route() {
    let scene = Scene::new();
    let source = scene.dir("source").join("film.bin");
    fill(&source, mib(2), 3);
    let world = World::new(
        &scene,
        Side::new(&source, "film.bin", Make::V1(18), TrackerKind::OpenHttp),
        Side::new(&source, "b.bin", Make::V1(20), TrackerKind::NpmHttp),
    )
    .await;
    // The content is in B: the only route leads from A to B.
    let _seeder = Peer::seed(
        Client::LibTorrent,
        &scene,
        &What::from(&world.a.torrent),
        &scene.dir("source"),
        Limits::default(),
    )
    .await;
    world.a.has_seeder().await;
    let mut config = Config::a_to_b(&scene, &[world.a.tracker.url()], &[world.b.tracker.url()]);
    config.routes.clear();
    let mut bridge = Bridge::start(&scene, &config).await;
    bridge.bind(("a", &world.a.torrent.path), ("b", &world.b.torrent.path)).await;
    let swarm =
        p2pbridge_tests::scrape(world.b.tracker.port, &world.b.hash()).await.expect("an answer");
    assert_eq!((swarm.seeders, swarm.leechers), (0, 0));
    assert_eq!(bridge.must(["usage", "export", "--format", "jsonl"]).await, "");
    bridge.program.assert_runs();
}

/// While it crosses, `overlays` shows the source, the peer that is served, and bytes that grow.
#[tokio::test]
async fn overlays_show_it_live() {
    let scene = Scene::new();
    let source = scene.dir("source").join("film.bin");
    let size = mib(10);
    fill(&source, size, 4);
    let world = World::plain(&scene, &source).await;
    let slow = Limits::up(mib(2));
    let _seeder =
        Peer::seed(Client::LibTorrent, &scene, &world.a.what(), &scene.dir("source"), slow).await;
    world.a.has_seeder().await;
    let config = Config::a_to_b(&scene, &[world.a.tracker.url()], &[world.b.tracker.url()]);
    let bridge = Bridge::start(&scene, &config).await;
    bridge.bind(("a", &world.a.torrent.path), ("b", &world.b.torrent.path)).await;
    let dir = scene.dir("leech");
    let mut leecher =
        Peer::leech(Client::LibTorrent, &scene, &world.b.what(), &dir, Limits::default()).await;
    let mut seen = 0;
    for _ in 0..3 {
        seen = eventually("more bytes that have crossed", 15, async || {
            let all = bridge.json(["overlays", "--json"]).await;
            let crossing = crossing(&all, "a", "b");
            let served = crossing.get("served_bytes").number();
            let swarm = |id: &str| all.get("overlays").find("id", id)?.get("swarms").items().pop();
            let both = swarm("a")?.get("sources").number() == 1
                && swarm("b")?.get("served_peers").number() >= 1;
            (both && served > seen && served < size).then_some(served)
        })
        .await;
    }
    let text = bridge.must(["overlays"]).await;
    for word in ["a", "b", &world.a.tracker.url(), &world.b.tracker.url(), "film.bin"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    leecher.finished(40).await;
    assert_eq!(sha256_file(&dir.join("b.bin")), sha256_file(&source));
    check_flow(&bridge, world.a.flow(), world.b.flow(), size, "demo-1").await;
}
