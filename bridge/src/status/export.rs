//! Usage records as CSV and as JSON lines: the same columns, the same order, the same bytes each time.

use std::{io::Write, str::FromStr};

use jiff::Timestamp;
use p2pbridge_proto::v1;
use serde::Serialize;
use thiserror::Error;

use super::ledger::micros;

/// How an export is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values with a header line (RFC 4180).
    Csv,
    /// One JSON object a line.
    Jsonl,
}

/// A word that is no [`Format`].
#[derive(Debug, Error)]
#[error("`{0}` is no format: it takes `jsonl` or `csv`")]
pub struct FormatError(String);

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        match text {
            "csv" => Ok(Self::Csv),
            "jsonl" => Ok(Self::Jsonl),
            other => Err(FormatError(other.to_owned())),
        }
    }
}

/// Why an export was not written.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The target does not take it.
    #[error("cannot write the export: {0}")]
    Write(#[from] std::io::Error),
    /// The target does not take it.
    #[error("cannot write the export: {0}")]
    Csv(#[from] csv::Error),
    /// The target does not take it.
    #[error("cannot write the export: {0}")]
    Json(#[from] serde_json::Error),
}

/// Writes an export, record by record.
pub struct Exporter<W: Write> {
    target: Target<W>,
}

enum Target<W: Write> {
    Csv(Box<csv::Writer<W>>),
    Jsonl(W),
}

impl<W: Write> Exporter<W> {
    /// Begins an export; a CSV one has its header even when no record follows.
    ///
    /// # Errors
    /// When the target does not take it.
    pub fn new(format: Format, target: W) -> Result<Self, ExportError> {
        let target = match format {
            Format::Jsonl => Target::Jsonl(target),
            Format::Csv => {
                let mut writer = csv::WriterBuilder::new()
                    .has_headers(false)
                    .terminator(csv::Terminator::CRLF)
                    .from_writer(target);
                writer.write_record(COLUMNS)?;
                Target::Csv(Box::new(writer))
            }
        };
        Ok(Self { target })
    }

    /// Writes one record.
    ///
    /// # Errors
    /// When the target does not take it.
    pub fn write(&mut self, record: &v1::UsageRecord) -> Result<(), ExportError> {
        let row = Row::from(record);
        match &mut self.target {
            Target::Csv(writer) => writer.serialize(row)?,
            Target::Jsonl(target) => {
                serde_json::to_writer(&mut *target, &row)?;
                target.write_all(b"\n")?;
            }
        }
        Ok(())
    }

    /// Hands all to the target, and flushes it.
    ///
    /// # Errors
    /// When the target does not take it.
    pub fn finish(mut self) -> Result<(), ExportError> {
        match &mut self.target {
            Target::Csv(writer) => writer.flush()?,
            Target::Jsonl(target) => target.flush()?,
        }
        Ok(())
    }
}

/// The columns, in the order of `Row`'s fields.
pub const COLUMNS: [&str; 27] = [
    "operator",
    "bridge",
    "boot_epoch",
    "seq",
    "kind",
    "corrects_operator",
    "corrects_bridge",
    "corrects_boot_epoch",
    "corrects_seq",
    "agreement",
    "transfer_id",
    "source_overlay",
    "destination_overlay",
    "source_name",
    "destination_name",
    "title",
    "bytes_verified",
    "bytes_wire",
    "bytes_rejected",
    "bytes_served",
    "chunks",
    "counter_start",
    "counter_end",
    "window_start",
    "window_end",
    "ingest_time",
    "origin",
];

#[derive(Serialize)]
struct Row<'a> {
    operator: &'a str,
    bridge: &'a str,
    boot_epoch: u64,
    seq: u64,
    kind: &'static str,
    corrects_operator: Option<&'a str>,
    corrects_bridge: Option<&'a str>,
    corrects_boot_epoch: Option<u64>,
    corrects_seq: Option<u64>,
    agreement: &'a str,
    transfer_id: &'a str,
    source_overlay: &'a str,
    destination_overlay: &'a str,
    source_name: &'a str,
    destination_name: &'a str,
    title: &'a str,
    bytes_verified: u64,
    bytes_wire: u64,
    bytes_rejected: u64,
    bytes_served: u64,
    chunks: u64,
    counter_start: u64,
    counter_end: u64,
    window_start: Option<String>,
    window_end: Option<String>,
    ingest_time: Option<String>,
    origin: &'static str,
}

impl<'a> From<&'a v1::UsageRecord> for Row<'a> {
    fn from(record: &'a v1::UsageRecord) -> Self {
        let (id, corrects) = (record.id.as_ref(), record.corrects.as_ref());
        Self {
            operator: id.map_or("", |id| &id.operator),
            bridge: id.map_or("", |id| &id.bridge),
            boot_epoch: id.map_or(0, |id| id.boot_epoch),
            seq: id.map_or(0, |id| id.seq),
            kind: kind_word(record.kind()),
            corrects_operator: corrects.map(|id| id.operator.as_str()),
            corrects_bridge: corrects.map(|id| id.bridge.as_str()),
            corrects_boot_epoch: corrects.map(|id| id.boot_epoch),
            corrects_seq: corrects.map(|id| id.seq),
            agreement: &record.agreement,
            transfer_id: &record.transfer_id,
            source_overlay: &record.source_overlay,
            destination_overlay: &record.destination_overlay,
            source_name: &record.source_name,
            destination_name: &record.destination_name,
            title: &record.title,
            bytes_verified: record.bytes_verified,
            bytes_wire: record.bytes_wire,
            bytes_rejected: record.bytes_rejected,
            bytes_served: record.bytes_served,
            chunks: record.chunks,
            counter_start: record.counter_start,
            counter_end: record.counter_end,
            window_start: time_text(&record.window_start),
            window_end: time_text(&record.window_end),
            ingest_time: time_text(&record.ingest_time),
            origin: origin_word(record.origin()),
        }
    }
}

