//! `names publish`: binds what files are called, as computed from their bytes.

use std::{
    collections::{BTreeMap, HashSet},
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use p2pbridge_nametable::digest::{Digests, Rules, Wanted, hash_file};
use p2pbridge_proto::{OverlayId, v1};
use serde_json::{Value, json};

use super::{
    super::{
        client::{CliError, Client},
        progress::Progress,
        table::plain,
    },
    link::{Link, links_of, statement_of, title_of},
    make::{Made, Making, PieceArgs, Surroundings, Version},
    scan::Scan,
    show::{binding_json, content_json, print_json, table},
};

/// The most contents of one request.
const MOST_CONTENTS: usize = 10_000;
/// Contents of a request where they can be parted: with long paths in each of their names, more would be too much for one answer.
const PORTION: usize = 1_000;
const MOST_SOURCE: usize = 200;

/// What to publish.
#[derive(Debug, Args)]
pub(super) struct PublishArgs {
    /// Files, and folders with all files below them
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// The torrent of each FILE or DIR that is bound too: v1, v2, hybrid, or none
    #[arg(long, value_name = "VERSION", default_value = "hybrid", value_parser = version)]
    torrent: Wish,
    /// The overlay in which the torrents are used; none when left out
    #[arg(long, value_name = "ID")]
    overlay: Option<OverlayId>,
    #[command(flatten)]
    pieces: PieceArgs,
}

/// The torrent that is wished for, if one is.
#[derive(Debug, Clone, Copy)]
struct Wish(Option<Version>);

fn version(text: &str) -> Result<Wish, String> {
    if text == "none" { Ok(Wish(None)) } else { text.parse().map(|version| Wish(Some(version))) }
}

/// What is told of one path.
struct Requests {
    names: Vec<v1::PublishRequest>,
    /// Of links that tell the hashes of chunks, with the word of their protocol: bridges that speak it keep them.
    links: Vec<(&'static str, v1::PublishRequest)>,
}

/// What became of one path.
struct Published {
    path: PathBuf,
    /// Files of which it was told.
    files: usize,
    /// Whether the bridge has shown all contents that it bound.
    whole: bool,
    contents: Vec<v1::Content>,
    binding: Option<v1::Binding>,
    /// Of links that tell the hashes of chunks, with the word of their protocol.
    links: Vec<(&'static str, v1::Binding)>,
}

/// `publish FILE…`.
pub(super) async fn publish(
    args: &PublishArgs,
    endpoint: &str,
    json: bool,
) -> Result<(), CliError> {
    // Whether somebody will take the names is asked before hours of hashing.
    let client = Client::connect(endpoint).await?;
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    for path in &args.paths {
        let requests = match args.torrent.0 {
            Some(version) => described(path, version, args),
            None => plain_names(path),
        };
        let published = match requests {
            Ok(requests) => send(&client, path, requests).await,
            Err(error) => Err(error),
        };
        match published {
            Ok(published) if json => rows.push(published.json()),
            Ok(published) => published.print()?,
            Err(error) => {
                eprintln!("p2p-bridge: {}", plain(&error.to_string()));
                failed.push(error.to_string());
            }
        }
    }
    if json {
        print_json(&json!({ "published": rows, "failed": failed }))?;
    }
    match failed.len() {
        0 => Ok(()),
        count => {
            let all = args.paths.len();
            Err(CliError::Refused(format!("{count} of {all} could not be published")))
        }
    }
}

/// The names of all files, with a torrent of them.
fn described(path: &Path, version: Version, args: &PublishArgs) -> Result<Requests, CliError> {
    let piece_length = args.pieces.bytes();
    let around = Surroundings::default();
    let making = Making { version, title: None, piece_length, around };
    let Made { source: torrent, files, .. } = making.make(&Scan::of(path)?, Rules::all())?;
    let contents: Vec<_> = files.iter().map(|(path, digests)| statement(path, digests)).collect();
    if contents.len() > MOST_CONTENTS {
        let problem = format!(
            "it has {} files, and a torrent with more than {MOST_CONTENTS} cannot be published: --torrent none publishes them alone",
            contents.len()
        );
        return Err(CliError::File { path: path.to_owned(), problem });
    }
    let description = v1::BindItem {
        description: torrent,
        label: path.to_string_lossy().into_owned(),
        overlay: args.overlay.as_ref().map(ToString::to_string).unwrap_or_default(),
        content: None,
    };
    let request = v1::PublishRequest {
        contents,
        description: Some(description),
        source: source_text(path),
        without_overlay: args.overlay.is_none(),
    };
    let links = files.iter().flat_map(|(path, digests)| described_by_links(path, digests));
    Ok(Requests { names: vec![request], links: links.collect() })
}

/// The names of all files.
fn plain_names(path: &Path) -> Result<Requests, CliError> {
    let scan = Scan::of(path)?;
    let progress = Progress::of_bytes(scan.length());
    scan.check()?;
    let wanted = Wanted { rules: Rules::all(), torrent: None, threads: 0 };
    let (mut contents, mut links) = (Vec::new(), Vec::new());
    for file in &scan.files {
        progress.say(&file.path.to_string_lossy());
        let digests = hash_file(&file.path, &wanted, &|more| progress.advance(more))
            .map_err(|error| CliError::Argument(error.to_string()))?;
        contents.push(statement(&file.path, &digests));
        links.extend(described_by_links(&file.path, &digests));
    }
    let requests = contents.chunks(PORTION).map(|contents| v1::PublishRequest {
        contents: contents.to_vec(),
        description: None,
        source: source_text(path),
        without_overlay: true,
    });
    Ok(Requests { names: requests.collect(), links })
}

/// The links of a file with the hashes of its chunks: what a bridge with an overlay of their protocol needs to serve the
/// file at once. A link without such hashes says no more than the names do.
fn described_by_links(
    path: &Path,
    digests: &Digests,
) -> impl Iterator<Item = (&'static str, v1::PublishRequest)> {
    let links = links_of(path, digests).into_iter().filter(|link| link.tells_chunks);
    links.map(|Link { protocol, text, said, .. }| {
        let item = v1::BindItem {
            description: text.into_bytes(),
            label: path.to_string_lossy().into_owned(),
            ..Default::default()
        };
        let request = v1::PublishRequest {
            contents: vec![statement_of(&said)],
            description: Some(item),
            source: source_text(path),
            without_overlay: false,
        };
        (protocol.protocol, request)
    })
}

/// The names of a file.
fn statement(path: &Path, digests: &Digests) -> v1::Statement {
    let title = path.file_name().unwrap_or_default().to_string_lossy();
    v1::Statement {
        names: digests.names.iter().map(|computed| computed.name.into()).collect(),
        length: Some(digests.length),
        title: title_of(&title),
        evidence: v1::Evidence::Unspecified.into(),
    }
}

/// The end of a path, as long as a source may be.
fn source_text(path: &Path) -> String {
    let text = plain(&path.to_string_lossy());
    let letters = text.chars().count();
    text.chars().skip(letters.saturating_sub(MOST_SOURCE)).collect()
}

async fn send(
    client: &Client,
    path: &Path,
    Requests { names, links }: Requests,
) -> Result<Published, CliError> {
    let mut published = Published {
        path: path.to_owned(),
        files: 0,
        whole: true,
        contents: Vec::new(),
        binding: None,
        links: Vec::new(),
    };
    if names.is_empty() {
        let problem = "there are no files: nothing to publish".to_owned();
        return Err(CliError::File { path: path.to_owned(), problem });
    }
    for request in names {
        let files = request.contents.len();
        let answer = client.names().publish(request).await;
        let answer = answer.map_err(|status| client.explain(&status))?.into_inner();
        published.files += files;
        // A large answer is cut; what was bound is not.
        published.whole &= answer.contents.len() == files;
        published.contents.extend(answer.contents);
        published.binding = answer.binding.or(published.binding);
    }
    for (protocol, request) in links {
        let answer = client.names().publish(request).await;
        let answer = answer.map_err(|status| client.explain(&status))?.into_inner();
        published.links.extend(answer.binding.map(|binding| (protocol, binding)));
    }
    // Files with the same bytes are one content.
    let mut seen = HashSet::new();
    published.contents.retain(|content| seen.insert(content.content_id.clone()));
    Ok(published)
}

impl Published {
    fn print(&self) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        let names: usize = self.contents.iter().map(|content| content.names.len()).sum();
        let path = plain(&self.path.to_string_lossy());
        let contents = match self.contents.len() {
            1 => "1 content".to_owned(),
            more => format!("{more} contents"),
        };
        if self.whole {
            writeln!(out, "{path}: {names} names of {contents} are bound as verified")?;
        } else {
            writeln!(out, "{path}: the names of {} files are bound as verified", self.files)?;
        }
        if let Some(binding) = &self.binding {
            out.write_all(table([binding]).as_bytes())?;
        }
        let mut of_protocols = BTreeMap::<_, usize>::new();
        self.links.iter().for_each(|(protocol, _)| *of_protocols.entry(protocol).or_default() += 1);
        for (protocol, count) in of_protocols {
            match count {
                1 => writeln!(out, "1 link of {protocol} is bound, with the hashes of its parts")?,
                more => writeln!(
                    out,
                    "{more} links of {protocol} are bound, with the hashes of their parts"
                )?,
            }
        }
        Ok(())
    }

    fn json(&self) -> Value {
        json!({
            "path": self.path.to_string_lossy(),
            "files": self.files,
            "contents": self.contents.iter().map(content_json).collect::<Vec<_>>(),
            "binding": self.binding.as_ref().map(binding_json),
            "links": self.links.iter().map(|(_, link)| binding_json(link)).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use p2pbridge_nametable::MAX_TITLE;

    use super::*;

    #[test]
    fn long_paths_and_names_are_cut_to_what_is_taken() {
        let path = PathBuf::from("/ü".repeat(300)).join("x\ny".repeat(500));
        assert_eq!(source_text(&path).chars().count(), MOST_SOURCE);
        let digests = Digests { length: 5, names: Vec::new(), pieces: None, parts: Vec::new() };
        let statement = statement(&path, &digests);
        assert_eq!(statement.title.chars().count(), MAX_TITLE);
        assert!(!statement.title.contains('\n'));
        assert!(version("none").unwrap().0.is_none() && version("v3").is_err());
    }
}
