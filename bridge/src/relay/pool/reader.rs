//! The way in for served peers: reads what was published, and says what they lack.

use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use p2pbridge_adapters::{Attendance, Availability, ContentReader, Description, ReadError};
use p2pbridge_proto::{Bits, Layout};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Attendee, Consumer, PoolName, Shared, lock};
use crate::relay::grid::Block;

/// Bytes for which room is made at once when a range is put together.
const MOST_AT_ONCE: usize = 1 << 20;
/// How long a reader waits for a chunk that is not here, or not any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// A content as one overlay's peers download it.
pub(crate) struct Reader {
    shared: Arc<Shared>,
    consumer: usize,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, consumer: usize) -> Self {
        Self { shared, consumer }
    }

    fn consumer(&self) -> &Consumer {
        &self.shared.consumers[self.consumer]
    }

    fn name(&self) -> &PoolName {
        &self.shared.names[self.consumer().name]
    }

    /// A verified block, from memory or from the spool; `None` when it was evicted.
    async fn block(&self, block: Block) -> Result<Option<Bytes>, ReadError> {
        if let Some(bytes) = self.shared.common.cache.get(block.content, block.offset) {
            return Ok(Some(bytes));
        }
        let Some(content) = self.shared.spooled.get(&block.content).cloned() else {
            return Ok(None);
        };
        if content.origin(block.offset, block.length.into()).is_none() {
            return Ok(None);
        }
        let read = move || content.read(block.offset, block.length);
        match self.shared.common.work.read(read).await {
            Ok(Ok(bytes)) => {
                self.shared.common.cache.put(block.content, block.offset, bytes.clone());
                Ok(Some(bytes))
            }
            Ok(Err(error)) => Err(ReadError::Failed(format!("spool: {error}"))),
            Err(error) => Err(ReadError::Failed(error.to_string())),
        }
    }

    /// Has a chunk brought that is not here.
    async fn bring(&self, chunk: u32) -> Result<(), ReadError> {
        let failed = |why: String| Err(ReadError::Failed(format!("chunk {chunk}: {why}")));
        let waits = lock(&self.shared.wishes).make((self.consumer, chunk), Instant::now());
        let Some(waits) = waits else {
            return failed("too much is waited for already".into());
        };
        self.shared.wake.notify_one();
        tokio::select! {
            () = self.shared.retired.cancelled() => failed("it is not served any more".into()),
            told = tokio::time::timeout(PATIENCE, waits) => match told {
                Ok(Ok(Ok(()))) => Ok(()),
                Ok(Ok(Err(why))) => failed(why.into()),
                Ok(Err(_)) => failed("it is not served any more".into()),
                Err(_) => failed(format!("it was not brought within {PATIENCE:?}")),
            },
        }
    }

    /// The bytes of a range, or the chunk in which one was evicted.
    async fn try_read(&self, range: &Range<u64>) -> Result<Result<Bytes, u32>, ReadError> {
        let layout = &self.name().binding.layout;
        let mut whole = BytesMut::new();
        let mut at = range.start;
        let total = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        for extent in layout.extents_in(range.clone()) {
            pad(&mut whole, extent.offset - at);
            let run = extent.content_range();
            for number in self.shared.grid.blocks_in(extent.content, run.start, run.end) {
                let block = self.shared.grid.blocks()[number];
                let Some(bytes) = self.block(block).await? else {
                    let chunk = self.name().places.chunks(&block).next();
                    return Ok(Err(chunk.unwrap_or_default()));
                };
                let from = run.start.saturating_sub(block.offset);
                let to = (run.end - block.offset).min(block.length.into());
                let slice = usize::try_from(from).unwrap_or(0)..usize::try_from(to).unwrap_or(0);
                let part = bytes.slice(slice);
                if part.len() == total {
                    return Ok(Ok(part));
                }
                if whole.is_empty() {
                    whole.reserve(total.min(MOST_AT_ONCE));
                }
                whole.extend_from_slice(&part);
            }
            at = extent.range().end;
        }
        pad(&mut whole, range.end - at);
        Ok(Ok(whole.freeze()))
    }
}

fn pad(bytes: &mut BytesMut, zeros: u64) {
    bytes.resize(bytes.len() + usize::try_from(zeros).unwrap_or(0), 0);
}

#[async_trait]
impl ContentReader for Reader {
    fn description(&self) -> &Arc<Description> {
        &self.name().description
    }

    fn availability(&self) -> &Availability {
        &self.consumer().availability
    }

