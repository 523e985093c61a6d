//! Each rule once more, in the plainest form, from all bytes at once.

use ::sha1::Sha1;
use md4::Md4;
use sha2::{Digest, Sha256};
use tiger::Tiger;

use super::*;

#[test]
fn at_every_border_the_names_are_those_of_the_plain_rules() {
    for length in BORDERS {
        let bytes = bytes(length, length);
        let digests = of_file(&bytes, 2);
        assert_eq!(digests.length, length);
        for (rule, digest) in models(&bytes) {
            let found = digests.names.iter().find(|computed| computed.rule == rule);
            let found = found.map(|computed| computed.name.digest().to_vec());
            assert_eq!(found, digest, "{rule} of {length} bytes");
        }
    }
}

/// Deep trees of IPFS, over zeros: more than one level of 174 links, and of 1,024.
#[test]
fn deep_trees_of_ipfs_are_those_of_the_plain_rules() {
    let models: [(&'static super::super::unixfs::Profile, bool, u64); 2] = [
        (&super::super::unixfs::V0_2015, true, 174 * 174 + 2),
        (&super::super::unixfs::V1_2025, false, 1024 + 1),
    ];
    for (profile, v0, leaves) in models {
        let chunk = profile.leaf_len();
        let length = (leaves - 1) * chunk + 5;
        let block = vec![0; chunk as usize];
        let mut forest =
            Forest::new(super::super::forest::Tree { layer: profile, length, keep: None });
        let mut row = Vec::new();
        let full = forest.tree().subtrees(0, &block)[0].2;
        for leaf in 0..leaves {
            let bytes = if leaf + 1 == leaves { &block[..5] } else { &block };
            let node =
                if leaf + 1 == leaves { forest.tree().subtrees(leaf, bytes)[0].2 } else { full };
            forest.insert((0, leaf, node));
            row.push(chunk_of(bytes.len(), node, v0));
        }
        assert_eq!(forest.root(), Some(balanced(row, v0)));
        assert!(forest.len() < 1024 + 174);
    }
}

/// The digests that a content should have, by rule.
pub(super) fn models(bytes: &[u8]) -> Vec<(&'static str, Option<Vec<u8>>)> {
    let has_bytes = !bytes.is_empty();
    let (red, blue) = ed2k(bytes);
    vec![
        ("sha1", Some(Sha1::digest(bytes).to_vec())),
        ("sha256", Some(Sha256::digest(bytes).to_vec())),
        ("ed2k", Some(red.clone())),
        ("ed2k-blue", Some(blue).filter(|blue| *blue != red)),
        ("aich", Some(aich(bytes, true).to_vec())),
        ("tth", Some(tth(bytes))),
        ("pieces-root", has_bytes.then(|| merkle(bytes, 16_384, true))),
        ("unixfs-v0-2015", Some(unixfs(bytes, true))),
        ("unixfs-v1-2025", Some(unixfs(bytes, false))),
        ("ppspp", has_bytes.then(|| merkle(bytes, 1024, false))),
        ("ppspp-16k", has_bytes.then(|| merkle(bytes, 16_384, false))),
    ]
}

fn ed2k(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut parts: Vec<u8> = bytes.chunks(9_728_000).flat_map(Md4::digest).collect();
    let blue = if bytes.len() <= 9_728_000 { Md4::digest(bytes) } else { Md4::digest(&parts) };
    if bytes.len() < 9_728_000 {
        return (blue.to_vec(), blue.to_vec());
    }
    if bytes.len().is_multiple_of(9_728_000) {
        parts.extend(Md4::digest([]));
    }
    (Md4::digest(&parts).to_vec(), blue.to_vec())
}

/// eMule's rule, by bytes as it is told there: a node is cut in parts while it is longer than one, then in blocks.
fn aich(bytes: &[u8], is_left: bool) -> [u8; 20] {
    const PART: usize = 9_728_000;
    const BLOCK: usize = 184_320;
    let base = if bytes.len() <= PART { BLOCK } else { PART };
    if bytes.len() <= base {
        return Sha1::digest(bytes).into();
    }
    let leaves = bytes.len().div_ceil(base);
    let left = if is_left { leaves + 1 } else { leaves } / 2 * base;
    let (left, right) = bytes.split_at(left);
    Sha1::digest([aich(left, true), aich(right, false)].concat()).into()
}

fn tth(bytes: &[u8]) -> Vec<u8> {
    let leaf = |leaf: &[u8]| Tiger::digest([&[0], leaf].concat()).to_vec();
    let mut row: Vec<Vec<u8>> = bytes.chunks(1024).map(leaf).collect();
    if row.is_empty() {
        row.push(leaf(&[]));
    }
    while row.len() > 1 {
        let parent = |pair: &[Vec<u8>]| match pair {
            [left, right] => Tiger::digest([&[1], &left[..], right].concat()).to_vec(),
            _ => pair[0].clone(),
        };
        row = row.chunks(2).map(parent).collect();
    }
    row.remove(0)
}

fn merkle(bytes: &[u8], leaf: usize, hash_empty: bool) -> Vec<u8> {
    let mut row: Vec<[u8; 32]> =
        bytes.chunks(leaf).map(|leaf| Sha256::digest(leaf).into()).collect();
    row.resize(row.len().next_power_of_two(), [0; 32]);
    while row.len() > 1 {
        let parent = |pair: &[[u8; 32]]| match pair {
            [left, right] if !hash_empty && *left == [0; 32] && *right == [0; 32] => [0; 32],
            _ => Sha256::digest(pair.concat()).into(),
        };
        row = row.chunks(2).map(parent).collect();
    }
    row[0].to_vec()
}

/// A node of a UnixFS tree: its CID, the bytes of the file under it, and the bytes of all its blocks.
struct Block {
    cid: Vec<u8>,
    file: u64,
    stored: u64,
}

fn unixfs(bytes: &[u8], v0: bool) -> Vec<u8> {
    let chunk = if v0 { 262_144 } else { 1 << 20 };
    let mut chunks: Vec<&[u8]> = bytes.chunks(chunk).collect();
    if chunks.is_empty() {
        chunks.push(&[]);
    }
    let leaf = |chunk: &&[u8]| {
        let block = if v0 { leaf_block(chunk) } else { chunk.to_vec() };
        chunk_of(chunk.len(), Sha256::digest(block).into(), v0)
    };
    balanced(chunks.iter().map(leaf).collect(), v0).to_vec()
}

fn leaf_block(chunk: &[u8]) -> Vec<u8> {
    let length = chunk.len() as u64;
    let wrapped = [
        vec![0x08, 0x02],
        if chunk.is_empty() { vec![] } else { delimited(0x12, chunk) },
        number(0x18, length),
    ];
    delimited(0x0a, &wrapped.concat())
}

fn chunk_of(length: usize, digest: [u8; 32], v0: bool) -> Block {
    let stored = if v0 { leaf_block(&vec![0; length]).len() } else { length } as u64;
    let prefix: &[u8] = if v0 { &[] } else { &[1, 0x55] };
    Block { cid: [prefix, &[0x12, 32], &digest].concat(), file: length as u64, stored }
}

fn balanced(mut row: Vec<Block>, v0: bool) -> [u8; 32] {
    let (prefix, links): (&[u8], _) = if v0 { (&[], 174) } else { (&[1, 0x70], 1024) };
    while row.len() > 1 {
        let parent = |children: &[Block]| {
            let file = children.iter().map(|child| child.file).sum();
            let mut block = Vec::new();
            let mut data = [vec![0x08, 0x02], number(0x18, file)].concat();
            for child in children {
                let name = delimited(0x12, &[]);
                let link = [delimited(0x0a, &child.cid), name, number(0x18, child.stored)].concat();
                block.extend(delimited(0x12, &link));
                data.extend(number(0x20, child.file));
            }
            block.extend(delimited(0x0a, &data));
            let cid = [prefix, &[0x12, 32], &Sha256::digest(&block)].concat();
            let below: u64 = children.iter().map(|child| child.stored).sum();
            Block { cid, file, stored: below + block.len() as u64 }
        };
        row = row.chunks(links).map(parent).collect();
    }
    *row[0].cid.last_chunk().unwrap()
}

fn number(tag: u8, number: u64) -> Vec<u8> {
    let mut out = vec![tag];
    prost::encoding::encode_varint(number, &mut out);
    out
}

fn delimited(tag: u8, bytes: &[u8]) -> Vec<u8> {
    [number(tag, bytes.len() as u64), bytes.to_vec()].concat()
}
