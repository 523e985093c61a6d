//! A served peer, as far as the plan needs to know it: what it lacks, and what it does not want.
//!
//! A peer that lacks a chunk may not want it: people choose files of a folder. It says only whether it wants anything of what
//! was announced to it. So when it wants nothing, though much is there for it, the files of that are passed over, and of the
//! next file one chunk is brought to see whether it wants that one.

use std::{collections::HashMap, ops::Range};

use p2pbridge_adapters::Description;
use p2pbridge_proto::Bits;
use tokio::time::{Duration, Instant};

/// Chunks, served in part, that are remembered for one peer.
const MOST_PARTLY: usize = 1_000;
/// How long a peer wants nothing of what is there for it, until it is believed.
const UNWANTED: Duration = Duration::from_secs(3);
/// The same for a chunk that is there to see whether it is wanted.
const NOT_EVEN_THAT: Duration = Duration::from_secs(1);

/// A served peer.
pub(super) struct Attendee {
    pub(super) consumer: usize,
    /// `None` until the peer has told what it holds.
    pub(super) holds: Option<Bits>,
    /// Chunks that were published, that the peer lacks, and that it may want.
    outstanding: u32,
    /// Whether it wants something of what was announced to it; true for those that do not say.
    wants: bool,
    /// Since when it wants nothing of what is outstanding.
    unwanted: Option<Instant>,
    /// Chunks that are there for it and that it does not want.
    declined: Option<Bits>,
    /// Chunks of files that it does not want, in order.
    passed: Vec<Range<u32>>,
    /// Bytes of chunks that were served in part.
    pub(super) partly: HashMap<u32, u64>,
}

impl Attendee {
    pub(super) fn new(consumer: usize) -> Self {
        Self {
            consumer,
            holds: None,
            outstanding: 0,
            wants: true,
            unwanted: None,
            declined: None,
            passed: Vec::new(),
            partly: HashMap::new(),
        }
    }

    /// The peer has told what it holds.
    pub(super) fn holds(&mut self, chunks: Bits, published: &Bits) {
        self.partly.retain(|chunk, _| !chunks.has(*chunk));
        self.holds = Some(chunks);
        self.outstanding = u32::try_from(self.untaken(published).count()).unwrap_or(u32::MAX);
    }

    /// The peer has one more chunk.
    pub(super) fn gained(&mut self, chunk: u32, published: bool, of: &Description) {
        self.partly.remove(&chunk);
        let chunks = chunk_count(of);
        if !self.holds.get_or_insert_with(|| Bits::none(chunks)).set(chunk) || !published {
            return;
        }
        if self.declined.as_mut().is_some_and(|declined| declined.clear(chunk)) {
            // It wants these files after all.
            let inner: Vec<_> = files_with(of, chunk..chunk + 1).collect();
            self.passed.retain(|passed| !inner.contains(passed));
        } else {
            self.outstanding = self.outstanding.saturating_sub(1);
        }
    }

    /// Bytes of a chunk were handed to the peer, of which there are so many; gives whether it has all of them now.
    pub(super) fn served(&mut self, chunk: u32, bytes: u64, length: u64) -> bool {
        if self.partly.len() >= MOST_PARTLY && !self.partly.contains_key(&chunk) {
            self.partly.clear();
        }
        let served = self.partly.entry(chunk).or_default();
        *served += bytes;
        *served >= length
    }

    /// A chunk was published.
    pub(super) fn published(&mut self, chunk: u32) {
        let lacks = self.holds.as_ref().is_some_and(|holds| !holds.has(chunk));
        self.outstanding += u32::from(lacks);
    }

    /// The peer says whether it wants something of what was announced to it.
    pub(super) fn wants(&mut self, wants: bool) {
        self.wants = wants;
        if wants {
            self.unwanted = None;
        }
    }

    /// How many chunks may be brought ahead of it, of so many at most.
    pub(super) fn room(&self, window: u32) -> u32 {
        let window = if self.is_tried() { 1 } else { window };
        window.saturating_sub(self.outstanding)
    }

