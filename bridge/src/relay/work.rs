//! Work that would hold up the async threads: hashing and the disk.

use std::sync::Arc;

use tokio::{
    sync::Semaphore,
    task::{JoinError, spawn_blocking},
};

/// Reads at once for each core: they wait for the disk more than they compute.
const READS: usize = 2;

/// What all pools may do at once. More at once would not be faster, but each thread that has had a long buffer keeps memory.
pub(crate) struct Work {
    checks: Arc<Semaphore>,
    reads: Arc<Semaphore>,
}

impl Work {
    /// As much as this machine has cores for.
    pub(crate) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            checks: Arc::new(Semaphore::new(cores.max(2))),
            reads: Arc::new(Semaphore::new(cores.max(2) * READS)),
        }
    }

    /// Hashes and stores.
    pub(crate) async fn check<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        run(&self.checks, work).await
    }

    /// Reads what somebody waits for.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        run(&self.reads, work).await
    }
}

/// The permit is kept until the work is done, whoever waits for it.
async fn run<T: Send + 'static>(
    room: &Arc<Semaphore>,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    // It is never closed.
    let permit = room.clone().acquire_owned().await.ok();
    spawn_blocking(move || {
        let done = work();
        drop(permit);
        done
    })
    .await
}
