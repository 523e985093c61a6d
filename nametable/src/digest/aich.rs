//! AICH (eMule): a SHA-1 tree over blocks of 184,320 bytes within each part of 9,728,000 bytes, and over the parts.
//!
//! A node over an odd number of blocks (or parts) gives the greater half to its left child when it is a left child
//! itself, and to its right child otherwise; the root counts as a left child.

use p2pbridge_proto::{Name, Scheme};
use sha1::{Digest, Sha1};

use super::{
    ed2k::PART,
    forest::Forest,
    layer::{Layer, Leaf, NEVER, Node, Place, Plain},
    sha1::pair,
};

/// Bytes of a block. The last of a part has 143,360.
pub(crate) const BLOCK: u64 = 184_320;
/// Blocks of a part.
const BLOCKS: u64 = PART.div_ceil(BLOCK);

/// A block is a leaf, a part is a node over them, and the root is a node over all parts.
pub(crate) struct Blocks;

impl Layer for Blocks {
    fn what(&self) -> &'static str {
        "SHA-1 of 184,320 bytes"
    }

    fn leaf_len(&self) -> u64 {
        BLOCK
    }

    fn leaf_of(&self, offset: u64) -> u64 {
        offset / PART * BLOCKS + offset % PART / BLOCK
    }

    fn leaf_start(&self, leaf: u64) -> u64 {
        (leaf / BLOCKS).saturating_mul(PART).saturating_add(leaf % BLOCKS * BLOCK)
    }

    fn begin(&self, _length: u64) -> Box<dyn Leaf> {
        Box::new(Plain(Sha1::new()))
    }

    fn fanout(&self, level: u8) -> u64 {
        if level == 0 { BLOCKS } else { NEVER }
    }

    fn join(&self, place: Place, children: &[Node]) -> Node {
        let is_left = place.level > 0 || is_left(place.first / BLOCKS, place.length.div_ceil(PART));
        tree(children, is_left)
    }
}

pub(crate) fn name(forest: &Forest) -> Option<Name> {
    Name::new(Scheme::Aich, forest.root()?.get(..20)?).ok()
}

/// Whether a part is a left child of the tree over so many parts.
fn is_left(mut part: u64, mut parts: u64) -> bool {
    let mut is_left = true;
    while parts > 1 {
        let left = greater_half(parts, is_left);
        is_left = part < left;
        if is_left {
            parts = left;
        } else {
            (part, parts) = (part - left, parts - left);
        }
    }
    is_left
}

/// How many of the leaves of a node its left child has.
fn greater_half(leaves: u64, is_left: bool) -> u64 {
    leaves / 2 + u64::from(is_left && leaves % 2 == 1)
}

fn tree(nodes: &[Node], is_left: bool) -> Node {
    match nodes {
        [] => Node::default(),
        [only] => *only,
        _ => {
            let left = greater_half(nodes.len() as u64, is_left);
            let (left, right) = nodes.split_at(left as usize);
            pair(&tree(left, true), &tree(right, false))
        }
    }
}