/// A kind in the words of the exports; empty when not said.
#[must_use]
pub fn kind_word(kind: v1::UsageKind) -> &'static str {
    match kind {
        v1::UsageKind::Unspecified => "",
        v1::UsageKind::Delta => "delta",
        v1::UsageKind::Adjust => "adjust",
        v1::UsageKind::Void => "void",
        v1::UsageKind::Gap => "gap",
    }
}

fn origin_word(origin: v1::UsageOrigin) -> &'static str {
    match origin {
        v1::UsageOrigin::Unspecified => "",
        v1::UsageOrigin::Relay => "relay",
        v1::UsageOrigin::Cache => "cache",
    }
}

/// RFC 3339 in UTC with six digits behind the second: `2026-11-21T04:25:00.000000Z`.
#[must_use]
pub fn time_text(at: &Option<prost_types::Timestamp>) -> Option<String> {
    at.as_ref()?;
    let at = Timestamp::from_microsecond(micros(at)).ok()?;
    Some(format!("{at:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> v1::UsageRecord {
        let time = |nanos| Some(prost_types::Timestamp { seconds: 1_795_000_000, nanos });
        v1::UsageRecord {
            id: Some(v1::RecordId {
                operator: "op".into(),
                bridge: "br".into(),
                boot_epoch: 2,
                seq: 3,
            }),
            kind: v1::UsageKind::Delta.into(),
            title: "a \"film\", in\nparts".into(),
            bytes_verified: u64::MAX,
            window_start: time(0),
            window_end: time(123_456_000),
            origin: v1::UsageOrigin::Relay.into(),
            ..v1::UsageRecord::default()
        }
    }

    fn export(format: Format) -> String {
        let mut bytes = Vec::new();
        let mut exporter = Exporter::new(format, &mut bytes).unwrap();
        exporter.write(&record()).unwrap();
        exporter.finish().unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn csv_and_json_say_the_same() {
        let (csv, json) = (export(Format::Csv), export(Format::Jsonl));
        assert_eq!((csv.clone(), json.clone()), (export(Format::Csv), export(Format::Jsonl)));
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let mut reader = csv::Reader::from_reader(csv.as_bytes());
        assert_eq!(reader.headers().unwrap(), COLUMNS.as_slice());
        let row = reader.records().next().unwrap().unwrap();
        assert_eq!(json.as_object().unwrap().len(), COLUMNS.len());
        for (column, value) in COLUMNS.iter().zip(row.iter()) {
            let same = match &json[column] {
                serde_json::Value::String(text) => text.clone(),
                serde_json::Value::Null => String::new(),
                other => other.to_string(),
            };
            assert_eq!(same, value, "{column}");
        }
        assert_eq!(json["bytes_verified"], u64::MAX);
        assert_eq!(json["window_end"], "2026-11-18T11:06:40.123456Z");
        assert!(csv.contains("\"a \"\"film\"\", in\nparts\"") && csv.ends_with("\r\n"));
    }

    #[test]
    fn columns_are_in_the_order_of_the_fields() {
        let json = export(Format::Jsonl);
        let mut from = 0;
        for column in COLUMNS {
            from += json[from..].find(&format!("\"{column}\":")).unwrap();
        }
    }

    #[test]
    fn an_empty_csv_has_its_header() {
        let mut bytes = Vec::new();
        Exporter::new(Format::Csv, &mut bytes).unwrap().finish().unwrap();
        assert!(bytes.starts_with(b"operator,bridge,boot_epoch,seq,kind,"));
    }
}
