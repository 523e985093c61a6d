//! `p2p-bridge demo`: two overlays of the bridge's own faces on loopback, and a bridge between them. Nothing else needs to
//! be installed.

mod peers;
mod report;

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use p2pbridge_adapters::{
    Description,
    bittorrent::{
        create::{Surroundings, Version},
        magnet,
    },
    registry,
};
use p2pbridge_nametable::digest::Rules;
use p2pbridge_proto::v1;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use self::peers::{DemoPeer, DemoTracker};
use super::names::{make::Making, scan::Scan};
use crate::{app::App, config::Config};

/// Piece lengths of the two swarms: the bridge maps one onto the other.
const PIECE_A: u64 = 256 << 10;
const PIECE_B: u64 = 1 << 20;
/// Bytes of the file that is made when none is given.
const MADE: u64 = 256 << 20;
/// How long the download may take before the demo gives up, when nothing comes.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the demo can be told.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// The file that crosses; a random one of 256 MiB is made when it is left out.
    file: Option<PathBuf>,
    /// Keeps everything up afterwards, for a client of yours.
    #[arg(long)]
    stay: bool,
}

/// Why the demo has failed.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs the demo.
pub(super) async fn run(args: DemoArgs, json: bool) -> Result<(), Failure> {
    let folder = tempfile::Builder::new().prefix("p2p-bridge-demo-").tempdir()?;
    let stop = CancellationToken::new();
    let interrupted = tokio::signal::ctrl_c();
    let shown = tokio::select! {
        shown = show(&args, json, folder.path(), &stop) => shown,
        _ = interrupted => Err("interrupted".into()),
    };
    stop.cancel();
    shown
}

async fn show(
    args: &DemoArgs,
    json: bool,
    folder: &Path,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let say = |text: &str| {
        if !json {
            println!("{text}");
        }
    };
    let (path, title) = the_file(args.file.as_deref(), folder)?;
    let length = std::fs::metadata(&path)?.len();
    if length == 0 {
        return Err(format!("{}: it is empty, nothing would cross", path.display()).into());
    }

    say("Overlay a: a tracker, and a peer that holds the file.");
    let tracker_a = DemoTracker::start(stop).await?;
    let (torrent_a, description_a) =
        torrent(&path, folder, &title, PIECE_A, &tracker_a.url, "a").await?;
    let holder = DemoPeer::build("holder", &tracker_a.url)?;
    holder.hold(description_a.clone(), path.clone(), stop).await?;

    say("Overlay b: another tracker, and a peer that wants the file. Nobody in b has it.");
    let tracker_b = DemoTracker::start(stop).await?;
    let title_b = format!("{title}-as-b-calls-it");
    let (torrent_b, description_b) =
        torrent(&path, folder, &title_b, PIECE_B, &tracker_b.url, "b").await?;
    let wanter = DemoPeer::build("wanter", &tracker_b.url)?;

    say("The bridge: one more peer to both trackers; a route from a to b; the two names bound.");
    let app =
        App::start(Config::parse(&bridge_config(folder, &tracker_a.url, &tracker_b.url))?).await?;
    bind(&app, &torrent_a, &torrent_b).await?;

    let target = folder.join("downloaded");
    let bar = progress(length, json);
    let start = Instant::now();
    let from = wanter.download(description_b.clone(), &target, &bar, PATIENCE).await?;
    let took = start.elapsed();
    bar.finish_and_clear();

    let (sent, received) = (sha256(path.clone()).await?, sha256(target.clone()).await?);
    if sent != received {
        return Err(format!("the bytes differ: {sent} was held, {received} came").into());
    }
    app.recorder.flush_now().await?;
    let report = report::Report {
        file: &path,
        length,
        sha256: &received,
        took,
        a: &description_a,
        b: &description_b,
        holder: holder.endpoint(),
        bridge: from,
        binding: app.names.table().get(&main_name(&description_b)),
        usage: usage(&app).await?,
    };
    report.print(json)?;

    if args.stay {
        say("");
        say("Everything stays up. In a client of yours, open");
        say(&format!("  {}", torrent_b.display()));
        if let Some(link) = magnet_of(&description_b) {
            say("or the magnet");
            say(&format!("  {link}"));
        }
        say(&format!(
            "and see what crosses: p2p-bridge --server http://{} overlays --watch",
            app.grpc
        ));
        say("Ctrl-C ends it.");
        // The caller ends the wait.
        std::future::pending::<()>().await;
    }
    app.stop().await;
    Ok(())
}

