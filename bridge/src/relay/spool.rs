//! The spool: verified bytes on disk, written once, bounded, and of use again after a restart.
//!
//! Each content has a folder with segment files of [`SEGMENT`] bytes, and a `held.log` that says which runs were written
//! and from which overlay they came. The log is a hint: after a restart nothing is served before it was hashed again, so
//! neither a kill nor a power cut can make the spool lie.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use p2pbridge_proto::{ContentId, OverlayId};
use thiserror::Error;

/// Bytes of a segment file: what is evicted at once.
pub(crate) const SEGMENT: u64 = 16 << 20;

/// Why the spool does not take or give bytes.
#[derive(Debug, Error)]
pub(crate) enum SpoolError {
    /// The bound is reached, and nothing may be evicted.
    #[error("the spool is full: {used} of {bound} bytes are in use")]
    Full {
        /// Bytes in use.
        used: u64,
        /// The bound.
        bound: u64,
    },
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// What was written or read.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
}

/// The spool's folder, and what is in use of its bound.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    bound: u64,
    used: AtomicU64,
    contents: Mutex<HashMap<ContentId, Arc<SpooledContent>>>,
}

impl Spool {
    /// Opens the folder, makes it if it is not there, and counts what is in use.
    pub(crate) fn open(folder: &Path, bound: u64) -> Result<Self, SpoolError> {
        fs::create_dir_all(folder).map_err(|error| io_error(folder, error))?;
        let spool = Self {
            folder: folder.to_owned(),
            bound,
            used: AtomicU64::new(0),
            contents: Mutex::default(),
        };
        for entry in fs::read_dir(folder).map_err(|error| io_error(folder, error))? {
            let path = entry.map_err(|error| io_error(folder, error))?.path();
            let used = read_log(&path.join(LOG))
                .map_err(|error| io_error(&path, error))?
                .runs
                .values()
                .map(|run| run.length)
                .sum();
            spool.used.fetch_add(used, Ordering::Relaxed);
        }
        Ok(spool)
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes that it may hold.
    pub(crate) fn bound(&self) -> u64 {
        self.bound
    }

    /// Whether the bound leaves room for so many bytes.
    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.used().saturating_add(bytes) <= self.bound
    }

    /// The spooled part of a content.
    pub(crate) fn content(
        self: &Arc<Self>,
        id: ContentId,
    ) -> Result<Arc<SpooledContent>, SpoolError> {
        let mut contents = lock(&self.contents);
        if let Some(content) = contents.get(&id) {
            return Ok(content.clone());
        }
        let folder = self.folder.join(id.to_string());
        let log = read_log(&folder.join(LOG)).map_err(|error| io_error(&folder, error))?;
        let content = Arc::new(SpooledContent {
            folder,
            spool: self.clone(),
            state: Mutex::new(State { runs: log.runs, files: BTreeMap::new(), log: None }),
            writing: Mutex::default(),
        });
        contents.insert(id, content.clone());
        Ok(content)
    }

    /// Removes a content that nobody uses; gives the number of bytes that became free.
    pub(crate) fn forget(&self, id: ContentId) -> Result<u64, SpoolError> {
        let mut contents = lock(&self.contents);
        if contents.get(&id).is_some_and(|content| Arc::strong_count(content) > 1) {
            return Ok(0);
        }
        contents.remove(&id);
        let folder = self.folder.join(id.to_string());
        let log = read_log(&folder.join(LOG)).map_err(|error| io_error(&folder, error))?;
        let freed = log.runs.values().map(|run| run.length).sum();
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error(&folder, error));
            }
            _ => {}
        }
        self.used.fetch_sub(freed, Ordering::Relaxed);
        Ok(freed)
    }

    /// Removes contents that nobody uses, the one written longest ago first, until so many bytes are free under the
    /// bound; gives whether they are.
    pub(crate) fn make_room(&self, wanted: u64) -> Result<bool, SpoolError> {
        let mut folders = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(|error| io_error(&self.folder, error))? {
            let entry = entry.map_err(|error| io_error(&self.folder, error))?;
            let written = fs::metadata(entry.path().join(LOG)).and_then(|data| data.modified());
            let id = entry.file_name().to_str().and_then(parse_id);
            if let (Some(id), Ok(written)) = (id, written) {
                folders.push((written, id));
            }
        }
        folders.sort_unstable();
        for (_, id) in folders {
            if self.has_room(wanted) {
                break;
            }
            self.forget(id)?;
        }
        Ok(self.has_room(wanted))
    }
}

/// The part of one content that the spool holds.
#[derive(Debug)]
pub(crate) struct SpooledContent {
    folder: PathBuf,
    spool: Arc<Spool>,
    state: Mutex<State>,
    /// One writer at a time: the kernel would make the others spin on the file's own lock.
    writing: Mutex<()>,
}

