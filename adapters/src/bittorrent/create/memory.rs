//! Torrents of bytes in memory, by plain SHA-1.

use sha1::{Digest, Sha1};

use super::{CreateError, Hashes, Plan, Surroundings, Version};

/// Makes a .torrent of version 1 of one file whose bytes are in memory.
///
/// # Errors
/// When it has no bytes, or readers would refuse its title or piece length.
pub fn of_bytes(
    bytes: &[u8],
    title: &str,
    piece_length: u64,
    trackers: &[Vec<String>],
) -> Result<Vec<u8>, CreateError> {
    let files = vec![(Vec::new(), bytes.len() as u64)];
    let plan = Plan::new(Version::V1, title, piece_length, files)?;
    let around = Surroundings { trackers: trackers.to_vec(), ..Surroundings::default() };
    plan.torrent(&Hashes { pieces: &pieces(bytes, piece_length), trees: &[] }, &around)
}

/// SHA-1 of each piece.
pub(super) fn pieces(bytes: &[u8], piece_length: u64) -> Vec<u8> {
    let size = usize::try_from(piece_length).unwrap_or(usize::MAX).max(1);
    bytes.chunks(size).flat_map(Sha1::digest).collect()
}
