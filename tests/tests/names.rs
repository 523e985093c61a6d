//! Every name that the bridge computes is the one that other programs compute.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use p2pbridge_nametable::digest::RULES;
use p2pbridge_tests::{
    Json, Make, Names, Scene, Torrent, bridge_binary, fill, libtorrent_reads_torrent, oracle_names,
    rhash_btih, run, tree,
};

/// Around the borders of chunks, blocks and parts of every scheme.
const LENGTHS: [u64; 23] = [
    0,
    1,
    1_023,
    1_024,
    1_025,
    16_383,
    16_384,
    16_385,
    184_319,
    184_320,
    184_321,
    262_143,
    262_144,
    262_145,
    1_048_575,
    1_048_576,
    1_048_577,
    9_727_999,
    9_728_000,
    9_728_001,
    19_456_000,
    3 * 9_728_000,
    3 * 9_728_000 + 1,
];

const GIB: u64 = 1 << 30;

/// The seed of the files of which `fixtures/names` has names.
const SEED: u64 = 7;

/// A file of pseudo-random bytes.
fn random(scene: &Scene, length: u64) -> PathBuf {
    let path = scene.file(&format!("{length}.bin"));
    fill(&path, length, SEED);
    path
}

/// A file of zero bytes, without blocks on the disk.
fn zeros(scene: &Scene, length: u64) -> PathBuf {
    let path = scene.file(&format!("{length}.zeros"));
    File::create(&path).and_then(|file| file.set_len(length)).expect("a sparse file");
    path
}

/// Length of the file, rule → root by PyPPSPP, which has none for files of one chunk.
fn pyppspp() -> BTreeMap<u64, Names> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/names/ppspp.txt");
    let mut found: BTreeMap<u64, Names> = BTreeMap::new();
    let text = fs::read_to_string(path).expect("the fixture");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        let [length, chunk, root] = words.try_into().expect("three words");
        let rule = if chunk == "1024" { "ppspp" } else { "ppspp-16k" };
        let length = length.parse().expect("a length");
        found.entry(length).or_default().insert(rule.to_owned(), format!("urn:{rule}:{root}"));
    }
    found
}

/// What `p2p-bridge names of` says of files and folders.
async fn names_of(paths: &[PathBuf], options: &[&str]) -> Json {
    let paths = paths.iter().map(|path| path.to_str().expect("UTF-8"));
    let args = ["names", "of", "--json"].into_iter().chain(options.iter().copied()).chain(paths);
    let output = run(120, bridge_binary(), args).await;
    let (said, error) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "names of: {}\n{said}{error}", output.status);
    Json::parse(&said)
}

/// The names of each of these files.
fn of_files(told: &Json, files: &[PathBuf]) -> Vec<Names> {
    let rows = told.get("files");
    let of = |path: &PathBuf| -> Names {
        let row = rows.find("path", path.to_str().expect("UTF-8")).expect("its row");
        assert_eq!(row.get("length").number(), path.metadata().expect("the file").len());
        let names = row.get("names").0.as_object().expect("names").clone();
        names.into_iter().map(|(rule, text)| (rule, Json(text).text())).collect()
    };
    files.iter().map(of).collect()
}

/// The bridge's names of each file are those of the other programs, every one.
async fn are_theirs(scene: &Scene, told: &Json, files: &[PathBuf]) {
    let theirs = oracle_names(scene, files).await;
    for ((path, ours), theirs) in files.iter().zip(of_files(told, files)).zip(theirs) {
        assert_eq!(ours, theirs, "{}", path.display());
    }
}

/// What is known of these bytes in print: the two variants of eD2k, and IPFS's `hello world`. RHash and aMule are "red": they count the
/// empty part behind the last whole one. The bridge knows "blue" as another name, and RHash's MD4 of the parts gives it.
#[tokio::test]
async fn known_vectors() {
    let scene = Scene::new();
    let hello = scene.file("hello.txt");
    fs::write(&hello, "hello world").expect("a file");
    let files = [zeros(&scene, 9_728_000), zeros(&scene, 19_456_000), hello];
    let told = names_of(&files, &[]).await;
    are_theirs(&scene, &told, &files).await;
    let names = of_files(&told, &files);
    assert_eq!(names[0]["ed2k"], "urn:ed2k:fc21d9af828f92a8df64beac3357425d");
    assert_eq!(names[0]["ed2k-blue"], "urn:ed2k:d7def262a127cd79096a108e7a9fc138");
    assert_eq!(names[1]["ed2k"], "urn:ed2k:114b21c63a74b6ca922291a11177dd5c");
    assert_eq!(names[1]["ed2k-blue"], "urn:ed2k:194ee9e4fa79b2ee9f8829284c466051");
    let (v0, v1) = (&names[2]["unixfs-v0-2015"], &names[2]["unixfs-v1-2025"]);
    assert_eq!(v0, "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD");
    assert_eq!(v1, "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e");
}

/// PPSPP's roots by `programs/names.py` are those of PyPPSPP, so that they can stand for it at other files.
#[tokio::test]
async fn the_plain_roots_of_ppspp_are_those_of_pyppspp() {
    let scene = Scene::new();
    let wanted: Vec<_> = pyppspp().into_iter().filter(|(length, _)| *length < GIB).collect();
    let files: Vec<PathBuf> = wanted.iter().map(|(length, _)| random(&scene, *length)).collect();
    for ((length, roots), names) in wanted.iter().zip(oracle_names(&scene, &files).await) {
        for (rule, root) in roots {
            assert_eq!(&names[rule], root, "{rule} of {length} bytes");
        }
        if length.is_power_of_two() && *length > 16_384 {
            let digest = |rule: &str| names[rule].rsplit(':').next().map(str::to_owned);
            assert_eq!(digest("ppspp-16k"), digest("pieces-root"), "no leaf is missing");
        }
    }
}

