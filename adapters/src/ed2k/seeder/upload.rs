//! The ranges that one client has asked for: bounded, brought and read a few at a time, and queued in order, as they are
//! or compressed where that pays.

use std::{
    collections::{HashSet, VecDeque},
    io::Write as _,
    ops::Range,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use flate2::{Compression, write::ZlibEncoder};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesOrdered};
use tokio::time::timeout;

use super::super::{
    clients::{Gone, Link, Run},
    wire::{
        BLOCK, Hash, PART,
        transfer::{compressed_part_head, sending_part_head},
    },
};
use crate::{Attendance, ContentReader, ReadError};

/// Ranges that are kept; more are let go, and asked for again.
const MAX_ASKED: usize = 64;
/// Ranges that are being brought and read.
const READING: usize = 4;
/// The most bytes of one range.
pub(super) const MAX_RANGE: u64 = 3 * BLOCK;
/// Bytes of data in one message.
const PIECE: usize = 10_240;
/// How long the bytes of a part may take to be brought. Clients give up after 100 s.
pub(super) const BRINGING: Duration = Duration::from_secs(60);
/// Answered ranges that are remembered: clients repeat what they have not got yet.
const REMEMBERED: usize = 64;
/// Bytes that are compressed to see whether it pays.
const SAMPLE: usize = 8 * 1024;
/// After so many ranges that did not shrink, only one in this number is looked at.
const SELDOM: u32 = 16;

/// A file, as it is served to one client.
#[derive(Clone)]
pub(super) struct Served {
    pub(super) file: Hash,
    pub(super) reader: Arc<dyn ContentReader>,
    pub(super) attendance: Arc<dyn Attendance>,
}

/// What has come of a range.
pub(super) enum Event {
    /// It was queued to be written.
    Sent(Range<u64>),
    /// Its bytes cannot be had now; the part that is missing.
    Missing(Served, u32, ReadError),
    /// The connection has ended.
    Gone,
}

/// What one client is being sent.
pub(super) struct Upload {
    link: Arc<Link>,
    asked: VecDeque<(Served, Range<u64>)>,
    reading: FuturesOrdered<BoxFuture<'static, Read>>,
    sending: Option<BoxFuture<'static, (Range<u64>, Result<(), Gone>)>>,
    /// What is asked for and not sent.
    open: HashSet<(Hash, Range<u64>)>,
    done: VecDeque<(Hash, Range<u64>)>,
    taste: Taste,
}

struct Read {
    what: Served,
    range: Range<u64>,
    /// The messages that carry it, and whether they are compressed; or the part that is missing.
    runs: Result<(Vec<Run>, bool), (u32, ReadError)>,
}

/// Whether compressing seems to pay.
struct Taste {
    /// Whether the client takes it.
    compresses: bool,
    /// Ranges in a row of which none has shrunk.
    in_vain: u32,
}

impl Upload {
    pub(super) fn new(link: Arc<Link>) -> Self {
        let compresses = link.options().compression == 1;
        Self {
            link,
            asked: VecDeque::new(),
            reading: FuturesOrdered::new(),
            sending: None,
            open: HashSet::new(),
            done: VecDeque::new(),
            taste: Taste { compresses, in_vain: 0 },
        }
    }

    /// Takes a range of the file; one that was asked for before is answered once.
    pub(super) fn ask(&mut self, what: &Served, range: Range<u64>) {
        let key = (what.file, range.clone());
        if self.open.len() < MAX_ASKED && !self.done.contains(&key) && self.open.insert(key) {
            self.asked.push_back((what.clone(), range));
        }
    }

    /// Whether all that was asked for is queued to be written.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty() && self.sending.is_none()
    }

    /// Forgets all that is asked for, and what was answered.
    pub(super) fn clear(&mut self) {
        self.asked.clear();
        self.reading.clear();
        self.sending = None;
        self.open.clear();
        self.done.clear();
    }

    /// Waits for what comes next; never ends while nothing is asked for. Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            while self.reading.len() < READING
                && let Some((what, range)) = self.asked.pop_front()
            {
                let compress = self.taste.next();
                self.reading.push_back(read(what, range, compress).boxed());
            }
            if let Some(sending) = &mut self.sending {
                let (range, sent) = sending.await;
                self.sending = None;
                return if sent.is_ok() { Event::Sent(range) } else { Event::Gone };
            }
            let Some(Read { what, range, runs }) = self.reading.next().await else {
                return std::future::pending().await;
            };
            let key = (what.file, range.clone());
            self.open.remove(&key);
            let (runs, shrunk) = match runs {
                Ok(runs) => runs,
                Err((part, error)) => return Event::Missing(what, part, error),
            };
            if shrunk {
                self.taste.in_vain = 0;
            }
            if self.done.len() >= REMEMBERED {
                self.done.pop_front();
            }
            self.done.push_back(key);
            let link = self.link.clone();
            self.sending = Some(async move { (range, link.send_data(runs).await) }.boxed());
        }
    }
}

