//! The embedded default: sled 0.34, made safe against kills, power cuts and full disks.
//!
//! What sled does not do by itself, and is done here: a snapshot that a kill cut short is removed before opening;
//! `flush` does not sync the disk, so the `db` file is synced through a second handle; a value that sled would put in a
//! file of its own is cut in parts; an error, or a panic, of sled ends its instance, and the next call opens another.
//!
//! Bindings and statements in quarantine are values of their own; contents, of which there are many more, lie in [`page`]s. Directories that
//! were written before there were contents have none of these keys, and are read as they are.

mod load;
mod page;
mod pages;
mod value;
mod write;

use std::{
    fs::{self, File, OpenOptions},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{
    Change, Cursor, NameStore, Record, StoreError, check_size,
    format::{Claim, io_error, sync_dir},
};
use pages::Pages;

/// What the marker of the directory says: our format, the engine, and its version.
const FORMAT: &str = "p2p-bridge names 1 sled-0.34";

/// Bytes of sled's own cache; the table has an index of its own.
const CACHE: u64 = 16 << 20;

/// How long the last instance may take to let go of its lock.
const RELEASE: Duration = Duration::from_secs(10);

const WRITER_KEY: &[u8] = b"m writer";
const SEQUENCE_KEY: &[u8] = b"m sequence";

/// A name store in a directory of its own.
pub struct SledStore {
    claim: Claim,
    state: Mutex<State>,
}

enum State {
    Open(Box<Engine>),
    /// Why it is closed, until a call opens it again.
    Failed(String),
}

impl SledStore {
    /// Opens the store in a directory, or makes one there.
    ///
    /// # Errors
    /// When the directory is in use, or not ours, or of another version, or cannot be read or written.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let claim = Claim::new(dir, FORMAT)?;
        let engine = Engine::open(dir)?;
        Ok(Self { claim, state: Mutex::new(State::Open(Box::new(engine))) })
    }

    /// Works with the engine, which is opened first if it has failed; an error closes it.
    fn with<T>(
        &self,
        work: impl FnOnce(&mut Engine) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Failed(earlier) = &*state {
            let engine = Engine::open(self.claim.dir()).map_err(|now| match now {
                full @ StoreError::Full(_) => full,
                now => StoreError::Failed { earlier: earlier.clone(), now: Box::new(now) },
            })?;
            tracing::info!(%earlier, "the name table's store is open again");
            *state = State::Open(Box::new(engine));
        }
        let State::Open(engine) = &mut *state else {
            return Err(engine_error(self.claim.dir(), "it is closed"));
        };
        let result = guarded(self.claim.dir(), || work(engine));
        if let Err(error) = &result {
            let old = std::mem::replace(&mut *state, State::Failed(error.to_string()));
            // sled may panic while it closes a file that cannot be written.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(old)));
        }
        result
    }
}

impl NameStore for SledStore {
    fn load(&self, each: &mut dyn FnMut(Record)) -> Result<Cursor, StoreError> {
        self.with(|engine| {
            engine.load(each)?;
            Ok(engine.cursor)
        })
    }

    fn write(&self, batch: &[Change]) -> Result<Cursor, StoreError> {
        check_size(batch)?;
        self.with(|engine| {
            engine.write(batch)?;
            Ok(engine.cursor)
        })
    }
}

/// An instance of sled, good until its first error.
struct Engine {
    dir: PathBuf,
    db: ::sled::Db,
    /// sled's data file, for syncing.
    file: File,
    cursor: Cursor,
    /// Where contents lie, once that was read.
    pages: Option<Pages>,
}

impl Engine {
    fn open(store: &Path) -> Result<Self, StoreError> {
        let dir = store.join("sled");
        let failed = |what: &'static str, error| io_error(store, what, &dir, error);
        fs::create_dir_all(&dir).map_err(|error| failed("create", error))?;
        remove_cut_short(&dir).map_err(|error| failed("clean", error))?;
        let db = open_sled(store, &dir)?;
        let path = dir.join("db");
        let file = OpenOptions::new().write(true).open(&path);
        let file = file.map_err(|error| io_error(store, "open", &path, error))?;
        let cursor = Cursor { writer: [0; 16], sequence: 0 };
        let mut engine = Self { dir: store.to_owned(), db, file, cursor, pages: None };
        guarded(store, || {
            engine.read_cursor()?;
            engine.bury()?;
            engine.sync()
        })?;
        file_sync_all(&engine.file, &dir, store).map_err(|error| failed("sync", error))?;
        Ok(engine)
    }

