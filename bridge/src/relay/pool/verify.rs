//! What is done with a chunk's bytes off the async threads: they are put together, hashed, and stored.

use std::sync::Arc;

use bytes::Bytes;
use p2pbridge_adapters::Learned;
use p2pbridge_proto::OverlayId;

use super::Shared;
use crate::relay::spool::SpoolError;

/// Zeros for padding, cut to size.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A part of a chunk, for a task of its own.
pub(super) enum Piece {
    Zeros(u64),
    /// In memory, to be kept when the chunk is good: in the spool, if it has an origin here.
    Fresh {
        block: usize,
        bytes: Bytes,
        store_from: Option<OverlayId>,
    },
    /// In memory already.
    Cached {
        block: usize,
        bytes: Bytes,
    },
    /// In the spool.
    Spooled(usize),
}

/// What came of a check.
pub(super) enum Outcome {
    /// The bytes match. Those that were fresh are here again, each with whether the spool has taken it.
    Good { fresh: Vec<(usize, Bytes, bool)>, store_error: Option<SpoolError> },
    /// The bytes do not match.
    Bad,
    /// The spool did not give back what it held.
    Unreadable(SpoolError),
}

/// A chunk's bytes, and those of its blocks that were stored before.
struct Gathered {
    bytes: Vec<Bytes>,
    stored_before: Vec<(usize, Bytes)>,
}

impl Piece {
    /// Bytes that are to be stored.
    pub(super) fn fresh_bytes(&self) -> u64 {
        match self {
            Self::Fresh { bytes, .. } => bytes.len() as u64,
            Self::Zeros(_) | Self::Cached { .. } | Self::Spooled(_) => 0,
        }
    }
}

/// Hashes a chunk, and stores its fresh blocks when it is good.
pub(super) fn check(shared: &Arc<Shared>, name: usize, chunk: u32, pieces: &[Piece]) -> Outcome {
    let Gathered { bytes, stored_before } = match gather(shared, pieces) {
        Ok(gathered) => gathered,
        Err(error) => return Outcome::Unreadable(error),
    };
    if !shared.names[name].description.integrity.check(chunk, &bytes) {
        return Outcome::Bad;
    }
    let mut fresh = Vec::new();
    let mut store_error = None;
    for piece in pieces {
        let Piece::Fresh { block: number, bytes, store_from } = piece else { continue };
        let block = &shared.grid.blocks()[*number];
        let mut stored = false;
        if let (Some(held), Some(origin)) = (shared.spooled.get(&block.content), store_from) {
            let mut written = held.write(block.offset, bytes, origin);
            if matches!(written, Err(SpoolError::Full { .. }))
                && matches!(shared.common.spool.make_room(bytes.len() as u64), Ok(true))
            {
                written = held.write(block.offset, bytes, origin);
            }
            stored = written.is_ok();
            store_error = written.err().or(store_error);
        }
        fresh.push((*number, bytes.clone(), stored));
    }
    shared.offer_for_proof(name, &fresh, &stored_before);
    Outcome::Good { fresh, store_error }
}

/// Gives a chunk that other names have verified to a name whose hashes are not known.
pub(super) fn teach(
    shared: &Arc<Shared>,
    name: usize,
    chunk: u32,
    pieces: &[Piece],
) -> Result<Learned, SpoolError> {
    let gathered = gather(shared, pieces)?;
    Ok(shared.names[name].description.integrity.learn(chunk, &gathered.bytes))
}

/// The bytes of a chunk.
pub(super) fn bytes_of(shared: &Arc<Shared>, pieces: &[Piece]) -> Result<Vec<Bytes>, SpoolError> {
    gather(shared, pieces).map(|gathered| gathered.bytes)
}

fn gather(shared: &Arc<Shared>, pieces: &[Piece]) -> Result<Gathered, SpoolError> {
    let mut bytes = Vec::with_capacity(pieces.len());
    let mut stored_before = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Zeros(zeros) => {
                let mut left = usize::try_from(*zeros).unwrap_or(usize::MAX);
                while left > 0 {
                    let run = left.min(ZEROS.len());
                    bytes.push(Bytes::from_static(&ZEROS[..run]));
                    left -= run;
                }
            }
            Piece::Fresh { bytes: fresh, .. } => bytes.push(fresh.clone()),
            Piece::Cached { block, bytes: cached } => {
                stored_before.push((*block, cached.clone()));
                bytes.push(cached.clone());
            }
            Piece::Spooled(number) => {
                let block = &shared.grid.blocks()[*number];
                let Some(held) = shared.spooled.get(&block.content) else { continue };
                let read = held.read(block.offset, block.length)?;
                stored_before.push((*number, read.clone()));
                bytes.push(read);
            }
        }
    }
    Ok(Gathered { bytes, stored_before })
}
