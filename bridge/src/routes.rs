//! Routes: the permissions for content to cross. Nothing crosses without one.

use std::sync::{Mutex, PoisonError};

use p2pbridge_proto::OverlayId;
use tokio::time::{Duration, Instant};

use crate::{rate::Rate, status::choice::ContentClass};

/// How far back the rate in use looks.
const OF_LATE: Duration = Duration::from_secs(5);

/// The permission for content to cross from one overlay to another.
#[derive(Debug)]
pub struct Route {
    /// The overlay that gives.
    pub from: OverlayId,
    /// The overlay that takes.
    pub to: OverlayId,
    /// The agreement under which it is billed; goes into each usage record.
    pub agreement: String,
    /// Whether peers of `from` may be named to peers of `to`, so that they talk without the bridge.
    pub direct: bool,
    /// Money for a GiB, in the operator's currency; for the choice between overlays only.
    pub cost: f64,
    /// The classes of content that this route is meant for; empty when it is for all alike.
    pub classes: Vec<ContentClass>,
    /// Keeps the rate, when the route has a limit.
    limit: Option<RateLimit>,
}

impl Route {
    /// A route that costs nothing, is for every class of content, and names no peers; `max_rate` is in bytes a second.
    #[must_use]
    pub fn new(from: OverlayId, to: OverlayId, agreement: String, max_rate: Option<u64>) -> Self {
        let limit = max_rate.map(RateLimit::new);
        Self { from, to, agreement, direct: false, cost: 0.0, classes: Vec::new(), limit }
    }

    /// Asks to let so many bytes cross now; when the limit forbids, says when to ask again.
    ///
    /// # Errors
    /// The moment from which it is worth asking again.
    pub fn admit(&self, bytes: u64, now: Instant) -> Result<(), Instant> {
        self.limit.as_ref().map_or(Ok(()), |limit| limit.admit(bytes, now))
    }

    /// From when on the limit lets bytes cross again; `None` when it does now.
    #[must_use]
    pub fn blocked_until(&self, now: Instant) -> Option<Instant> {
        self.limit.as_ref().and_then(|limit| limit.blocked_until(now))
    }

    /// Bytes a second that the limit leaves beside what crossed in the last seconds; `None` without a limit.
    #[must_use]
    pub fn spare(&self, now: Instant) -> Option<u64> {
        self.limit.as_ref().map(|limit| limit.spare(now))
    }
}

/// Every route, in the order of the configuration.
#[derive(Debug, Default)]
pub struct Routes(Vec<Route>);

impl Routes {
    /// The table of these routes.
    #[must_use]
    pub fn new(routes: Vec<Route>) -> Self {
        Self(routes)
    }

    /// The number of the route between two overlays, if there is one.
    #[must_use]
    pub fn between(&self, from: &OverlayId, to: &OverlayId) -> Option<usize> {
        self.0.iter().position(|route| route.from == *from && route.to == *to)
    }

    /// The route with this number.
    #[must_use]
    pub fn get(&self, number: usize) -> Option<&Route> {
        self.0.get(number)
    }

    /// The overlays whose peers may be named, as they are, to peers of this one.
    pub fn direct_to(&self, to: &OverlayId) -> impl Iterator<Item = &OverlayId> {
        self.0.iter().filter(move |route| route.direct && route.to == *to).map(|route| &route.from)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter()
    }
}

/// A rate kept by debt: a request is admitted when no debt is left, and then adds its own.
#[derive(Debug)]
struct RateLimit {
    bytes_per_second: u64,
    state: Mutex<LimitState>,
}

#[derive(Debug)]
struct LimitState {
    free_at: Option<Instant>,
    /// What was admitted of late, and until when that is known.
    used: Rate,
    since: Option<Instant>,
}

impl RateLimit {
    fn new(bytes_per_second: u64) -> Self {
        let state = LimitState { free_at: None, used: Rate::new(OF_LATE), since: None };
        Self { bytes_per_second: bytes_per_second.max(1), state: Mutex::new(state) }
    }

    fn admit(&self, bytes: u64, now: Instant) -> Result<(), Instant> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let start = match state.free_at {
            Some(at) if at > now => return Err(at),
            _ => now,
        };
        #[allow(clippy::cast_precision_loss, reason = "a duration need not be exact to the byte")]
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        state.free_at = Some(start + cost);
        let since = state.since.replace(now);
        // Before the first byte, nothing was used for as long as is looked back.
        let passed = since.map_or(OF_LATE * 4, |since| now.saturating_duration_since(since));
        state.used.pass(passed);
        state.used.add(bytes);
        Ok(())
    }

    fn blocked_until(&self, now: Instant) -> Option<Instant> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.free_at.filter(|at| *at > now)
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float that is cast saturates, and a rate is never below 0"
    )]
    fn spare(&self, now: Instant) -> u64 {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(since) = state.since else { return self.bytes_per_second };
        let used = state.used.after(now.saturating_duration_since(since)).unwrap_or(0.0);
        self.bytes_per_second.saturating_sub(used as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> OverlayId {
        text.parse().unwrap()
    }

    #[test]
    fn a_limited_route_spreads_bytes_over_time() {
        let route = Route::new(id("a"), id("b"), String::new(), Some(1_000));
        let start = Instant::now();
        assert_eq!(route.admit(500, start), Ok(()));
        let again = route.admit(500, start).unwrap_err();
        assert_eq!(again - start, Duration::from_millis(500));
        assert_eq!(route.blocked_until(start), Some(again));
        assert_eq!(route.blocked_until(again), None);
        assert_eq!(route.admit(500, again), Ok(()));
        let routes = Routes::new(vec![route]);
        assert_eq!(routes.between(&id("a"), &id("b")), Some(0));
        assert_eq!(routes.between(&id("b"), &id("a")), None);
    }

    #[test]
    fn what_is_spare_is_the_limit_without_what_crossed_of_late() {
        let mut now = Instant::now();
        let route = Route::new(id("a"), id("b"), String::new(), Some(1_000_000));
        assert_eq!(route.spare(now), Some(1_000_000));
        for _ in 0..300 {
            now += Duration::from_millis(100);
            route.admit(40_000, now).unwrap();
        }
        let spare = route.spare(now).unwrap();
        assert!((580_000..620_000).contains(&spare), "{spare}");
        assert!(route.spare(now + Duration::from_secs(60)).unwrap() > 990_000);
        assert_eq!(Route::new(id("a"), id("b"), String::new(), None).spare(now), None);
    }

    #[test]
    fn only_a_direct_route_lets_peers_be_named() {
        let route = |from: &str, to: &str, direct| Route {
            direct,
            ..Route::new(id(from), id(to), String::new(), None)
        };
        let routes =
            Routes::new(vec![route("a", "b", true), route("b", "a", false), route("c", "b", true)]);
        assert_eq!(routes.direct_to(&id("b")).collect::<Vec<_>>(), [&id("a"), &id("c")]);
        assert_eq!(routes.direct_to(&id("a")).count(), 0);
    }
}
