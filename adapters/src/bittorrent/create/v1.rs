//! Torrents of version 1 straight from a disk, by plain SHA-1.

use std::{fs, io, io::Read, path::Path};

use sha1::{Digest, Sha1};

use super::{CreateError, Hashes, Plan, Surroundings, Version};

/// Hashes pieces over bytes that are given run by run.
#[derive(Debug, Clone)]
pub(super) struct PieceHasher {
    piece_length: u64,
    in_piece: u64,
    hasher: Sha1,
    pieces: Vec<u8>,
}

impl PieceHasher {
    /// Hashes pieces of so many bytes; of 1, when 0 is given.
    pub(super) fn new(piece_length: u64) -> Self {
        let piece_length = piece_length.max(1);
        Self { piece_length, in_piece: 0, hasher: Sha1::new(), pieces: Vec::new() }
    }

    /// The next bytes.
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = usize::try_from(self.piece_length - self.in_piece).unwrap_or(usize::MAX);
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            self.hasher.update(now);
            self.in_piece += now.len() as u64;
            if self.in_piece == self.piece_length {
                self.close();
            }
            bytes = rest;
        }
    }

    /// The hashes of all pieces, 20 bytes each.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.in_piece > 0 {
            self.close();
        }
        self.pieces
    }

    fn close(&mut self) {
        self.pieces.extend_from_slice(&self.hasher.finalize_reset());
        self.in_piece = 0;
    }
}

/// Makes a .torrent of one file whose bytes are in memory.
///
/// # Errors
/// When it has no bytes, or readers would refuse its title or piece length.
pub fn of_bytes(
    bytes: &[u8],
    title: &str,
    piece_length: u64,
    trackers: &[Vec<String>],
) -> Result<Vec<u8>, CreateError> {
    let files = vec![(Vec::new(), bytes.len() as u64)];
    let plan = Plan::new(Version::V1, title, piece_length, files)?;
    let mut hasher = PieceHasher::new(piece_length);
    hasher.update(bytes);
    around(&plan, hasher, trackers)
}

/// Makes a .torrent of a file, or of a folder with all files below it, in the order of their paths; reads each once.
/// The title is the name of the file or folder, unless another is given.
///
/// # Errors
/// When something cannot be read, changes its length meanwhile, or has a name that no torrent can hold.
pub fn create_v1(
    path: &Path,
    title: Option<&str>,
    piece_length: u64,
    trackers: &[Vec<String>],
) -> io::Result<Vec<u8>> {
    let own_title = path.file_name().and_then(|name| name.to_str());
    let title = title.or(own_title).ok_or_else(|| bad(path, "it has no name in UTF-8"))?;
    let mut found = Vec::new();
    if path.is_dir() {
        walk(path, &mut Vec::new(), &mut found)?;
    } else {
        found.push((Vec::new(), fs::metadata(path)?.len()));
    }
    let plan = Plan::new(Version::V1, title, piece_length, found).map_err(io::Error::other)?;
    let mut hasher = PieceHasher::new(piece_length);
    for file in plan.files() {
        let path = file.path.iter().fold(path.to_owned(), |path, part| path.join(part));
        if hash_file(&path, &mut hasher)? != file.length {
            return Err(bad(&path, "its length changed while it was read"));
        }
    }
    around(&plan, hasher, trackers).map_err(io::Error::other)
}

fn around(
    plan: &Plan,
    hasher: PieceHasher,
    trackers: &[Vec<String>],
) -> Result<Vec<u8>, CreateError> {
    let pieces = hasher.finish();
    let around = Surroundings { trackers: trackers.to_vec(), ..Surroundings::default() };
    plan.torrent(&Hashes { pieces: &pieces, trees: &[] }, &around)
}

fn bad(path: &Path, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {what}", path.display()))
}

fn walk(
    folder: &Path,
    above: &mut Vec<String>,
    found: &mut Vec<(Vec<String>, u64)>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name().into_string().map_err(|_| bad(&path, "no name in UTF-8"))?;
        above.push(name);
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(&path, above, found)?;
        } else if kind.is_file() {
            found.push((above.clone(), entry.metadata()?.len()));
        }
        above.pop();
    }
    Ok(())
}

fn hash_file(path: &Path, hasher: &mut PieceHasher) -> io::Result<u64> {
    let mut file = fs::File::open(path)?;
    let mut buffer = vec![0; 1 << 18];
    let mut length = 0u64;
    loop {
        let count = file.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
        length += bytes.len() as u64;
    }
    Ok(length)
}
