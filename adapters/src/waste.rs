//! Payload bytes that a source has sent in vain.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering, fence},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::SourceError;

/// Counts the payload bytes of a session that came and that no fetch has given. Its clones are one count, to which the
/// session adds for as long as it holds one.
#[derive(Debug, Clone, Default)]
pub struct Waste(Arc<AtomicU64>);

impl Waste {
    /// So many more came in vain.
    pub fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What came in vain so far. It never falls.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether nobody else counts here any more: what [`Waste::total`] says from now on is the last word.
    #[must_use]
    pub fn is_final(&self) -> bool {
        let alone = Arc::strong_count(&self.0) == 1;
        // What the others have added is seen after this.
        fence(Ordering::Acquire);
        alone
    }
}

/// What becomes of a fetch.
pub(crate) type Fetched = Result<Bytes, SourceError>;

/// The way from a session's task to who waits for a fetch. Bytes that were given and are not taken came in vain.
#[derive(Debug)]
pub(crate) struct Awaited {
    answer: oneshot::Receiver<Fetched>,
    waste: Waste,
}

impl Awaited {
    /// What comes by `answer`.
    pub(crate) const fn new(answer: oneshot::Receiver<Fetched>, waste: Waste) -> Self {
        Self { answer, waste }
    }

    /// Waits for it; `None` when the task is gone.
    pub(crate) async fn take(mut self) -> Option<Fetched> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        // From here on the task knows that nobody waits.
        self.answer.close();
        if let Ok(Ok(bytes)) = self.answer.try_recv() {
            self.waste.add(bytes.len() as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_that_nobody_takes_is_wasted_once() {
        let waste = Waste::default();
        let (reply, answer) = oneshot::channel();
        let awaited = Awaited::new(answer, waste.clone());
        reply.send(Ok(Bytes::from_static(b"seven b"))).unwrap();
        drop(awaited);
        assert_eq!((waste.total(), waste.is_final()), (7, true));

        let (reply, answer) = oneshot::channel();
        let awaited = Awaited::new(answer, waste.clone());
        reply.send(Ok(Bytes::from_static(b"taken"))).unwrap();
        assert!(!waste.is_final());
        assert_eq!(awaited.take().await.unwrap().unwrap(), "taken");
        assert_eq!((waste.total(), waste.is_final()), (7, true));

        let (reply, answer) = oneshot::channel();
        drop(Awaited::new(answer, waste.clone()));
        assert!(reply.send(Ok(Bytes::from_static(b"too late"))).is_err(), "the task counts it");
        assert_eq!(waste.total(), 7);
    }
}
