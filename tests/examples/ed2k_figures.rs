//! Prints the figures of the bridge between eD2k and BitTorrent, beside what amuled does without it.
//!
//! `cargo run --release -p p2pbridge-tests --example ed2k_figures -- [MiB] [ROUNDS] [WORD]` after `./tests/run`; 512 MiB and 3 rounds when
//! not said, and only rows that begin with the word when there is one. It runs in a network namespace of its own: root, or sudo. Files are kept below `TMPDIR`: a directory in memory leaves the disk
//! out of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it ends with what went wrong"
)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use p2pbridge_tests::{
    Both, Bridge, Client, Limits, Mule, Scene, ed2k_server, eventually, fill, is_inside, mib,
    public, reenter, sha256_file, sharing, sum, usage,
};
use tokio::time::Instant;

/// Who has the file, and who wants it.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// amuled from amuled: what there is without the bridge.
    Direct,
    /// A swarm's leecher from amuled, through the bridge.
    OutOfEd2k(Client),
    /// amuled from a swarm's seeder, through the bridge.
    IntoEd2k(Client),
}

/// One download.
struct Figures {
    /// From the first byte to the last.
    mib_per_second: f64,
    /// From when it is asked for.
    first_byte_seconds: f64,
    cpu_seconds_per_gib: f64,
    peak_mb: f64,
    fetched_to_served: f64,
}

fn main() {
    if !is_inside() {
        std::process::exit(reenter());
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| args.get(at).map(|arg| arg.parse::<u64>().expect("a number"));
    let (size, rounds) = (number(0).unwrap_or(512), number(1).unwrap_or(3));
    let word = args.get(2).cloned().unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(table(size, rounds, &word));
}

async fn table(size: u64, rounds: u64, word: &str) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "{size} MiB, pieces of 256 KiB, in presence, median of {rounds} rounds, {cores} cores"
    );
    println!(
        "| from → to | MiB/s | ÷ amuled → amuled | first byte s | CPU-s/GiB | peak MB | fetched ÷ served |"
    );
    println!("|---|---|---|---|---|---|---|");
    let ways = [
        ("amuled → amuled", Way::Direct),
        ("aria2 → bridge → amuled", Way::IntoEd2k(Client::Aria2)),
        ("libtorrent → bridge → amuled", Way::IntoEd2k(Client::LibTorrent)),
        ("amuled → bridge → aria2", Way::OutOfEd2k(Client::Aria2)),
        ("amuled → bridge → libtorrent", Way::OutOfEd2k(Client::LibTorrent)),
    ];
    let mut plain = f64::NAN;
    for (what, way) in ways.into_iter().filter(|(what, _)| what.starts_with(word)) {
        let mut all = Vec::new();
        for _ in 0..rounds {
            all.push(download(mib(size), way).await);
        }
        let of = |figure: fn(&Figures) -> f64| median(all.iter().map(figure));
        let speed = of(|it| it.mib_per_second);
        if way == Way::Direct {
            plain = speed;
            println!(
                "| {what} | {speed:.0} | 1 | {:.1} | – | – | – |",
                of(|it| it.first_byte_seconds)
            );
            continue;
        }
        println!(
            "| {what} | {speed:.0} | {:.2} | {:.1} | {:.2} | {:.0} | {:.4} |",
            speed / plain,
            of(|it| it.first_byte_seconds),
            of(|it| it.cpu_seconds_per_gib),
            all.iter().map(|it| it.peak_mb).fold(0.0, f64::max),
            all.iter().map(|it| it.fetched_to_served).fold(0.0, f64::max),
        );
    }
}

async fn download(size: u64, way: Way) -> Figures {
    let scene = Scene::new();
    let alice = Mule::new(&scene, "alice", public(3));
    let dir = match way {
        Way::IntoEd2k(_) => scene.dir("source"),
        _ => alice.incoming(),
    };
    let source = dir.join("film.bin");
    fill(&source, size, 91);
    let both = Both::new(&scene, &source).await;
    let (server_bridge, server) = ed2k_server(&scene).await;
    let bridge = quiet(&scene, &both, server).await;

    let (mut alices, mut seeders) = (None, None);
    if let Way::IntoEd2k(client) = way {
        seeders = Some(both.seed(&scene, client, Limits::default()).await);
    } else {
        alice.prepare(&scene, 1).await;
        alices = Some(sharing(&scene, &alice, (&server_bridge, server), 1).await);
    }
    if way != Way::Direct {
        both.bind(&bridge).await;
        both.is_offered(&bridge).await;
    }
    let before = bridge.cpu_seconds();
    let (begun, first, done, got) = match way {
        Way::OutOfEd2k(client) => {
            let dir = scene.dir("leech");
            let begun = Instant::now();
            let mut leecher = both.leech(&scene, client, &dir, Limits::default()).await;
            let first = first_byte(&dir).await;
            leecher.finished(900).await;
            (begun, first, Instant::now(), dir.join("film.bin"))
        }
        _ => {
            let bob = Mule::new(&scene, "bob", public(4));
            let temp = bob.incoming().with_file_name("Temp");
            let mut bob = bob.start(&scene, Some(server)).await;
            bob.logged_in().await;
            let begun = Instant::now();
            bob.download(&both.link()).await;
            let first = first_byte(&temp).await;
            let got = bob.finished("film.bin", 900).await;
            (begun, first, Instant::now(), got)
        }
    };
    let cpu = bridge.cpu_seconds() - before;
    assert_eq!(sha256_file(&got), sha256_file(&source));
    let mut fetched_to_served = 0.0;
    if way != Way::Direct {
        let records = eventually("the ledger having it all", 20, async || {
            Some(usage(&bridge).await).filter(|records| sum(records, "bytes_served") >= size)
        })
        .await;
        let sum = |column| sum(&records, column) as f64;
        fetched_to_served = sum("bytes_wire") / sum("bytes_served");
    }
    drop((alices, seeders));
    Figures {
        mib_per_second: size as f64 / mib(1) as f64 / (done - first).as_secs_f64(),
        first_byte_seconds: (first - begun).as_secs_f64(),
        cpu_seconds_per_gib: cpu * mib(1_024) as f64 / size as f64,
        peak_mb: bridge.memory().1 as f64 / 1e6,
        fetched_to_served,
    }
}

/// The bridge, with few words in its log and nothing to prove.
async fn quiet(scene: &Scene, both: &Both, server: std::net::SocketAddr) -> Bridge {
    let mut config =
        both.config(scene, p2pbridge_tests::Ed2kOverlay::presence("ed", public(2), server));
    config.log = "info";
    config.more = "[names]\nprove = false\n".to_owned();
    Bridge::start(scene, &config).await
}

/// When a file of some substance is in this directory, on disk: both programs leave holes where nothing has come.
async fn first_byte(dir: &Path) -> Instant {
    eventually("a first byte", 120, async || {
        let files = fs::read_dir(dir).ok()?.flatten();
        let blocks = files.filter_map(|file| file.metadata().ok()).map(|meta| meta.blocks()).max();
        // Of 512 bytes; amuled keeps lists of its own there.
        (blocks.unwrap_or(0) > 128).then(Instant::now)
    })
    .await
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
