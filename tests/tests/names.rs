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

use p2pbridge_tests::{Names, Scene, fill, oracle_names};

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
    for line in
        fs::read_to_string(path).expect("the fixture").lines().filter(|line| !line.starts_with('#'))
    {
        let [length, chunk, root] =
            line.split(' ').collect::<Vec<_>>().try_into().expect("three words");
        let rule = if chunk == "1024" { "ppspp" } else { "ppspp-16k" };
        let length = length.parse().expect("a length");
        found.entry(length).or_default().insert(rule.to_owned(), format!("urn:{rule}:{root}"));
    }
    found
}

/// What is known of these bytes in print: the two variants of eD2k, and IPFS's `hello world`.
#[tokio::test]
async fn the_programs_give_the_known_vectors() {
    let scene = Scene::new();
    let hello = scene.file("hello.txt");
    fs::write(&hello, "hello world").expect("a file");
    let files = [zeros(&scene, 9_728_000), zeros(&scene, 19_456_000), hello];
    let names = oracle_names(&scene, &files).await;
    assert_eq!(names[0]["ed2k"], "urn:ed2k:fc21d9af828f92a8df64beac3357425d");
    assert_eq!(names[0]["ed2k-blue"], "urn:ed2k:d7def262a127cd79096a108e7a9fc138");
    assert_eq!(names[1]["ed2k"], "urn:ed2k:114b21c63a74b6ca922291a11177dd5c");
    assert_eq!(names[1]["ed2k-blue"], "urn:ed2k:194ee9e4fa79b2ee9f8829284c466051");
    assert_eq!(names[2]["unixfs-v0-2015"], "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD");
    assert_eq!(
        names[2]["unixfs-v1-2025"],
        "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
    );
}

/// PPSPP's roots by `programs/names.py` are those of PyPPSPP, so that they can stand for it at other files.
#[tokio::test]
async fn the_plain_roots_of_ppspp_are_those_of_pyppspp() {
    let scene = Scene::new();
    let wanted: Vec<(u64, Names)> =
        pyppspp().into_iter().filter(|(length, _)| *length < 1 << 30).collect();
    let files: Vec<PathBuf> = wanted.iter().map(|(length, _)| random(&scene, *length)).collect();
    for ((length, roots), names) in wanted.iter().zip(oracle_names(&scene, &files).await) {
        for (rule, root) in roots {
            assert_eq!(&names[rule], root, "{rule} of {length} bytes");
        }
        if length.is_power_of_two() && *length > 16_384 {
            let (ours, theirs) = (&names["ppspp-16k"], &names["pieces-root"]);
            assert_eq!(
                ours.rsplit(':').next(),
                theirs.rsplit(':').next(),
                "no leaf is missing: libtorrent's root"
            );
        }
    }
}
