//! Some of the titles, and in which of them each word stands. The words of a segment that is full are packed.

use std::collections::HashMap;

use super::query::{Term, WordHash};

/// Titles of a segment: a place in it has two bytes.
pub(super) const PLACES: usize = 1 << 14;

/// A title, and whose it is.
pub(super) struct Entry<K> {
    pub(super) key: K,
    pub(super) length: u64,
    pub(super) title: Box<str>,
}

pub(super) struct Segment<K> {
    /// None where one was taken out.
    pub(super) entries: Vec<Option<Entry<K>>>,
    pub(super) alive: usize,
    words: Words,
}

/// Where words stand: half of a word's hash leads to places, rising. Who finds one there looks at the title.
enum Words {
    Open(HashMap<u32, Vec<u16>>),
    Packed {
        /// Rising.
        hashes: Box<[u32]>,
        /// For each, where its places end; those of the next begin there.
        ends: Box<[u32]>,
        places: Box<[u16]>,
    },
}

/// What a search may still cost, in steps of some nanoseconds each.
pub(super) struct Work(pub(super) usize);

impl Work {
    /// Takes steps; `false` when there are no more.
    pub(super) fn take(&mut self, steps: usize) -> bool {
        self.0 = self.0.saturating_sub(steps);
        self.0 > 0
    }
}

impl<K> Segment<K> {
    pub(super) fn new() -> Self {
        Self { entries: Vec::new(), alive: 0, words: Words::Open(HashMap::new()) }
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= PLACES
    }

    /// Puts a title in; gives its place. The segment must not be full, nor packed.
    pub(super) fn push(&mut self, entry: Entry<K>, words: &[WordHash]) -> u16 {
        let place = u16::try_from(self.entries.len()).unwrap_or(u16::MAX);
        if let Words::Open(map) = &mut self.words {
            for word in words {
                let places = map.entry(half(*word)).or_default();
                if places.last() != Some(&place) {
                    places.push(place);
                }
            }
        }
        self.entries.push(Some(entry));
        self.alive += 1;
        place
    }

    /// Takes out what is at a place. Its words stay until the segment is made anew.
    pub(super) fn take(&mut self, place: u16) -> Option<Entry<K>> {
        let entry = self.entries.get_mut(usize::from(place))?.take();
        self.alive -= usize::from(entry.is_some());
        entry
    }

    /// Whether it is worth making anew.
    pub(super) fn is_sparse(&self) -> bool {
        self.alive * 2 <= self.entries.len()
    }

    /// Packs the words of a segment that is full.
    pub(super) fn pack(&mut self) {
        let Words::Open(map) = &mut self.words else { return };
        let mut rows: Vec<_> = std::mem::take(map).into_iter().collect();
        rows.sort_unstable_by_key(|(hash, _)| *hash);
        let hashes = rows.iter().map(|(hash, _)| *hash).collect();
        let (mut ends, mut places) = (Vec::with_capacity(rows.len()), Vec::new());
        for (_, row) in rows {
            places.extend(row);
            ends.push(u32::try_from(places.len()).unwrap_or(u32::MAX));
        }
        let (ends, places) = (ends.into_boxed_slice(), places.into_boxed_slice());
        self.words = Words::Packed { hashes, ends, places };
        self.entries.shrink_to_fit();
    }

    fn places(&self, word: WordHash) -> &[u16] {
        match &self.words {
            Words::Open(map) => map.get(&half(word)).map_or(&[], Vec::as_slice),
            Words::Packed { hashes, ends, places } => {
                let Ok(row) = hashes.binary_search(&half(word)) else { return &[] };
                let end = |row: usize| ends.get(row).map_or(0, |end| *end as usize);
                let start = row.checked_sub(1).map_or(0, end);
                places.get(start..end(row)).unwrap_or_default()
            }
        }
    }

    /// The places at which alone a term can hold, rising; `None` when it can at each.
    pub(super) fn candidates(&self, term: &Term, work: &mut Work) -> Option<Vec<u16>> {
        match term {
            Term::Words(words) | Term::Extension { words, .. } => self.all_words(words, work),
            Term::All(terms) => {
                let mut lists: Vec<_> =
                    terms.iter().filter_map(|term| self.candidates(term, work)).collect();
                lists.sort_by_key(Vec::len);
                let mut lists = lists.into_iter();
                let mut both = lists.next()?;
                lists.for_each(|list| keep_common(&mut both, &list, work));
                Some(both)
            }
            Term::Any(terms) => {
                let mut any = Vec::new();
                for term in terms {
                    any.extend(self.candidates(term, work)?);
                }
                work.take(any.len());
                any.sort_unstable();
                any.dedup();
                Some(any)
            }
            Term::ButNot(term, _) => self.candidates(term, work),
            Term::Kind(_) | Term::MinSize(_) | Term::MaxSize(_) | Term::MinSources(_) => None,
        }
    }

    /// The places of the rarest word at which the others stand too.
    fn all_words(&self, words: &[WordHash], work: &mut Work) -> Option<Vec<u16>> {
        let mut lists: Vec<_> = words.iter().map(|word| self.places(*word)).collect();
        lists.sort_by_key(|list| list.len());
        let (rarest, others) = lists.split_first()?;
        let mut common = rarest.to_vec();
        work.take(common.len());
        others.iter().for_each(|list| keep_common(&mut common, list, work));
        Some(common)
    }

    /// Bytes of memory, but for what titles take.
    pub(super) fn memory(&self) -> usize {
        let words = match &self.words {
            Words::Open(map) => {
                let places: usize = map.values().map(|places| places.capacity() * 2).sum();
                map.capacity() * (size_of::<(u32, Vec<u16>)>() + 1) + places
            }
            Words::Packed { hashes, ends, places } => {
                size_of_val(&**hashes) + size_of_val(&**ends) + size_of_val(&**places)
            }
        };
        self.entries.capacity() * size_of::<Option<Entry<K>>>() + words
    }
}

/// Leaves of a rising list what stands in a longer one too, by halving where there is much to leap over.
fn keep_common(list: &mut Vec<u16>, other: &[u16], work: &mut Work) {
    let mut rest = other;
    work.take(list.len() * 4);
    list.retain(|place| {
        // Mostly it is near.
        let mut step = 1;
        while rest.get(step).is_some_and(|other| other < place) {
            step *= 2;
        }
        let near = rest.get(step / 2..rest.len().min(step + 1)).unwrap_or_default();
        let skip = step / 2 + near.partition_point(|other| other < place);
        rest = rest.get(skip..).unwrap_or_default();
        rest.first() == Some(place)
    });
}

#[allow(clippy::cast_possible_truncation, reason = "half of the bits are meant")]
fn half(word: WordHash) -> u32 {
    word as u32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_two_lists_have_in_common_is_kept(
            one in prop::collection::btree_set(0u16..2_000, 0..60),
            other in prop::collection::btree_set(0u16..2_000, 0..900),
        ) {
            let mut list: Vec<_> = one.iter().copied().collect();
            let long: Vec<_> = other.iter().copied().collect();
            keep_common(&mut list, &long, &mut Work(usize::MAX));
            let common: BTreeSet<_> = one.intersection(&other).copied().collect();
            prop_assert_eq!(list.into_iter().collect::<BTreeSet<_>>(), common);
        }
    }
}
