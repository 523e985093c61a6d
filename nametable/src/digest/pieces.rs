//! What a torrent says of its files: pieces of v1 (BEP 3), piece layers of v2 (BEP 52).

use std::io;

use sha1::{Digest, Sha1};

use super::{forest::Forest, layer::Layer, layer::Node, merkle};

/// A torrent whose hashes are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TorrentWanted {
    /// Bytes of a piece. With `v2` a power of two, 16 KiB at least (BEP 52).
    pub piece_length: u64,
    /// Whether the v1 pieces over all files are wanted.
    pub v1: bool,
    /// Whether each file's `pieces root` and piece layer are wanted.
    pub v2: bool,
    /// Whether each file ends at a piece's border in v1: zeros follow one that does not, the last too (BEP 47, as
    /// libtorrent does it since 2.0).
    pub align: bool,
}

impl TorrentWanted {
    pub(super) fn check(self) -> io::Result<()> {
        let length = self.piece_length;
        let smallest = merkle::Leaves16k.leaf_len();
        let problem = if length == 0 {
            "pieces of no bytes cannot be".into()
        } else if self.v2 && !(length.is_power_of_two() && length >= smallest) {
            format!(
                "a v2 torrent's piece length is a power of two, {smallest} at least, not {length}"
            )
        } else {
            return Ok(());
        };
        Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
    }

    /// The level of the tree over 16 KiB whose nodes are pieces.
    pub(super) fn level(self) -> u8 {
        (self.piece_length / merkle::Leaves16k.leaf_len()).max(1).ilog2() as u8
    }
}

/// What a v2 torrent says of a file that has bytes (BEP 52).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePieces {
    /// `pieces root`.
    pub root: [u8; 32],
    /// The hash of each piece; none for a file that is not longer than a piece.
    pub layer: Vec<[u8; 32]>,
}

impl FilePieces {
    pub(super) fn of(forest: &Forest, torrent: TorrentWanted) -> Option<Self> {
        let root: Node = merkle::pieces(forest, None).pop()?;
        let layer = if forest.length() > torrent.piece_length {
            merkle::pieces(forest, Some(torrent.level()))
        } else {
            Vec::new()
        };
        Some(Self { root, layer })
    }
}

/// The pieces of a v1 torrent, over the bytes of all files in order.
pub(super) struct V1Pieces {
    piece_length: u64,
    align: bool,
    hasher: Sha1,
    /// Bytes of the piece that is begun.
    begun: u64,
    pieces: Vec<u8>,
}

impl V1Pieces {
    pub(super) fn new(torrent: TorrentWanted) -> Self {
        let (piece_length, align) = (torrent.piece_length, torrent.align);
        Self { piece_length, align, hasher: Sha1::new(), begun: 0, pieces: Vec::new() }
    }

    /// Takes the next bytes of a file, which `offset` says whether it begins.
    pub(super) fn feed(&mut self, offset: u64, mut bytes: &[u8]) {
        if self.align && offset == 0 && self.begun > 0 && !bytes.is_empty() {
            self.pad();
        }
        while !bytes.is_empty() {
            let lacks = usize::try_from(self.piece_length - self.begun).unwrap_or(usize::MAX);
            let (head, tail) = bytes.split_at(lacks.min(bytes.len()));
            self.take(head);
            bytes = tail;
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.begun += bytes.len() as u64;
        if self.begun == self.piece_length {
            self.end_piece();
        }
    }

    fn pad(&mut self) {
        let zeros = [0; 4096];
        while self.begun > 0 {
            let lacks = (self.piece_length - self.begun).min(zeros.len() as u64);
            self.take(zeros.get(..lacks as usize).unwrap_or(&zeros));
        }
    }

    fn end_piece(&mut self) {
        self.pieces.extend_from_slice(&self.hasher.finalize_reset());
        self.begun = 0;
    }

    /// 20 bytes for each piece.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.align {
            self.pad();
        } else if self.begun > 0 {
            self.end_piece();
        }
        self.pieces
    }
}
