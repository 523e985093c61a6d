//! The demonstration: nothing else installed, everything shown.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::process::Stdio;

use p2pbridge_tests::{
    Client, Limits, Peer, Scene, What, bridge_binary, eventually, fill, mib, run, sha256_file,
};
use tokio::process::Command;

#[tokio::test]
async fn the_demonstration_shows_what_crossed() {
    let scene = Scene::new();
    let file = scene.file("my own film.bin");
    fill(&file, mib(9) + 3, 81);
    let (_, digest) = sha256_file(&file).expect("the file");
    let output = run(60, bridge_binary(), ["demo", file.to_str().expect("a plain path")]).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains(&digest), "the SHA-256 {digest}: {said}");
    assert!(said.matches("urn:btih:").count() >= 2, "both names: {said}");
    assert!(said.contains("MiB/s") || said.contains("MB/s"), "the throughput: {said}");
    assert!(
        said.contains("verified 9.00 MiB (9,437,187 bytes), served 9.00 MiB (9,437,187 bytes)"),
        "the usage record: {said}"
    );
}

#[tokio::test]
async fn without_a_file_it_makes_one() {
    let output = run(60, bridge_binary(), ["demo"]).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

/// `--stay` keeps the overlays up: a client of the user's own downloads by the magnet link that it prints.
#[tokio::test]
async fn a_stock_client_joins_the_demonstration() {
    let scene = Scene::new();
    let file = scene.file("film.bin");
    fill(&file, mib(4) + 1, 82);
    let log = scene.log("demo");
    let out = std::fs::File::create(&log).expect("a log");
    let _demo = Command::new("setpriv")
        .arg("--pdeathsig=KILL")
        .arg(bridge_binary())
        .args(["demo", "--stay"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(out.try_clone().expect("the log"))
        .stderr(out)
        .kill_on_drop(true)
        .spawn()
        .expect("the demonstration");
    let magnet = eventually("a magnet link", 40, async || {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        let start = said.find("magnet:?")?;
        let link = said[start..].split_whitespace().next()?.to_owned();
        said[start + link.len()..].starts_with(char::is_whitespace).then_some(link)
    })
    .await;
    let dir = scene.dir("leech");
    let mut leecher =
        Peer::leech(Client::Aria2, &scene, &What::Magnet(magnet), &dir, Limits::default()).await;
    leecher.finished(40).await;
    let got = std::fs::read_dir(&dir)
        .expect("the directory")
        .flatten()
        .map(|entry| sha256_file(&entry.path()));
    assert!(got.into_iter().any(|got| got == sha256_file(&file)), "the file");
}