fn bridge_config(folder: &Path, tracker_a: &str, tracker_b: &str) -> String {
    let data = folder.join("bridge");
    format!(
        "data_dir = {data:?}\n\
         [grpc]\nlisten = \"127.0.0.1:0\"\n\
         [identity]\noperator = \"demo\"\n\
         [usage]\nflush_seconds = 1\n\
         [overlays.bittorrent.a]\ntrackers = [\"{tracker_a}\"]\nlisten = [\"127.0.0.1:0\"]\n\
         [overlays.bittorrent.b]\ntrackers = [\"{tracker_b}\"]\nlisten = [\"127.0.0.1:0\"]\n\
         [[routes]]\nfrom = \"a\"\nto = \"b\"\nagreement = \"demo\"\n"
    )
}

async fn bind(app: &App, a: &Path, b: &Path) -> Result<(), Failure> {
    let mut items = Vec::new();
    for (path, overlay) in [(a, "a"), (b, "b")] {
        items.push(v1::BindItem {
            description: std::fs::read(path)?,
            label: path.display().to_string(),
            overlay: overlay.to_owned(),
            content: None,
        });
    }
    let desk = app.names.clone();
    tokio::task::spawn_blocking(move || desk.bind(&items, "demo")).await??;
    Ok(())
}

async fn usage(app: &App) -> Result<Vec<v1::UsageRecord>, Failure> {
    let ledger = app.ledger.clone();
    let page = tokio::task::spawn_blocking(move || {
        ledger.scan(&crate::status::ledger::Filter::default(), None, 1_000)
    });
    Ok(page.await??.records.into_iter().collect())
}

/// The file that crosses, and what to call it.
fn the_file(given: Option<&Path>, folder: &Path) -> Result<(PathBuf, String), Failure> {
    if let Some(path) = given {
        if !path.is_file() {
            return Err(format!("{}: it is no file", path.display()).into());
        }
        let title = path.file_name().map_or_else(|| "file".into(), |name| name.to_string_lossy());
        return Ok((path.to_owned(), title.into_owned()));
    }
    let path = folder.join("demo.bin");
    let mut file = File::create(&path)?;
    let mut block = vec![0; 1 << 20];
    for _ in 0..MADE >> 20 {
        getrandom::fill(&mut block)?;
        file.write_all(&block)?;
    }
    Ok((path, "demo.bin".into()))
}

/// Makes a .torrent of the file, and reads it as any other.
async fn torrent(
    path: &Path,
    folder: &Path,
    title: &str,
    piece: u64,
    tracker: &str,
    overlay: &str,
) -> Result<(PathBuf, Arc<Description>), Failure> {
    let making = Making {
        version: Version::V1,
        title: Some(title.to_owned()),
        piece_length: Some(piece),
        around: Surroundings {
            trackers: vec![vec![tracker.to_owned()]],
            ..Surroundings::default()
        },
    };
    let from = path.to_owned();
    let made = tokio::task::spawn_blocking(move || making.make(&Scan::of(&from)?, Rules::none()));
    let bytes = made.await??.source;
    let target = folder.join(format!("{overlay}.torrent"));
    std::fs::write(&target, &bytes)?;
    let (_, description) = registry::describe(&bytes)?;
    Ok((target, Arc::new(description)))
}

fn magnet_of(description: &Description) -> Option<String> {
    let metainfo = description.native.downcast_ref()?;
    Some(magnet::magnet_of(metainfo).to_string())
}

fn main_name(description: &Description) -> p2pbridge_proto::Name {
    description.names.first().copied().unwrap_or_else(|| p2pbridge_proto::Name::btih([0; 20]))
}

async fn sha256(path: PathBuf) -> Result<String, Failure> {
    let hash = move || -> io::Result<String> {
        let mut file = File::open(path)?;
        let mut hasher = Sha256::new();
        let mut block = vec![0; 1 << 20];
        loop {
            let read = file.read(&mut block)?;
            if read == 0 {
                return Ok(data_encoding::HEXLOWER.encode(&hasher.finalize()));
            }
            hasher.update(&block[..read]);
        }
    };
    Ok(tokio::task::spawn_blocking(hash).await??)
}

fn progress(length: u64, quiet: bool) -> ProgressBar {
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(length) };
    let style = ProgressStyle::with_template(
        "a → bridge → b  {wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}  {eta}",
    );
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
