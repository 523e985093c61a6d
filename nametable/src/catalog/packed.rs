//! A content as bytes, in memory and in the store alike.
//!
//! ```text
//! id (16) · varint: runs × 2 + (1 if a length follows) · [varint: length] · runs · title (the rest)
//! run:  evidence + 4 × (names − 1) (1) · varint: who said so · varint: since, in seconds · names
//! name: scheme's number (1) · digest
//! ```
//! Names that one statement brought stand in one run, since they share evidence, author and time. An author is his place
//! in a table that the holder of the bytes keeps, from 1; 0 is followed by a varint and the text itself.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use p2pbridge_proto::{ContentId, Evidence, Name, Scheme};

use crate::{Content, Known};

/// The most names of one run: its first byte has room for no more.
const MAX_RUN: usize = 64;

/// Bytes of a digest by its scheme's number; 0 where there is no scheme.
const DIGEST_LEN: [u8; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < Scheme::ALL.len() {
        let scheme = Scheme::ALL[at];
        table[scheme as usize] = scheme.digest_len() as u8;
        at += 1;
    }
    table
};

/// Appends a content. `who` gives an author's place in the table, from 1, or 0 when he has none.
pub(crate) fn encode(content: &Content, mut who: impl FnMut(&Arc<str>) -> u32, out: &mut Vec<u8>) {
    let runs = || content.names.chunk_by(|a, b| same_run(a, b)).flat_map(|run| run.chunks(MAX_RUN));
    out.extend_from_slice(content.id.as_bytes());
    let has_length = u64::from(content.length.is_some());
    put_varint(out, runs().count() as u64 * 2 + has_length);
    if let Some(length) = content.length {
        put_varint(out, length);
    }
    for run in runs() {
        let Some(first) = run.first() else { continue };
        out.push(evidence_number(first.evidence) | ((run.len() - 1) << 2) as u8);
        let place = who(&first.stated_by);
        put_varint(out, place.into());
        if place == 0 {
            put_text(out, &first.stated_by);
        }
        put_varint(out, seconds(first.since));
        for known in run {
            out.push(known.name.scheme() as u8);
            out.extend_from_slice(known.name.digest());
        }
    }
    out.extend_from_slice(content.title.as_bytes());
}

fn same_run(a: &Known, b: &Known) -> bool {
    a.evidence == b.evidence && a.since == b.since && a.stated_by == b.stated_by
}

/// A packed content, read where it lies. What its functions cannot understand they give as `None`: bytes that [`encode`]
/// made never are.
#[derive(Clone, Copy)]
pub(crate) struct Packed<'a>(pub(crate) &'a [u8]);

/// A run of names.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) evidence: u8,
    pub(crate) who: Who<'a>,
    pub(crate) since: u64,
    names: &'a [u8],
}

/// Who said something.
#[derive(Clone, Copy)]
pub(crate) enum Who<'a> {
    /// The author at this place of the table, from 0.
    Place(usize),
    Text(&'a str),
}

impl<'a> Packed<'a> {
    pub(crate) fn id(self) -> Option<ContentId> {
        self.0.first_chunk().copied().map(ContentId::from_bytes)
    }

    pub(crate) fn length(self) -> Option<u64> {
        self.head().and_then(|(length, _)| length)
    }

    /// Its length, and its runs with what follows them.
    fn head(self) -> Option<(Option<u64>, Runs<'a>)> {
        let mut reader = Reader(self.0.get(16..)?);
        let head = reader.varint()?;
        let length = if head & 1 == 1 { Some(reader.varint()?) } else { None };
        Some((length, Runs { left: head >> 1, reader }))
    }

    pub(crate) fn runs(self) -> Runs<'a> {
        self.head().map_or(Runs { left: 0, reader: Reader(&[]) }, |(_, runs)| runs)
    }

    /// Each name's scheme's number and digest.
    pub(crate) fn names(self) -> impl Iterator<Item = (u8, &'a [u8])> {
        self.runs().flat_map(Run::names)
    }

    pub(crate) fn has(self, name: &Name) -> bool {
        let (scheme, digest) = (name.scheme() as u8, name.digest());
        self.names().any(|(number, bytes)| number == scheme && bytes == digest)
    }

    /// The content, with authors from a table; `None` when the bytes are damaged.
    pub(crate) fn unpack(self, authors: &[Arc<str>]) -> Option<Content> {
        let id = self.id()?;
        let (length, mut runs) = self.head()?;
        let mut names = Vec::new();
        while runs.left > 0 {
            let run = runs.next()?;
            let evidence = evidence_of(run.evidence)?;
            let stated_by = run.author(authors)?;
            let since = UNIX_EPOCH.checked_add(Duration::from_secs(run.since))?;
            for (number, digest) in run.names() {
                let name = Name::new(Scheme::from_number(number)?, digest).ok()?;
                names.push(Known { name, evidence, stated_by: Arc::clone(&stated_by), since });
            }
        }
        let title = std::str::from_utf8(runs.reader.0).ok()?.to_owned();
        Some(Content { id, length, title, names })
    }
}

impl<'a> Run<'a> {
    pub(crate) fn names(self) -> Names<'a> {
        Names(self.names)
    }

    fn author(self, authors: &[Arc<str>]) -> Option<Arc<str>> {
        match self.who {
            Who::Place(place) => authors.get(place).cloned(),
            Who::Text(text) => Some(text.into()),
        }
    }
}

