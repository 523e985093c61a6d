use std::{fmt, sync::Arc, time::SystemTime};

use p2pbridge_proto::{ContentId, Evidence, Extent, Layout, LayoutError, Name, OverlayId};

/// The content of every file of zero length. It has no bytes, lies in no layout, and makes nothing equivalent.
pub const EMPTY_CONTENT: ContentId = ContentId::from_bytes([0; 16]);

/// Who stated a binding that the bridge made itself, of what it knows of the bytes: [`Binding::is_composed`].
pub const COMPOSED: &str = "the bridge, of what it knows of the bytes";

/// The statement that names have a layout over contents, with its evidence.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Binding {
    /// The names, the main one first; never empty. A hybrid torrent has two. All have the same layout.
    pub names: Vec<Name>,
    /// How the names see their bytes: one extent for each file that is not empty.
    pub layout: Arc<Layout>,
    /// The files, by rising offset; empty ones are among them.
    pub files: Vec<FileEntry>,
    /// How well it is known to be true.
    pub evidence: Evidence,
    /// The overlays in which the names are used.
    pub overlays: Vec<OverlayId>,
    /// The name's own title.
    pub title: String,
    /// Who stated it first.
    pub stated_by: String,
    /// When it was first stated.
    pub created: SystemTime,
    /// When it was last changed.
    pub updated: SystemTime,
    /// Counts its changes, from 1.
    pub version: u64,
    /// SHA-256 of the description (a .torrent file, for example), which is kept elsewhere.
    pub description: Option<[u8; 32]>,
}

/// One file of a [`Binding`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Path below the root, its parts joined by `/`.
    pub path: String,
    /// Size in bytes.
    pub length: u64,
    /// First byte in the layout.
    pub offset: u64,
    /// Its content; [`EMPTY_CONTENT`] when it has no bytes.
    pub content: ContentId,
    /// A name that depends on this file's bytes alone, if one is known.
    pub digest: Option<Name>,
}

impl Binding {
    /// The main name: the one by which the table lists the binding.
    #[must_use]
    pub fn name(&self) -> Name {
        // Not empty: made by `plan` from a checked proposal, or by `record` from a checked record.
        self.names[0]
    }

    /// Whether the bridge made it itself, and nobody else has stated it: it goes with what it was made of.
    #[must_use]
    pub fn is_composed(&self) -> bool {
        self.stated_by == COMPOSED
    }
}

/// What somebody states of names: the input of a Bind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The names of the whole, the main one first; at least one.
    pub names: Vec<Name>,
    /// The title that it gives itself.
    pub title: String,
    /// Bytes of the layout, padding included.
    pub length: u64,
    /// Bytes of a chunk; the last may be shorter.
    pub unit: u64,
    /// The files, by rising offset, without pad files. What they leave open is padding.
    pub files: Vec<ProposedFile>,
    /// The overlays in which the names are used.
    pub overlays: Vec<OverlayId>,
    /// What to call it in errors, for example a file's path.
    pub label: String,
    /// Who states it.
    pub stated_by: String,
    /// SHA-256 of the description, which the caller keeps.
    pub description: Option<[u8; 32]>,
}

/// One file of a [`Proposal`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposedFile {
    /// Path below the root, its parts joined by `/`.
    pub path: String,
    /// First byte in the layout.
    pub offset: u64,
    /// Size in bytes.
    pub length: u64,
    /// A name that depends on this file's bytes alone (a v2 `pieces root`), if the description has one.
    pub digest: Option<Name>,
}

/// A statement that was taken out of use, or never came into it, and is kept to be looked at.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Quarantined {
    /// Its number; later ones are greater.
    pub id: u64,
    /// What was stated. That of a conflict has no contents of its own: its files are all of [`EMPTY_CONTENT`].
    pub binding: Arc<Binding>,
    /// Why it is here.
    pub reason: Reason,
    /// The reason in words.
    pub text: String,
    /// Since when.
    pub at: SystemTime,
}

/// Why a statement is in quarantine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It says something else of a name than the binding that is in force.
    Conflict,
    /// Bytes have proved it false: an alarm.
    Disproved,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Conflict => "conflict",
            Self::Disproved => "disproved",
        })
    }
}

/// The layout of files: each that is not empty is one extent, from its content's first byte.
pub(crate) fn layout_of(
    length: u64,
    unit: u64,
    files: &[FileEntry],
) -> Result<Layout, LayoutError> {
    let extents = files
        .iter()
        .filter(|file| file.length > 0)
        .map(|file| Extent {
            offset: file.offset,
            length: file.length,
            content: file.content,
            content_offset: 0,
        })
        .collect();
    Layout::new(length, unit, extents)
}
