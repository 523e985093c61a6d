//! Files, block by block.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::SystemTime,
};

use super::lane::Lane;

/// Bytes of a block; the last of a file is shorter.
pub(super) const BLOCK: usize = 1 << 20;

/// Bytes of a file that follow each other.
pub(super) struct Block {
    pub(super) file: Arc<Target>,
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) is_last: bool,
}

/// A file, and what is made of it.
pub(super) struct Target {
    pub(super) index: usize,
    pub(super) length: u64,
    pub(super) lanes: Vec<Mutex<Lane>>,
}

/// Reads files block by block.
pub(super) struct Reader<'a> {
    files: std::iter::Enumerate<std::slice::Iter<'a, PathBuf>>,
    open: Option<Open<'a>>,
}

struct Open<'a> {
    path: &'a Path,
    file: File,
    modified: Option<SystemTime>,
    target: Arc<Target>,
    offset: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(files: &'a [PathBuf]) -> Self {
        Self { files: files.iter().enumerate(), open: None }
    }

    /// The next block; a file of no bytes has an empty one. `None` behind the last file.
    pub(super) fn next_block(
        &mut self,
        mut buffer: Vec<u8>,
        target: impl Fn(usize, u64) -> Target,
    ) -> io::Result<Option<Block>> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                let Some((index, path)) = self.files.next() else { return Ok(None) };
                Open::new(path, |length| target(index, length)).map_err(|error| at(path, error))?
            }
        };
        open.fill(&mut buffer).map_err(|error| at(open.path, error))?;
        let (file, offset) = (Arc::clone(&open.target), open.offset);
        open.offset = offset.saturating_add(buffer.len() as u64);
        let is_last = open.offset >= file.length;
        if is_last {
            open.check_end().map_err(|error| at(open.path, error))?;
        } else {
            self.open = Some(open);
        }
        Ok(Some(Block { file, offset, bytes: buffer, is_last }))
    }
}

impl<'a> Open<'a> {
    fn new(path: &'a Path, target: impl Fn(u64) -> Target) -> io::Result<Self> {
        // Before it is opened: to open a pipe may last for ever.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let target = Arc::new(target(metadata.len()));
        Ok(Self { path, file, modified: metadata.modified().ok(), target, offset: 0 })
    }

    fn fill(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        let left = usize::try_from(self.target.length - self.offset).unwrap_or(BLOCK);
        buffer.resize(left.min(BLOCK), 0);
        self.file.read_exact(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => changed(),
            _ => error,
        })
    }

    /// Whether the file is still as it was when it was opened.
    fn check_end(&mut self) -> io::Result<()> {
        let metadata = self.file.metadata()?;
        let is_same = metadata.len() == self.target.length
            && metadata.modified().ok() == self.modified
            && self.file.read(&mut [0])? == 0;
        if is_same { Ok(()) } else { Err(changed()) }
    }
}

fn changed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it changed while it was read")
}

fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
