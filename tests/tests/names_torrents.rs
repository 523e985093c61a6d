//! The torrents that the bridge makes are, bit for bit, those that other programs make of the same files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use p2pbridge_tests::{
    Bridge, Config, LibTorrent, Limits, Make, Scene, Torrent, What, bridge_binary, fill, run,
};
use serde_json::Value;

const URL: &str = "http://127.0.0.1:9/announce";

/// What the bridge said, and whether it was content.
async fn bridge(args: &[&str]) -> (bool, String, String) {
    let output = run(60, bridge_binary(), args).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

async fn json(args: &[&str]) -> Value {
    let (good, said, problem) = bridge(args).await;
    assert!(good, "{args:?}: {problem}");
    serde_json::from_str(&said).expect("a line of JSON")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// Makes the torrent with the bridge, and checks what it says of it against the file.
async fn ours(how: Make, source: &Path, out: &Path) -> Torrent {
    let (version, power) = match how {
        Make::V1(power) | Make::Private(power) => ("v1", power),
        Make::V2(power) => ("v2", power),
        Make::Hybrid(power) => ("hybrid", power),
    };
    let piece = (1_u64 << power).to_string();
    let said = json(&[
        "--json",
        "names",
        "torrent",
        text(source),
        "--version",
        version,
        "--piece-length",
        &piece,
        "--tracker",
        URL,
        "-o",
        text(out),
    ])
    .await;
    let made = Torrent::read(out, URL);
    assert_eq!(said["names"], serde_json::json!(made.urns()));
    let magnet = said["magnet"].as_str().expect("a magnet");
    assert!(made.urns().iter().all(|urn| magnet.contains(&format!("xt={urn}&"))), "{magnet}");
    assert!(magnet.ends_with("&tr=http%3A%2F%2F127.0.0.1%3A9%2Fannounce"), "{magnet}");
    made
}

/// The bridge's torrent of a file or folder, which must be the other program's.
async fn same(scene: &Scene, label: &str, how: Make, source: &Path) -> Torrent {
    let name = source.file_name().and_then(|name| name.to_str()).expect("a plain name");
    let out = |whose: &str| scene.file(&format!("{label}-{how:?}-{whose}.torrent"));
    let theirs = Torrent::make(how, source, name, URL, &out("theirs")).await;
    let ours = ours(how, source, &out("ours")).await;
    assert_eq!(ours.urns(), theirs.urns(), "{label} {how:?}");
    assert_eq!(ours.piece_layers(), theirs.piece_layers(), "{label} {how:?}");
    ours
}

const POWER: u32 = 15;
const PIECE: u64 = 1 << POWER;

/// Files of one, and around one, two and many pieces; of less than a leaf of the tree, and around one.
#[tokio::test]
async fn one_file_of_any_size_has_the_torrents_of_others() {
    let scene = Scene::new();
    let sizes = [1, 16_383, 16_384, 16_385, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 1_048_577];
    for (seed, size) in sizes.into_iter().enumerate() {
        let source = scene.file(&format!("{size}.bin"));
        fill(&source, size, 70 + seed as u64);
        for how in [Make::V1(POWER), Make::V2(POWER), Make::Hybrid(POWER)] {
            same(&scene, &size.to_string(), how, &source).await;
        }
    }
}

/// A folder with empty files, letters of many scripts, folders in folders, and names that sort one way as parts of a path and
/// another way as whole paths.
fn odd_folder(scene: &Scene) -> PathBuf {
    let root = scene.dir("Ordner ü 日本");
    let files = [
        ("a/x", 16_384),
        ("a/deep/er/and/deeper/y", 100_001),
        ("a-b/z", PIECE + 1),
        ("a.b", 5),
        // Not `A`: beside a folder `a`, libtorrent calls it `A.1` on a disk.
        ("B", PIECE),
        ("aa", 0),
        (".hidden", 77),
        ("ünï/ço-dé", 2 * PIECE),
        ("日本語/ファイル.txt", 9),
        ("日本語/empty", 0),
        ("~last", 20_000),
    ];
    for (seed, (path, size)) in files.into_iter().enumerate() {
        fill(&root.join(path), size, 90 + seed as u64);
    }
    root
}

/// Several folders, each with the torrents that mktorrent (v1) and libtorrent (v2, hybrid) make of it.
#[tokio::test]
async fn folders_have_the_torrents_of_others() {
    let scene = Scene::new();
    let odd = odd_folder(&scene);
    let folder = |name: &str, files: &[(&str, u64)]| {
        let root = scene.dir(name);
        files.iter().for_each(|(path, size)| fill(&root.join(path), *size, *size + 1));
        root
    };
    let folders = [
        folder("alone", &[("x", 5)]),
        folder("alone-long", &[("sub/x", 70_000)]),
        folder("with-empty", &[("x", 5), ("y", 0)]),
        folder("exact", &[("x", PIECE), ("y", 2 * PIECE)]),
        folder("last-short", &[("x", PIECE), ("y", 7)]),
        odd,
    ];
    for root in &folders {
        let label = root.file_name().expect("a name").to_string_lossy();
        for how in [Make::V1(POWER), Make::V2(POWER), Make::Hybrid(POWER)] {
            same(&scene, &label, how, root).await;
        }
    }
}

/// libtorrent checks the files against each torrent and finds all pieces good; aria2 and Transmission read those of v1.
#[tokio::test]
async fn others_load_what_the_bridge_makes() {
    let scene = Scene::new();
    let root = odd_folder(&scene);
    let dir = root.parent().expect("a parent");
    for how in [Make::V1(POWER), Make::V2(POWER), Make::Hybrid(POWER)] {
        let made = ours(how, &root, &scene.file(&format!("{how:?}.torrent"))).await;
        let mut client = LibTorrent::start(&scene, IpAddr::V4(Ipv4Addr::LOCALHOST)).await;
        client.add(&What::from(&made), dir, Limits::default()).await;
        client.finished(20).await;
        let status = client.status().await;
        assert!(status.progress == 1.0 && status.failed == 0, "{how:?}: {status:?}");
        let loads = async |program: &str, option: &str, hash: &str| {
            let output = run(20, program, [option, text(&made.path)]).await;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{program} {how:?}: {said}");
            assert!(said.contains(hash) && said.contains("ünï/ço-dé"), "{program} {how:?}: {said}");
        };
        let hash = made.urn().replace("urn:btih:", "");
        match how {
            Make::V1(_) => {
                loads("aria2c", "-S", &hash).await;
                loads("transmission-show", "--", &hash).await;
            }
            // aria2 1.36 shows the files of a hybrid, and another info-hash than libtorrent, whose own hybrids it treats
            // alike: it drops the file tree's empty keys. Transmission 3.00 reads no hybrid of anybody.
            Make::Hybrid(_) => loads("aria2c", "-S", "").await,
            _ => {}
        }
    }
}

/// `names of` has the names of the torrent that `names torrent` makes, and of each file; what cannot be read hinders no other.
#[tokio::test]
async fn all_names_of_a_folder_come_at_once() {
    let scene = Scene::new();
    let root = odd_folder(&scene);
    let made = ours(Make::Hybrid(POWER), &root, &scene.file("x.torrent")).await;
    let piece = PIECE.to_string();
    let of = json(&[
        "--json",
        "names",
        "of",
        text(&root),
        "--torrent",
        "hybrid",
        "--piece-length",
        &piece,
        "--scheme",
        "pieces-root",
    ])
    .await;
    assert_eq!(of["torrents"][0]["names"], serde_json::json!(made.urns()));
    let files = of["files"].as_array().expect("files");
    assert_eq!(files.len(), 11);
    let rooted = files.iter().filter(|file| file["names"]["pieces-root"].is_string()).count();
    assert_eq!(rooted, 9, "empty files have none");

    symlink("/etc/hostname", root.join("link")).expect("a link");
    let args = ["--json", "names", "of", text(&root), "/nowhere", "--scheme", "tth"];
    let (good, said, problems) = bridge(&args).await;
    let of: Value = serde_json::from_str(&said).expect("JSON");
    assert!(!good && of["files"].as_array().expect("files").len() == 11, "{said}");
    assert!(problems.contains("/link: it is a symbolic link"), "{problems}");
    assert!(problems.contains("/nowhere: No such file"), "{problems}");
    let (good, _, problem) = bridge(&["names", "torrent", text(&root)]).await;
    assert!(!good && problem.contains("/link: it is a symbolic link"), "{problem}");
}

/// A file that is there is not overwritten, and a folder without bytes makes no torrent.
#[tokio::test]
async fn nothing_is_lost_and_nothing_useless_is_made() {
    let scene = Scene::new();
    let (source, out) = (scene.file("x.bin"), scene.file("out.torrent"));
    fill(&source, 5, 1);
    fs::write(&out, "precious").expect("a file");
    let args = ["names", "torrent", text(&source), "-o", text(&out)];
    let (good, _, problem) = bridge(&args).await;
    assert!(!good && problem.contains("it is there already"), "{problem}");
    assert_eq!(fs::read(&out).expect("the file"), b"precious");
    assert!(bridge(&[&args[..], &["--force"]].concat()).await.0);
    assert!(Torrent::read(&out, URL).has_v2);
    let empty = scene.dir("empty");
    File::create(empty.join("x")).expect("a file");
    let (good, _, problem) = bridge(&["names", "torrent", text(&empty)]).await;
    assert!(!good && problem.contains("no files with bytes"), "{problem}");
    let piece = ["names", "torrent", text(&source), "--piece-length", "20000", "--force"];
    let (good, _, problem) = bridge(&piece).await;
    assert!(!good && problem.contains("a power of two from 16384"), "{problem}");
}

/// What is published is found by any of its names, all of them are sure, and a magnet link has them; a torrent of several
/// files is none of the names of one of them.
#[tokio::test]
async fn what_is_published_is_found_by_each_of_its_names() {
    let scene = Scene::new();
    let config = Config::a_to_b(&scene, &[URL.to_owned()], &[URL.to_owned()]);
    let bridge = Bridge::start(&scene, &config).await;
    let root = scene.dir("album");
    for (path, seed) in [("one.bin", 5), ("again/one.bin", 5), ("two.bin", 6)] {
        fill(&root.join(path), 50_001, seed);
    }
    fill(&root.join("empty"), 0, 1);
    let lone = scene.file("lone.bin");
    fs::copy(root.join("one.bin"), &lone).expect("a copy");
    let torrent = ours(Make::Hybrid(14), &lone, &scene.file("lone.torrent")).await;

    let paths = [text(&lone), text(&root)];
    let said = bridge.json(["--json", "names", "publish", paths[0], paths[1]]).await.0;
    let row = |at: usize| &said["published"][at];
    assert_eq!(row(0)["binding"]["names"], serde_json::json!(torrent.urns()));
    assert_eq!(row(0)["binding"]["overlays"], serde_json::json!([]));
    assert_eq!(row(1)["binding"]["files"].as_array().expect("files").len(), 4);
    assert_eq!(row(1)["contents"].as_array().expect("contents").len(), 3, "two are the same");
    for content in row(1)["contents"].as_array().expect("contents") {
        for name in content["names"].as_array().expect("names") {
            assert_eq!(name["evidence"], "verified", "{name}");
        }
    }

    let of = json(&["--json", "names", "of", text(&lone)]).await;
    let names = of["files"][0]["names"].as_object().expect("names");
    assert_eq!(names.len(), 10);
    // By the torrent's name it has the torrent's title, by one of the bytes theirs.
    let link = bridge.must(["names", "magnet", &torrent.urns()[1]]).await;
    for name in names.values().map(|name| name.as_str().expect("a name")) {
        assert_eq!(bridge.must(["names", "magnet", name]).await, link, "{name}");
    }
    let xts = link.matches("xt=urn:").count();
    assert_eq!(xts, 12, "ten of the bytes, two of the torrent: {link}");
    assert!(torrent.urns().iter().all(|urn| link.contains(urn.as_str())), "{link}");
    assert!(link.trim_end().ends_with("&dn=lone.bin&xl=50001"), "{link}");
    // The torrent's own link has its tracker, and what the bridge knows besides.
    let link = bridge.must(["names", "magnet", text(&torrent.path)]).await;
    assert!(link.matches("xt=urn:").count() == 12 && link.contains("&tr=http"), "{link}");

    let album = row(1)["binding"]["names"][0].as_str().expect("a name");
    let link = bridge.must(["names", "magnet", album]).await;
    assert!(link.matches("xt=urn:").count() == 2 && link.contains("&xl=150003"), "{link}");
    let hint = "urn:ed2k:31d6cfe0d16ae931b73c59d7e0c08900";
    bridge.must(["names", "bind", hint]).await;
    let ran = bridge.cli(["names", "magnet", hint]).await;
    assert!(!ran.status.success() && ran.stderr.contains("is verified yet"), "{}", ran.stderr);
}

/// Published for an overlay, the torrent is used there; published again, nothing changes; what cannot be is said with its path.
#[tokio::test]
async fn a_torrent_is_published_for_an_overlay() {
    let scene = Scene::new();
    let config = Config::a_to_b(&scene, &[URL.to_owned()], &[URL.to_owned()]);
    let bridge = Bridge::start(&scene, &config).await;
    let source = scene.file("film.bin");
    fill(&source, 100_000, 3);
    let path = text(&source);
    for _ in 0..2 {
        let said = bridge
            .json(["--json", "names", "publish", path, "--torrent", "v1", "--overlay", "b"])
            .await;
        let binding = &said.0["published"][0]["binding"];
        assert_eq!(binding["overlays"], serde_json::json!(["b"]));
        assert_eq!(binding["evidence"], "verified");
    }
    let said = bridge.json(["--json", "names", "publish", path, "--torrent", "none"]).await.0;
    assert!(said["published"][0]["binding"].is_null(), "{said}");
    let ran = bridge.cli(["names", "publish", "/nowhere", path]).await;
    assert!(
        !ran.status.success() && ran.stderr.contains("/nowhere: No such file"),
        "{}",
        ran.stderr
    );
    assert!(ran.stdout.contains("are bound as verified"), "{}", ran.stdout);
    let ran = bridge.cli(["names", "publish", path, "--overlay", "c"]).await;
    assert!(!ran.status.success() && ran.stderr.contains("`c`"), "{}", ran.stderr);
}
