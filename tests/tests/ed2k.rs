//! eD2k ⇄ BitTorrent with stock clients: amuled on one side, aria2 or libtorrent on the other, and neither knows of the other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use p2pbridge_tests::{
    Both, Bridge, Client, Config, Crypt, Ed2kOverlay, Limits, Make, Mule, OverlayConfig, Peer,
    Scene, Torrent, Tracker, TrackerKind, UNREACHABLE_PORT, What, bytes_passed, check_chains,
    check_flow, crossing, ed2k_hash, ed2k_server, eventually, file_link, fill, free_port,
    in_namespace, is_up, mib, public, sha256_file, sharing, sum, usage,
};

const SIZE: u64 = mib(24) + 4_321;
const PART: u64 = 9_728_000;

/// What differs between the cases.
struct Case {
    /// Writes the file.
    write: fn(&Path),
    /// The client in the swarm.
    client: Client,
    /// What is special about the amuled.
    mule: fn(Mule) -> Mule,
    /// Whether it gets a high id.
    is_high: bool,
    by: Served,
    /// Whether the link that is bound has the hashes of parts.
    hashes: bool,
    /// Whether the bytes shrink on their way between amuled and the bridge.
    shrinks: bool,
}

impl Case {
    fn new(by: Served) -> Self {
        let write = |path: &Path| fill(path, SIZE, 51);
        let (client, mule) = (Client::Aria2, |mule| mule);
        Self { write, client, mule, is_high: true, by, hashes: false, shrinks: false }
    }

    /// Checks what has passed here since `before`: each byte once in the swarm, and once in eD2k, unless it shrinks there.
    fn check_passed(&self, both: &Both, before: u64) {
        let (passed, once) = (bytes_passed() - before, both.length);
        println!("{once} bytes made {passed} pass");
        let wanted = if self.shrinks { once..once * 3 / 2 } else { 2 * once..3 * once };
        assert!(wanted.contains(&passed), "{passed} bytes passed for a file of {once}");
    }
}

/// A file that only an amuled shares comes to a client of the swarm. Nobody but the bridge knows of a bridge.
async fn out_of_ed2k(case: Case) {
    let scene = Scene::new();
    let mule = (case.mule)(Mule::new(&scene, "alice", public(3)));
    let source = mule.incoming().join("film.bin");
    (case.write)(&source);
    let both = Both::new(&scene, &source).await;
    let shared = mule.prepare(&scene, 1).await;
    assert_eq!(shared[0].hash, both.hash, "by amuled and by alcc");
    let bridges = Bridges::start(&scene, &both, case.by).await;
    let alice = sharing(&scene, &mule, bridges.server(), 1).await;
    assert_eq!(alice.logged_in().await, case.is_high);
    both.bind(&bridges.bridge).await;
    let (dir, before) = (scene.dir("leech"), bytes_passed());
    let mut leecher = both.leech(&scene, case.client, &dir, Limits::default()).await;
    leecher.finished(60).await;
    case.check_passed(&both, before);
    assert_eq!(sha256_file(&dir.join("film.bin")), sha256_file(&source));
    let (from, to) = (both.in_ed2k(), both.in_bittorrent());
    check_flow(&bridges.bridge, from, to, both.length, "demo-1").await;
    bridges.check(&both, ("ed", "bt")).await;
}

/// A file that only a swarm seeds comes to an amuled, by its link.
async fn into_ed2k(case: Case) {
    let scene = Scene::new();
    let source = scene.dir("source").join("film.bin");
    (case.write)(&source);
    let both = Both::new(&scene, &source).await;
    let _seeder = both.seed(&scene, case.client, Limits::default()).await;
    let bridges = Bridges::start(&scene, &both, case.by).await;
    match case.hashes {
        true => both.bind_with_hashes(&bridges.bridge).await,
        false => both.bind(&bridges.bridge).await,
    }
    both.is_offered(&bridges.bridge).await;
    let mule = (case.mule)(Mule::new(&scene, "bob", public(4)));
    let mut bob = mule.start(&scene, Some(bridges.at)).await;
    assert_eq!(bob.logged_in().await, case.is_high);
    let before = bytes_passed();
    bob.download(&both.link()).await;
    let got = bob.finished("film.bin", 60).await;
    case.check_passed(&both, before);
    assert_eq!(sha256_file(&got), sha256_file(&source));
    let (from, to) = (both.in_bittorrent(), both.in_ed2k());
    check_flow(&bridges.bridge, from, to, both.length, "demo-2").await;
    bridges.check(&both, ("bt", "ed")).await;
}

