//! What peers and trackers sent that was not taken, counted by who sent it and by what was wrong with it. A tracker
//! server counts what it is asked by itself: [`crate::ServerCounts`].

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

/// Counts of one overlay, from the start on; its faces share them.
#[derive(Debug, Default)]
pub struct BadInput {
    counts: [[AtomicU64; Flaw::ALL.len()]; Party::ALL.len()],
}

/// Who sent something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// A peer that downloads from the bridge, or from which the bridge downloads.
    Peer,
    /// A tracker that the bridge asks.
    Tracker,
}

/// What was wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// It could not be read, or contradicts what is known.
    Malformed,
    /// It could be read, and has no place here: an answer to no question, another message than a greeting.
    Unexpected,
    /// It was more than there is room for.
    Excessive,
    /// What had to come did not come in time.
    Silent,
}

impl Party {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Peer, Self::Tracker];
}

impl Flaw {
    /// All that there are.
    pub const ALL: [Self; 4] = [Self::Malformed, Self::Unexpected, Self::Excessive, Self::Silent];
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Peer => "peer",
            Self::Tracker => "tracker",
        })
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed",
            Self::Unexpected => "unexpected",
            Self::Excessive => "excessive",
            Self::Silent => "silent",
        })
    }
}

impl BadInput {
    /// One more.
    pub fn add(&self, from: Party, flaw: Flaw) {
        self.count(from, flaw).fetch_add(1, Ordering::Relaxed);
    }

    /// How often it came.
    #[must_use]
    pub fn of(&self, from: Party, flaw: Flaw) -> u64 {
        self.count(from, flaw).load(Ordering::Relaxed)
    }

    /// Every count, those of nothing too.
    pub fn all(&self) -> impl Iterator<Item = (Party, Flaw, u64)> + '_ {
        let pairs = Party::ALL.into_iter().flat_map(|from| Flaw::ALL.map(|flaw| (from, flaw)));
        pairs.map(|(from, flaw)| (from, flaw, self.of(from, flaw)))
    }

    fn count(&self, from: Party, flaw: Flaw) -> &AtomicU64 {
        let [peers, trackers] = &self.counts;
        let [malformed, unexpected, excessive, silent] = match from {
            Party::Peer => peers,
            Party::Tracker => trackers,
        };
        match flaw {
            Flaw::Malformed => malformed,
            Flaw::Unexpected => unexpected,
            Flaw::Excessive => excessive,
            Flaw::Silent => silent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flaw_of_each_party_has_a_count_of_its_own() {
        let bad = BadInput::default();
        for (number, (from, flaw, _)) in bad.all().enumerate() {
            (0..number).for_each(|_| bad.add(from, flaw));
        }
        let counts: Vec<_> = bad.all().map(|(_, _, count)| count).collect();
        assert_eq!(counts, (0..8).collect::<Vec<_>>());
        let words: Vec<_> = bad.all().map(|(from, flaw, _)| format!("{from} {flaw}")).collect();
        assert_eq!((words[0].as_str(), words[7].as_str()), ("peer malformed", "tracker silent"));
    }
}