#[derive(Debug)]
struct State {
    /// What is held, by first byte; runs do not overlap.
    runs: BTreeMap<u64, Run>,
    /// Open segment files, a bounded number.
    files: BTreeMap<u64, Arc<File>>,
    log: Option<File>,
}

#[derive(Debug, Clone)]
struct Run {
    length: u64,
    origin: OverlayId,
}

const LOG: &str = "held.log";
/// Open segment files of one content.
const MOST_FILES: usize = 8;

impl SpooledContent {
    /// From which overlay a whole run came, if it is held. A run is asked for as it was written, or as a part of that.
    pub(crate) fn origin(&self, offset: u64, length: u64) -> Option<OverlayId> {
        let state = lock(&self.state);
        let end = offset.checked_add(length)?;
        let mut at = offset;
        let (start, first) = state.runs.range(..=offset).next_back()?;
        let origin = first.origin.clone();
        if start + first.length > at {
            at = start + first.length;
        }
        while at < end {
            at += state.runs.get(&at)?.length;
        }
        (at > offset).then_some(origin)
    }

    /// Bytes held.
    pub(crate) fn held(&self) -> u64 {
        lock(&self.state).runs.values().map(|run| run.length).sum()
    }

    /// Keeps a verified run. What is held already is not written again.
    pub(crate) fn write(
        &self,
        offset: u64,
        bytes: &Bytes,
        origin: &OverlayId,
    ) -> Result<(), SpoolError> {
        let length = bytes.len() as u64;
        let _alone = lock(&self.writing);
        if length == 0 || self.origin(offset, length).is_some() {
            return Ok(());
        }
        let used = self.spool.used.fetch_add(length, Ordering::Relaxed);
        let written = if used + length > self.spool.bound {
            Err(SpoolError::Full { used, bound: self.spool.bound })
        } else {
            self.write_run(offset, bytes, origin)
        };
        if written.is_err() {
            self.spool.used.fetch_sub(length, Ordering::Relaxed);
        }
        written
    }

    fn write_run(&self, offset: u64, bytes: &Bytes, origin: &OverlayId) -> Result<(), SpoolError> {
        let mut rest = bytes.clone();
        let mut at = offset;
        while !rest.is_empty() {
            let room = usize::try_from(SEGMENT - at % SEGMENT).unwrap_or(usize::MAX);
            let part = rest.split_to(room.min(rest.len()));
            let number = at / SEGMENT;
            self.file(number, true)?
                .write_all_at(&part, at % SEGMENT)
                .map_err(|error| io_error(&self.segment(number), error))?;
            at += part.len() as u64;
        }
        let mut state = lock(&self.state);
        let line = format!("+ {offset} {} {origin}\n", bytes.len());
        self.append_log(&mut state, &line)?;
        state.runs.insert(offset, Run { length: bytes.len() as u64, origin: origin.clone() });
        Ok(())
    }

    /// Reads a run that is held.
    pub(crate) fn read(&self, offset: u64, length: u32) -> Result<Bytes, SpoolError> {
        let mut bytes = vec![0; length as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            let at = offset + filled as u64;
            let room = usize::try_from(SEGMENT - at % SEGMENT).unwrap_or(usize::MAX);
            let end = bytes.len().min(filled.saturating_add(room));
            let number = at / SEGMENT;
            self.file(number, false)?
                .read_exact_at(&mut bytes[filled..end], at % SEGMENT)
                .map_err(|error| io_error(&self.segment(number), error))?;
            filled = end;
        }
        Ok(bytes.into())
    }

    /// Forgets the runs that lie wholly in a segment, and frees their disk space.
    pub(crate) fn evict(&self, segment: u64) -> Result<u64, SpoolError> {
        let (start, end) = (segment * SEGMENT, (segment + 1) * SEGMENT);
        let mut state = lock(&self.state);
        // A run that leaves the segment goes with it: its other part stays on disk, unused, until that one's turn.
        let gone: Vec<(u64, u64)> = state
            .runs
            .range(..end)
            .filter(|(at, run)| **at + run.length > start)
            .map(|(at, run)| (*at, run.length))
            .collect();
        for (at, length) in &gone {
            self.append_log(&mut state, &format!("- {at} {length}\n"))?;
            state.runs.remove(at);
        }
        state.files.remove(&segment);
        drop(state);
        let path = self.segment(segment);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error(&path, error));
            }
            _ => {}
        }
        let freed = gone.iter().map(|(_, length)| length).sum();
        self.spool.used.fetch_sub(freed, Ordering::Relaxed);
        Ok(freed)
    }

    /// Forgets a run that turned out not to be what the log says.
    pub(crate) fn discard(&self, offset: u64) -> Result<(), SpoolError> {
        let mut state = lock(&self.state);
        if let Some(run) = state.runs.remove(&offset) {
            self.spool.used.fetch_sub(run.length, Ordering::Relaxed);
            self.append_log(&mut state, &format!("- {offset} {}\n", run.length))?;
        }
        Ok(())
    }

    fn segment(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:08}.seg"))
    }

    fn file(&self, number: u64, create: bool) -> Result<Arc<File>, SpoolError> {
        let mut state = lock(&self.state);
        if let Some(file) = state.files.get(&number) {
            return Ok(file.clone());
        }
        if create {
            fs::create_dir_all(&self.folder).map_err(|error| io_error(&self.folder, error))?;
        }
        let path = self.segment(number);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(create)
            .truncate(false)
            .open(&path)
            .map_err(|error| io_error(&path, error))?;
        let file = Arc::new(file);
        if state.files.len() >= MOST_FILES {
            state.files.pop_first();
        }
        state.files.insert(number, file.clone());
        Ok(file)
    }

    fn append_log(&self, state: &mut State, line: &str) -> Result<(), SpoolError> {
        let path = self.folder.join(LOG);
        if state.log.is_none() {
            let log = OpenOptions::new()
                .append(true)
                .create(true)
                .open(&path)
                .map_err(|error| io_error(&path, error))?;
            state.log = Some(log);
        }
        match &mut state.log {
            Some(log) => log.write_all(line.as_bytes()).map_err(|error| io_error(&path, error)),
            None => Ok(()),
        }
    }
}

