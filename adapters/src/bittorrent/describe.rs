//! A .torrent file in the words of the contract: a [`Description`], and how its chunks are checked.

use std::sync::Arc;

use bytes::Bytes;
use p2pbridge_proto::{Name, Scheme};
use sha1::Sha1;
use sha2::Digest;

use super::{
    merkle,
    metainfo::{File, Metainfo},
};
use crate::{DescribeError, Description, FileSpan, Integrity};

/// Reads a .torrent file. `Description::native` is its [`Metainfo`].
///
/// # Errors
/// When the bytes are no .torrent file that the bridge takes; the text says why.
pub fn describe(source: &[u8]) -> Result<Description, DescribeError> {
    let source = Bytes::copy_from_slice(source);
    let metainfo = Metainfo::parse(&source).map_err(|error| DescribeError(error.to_string()))?;
    let metainfo = Arc::new(metainfo);
    Ok(Description {
        names: metainfo.names(),
        title: metainfo.title.clone(),
        length: metainfo.length,
        unit: metainfo.piece_length,
        files: metainfo.files.iter().map(span).collect(),
        private: metainfo.private,
        trackers: metainfo.trackers.clone(),
        integrity: Arc::new(Pieces(metainfo.clone())),
        source,
        native: metainfo,
    })
}

fn span(file: &File) -> FileSpan {
    let root = file.tree.as_ref().map(|tree| tree.root);
    FileSpan {
        path: file.path.clone(),
        offset: file.offset,
        length: file.length,
        digest: root.and_then(|root| Name::with_32(Scheme::PiecesRoot, root)),
    }
}

/// Checks pieces: by SHA-1 in version 1, by the file's hash tree in version 2, and by both in a hybrid, since its
/// peers may use either and a hash that can be forged alone must not vouch for the other.
struct Pieces(Arc<Metainfo>);

impl Integrity for Pieces {
    fn check(&self, chunk: u32, bytes: &[Bytes]) -> bool {
        let size = self.0.piece_size(chunk);
        let given = bytes.iter().fold(0u64, |sum, run| sum.saturating_add(run.len() as u64));
        let v1 = self.0.btih.is_none() || self.check_v1(chunk, bytes);
        size > 0 && given == size && v1 && (self.0.btmh.is_none() || self.check_v2(chunk, bytes))
    }
}

impl Pieces {
    fn check_v1(&self, chunk: u32, bytes: &[Bytes]) -> bool {
        let expected = self.0.pieces.chunks_exact(20).nth(chunk as usize);
        let mut hasher = Sha1::new();
        bytes.iter().for_each(|run| hasher.update(run));
        expected == Some(hasher.finalize().as_slice())
    }

    /// A piece has bytes of one file only; what follows the file's end is padding, and is not looked at.
    fn check_v2(&self, chunk: u32, bytes: &[Bytes]) -> bool {
        self.file_piece(chunk).is_none_or(|(length, expected, leaves_in_piece)| {
            let Some(leaves) = merkle::leaves(bytes, length) else { return false };
            let root = match leaves_in_piece {
                Some(full) => merkle::piece_root(leaves, full),
                None => merkle::root(leaves, [0; 32]),
            };
            root == expected
        })
    }

    /// Of the file in a piece: its bytes there, their hash, and the leaves in a piece if the file has more than one.
    /// Nothing when the piece is all padding.
    fn file_piece(&self, chunk: u32) -> Option<(u64, merkle::Hash, Option<u64>)> {
        let start = u64::from(chunk).checked_mul(self.0.piece_length)?;
        let files = &self.0.files;
        let behind = files.partition_point(|file| file.offset <= start);
        let file = files.get(..behind)?.iter().rev().find(|file| file.length > 0)?;
        let tree = file.tree.as_ref()?;
        let within = start.checked_sub(file.offset)?;
        let length = file.length.checked_sub(within)?.min(self.0.piece_length);
        if length == 0 {
            return None;
        }
        if tree.layer.is_empty() {
            return Some((length, tree.root, None));
        }
        let index = usize::try_from(within / self.0.piece_length).ok()?;
        let expected = tree.layer.as_chunks().0.get(index)?;
        Some((length, *expected, Some(self.0.piece_length / merkle::LEAF)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &[u8] = include_bytes!("../../../tests/fixtures/bittorrent/v1.torrent");
    const V2: &[u8] = include_bytes!("../../../tests/fixtures/bittorrent/v2.torrent");
    const HYBRID: &[u8] = include_bytes!("../../../tests/fixtures/bittorrent/hybrid.torrent");

    /// The files of the fixtures, as `make.py` there writes them: byte `n` of file `seed` is `n * 31 + n / 251 + seed`.
    fn content(path: &str) -> Vec<u8> {
        let (seed, length) = match path {
            "a.bin" => (1u64, 100_000u64),
            "empty" => (2, 0),
            "sub/b.bin" => (3, 16_384),
            "sub/deep/c.bin" => (4, 70_001),
            "z.txt" => (5, 11),
            other => panic!("{other}"),
        };
        (0..length).map(|n| ((n * 31 + n / 251 + seed) % 256) as u8).collect()
    }

    fn layout(description: &Description) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(description.length).unwrap()];
        for file in &description.files {
            let start = usize::try_from(file.offset).unwrap();
            let content = content(&file.path);
            assert_eq!(content.len() as u64, file.length);
            bytes[start..start + content.len()].copy_from_slice(&content);
        }
        bytes
    }

    #[test]
    fn good_pieces_pass_and_altered_ones_do_not() {
        for source in [V1, V2, HYBRID] {
            let description = describe(source).unwrap();
            assert_eq!(description.files.len(), 5);
            let whole = layout(&description);
            let unit = usize::try_from(description.unit).unwrap();
            for (piece, bytes) in (0u32..).zip(whole.chunks(unit)) {
                let runs: Vec<_> = bytes.chunks(10_000).map(Bytes::copy_from_slice).collect();
                assert!(description.integrity.check(piece, &runs), "piece {piece}");
                assert!(!description.integrity.check(piece, &runs[1..]));
                assert!(!description.integrity.check(piece + 1, &runs));
                let mut altered = bytes.to_vec();
                altered[5] ^= 1;
                assert!(!description.integrity.check(piece, &[Bytes::from(altered)]));
            }
            assert!(!description.integrity.check(u32::MAX, &[]));
        }
    }

    #[test]
    fn files_of_version_2_have_names_of_their_own() {
        let digests = |source| {
            let files = describe(source).unwrap().files;
            files.into_iter().map(|file| (file.path, file.digest)).collect::<Vec<_>>()
        };
        assert_eq!(digests(V2), digests(HYBRID));
        assert_eq!(digests(V2).iter().filter(|(_, digest)| digest.is_some()).count(), 4);
        assert!(digests(V1).iter().all(|(_, digest)| digest.is_none()));
    }
}
