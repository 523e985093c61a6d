//! The two halves of a client's socket: messages are read in batches, and written several at a time, under RC4 where
//! the stream is obfuscated.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io::{self, IoSlice},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
    sync::{OwnedSemaphorePermit, mpsc},
    time::timeout,
};

use super::super::wire::{
    Packet, WireError,
    obfuscation::{Cipher, ObfuscationError},
    packet::MAX_PAYLOAD,
};
use crate::{Attendance, Flaw};

/// A client that says nothing for so long is gone.
pub(super) const SILENCE: Duration = Duration::from_secs(180);
/// A client that takes nothing of what waits for it for so long is gone.
const STUCK: Duration = Duration::from_secs(100);
/// The fewest bytes that are read at a time.
const SMALL_READ: usize = 16 * 1024;
/// The most bytes that are read at a time.
const LARGE_READ: usize = 256 * 1024;
/// Bytes that are taken out of the queues to be written; what is urgent waits for no more than this.
const BATCH: usize = 256 * 1024;
/// Runs of bytes given to one system call.
const SLICES: usize = 64;

/// Why a connection has ended, or did not come about.
#[derive(Debug, Error)]
pub(crate) enum LinkError {
    /// The client has closed it.
    #[error("closed by the client")]
    Closed,
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The client did not keep to the protocol.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The stream could not be made out.
    #[error(transparent)]
    Obfuscation(#[from] ObfuscationError),
    /// The client did nothing that it had to do for so long.
    #[error("silent for {0:?}")]
    Silent(Duration),
    /// It began with another message than its greeting.
    #[error("it began with opcode {0:#04x} instead of a greeting")]
    NoGreeting(u8),
    /// It did not answer the greeting, or speaks in another way than it must.
    #[error("{0}")]
    Unfit(&'static str),
    /// The client is this process.
    #[error("it is the bridge itself")]
    Ourselves,
    /// It was ended from here.
    #[error("{0}")]
    Ended(String),
}

impl LinkError {
    /// What the client did wrong, if it was the client.
    pub(super) fn flaw(&self) -> Option<Flaw> {
        match self {
            Self::Wire(_) | Self::Obfuscation(_) => Some(Flaw::Malformed),
            Self::NoGreeting(_) | Self::Unfit(_) => Some(Flaw::Unexpected),
            Self::Silent(_) => Some(Flaw::Silent),
            Self::Closed | Self::Io(_) | Self::Ourselves | Self::Ended(_) => None,
        }
    }
}

/// What comes from a client.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) half: OwnedReadHalf,
    pub(super) cipher: Option<Cipher>,
    pub(super) inbox: BytesMut,
    size: usize,
}

impl Reader {
    pub(super) fn new(half: OwnedReadHalf) -> Self {
        Self { half, cipher: None, inbox: BytesMut::new(), size: SMALL_READ }
    }

    /// The next message. Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Packet, LinkError> {
        loop {
            if let Some(packet) = Packet::take(&mut self.inbox, MAX_PAYLOAD)? {
                return Ok(packet);
            }
            self.more().await?;
        }
    }

    /// Reads what there is; larger runs from a client that fills them.
    pub(super) async fn more(&mut self) -> Result<(), LinkError> {
        self.inbox.reserve(self.size);
        let before = self.inbox.len();
        let read = self.half.read_buf(&mut self.inbox).await?;
        if read == 0 {
            return Err(LinkError::Closed);
        }
        if let Some(cipher) = &mut self.cipher {
            cipher.apply(self.inbox.get_mut(before..).unwrap_or_default());
        }
        self.size = match read {
            full if full >= self.size => (self.size * 2).min(LARGE_READ),
            small if small < self.size / 8 => (self.size / 2).max(SMALL_READ),
            _ => self.size,
        };
        Ok(())
    }
}

/// Bytes to be written.
pub(crate) struct Run {
    /// The bytes.
    pub(crate) bytes: Bytes,
    /// Who is told when they are written, and as which bytes of the content.
    pub(crate) served: Option<(Arc<dyn Attendance>, Range<u64>)>,
    /// Given back when they are written.
    pub(crate) room: Option<OwnedSemaphorePermit>,
}

