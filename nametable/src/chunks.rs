//! How byte ranges, chunks and availability of one layout correspond to those of another, over the contents that both
//! share. Ranges are mapped, never chunk numbers: the borders of two layouts may meet nowhere.

use std::{collections::HashMap, ops::Range};

use p2pbridge_proto::{Bits, ContentId, Layout};

/// A run of bytes that two layouts share; both ranges have the same length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapped {
    /// Where it is in the layout that was asked about.
    pub from: Range<u64>,
    /// Where it is in the other layout.
    pub to: Range<u64>,
}

/// The correspondence between two layouts. Making it costs `O(n log n)` in the extents of `to`; each look-up costs
/// about as much as it gives.
pub struct ChunkMap<'a> {
    from: &'a Layout,
    to: &'a Layout,
    places: HashMap<ContentId, Vec<Place>>,
}

/// A run of a content, and where in `to` it lies.
struct Place {
    content: Range<u64>,
    offset: u64,
    /// The greatest end of the places up to this one, by which a search backwards knows when to stop.
    reach: u64,
}

impl<'a> ChunkMap<'a> {
    /// Indexes the contents of `to`.
    #[must_use]
    pub fn new(from: &'a Layout, to: &'a Layout) -> Self {
        let mut places: HashMap<ContentId, Vec<Place>> = HashMap::new();
        for extent in to.extents() {
            let content = extent.content_range();
            let place = Place { content, offset: extent.offset, reach: 0 };
            places.entry(extent.content).or_default().push(place);
        }
        for list in places.values_mut() {
            list.sort_by_key(|place| (place.content.start, place.offset));
            let mut reach = 0;
            for place in list {
                reach = place.content.end.max(reach);
                place.reach = reach;
            }
        }
        Self { from, to, places }
    }

    /// The runs of a range of `from` that are in `to`, by rising offset in `from`, extent by extent. Bytes that are
    /// padding, or not in `to`, are left out. A content that is at several places of `to` is given at each of them, so
    /// that a hostile pair of layouts can make very many: take no more than you can use.
    pub fn range(&self, range: Range<u64>) -> impl Iterator<Item = Mapped> + '_ {
        self.from.extents_in(range).flat_map(move |extent| {
            let wanted = extent.content_range();
            self.places_of(extent.content, wanted.clone()).map(move |place| {
                let start = place.content.start.max(wanted.start);
                let length = place.content.end.min(wanted.end) - start;
                let from = extent.offset + (start - wanted.start);
                let to = place.offset + (start - place.content.start);
                Mapped { from: from..from + length, to: to..to + length }
            })
        })
    }

    /// As [`Self::range`], of a run of chunks of `from`.
    pub fn chunks(&self, chunks: Range<u32>) -> impl Iterator<Item = Mapped> + '_ {
        let start = self.from.chunk_range(chunks.start).start;
        let end = match chunks.end.checked_sub(1) {
            Some(last) if chunks.start < chunks.end => self.from.chunk_range(last).end,
            _ => start,
        };
        self.range(start..end)
    }

    /// The chunks of `to` that a mapped run touches.
    #[must_use]
    pub fn to_chunks(&self, mapped: &Mapped) -> Range<u32> {
        self.to.chunks_of(&mapped.to)
    }

    /// The places that touch a run of a content.
    fn places_of(&self, content: ContentId, wanted: Range<u64>) -> impl Iterator<Item = &Place> {
        let list = self.places.get(&content).map(Vec::as_slice).unwrap_or_default();
        let end = list.partition_point(|place| place.content.start < wanted.end);
        // `reach` never falls, so all before the first that reaches the wanted run end before it.
        let start = list.partition_point(|place| place.reach <= wanted.start);
        let start_of_run = wanted.start;
        list.get(start..end)
            .unwrap_or_default()
            .iter()
            .filter(move |place| place.content.end > start_of_run)
    }
}

/// All runs of a range of `from` that are in `to`, by rising offset in `from`, then in `to`. See [`ChunkMap::range`].
#[must_use]
pub fn map_range(from: &Layout, to: &Layout, range: Range<u64>) -> Vec<Mapped> {
    sorted(ChunkMap::new(from, to).range(range))
}

/// All runs of a run of chunks of `from` that are in `to`, by rising offset in `from`, then in `to`.
#[must_use]
pub fn map_chunks(from: &Layout, to: &Layout, chunks: Range<u32>) -> Vec<Mapped> {
    sorted(ChunkMap::new(from, to).chunks(chunks))
}

