//! Who is known to have a file, beside those whom the server names: clients tell each other of sources.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::wire::{ClientId, Hash};

/// The most files of which sources are kept.
const MAX_FILES: usize = 10_000;
/// The most sources of one file that are kept.
pub const MAX_SOURCES: usize = 500;
/// How long a source is believed after it was last named.
const LIFE: Duration = Duration::from_secs(2 * 3600);

/// Sources that clients have named: bounded, and forgotten after a while. Shared by the faces of one overlay.
pub struct SourceBook {
    life: Duration,
    files: Mutex<HashMap<Hash, HashMap<SocketAddr, Instant>>>,
}

impl Default for SourceBook {
    fn default() -> Self {
        Self::new(LIFE)
    }
}

impl SourceBook {
    /// An empty book, in which sources are believed for so long after they were last named.
    #[must_use]
    pub fn new(life: Duration) -> Self {
        Self { life, files: Mutex::default() }
    }

    /// Takes down that a client has a file, or a part of it. Whether the address can be one is looked at when it is
    /// read. The source named longest ago makes room.
    pub fn note(&self, file: Hash, source: SocketAddr) {
        let now = Instant::now();
        let mut files = self.files();
        if files.len() >= MAX_FILES && !files.contains_key(&file) {
            self.make_room(&mut files, now);
        }
        let sources = files.entry(file).or_default();
        if sources.len() >= MAX_SOURCES && !sources.contains_key(&source) {
            let oldest = sources.iter().min_by_key(|(_, seen)| **seen).map(|(source, _)| *source);
            if let Some(oldest) = oldest {
                sources.remove(&oldest);
            }
        }
        sources.insert(source, now);
    }

    /// The sources of a file that were named of late, the newest first; at most [`MAX_SOURCES`].
    #[must_use]
    pub fn of(&self, file: &Hash) -> Vec<SocketAddr> {
        let now = Instant::now();
        let mut files = self.files();
        let Some(sources) = files.get_mut(file) else { return Vec::new() };
        sources.retain(|_, seen| self.is_fresh(*seen, now));
        let mut known: Vec<_> = sources.iter().map(|(source, seen)| (*seen, *source)).collect();
        if known.is_empty() {
            files.remove(file);
        }
        drop(files);
        known.sort_by(|one, other| other.cmp(one));
        known.into_iter().map(|(_, source)| source).collect()
    }

    /// Forgets the clients with a low id, whose numbers mean something to one server only.
    pub fn forget_low_ids(&self) {
        for sources in self.files().values_mut() {
            sources.retain(|source, _| matches!(ClientId::of(*source), Some(ClientId::High(_))));
        }
    }

    /// Forgets the files of which nobody was named of late; if there are none, the one named longest ago.
    fn make_room(&self, files: &mut HashMap<Hash, HashMap<SocketAddr, Instant>>, now: Instant) {
        let newest = |sources: &HashMap<SocketAddr, Instant>| sources.values().max().copied();
        files.retain(|_, sources| newest(sources).is_some_and(|seen| self.is_fresh(seen, now)));
        if files.len() >= MAX_FILES {
            let stalest = files.iter().min_by_key(|(_, sources)| newest(sources));
            if let Some(stalest) = stalest.map(|(file, _)| *file) {
                files.remove(&stalest);
            }
        }
    }

    fn is_fresh(&self, seen: Instant, now: Instant) -> bool {
        now.saturating_duration_since(seen) < self.life
    }

    fn files(&self) -> MutexGuard<'_, HashMap<Hash, HashMap<SocketAddr, Instant>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which addresses can be those of sources, for a bridge that is logged in to a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Filter<'a> {
    /// Where the bridge itself may be seen.
    pub(crate) own: &'a [SocketAddr],
    /// Where the server is: addresses that mean something in one network only are taken from one that is there.
    pub(crate) server: Ipv4Addr,
    /// Whether the server can have a client with a low id connect to the bridge.
    pub(crate) low_ids: bool,
}

impl Filter<'_> {
    /// Whether a source can be at this address, and is not the bridge itself.
    pub(crate) fn takes(&self, source: SocketAddr) -> bool {
        if source.port() == 0 || self.own.contains(&source) {
            return false;
        }
        match ClientId::of(source) {
            Some(ClientId::Low(number)) => number != 0 && self.low_ids,
            Some(ClientId::High(ip)) if ip.is_loopback() => self.server.is_loopback(),
            Some(ClientId::High(ip)) if is_local(ip) => is_local(self.server),
            Some(ClientId::High(ip)) => is_unicast(ip),
            None => false,
        }
    }
}

