//! A peer connection, seen from the socket: greeting, batched reads, vectored writes, keep-alives. Used by both faces.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    ops::Range,
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{
    identity::Identity,
    wire::peer::{Features, Handshake, Limits, Message, PeerWireError, decode, piece_header},
};
use crate::{BadInput, Flaw, Party};

/// How long a greeting may take.
pub(super) const GREETING: Duration = Duration::from_secs(10);
/// A keep-alive is sent after so long without sending anything (BEP 3).
const KEEP_ALIVE: Duration = Duration::from_secs(100);
/// A peer that sent nothing, or took nothing of what waits for it, for so long is gone (BEP 3).
const SILENCE: Duration = Duration::from_secs(180);
/// Bytes that may wait to be written; above that nothing more is read from the peer.
pub(super) const MAX_QUEUED: usize = 2 * 1024 * 1024;
/// Runs of bytes given to one system call.
const SLICES: usize = 64;

/// Why a connection has ended.
#[derive(Debug, Error)]
pub(super) enum ConnectionError {
    /// The peer has closed it.
    #[error("closed by the peer")]
    Closed,
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The peer did not keep to the protocol.
    #[error(transparent)]
    Wire(#[from] PeerWireError),
    /// The peer did nothing that it had to do for so long.
    #[error("silent for {0:?}")]
    Silent(Duration),
    /// The peer greets for another torrent, or for one that is not served.
    #[error("greeted for another torrent")]
    OtherTorrent,
    /// The peer is this process.
    #[error("it is the bridge itself")]
    Ourselves,
}

impl ConnectionError {
    /// What the peer did wrong, if it was the peer.
    pub(super) fn flaw(&self) -> Option<Flaw> {
        match self {
            Self::Wire(_) => Some(Flaw::Malformed),
            Self::OtherTorrent => Some(Flaw::Unexpected),
            Self::Silent(_) => Some(Flaw::Silent),
            Self::Closed | Self::Io(_) | Self::Ourselves => None,
        }
    }

    /// Takes it down, if it was the peer.
    pub(super) fn count(&self, bad_input: &BadInput) {
        if let Some(flaw) = self.flaw() {
            bad_input.add(Party::Peer, flaw);
        }
    }
}

/// Greets a peer that was connected to.
pub(super) async fn greet(
    stream: &mut TcpStream,
    info_hash: [u8; 20],
    identity: &Identity,
) -> Result<Handshake, ConnectionError> {
    in_time(async {
        stream.set_nodelay(true)?;
        stream.write_all(&our_handshake(info_hash, identity)).await?;
        let mut head = [0; Handshake::LEN];
        read_all(stream, &mut head).await?;
        let theirs = Handshake::decode(&head)?;
        if theirs.info_hash != info_hash {
            return Err(ConnectionError::OtherTorrent);
        }
        not_ourselves(theirs, identity)
    })
    .await
}

/// Answers the greeting of a peer that has connected, if `find` knows the torrent.
pub(super) async fn answer<T>(
    stream: &mut TcpStream,
    identity: &Identity,
    find: impl FnOnce([u8; 20]) -> Option<T>,
) -> Result<(T, Handshake), ConnectionError> {
    in_time(async {
        stream.set_nodelay(true)?;
        let mut head = [0; Handshake::HEAD];
        read_all(stream, &mut head).await?;
        let mut theirs = Handshake::decode_head(&head)?;
        let found = find(theirs.info_hash).ok_or(ConnectionError::OtherTorrent)?;
        stream.write_all(&our_handshake(theirs.info_hash, identity)).await?;
        read_all(stream, &mut theirs.peer_id).await?;
        Ok((found, not_ourselves(theirs, identity)?))
    })
    .await
}

async fn in_time<T>(
    greeting: impl Future<Output = Result<T, ConnectionError>>,
) -> Result<T, ConnectionError> {
    timeout(GREETING, greeting).await.unwrap_or(Err(ConnectionError::Silent(GREETING)))
}

async fn read_all(stream: &mut TcpStream, to: &mut [u8]) -> Result<(), ConnectionError> {
    match stream.read_exact(to).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(ConnectionError::Closed),
        Err(error) => Err(error.into()),
    }
}

fn our_handshake(info_hash: [u8; 20], identity: &Identity) -> [u8; Handshake::LEN] {
    let features = Features { extended: true, fast: true, v2: false };
    Handshake { features, info_hash, peer_id: identity.peer_id }.encode()
}

fn not_ourselves(theirs: Handshake, identity: &Identity) -> Result<Handshake, ConnectionError> {
    if identity.is_ours(&theirs.peer_id) { Err(ConnectionError::Ourselves) } else { Ok(theirs) }
}

