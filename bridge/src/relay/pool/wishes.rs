//! Chunks that served peers ask for and that are not here. They go before what is read ahead, the oldest first.

use std::collections::HashMap;

use tokio::{
    sync::oneshot,
    time::{Duration, Instant},
};

use super::{
    driver::{Driver, State},
    lock,
};
use crate::relay::grid::Part;

/// Chunks that are waited for at most, in one pool.
const MOST_CHUNKS: usize = 1_000;
/// Readers of one chunk that wait at most.
const MOST_READERS: usize = 1_000;
/// How long a chunk is waited for while no source is known that could bring it: a tracker may name one any moment.
const HOPE: Duration = Duration::from_secs(5);

/// What a reader is told: the chunk is there, or why it does not come.
pub(super) type Outcome = Result<(), &'static str>;

/// A consumer and one of its chunks.
pub(super) type Wanted = (usize, u32);

/// The chunks that readers wait for.
#[derive(Default)]
pub(super) struct Wishes {
    by_chunk: HashMap<Wanted, Wish>,
    made: u64,
}

struct Wish {
    number: u64,
    since: Instant,
    readers: Vec<oneshot::Sender<Outcome>>,
}

impl Wishes {
    /// One reader more that waits; dropping the receiver takes the wish back. `None` when too many wait.
    pub(super) fn make(
        &mut self,
        wanted: Wanted,
        now: Instant,
    ) -> Option<oneshot::Receiver<Outcome>> {
        self.forget_dropped(wanted);
        if self.by_chunk.len() >= MOST_CHUNKS && !self.by_chunk.contains_key(&wanted) {
            self.open();
            if self.by_chunk.len() >= MOST_CHUNKS {
                return None;
            }
        }
        self.made += 1;
        let wish = self.by_chunk.entry(wanted).or_insert_with(|| Wish {
            number: self.made,
            since: now,
            readers: Vec::new(),
        });
        if wish.readers.len() >= MOST_READERS {
            return None;
        }
        let (told, waits) = oneshot::channel();
        wish.readers.push(told);
        Some(waits)
    }

    /// What is still waited for, the oldest first, and since when.
    pub(super) fn open(&mut self) -> Vec<(Wanted, Instant)> {
        self.by_chunk.retain(|_, wish| {
            wish.readers.retain(|reader| !reader.is_closed());
            !wish.readers.is_empty()
        });
        let mut open: Vec<_> = self.by_chunk.iter().collect();
        open.sort_unstable_by_key(|(_, wish)| wish.number);
        open.into_iter().map(|(wanted, wish)| (*wanted, wish.since)).collect()
    }

    /// Tells all who wait for a chunk.
    pub(super) fn answer(&mut self, wanted: Wanted, outcome: Outcome) {
        for reader in self.by_chunk.remove(&wanted).into_iter().flat_map(|wish| wish.readers) {
            // Who does not wait any more need not be told.
            let _ = reader.send(outcome);
        }
    }

    /// Lets all readers go.
    pub(super) fn clear(&mut self) {
        self.by_chunk.clear();
    }

    fn forget_dropped(&mut self, wanted: Wanted) {
        if let Some(wish) = self.by_chunk.get_mut(&wanted) {
            wish.readers.retain(|reader| !reader.is_closed());
            if wish.readers.is_empty() {
                self.by_chunk.remove(&wanted);
            }
        }
    }
}

/// How much of a chunk is had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Had {
    /// Something is to be asked for.
    Lacking,
    /// All that is not here has been asked for.
    Coming,
    /// All bytes are here.
    Whole,
}

impl Driver {
    /// How much of a chunk is had.
    pub(super) fn had(&self, name: usize, chunk: u32) -> Had {
        let shared = &self.shared;
        let mut had = Had::Whole;
        for part in shared.grid.parts(&shared.names[name].binding.layout, chunk) {
            match part {
                Part::Block(block) => match self.blocks[block] {
                    State::Missing => return Had::Lacking,
                    State::Fetching { .. } => had = Had::Coming,
                    State::Here { .. } | State::Stored => {}
                },
                Part::Zeros(_) => {}
            }
        }
        had
    }

    /// Answers what can be answered of the wishes; gives those for which something is to be fetched, the oldest first.
    pub(super) fn mind_wishes(&mut self) -> Vec<Wanted> {
        let shared = self.shared.clone();
        let open = lock(&shared.wishes).open();
        let mut fetch = Vec::new();
        for ((consumer, chunk), since) in open {
            let to = &shared.consumers[consumer];
            let state = &self.names[to.name];
            if state.checking.contains(&chunk) || state.doubted.contains(&chunk) {
                continue;
            }
            let mut had = self.had(to.name, chunk);
            if had == Had::Whole {
                // Announced, and evicted since.
                self.refresh_stored(to.name, chunk);
                had = self.had(to.name, chunk);
            }
            match had {
                Had::Lacking if self.is_hopeless() => {
                    let ends = since + HOPE;
                    if ends <= Instant::now() {
                        let why = "no source is known that could bring it";
                        lock(&shared.wishes).answer((consumer, chunk), Err(why));
                    } else {
                        self.wake_at = self.wake_at.min(ends);
                    }
                    // Peers are looked for all the same.
                    fetch.push((consumer, chunk));
                }
                Had::Lacking => fetch.push((consumer, chunk)),
                Had::Coming => {}
                Had::Whole if self.names[to.name].checked.has(chunk) => {
                    let outcome = match to.availability.has(chunk) {
                        true => Ok(()),
                        false => Err("no route lets its bytes go there"),
                    };
                    lock(&shared.wishes).answer((consumer, chunk), outcome);
                }
                Had::Whole => self.start_check(to.name, chunk),
            }
        }
        fetch
    }

    /// Whether nobody is there, or may be tried now, who could bring anything.
    fn is_hopeless(&self) -> bool {
        self.sources.is_alone() && self.sources.untried(Instant::now()).next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_wish_comes_first_and_a_dropped_one_is_none() {
        let (mut wishes, now) = (Wishes::default(), Instant::now());
        let waits: Vec<_> =
            [9, 3, 7].into_iter().map(|chunk| wishes.make((0, chunk), now).unwrap()).collect();
        let mut again = wishes.make((0, 3), now).unwrap();
        let order = |wishes: &mut Wishes| {
            wishes.open().into_iter().map(|((_, chunk), _)| chunk).collect::<Vec<_>>()
        };
        assert_eq!(order(&mut wishes), [9, 3, 7]);
        let [nine, _three, seven] = <[_; 3]>::try_from(waits).unwrap();
        drop(nine);
        assert_eq!(order(&mut wishes), [3, 7]);
        let later = wishes.make((0, 9), now).unwrap();
        assert_eq!(order(&mut wishes), [3, 7, 9]);
        drop((seven, later));
        wishes.answer((0, 3), Err("no"));
        assert_eq!(again.try_recv().unwrap(), Err("no"));
        assert_eq!(order(&mut wishes), [0; 0]);
    }

    #[test]
    fn wishes_are_bounded() {
        let (mut wishes, now) = (Wishes::default(), Instant::now());
        let chunks = 0..MOST_CHUNKS as u32;
        let mut waits: Vec<_> = chunks.map(|chunk| wishes.make((1, chunk), now).unwrap()).collect();
        assert!(wishes.make((0, 0), now).is_none());
        waits.extend((1..MOST_READERS).map(|_| wishes.make((1, 5), now).unwrap()));
        assert!(wishes.make((1, 5), now).is_none());
        drop(waits.remove(0));
        assert!(wishes.make((0, 0), now).is_some());
    }
}
