//! What is said of contents: descriptions, files, links, and the hashes of chunks.

use std::{any::Any, fmt, sync::Arc};

use bytes::Bytes;
use p2pbridge_proto::{Name, Scheme};
use thiserror::Error;

/// What a description says of a content, in words that hold for every protocol.
#[derive(Clone)]
pub struct Description {
    /// The names of the whole, the main one first; never empty.
    pub names: Vec<Name>,
    /// The title that it gives itself.
    pub title: String,
    /// Bytes of the layout, padding included.
    pub length: u64,
    /// Bytes of a chunk; the last may be shorter.
    pub unit: u64,
    /// The files, in order, without pad files; files of zero length are among them.
    pub files: Vec<FileSpan>,
    /// Whether it forbids that it leaves its overlay (BEP 27).
    pub private: bool,
    /// The trackers that it names, tier by tier.
    pub trackers: Vec<Vec<String>>,
    /// How its chunks are checked.
    pub integrity: Arc<dyn Integrity>,
    /// The bytes that were read.
    pub source: Bytes,
    /// The adapter's own form, for its own faces.
    pub native: Arc<dyn Any + Send + Sync>,
}

/// One file in a [`Description`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSpan {
    /// Path below the root, its parts joined by `/`.
    pub path: String,
    /// First byte in the layout.
    pub offset: u64,
    /// Size in bytes.
    pub length: u64,
    /// A name that depends on this file's bytes alone, if the description has one.
    pub digest: Option<Name>,
}

impl fmt::Debug for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Description")
            .field("names", &self.names)
            .field("title", &self.title)
            .field("length", &self.length)
            .field("unit", &self.unit)
            .field("files", &self.files)
            .field("private", &self.private)
            .field("trackers", &self.trackers)
            .finish_non_exhaustive()
    }
}

/// What is known of one file, whoever said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AboutFile {
    /// Names that depend on its bytes alone. Of a scheme by which the same bytes have several, the first is meant.
    pub names: Vec<Name>,
    /// Its file name; never empty in what is composed.
    pub title: String,
    /// Its bytes.
    pub length: u64,
    /// The hashes of its chunks, as the protocol cuts it, one behind the other; empty where they are not known.
    pub chunks: Vec<u8>,
}

/// How a protocol's links of files are told and read.
pub struct Links {
    /// How each of them begins (`scheme://`), in small letters; those of no other protocol do.
    pub begins: &'static str,
    /// The scheme of the name by which they call the file.
    pub scheme: Scheme,
    /// What a link says of its file, the name of that scheme first.
    pub read: fn(&str) -> Result<AboutFile, DescribeError>,
}

/// Why bytes are no description.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct DescribeError(pub String);

/// The hashes of a description's chunks.
pub trait Integrity: Send + Sync {
    /// Whether these consecutive runs are, together, the bytes of a chunk (padding included, as zeros). Takes as long
    /// as hashing takes: call it off the async threads.
    fn check(&self, chunk: u32, bytes: &[Bytes]) -> bool;

    /// Whether [`Integrity::check`] can tell. A short description may leave out the hashes of the chunks; they are
    /// learned from a peer or from bytes, and prove themselves by the name. What is known once stays known.
    fn is_known(&self) -> bool {
        true
    }

    /// Takes the bytes of a chunk, which the hashes of another name have verified, while `is_known` is false. When all
    /// chunks have been given, in any order, the hashes are known, or are found not to give the name. Takes as long as
    /// hashing takes.
    fn learn(&self, _chunk: u32, _bytes: &[Bytes]) -> Learned {
        Learned::Known
    }
}

/// What came of learning hashes from bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// Bytes of other chunks are still needed.
    More,
    /// The hashes are known.
    Known,
    /// The bytes are not those of the name.
    OtherBytes,
}