/// Whether an address is of the whole Internet, and of one host there.
fn is_unicast(ip: Ipv4Addr) -> bool {
    matches!(ip.octets(), [1..=223, ..])
}

/// Whether an address means something in one network only (RFC 1918, 3927, 6598), or on one machine.
fn is_local(ip: Ipv4Addr) -> bool {
    let shared = matches!(ip.octets(), [100, 64..=127, ..]);
    ip.is_private() || ip.is_link_local() || ip.is_loopback() || shared
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(number: u16) -> SocketAddr {
        ([198, 51, 100, 1], number).into()
    }

    #[tokio::test(start_paused = true)]
    async fn sources_are_forgotten_when_nobody_names_them_again() {
        let book = SourceBook::default();
        book.note([1; 16], source(1));
        tokio::time::advance(LIFE / 2).await;
        book.note([1; 16], source(2));
        assert_eq!(book.of(&[1; 16]), [source(2), source(1)]);
        assert!(book.of(&[2; 16]).is_empty());
        tokio::time::advance(LIFE / 2).await;
        assert_eq!(book.of(&[1; 16]), [source(2)]);
        book.note([1; 16], source(2));
        tokio::time::advance(LIFE - Duration::from_secs(1)).await;
        assert_eq!(book.of(&[1; 16]), [source(2)]);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(book.of(&[1; 16]).is_empty() && book.files().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn files_and_sources_have_bounds() {
        let book = SourceBook::default();
        for number in 0..2000 {
            book.note([1; 16], source(number));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let known = book.of(&[1; 16]);
        assert_eq!((known.len(), known[0], known[499]), (500, source(1999), source(1500)));
        let file = |number: u32| {
            let mut file = [0; 16];
            file[..4].copy_from_slice(&number.to_le_bytes());
            file
        };
        for number in 0..10_050 {
            book.note(file(number), source(1));
        }
        assert_eq!(book.files().len(), MAX_FILES);
        assert!(book.of(&[1; 16]).is_empty() || book.of(&file(0)).is_empty());
    }

    #[test]
    fn who_cannot_be_a_source_is_left_out() {
        let own = ["198.51.100.9:4662".parse().unwrap()];
        let takes = |server: &str, low_ids, source: &str| {
            let filter = Filter { own: &own, server: server.parse().unwrap(), low_ids };
            filter.takes(source.parse().unwrap())
        };
        // The source; whether it is taken from a server of the Internet, of a local network, and of this machine.
        let cases = [
            ("198.51.100.3:4662", [true, true, true]),
            ("198.51.100.9:4663", [true, true, true]),
            ("198.51.100.9:4662", [false, false, false]),
            ("198.51.100.3:0", [false, false, false]),
            ("10.1.2.3:4662", [false, true, true]),
            ("192.168.1.3:4662", [false, true, true]),
            ("169.254.1.3:4662", [false, true, true]),
            ("100.64.1.3:4662", [false, true, true]),
            ("127.0.0.1:4662", [false, false, true]),
            ("0.0.0.0:4662", [false, false, false]),
            ("0.0.0.7:4662", [false, false, false]),
            ("224.0.0.1:4662", [false, false, false]),
            ("255.255.255.255:4662", [false, false, false]),
            ("[2001:db8::1]:4662", [false, false, false]),
            ("7.1.0.0:4662", [true, true, true]),
        ];
        for (source, expected) in cases {
            let taken =
                ["198.51.100.1", "10.0.0.1", "127.0.0.1"].map(|server| takes(server, true, source));
            assert_eq!(taken, expected, "{source}");
        }
        assert!(!takes("198.51.100.1", false, "7.1.0.0:4662"), "a low id, but nobody to call it");
    }

    #[tokio::test]
    async fn low_ids_go_with_their_server() {
        let book = SourceBook::default();
        let low: SocketAddr = "7.1.0.0:4662".parse().unwrap();
        book.note([1; 16], source(1));
        book.note([1; 16], low);
        assert_eq!(book.of(&[1; 16]).len(), 2);
        book.forget_low_ids();
        assert_eq!(book.of(&[1; 16]), [source(1)]);
    }
}
