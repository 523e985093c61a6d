//! `names search`.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use p2pbridge_proto::{FileKind, Name, OverlayId, Query, Search, SearchHit, SearchResult, v1};
use serde_json::json;

use super::{
    super::{
        client::{CliError, Client},
        table::{Table, exact, grouped},
    },
    show::print_json,
};
use crate::config::ByteSize;

/// What to look for.
#[derive(Debug, Args)]
pub(super) struct SearchArgs {
    /// Words that each stand in the title
    #[arg(value_name = "WORD")]
    words: Vec<String>,
    /// What this overlay's peers find, or, where the bridge is one of them, what its trackers find
    #[arg(long)]
    overlay: Option<OverlayId>,
    /// Only files of this kind
    #[arg(long)]
    kind: Option<Kind>,
    /// Only titles that end in a dot and this
    #[arg(long)]
    extension: Option<String>,
    /// Only contents of so many bytes at least, for example `700MiB`
    #[arg(long, value_name = "SIZE")]
    min_size: Option<ByteSize>,
    /// Only contents of so many bytes at most
    #[arg(long, value_name = "SIZE")]
    max_size: Option<ByteSize>,
    /// Only contents of which so many sources are known
    #[arg(long, value_name = "COUNT")]
    min_sources: Option<u32>,
    /// How many at most (1 to 1,000)
    #[arg(long, value_name = "COUNT", default_value_t = 50)]
    most: u32,
}

/// A kind of file, by its title.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Audio,
    Video,
    Image,
    Document,
    Program,
    Archive,
    DiskImage,
}

impl SearchArgs {
    /// All that was said, in one.
    fn query(self) -> Result<Search, CliError> {
        let words = self.words.join(" ");
        let mut all: Vec<Query> =
            (!words.is_empty()).then_some(Query::Words(words)).into_iter().collect();
        all.extend(self.kind.map(|kind| {
            Query::Kind(match kind {
                Kind::Audio => FileKind::Audio,
                Kind::Video => FileKind::Video,
                Kind::Image => FileKind::Image,
                Kind::Document => FileKind::Document,
                Kind::Program => FileKind::Program,
                Kind::Archive => FileKind::Archive,
                Kind::DiskImage => FileKind::DiskImage,
            })
        }));
        let extension = self.extension.as_deref().map(|text| text.trim_start_matches('.'));
        all.extend(extension.map(|text| Query::Extension(text.to_owned())));
        all.extend(self.min_size.map(|size| Query::MinSize(size.0)));
        all.extend(self.max_size.map(|size| Query::MaxSize(size.0)));
        all.extend(self.min_sources.map(Query::MinSources));
        if all.is_empty() {
            return Err(CliError::Argument("say a word, a kind or a size to look for".to_owned()));
        }
        Ok(Search { query: Query::All(all), max_results: Some(self.most.clamp(1, 1_000)) })
    }
}

/// `search WORD…`.
pub(super) async fn search(args: SearchArgs, endpoint: &str, json: bool) -> Result<(), CliError> {
    let overlay = args.overlay.as_ref().map(ToString::to_string).unwrap_or_default();
    let search = Some(args.query()?.into());
    let client = Client::connect(endpoint).await?;
    let answer = client.search().search(v1::SearchRequest { search, overlay }).await;
    let answer = answer.map_err(|status| client.explain(&status))?.into_inner();
    let result = SearchResult::try_from(&answer.result.unwrap_or_default());
    show(&result.map_err(|error| CliError::Refused(error.to_string()))?, json)
}

fn show(result: &SearchResult, json: bool) -> Result<(), CliError> {
    let SearchResult { hits, truncated } = result;
    if json {
        let hit = |hit: &SearchHit| {
            json!({
                "names": hit.names.iter().map(Name::to_string).collect::<Vec<_>>(),
                "title": hit.title,
                "length": hit.length,
                "sources": hit.sources,
                "complete_sources": hit.complete_sources,
            })
        };
        let hits: Vec<_> = hits.iter().map(hit).collect();
        return print_json(&json!({ "hits": hits, "truncated": truncated }));
    }
    let mut out = io::stdout().lock();
    if hits.is_empty() {
        writeln!(out, "nothing is called so")?;
    }
    let mut table = Table::new(["TITLE", "SIZE", "SOURCES", "COMPLETE", "NAME"], &[2, 3]);
    for hit in hits {
        let name = hit.names.first().map(ToString::to_string).unwrap_or_default();
        let more = hit.names.len().saturating_sub(1);
        table.row([
            hit.title.clone(),
            exact(hit.length),
            grouped(hit.sources.into()),
            grouped(hit.complete_sources.into()),
            if more > 0 { format!("{name} (+{more})") } else { name },
        ]);
    }
    out.write_all(table.text("").as_bytes())?;
    if *truncated {
        writeln!(out, "there is more: say more words, or `--most`")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SearchArgs,
    }

    #[test]
    fn what_is_said_holds_all_together() {
        let line = "x big film --kind video --extension .mkv --min-size 1MiB --most 5000";
        let said = Line::parse_from(line.split(' ')).args.query().unwrap();
        let all = vec![
            Query::Words("big film".to_owned()),
            Query::Kind(FileKind::Video),
            Query::Extension("mkv".to_owned()),
            Query::MinSize(1 << 20),
        ];
        assert_eq!(said, Search { query: Query::All(all), max_results: Some(1_000) });
        assert!(Line::parse_from(["x"]).args.query().is_err());
    }
}
