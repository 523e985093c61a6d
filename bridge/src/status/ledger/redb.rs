//! The ledger in one redb file. Every commit is on the disk before it is acknowledged.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use ::redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable,
    StorageError, TableDefinition, TableHandle, WriteTransaction,
};
use jiff::Timestamp;
use p2pbridge_proto::v1;
use prost::Message;

use super::{Cursor, Entry, FORMAT, Filter, Ledger, LedgerError, Page, Writer, micros, proto_time};

/// `format`, `operator`, `bridge`, `boot_epoch` and `clean`.
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// Epoch and number → `v1::UsageRecord`.
const RECORDS: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("records");
/// Epoch and number ÷ [`BLOCK`] → start of the first window and end of the last, µs.
const BLOCKS: TableDefinition<(u64, u64), (i64, i64)> = TableDefinition::new("blocks");
/// Transfer → its cumulative verified bytes.
const COUNTERS: TableDefinition<&str, u64> = TableDefinition::new("counters");
/// Transfers that run → what their records have in common, and the end of their last window.
const OPEN: TableDefinition<&str, &[u8]> = TableDefinition::new("open");
/// Epoch, number, and a count → a payload that somebody wanted to put in the place of that record.
const EVIDENCE: TableDefinition<(u64, u64, u64), &[u8]> = TableDefinition::new("evidence");

/// Records that share a line in the table of windows: a scan passes over blocks that it does not want.
const BLOCK: u64 = 1024;
/// At most this many refused payloads are kept of one record.
const MOST_EVIDENCE: u64 = 16;
const CACHE_BYTES: usize = 16 << 20;

type Anything = ::redb::Error;

/// The ledger in one redb file.
pub struct RedbLedger {
    path: PathBuf,
    writer: Writer,
    /// `None` after a failure: it is opened again before the next try.
    database: RwLock<Option<Arc<Database>>>,
    tail: Mutex<Tail>,
}

#[derive(Debug)]
struct Tail {
    next_seq: u64,
    closed: bool,
}

impl RedbLedger {
    /// Opens the ledger in a file, and makes it when there is none. Begins a new epoch. When the last one did not end with
    /// [`Ledger::close`], writes a gap record for each transfer that ran then, up to `now`.
    ///
    /// # Errors
    /// When it belongs to somebody else, is of another version, is in use, or the disk does not give or take it.
    pub fn open(
        path: &Path,
        operator: &str,
        bridge: &str,
        now: Timestamp,
    ) -> Result<Self, LedgerError> {
        if !path.exists() {
            create(path, operator, bridge)?;
        }
        let database = open_file(path)?;
        check_identity(&database, path, operator, bridge)?;
        let (boot_epoch, next_seq) = begin_epoch(&database, operator, bridge, now)
            .map_err(|error| open_error(path, &error))?;
        let writer =
            Writer { operator: operator.to_owned(), bridge: bridge.to_owned(), boot_epoch };
        Ok(Self {
            path: path.to_owned(),
            writer,
            database: RwLock::new(Some(Arc::new(database))),
            tail: Mutex::new(Tail { next_seq, closed: false }),
        })
    }

    /// How many refused payloads are kept as evidence.
    ///
    /// # Errors
    /// When the disk does not give them.
    pub fn evidence(&self) -> Result<u64, LedgerError> {
        self.with("read", |database| {
            use ::redb::ReadableTableMetadata;
            Ok(database.begin_read()?.open_table(EVIDENCE)?.len()?)
        })
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs something over the database; after an error it is given up, and opened again by the next call.
    fn with<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Database) -> Result<T, Anything>,
    ) -> Result<T, LedgerError> {
        let database = self.database()?;
        work(&database).map_err(|error| {
            tracing::warn!(path = %self.path.display(), %error, "the ledger could not be {doing}");
            *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
            LedgerError::Io { path: self.path.clone(), doing, problem: error.to_string() }
        })
    }

    fn database(&self) -> Result<Arc<Database>, LedgerError> {
        if let Some(open) = &*self.database.read().unwrap_or_else(PoisonError::into_inner) {
            return Ok(open.clone());
        }
        let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &*slot {
            return Ok(open.clone());
        }
        let database = open_file(&self.path).map_err(|error| match error {
            // Who was reading when it failed has not let go yet.
            LedgerError::InUse(path) => {
                let problem = "it is still being read since it failed".to_owned();
                LedgerError::Io { path, doing: "opened again", problem }
            }
            error => error,
        })?;
        check_identity(&database, &self.path, &self.writer.operator, &self.writer.bridge)?;
        let database = Arc::new(database);
        *slot = Some(database.clone());
        Ok(database)
    }
}

