//! Of which files the server was asked, who waits for its answer, and what it said.

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use crate::ed2k::{sources::SourceBook, wire::Hash};

/// The most files that are remembered as asked for.
const MAX_FILES: usize = 10_000;
/// How long sources are believed after the server has named them.
const LIFE: Duration = Duration::from_secs(40 * 60);
/// An answer that comes later than this is to no question.
const LATE: Duration = Duration::from_secs(10 * 60);

pub(super) struct Memory {
    sources: SourceBook,
    asked: HashMap<Hash, Asked>,
}

struct Asked {
    at: Instant,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Default for Memory {
    fn default() -> Self {
        Self { sources: SourceBook::new(LIFE), asked: HashMap::new() }
    }
}

impl Memory {
    /// Takes down that the server is asked of a file; what is given tells when it has answered.
    pub(super) fn ask(&mut self, file: Hash, now: Instant) -> oneshot::Receiver<()> {
        if self.asked.len() >= MAX_FILES && !self.asked.contains_key(&file) {
            let stalest = self.asked.iter().min_by_key(|(_, asked)| asked.at);
            if let Some(stalest) = stalest.map(|(file, _)| *file) {
                self.asked.remove(&stalest);
            }
        }
        let (tell, told) = oneshot::channel();
        let asked =
            self.asked.entry(file).or_insert_with(|| Asked { at: now, waiting: Vec::new() });
        asked.at = now;
        asked.waiting.retain(|waits| !waits.is_closed());
        asked.waiting.push(tell);
        told
    }

    /// When the server was last asked of a file in this session.
    pub(super) fn asked(&self, file: &Hash) -> Option<Instant> {
        self.asked.get(file).map(|asked| asked.at)
    }

    /// Takes down what the server says; `false` when it was not asked.
    pub(super) fn found(
        &mut self,
        file: Hash,
        sources: impl Iterator<Item = SocketAddr>,
        now: Instant,
    ) -> bool {
        let asked = self.asked.get_mut(&file);
        let asked = asked.filter(|asked| now.saturating_duration_since(asked.at) < LATE);
        let Some(asked) = asked else {
            return false;
        };
        sources.for_each(|source| self.sources.note(file, source));
        for waits in asked.waiting.drain(..) {
            // Who does not wait any more needs no word.
            let _ = waits.send(());
        }
        true
    }

    /// The sources of a file that the server named of late.
    pub(super) fn of(&self, file: &Hash) -> Vec<SocketAddr> {
        self.sources.of(file)
    }

    /// The session has ended: the next server is to be asked anew, and knows no low ids of this one.
    pub(super) fn new_session(&mut self) {
        self.asked.clear();
        self.sources.forget_low_ids();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn answers_are_for_those_who_asked() {
        let mut memory = Memory::default();
        let source: SocketAddr = "198.51.100.3:4662".parse().unwrap();
        let now = Instant::now();
        assert!(!memory.found([1; 16], [source; 3].into_iter(), now));
        assert!(memory.of(&[1; 16]).is_empty());
        let (mut one, two) = (memory.ask([1; 16], now), memory.ask([1; 16], now));
        assert!(one.try_recv().is_err());
        assert!(memory.found([1; 16], [source].into_iter(), now));
        assert!(one.try_recv().is_ok() && two.await.is_ok());
        assert_eq!(memory.of(&[1; 16]), [source]);
        // One more answer to the same question counts; one long after does not.
        let other: SocketAddr = "198.51.100.4:4662".parse().unwrap();
        let soon = now + Duration::from_secs(60);
        assert!(memory.found([1; 16], [other].into_iter(), soon));
        let low = "7.0.0.0:1".parse().unwrap();
        assert!(!memory.found([1; 16], [low].into_iter(), now + LATE));
        assert_eq!(memory.of(&[1; 16]).len(), 2);
        assert_eq!(memory.asked(&[1; 16]), Some(now));
        memory.new_session();
        assert_eq!((memory.asked(&[1; 16]), memory.of(&[1; 16]).len()), (None, 2));
    }

    #[tokio::test]
    async fn the_files_that_are_remembered_have_a_bound() {
        let mut memory = Memory::default();
        for number in 0..10_020u32 {
            let mut file = [0; 16];
            file[..4].copy_from_slice(&number.to_le_bytes());
            drop(memory.ask(file, Instant::now()));
        }
        assert_eq!(memory.asked.len(), MAX_FILES);
    }
}
