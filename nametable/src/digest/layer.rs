//! What a scheme's file says of itself: how a content is cut into leaves, and how nodes are joined.

use std::ops::Range;

use sha2::digest::Digest;

/// A hash of a tree; shorter ones are followed by zeros.
pub(crate) type Node = [u8; 32];

/// The fan-out of a level of which no nodes are joined before all are there.
pub(crate) const NEVER: u64 = u64::MAX;

/// One way to cut bytes into leaves and to join their hashes. Several rules may name a content by the same layer.
///
/// A flat hash is a layer whose only leaf is the whole content. An empty content has one leaf, which is empty.
pub(crate) trait Layer: Sync {
    /// What it is, in words; unique.
    fn what(&self) -> &'static str;

    /// Bytes of a leaf. The last is shorter, and so may others be where [`Self::leaf_of`] says so.
    fn leaf_len(&self) -> u64;

    /// The leaf that has the byte at an offset.
    fn leaf_of(&self, offset: u64) -> u64 {
        offset / self.leaf_len()
    }

    /// Where a leaf begins.
    fn leaf_start(&self, leaf: u64) -> u64 {
        leaf.saturating_mul(self.leaf_len())
    }

    /// Begins a leaf of so many bytes, which will come in order.
    fn begin(&self, length: u64) -> Box<dyn Leaf>;

    /// Hashes whole leaves that follow each other; the last may be a content's short one.
    fn leaves(&self, first: u64, bytes: &[u8], nodes: &mut Vec<Node>) {
        let (mut leaf, mut rest, start) = (first, bytes, self.leaf_start(first));
        while !rest.is_empty() {
            let end = self.leaf_start(leaf.saturating_add(1)).saturating_sub(start);
            let done = bytes.len() - rest.len();
            let length = usize::try_from(end).unwrap_or(usize::MAX).saturating_sub(done);
            let (head, tail) = rest.split_at(length.min(rest.len()));
            let mut hasher = self.begin(head.len() as u64);
            hasher.update(head);
            nodes.push(hasher.finish());
            (leaf, rest) = (leaf.saturating_add(1), tail);
        }
    }

    /// How many nodes of a level are joined to one of the next; leaves are level 0.
    fn fanout(&self, _level: u8) -> u64 {
        NEVER
    }

    /// The parent of nodes that follow each other: as many as the fan-out, or fewer at the right edge.
    fn join(&self, place: Place, children: &[Node]) -> Node;

    /// Whether bytes of a leaf that come before those in front of them are worth keeping. Those of large leaves are
    /// not: they are read again.
    fn keeps_ahead(&self) -> bool {
        true
    }

    /// The bytes of a leaf, of a content of this length.
    fn leaf_range(&self, leaf: u64, length: u64) -> Range<u64> {
        let end = self.leaf_start(leaf.saturating_add(1)).min(length);
        self.leaf_start(leaf).min(end)..end
    }

    /// How many leaves a content has.
    fn count(&self, length: u64) -> u64 {
        length.checked_sub(1).map_or(1, |last| self.leaf_of(last) + 1)
    }
}

/// Where children that are joined lie.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Bytes of the content.
    pub(crate) length: u64,
    /// The children's level.
    pub(crate) level: u8,
    /// The first of them, counted within its level.
    pub(crate) first: u64,
}

/// A leaf, part of which has come.
pub(crate) trait Leaf: Send {
    /// Takes the next bytes.
    fn update(&mut self, bytes: &[u8]);
    /// The leaf's hash.
    fn finish(self: Box<Self>) -> Node;
}

/// A leaf that is its bytes' hash.
pub(crate) struct Plain<D>(pub(crate) D);

impl<D: Digest + Send> Leaf for Plain<D> {
    fn update(&mut self, bytes: &[u8]) {
        Digest::update(&mut self.0, bytes);
    }

    fn finish(self: Box<Self>) -> Node {
        node(&self.0.finalize())
    }
}

/// A node of a hash's output, which has at most 32 bytes.
pub(crate) fn node(digest: &[u8]) -> Node {
    let mut node = [0; 32];
    if let Some(to) = node.get_mut(..digest.len()) {
        to.copy_from_slice(digest);
    }
    node
}
