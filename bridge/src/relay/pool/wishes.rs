//! Chunks that served peers ask for and that are not here. They go before what is read ahead, the oldest first.

use std::collections::{HashMap, VecDeque};

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
/// Answered chunks that are spared when the spool is full.
const MOST_TOLD: usize = 4;
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
    /// Those that were answered last: their readers are about to read.
    told: VecDeque<Wanted>,
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
        let Some(wish) = self.by_chunk.remove(&wanted) else { return };
        if self.told.len() >= MOST_TOLD {
            self.told.pop_front();
        }
        self.told.push_back(wanted);
        for reader in wish.readers {
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
    /// Chunks that readers wait for, or were told of just now, by name.
    pub(super) fn wished(&self) -> impl Iterator<Item = Wanted> {
        let mut wishes = lock(&self.shared.wishes);
        let open: Vec<Wanted> = wishes.open().into_iter().map(|(wanted, _)| wanted).collect();
        let all = open.into_iter().chain(wishes.told.iter().copied());
        let named = all.map(|(consumer, chunk)| (self.shared.consumers[consumer].name, chunk));
        named.collect::<Vec<_>>().into_iter()
    }

    /// Whether a reader waits for the bytes of a chunk.
    pub(super) fn is_wished(&self, name: usize, chunk: u32) -> bool {
        let shared = &self.shared;
        let wishes = lock(&shared.wishes);
        if wishes.by_chunk.is_empty() {
            return false;
        }
        let parts = shared.grid.parts(&shared.names[name].binding.layout, chunk);
        parts.into_iter().any(|part| match part {
            Part::Block(number) => {
                let block = &shared.grid.blocks()[number];
                shared.consumers.iter().enumerate().any(|(consumer, to)| {
                    let mut chunks = shared.names[to.name].places.chunks(block);
                    chunks.any(|chunk| wishes.by_chunk.contains_key(&(consumer, chunk)))
                })
            }
            Part::Zeros(_) => false,
        })
    }

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
            if let Some(why) = self.unlearnable(to.name) {
                lock(&shared.wishes).answer((consumer, chunk), Err(why));
                continue;
            }
            if self.awaits_hashes(to.name, chunk) {
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
                // The hashes of the sending name come first.
                Had::Whole if self.is_being_judged(to.name, chunk) => {}
                Had::Whole => self.start_check(to.name, chunk),
            }
        }
        fetch
    }

    /// Whether bytes of a chunk are being checked by other names.
    fn is_being_judged(&self, name: usize, chunk: u32) -> bool {
        let shared = &self.shared;
        let parts = shared.grid.parts(&shared.names[name].binding.layout, chunk);
        parts.into_iter().any(|part| match part {
            Part::Block(number) => {
                let block = &shared.grid.blocks()[number];
                let names = shared.names.iter().zip(&self.names).enumerate();
                names.filter(|(other, _)| *other != name).any(|(_, (other, state))| {
                    other.places.chunks(block).any(|chunk| state.checking.contains(&chunk))
                })
            }
            Part::Zeros(_) => false,
        })
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
