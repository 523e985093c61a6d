//! What torrents say of files.

use ::sha1::Sha1;
use sha2::{Digest, Sha256};

use super::*;

fn hash(
    contents: &[Vec<u8>],
    torrent: TorrentWanted,
    rules: Rules,
) -> (Vec<Digests>, Option<Vec<u8>>) {
    let files: Vec<_> = contents.iter().map(|bytes| file_of(bytes)).collect();
    let paths: Vec<_> = files.iter().map(path_of).collect();
    let wanted = Wanted { rules, torrent: Some(torrent), threads: 3 };
    hash_files(&paths, &wanted, &|_| ()).unwrap()
}

fn contents() -> Vec<Vec<u8>> {
    let lengths = [5, 0, 40_000, 65_536, 3_000_000, 0, 16_384, 1_048_577, 1, 0];
    (0..).zip(lengths).map(|(seed, length)| bytes(length, seed)).collect()
}

fn pieces(stream: &[u8], length: usize) -> Vec<u8> {
    stream.chunks(length).flat_map(Sha1::digest).collect()
}

#[test]
fn v1_pieces_go_over_all_files() {
    for piece_length in [16_384, 65_536, 1 << 20, 4 << 20, 100_001] {
        let torrent = TorrentWanted { piece_length, v1: true, v2: false, align: false };
        let (digests, v1) = hash(&contents(), torrent, Rules::none());
        assert_eq!(v1.unwrap(), pieces(&contents().concat(), piece_length as usize));
        assert!(digests.iter().all(|digests| digests.names.is_empty() && digests.pieces.is_none()));
    }
}

#[test]
fn padding_follows_files_that_end_within_a_piece() {
    for piece_length in [16_384u64, 65_536, 2 << 20] {
        let torrent = TorrentWanted { piece_length, v1: true, v2: true, align: true };
        let mut stream = Vec::new();
        for bytes in contents() {
            stream.extend(bytes);
            stream.resize(stream.len().next_multiple_of(piece_length as usize), 0);
        }
        let (_, v1) = hash(&contents(), torrent, Rules::all());
        assert_eq!(v1.unwrap(), pieces(&stream, piece_length as usize));
    }
}

#[test]
fn v2_files_have_their_pieces() {
    for piece_length in [16_384u64, 65_536, 1 << 20] {
        let torrent = TorrentWanted { piece_length, v1: false, v2: true, align: false };
        let rules = Rules::parse("ppspp-16k").unwrap();
        let (digests, v1) = hash(&contents(), torrent, rules);
        assert_eq!(v1, None);
        for (bytes, digests) in contents().iter().zip(digests) {
            let (root, layer) = layer(bytes, piece_length as usize);
            let expected = (!bytes.is_empty()).then_some(FilePieces { root, layer });
            assert_eq!(digests.pieces, expected, "{} bytes by {piece_length}", bytes.len());
            let plain = of_file(bytes, 1);
            let name = plain.of_scheme(Scheme::PiecesRoot);
            assert_eq!(
                name,
                digests
                    .pieces
                    .map(|pieces| Name::with_32(Scheme::PiecesRoot, pieces.root).unwrap())
            );
            assert_eq!(
                plain.of_scheme(Scheme::Ppspp16k),
                digests.names.first().map(|name| name.name)
            );
        }
    }
}

/// BEP 52, once more in the plainest form.
fn layer(bytes: &[u8], piece_length: usize) -> ([u8; 32], Vec<[u8; 32]>) {
    let reduce = |mut row: Vec<[u8; 32]>, width: usize| {
        while row.len() > width {
            row = row.chunks(2).map(|pair| Sha256::digest(pair.concat()).into()).collect();
        }
        row
    };
    let mut row: Vec<[u8; 32]> =
        bytes.chunks(16_384).map(|leaf| Sha256::digest(leaf).into()).collect();
    row.resize(row.len().next_power_of_two(), [0; 32]);
    let root = reduce(row.clone(), 1).first().copied().unwrap_or_default();
    if bytes.len() <= piece_length {
        return (root, Vec::new());
    }
    let width = row.len() / (piece_length / 16_384);
    let mut layer = reduce(row, width);
    layer.truncate(bytes.len().div_ceil(piece_length));
    (root, layer)
}

#[test]
fn pieces_that_cannot_be_are_refused() {
    let wanted = |piece_length, v2| Wanted {
        rules: Rules::none(),
        torrent: Some(TorrentWanted { piece_length, v1: true, v2, align: false }),
        threads: 0,
    };
    let refused = |wanted: &Wanted| hash_files(&[], wanted, &|_| ()).unwrap_err().to_string();
    assert_eq!(refused(&wanted(0, false)), "pieces of no bytes cannot be");
    for length in [8192, 16_385, 3 << 14] {
        let error = refused(&wanted(length, true));
        assert!(error.starts_with("a v2 torrent's piece length is a power of two"), "{error}");
    }
    assert_eq!(hash_files(&[], &wanted(5, false), &|_| ()).unwrap(), (vec![], Some(vec![])));
}

#[test]
fn progress_adds_up_to_all_bytes() {
    let sum = std::sync::atomic::AtomicU64::new(0);
    let files: Vec<_> = contents().iter().map(|bytes| file_of(bytes)).collect();
    let paths: Vec<_> = files.iter().map(path_of).collect();
    let wanted = Wanted { rules: Rules::all(), torrent: None, threads: 0 };
    let count = |more| {
        sum.fetch_add(more, std::sync::atomic::Ordering::Relaxed);
    };
    let (digests, _) = hash_files(&paths, &wanted, &count).unwrap();
    let expected: Vec<_> = contents().iter().map(|bytes| of_file(bytes, 1)).collect();
    assert_eq!(digests, expected);
    assert_eq!(sum.into_inner(), contents().concat().len() as u64);
}
