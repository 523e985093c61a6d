//! Files of IPFS: a balanced tree of UnixFS blocks in dag-pb, by the two profiles that programs use (IPIP-499).
//!
//! `unixfs-v0-2015` cuts into 256 KiB, wraps each chunk in a UnixFS block, has up to 174 links a node and CIDs of
//! version 0. `unixfs-v1-2025` cuts into 1 MiB, takes chunks as they are, has up to 1,024 links and CIDs of version 1. A
//! content of one chunk, or of none, is named by that chunk's block.

use p2pbridge_proto::{Name, Scheme};
use sha2::{Digest, Sha256};

use super::{
    forest::Forest,
    layer::{Layer, Leaf, Node, Place, Plain},
};

/// A way to cut a file into blocks of UnixFS.
pub(crate) struct Profile {
    what: &'static str,
    chunk: u64,
    links: u64,
    /// Whether chunks are blocks as they are.
    raw: bool,
}

/// `unixfs-v0-2015`.
pub(crate) static V0_2015: Profile =
    Profile { what: "UnixFS blocks of 256 KiB", chunk: 262_144, links: 174, raw: false };
/// `unixfs-v1-2025`.
pub(crate) static V1_2025: Profile =
    Profile { what: "UnixFS blocks of 1 MiB", chunk: 1 << 20, links: 1024, raw: true };

impl Layer for Profile {
    fn what(&self) -> &'static str {
        self.what
    }

    fn leaf_len(&self) -> u64 {
        self.chunk
    }

    fn begin(&self, length: u64) -> Box<dyn Leaf> {
        if self.raw {
            return Box::new(Plain(Sha256::new()));
        }
        let (before, after) = wrapping(length);
        Box::new(Wrapped { hasher: Sha256::new_with_prefix(before), after })
    }

    fn fanout(&self, _level: u8) -> u64 {
        self.links
    }

    fn join(&self, place: Place, children: &[Node]) -> Node {
        Sha256::digest(self.block(place, children)).into()
    }
}

pub(crate) fn v0_name(forest: &Forest) -> Option<Name> {
    Name::with_32(Scheme::CidDagPb, forest.root()?)
}

pub(crate) fn v1_name(forest: &Forest) -> Option<Name> {
    let raw = forest.length() <= V1_2025.chunk;
    Name::with_32(if raw { Scheme::CidRaw } else { Scheme::CidDagPb }, forest.root()?)
}

/// How a CID says version 0 (nothing), version 1 and its codec; and the hash function.
const CID_RAW: &[u8] = &[0x01, 0x55, 0x12, 0x20];
const CID_DAG_PB: &[u8] = &[0x01, 0x70, 0x12, 0x20];
const CID_V0: &[u8] = &[0x12, 0x20];

impl Profile {
    /// The dag-pb block over children that follow each other: the links, then the file's data (dag-pb specification:
    /// `PBNode`, UnixFS: `Data`).
    fn block(&self, place: Place, children: &[Node]) -> Vec<u8> {
        let cid = match (self.raw, place.level) {
            (false, _) => CID_V0,
            (true, 0) => CID_RAW,
            (true, _) => CID_DAG_PB,
        };
        let mut block = Vec::with_capacity(children.len() * 64 + 16);
        let mut sizes = Vec::new();
        let mut covered = 0;
        // All children but the last are full, so that they are of one size.
        let full = self.stored(Place { first: 0, length: u64::MAX, ..place });
        for (index, child) in (place.first..).zip(children) {
            let bytes = self.bytes(Place { first: index, ..place });
            let is_full = bytes == self.bytes(Place { first: 0, length: u64::MAX, ..place });
            let stored = if is_full { full } else { self.stored(Place { first: index, ..place }) };
            let mut link = vec![0x0a, (cid.len() + child.len()) as u8];
            link.extend(cid);
            link.extend(child);
            link.extend([0x12, 0]);
            field(&mut link, 0x18, stored);
            field(&mut block, 0x12, link.len() as u64);
            block.extend(link);
            field(&mut sizes, 0x20, bytes);
            covered += bytes;
        }
        let mut data = vec![0x08, FILE];
        field(&mut data, 0x18, covered);
        data.extend(sizes);
        field(&mut block, 0x0a, data.len() as u64);
        block.extend(data);
        block
    }

    /// The file's bytes under a node, which `first` tells.
    fn bytes(&self, node: Place) -> u64 {
        let span = self.span(node.level);
        let start = node.first.saturating_mul(span);
        span.min(node.length.saturating_sub(start))
    }

    /// The bytes under a full node of a level.
    fn span(&self, level: u8) -> u64 {
        (0..level).fold(self.chunk, |span, _| span.saturating_mul(self.links))
    }

    /// The bytes of all blocks under a node, with its own.
    fn stored(&self, node: Place) -> u64 {
        let bytes = self.bytes(node);
        let Some(level) = node.level.checked_sub(1) else {
            let (before, after) = wrapping(bytes);
            let wrapping = if self.raw { 0 } else { before.len() + after.len() };
            return bytes + wrapping as u64;
        };
        let count = bytes.div_ceil(self.span(level)).min(self.links);
        let below = Place { level, first: node.first.saturating_mul(self.links), ..node };
        let own = self.block(below, &vec![Node::default(); count as usize]).len() as u64;
        let last = Place { first: below.first + count.saturating_sub(1), ..below };
        (count.saturating_sub(1))
            .saturating_mul(self.stored(below))
            .saturating_add(self.stored(last))
            .saturating_add(own)
    }
}

/// UnixFS's number of a file.
const FILE: u8 = 2;

/// What stands before and after a chunk of so many bytes in its block.
fn wrapping(length: u64) -> (Vec<u8>, Vec<u8>) {
    let mut after = Vec::new();
    field(&mut after, 0x18, length);
    let mut data = vec![0x08, FILE];
    if length > 0 {
        field(&mut data, 0x12, length);
    }
    let mut before = Vec::new();
    field(&mut before, 0x0a, data.len() as u64 + length + after.len() as u64);
    before.extend(data);
    (before, after)
}

/// A tag of protobuf, and the number that follows it.
fn field(out: &mut Vec<u8>, tag: u8, mut number: u64) {
    out.push(tag);
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// A chunk in its block.
struct Wrapped {
    hasher: Sha256,
    after: Vec<u8>,
}

impl Leaf for Wrapped {
    fn update(&mut self, bytes: &[u8]) {
        Digest::update(&mut self.hasher, bytes);
    }

    fn finish(mut self: Box<Self>) -> Node {
        Digest::update(&mut self.hasher, &self.after);
        self.hasher.finalize().into()
    }
}