#[tokio::test]
async fn at_every_border() {
    let scene = Scene::new();
    let files: Vec<PathBuf> = LENGTHS.iter().map(|length| random(&scene, *length)).collect();
    let told = names_of(&files, &[]).await;
    are_theirs(&scene, &told, &files).await;

    // Each name asked for alone is the same as among all.
    let file = &files[LENGTHS.iter().position(|length| *length == 9_728_000).expect("a part")];
    let all = of_files(&told, std::slice::from_ref(file)).remove(0);
    assert_eq!(all.len(), RULES.len());
    for rule in RULES {
        let told = names_of(std::slice::from_ref(file), &["--scheme", rule.word]).await;
        let alone = of_files(&told, std::slice::from_ref(file)).remove(0);
        assert_eq!(alone.get(rule.word), all.get(rule.word), "{} alone", rule.word);
    }
}

#[tokio::test]
async fn of_a_gibibyte() {
    let scene = Scene::new();
    let file = random(&scene, GIB);
    let files = std::slice::from_ref(&file);
    let told = names_of(files, &["--torrent", "hybrid", "--piece-length", "1MiB"]).await;
    are_theirs(&scene, &told, files).await;
    let ours = of_files(&told, files).remove(0);
    for (rule, root) in &pyppspp()[&GIB] {
        assert_eq!(&ours[rule], root, "by PyPPSPP");
    }
    let torrent = Torrent::make(
        Make::Hybrid(20),
        &file,
        "1073741824.bin",
        "http://127.0.0.1:9/announce",
        &scene.file("theirs.torrent"),
    )
    .await;
    let names: Vec<String> =
        told.get("torrents").items()[0].get("names").items().iter().map(Json::text).collect();
    assert_eq!(names, torrent.urns(), "by libtorrent");
    let told = names_of(files, &["--scheme", "sha1", "--torrent", "v1", "--piece-length", "1MiB"]);
    let v1 = told.await.get("torrents").items()[0].get("names").items()[0].text();
    assert_eq!(v1, format!("urn:btih:{}", rhash_btih(&file, 1 << 20).await), "by RHash");
}

/// Letters of several scripts, composed and not; spaces and signs; nested; empty; of one byte; around pieces, so that hybrids have padding
/// of all sizes between.
fn album(scene: &Scene) -> PathBuf {
    let root = scene.dir("Größe & Maß – 大きさ");
    let files = [
        ("00 first.bin", 65_536),
        ("Zürich/caf\u{e9}.bin", 65_537),
        ("Zürich/cafe\u{301}.bin", 1),
        ("Zürich/empty", 0),
        ("音楽/第一章/曲 (1) [50%].bin", 1_048_577),
        ("музыка.bin", 262_144),
        ("emoji 🎵.bin", 16_385),
        ("z|pipe#hash?.bin", 9_728_000),
    ];
    for (index, (path, length)) in files.into_iter().enumerate() {
        fill(&root.join(path), length, 70 + index as u64);
    }
    root
}

#[tokio::test]
async fn of_folders_with_any_letters() {
    let scene = Scene::new();
    let root = album(&scene);
    let files: Vec<PathBuf> = tree(&root).keys().map(|path| root.join(path)).collect();
    let folder = std::slice::from_ref(&root);
    let told = names_of(folder, &[]).await;
    assert_eq!(told.get("files").items().len(), files.len());
    are_theirs(&scene, &told, &files).await;

    for (version, make) in [("v2", Make::V2(16)), ("hybrid", Make::Hybrid(16))] {
        let told = names_of(folder, &["--torrent", version, "--piece-length", "64KiB"]).await;
        are_theirs(&scene, &told, &files).await;
        let name = root.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        let out = scene.file(&format!("{version}.torrent"));
        let torrent = Torrent::make(make, &root, name, "http://127.0.0.1:9/announce", &out).await;
        let made = told.get("torrents").items().remove(0);
        let names: Vec<String> = made.get("names").items().iter().map(Json::text).collect();
        assert_eq!(names, torrent.urns(), "{version} by libtorrent");

        // Each file's root in libtorrent's torrent is the name that the file has alone.
        for row in libtorrent_reads_torrent(&out).await.get("files").items() {
            let path = scene.file(&row.get("path").text());
            let ours = of_files(&told, &[path]).remove(0);
            let root = row.get("root").0.as_str().map(|root| format!("urn:pieces-root:{root}"));
            assert_eq!(ours.get("pieces-root"), root.as_ref(), "{row:?}");
        }
    }
}

/// RHash makes the same v1 torrent of one file, whatever its name.
#[tokio::test]
async fn of_a_torrent_by_rhash() {
    let scene = Scene::new();
    for path in tree(&album(&scene)).keys() {
        let file = album(&scene).join(path);
        if file.metadata().expect("the file").len() == 0 {
            continue;
        }
        let options = ["--torrent", "v1", "--piece-length", "32KiB", "--scheme", "sha1"];
        let told = names_of(std::slice::from_ref(&file), &options).await;
        let ours = told.get("torrents").items()[0].get("names").items()[0].text();
        assert_eq!(ours, format!("urn:btih:{}", rhash_btih(&file, 32_768).await), "{path}");
    }
}
