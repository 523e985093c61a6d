//! Who is served now: as many interested peers as there are slots, in turn.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

/// The upload slots of one seeder.
#[derive(Debug)]
pub(super) struct Choker {
    slots: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    peers: HashMap<u64, watch::Sender<bool>>,
    /// Interested, without a slot; the one that waits longest is first.
    waiting: VecDeque<u64>,
    /// With a slot; the one that has it longest is first.
    served: VecDeque<u64>,
}

/// A peer's place with the choker; left when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    id: u64,
    choker: Arc<Choker>,
    /// Whether the peer has a slot.
    pub(super) open: watch::Receiver<bool>,
}

impl Choker {
    /// At least one slot.
    pub(super) fn new(slots: usize) -> Arc<Self> {
        Arc::new(Self { slots: slots.max(1), state: Mutex::default() })
    }

    /// A seat for a peer that wants nothing yet.
    pub(super) fn sit(self: &Arc<Self>) -> Seat {
        let (sender, open) = watch::channel(false);
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        state.peers.insert(id, sender);
        Seat { id, choker: self.clone(), open }
    }

    /// Gives a quarter of the slots, those that were held longest, to those who wait longest.
    pub(super) fn rotate(&self) {
        let mut state = self.lock();
        for _ in 0..(self.slots / 4).max(1).min(state.waiting.len()) {
            let Some(rests) = state.served.pop_front() else { break };
            state.tell(rests, false);
            state.waiting.push_back(rests);
            state.fill(self.slots);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fill(&mut self, slots: usize) {
        while self.served.len() < slots {
            let Some(next) = self.waiting.pop_front() else { break };
            self.tell(next, true);
            self.served.push_back(next);
        }
    }

    fn tell(&self, id: u64, open: bool) {
        if let Some(peer) = self.peers.get(&id) {
            peer.send_replace(open);
        }
    }

    fn forget(&mut self, id: u64) {
        self.waiting.retain(|other| *other != id);
        self.served.retain(|other| *other != id);
    }
}

impl Seat {
    /// The peer wants to be served, or does not any more.
    pub(super) fn wants(&self, wants: bool) {
        let mut state = self.choker.lock();
        let known = state.waiting.contains(&self.id) || state.served.contains(&self.id);
        if wants && !known {
            state.waiting.push_back(self.id);
        } else if !wants && known {
            state.forget(self.id);
            state.tell(self.id, false);
        }
        state.fill(self.choker.slots);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.choker.lock();
        state.forget(self.id);
        state.peers.remove(&self.id);
        state.fill(self.choker.slots);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_go_round_so_that_everybody_is_served() {
        let choker = Choker::new(2);
        let seats: Vec<_> = (0..5).map(|_| choker.sit()).collect();
        seats.iter().for_each(|seat| seat.wants(true));
        let mut turns = [0; 5];
        for _ in 0..50 {
            let open: Vec<_> = seats.iter().map(|seat| *seat.open.borrow()).collect();
            assert_eq!(open.iter().filter(|open| **open).count(), 2);
            for (turns, open) in turns.iter_mut().zip(open) {
                *turns += usize::from(open);
            }
            choker.rotate();
        }
        assert_eq!(turns, [20; 5]);
    }

    #[test]
    fn a_slot_that_is_left_is_given_on_and_nobody_rests_in_vain() {
        let choker = Choker::new(1);
        let (one, two) = (choker.sit(), choker.sit());
        one.wants(true);
        choker.rotate();
        assert!(*one.open.borrow());
        two.wants(true);
        assert!(!*two.open.borrow());
        one.wants(false);
        assert!(*two.open.borrow() && !*one.open.borrow());
        one.wants(true);
        drop(two);
        assert!(*one.open.borrow());
    }
}
