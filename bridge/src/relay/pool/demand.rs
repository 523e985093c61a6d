//! How much the served peers need, and what follows for the number of sources: they are added until the sum of their
//! throughputs is what is needed, and the weakest makes place when that is never reached.

use std::time::Duration;

use tokio::time::Instant;

use crate::rate::Rate;

/// How far back it looks what served peers take.
const OF_LATE: Duration = Duration::from_secs(4);
/// What the sources must be able to bring, beside what is taken: so much more, that a peer that could take more finds it.
const HEADROOM: f64 = 1.25;
/// So many sources are connected at once, whatever is needed: one alone may be slow, or gone tomorrow.
const FIRST: usize = 3;
/// How long something wanted finds no source before more sources are needed.
const GRACE: Duration = Duration::from_millis(500);
/// How long at least is waited between one source more and the next.
const STEP: Duration = Duration::from_millis(250);
/// How often the weakest makes place, when all places are taken and more is needed. Longer each time that the newcomer
/// was no better.
const EXPLORE: Duration = Duration::from_secs(10);
const EXPLORE_AT_LAST: Duration = Duration::from_secs(60);

/// What the served peers need.
#[derive(Debug)]
pub(super) struct Demand {
    taken: Rate,
    /// Bytes that were taken up to `at`.
    seen: u64,
    at: Instant,
    starved_since: Option<Instant>,
    added: Option<Instant>,
    explored: Instant,
    explore_after: Duration,
}

/// The sources, as far as it matters how many there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    /// Sources that are connected, or being connected.
    pub(super) open: usize,
    /// How many there may be.
    pub(super) most: usize,
    /// Whether one could be connected that is not.
    pub(super) untried: bool,
    /// The sum of the throughputs of those that were measured, in bytes a second.
    pub(super) capacity: f64,
    /// Whether one of them was not measured yet.
    pub(super) unmeasured: bool,
}

/// What is to be done about the sources.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Move {
    /// Nothing before that moment, if nothing else happens.
    Stay(Option<Instant>),
    /// One more is to be connected.
    Add,
    /// The weakest is to make place for one that was not tried.
    Replace,
}

impl Demand {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            taken: Rate::new(OF_LATE),
            seen: 0,
            at: now,
            starved_since: None,
            added: None,
            explored: now,
            explore_after: EXPLORE,
        }
    }

    /// Takes note of the bytes that served peers have taken since the start, and whether something that they want finds
    /// no source with room.
    pub(super) fn note(&mut self, taken: u64, starved: bool, now: Instant) {
        self.taken.pass(now.saturating_duration_since(self.at));
        self.taken.add(taken.saturating_sub(self.seen));
        (self.seen, self.at) = (taken, now);
        if !starved {
            self.starved_since = None;
        } else if self.starved_since.is_none() {
            self.starved_since = Some(now);
        }
    }

    /// Bytes a second that the sources together should be able to bring.
    pub(super) fn needed(&self, capacity: f64, now: Instant) -> f64 {
        let taken = self.taken.value().unwrap_or(0.0);
        // What is wanted and finds nobody is more than what is brought now, however little is taken.
        let least = if self.is_starved(now) { capacity } else { 0.0 };
        // Something is needed, even of sources that bring nothing.
        taken.max(least).max(1.0) * HEADROOM
    }

    /// What is to be done.
    pub(super) fn next(&self, places: Places, now: Instant) -> Move {
        if !places.untried {
            return Move::Stay(None);
        }
        if places.open < FIRST.min(places.most) {
            return Move::Add;
        }
        let starved = self.is_starved(now);
        if !starved && places.unmeasured {
            return Move::Stay(self.starves_at());
        }
        if places.capacity >= self.needed(places.capacity, now) {
            return Move::Stay(self.starves_at());
        }
        if places.open < places.most {
            return match self.added.map(|added| added + STEP) {
                Some(again) if again > now => Move::Stay(Some(again)),
                _ => Move::Add,
            };
        }
        match self.explored + self.explore_after {
            again if again > now => Move::Stay(Some(again)),
            _ => Move::Replace,
        }
    }

    /// One more is being connected.
    pub(super) fn added(&mut self, now: Instant) {
        self.added = Some(now);
        self.explored = now;
    }

    /// The weakest makes place; `newcomer` says whether that was the one that came last.
    pub(super) fn replaced(&mut self, newcomer: bool, now: Instant) {
        self.explored = now;
        self.explore_after = match newcomer {
            true => (self.explore_after * 3 / 2).min(EXPLORE_AT_LAST),
            false => EXPLORE,
        };
    }

    fn is_starved(&self, now: Instant) -> bool {
        self.starved_since.is_some_and(|since| now >= since + GRACE)
    }

    fn starves_at(&self) -> Option<Instant> {
        self.starved_since.map(|since| since + GRACE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENOUGH: Places =
        Places { open: 3, most: 8, untried: true, capacity: 3e6, unmeasured: false };

    /// Peers that take so many bytes a second, for ten seconds.
    fn taking(rate: u64, starved: bool) -> (Demand, Instant) {
        let mut now = Instant::now();
        let mut demand = Demand::new(now);
        for second in 1..=10 {
            now += Duration::from_secs(1);
            demand.note(rate * second, starved, now);
        }
        (demand, now)
    }

    #[test]
    fn sources_are_added_until_they_can_bring_what_is_taken() {
        let (demand, now) = taking(2_000_000, false);
        assert_eq!(demand.next(Places { open: 2, ..ENOUGH }, now), Move::Add);
        assert_eq!(demand.next(ENOUGH, now), Move::Stay(None));
        assert_eq!(demand.next(Places { capacity: 2.2e6, ..ENOUGH }, now), Move::Add);
        let unmeasured = Places { capacity: 2.2e6, unmeasured: true, ..ENOUGH };
        assert_eq!(demand.next(unmeasured, now), Move::Stay(None));
        let none = Places { open: 0, untried: false, ..ENOUGH };
        assert_eq!(demand.next(none, now), Move::Stay(None));
    }

    #[test]
    fn peers_that_find_no_source_need_more_whatever_they_take() {
        let (mut demand, now) = taking(0, true);
        assert!(demand.needed(3e6, now) > 3e6);
        let unmeasured = Places { unmeasured: true, ..ENOUGH };
        assert_eq!(demand.next(unmeasured, now), Move::Add);
        demand.added(now);
        assert_eq!(demand.next(unmeasured, now), Move::Stay(Some(now + STEP)));
        assert_eq!(demand.next(unmeasured, now + STEP), Move::Add);
        demand.note(0, false, now);
        demand.note(0, true, now);
        assert_eq!(demand.next(ENOUGH, now), Move::Stay(Some(now + GRACE)));
    }

    #[test]
    fn when_all_places_are_taken_the_weakest_makes_place_now_and_then() {
        let (mut demand, mut now) = taking(9_000_000, true);
        let full = Places { open: 8, ..ENOUGH };
        demand.added(now);
        assert_eq!(demand.next(full, now), Move::Stay(Some(now + EXPLORE)));
        now += EXPLORE;
        assert_eq!(demand.next(full, now), Move::Replace);
        demand.replaced(true, now);
        assert_eq!(demand.next(full, now + EXPLORE), Move::Stay(Some(now + EXPLORE * 3 / 2)));
        demand.replaced(false, now);
        assert_eq!(demand.next(full, now + EXPLORE), Move::Replace);
        demand.note(90_000_000, false, now);
        assert_eq!(demand.next(Places { capacity: 2e7, ..full }, now), Move::Stay(None));
    }
}
