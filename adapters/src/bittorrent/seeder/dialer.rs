use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use p2pbridge_proto::Name;
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

use super::{super::metainfo::wire_hash, BtSeeder};
use crate::Library;

/// How long a connection may take to be made.
pub(super) const CONNECTING: Duration = Duration::from_secs(5);
/// A peer is not called again within this time.
const PAUSE: Duration = Duration::from_secs(30);
/// Connections that are being made at a time.
const DIALING: usize = 16;
/// Peers that wait to be called; more are dropped, and come again with the next announce.
const WAITING: usize = 512;
/// Calls that are remembered.
const REMEMBERED: usize = 4096;

/// Calls the peers that were invited.
pub(super) struct Dialer {
    seeder: Arc<BtSeeder>,
    library: Arc<dyn Library>,
    stop: CancellationToken,
    tasks: TaskTracker,
    called: HashMap<(Name, SocketAddr), Instant>,
    waiting: Arc<Semaphore>,
    dialing: Arc<Semaphore>,
}

impl Dialer {
    pub(super) fn new(
        seeder: Arc<BtSeeder>,
        library: Arc<dyn Library>,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        Self {
            seeder,
            library,
            stop,
            tasks,
            called: HashMap::new(),
            waiting: Arc::new(Semaphore::new(WAITING)),
            dialing: Arc::new(Semaphore::new(DIALING)),
        }
    }

    /// Calls those of the peers that are not connected, and were not called a short while ago.
    pub(super) fn invite(&mut self, name: Name, peers: &[SocketAddr]) {
        let Some(hash) = wire_hash(&name) else { return };
        let now = Instant::now();
        for peer in peers {
            let fresh = self.called.get(&(name, *peer)).is_some_and(|at| now - *at < PAUSE);
            if fresh || self.is_needless(&hash, peer) {
                continue;
            }
            if self.called.len() >= REMEMBERED {
                self.called.retain(|_, at| now - *at < PAUSE);
            }
            if self.called.len() >= REMEMBERED || !self.call(name, *peer) {
                debug!(%peer, "not called: too many are being called");
                return;
            }
            self.called.insert((name, *peer), now);
        }
    }

    fn is_needless(&self, hash: &[u8; 20], peer: &SocketAddr) -> bool {
        peer.port() == 0
            || self.seeder.endpoints.contains(peer)
            || self.seeder.admission.is_connected(hash, peer)
    }

    /// Starts a task that calls a peer and serves it; `false` when too many wait.
    fn call(&self, name: Name, peer: SocketAddr) -> bool {
        let Ok(place) = self.waiting.clone().try_acquire_owned() else { return false };
        let (seeder, library) = (self.seeder.clone(), self.library.clone());
        let (dialing, stop) = (self.dialing.clone(), self.stop.clone());
        let call = async move {
            // The semaphore is never closed.
            let Ok(permit) = dialing.acquire_owned().await else { return };
            drop(place);
            let Some(ticket) = seeder.admission.admit(peer) else { return };
            ticket.listens_on(peer);
            let dialled = seeder.dial(peer, &name, &library).await;
            drop(permit);
            match dialled {
                Ok((stream, theirs, reader)) => {
                    seeder.serve_peer(stream, peer, ticket, reader, theirs).await;
                }
                Err(error) => debug!(%peer, %error, "a peer that was called is not served"),
            }
        };
        self.tasks.spawn(async move {
            let _ = stop.run_until_cancelled(call).await;
        });
        true
    }
}
