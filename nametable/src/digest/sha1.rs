//! SHA-1 of all bytes.

use p2pbridge_proto::{Name, Scheme};
use sha1::{Digest, Sha1};

use super::{
    forest::Forest,
    layer::{Layer, Leaf, Node, Place, Plain, node},
};

/// The whole content is one leaf.
pub(crate) struct Sha1Layer;

impl Layer for Sha1Layer {
    fn what(&self) -> &'static str {
        "SHA-1"
    }

    fn leaf_len(&self) -> u64 {
        u64::MAX
    }

    fn begin(&self, _length: u64) -> Box<dyn Leaf> {
        Box::new(Plain(Sha1::new()))
    }

    fn join(&self, _place: Place, children: &[Node]) -> Node {
        children.first().copied().unwrap_or_default()
    }

    fn keeps_ahead(&self) -> bool {
        false
    }
}

pub(crate) fn name(forest: &Forest) -> Option<Name> {
    Name::new(Scheme::Sha1, forest.root()?.get(..20)?).ok()
}

/// SHA-1 of two nodes of 20 bytes.
pub(crate) fn pair(left: &Node, right: &Node) -> Node {
    let mut both = [0; 40];
    let (first, second) = both.split_at_mut(20);
    first.copy_from_slice(&left[..20]);
    second.copy_from_slice(&right[..20]);
    node(&Sha1::digest(both))
}
