//! Sets of runs of bytes.

use std::{collections::BTreeMap, ops::Range};

/// Bytes that have come, as runs that do not touch each other.
#[derive(Debug, Default)]
pub(crate) struct Runs(BTreeMap<u64, u64>);

/// Memory of a run, about.
pub(crate) const RUN_MEMORY: usize = 24;

impl Runs {
    /// Adds a run, and gives the parts of it that were not there.
    pub(crate) fn add(&mut self, run: Range<u64>) -> Vec<Range<u64>> {
        if run.is_empty() {
            return Vec::new();
        }
        let (mut fresh, mut whole, mut at) = (Vec::new(), run.clone(), run.start);
        if let Some((start, end)) = self.0.range(..run.start).next_back()
            && *end >= run.start
        {
            (whole.start, whole.end, at) = (*start, whole.end.max(*end), *end);
        }
        for (start, end) in self.0.range(run.start..=run.end) {
            if *start > at {
                fresh.push(at..*start);
            }
            (whole.end, at) = (whole.end.max(*end), at.max(*end));
        }
        if at < run.end {
            fresh.push(at..run.end);
        }
        while let Some((start, _)) = self.0.range(whole.clone()).next() {
            let start = *start;
            self.0.remove(&start);
        }
        self.0.insert(whole.start, whole.end);
        fresh
    }

    /// Whether a run would make one more of them, which touches none.
    pub(crate) fn is_apart(&self, run: &Range<u64>) -> bool {
        let before = self.0.range(..=run.end).next_back();
        before.is_none_or(|(_, end)| *end < run.start)
    }

    /// Whether all of a run is there.
    pub(crate) fn contains(&self, run: &Range<u64>) -> bool {
        run.is_empty()
            || self.0.range(..=run.start).next_back().is_some_and(|(_, end)| *end >= run.end)
    }

    /// How many runs there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// What is in `runs` and in none of `others`. Both rise, and their runs do not overlap.
pub(crate) fn without(runs: &[Range<u64>], others: &[Range<u64>]) -> Vec<Range<u64>> {
    let (mut left, mut others) = (Vec::new(), others.iter().peekable());
    for run in runs {
        let mut at = run.start;
        while let Some(other) = others.next_if(|other| other.end <= run.end) {
            if other.start > at {
                left.push(at..other.start.min(run.end));
            }
            at = at.max(other.end);
        }
        let end = others.peek().map_or(run.end, |other| other.start.min(run.end));
        if at < end {
            left.push(at..end);
        }
    }
    left
}

/// Everything that is in one of the lists, as runs that rise and do not touch.
pub(crate) fn union(lists: &[Vec<Range<u64>>]) -> Vec<Range<u64>> {
    let mut runs = Runs::default();
    for run in lists.iter().flatten() {
        runs.add(run.clone());
    }
    runs.0.into_iter().map(|(start, end)| start..end).collect()
}