impl Run {
    /// Bytes of which nobody is told.
    pub(crate) fn plain(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), served: None, room: None }
    }
}

/// Runs that are written together, unless they were taken back before.
pub(crate) struct Batch {
    /// The epoch in which they were queued.
    pub(crate) epoch: u64,
    /// What is written.
    pub(crate) runs: Vec<Run>,
}

/// What goes to a client.
pub(super) struct Writer {
    half: OwnedWriteHalf,
    pub(super) cipher: Option<Cipher>,
    queue: VecDeque<Run>,
    queued: usize,
}

impl Writer {
    pub(super) fn new(half: OwnedWriteHalf) -> Self {
        Self { half, cipher: None, queue: VecDeque::new(), queued: 0 }
    }

    /// Writes bytes that are not hidden any more, at once.
    pub(super) async fn write_raw(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        Ok(self.half.write_all(bytes).await?)
    }

    /// Writes a message at once.
    pub(super) async fn write_now(&mut self, packet: &Packet) -> Result<(), LinkError> {
        let mut bytes = packet.to_bytes();
        if let Some(cipher) = &mut self.cipher {
            cipher.apply(&mut bytes);
        }
        self.write_raw(&bytes).await
    }

    /// Writes what is queued, messages before data, until the connection fails.
    pub(super) async fn run(
        mut self,
        mut control: mpsc::Receiver<Packet>,
        mut data: mpsc::Receiver<Batch>,
        epoch: &AtomicU64,
    ) -> Result<Infallible, LinkError> {
        let gone = || LinkError::Ended("nobody writes any more".to_owned());
        loop {
            while self.queued < BATCH
                && let Ok(packet) = control.try_recv()
            {
                self.push_packet(&packet);
            }
            while self.queued < BATCH
                && let Ok(batch) = data.try_recv()
            {
                self.push_batch(batch, epoch);
            }
            if self.queue.is_empty() {
                tokio::select! {
                    biased;
                    packet = control.recv() => self.push_packet(&packet.ok_or_else(gone)?),
                    batch = data.recv() => self.push_batch(batch.ok_or_else(gone)?, epoch),
                }
                continue;
            }
            timeout(STUCK, self.write()).await.map_err(|_| LinkError::Silent(STUCK))??;
        }
    }

    fn push_packet(&mut self, packet: &Packet) {
        self.push(Run::plain(packet.to_bytes()));
    }

    fn push_batch(&mut self, batch: Batch, epoch: &AtomicU64) {
        if batch.epoch == epoch.load(Ordering::Relaxed) {
            batch.runs.into_iter().for_each(|run| self.push(run));
        }
    }

    fn push(&mut self, mut run: Run) {
        if let Some(cipher) = &mut self.cipher {
            let mut hidden = run.bytes.to_vec();
            cipher.apply(&mut hidden);
            run.bytes = hidden.into();
        }
        self.queued += run.bytes.len();
        self.queue.push_back(run);
    }

    async fn write(&mut self) -> Result<(), LinkError> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        for (slice, run) in slices.iter_mut().zip(&self.queue) {
            *slice = IoSlice::new(&run.bytes);
            count += 1;
        }
        let slices = slices.get(..count).unwrap_or_default();
        let mut left = self.half.write_vectored(slices).await?;
        if left == 0 {
            return Err(LinkError::Closed);
        }
        self.queued = self.queued.saturating_sub(left);
        // Neighbouring runs of a content are told of together.
        let mut told: Option<(Arc<dyn Attendance>, Range<u64>)> = None;
        while left > 0 {
            let Some(run) = self.queue.front_mut() else { break };
            let gone = left.min(run.bytes.len());
            left -= gone;
            run.bytes.advance(gone);
            if !run.bytes.is_empty() {
                break;
            }
            let Some((who, range)) = self.queue.pop_front().and_then(|run| run.served) else {
                continue;
            };
            match &mut told {
                Some((same, last)) if Arc::ptr_eq(same, &who) && last.end == range.start => {
                    last.end = range.end;
                }
                _ => {
                    if let Some((before, range)) = told.replace((who, range)) {
                        before.served(range);
                    }
                }
            }
        }
        if let Some((who, range)) = told {
            who.served(range);
        }
        Ok(())
    }
}
