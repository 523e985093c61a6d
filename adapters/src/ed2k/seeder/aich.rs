//! Hashes that prove the blocks of a part, made of the file's bytes: for clients that have got a corrupt part from
//! somebody.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync::Semaphore, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    super::{
        aich::{hash_blocks, hash_part, hash_root, recovery},
        clients::Key,
        describe::Ed2kFile,
        wire::{
            Hash, PART,
            transfer::{AichHash, Recovery},
        },
    },
    lock,
};
use crate::ContentReader;

/// Files whose parts' hashes are kept.
const MAX_FILES: usize = 64;
/// Longer files are not hashed for a client: it would not wait so long.
const MAX_SIZE: u64 = 8 << 30;

/// Clients that have taken bytes of a file and are remembered.
const MAX_TAKERS: usize = 4096;
/// How long until the hashes of a file are made again, if they were not kept: that may bring the whole file anew.
const AGAIN: Duration = Duration::from_secs(300);

/// The hashes of the parts of some files. They are made when a client asks for the first time, one file at a time, and
/// to the end even if it goes.
#[derive(Debug)]
pub(super) struct Trees {
    parts: Mutex<HashMap<Hash, Parts>>,
    /// When the hashes of a file were last begun.
    begun: Mutex<HashMap<Hash, Instant>>,
    takers: Mutex<HashSet<(Key, Hash)>>,
    turn: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

type Parts = Arc<Vec<AichHash>>;

impl Trees {
    /// No hashes yet; they are made by these tasks, until the token is cancelled.
    pub(super) fn new(tasks: TaskTracker, stop: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            parts: Mutex::default(),
            begun: Mutex::default(),
            takers: Mutex::default(),
            turn: Arc::new(Semaphore::new(1)),
            tasks,
            stop,
        })
    }

    /// A client has a slot, and uses it for a file.
    pub(super) fn takes(&self, client: Key, file: Hash) {
        let mut takers = lock(&self.takers);
        if takers.len() >= MAX_TAKERS && !takers.contains(&(client, file)) {
            takers.clear();
        }
        takers.insert((client, file));
    }

    /// Whether a client has had a slot for a file: others have got nothing that could be corrupt.
    pub(super) fn has_taken(&self, client: Key, file: Hash) -> bool {
        lock(&self.takers).contains(&(client, file))
    }

    /// What proves the blocks of a part by the root of the file; `None` while bytes of the file are missing, and when
    /// they do not give this root.
    pub(super) async fn recovery(
        self: Arc<Self>,
        reader: Arc<dyn ContentReader>,
        file: Arc<Ed2kFile>,
        part: u16,
        root: AichHash,
    ) -> Option<(u16, AichHash, Recovery)> {
        let parts = self.clone().parts(&reader, &file).await?;
        if hash_root(file.size, &parts) != Some(root) {
            return None;
        }
        let blocks = blocks(&*reader, &file, part.into()).await?;
        Some((part, root, recovery(file.size, part.into(), &parts, &blocks)?))
    }

    async fn parts(
        self: Arc<Self>,
        reader: &Arc<dyn ContentReader>,
        file: &Arc<Ed2kFile>,
    ) -> Option<Parts> {
        if let Some(parts) = self.known(&file.hash) {
            return Some(parts);
        }
        if file.size > MAX_SIZE || !reader.availability().snapshot().0.is_full() {
            return None;
        }
        // The semaphore is never closed.
        let turn = self.turn.clone().acquire_owned().await.ok()?;
        if let Some(parts) = self.known(&file.hash) {
            return Some(parts);
        }
        if !self.begins(file.hash, Instant::now()) {
            return None;
        }
        let (trees, reader, file) = (self.clone(), reader.clone(), file.clone());
        let made = self.tasks.spawn(async move {
            let _turn = turn;
            let parts = trees.stop.run_until_cancelled(make(&*reader, &file)).await??;
            trees.keep(file.hash, parts.clone());
            Some(parts)
        });
        made.await.ok()?
    }

    fn known(&self, file: &Hash) -> Option<Parts> {
        lock(&self.parts).get(file).cloned()
    }

    /// Whether the hashes of a file may be made now; they count as begun then.
    fn begins(&self, file: Hash, now: Instant) -> bool {
        let mut begun = lock(&self.begun);
        begun.retain(|_, at| now.saturating_duration_since(*at) < AGAIN);
        begun.len() < MAX_FILES && begun.insert(file, now).is_none()
    }

    fn keep(&self, file: Hash, parts: Parts) {
        let mut known = lock(&self.parts);
        if known.len() >= MAX_FILES {
            known.clear();
        }
        known.insert(file, parts);
    }
}

async fn make(reader: &dyn ContentReader, file: &Ed2kFile) -> Option<Parts> {
    let mut parts = Vec::new();
    for part in 0..file.part_count() {
        let blocks = blocks(reader, file, part).await?;
        parts.push(hash_part(file.size, part, &blocks)?);
    }
    Some(Arc::new(parts))
}

async fn blocks(reader: &dyn ContentReader, file: &Ed2kFile, part: u32) -> Option<Vec<AichHash>> {
    let start = u64::from(part).checked_mul(PART)?;
    let range: Range<u64> = start..start.checked_add(file.part_size(part))?;
    if range.is_empty() {
        return None;
    }
    let bytes = reader.read(range).await.ok()?;
    tokio::task::spawn_blocking(move || hash_blocks(&[bytes])).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_hashes_of_a_file_are_begun_once_in_a_while() {
        let trees = Trees::new(TaskTracker::new(), CancellationToken::new());
        let now = Instant::now();
        assert!(trees.begins([1; 16], now) && !trees.begins([1; 16], now));
        assert!(trees.begins([2; 16], now) && trees.begins([1; 16], now + AGAIN));
    }
}
