//! The directory of a store on disk: whose it is, of which format, and that one process has it.

use std::{
    ffi::OsStr,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use super::StoreError;

/// The marker file.
const MARKER: &str = "FORMAT";
/// The marker before it has its name.
const MARKER_DRAFT: &str = "FORMAT.new";
/// The file that is locked.
const LOCK: &str = "LOCK";

/// A directory that is ours, and locked, until this is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    dir: PathBuf,
    lock: File,
}

impl Claim {
    /// Claims a directory for stores of a format; a missing or empty one is marked with it.
    pub(super) fn new(dir: &Path, format: &'static str) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(|error| io_error(dir, "create", dir, error))?;
        let known = read_marker(dir)?;
        match &known {
            Some(found) if found == format => {}
            Some(found) => {
                let (dir, found) = (dir.to_owned(), found.clone());
                return Err(StoreError::Format { dir, found, expected: format });
            }
            None if is_vacant(dir)? => {}
            None => return Err(StoreError::NotAStore(dir.to_owned())),
        }
        let path = dir.join(LOCK);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(|error| io_error(dir, "open", &path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked(dir.to_owned())),
            Err(TryLockError::Error(error)) => return Err(io_error(dir, "lock", &path, error)),
        }
        if known.is_none() {
            write_marker(dir, format)?;
        }
        Ok(Self { dir: dir.to_owned(), lock })
    }

    /// The directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Claim {
    /// Lets go of the lock at once: closing the file is not enough while a process that was just forked has it open, too.
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

fn read_marker(dir: &Path) -> Result<Option<String>, StoreError> {
    let path = dir.join(MARKER);
    match fs::read(&path) {
        Ok(bytes) => {
            let start = bytes.get(..bytes.len().min(100)).unwrap_or_default();
            Ok(Some(String::from_utf8_lossy(start).trim_end().to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(dir, "read", &path, error)),
    }
}

/// Whether nothing is there, but what an open that was cut short may have left.
fn is_vacant(dir: &Path) -> Result<bool, StoreError> {
    let failed = |error| io_error(dir, "read", dir, error);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if name != OsStr::new(MARKER_DRAFT) && name != OsStr::new(LOCK) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn write_marker(dir: &Path, format: &str) -> Result<(), StoreError> {
    let draft = dir.join(MARKER_DRAFT);
    let write = || {
        let mut file = File::create(&draft)?;
        file.write_all(format!("{format}\n").as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, dir.join(MARKER))?;
        sync_dir(dir)
    };
    write().map_err(|error| io_error(dir, "write", &dir.join(MARKER), error))
}

/// Makes the entries of a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// An error of the operating system, with a full disk told apart.
pub(super) fn io_error(dir: &Path, what: &str, path: &Path, source: io::Error) -> StoreError {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            StoreError::Full(dir.to_owned())
        }
        _ => StoreError::Io { what: format!("{what} {}", path.display()), source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_directory_is_marked_and_the_marker_is_checked() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        drop(Claim::new(&dir, "one 1").unwrap());
        drop(Claim::new(&dir, "one 1").unwrap());
        let error = Claim::new(&dir, "one 2").unwrap_err();
        assert!(error.to_string().contains("of the format `one 1`"), "{error}");
        fs::write(dir.join(MARKER), [0xFF; 10_000]).unwrap();
        assert!(matches!(Claim::new(&dir, "one 1"), Err(StoreError::Format { .. })));
    }

    #[test]
    fn a_directory_of_others_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("letter.txt"), "dear").unwrap();
        assert!(matches!(Claim::new(dir.path(), "one 1"), Err(StoreError::NotAStore(_))));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_cut_short_beginning_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(MARKER_DRAFT), "on").unwrap();
        fs::write(dir.path().join(LOCK), "").unwrap();
        Claim::new(dir.path(), "one 1").unwrap();
    }

    #[test]
    fn one_claim_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = Claim::new(dir.path(), "one 1").unwrap();
        assert!(matches!(Claim::new(dir.path(), "one 1"), Err(StoreError::Locked(_))));
        // As in a process that was forked a moment ago.
        let copy = first.lock.try_clone().unwrap();
        drop(first);
        Claim::new(dir.path(), "one 1").unwrap();
        drop(copy);
    }
}