impl Ledger for RedbLedger {
    fn writer(&self) -> Writer {
        self.writer.clone()
    }

    fn next_seq(&self) -> u64 {
        self.tail().next_seq
    }

    fn append(&self, first_seq: u64, entry: &Entry) -> Result<Vec<v1::RecordId>, LedgerError> {
        let mut tail = self.tail();
        if tail.closed {
            return Err(LedgerError::Closed);
        }
        // What a failed commit left behind is known only to the file: `write` looks there for the next number.
        let written =
            self.with("written", |database| write(database, &self.writer, first_seq, entry))?;
        tail.next_seq = match written {
            Written::Done { next_seq } => next_seq,
            Written::Conflict(at) => return Err(LedgerError::Conflict(at)),
            Written::Hole { next } => return Err(LedgerError::Hole { next, got: first_seq }),
        };
        Ok((first_seq..).take(entry.records.len()).map(|seq| self.writer.id(seq)).collect())
    }

    fn scan(
        &self,
        filter: &Filter,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, LedgerError> {
        self.with("read", |database| scan(&database.begin_read()?, filter, after, limit))?
            .map_err(LedgerError::Damaged)
    }

    fn close(&self) -> Result<(), LedgerError> {
        let mut tail = self.tail();
        if tail.closed {
            return Ok(());
        }
        self.with("written", |database| {
            let write = begin_write(database)?;
            write.open_table(META)?.insert("clean", [1].as_slice())?;
            write.open_table(OPEN)?.retain(|_, _| false)?;
            Ok(write.commit()?)
        })?;
        tail.closed = true;
        Ok(())
    }
}

/// Makes an empty ledger. It has its name only when it is whole: what a full disk or a kill leaves half made is made anew.
fn create(path: &Path, operator: &str, bridge: &str) -> Result<(), LedgerError> {
    let part = path.with_extension("new");
    let failed = |error: Anything| open_error(path, &error);
    match fs::remove_file(&part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(open_error(&part, &error));
        }
        _ => {}
    }
    let database = open_file(&part)?;
    let fill = || -> Result<(), Anything> {
        let write = begin_write(&database)?;
        set_identity(&write, operator, bridge)?;
        Ok(write.commit()?)
    };
    fill().map_err(failed)?;
    drop(database);
    let named = fs::rename(&part, path).and_then(|()| sync_directory(path));
    named.map_err(|error| open_error(path, &error))
}

fn set_identity(write: &WriteTransaction, operator: &str, bridge: &str) -> Result<(), Anything> {
    let mut meta = write.open_table(META)?;
    meta.insert("format", FORMAT.as_bytes())?;
    meta.insert("operator", operator.as_bytes())?;
    meta.insert("bridge", bridge.as_bytes())?;
    Ok(())
}

fn open_file(path: &Path) -> Result<Database, LedgerError> {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder.create(path).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => LedgerError::InUse(path.to_owned()),
        DatabaseError::UpgradeRequired(version) => LedgerError::Format {
            path: path.to_owned(),
            found: format!("it is of redb file format {version}"),
        },
        DatabaseError::Storage(StorageError::Io(error))
            if error.kind() == io::ErrorKind::InvalidData =>
        {
            LedgerError::Format { path: path.to_owned(), found: "it is no redb file".to_owned() }
        }
        error => open_error(path, &error),
    })
}

fn open_error(path: &Path, error: &impl ToString) -> LedgerError {
    LedgerError::Open { path: path.to_owned(), problem: error.to_string() }
}

/// Makes the file's own name durable.
fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent != Path::new("") => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Refuses a file that is not ours. A file without any table is new.
fn check_identity(
    database: &Database,
    path: &Path,
    operator: &str,
    bridge: &str,
) -> Result<(), LedgerError> {
    let read = || -> Result<Option<[String; 3]>, Anything> {
        let read = database.begin_read()?;
        let tables: Vec<_> = read.list_tables()?.map(|table| table.name().to_owned()).collect();
        if tables.is_empty() {
            return Ok(None);
        }
        if !tables.iter().any(|table| table == META.name()) {
            return Ok(Some(<[String; 3]>::default()));
        }
        let meta = read.open_table(META)?;
        let text = |key| -> Result<String, Anything> {
            let value = meta.get(key)?;
            Ok(value.map_or_else(String::new, |v| String::from_utf8_lossy(v.value()).into_owned()))
        };
        Ok(Some([text("format")?, text("operator")?, text("bridge")?]))
    };
    let Some([format, is_operator, is_bridge]) =
        read().map_err(|error| open_error(path, &error))?
    else {
        return Ok(());
    };
    let path = path.to_owned();
    if format != FORMAT {
        let found = if format.is_empty() {
            "it says nothing of its format".to_owned()
        } else {
            format!("it says `{format}`")
        };
        return Err(LedgerError::Format { path, found });
    }
    if is_operator != operator || is_bridge != bridge {
        let (operator, bridge) = (operator.to_owned(), bridge.to_owned());
        return Err(LedgerError::Identity { path, is_operator, is_bridge, operator, bridge });
    }
    Ok(())
}

