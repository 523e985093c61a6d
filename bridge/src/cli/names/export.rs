//! `names export`: all contents as a list.

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, Write},
    path::PathBuf,
    str::FromStr,
};

use clap::{Args, ValueEnum};
use p2pbridge_nametable::exchange::{Format, Outcome, Row, Writer};
use p2pbridge_proto::{ConvertError, Evidence, Name, Scheme, v1};
use serde_json::json;

use super::{
    super::{
        client::{CliError, Client},
        output::Output,
        progress::Progress,
        table::grouped,
    },
    descriptions,
    show::print_json,
};

/// What to export, and how.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// How it is written; `torrent`: each bound .torrent as it was [default: as the file's name says, else csv]
    #[arg(long, value_name = "csv|jsonl|magnets|ed2k|metalink|torrent")]
    format: Option<Written>,
    /// Writes to this file, and not to the standard output; it is there only when it is whole. Of .torrent files, their
    /// folder
    #[arg(short, long, value_name = "FILE|DIR")]
    output: Option<PathBuf>,
    /// Only names of this scheme; may be said several times
    #[arg(long = "scheme", value_name = "SCHEME")]
    schemes: Vec<Scheme>,
    /// Only names that are at least so well known
    #[arg(long, value_enum, value_name = "EVIDENCE")]
    at_least: Option<Known>,
}

#[derive(Debug, Clone, Copy)]
enum Written {
    List(Format),
    Torrents,
}

impl FromStr for Written {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "torrent" => Ok(Self::Torrents),
            text => text.parse().map(Self::List).map_err(|error: String| error + ", torrent"),
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Known {
    /// All that anybody has said
    Hint,
    /// What an authenticated party has said
    Attested,
    /// What the bridge knows from the bytes
    Verified,
}

impl From<Known> for v1::Evidence {
    fn from(known: Known) -> Self {
        match known {
            Known::Hint => Self::Hint,
            Known::Attested => Self::Attested,
            Known::Verified => Self::Verified,
        }
    }
}

/// What was written, and what could not be.
#[derive(Debug, Default)]
struct Tally {
    contents: u64,
    without: u64,
    skipped: BTreeMap<&'static str, u64>,
}

/// `export`.
pub(super) async fn export(args: ExportArgs, endpoint: &str, json: bool) -> Result<(), CliError> {
    let by_name = || args.output.as_ref().and_then(|path| Format::detect(b"", path.to_str()?));
    let format = match args.format {
        Some(Written::List(format)) => format,
        None => by_name().unwrap_or(Format::Csv),
        Some(Written::Torrents) => {
            let Some(folder) = &args.output else {
                let problem = "say where the .torrent files go: -o DIR".to_owned();
                return Err(CliError::Argument(problem));
            };
            if !args.schemes.is_empty() || args.at_least.is_some() {
                let problem = "--scheme and --at-least choose names of lists, not .torrent files";
                return Err(CliError::Argument(problem.into()));
            }
            return descriptions::export(folder, endpoint, json).await;
        }
    };
    let client = Client::connect(endpoint).await?;
    let request = v1::ExportNamesRequest {
        schemes: args.schemes.iter().map(|scheme| v1::Scheme::from(*scheme).into()).collect(),
        at_least: args.at_least.map(v1::Evidence::from).unwrap_or_default().into(),
    };
    let stream = client.names().export_names(request).await;
    let mut stream = stream.map_err(|status| client.explain(&status))?.into_inner();
    let out = Output::open(args.output.as_deref())?;
    // Both on one terminal would be in each other's way.
    let progress = (!out.is_terminal()).then(|| Progress::of_unknown("contents"));
    let mut writer = Writer::new(format, BufWriter::with_capacity(256 << 10, out));
    let mut tally = Tally::default();
    while let Some(page) = stream.message().await.map_err(|status| client.explain(&status))? {
        for content in &page.contents {
            tally.write(content, format, &mut writer)?;
        }
        if let Some(progress) = &progress {
            progress.advance(page.contents.len() as u64);
        }
    }
    drop(progress);
    let out = writer.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    out.keep()?;
    tally.show(args.output.is_some(), json)
}

impl Tally {
    fn write(
        &mut self,
        content: &v1::Content,
        format: Format,
        writer: &mut Writer<impl Write>,
    ) -> Result<(), CliError> {
        let rows = rows(content, format)
            .map_err(|error| CliError::Refused(format!("the bridge sent nonsense: {error}")))?;
        let mut written = false;
        for row in &rows {
            match writer.write(row)? {
                Outcome::Whole => written = true,
                Outcome::Without(names) => {
                    written = true;
                    self.without += names.len() as u64;
                }
                Outcome::Skipped(why) => *self.skipped.entry(why).or_default() += 1,
            }
        }
        self.contents += u64::from(written);
        Ok(())
    }

