//! Name transfer: which names stand for the same bytes, how each of them cuts those bytes, and how well that is known.
//!
//! [`NameTable`] is the whole of it for callers: an index in memory in front of a [`NameStore`]. [`ChunkMap`] tells how
//! ranges, chunks and availability of one layout correspond to those of another.

mod binding;
mod catalog;
mod chunks;
mod content;
pub mod digest;
mod error;
pub mod exchange;
mod groups;
mod index;
mod pairing;
mod plan;
mod state;
mod store;
mod table;

pub use binding::{
    Binding, COMPOSED, EMPTY_CONTENT, FileEntry, Proposal, ProposedFile, Quarantined, Reason,
};
pub use chunks::{ChunkMap, Mapped, map_availability, map_chunks, map_range};
pub use content::{Content, Known, MAX_CONTENT_NAMES, MAX_TITLE, Statement};
pub use error::BindError;
pub use pairing::{MAX_FILES, MAX_PROPOSALS, grouped};
pub use state::{NameEvent, NameEventKind, Outcome, What};
pub use store::{
    Change, Cursor, Key, MAX_BATCH, MAX_CONTENTS, MemoryStore, NameStore, Record, SledStore,
    StoreError,
};
pub use table::{
    AboutFile, Counts, MAX_EQUIVALENTS, MAX_QUARANTINED, NameTable, NameWatcher, Taken, Translated,
};
