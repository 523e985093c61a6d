//! The Tiger tree (THEX): leaves of 1,024 bytes after a byte 0, nodes after a byte 1, a node without a brother is raised.

use p2pbridge_proto::{Name, Scheme};
use tiger::{Digest, Tiger};

use super::{
    forest::Forest,
    layer::{Layer, Leaf, Node, Place, Plain, node},
};

/// Bytes of a leaf.
pub(crate) const LEAF: usize = 1024;

/// The tree.
pub(crate) struct TigerTree;

impl Layer for TigerTree {
    fn what(&self) -> &'static str {
        "Tiger of 1,024 bytes"
    }

    fn leaf_len(&self) -> u64 {
        LEAF as u64
    }

    fn begin(&self, _length: u64) -> Box<dyn Leaf> {
        Box::new(Plain(Tiger::new_with_prefix([0])))
    }

    fn leaves(&self, _first: u64, bytes: &[u8], nodes: &mut Vec<Node>) {
        nodes.extend(
            bytes
                .chunks(LEAF)
                .map(|leaf| node(&Tiger::new_with_prefix([0]).chain_update(leaf).finalize())),
        );
    }

    fn fanout(&self, _level: u8) -> u64 {
        2
    }

    fn join(&self, _place: Place, children: &[Node]) -> Node {
        match children {
            [left, right] => {
                let mut message = [1; 49];
                message[1..25].copy_from_slice(&left[..24]);
                message[25..].copy_from_slice(&right[..24]);
                node(&Tiger::digest(message))
            }
            _ => children.first().copied().unwrap_or_default(),
        }
    }
}

pub(crate) fn name(forest: &Forest) -> Option<Name> {
    Name::new(Scheme::Tth, forest.root()?.get(..24)?).ok()
}
