//! eD2k: MD4 of each part of 9,728,000 bytes, and MD4 of the parts' hashes.
//!
//! Programs differ when the parts are all full: eMule and aMule end the list with the hash of an empty part ("red"),
//! others do not ("blue"). A content shorter than a part is named by its only part's hash in both.

use md4::{Digest, Md4};
use p2pbridge_proto::{ED2K_PART, Name, Scheme};

use super::{
    forest::Forest,
    layer::{Layer, Leaf, Node, Place, Plain, node},
};

/// Bytes of a part.
pub(crate) const PART: u64 = ED2K_PART;

/// A part is a leaf.
pub(crate) struct Parts;

impl Layer for Parts {
    fn what(&self) -> &'static str {
        "MD4 of 9,728,000 bytes"
    }

    fn leaf_len(&self) -> u64 {
        PART
    }

    fn begin(&self, _length: u64) -> Box<dyn Leaf> {
        Box::new(Plain(Md4::new()))
    }

    fn join(&self, _place: Place, children: &[Node]) -> Node {
        of_parts(children)
    }

    fn keeps_ahead(&self) -> bool {
        false
    }
}

/// The name that eMule and aMule give.
pub(crate) fn red(forest: &Forest) -> Option<Name> {
    let mut parts = forest.row(0);
    if forest.length() > 0 && forest.length().is_multiple_of(PART) {
        parts.push(node(&Md4::digest([])));
    }
    name(&parts)
}

/// The name without the hash of an empty part.
pub(crate) fn blue(forest: &Forest) -> Option<Name> {
    name(&forest.row(0))
}

/// The hashes of the parts.
pub(crate) fn parts(forest: &Forest) -> Vec<[u8; 16]> {
    let first = |node: &Node| node.first_chunk().copied().unwrap_or_default();
    forest.row(0).iter().map(first).collect()
}

/// How many names the same bytes have, when there are so many: two where all parts are full.
pub(super) fn variants(length: Option<u64>) -> usize {
    let full = length.is_some_and(|length| length > 0 && length.is_multiple_of(PART));
    if full { 2 } else { 1 }
}

fn name(parts: &[Node]) -> Option<Name> {
    let root = match parts {
        [only] => *only,
        _ => of_parts(parts),
    };
    Name::new(Scheme::Ed2k, root.get(..16)?).ok()
}

fn of_parts(parts: &[Node]) -> Node {
    let mut hasher = Md4::new();
    for part in parts {
        hasher.update(part.first_chunk::<16>().unwrap_or(&[0; 16]));
    }
    node(&hasher.finalize())
}
