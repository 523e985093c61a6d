//! Names go to other programs: published, and in magnet links.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use p2pbridge_proto::{Name, Scheme, parse_magnet_names};
use p2pbridge_tests::{
    Bridge, Client, Film, Json, Launch, Limits, Make, NAME_SERVICE as NAMES, Peer, Scene, Torrent,
    Tracker, TrackerKind, What, alcc_links, bridge_alone, eventually, fill, free_port, grpcio,
    libtorrent_reads_magnet, libtorrent_reads_torrent, names_in, oracle_names, percent,
    rhash_links, run, sha256_file,
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

/// aMule's links say the MD4 of each part, and behind whole parts that of nothing; they are taken. What is exported is what RHash writes.
#[tokio::test]
async fn links_of_amule_go_in_and_links_of_rhash_come_out() {
    let scene = Scene::new();
    let bridge = bridge_alone(&scene).await;
    let files = odd_files(&scene);
    let list = scene.file("amule.txt");
    fs::write(&list, alcc_links(&files).await.join("\n")).expect("a list");
    let said = bridge.json(["names", "import", "--json", text(&list)]).await;
    assert_eq!((said.get("created").number(), said.get("refused").number()), (3, 0), "{said:?}");

    let theirs = rhash_links(&files, false).await;
    let list = scene.file("rhash.txt");
    fs::write(&list, theirs.join("\n")).expect("a list");
    let said = bridge.json(["names", "import", "--json", text(&list)]).await;
    assert_eq!((said.get("extended").number(), said.get("refused").number()), (3, 0), "{said:?}");
    let exported = bridge.must(["names", "export", "--format", "ed2k"]).await;
    // The first name of a content stays, and aMule writes `_` for what is not ASCII.
    let without_name = |link: &str| {
        let fields: Vec<&str> = link.split('|').collect();
        fields[3..].join("|").to_lowercase()
    };
    let rows = |links: &mut dyn Iterator<Item = &str>| -> BTreeSet<String> {
        links.map(without_name).collect()
    };
    assert_eq!(rows(&mut exported.lines()), rows(&mut theirs.iter().map(String::as_str)));

    let wrong = theirs[0]
        .replace("|h=", "|p=00000000000000000000000000000000:31d6cfe0d16ae931b73c59d7e0c089c0|h=");
    fs::write(&list, wrong).expect("a list");
    let ran = bridge.cli(["names", "import", "--json", text(&list)]).await;
    assert!(!ran.status.success(), "{ran:?}");
    assert_eq!(Json::parse(&ran.stdout).get("refused").number(), 1, "{ran:?}");
}

/// aria2 checks what it downloads by the hashes in the bridge's Metalink: the true bytes pass, others do not.
#[tokio::test]
async fn aria2_checks_a_download_by_a_metalink() {
    let scene = Scene::new();
    let (bridge, film) = (bridge_alone(&scene).await, Film::new(&scene).await);
    film.publish(&bridge).await;
    let (films, out) = (scene.dir("films"), scene.file("film.meta4"));
    bridge.must(["names", "export", "--format", "metalink", "-o", text(&out)]).await;
    let port = free_port();
    let _server = Launch::new("http", "/usr/bin/python3")
        .args([
            "-m",
            "http.server",
            "--bind",
            "127.0.0.1",
            &port.to_string(),
            "--directory",
            text(&films),
        ])
        .start(&scene);
    let url = format!("http://127.0.0.1:{port}/film.bin");
    eventually("the server", 20, async || std::net::TcpStream::connect(("127.0.0.1", port)).ok())
        .await;
    // Where the bytes are is not the bridge's to know.
    let list = fs::read_to_string(&out).expect("a Metalink");
    fs::write(&out, list.replace("</size>", &format!("</size><url>{url}</url>")))
        .expect("a Metalink");
    let download = async |into: &str| {
        let dir = scene.dir(into);
        let args = [
            "--no-conf=true",
            "--allow-overwrite=true",
            "--auto-file-renaming=false",
            "--follow-metalink=mem",
        ];
        let args = args.into_iter().chain(["-d", text(&dir), "-M", text(&out)]).map(str::to_owned);
        let ran = run(60, "aria2c", args.collect::<Vec<_>>()).await;
        (ran.status.code(), String::from_utf8_lossy(&ran.stdout).into_owned(), dir.join("film.bin"))
    };
    let (code, said, path) = download("good").await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(sha256_file(&path), sha256_file(&film.path));

    let mut bytes = fs::read(&film.path).expect("the film");
    bytes[12_345_678] ^= 1;
    fs::write(&film.path, bytes).expect("another film");
    // 32: checksum validation failed.
    let (code, said, _) = download("bad").await;
    assert_eq!(code, Some(32), "{said}");
}

/// A folder published with one torrent: each file has its own names, and its bytes are found in the torrent behind the padding, where
/// libtorrent sees them.
#[tokio::test]
async fn the_files_of_a_published_folder_are_found_in_its_torrent() {
    let scene = Scene::new();
    let bridge = bridge_alone(&scene).await;
    let root = scene.dir("Größe 音楽");
    for (seed, (path, length)) in
        (60..).zip([("a.bin", 9_728_001), ("b/empty", 0), ("b/ü.bin", 65_537), ("c", 16_385)])
    {
        fill(&root.join(path), length, seed);
    }
    let files: Vec<PathBuf> =
        ["a.bin", "b/ü.bin", "c"].iter().map(|path| root.join(path)).collect();
    let piece = ["--piece-length", "64KiB"];
    let published =
        bridge.json(["names", "publish", "--json", piece[0], piece[1], text(&root)]).await;
    let binding = published.get("published").items()[0].get("binding");
    let torrent: Vec<String> = binding.get("names").items().iter().map(Json::text).collect();
    let out = scene.file("folder.torrent");
    bridge.must(["names", "torrent", piece[0], piece[1], "-o", text(&out), text(&root)]).await;
    let read = libtorrent_reads_torrent(&out).await;
    assert_eq!(
        torrent,
        [
            format!("urn:btih:{}", read.get("v1").text()),
            format!("urn:btmh:1220{}", read.get("v2").text())
        ]
    );

    let theirs = oracle_names(&scene, &files).await;
    let (mut requests, mut wanted) = (Vec::new(), Vec::new());
    for (file, names) in files.iter().zip(theirs) {
        let names: Vec<Name> = names.values().map(|text| text.parse().expect("a name")).collect();
        for content in contents_of(&bridge, &names).await {
            assert_eq!(names_in(&content), names.iter().copied().collect(), "{}", file.display());
        }
        let below = file.strip_prefix(scene.path()).expect("in the scene");
        let row = read.get("files").find("path", text(below)).expect("the file in the torrent");
        let (length, offset) = (row.get("length").number(), row.get("offset").number());
        for name in names {
            for (to, bytes) in [(&torrent[0], 0), (&torrent[1], 0), (&torrent[0], length - 1)] {
                let range = json!({"offset": bytes, "length": length - bytes});
                requests.push(json!([NAMES, "MapChunks", {"from": name.to_string(), "to": to, "bytes": range}]));
                wanted.push((offset + bytes, length - bytes));
            }
        }
    }
    for (request, (answer, wanted)) in
        requests.iter().zip(grpcio(&bridge, json!(requests)).await.iter().zip(wanted))
    {
        let ranges = answer.get("ranges").items();
        assert_eq!(ranges.len(), 1, "{request}: {answer:?}");
        let to = ranges[0].get("to");
        assert_eq!((to.get("offset").number(), to.get("length").number()), wanted, "{request}");
        let (first, last) = (wanted.0 / 65_536, (wanted.0 + wanted.1 - 1) / 65_536);
        let chunks = ranges[0].get("to_chunks");
        assert_eq!(
            (chunks.get("first").number(), chunks.get("count").number()),
            (first, last - first + 1),
            "{request}"
        );
    }
}
