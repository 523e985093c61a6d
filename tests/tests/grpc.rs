//! gRPC clients that nobody here wrote find everything by reflection.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use p2pbridge_tests::{
    Bridge, Client, Config, Json, Limits, Make, Peer, Scene, Side, Torrent, TrackerKind, World,
    buf_curl, check_flow, fill, free_port, grpcio, mib, sum,
};
use serde_json::json;

const NAMES: &str = "p2pbridge.v1.NameService";
const SEARCH: &str = "p2pbridge.v1.SearchService";
const STATUS: &str = "p2pbridge.v1.StatusService";
const USAGE: &str = "p2pbridge.v1.UsageService";

/// Two torrents of one file of 5 MiB and a bit, bound; no tracker runs, and nobody has the file.
async fn bound(scene: &Scene) -> (Bridge, Torrent, Torrent) {
    let source = scene.file("film.bin");
    fill(&source, mib(5) + 100, 51);
    let kind = TrackerKind::NpmHttp;
    let (a_url, b_url) = (kind.url(free_port()), kind.url(free_port()));
    let a =
        Torrent::make(Make::V1(18), &source, "film.bin", &a_url, &scene.file("a.torrent")).await;
    let b =
        Torrent::make(Make::V1(20), &source, "other.bin", &b_url, &scene.file("b.torrent")).await;
    let bridge = Bridge::start(scene, &Config::a_to_b(scene, &[a_url], &[b_url])).await;
    bridge.bind(("a", &a.path), ("b", &b.path)).await;
    (bridge, a, b)
}

#[tokio::test]
async fn grpcio_resolves_and_maps_and_lists() {
    let scene = Scene::new();
    let (bridge, a, b) = bound(&scene).await;
    let (from, to) = (a.urn(), b.urn());
    // 21 pieces of A; the first eight and the 20th are there: the first two pieces of B can be made whole.
    let some = "/wAQ";
    let answers = grpcio(
        &bridge,
        json!([
            ["", "", {}],
            ["grpc.health.v1.Health", "Check", {}],
            [NAMES, "Resolve", {"name": from}],
            [NAMES, "Resolve", {"name": from, "overlay": "b"}],
            [NAMES, "Resolve", {"name": format!("magnet:?xt={from}")}],
            [NAMES, "Resolve", {"name": "urn:btih:0000000000000000000000000000000000000000"}],
            [NAMES, "Resolve", {"name": "nonsense"}],
            [NAMES, "BatchResolve", {"requests": [{"name": to}, {"name": "urn:btih:0000000000000000000000000000000000000000"}]}],
            [NAMES, "MapChunks", {"from": from, "to": to, "chunks": {"first": 4, "count": 4}}],
            [NAMES, "MapChunks", {"from": to, "to": from, "chunks": {"first": 5, "count": 1}}],
            [NAMES, "MapChunks", {"from": from, "to": to, "bytes": {"offset": 1_048_575, "length": 2}}],
            [NAMES, "MapChunks", {"from": from, "to": to, "availability": some}],
            [NAMES, "List", {}],
            [NAMES, "List", {"page_size": 1}],
            [STATUS, "ListOverlays", {}],
            [STATUS, "GetOverlay", {"id": "a"}],
            [STATUS, "GetOverlay", {"id": "zz"}],
            [STATUS, "Watch", {"interval": "0.2s"}, 2],
            [SEARCH, "Search", {"search": {"query": {"words": "FILM bin"}}}],
            [USAGE, "List", {}],
            [USAGE, "Export", {}],
        ]),
    )
    .await;
    let mut answers = answers.into_iter();
    let mut next = || answers.next().expect("an answer");

    let services: Vec<String> = next().items().iter().map(Json::text).collect();
    for service in [NAMES, SEARCH, STATUS, USAGE, "grpc.health.v1.Health"] {
        assert!(services.iter().any(|found| found == service), "{service} in {services:?}");
    }
    assert_eq!(next().get("status").text(), "SERVING");

    for _ in 0..3 {
        let resolved = next();
        assert_eq!(resolved.get("binding").get("urns").items()[0].text(), from);
        assert_eq!(resolved.get("binding").get("title").text(), "film.bin");
        let equivalents = resolved.get("equivalents").items();
        assert_eq!(equivalents.len(), 1, "{resolved:?}");
        assert_eq!(equivalents[0].get("urns").items()[0].text(), to);
        assert_eq!(equivalents[0].get("layout").get("unit").number(), mib(1));
        assert_eq!(equivalents[0].get("overlays").items()[0].text(), "b");
        assert_eq!(equivalents[0].get("evidence").text(), "EVIDENCE_ATTESTED");
    }
    assert_eq!(next().get("code").text(), "NOT_FOUND");
    assert_eq!(next().get("code").text(), "INVALID_ARGUMENT");
    let batch = next().get("responses").items();
    assert_eq!(batch.len(), 2);
    assert_eq!(batch[0].get("equivalents").items()[0].get("urns").items()[0].text(), from);
    assert!(batch[1].get("binding").0.is_null());

    let chunk_range = |answer: &Json| {
        let ranges = answer.get("ranges").items();
        let first = ranges.first().expect("a range").get("to_chunks").get("first").number();
        let last = ranges.last().expect("a range").get("to_chunks");
        let bytes: u64 = ranges.iter().map(|range| range.get("to").get("length").number()).sum();
        (first, last.get("first").number() + last.get("count").number() - first, bytes)
    };
    assert_eq!(chunk_range(&next()), (1, 1, mib(1)), "A's pieces 4 to 7 are B's piece 1");
    assert_eq!(chunk_range(&next()), (20, 1, 100), "B's last piece is A's last");
    assert_eq!(chunk_range(&next()), (0, 2, 2), "two bytes around a border");
    assert_eq!(next().get("availability").text(), "wA==", "the first two pieces of B");

    assert_eq!(next().get("bindings").items().len(), 2);
    let page = next();
    assert_eq!(page.get("bindings").items().len(), 1);
    assert_ne!(page.get("next_page_token").text(), "");
    let overlays = next().get("overlays").items();
    let ids: Vec<String> = overlays.iter().map(|overlay| overlay.get("id").text()).collect();
    assert_eq!(ids, ["a", "b"]);
    assert_eq!(next().get("overlay").get("id").text(), "a");
    assert_eq!(next().get("code").text(), "NOT_FOUND");
    assert_eq!(next().items().len(), 2, "two states of a stream");
    let found = next().get("result").get("hits").items();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].get("title").text(), "film.bin");
    assert!(next().get("code").0.is_null());
    assert!(next().get("code").0.is_null());
}

