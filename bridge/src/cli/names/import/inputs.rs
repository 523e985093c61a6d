//! The files that are imported: which they are, and what is in them.

use std::{
    fs::{self, File},
    io::{self, Cursor, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use p2pbridge_nametable::exchange::Format;

use super::super::{
    super::{client::CliError, progress::Progress},
    scan::Scan,
};

/// What is read of a file to tell its format.
const HEAD: u64 = 4 << 10;

/// One file, or the standard input.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Input {
    /// What it is called in errors.
    pub(super) label: String,
    /// Its bytes, where they are known.
    pub(super) length: Option<u64>,
    /// `None` for the standard input.
    path: Option<PathBuf>,
}

/// What an input turned out to be.
pub(super) enum Kind {
    /// A list, from its first byte.
    List(Format, Box<dyn Read + Send>),
    /// A description, to be read whole.
    Description(PathBuf),
}

/// What paths stand for: a folder for the .torrent files below it.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    /// What can be opened.
    pub(super) found: Vec<Input>,
    /// What cannot, and why.
    pub(super) problems: Vec<(String, String)>,
}

impl Inputs {
    /// Looks at the paths.
    ///
    /// # Errors
    /// When there is no such file, or a folder has none.
    pub(super) fn of(paths: &[String]) -> Result<Self, CliError> {
        let mut inputs = Self::default();
        for text in paths {
            if text == "-" {
                inputs.found.push(Input { label: "-".into(), length: None, path: None });
                continue;
            }
            let path = Path::new(text);
            let data = fs::metadata(path).map_err(|error| CliError::File {
                path: path.into(),
                problem: error.to_string(),
            })?;
            if data.is_dir() {
                inputs.below(path)?;
            } else {
                let length = data.is_file().then_some(data.len());
                inputs.found.push(Input { label: text.clone(), length, path: Some(path.into()) });
            }
        }
        Ok(inputs)
    }

    /// The bytes of all of them, if they are known of each.
    pub(super) fn length(&self) -> Option<u64> {
        self.found.iter().try_fold(0u64, |sum, input| Some(sum.saturating_add(input.length?)))
    }

    /// The .torrent files below a folder, in the order of their paths. Links are not followed.
    fn below(&mut self, folder: &Path) -> Result<(), CliError> {
        let scan = Scan::of(folder)?;
        for problem in scan.problems {
            match problem {
                // What else lies there is nobody's business here.
                CliError::File { path, problem } if is_torrent(&path) || path.is_dir() => {
                    self.problems.push((path.display().to_string(), problem));
                }
                CliError::File { .. } => {}
                other => return Err(other),
            }
        }
        let before = (self.found.len(), self.problems.len());
        let torrents = scan.files.into_iter().filter(|file| is_torrent(&file.path));
        self.found.extend(torrents.map(|file| Input {
            label: file.path.display().to_string(),
            length: Some(file.length),
            path: Some(file.path),
        }));
        if before == (self.found.len(), 0) {
            let problem = "no .torrent file is in this folder".to_owned();
            return Err(CliError::File { path: folder.into(), problem });
        }
        Ok(())
    }
}

fn is_torrent(path: &Path) -> bool {
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case("torrent"))
}

impl Input {
    /// Opens it, and tells by its first bytes what it is. What is read is shown.
    pub(super) fn open(
        &self,
        format: Option<Format>,
        progress: &Arc<Progress>,
    ) -> Result<Kind, String> {
        let mut input: Box<dyn Read + Send> = match &self.path {
            Some(path) if is_torrent(path) => return Ok(Kind::Description(path.clone())),
            Some(path) => Box::new(File::open(path).map_err(|error| error.to_string())?),
            None => Box::new(io::stdin()),
        };
        let (format, input) = match format {
            Some(format) => (format, input),
            None => {
                let mut head = Vec::new();
                let read = input.by_ref().take(HEAD).read_to_end(&mut head);
                read.map_err(|error| error.to_string())?;
                let format = Format::detect(&head, &self.label).ok_or(
                    "it cannot be told what format it has: say --format, or give a .torrent file",
                )?;
                let whole: Box<dyn Read + Send> = Box::new(Cursor::new(head).chain(input));
                (format, whole)
            }
        };
        let input = Shown { input, progress: progress.clone() };
        Ok(Kind::List(format, Box::new(input)))
    }
}

/// Shows how much was read.
struct Shown<R> {
    input: R,
    progress: Arc<Progress>,
}

impl<R: Read> Read for Shown<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(into)?;
        self.progress.advance(read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_folder_stands_for_the_torrents_below_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("sub")).unwrap();
        for path in ["b.torrent", "sub/a.TORRENT", "list.csv"] {
            fs::write(dir.path().join(path), path).unwrap();
        }
        let text = |path: &str| dir.path().join(path).display().to_string();
        let inputs = Inputs::of(&[text(""), text("list.csv"), "-".into()]).unwrap();
        let labels: Vec<_> = inputs.found.iter().map(|input| input.label.clone()).collect();
        let lists = [text("list.csv"), "-".into()];
        assert_eq!(labels[2..], lists);
        assert_eq!(labels[..2], [text("b.torrent"), text("sub/a.TORRENT")]);
        assert_eq!(inputs.length(), None);
        assert_eq!(Inputs::of(&[text(""), text("list.csv")]).unwrap().length(), Some(9 + 13 + 8));
        symlink("b.torrent", dir.path().join("link.torrent")).unwrap();
        symlink("list.csv", dir.path().join("other")).unwrap();
        let problems = Inputs::of(&[text("")]).unwrap().problems;
        assert_eq!((problems.len(), &problems[0].0), (1, &text("link.torrent")));
        assert!(
            Inputs::of(&[text("gone")]).unwrap_err().to_string().contains("gone: No such file")
        );
        fs::remove_file(dir.path().join("sub/a.TORRENT")).unwrap();
        assert!(Inputs::of(&[text("sub")]).unwrap_err().to_string().contains("no .torrent file"));
    }

    #[test]
    fn what_is_in_a_file_is_told_by_its_beginning_and_nothing_of_it_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("list");
        let progress = Arc::new(Progress::of_unknown("bytes"));
        let open = |text: &str, format| {
            fs::write(&path, text).unwrap();
            Inputs::of(&[path.display().to_string()]).unwrap().found[0].open(format, &progress)
        };
        let text = format!("names\n{}", "x".repeat(10_000));
        let Ok(Kind::List(format, mut input)) = open(&text, None) else { panic!("no list") };
        let mut read = String::new();
        input.read_to_string(&mut read).unwrap();
        assert_eq!((format, read), (Format::Csv, text));
        assert!(open("whatever", None).err().unwrap().contains("say --format"));
        assert!(matches!(
            open("whatever", Some(Format::Magnets)),
            Ok(Kind::List(Format::Magnets, _))
        ));
    }
}
