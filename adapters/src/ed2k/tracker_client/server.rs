//! One server: how it is doing, and when it may be logged in to again.

use std::{
    net::{SocketAddr, SocketAddrV4},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use p2pbridge_proto::Ed2kServerLink;
use tokio::{net::lookup_host, time::Instant};

use crate::{Budget, TrackerHealth, budget::Limiter};

/// The longest time for which a server that fails is left alone.
const MAX_REST: Duration = Duration::from_secs(600);
/// A session that lasts so long is no failure when it ends.
const GOOD_SESSION: Duration = Duration::from_secs(60);
/// The weight of one more question in the share of those that were answered.
const WEIGHT: f64 = 1.0 / 16.0;
/// Bytes of a server's text that people are shown.
const MAX_TEXT: usize = 200;

pub(super) struct Server {
    pub(super) link: Ed2kServerLink,
    pub(super) limiter: Limiter,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    health: TrackerHealth,
    /// Sessions that failed in a row, those that ended early among them.
    failures: u32,
    logged_in: Option<Instant>,
    rests_until: Option<Instant>,
}

impl Server {
    pub(super) fn new(link: Ed2kServerLink, budget: Budget) -> Self {
        Self { link, limiter: Limiter::new(budget), state: Mutex::default() }
    }

    /// Where it is now.
    pub(super) async fn address(&self) -> Result<SocketAddrV4, String> {
        let Ed2kServerLink { host, port } = &self.link;
        let found = lookup_host((host.as_str(), *port)).await;
        let mut found = found.map_err(|error| format!("cannot resolve {host}: {error}"))?;
        let v4 = found.find_map(|address| match address {
            SocketAddr::V4(address) => Some(address),
            SocketAddr::V6(_) => None,
        });
        v4.ok_or_else(|| format!("{host} has no address of IPv4"))
    }

    /// How long it is still left alone.
    pub(super) fn rests_for(&self, now: Instant) -> Option<Duration> {
        let left = self.state().rests_until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// It has taken the bridge, or has called it something else.
    pub(super) fn stands(&self, standing: String) {
        let mut state = self.state();
        state.health.standing = standing;
        state.logged_in = state.logged_in.or_else(|| Some(Instant::now()));
        state.rests_until = None;
        state.health.consecutive_failures = 0;
        state.answered(true);
    }

    /// It has answered, after so long.
    pub(super) fn answers(&self, took: Duration) {
        let mut state = self.state();
        state.health.round_trip = Some(took);
        state.answered(true);
    }

    /// What it says that it has.
    pub(super) fn has(&self, users: u32, files: u32) {
        let mut state = self.state();
        state.health.users = Some(users.into());
        state.health.contents = Some(files.into());
    }

    /// It could not be logged in to, or the session has ended: it is left alone for a while.
    pub(super) fn failed(&self, problem: String) {
        let mut state = self.state();
        let lasted = state.logged_in.take().map(|since| since.elapsed());
        state.failures = match lasted {
            Some(lasted) if lasted >= GOOD_SESSION => 1,
            _ => state.failures.saturating_add(1),
        };
        state.rests_until = Instant::now().checked_add(jittered(rest(state.failures)));
        state.answered(false);
        let health = &mut state.health;
        health.consecutive_failures = health.consecutive_failures.saturating_add(1);
        health.last_error = Some(problem);
        (health.users, health.contents) = (None, None);
        health.standing.clear();
    }

    pub(super) fn last_error(&self) -> Option<String> {
        self.state().health.last_error.clone()
    }

    pub(super) fn health(&self) -> TrackerHealth {
        let rests_for = self.rests_for(Instant::now());
        TrackerHealth {
            url: self.link.to_string(),
            rests_for,
            budget: self.limiter.budget(),
            sent: self.limiter.sent(),
            shed: self.limiter.shed(),
            ..self.state().health.clone()
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn answered(&mut self, well: bool) {
        let this = if well { 1.0 } else { 0.0 };
        let share = self.health.answered.map_or(this, |share| share + WEIGHT * (this - share));
        self.health.answered = Some(share);
        if well {
            self.health.last_answer = Some(SystemTime::now());
            self.health.last_error = None;
        }
    }
}

/// A server's text for people: on one line, and not too long.
pub(super) fn shown(text: &str) -> String {
    text.trim()
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(MAX_TEXT)
        .collect()
}

/// How long a server is left alone after so many failures.
fn rest(failures: u32) -> Duration {
    let seconds = match failures {
        0 => 0,
        1 => 2,
        2 => 5,
        more => 15 << (more - 3).min(7),
    };
    Duration::from_secs(seconds).min(MAX_REST)
}

/// Up to a quarter longer: the clients of a server that comes back should not all come at once.
fn jittered(rest: Duration) -> Duration {
    let mut random = [0; 2];
    // Without random bytes it is as long as it was.
    let _ = getrandom::fill(&mut random);
    rest.saturating_add((rest / 4).saturating_mul(u16::from_le_bytes(random).into()) / 65_536)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        let link = Ed2kServerLink { host: "127.0.0.1".to_owned(), port: 4661 };
        Server::new(link, Budget::default())
    }

    #[test]
    fn rests_grow_up_to_ten_minutes_and_differ() {
        let rests: Vec<_> = (0..10).map(|failures| rest(failures).as_secs()).collect();
        assert_eq!(rests, [0, 2, 5, 15, 30, 60, 120, 240, 480, 600]);
        assert_eq!(rest(u32::MAX), MAX_REST);
        for _ in 0..100 {
            let long = jittered(Duration::from_secs(100));
            assert!((Duration::from_secs(100)..Duration::from_secs(125)).contains(&long));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_that_end_early_count_as_failures_and_long_ones_begin_anew() {
        let server = server();
        for rest in [2, 5, 15] {
            server.stands("high id".to_owned());
            assert_eq!(server.health().standing, "high id");
            server.failed("gone".to_owned());
            let left = server.rests_for(Instant::now()).unwrap();
            assert!((rest..=rest * 5 / 4).contains(&left.as_secs()), "{left:?}");
        }
        let health = server.health();
        assert_eq!((health.consecutive_failures, health.standing.as_str()), (1, ""));
        assert_eq!(health.last_error.as_deref(), Some("gone"));
        server.stands("high id".to_owned());
        assert!(server.rests_for(Instant::now()).is_none() && server.last_error().is_none());
        server.has(3, 4);
        assert_eq!((server.health().users, server.health().contents), (Some(3), Some(4)));
        tokio::time::advance(GOOD_SESSION).await;
        server.failed("gone".to_owned());
        assert!(server.rests_for(Instant::now()).unwrap() < Duration::from_secs(3));
        assert_eq!(server.health().users, None);
    }

    #[tokio::test]
    async fn an_address_is_found_in_ipv4() {
        assert_eq!(server().address().await, Ok("127.0.0.1:4661".parse().unwrap()));
    }
}
