//! The ledger: usage records for ever, each under an identity of its own.

mod redb;

use std::{fmt, path::PathBuf};

use jiff::Timestamp;
use p2pbridge_proto::v1;
use thiserror::Error;

pub use redb::RedbLedger;

use super::{
    meter::{Batch, PendingRecord, TransferKey},
    windows::Window,
};

/// Who writes into a ledger: with a sequence number, the identity of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    /// The operator, as configured.
    pub operator: String,
    /// The bridge, as configured.
    pub bridge: String,
    /// Counts the starts over this ledger, from 1.
    pub boot_epoch: u64,
}

impl Writer {
    fn id(&self, seq: u64) -> v1::RecordId {
        v1::RecordId {
            operator: self.operator.clone(),
            bridge: self.bridge.clone(),
            boot_epoch: self.boot_epoch,
            seq,
        }
    }
}

/// Where in a ledger somebody has got to: behind this record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Cursor {
    /// The record's epoch.
    pub boot_epoch: u64,
    /// The record's number in it.
    pub seq: u64,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {} of epoch {}", self.seq, self.boot_epoch)
    }
}

/// Which records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Windows that end after this moment.
    pub from: Option<Timestamp>,
    /// Windows that start before this moment.
    pub to: Option<Timestamp>,
    /// Only from this overlay; empty for all.
    pub source_overlay: String,
    /// Only to this overlay; empty for all.
    pub destination_overlay: String,
}

impl Filter {
    /// Whether a record is wanted.
    #[must_use]
    pub fn takes(&self, record: &v1::UsageRecord) -> bool {
        let overlay = |wanted: &str, is: &str| wanted.is_empty() || wanted == is;
        self.takes_window(micros(&record.window_start), micros(&record.window_end))
            && overlay(&self.source_overlay, &record.source_overlay)
            && overlay(&self.destination_overlay, &record.destination_overlay)
    }

    /// Whether windows between these moments (µs since 1970) can be wanted.
    fn takes_window(&self, start: i64, end: i64) -> bool {
        self.from.is_none_or(|from| end > from.as_microsecond())
            && self.to.is_none_or(|to| start < to.as_microsecond())
    }
}

/// Some records, in the order of the ledger.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    /// The records.
    pub records: Vec<v1::UsageRecord>,
    /// Where to go on; `None` when there are no more.
    pub next: Option<Cursor>,
}

/// What is written in one commit.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Entry {
    /// Transfers that begin: all fields that their records have in common, and `window_end`, since when they run.
    pub opened: Vec<v1::UsageRecord>,
    /// Records without identity and counters: the ledger gives both.
    pub records: Vec<v1::UsageRecord>,
    /// Ids of transfers that have ended.
    pub closed: Vec<String>,
}

/// Why the ledger did not do what it was asked.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// It is the ledger of somebody else.
    #[error(
        "{path} is the ledger of operator `{is_operator}`, bridge `{is_bridge}`, and not of operator `{operator}`, bridge \
         `{bridge}`: set `operator` and `bridge` back, or give this bridge a data directory of its own"
    )]
    Identity {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        is_operator: String,
        /// Whose it is.
        is_bridge: String,
        /// Who opens it.
        operator: String,
        /// Who opens it.
        bridge: String,
    },
    /// It was written by another version, or is no ledger.
    #[error(
        "{path} is no ledger of this version ({found}; this is `{FORMAT}`): use the version that wrote it, or another data \
         directory"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// What stands in it.
        found: String,
    },
    /// Another process has it.
    #[error("{0} is in use: another p2p-bridge runs over this data directory")]
    InUse(PathBuf),
    /// It cannot be opened.
    #[error("cannot open the ledger {path}: {problem}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What came of it.
        problem: String,
    },
    /// The disk does not take or give it. What was not acknowledged may be there or not: repeat the same call.
    #[error("the ledger {path} cannot be {doing}: {problem}")]
    Io {
        /// The file.
        path: PathBuf,
        /// `read`, `written` or `opened again`.
        doing: &'static str,
        /// What came of it.
        problem: String,
    },
    /// A record that is there already would get another payload. The other payload is kept as evidence.
    #[error("{0} is in the ledger with another payload")]
    Conflict(Cursor),
    /// Records between the last one and these are missing.
    #[error("the next record is {next}, not {got}")]
    Hole {
        /// The number that comes next.
        next: u64,
        /// The number that was given.
        got: u64,
    },
    /// A stored record cannot be read.
    #[error("{0} is damaged")]
    Damaged(Cursor),
    /// It was closed.
    #[error("the ledger is closed")]
    Closed,
}

