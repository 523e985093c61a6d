//! The data directory: of one version, and of one daemon at a time.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use thiserror::Error;

/// What the marker file says in a directory of this version.
const FORMAT: &str = "p2p-bridge data 1\n";

/// A data directory that nobody else uses while this lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// Why a data directory is not used.
#[derive(Debug, Error)]
pub enum DataDirError {
    /// The file system refused.
    #[error("data directory {path}: {source}")]
    Io {
        /// What was made or read.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// Another daemon uses it.
    #[error(
        "data directory {0} is in use by another p2p-bridge: stop that one, or set another `data_dir`"
    )]
    InUse(PathBuf),
    /// It was made by another version.
    #[error(
        "data directory {path} says `{found}` in its file FORMAT, and this program reads only `{expected}`: use the \
         version that made it, or set another `data_dir`"
    )]
    OtherVersion {
        /// The directory.
        path: PathBuf,
        /// What the marker says.
        found: String,
        /// What it should say.
        expected: &'static str,
    },
    /// It is something else.
    #[error(
        "data directory {0} is not empty, and was not made by p2p-bridge: set another `data_dir`"
    )]
    Foreign(PathBuf),
}

impl DataDir {
    /// Opens a data directory, makes it if it is not there, and locks it.
    ///
    /// # Errors
    /// When it is in use, of another version, not ours, or cannot be written.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        let failed = |at: &Path| {
            let at = at.to_owned();
            move |source| DataDirError::Io { path: at, source }
        };
        fs::create_dir_all(path).map_err(failed(path))?;
        let marker = path.join("FORMAT");
        let found = match fs::read_to_string(&marker) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(&marker)(error)),
        };
        match found {
            Some(found) if found == FORMAT => {}
            Some(found) => {
                let found = found.trim_end().chars().take(80).collect();
                let expected = FORMAT.trim_end();
                return Err(DataDirError::OtherVersion { path: path.to_owned(), found, expected });
            }
            None => {
                let mut entries = fs::read_dir(path).map_err(failed(path))?;
                // `lost+found` is what a file system of its own begins with.
                if entries.any(|entry| entry.is_ok_and(|e| e.file_name() != "lost+found")) {
                    return Err(DataDirError::Foreign(path.to_owned()));
                }
                write_whole(path, "FORMAT", FORMAT.as_bytes()).map_err(failed(&marker))?;
            }
        }
        let lock_path = path.join("LOCK");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(failed(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(failed(&lock_path)(error)),
        }
    }

    /// Random bytes that were made with this directory, and stay: other programs know the bridge again by what is made of
    /// them.
    ///
    /// # Errors
    /// When they cannot be read or written.
    pub fn mark(&self) -> Result<[u8; 6], DataDirError> {
        let path = self.join("MARK");
        let failed = |source| DataDirError::Io { path: path.clone(), source };
        match fs::read(&path) {
            Ok(bytes) => {
                let wrong = || io::Error::new(io::ErrorKind::InvalidData, "it has not 6 bytes");
                bytes.try_into().map_err(|_| failed(wrong()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut mark = [0; 6];
                getrandom::fill(&mut mark).map_err(|error| failed(io::Error::other(error)))?;
                write_whole(&self.path, "MARK", &mark).map_err(failed)?;
                Ok(mark)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Where something is kept.
    #[must_use]
    pub fn join(&self, part: &str) -> PathBuf {
        self.path.join(part)
    }
}

/// Writes a file whole or not at all.
fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let draft = folder.join(format!("{name}.part"));
    let mut file = File::create(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, folder.join(name))?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_daemon_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataDir::open(folder.path()).unwrap();
        assert!(matches!(DataDir::open(folder.path()), Err(DataDirError::InUse(_))));
        drop(first);
        assert!(DataDir::open(folder.path()).is_ok());
    }

    #[test]
    fn the_mark_stays() {
        let folder = tempfile::tempdir().unwrap();
        let mark = DataDir::open(folder.path()).unwrap().mark().unwrap();
        assert_eq!(DataDir::open(folder.path()).unwrap().mark().unwrap(), mark);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(DataDir::open(other.path()).unwrap().mark().unwrap(), mark);
        fs::write(folder.path().join("MARK"), "short").unwrap();
        let refusal = DataDir::open(folder.path()).unwrap().mark().unwrap_err().to_string();
        assert!(refusal.contains("MARK"), "{refusal}");
    }

    #[test]
    fn another_version_and_other_peoples_folders_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("FORMAT"), "p2p-bridge data 2\n").unwrap();
        let refusal = DataDir::open(folder.path()).unwrap_err().to_string();
        assert!(refusal.contains("`p2p-bridge data 2`"), "{refusal}");
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join("thesis.txt"), "x").unwrap();
        assert!(matches!(DataDir::open(other.path()), Err(DataDirError::Foreign(_))));
    }
}