#[tokio::test]
async fn buf_curl_resolves_and_maps() {
    let scene = Scene::new();
    let (bridge, a, b) = bound(&scene).await;
    let resolved = buf_curl(&bridge, &format!("{NAMES}/Resolve"), json!({"name": a.urn()})).await;
    assert_eq!(resolved.get("equivalents").items()[0].get("urns").items()[0].text(), b.urn());
    let request = json!({"from": a.urn(), "to": b.urn(), "chunks": {"first": 0, "count": 4}});
    let mapped = buf_curl(&bridge, &format!("{NAMES}/MapChunks"), request).await;
    assert_eq!(mapped.get("ranges").items()[0].get("to").get("length").number(), mib(1));
    let list = buf_curl(&bridge, &format!("{NAMES}/List"), json!({})).await;
    assert_eq!(list.get("bindings").items().len(), 2);
    let overlays = buf_curl(&bridge, &format!("{STATUS}/ListOverlays"), json!({})).await;
    assert_eq!(overlays.get("overlays").items().len(), 2);
    buf_curl(&bridge, &format!("{USAGE}/List"), json!({"pageSize": 5})).await;
    let health = buf_curl(&bridge, "grpc.health.v1.Health/Check", json!({})).await;
    assert_eq!(health.get("status").text(), "SERVING");
}

/// The command line says the same as gRPC does, page by page and in a stream.
#[tokio::test]
async fn grpcio_reads_the_usage_of_a_transfer() {
    let scene = Scene::new();
    let source = scene.dir("source").join("film.bin");
    fill(&source, mib(6), 52);
    let world = World::new(
        &scene,
        Side::new(&source, "film.bin", Make::V1(18), TrackerKind::OpenHttp),
        Side::new(&source, "b.bin", Make::V1(20), TrackerKind::NpmHttp),
    )
    .await;
    let _seeder =
        Peer::seed(Client::Aria2, &scene, &world.a.what(), &scene.dir("source"), Limits::default())
            .await;
    world.a.has_seeder().await;
    let config = Config::a_to_b(&scene, &[world.a.tracker.url()], &[world.b.tracker.url()]);
    let bridge = Bridge::start(&scene, &config).await;
    bridge.bind(("a", &world.a.torrent.path), ("b", &world.b.torrent.path)).await;
    let limits = Limits::down(mib(3));
    let mut leecher =
        Peer::leech(Client::Aria2, &scene, &world.b.what(), &scene.dir("leech"), limits).await;
    leecher.finished(40).await;
    let records = check_flow(&bridge, world.a.flow(), world.b.flow(), mib(6), "demo-1").await;
    let answers = grpcio(
        &bridge,
        json!([
            [USAGE, "List", {"page_size": 1}],
            [USAGE, "Export", {"filter": {"source_overlay": "a"}}],
            [USAGE, "Export", {"filter": {"source_overlay": "b"}}],
        ]),
    )
    .await;
    assert_eq!(answers[0].get("records").items().len(), 1);
    let streamed: Vec<Json> =
        answers[1].items().iter().flat_map(|part| part.get("records").items()).collect();
    assert_eq!(sum(&streamed, "bytes_verified"), sum(&records, "bytes_verified"));
    assert_eq!(streamed.len(), records.len());
    let none: Vec<Json> =
        answers[2].items().iter().flat_map(|part| part.get("records").items()).collect();
    assert!(none.is_empty(), "{none:?}");
}
