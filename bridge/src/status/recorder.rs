//! Brings what the meters count into the ledger.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    ledger::{Entry, Ledger, LedgerError},
    meter::{Batch, Meter},
    windows::SLOT_MICROS,
};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often the last write is tried before the ledger is left without its closing mark.
const LAST_TRIES: u32 = 3;

type Flushed = oneshot::Sender<Result<(), String>>;

/// A task that writes what was counted into the ledger: every so often, at each 300 s border of UTC, when a transfer
/// begins, when asked to, and at its end. What the ledger does not take stays in the meter and is tried again.
#[derive(Clone)]
pub struct Recorder {
    commands: mpsc::Sender<Flushed>,
    trouble: Arc<Mutex<Option<String>>>,
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Recorder {
    /// Starts the task. It ends after `stop` was cancelled and all was written: cancel it when nobody counts any more.
    #[must_use]
    pub fn start(
        meter: Arc<Meter>,
        ledger: Arc<dyn Ledger>,
        flush: Duration,
        stop: CancellationToken,
    ) -> Self {
        let (commands, inbox) = mpsc::channel(16);
        let trouble = Arc::new(Mutex::new(None));
        let task = Task {
            next_seq: ledger.next_seq(),
            meter,
            ledger,
            trouble: trouble.clone(),
            waiters: Vec::new(),
            failures: 0,
            not_before: Instant::now(),
        };
        let task = tokio::spawn(task.run(inbox, flush.max(Duration::from_millis(100)), stop));
        Self { commands, trouble, task: Arc::new(Mutex::new(Some(task))) }
    }

    /// Returns when all that was counted until now is in the ledger.
    ///
    /// # Errors
    /// When the ledger does not take it; it is tried again later.
    pub async fn flush_now(&self) -> Result<(), String> {
        let ended = || "the recorder has ended".to_owned();
        let (done, wait) = oneshot::channel();
        self.commands.send(done).await.map_err(|_| ended())?;
        wait.await.map_err(|_| ended())?
    }

    /// Why the ledger does not take what was counted; `None` when it does.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the task has ended.
    pub async fn join(&self) {
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the recorder broke down");
        }
    }
}

struct Task {
    meter: Arc<Meter>,
    ledger: Arc<dyn Ledger>,
    trouble: Arc<Mutex<Option<String>>>,
    next_seq: u64,
    waiters: Vec<Flushed>,
    failures: u32,
    not_before: Instant,
}

/// A batch, and what the ledger said to it.
type Outcome = (Arc<Batch>, Result<u64, LedgerError>);

impl Task {
    async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Flushed>,
        flush: Duration,
        stop: CancellationToken,
    ) {
        let mut second = interval(Duration::from_secs(1));
        let mut regular = interval(flush);
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        regular.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut writing: Option<JoinHandle<Outcome>> = None;
        let mut border = next_border();
        loop {
            let mut due = false;
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                outcome = finished(&mut writing) => {
                    writing = None;
                    self.settle(outcome);
                }
                _ = second.tick() => self.meter.tick(std::time::Instant::now()),
                Some(waiter) = inbox.recv() => {
                    self.waiters.push(waiter);
                    self.not_before = Instant::now();
                    due = true;
                }
                () = self.meter.opened() => due = true,
                _ = regular.tick() => due = true,
                () = sleep_until(border) => {
                    border = next_border();
                    due = true;
                }
            }
            if due {
                self.meter.cut(Timestamp::now());
            }
            if writing.is_none() && Instant::now() >= self.not_before {
                writing = self.begin();
            }
        }
        if let Some(task) = writing {
            self.settle(task.await);
        }
        self.finish(inbox).await;
    }

    /// Starts to write the next batch; when there is none, all who waited are served.
    fn begin(&mut self) -> Option<JoinHandle<Outcome>> {
        let batch = self.meter.batch(Timestamp::now());
        if batch.is_empty() {
            self.answer(&Ok(()));
            return None;
        }
        let (ledger, first_seq) = (self.ledger.clone(), self.next_seq);
        Some(tokio::task::spawn_blocking(move || {
            let entry = Entry::from(&*batch);
            let written = ledger.append(first_seq, &entry);
            let next = written.map(|ids| first_seq.saturating_add(ids.len() as u64));
            (batch, next)
        }))
    }

    fn settle(&mut self, outcome: Result<Outcome, tokio::task::JoinError>) {
        let problem = match outcome {
            Ok((batch, Ok(next_seq))) => {
                self.next_seq = next_seq;
                self.meter.committed(&batch);
                self.failures = 0;
                self.set_trouble(None);
                return;
            }
            Ok((_, Err(error))) => error.to_string(),
            Err(error) => format!("the ledger broke down: {error}"),
        };
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(8)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Instant::now() + pause;
        tracing::error!(%problem, retry_in = ?pause, "usage is not recorded, it is kept in memory");
        self.answer(&Err(problem.clone()));
        self.set_trouble(Some(format!(
            "usage is kept in memory, since it cannot be recorded: {problem}"
        )));
    }

    fn answer(&mut self, answer: &Result<(), String>) {
        for waiter in self.waiters.drain(..) {
            // Who has hung up needs no answer.
            let _ = waiter.send(answer.clone());
        }
    }

    fn set_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// Writes the rest, and closes the ledger.
    async fn finish(mut self, mut inbox: mpsc::Receiver<Flushed>) {
        inbox.close();
        while let Ok(waiter) = inbox.try_recv() {
            self.waiters.push(waiter);
        }
        self.meter.cut(Timestamp::now());
        self.failures = 0;
        while let Some(task) = self.begin() {
            self.settle(task.await);
            if self.failures >= LAST_TRIES {
                tracing::error!("the last usage could not be recorded: the next start notes a gap");
                return;
            }
            if self.failures > 0 {
                sleep(Duration::from_millis(300)).await;
            }
        }
        let ledger = self.ledger.clone();
        match tokio::task::spawn_blocking(move || ledger.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the ledger could not be closed"),
            Err(error) => tracing::error!(%error, "the ledger broke down"),
        }
    }
}

