//! Searches for contents, in words that hold for every protocol.

use crate::Name;

/// The most terms of a query, all of them counted.
pub const MAX_QUERY_TERMS: usize = 64;
/// How deep terms may be inside others.
pub const MAX_QUERY_DEPTH: usize = 16;
/// The most bytes of a query's text.
pub const MAX_QUERY_TEXT: usize = 1024;

/// Somebody looks for contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// What the contents must be like.
    pub query: Query,
    /// How many results are wanted at most, if that was said.
    pub max_results: Option<u32>,
}

/// What a content must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Query {
    /// All of these hold.
    All(Vec<Self>),
    /// One of these holds at least.
    Any(Vec<Self>),
    /// The first holds, and the second does not.
    ButNot(Box<Self>, Box<Self>),
    /// Each of these words occurs in the title, whatever the case of its letters.
    Words(String),
    /// It is of this kind.
    Kind(FileKind),
    /// Its title ends in a dot and this text.
    Extension(String),
    /// It has so many bytes at least.
    MinSize(u64),
    /// It has so many bytes at most.
    MaxSize(u64),
    /// So many sources are known at least.
    MinSources(u32),
}

/// What kind of file a content is, by its title.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// Sound.
    Audio,
    /// Moving pictures.
    Video,
    /// A picture.
    Image,
    /// Something to read.
    Document,
    /// Something to run.
    Program,
    /// Files packed into one.
    Archive,
    /// An image of a disk.
    DiskImage,
}

/// One content that a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchHit {
    /// Its names in the overlay that asked; not empty.
    pub names: Vec<Name>,
    /// File name.
    pub title: String,
    /// Size in bytes.
    pub length: u64,
    /// How many sources are known.
    pub sources: u32,
    /// How many of them hold all of it.
    pub complete_sources: u32,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SearchResult {
    /// The hits, best first.
    pub hits: Vec<SearchHit>,
    /// Whether there were more.
    pub truncated: bool,
}

impl Query {
    /// Whether it is within [`MAX_QUERY_TERMS`], [`MAX_QUERY_DEPTH`] and [`MAX_QUERY_TEXT`], and no list in it is empty.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let (mut terms, mut text) = (0, 0);
        self.measure(1, &mut terms, &mut text) && terms <= MAX_QUERY_TERMS && text <= MAX_QUERY_TEXT
    }

    fn measure(&self, depth: usize, terms: &mut usize, text: &mut usize) -> bool {
        *terms += 1;
        if depth > MAX_QUERY_DEPTH || *terms > MAX_QUERY_TERMS {
            return false;
        }
        match self {
            Self::All(queries) | Self::Any(queries) => {
                !queries.is_empty()
                    && queries.iter().all(|query| query.measure(depth + 1, terms, text))
            }
            Self::ButNot(query, not) => {
                query.measure(depth + 1, terms, text) && not.measure(depth + 1, terms, text)
            }
            Self::Words(words) | Self::Extension(words) => {
                *text += words.len();
                true
            }
            Self::Kind(_) | Self::MinSize(_) | Self::MaxSize(_) | Self::MinSources(_) => true,
        }
    }
}
