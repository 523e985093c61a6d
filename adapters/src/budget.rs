//! Keeps what is sent to a tracker within its [`Budget`].

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use p2pbridge_proto::{ErrorCode, Fault};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep_until, timeout_at},
};

use crate::Budget;

/// When messages may leave, such that in any second at most so many do: a generic cell rate algorithm. It knows no
/// clock: times are given to it, and must not fall.
///
/// A twentieth of the messages may leave at once, the others evenly: at 95 % of what is left of a second, so that
/// messages that are held up a little on their way do not come too close to each other either.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Between two messages, in the long run.
    step: Duration,
    /// How far ahead of that messages may be.
    ahead: Duration,
    /// When the next message is due in the long run; nothing before the first one.
    due: Option<Instant>,
}

impl Pace {
    /// At most so many messages in any second; 0 counts as 1.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        let burst = (per_second / 20).max(1);
        let even = u64::from(per_second.saturating_sub(burst).max(1));
        let step = Duration::from_nanos(1_000_000_000_u64.div_ceil(even).saturating_mul(100) / 95);
        Self { step, ahead: step.saturating_mul(burst - 1), due: None }
    }

    /// When a message may leave before which so many others are to leave.
    #[must_use]
    pub fn after(&self, others: u32, now: Instant) -> Instant {
        let due = self.due.filter(|due| *due > now).unwrap_or(now);
        let due = due.checked_add(self.step.saturating_mul(others)).unwrap_or(due);
        due.checked_sub(self.ahead).filter(|at| *at > now).unwrap_or(now)
    }

    /// Lets a message leave now.
    ///
    /// # Errors
    /// When it may not; the error says when one may.
    pub fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let earliest = self.after(0, now);
        if earliest > now {
            return Err(earliest);
        }
        let due = self.due.filter(|due| *due > now).unwrap_or(now);
        self.due = due.checked_add(self.step);
        Ok(())
    }
}

/// Lets questions and their messages through within a [`Budget`], in the order in which they came; those that cannot
/// leave before their deadline, and those that are too many to wait, are shed at once.
pub struct Limiter {
    budget: Budget,
    pace: Mutex<Pace>,
    /// Held by the message that is the next to leave; the lock is fair.
    turn: tokio::sync::Mutex<()>,
    room: Semaphore,
    /// Messages that wait for their turn.
    queue: AtomicU32,
    /// Questions that wait for room.
    waiting: AtomicU32,
    sent: AtomicU64,
    shed: AtomicU64,
}

/// A question that the budget does not allow now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shed {
    /// When it is worth another try.
    pub retry_after: Duration,
    /// What was reached.
    pub bound: Budget,
}

impl From<Shed> for Fault {
    fn from(shed: Shed) -> Self {
        let Budget { per_second, in_flight } = shed.bound;
        let text = format!(
            "the tracker's budget is used up: {per_second} messages a second, {in_flight} questions in flight"
        );
        let mut fault = Self::new(ErrorCode::Overloaded, text);
        fault.retry_after = Some(shed.retry_after);
        fault
    }
}

impl Limiter {
    /// A limiter that has let nothing through yet.
    #[must_use]
    pub fn new(budget: Budget) -> Self {
        Self {
            budget,
            pace: Mutex::new(Pace::new(budget.per_second)),
            turn: tokio::sync::Mutex::new(()),
            room: Semaphore::new(usize::try_from(budget.in_flight).unwrap_or(1).max(1)),
            queue: AtomicU32::new(0),
            waiting: AtomicU32::new(0),
            sent: AtomicU64::new(0),
            shed: AtomicU64::new(0),
        }
    }

    /// What it keeps.
    #[must_use]
    pub fn budget(&self) -> Budget {
        self.budget
    }

    /// Messages that it let through.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Questions that it did not let through.
    #[must_use]
    pub fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }

    /// Lets a question in, if need be after others are answered. It counts as unanswered until the ticket is dropped.
    ///
    /// # Errors
    /// When there is no room until the deadline, or its first message could not leave before it.
    pub async fn admit(&self, deadline: Instant) -> Result<Ticket<'_>, Shed> {
        let ticket = |permit| Ticket { limiter: self, last: Mutex::new(None), _room: permit };
        if let Ok(permit) = self.room.try_acquire() {
            return Ok(ticket(permit));
        }
        let line = Queued::new(&self.waiting);
        if line.before >= self.longest_queue() || self.expected(line.before) > deadline {
            return Err(self.refuse(line.before));
        }
        match timeout_at(deadline, self.room.acquire()).await {
            Ok(Ok(permit)) => Ok(ticket(permit)),
            _ => Err(self.refuse(line.before)),
        }
    }

    /// Waits until a message may leave. It is counted as sent from then on.
    async fn leave(&self, deadline: Instant) -> Result<(), u32> {
        let line = Queued::new(&self.queue);
        let turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(_) if self.expected(line.before) > deadline => return Err(line.before),
            Err(_) => {
                let turn = timeout_at(deadline, self.turn.lock()).await;
                turn.map_err(|_| line.before)?
            }
        };
        loop {
            let took = self.pace().take(Instant::now());
            match took {
                Ok(()) => break,
                Err(earliest) if earliest > deadline => return Err(line.before),
                Err(earliest) => sleep_until(earliest).await,
            }
        }
        self.sent.fetch_add(1, Ordering::Relaxed);
        drop(turn);
        Ok(())
    }

    /// How many questions may wait: about as many as can leave in a second.
    fn longest_queue(&self) -> u32 {
        self.budget.per_second.max(self.budget.in_flight).clamp(16, 1024)
    }

    /// When a message may leave at the earliest that so many others wait before.
    fn expected(&self, others: u32) -> Instant {
        self.pace().after(others, Instant::now())
    }

    fn refuse(&self, others: u32) -> Shed {
        self.shed.fetch_add(1, Ordering::Relaxed);
        let wait = self.expected(others).saturating_duration_since(Instant::now());
        Shed { retry_after: wait.max(Duration::from_secs(1)), bound: self.budget }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A question that was let in.
pub struct Ticket<'a> {
    limiter: &'a Limiter,
    /// When its last message left.
    last: Mutex<Option<Instant>>,
    _room: SemaphorePermit<'a>,
}

impl Ticket<'_> {
    /// Waits until a message of the question may leave; it must leave at once then.
    ///
    /// # Errors
    /// When it could not before the deadline. The question is counted as shed if it was its first message.
    pub async fn message(&self, deadline: Instant) -> Result<(), Shed> {
        match self.limiter.leave(deadline).await {
            Ok(()) => {
                *self.last() = Some(Instant::now());
                Ok(())
            }
            Err(others) if self.begun() => {
                let at = self.limiter.expected(others);
                let retry_after = at.saturating_duration_since(Instant::now());
                Err(Shed { retry_after, bound: self.limiter.budget })
            }
            Err(others) => Err(self.limiter.refuse(others)),
        }
    }

    /// Whether a message of the question has left.
    #[must_use]
    pub fn begun(&self) -> bool {
        self.last().is_some()
    }

    /// How long ago its last message left, if one has: what it waited for its turn before is not the tracker's time.
    #[must_use]
    pub fn since_last(&self) -> Option<Duration> {
        self.last().map(|last| last.elapsed())
    }

    fn last(&self) -> MutexGuard<'_, Option<Instant>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in a queue, until it is dropped.
struct Queued<'a> {
    queue: &'a AtomicU32,
    before: u32,
}

impl<'a> Queued<'a> {
    fn new(queue: &'a AtomicU32) -> Self {
        Self { queue, before: queue.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.queue.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
