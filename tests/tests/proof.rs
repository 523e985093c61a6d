//! Proof by traffic: what stock clients moved through the bridge is named as other programs name it, and nobody had to say so.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use p2pbridge_proto::{Name, Scheme};
use p2pbridge_tests::{
    Bridge, Client, Config, Json, Launch, Limits, Make, NAME_SERVICE, Peer, Program, Scene, Side,
    TrackerKind, World, bridge_binary, eventually, fill, free_port, get, grpcio, mib, name_rows,
    names_in, oracle_names, sha256_file, sum, tree, usage, within,
};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStdout;

/// Two parts of eD2k and a bit.
const SIZE: u64 = 20 * 1024 * 1024 + 4_321;
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A configuration with a page of metrics, and where that is.
fn config(scene: &Scene, world: &World) -> (Config, String) {
    let mut config = Config::a_to_b(scene, &[world.a.tracker.url()], &[world.b.tracker.url()]);
    let port = free_port();
    config.more = format!("[metrics]\nlisten = \"127.0.0.1:{port}\"\n");
    (config, format!("http://127.0.0.1:{port}/metrics"))
}

/// The names that other programs give to files.
async fn oracle(scene: &Scene, files: &[PathBuf]) -> Vec<BTreeSet<Name>> {
    let told = oracle_names(scene, files).await.into_iter();
    told.map(|names| names.values().map(|text| text.parse().expect("a name")).collect()).collect()
}

fn of_scheme(names: &BTreeSet<Name>, scheme: Scheme) -> Name {
    *names.iter().find(|name| name.scheme() == scheme).expect("a name of the scheme")
}

/// The content of a name, if it is known.
async fn content(bridge: &Bridge, name: &Name) -> Option<Json> {
    let answer = bridge.cli(["names", "resolve", &name.to_string(), "--json"]).await;
    if !answer.status.success() {
        return None;
    }
    Json::parse(&answer.stdout).get("contents").items().into_iter().next()
}

/// The names that the relay has proven of a content; all that are verified are of it.
fn proven(content: &Json, by: &str) -> BTreeSet<Name> {
    let known = content.get("names").items();
    let verified = known.iter().filter(|known| known.get("evidence").text() == "verified");
    let by = format!("relay: bytes verified by {by}");
    let of_relay = verified.filter(|known| known.get("stated_by").text() == by);
    of_relay.map(|known| known.get("urn").text().parse().expect("a URN")).collect()
}

/// Waits until a content is proven, and all its names are those that other programs give to it.
async fn is_proven(bridge: &Bridge, names: &BTreeSet<Name>, by: &str) -> Json {
    let sha256 = of_scheme(names, Scheme::Sha256);
    let found = eventually("the content being known", 60, async || content(bridge, &sha256).await);
    let found = found.await;
    assert_eq!(proven(&found, by), *names, "{found:?}");
    found
}