struct Log {
    runs: BTreeMap<u64, Run>,
}

/// Reads a log as far as it makes sense: the last line may have been cut by a kill or a full disk.
fn read_log(path: &Path) -> io::Result<Log> {
    let text = match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            String::new()
        }
        Err(error) => return Err(error),
    };
    let mut runs = BTreeMap::new();
    for line in text.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let mut words = line.split_ascii_whitespace();
        let sign = words.next();
        let offset: Option<u64> = words.next().and_then(|word| word.parse().ok());
        let length: Option<u64> = words.next().and_then(|word| word.parse().ok());
        match (sign, offset, length, words.next().and_then(|word| word.parse().ok())) {
            (Some("+"), Some(offset), Some(length), Some(origin)) => {
                runs.insert(offset, Run { length, origin });
            }
            (Some("-"), Some(offset), Some(_), None) => {
                runs.remove(&offset);
            }
            _ => {}
        }
    }
    Ok(Log { runs })
}

fn parse_id(text: &str) -> Option<ContentId> {
    let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?;
    ContentId::try_from(bytes.as_slice()).ok()
}

fn io_error(path: &Path, source: io::Error) -> SpoolError {
    SpoolError::Io { path: path.to_owned(), source }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool(folder: &Path, bound: u64) -> Arc<Spool> {
        Arc::new(Spool::open(folder, bound).unwrap())
    }

    const ID: ContentId = ContentId::from_bytes([1; 16]);
    const OTHER: ContentId = ContentId::from_bytes([2; 16]);

    #[test]
    fn what_was_written_is_there_after_a_restart_also_behind_a_cut_log() {
        let folder = tempfile::tempdir().unwrap();
        let origin: OverlayId = "a".parse().unwrap();
        let bytes = Bytes::from(vec![7; 3 << 20]);
        let at = SEGMENT - (1 << 20);
        let first = spool(folder.path(), 1 << 30);
        first.content(ID).unwrap().write(at, &bytes, &origin).unwrap();
        let log = folder.path().join(ID.to_string()).join(LOG);
        OpenOptions::new().append(true).open(log).unwrap().write_all(b"+ 0 99").unwrap();

        let second = spool(folder.path(), 1 << 30);
        let content = second.content(ID).unwrap();
        assert_eq!(second.used(), 3 << 20);
        assert_eq!(content.origin(at, 3 << 20), Some(origin.clone()));
        assert_eq!(content.origin(at + 5, 10), Some(origin));
        assert_eq!(content.origin(at + 5, 3 << 20), None);
        assert_eq!(content.origin(0, 99), None);
        assert_eq!(content.read(at, 3 << 20).unwrap(), bytes);
    }

    #[test]
    fn it_is_bounded_and_makes_room_by_forgetting_what_nobody_uses() {
        let folder = tempfile::tempdir().unwrap();
        let origin: OverlayId = "a".parse().unwrap();
        let spool = spool(folder.path(), 1_000);
        spool.content(ID).unwrap().write(0, &Bytes::from(vec![1; 800]), &origin).unwrap();
        let other = spool.content(OTHER).unwrap();
        let refused = other.write(0, &Bytes::from(vec![2; 800]), &origin).unwrap_err();
        assert_eq!(refused.to_string(), "the spool is full: 800 of 1000 bytes are in use");
        assert!(spool.make_room(800).unwrap());
        other.write(0, &Bytes::from(vec![2; 800]), &origin).unwrap();
        assert!(!spool.make_room(800).unwrap(), "a content in use was forgotten");
        assert_eq!(other.evict(0).unwrap(), 800);
        assert_eq!((spool.used(), other.held()), (0, 0));
    }
}
