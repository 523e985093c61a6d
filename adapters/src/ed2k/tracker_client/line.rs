//! A session with a server, as those see it who ask.

use std::{
    net::SocketAddrV4,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use p2pbridge_proto::{ErrorCode, Fault};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::server::Server;
use crate::{
    budget::{Shed, Ticket},
    ed2k::wire::{
        ClientId,
        server::{ClientMessage, SearchAnswer, server_flags},
    },
};

/// Messages that wait to be written.
const QUEUE: usize = 64;

/// A session with a server in which the bridge is logged in.
pub(super) struct Line {
    pub(super) server: Arc<Server>,
    /// Where the server is.
    pub(super) address: SocketAddrV4,
    /// Unlike that of every other session of the client.
    pub(super) number: u64,
    out: mpsc::Sender<Vec<u8>>,
    /// What the server calls the bridge.
    id: AtomicU32,
    /// What the server can: `server_flags`.
    flags: AtomicU32,
    /// Questions without an answer since the server last said something.
    pub(super) unanswered: AtomicU32,
    /// Who waits for the answer to a search: there is one search at a time.
    searching: Mutex<Option<oneshot::Sender<SearchAnswer>>>,
    closed: CancellationToken,
}

/// The session's own end of a line: the messages to write. The line is closed when it is dropped.
pub(super) struct LineEnd {
    pub(super) queued: mpsc::Receiver<Vec<u8>>,
    _close: DropGuard,
}

impl Line {
    pub(super) fn new(
        server: Arc<Server>,
        address: SocketAddrV4,
        number: u64,
    ) -> (Arc<Self>, LineEnd) {
        let (out, queued) = mpsc::channel(QUEUE);
        let closed = CancellationToken::new();
        let end = LineEnd { queued, _close: closed.clone().drop_guard() };
        let line = Self {
            server,
            address,
            number,
            out,
            id: AtomicU32::new(0),
            flags: AtomicU32::new(0),
            unanswered: AtomicU32::new(0),
            searching: Mutex::default(),
            closed,
        };
        (Arc::new(line), end)
    }

    /// What the server calls the bridge.
    pub(super) fn id(&self) -> ClientId {
        ClientId::from_number(self.id.load(Ordering::Relaxed))
    }

    pub(super) fn is_high(&self) -> bool {
        matches!(self.id(), ClientId::High(_))
    }

    pub(super) fn set(&self, id: u32, flags: Option<u32>) {
        self.id.store(id, Ordering::Relaxed);
        if let Some(flags) = flags {
            self.flags.store(flags, Ordering::Relaxed);
        }
    }

    /// Whether the server can all of this: `server_flags`.
    pub(super) fn can(&self, flags: u32) -> bool {
        self.flags.load(Ordering::Relaxed) & flags == flags
    }

    /// Queues a message for the server, when its budget has allowed it.
    pub(super) async fn send(&self, message: &ClientMessage, packed: bool) -> Result<(), Fault> {
        let packet = message.to_packet(self.can(server_flags::NEW_TAGS));
        let mut bytes = Vec::new();
        if packed && self.can(server_flags::ZLIB) {
            packet.put_packed(&mut bytes);
        } else {
            packet.put(&mut bytes);
        }
        tokio::select! {
            sent = self.out.send(bytes) => sent.map_err(|_| self.gone()),
            () = self.closed.cancelled() => Err(self.gone()),
        }
    }

    /// Asks the server something as soon as its budget lets a message leave.
    pub(super) async fn ask(
        &self,
        message: &ClientMessage,
        leave_by: Instant,
    ) -> Result<(), Fault> {
        let _ticket = self.admit(leave_by).await?;
        self.send(message, false).await
    }

    /// Waits until the server's budget lets a message leave, which must be sent at once then.
    pub(super) async fn admit(&self, leave_by: Instant) -> Result<Ticket<'_>, Shed> {
        let ticket = self.server.limiter.admit(leave_by).await?;
        ticket.message(leave_by).await?;
        Ok(ticket)
    }

    /// What is given gets the answer to the next search.
    pub(super) fn search(&self) -> oneshot::Receiver<SearchAnswer> {
        let (tell, told) = oneshot::channel();
        *self.searching.lock().unwrap_or_else(PoisonError::into_inner) = Some(tell);
        told
    }

    /// Hands an answer to whoever searches; `false` when nobody has asked: it is dropped.
    pub(super) fn found(&self, answer: SearchAnswer) -> bool {
        let waits = self.searching.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Whoever searched may have gone away.
        waits.map(|waits| waits.send(answer)).is_some()
    }

    /// Waits until the session has ended.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// The fault of whoever asks over a session that has ended.
    pub(super) fn gone(&self) -> Fault {
        Fault::new(ErrorCode::Unavailable, "the session with the server has ended")
    }
}
