//! The leecher face: the bridge downloads from BitTorrent peers.

mod pipeline;
mod session;

use std::{
    net::SocketAddr,
    ops::Range,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use p2pbridge_proto::Bits;
use tokio::{
    net::TcpStream,
    sync::{Notify, mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    connection::{Connection, ConnectionError, GREETING, greet},
    identity::Identity,
    metainfo::wire_hash,
    wire::peer::{Limits, MAX_BLOCK},
};
use crate::{BadInput, Description, Leecher, SourceError, SourceSession, Waste, waste::Awaited};

/// How long a connection may take to be made.
const CONNECTING: Duration = Duration::from_secs(5);
/// How long a greeted peer may take to tell what it holds, before it counts as holding nothing yet.
const TELLING: Duration = Duration::from_secs(2);
/// Fetches of one session that may be under way; more wait.
const MAX_FETCHES: usize = 64;
/// Bytes read from a socket at a time.
const READ_SIZE: usize = 256 * 1024;

/// Downloads from BitTorrent peers, as one identity.
#[derive(Debug)]
pub struct BtLeecher {
    identity: Arc<Identity>,
    bad_input: Arc<BadInput>,
}

impl BtLeecher {
    /// The leecher that greets with this identity. What peers send that is not taken is counted in `bad_input`.
    #[must_use]
    pub fn new(identity: Arc<Identity>, bad_input: Arc<BadInput>) -> Arc<Self> {
        Arc::new(Self { identity, bad_input })
    }

    /// Connects and greets, under the first of the content's names that the peer knows.
    async fn connect(
        &self,
        what: &Description,
        peer: SocketAddr,
    ) -> Result<(Connection, bool, bool), SourceError> {
        let info_hash = what.names.iter().find_map(wire_hash);
        let info_hash = info_hash
            .ok_or_else(|| SourceError::Protocol("the content has no BitTorrent name".into()))?;
        let mut stream = timeout(CONNECTING, TcpStream::connect(peer))
            .await
            .map_err(|_| SourceError::TimedOut(CONNECTING))?
            .map_err(|error| SourceError::Unreachable(error.to_string()))?;
        let greeted = greet(&mut stream, info_hash, &self.identity).await;
        let greeted = greeted.inspect_err(|error| error.count(&self.bad_input));
        let theirs = greeted.map_err(source_error)?;
        let limits = Limits::new(chunks(what), MAX_BLOCK);
        let connection = Connection::new(stream, limits, READ_SIZE);
        Ok((connection, theirs.features.fast, theirs.features.extended))
    }
}

#[async_trait]
impl Leecher for BtLeecher {
    async fn open(
        &self,
        what: Arc<Description>,
        peer: SocketAddr,
    ) -> Result<Arc<dyn SourceSession>, SourceError> {
        let (connection, fast, extended) = self.connect(&what, peer).await?;
        let (questions, asked) = mpsc::channel(MAX_FETCHES);
        let (changes_sender, changes) = watch::channel(0);
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            held: RwLock::new(Bits::none(chunks(&what))),
            withdrawn: Notify::new(),
            waste: Waste::default(),
            end: OnceLock::new(),
        });
        let task = session::Session::new(
            connection,
            (fast, extended),
            what.clone(),
            shared.clone(),
            changes_sender,
            self.bad_input.clone(),
        );
        tokio::spawn(task.run(asked, stop.clone()));
        let session = BtSession {
            unit: what.unit,
            length: what.length,
            shared,
            questions,
            changes: changes.clone(),
            _stop: stop.drop_guard(),
        };
        // The session goes on when the peer takes its time: it may hold nothing yet.
        let _ = timeout(TELLING, changes.clone().changed()).await;
        if let Some(end) = session.shared.end.get() {
            return Err(end.clone());
        }
        Ok(Arc::new(session))
    }
}

/// What the session's task and its handle both see.
struct Shared {
    held: RwLock<Bits>,
    /// Told when a fetch is no longer wanted.
    withdrawn: Notify,
    /// What came in vain.
    waste: Waste,
    /// Why the session has ended.
    end: OnceLock<SourceError>,
}

/// A fetch, on its way to the session's task.
struct Question {
    range: Range<u64>,
    reply: oneshot::Sender<Result<Bytes, SourceError>>,
}

/// The handle of a session. The task ends when it is dropped.
struct BtSession {
    unit: u64,
    length: u64,
    shared: Arc<Shared>,
    questions: mpsc::Sender<Question>,
    changes: watch::Receiver<u64>,
    _stop: DropGuard,
}

impl BtSession {
    fn end(&self) -> SourceError {
        let unknown = || SourceError::Closed("the session's task is gone".into());
        self.shared.end.get().cloned().unwrap_or_else(unknown)
    }
}

#[async_trait]
impl SourceSession for BtSession {
    fn has(&self, chunk: u32) -> bool {
        self.shared.held.read().unwrap_or_else(PoisonError::into_inner).has(chunk)
    }

    fn held(&self) -> u32 {
        self.shared.held.read().unwrap_or_else(PoisonError::into_inner).count()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    async fn fetch(&self, range: Range<u64>) -> Result<Bytes, SourceError> {
        let chunk = range.start.checked_div(self.unit).unwrap_or_default();
        let chunk_end = chunk.saturating_add(1).saturating_mul(self.unit).min(self.length);
        let holds = u32::try_from(chunk).is_ok_and(|chunk| self.has(chunk));
        if range.is_empty() || range.end > chunk_end || !holds {
            return Err(SourceError::Refused(range));
        }
        let (reply, answer) = oneshot::channel();
        let awaited = Awaited::new(answer, self.shared.waste.clone());
        if self.questions.send(Question { range, reply }).await.is_err() {
            return Err(self.end());
        }
        let _withdraw = Withdraw(&self.shared.withdrawn);
        awaited.take().await.unwrap_or_else(|| Err(self.end()))
    }

    fn waste(&self) -> Waste {
        self.shared.waste.clone()
    }
}

/// Makes the task look for fetches that nobody waits for any more.
struct Withdraw<'a>(&'a Notify);

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

fn chunks(what: &Description) -> u32 {
    u32::try_from(what.length.div_ceil(what.unit.max(1))).unwrap_or(u32::MAX)
}

fn source_error(error: ConnectionError) -> SourceError {
    match error {
        ConnectionError::Ourselves => SourceError::Ourselves,
        ConnectionError::Wire(error) => SourceError::Protocol(error.to_string()),
        ConnectionError::OtherTorrent => SourceError::Protocol(error.to_string()),
        ConnectionError::Silent(time) => SourceError::TimedOut(time.min(GREETING)),
        ConnectionError::Closed | ConnectionError::Io(_) => SourceError::Closed(error.to_string()),
    }
}
