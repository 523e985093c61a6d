//! A layer over one content whose bytes come in runs.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use super::{
    forest::{Forest, SUBTREE_MEMORY, Subtree, Tree},
    layer::{Layer, Leaf},
};

/// Takes runs of a content, none of them twice, in any order. What it has no room for is passed over, and is
/// [`missing`](Self::missing) then.
pub(crate) struct Lane {
    layer: &'static dyn Layer,
    forest: Forest,
    partial: HashMap<u64, Partial>,
    /// Bytes that are kept in `partial`.
    ahead: usize,
}

/// A leaf that is not whole yet.
struct Partial {
    hasher: Box<dyn Leaf>,
    /// Up to here it is hashed.
    next: u64,
    /// Runs that came before those in front of them.
    ahead: BTreeMap<u64, Box<[u8]>>,
}

/// Memory of a leaf in progress, and of a run that is kept: a hash's state, and what maps and boxes cost.
const PARTIAL_MEMORY: usize = 320;
const RUN_MEMORY: usize = 64;

impl Lane {
    /// `keep`: the level whose nodes are wanted too.
    pub(crate) fn new(layer: &'static dyn Layer, length: u64, keep: Option<u8>) -> Self {
        let mut forest = Forest::new(Tree { layer, length, keep });
        if length == 0 {
            forest.insert((0, 0, layer.begin(0).finish()));
        }
        Self { layer, forest, partial: HashMap::new(), ahead: 0 }
    }

    pub(crate) fn forest(&self) -> &Forest {
        &self.forest
    }

    /// Takes subtrees that were made by [`Tree::subtrees`] elsewhere.
    pub(crate) fn insert(&mut self, subtrees: Vec<Subtree>) {
        for subtree in subtrees {
            self.forest.insert(subtree);
        }
    }

    /// Takes a run of bytes. `room` is how much more memory may be used.
    pub(crate) fn feed(&mut self, mut offset: u64, mut bytes: &[u8], room: usize) {
        let most = self.memory().saturating_add(room);
        while !bytes.is_empty() {
            let leaf = self.layer.leaf_of(offset);
            let range = self.layer.leaf_range(leaf, self.forest.length());
            let end = offset.saturating_add(bytes.len() as u64);
            let whole = self.whole_leaves(leaf, offset, end);
            let until = if whole > offset { whole } else { range.end.min(end) };
            if until <= offset {
                return;
            }
            let length = usize::try_from(until - offset).unwrap_or(usize::MAX);
            let Some((head, tail)) = bytes.split_at_checked(length) else { return };
            if whole > offset {
                if self.memory() < most {
                    self.insert(self.forest.tree().subtrees(leaf, head));
                }
            } else {
                self.feed_leaf(leaf, &range, offset, head, most);
            }
            (offset, bytes) = (until, tail);
        }
    }

    /// The end of the whole leaves that begin at an offset; the offset when there is none.
    fn whole_leaves(&self, leaf: u64, offset: u64, end: u64) -> u64 {
        if self.layer.leaf_start(leaf) != offset {
            return offset;
        }
        if end >= self.forest.length() {
            return self.forest.length();
        }
        self.layer.leaf_start(self.layer.leaf_of(end))
    }

    /// Takes bytes of a leaf that are not all of it.
    fn feed_leaf(&mut self, leaf: u64, range: &Range<u64>, offset: u64, bytes: &[u8], most: usize) {
        let memory = self.memory();
        let in_order =
            self.partial.get(&leaf).map_or(range.start, |partial| partial.next) == offset;
        let keeps = self.layer.keeps_ahead();
        if !self.partial.contains_key(&leaf) {
            if memory.saturating_add(PARTIAL_MEMORY) > most || !(in_order || keeps) {
                return;
            }
            let hasher = self.layer.begin(range.end - range.start);
            let partial = Partial { hasher, next: range.start, ahead: BTreeMap::new() };
            self.partial.insert(leaf, partial);
        }
        let Some(partial) = self.partial.get_mut(&leaf) else { return };
        if !in_order {
            let cost = bytes.len().saturating_add(RUN_MEMORY);
            if keeps && memory.saturating_add(cost) <= most {
                self.ahead += cost;
                partial.ahead.insert(offset, bytes.into());
            }
            return;
        }
        partial.hasher.update(bytes);
        partial.next = offset.saturating_add(bytes.len() as u64);
        while let Some(kept) = partial.ahead.remove(&partial.next) {
            self.ahead -= kept.len() + RUN_MEMORY;
            partial.hasher.update(&kept);
            partial.next = partial.next.saturating_add(kept.len() as u64);
        }
        if partial.next == range.end
            && let Some(partial) = self.partial.remove(&leaf)
        {
            self.forest.insert((0, leaf, partial.hasher.finish()));
        }
    }

    /// The bytes that are not hashed, by rising offset: leaves that are not there, from where they stop being in order.
    pub(crate) fn missing(&self) -> Vec<Range<u64>> {
        let length = self.forest.length();
        let mut covered: Vec<Range<u64>> = self.forest.covered().collect();
        covered.sort_unstable_by_key(|run| run.start);
        let (mut missing, mut leaf) = (Vec::new(), 0);
        let count = self.layer.count(length);
        for run in covered.into_iter().chain(std::iter::once(count..count)) {
            if leaf < run.start {
                let start = self.layer.leaf_start(leaf);
                missing.push(start..self.layer.leaf_range(run.start - 1, length).end);
            }
            leaf = run.end;
        }
        let mut begun: Vec<Range<u64>> = Vec::new();
        for (leaf, partial) in &self.partial {
            begun.push(self.layer.leaf_start(*leaf)..partial.next);
        }
        begun.sort_unstable_by_key(|run| run.start);
        super::runs::without(&missing, &begun)
    }

    /// Lets go of bytes that cannot be hashed before others are there; those are [`missing`](Self::missing) anyway.
    pub(crate) fn drop_ahead(&mut self) {
        self.partial.retain(|leaf, partial| {
            partial.ahead.clear();
            partial.next > self.layer.leaf_start(*leaf)
        });
        self.ahead = 0;
    }

    /// Bytes of memory, about.
    pub(crate) fn memory(&self) -> usize {
        self.ahead + self.partial.len() * PARTIAL_MEMORY + self.forest.len() * SUBTREE_MEMORY
    }
}
