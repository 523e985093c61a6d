//! `p2p-bridge names`: bind, unbind, resolve, map, list.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use data_encoding::HEXLOWER;
use p2pbridge_adapters::registry;
use p2pbridge_proto::{OverlayId, v1};
use serde_json::{Value, json};
use tonic::Code;

use super::{
    choices,
    client::{CliError, Client},
    table::{Table, exact, grouped, plain, size},
};
use crate::{names::MOST_DESCRIPTION, status::export::time_text};

/// What to do with names.
#[derive(Debug, Args)]
pub struct NamesArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// States that descriptions (.torrent files) name the same content; with one, makes it known
    Bind {
        /// Description files; `OVERLAY=FILE` says in which overlay the name is used
        #[arg(required = true, value_name = "[OVERLAY=]FILE")]
        files: Vec<String>,
    },
    /// Takes a name back
    Unbind {
        /// A URN, a magnet link, an info-hash, or a description file
        #[arg(value_name = "NAME|FILE")]
        name: String,
    },
    /// Shows which names stand for the same content
    Resolve {
        /// A URN, a magnet link, an info-hash, or a description file
        #[arg(value_name = "NAME|FILE")]
        name: String,
        /// Only names used in this overlay
        #[arg(long)]
        overlay: Option<OverlayId>,
        /// Also shows which overlay can bring it, with each one's score; fails when none can
        #[arg(long)]
        explain: bool,
    },
    /// Shows where the bytes of one name are in another
    Map {
        /// The name whose bytes or chunks are known
        from: String,
        /// The name whose bytes and chunks are wanted
        to: String,
        /// A run of bytes of FROM: first byte + number of bytes
        #[arg(long, value_name = "OFFSET+LENGTH", value_parser = run_of, conflicts_with = "chunks")]
        bytes: Option<(u64, u64)>,
        /// A run of chunks of FROM: first chunk + number of chunks
        #[arg(long, value_name = "FIRST+COUNT", value_parser = run_of)]
        chunks: Option<(u64, u64)>,
    },
    /// Lists all bindings
    List,
}

/// Does it.
///
/// # Errors
/// When no bridge answers, it refuses, or a file cannot be read.
pub async fn run(args: NamesArgs, endpoint: &str, json: bool) -> Result<(), CliError> {
    match args.command {
        Command::Bind { files } => {
            // Files first: what is wrong with them needs no bridge to say it.
            let items = files.iter().map(|file| bind_item(file)).collect::<Result<_, _>>()?;
            let client = Client::connect(endpoint).await?;
            let request = v1::BindRequest { items, request_id: String::new() };
            let answer = client.names().bind(request).await;
            show(&answer.map_err(|status| client.explain(&status))?.into_inner().bindings, json)
        }
        Command::Unbind { name } => {
            let names = names_of(&name)?;
            let client = Client::connect(endpoint).await?;
            let binding = first_known(&names, async |name| {
                let request = v1::UnbindRequest { name, ..Default::default() };
                client.names().unbind(request).await.map(|answer| answer.into_inner().binding)
            });
            let binding = binding.await.map_err(|status| client.explain(&status))?;
            if !json {
                writeln!(io::stdout(), "taken back:")?;
            }
            show(&binding.into_iter().collect::<Vec<_>>(), json)
        }
        Command::Resolve { name, overlay, explain } => {
            let names = names_of(&name)?;
            let client = Client::connect(endpoint).await?;
            let overlay = overlay.map(|overlay| overlay.to_string()).unwrap_or_default();
            let answer = first_known(&names, async |name| {
                let overlay = overlay.clone();
                let request = v1::ResolveRequest { name, overlay, explain, ..Default::default() };
                client.names().resolve(request).await.map(tonic::Response::into_inner)
            });
            let answer = answer.await.map_err(|status| client.explain(&status))?;
            resolved(&answer, explain, json)?;
            if explain && !choices::can_be_served(&answer) {
                return Err(CliError::Refused(choices::no(&answer)));
            }
            Ok(())
        }
        Command::Map { from, to, bytes, chunks } => {
            let client = Client::connect(endpoint).await?;
            map(&client, &from, &to, bytes, chunks, json).await
        }
        Command::List => list(&Client::connect(endpoint).await?, json).await,
    }
}

/// Asks for one name after the other, until one is known.
async fn first_known<T>(
    names: &[String],
    ask: impl AsyncFn(String) -> Result<T, tonic::Status>,
) -> Result<T, tonic::Status> {
    let mut last = tonic::Status::not_found("there is no name to ask for");
    for name in names {
        match ask(name.clone()).await {
            Err(status) if status.code() == Code::NotFound => last = status,
            answer => return answer,
        }
    }
    Err(last)
}

