//! Hashes that prove the blocks of a part, made of the file's bytes: for clients that have got a corrupt part from
//! somebody.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex},
};

use tokio::sync::Semaphore;

use super::{
    super::{
        aich::{hash_blocks, hash_part, hash_root, recovery},
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

/// The hashes of the parts of some files. They are made when a client asks for the first time, one file at a time.
#[derive(Debug)]
pub(super) struct Trees {
    parts: Mutex<HashMap<Hash, Arc<Vec<AichHash>>>>,
    turn: Semaphore,
}

impl Default for Trees {
    fn default() -> Self {
        Self { parts: Mutex::default(), turn: Semaphore::new(1) }
    }
}

impl Trees {
    /// What proves the blocks of a part by the root of the file; `None` while bytes of the file are missing, and when
    /// they do not give this root.
    pub(super) async fn recovery(
        self: Arc<Self>,
        reader: Arc<dyn ContentReader>,
        file: Arc<Ed2kFile>,
        part: u16,
        root: AichHash,
    ) -> Option<(u16, AichHash, Recovery)> {
        let parts = self.parts(&*reader, &file).await?;
        if hash_root(file.size, &parts) != Some(root) {
            return None;
        }
        let blocks = blocks(&*reader, &file, part.into()).await?;
        Some((part, root, recovery(file.size, part.into(), &parts, &blocks)?))
    }

    async fn parts(
        &self,
        reader: &dyn ContentReader,
        file: &Ed2kFile,
    ) -> Option<Arc<Vec<AichHash>>> {
        if file.size > MAX_SIZE || !reader.availability().snapshot().0.is_full() {
            return None;
        }
        // The semaphore is never closed.
        let _turn = self.turn.acquire().await.ok()?;
        if let Some(parts) = lock(&self.parts).get(&file.hash) {
            return Some(parts.clone());
        }
        let mut parts = Vec::new();
        for part in 0..file.part_count() {
            let blocks = blocks(reader, file, part).await?;
            parts.push(hash_part(file.size, part, &blocks)?);
        }
        let parts = Arc::new(parts);
        let mut known = lock(&self.parts);
        if known.len() >= MAX_FILES {
            known.clear();
        }
        known.insert(file.hash, parts.clone());
        Some(parts)
    }
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
