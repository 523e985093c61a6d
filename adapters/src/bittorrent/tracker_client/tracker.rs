//! One tracker: how it is doing, and when it may be asked again.

use std::{
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use p2pbridge_proto::{ErrorCode, Fault};
use tokio::{net::lookup_host, time::Instant};

use super::{Problem, udp::Lines};
use crate::{TrackerHealth, bittorrent::config::TrackerUrl};

/// The longest time for which a tracker that does not answer is left alone.
const MAX_REST: Duration = Duration::from_secs(1800);

pub(super) struct Tracker {
    /// Its place in the configuration.
    pub(super) id: usize,
    pub(super) url: TrackerUrl,
    /// Connections over UDP.
    pub(super) lines: Lines,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    health: TrackerHealth,
    rests_until: Option<Instant>,
}

impl Tracker {
    pub(super) fn new(id: usize, url: TrackerUrl) -> Self {
        Self { id, url, lines: Lines::default(), state: Mutex::default() }
    }

    /// Its addresses; the first of each family changes after failures.
    pub(super) async fn addresses(&self) -> Result<Vec<SocketAddr>, Problem> {
        let found = lookup_host((self.url.host(), self.url.port())).await.map_err(|error| {
            let text = format!("cannot resolve {}: {error}", self.url.host());
            Problem::failed(ErrorCode::Unavailable, text)
        })?;
        let mut addresses: Vec<_> = found.collect();
        let failures = usize::try_from(self.state().health.consecutive_failures).unwrap_or(0);
        let shift = failures.checked_rem(addresses.len()).unwrap_or(0);
        addresses.rotate_left(shift);
        Ok(addresses)
    }

    /// Takes down how it answered.
    pub(super) fn note<T>(&self, result: &Result<T, Problem>, took: Duration) {
        let mut state = self.state();
        let health = &mut state.health;
        match result {
            Ok(_) => health.last_error = None,
            Err(Problem::Refused(fault) | Problem::Failed(fault)) => {
                health.last_error = Some(fault.text.clone());
            }
        }
        match result {
            Ok(_) | Err(Problem::Refused(_)) => {
                health.last_answer = Some(SystemTime::now());
                health.round_trip = Some(took);
                health.consecutive_failures = 0;
                state.rests_until = None;
            }
            Err(Problem::Failed(fault)) => {
                health.consecutive_failures = health.consecutive_failures.saturating_add(1);
                let rest =
                    rest(health.consecutive_failures).max(fault.retry_after.unwrap_or_default());
                state.rests_until = Instant::now().checked_add(rest.min(MAX_REST));
            }
        }
    }

    /// Why it is not asked now, if it is left alone.
    pub(super) fn resting(&self, now: Instant) -> Option<Fault> {
        let state = self.state();
        let left = state.rests_until?.checked_duration_since(now).filter(|left| !left.is_zero())?;
        let last = state.health.last_error.as_deref().unwrap_or("no answer");
        let text = format!("{} is left alone for a while: {last}", self.url.host());
        let mut fault = Fault::new(ErrorCode::Unavailable, text);
        fault.retry_after = Some(left);
        Some(fault)
    }

    pub(super) fn health(&self) -> TrackerHealth {
        TrackerHealth { url: self.url.to_string(), ..self.state().health.clone() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a tracker is left alone after so many failures: twice only shortly, then 15·2^n seconds (as BEP 15).
fn rest(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        1 => Duration::from_secs(1),
        2 => Duration::from_secs(5),
        more => Duration::from_secs(15 << (more - 3).min(7)).min(MAX_REST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_up_to_half_an_hour() {
        let rests: Vec<_> = (0..12).map(|failures| rest(failures).as_secs()).collect();
        assert_eq!(rests, [0, 1, 5, 15, 30, 60, 120, 240, 480, 960, 1800, 1800]);
        assert_eq!(rest(u32::MAX), MAX_REST);
    }
}