/// A write transaction after whose commit a crash costs no walk over the whole file.
fn begin_write(database: &Database) -> Result<WriteTransaction, Anything> {
    let mut write = database.begin_write()?;
    write.set_quick_repair(true);
    Ok(write)
}

/// One durable transaction: the next epoch, and the gaps that the last one left. Gives the epoch and its next number.
fn begin_epoch(
    database: &Database,
    operator: &str,
    bridge: &str,
    now: Timestamp,
) -> Result<(u64, u64), Anything> {
    let write = begin_write(database)?;
    set_identity(&write, operator, bridge)?;
    let (epoch, clean);
    {
        let mut meta = write.open_table(META)?;
        let last = meta
            .get("boot_epoch")?
            .map_or(0, |value| value.value().try_into().map_or(0, u64::from_le_bytes));
        clean = last == 0 || meta.get("clean")?.is_some_and(|value| value.value() == [1]);
        epoch = last + 1;
        meta.insert("boot_epoch", epoch.to_le_bytes().as_slice())?;
        meta.insert("clean", [0].as_slice())?;
        write.open_table(COUNTERS)?;
        write.open_table(EVIDENCE)?;
    }
    let mut gaps = Vec::new();
    {
        let mut open = write.open_table(OPEN)?;
        if !clean {
            for row in open.iter()? {
                let (_, value) = row?;
                let Ok(template) = v1::UsageRecord::decode(value.value()) else { continue };
                gaps.push(gap(template, now));
            }
        }
        open.retain(|_, _| false)?;
    }
    let writer =
        Writer { operator: operator.to_owned(), bridge: bridge.to_owned(), boot_epoch: epoch };
    let next = insert(&write, &writer, 1, &gaps)?;
    write.commit()?;
    Ok((epoch, next))
}

/// Nobody counted from the end of the last window on.
fn gap(template: v1::UsageRecord, now: Timestamp) -> v1::UsageRecord {
    let start = micros(&template.window_end);
    // A clock that was set back leaves a gap of a microsecond, not one that ends before it begins.
    let end = now.as_microsecond().max(start.saturating_add(1));
    let end = Timestamp::from_microsecond(end).unwrap_or(now);
    v1::UsageRecord {
        kind: v1::UsageKind::Gap.into(),
        window_start: template.window_end,
        window_end: Some(proto_time(end)),
        ingest_time: Some(proto_time(now)),
        ..template
    }
}

enum Written {
    Done { next_seq: u64 },
    Conflict(Cursor),
    Hole { next: u64 },
}

fn write(
    database: &Database,
    writer: &Writer,
    first_seq: u64,
    entry: &Entry,
) -> Result<Written, Anything> {
    let write = begin_write(database)?;
    let next = next_seq(&write, writer.boot_epoch)?;
    if first_seq > next || first_seq == 0 {
        write.abort()?;
        return Ok(Written::Hole { next });
    }
    let known = usize::try_from(next - first_seq).unwrap_or(usize::MAX).min(entry.records.len());
    let (old, new) = entry.records.split_at(known);
    for (record, seq) in old.iter().zip(first_seq..) {
        if !is_same(&write, writer, seq, record)? {
            keep_evidence(&write, writer, seq, record)?;
            write.commit()?;
            return Ok(Written::Conflict(Cursor { boot_epoch: writer.boot_epoch, seq }));
        }
    }
    let repeated = !old.is_empty();
    {
        let mut open = write.open_table(OPEN)?;
        for template in &entry.opened {
            // A repetition must not set the end of the last window back.
            if !repeated {
                open.insert(template.transfer_id.as_str(), template.encode_to_vec().as_slice())?;
            }
        }
    }
    let next_seq = insert(&write, writer, first_seq + known as u64, new)?.max(next);
    {
        let mut open = write.open_table(OPEN)?;
        for record in new {
            let id = record.transfer_id.as_str();
            let Some(template) = open.get(id)?.map(|value| value.value().to_vec()) else {
                continue;
            };
            let Ok(mut template) = v1::UsageRecord::decode(template.as_slice()) else { continue };
            template.window_end = record.window_end;
            open.insert(id, template.encode_to_vec().as_slice())?;
        }
        for id in &entry.closed {
            open.remove(id.as_str())?;
        }
    }
    write.commit()?;
    Ok(Written::Done { next_seq })
}