/// `names watch`, listening.
struct Watch {
    _program: Program,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watch {
    /// Starts it. Something new is stated until it has heard of it.
    async fn start(scene: &Scene, bridge: &Bridge) -> Self {
        let mut program = Launch::new("watch", bridge_binary())
            .args(["--server", &bridge.server(), "names", "watch", "--json"])
            .talk()
            .start(scene);
        let (_, said) = program.take_pipes();
        let mut watch = Self { _program: program, lines: BufReader::new(said).lines() };
        let stating = async {
            for number in 0_u32.. {
                let digest = [&number.to_be_bytes()[..], &[5; 16]].concat();
                let sha1 = Name::new(Scheme::Sha1, &digest).unwrap();
                import(bridge, &[sha1], "EVIDENCE_HINT").await;
            }
        };
        tokio::select! {
            event = within("a first event", 60, watch.next()) => assert_eq!(event.get("event").text(), "bound"),
            () = stating => unreachable!("it goes on"),
        }
        watch
    }

    async fn next(&mut self) -> Json {
        Json::parse(&self.lines.next_line().await.expect("a line").expect("another event"))
    }

    /// The next event of a kind.
    async fn hears(&mut self, kind: &str) -> Json {
        within(kind, 60, async {
            loop {
                let event = self.next().await;
                if event.get("event").text() == kind {
                    return event;
                }
            }
        })
        .await
    }
}

async fn import(bridge: &Bridge, names: &[Name], evidence: &str) {
    let row = json!({"names": name_rows(names), "evidence": evidence});
    let request = json!([{"rows": [row], "source": "a list"}]);
    let answer = grpcio(bridge, json!([[NAME_SERVICE, "ImportNames", request]])).await.remove(0);
    assert!(answer.items()[0].get("refused").items().is_empty(), "{answer:?}");
}

/// A line of the page of metrics.
async fn metric(page: &str, line: &str) {
    let body = get(page, HERE, "").await.expect("the page").body;
    let text = String::from_utf8_lossy(&body).into_owned();
    assert!(text.lines().any(|other| other == line), "no `{line}` in {text}");
}

async fn one_file(scene: &Scene, size: u64, seed: u64) -> (PathBuf, World, BTreeSet<Name>) {
    let source = scene.dir("source").join("film.bin");
    fill(&source, size, seed);
    let world = World::plain(scene, &source).await;
    let names = oracle(scene, std::slice::from_ref(&source)).await.remove(0);
    (source, world, names)
}

async fn seeder(scene: &Scene, world: &World, limits: Limits) -> Peer {
    let what = world.a.what();
    let seeder = Peer::seed(Client::LibTorrent, scene, &what, &scene.dir("source"), limits).await;
    world.a.has_seeder().await;
    seeder
}

fn urn(world: &World) -> (Name, String) {
    (world.a.torrent.urns()[0].parse().expect("a URN"), world.b.torrent.urns()[0].clone())
}

async fn is_whole(mut leecher: Peer, got: &Path, source: &Path) {
    leecher.finished(60).await;
    assert_eq!(sha256_file(got), sha256_file(source));
}

/// A list has said something false of the content, and something right: the one is dropped, counted and told, the other stands.
#[tokio::test]
async fn what_has_crossed_has_its_names_in_every_system() {
    let scene = Scene::new();
    let (source, world, names) = one_file(&scene, SIZE, 501).await;
    let _seeder = seeder(&scene, &world, Limits::default()).await;
    let (config, page) = config(&scene, &world);
    let bridge = Bridge::start(&scene, &config).await;
    bridge.bind(("a", &world.a.torrent.path), ("b", &world.b.torrent.path)).await;
    let (in_a, in_b) = urn(&world);
    let (right, wrong) =
        (of_scheme(&names, Scheme::Tth), Name::new(Scheme::Ed2k, &[9; 16]).unwrap());
    import(&bridge, &[in_a, right, wrong], "EVIDENCE_HINT").await;
    assert!(names_in(&content(&bridge, &wrong).await.expect("a hint")).contains(&right));

    let mut watch = Watch::start(&scene, &bridge).await;
    let dir = scene.dir("leech");
    let leecher =
        Peer::leech(Client::Aria2, &scene, &world.b.what(), &dir, Limits::default()).await;
    is_whole(leecher, &dir.join("b.bin"), &source).await;

    let found = is_proven(&bridge, &names, &in_b).await;
    assert_eq!(found.get("length").number(), SIZE);
    // It is called as one of the torrents calls it.
    assert!(["film.bin", "b.bin"].contains(&found.get("title").text().as_str()), "{found:?}");
    assert!(content(&bridge, &wrong).await.is_none());
    for name in &names {
        let same = content(&bridge, name).await.expect("a content");
        assert_eq!(same.get("content_id"), found.get("content_id"), "{name}");
    }
    let disproved = watch.hears("disproved").await;
    assert_eq!(disproved.get("names").items()[0].text(), wrong.to_string());
    let told = watch.hears("proved").await;
    assert!(names.is_subset(&names_in(&told.get("content"))), "{told:?}");
    metric(&page, "p2pbridge_names_disproved_total 1").await;
    metric(&page, "p2pbridge_proofs_total{outcome=\"whole\"} 1").await;
}

/// kill -9 in mid-transfer: what the spool kept counts, and the content is proven when the rest has come.
#[tokio::test]
async fn killed_in_mid_transfer_it_is_proven_all_the_same() {
    let scene = Scene::new();
    let (source, world, names) = one_file(&scene, SIZE, 502).await;
    let _seeder = seeder(&scene, &world, Limits::up(mib(3))).await;
    let (config, page) = config(&scene, &world);
    let mut bridge = Bridge::start(&scene, &config).await;
    bridge.bind(("a", &world.a.torrent.path), ("b", &world.b.torrent.path)).await;
    let dir = scene.dir("leech");
    let leecher =
        Peer::leech(Client::Aria2, &scene, &world.b.what(), &dir, Limits::default()).await;
    let served = eventually("a part of the transfer", 25, async || {
        let served = sum(&usage(&bridge).await, "bytes_served");
        (served >= mib(4)).then_some(served)
    })
    .await;
    assert!(served < SIZE, "the transfer was over too soon");
    bridge.kill9().await;
    bridge = Bridge::start(&scene, &config).await;
    assert!(content(&bridge, &of_scheme(&names, Scheme::Sha256)).await.is_none());
    is_whole(leecher, &dir.join("b.bin"), &source).await;
    is_proven(&bridge, &names, &urn(&world).1).await;
    metric(&page, "p2pbridge_proofs_total{outcome=\"whole\"} 1").await;

    bridge.kill9().await;
    bridge = Bridge::start(&scene, &config).await;
    is_proven(&bridge, &names, &urn(&world).1).await;
}

/// Somebody has published a hash of other bytes as verified: what the bytes say does not fit, and only an operator can tell.
#[tokio::test]
async fn two_verified_names_that_differ_are_an_alarm() {
    let scene = Scene::new();
    let (source, world, names) = one_file(&scene, mib(3) + 5, 503).await;
    let _seeder = seeder(&scene, &world, Limits::default()).await;
    let (config, page) = config(&scene, &world);
    let bridge = Bridge::start(&scene, &config).await;
    bridge.bind(("a", &world.a.torrent.path), ("b", &world.b.torrent.path)).await;
    let wrong = Name::new(Scheme::Tth, &[9; 24]).unwrap();
    let said = json!({"names": name_rows(&[urn(&world).0, wrong]), "length": mib(3) + 5});
    let request = json!({"contents": [said], "source": "/elsewhere"});
    let answer = grpcio(&bridge, json!([[NAME_SERVICE, "Publish", request]])).await.remove(0);
    assert_eq!(answer.get("contents").items().len(), 1, "{answer:?}");

    let dir = scene.dir("leech");
    let leecher =
        Peer::leech(Client::LibTorrent, &scene, &world.b.what(), &dir, Limits::default()).await;
    is_whole(leecher, &dir.join("b.bin"), &source).await;
    let alarm = eventually("an alarm", 60, async || {
        let alarms = bridge.json(["overlays", "--json"]).await.get("alarms").items();
        alarms.iter().map(Json::text).find(|text| text.contains(&wrong.to_string()))
    })
    .await;
    assert!(alarm.contains("which are not those of"), "{alarm}");
    assert!(content(&bridge, &of_scheme(&names, Scheme::Sha256)).await.is_none());
    let stands = content(&bridge, &wrong).await.expect("what was there first");
    assert!(!names_in(&stands).contains(&of_scheme(&names, Scheme::Tth)));
    metric(&page, "p2pbridge_names_conflicts_total 1").await;
}

/// Each file of a folder is a content of its own, with pad files between them on one side.
#[tokio::test]
async fn each_file_of_a_folder_is_proven() {
    let scene = Scene::new();
    let root = scene.dir("source").join("album");
    let files = [("a/one.flac", mib(2) + 17), ("a/ünö.txt", 13), ("two.bin", 300_001), ("z", 0)];
    for (seed, (path, length)) in (510..).zip(files) {
        fill(&root.join(path), length, seed);
    }
    let world = World::new(
        &scene,
        Side::new(&root, "album", Make::V1(18), TrackerKind::OpenHttp),
        Side::new(&root, "the album", Make::Hybrid(18), TrackerKind::NpmHttp),
    )
    .await;
    let _seeder = seeder(&scene, &world, Limits::default()).await;
    let (config, _) = config(&scene, &world);
    let bridge = Bridge::start(&scene, &config).await;
    bridge.bind(("a", &world.a.torrent.path), ("b", &world.b.torrent.path)).await;
    let dir = scene.dir("leech");
    let mut leecher =
        Peer::leech(Client::LibTorrent, &scene, &world.b.what(), &dir, Limits::default()).await;
    leecher.finished(60).await;
    assert_eq!(tree(&dir.join("the album")), tree(&root));

    let filled: Vec<_> = files.iter().filter(|(_, length)| *length > 0).collect();
    let paths: Vec<PathBuf> = filled.iter().map(|(path, _)| root.join(path)).collect();
    for ((path, length), names) in filled.iter().zip(oracle(&scene, &paths).await) {
        let sha256 = of_scheme(&names, Scheme::Sha256);
        let found = eventually(path, 60, async || content(&bridge, &sha256).await).await;
        let mut proven = proven(&found, &urn(&world).1);
        // The torrent has said it of itself before.
        proven.insert(of_scheme(&names, Scheme::PiecesRoot));
        assert_eq!(proven, names, "{path}: {found:?}");
        let name = path.rsplit('/').next().unwrap_or_default();
        assert_eq!(
            (found.get("length").number(), found.get("title").text()),
            (*length, name.into())
        );
    }
}
