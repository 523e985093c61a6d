//! `p2p-bridge usage`: what crossed, as a table or as an export.

use std::{
    io::{self, BufWriter, IsTerminal, Write},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use p2pbridge_proto::{OverlayId, v1};

use super::{
    client::{CliError, Client},
    output::Output,
    table::{Table, exact, grouped},
};
use crate::status::{
    export::{Exporter, Format, kind_word, time_text},
    ledger::proto_time,
};

/// What to do with the usage records.
#[derive(Debug, Args)]
pub struct UsageArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows usage records as a table, with their sums
    List {
        #[command(flatten)]
        filter: FilterArgs,
        /// At most this many records
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Writes all usage records of a period
    Export {
        #[command(flatten)]
        filter: FilterArgs,
        /// How they are written
        #[arg(long, value_enum, default_value_t = Written::Jsonl)]
        format: Written,
        /// Writes to this file, and not to the standard output; it is there only when it is whole
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Written {
    /// One JSON object a line
    Jsonl,
    /// Comma-separated values with a header
    Csv,
}

#[derive(Debug, Args)]
struct FilterArgs {
    /// Windows that end after this moment, as in 2026-11-21T00:00:00Z
    #[arg(long, value_name = "RFC3339", value_parser = moment)]
    from: Option<Timestamp>,
    /// Windows that start before this moment
    #[arg(long, value_name = "RFC3339", value_parser = moment)]
    to: Option<Timestamp>,
    /// Only from this overlay
    #[arg(long, value_name = "OVERLAY")]
    source: Option<OverlayId>,
    /// Only to this overlay
    #[arg(long, value_name = "OVERLAY")]
    destination: Option<OverlayId>,
}

impl From<FilterArgs> for v1::UsageFilter {
    fn from(args: FilterArgs) -> Self {
        let overlay = |id: Option<OverlayId>| id.map(|id| id.to_string()).unwrap_or_default();
        Self {
            from: args.from.map(proto_time),
            to: args.to.map(proto_time),
            source_overlay: overlay(args.source),
            destination_overlay: overlay(args.destination),
        }
    }
}

fn moment(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "it takes a moment as in 2026-11-21T00:00:00Z".to_owned())
}

/// Does it.
///
/// # Errors
/// When no bridge answers, it refuses, or the output cannot be written.
pub async fn run(args: UsageArgs, endpoint: &str, json: bool) -> Result<(), CliError> {
    let client = Client::connect(endpoint).await?;
    match args.command {
        Command::List { filter, limit } => list(&client, filter.into(), limit, json).await,
        Command::Export { filter, format, output } => {
            let format = match format {
                Written::Jsonl => Format::Jsonl,
                Written::Csv => Format::Csv,
            };
            let mut out = Output::open(output.as_deref())?;
            let shown = out.is_terminal();
            export(&client, filter.into(), format, BufWriter::new(&mut out), shown).await?;
            out.keep()
        }
    }
}

async fn list(
    client: &Client,
    filter: v1::UsageFilter,
    limit: u32,
    json: bool,
) -> Result<(), CliError> {
    let (mut records, mut page_token) = (Vec::new(), String::new());
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    loop {
        let rest = limit.saturating_sub(records.len());
        let page_size = u32::try_from(rest.clamp(1, 1_000)).unwrap_or(1_000);
        let filter = Some(filter.clone());
        let request = v1::UsageServiceListRequest { filter, page_size, page_token };
        let page = client.usage().list(request).await;
        let page = page.map_err(|status| client.explain(&status))?.into_inner();
        records.extend(page.records);
        page_token = page.next_page_token;
        if page_token.is_empty() || records.len() >= limit {
            break;
        }
    }
    records.truncate(limit);
    let mut out = io::stdout().lock();
    if json {
        let mut exporter = Exporter::new(Format::Jsonl, out)?;
        for record in &records {
            exporter.write(record)?;
        }
        return Ok(exporter.finish()?);
    }
    out.write_all(table(&records, !page_token.is_empty()).as_bytes())?;
    Ok(())
}

pub(super) fn table(records: &[v1::UsageRecord], more: bool) -> String {
    if records.is_empty() {
        return "no usage is recorded there\n".to_owned();
    }
    let headings =
        ["RECORD", "UNTIL", "KIND", "FROM → TO", "TITLE", "VERIFIED", "SERVED", "REJECTED"];
    let mut table = Table::new(headings, &[5, 6, 7]);
    let (mut verified, mut served) = (0u128, 0u128);
    for record in records {
        let id = record.id.clone().unwrap_or_default();
        table.row([
            format!("{}.{}", id.boot_epoch, id.seq),
            time_text(&record.window_end).unwrap_or_default(),
            kind_word(record.kind()).to_owned(),
            format!("{} → {}", record.source_overlay, record.destination_overlay),
            record.title.clone(),
            grouped(record.bytes_verified),
            grouped(record.bytes_served),
            grouped(record.bytes_rejected),
        ]);
        verified += u128::from(record.bytes_verified);
        served += u128::from(record.bytes_served);
    }
    let sum = |bytes: u128| exact(u64::try_from(bytes).unwrap_or(u64::MAX));
    let more = if more { "; there are more: say --limit, --from or --to" } else { "" };
    format!(
        "{}\n{} records: verified {}, served {}{more}\n",
        table.text(""),
        records.len(),
        sum(verified),
        sum(served)
    )
}

async fn export(
    client: &Client,
    filter: v1::UsageFilter,
    format: Format,
    out: impl Write,
    shows_records: bool,
) -> Result<(), CliError> {
    let request = v1::ExportRequest { filter: Some(filter) };
    let stream = client.usage().export(request).await;
    let mut stream = stream.map_err(|status| client.explain(&status))?.into_inner();
    let mut exporter = Exporter::new(format, out)?;
    let progress = progress(shows_records);
    while let Some(portion) = stream.message().await.map_err(|status| client.explain(&status))? {
        for record in &portion.records {
            exporter.write(record)?;
        }
        progress.inc(portion.records.len() as u64);
    }
    exporter.finish()?;
    progress.finish_and_clear();
    Ok(())
}

/// Counts on the terminal, if the errors go to one, and the records do not.
fn progress(shows_records: bool) -> ProgressBar {
    if shows_records || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {human_pos} records, {per_sec}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_ends_with_its_sums() {
        let record = v1::UsageRecord {
            kind: v1::UsageKind::Delta.into(),
            source_overlay: "a".to_owned(),
            destination_overlay: "b".to_owned(),
            bytes_verified: 1 << 30,
            ..Default::default()
        };
        let text = table(&[record.clone(), record], true);
        assert!(text.contains("a → b") && text.contains("1,073,741,824"), "{text}");
        assert!(text.contains("2 records: verified 2.00 GiB (2,147,483,648 bytes)"), "{text}");
        assert!(text.contains("say --limit"), "{text}");
        assert!(table(&[], false).contains("no usage"));
        assert!(moment("2026-11-21T00:00:00Z").is_ok() && moment("yesterday").is_err());
    }
}
