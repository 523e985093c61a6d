//! The nodes of a layer that are known: whole subtrees, joined as far as they can be.

use std::collections::BTreeMap;

use super::layer::{Layer, NEVER, Node, Place};

/// Subtrees of one content's tree, by level and index. Leaves may come in any order; when they come in order there are
/// never more than a fan-out of them in each level.
pub(crate) struct Forest {
    tree: Tree,
    nodes: BTreeMap<(u8, u64), Node>,
}

/// A content's tree: how its nodes are joined.
#[derive(Clone, Copy)]
pub(crate) struct Tree {
    pub(crate) layer: &'static dyn Layer,
    /// Bytes of the content.
    pub(crate) length: u64,
    /// A level whose nodes are kept: none are joined above it.
    pub(crate) keep: Option<u8>,
}

/// A whole subtree: its level, its index within it, and its hash.
pub(crate) type Subtree = (u8, u64, Node);

/// Memory of a subtree, about: its entry in the map, which is half full on average.
pub(crate) const SUBTREE_MEMORY: usize = 72;

impl Tree {
    /// Hashes whole leaves that follow each other, and joins what they can be joined to by themselves.
    pub(crate) fn subtrees(&self, first: u64, bytes: &[u8]) -> Vec<Subtree> {
        let mut row = Vec::new();
        self.layer.leaves(first, bytes, &mut row);
        let (mut subtrees, mut first) = (Vec::new(), first);
        for level in 0..u8::MAX {
            let fan = self.fan(level);
            // What lacks brothers on the left, or on the right, stays as it is.
            let left = usize::try_from((fan - first % fan) % fan).unwrap_or(usize::MAX);
            let left = left.min(row.len());
            let width = usize::try_from(fan).unwrap_or(usize::MAX);
            let right = left + (row.len() - left) / width * width;
            let index = |at: usize| first + at as u64;
            for (at, node) in row.iter().enumerate() {
                if at < left || at >= right {
                    subtrees.push((level, index(at), *node));
                }
            }
            if left == right {
                break;
            }
            let start = index(left);
            let whole = row.get(left..right).unwrap_or_default();
            let places = (start..).step_by(width);
            row = (whole.chunks(width).zip(places))
                .map(|(children, first)| self.join(level, first, children))
                .collect();
            first = start / fan;
        }
        subtrees
    }

    fn fan(&self, level: u8) -> u64 {
        if self.keep == Some(level) { NEVER } else { self.layer.fanout(level) }
    }

    fn join(&self, level: u8, first: u64, children: &[Node]) -> Node {
        self.layer.join(Place { length: self.length, level, first }, children)
    }
}

impl Forest {
    pub(crate) fn new(tree: Tree) -> Self {
        Self { tree, nodes: BTreeMap::new() }
    }

    pub(crate) fn tree(&self) -> Tree {
        self.tree
    }

    /// Bytes of the content.
    pub(crate) fn length(&self) -> u64 {
        self.tree.length
    }

    /// How many subtrees there are.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Takes a whole subtree that is not there yet, and joins it with its brothers when all are there.
    pub(crate) fn insert(&mut self, (mut level, mut index, mut node): Subtree) {
        loop {
            let fan = self.tree.fan(level);
            let first = index - index % fan;
            let brothers = (level, first)..=(level, first.saturating_add(fan - 1));
            let all = fan != NEVER && self.nodes.range(brothers.clone()).count() as u64 + 1 == fan;
            self.nodes.insert((level, index), node);
            if !all {
                return;
            }
            let children: Vec<Node> = self.nodes.range(brothers).map(|(_, node)| *node).collect();
            for brother in first..=first.saturating_add(fan - 1) {
                self.nodes.remove(&(level, brother));
            }
            node = self.tree.join(level, first, &children);
            (level, index) = (level.saturating_add(1), first / fan);
        }
    }

    /// The nodes of a level that are not joined, from left to right.
    pub(crate) fn row(&self, level: u8) -> Vec<Node> {
        self.nodes.range((level, 0)..=(level, u64::MAX)).map(|(_, node)| *node).collect()
    }

    /// The root, when every leaf is there, made as the layer joins nodes.
    pub(crate) fn root(&self) -> Option<Node> {
        self.close(None, |place, children| self.tree.layer.join(place, children)).pop()
    }

    /// The nodes of a level, or the root, when every leaf is there. `join` makes parents at the right edge, and above
    /// the level that is kept. A level above the root has the root.
    pub(crate) fn close(
        &self,
        until: Option<u8>,
        join: impl Fn(Place, &[Node]) -> Node,
    ) -> Vec<Node> {
        let top = self.nodes.keys().next_back().map_or(0, |(level, _)| *level);
        let mut row: Vec<Node> = Vec::new();
        let mut next = 0;
        for level in 0..u8::MAX {
            let (nodes, carried) = (self.row(level), row);
            let key = self.nodes.range((level, 0)..=(level, u64::MAX)).next();
            let first = key.map_or(next, |((_, index), _)| *index);
            row = nodes;
            row.extend(carried);
            if until == Some(level) || (level >= top && row.len() <= 1 && until.is_none()) {
                return row;
            }
            let fan = self.tree.layer.fanout(level);
            let width = usize::try_from(fan).unwrap_or(usize::MAX);
            let places = (first..).step_by(width);
            next = first / fan;
            row = (row.chunks(width).zip(places))
                .map(|(children, first)| {
                    join(Place { length: self.tree.length, level, first }, children)
                })
                .collect();
        }
        row
    }

    /// The leaves that are there, as runs in no order.
    pub(crate) fn covered(&self) -> impl Iterator<Item = std::ops::Range<u64>> + '_ {
        self.nodes.keys().map(|(level, index)| {
            let span =
                (0..*level).fold(1u64, |span, level| span.saturating_mul(self.tree.fan(level)));
            let start = index.saturating_mul(span);
            start..start.saturating_add(span)
        })
    }
}
