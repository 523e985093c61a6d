//! Which clients are known, where they listen, and what is said of them.

use std::{
    collections::HashMap,
    hash::Hash as Hashed,
    net::SocketAddr,
    sync::{Arc, Weak},
};

use tokio::sync::oneshot;

use super::{
    client::{Client, Key},
    hints::{Hint, Hints, Teller},
    link::Link,
};

/// Clients with a low id that are waited for.
const MAX_AWAITED: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Table {
    by_key: Book<Key>,
    by_endpoint: Book<SocketAddr>,
    pub(super) hints: Hints,
    awaited: Vec<(SocketAddr, oneshot::Sender<Arc<Link>>)>,
}

/// Clients that live, by something.
#[derive(Debug)]
struct Book<K> {
    clients: HashMap<K, Weak<Client>>,
    /// Dead entries are swept out when it has grown to this.
    sweep_at: usize,
}

impl<K> Default for Book<K> {
    fn default() -> Self {
        Self { clients: HashMap::new(), sweep_at: 64 }
    }
}

impl<K: Hashed + Eq> Book<K> {
    fn find(&self, key: &K) -> Option<Arc<Client>> {
        self.clients.get(key)?.upgrade()
    }

    fn put(&mut self, key: K, client: &Arc<Client>) {
        if self.clients.len() >= self.sweep_at {
            self.clients.retain(|_, client| client.strong_count() > 0);
            self.sweep_at = (self.clients.len() * 2).max(64);
        }
        self.clients.insert(key, Arc::downgrade(client));
    }
}

impl Table {
    /// The client with this key, known or new.
    pub(super) fn client(&mut self, key: Key) -> Arc<Client> {
        if let Some(client) = self.by_key.find(&key) {
            return client;
        }
        let client = Client::new(key);
        self.by_key.put(key, &client);
        client
    }

    /// A connection with the client that listens there, or has this low id.
    pub(super) fn link_to(&self, endpoint: &SocketAddr) -> Option<Arc<Link>> {
        self.by_endpoint.find(endpoint)?.link()
    }

    /// A client has connected, or was connected to at an endpoint: it is found there from now on, and whoever waits for
    /// it is told.
    pub(super) fn met(&mut self, link: &Arc<Link>, dialled: Option<SocketAddr>) {
        let greeting = link.greeting();
        let named = [Some(link.listens()), Some(link.endpoint()), dialled];
        for endpoint in named.into_iter().flatten().filter(|endpoint| endpoint.port() != 0) {
            self.by_endpoint.put(endpoint, link.client());
        }
        if greeting.port != 0 {
            let hint = Hint { hash: Some(greeting.hash), crypt: link.options().crypt };
            self.hints.note(Teller::Itself, link.listens(), hint);
        }
        self.awaited.retain(|(_, waiter)| !waiter.is_closed());
        let now = self.awaited.extract_if(.., |(endpoint, _)| *endpoint == link.endpoint());
        for (_, waiter) in now.collect::<Vec<_>>() {
            // Who does not wait any more needs nothing.
            let _ = waiter.send(link.clone());
        }
    }

    /// Waits for a client with a low id; `None` when too many are waited for.
    pub(super) fn await_low(
        &mut self,
        endpoint: SocketAddr,
    ) -> Option<oneshot::Receiver<Arc<Link>>> {
        self.awaited.retain(|(_, waiter)| !waiter.is_closed());
        if self.awaited.len() >= MAX_AWAITED {
            return None;
        }
        let (waiter, link) = oneshot::channel();
        self.awaited.push((endpoint, waiter));
        Some(link)
    }
}
