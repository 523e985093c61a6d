//! AICH: a SHA-1 tree over the blocks of each part, and over the parts. With its root known, hashes that a client sends
//! prove which blocks of a part are wrong.
//!
//! A node gives the greater half of an odd number of parts (or blocks) to its left child when it is a left child itself,
//! and to its right child otherwise; the root counts as a left child.

use std::{collections::HashMap, ops::Range};

use bytes::Bytes;
use sha1::{Digest, Sha1};

use super::wire::{
    BLOCK, PART,
    transfer::{AichHash, Recovery},
};

/// From this length on, eMule writes places in 32 bits.
const WIDE_FROM: u64 = u32::MAX as u64;

/// The SHA-1 of each block of a part, whose bytes are these consecutive runs.
#[must_use]
pub fn hash_blocks(bytes: &[Bytes]) -> Vec<AichHash> {
    let mut hashes = Vec::new();
    let (mut hasher, mut room) = (Sha1::new(), BLOCK);
    for mut run in bytes.iter().map(|run| &run[..]) {
        while !run.is_empty() {
            let count = run.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            let (now, later) = run.split_at(count);
            hasher.update(now);
            room -= count as u64;
            run = later;
            if room == 0 {
                hashes.push(hasher.finalize_reset().into());
                room = BLOCK;
            }
        }
    }
    if room < BLOCK {
        hashes.push(hasher.finalize().into());
    }
    hashes
}

/// The hash of a part of a file of so many bytes, from those of its blocks. `None` where there is no such part, or it
/// has another number of blocks.
#[must_use]
pub fn hash_part(size: u64, part: u32, blocks: &[AichHash]) -> Option<AichHash> {
    let node = Node::root(size)?.path(part)?.1;
    let mut blocks = blocks.iter().copied();
    let hash = node.join(&mut |_| blocks.next())?;
    blocks.next().is_none().then_some(hash)
}

/// The root of the tree over a file of so many bytes, from the hashes of its parts.
#[must_use]
pub fn hash_root(size: u64, parts: &[AichHash]) -> Option<AichHash> {
    let mut parts = parts.iter().copied();
    let root = Node::root(size)?.join_parts(&mut |_| parts.next())?;
    parts.next().is_none().then_some(root)
}

/// What proves the blocks of a part to who knows the root: their hashes, and those of the nodes beside the way to it.
/// `None` when the numbers of hashes are not those of the file.
#[must_use]
pub fn recovery(size: u64, part: u32, parts: &[AichHash], blocks: &[AichHash]) -> Option<Recovery> {
    let (beside, node) = Node::root(size)?.path(part)?;
    let mut hashes = Vec::new();
    for sibling in beside {
        let hash = sibling.join_parts(&mut |part| parts.get(part.number()?).copied())?;
        hashes.push((sibling.place, hash));
    }
    let mut blocks = blocks.iter();
    let mut take = |block: &Node| {
        let hash = *blocks.next()?;
        hashes.push((block.place, hash));
        Some(hash)
    };
    node.join(&mut take)?;
    blocks.next().is_none().then_some(Recovery { hashes, wide: size > WIDE_FROM })
}

/// The hashes of the blocks of a part, in order, if what a client sent proves them by the root.
#[must_use]
pub fn prove(root: &AichHash, size: u64, part: u32, recovery: &Recovery) -> Option<Vec<AichHash>> {
    let said: HashMap<u32, AichHash> = recovery.hashes.iter().copied().collect();
    let (beside, node) = Node::root(size)?.path(part)?;
    let mut blocks = Vec::new();
    let mut hash = node.join(&mut |block| {
        let hash = *said.get(&block.place)?;
        blocks.push(hash);
        Some(hash)
    })?;
    for sibling in beside.iter().rev() {
        let other = said.get(&sibling.place)?;
        hash = if sibling.is_left { pair(other, &hash) } else { pair(&hash, other) };
    }
    (hash == *root).then_some(blocks)
}

/// Which bytes of a part are wrong by the hashes of its blocks; neighbouring blocks are one run. Takes as long as
/// hashing takes.
#[must_use]
pub fn wrong_runs(blocks: &[AichHash], bytes: &[Bytes]) -> Vec<Range<u64>> {
    let length = bytes.iter().fold(0u64, |sum, run| sum.saturating_add(run.len() as u64));
    let mut wrong: Vec<Range<u64>> = Vec::new();
    for ((block, hash), expected) in (0u64..).zip(hash_blocks(bytes)).zip(blocks) {
        if hash == *expected {
            continue;
        }
        let run = block * BLOCK..((block + 1) * BLOCK).min(length);
        match wrong.last_mut() {
            Some(last) if last.end == run.start => last.end = run.end,
            _ => wrong.push(run),
        }
    }
    wrong
}

/// A node of the tree.
#[derive(Debug, Clone, Copy)]
struct Node {
    start: u64,
    size: u64,
    is_left: bool,
    /// A 1, then from the root down a 1 for each turn to the left and a 0 for each to the right.
    place: u32,
}

impl Node {
    fn root(size: u64) -> Option<Self> {
        (size > 0).then_some(Self { start: 0, size, is_left: true, place: 1 })
    }

    fn children(&self) -> Option<(Self, Self)> {
        let base = if self.size <= PART { BLOCK } else { PART };
        let leaves = self.size.div_ceil(base);
        if leaves <= 1 {
            return None;
        }
        let left = (leaves / 2 + u64::from(self.is_left && leaves % 2 == 1)) * base;
        let place = self.place.checked_mul(2)?;
        Some((
            Self { start: self.start, size: left, is_left: true, place: place | 1 },
            Self { start: self.start + left, size: self.size - left, is_left: false, place },
        ))
    }

