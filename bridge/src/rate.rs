//! A rate of late: what came in the last seconds, divided by them; older seconds weigh less and less.

use std::time::Duration;

/// Bytes a second, remembered for so many seconds. Time is what its owner says has passed: by the clock, or only while
/// something was under way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    memory: f64,
    bytes: f64,
    seconds: f64,
}

impl Rate {
    /// Nothing has come, and no time has passed. What is older than `memory` counts for little.
    pub(crate) fn new(memory: Duration) -> Self {
        Self { memory: memory.as_secs_f64().max(f64::EPSILON), bytes: 0.0, seconds: 0.0 }
    }

    /// Time has passed.
    pub(crate) fn pass(&mut self, time: Duration) {
        let fade = (-time.as_secs_f64() / self.memory).exp();
        self.bytes *= fade;
        self.seconds = self.seconds * fade + self.memory * (1.0 - fade);
    }

    /// Bytes have come.
    #[allow(clippy::cast_precision_loss, reason = "a rate need not be exact to the byte")]
    pub(crate) fn add(&mut self, bytes: u64) {
        self.bytes += bytes as f64;
    }

    /// Bytes a second; `None` before any time has passed.
    pub(crate) fn value(&self) -> Option<f64> {
        (self.seconds > 0.0).then(|| self.bytes / self.seconds)
    }

    /// What [`Rate::value`] will be if nothing comes for so long.
    pub(crate) fn after(mut self, time: Duration) -> Option<f64> {
        self.pass(time);
        self.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_stream_has_its_rate_from_the_first_second_on() {
        let mut rate = Rate::new(Duration::from_secs(4));
        assert_eq!(rate.value(), None);
        for _ in 0..100 {
            rate.pass(Duration::from_millis(100));
            rate.add(1_000);
            let value = rate.value().unwrap();
            assert!((9_900.0..10_200.0).contains(&value), "{value}");
        }
        assert!(rate.after(Duration::from_secs(20)).unwrap() < 100.0);
    }
}
