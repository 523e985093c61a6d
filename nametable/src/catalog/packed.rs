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
    ops::ControlFlow,
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
    let runs = || content.names.chunk_by(same_run).flat_map(|run| run.chunks(MAX_RUN));
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

/// Runs that follow, and what follows them.
struct Runs<'a> {
    left: u64,
    reader: Reader<'a>,
}

/// What stands before the names of a run: evidence, how many names, who said so, since when.
type RunHead<'a> = (u8, u8, Who<'a>, u64);

/// Who said something.
#[derive(Clone, Copy)]
enum Who<'a> {
    /// The author at this place of the table, from 0.
    Place(usize),
    Text(&'a str),
}

impl Who<'_> {
    fn author(self, authors: &[Arc<str>]) -> Option<Arc<str>> {
        match self {
            Who::Place(place) => authors.get(place).cloned(),
            Who::Text(text) => Some(text.into()),
        }
    }
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

    /// Gives the evidence's number, the scheme's number and the digest of each name, until it is told to stop.
    #[inline]
    pub(crate) fn each(self, mut f: impl FnMut(u8, u8, &'a [u8]) -> ControlFlow<()>) {
        let Some((_, Runs { left, mut reader })) = self.head() else { return };
        for _ in 0..left {
            let Some((evidence, count, ..)) = reader.run() else { return };
            for _ in 0..count {
                let Some((number, digest)) = reader.name() else { return };
                if f(evidence, number, digest).is_break() {
                    return;
                }
            }
        }
    }

    #[inline]
    pub(crate) fn has(self, name: &Name) -> bool {
        let (scheme, digest, mut has) = (name.scheme() as u8, name.digest(), false);
        self.each(|_, number, bytes| {
            has = number == scheme && bytes == digest;
            if has { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        has
    }

    /// The content, with authors from a table; `None` when the bytes are damaged.
    pub(crate) fn unpack(self, authors: &[Arc<str>]) -> Option<Content> {
        let id = self.id()?;
        let (length, Runs { left, mut reader }) = self.head()?;
        let mut names = Vec::new();
        for _ in 0..left {
            let (evidence, count, who, since) = reader.run()?;
            let evidence = evidence_of(evidence)?;
            let stated_by = who.author(authors)?;
            let since = UNIX_EPOCH.checked_add(Duration::from_secs(since))?;
            for _ in 0..count {
                let (number, digest) = reader.name()?;
                let name = Name::new(Scheme::from_number(number)?, digest).ok()?;
                names.push(Known { name, evidence, stated_by: Arc::clone(&stated_by), since });
            }
        }
        let title = std::str::from_utf8(reader.0).ok()?.to_owned();
        Some(Content { id, length, title, names })
    }
}

/// Bytes that are read from the front.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// Seven bits a byte, the lowest first; the top bit says that more follow.
    #[inline]
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

    #[inline]
    fn run(&mut self) -> Option<RunHead<'a>> {
        let head = self.byte()?;
        let who = match self.varint()? {
            0 => Who::Text(self.text()?),
            place => Who::Place(usize::try_from(place - 1).ok()?),
        };
        Some((head & 3, (head >> 2) + 1, who, self.varint()?))
    }

    /// A scheme's number and a digest.
    #[inline]
    fn name(&mut self) -> Option<(u8, &'a [u8])> {
        let number = self.byte()?;
        let length = DIGEST_LEN[usize::from(number)];
        if length == 0 {
            return None;
        }
        Some((number, self.take(length.into())?))
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
            let mut count = 0;
            packed.each(|evidence, _, _| {
                count += 1;
                if evidence < 3 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            prop_assert_eq!(count, content.names.len());
            prop_assert!(content.names.iter().all(|known| packed.has(&known.name)));
            for end in 0..bytes.len() {
                let _ = Packed(&bytes[..end]).unpack(&authors);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..99)) {
            let packed = Packed(&bytes);
            let _ = (packed.unpack(&[]), packed.id(), packed.length());
            packed.each(|_, _, _| ControlFlow::Continue(()));
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
