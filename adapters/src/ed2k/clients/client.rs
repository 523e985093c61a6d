//! A client as such: it stays the same when its connection ends and another comes.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::mpsc;

use super::{
    super::wire::{Hash, Packet},
    link::Link,
};

/// Messages of one download that may wait to be looked at; then nothing more is read from its client.
const INBOX: usize = 32;
/// How long a download may keep the news of a connection waiting.
const PATIENCE: Duration = Duration::from_secs(5);
/// Downloads from one client.
const MAX_DOWNLOADS: usize = 256;

/// By what a client is known again: its user hash, at its address. A hash alone can be anybody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// Its user hash.
    pub(crate) hash: Hash,
    /// Its address.
    pub(crate) ip: IpAddr,
}

/// What a download hears from its client.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A message about its file, or about no file.
    Packet(Packet),
    /// The client has connected again; it may do so to give a slot.
    Linked(Arc<Link>),
    /// The connection has ended, and why. A place in the client's queue lives on.
    Lost(String),
}

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    key: Key,
    needs: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    link: Option<Arc<Link>>,
    downloads: Vec<Subscriber>,
}

#[derive(Debug)]
struct Subscriber {
    id: u64,
    file: Hash,
    inbox: mpsc::Sender<Incoming>,
}

impl Client {
    pub(crate) fn new(key: Key) -> Arc<Self> {
        Arc::new(Self { key, needs: AtomicUsize::new(0), state: Mutex::default() })
    }

    /// By what it is known.
    pub(crate) fn key(&self) -> Key {
        self.key
    }

    /// The connection with it, if there is one.
    pub(crate) fn link(&self) -> Option<Arc<Link>> {
        self.lock().link.clone().filter(|link| !link.is_closed())
    }

    /// Takes a new connection, which comes in the place of another.
    pub(super) async fn attach(&self, link: &Arc<Link>) {
        let before = self.lock().link.replace(link.clone());
        if let Some(before) = before {
            before.close("the client has connected again");
        }
        self.tell_all(|| Incoming::Linked(link.clone())).await;
    }

    /// Forgets a connection that has ended.
    pub(super) async fn detach(&self, link: &Arc<Link>) {
        let was_it = {
            let mut state = self.lock();
            let was_it = state.link.as_ref().is_some_and(|current| Arc::ptr_eq(current, link));
            if was_it {
                state.link = None;
            }
            was_it
        };
        if was_it {
            self.tell_all(|| Incoming::Lost(link.end().to_owned())).await;
        }
    }

    /// A place for a download of a file; `None` when there are too many.
    pub(super) fn subscribe(&self, file: Hash) -> Option<(u64, mpsc::Receiver<Incoming>)> {
        let mut state = self.lock();
        if state.downloads.len() >= MAX_DOWNLOADS {
            return None;
        }
        let (inbox, messages) = mpsc::channel(INBOX);
        let id = state.next;
        state.next += 1;
        state.downloads.push(Subscriber { id, file, inbox });
        Some((id, messages))
    }

    pub(super) fn unsubscribe(&self, id: u64) {
        self.lock().downloads.retain(|download| download.id != id);
    }

    /// Whether it is served, or anything is downloaded from it: others make room before it.
    pub(super) fn is_needed(&self) -> bool {
        self.needs.load(Ordering::Relaxed) > 0 || !self.lock().downloads.is_empty()
    }

    /// The client is served while this lives.
    pub(crate) fn need(self: &Arc<Self>) -> Need {
        self.needs.fetch_add(1, Ordering::Relaxed);
        Need(self.clone())
    }

    /// Gives a message to the downloads of a file.
    pub(super) async fn deliver(&self, file: &Hash, packet: Packet) {
        let mut inboxes = self.inboxes(|download| download.file == *file);
        let last = inboxes.pop();
        for inbox in inboxes {
            let _ = inbox.send(Incoming::Packet(packet.clone())).await;
        }
        if let Some(inbox) = last {
            let _ = inbox.send(Incoming::Packet(packet)).await;
        }
    }

    /// Gives a message to every download; `false` when there is none.
    pub(super) async fn deliver_to_all(&self, packet: &Packet) -> bool {
        self.tell_all(|| Incoming::Packet(packet.clone())).await
    }

    async fn tell_all(&self, message: impl Fn() -> Incoming) -> bool {
        let inboxes = self.inboxes(|_| true);
        for inbox in &inboxes {
            // A download that was dropped needs nothing; one that waits for this very connection does not read.
            let _ = inbox.send_timeout(message(), PATIENCE).await;
        }
        !inboxes.is_empty()
    }

    fn inboxes(&self, wanted: impl Fn(&Subscriber) -> bool) -> Vec<mpsc::Sender<Incoming>> {
        let state = self.lock();
        let wanted = state.downloads.iter().filter(|download| wanted(download));
        wanted.map(|download| download.inbox.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a connection from making room for others.
#[derive(Debug)]
pub(crate) struct Need(Arc<Client>);

impl Drop for Need {
    fn drop(&mut self) {
        self.0.needs.fetch_sub(1, Ordering::Relaxed);
    }
}
