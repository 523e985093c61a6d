//! The peers that a pool downloads from: whom to try, who is connected, and who is not to be trusted.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use p2pbridge_adapters::{SourceError, SourceSession};
use p2pbridge_proto::OverlayId;
use tokio::time::Instant;

use super::Origin;

/// Peers that are remembered at most; others are left out until one is forgotten.
const MOST_CANDIDATES: usize = 1_000;
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LAST_RETRY: Duration = Duration::from_secs(120);

/// Number of a connection, never used twice in a pool.
pub(super) type SourceId = u64;

/// A connected peer.
pub(super) struct Source {
    pub(super) origin: Origin,
    pub(super) endpoint: SocketAddr,
    pub(super) session: Arc<dyn SourceSession>,
    /// Bytes asked for and not yet here.
    pub(super) in_flight: u64,
}

/// What is known of a peer that is not connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Candidate {
    Fresh,
    Connecting,
    Connected,
    Failed {
        times: u32,
        until: Instant,
    },
    /// It sent bytes that were not what their hashes say, or it is the bridge itself.
    Banned,
}

/// All peers that a pool knows on the giving side.
#[derive(Default)]
pub(super) struct Sources {
    candidates: HashMap<(OverlayId, usize, SocketAddr), Candidate>,
    connected: HashMap<SourceId, Source>,
    connecting: usize,
    next: SourceId,
}

impl Sources {
    /// Takes note of peers that a tracker has named.
    pub(super) fn learn(&mut self, origin: &Origin, peers: &[SocketAddr]) {
        for peer in peers {
            if self.candidates.len() >= MOST_CANDIDATES {
                self.candidates.retain(|_, state| !matches!(state, Candidate::Failed { .. }));
                if self.candidates.len() >= MOST_CANDIDATES {
                    return;
                }
            }
            let key = (origin.overlay.clone(), origin.name, *peer);
            self.candidates.entry(key).or_insert(Candidate::Fresh);
        }
    }

    /// A peer to connect to, if there is one and no more than `most` are open or being opened.
    pub(super) fn pick(&mut self, most: usize, now: Instant) -> Option<(Origin, SocketAddr)> {
        if self.connected.len() + self.connecting >= most {
            return None;
        }
        let ready = |state: &Candidate| match state {
            Candidate::Fresh => true,
            Candidate::Failed { until, .. } => *until <= now,
            Candidate::Connecting | Candidate::Connected | Candidate::Banned => false,
        };
        let (key, state) = self
            .candidates
            .iter_mut()
            .filter(|(_, state)| ready(state))
            .min_by_key(|(_, state)| matches!(state, Candidate::Failed { .. }))?;
        // How often it has failed is kept while it is tried again.
        if matches!(state, Candidate::Fresh) {
            *state = Candidate::Connecting;
        } else if let Candidate::Failed { until, .. } = state {
            *until = now + LAST_RETRY;
        }
        let picked = (Origin { overlay: key.0.clone(), name: key.1 }, key.2);
        self.connecting += 1;
        Some(picked)
    }

    /// When the next peer that has failed may be tried again.
    pub(super) fn next_retry(&self, now: Instant) -> Option<Instant> {
        let until = |state: &Candidate| match state {
            Candidate::Failed { until, .. } if *until > now => Some(*until),
            _ => None,
        };
        self.candidates.values().filter_map(until).min()
    }

    /// A connection was made.
    pub(super) fn opened(
        &mut self,
        origin: Origin,
        endpoint: SocketAddr,
        session: Arc<dyn SourceSession>,
    ) -> SourceId {
        self.connecting = self.connecting.saturating_sub(1);
        self.set(&origin, endpoint, Candidate::Connected);
        self.next += 1;
        self.connected.insert(self.next, Source { origin, endpoint, session, in_flight: 0 });
        self.next
    }

    /// A connection could not be made.
    pub(super) fn refused(
        &mut self,
        origin: &Origin,
        endpoint: SocketAddr,
        error: &SourceError,
        now: Instant,
    ) {
        self.connecting = self.connecting.saturating_sub(1);
        match error {
            SourceError::Ourselves => self.set(origin, endpoint, Candidate::Banned),
            _ => self.failed(origin, endpoint, now),
        }
    }

    /// A connection has ended, or is given up; its peer may be tried again later.
    pub(super) fn close(&mut self, id: SourceId, now: Instant) -> Option<Source> {
        let source = self.connected.remove(&id)?;
        self.failed(&source.origin, source.endpoint, now);
        Some(source)
    }

    /// Ends a connection that was not needed; its peer may be tried again at once.
    pub(super) fn release_all(&mut self) {
        for (_, source) in self.connected.drain() {
            let key = (source.origin.overlay, source.origin.name, source.endpoint);
            self.candidates.insert(key, Candidate::Fresh);
        }
    }

    /// Ends a connection for ever: its peer sent bytes that were wrong.
    pub(super) fn ban(&mut self, id: SourceId) -> Option<Source> {
        let source = self.connected.remove(&id)?;
        self.set(&source.origin, source.endpoint, Candidate::Banned);
        Some(source)
    }

    /// The connected peers.
    pub(super) fn connected(&self) -> &HashMap<SourceId, Source> {
        &self.connected
    }

    /// A connected peer.
    pub(super) fn get_mut(&mut self, id: SourceId) -> Option<&mut Source> {
        self.connected.get_mut(&id)
    }

    /// Whether nobody is connected, and nobody is being tried.
    pub(super) fn is_alone(&self) -> bool {
        self.connected.is_empty() && self.connecting == 0
    }

    /// How many peers are known that are neither banned nor the bridge itself.
    pub(super) fn usable(&self) -> usize {
        self.candidates.values().filter(|state| **state != Candidate::Banned).count()
    }

    /// Whether some peer was banned.
    pub(super) fn banned(&self) -> usize {
        self.candidates.values().filter(|state| **state == Candidate::Banned).count()
    }

    fn set(&mut self, origin: &Origin, endpoint: SocketAddr, state: Candidate) {
        self.candidates.insert((origin.overlay.clone(), origin.name, endpoint), state);
    }

    fn failed(&mut self, origin: &Origin, endpoint: SocketAddr, now: Instant) {
        let key = (origin.overlay.clone(), origin.name, endpoint);
        let times = match self.candidates.get(&key) {
            Some(Candidate::Failed { times, .. }) => times.saturating_add(1),
            Some(Candidate::Banned) => return,
            _ => 1,
        };
        let wait = FIRST_RETRY.saturating_mul(1 << times.saturating_sub(1).min(16)).min(LAST_RETRY);
        self.candidates.insert(key, Candidate::Failed { times, until: now + wait });
    }
}
