//! What came of a load.

use std::fmt;

use super::Latency;

/// What came of a load.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Announces sent.
    pub asked: u64,
    /// Proper answers.
    pub answered: u64,
    /// Peers in them.
    pub peers: u64,
    /// Announces refused in the protocol's own form.
    pub refused: u64,
    /// What the first refusal said.
    pub first_refusal: Option<String>,
    /// Announces that nothing came back for.
    pub lost: u64,
    /// Answers that were not right.
    pub wrong: u64,
    /// What was wrong with the first of them.
    pub first_wrong: Option<String>,
    /// Connections that the other side closed.
    pub closed: u64,
    /// How long it took, from the first announce to the last answer.
    pub seconds: f64,
    /// How long proper answers took.
    pub latency: Latency,
}

impl Report {
    /// Proper answers per second.
    #[must_use]
    pub fn per_second(&self) -> f64 {
        self.answered as f64 / self.seconds.max(1e-9)
    }

    /// Panics when an answer was wrong or a refusal came, or when none came, or when more than one in a thousand was lost.
    pub fn assert_clean(&self, what: &str) {
        let clean = self.wrong == 0 && self.refused == 0 && self.lost * 1_000 <= self.asked;
        assert!(clean && self.answered > 0, "{what}: {self}");
    }

    /// Adds the report of another thread that ran at the same time.
    pub(super) fn merge(&mut self, other: Self) {
        self.asked += other.asked;
        self.answered += other.answered;
        self.peers += other.peers;
        self.refused += other.refused;
        self.lost += other.lost;
        self.wrong += other.wrong;
        self.closed += other.closed;
        self.first_refusal = self.first_refusal.take().or(other.first_refusal);
        self.first_wrong = self.first_wrong.take().or(other.first_wrong);
        self.seconds = self.seconds.max(other.seconds);
        self.latency.merge(&other.latency);
    }

    pub(super) fn refuse(&mut self, text: &[u8]) {
        self.refused += 1;
        self.first_refusal.get_or_insert_with(|| String::from_utf8_lossy(text).into_owned());
    }

    pub(super) fn blame(&mut self, what: String) {
        self.wrong += 1;
        self.first_wrong.get_or_insert(what);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} asked, {} answered ({:.0}/s), {} refused, {} lost, {} wrong, {} closed, p50 {:.0} µs, p99 {:.0} µs",
            self.asked,
            self.answered,
            self.per_second(),
            self.refused,
            self.lost,
            self.wrong,
            self.closed,
            self.latency.p50_us(),
            self.latency.p99_us()
        )?;
        for (what, text) in [("refused", &self.first_refusal), ("wrong", &self.first_wrong)] {
            if let Some(text) = text {
                write!(f, "; first {what}: {text}")?;
            }
        }
        Ok(())
    }
}