    /// The number of the part that it is.
    fn number(&self) -> Option<usize> {
        usize::try_from(self.start / PART).ok()
    }

    /// The nodes beside the way to a part, from the top, and the part.
    fn path(self, part: u32) -> Option<(Vec<Self>, Self)> {
        let start = u64::from(part).checked_mul(PART)?;
        if start >= self.size {
            return None;
        }
        let (mut beside, mut at) = (Vec::new(), self);
        while at.size > PART {
            let (left, right) = at.children()?;
            let (next, other) = if start < right.start { (left, right) } else { (right, left) };
            beside.push(other);
            at = next;
        }
        Some((beside, at))
    }

    /// Its hash, from those of the leaves below, which are asked for from left to right.
    fn join(&self, leaf: &mut impl FnMut(&Self) -> Option<AichHash>) -> Option<AichHash> {
        match self.children() {
            None => leaf(self),
            Some((left, right)) => Some(pair(&left.join(leaf)?, &right.join(leaf)?)),
        }
    }

    /// Its hash, from those of the parts below, which are asked for from left to right.
    fn join_parts(&self, part: &mut impl FnMut(&Self) -> Option<AichHash>) -> Option<AichHash> {
        match self.children() {
            Some((left, right)) if self.size > PART => {
                Some(pair(&left.join_parts(part)?, &right.join_parts(part)?))
            }
            _ => part(self),
        }
    }
}

fn pair(left: &AichHash, right: &AichHash) -> AichHash {
    Sha1::new().chain_update(left).chain_update(right).finalize().into()
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE32_NOPAD;
    use proptest::prelude::*;

    use super::*;

    /// By rhash 1.4.3, of files whose byte at `n` is `n % 251`.
    const GOLDEN: &[(u64, &str)] = &[
        (1, "LOUTZHNQZ74T6UVVEHLUEDSD63W2E6CP"),
        (184320, "I7LBQMXVOHT5WTXBT5HT6YA622LSXPOR"),
        (184321, "IN5MFSTYNFRFJEZMMDMW2GFA7C2FWEYS"),
        (552965, "MLPIZQD5IRUGBDB3ZFI25KXCGZODZTQS"),
        (9728000, "MYQ3BRL6UGOL7WQ5RRELBQBIEHHEOLA2"),
        (9728001, "G2TH6EG22NJPRLF333AQ33DFRW2EJQDF"),
        (19456000, "ECCJUQRMCAPGZOS23YY3JGWLDB3BZQCX"),
        (29184077, "LDUCVXXL5FYQEPMXD2R5BV45GV6W5LC6"),
        (68095999, "AKLRZJA6MZP3BO4TFV7SFHLPYYG42PWA"),
    ];

    fn content(size: u64) -> Vec<u8> {
        (0..size).map(|at| (at % 251) as u8).collect()
    }

    fn tree(content: &[u8]) -> (u64, Vec<Vec<AichHash>>, Vec<AichHash>) {
        let size = content.len() as u64;
        let parts: Vec<&[u8]> = content.chunks(PART as usize).collect();
        let blocks: Vec<Vec<AichHash>> =
            parts.iter().map(|part| hash_blocks(&[Bytes::copy_from_slice(part)])).collect();
        let parts = (0u32..).zip(&blocks);
        let parts = parts.map(|(part, blocks)| hash_part(size, part, blocks).unwrap()).collect();
        (size, blocks, parts)
    }

    #[test]
    fn the_roots_are_those_of_rhash() {
        for (size, expected) in GOLDEN {
            let (size, _, parts) = tree(&content(*size));
            let root = hash_root(size, &parts).unwrap();
            assert_eq!(BASE32_NOPAD.encode(&root), *expected, "of {size} bytes");
        }
    }

    #[test]
    fn recovery_data_proves_the_blocks_of_every_part_and_finds_the_wrong_ones() {
        let bytes = content(5 * PART + 400_000);
        let (size, blocks, parts) = tree(&bytes);
        let root = hash_root(size, &parts).unwrap();
        for part in 0..6u32 {
            let own = &blocks[part as usize];
            let good = recovery(size, part, &parts, own).unwrap();
            assert_eq!(prove(&root, size, part, &good).as_ref(), Some(own));
            for at in 0..good.hashes.len() {
                let mut bad = good.clone();
                bad.hashes[at].1[7] ^= 1;
                assert_eq!(prove(&root, size, part, &bad), None);
                bad.hashes.remove(at);
                assert_eq!(prove(&root, size, part, &bad), None);
            }
            assert_eq!(prove(&root, size, (part + 1) % 6, &good), None);
        }
        let mut part = bytes[..PART as usize].to_vec();
        for at in [0, 200_000, 9_727_999] {
            part[at] ^= 1;
        }
        let runs: Vec<Bytes> = part.chunks(262_144).map(Bytes::copy_from_slice).collect();
        assert_eq!(wrong_runs(&blocks[0], &runs), [0..2 * BLOCK, 52 * BLOCK..PART]);
        assert_eq!(recovery(size, 6, &parts, &blocks[5]), None);
        assert_eq!(recovery(size, 0, &parts, &blocks[5]), None);
        assert_eq!(hash_root(size + PART, &parts), None);
    }

    proptest! {
        #[test]
        fn nothing_that_a_client_says_makes_it_panic(
            size: u64, part: u32, hashes in prop::collection::vec((any::<u32>(), any::<AichHash>()), 0..9),
        ) {
            let _ = prove(&[0; 20], size, part, &Recovery { hashes, wide: false });
            let _ = prove(&[0; 20], size % (64 * PART), part % 70, &Recovery::default());
        }
    }
}