    /// Reads who writes here and how far it has come; a new store gets its writer.
    fn read_cursor(&mut self) -> Result<(), StoreError> {
        match self.get(WRITER_KEY)? {
            Some(writer) => {
                let writer = <[u8; 16]>::try_from(&*writer);
                self.cursor.writer = writer.map_err(|_| self.damaged("the writer's id"))?;
            }
            None => {
                getrandom::fill(&mut self.cursor.writer)
                    .map_err(|error| engine_error(&self.dir, &error.to_string()))?;
                let inserted = self.db.insert(WRITER_KEY, &self.cursor.writer);
                inserted.map_err(|error| self.sled_error(error))?;
            }
        }
        if let Some(sequence) = self.get(SEQUENCE_KEY)? {
            self.cursor.sequence =
                u64_of(&sequence).ok_or_else(|| self.damaged("the sequence number"))?;
        }
        Ok(())
    }

    fn get(&self, key: &[u8]) -> Result<Option<::sled::IVec>, StoreError> {
        self.db.get(key).map_err(|error| self.sled_error(error))
    }

    fn apply(&self, batch: ::sled::Batch) -> Result<(), StoreError> {
        self.db.apply_batch(batch).map_err(|error| self.sled_error(error))
    }

    /// Makes all that was applied durable.
    fn sync(&self) -> Result<(), StoreError> {
        self.db.flush().map_err(|error| self.sled_error(error))?;
        let synced = self.file.sync_data();
        synced.map_err(|error| io_error(&self.dir, "sync", &self.dir.join("sled/db"), error))
    }

    fn sled_error(&self, error: ::sled::Error) -> StoreError {
        sled_error(&self.dir, error)
    }

    fn damaged(&self, what: &str) -> StoreError {
        StoreError::Unreadable { dir: self.dir.clone(), why: format!("damaged: {what}") }
    }
}

fn u64_of(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// Removes snapshots that a kill cut short: sled would read them, and refuse to open.
fn remove_cut_short(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::warn!(path = %path.display(), "removing a snapshot that was cut short");
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Opens sled, waiting for the instance before it to let go of its lock: threads of its own may hold it for a moment.
/// No other process can: the directory is claimed.
fn open_sled(store: &Path, dir: &Path) -> Result<::sled::Db, StoreError> {
    let deadline = Instant::now() + RELEASE;
    loop {
        let config = ::sled::Config::new().path(dir).cache_capacity(CACHE);
        let opened = guarded(store, || Ok(config.open()))?;
        match opened {
            Ok(db) => return Ok(db),
            Err(::sled::Error::Io(error))
                if error.to_string().contains("could not acquire lock")
                    && Instant::now() < deadline =>
            {
                thread::park_timeout(Duration::from_millis(20));
            }
            Err(error) => return Err(unreadable(store, error)),
        }
    }
}

/// An error of sled while it opens.
fn unreadable(dir: &Path, error: ::sled::Error) -> StoreError {
    let damage = |kind| {
        matches!(
            kind,
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput
        )
    };
    match error {
        ::sled::Error::Io(error) if !damage(error.kind()) => io_error(dir, "open", dir, error),
        error => StoreError::Unreadable { dir: dir.to_owned(), why: error.to_string() },
    }
}

fn sled_error(dir: &Path, error: ::sled::Error) -> StoreError {
    match error {
        ::sled::Error::Io(error) => io_error(dir, "use", dir, error),
        error => engine_error(dir, &error.to_string()),
    }
}

fn engine_error(dir: &Path, why: &str) -> StoreError {
    StoreError::Engine { dir: dir.to_owned(), why: why.to_owned() }
}

/// Makes an error of a panic.
fn guarded<T>(dir: &Path, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason");
        Err(engine_error(dir, &format!("the storage engine panicked: {text}")))
    })
}

/// Makes the file, and the entries that lead to it, durable.
fn file_sync_all(file: &File, dir: &Path, store: &Path) -> io::Result<()> {
    file.sync_all()?;
    sync_dir(dir)?;
    sync_dir(store)?;
    match store.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

#[cfg(test)]
mod tests;
