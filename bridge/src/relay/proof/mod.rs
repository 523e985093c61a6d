//! Proof by traffic: when all bytes of a content have passed, verified, their names by every rule are computed and stated.
//!
//! Verified runs are offered as they come, and hashed by threads of their own, of low priority. Nobody waits for them: what
//! does not fit into the queue is read from the spool later, and what is not there any more is not proven.

mod coverage;
mod desk;
mod worker;

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use p2pbridge_nametable::{NameTable, digest::Rules};
use p2pbridge_proto::{ContentId, Evidence, Scheme};

pub(crate) use self::desk::Place;
use self::{
    coverage::{Prints, Run},
    desk::{Bounds, Desk, Standing},
    worker::Unstated,
};
use super::spool::Spool;

/// What is proven, and with how much power.
#[derive(Debug, Clone, Copy)]
pub struct Proving {
    /// The rules by which names are computed.
    pub rules: Rules,
    /// Threads that hash.
    pub threads: usize,
}

/// What came of it so far, since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProofCounts {
    /// Contents of which all names were computed.
    pub proven: u64,
    /// Contents of which some names were left out, since the spool did not have all bytes any more.
    pub in_part: u64,
    /// Contents that were given up: others came since, or the spool did not have the bytes any more.
    pub given_up: u64,
    /// Contents of which a part has come.
    pub open: u64,
    /// Bytes that wait to be hashed, in memory.
    pub queued: u64,
    /// Statements that the name table has not taken yet.
    pub unstated: u64,
}

const BOUNDS: Bounds =
    Bounds { contents: 1_000, queue: 16 << 20, memory: 32 << 20, batch: 4 << 20, hold: 8 << 20 };

/// How long the name table is left alone after it did not take a statement.
const REST: Duration = Duration::from_secs(10);

/// A verified run of a content.
#[derive(Debug, Clone)]
pub(crate) struct Verified {
    /// First byte in the content.
    pub(crate) offset: u64,
    /// Its bytes.
    pub(crate) bytes: Bytes,
    /// Whether the spool has it.
    pub(crate) spooled: bool,
}

/// Computes the names of contents from what passes. Dropped or stopped, it finishes nothing.
pub(crate) struct Prover {
    inner: Arc<Inner>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the threads share.
struct Inner {
    rules: Rules,
    names: Arc<NameTable>,
    spool: Arc<Spool>,
    prints: Prints,
    desk: Mutex<Desk>,
    /// Proofs that the name table is still to be told.
    unstated: Mutex<Unstated>,
    /// How long the name table is left alone after it did not take a statement.
    rest: Duration,
    /// There is work.
    work: Condvar,
    stop: AtomicBool,
    proven: AtomicU64,
    in_part: AtomicU64,
    given_up: AtomicU64,
}

impl Prover {
    /// A prover whose threads run.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn start(
        proving: Proving,
        names: Arc<NameTable>,
        spool: Arc<Spool>,
    ) -> std::io::Result<Self> {
        Self::with_bounds(proving, names, spool, BOUNDS, REST)
    }

    fn with_bounds(
        proving: Proving,
        names: Arc<NameTable>,
        spool: Arc<Spool>,
        bounds: Bounds,
        rest: Duration,
    ) -> std::io::Result<Self> {
        let inner = Arc::new(Inner {
            rules: proving.rules,
            names,
            spool,
            prints: Prints::default(),
            desk: Mutex::new(Desk::new(bounds)),
            unstated: Mutex::default(),
            rest,
            work: Condvar::new(),
            stop: AtomicBool::new(false),
            proven: AtomicU64::new(0),
            in_part: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
        });
        let this = Self { inner: inner.clone(), threads: Mutex::default() };
        for number in 0..proving.threads.max(1) {
            let inner = inner.clone();
            let thread = std::thread::Builder::new().name(format!("proof {number}"));
            let thread = thread.spawn(move || worker::run(&inner))?;
            lock(&this.threads).push(thread);
        }
        Ok(this)
    }

    /// Takes runs of a content of this length that the name of a place has verified. Quick: it hashes nothing, but calls
    /// the name table for a content that is new to it.
    pub(crate) fn offer(
        &self,
        content: ContentId,
        length: u64,
        place: Place,
        runs: impl IntoIterator<Item = Verified>,
    ) {
        let inner = &self.inner;
        let standing = lock(&inner.desk).standing(&content);
        match standing {
            Standing::Settled => return,
            Standing::Unknown if inner.is_proven(&content) => {
                lock(&inner.desk).settle(content);
                return;
            }
            Standing::Unknown | Standing::Gathering => {}
        }
        let run = |verified: Verified| {
            let length = u32::try_from(verified.bytes.len()).ok().filter(|length| *length > 0)?;
            let print = inner.prints.of(&verified.bytes);
            let run = Run { offset: verified.offset, length, print, spooled: verified.spooled };
            Some((run, verified.bytes))
        };
        let runs: Vec<_> = runs.into_iter().filter_map(run).collect();
        if lock(&inner.desk).offer(content, length, place, runs) {
            inner.work.notify_one();
        }
    }

    /// What came of it so far.
    pub(crate) fn counts(&self) -> ProofCounts {
        let inner = &self.inner;
        let unstated = lock(&inner.unstated).len() as u64;
        let desk = lock(&inner.desk);
        ProofCounts {
            proven: inner.proven.load(Ordering::Relaxed),
            in_part: inner.in_part.load(Ordering::Relaxed),
            given_up: inner.given_up.load(Ordering::Relaxed) + desk.given_up(),
            open: desk.len() as u64,
            queued: desk.queued(),
            unstated,
        }
    }

    /// Ends the threads, and waits for them: a moment, since they leave their work. Blocks.
    pub(crate) fn stop(&self) {
        self.inner.tell_to_stop();
        for thread in lock(&self.threads).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that proves contents has failed");
            }
        }
    }
}

impl Drop for Prover {
    fn drop(&mut self) {
        self.inner.tell_to_stop();
    }
}

impl Inner {
    fn tell_to_stop(&self) {
        self.stop.store(true, Ordering::Release);
        // Who is about to wait has the desk: it sees the word before it waits.
        drop(lock(&self.desk));
        self.work.notify_all();
    }

    fn stops(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Whether a verified name by each rule is known of a content. Where two rules give names of one scheme, one is enough:
    /// they may be equal.
    fn is_proven(&self, content: &ContentId) -> bool {
        let Some(known) = self.names.content(content) else { return false };
        let is_verified = |scheme: &Scheme| {
            known.of_scheme(*scheme).any(|known| known.evidence == Evidence::Verified)
        };
        self.rules.iter().all(|rule| rule.schemes.iter().any(is_verified))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