/// Who the eD2k server is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Served {
    /// The bridge: front.
    ByIt,
    /// Another one; the bridge is one of its clients: presence.
    ByAnother,
}

/// The bridge, and the server if that is another one.
struct Bridges {
    bridge: Bridge,
    other: Option<Bridge>,
    at: SocketAddr,
}

impl Bridges {
    async fn start(scene: &Scene, both: &Both, by: Served) -> Self {
        if by == Served::ByIt {
            let (bridge, at) = both.front(scene).await;
            return Self { bridge, other: None, at };
        }
        let (other, at) = ed2k_server(scene).await;
        Self { bridge: both.presence(scene, at).await, other: Some(other), at }
    }

    fn server(&self) -> (&Bridge, SocketAddr) {
        (self.other.as_ref().unwrap_or(&self.bridge), self.at)
    }

    /// Checks what `overlays` shows: the server, who is logged in, and bytes that crossed.
    async fn check(&self, both: &Both, (from, to): (&str, &str)) {
        let bytes = both.length;
        let all = self.bridge.json(["overlays", "--json"]).await;
        let overlay = all.get("overlays").find("id", "ed").expect("the overlay");
        assert_eq!(overlay.get("protocol").text(), "ed2k", "{overlay:?}");
        let swarms = overlay.get("swarms");
        let swarm = swarms.find("name", &format!("urn:ed2k:{}", both.hash)).expect("the swarm");
        assert_eq!(swarm.get("length").number(), bytes, "{swarm:?}");
        let crossing = crossing(&all, from, to);
        assert!(crossing.get("served_bytes").number() >= bytes, "{crossing:?}");
        if self.other.is_none() {
            let server = overlay.get("tracker_server");
            assert_eq!(server.get("sessions").number(), 1, "{server:?}");
            return;
        }
        assert!(is_up(&overlay.get("health")), "{overlay:?}");
        let server = &overlay.get("trackers").items()[0];
        assert!(is_up(&server.get("health")), "{server:?}");
        assert!(server.get("url").text().contains("198.51.100.1"), "{server:?}");
        assert!(server.get("standing").text().contains("high"), "{server:?}");
        // As the server said when the bridge logged in, or later.
        assert!((1..=2).contains(&server.get("users").number()), "{server:?}");
        assert!(!server.get("contents").0.is_null(), "{server:?}");
    }
}

