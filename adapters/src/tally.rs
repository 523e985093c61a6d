//! What a tracker server has done. Where it has several threads each has a tally of its own, so that none waits for another.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::ServerCounts;

/// Counts of a server, or of one of its threads.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Tally {
    requests: AtomicU64,
    answered: AtomicU64,
    refused: AtomicU64,
    malformed: AtomicU64,
    shed: AtomicU64,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was answered with what it asked for.
    Answered,
    /// It was understood, and got an error.
    Refused,
    /// It was not understood.
    Malformed,
    /// There was no room for it.
    Shed,
}

impl Tally {
    /// A message came.
    pub(crate) fn came(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// A message is done with.
    pub(crate) fn done(&self, outcome: Outcome) {
        let count = match outcome {
            Outcome::Answered => &self.answered,
            Outcome::Refused => &self.refused,
            Outcome::Malformed => &self.malformed,
            Outcome::Shed => &self.shed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// What is to become of a message later.
    pub(crate) fn owed(self: &Arc<Self>) -> Owed {
        Owed(Some(self.clone()))
    }

    /// These counts and others together.
    pub(crate) fn added_to(&self, sum: ServerCounts) -> ServerCounts {
        let now = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ServerCounts {
            requests: sum.requests + now(&self.requests),
            answered: sum.answered + now(&self.answered),
            refused: sum.refused + now(&self.refused),
            malformed: sum.malformed + now(&self.malformed),
            shed: sum.shed + now(&self.shed),
            sessions: None,
        }
    }
}

/// A message whose outcome is not known yet. It counts as shed when this is dropped before it is.
#[derive(Debug)]
pub(crate) struct Owed(Option<Arc<Tally>>);

impl Owed {
    /// The message is done with.
    pub(crate) fn done(mut self, outcome: Outcome) {
        if let Some(tally) = self.0.take() {
            tally.done(outcome);
        }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if let Some(tally) = self.0.take() {
            tally.done(Outcome::Shed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_is_counted_once() {
        let tally = Arc::new(Tally::default());
        tally.owed().done(Outcome::Answered);
        drop(tally.owed());
        let counts = tally.added_to(ServerCounts::default());
        assert_eq!((counts.answered, counts.shed, counts.refused), (1, 1, 0));
    }
}
