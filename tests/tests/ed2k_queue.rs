//! Stock clients that wait, come in numbers, lose their server, or hold one file of many: who gets what, in which order, and how often it
//! is fetched.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};

use p2pbridge_tests::{
    Amule, Both, Bridge, Client, Config, Ed2kOverlay, Json, LibTorrent, Limits, Make, Mule, Scene,
    check_chains, check_flow, crossing, ed2k_hash, ed2k_server, eventually, file_link, fill,
    in_namespace, is_up, mib, public, sha256_file, sharing, sum, usage,
};

const PART: u64 = 9_728_000;
/// Bytes of a piece in the torrents here.
const PIECE: u64 = 256 * 1024;

/// A bridge in front that serves one client at a time.
async fn one_slot(scene: &Scene, both: &Both) -> (Bridge, SocketAddr) {
    let overlay = Ed2kOverlay::front("ed", public(2)).with("upload_slots = 1\n");
    let server = overlay.server();
    let bridge = Bridge::start(scene, &both.config(scene, overlay)).await;
    both.bind(&bridge).await;
    both.is_offered(&bridge).await;
    (bridge, server)
}

/// An amuled that is logged in and asks for the file.
async fn asking(scene: &Scene, mule: Mule, server: SocketAddr, link: &str) -> Amule {
    let mule = mule.start(scene, Some(server)).await;
    mule.logged_in().await;
    mule.download(link).await;
    mule
}

/// Waits until an amuled has more than this share of its one download, in per cent.
async fn has_percent(mule: &Amule, least: f64) {
    eventually(&format!("{least} % of the download"), 60, async || {
        (percent(mule).await? > least).then_some(())
    })
    .await;
}

/// How much it has of its one download: ` > [57.5%] 1/1 …`.
async fn percent(mule: &Amule) -> Option<f64> {
    let said = mule.downloads().await;
    said.split_once('[')?.1.split_once('%')?.0.trim().parse().ok()
}

/// How often the bridge has said something of a client at this address.
fn said_of(bridge: &Bridge, words: &str, at: Ipv4Addr) -> usize {
    let at = format!("{at}:");
    bridge.program.said().lines().filter(|line| line.contains(words) && line.contains(&at)).count()
}

/// At least so many bytes have crossed, and next to nothing was fetched twice.
async fn fetched_once(bridge: &Bridge, bytes: u64, crossed: u64) {
    let records = eventually("the ledger having it all", 15, async || {
        let records = usage(bridge).await;
        (sum(&records, "bytes_verified") >= crossed).then_some(records)
    })
    .await;
    check_chains(&records);
    let wire = sum(&records, "bytes_wire");
    assert!(wire * 100 <= bytes * 101, "{wire} bytes fetched of {bytes}");
}

/// What `overlays` says of the file in eD2k.
async fn in_ed2k(bridge: &Bridge, hash: &str) -> Option<Json> {
    let all = bridge.json(["overlays", "--json"]).await;
    all.get("overlays").find("id", "ed")?.get("swarms").find("name", &format!("urn:ed2k:{hash}"))
}

/// Whether the bridge is logged in to its server, and how many bytes it has fetched by now.
async fn standing(bridge: &Bridge, (from, to): (&str, &str)) -> (bool, u64) {
    let all = bridge.json(["overlays", "--json"]).await;
    let overlay = all.get("overlays").find("id", "ed").unwrap();
    let server = overlay.get("trackers").items().remove(0);
    let logged_in = is_up(&server.get("health")) && server.get("standing").text().contains("high");
    (logged_in, crossing(&all, from, to).get("fetched_bytes").number())
}

/// Kills the server as soon as something crosses, looks whether that goes on without it, and starts it again.
async fn without_server(
    scene: &Scene,
    bridge: &Bridge,
    mut server: Bridge,
    way: (&str, &str),
) -> Bridge {
    let (_, before) = eventually("a beginning", 60, async || {
        Some(standing(bridge, way).await).filter(|(up, fetched)| *up && *fetched >= mib(3))
    })
    .await;
    server.kill9().await;
    let (_, then) = eventually("the bridge knowing that its server is gone", 20, async || {
        Some(standing(bridge, way).await).filter(|(up, _)| !up)
    })
    .await;
    eventually("bytes that cross without a server", 20, async || {
        let (up, now) = standing(bridge, way).await;
        assert!(!up, "there is no server");
        (now >= then.max(before) + mib(3)).then_some(())
    })
    .await;
    let server = Bridge::start(scene, &server.config).await;
    eventually("the bridge logged in again", 60, async || {
        standing(bridge, way).await.0.then_some(())
    })
    .await;
    server
}

