use std::sync::{PoisonError, RwLock};

use p2pbridge_proto::Bits;
use tokio::sync::watch;

/// The chunks of a content that may be announced, in the order in which they became so. Chunks are only ever added.
#[derive(Debug)]
pub struct Availability {
    state: RwLock<State>,
    count: watch::Sender<usize>,
}

#[derive(Debug)]
struct State {
    bits: Bits,
    log: Vec<u32>,
}

impl Availability {
    /// Nothing available yet, of so many chunks.
    #[must_use]
    pub fn new(chunks: u32) -> Self {
        let state = State { bits: Bits::none(chunks), log: Vec::new() };
        Self { state: RwLock::new(state), count: watch::Sender::new(0) }
    }

    /// Adds a chunk; `false` when it was there already, or is none of this content's.
    pub fn add(&self, chunk: u32) -> bool {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let added = state.bits.set(chunk);
        if added {
            state.log.push(chunk);
            self.count.send_replace(state.log.len());
        }
        added
    }

    /// Whether a chunk is available.
    #[must_use]
    pub fn has(&self, chunk: u32) -> bool {
        self.state.read().unwrap_or_else(PoisonError::into_inner).bits.has(chunk)
    }

    /// The chunks available now, and how many: go on with [`Self::since`] that many.
    #[must_use]
    pub fn snapshot(&self) -> (Bits, usize) {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        (state.bits.clone(), state.log.len())
    }

    /// The chunks that were added after the first `seen` ones.
    #[must_use]
    pub fn since(&self, seen: usize) -> Vec<u32> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.log.get(seen..).unwrap_or_default().to_vec()
    }

    /// Changes whenever a chunk is added.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_sees_each_chunk_once() {
        let availability = Availability::new(10);
        assert!(availability.add(3));
        let (bits, seen) = availability.snapshot();
        assert_eq!((bits.count(), seen), (1, 1));
        assert!(availability.add(9) && !availability.add(9) && !availability.add(10));
        assert_eq!(availability.since(seen), vec![9]);
        assert!(availability.has(3) && !availability.has(0));
    }
}
