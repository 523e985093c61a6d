//! Names go to other programs: published, and in magnet links.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use p2pbridge_proto::{Name, Scheme, parse_magnet_names};
use p2pbridge_tests::{
    Bridge, Client, Film, Json, Limits, Make, NAME_SERVICE as NAMES, Peer, Scene, Torrent, Tracker,
    TrackerKind, What, bridge_alone, fill, free_port, grpcio, libtorrent_reads_magnet, names_in,
    percent, rhash_links, sha256_file,
};
use serde_json::{Value, json};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The contents of each of these names, which must have one.
async fn contents_of(bridge: &Bridge, names: &[Name]) -> Vec<Json> {
    let asked: Vec<Value> =
        names.iter().map(|name| json!([NAMES, "Resolve", {"name": name.to_string()}])).collect();
    let answers = grpcio(bridge, json!(asked)).await;
    let content = |(name, answer): (&Name, &Json)| {
        let contents = answer.get("contents").items();
        assert_eq!(contents.len(), 1, "{name}: {answer:?}");
        contents[0].clone()
    };
    names.iter().zip(&answers).map(content).collect()
}

/// `names publish` binds what the other programs say, and a torrent that libtorrent makes also.
#[tokio::test]
async fn published_names_are_those_of_the_programs() {
    let scene = Scene::new();
    let (bridge, film) = (bridge_alone(&scene).await, Film::new(&scene).await);
    let published = bridge.json(["names", "publish", "--json", "--overlay", "a", text(&film.path)]);
    let binding = published.await.get("published").items()[0].get("binding");
    let piece = binding.get("unit").number();
    let torrent = Torrent::make(
        Make::Hybrid(piece.trailing_zeros()),
        &film.path,
        "film.bin",
        "http://127.0.0.1:9/announce",
        &scene.file("theirs.torrent"),
    )
    .await;
    let urns: Vec<String> = binding.get("names").items().iter().map(Json::text).collect();
    assert_eq!(urns, torrent.urns(), "by libtorrent");
    let all: BTreeSet<Name> = urns.iter().map(|urn| urn.parse().expect("a URN")).collect();
    let all = &all | &film.names.iter().copied().collect();
    for content in contents_of(&bridge, &film.names).await {
        assert_eq!(names_in(&content), all);
        for known in content.get("names").items() {
            assert_eq!(known.get("evidence").text(), "EVIDENCE_VERIFIED", "{known:?}");
            assert!(known.get("stated_by").text().contains("film.bin"), "{known:?}");
        }
    }
}

/// One link with all names: libtorrent reads what is of BitTorrent in it, and a client downloads by it.
async fn is_of_use(make: Make, client: Client) {
    let scene = Scene::new();
    let (kind, port) = (TrackerKind::OpenHttp, free_port());
    let film = Film::in_torrent(&scene, make, &kind.url(port)).await;
    let bridge = bridge_alone(&scene).await;
    film.publish(&bridge).await;
    for name in film.all() {
        let link = bridge.must(["names", "magnet", &name.to_string()]).await;
        let names = parse_magnet_names(link.trim()).expect("a magnet link");
        assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), film.all(), "of {name}");
    }
    let link = bridge.must(["names", "magnet", &film.name(Scheme::Ed2k).to_string()]).await;
    let read = libtorrent_reads_magnet(link.trim()).await;
    assert_eq!(read.get("v1").text(), film.name(Scheme::Btih).hex());
    let v2 = film.torrent.has_v2.then(|| film.name(Scheme::Btmh).hex());
    assert_eq!(read.get("v2").text(), v2.unwrap_or_default());
    assert_eq!(read.get("name").text(), "film.bin");

    let tracker = Tracker::start(&scene, kind, port, &film.torrent.tracker_hashes()).await;
    let (films, what) = (scene.dir("films"), What::from(&film.torrent));
    let _seeder = Peer::seed(Client::LibTorrent, &scene, &what, &films, Limits::default()).await;
    tracker.counts(&film.torrent.tracker_hash(), 1, 0, 20).await;
    let link = format!("{}&tr={}", link.trim(), percent(tracker.url().as_bytes()));
    let (dir, what) = (scene.dir("leech"), What::Magnet(link));
    let mut leecher = Peer::leech(client, &scene, &what, &dir, Limits::default()).await;
    leecher.finished(60).await;
    assert_eq!(sha256_file(&dir.join("film.bin")), sha256_file(&film.path));
}

/// aria2 1.36 gets the info-hash of hybrids wrong, from a .torrent too: it loses the empty key in BEP 52's file tree.
#[tokio::test]
async fn a_magnet_link_with_all_names_is_of_use_to_aria2() {
    is_of_use(Make::V1(18), Client::Aria2).await;
}

#[tokio::test]
async fn a_magnet_link_with_all_names_is_of_use_to_libtorrent() {
    is_of_use(Make::Hybrid(18), Client::LibTorrent).await;
}

/// A magnet link of a file on the disk has what RHash puts in its own, but for the torrent's name.
#[tokio::test]
async fn a_magnet_link_of_a_file_has_the_names_of_rhash() {
    let scene = Scene::new();
    let bridge = bridge_alone(&scene).await;
    for file in odd_files(&scene) {
        let ours = bridge.must(["names", "magnet", text(&file)]).await;
        let theirs = rhash_links(std::slice::from_ref(&file), true).await.remove(0);
        let names = |link: &str| -> BTreeSet<Name> {
            parse_magnet_names(link.trim()).expect("a magnet link").into_iter().collect()
        };
        let missing: Vec<Name> = names(&theirs).difference(&names(&ours)).copied().collect();
        assert!(matches!(missing[..], [name] if name.scheme() == Scheme::Btih), "{missing:?}");
        let field = |link: &str, key: &str| {
            let found = link.trim().split(['?', '&']).find_map(|field| field.strip_prefix(key));
            found.unwrap_or_default().to_lowercase()
        };
        for key in ["xl=", "dn="] {
            assert_eq!(field(&ours, key), field(&theirs, key), "{ours} {theirs}");
        }
    }
}

/// Files at the ends of eD2k's parts, one of them with letters and signs that links must quote.
fn odd_files(scene: &Scene) -> Vec<PathBuf> {
    let files =
        [("one part", 9_728_000), ("two parts", 19_456_000), ("Größe & 音楽 |#[50%]", 1_025)];
    let make = |(seed, (name, length)): (u64, (&str, u64))| {
        let path = scene.dir("odd").join(name);
        fill(&path, length, seed);
        path
    };
    (80..).zip(files).map(make).collect()
}
