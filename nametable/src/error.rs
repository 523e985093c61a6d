use p2pbridge_proto::{LayoutError, Name};
use thiserror::Error;

use crate::{StoreError, pairing::grouped};

/// The most names of one proposal.
pub(crate) const MAX_NAMES: usize = 16;

/// Why names were not bound. Nothing has changed then, except that a conflict is in quarantine.
#[derive(Debug, Error)]
pub enum BindError {
    /// Nothing was given.
    #[error("there is nothing to bind")]
    Empty,
    /// A proposal without a name, or with too many.
    #[error("{label}: it has {count} names; it takes 1 to {MAX_NAMES}")]
    Names {
        /// The proposal.
        label: String,
        /// Its names.
        count: usize,
    },
    /// A proposal without a byte: it would be the same as any other of no bytes.
    #[error("{label}: it has no bytes, so it cannot be bound")]
    NoBytes {
        /// The proposal.
        label: String,
    },
    /// Too much for one call.
    #[error("{what}: {count} are more than the {most} that one Bind takes")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many may be.
        most: usize,
    },
    /// The files of a proposal make no layout.
    #[error("{label}: {source}")]
    Layout {
        /// The proposal.
        label: String,
        /// What is wrong.
        source: LayoutError,
    },
    /// Two proposals bear the same name.
    #[error("{label} and {other_label} are the same: both are {name}")]
    SameName {
        /// The name.
        name: Name,
        /// The one.
        label: String,
        /// The other.
        other_label: String,
    },
    /// A file has no counterpart in another proposal.
    #[error(
        "{label}: `{path}` ({} bytes) has no counterpart in {other_label}; {others}",
        grouped(*.length)
    )]
    NoCounterpart {
        /// The proposal that has the file.
        label: String,
        /// The file.
        path: String,
        /// Its bytes.
        length: u64,
        /// The proposal that has no such file.
        other_label: String,
        /// What that has instead.
        others: String,
    },
    /// Two files that would be the same content have digests of one scheme that differ.
    #[error(
        "{label}: `{path}` and `{other_path}` in {other_label} have the same length, but other digests: \
         they are not the same content"
    )]
    DigestsDiffer {
        /// The proposal that has the file.
        label: String,
        /// The file.
        path: String,
        /// The proposal, or the name, that has the other.
        other_label: String,
        /// The other file.
        other_path: String,
    },
    /// The table says something else of a name. The statement has been put in quarantine.
    #[error(
        "{label}: {name} is bound already, but {difference}; the new statement is in quarantine, and nothing has changed"
    )]
    Conflict {
        /// The name.
        name: Name,
        /// The proposal.
        label: String,
        /// What differs.
        difference: String,
    },
    /// What is said of a file's bytes contradicts what is known.
    #[error("{0}")]
    Statement(String),
    /// No random bytes were to be had for a content's identity.
    #[error("the operating system gives no random bytes: {0}")]
    Random(String),
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}
