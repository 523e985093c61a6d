//! Cuts what was counted between two moments into windows that lie in one slot of 300 s each. Pure.

use std::ops::{Add, AddAssign, Range, Sub};

use jiff::Timestamp;

/// Microseconds of a slot. Slots begin at whole multiples of 300 s since 1970 (UTC); no window crosses their borders.
pub const SLOT_MICROS: i64 = 300_000_000;

/// Who cuts at most this much behind a border gives all to the slot that has ended: bytes of the moment in which the
/// collector woke up are not split off.
const LATE_MICROS: i64 = 1_000_000;

/// At most this many windows come of one cut (one day): whoever comes later still gives all to the last of them.
const MOST_WINDOWS: i64 = 288;

/// What a transfer counts. Bytes are payload bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Received from the source overlay, good or bad.
    pub fetched: u64,
    /// Crossed and verified.
    pub verified: u64,
    /// Failed verification, or came twice.
    pub rejected: u64,
    /// Sent to peers of the destination overlay.
    pub served: u64,
    /// Destination chunks that were verified; a number, not bytes.
    pub chunks: u64,
}

impl Counts {
    /// Whether nothing was counted.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    fn zip(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            fetched: f(self.fetched, other.fetched),
            verified: f(self.verified, other.verified),
            rejected: f(self.rejected, other.rejected),
            served: f(self.served, other.served),
            chunks: f(self.chunks, other.chunks),
        }
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.zip(other, u64::wrapping_add)
    }
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.zip(other, u64::wrapping_sub)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// What was counted in one window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The window, half open.
    pub range: Range<Timestamp>,
    /// What was counted in it.
    pub counts: Counts,
}

/// The start of the slot in which a window that begins here lies, in microseconds since 1970.
#[must_use]
pub fn slot_of(start: Timestamp) -> i64 {
    start.as_microsecond().div_euclid(SLOT_MICROS) * SLOT_MICROS
}

/// Cuts what was counted since `from` into windows, and tells where the next window begins. Windows in which nothing
/// was counted are left out; the windows' counts always add up to `counts`.
///
/// - Within a slot there is one window, `from..now`.
/// - Up to one second behind a border, all belongs to the slot that has ended.
/// - Later than that, nobody knows when the bytes came: they are spread evenly over the time, in whole numbers, the
///   rest going to the later window; over the last 288 slots at most.
/// - When the clock has stepped back, the window is the last microsecond before `now`.
#[must_use]
pub fn cut(from: Timestamp, now: Timestamp, counts: Counts) -> (Vec<Window>, Timestamp) {
    let (start, end) = (from.as_microsecond(), now.as_microsecond());
    if counts.is_zero() {
        return (Vec::new(), now);
    }
    if end <= start {
        return (window(end.saturating_sub(1), end, counts).into_iter().collect(), now);
    }
    // The last border that lies before `end`, and the first behind `start`.
    let last_border = (end - 1).div_euclid(SLOT_MICROS) * SLOT_MICROS;
    let first_border = start.div_euclid(SLOT_MICROS) * SLOT_MICROS + SLOT_MICROS;
    if last_border < first_border {
        return (window(start, end, counts).into_iter().collect(), now);
    }
    if first_border == last_border && end - last_border <= LATE_MICROS {
        let next = Timestamp::from_microsecond(last_border).unwrap_or(now);
        return (window(start, last_border, counts).into_iter().collect(), next);
    }
    let start = start.max(last_border - (MOST_WINDOWS - 1) * SLOT_MICROS);
    (spread(start, end, counts), now)
}

fn spread(start: i64, end: i64, counts: Counts) -> Vec<Window> {
    let share = |count: u64, passed: i64| {
        let part = u128::from(count) * u128::from(passed.unsigned_abs());
        u64::try_from(part / u128::from((end - start).unsigned_abs())).unwrap_or(count)
    };
    let mut windows = Vec::new();
    let mut given = Counts::default();
    let mut at = start;
    while at < end {
        let border = at.div_euclid(SLOT_MICROS) * SLOT_MICROS + SLOT_MICROS;
        let until = border.min(end);
        let due = counts.zip(Counts::default(), |count, _| share(count, until - start));
        let part = due - given;
        if !part.is_zero() {
            windows.extend(window(at, until, part));
        }
        given = due;
        at = until;
    }
    windows
}

/// `None` only for moments that no clock shows (before −9999 or after 9999).
fn window(start: i64, end: i64, counts: Counts) -> Option<Window> {
    let range = Timestamp::from_microsecond(start).ok()?..Timestamp::from_microsecond(end).ok()?;
    Some(Window { range, counts })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_microsecond(micros).unwrap()
    }

    fn bytes(verified: u64) -> Counts {
        Counts { verified, ..Counts::default() }
    }

    #[test]
    fn a_collector_that_wakes_at_the_border_splits_nothing_off() {
        let (windows, next) = cut(at(299_000_000), at(300_004_000), bytes(7));
        assert_eq!(windows.len(), 1);
        assert_eq!(windows[0].range, at(299_000_000)..at(300_000_000));
        assert_eq!(next, at(300_000_000));
        let (windows, next) = cut(at(299_000_000), at(300_000_000), bytes(7));
        assert_eq!((windows[0].range.end, next), (at(300_000_000), at(300_000_000)));
    }

    #[test]
    fn a_late_collector_spreads_evenly() {
        let (windows, next) = cut(at(150_000_000), at(750_000_000), bytes(9));
        let got: Vec<_> = windows.iter().map(|w| w.counts.verified).collect();
        assert_eq!(got, [2, 4, 3]);
        assert_eq!(next, at(750_000_000));
    }

    #[test]
    fn a_clock_that_steps_back_loses_nothing() {
        let (windows, next) = cut(at(900_000_000), at(600_000_000), bytes(5));
        assert_eq!(windows[0].range, at(599_999_999)..at(600_000_000));
        assert_eq!((windows[0].counts.verified, next), (5, at(600_000_000)));
    }

    proptest! {
        #[test]
        fn windows_add_up_and_cross_no_border(
            start in -1_000_000_000_000i64..4_000_000_000_000_000,
            step in -3_000_000_000i64..400_000_000_000,
            fetched in any::<u64>(),
            chunks in 0u64..9,
        ) {
            let counts = Counts { fetched, chunks, ..Counts::default() };
            let (windows, next) = cut(at(start), at(start + step), counts);
            let mut sum = Counts::default();
            for window in &windows {
                sum += window.counts;
                let (a, b) = (window.range.start, window.range.end);
                prop_assert!(a < b && b <= at(start + step));
                prop_assert_eq!(slot_of(a), slot_of(at(b.as_microsecond() - 1)));
            }
            prop_assert_eq!(sum, counts);
            prop_assert!(windows.len() <= 288);
            prop_assert!(windows.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start));
            prop_assert!(next <= at(start + step));
        }
    }
}