fn next_seq(write: &WriteTransaction, epoch: u64) -> Result<u64, Anything> {
    let records = write.open_table(RECORDS)?;
    let last = records.range((epoch, 0)..=(epoch, u64::MAX))?.next_back().transpose()?;
    Ok(last.map_or(1, |(key, _)| key.value().1 + 1))
}

/// Writes records under the numbers from `first` on, with their counters. Gives the next number.
fn insert(
    write: &WriteTransaction,
    writer: &Writer,
    first: u64,
    new: &[v1::UsageRecord],
) -> Result<u64, Anything> {
    let mut records = write.open_table(RECORDS)?;
    let mut blocks = write.open_table(BLOCKS)?;
    let mut counters = write.open_table(COUNTERS)?;
    let mut seq = first;
    for record in new {
        let mut record = record.clone();
        let id = record.transfer_id.clone();
        record.id = Some(writer.id(seq));
        record.counter_start = counters.get(id.as_str())?.map_or(0, |counter| counter.value());
        record.counter_end = record.counter_start.saturating_add(record.bytes_verified);
        counters.insert(id.as_str(), record.counter_end)?;
        records.insert((writer.boot_epoch, seq), record.encode_to_vec().as_slice())?;
        let block = (writer.boot_epoch, seq / BLOCK);
        let (start, end) = (micros(&record.window_start), micros(&record.window_end));
        let known = blocks.get(block)?.map(|value| value.value());
        let (low, high) = known.unwrap_or((start, end));
        blocks.insert(block, (low.min(start), high.max(end)))?;
        seq += 1;
    }
    Ok(seq)
}

/// Whether a record is in the ledger as it is given here. Identity and counters are the ledger's own.
fn is_same(
    write: &WriteTransaction,
    writer: &Writer,
    seq: u64,
    record: &v1::UsageRecord,
) -> Result<bool, Anything> {
    let records = write.open_table(RECORDS)?;
    let Some(stored) = records.get((writer.boot_epoch, seq))? else { return Ok(false) };
    let Ok(mut stored) = v1::UsageRecord::decode(stored.value()) else { return Ok(false) };
    (stored.id, stored.counter_start, stored.counter_end) = (None, 0, 0);
    Ok(stored == *record)
}

fn keep_evidence(
    write: &WriteTransaction,
    writer: &Writer,
    seq: u64,
    record: &v1::UsageRecord,
) -> Result<(), Anything> {
    let mut evidence = write.open_table(EVIDENCE)?;
    let payload = record.encode_to_vec();
    let mut count = 0;
    for row in evidence.range((writer.boot_epoch, seq, 0)..=(writer.boot_epoch, seq, u64::MAX))? {
        let (_, value) = row?;
        if value.value() == payload {
            return Ok(());
        }
        count += 1;
    }
    if count < MOST_EVIDENCE {
        evidence.insert((writer.boot_epoch, seq, count), payload.as_slice())?;
    }
    Ok(())
}

/// The outer error is the disk's, the inner one a record that cannot be read.
fn scan(
    read: &ReadTransaction,
    filter: &Filter,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Result<Page, Cursor>, Anything> {
    let records = read.open_table(RECORDS)?;
    let blocks = read.open_table(BLOCKS)?;
    let after = after.unwrap_or_default();
    let mut from = (after.boot_epoch, after.seq.saturating_add(1));
    let mut page = Page::default();
    loop {
        let Some(row) = records.range(from..)?.next() else { return Ok(Ok(page)) };
        let (epoch, seq) = row?.0.value();
        let block = (epoch, seq / BLOCK);
        let end = (epoch, (block.1 + 1).saturating_mul(BLOCK));
        let wanted = blocks.get(block)?.is_none_or(|value| {
            let (low, high) = value.value();
            filter.takes_window(low, high)
        });
        if wanted {
            for row in records.range((epoch, seq)..end)? {
                let (key, value) = row?;
                let at = Cursor { boot_epoch: key.value().0, seq: key.value().1 };
                let Ok(record) = v1::UsageRecord::decode(value.value()) else { return Ok(Err(at)) };
                if !filter.takes(&record) {
                    continue;
                }
                if page.records.len() >= limit {
                    let last = page.records.last().and_then(|last| last.id.as_ref());
                    page.next = last.map(|id| Cursor { boot_epoch: id.boot_epoch, seq: id.seq });
                    return Ok(Ok(page));
                }
                page.records.push(record);
            }
        }
        from = end;
    }
}

#[cfg(test)]
mod tests;