/// A folder of three files of which an amuled has the one in the middle, and a client of the swarm wants that one alone.
struct Album {
    both: Both,
    files: [(&'static str, u64); 3],
    bridge: Bridge,
    server: SocketAddr,
    leecher: LibTorrent,
    _alice: Amule,
}

impl Album {
    /// So many bytes lie before the middle one.
    async fn new(scene: &Scene, how: Make, before: u64) -> Self {
        let files = [("1.flac", before), ("2.flac", PART + 99), ("3.flac", mib(6))];
        let root = scene.dir("source").join("album");
        for (seed, (name, length)) in (91..).zip(files) {
            fill(&root.join(name), length, seed);
        }
        let both = Both::made(scene, &root, how).await;
        let mule = Mule::new(scene, "alice", public(3));
        fs::copy(root.join("2.flac"), mule.incoming().join("2.flac")).unwrap();
        mule.prepare(scene, 1).await;
        let (bridge, server) = both.front(scene).await;
        let alice = sharing(scene, &mule, (&bridge, server), 1).await;
        let mut this = Self {
            both,
            files,
            bridge,
            server,
            leecher: LibTorrent::start(scene, Ipv4Addr::LOCALHOST.into()).await,
            _alice: alice,
        };
        for (name, length) in files {
            let link = file_link(name, length, &ed2k_hash(&root.join(name)).await);
            let torrent = format!("bt={}", this.both.torrent.path.display());
            this.bridge.must(["names", "bind", &torrent, &format!("ed={link}")]).await;
        }
        let dir = scene.dir("leech");
        this.leecher.add_only(&this.both.torrent, "2.flac", &dir).await;
        this
    }

    fn check(&self, scene: &Scene) {
        let got = scene.file("leech").join(&self.both.torrent.name).join("2.flac");
        assert_eq!(sha256_file(&got), sha256_file(&self.both.path.join("2.flac")));
    }

    async fn fetched(&self) -> u64 {
        let all = self.bridge.json(["overlays", "--json"]).await;
        crossing(&all, "ed", "bt").get("fetched_bytes").number()
    }
}

in_namespace! {
    /// Who waits is told its place. A turn is two parts long, and then the other one's comes: when the first has all, the other has most.
    async fn two_amuleds_take_turns_at_one_slot() {
        let scene = Scene::new();
        let source = scene.dir("source").join("film.bin");
        let size = 5 * PART + 777;
        fill(&source, size, 83);
        let both = Both::new(&scene, &source).await;
        let _seeder = both.seed(&scene, Client::Aria2, Limits::default()).await;
        let (bridge, server) = one_slot(&scene, &both).await;
        let mule = |name, at| Mule::new(&scene, name, public(at)).limited(Limits::down(mib(5)));
        let mut bob = asking(&scene, mule("bob", 4), server, &both.link()).await;
        has_percent(&bob, 0.0).await;
        let mut carol = asking(&scene, mule("carol", 5), server, &both.link()).await;
        eventually("carol waiting", 20, async || {
            (said_of(&bridge, "waits in the queue", public(5)) > 0).then_some(())
        })
        .await;
        let got = bob.finished("film.bin", 60).await;
        let others = percent(&carol).await.unwrap_or(100.0);
        assert!(others >= 35.0, "carol has {others} % when bob has all");
        assert_eq!(sha256_file(&got), sha256_file(&source));
        let got = carol.finished("film.bin", 60).await;
        assert_eq!(sha256_file(&got), sha256_file(&source));
        for at in [public(4), public(5)] {
            let turns = said_of(&bridge, "turn has come", at);
            assert!(turns >= 2, "{turns} turns of {at}");
        }
        fetched_once(&bridge, size, size).await;
    }

    /// amuled hangs up while it waits, and would ask again after twenty minutes: it is called as soon as the slot is free.
    async fn who_waits_unconnected_is_called() {
        let scene = Scene::new();
        let source = scene.dir("source").join("film.bin");
        let size = PART + 4_321;
        fill(&source, size, 84);
        let both = Both::new(&scene, &source).await;
        let _seeder = both.seed(&scene, Client::LibTorrent, Limits::default()).await;
        let (bridge, server) = one_slot(&scene, &both).await;
        let slow = Mule::new(&scene, "bob", public(4)).limited(Limits::down(100 * 1024));
        let mut bob = asking(&scene, slow, server, &both.link()).await;
        has_percent(&bob, 0.0).await;
        let carol = Mule::new(&scene, "carol", public(5));
        let mut carol = asking(&scene, carol, server, &both.link()).await;
        for words in ["waits in the queue", "asks no more"] {
            eventually(&format!("carol: {words}"), 60, async || {
                (said_of(&bridge, words, public(5)) > 0).then_some(())
            })
            .await;
        }
        assert_eq!(said_of(&bridge, "is called", public(5)), 0);
        bob.tell("set bwlimit down 0").await;
        let got = bob.finished("film.bin", 60).await;
        assert_eq!(sha256_file(&got), sha256_file(&source));
        let got = carol.finished("film.bin", 30).await;
        assert_eq!(sha256_file(&got), sha256_file(&source));
        assert_eq!(said_of(&bridge, "is called", public(5)), 1);
        fetched_once(&bridge, size, size).await;
    }

    /// What two share comes from both.
    async fn one_file_of_two_amuleds() {
        let scene = Scene::new();
        let mule = |name, at| Mule::new(&scene, name, public(at)).limited(Limits::up(mib(2)));
        let (alice, dave) = (mule("alice", 3), mule("dave", 5));
        let source = alice.incoming().join("film.bin");
        let size = 3 * PART + 4_321;
        fill(&source, size, 85);
        fs::copy(&source, dave.incoming().join("film.bin")).unwrap();
        let both = Both::new(&scene, &source).await;
        for mule in [&alice, &dave] {
            mule.prepare(&scene, 1).await;
        }
        let (bridge, server) = both.front(&scene).await;
        let alice = sharing(&scene, &alice, (&bridge, server), 1).await;
        let dave = sharing(&scene, &dave, (&bridge, server), 1).await;
        both.bind(&bridge).await;
        let dir = scene.dir("leech");
        let mut leecher = both.leech(&scene, Client::LibTorrent, &dir, Limits::default()).await;
        eventually("two sources", 30, async || {
            (in_ed2k(&bridge, &both.hash).await?.get("sources").number() == 2).then_some(())
        })
        .await;
        leecher.finished(60).await;
        assert_eq!(sha256_file(&dir.join("film.bin")), sha256_file(&source));
        check_flow(&bridge, both.in_ed2k(), both.in_bittorrent(), size, "demo-1").await;
        for mule in [&alice, &dave] {
            let said = mule.tell("statistics").await;
            let sent = said.lines().find_map(|line| line.split_once("Uploaded Data (Session (Total)): "));
            let sent = sent.unwrap_or_else(|| panic!("no such line: {said}")).1;
            assert!(sent.contains(" MiB"), "{sent}");
        }
    }

    /// Somebody whom only another server knows is named by a client that downloads from him; when that one goes, he brings the rest.
    async fn a_source_that_only_another_client_knows() {
        let scene = Scene::new();
        let dave = Mule::new(&scene, "dave", public(5));
        let source = dave.incoming().join("film.bin");
        let size = 5 * PART + 4_321;
        fill(&source, size, 86);
        let both = Both::new(&scene, &source).await;
        dave.prepare(&scene, 1).await;
        let overlay = Ed2kOverlay::front("far", public(6));
        let far = overlay.server();
        let their = Bridge::start(&scene, &Config::empty(&scene).with_ed2k(overlay)).await;
        let dave = sharing(&scene, &dave, (&their, far), 1).await;
        let (other, server) = ed2k_server(&scene).await;
        let bridge = both.presence(&scene, server).await;
        both.bind(&bridge).await;
        both.is_offered(&bridge).await;
        // What it has when it starts is offered at once, and what it gets only after a while.
        let mule = Mule::new(&scene, "alice", public(3)).limited(Limits::down(mib(1)));
        let alice = asking(&scene, mule.clone(), far, &both.link()).await;
        has_percent(&alice, 25.0).await;
        alice.stop().await;
        let alice = sharing(&scene, &mule, (&other, server), 1).await;
        let had = percent(&alice).await.unwrap();
        let at = dave.mule.endpoint();
        alice.tell(&format!("add {}|sources,{at}|/", both.link())).await;
        has_percent(&alice, had).await;
        let dir = scene.dir("leech");
        let mut leecher = both.leech(&scene, Client::LibTorrent, &dir, Limits::default()).await;
        eventually("two sources", 60, async || {
            (in_ed2k(&bridge, &both.hash).await?.get("sources").number() == 2).then_some(())
        })
        .await;
        alice.stop().await;
        leecher.finished(60).await;
        assert_eq!(sha256_file(&dir.join("film.bin")), sha256_file(&source));
        // What alice has from the bridge does not cross.
        fetched_once(&bridge, size, PART).await;
    }

    async fn the_server_goes_while_amuled_is_the_source() {
        let scene = Scene::new();
        let alice = Mule::new(&scene, "alice", public(3)).limited(Limits::up(mib(3)));
        let source = alice.incoming().join("film.bin");
        let size = 4 * PART + 555;
        fill(&source, size, 87);
        let both = Both::new(&scene, &source).await;
        alice.prepare(&scene, 1).await;
        let (other, server) = ed2k_server(&scene).await;
        let bridge = both.presence(&scene, server).await;
        let _alice = sharing(&scene, &alice, (&other, server), 1).await;
        both.bind(&bridge).await;
        let dir = scene.dir("leech");
        let mut leecher = both.leech(&scene, Client::LibTorrent, &dir, Limits::default()).await;
        let _other = without_server(&scene, &bridge, other, ("ed", "bt")).await;
        leecher.finished(60).await;
        assert_eq!(sha256_file(&dir.join("film.bin")), sha256_file(&source));
        check_flow(&bridge, both.in_ed2k(), both.in_bittorrent(), size, "demo-1").await;
    }

    async fn the_server_goes_while_amuled_downloads() {
        let scene = Scene::new();
        let source = scene.dir("source").join("film.bin");
        let size = 4 * PART + 555;
        fill(&source, size, 88);
        let both = Both::new(&scene, &source).await;
        let _seeder = both.seed(&scene, Client::Aria2, Limits::up(mib(3))).await;
        let (other, server) = ed2k_server(&scene).await;
        let bridge = both.presence(&scene, server).await;
        both.bind(&bridge).await;
        both.is_offered(&bridge).await;
        let bob = Mule::new(&scene, "bob", public(4));
        let mut bob = asking(&scene, bob, server, &both.link()).await;
        let _other = without_server(&scene, &bridge, other, ("bt", "ed")).await;
        let got = bob.finished("film.bin", 60).await;
        assert_eq!(sha256_file(&got), sha256_file(&source));
        check_flow(&bridge, both.in_bittorrent(), both.in_ed2k(), size, "demo-2").await;
    }

    /// Files begin and end with pieces: the one that is there is there as a whole, though more than is read ahead lies before it.
    async fn one_file_of_a_padded_torrent_from_amuled() {
        let scene = Scene::new();
        let mut album = Album::new(&scene, Make::Hybrid(18), mib(30) + 7).await;
        album.leecher.finished(60).await;
        album.check(&scene);
        let fetched = album.fetched().await;
        assert!(fetched <= (PART + 99) * 101 / 100, "{fetched} bytes fetched");
    }

    /// Pieces at the border have bytes of the neighbours too, and nothing can prove them without. The operator is told that nobody has
    /// these, and they come when somebody does.
    async fn one_file_of_a_torrent_without_padding_from_amuled() {
        let scene = Scene::new();
        let mut album = Album::new(&scene, Make::V1(18), mib(6) + 7).await;
        let (start, length) = (album.files[0].1, album.files[1].1);
        let inside = (start.next_multiple_of(PIECE), (start + length) / PIECE * PIECE);
        eventually("all pieces that are of this file alone", 60, async || {
            (album.leecher.status().await.done >= inside.1 - inside.0).then_some(())
        })
        .await;
        let named = eventually("what the operator is told", 20, async || {
            let all = album.bridge.json(["overlays", "--json"]).await;
            let swarms = all.get("overlays").find("id", "bt")?.get("swarms").items();
            Some(swarms.first()?.get("trouble").text()).filter(|text| !text.is_empty())
        })
        .await;
        assert!(named.contains("do not hold what is wanted"), "{named}");
        let dave = Mule::new(&scene, "dave", public(5));
        for (name, _) in [album.files[0], album.files[2]] {
            fs::copy(album.both.path.join(name), dave.incoming().join(name)).unwrap();
        }
        dave.prepare(&scene, 2).await;
        let _dave = sharing(&scene, &dave, (&album.bridge, album.server), 2).await;
        album.leecher.finished(90).await;
        album.check(&scene);
    }
}
