//! The seeder face: eD2k clients download from the bridge, over the hub of connections.

mod aich;
mod queue;
mod session;
mod upload;

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::future::BoxFuture;
use p2pbridge_proto::{Name, Scheme};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::debug;

use self::{
    aich::Trees,
    queue::{Call, Queue},
    session::Session,
    upload::Served,
};
use super::{
    clients::{Clients, Key, Link, Uploads},
    describe::Ed2kFile,
    sources::{Filter, SourceBook},
    wire::{
        ClientId, Hash, Packet,
        transfer::{Message, SourceRecord},
    },
};
use crate::{ContentReader, Library, Seeder};

/// The highest version of source exchange that is spoken (`SOURCEEXCHANGE2_VERSION`).
const SOURCES_VERSION: u8 = 4;
/// Sources that one client is told of.
const MAX_TOLD: usize = 50;
/// Names whose invited clients are remembered.
const MAX_INVITED: usize = 4096;
/// How often the queue looks at the clock.
const LOOK: Duration = Duration::from_secs(5);
/// How long bytes that were missing are asked for on behalf of a client that waits.
const FEEDING: Duration = Duration::from_secs(1800);
/// How long until they are asked for again.
const AGAIN: Duration = Duration::from_secs(15);
/// Clients for which missing bytes are asked for at a time; the others wait for that.
const MAX_FED: usize = 200;

/// Serves eD2k clients of one overlay.
pub struct Ed2kSeeder {
    clients: Arc<Clients>,
    queue: Arc<Queue>,
    sources: Arc<SourceBook>,
    /// Where the bridge may be seen.
    own: Vec<SocketAddr>,
    library: OnceLock<Arc<dyn Library>>,
    invited: Mutex<HashMap<Hash, Vec<SocketAddr>>>,
    trees: Arc<Trees>,
    feeding: Semaphore,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Taken by the one call of `serve`.
    calls: Mutex<Option<mpsc::Receiver<Call>>>,
}

impl Ed2kSeeder {
    /// A seeder over a hub, which it serves with so many upload slots. `sources` are those that clients are told of
    /// beside the ones that it was invited to; `own` is where the bridge may be seen, of which nobody is told.
    #[must_use]
    pub fn new(
        clients: Arc<Clients>,
        upload_slots: usize,
        sources: Arc<SourceBook>,
        own: Vec<SocketAddr>,
    ) -> Arc<Self> {
        let (queue, calls) = Queue::new(upload_slots);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        Arc::new(Self {
            clients,
            queue,
            sources,
            own,
            library: OnceLock::new(),
            invited: Mutex::default(),
            trees: Trees::new(tasks.clone(), stop.clone()),
            feeding: Semaphore::new(MAX_FED),
            tasks,
            stop,
            calls: Mutex::new(Some(calls)),
        })
    }

    /// The content of a file, if it may be served.
    fn find(&self, file: &Hash) -> Option<(Arc<dyn ContentReader>, Arc<Ed2kFile>)> {
        let reader = self.library.get()?.open(&Name::ed2k(*file))?;
        let native = Ed2kFile::of(reader.description())?;
        (native.hash == *file && !reader.retired().is_cancelled()).then_some((reader, native))
    }