    /// Tells it, on standard error when the list itself is on standard output.
    fn show(&self, is_file: bool, json: bool) -> Result<(), CliError> {
        if is_file && json {
            return print_json(&json!({
                "contents": self.contents,
                "names_left_out": self.without,
                "skipped": self.skipped,
            }));
        }
        let mut text = String::new();
        if is_file {
            text += &format!("contents: {}\n", grouped(self.contents));
        }
        if self.without > 0 {
            let names = grouped(self.without);
            text += &format!("names left out, since the format has no place for them: {names}\n");
        }
        for (why, count) in &self.skipped {
            text += &format!("contents left out, since {why}: {}\n", grouped(*count));
        }
        match is_file {
            true => io::stdout().write_all(text.as_bytes())?,
            false => io::stderr().write_all(text.as_bytes())?,
        }
        Ok(())
    }
}

/// The rows of a content: one; and where only some names are better known than hints and the format can say so, another one
/// for these, before it.
fn rows(content: &v1::Content, format: Format) -> Result<Vec<Row>, ConvertError> {
    let names: Vec<(Name, bool)> = content
        .names
        .iter()
        .map(|known| {
            let name = Name::try_from(&known.name.clone().unwrap_or_default())?;
            Ok((name, known.evidence() > v1::Evidence::Hint))
        })
        .collect::<Result<_, ConvertError>>()?;
    let sure = names.iter().filter(|(_, sure)| *sure).count();
    let row = |wanted: fn(&(Name, bool)) -> bool, evidence| Row {
        names: names.iter().filter(|name| wanted(name)).map(|(name, _)| *name).collect(),
        length: content.length,
        title: content.title.clone(),
        evidence: Some(evidence),
        line: 0,
    };
    let says_evidence = matches!(format, Format::Csv | Format::JsonLines);
    let whole = if sure == names.len() { Evidence::Attested } else { Evidence::Hint };
    let mut rows = Vec::new();
    if says_evidence && sure > 0 && sure < names.len() {
        rows.push(row(|(_, sure)| *sure, Evidence::Attested));
    }
    rows.push(row(|_| true, whole));
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(first: u8, evidence: v1::Evidence) -> v1::KnownName {
        let name = Some(Name::btih([first; 20]).into());
        v1::KnownName { name, evidence: evidence.into(), ..Default::default() }
    }

    #[test]
    fn names_that_are_better_known_than_others_have_a_row_of_their_own() {
        let names = vec![known(1, v1::Evidence::Verified), known(2, v1::Evidence::Hint)];
        let mut content = v1::Content { names, title: "x".into(), ..Default::default() };
        let of = |content: &v1::Content, format| {
            let rows = rows(content, format).unwrap();
            rows.iter().map(|row| (row.names.len(), row.evidence)).collect::<Vec<_>>()
        };
        let (attested, hint) = (Some(Evidence::Attested), Some(Evidence::Hint));
        assert_eq!(of(&content, Format::Csv), [(1, attested), (2, hint)]);
        assert_eq!(of(&content, Format::Magnets), [(2, hint)]);
        content.names.truncate(1);
        assert_eq!(of(&content, Format::JsonLines), [(1, attested)]);
        content.names[0].name = None;
        assert!(rows(&content, Format::Csv).is_err());
    }

    #[test]
    fn what_has_no_place_is_counted() {
        let names = vec![known(1, v1::Evidence::Verified)];
        let content = v1::Content { names, ..Default::default() };
        let mut tally = Tally::default();
        let mut writer = Writer::new(Format::Ed2kLinks, Vec::new());
        tally.write(&content, Format::Ed2kLinks, &mut writer).unwrap();
        assert_eq!((tally.contents, tally.skipped.len()), (0, 1));
    }
}
