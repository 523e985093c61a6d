//! The hash trees of BEP 52: SHA-256 over leaves of 16 KiB.

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// Bytes of a leaf; a file's last leaf is shorter.
pub const LEAF: u64 = 16 * 1024;

/// A SHA-256 digest.
pub type Hash = [u8; 32];

/// The root over a row of hashes, filled up with `padding` to the next power of two. The root of nothing is `padding`.
#[must_use]
pub fn root(mut row: Vec<Hash>, mut padding: Hash) -> Hash {
    while row.len() > 1 {
        row = row
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => parent(left, right),
                rest => parent(rest.first().unwrap_or(&padding), &padding),
            })
            .collect();
        padding = parent(&padding, &padding);
    }
    row.first().copied().unwrap_or(padding)
}

/// The root over so many missing leaves; `leaves` is a power of two.
#[must_use]
pub fn padding(leaves: u64) -> Hash {
    (0..leaves.trailing_zeros()).fold([0; 32], |hash, _| parent(&hash, &hash))
}

/// The hashes of the leaves of the first `length` bytes of consecutive runs; `None` when the runs are shorter.
#[must_use]
pub fn leaves(runs: &[Bytes], length: u64) -> Option<Vec<Hash>> {
    let mut out = Vec::new();
    let (mut hasher, mut in_leaf, mut left) = (Sha256::new(), 0u64, length);
    for run in runs {
        let mut run: &[u8] = run;
        while left > 0 && !run.is_empty() {
            let room = usize::try_from(left.min(LEAF - in_leaf)).unwrap_or(usize::MAX);
            let (now, rest) = run.split_at(room.min(run.len()));
            hasher.update(now);
            run = rest;
            in_leaf += now.len() as u64;
            left -= now.len() as u64;
            if in_leaf == LEAF || left == 0 {
                out.push(hasher.finalize_reset().into());
                in_leaf = 0;
            }
        }
    }
    (left == 0).then_some(out)
}

/// The root of a piece: filled up with missing leaves to `leaves_in_piece`, a power of two.
#[must_use]
pub fn piece_root(mut leaves: Vec<Hash>, leaves_in_piece: u64) -> Hash {
    let full = usize::try_from(leaves_in_piece).unwrap_or(usize::MAX).min(1 << 20);
    leaves.resize(full.max(leaves.len()), [0; 32]);
    root(leaves, [0; 32])
}

fn parent(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update(left).chain_update(right).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_one_leaf_is_its_own_root() {
        let bytes = [Bytes::from_static(b"hello "), Bytes::from_static(b"world")];
        let hashes = leaves(&bytes, 11).unwrap();
        assert_eq!(root(hashes, [0; 32]), <Hash>::from(Sha256::digest(b"hello world")));
        assert_eq!(leaves(&bytes, 12), None);
    }

    #[test]
    fn missing_leaves_are_zero_hashes() {
        let (a, b, c) = ([1; 32], [2; 32], [3; 32]);
        let expected = parent(&parent(&a, &b), &parent(&c, &[0; 32]));
        assert_eq!(root(vec![a, b, c], [0; 32]), expected);
        assert_eq!(piece_root(vec![a, b, c], 4), expected);
        assert_eq!(piece_root(vec![a, b, c], 8), parent(&expected, &padding(4)));
        assert_eq!(root(vec![expected, padding(4), expected], padding(4)), {
            parent(&parent(&expected, &padding(4)), &parent(&expected, &padding(4)))
        });
        assert_eq!(padding(1), [0; 32]);
    }

    #[test]
    fn leaves_do_not_depend_on_how_the_runs_are_cut() {
        let whole: Vec<u8> = (0..50_000u32).map(|n| (n % 251) as u8).collect();
        let one = leaves(&[Bytes::from(whole.clone())], 40_000).unwrap();
        let runs: Vec<Bytes> = whole.chunks(777).map(Bytes::copy_from_slice).collect();
        assert_eq!(one.len(), 3);
        assert_eq!(leaves(&runs, 40_000), Some(one));
    }
}