fn resolved(answer: &v1::ResolveResponse, explain: bool, json: bool) -> Result<(), CliError> {
    if json {
        let equivalents: Vec<_> = answer.equivalents.iter().map(binding_json).collect();
        let binding = answer.binding.as_ref().map(binding_json);
        let mut whole = json!({ "binding": binding, "equivalents": equivalents });
        if explain {
            whole["choices"] = choices::rows(answer).into();
            whole["held_bytes"] = answer.held_bytes.into();
            whole["can_be_served"] = choices::can_be_served(answer).into();
        }
        return print_json(&whole);
    }
    let mut out = io::stdout().lock();
    if let Some(binding) = &answer.binding {
        out.write_all(table([binding]).as_bytes())?;
    }
    if answer.equivalents.is_empty() {
        writeln!(out, "\nno other name of this content is known")?;
    } else {
        writeln!(out, "\nthe same content:")?;
        out.write_all(table(&answer.equivalents).as_bytes())?;
    }
    if explain {
        out.write_all(choices::text(answer).as_bytes())?;
    }
    Ok(())
}

async fn list(client: &Client, json: bool) -> Result<(), CliError> {
    let mut bindings = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListRequest { page_size: 1_000, page_token };
        let page = client.names().list(request).await;
        let page = page.map_err(|status| client.explain(&status))?.into_inner();
        bindings.extend(page.bindings);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if bindings.is_empty() && !json {
        writeln!(io::stdout(), "nothing is bound yet: `p2p-bridge names bind FILE…`")?;
        return Ok(());
    }
    show(&bindings, json)
}

async fn map(
    client: &Client,
    from: &str,
    to: &str,
    bytes: Option<(u64, u64)>,
    chunks: Option<(u64, u64)>,
    json: bool,
) -> Result<(), CliError> {
    use v1::map_chunks_request::What;
    let name = |text: &str| {
        let first = names_of(text)?.into_iter().next();
        first.ok_or_else(|| CliError::Argument(format!("`{text}` names nothing")))
    };
    let (from, to) = (name(from)?, name(to)?);
    let what = match (bytes, chunks) {
        (_, Some((first, count))) => What::Chunks(v1::ChunkRange { first, count }),
        (Some((offset, length)), None) => What::Bytes(v1::ByteRange { offset, length }),
        (None, None) => {
            let request = v1::ResolveRequest { name: from.clone(), ..Default::default() };
            let answer = client.names().resolve(request).await;
            let answer = answer.map_err(|status| client.explain(&status))?.into_inner();
            let layout = answer.binding.and_then(|binding| binding.layout).unwrap_or_default();
            What::Bytes(v1::ByteRange { offset: 0, length: layout.length })
        }
    };
    let request = v1::MapChunksRequest { from, to, what: Some(what) };
    let answer = client.names().map_chunks(request).await;
    let ranges = answer.map_err(|status| client.explain(&status))?.into_inner().ranges;
    if json {
        let range = |r: &Option<v1::ByteRange>| {
            r.as_ref().map(|r| json!({ "offset": r.offset, "length": r.length }))
        };
        let rows: Vec<_> = ranges
            .iter()
            .map(|mapped| {
                let chunks = mapped.to_chunks.unwrap_or_default();
                json!({
                    "from": range(&mapped.from),
                    "to": range(&mapped.to),
                    "to_chunks": { "first": chunks.first, "count": chunks.count },
                })
            })
            .collect();
        return print_json(&json!({ "ranges": rows }));
    }
    if ranges.is_empty() {
        writeln!(io::stdout(), "they share no bytes there")?;
        return Ok(());
    }
    let mut table = Table::new(["FROM BYTE", "TO BYTE", "BYTES", "TO CHUNKS"], &[0, 1, 2]);
    for mapped in &ranges {
        let (from, to) = (mapped.from.unwrap_or_default(), mapped.to.unwrap_or_default());
        let chunks = mapped.to_chunks.unwrap_or_default();
        let last = chunks.first.saturating_add(chunks.count.saturating_sub(1));
        table.row([
            grouped(from.offset),
            grouped(to.offset),
            grouped(from.length),
            format!("{}–{last}", chunks.first),
        ]);
    }
    Ok(io::stdout().write_all(table.text("").as_bytes())?)
}

/// `FILE` or `OVERLAY=FILE`; a file that has such a name itself wins.
fn bind_item(text: &str) -> Result<v1::BindItem, CliError> {
    let whole = Path::new(text);
    let (overlay, path) = match text.split_once('=') {
        Some((overlay, file)) if !whole.exists() && overlay.parse::<OverlayId>().is_ok() => {
            (overlay, Path::new(file))
        }
        _ => ("", whole),
    };
    let description = read(path)?;
    let label = path.file_name().map_or_else(|| text.into(), |name| name.to_string_lossy());
    Ok(v1::BindItem { description, label: label.into_owned(), overlay: overlay.to_owned() })
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    let failed = |problem: String| CliError::File { path: PathBuf::from(path), problem };
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let mut bytes = Vec::new();
    let most = MOST_DESCRIPTION as u64;
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > most {
        return Err(failed(format!("it is larger than a description can be ({})", size(most))));
    }
    Ok(bytes)
}

