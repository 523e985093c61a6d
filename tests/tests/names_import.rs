//! Lists of names go into the bridge and come out of it, and other programs read and write the same.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use p2pbridge_tests::{Json, Make, Ran, Scene, Torrent, bridge_alone, fill, mib, run};
use sha2::{Digest, Sha256};

const ROWS: usize = 5_000;
const BAD: usize = 2_501;

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// A number's digest, in hex.
fn digest(what: &str, number: usize, bytes: usize) -> String {
    let hash = Sha256::digest(format!("{what} {number}"));
    hash.iter().take(bytes).fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("text");
        text
    })
}

/// A table with a column for each scheme, and one bad row in the middle.
fn table() -> String {
    let mut text = "length,title,sha1,ed2k,sha256\n".to_owned();
    for number in 0..ROWS {
        let sha1 = if number == BAD { "zz".to_owned() } else { digest("sha1", number, 20) };
        let (ed2k, sha256) = (digest("ed2k", number, 16), digest("sha256", number, 32));
        writeln!(text, "{},\"file {number}, ü.iso\",{sha1},{ed2k},{sha256}", number * 1_000)
            .expect("text");
    }
    text
}

fn counts(ran: &Ran) -> [usize; 5] {
    let said = Json::parse(&ran.stdout);
    let keys = ["rows", "created", "extended", "known", "refused"];
    keys.map(|key| said.get(key).number() as usize)
}

#[tokio::test]
async fn a_list_with_a_bad_row_goes_in_and_comes_out_in_every_format() {
    let scene = Scene::new();
    let one = bridge_alone(&scene).await;
    let list = scene.file("list.csv");
    fs::write(&list, table()).expect("a list");
    let ran = one.cli(["names", "import", "--json", text(&list)]).await;
    assert!(!ran.status.success(), "{ran:?}");
    assert_eq!(counts(&ran), [ROWS, ROWS - 1, 0, 0, 1], "{ran:?}");
    let ran = one.cli(["names", "import", text(&list)]).await;
    let line = BAD + 2;
    let reason = "column `sha1`: `zz` is no sha1 digest in hex or base32";
    assert!(ran.stdout.contains(&format!("{}:{line}: {reason}\n", list.display())), "{ran:?}");
    assert!(ran.stdout.contains("that were known: 4,999\n"), "{ran:?}");

    let other = Scene::new();
    let two = bridge_alone(&other).await;
    let mut before = None;
    for format in ["csv", "jsonl", "ed2k", "magnets", "metalink"] {
        let out = scene.file(&format!("out.{format}"));
        let said = one.json(["names", "export", "--format", format, "-o", text(&out), "--json"]);
        assert_eq!(said.await.get("contents").number(), ROWS as u64 - 1, "{format}");
        let ran = two.cli(["names", "import", "--json", text(&out)]).await;
        assert!(ran.status.success(), "{format}: {ran:?}");
        let [rows, created, extended, known, _] = counts(&ran);
        assert_eq!((rows, created + extended + known), (ROWS - 1, ROWS - 1), "{format}");
        match before.replace(format) {
            None => assert_eq!(created, ROWS - 1),
            Some(_) => assert_eq!((format, known), (format, ROWS - 1)),
        }
    }
    let rows = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (a, b) = (one.must(["names", "export"]).await, two.must(["names", "export"]).await);
    assert_eq!(rows(&a), rows(&b));
    assert_eq!(a.lines().count(), ROWS);
    let some = one.must(["names", "export", "--scheme", "sha256", "--format", "jsonl"]).await;
    assert!(some.lines().all(|line| line.matches("urn:").count() == 1 && line.contains("sha256")));
}

#[tokio::test]
async fn other_programs_write_what_is_read_and_read_what_is_written() {
    let scene = Scene::new();
    let bridge = bridge_alone(&scene).await;
    let file = scene.file("ü a+b|c.bin");
    fill(&file, mib(20), 77);
    let rhash = async |args: &[&str]| {
        let args: Vec<_> = args.iter().copied().chain([text(&file)]).collect();
        let ran = run(60, "rhash", args).await;
        assert!(ran.status.success(), "{ran:?}");
        String::from_utf8(ran.stdout).expect("text")
    };
    let links = scene.file("links.txt");
    fs::write(&links, rhash(&["--ed2k-link"]).await).expect("a list");
    let ran = bridge.cli(["names", "import", "--json", text(&links)]).await;
    assert_eq!(counts(&ran), [1, 1, 0, 0, 0], "{ran:?}");
    // All hashes that it has, most of them of no use here.
    fs::write(&links, rhash(&["--magnet", "--all"]).await).expect("a list");
    let ran = bridge.cli(["names", "import", "--json", text(&links)]).await;
    assert_eq!(counts(&ran), [1, 0, 1, 0, 0], "{ran:?}");

    let magnet = bridge.must(["names", "export", "--format", "magnets"]).await;
    let script = "import libtorrent as lt, sys; p = lt.parse_magnet_uri(sys.argv[1]); print(p.info_hashes.v1, p.name)";
    let ran = run(30, "/usr/bin/python3", ["-c", script, magnet.trim()]).await;
    let said = String::from_utf8(ran.stdout).expect("text");
    let btih = rhash(&["--btih", "--printf=%{btih}"]).await;
    assert_eq!(said.trim(), format!("{btih} ü a+b|c.bin"));

    let out = scene.file("out.meta4");
    bridge.must(["names", "export", "-o", text(&out)]).await;
    let ran = run(30, "aria2c", ["-S", text(&out)]).await;
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains("ü a+b|c.bin"), "{said}");
}

#[tokio::test]
async fn a_folder_of_torrents_is_bound_and_a_bad_one_is_named() {
    let scene = Scene::new();
    let bridge = bridge_alone(&scene).await;
    let source = scene.file("film.bin");
    fill(&source, mib(1) + 7, 78);
    let dir = scene.file("torrents");
    fs::create_dir_all(dir.join("more")).expect("a folder");
    for (how, path) in [(Make::V1(16), "a.torrent"), (Make::Hybrid(16), "more/b.torrent")] {
        Torrent::make(how, &source, "film.bin", "http://127.0.0.1:1/announce", &dir.join(path))
            .await;
    }
    let bad = dir.join("bad.torrent");
    fs::write(&bad, "d4:infoi1ee").expect("a file");
    let ran = bridge.cli(["names", "import", "--json", text(&dir)]).await;
    let said = Json::parse(&ran.stdout);
    assert!(!ran.status.success(), "{ran:?}");
    assert_eq!(said.get("bound").number(), 2, "{ran:?}");
    let refused = said.get("first_refused").items();
    assert_eq!(refused.len(), 1, "{ran:?}");
    assert_eq!(refused[0].get("file").text(), text(&bad));

    let back = scene.file("back");
    let said =
        bridge.json(["names", "export", "--format", "torrent", "-o", text(&back), "--json"]).await;
    assert_eq!(said.get("written").number(), 2, "{said:?}");
    let files = |dir: &Path| {
        let entries =
            fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("a file").path());
        let files = entries.filter(|path| path.is_file() && *path != bad);
        files.map(|path| fs::read(path).expect("a file")).collect::<BTreeSet<_>>()
    };
    let mut given = files(&dir);
    given.extend(files(&dir.join("more")));
    assert_eq!(files(&back), given);
}