    fn retired(&self) -> &CancellationToken {
        &self.shared.retired
    }

    async fn prepare(&self, chunk: u32) -> Result<(), ReadError> {
        let range = self.name().binding.layout.chunk_range(chunk);
        if range.is_empty() {
            return Err(ReadError::NotAvailable(range));
        }
        match self.availability().has(chunk) {
            true => Ok(()),
            false => self.bring(chunk).await,
        }
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes, ReadError> {
        let layout = &self.name().binding.layout;
        let sound = range.start < range.end && range.end <= layout.length();
        let mut chunks = layout.chunks_of(&range);
        if !sound || !chunks.all(|chunk| self.availability().has(chunk)) {
            return Err(ReadError::NotAvailable(range));
        }
        for _ in 0..4 {
            let evicted = match self.try_read(&range).await? {
                Ok(bytes) => return Ok(bytes),
                Err(chunk) => chunk,
            };
            self.bring(evicted).await?;
        }
        Err(ReadError::Failed("the bytes were evicted, and could not be fetched again".into()))
    }

    fn attend(&self, peer: std::net::SocketAddr) -> Box<dyn Attendance> {
        let number = self.shared.next_attendee.fetch_add(1, Ordering::Relaxed);
        let attendee = Attendee::new(self.consumer);
        lock(&self.shared.attendees).insert(number, attendee);
        self.consumer().peers.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%peer, overlay = %self.consumer().overlay, "a peer is served");
        Box::new(Served { shared: self.shared.clone(), consumer: self.consumer, number })
    }
}

struct Served {
    shared: Arc<Shared>,
    consumer: usize,
    number: u64,
}

impl Served {
    fn consumer(&self) -> &Consumer {
        &self.shared.consumers[self.consumer]
    }
}

impl Served {
    fn layout(&self) -> &Layout {
        &self.shared.names[self.consumer().name].binding.layout
    }

    fn description(&self) -> &Description {
        &self.shared.names[self.consumer().name].description
    }

    /// A chunk that was served whole counts as held, whether the peer says so or not: some never do.
    fn note_taken(&self, range: &Range<u64>) {
        let layout = self.layout();
        let mut attendees = lock(&self.shared.attendees);
        let Some(attendee) = attendees.get_mut(&self.number) else { return };
        for chunk in layout.chunks_of(range) {
            let whole = layout.chunk_range(chunk);
            let part = range.end.min(whole.end) - range.start.max(whole.start);
            if attendee.served(chunk, part, whole.end - whole.start) {
                attendee.gained(chunk, true, self.description());
                self.shared.wake.notify_one();
            }
        }
    }
}

impl Attendance for Served {
    fn holds(&self, chunks: Bits) {
        if let Some(attendee) = lock(&self.shared.attendees).get_mut(&self.number) {
            let (published, _) = self.consumer().availability.snapshot();
            attendee.holds(chunks, &published);
        }
        self.shared.wake.notify_one();
    }

    fn gained(&self, chunk: u32) {
        if let Some(attendee) = lock(&self.shared.attendees).get_mut(&self.number) {
            attendee.gained(chunk, self.consumer().availability.has(chunk), self.description());
        }
        self.shared.wake.notify_one();
    }

    fn wants(&self, wants: bool) {
        if let Some(attendee) = lock(&self.shared.attendees).get_mut(&self.number) {
            attendee.wants(wants);
        }
        self.shared.wake.notify_one();
    }

    fn served(&self, range: Range<u64>) {
        let length = range.end.saturating_sub(range.start);
        self.shared.taken.fetch_add(length, Ordering::Relaxed);
        self.note_taken(&range);
        // A range that the seeder serves lies in few blocks; padding has no origin and is not billed.
        for extent in self.layout().extents_in(range) {
            let run = extent.content_range();
            for number in self.shared.grid.blocks_in(extent.content, run.start, run.end) {
                let block = &self.shared.grid.blocks()[number];
                let start = run.start.max(block.offset);
                let end = run.end.min(block.offset + u64::from(block.length));
                let origin = self.shared.came_from[number].load(Ordering::Relaxed);
                if let Some(meter) = self.shared.meter(origin, self.consumer()) {
                    meter.served(end.saturating_sub(start));
                }
            }
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        lock(&self.shared.attendees).remove(&self.number);
        self.consumer().peers.fetch_sub(1, Ordering::Relaxed);
        self.shared.wake.notify_one();
    }
}
