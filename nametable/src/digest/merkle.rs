//! SHA-256 trees over leaves of 1 KiB and 16 KiB: PPSPP (RFC 7574 §5.2) and `pieces root` (BEP 52).
//!
//! Both fill the last level up to a power of two with leaves of zeros. The parent of two of these is of zeros in PPSPP,
//! and the hash of two nodes as any other in BEP 52; so one layer of 16 KiB serves both. Neither names an empty content.

use p2pbridge_proto::{Name, Scheme};
use sha2::{Digest, Sha256};

use super::{
    forest::Forest,
    layer::{Layer, Leaf, Node, Place, Plain},
    sha256::{digest, pair},
};

/// Leaves of 1,024 bytes, PPSPP's default.
pub(crate) struct Leaves1k;
/// Leaves of 16,384 bytes.
pub(crate) struct Leaves16k;

const LEAF_1K: usize = 1024;
const LEAF_16K: usize = 16_384;

impl Layer for Leaves1k {
    fn what(&self) -> &'static str {
        "SHA-256 of 1,024 bytes"
    }

    fn leaf_len(&self) -> u64 {
        LEAF_1K as u64
    }

    fn begin(&self, _length: u64) -> Box<dyn Leaf> {
        Box::new(Plain(Sha256::new()))
    }

    fn leaves(&self, _first: u64, bytes: &[u8], nodes: &mut Vec<Node>) {
        nodes.extend(bytes.chunks(LEAF_1K).map(digest));
    }

    fn fanout(&self, _level: u8) -> u64 {
        2
    }

    fn join(&self, _place: Place, children: &[Node]) -> Node {
        join_with(&Node::default(), children)
    }
}

impl Layer for Leaves16k {
    fn what(&self) -> &'static str {
        "SHA-256 of 16,384 bytes"
    }

    fn leaf_len(&self) -> u64 {
        LEAF_16K as u64
    }

    fn begin(&self, _length: u64) -> Box<dyn Leaf> {
        Box::new(Plain(Sha256::new()))
    }

    fn leaves(&self, _first: u64, bytes: &[u8], nodes: &mut Vec<Node>) {
        nodes.extend(bytes.chunks(LEAF_16K).map(digest));
    }

    fn fanout(&self, _level: u8) -> u64 {
        2
    }

    /// As in PPSPP; the right edge of a `pieces root` is made by [`pieces`].
    fn join(&self, _place: Place, children: &[Node]) -> Node {
        join_with(&Node::default(), children)
    }
}

pub(crate) fn ppspp(forest: &Forest) -> Option<Name> {
    named(Scheme::Ppspp, forest)
}

pub(crate) fn ppspp_16k(forest: &Forest) -> Option<Name> {
    named(Scheme::Ppspp16k, forest)
}

fn named(scheme: Scheme, forest: &Forest) -> Option<Name> {
    let root = forest.root().filter(|_| forest.length() > 0)?;
    Name::with_32(scheme, root)
}

pub(crate) fn pieces_root(forest: &Forest) -> Option<Name> {
    let root = pieces(forest, None).pop().filter(|_| forest.length() > 0)?;
    Name::with_32(Scheme::PiecesRoot, root)
}

/// The nodes of a level above leaves of 16 KiB, which is not above the root; the root alone when no level is said
/// (BEP 52).
pub(crate) fn pieces(forest: &Forest, level: Option<u8>) -> Vec<Node> {
    // What stands for a brother that is not there, level by level.
    let empty: Vec<Node> =
        std::iter::successors(Some(Node::default()), |zero| Some(pair(zero, zero)))
            .take(64)
            .collect();
    forest.close(level, |place, children| {
        let zero = empty.get(usize::from(place.level)).copied().unwrap_or_default();
        join_with(&zero, children)
    })
}

fn join_with(brother: &Node, children: &[Node]) -> Node {
    match children {
        [left, right] => pair(left, right),
        [left] => pair(left, brother),
        _ => *brother,
    }
}
