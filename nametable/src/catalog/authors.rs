use std::{collections::HashMap, sync::Arc};

/// The most authors that are kept once for all; what others say is kept with their text.
const MAX_AUTHORS: usize = 16_384;

/// Bytes of the longest text that is kept once for all.
const MAX_TEXT: usize = 256;

/// Who says what: the same few again and again.
#[derive(Default)]
pub(super) struct Authors {
    by_place: Vec<Arc<str>>,
    places: HashMap<Arc<str>, u32>,
}

impl Authors {
    /// An author's place, from 1; 0 when he gets none.
    pub(super) fn place(&mut self, who: &Arc<str>) -> u32 {
        if let Some(place) = self.places.get(who) {
            return *place;
        }
        if self.by_place.len() >= MAX_AUTHORS || who.len() > MAX_TEXT {
            return 0;
        }
        self.by_place.push(Arc::clone(who));
        let place = self.by_place.len() as u32;
        self.places.insert(Arc::clone(who), place);
        place
    }

    /// All that have a place, in order.
    pub(super) fn all(&self) -> &[Arc<str>] {
        &self.by_place
    }

    /// Bytes of memory.
    pub(super) fn memory(&self) -> usize {
        let texts: usize = self.by_place.iter().map(|text| text.len() + 32).sum();
        texts + self.by_place.capacity() * 16 + self.places.capacity() * 25
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_one_place_until_there_are_too_many() {
        let mut authors = Authors::default();
        assert_eq!((authors.place(&"a".into()), authors.place(&"b".into())), (1, 2));
        assert_eq!((authors.place(&"a".into()), &*authors.all()[1]), (1, "b"));
        assert_eq!(authors.place(&"x".repeat(MAX_TEXT + 1).into()), 0);
        for number in 2..MAX_AUTHORS {
            authors.place(&number.to_string().into());
        }
        assert_eq!((authors.place(&"c".into()), authors.place(&"b".into())), (0, 2));
    }
}