fn sorted(mapped: impl Iterator<Item = Mapped>) -> Vec<Mapped> {
    let mut list: Vec<_> = mapped.collect();
    list.sort_by_key(|mapped| (mapped.from.start, mapped.to.start));
    list
}

/// The chunks of `to` that can be made whole from the chunks of `from` that are had: those of which every byte is
/// padding, or lies in such a chunk. Costs `O(n log n)` in the extents of both and the runs of `have`.
#[must_use]
pub fn map_availability(from: &Layout, have: &Bits, to: &Layout) -> Bits {
    let mut held = held_contents(from, have);
    for runs in held.values_mut() {
        merge(runs);
    }
    let mut whole = Bits::all(to.chunk_count());
    for extent in to.extents() {
        let wanted = extent.content_range();
        let runs = held.get(&extent.content).map(Vec::as_slice).unwrap_or_default();
        let first = runs.partition_point(|run| run.end <= wanted.start);
        let mut at = wanted.start;
        let mut lack = |gap: Range<u64>| {
            let offset = extent.offset + (gap.start - wanted.start);
            for chunk in to.chunks_of(&(offset..offset + (gap.end - gap.start))) {
                whole.clear(chunk);
            }
        };
        for run in runs.get(first..).unwrap_or_default() {
            if run.start >= wanted.end {
                break;
            }
            if run.start > at {
                lack(at..run.start);
            }
            at = run.end;
        }
        if at < wanted.end {
            lack(at..wanted.end);
        }
    }
    whole
}

/// The runs of each content that lie in chunks that are had; unordered, and they may overlap.
fn held_contents(from: &Layout, have: &Bits) -> HashMap<ContentId, Vec<Range<u64>>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for chunk in have.ones().take_while(|chunk| *chunk < from.chunk_count()) {
        let range = from.chunk_range(chunk);
        match runs.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => runs.push(range),
        }
    }
    let mut held: HashMap<ContentId, Vec<Range<u64>>> = HashMap::new();
    for run in runs {
        for extent in from.extents_in(run) {
            held.entry(extent.content).or_default().push(extent.content_range());
        }
    }
    held
}

/// Sorts runs, and joins those that touch.
fn merge(runs: &mut Vec<Range<u64>>) {
    runs.sort_by_key(|run| run.start);
    runs.dedup_by(|next, last| {
        let joins = next.start <= last.end;
        if joins {
            last.end = last.end.max(next.end);
        }
        joins
    });
}

#[cfg(test)]
mod tests {
    use p2pbridge_proto::Extent;
    use proptest::prelude::*;

    use super::*;

    fn content(number: u8) -> ContentId {
        ContentId::from_bytes([number; 16])
    }

    /// Layouts over four contents of up to 40 bytes: extents of any part of them, with gaps, in any repetition.
    fn any_layout() -> impl Strategy<Value = Layout> {
        let extent = (0u64..6, 0u64..20, 1u64..20, 1u8..5);
        (prop::collection::vec(extent, 0..9), 1u64..17, 0u64..9).prop_map(|(parts, unit, tail)| {
            let mut offset = 0;
            let mut extents = Vec::new();
            for (gap, content_offset, length, number) in parts {
                let content = content(number);
                extents.push(Extent { offset: offset + gap, length, content, content_offset });
                offset += gap + length;
            }
            Layout::new(offset + tail, unit, extents).unwrap()
        })
    }

    /// What each byte of a layout is: `None` for padding.
    fn bytes_of(layout: &Layout) -> Vec<Option<(ContentId, u64)>> {
        let mut bytes = vec![None; usize::try_from(layout.length()).unwrap()];
        for extent in layout.extents() {
            for step in 0..extent.length {
                let at = usize::try_from(extent.offset + step).unwrap();
                bytes[at] = Some((extent.content, extent.content_offset + step));
            }
        }
        bytes
    }