pub(crate) struct Runs<'a> {
    left: u64,
    reader: Reader<'a>,
}

impl<'a> Iterator for Runs<'a> {
    type Item = Run<'a>;

    fn next(&mut self) -> Option<Run<'a>> {
        self.left = self.left.checked_sub(1)?;
        let head = self.reader.byte()?;
        let who = match self.reader.varint()? {
            0 => Who::Text(self.reader.text()?),
            place => Who::Place(usize::try_from(place - 1).ok()?),
        };
        let since = self.reader.varint()?;
        let start = self.reader.0;
        for _ in 0..=head >> 2 {
            match DIGEST_LEN[usize::from(self.reader.byte()?)] {
                0 => return None,
                length => self.reader.take(length.into())?,
            };
        }
        let names = start.get(..start.len() - self.reader.0.len())?;
        Some(Run { evidence: head & 3, who, since, names })
    }
}

pub(crate) struct Names<'a>(&'a [u8]);

impl<'a> Iterator for Names<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (number, rest) = self.0.split_first()?;
        let (digest, rest) = rest.split_at_checked(DIGEST_LEN[usize::from(*number)].into())?;
        self.0 = rest;
        Some((*number, digest))
    }
}

/// Bytes that are read from the front.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// Seven bits a byte, the lowest first; the top bit says that more follow.
    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            if bits << shift >> shift != bits {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// A varint, and as many bytes.
    pub(crate) fn counted(&mut self) -> Option<&'a [u8]> {
        let count = self.varint()?;
        self.take(usize::try_from(count).ok()?)
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.counted()?).ok()
    }
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7F {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn evidence_number(evidence: Evidence) -> u8 {
    match evidence {
        Evidence::Hint => 0,
        Evidence::Attested => 1,
        Evidence::Verified => 2,
    }
}

pub(crate) fn evidence_of(number: u8) -> Option<Evidence> {
    [Evidence::Hint, Evidence::Attested, Evidence::Verified].get(usize::from(number)).copied()
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        /// A name of any scheme, of few digests.
        pub(crate) fn any_name(digests: u8)(index in 0..Scheme::ALL.len(), digest in 0..digests) -> Name {
            let scheme = Scheme::ALL[index];
            Name::new(scheme, &[digest; 32][..scheme.digest_len()]).unwrap()
        }
    }

    prop_compose! {
        /// A content whose names are told apart by their scheme and one byte.
        pub(crate) fn any_content(ids: u8)(
            id in 0..ids,
            length: Option<u64>,
            title in ".{0,40}",
            rows in prop::collection::vec((any_name(9), 0usize..3, 0..4u8, 0u64..3), 0..40),
        ) -> Content {
            let mut names: Vec<Known> = Vec::new();
            for (name, evidence, who, since) in rows {
                if names.iter().all(|known| known.name != name) {
                    let evidence = evidence_of(evidence as u8).unwrap();
                    let stated_by = "x".repeat(usize::from(who) * 90).into();
                    let since = UNIX_EPOCH + Duration::from_secs(since << 31);
                    names.push(Known { name, evidence, stated_by, since });
                }
            }
            Content { id: ContentId::from_bytes([id; 16]), length, title, names }
        }
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_back(content in any_content(200), with_table: bool) {
            let mut authors: Vec<Arc<str>> = Vec::new();
            let mut bytes = Vec::new();
            encode(&content, |who| {
                if !with_table || who.is_empty() {
                    return 0;
                }
                authors.push(Arc::clone(who));
                authors.len() as u32
            }, &mut bytes);
            let packed = Packed(&bytes);
            prop_assert_eq!(packed.unpack(&authors), Some(content.clone()));
            prop_assert_eq!((packed.id(), packed.length()), (Some(content.id), content.length));
            prop_assert_eq!(packed.names().count(), content.names.len());
            prop_assert!(content.names.iter().all(|known| packed.has(&known.name)));
            for end in 0..bytes.len() {
                let _ = Packed(&bytes[..end]).unpack(&authors);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..99)) {
            let packed = Packed(&bytes);
            let _ = (packed.unpack(&[]), packed.id(), packed.length(), packed.names().count());
        }

        #[test]
        fn numbers_come_back(number: u64) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, number);
            prop_assert_eq!(Reader(&bytes).varint(), Some(number));
        }
    }

    #[test]
    fn a_usual_content_takes_little_room() {
        let schemes = [Scheme::Ed2k, Scheme::Tth, Scheme::Sha1, Scheme::Btih];
        let known = |scheme: Scheme| Known {
            name: Name::new(scheme, &[7; 32][..scheme.digest_len()]).unwrap(),
            evidence: Evidence::Attested,
            stated_by: "operator".into(),
            since: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        };
        let content = Content {
            id: ContentId::from_bytes([1; 16]),
            length: Some(700 << 20),
            title: String::new(),
            names: schemes.map(known).into(),
        };
        let mut bytes = Vec::new();
        encode(&content, |_| 1, &mut bytes);
        assert_eq!(bytes.len(), 16 + 1 + 5 + (1 + 1 + 5) + 4 + 16 + 24 + 20 + 20);
    }

    #[test]
    fn a_number_that_is_too_long_is_none() {
        assert_eq!(Reader(&[0xFF; 10]).varint(), None);
        assert_eq!(Reader(&[0x80; 11]).varint(), None);
    }
}