in_namespace! {
    async fn from_amuled_in_presence() {
        out_of_ed2k(Case::new(Served::ByAnother)).await;
    }

    async fn from_amuled_in_front() {
        out_of_ed2k(Case { client: Client::LibTorrent, ..Case::new(Served::ByIt) }).await;
    }

    async fn to_amuled_in_front() {
        into_ed2k(Case::new(Served::ByIt)).await;
    }

    async fn to_amuled_in_presence() {
        into_ed2k(Case { client: Client::LibTorrent, ..Case::new(Served::ByAnother) }).await;
    }

    /// Nobody can connect to the source: it is called back by way of the server.
    async fn from_an_amuled_with_a_low_id_in_presence() {
        out_of_ed2k(low_id(Served::ByAnother)).await;
    }

    async fn from_an_amuled_with_a_low_id_in_front() {
        out_of_ed2k(low_id(Served::ByIt)).await;
    }

    async fn to_an_amuled_with_a_low_id_in_front() {
        into_ed2k(low_id(Served::ByIt)).await;
    }

    async fn to_an_amuled_with_a_low_id_in_presence() {
        into_ed2k(low_id(Served::ByAnother)).await;
    }

    async fn to_amuled_by_a_link_with_the_hashes_of_parts() {
        into_ed2k(Case { hashes: true, ..Case::new(Served::ByIt) }).await;
    }

    async fn from_an_amuled_that_insists_on_obfuscation() {
        out_of_ed2k(Case { mule: secretive, ..Case::new(Served::ByIt) }).await;
    }

    async fn to_an_amuled_that_insists_on_obfuscation() {
        into_ed2k(Case { mule: secretive, ..Case::new(Served::ByIt) }).await;
    }

    async fn to_an_amuled_as_it_comes_out_of_the_box() {
        let mule = |mule: Mule| mule.crypt(Crypt::Asked);
        into_ed2k(Case { mule, ..Case::new(Served::ByAnother) }).await;
    }

    /// Bytes that shrink: amuled sends them compressed, and the bridge does.
    async fn words_from_amuled() {
        out_of_ed2k(Case { write: words, shrinks: true, ..Case::new(Served::ByIt) }).await;
    }

    async fn words_to_amuled() {
        into_ed2k(Case { write: words, shrinks: true, ..Case::new(Served::ByIt) }).await;
    }

    /// One amuled finds a torrent's file by a word, a kind and a size, and downloads the hit; files that do not match are not shown.
    async fn found_by_a_word() {
        let scene = Scene::new();
        let source = scene.dir("source").join("Golden Sunset.mkv");
        fill(&source, mib(3), 53);
        let both = Both::new(&scene, &source).await;
        let _seeder = both.seed(&scene, Client::Aria2, Limits::default()).await;
        let (bridge, server) = both.front(&scene).await;
        both.bind(&bridge).await;
        let mut bob = Mule::new(&scene, "bob", public(4)).start(&scene, Some(server)).await;
        bob.logged_in().await;
        for query in ["sunset", "golden --type Video", "golden --ext mkv --min-size 2M --max-size 4M"] {
            let hits = bob.search(query).await;
            assert_eq!(hits.len(), 1, "{query}: {hits:?}");
            assert_eq!((hits[0].name.as_str(), hits[0].kib), ("Golden Sunset.mkv", 3 * 1024));
            assert!(hits[0].sources >= 1, "{hits:?}");
        }
        for query in ["silver", "golden --type Audio", "sunset --min-size 4M"] {
            bob.tell(&format!("search local {query}")).await;
            eventually(&format!("the answer to {query}"), 20, async || {
                bob.tell("progress").await.contains("100 %").then_some(())
            })
            .await;
            assert_eq!(bob.results().await, [], "{query}");
        }
        let hits = bob.search("golden sunset").await;
        bob.download_hit(&hits[0]).await;
        let got = bob.finished("Golden Sunset.mkv", 60).await;
        assert_eq!(sha256_file(&got), sha256_file(&source));
    }

    /// Two amuleds and an aria2 get all, from wherever it is; what came once is not fetched twice.
    async fn two_amuleds_and_an_aria2() {
        let scene = Scene::new();
        let source = scene.dir("source").join("film.bin");
        fill(&source, SIZE, 54);
        let both = Both::new(&scene, &source).await;
        let _seeder = both.seed(&scene, Client::LibTorrent, Limits::default()).await;
        let (bridge, server) = both.front(&scene).await;
        both.bind(&bridge).await;
        let mut bob = Mule::new(&scene, "bob", public(4)).start(&scene, Some(server)).await;
        let mut carol = Mule::new(&scene, "carol", public(5)).start(&scene, Some(server)).await;
        for mule in [&bob, &carol] {
            mule.logged_in().await;
            mule.download(&both.link()).await;
        }
        let dir = scene.dir("leech");
        let mut aria2 = both.leech(&scene, Client::Aria2, &dir, Limits::default()).await;
        aria2.finished(60).await;
        for mule in [&mut bob, &mut carol] {
            let got = mule.finished("film.bin", 60).await;
            assert_eq!(sha256_file(&got), sha256_file(&source));
        }
        let records = usage(&bridge).await;
        check_chains(&records);
        let wire = sum(&records, "bytes_wire");
        assert!(wire * 100 <= SIZE * 101, "{wire} bytes fetched");
    }

    /// One file of a torrent with several is asked for by its link: only its bytes cross, and the pieces that it shares with others.
    async fn one_file_of_a_torrent() {
        let scene = Scene::new();
        let root = scene.dir("source").join("album");
        for (name, length, seed) in [("1.flac", mib(5) + 7, 55), ("2.flac", PART + 99, 56), ("3.flac", mib(6), 57)] {
            fill(&root.join(name), length, seed);
        }
        let both = Both::new(&scene, &root).await;
        let _seeder = both.seed(&scene, Client::Aria2, Limits::default()).await;
        let (bridge, server) = both.front(&scene).await;
        let wanted = root.join("2.flac");
        let link = file_link("2.flac", PART + 99, &ed2k_hash(&wanted).await);
        let torrent = format!("bt={}", both.torrent.path.display());
        bridge.must(["names", "bind", &torrent, &format!("ed={link}")]).await;
        let mut bob = Mule::new(&scene, "bob", public(4)).start(&scene, Some(server)).await;
        bob.logged_in().await;
        bob.download(&link).await;
        let got = bob.finished("2.flac", 60).await;
        assert_eq!(sha256_file(&got), sha256_file(&wanted));
        let all = bridge.json(["overlays", "--json"]).await;
        let fetched = crossing(&all, "bt", "ed").get("fetched_bytes").number();
        assert!(fetched <= PART + 99 + 2 * (1 << 18), "{fetched} bytes fetched");
    }

    /// Lengths at which eD2k counts parts in its own way, and one byte; both ways.
    async fn odd_lengths() {
        let lengths = [1, PART - 1, PART, 2 * PART];
        let scene = Scene::new();
        let alice = Mule::new(&scene, "alice", public(3));
        let (near, far) = (scene.dir("near"), alice.incoming());
        for (index, length) in (0..).zip(lengths) {
            fill(&near.join(format!("near{index}.bin")), length, 60 + index);
            fill(&far.join(format!("far{index}.bin")), length, 70 + index);
        }
        let shared = alice.prepare(&scene, lengths.len()).await;
        let (kind, port) = (TrackerKind::OpenHttp, free_port());
        let near_torrent = folder(&scene, &near, &kind.url(port)).await;
        let far_torrent = folder(&scene, &far, &kind.url(port)).await;
        let tracker = Tracker::start(&scene, kind, port, &[near_torrent.v1, far_torrent.v1]).await;
        let (source, what) = (near.parent().unwrap(), What::from(&near_torrent));
        let _seeder = Peer::seed(Client::Aria2, &scene, &what, source, Limits::default()).await;
        tracker.counts(&near_torrent.v1, 1, 0, 20).await;
        let overlay = Ed2kOverlay::front("ed", public(2));
        let server = overlay.server();
        let config = Config::empty(&scene)
            .with_bittorrent(OverlayConfig::new("bt", &[tracker.url()]))
            .with_ed2k(overlay)
            .with_route("ed", "bt", "demo-1")
            .with_route("bt", "ed", "demo-2");
        let bridge = Bridge::start(&scene, &config).await;
        let _alice = sharing(&scene, &alice, (&bridge, server), lengths.len() as u64).await;
        let mut bob = Mule::new(&scene, "bob", public(4)).start(&scene, Some(server)).await;
        bob.logged_in().await;
        for (dir, torrent, word) in [(&near, &near_torrent, "near"), (&far, &far_torrent, "far")] {
            let torrent = format!("bt={}", torrent.path.display());
            for (index, length) in (0..).zip(lengths) {
                let name = format!("{word}{index}.bin");
                let hash = ed2k_hash(&dir.join(&name)).await;
                let amuled = shared.iter().find(|shared| shared.name == name);
                assert!(amuled.is_none_or(|amuled| amuled.hash == hash), "{name}: {amuled:?}");
                let link = file_link(&name, length, &hash);
                bridge.must(["names", "bind", &torrent, &format!("ed={link}")]).await;
                if word == "near" {
                    bob.download(&link).await;
                }
            }
        }
        let (dir, what) = (scene.dir("leech"), What::from(&far_torrent));
        let mut leecher = Peer::leech(Client::Aria2, &scene, &what, &dir, Limits::default()).await;
        leecher.finished(60).await;
        let got = dir.join(far.file_name().unwrap());
        for index in 0..lengths.len() {
            let name = format!("far{index}.bin");
            assert_eq!(sha256_file(&got.join(&name)), sha256_file(&far.join(&name)), "{name}");
            let name = format!("near{index}.bin");
            let got = bob.finished(&name, 60).await;
            assert_eq!(sha256_file(&got), sha256_file(&near.join(&name)), "{name}");
        }
    }
}

fn low_id(by: Served) -> Case {
    Case { mule: |mule| mule.listening(UNREACHABLE_PORT), is_high: false, ..Case::new(by) }
}

fn secretive(mule: Mule) -> Mule {
    mule.crypt(Crypt::Required)
}

/// Twelve million bytes of few words.
fn words(path: &Path) {
    let mut text = String::new();
    let mut line = 0_u32;
    while text.len() < 12_000_000 {
        text += &format!("line {line} of a text that says little\n");
        line += 1;
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A torrent of a folder, made at this tracker.
async fn folder(scene: &Scene, dir: &Path, url: &str) -> Torrent {
    let name = dir.file_name().unwrap().to_str().unwrap();
    let out = scene.file(&format!("{name}.torrent"));
    Torrent::make(Make::V1(18), dir, name, url, &out).await
}
