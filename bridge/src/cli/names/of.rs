//! `names of`: what files are called in each system, without a daemon.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use p2pbridge_nametable::digest::{Digests, Rules, Wanted, hash_file};
use serde_json::{Map, Value, json};

use super::{
    super::{
        client::CliError,
        progress::Progress,
        table::{exact, plain},
    },
    link::{self, links_of},
    make::{Made, Making, PieceArgs, Surroundings, Version},
    scan::Scan,
    show::print_json,
};

/// Of what, and which names.
#[derive(Debug, Args)]
pub(super) struct OfArgs {
    /// Files, and folders with all files below them
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Only these names: a scheme's word (ed2k, tth, …), ed2k-blue, unixfs-v0-2015, unixfs-v1-2025, or cid
    #[arg(long = "scheme", value_name = "WORD")]
    schemes: Vec<Rules>,
    /// Also the eD2k link of each file, with the hashes of its parts
    #[arg(long)]
    link: bool,
    /// Also the names of the torrent of each FILE or DIR: v1, v2 or hybrid
    #[arg(long, value_name = "VERSION")]
    torrent: Option<Version>,
    #[command(flatten)]
    pieces: PieceArgs,
}

/// What is told as it is found, or at the end in JSON.
struct Report {
    json: bool,
    link: bool,
    files: Vec<Value>,
    torrents: Vec<Value>,
    failed: Vec<Value>,
}

/// `of FILE…`.
pub(super) fn of(args: &OfArgs, json: bool) -> Result<(), CliError> {
    let rules = match args.schemes.as_slice() {
        [] => Rules::all(),
        schemes => schemes.iter().fold(Rules::none(), |all, rules| all.with(*rules)),
    };
    if let Some(words) = link::missing(rules).filter(|_| args.link) {
        let words = words.join(" or ");
        let what = format!("--link is of the {words} hash: say --scheme {words} too");
        return Err(CliError::Argument(what));
    }
    if args.torrent.is_none() && args.pieces.bytes().is_some() {
        let what = "--piece-length is a torrent's: say --torrent v1, v2 or hybrid";
        return Err(CliError::Argument(what.to_owned()));
    }
    let mut report =
        Report { json, link: args.link, files: vec![], torrents: vec![], failed: vec![] };
    for path in &args.paths {
        match (Scan::of(path), args.torrent) {
            (Err(error), _) => report.failure(&error),
            (Ok(scan), None) => each(&scan, rules, &mut report)?,
            (Ok(scan), Some(version)) => {
                let piece_length = args.pieces.bytes();
                let around = Surroundings::default();
                let making = Making { version, title: None, piece_length, around };
                match making.make(&scan, rules) {
                    Ok(made) => report.torrent(&made)?,
                    Err(error) => without_torrent(&scan, rules, &error, &mut report)?,
                }
            }
        }
    }
    report.end()
}

/// What hinders a torrent hinders no other names. Often it is a file that cannot be read, and then it is told once.
fn without_torrent(
    scan: &Scan,
    rules: Rules,
    error: &CliError,
    report: &mut Report,
) -> Result<(), CliError> {
    let before = report.failed.len();
    each(scan, rules, report)?;
    if report.failed.len() == before {
        report.failure(error);
    }
    Ok(())
}

/// Each file by itself: one that cannot be read does not hold up the others.
fn each(scan: &Scan, rules: Rules, report: &mut Report) -> Result<(), CliError> {
    scan.problems.iter().for_each(|problem| report.failure(problem));
    let progress = Progress::of_bytes(scan.length());
    let wanted = Wanted { rules, torrent: None, threads: 0 };
    for file in &scan.files {
        progress.say(&file.path.to_string_lossy());
        match hash_file(&file.path, &wanted, &|more| progress.advance(more)) {
            Ok(digests) => progress.aside(|| report.file(&file.path, &digests))?,
            Err(error) => {
                progress.aside(|| report.failure(&CliError::Argument(error.to_string())));
            }
        }
    }
    Ok(())
}

impl Report {
    fn file(&mut self, path: &Path, digests: &Digests) -> Result<(), CliError> {
        let links = if self.link { links_of(path, digests) } else { Vec::new() };
        if self.json {
            let names = digests.names.iter().map(|it| (it.rule.to_owned(), json!(it.text)));
            let mut row = json!({
                "path": path.to_string_lossy(),
                "length": digests.length,
                "names": names.collect::<Map<_, _>>(),
            });
            if let Some(link) = links.first() {
                row["link"] = json!(link.text);
                let links =
                    links.iter().map(|it| (it.protocol.protocol.to_owned(), json!(it.text)));
                row["links"] = json!(links.collect::<Map<_, _>>());
            }
            self.files.push(row);
            return Ok(());
        }
        let mut text = format!("{}: {}\n", plain(&path.to_string_lossy()), exact(digests.length));
        let width = digests.names.iter().map(|it| it.rule.len()).max().unwrap_or(0);
        for computed in &digests.names {
            text.push_str(&format!("  {:width$}  {}\n", computed.rule, computed.text));
        }
        for link in links {
            text.push_str(&format!("  {}\n", link.text));
        }
        Ok(io::stdout().write_all(text.as_bytes())?)
    }

    fn torrent(&mut self, made: &Made) -> Result<(), CliError> {
        made.files.iter().try_for_each(|(path, digests)| self.file(path, digests))?;
        if self.json {
            self.torrents.push(made.json());
            return Ok(());
        }
        Ok(io::stdout().write_all(made.text().as_bytes())?)
    }

    fn failure(&mut self, error: &CliError) {
        eprintln!("p2p-bridge: {}", plain(&error.to_string()));
        self.failed.push(json!(error.to_string()));
    }

    fn end(self) -> Result<(), CliError> {
        let failed = self.failed.len();
        if self.json {
            let Self { files, torrents, failed, .. } = self;
            print_json(&json!({ "files": files, "torrents": torrents, "failed": failed }))?;
        }
        match failed {
            0 => Ok(()),
            1 => Err(CliError::Refused("one of them has no names: see above".to_owned())),
            more => Err(CliError::Refused(format!("{more} of them have no names: see above"))),
        }
    }
}
