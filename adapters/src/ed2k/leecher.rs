//! The leecher's face: the bridge downloads from eD2k clients.
//!
//! A session asks a client for a file, what it has of it, the hashes of its parts if they are not known, other sources,
//! and a slot. It holds chunks while the slot is granted.

mod courtesy;
mod pipeline;
mod ranges;
mod session;

use std::{
    net::SocketAddr,
    ops::Range,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use p2pbridge_proto::Bits;
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::spawn_blocking,
    time::{Instant, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use self::courtesy::Courtesies;
use super::{
    aich,
    clients::{Clients, ConnectError},
    describe::Ed2kFile,
    sources::SourceBook,
    wire::{PART, transfer::Recovery},
};
use crate::{Description, Leecher, SourceError, SourceSession, Waste, waste::Awaited};

/// How long a client may take to tell what it has of a file.
const TELLING: Duration = Duration::from_secs(30);
/// How long a session may take to begin: longer, so that it finds out by itself who tells nothing.
const OPENING: Duration = Duration::from_secs(32);
/// How long a client may take to give hashes of blocks.
const LOCATING: Duration = Duration::from_secs(15);
/// Fetches of one session that may be under way; more wait.
const MAX_FETCHES: usize = 64;

/// Downloads from eD2k clients, over one hub.
pub struct Ed2kLeecher {
    clients: Arc<Clients>,
    sources: Option<Arc<SourceBook>>,
    courtesies: Courtesies,
}

impl Ed2kLeecher {
    /// The leecher of a hub; the sources that clients name are noted in the book. Without one they are not asked for.
    #[must_use]
    pub fn new(clients: Arc<Clients>, sources: Option<Arc<SourceBook>>) -> Arc<Self> {
        Arc::new(Self { clients, sources, courtesies: Courtesies::default() })
    }
}

#[async_trait]
impl Leecher for Ed2kLeecher {
    async fn open(
        &self,
        what: Arc<Description>,
        peer: SocketAddr,
    ) -> Result<Arc<dyn SourceSession>, SourceError> {
        let file = Ed2kFile::of(&what)
            .ok_or_else(|| SourceError::Protocol("the content is no file of eD2k".into()))?;
        let download = self.clients.download(peer, file.hash).await.map_err(source_error)?;
        let courtesy = self.courtesies.of(download.link.client().key(), Instant::now());
        let (questions, asked) = mpsc::channel(MAX_FETCHES);
        let (changes_sender, mut changes) = watch::channel(0);
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            held: RwLock::new(Bits::none(file.part_count())),
            slot: AtomicBool::new(false),
            withdrawn: Notify::new(),
            waste: Waste::default(),
            end: OnceLock::new(),
        });
        let task = session::Session::new(
            download,
            file.clone(),
            (self.clients.clone(), self.sources.clone()),
            courtesy.take_part(),
            shared.clone(),
            changes_sender,
        );
        tokio::spawn(task.run(asked, stop.clone()));
        let _stop = stop.drop_guard();
        let session = Ed2kSession { file, shared, questions, changes: changes.clone(), _stop };
        match timeout(OPENING, changes.changed()).await {
            Err(_) => Err(SourceError::TimedOut(OPENING)),
            Ok(Err(_)) => Err(session.end()),
            Ok(Ok(())) => Ok(Arc::new(session)),
        }
    }
}

/// What the session's task and its handle both see.
#[derive(Debug)]
struct Shared {
    held: RwLock<Bits>,
    /// Whether the client gives us its slot.
    slot: AtomicBool,
    /// Told when a fetch is no longer wanted.
    withdrawn: Notify,
    /// What came in vain.
    waste: Waste,
    /// Why the session has ended.
    end: OnceLock<SourceError>,
}

/// A question, on its way to the session's task.
#[derive(Debug)]
enum Question {
    Fetch { range: Range<u64>, reply: oneshot::Sender<Result<Bytes, SourceError>> },
    Locate { part: u16, reply: oneshot::Sender<Option<Recovery>> },
}

/// The handle of a session. The task ends when it is dropped.
struct Ed2kSession {
    file: Arc<Ed2kFile>,
    shared: Arc<Shared>,
    questions: mpsc::Sender<Question>,
    changes: watch::Receiver<u64>,
    _stop: DropGuard,
}

impl Ed2kSession {
    fn end(&self) -> SourceError {
        let unknown = || SourceError::Closed("the session's task is gone".into());
        self.shared.end.get().cloned().unwrap_or_else(unknown)
    }

    /// What proves the blocks of a part, as the client says.
    async fn recovery(&self, part: u16) -> Option<Recovery> {
        let (reply, answer) = oneshot::channel();
        self.questions.send(Question::Locate { part, reply }).await.ok()?;
        timeout(LOCATING, answer).await.ok()?.ok()?
    }
}

#[async_trait]
impl SourceSession for Ed2kSession {
    fn has(&self, chunk: u32) -> bool {
        self.shared.slot.load(Ordering::Relaxed)
            && self.shared.held.read().unwrap_or_else(PoisonError::into_inner).has(chunk)
    }

    fn held(&self) -> u32 {
        self.shared.held.read().unwrap_or_else(PoisonError::into_inner).count()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    async fn fetch(&self, range: Range<u64>) -> Result<Bytes, SourceError> {
        let chunk = range.start / PART;
        let chunk_end = chunk.saturating_add(1).saturating_mul(PART).min(self.file.size);
        if let Some(end) = self.shared.end.get() {
            return Err(end.clone());
        }
        let holds = u32::try_from(chunk).is_ok_and(|chunk| self.has(chunk));
        if range.is_empty() || range.end > chunk_end || !holds {
            return Err(SourceError::Refused(range));
        }
        let (reply, answer) = oneshot::channel();
        let awaited = Awaited::new(answer, self.shared.waste.clone());
        if self.questions.send(Question::Fetch { range, reply }).await.is_err() {
            return Err(self.end());
        }
        let _withdraw = Withdraw(&self.shared.withdrawn);
        awaited.take().await.unwrap_or_else(|| Err(self.end()))
    }

    async fn locate(&self, chunk: u32, bytes: Vec<Bytes>) -> Option<Vec<Range<u64>>> {
        let (root, size) = (self.file.aich?, self.file.size);
        let length = bytes.iter().fold(0u64, |sum, run| sum.saturating_add(run.len() as u64));
        if length != self.file.part_size(chunk) {
            return None;
        }
        let recovery = self.recovery(u16::try_from(chunk).ok()?).await?;
        let wrong = spawn_blocking(move || {
            let blocks = aich::prove(&root, size, chunk, &recovery)?;
            Some(aich::wrong_runs(&blocks, &bytes))
        });
        let start = u64::from(chunk) * PART;
        let at_their_place = |run: Range<u64>| start + run.start..start + run.end;
        Some(wrong.await.ok()??.into_iter().map(at_their_place).collect())
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

fn source_error(error: ConnectError) -> SourceError {
    match error {
        ConnectError::Ourselves => SourceError::Ourselves,
        ConnectError::Protocol(problem) => SourceError::Protocol(problem),
        ConnectError::TimedOut(time) => SourceError::TimedOut(time),
        ConnectError::Unreachable(problem) => SourceError::Unreachable(problem),
        ConnectError::NoCallBack(_) | ConnectError::Full => {
            SourceError::Unreachable(error.to_string())
        }
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
#[path = "leecher_tests.rs"]
mod tests;
#[cfg(test)]
mod turns_tests;
