//! Where an export goes.

use std::{
    fs::{self, File},
    io::{self, IsTerminal as _, Write},
    path::{Path, PathBuf},
};

use super::client::CliError;

/// The standard output, or a file that is there only when it is whole.
#[derive(Debug)]
pub(super) enum Output {
    /// The standard output.
    Stdout(io::Stdout),
    /// A file.
    File(Part),
}

/// A file that is written beside its place.
#[derive(Debug)]
pub(super) struct Part {
    file: File,
    part: PathBuf,
    path: PathBuf,
}

impl Output {
    /// A file at this path, or else the standard output.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, CliError> {
        let Some(path) = path else { return Ok(Self::Stdout(io::stdout())) };
        let mut part = path.as_os_str().to_owned();
        part.push(".part");
        let part = PathBuf::from(part);
        let file = File::create(&part).map_err(|error| failed(path, &error))?;
        Ok(Self::File(Part { file, part, path: path.to_owned() }))
    }

    /// Whether people see what is written.
    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::Stdout(out) if out.is_terminal())
    }

    /// It is whole: the file comes to its place.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(super) fn keep(self) -> Result<(), CliError> {
        match &self {
            Self::Stdout(_) => Ok(()),
            Self::File(Part { file, part, path }) => file
                .sync_all()
                .and_then(|()| fs::rename(part, path))
                .map_err(|error| failed(path, &error)),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::File(part) => part.file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File(part) => part.file.flush(),
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // When it was kept, there is none; and nobody could do more about it.
        let _ = fs::remove_file(&self.part);
    }
}

fn failed(path: &Path, error: &io::Error) -> CliError {
    CliError::File { path: path.into(), problem: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_there_only_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let mut out = Output::open(Some(&path)).unwrap();
        out.write_all(b"half").unwrap();
        drop(out);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let mut out = Output::open(Some(&path)).unwrap();
        out.write_all(b"whole").unwrap();
        assert!(!path.exists() && !out.is_terminal());
        out.keep().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let error = Output::open(Some(&dir.path().join("no/x"))).unwrap_err().to_string();
        assert!(error.contains("no/x: No such file"), "{error}");
    }
}
