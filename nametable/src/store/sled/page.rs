//! A page: contents in one value of sled, because a value of its own for each would cost more than the content.
//!
//! ```text
//! varint: authors · each author's text, counted · contents, each counted
//! ```

use std::sync::Arc;

use p2pbridge_proto::ContentId;

use crate::{
    Content,
    catalog::packed::{Packed, Reader, encode, put_text, put_varint},
};

/// Bytes of a page, unless a single content needs more. Half of what a value may have: a change of one content writes its
/// page anew, and sled reads whole leaves.
pub(super) const PAGE: usize = 2_000;

/// Under so many bytes a page is filled again.
pub(super) const ROOMY: usize = PAGE * 17 / 20;

/// The most bytes of a varint that counts what is in a page.
const COUNT: usize = 5;

/// A page that is being made.
#[derive(Default)]
pub(super) struct Packer {
    authors: Vec<Arc<str>>,
    /// Bytes of the authors' texts.
    texts: usize,
    body: Vec<u8>,
    pub(super) ids: Vec<ContentId>,
    draft: Vec<u8>,
}

impl Packer {
    /// Adds a content; `false`, and nothing is added, when it has no room. An empty page has room for any.
    pub(super) fn push(&mut self, content: &Content) -> bool {
        let before = self.authors.len();
        let authors = &mut self.authors;
        self.draft.clear();
        let place = |who: &Arc<str>| {
            let place = authors.iter().position(|author| author == who).unwrap_or_else(|| {
                authors.push(Arc::clone(who));
                authors.len() - 1
            });
            u32::try_from(place + 1).unwrap_or_default()
        };
        encode(content, place, &mut self.draft);
        let new = self.authors.get(before..).unwrap_or_default();
        let texts: usize = self.texts + new.iter().map(|text| text.len() + COUNT).sum::<usize>();
        let size = COUNT + texts + self.body.len() + COUNT + self.draft.len();
        if size > PAGE && !self.ids.is_empty() {
            self.authors.truncate(before);
            return false;
        }
        self.texts = texts;
        put_varint(&mut self.body, self.draft.len() as u64);
        self.body.extend_from_slice(&self.draft);
        self.ids.push(content.id);
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Bytes of it, or some more.
    pub(super) fn size(&self) -> usize {
        COUNT + self.texts + self.body.len()
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.size());
        put_varint(&mut bytes, self.authors.len() as u64);
        for author in &self.authors {
            put_text(&mut bytes, author);
        }
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// The contents of a page; `None` when it is damaged.
pub(super) fn unpack(bytes: &[u8]) -> Option<Vec<Arc<Content>>> {
    let mut reader = Reader(bytes);
    let mut authors: Vec<Arc<str>> = Vec::new();
    for _ in 0..reader.varint()? {
        authors.push(reader.text()?.into());
    }
    let mut contents = Vec::new();
    while !reader.0.is_empty() {
        contents.push(Arc::new(Packed(reader.counted()?).unpack(&authors)?));
    }
    Some(contents)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalog::packed::tests::any_content;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_fits_comes_back(contents in prop::collection::vec(any_content(200), 1..30)) {
            let mut page = Packer::default();
            let fit: Vec<_> = contents.iter().take_while(|content| page.push(content)).collect();
            let bytes = page.to_bytes();
            prop_assert!(bytes.len() <= page.size());
            prop_assert!(fit.len() == 1 || page.size() <= PAGE);
            let back = unpack(&bytes).unwrap();
            prop_assert_eq!(back.iter().map(|content| &**content).collect::<Vec<_>>(), fit);
            prop_assert_eq!(back.iter().map(|content| content.id).collect::<Vec<_>>(), page.ids);
            for end in 0..bytes.len() {
                let _ = unpack(&bytes[..end]);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..99)) {
            let _ = unpack(&bytes);
        }
    }
}
