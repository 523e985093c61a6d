//! The tracker over HTTP/1: `/announce` and `/scrape` by GET, nothing else. Each thread has its own sockets and its own
//! runtime; a connection stays with the thread that took it, and has a buffer only while a message is incomplete.

mod connection;
mod exchange;
mod head;
mod reply;
mod room;

use std::{io, net::TcpListener as StdListener, sync::Arc, thread, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tracing::warn;

pub(super) use self::room::Room;

use self::connection::{Connection, dismiss};
use super::{desk::Desk, tally::Outcome};

/// Connections that are being told that there is no room; those above are closed without a word.
const MAX_REFUSALS: usize = 64;
/// How long the answers that are under way may take when the server stops.
const DRAIN: Duration = Duration::from_secs(2);

/// What the connections of one thread share.
pub(super) struct Site {
    pub(super) desk: Desk,
    /// Whether an asker's address is the last one in `X-Forwarded-For`.
    pub(super) trust_forwarded_for: bool,
    /// Room for connections, of all threads together.
    pub(super) room: Arc<Room>,
    /// Room for connections that are being refused, of this thread.
    pub(super) refusals: Arc<Semaphore>,
    /// Answers that are under way.
    pub(super) busy: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Site {
    pub(super) fn new(
        desk: Desk,
        trust_forwarded_for: bool,
        room: Arc<Room>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            desk,
            trust_forwarded_for,
            room,
            refusals: Arc::new(Semaphore::new(MAX_REFUSALS)),
            busy: TaskTracker::new(),
            stop,
        }
    }
}

/// Starts a thread that serves these sockets and ends soon after the site's token says so. The other token is dropped
/// when it has.
///
/// # Errors
/// When the system gives no thread, or no runtime.
pub(super) fn start(
    site: Site,
    listeners: Vec<StdListener>,
    number: usize,
    running: TaskTrackerToken,
) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name(format!("tracker-http-{number}")).spawn(move || {
        runtime.block_on(serve(Arc::new(site), listeners));
        // Connections that are idle, or in the middle of a question, end with the runtime; so do the sockets.
        drop(runtime);
        drop(running);
    })?;
    Ok(())
}

async fn serve(site: Arc<Site>, listeners: Vec<StdListener>) {
    for listener in listeners {
        match TcpListener::from_std(listener) {
            Ok(listener) => drop(tokio::spawn(accept(site.clone(), listener))),
            Err(error) => {
                warn!(overlay = %site.desk.overlay, %error, "cannot serve as a tracker over HTTP");
            }
        }
    }
    site.stop.cancelled().await;
    site.busy.close();
    let _ = timeout(DRAIN, site.busy.wait()).await;
}

async fn accept(site: Arc<Site>, listener: TcpListener) {
    while let Some(accepted) = site.stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => welcome(&site, stream, peer.ip().to_canonical()),
            Err(error) => {
                warn!(overlay = %site.desk.overlay, %error, "cannot accept a connection");
                // Out of file descriptors, most likely: nothing tells when there is one again.
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Serves a connection if there is room; else says so, if there is room for that.
fn welcome(site: &Arc<Site>, stream: TcpStream, peer: std::net::IpAddr) {
    match site.room.admit(peer) {
        Some(place) => {
            let connection = Connection::new(site.clone(), stream, peer);
            tokio::spawn(async move {
                connection.serve().await;
                drop(place);
            });
        }
        None => {
            site.desk.tally.came();
            site.desk.tally.done(Outcome::Shed);
            if let Ok(permit) = site.refusals.clone().try_acquire_owned() {
                tokio::spawn(async move {
                    dismiss(stream, reply::NO_ROOM).await;
                    drop(permit);
                });
            }
        }
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
