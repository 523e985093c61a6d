//! `names torrent`: makes a .torrent, without a daemon.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use clap::Args;
use p2pbridge_nametable::digest::Rules;
use url::Url;

use super::{
    super::{client::CliError, output::Output, table::plain},
    make::{Making, PieceArgs, Surroundings, Version},
    scan::Scan,
    show::print_json,
};

/// The torrent.
#[derive(Debug, Args)]
pub(super) struct TorrentArgs {
    /// The file, or the folder with all files below it
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,
    #[command(flatten)]
    pieces: PieceArgs,
    /// v1, v2, or both
    #[arg(long, value_name = "v1|v2|hybrid", default_value = "hybrid")]
    version: Version,
    /// The name inside; that of the file or folder when left out
    #[arg(long)]
    title: Option<String>,
    /// A tracker; each further one is asked when those before it do not answer
    #[arg(long = "tracker", value_name = "URL", value_parser = tracker)]
    trackers: Vec<String>,
    /// Says in it when and by what it was made
    #[arg(long)]
    dated: bool,
    /// Where it goes; its title with .torrent behind it, here, when left out
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replaces what is there
    #[arg(short, long)]
    force: bool,
}

/// `torrent FILE`.
pub(super) fn torrent(args: TorrentArgs, json: bool) -> Result<(), CliError> {
    let scan = Scan::of(&args.path)?;
    let title = args.title.map_or_else(|| scan.title(), Ok)?;
    let output = args.output.unwrap_or_else(|| PathBuf::from(format!("{title}.torrent")));
    if !args.force && output.exists() {
        return Err(there_already(&output));
    }
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let program = concat!("p2p-bridge ", env!("CARGO_PKG_VERSION"));
    let around = Surroundings {
        trackers: args.trackers.iter().map(|url| vec![url.clone()]).collect(),
        creation_date: args.dated.then_some(since_1970.as_secs()),
        created_by: args.dated.then(|| program.to_owned()),
    };
    let piece_length = args.pieces.bytes();
    let making = Making { version: args.version, title: Some(title), piece_length, around };
    let made = making.make(&scan, Rules::none())?;
    write(&output, &made.source)?;
    if json {
        let mut row = made.json();
        row["output"] = output.to_string_lossy().into();
        return print_json(&row);
    }
    let mut out = io::stdout().lock();
    out.write_all(made.text().as_bytes())?;
    Ok(writeln!(out, "written to {}", plain(&output.to_string_lossy()))?)
}

/// An address as clients take it; it goes into the torrent as it was written.
fn tracker(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    match url.scheme() {
        "http" | "https" | "udp" | "ws" | "wss" if url.has_host() => Ok(text.to_owned()),
        _ => Err("trackers are at http://, https://, udp://, ws:// or wss://".to_owned()),
    }
}

fn there_already(path: &Path) -> CliError {
    let problem = "it is there already; --force replaces it".to_owned();
    CliError::File { path: path.to_owned(), problem }
}

/// The file is there only when it is whole.
fn write(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    let mut out = Output::open(Some(path))?;
    out.write_all(bytes)
        .map_err(|error| CliError::File { path: path.to_owned(), problem: error.to_string() })?;
    out.keep()
}
