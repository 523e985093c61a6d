//! How many searches there may be at once.

use std::{sync::Arc, time::Duration};

use p2pbridge_proto::{ErrorCode, Fault, SearchResult};
use tokio::{sync::Semaphore, task::spawn_blocking};
use tracing::error;

/// Searches that run at once, and those that run or wait for it.
const RUNNING: usize = 2;
const ALL: usize = 64;
/// Who finds no room may come again after so long.
const RETRY: Duration = Duration::from_secs(5);

/// Room for the searches of all overlays. Each takes some milliseconds, off the async threads.
#[derive(Clone)]
pub(in crate::handler) struct Room {
    running: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

impl Room {
    pub(in crate::handler) fn new() -> Self {
        Self { running: Arc::new(Semaphore::new(RUNNING)), all: Arc::new(Semaphore::new(ALL)) }
    }

    /// A search that runs when it is its turn and it is waited for; refused where too many wait.
    pub(in crate::handler) fn take(
        &self,
        search: impl FnOnce() -> Result<SearchResult, Fault> + Send + 'static,
    ) -> Result<impl Future<Output = Result<SearchResult, Fault>> + Send + 'static, Fault> {
        let Ok(place) = self.all.clone().try_acquire_owned() else {
            let mut fault = Fault::new(ErrorCode::Overloaded, "too many searches are under way");
            fault.retry_after = Some(RETRY);
            return Err(fault);
        };
        let running = self.running.clone();
        Ok(async move {
            let turn = running.acquire_owned().await;
            let work = spawn_blocking(move || {
                // Who gives up waiting leaves its place when the search ends.
                let _held = (place, turn);
                search()
            });
            work.await.unwrap_or_else(|error| {
                error!(%error, "a search broke down");
                Err(Fault::new(ErrorCode::Internal, "the search broke down"))
            })
        })
    }
}