/// The outcome of a write under way; never, when there is none.
async fn finished(
    writing: &mut Option<JoinHandle<Outcome>>,
) -> Result<Outcome, tokio::task::JoinError> {
    match writing {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

/// The moment of the next border between slots.
fn next_border() -> Instant {
    let rest = SLOT_MICROS - Timestamp::now().as_microsecond().rem_euclid(SLOT_MICROS);
    Instant::now() + Duration::from_micros(rest.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::status::{
        ledger::{Cursor, Filter, Page, RedbLedger, Writer},
        meter::TransferKey,
    };
    use p2pbridge_proto::{Name, v1};

    /// A disk that can be full.
    struct Fickle {
        inner: RedbLedger,
        full: AtomicBool,
    }

    impl Ledger for Fickle {
        fn writer(&self) -> Writer {
            self.inner.writer()
        }

        fn next_seq(&self) -> u64 {
            self.inner.next_seq()
        }

        fn append(&self, first: u64, entry: &Entry) -> Result<Vec<v1::RecordId>, LedgerError> {
            if self.full.load(Ordering::SeqCst) {
                let (path, problem) = ("x".into(), "no space left".to_owned());
                return Err(LedgerError::Io { path, doing: "written", problem });
            }
            self.inner.append(first, entry)
        }

        fn scan(&self, f: &Filter, c: Option<Cursor>, limit: usize) -> Result<Page, LedgerError> {
            self.inner.scan(f, c, limit)
        }

        fn close(&self) -> Result<(), LedgerError> {
            self.inner.close()
        }
    }

    fn key() -> TransferKey {
        TransferKey {
            transfer_id: "1".to_owned(),
            agreement: String::new(),
            source_overlay: "a".parse().unwrap(),
            destination_overlay: "b".parse().unwrap(),
            source_name: Name::btih([1; 20]),
            destination_name: Name::btih([2; 20]),
            title: "film".to_owned(),
        }
    }

    #[tokio::test]
    async fn a_full_disk_delays_but_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.redb");
        let inner = RedbLedger::open(&path, "op", "br", Timestamp::now()).unwrap();
        let ledger = Arc::new(Fickle { inner, full: AtomicBool::new(true) });
        let (meter, stop) = (Meter::new(), CancellationToken::new());
        let recorder =
            Recorder::start(meter.clone(), ledger.clone(), Duration::from_secs(3600), stop.clone());
        let transfer = meter.transfer(key());
        transfer.verified(7);
        assert!(recorder.flush_now().await.unwrap_err().contains("no space left"));
        assert!(recorder.trouble().unwrap().contains("no space left"));
        transfer.verified(4);
        ledger.full.store(false, Ordering::SeqCst);
        recorder.flush_now().await.unwrap();
        assert_eq!(recorder.trouble(), None);
        let sum = |page: Page| page.records.iter().map(|r| r.bytes_verified).sum::<u64>();
        assert_eq!(sum(ledger.scan(&Filter::default(), None, 99).unwrap()), 11);
        transfer.verified(1);
        drop(transfer);
        stop.cancel();
        recorder.join().await;
        assert_eq!(sum(ledger.scan(&Filter::default(), None, 99).unwrap()), 12);
        assert!(matches!(ledger.append(9, &Entry::default()), Err(LedgerError::Closed)));
        drop(ledger);
        let again = RedbLedger::open(&path, "op", "br", Timestamp::now()).unwrap();
        assert_eq!(again.next_seq(), 1, "a clean end leaves no gap");
    }
}
