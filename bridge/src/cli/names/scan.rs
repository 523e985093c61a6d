//! The files that a path on the command line stands for.

use std::{
    fs::{self, Metadata},
    io,
    path::{Path, PathBuf},
};

use super::super::client::CliError;

/// The most files that are listed below one folder, and how deep folders may lie in each other.
const MOST_FILES: usize = 1_000_000;
const DEEPEST: usize = 64;

/// A file, or all files below a folder.
#[derive(Debug)]
pub(in crate::cli) struct Scan {
    /// The path that was given.
    pub(in crate::cli) root: PathBuf,
    /// The files, in the order of their paths.
    pub(in crate::cli) files: Vec<Found>,
    /// What is there and cannot be taken, each with its path.
    pub(in crate::cli) problems: Vec<CliError>,
}

/// A regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Found {
    /// Where it is.
    pub(in crate::cli) path: PathBuf,
    /// The parts of its path below the folder; none when it was given itself.
    pub(in crate::cli) parts: Vec<String>,
    /// Its bytes.
    pub(in crate::cli) length: u64,
}

impl Scan {
    /// Looks at a path. A symbolic link is followed when it is the path itself, and not below it: what a folder holds is
    /// not to depend on what lies elsewhere.
    ///
    /// # Errors
    /// When there is nothing, or what is there is neither a file nor a folder.
    pub(in crate::cli) fn of(path: &Path) -> Result<Self, CliError> {
        let data = fs::metadata(path).map_err(|error| failed(path, &error))?;
        let mut scan = Self { root: path.to_owned(), files: Vec::new(), problems: Vec::new() };
        if data.is_dir() {
            scan.folder(path, &mut Vec::new());
        } else if data.is_file() {
            let length = data.len();
            scan.files.push(Found { path: path.to_owned(), parts: Vec::new(), length });
        } else {
            return Err(problem(path, "it is neither a file nor a folder"));
        }
        Ok(scan)
    }

    /// Whether all that is there can be taken.
    ///
    /// # Errors
    /// The first thing that cannot, and how many more there are.
    pub(in crate::cli) fn check(&self) -> Result<(), CliError> {
        let Some(first) = self.problems.first() else { return Ok(()) };
        Err(CliError::Argument(match self.problems.len() - 1 {
            0 => first.to_string(),
            more => format!("{first} (and {more} more)"),
        }))
    }

    /// Bytes of all files.
    pub(in crate::cli) fn length(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.length))
    }

    /// What the file or folder is called.
    ///
    /// # Errors
    /// When its name is not UTF-8, or it has none.
    pub(in crate::cli) fn title(&self) -> Result<String, CliError> {
        // `.` and `..` have names too, which have to be asked for.
        let real = match self.root.file_name() {
            Some(_) => self.root.clone(),
            None => fs::canonicalize(&self.root).map_err(|error| failed(&self.root, &error))?,
        };
        match real.file_name().map(|name| name.to_str()) {
            Some(Some(name)) => Ok(name.to_owned()),
            Some(None) => Err(problem(&self.root, NO_UTF8)),
            None => Err(problem(&self.root, "it has no name: give a title")),
        }
    }

    fn folder(&mut self, folder: &Path, above: &mut Vec<String>) {
        if above.len() >= DEEPEST {
            let what = format!("it lies more than {DEEPEST} folders deep");
            return self.problems.push(problem(folder, &what));
        }
        let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) => return self.problems.push(failed(folder, &error)),
        };
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            match (entry.file_name().into_string(), entry.metadata()) {
                (Err(_), _) => self.problems.push(problem(&path, NO_UTF8)),
                (_, Err(error)) => self.problems.push(failed(&path, &error)),
                (Ok(name), Ok(data)) => {
                    above.push(name);
                    self.entry(path, &data, above);
                    above.pop();
                }
            }
        }
    }

    fn entry(&mut self, path: PathBuf, data: &Metadata, above: &mut Vec<String>) {
        if data.is_dir() {
            return self.folder(&path, above);
        }
        let what = match () {
            () if data.is_symlink() => "it is a symbolic link, and they are not followed",
            () if !data.is_file() => "it is neither a file nor a folder",
            () if self.files.len() >= MOST_FILES => "it is behind the millionth file",
            () => {
                let found = Found { path, parts: above.clone(), length: data.len() };
                return self.files.push(found);
            }
        };
        // One such file would not come alone.
        if self.files.len() < MOST_FILES || self.problems.is_empty() {
            self.problems.push(problem(&path, what));
        }
    }
}

const NO_UTF8: &str = "its name is not UTF-8, and other systems could not show it";

fn problem(path: &Path, what: &str) -> CliError {
    CliError::File { path: path.to_owned(), problem: what.to_owned() }
}

fn failed(path: &Path, error: &io::Error) -> CliError {
    problem(path, &error.to_string())
}

#[cfg(test)]
mod tests {
    use std::{
        ffi::OsStr,
        os::unix::{ffi::OsStrExt as _, fs::symlink, net::UnixListener},
    };

    use super::*;

    #[test]
    fn a_folder_is_all_files_in_it_and_what_is_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("sub/deep")).unwrap();
        for path in ["b", "sub/deep/ü", "sub/a"] {
            fs::write(root.join(path), path).unwrap();
        }
        symlink("b", root.join("link")).unwrap();
        let _socket = UnixListener::bind(root.join("socket")).unwrap();
        fs::write(root.join(OsStr::from_bytes(b"\xff")), "").unwrap();
        let scan = Scan::of(&root).unwrap();
        let paths: Vec<_> = scan.files.iter().map(|file| file.parts.join("/")).collect();
        assert_eq!(paths, ["b", "sub/a", "sub/deep/ü"]);
        assert_eq!((scan.length(), scan.title().unwrap().as_str()), (1 + 5 + 11, "root"));
        let problems: Vec<_> = scan.problems.iter().map(ToString::to_string).collect();
        for (found, what) in problems.iter().zip(["symbolic link", "neither a file", "not UTF-8"]) {
            assert!(found.starts_with(&format!("{}/", root.display())), "{found}");
            assert!(found.contains(what), "{found}");
        }
        assert_eq!(problems.len(), 3);
    }

    #[test]
    fn a_path_that_was_given_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "12345").unwrap();
        symlink("file", dir.path().join("link")).unwrap();
        symlink("gone", dir.path().join("broken")).unwrap();
        let scan = Scan::of(&dir.path().join("link")).unwrap();
        assert_eq!((scan.files.len(), scan.length()), (1, 5));
        assert_eq!(scan.title().unwrap(), "link");
        assert!(scan.files[0].parts.is_empty());
        let error = Scan::of(&dir.path().join("broken")).unwrap_err().to_string();
        assert!(error.contains("broken: No such file"), "{error}");
        assert!(Scan::of(Path::new("/dev/null")).unwrap_err().to_string().contains("neither"));
        let here = Scan::of(&dir.path().join("..")).unwrap_or_else(|error| panic!("{error}"));
        assert!(here.title().is_ok());
    }
}
