//! One block grid for all layouts: every content is cut at every border of every layout concerned, so that a block lies
//! in exactly one chunk of each name that has it.

use std::collections::{BTreeMap, HashMap};

use p2pbridge_proto::{ContentId, Extent, Layout};

/// A run of a content's bytes that no chunk border of any layout cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// The content.
    pub(crate) content: ContentId,
    /// First byte in the content.
    pub(crate) offset: u64,
    /// Number of bytes; never 0.
    pub(crate) length: u32,
}

/// A part of a chunk: a whole block, or padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The block with this number.
    Block(usize),
    /// So many zeros.
    Zeros(u64),
}

/// The blocks of all contents that a set of layouts shows.
#[derive(Debug)]
pub(crate) struct Grid {
    blocks: Vec<Block>,
    /// Where each content's blocks begin and end in `blocks`.
    spans: HashMap<ContentId, (usize, usize)>,
}

impl Grid {
    /// Cuts the contents of these layouts; no block is longer than `longest`.
    pub(crate) fn new(layouts: &[&Layout], longest: u32) -> Self {
        let longest = u64::from(longest.max(1));
        let mut borders: BTreeMap<ContentId, Vec<u64>> = BTreeMap::new();
        for layout in layouts {
            for extent in layout.extents() {
                let cuts = borders.entry(extent.content).or_default();
                cuts.extend([extent.content_offset, extent.content_range().end]);
                let mut border = (extent.offset / layout.unit() + 1) * layout.unit();
                while border < extent.range().end {
                    cuts.push(extent.content_offset + (border - extent.offset));
                    border += layout.unit();
                }
            }
        }
        let mut blocks = Vec::new();
        let mut spans = HashMap::new();
        for (content, mut cuts) in borders {
            cuts.sort_unstable();
            cuts.dedup();
            let first = blocks.len();
            for pair in cuts.windows(2) {
                let (mut at, end) = (pair[0], pair[1]);
                while at < end {
                    let length = longest.min(end - at);
                    let short = u32::try_from(length).unwrap_or(u32::MAX);
                    blocks.push(Block { content, offset: at, length: short });
                    at += length;
                }
            }
            spans.insert(content, (first, blocks.len()));
        }
        Self { blocks, spans }
    }

    /// All blocks, by content and offset.
    pub(crate) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// Numbers of the blocks that touch a run of a content's bytes.
    pub(crate) fn blocks_in(
        &self,
        content: ContentId,
        start: u64,
        end: u64,
    ) -> std::ops::Range<usize> {
        let Some(&(first, last)) = self.spans.get(&content) else { return 0..0 };
        let own = &self.blocks[first..last];
        let from = own.partition_point(|block| block.offset + u64::from(block.length) <= start);
        let to = own.partition_point(|block| block.offset < end);
        first + from..first + to.max(from)
    }

    /// What a chunk of a layout consists of, in order.
    pub(crate) fn parts(&self, layout: &Layout, chunk: u32) -> Vec<Part> {
        let range = layout.chunk_range(chunk);
        let mut parts = Vec::new();
        let mut at = range.start;
        for extent in layout.extents_in(range.clone()) {
            if at < extent.offset {
                parts.push(Part::Zeros(extent.offset - at));
            }
            let run = extent.content_range();
            parts.extend(self.blocks_in(extent.content, run.start, run.end).map(Part::Block));
            at = extent.range().end;
        }
        if at < range.end {
            parts.push(Part::Zeros(range.end - at));
        }
        parts
    }
}

/// Where the contents are in one layout: the way from a block to a name's bytes.
#[derive(Debug)]
pub(crate) struct Places {
    by_content: HashMap<ContentId, Vec<Extent>>,
    unit: u64,
}

impl Places {
    /// The index of a layout.
    pub(crate) fn new(layout: &Layout) -> Self {
        let mut by_content: HashMap<ContentId, Vec<Extent>> = HashMap::new();
        for extent in layout.extents() {
            by_content.entry(extent.content).or_default().push(*extent);
        }
        Self { by_content, unit: layout.unit() }
    }

    /// Where the layout shows a content.
    pub(crate) fn extents(&self, content: ContentId) -> &[Extent] {
        self.by_content.get(&content).map_or(&[], Vec::as_slice)
    }

    /// First bytes of a block in the layout: one for each place where the layout shows it.
    pub(crate) fn offsets<'a>(&'a self, block: &'a Block) -> impl Iterator<Item = u64> + 'a {
        let end = block.offset + u64::from(block.length);
        self.extents(block.content)
            .iter()
            .filter(move |extent| {
                let run = extent.content_range();
                run.start <= block.offset && end <= run.end
            })
            .map(|extent| extent.offset + (block.offset - extent.content_offset))
    }

    /// The chunks in which a block lies: one for each place.
    pub(crate) fn chunks<'a>(&'a self, block: &'a Block) -> impl Iterator<Item = u32> + 'a {
        self.offsets(block).filter_map(|offset| u32::try_from(offset / self.unit).ok())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn content(number: u8) -> ContentId {
        ContentId::from_bytes([number; 16])
    }

    /// Lays contents one after another, with a gap of padding between them.
    fn layout(unit: u64, gap: u64, parts: &[(u8, u64)]) -> Layout {
        let mut extents = Vec::new();
        let mut at = 0;
        for &(number, length) in parts {
            if length > 0 {
                extents.push(Extent {
                    offset: at,
                    length,
                    content: content(number),
                    content_offset: 0,
                });
            }
            at += length + gap;
        }
        Layout::new(at, unit, extents).unwrap()
    }

    proptest! {
        #[test]
        fn a_block_lies_in_one_chunk_of_each_layout_and_chunks_are_made_of_whole_blocks(
            lengths in prop::collection::vec(0u64..400, 1..5),
            units in (1u64..90, 1u64..90),
            gap in 0u64..20,
            longest in 1u32..64,
        ) {
            let parts: Vec<(u8, u64)> = (0u8..).zip(lengths.iter().copied()).collect();
            let turned: Vec<(u8, u64)> = parts.iter().rev().copied().collect();
            let layouts = [layout(units.0, gap, &parts), layout(units.1, 0, &turned)];
            let grid = Grid::new(&[&layouts[0], &layouts[1]], longest);
            prop_assert_eq!(
                grid.blocks().iter().map(|block| u64::from(block.length)).sum::<u64>(),
                lengths.iter().sum::<u64>()
            );
            for layout in &layouts {
                let places = Places::new(layout);
                for (number, block) in grid.blocks().iter().enumerate() {
                    prop_assert!(block.length <= longest);
                    let offset = places.offsets(block).next().unwrap();
                    let chunk = places.chunks(block).next().unwrap();
                    let range = layout.chunk_range(chunk);
                    prop_assert!(range.start <= offset);
                    prop_assert!(offset + u64::from(block.length) <= range.end);
                    prop_assert!(grid.parts(layout, chunk).contains(&Part::Block(number)));
                }
                for chunk in 0..layout.chunk_count() {
                    let range = layout.chunk_range(chunk);
                    let length: u64 = grid.parts(layout, chunk).iter().map(|part| match part {
                        Part::Block(number) => u64::from(grid.blocks()[*number].length),
                        Part::Zeros(zeros) => *zeros,
                    }).sum();
                    prop_assert_eq!(length, range.end - range.start);
                }
            }
        }
    }
}
