//! How fast a source is: its throughput while it is asked for something, its delay, and its power, the one divided by the
//! other (Ren, Li and Chan, "Fast-Mesh", IEEE Transactions on Multimedia 11(8), 2009: parents are chosen by power).

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::{rate::Rate, relay::pool::LONGEST_BLOCK};

/// How far back the throughput looks, in time during which the source had something to bring.
const OF_LATE: Duration = Duration::from_secs(4);
/// After so long without a byte, nothing is known to be the throughput.
const SILENT: Duration = Duration::from_secs(2);
/// How much is asked ahead of a source: what it brings in so many seconds.
const AHEAD: f64 = 4.0;
/// What is asked ahead of a source that has not been measured yet.
const AHEAD_AT_FIRST: u64 = 512 << 10;
/// No delay counts as less.
const LEAST_DELAY: Duration = Duration::from_micros(100);
/// What a new delay weighs beside those before.
const NEW_DELAY: f64 = 0.3;

/// The measure of one source.
#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes asked for and not yet here.
    in_flight: u64,
    /// When what is under way was asked for, the oldest first.
    asked: VecDeque<Instant>,
    rate: Rate,
    /// Until when `rate` knows of the present time with something under way.
    known_until: Instant,
    /// Whether a byte has come, or would have had to.
    measured: bool,
    /// How long it has had something to bring, since the last byte.
    silent: Duration,
    /// When it was asked after it had nothing to do: its next answer tells its delay.
    asked_when_idle: Option<Instant>,
    delay: Duration,
    delay_measured: bool,
}

impl Pace {
    /// Nothing was asked yet; `connecting` is how long it took to connect.
    pub(super) fn new(connecting: Duration, now: Instant) -> Self {
        Self {
            in_flight: 0,
            asked: VecDeque::new(),
            rate: Rate::new(OF_LATE),
            known_until: now,
            measured: false,
            silent: Duration::ZERO,
            asked_when_idle: None,
            delay: connecting.max(LEAST_DELAY),
            delay_measured: false,
        }
    }

    /// Bytes asked for and not yet here.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// It was asked for so many bytes more.
    pub(super) fn asked(&mut self, bytes: u64, now: Instant) {
        if self.asked.is_empty() {
            self.known_until = now;
            self.asked_when_idle = Some(now);
        }
        self.in_flight += bytes;
        self.asked.push_back(now);
    }

    /// Bytes that it was asked for have come, or, with `false`, will not come.
    pub(super) fn ended(&mut self, bytes: u64, came: bool, now: Instant) {
        let open = self.pass(now);
        self.silent += open;
        self.in_flight = self.in_flight.saturating_sub(bytes);
        self.asked.pop_front();
        if !came {
            return;
        }
        self.rate.add(bytes);
        self.measured = true;
        self.silent = Duration::ZERO;
        if let Some(asked) = self.asked_when_idle.take() {
            let delay = now.saturating_duration_since(asked).max(LEAST_DELAY);
            self.delay = match self.delay_measured {
                true => self.delay.mul_f64(1.0 - NEW_DELAY) + delay.mul_f64(NEW_DELAY),
                false => delay,
            };
            self.delay_measured = true;
        }
    }

    /// How long the oldest of what is under way has been waited for.
    pub(super) fn waits(&self, now: Instant) -> Duration {
        self.asked.front().map_or(Duration::ZERO, |asked| now.saturating_duration_since(*asked))
    }

    /// Bytes a second while it has something to bring; `None` as long as that is not known.
    pub(super) fn throughput(&self, now: Instant) -> Option<f64> {
        let open = self.open(now);
        (self.measured || self.silent + open >= SILENT)
            .then(|| self.rate.after(open))
            .flatten()
            .filter(|rate| rate.is_finite())
    }

    /// Throughput divided by delay, in bytes a second squared; `None` as long as that is not known.
    pub(super) fn power(&self, now: Instant) -> Option<f64> {
        Some(self.throughput(now)? / self.delay.as_secs_f64())
    }

    /// Bytes that may be under way, and at most `most`.
    pub(super) fn allowance(&self, throughput: Option<f64>, most: u64) -> u64 {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a float that is cast saturates, and a throughput is never below 0"
        )]
        let ahead = throughput.map_or(AHEAD_AT_FIRST, |bytes| (bytes * AHEAD) as u64);
        ahead.max(LONGEST_BLOCK.into()).min(most)
    }

    /// Seconds until so many bytes that are asked for now would be here, at a throughput.
    #[allow(clippy::cast_precision_loss, reason = "an estimate")]
    pub(super) fn expected(&self, bytes: u64, throughput: f64) -> f64 {
        self.delay.as_secs_f64() + (self.in_flight + bytes) as f64 / throughput.max(1.0)
    }

    /// Time with something under way that `rate` does not know of yet.
    fn open(&self, now: Instant) -> Duration {
        match self.asked.is_empty() {
            true => Duration::ZERO,
            false => now.saturating_duration_since(self.known_until),
        }
    }

    fn pass(&mut self, now: Instant) -> Duration {
        let open = self.open(now);
        self.rate.pass(open);
        self.known_until = now;
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u64 = 256 << 10;

    fn near(value: f64, expected: f64) -> bool {
        (value / expected - 1.0).abs() < 0.1
    }

    #[test]
    fn only_time_with_something_under_way_counts() {
        let mut now = Instant::now();
        let mut pace = Pace::new(Duration::from_millis(40), now);
        assert_eq!((pace.throughput(now), pace.power(now)), (None, None));
        for _ in 0..20 {
            pace.asked(BLOCK, now);
            now += Duration::from_millis(250);
            pace.ended(BLOCK, true, now);
            // It is asked for nothing for a while.
            now += Duration::from_secs(7);
        }
        let throughput = pace.throughput(now).unwrap();
        assert!(near(throughput, 1_048_576.0), "{throughput}");
        assert!(near(pace.power(now).unwrap(), 4.0 * 1_048_576.0));
        assert_eq!(pace.allowance(Some(throughput), 64 << 20), (throughput * 4.0) as u64);
        assert_eq!(pace.allowance(Some(throughput), 1 << 20), 1 << 20);
        assert_eq!(pace.allowance(Some(1.0), 1 << 20), BLOCK);
    }

    #[test]
    fn a_source_that_brings_nothing_has_no_power() {
        let mut now = Instant::now();
        let mut pace = Pace::new(Duration::from_millis(40), now);
        pace.asked(BLOCK, now);
        now += Duration::from_secs(1);
        assert_eq!(pace.power(now), None);
        now += Duration::from_secs(1);
        assert_eq!(pace.power(now), Some(0.0));
        assert_eq!(pace.waits(now), Duration::from_secs(2));
        pace.ended(BLOCK, false, now);
        assert_eq!((pace.in_flight(), pace.waits(now)), (0, Duration::ZERO));
        assert_eq!(pace.power(now), Some(0.0));
    }

    #[test]
    fn a_source_that_falls_silent_loses_its_throughput() {
        let mut now = Instant::now();
        let mut pace = Pace::new(Duration::from_millis(1), now);
        for _ in 0..8 {
            pace.asked(BLOCK, now);
            now += Duration::from_millis(100);
            pace.ended(BLOCK, true, now);
        }
        let before = pace.throughput(now).unwrap();
        pace.asked(BLOCK, now);
        now += Duration::from_secs(10);
        assert!(pace.throughput(now).unwrap() < before / 10.0);
        assert!(pace.expected(BLOCK, before) > 0.1);
    }
}