impl Taste {
    /// Whether the next range is looked at.
    fn next(&mut self) -> bool {
        let looks = self.in_vain < SELDOM || self.in_vain.is_multiple_of(SELDOM);
        self.in_vain = self.in_vain.saturating_add(1);
        self.compresses && looks
    }
}

/// Has the parts of a range brought, reads it, and puts it into messages.
async fn read(what: Served, range: Range<u64>, compress: bool) -> Read {
    let runs = match bytes_of(&what, &range).await {
        Ok(bytes) => Ok(runs(&what, range.start, bytes, compress).await),
        Err(missing) => Err(missing),
    };
    Read { what, range, runs }
}

async fn bytes_of(what: &Served, range: &Range<u64>) -> Result<Bytes, (u32, ReadError)> {
    let part = |at: u64| u32::try_from(at / PART).unwrap_or(u32::MAX);
    for part in part(range.start)..=part(range.end.saturating_sub(1)) {
        if !what.reader.availability().has(part) {
            let late = || ReadError::Failed(format!("not brought within {BRINGING:?}"));
            let brought = timeout(BRINGING, what.reader.prepare(part)).await;
            brought.unwrap_or_else(|_| Err(late())).map_err(|error| (part, error))?;
        }
    }
    let bytes =
        what.reader.read(range.clone()).await.map_err(|error| (part(range.start), error))?;
    let whole = bytes.len() as u64 == range.end.saturating_sub(range.start);
    whole
        .then_some(bytes)
        .ok_or_else(|| (part(range.start), ReadError::NotAvailable(range.clone())))
}

/// The messages that carry a range, and whether they are compressed.
async fn runs(what: &Served, start: u64, bytes: Bytes, compress: bool) -> (Vec<Run>, bool) {
    if compress && pays(&bytes) {
        let whole = bytes.clone();
        let packed = tokio::task::spawn_blocking(move || deflate(&whole)).await;
        if let Ok(Some(packed)) = packed
            && packed.len() < bytes.len()
        {
            return (packed_runs(what, start, bytes.len(), packed), true);
        }
    }
    (plain_runs(what, start, bytes), false)
}

fn plain_runs(what: &Served, mut start: u64, mut bytes: Bytes) -> Vec<Run> {
    let mut runs = Vec::with_capacity(2 * bytes.len().div_ceil(PIECE));
    while !bytes.is_empty() {
        let data = bytes.split_to(piece(bytes.len()));
        let end = start.saturating_add(data.len() as u64);
        runs.push(Run::plain(sending_part_head(&what.file, start, data.len())));
        runs.push(Run {
            bytes: data,
            served: Some((what.attendance.clone(), start..end)),
            room: None,
        });
        start = end;
    }
    runs
}

/// Each message carries the news that its share of the range was served.
fn packed_runs(what: &Served, start: u64, length: usize, packed: Bytes) -> Vec<Run> {
    let whole = u32::try_from(packed.len()).unwrap_or(u32::MAX);
    let served = |packed: u64| {
        let share = (length as u64).saturating_mul(packed) / u64::from(whole).max(1);
        start.saturating_add(share)
    };
    let (mut left, mut sent) = (packed, 0);
    let mut runs = Vec::with_capacity(2 * left.len().div_ceil(PIECE));
    while !left.is_empty() {
        let data = left.split_to(piece(left.len()));
        runs.push(Run::plain(compressed_part_head(&what.file, start, whole, data.len())));
        let share = served(sent)..served(sent + data.len() as u64);
        sent += data.len() as u64;
        runs.push(Run { bytes: data, served: Some((what.attendance.clone(), share)), room: None });
    }
    runs
}

/// Bytes of the next message: no crumbs at the end.
fn piece(left: usize) -> usize {
    if left < PIECE + PIECE / 4 { left } else { PIECE }
}

/// Whether a range seems to shrink by an eighth: by its middle, since beginnings are often headers.
fn pays(bytes: &Bytes) -> bool {
    let middle = (bytes.len() / 2).saturating_sub(SAMPLE / 2);
    let sample = bytes.slice(middle..bytes.len().min(middle + SAMPLE));
    deflate(&sample).is_some_and(|packed| packed.len() < sample.len() / 8 * 7)
}

fn deflate(bytes: &[u8]) -> Option<Bytes> {
    let mut encoder = ZlibEncoder::new(Vec::with_capacity(bytes.len()), Compression::fast());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok().map(Bytes::from)
}