/// What a text names: itself, or the names in the description file of that path.
fn names_of(text: &str) -> Result<Vec<String>, CliError> {
    let path = Path::new(text);
    if !fs::metadata(path).is_ok_and(|data| data.is_file()) {
        return Ok(vec![text.to_owned()]);
    }
    let (_, description) = registry::describe(&read(path)?)
        .map_err(|error| CliError::File { path: path.into(), problem: error.to_string() })?;
    Ok(description.names.iter().map(ToString::to_string).collect())
}

/// `3+2`.
fn run_of(text: &str) -> Result<(u64, u64), String> {
    text.split_once('+')
        .and_then(|(first, count)| Some((first.trim().parse().ok()?, count.trim().parse().ok()?)))
        .ok_or_else(|| "it takes two numbers, as in 0+16384".to_owned())
}

fn show(bindings: &[v1::Binding], json: bool) -> Result<(), CliError> {
    if json {
        let rows: Vec<_> = bindings.iter().map(binding_json).collect();
        return print_json(&json!({ "bindings": rows }));
    }
    Ok(io::stdout().write_all(table(bindings).as_bytes())?)
}

fn table<'a>(bindings: impl IntoIterator<Item = &'a v1::Binding>) -> String {
    let headings = ["NAME", "TITLE", "SIZE", "FILES", "UNIT", "EVIDENCE", "OVERLAYS"];
    let mut table = Table::new(headings, &[3]);
    for binding in bindings {
        let layout = binding.layout.clone().unwrap_or_default();
        let overlays = match binding.overlays.as_slice() {
            [] => "none".to_owned(),
            overlays => overlays.join(", "),
        };
        table.row([
            binding.urns.join(" "),
            plain(&binding.title),
            exact(layout.length),
            binding.files.len().to_string(),
            size(layout.unit),
            evidence(binding).to_owned(),
            overlays,
        ]);
    }
    table.text("")
}

fn evidence(binding: &v1::Binding) -> &'static str {
    match binding.evidence() {
        v1::Evidence::Verified => "verified",
        v1::Evidence::Attested => "attested",
        v1::Evidence::Hint => "hint",
        v1::Evidence::Unspecified => "",
    }
}

fn binding_json(binding: &v1::Binding) -> Value {
    let layout = binding.layout.clone().unwrap_or_default();
    let file = |file: &v1::File| {
        json!({
            "path": file.path,
            "length": file.length,
            "offset": file.offset,
            "content_id": HEXLOWER.encode(&file.content_id),
        })
    };
    json!({
        "names": binding.urns,
        "title": binding.title,
        "length": layout.length,
        "unit": layout.unit,
        "files": binding.files.iter().map(file).collect::<Vec<_>>(),
        "evidence": evidence(binding),
        "overlays": binding.overlays,
        "stated_by": binding.stated_by,
        "create_time": time_text(&binding.create_time),
        "update_time": time_text(&binding.update_time),
        "version": binding.version,
    })
}

pub(super) fn print_json(value: &Value) -> Result<(), CliError> {
    Ok(writeln!(io::stdout(), "{value}")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::tests::torrent;

    #[test]
    fn an_overlay_stands_before_a_file_unless_the_file_is_called_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.torrent");
        fs::write(&path, b"de").unwrap();
        let item = bind_item(&format!("a={}", path.display())).unwrap();
        assert_eq!((item.overlay.as_str(), item.label.as_str()), ("a", "x.torrent"));
        let odd = dir.path().join("a=b.torrent");
        fs::write(&odd, b"de").unwrap();
        assert_eq!(bind_item(&odd.display().to_string()).unwrap().overlay, "");
        let error = bind_item("a=/nowhere.torrent").unwrap_err();
        assert!(error.to_string().starts_with("/nowhere.torrent: "), "{error}");
    }

    #[test]
    fn a_file_stands_for_the_names_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.torrent");
        fs::write(&path, torrent("x", 16384, &[7; 10], &[])).unwrap();
        let names = names_of(&path.display().to_string()).unwrap();
        assert!(names[0].starts_with("urn:btih:"), "{names:?}");
        assert_eq!(names_of("urn:btih:77").unwrap(), ["urn:btih:77"]);
        fs::write(&path, b"nonsense").unwrap();
        assert!(names_of(&path.display().to_string()).is_err());
        assert_eq!(run_of("3+2"), Ok((3, 2)));
        assert!(run_of("3-2").is_err() && run_of("+").is_err());
    }
}
