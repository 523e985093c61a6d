//! Which runs of a content have come, verified by one name, and what has become of each.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::BuildHasher as _,
};

use bytes::Bytes;
use foldhash::quality::RandomState;

use crate::relay::pool::LONGEST_BLOCK;

/// Makes prints of runs: numbers by which bytes are known again when the spool gives them back. Another process makes
/// others. They tell damage, not forgery: a run of the spool was verified before it was printed.
#[derive(Debug, Clone, Default)]
pub(super) struct Prints(RandomState);

impl Prints {
    /// The print of these bytes.
    pub(super) fn of(&self, bytes: &[u8]) -> u64 {
        self.0.hash_one(bytes)
    }
}

/// A run of a content's bytes that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// First byte in the content.
    pub(super) offset: u64,
    /// Number of bytes; never 0.
    pub(super) length: u32,
    /// Its print.
    pub(super) print: u64,
    /// Whether the spool took it.
    pub(super) spooled: bool,
}

impl Run {
    /// The first byte behind it.
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(self.length.into())
    }
}

/// What has become of a run.
#[derive(Debug)]
enum Stage {
    /// It is in memory, and to be hashed.
    Waiting(Bytes),
    /// It is to be read from the spool, and hashed.
    ToRead,
    /// It was hashed, or is being hashed.
    Hashed,
}

/// A run that is to be hashed: with its bytes, or to be read from the spool.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) run: Run,
    pub(super) bytes: Option<Bytes>,
}

/// The runs of one content, of which none contains another: they rise by first byte and by last byte alike.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    runs: BTreeMap<u64, (Run, Stage)>,
    /// First bytes of the runs that are not hashed.
    open: BTreeSet<u64>,
    /// Bytes of these, and of these the ones in memory.
    open_bytes: u64,
    queued: u64,
    /// All bytes before it are hashed.
    frontier: u64,
    /// Bytes that lie in at least one run.
    covered: u64,
}

/// About the memory that a run takes, its bytes apart.
const RUN: u64 = 128;

impl Coverage {
    /// Takes note of a run, with its bytes or to be read from the spool; passes over one that brings nothing new.
    pub(super) fn add(&mut self, run: Run, bytes: Option<Bytes>) {
        let (start, end) = (run.offset, run.end());
        let fresh = self.uncovered(start, end);
        if fresh == 0 {
            return;
        }
        let within = self.runs.range(start..end).filter(|(_, (known, _))| known.end() <= end);
        for offset in within.map(|(offset, _)| *offset).collect::<Vec<_>>() {
            self.take_out(offset);
        }
        self.queued += bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        self.open_bytes += u64::from(run.length);
        self.open.insert(start);
        self.runs.insert(start, (run, bytes.map_or(Stage::ToRead, Stage::Waiting)));
        self.covered += fresh;
    }

    /// Whether something is to be hashed now: what comes next in order; or anything, when nothing more will come or so
    /// many bytes wait for what is missing before them. Flat hashes take only what is in order.
    pub(super) fn has_work(&self, length: u64, hold: u64) -> bool {
        let in_order = self.open.first().is_some_and(|first| *first <= self.frontier);
        in_order || (!self.open.is_empty() && (self.is_whole(length) || self.open_bytes > hold))
    }

