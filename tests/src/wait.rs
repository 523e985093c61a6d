//! Waiting for events with deadlines.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// How often a condition that cannot report by itself is asked for.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Asks `probe` until it gives a value; panics after `seconds`, saying `what` did not come.
pub async fn eventually<T>(
    what: &str,
    seconds: u64,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within {seconds} s");
        sleep(ASK_EVERY).await;
    }
}

/// Waits for `event`; panics after `seconds`, saying `what` did not come.
pub async fn within<T>(what: &str, seconds: u64, event: impl Future<Output = T>) -> T {
    match timeout(Duration::from_secs(seconds), event).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {seconds} s"),
    }
}
