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

impl FileKind {
    /// The kind of a title, by what stands behind its last dot; `None` when that says nothing.
    #[must_use]
    pub fn of(title: &str) -> Option<Self> {
        let (_, extension) = title.rsplit_once('.')?;
        let is = |list: &[&str]| list.iter().any(|one| extension.eq_ignore_ascii_case(one));
        EXTENSIONS.iter().find(|(_, list)| is(list)).map(|(kind, _)| *kind)
    }
}

/// What files of each kind are called.
const EXTENSIONS: [(FileKind, &[&str]); 7] = [
    (
        FileKind::Audio,
        &[
            "aac", "ac3", "aif", "aiff", "alac", "amr", "ape", "au", "cda", "dts", "flac", "m4a",
            "m4b", "mid", "midi", "mka", "mod", "mp2", "mp3", "mpa", "mpc", "oga", "ogg", "opus",
            "ra", "snd", "spx", "tta", "wav", "wma", "wv", "xm",
        ],
    ),
    (
        FileKind::Video,
        &[
            "3g2", "3gp", "asf", "avi", "divx", "f4v", "flv", "m1v", "m2t", "m2ts", "m2v", "m4v",
            "mkv", "mov", "mp4", "mpe", "mpeg", "mpg", "mts", "ogm", "ogv", "qt", "ram", "rm",
            "rmvb", "ts", "vob", "webm", "wmv", "xvid",
        ],
    ),
    (
        FileKind::Image,
        &[
            "avif", "bmp", "gif", "heic", "heif", "ico", "jfif", "jpe", "jpeg", "jpg", "jxl",
            "pcx", "png", "psd", "svg", "tga", "tif", "tiff", "webp", "wmf", "xcf",
        ],
    ),
    (
        FileKind::Document,
        &[
            "azw3", "cbr", "cbz", "chm", "csv", "djvu", "doc", "docx", "epub", "fb2", "htm",
            "html", "md", "mobi", "nfo", "odp", "ods", "odt", "pdf", "ppt", "pptx", "ps", "rtf",
            "srt", "sub", "tex", "txt", "xls", "xlsx", "xml",
        ],
    ),
    (
        FileKind::Program,
        &[
            "apk", "appimage", "bat", "cmd", "com", "deb", "exe", "flatpak", "jar", "msi", "pkg",
            "ps1", "py", "rpm", "sh", "snap", "xpi",
        ],
    ),
    (
        FileKind::Archive,
        &[
            "7z", "ace", "arc", "arj", "br", "bz2", "cab", "gz", "lha", "lz", "lz4", "lzh", "lzma",
            "rar", "tar", "tbz2", "tgz", "txz", "xz", "z", "zip", "zst",
        ],
    ),
    (
        FileKind::DiskImage,
        &[
            "b5t", "b6t", "bin", "bwt", "ccd", "cdi", "cue", "dmg", "img", "iso", "mdf", "mds",
            "nrg", "qcow2", "toast", "vdi", "vhd", "vhdx", "vmdk",
        ],
    ),
];

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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_kind_is_told_by_what_stands_behind_the_last_dot() {
        assert_eq!(FileKind::of("a.film.MKV"), Some(FileKind::Video));
        assert_eq!(FileKind::of("debian.iso"), Some(FileKind::DiskImage));
        assert_eq!(FileKind::of("source.tar.gz"), Some(FileKind::Archive));
        assert_eq!(FileKind::of("mp3"), None);
        assert_eq!(FileKind::of("song.mp3 "), None);
        assert_eq!(FileKind::of(""), None);
        let mut seen = HashSet::new();
        for (_, list) in EXTENSIONS {
            assert!(list.iter().all(|extension| seen.insert(*extension)), "one kind has each");
        }
    }
}