/// What a ledger says of itself in its file.
pub const FORMAT: &str = "p2p-bridge ledger 1";

/// Keeps usage records. All calls block: make them off the async threads.
pub trait Ledger: Send + Sync {
    /// Who writes.
    fn writer(&self) -> Writer;

    /// The number of the next record.
    fn next_seq(&self) -> u64;

    /// Writes the entry, its records under the numbers from `first_seq` on, all or nothing; it is on the disk when this
    /// returns. The same call again changes nothing and gives the same ids, whatever came of it before.
    ///
    /// # Errors
    /// When the disk does not take it, when a number is taken by another payload, or when numbers would be left out.
    fn append(&self, first_seq: u64, entry: &Entry) -> Result<Vec<v1::RecordId>, LedgerError>;

    /// At most `limit` records that a filter wants, behind a cursor, in the order in which they were written.
    ///
    /// # Errors
    /// When the disk does not give them, or a record is damaged.
    fn scan(
        &self,
        filter: &Filter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, LedgerError>;

    /// Notes that all was counted: no transfer has a gap at the next start. Nothing can be written any more.
    ///
    /// # Errors
    /// When the disk does not take it.
    fn close(&self) -> Result<(), LedgerError>;
}

impl From<&Batch> for Entry {
    fn from(batch: &Batch) -> Self {
        let opened = batch.opened.iter().map(|(key, since)| v1::UsageRecord {
            window_end: Some(proto_time(*since)),
            ..template(key)
        });
        let records = batch.records.iter().map(|record| record_of(record, batch.made));
        Self { opened: opened.collect(), records: records.collect(), closed: batch.closed.clone() }
    }
}

fn template(key: &TransferKey) -> v1::UsageRecord {
    v1::UsageRecord {
        agreement: key.agreement.clone(),
        transfer_id: key.transfer_id.clone(),
        source_overlay: key.source_overlay.to_string(),
        destination_overlay: key.destination_overlay.to_string(),
        source_name: key.source_name.to_string(),
        destination_name: key.destination_name.to_string(),
        title: key.title.clone(),
        ..v1::UsageRecord::default()
    }
}

/// Bytes that were served in a window in which nothing was fetched or verified came from the spool.
fn record_of(pending: &PendingRecord, made: Timestamp) -> v1::UsageRecord {
    let Window { range, counts } = &pending.window;
    let origin = if counts.fetched == 0 && counts.verified == 0 {
        v1::UsageOrigin::Cache
    } else {
        v1::UsageOrigin::Relay
    };
    v1::UsageRecord {
        kind: v1::UsageKind::Delta.into(),
        bytes_verified: counts.verified,
        bytes_wire: counts.fetched,
        bytes_rejected: counts.rejected,
        bytes_served: counts.served,
        chunks: counts.chunks,
        window_start: Some(proto_time(range.start)),
        window_end: Some(proto_time(range.end)),
        ingest_time: Some(proto_time(made)),
        origin: origin.into(),
        ..template(&pending.key)
    }
}

/// A moment as protobuf has it, in whole microseconds.
#[must_use]
pub fn proto_time(at: Timestamp) -> prost_types::Timestamp {
    let micros = at.as_microsecond();
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1000).unwrap_or(0),
    }
}

/// Microseconds since 1970; 0 for none.
#[must_use]
pub fn micros(at: &Option<prost_types::Timestamp>) -> i64 {
    at.as_ref().map_or(0, |at| {
        at.seconds.saturating_mul(1_000_000).saturating_add(i64::from(at.nanos) / 1000)
    })
}
