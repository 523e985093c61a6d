//! Makes .torrent files of version 1, version 2, and both: BEP 3, 12, 47 and 52.
//!
//! A [`Plan`] says which bytes are to be hashed, in which order; whoever hashes them gives the hashes back, and the plan
//! becomes a .torrent. What it writes is what libtorrent's `create_torrent` writes of the same files, bit for bit, and in
//! version 1 what mktorrent writes; but for the attributes of files (executable, hidden): names are to depend on bytes
//! and paths alone.

mod encode;
mod memory;
mod plan;
mod size;

use std::{fmt, str::FromStr};

use thiserror::Error;

pub use self::{
    encode::{Hashes, Surroundings},
    memory::of_bytes,
    plan::{Plan, Planned},
    size::default_piece_length,
};
use super::metainfo::{MAX_FILES, MAX_PIECE_LENGTH, MAX_SOURCE};

/// The versions of BitTorrent that a torrent is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Version 1 (BEP 3): its name is a `btih`.
    V1,
    /// Version 2 (BEP 52): its name is a `btmh`.
    V2,
    /// Both, over the same files: it has both names.
    Hybrid,
}

impl Version {
    /// Whether it has the pieces of version 1.
    #[must_use]
    pub const fn has_v1(self) -> bool {
        matches!(self, Self::V1 | Self::Hybrid)
    }

    /// Whether it has the file tree of version 2.
    #[must_use]
    pub const fn has_v2(self) -> bool {
        matches!(self, Self::V2 | Self::Hybrid)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Hybrid => "hybrid",
        })
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::V1, Self::V2, Self::Hybrid];
        let found = all.into_iter().find(|version| version.to_string() == text);
        found.ok_or_else(|| format!("`{text}` is no version of torrents: v1, v2 or hybrid"))
    }
}

/// Why no torrent can be made of something.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CreateError {
    /// Pieces of no size, or of one that no reader takes.
    #[error("pieces cannot have {0} bytes: at least 1, and at most {MAX_PIECE_LENGTH} (64 MiB)")]
    PieceLength(u64),
    /// Pieces that the hash trees of version 2 cannot have.
    #[error(
        "pieces cannot have {0} bytes in version 2: it takes a power of two from 16384 (16 KiB) to {MAX_PIECE_LENGTH} (64 MiB)"
    )]
    PieceLengthV2(u64),
    /// A title, or a part of a path, that readers refuse.
    #[error("`{path}`: {problem}")]
    Path {
        /// The path, or the title.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A path that stands twice, or for a file and a folder.
    #[error("`{0}` is there twice, or is both a file and a folder")]
    Clash(String),
    /// There is nothing to share.
    #[error("there are no files with bytes in them: no torrent can be made of that")]
    Empty,
    /// More files than are read.
    #[error("{0} files, padding included, are too many: a torrent has at most {MAX_FILES}")]
    TooManyFiles(usize),
    /// More bytes than numbers can say.
    #[error("the files have more than 2^63 bytes")]
    TooLong,
    /// More bytes than are read.
    #[error(
        "the .torrent would have {0} bytes, and at most {MAX_SOURCE} are read: take larger pieces"
    )]
    TooLarge(usize),
    /// The hashes are not of these files.
    #[error("the hashes of {what} are {got}, and {wanted} are needed")]
    Hashes {
        /// Of what.
        what: String,
        /// How many are needed.
        wanted: u64,
        /// How many were given.
        got: u64,
    },
}

#[cfg(test)]
mod tests;
