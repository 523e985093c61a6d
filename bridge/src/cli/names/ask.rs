//! `names resolve`, `names map` and `names list`.

use std::io::{self, Write};

use clap::Args;
use p2pbridge_proto::{OverlayId, v1};
use serde_json::json;

use super::{
    super::{
        choices,
        client::{CliError, Client},
        table::{Table, grouped, plain},
    },
    first_known,
    show::{binding_json, content_json, contents_table, evidence_word, print_json, show, table},
    source::names_of,
};
use crate::status::export::time_text;

/// What to resolve.
#[derive(Debug, Args)]
pub(super) struct ResolveArgs {
    /// A URN, a magnet link, an info-hash, or a description file
    #[arg(value_name = "NAME|FILE")]
    name: String,
    /// Only names used in this overlay
    #[arg(long)]
    overlay: Option<OverlayId>,
    /// Also shows which overlay can bring it, with each one's score; fails when none can
    #[arg(long)]
    explain: bool,
}

/// What to map.
#[derive(Debug, Args)]
pub(super) struct MapArgs {
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
}

/// `resolve NAME`.
pub(super) async fn resolve(args: ResolveArgs, endpoint: &str, json: bool) -> Result<(), CliError> {
    let ResolveArgs { name, overlay, explain } = args;
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

fn resolved(answer: &v1::ResolveResponse, explain: bool, json: bool) -> Result<(), CliError> {
    if json {
        let equivalents: Vec<_> = answer.equivalents.iter().map(binding_json).collect();
        let binding = answer.binding.as_ref().map(binding_json);
        let contents: Vec<_> = answer.contents.iter().map(content_json).collect();
        let mut whole =
            json!({ "binding": binding, "equivalents": equivalents, "contents": contents });
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
        writeln!(out)?;
    }
    out.write_all(contents_table(&answer.contents).as_bytes())?;
    if answer.equivalents.is_empty() {
        writeln!(out, "\nno other description of this content is known")?;
    } else {
        writeln!(out, "\nthe same content:")?;
        out.write_all(table(&answer.equivalents).as_bytes())?;
    }
    if explain {
        out.write_all(choices::text(answer).as_bytes())?;
    }
    Ok(())
}

/// `list`.
pub(super) async fn list(endpoint: &str, json: bool) -> Result<(), CliError> {
    let client = Client::connect(endpoint).await?;
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
    show(&bindings, &[], json)
}

/// `watch`: one line for each event, until the bridge goes away.
pub(super) async fn watch(endpoint: &str, json: bool) -> Result<(), CliError> {
    let client = Client::connect(endpoint).await?;
    let events = client.names().watch_names(v1::WatchNamesRequest {}).await;
    let mut events = events.map_err(|status| client.explain(&status))?.into_inner();
    while let Some(event) = events.message().await.map_err(|status| client.explain(&status))? {
        let word = match event.event() {
            v1::NameEvent::Unspecified => "",
            v1::NameEvent::Bound => "bound",
            v1::NameEvent::Proved => "proved",
            v1::NameEvent::Disproved => "disproved",
            v1::NameEvent::Conflict => "conflict",
            v1::NameEvent::Unbound => "unbound",
        };
        let time = time_text(&event.time);
        if json {
            print_json(&json!({
                "event": word,
                "content": event.content.as_ref().map(content_json),
                "names": event.urns,
                "text": event.text,
                "time": time,
                "missed": event.missed,
            }))?;
            continue;
        }
        let mut out = io::stdout().lock();
        if event.missed > 0 {
            writeln!(out, "{} events were missed", event.missed)?;
        }
        writeln!(out, "{} {word}: {}", time.unwrap_or_default(), plain(&event.text))?;
        for urn in &event.urns {
            let known = event.content.iter().flat_map(|content| &content.names);
            let known = known.filter(|known| known.urn == *urn).map(v1::KnownName::evidence).next();
            writeln!(out, "  {urn} {}", known.map_or("", evidence_word))?;
        }
    }
    Ok(())
}

/// `map FROM TO`.
pub(super) async fn map(args: MapArgs, endpoint: &str, json: bool) -> Result<(), CliError> {
    use v1::map_chunks_request::What;
    let MapArgs { from, to, bytes, chunks } = args;
    let client = Client::connect(endpoint).await?;
    let name = |text: &str| {
        let first = names_of(text)?.into_iter().next();
        first.ok_or_else(|| CliError::Argument(format!("`{text}` names nothing")))
    };
    let (from, to) = (name(&from)?, name(&to)?);
    let what = match (bytes, chunks) {
        (_, Some((first, count))) => What::Chunks(v1::ChunkRange { first, count }),
        (Some((offset, length)), None) => What::Bytes(v1::ByteRange { offset, length }),
        (None, None) => {
            let request = v1::ResolveRequest { name: from.clone(), ..Default::default() };
            let answer = client.names().resolve(request).await;
            let answer = answer.map_err(|status| client.explain(&status))?.into_inner();
            let layout = answer.binding.and_then(|binding| binding.layout);
            let content = || answer.contents.first().and_then(|content| content.length);
            let length = layout.map(|layout| layout.length).or_else(content).unwrap_or_default();
            What::Bytes(v1::ByteRange { offset: 0, length })
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

/// `3+2`.
fn run_of(text: &str) -> Result<(u64, u64), String> {
    text.split_once('+')
        .and_then(|(first, count)| Some((first.trim().parse().ok()?, count.trim().parse().ok()?)))
        .ok_or_else(|| "it takes two numbers, as in 0+16384".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_two_numbers() {
        assert_eq!(run_of("3+2"), Ok((3, 2)));
        assert!(run_of("3-2").is_err() && run_of("+").is_err());
    }
}
