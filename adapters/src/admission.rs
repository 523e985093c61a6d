//! Who may be connected: a bound on sessions, and who goes when it is reached.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Sessions of one address; not counted on loopback.
const PER_ADDRESS: usize = 32;
/// When there is no room, a connection that has not greeted after so long goes.
const GREETING_GRACE: Duration = Duration::from_secs(1);
/// When there is no room, a peer that has wanted nothing for so long goes.
const IDLE_GRACE: Duration = Duration::from_secs(30);

/// The table of connected peers. `K` is what a peer joins: the hash of a torrent, for example.
#[derive(Debug)]
pub(crate) struct Admission<K> {
    max: usize,
    table: Mutex<Table<K>>,
}

#[derive(Debug)]
struct Table<K> {
    next: u64,
    entries: HashMap<u64, Entry<K>>,
}

#[derive(Debug)]
struct Entry<K> {
    ip: IpAddr,
    /// Where it takes connections, if that is known.
    listens: Option<SocketAddr>,
    stage: Stage<K>,
    since: Instant,
    evict: CancellationToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage<K> {
    Greeting,
    /// It has greeted, and joined this.
    Joined {
        what: K,
        wants: bool,
        whole: bool,
    },
}

/// A place in the table; given back when dropped.
#[derive(Debug)]
pub(crate) struct Ticket<K: Copy + PartialEq> {
    id: u64,
    admission: Arc<Admission<K>>,
    evict: CancellationToken,
}

impl<K: Copy + PartialEq> Admission<K> {
    /// A table with this many places.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, table: Mutex::new(Table { next: 0, entries: HashMap::new() }) })
    }

    /// Peers in the table.
    pub(crate) fn count(&self) -> usize {
        self.lock().entries.len()
    }

    /// Whether a peer that takes connections there has joined this.
    pub(crate) fn is_connected(&self, what: &K, peer: &SocketAddr) -> bool {
        self.lock().entries.values().any(|entry| {
            entry.listens.as_ref() == Some(peer)
                && matches!(&entry.stage, Stage::Joined { what: other, .. } if other == what)
        })
    }

    /// A place for a peer, if there is one, or one can be made.
    pub(crate) fn admit(self: &Arc<Self>, peer: SocketAddr) -> Option<Ticket<K>> {
        let (ip, now) = (peer.ip(), Instant::now());
        let mut table = self.lock();
        let same = || table.entries.values().filter(|entry| entry.ip == ip).count();
        if !ip.is_loopback() && same() >= PER_ADDRESS {
            return None;
        }
        if table.entries.len() >= self.max {
            let (goes, _) = table
                .entries
                .iter()
                .filter_map(|(id, entry)| Some((*id, entry.dispensable(now)?)))
                .max_by_key(|(_, reason)| *reason)?;
            table.entries.remove(&goes)?.evict.cancel();
        }
        let id = table.next;
        table.next += 1;
        let evict = CancellationToken::new();
        let entry =
            Entry { ip, listens: None, stage: Stage::Greeting, since: now, evict: evict.clone() };
        table.entries.insert(id, entry);
        Some(Ticket { id, admission: self.clone(), evict })
    }

    fn lock(&self) -> MutexGuard<'_, Table<K>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Entry<K> {
    /// Whether it may go when there is no room, and how readily: first those who do not greet, then seeds, then those
    /// who want nothing; within a kind, the longest.
    fn dispensable(&self, now: Instant) -> Option<(u8, Duration)> {
        let (rank, grace) = match self.stage {
            Stage::Greeting => (2, GREETING_GRACE),
            Stage::Joined { whole: true, .. } => (1, GREETING_GRACE),
            Stage::Joined { wants: false, .. } => (0, IDLE_GRACE),
            Stage::Joined { .. } => return None,
        };
        let time = now.saturating_duration_since(self.since);
        (time >= grace).then_some((rank, time))
    }
}

impl<K: Copy + PartialEq> Ticket<K> {
    /// Waits until the peer has to go.
    pub(crate) async fn evicted(&self) {
        self.evict.cancelled().await;
    }

    /// The peer takes connections there.
    pub(crate) fn listens_on(&self, address: SocketAddr) {
        self.change(|entry| entry.listens = Some(address));
    }

    /// The peer has greeted, and joined this.
    pub(crate) fn joined(&self, what: K) {
        self.change(|entry| entry.enter(Stage::Joined { what, wants: false, whole: false }));
    }

    /// What the peer is like now: whether it wants anything, and whether it holds everything.
    pub(crate) fn is_now(&self, wants: bool, whole: bool) {
        self.change(|entry| {
            if let Stage::Joined { what, .. } = entry.stage {
                entry.enter(Stage::Joined { what, wants, whole });
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Entry<K>)) {
        if let Some(entry) = self.admission.lock().entries.get_mut(&self.id) {
            change(entry);
        }
    }
}

impl<K: PartialEq> Entry<K> {
    fn enter(&mut self, stage: Stage<K>) {
        if self.stage != stage {
            self.stage = stage;
            self.since = Instant::now();
        }
    }
}

impl<K: Copy + PartialEq> Drop for Ticket<K> {
    fn drop(&mut self) {
        self.admission.lock().entries.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn peer(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 1000))
    }

    #[tokio::test(start_paused = true)]
    async fn silent_ones_make_room_and_workers_stay() {
        let admission = Admission::<[u8; 20]>::new(2);
        let worker = admission.admit(peer(1)).unwrap();
        worker.joined([1; 20]);
        worker.is_now(true, false);
        let silent = admission.admit(peer(2)).unwrap();
        assert!(admission.admit(peer(3)).is_none());
        advance(GREETING_GRACE).await;
        let next = admission.admit(peer(3)).unwrap();
        silent.evicted().await;
        drop(silent);
        assert_eq!(admission.count(), 2);
        next.joined([1; 20]);
        next.is_now(true, false);
        advance(IDLE_GRACE * 10).await;
        assert!(admission.admit(peer(4)).is_none());
        next.is_now(false, true);
        advance(GREETING_GRACE).await;
        assert!(admission.admit(peer(4)).is_some());
    }

    #[tokio::test]
    async fn one_address_cannot_take_every_place() {
        let admission = Admission::<[u8; 20]>::new(1000);
        let held: Vec<_> = std::iter::from_fn(|| admission.admit(peer(1))).collect();
        assert_eq!(held.len(), PER_ADDRESS);
        assert!(admission.admit(peer(2)).is_some());
        held[0].joined([7; 20]);
        held[0].listens_on(peer(1));
        assert!(admission.is_connected(&[7; 20], &peer(1)));
        assert!(!admission.is_connected(&[8; 20], &peer(1)));
        drop(held);
        assert_eq!(admission.count(), 0);
    }
}
