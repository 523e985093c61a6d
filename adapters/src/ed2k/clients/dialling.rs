//! One connection at a time is made to each endpoint.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use super::lock;

type Turns = Mutex<HashMap<SocketAddr, Arc<tokio::sync::Mutex<()>>>>;

/// The endpoints to which connections are being made.
#[derive(Debug, Default)]
pub(super) struct Dialling(Turns);

/// A place among those who want a connection to an endpoint; the last one to go takes the entry along.
pub(super) struct Dialler<'a> {
    turns: &'a Turns,
    endpoint: SocketAddr,
    /// Whoever connects holds it.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
}

impl Dialling {
    /// A place for one more.
    pub(super) fn to(&self, endpoint: SocketAddr) -> Dialler<'_> {
        let turn = lock(&self.0).entry(endpoint).or_default().clone();
        Dialler { turns: &self.0, endpoint, turn }
    }

    /// Endpoints to which connections are being made.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        lock(&self.0).len()
    }
}

impl Drop for Dialler<'_> {
    fn drop(&mut self) {
        let mut turns = lock(self.turns);
        // The map and this one hold it: nobody else waits for a turn.
        if Arc::strong_count(&self.turn) <= 2 {
            turns.remove(&self.endpoint);
        }
    }
}