/// A greeted peer's socket with both its buffers. One task owns it.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    limits: Limits,
    inbox: BytesMut,
    read_size: usize,
    /// Messages that were encoded, and are not in the queue yet.
    small: BytesMut,
    queue: VecDeque<Run>,
    queued: usize,
    /// What was written of blocks, as runs of the layout.
    written: Vec<Range<u64>>,
    received: Instant,
    sent: Instant,
}

/// Bytes to be written.
#[derive(Debug)]
struct Run {
    bytes: Bytes,
    /// Where in the layout they begin, if they are of a block.
    at: Option<u64>,
}

impl Connection {
    /// Takes over a greeted peer; reads up to `read_size` bytes at a time.
    pub(super) fn new(stream: TcpStream, limits: Limits, read_size: usize) -> Self {
        let now = Instant::now();
        Self {
            stream,
            limits,
            inbox: BytesMut::new(),
            read_size,
            small: BytesMut::new(),
            queue: VecDeque::new(),
            queued: 0,
            written: Vec::new(),
            received: now,
            sent: now,
        }
    }

    /// Queues a message.
    pub(super) fn send(&mut self, message: &Message) {
        let before = self.small.len();
        message.encode(&mut self.small);
        self.queued += self.small.len() - before;
    }

    /// Queues a block, which begins `at` this byte of the layout, without copying it.
    pub(super) fn send_block(&mut self, piece: u32, begin: u32, at: u64, data: Bytes) {
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let header = piece_header(piece, begin, length);
        self.small.extend_from_slice(&header);
        self.queued += header.len() + data.len();
        self.seal();
        self.queue.push_back(Run { bytes: data, at: Some(at) });
    }

    /// Bytes that wait to be written.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// The next message that was received, if it is whole.
    pub(super) fn next(&mut self) -> Result<Option<Message>, ConnectionError> {
        Ok(decode(&mut self.inbox, &self.limits)?)
    }

    /// The runs of the layout that were written since the last call.
    pub(super) fn take_written(&mut self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.written.drain(..)
    }

    /// Waits until the socket can do something, and does it once. Nothing is lost when the future is dropped.
    pub(super) async fn drive(&mut self) -> Result<(), ConnectionError> {
        self.seal();
        let interest = match (self.queued < MAX_QUEUED, self.queue.is_empty()) {
            (_, true) => Interest::READABLE,
            (true, false) => Interest::READABLE | Interest::WRITABLE,
            (false, false) => Interest::WRITABLE,
        };
        let ready = self.stream.ready(interest).await?;
        tokio::task::consume_budget().await;
        if ready.is_writable() && !self.queue.is_empty() {
            self.write()?;
        }
        if ready.is_readable() && interest.is_readable() {
            self.read()?;
        }
        Ok(())
    }

    /// Looks at the clock: queues a keep-alive when one is due, and says when the peer is gone.
    pub(super) fn look_at(&mut self, now: Instant) -> Result<(), ConnectionError> {
        let stuck = self.queued > 0 && now.duration_since(self.sent) >= SILENCE;
        if stuck || now.duration_since(self.received) >= SILENCE {
            return Err(ConnectionError::Silent(SILENCE));
        }
        if self.queued == 0 && now.duration_since(self.sent) >= KEEP_ALIVE {
            self.send(&Message::KeepAlive);
            self.sent = now;
        }
        Ok(())
    }

    fn seal(&mut self) {
        if !self.small.is_empty() {
            let bytes = self.small.split().freeze();
            self.queue.push_back(Run { bytes, at: None });
        }
    }

    fn read(&mut self) -> Result<(), ConnectionError> {
        self.inbox.reserve(self.read_size);
        match self.stream.try_read_buf(&mut self.inbox) {
            Ok(0) => Err(ConnectionError::Closed),
            Ok(_) => {
                self.received = Instant::now();
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn write(&mut self) -> Result<(), ConnectionError> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        for (slice, run) in slices.iter_mut().zip(&self.queue) {
            *slice = IoSlice::new(&run.bytes);
            count += 1;
        }
        let written = match self.stream.try_write_vectored(&slices[..count]) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.sent = Instant::now();
        self.queued = self.queued.saturating_sub(written);
        let mut left = written;
        while left > 0 {
            let Some(run) = self.queue.front_mut() else { break };
            let gone = left.min(run.bytes.len());
            left -= gone;
            run.bytes.advance(gone);
            if let Some(at) = &mut run.at {
                let start = *at;
                *at = start.saturating_add(gone as u64);
                match self.written.last_mut() {
                    Some(last) if last.end == start => last.end = *at,
                    _ => self.written.push(start..*at),
                }
            }
            if run.bytes.is_empty() {
                self.queue.pop_front();
            }
        }
        Ok(())
    }
}
