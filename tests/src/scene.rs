//! The directory of one scenario.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// Bytes shown of the end of each log when a test fails.
const TAIL: usize = 20_000;

/// A directory of its own for one scenario. Dropped in a panic, or with `SHOW_LOGS` set, it prints the end of every log in it.
#[derive(Debug)]
pub struct Scene {
    dir: TempDir,
    logs: AtomicU32,
}

impl Scene {
    /// Makes the directory. Other users may read it: opentracker runs as one.
    #[must_use]
    pub fn new() -> Self {
        let dir =
            tempfile::Builder::new().prefix("p2pbridge-").tempdir().expect("a temporary directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        fs::create_dir(dir.path().join("logs")).expect("logs");
        Self { dir, logs: AtomicU32::new(0) }
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A directory below it, made when it is not there.
    #[must_use]
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(&path).expect("a directory");
        path
    }

    /// A path below it; nothing is made.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A new log for the program called `label`.
    #[must_use]
    pub fn log(&self, label: &str) -> PathBuf {
        let number = self.logs.fetch_add(1, Ordering::Relaxed);
        self.dir.path().join("logs").join(format!("{number:02}-{label}.log"))
    }

    fn show_logs(&self) {
        let Ok(entries) = fs::read_dir(self.dir.path().join("logs")) else { return };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let bytes = fs::read(&path).unwrap_or_default();
            let tail = &bytes[bytes.len().saturating_sub(TAIL)..];
            eprintln!(
                "---- {} ({} bytes)\n{}",
                path.display(),
                bytes.len(),
                String::from_utf8_lossy(tail)
            );
        }
    }
}

impl Default for Scene {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() || std::env::var_os("SHOW_LOGS").is_some() {
            self.show_logs();
        }
    }
}
