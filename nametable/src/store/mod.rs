//! Where names are kept: the trait, and the engines behind it.

mod format;
mod memory;
mod record;
mod sled;

use std::{io, path::PathBuf, sync::Arc};

use p2pbridge_proto::{ContentId, Name};
use thiserror::Error;

pub use self::{memory::MemoryStore, sled::SledStore};
use crate::{Binding, Content, Quarantined};

/// The most changes of bindings and quarantine in one batch.
pub const MAX_BATCH: usize = 900;

/// The most changes of contents in one batch, beside those.
pub const MAX_CONTENTS: usize = 100_000;

/// Keeps the records of a name table. Calls block: make them off the async threads.
pub trait NameStore: Send + Sync {
    /// Gives every record, in no order. Reopens a store that has failed.
    ///
    /// # Errors
    /// When it cannot be read.
    fn load(&self, each: &mut dyn FnMut(Record)) -> Result<Cursor, StoreError>;

    /// Makes all changes of a batch, or none. They are durable when it returns. After an error it is not known which
    /// of the two it was, until [`Self::load`]; the store is then reopened before anything else is tried.
    ///
    /// # Errors
    /// When they could not be made durable, or the batch has more than [`MAX_BATCH`] or [`MAX_CONTENTS`] changes.
    fn write(&self, batch: &[Change]) -> Result<Cursor, StoreError>;
}

/// How far a writer has come: its batches are numbered without a gap, inside the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// The writer: random, and the same for as long as the store lives.
    pub writer: [u8; 16],
    /// Its last batch; 0 before the first.
    pub sequence: u64,
}

/// Something to keep.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A binding in force, by its main name.
    Binding(Arc<Binding>),
    /// A statement in quarantine, by its number.
    Quarantined(Arc<Quarantined>),
    /// A content, by its identity.
    Content(Arc<Content>),
}

/// What a record is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key {
    /// The main name of a binding in force.
    Binding(Name),
    /// The number of a statement in quarantine.
    Quarantined(u64),
    /// The identity of a content.
    Content(ContentId),
}

impl Record {
    /// What it is found by.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Binding(binding) => Key::Binding(binding.name()),
            Self::Quarantined(row) => Key::Quarantined(row.id),
            Self::Content(content) => Key::Content(content.id),
        }
    }
}

/// A change of what is kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Keeps a record, in the place of the one with its key.
    Put(Record),
    /// Forgets a record.
    Delete(Key),
}

impl Change {
    /// What it changes.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::Put(record) => record.key(),
            Self::Delete(key) => *key,
        }
    }
}

/// Refuses a batch that is too large.
fn check_size(batch: &[Change]) -> Result<(), StoreError> {
    let is_content = |change: &&Change| matches!(change.key(), Key::Content(_));
    let contents = batch.iter().filter(is_content).count();
    if contents > MAX_CONTENTS || batch.len() - contents > MAX_BATCH {
        return Err(StoreError::TooLarge { contents, others: batch.len() - contents });
    }
    Ok(())
}

/// Why a store did not do what it was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The directory is somebody else's.
    #[error("{} is not empty, and holds no name table: give another directory", .0.display())]
    NotAStore(PathBuf),
    /// The directory was written by another version, or another engine.
    #[error(
        "{} holds a name table of the format `{found}`, and this version reads `{expected}`: use the version \
         that wrote it, or move the directory away and bind the names again", .dir.display()
    )]
    Format {
        /// The directory.
        dir: PathBuf,
        /// What its marker says.
        found: String,
        /// What it should say.
        expected: &'static str,
    },
    /// Another process has it.
    #[error("the name table in {} is in use by another process: stop that one first", .0.display())]
    Locked(PathBuf),
    /// The disk is full.
    #[error(
        "no room on the disk for the name table in {}: the change was not made, and nothing that was acknowledged is \
         lost; free some room, and try again", .0.display()
    )]
    Full(PathBuf),
    /// Its files cannot be understood.
    #[error(
        "the name table in {} cannot be opened ({why}): move the directory away, then put a copy of it back or bind the names again",
        .dir.display()
    )]
    Unreadable {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The operating system refused.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What came of it.
        source: io::Error,
    },
    /// The engine failed in another way.
    #[error("the name table in {} has failed: {why}; it is reopened before the next change", .dir.display())]
    Engine {
        /// The directory.
        dir: PathBuf,
        /// What happened.
        why: String,
    },
    /// An earlier failure, and reopening did not help.
    #[error("the name table has failed ({earlier}) and cannot be reopened yet: {now}")]
    Failed {
        /// The earlier failure.
        earlier: String,
        /// Why reopening failed.
        now: Box<StoreError>,
    },
    /// More than one batch takes.
    #[error(
        "{contents} changes of contents and {others} others are too many at once: a batch takes {MAX_CONTENTS} and \
         {MAX_BATCH}"
    )]
    TooLarge {
        /// Changes of contents.
        contents: usize,
        /// Other changes.
        others: usize,
    },
}
