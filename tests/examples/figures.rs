//! Prints the bridge's figures: its throughput beside the same two clients without it, processor time, memory, time to the first byte.
//!
//! `cargo run --release -p p2pbridge-tests --example figures -- [MiB] [ROUNDS]` after `./tests/run`; 1,024 MiB and 3 rounds when not
//! said. Files are kept below `TMPDIR`: a directory in memory leaves the disk out of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it ends with what went wrong"
)]

use p2pbridge_tests::{
    Bridge, Client, Config, Limits, Peer, Scene, World, eventually, fill, mib, sha256_file, sum,
    usage,
};
use tokio::time::Instant;

/// How the leecher gets the file.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// From the seeder, in its swarm.
    Direct,
    /// Through the bridge, which proves nothing by it.
    Through,
    /// Through the bridge, which computes all names of what passes; processor time is counted until it has them.
    Proven,
}

/// One download.
struct Figures {
    mib_per_second: f64,
    first_byte_ms: Option<u128>,
    cpu_seconds_per_gib: f64,
    peak_mb: f64,
    fetched_to_served: f64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u64>().expect("a number"));
    let (size, rounds) = (args.next().unwrap_or(1_024), args.next().unwrap_or(3));
    println!(
        "{size} MiB, pieces of 256 KiB in A and of 1 MiB in B, median of {rounds} rounds, {} cores",
        cores()
    );
    println!(
        "| clients | direct MiB/s | through the bridge MiB/s | ratio | first byte ms | CPU-s/GiB | peak MB | fetched ÷ served |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for client in [Client::LibTorrent, Client::Aria2] {
        let (mut direct, mut through, mut proven) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            direct.push(download(client, mib(size), Way::Direct).await);
            through.push(download(client, mib(size), Way::Through).await);
            proven.push(download(client, mib(size), Way::Proven).await);
        }
        let plain = median(direct.iter().map(|figures| figures.mib_per_second));
        row(&format!("{client:?} → {client:?}"), plain, &through);
        row("the same, all names proven", plain, &proven);
    }
}

fn row(what: &str, plain: f64, crossed: &[Figures]) {
    let through = median(crossed.iter().map(|figures| figures.mib_per_second));
    let first = crossed.iter().filter_map(|figures| figures.first_byte_ms).max();
    println!(
        "| {what} | {plain:.0} | {through:.0} | {:.2} | {} | {:.2} | {:.0} | {:.4} |",
        through / plain,
        first.map_or("–".to_owned(), |ms| ms.to_string()),
        median(crossed.iter().map(|figures| figures.cpu_seconds_per_gib)),
        crossed.iter().map(|figures| figures.peak_mb).fold(0.0, f64::max),
        crossed.iter().map(|figures| figures.fetched_to_served).fold(0.0, f64::max),
    );
}

async fn download(client: Client, size: u64, way: Way) -> Figures {
    let crosses = way != Way::Direct;
    let scene = Scene::new();
    let source = scene.dir("source").join("film.bin");
    fill(&source, size, 91);
    let world = World::plain(&scene, &source).await;
    let _seeder =
        Peer::seed(client, &scene, &world.a.what(), &scene.dir("source"), Limits::default()).await;
    world.a.has_seeder().await;
    let mut config = Config::a_to_b(&scene, &[world.a.tracker.url()], &[world.b.tracker.url()]);
    config.log = "info";
    if way != Way::Proven {
        config.more = "[names]\nprove = false\n".to_owned();
    }
    let bridge = Bridge::start(&scene, &config).await;
    if crosses {
        bridge.bind(("a", &world.a.torrent.path), ("b", &world.b.torrent.path)).await;
        eventually("the bridge in B's swarm", 20, async || {
            let swarm = p2pbridge_tests::scrape(world.b.tracker.port, &world.b.hash()).await?;
            (swarm.seeders + swarm.leechers > 0).then_some(())
        })
        .await;
    }
    let before = bridge.cpu_seconds();
    let begun = Instant::now();
    let (what, name) =
        if crosses { (world.b.what(), "b.bin") } else { (world.a.what(), "film.bin") };
    let dir = scene.dir("leech");
    let mut leecher = Peer::leech(client, &scene, &what, &dir, Limits::default()).await;
    let first_byte_ms = if let Peer::LibTorrent(session) = &mut leecher {
        eventually("a first byte", 30, async || {
            (session.status().await.downloaded > 0).then_some(())
        })
        .await;
        Some(begun.elapsed().as_millis())
    } else {
        None
    };
    leecher.finished(600).await;
    let seconds = begun.elapsed().as_secs_f64();
    let (_, sha256) = sha256_file(&source).expect("the source");
    assert_eq!(sha256_file(&dir.join(name)).map(|(_, hash)| hash), Some(sha256.clone()));
    if way == Way::Proven {
        let name = format!("urn:sha256:{sha256}");
        eventually("the names", 120, async || {
            bridge.cli(["names", "resolve", &name]).await.status.success().then_some(())
        })
        .await;
    }
    let cpu = bridge.cpu_seconds() - before;
    let mut fetched_to_served = 0.0;
    if crosses {
        let records = eventually("the ledger having it all", 20, async || {
            Some(usage(&bridge).await).filter(|records| sum(records, "bytes_served") >= size)
        })
        .await;
        fetched_to_served =
            sum(&records, "bytes_wire") as f64 / sum(&records, "bytes_served") as f64;
    }
    Figures {
        mib_per_second: size as f64 / mib(1) as f64 / seconds,
        first_byte_ms,
        cpu_seconds_per_gib: cpu * mib(1_024) as f64 / size as f64,
        peak_mb: bridge.memory().1 as f64 / 1e6,
        fetched_to_served,
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