    /// Whether it lacks a chunk, and may want it.
    pub(super) fn may_take(&self, chunk: u32) -> bool {
        self.holds.as_ref().is_some_and(|holds| !holds.has(chunk)) && self.passes(chunk).is_none()
    }

    /// The chunks from one on that it may want, in order.
    pub(super) fn may_want(&self, from: u32, chunks: u32) -> impl Iterator<Item = u32> + '_ {
        let mut next = from;
        std::iter::from_fn(move || {
            while let Some(end) = self.passes(next) {
                next = end;
            }
            let chunk = next;
            next += 1;
            (chunk < chunks).then_some(chunk)
        })
    }

    /// Where the files end that it does not want and in which a chunk lies.
    pub(super) fn passes(&self, chunk: u32) -> Option<u32> {
        let behind = self.passed.partition_point(|passed| passed.start <= chunk);
        let passed = self.passed.get(behind.checked_sub(1)?)?;
        passed.contains(&chunk).then_some(passed.end)
    }

    /// Nothing more can be brought for it before it takes what is there. Gives when it is believed that it wants none of
    /// that, or nothing when it wants some; from then on the files of it are passed over.
    pub(super) fn is_full(
        &mut self,
        published: impl FnOnce() -> Bits,
        of: &Description,
        now: Instant,
    ) -> Option<Instant> {
        if self.wants || self.outstanding == 0 {
            self.unwanted = None;
            return None;
        }
        let patience = if self.is_tried() { NOT_EVEN_THAT } else { UNWANTED };
        let believed = *self.unwanted.get_or_insert(now) + patience;
        if believed <= now {
            self.pass_over(&published(), of);
        }
        Some(believed)
    }

    fn is_tried(&self) -> bool {
        !self.wants && !self.passed.is_empty()
    }

    fn untaken<'a>(&'a self, published: &'a Bits) -> impl Iterator<Item = u32> + 'a {
        published.ones().filter(|chunk| {
            self.holds.as_ref().is_some_and(|holds| !holds.has(*chunk))
                && !self.declined.as_ref().is_some_and(|declined| declined.has(*chunk))
        })
    }

    fn pass_over(&mut self, published: &Bits, of: &Description) {
        let untaken: Vec<u32> = self.untaken(published).collect();
        let declined = self.declined.get_or_insert_with(|| Bits::none(chunk_count(of)));
        for chunk in &untaken {
            declined.set(*chunk);
        }
        for run in runs(&untaken) {
            self.passed.extend(files_with(of, run).filter(|chunks| !chunks.is_empty()));
        }
        self.passed.sort_unstable_by_key(|passed| (passed.start, passed.end));
        self.passed.dedup();
        (self.outstanding, self.unwanted) = (0, None);
    }
}

fn chunk_count(of: &Description) -> u32 {
    number(of.length.div_ceil(of.unit.max(1)))
}

/// Of the files that lie in a run of chunks, in whole or in part: the chunks that have bytes of no other file.
fn files_with(of: &Description, chunks: Range<u32>) -> impl Iterator<Item = Range<u32>> + '_ {
    let unit = of.unit.max(1);
    let (start, end) = (u64::from(chunks.start) * unit, u64::from(chunks.end) * unit);
    let first = of.files.partition_point(|file| file.offset + file.length <= start);
    let files = of.files.iter().enumerate().skip(first);
    let files = files.take_while(move |(_, file)| file.offset < end);
    files.filter(|(_, file)| file.length > 0).map(move |(at, file)| {
        let next = of.files.iter().skip(at + 1).find(|file| file.length > 0);
        let behind = next.map_or(chunk_count(of), |next| number(next.offset / unit));
        let own = number(file.offset.div_ceil(unit));
        own..behind.max(own)
    })
}

fn number(chunk: u64) -> u32 {
    u32::try_from(chunk).unwrap_or(u32::MAX)
}

/// Numbers in order, put together where they follow each other.
fn runs(numbers: &[u32]) -> impl Iterator<Item = Range<u32>> + '_ {
    numbers
        .chunk_by(|one, next| one + 1 == *next)
        .filter_map(|run| Some(*run.first()?..*run.last()? + 1))
}