    /// Other clients of a file for one that asks, in records of this version. Those with a low id could not be reached;
    /// who is in the network of the server only is told while that is there.
    fn sources_of(&self, file: &Hash, asker: SocketAddr, version: u8) -> Vec<SourceRecord> {
        let invited = lock(&self.invited).get(file).cloned().unwrap_or_default();
        let server = self.clients.server().map_or(Ipv4Addr::UNSPECIFIED, |server| *server.ip());
        let filter = Filter { own: &self.own, server, low_ids: false };
        let mut told: Vec<SocketAddr> = Vec::new();
        let mut records = Vec::new();
        for source in invited.into_iter().chain(self.sources.of(file)) {
            let Some(client @ ClientId::High(_)) = ClientId::of(source) else { continue };
            if source == asker || told.contains(&source) || !filter.takes(source) {
                continue;
            }
            let hint = self.clients.hint_of(&source);
            records.push(SourceRecord {
                id: SourceRecord::id(client, version),
                port: source.port(),
                server: SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0),
                user: (version >= 2).then(|| hint.hash.unwrap_or_default()),
                crypt: (version >= 4).then(|| hint.crypt.bits()),
            });
            told.push(source);
            if told.len() >= MAX_TOLD {
                break;
            }
        }
        records
    }

    /// Asks for a part on behalf of a client that waits for it, until it is there or cannot be had for long: either way
    /// the client is called then. There is one such task for each place in the queue at most: `fed` ends it.
    fn feed_later(self: &Arc<Self>, key: Key, what: Served, part: u32, fed: CancellationToken) {
        let (seeder, Served { file, reader, .. }) = (self.clone(), what);
        let feed = async move {
            let retired = reader.retired().clone();
            let brought = retired.run_until_cancelled(timeout(FEEDING, async {
                let _turn = seeder.feeding.acquire().await;
                while reader.prepare(part).await.is_err() {
                    sleep(AGAIN).await;
                }
            }));
            if !matches!(brought.await, Some(Ok(()))) {
                debug!(part, "bytes that a client waits for have not come");
            }
            seeder.queue.feed(&key, &file);
        };
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let _ = stop.run_until_cancelled(fed.run_until_cancelled(feed)).await;
        });
    }

    /// Keeps the queue going, and calls the clients whose turn has come.
    async fn keep(self: Arc<Self>, mut calls: mpsc::Receiver<Call>) {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                now = look.tick() => self.queue.look_at(now),
                call = calls.recv() => match call {
                    Some(call) => self.call(call),
                    None => return,
                },
            }
        }
    }

    /// Connects to a client, and gives it its slot.
    fn call(self: &Arc<Self>, Call { client, endpoint }: Call) {
        debug!(%endpoint, "a client whose turn has come is called");
        let (seeder, stop) = (self.clone(), self.stop.clone());
        let call = async move {
            let called = match client.link() {
                Some(link) => Ok(link),
                None => seeder.clients.link_to(endpoint).await,
            };
            let accepted = match (called, Message::AcceptUpload.packet()) {
                (Ok(link), Some(accept)) if link.client().key() == client.key() => {
                    link.send(accept).await.is_ok()
                }
                (Ok(_), _) => false,
                (Err(error), _) => {
                    debug!(%endpoint, %error, "a client whose turn has come is not there");
                    false
                }
            };
            if !accepted && let Some(seat) = seeder.queue.seat_of(client.key()) {
                seat.leave();
            }
        };
        self.tasks.spawn(async move {
            let _ = stop.run_until_cancelled(call).await;
        });
    }
}

impl Uploads for Ed2kSeeder {
    fn session(
        self: Arc<Self>,
        link: Arc<Link>,
        asked: mpsc::Receiver<Packet>,
    ) -> BoxFuture<'static, ()> {
        Box::pin(Session::new(self, link).run(asked))
    }
}

#[async_trait]
impl Seeder for Ed2kSeeder {
    fn endpoints(&self) -> Vec<SocketAddr> {
        self.clients.endpoints()
    }

    async fn serve(self: Arc<Self>, library: Arc<dyn Library>, stop: CancellationToken) {
        let Some(calls) = lock(&self.calls).take() else { return };
        let _ = self.library.set(library);
        let (keep, ended) = (self.clone().keep(calls), self.stop.clone());
        self.tasks.spawn(async move {
            let _ = ended.run_until_cancelled(keep).await;
        });
        self.clients.clone().serve(self.clone(), stop).await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Clients that want a file come by themselves, and are called when their turn has come: here they are only taken
    /// down, for others who ask for sources.
    fn invite(&self, name: Name, peers: &[SocketAddr]) {
        let Some(file) = name.digest().first_chunk().filter(|_| name.scheme() == Scheme::Ed2k)
        else {
            return;
        };
        let mut invited = lock(&self.invited);
        if invited.len() >= MAX_INVITED && !invited.contains_key(file) {
            invited.clear();
        }
        invited.insert(*file, peers.iter().copied().take(MAX_TOLD).collect());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
