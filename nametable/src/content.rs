use std::{sync::Arc, time::SystemTime};

use p2pbridge_proto::{ContentId, Evidence, Name, Scheme};

/// The most names of one content.
pub const MAX_CONTENT_NAMES: usize = 32;

/// The most letters of a content's title.
pub const MAX_TITLE: usize = 1_000;

/// What is known of a sequence of bytes: the names that systems have for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The bridge's own identity of the bytes.
    pub id: ContentId,
    /// Number of bytes, if it is known.
    pub length: Option<u64>,
    /// What the bytes are called by people, often a file's name; may be empty.
    pub title: String,
    /// Its names, none twice, at most [`MAX_CONTENT_NAMES`]. One scheme may have several: eD2k has two variants at exact
    /// multiples of a part, and a torrent's name depends on more than the bytes.
    pub names: Vec<Known>,
}

/// A name of a content, and how it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// The name.
    pub name: Name,
    /// How well it is known that the name is of this content.
    pub evidence: Evidence,
    /// Who said so.
    pub stated_by: Arc<str>,
    /// Since when, in whole seconds.
    pub since: SystemTime,
}

/// What somebody states: that names are of the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The content that they are of, when it is known; else the names tell.
    pub content: Option<ContentId>,
    /// The names; at least one, at most [`MAX_CONTENT_NAMES`].
    pub names: Vec<Name>,
    /// Number of bytes, if it is known.
    pub length: Option<u64>,
    /// What the bytes are called by people; may be empty.
    pub title: String,
    /// How well it is known.
    pub evidence: Evidence,
    /// Who states it.
    pub stated_by: Arc<str>,
}

impl Content {
    /// What is known of one of its names.
    #[must_use]
    pub fn known(&self, name: &Name) -> Option<&Known> {
        self.names.iter().find(|known| known.name == *name)
    }

    /// Its names of a scheme.
    pub fn of_scheme(&self, scheme: Scheme) -> impl Iterator<Item = &Known> {
        self.names.iter().filter(move |known| known.name.scheme() == scheme)
    }
}
