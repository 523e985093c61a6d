//! How long answers took: counts in steps that grow with the value.

use std::time::Duration;

/// Steps between a power of two and the next.
const STEPS: u64 = 32;

/// How long answers took, to within 3 %.
#[derive(Clone, Debug, Default)]
pub struct Latency {
    counts: Vec<u64>,
    total: u64,
}

impl Latency {
    /// Counts one.
    pub fn add(&mut self, took: Duration) {
        let at = step(took.as_nanos().min(u128::from(u64::MAX)) as u64);
        if self.counts.len() <= at {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] += 1;
        self.total += 1;
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, others) in self.counts.iter_mut().zip(&other.counts) {
            *mine += others;
        }
        self.total += other.total;
    }

    /// What this share of the answers (0 to 1) did not exceed; zero when there was none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = (share * self.total as f64).ceil() as u64;
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted.max(1) {
                return Duration::from_nanos(value(at));
            }
        }
        Duration::ZERO
    }

    /// The median, in microseconds.
    #[must_use]
    pub fn p50_us(&self) -> f64 {
        self.quantile(0.5).as_nanos() as f64 / 1e3
    }

    /// What one in a hundred exceeds, in microseconds.
    #[must_use]
    pub fn p99_us(&self) -> f64 {
        self.quantile(0.99).as_nanos() as f64 / 1e3
    }
}

fn step(nanos: u64) -> usize {
    let power = u64::from(63 - nanos.max(STEPS).leading_zeros() as u8);
    let shift = power - u64::from(STEPS.trailing_zeros());
    (shift * STEPS + (nanos >> shift)) as usize
}

/// The middle of a step.
fn value(at: usize) -> u64 {
    let at = at as u64;
    if at < 2 * STEPS {
        return at;
    }
    let shift = at / STEPS - 1;
    ((at - shift * STEPS) << shift) + (1 << shift) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near() {
        let mut latency = Latency::default();
        assert_eq!(latency.quantile(0.5), Duration::ZERO);
        for micros in 1..=1_000 {
            latency.add(Duration::from_micros(micros));
        }
        let mut twice = Latency::default();
        twice.merge(&latency);
        twice.merge(&latency);
        for share in [0.01, 0.5, 0.99, 1.0] {
            let exact = share * 1e6;
            let found = twice.quantile(share).as_nanos() as f64;
            assert!((found / exact - 1.0).abs() < 0.04, "{share}: {found} is not near {exact}");
        }
    }
}
