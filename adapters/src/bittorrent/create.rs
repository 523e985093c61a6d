//! Makes .torrent files of version 1 (BEP 3).

use std::{
    fs, io,
    io::Read,
    path::{Path, PathBuf},
};

use sha1::{Digest, Sha1};

use super::wire::bencode::{Encoder, encode_dict};

/// What goes into the `info` dictionary of a torrent of version 1.
#[derive(Debug, Clone, Copy)]
pub struct Info<'a> {
    /// The file's name, or the folder's.
    pub title: &'a str,
    /// Bytes of a piece.
    pub piece_length: u64,
    /// The files below the folder: the parts of the path, and the length. A lone file has no parts: its name is the
    /// title.
    pub files: &'a [(Vec<String>, u64)],
    /// SHA-1 of each piece, 20 bytes each.
    pub pieces: &'a [u8],
}

impl Info<'_> {
    /// The bencoded `info` dictionary: the info-hash is its SHA-1.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode_dict(|info| {
            info.bytes(b"name", self.title.as_bytes());
            info.uint(b"piece length", self.piece_length);
            info.bytes(b"pieces", self.pieces);
            match self.files {
                [(path, length)] if path.is_empty() => info.uint(b"length", *length),
                files => info.entry(b"files", |out| {
                    out.list(|out| {
                        files.iter().for_each(|(path, length)| file(out, path, *length))
                    });
                }),
            }
        })
    }
}

fn file(out: &mut Encoder, path: &[String], length: u64) {
    out.dict(|file| {
        file.uint(b"length", length);
        file.entry(b"path", |out| {
            out.list(|out| path.iter().for_each(|part| out.bytes(part.as_bytes())));
        });
    });
}

/// A .torrent file: an `info` dictionary, and trackers tier by tier (BEP 12).
#[must_use]
pub fn torrent(info: &[u8], trackers: &[Vec<String>]) -> Vec<u8> {
    encode_dict(|root| {
        root.entry(b"info", |out| out.raw(info));
        if let Some(first) = trackers.iter().flatten().next() {
            root.bytes(b"announce", first.as_bytes());
        }
        if trackers.iter().flatten().nth(1).is_some() {
            root.entry(b"announce-list", |out| {
                out.list(|out| {
                    for tier in trackers.iter().filter(|tier| !tier.is_empty()) {
                        out.list(|out| tier.iter().for_each(|url| out.bytes(url.as_bytes())));
                    }
                });
            });
        }
    })
}

/// Hashes pieces over bytes that are given run by run.
#[derive(Debug, Clone)]
pub struct PieceHasher {
    piece_length: u64,
    in_piece: u64,
    hasher: Sha1,
    pieces: Vec<u8>,
}

impl PieceHasher {
    /// Hashes pieces of so many bytes; of 1, when 0 is given.
    #[must_use]
    pub fn new(piece_length: u64) -> Self {
        let piece_length = piece_length.max(1);
        Self { piece_length, in_piece: 0, hasher: Sha1::new(), pieces: Vec::new() }
    }

    /// The next bytes.
    pub fn update(&mut self, mut bytes: &[u8]) {
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
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
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

/// Makes a .torrent of a file, or of a folder with all files below it, in the order of their paths; reads each once.
/// The title is the name of the file or folder, unless another is given.
///
/// # Errors
/// When something cannot be read, changes its length meanwhile, or has a name that is not UTF-8.
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
        found.push((Vec::new(), path.to_owned()));
    }
    let mut hasher = PieceHasher::new(piece_length);
    let mut files = Vec::new();
    for (parts, path) in found {
        files.push((parts, hash_file(&path, &mut hasher)?));
    }
    let pieces = hasher.finish();
    let info = Info { title, piece_length, files: &files, pieces: &pieces };
    Ok(torrent(&info.encode(), trackers))
}

fn bad(path: &Path, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {what}", path.display()))
}

fn walk(
    folder: &Path,
    above: &mut Vec<String>,
    found: &mut Vec<(Vec<String>, PathBuf)>,
) -> io::Result<()> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let name = entry.file_name().into_string().map_err(|_| bad(&path, "no name in UTF-8"))?;
        above.push(name);
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(&path, above, found)?;
        } else if kind.is_file() {
            found.push((above.clone(), path));
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::bittorrent::{describe::describe, metainfo::Metainfo};

    #[test]
    fn a_folder_becomes_a_torrent_that_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("many");
        fs::create_dir_all(root.join("sub/deep")).unwrap();
        for (path, size) in [("a.bin", 1000), ("sub/deep/c", 37), ("sub/b", 0), ("z", 1)] {
            fs::write(root.join(path), vec![7; size]).unwrap();
        }
        let tiers = [
            vec!["http://one".to_owned(), "udp://two:1".to_owned()],
            vec!["http://three".to_owned()],
        ];
        let source = create_v1(&root, None, 100, &tiers).unwrap();
        let metainfo = Metainfo::parse(&Bytes::from(source.clone())).unwrap();
        let files: Vec<_> = metainfo.files.iter().map(|f| (f.path.as_str(), f.length)).collect();
        assert_eq!(files, [("a.bin", 1000), ("sub/b", 0), ("sub/deep/c", 37), ("z", 1)]);
        assert_eq!((metainfo.title.as_str(), metainfo.trackers), ("many", tiers.to_vec()));
        let description = describe(&source).unwrap();
        assert!(description.integrity.check(10, &[Bytes::from(vec![7; 38])]));
    }

    #[test]
    fn a_file_becomes_the_torrent_that_libtorrent_makes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.bin");
        let bytes: Vec<u8> =
            (0..100_000u64).map(|n| ((n * 31 + n / 251 + 1) % 256) as u8).collect();
        fs::write(&path, bytes).unwrap();
        let source = Bytes::from(create_v1(&path, None, 32_768, &[]).unwrap());
        let ours = Metainfo::parse(&source).unwrap();
        let theirs = include_bytes!("../../../tests/fixtures/bittorrent/v1-single.torrent");
        let theirs = Metainfo::parse(&Bytes::from_static(theirs)).unwrap();
        assert_eq!((ours.pieces, ours.files), (theirs.pieces, theirs.files));
        assert!(create_v1(&dir.path().join("none"), None, 1, &[]).is_err());
        let renamed = create_v1(&path, Some("b"), 32_768, &[]).unwrap();
        assert_eq!(Metainfo::parse(&Bytes::from(renamed)).unwrap().title, "b");
    }
}
