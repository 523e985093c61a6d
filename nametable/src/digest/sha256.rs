//! SHA-256 of all bytes, and of the short messages of which trees are made.

use p2pbridge_proto::{Name, Scheme};
use sha2::{Digest, Sha256, block_api::compress256};

use super::{
    forest::Forest,
    layer::{Layer, Leaf, Node, Place, Plain},
};

/// The whole content is one leaf.
pub(crate) struct Sha256Layer;

impl Layer for Sha256Layer {
    fn what(&self) -> &'static str {
        "SHA-256"
    }

    fn leaf_len(&self) -> u64 {
        u64::MAX
    }

    fn begin(&self, _length: u64) -> Box<dyn Leaf> {
        Box::new(Plain(Sha256::new()))
    }

    fn join(&self, _place: Place, children: &[Node]) -> Node {
        children.first().copied().unwrap_or_default()
    }

    fn keeps_ahead(&self) -> bool {
        false
    }
}

pub(crate) fn name(forest: &Forest) -> Option<Name> {
    Name::with_32(Scheme::Sha256, forest.root()?)
}

/// The state in which SHA-256 begins (FIPS 180-4 §5.3.3).
const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// SHA-256 of a message, without the buffer that a hasher in progress has: most messages of a tree are whole blocks.
pub(crate) fn digest(message: &[u8]) -> Node {
    let (blocks, rest) = message.as_chunks::<64>();
    if !rest.is_empty() {
        return Sha256::digest(message).into();
    }
    let mut state = INITIAL;
    compress256(&mut state, blocks);
    compress256(&mut state, &[padding(message.len() as u64)]);
    bytes_of(state)
}

/// SHA-256 of two nodes.
pub(crate) fn pair(left: &Node, right: &Node) -> Node {
    const PADDING: [u8; 64] = padding(64);
    let mut blocks = [[0; 64], PADDING];
    let (first, second) = blocks[0].split_at_mut(32);
    first.copy_from_slice(left);
    second.copy_from_slice(right);
    let mut state = INITIAL;
    compress256(&mut state, &blocks);
    bytes_of(state)
}

/// The block that follows a message of whole blocks (FIPS 180-4 §5.1.1).
const fn padding(length: u64) -> [u8; 64] {
    let mut block = [0; 64];
    block[0] = 0x80;
    let bits = (length * 8).to_be_bytes();
    let mut at = 0;
    while at < 8 {
        block[56 + at] = bits[at];
        at += 1;
    }
    block
}

fn bytes_of(state: [u32; 8]) -> Node {
    let mut node = [0; 32];
    for (to, word) in node.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *to = word.to_be_bytes();
    }
    node
}
