//! Who is known to have a file, beside those whom the server names: clients tell each other of sources.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::wire::Hash;

/// The most files of which sources are kept.
const MAX_FILES: usize = 10_000;
/// The most sources of one file that are kept.
pub const MAX_SOURCES: usize = 500;
/// How long a source is believed after it was last named.
const LIFE: Duration = Duration::from_secs(2 * 3600);

/// Sources that clients have named: bounded, and forgotten after a while. Shared by the faces of one overlay.
#[derive(Default)]
pub struct SourceBook {
    files: Mutex<HashMap<Hash, HashMap<SocketAddr, Instant>>>,
}

impl SourceBook {
    /// Takes down that a client has a file, or a part of it. Whether the address can be one is looked at when it is
    /// read. The source named longest ago makes room.
    pub fn note(&self, file: Hash, source: SocketAddr) {
        let now = Instant::now();
        let mut files = self.files();
        if files.len() >= MAX_FILES && !files.contains_key(&file) {
            make_room(&mut files, now);
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
        sources.retain(|_, seen| is_fresh(*seen, now));
        let mut known: Vec<_> = sources.iter().map(|(source, seen)| (*seen, *source)).collect();
        if known.is_empty() {
            files.remove(file);
        }
        drop(files);
        known.sort_by(|one, other| other.cmp(one));
        known.into_iter().map(|(_, source)| source).collect()
    }

    fn files(&self) -> MutexGuard<'_, HashMap<Hash, HashMap<SocketAddr, Instant>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets the files of which nobody was named of late; if there are none, the one named longest ago.
fn make_room(files: &mut HashMap<Hash, HashMap<SocketAddr, Instant>>, now: Instant) {
    let newest =
        |sources: &HashMap<SocketAddr, Instant>| sources.values().max().copied().unwrap_or(now);
    files.retain(|_, sources| is_fresh(newest(sources), now));
    if files.len() >= MAX_FILES {
        let stalest = files.iter().min_by_key(|(_, sources)| newest(sources));
        if let Some(stalest) = stalest.map(|(file, _)| *file) {
            files.remove(&stalest);
        }
    }
}

fn is_fresh(seen: Instant, now: Instant) -> bool {
    now.saturating_duration_since(seen) < LIFE
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
}