    /// The next runs to be hashed, by rising offset: at most so many bytes, but one run at least. They count as hashed
    /// from now on.
    pub(super) fn take(&mut self, most: u64) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut taken = 0;
        while taken < most
            && let Some(first) = self.open.first().copied()
            // Behind a gap only once, so that what fills it comes before the rest.
            && (pieces.is_empty() || first <= self.frontier)
        {
            self.open.remove(&first);
            let Some((run, stage)) = self.runs.get_mut(&first) else { continue };
            let run = *run;
            let bytes = match std::mem::replace(stage, Stage::Hashed) {
                Stage::Waiting(bytes) => Some(bytes),
                Stage::ToRead | Stage::Hashed => None,
            };
            let length = u64::from(run.length);
            self.open_bytes = self.open_bytes.saturating_sub(length);
            self.queued = self.queued.saturating_sub(bytes.as_ref().map_or(0, |_| length));
            self.move_frontier(&run);
            taken += length;
            pieces.push(Piece { run, bytes });
        }
        pieces
    }

    /// Forgets a run that the spool did not give back: it counts when it comes again.
    pub(super) fn lose(&mut self, run: &Run) {
        if self.runs.get(&run.offset).is_some_and(|(known, _)| known == run) {
            self.take_out(run.offset);
            self.count();
        }
    }

    /// Has all runs read from the spool again; those that it did not take are forgotten.
    pub(super) fn start_over(&mut self) {
        self.runs.retain(|_, (run, stage)| {
            *stage = Stage::ToRead;
            run.spooled
        });
        self.open = self.runs.keys().copied().collect();
        self.open_bytes = self.runs.values().map(|(run, _)| u64::from(run.length)).sum();
        (self.queued, self.frontier) = (0, 0);
        self.count();
    }

    /// A run in which a byte lies.
    pub(super) fn run_with(&self, at: u64) -> Option<Run> {
        self.row_with(at).map(|(run, _)| *run)
    }

    fn row_with(&self, at: u64) -> Option<&(Run, Stage)> {
        // Runs rise by last byte too: when the last that begins before has not the byte, none has.
        let (_, row) = self.runs.range(..=at).next_back()?;
        (at < row.0.end()).then_some(row)
    }

    /// Whether every byte of a content of this length has come.
    pub(super) fn is_whole(&self, length: u64) -> bool {
        self.covered >= length
    }

    /// Bytes in memory that wait.
    pub(super) fn queued(&self) -> u64 {
        self.queued
    }

    /// About the memory that it takes at least when all of a content has come.
    pub(super) fn memory_of(length: u64) -> u64 {
        RUN.saturating_mul(length.div_ceil(LONGEST_BLOCK.into()))
    }

    /// About the memory that it takes, without bytes that wait.
    pub(super) fn memory(&self) -> u64 {
        RUN.saturating_mul(self.runs.len() as u64)
    }

    /// Nothing is to be hashed any more.
    pub(super) fn is_hashed(&self) -> bool {
        self.open.is_empty()
    }

    fn take_out(&mut self, offset: u64) {
        let Some((run, stage)) = self.runs.remove(&offset) else { return };
        if self.open.remove(&offset) {
            self.open_bytes = self.open_bytes.saturating_sub(run.length.into());
        }
        if let Stage::Waiting(bytes) = stage {
            self.queued = self.queued.saturating_sub(bytes.len() as u64);
        }
    }

    fn move_frontier(&mut self, hashed: &Run) {
        if hashed.offset > self.frontier {
            return;
        }
        self.frontier = self.frontier.max(hashed.end());
        while let Some((run, Stage::Hashed)) = self.row_with(self.frontier) {
            self.frontier = run.end();
        }
    }

    /// Bytes between two places that lie in no run.
    fn uncovered(&self, start: u64, end: u64) -> u64 {
        let before = self.runs.range(..start).next_back().map_or(0, |(_, (run, _))| run.end());
        let (mut at, mut open) = (start.max(before), 0);
        for (offset, (run, _)) in self.runs.range(start..end) {
            open += offset.saturating_sub(at);
            at = at.max(run.end());
        }
        open + end.saturating_sub(at)
    }

    fn count(&mut self) {
        let mut at = 0;
        self.covered = 0;
        for (run, _) in self.runs.values() {
            self.covered += run.end().saturating_sub(run.offset.max(at));
            at = at.max(run.end());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LENGTH: usize = 200;

    fn run(offset: usize, length: usize) -> Run {
        Run {
            offset: offset as u64,
            length: length as u32,
            print: 0,
            spooled: !length.is_multiple_of(3),
        }
    }

    fn within(run: &Run) -> std::ops::Range<usize> {
        run.offset as usize..run.end() as usize
    }

    proptest! {
        /// Against a list of bytes: what has come, what waits, what is hashed.
        #[test]
        fn it_counts_what_has_come(
            steps in prop::collection::vec((0usize..LENGTH, 1usize..60, 0u8..10), 1..60)
        ) {
            let mut coverage = Coverage::default();
            let mut come = [false; LENGTH];
            let mut hashed = [false; LENGTH];
            for (offset, length, what) in steps {
                let length = length.min(LENGTH - offset);
                match what {
                    0 => {
                        coverage.start_over();
                        hashed.fill(false);
                        come.fill(false);
                        for (run, _) in coverage.runs.values() {
                            come[within(run)].fill(true);
                        }
                    }
                    1..4 => for Piece { run, bytes } in coverage.take(40) {
                        prop_assert!(bytes.is_none_or(|bytes| bytes.len() == run.length as usize));
                        hashed[within(&run)].fill(true);
                    },
                    _ => {
                        let bytes = (what > 6).then(|| Bytes::from(vec![0; length]));
                        coverage.add(run(offset, length), bytes);
                        come[offset..offset + length].fill(true);
                    }
                }
                prop_assert_eq!(coverage.covered, come.iter().filter(|come| **come).count() as u64);
                prop_assert_eq!(coverage.is_whole(LENGTH as u64), come.iter().all(|come| *come));
                for (at, come) in come.iter().enumerate() {
                    prop_assert_eq!(coverage.run_with(at as u64).is_some(), *come);
                }
                prop_assert!(hashed[..coverage.frontier as usize].iter().all(|hashed| *hashed));
                let rows = coverage.runs.values();
                let ends: Vec<u64> = rows.clone().map(|(run, _)| run.end()).collect();
                prop_assert!(ends.is_sorted_by(|one, other| one < other));
                let bytes = |of: fn(&Stage) -> bool| {
                    let of = coverage.runs.values().filter(move |(_, stage)| of(stage));
                    of.map(|(run, _)| u64::from(run.length)).sum::<u64>()
                };
                prop_assert_eq!(coverage.queued(), bytes(|s| matches!(s, Stage::Waiting(_))));
                prop_assert_eq!(coverage.open_bytes, bytes(|s| !matches!(s, Stage::Hashed)));
                prop_assert_eq!(coverage.is_hashed(), coverage.open_bytes == 0);
                if coverage.is_hashed() {
                    prop_assert!(come.iter().zip(&hashed).all(|(come, hashed)| !come || *hashed));
                } else {
                    prop_assert!(coverage.has_work(LENGTH as u64, 0));
                }
            }
        }
    }

    #[test]
    fn what_comes_before_a_gap_is_filled_is_held_for_a_while() {
        let mut coverage = Coverage::default();
        let offsets = |pieces: Vec<Piece>| pieces.iter().map(|p| p.run.offset).collect::<Vec<_>>();
        coverage.add(run(10, 10), None);
        coverage.add(run(20, 10), Some(Bytes::from_static(&[0; 10])));
        assert!(!coverage.has_work(100, 20) && coverage.has_work(100, 19));
        coverage.add(run(0, 10), None);
        assert!(coverage.has_work(100, 50));
        assert_eq!(offsets(coverage.take(100)), [0, 10, 20]);
        coverage.add(run(90, 10), None);
        coverage.add(run(40, 10), None);
        coverage.add(run(60, 10), None);
        assert!(!coverage.has_work(100, 50) && coverage.has_work(60, 50));
        assert_eq!(offsets(coverage.take(100)), [40]);
        coverage.add(run(30, 10), None);
        assert_eq!(offsets(coverage.take(100)), [30]);
        assert_eq!(coverage.frontier, 50);
    }

    #[test]
    fn what_was_lost_counts_when_it_comes_again() {
        let mut coverage = Coverage::default();
        coverage.add(run(0, 10), None);
        coverage.add(run(10, 10), None);
        assert_eq!(coverage.take(5).iter().map(|p| p.run).collect::<Vec<_>>(), [run(0, 10)]);
        coverage.lose(&run(0, 10));
        assert!(!coverage.is_whole(20));
        coverage.add(run(0, 10), Some(Bytes::from_static(&[0; 10])));
        assert!(coverage.is_whole(20) && coverage.queued() == 10);
        assert_eq!(coverage.take(100).len(), 2);
        assert!(coverage.is_hashed() && coverage.queued() == 0);
    }
}
