//! The blocks that one peer has asked for: bounded, read a few at a time, answered in order.

use std::{
    collections::{HashSet, VecDeque},
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesOrdered};

use super::super::wire::peer::{Block, MAX_BLOCK};
use crate::{ContentReader, ReadError};

/// Requests that are kept (BEP 10 `reqq`).
pub(super) const MAX_ASKED: usize = 500;
/// Bytes of one read: requests for neighbouring blocks are read together.
const READ: u64 = 256 * 1024;
/// Bytes that are being read, or wait to be written.
const IN_FLIGHT: usize = 1024 * 1024;

/// What one peer is being sent.
pub(super) struct Upload {
    reader: Arc<dyn ContentReader>,
    /// Asked for, and not being read yet.
    asked: VecDeque<Block>,
    reading: FuturesOrdered<BoxFuture<'static, Read>>,
    /// Bytes in `reading`.
    reading_bytes: usize,
    /// Blocks in `reading`, in order.
    read: VecDeque<Block>,
    /// Taken back while being read.
    withdrawn: HashSet<Block>,
}

struct Read {
    blocks: Vec<Block>,
    range: Range<u64>,
    bytes: Result<Bytes, ReadError>,
}

/// The answer to a request.
pub(super) enum Answer {
    /// The block, and where in the layout it begins.
    Give(Block, u64, Bytes),
    /// No block.
    Refuse(Block),
}

impl Upload {
    pub(super) fn new(reader: Arc<dyn ContentReader>) -> Self {
        Self {
            reader,
            asked: VecDeque::new(),
            reading: FuturesOrdered::new(),
            reading_bytes: 0,
            read: VecDeque::new(),
            withdrawn: HashSet::new(),
        }
    }

    /// Takes a request; `false` when it is not of what was announced, or too much.
    pub(super) fn ask(&mut self, block: Block) -> bool {
        let good = self.asked.len() < MAX_ASKED
            && self.range(&block).is_some()
            && self.reader.availability().has(block.piece);
        if good {
            self.asked.push_back(block);
        }
        good
    }

    /// The bytes of a block, if there are such.
    fn range(&self, block: &Block) -> Option<Range<u64>> {
        let (unit, length) = (self.reader.description().unit, self.reader.description().length);
        let in_piece = u64::from(block.begin).checked_add(block.length.into())?;
        let start = u64::from(block.piece).checked_mul(unit)?.checked_add(block.begin.into())?;
        let end = start.checked_add(block.length.into())?;
        let good = (1..=MAX_BLOCK).contains(&block.length) && in_piece <= unit && end <= length;
        good.then_some(start..end)
    }

    /// Takes a request back. `true` when it had not been looked at: then it will not be answered.
    pub(super) fn cancel(&mut self, block: &Block) -> bool {
        if let Some(at) = self.asked.iter().position(|asked| asked == block) {
            self.asked.remove(at);
            return true;
        }
        if self.read.contains(block) {
            self.withdrawn.insert(*block);
        }
        false
    }

    /// Takes all requests back that are not being read, for a peer that is choked; returns them.
    pub(super) fn clear(&mut self) -> Vec<Block> {
        self.asked.drain(..).collect()
    }

    /// Forgets also what is being read.
    pub(super) fn abandon(&mut self) {
        self.asked.clear();
        self.reading.clear();
        self.reading_bytes = 0;
        self.read.clear();
        self.withdrawn.clear();
    }

    /// Whether anything is being read.
    pub(super) fn is_reading(&self) -> bool {
        !self.reading.is_empty()
    }

    /// Begins to read, as far as the bytes in flight allow; `queued` are those that wait to be written.
    pub(super) fn read_on(&mut self, queued: usize) {
        while self.reading_bytes + queued < IN_FLIGHT {
            let Some(first) = self.asked.pop_front() else { return };
            // Every block in the queue has a range: see `ask`.
            let Some(mut range) = self.range(&first) else { continue };
            let mut blocks = vec![first];
            while let Some(next) = self.asked.front().and_then(|next| self.range(next))
                && next.start == range.end
                && next.end - range.start <= READ
            {
                range.end = next.end;
                blocks.extend(self.asked.pop_front());
            }
            self.reading_bytes += span(&range);
            self.read.extend(&blocks);
            let reader = self.reader.clone();
            let read = async move {
                let bytes = reader.read(range.clone()).await;
                Read { blocks, range, bytes }
            };
            self.reading.push_back(read.boxed());
        }
    }

    /// Waits for the next read, and gives the answers in the order of the requests. Never ends when nothing is read.
    pub(super) async fn next(&mut self) -> Vec<Answer> {
        let Some(Read { blocks, range, bytes }) = self.reading.next().await else {
            return std::future::pending().await;
        };
        self.reading_bytes = self.reading_bytes.saturating_sub(span(&range));
        self.read.drain(..blocks.len().min(self.read.len()));
        let mut rest = bytes.ok().filter(|bytes| bytes.len() == span(&range)).unwrap_or_default();
        let mut next = range.start;
        let answers = blocks.into_iter().map(|block| {
            let (at, length) = (next, block.length as usize);
            next = next.saturating_add(block.length.into());
            if rest.len() < length {
                return Answer::Refuse(block);
            }
            let bytes = rest.split_to(length);
            if self.withdrawn.remove(&block) {
                Answer::Refuse(block)
            } else {
                Answer::Give(block, at, bytes)
            }
        });
        answers.collect()
    }
}

fn span(range: &Range<u64>) -> usize {
    usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX)
}
