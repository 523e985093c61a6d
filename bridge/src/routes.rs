//! Routes: the permissions for content to cross. Nothing crosses without one.

use std::sync::{Mutex, PoisonError};

use p2pbridge_proto::OverlayId;
use tokio::time::{Duration, Instant};

/// The permission for content to cross from one overlay to another.
#[derive(Debug)]
pub struct Route {
    /// The overlay that gives.
    pub from: OverlayId,
    /// The overlay that takes.
    pub to: OverlayId,
    /// The agreement under which it is billed; goes into each usage record.
    pub agreement: String,
    /// Keeps the rate, when the route has a limit.
    limit: Option<RateLimit>,
}

impl Route {
    /// A route; `max_rate` is in bytes a second.
    #[must_use]
    pub fn new(from: OverlayId, to: OverlayId, agreement: String, max_rate: Option<u64>) -> Self {
        Self { from, to, agreement, limit: max_rate.map(RateLimit::new) }
    }

    /// Asks to let so many bytes cross now; when the limit forbids, says when to ask again.
    ///
    /// # Errors
    /// The moment from which it is worth asking again.
    pub fn admit(&self, bytes: u64, now: Instant) -> Result<(), Instant> {
        self.limit.as_ref().map_or(Ok(()), |limit| limit.admit(bytes, now))
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

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter()
    }
}

/// A rate kept by debt: a request is admitted when no debt is left, and then adds its own.
#[derive(Debug)]
struct RateLimit {
    bytes_per_second: u64,
    free_at: Mutex<Option<Instant>>,
}

impl RateLimit {
    fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), free_at: Mutex::new(None) }
    }

    fn admit(&self, bytes: u64, now: Instant) -> Result<(), Instant> {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let start = match *free_at {
            Some(at) if at > now => return Err(at),
            _ => now,
        };
        #[allow(clippy::cast_precision_loss, reason = "a duration need not be exact to the byte")]
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64);
        *free_at = Some(start + cost);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limited_route_spreads_bytes_over_time() {
        let id = |text: &str| text.parse::<OverlayId>().unwrap();
        let route = Route::new(id("a"), id("b"), String::new(), Some(1_000));
        let start = Instant::now();
        assert_eq!(route.admit(500, start), Ok(()));
        let again = route.admit(500, start).unwrap_err();
        assert_eq!(again - start, Duration::from_millis(500));
        assert_eq!(route.admit(500, again), Ok(()));
        let routes = Routes::new(vec![route]);
        assert_eq!(routes.between(&id("a"), &id("b")), Some(0));
        assert_eq!(routes.between(&id("b"), &id("a")), None);
    }
}