    fn pairs_of(mapped: &[Mapped]) -> Vec<(u64, u64)> {
        let mut pairs: Vec<_> =
            mapped.iter().flat_map(|run| run.from.clone().zip(run.to.clone())).collect();
        pairs.sort_unstable();
        pairs
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn a_range_maps_as_its_bytes_do(
            from in any_layout(), to in any_layout(), start in 0u64..200, length in 0u64..200,
        ) {
            let range = start..start + length;
            let (from_bytes, to_bytes) = (bytes_of(&from), bytes_of(&to));
            let mut model = Vec::new();
            for (at, byte) in from_bytes.iter().enumerate() {
                for (there, other) in to_bytes.iter().enumerate() {
                    if byte.is_some() && byte == other && range.contains(&(at as u64)) {
                        model.push((at as u64, there as u64));
                    }
                }
            }
            let mapped = map_range(&from, &to, range);
            prop_assert!(mapped.iter().all(|run| !run.from.is_empty()));
            prop_assert!(mapped.is_sorted_by_key(|run| (run.from.start, run.to.start)));
            prop_assert_eq!(pairs_of(&mapped), model);
        }

        #[test]
        fn chunks_map_as_their_range_does(
            from in any_layout(), to in any_layout(), first in 0u32..30, count in 0u32..30,
        ) {
            let chunks = first..first + count;
            let start = from.chunk_range(first).start;
            let range = start..(start + u64::from(count) * from.unit()).min(from.length());
            prop_assert_eq!(map_chunks(&from, &to, chunks), map_range(&from, &to, range));
        }

        #[test]
        fn availability_is_that_of_the_bytes(
            from in any_layout(), to in any_layout(), marks in any::<[u64; 4]>(),
        ) {
            let mut have = Bits::none(from.chunk_count());
            for chunk in 0..from.chunk_count() {
                if marks[(chunk / 64 % 4) as usize] >> (chunk % 64) & 1 == 1 {
                    have.set(chunk);
                }
            }
            let mut held = std::collections::HashSet::new();
            for (at, byte) in bytes_of(&from).into_iter().enumerate() {
                if have.has(u32::try_from(at as u64 / from.unit()).unwrap()) {
                    held.extend(byte);
                }
            }
            let mut model = Bits::all(to.chunk_count());
            for (at, byte) in bytes_of(&to).into_iter().enumerate() {
                if byte.is_some_and(|byte| !held.contains(&byte)) {
                    model.clear(u32::try_from(at as u64 / to.unit()).unwrap());
                }
            }
            let mapped = map_availability(&from, &have, &to);
            prop_assert_eq!(mapped.as_bytes(), model.as_bytes());
        }
    }

    #[test]
    fn other_units_over_one_file() {
        let whole = |unit| {
            let extent = Extent { offset: 0, length: 1000, content: content(1), content_offset: 0 };
            Layout::new(1000, unit, vec![extent]).unwrap()
        };
        let (small, large) = (whole(256), whole(600));
        let map = ChunkMap::new(&small, &large);
        let mapped: Vec<_> = map.chunks(2..3).collect();
        assert_eq!(mapped, vec![Mapped { from: 512..768, to: 512..768 }]);
        assert_eq!(map.to_chunks(&mapped[0]), 0..2);
        let mut have = Bits::none(4);
        for chunk in [2, 3] {
            have.set(chunk);
        }
        assert_eq!(map_availability(&small, &have, &large).ones().collect::<Vec<_>>(), vec![1]);
    }

    #[test]
    fn a_layout_of_nothing_maps_to_nothing() {
        let empty = Layout::new(0, 16, vec![]).unwrap();
        let extent = Extent { offset: 0, length: 9, content: content(1), content_offset: 0 };
        let some = Layout::new(9, 4, vec![extent]).unwrap();
        assert!(map_range(&empty, &some, 0..u64::MAX).is_empty());
        assert!(map_chunks(&some, &empty, 0..u32::MAX).is_empty());
        assert_eq!(map_availability(&empty, &Bits::none(0), &some).count(), 0);
        assert_eq!(map_availability(&some, &Bits::all(3), &empty).len(), 0);
    }

    #[test]
    fn thousands_of_files_map_quickly() {
        let layout = |unit| {
            let extents = (0..20_000u64).map(|file| {
                let mut id = [1; 16];
                id[..8].copy_from_slice(&file.to_le_bytes());
                let content = ContentId::from_bytes(id);
                Extent { offset: file * 1_000, length: 900, content, content_offset: 0 }
            });
            Layout::new(20_000_000, unit, extents.collect()).unwrap()
        };
        let (from, to) = (layout(1 << 10), layout(1 << 14));
        let have = Bits::all(from.chunk_count());
        assert!(map_availability(&from, &have, &to).is_full());
        assert_eq!(map_range(&from, &to, 0..from.length()).len(), 20_000);
    }
}
