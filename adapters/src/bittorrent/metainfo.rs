//! What a .torrent file says: BEP 3, 12, 27, 47 and 52.

use bytes::Bytes;
use p2pbridge_proto::{Name, Scheme};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{
    merkle::{self, Hash},
    wire::bencode::{BencodeError, Dict, Document, Limits, List, Value},
};

/// The largest .torrent file that is read, in bytes.
pub const MAX_SOURCE: usize = 32 << 20;
/// The largest piece, in bytes.
pub const MAX_PIECE_LENGTH: u64 = 64 << 20;
/// The most files in a torrent, pad files included.
pub const MAX_FILES: usize = 100_000;
const MAX_TRACKERS: usize = 256;

/// A checked .torrent file: version 1, version 2, or both (hybrid).
#[derive(Debug, Clone)]
pub struct Metainfo {
    /// The exact bytes of the `info` dictionary.
    pub info_bytes: Bytes,
    /// The title: the name of the file, or of the folder that holds all files.
    pub title: String,
    /// Bytes of a piece; the last may be shorter.
    pub piece_length: u64,
    /// Bytes of the layout, padding included.
    pub length: u64,
    /// The files in order, without pad files.
    pub files: Vec<File>,
    /// Whether it must not leave its trackers' swarm (BEP 27).
    pub private: bool,
    /// The trackers that it names, tier by tier (BEP 12).
    pub trackers: Vec<Vec<String>>,
    /// SHA-1 of `info`, when it has version 1.
    pub btih: Option<[u8; 20]>,
    /// SHA-256 of `info`, when it has version 2.
    pub btmh: Option<Hash>,
    /// SHA-1 of each piece, 20 bytes each; empty when it has not version 1.
    pub pieces: Bytes,
}

/// A file of a torrent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Path below the root folder, its parts joined by `/`; of a lone file, its name.
    pub path: String,
    /// First byte in the layout.
    pub offset: u64,
    /// Size in bytes.
    pub length: u64,
    /// Its hash tree, in version 2, when the file is not empty.
    pub tree: Option<Tree>,
}

/// A file's hash tree (BEP 52).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// The root: it depends on the file's bytes alone.
    pub root: Hash,
    /// The roots of the pieces, 32 bytes each; empty when the file is not longer than a piece.
    pub layer: Bytes,
}

/// Why bytes are no .torrent file that the bridge takes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MetainfoError {
    /// Too many bytes.
    #[error("{0} bytes are too much for a .torrent file: at most {MAX_SOURCE} are read")]
    TooLarge(usize),
    /// Not bencode.
    #[error("not a .torrent file: {0}")]
    Bencode(#[from] BencodeError),
    /// A field that must be there is not.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A field of another kind.
    #[error("`{field}` is {found}, not {wanted}")]
    Kind {
        /// The field.
        field: &'static str,
        /// What was found.
        found: &'static str,
        /// What it must be.
        wanted: &'static str,
    },
    /// A field with a value that it cannot have.
    #[error("`{field}`: {problem}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

type Result<T> = std::result::Result<T, MetainfoError>;

fn invalid<T>(field: &'static str, problem: impl Into<String>) -> Result<T> {
    Err(MetainfoError::Invalid { field, problem: problem.into() })
}

impl Metainfo {
    /// Reads a .torrent file.
    ///
    /// # Errors
    /// When it is none, contradicts itself, or exceeds a limit of this module.
    pub fn parse(source: &Bytes) -> Result<Self> {
        if source.len() > MAX_SOURCE {
            return Err(MetainfoError::TooLarge(source.len()));
        }
        let document = Document::parse(source, Limits::METAINFO)?;
        let root = as_dict("the file", &document.value)?;
        let info = as_dict("info", need(root, "info")?)?;
        let title = component("name", need(info, "name")?)?;
        let piece_length = piece_length(info)?;
        let v2 = match info.get(b"meta version") {
            None => None,
            Some(Value::Int(2)) => Some(V2::parse(source, root, info, piece_length)?),
            Some(other) => {
                return invalid("meta version", format!("{other:?} is not known, only 2 is"));
            }
        };
        let v1 = match (info.get(b"pieces"), &v2) {
            (None, Some(_)) => None,
            _ => Some(V1::parse(source, info, piece_length, &title)?),
        };
        let btih = v1.as_ref().map(|_| Sha1::digest(info.raw()).into());
        let btmh = v2.as_ref().map(|_| Sha256::digest(info.raw()).into());
        let (files, length, pieces) = match (v1, v2) {
            (Some(v1), Some(v2)) => (v1.joined(v2)?, v1.length, v1.pieces),
            (Some(v1), None) => (v1.files, v1.length, v1.pieces),
            // libtorrent asks for the last piece of version 2 whole, as if padding followed the last file too.
            (None, Some(v2)) => {
                let whole = v2.length.checked_next_multiple_of(piece_length);
                (v2.files, whole.unwrap_or(v2.length), Bytes::new())
            }
            (None, None) => return Err(MetainfoError::Missing("pieces")),
        };
        if length == 0 {
            return invalid("info", "the files are all empty");
        }
        Ok(Self {
            info_bytes: source.slice_ref(info.raw()),
            title,
            piece_length,
            length,
            files,
            private: !matches!(info.get(b"private"), None | Some(Value::Int(0))),
            trackers: trackers(root),
            btih,
            btmh,
            pieces,
        })
    }

    /// Its names, the main one first: `btih` if it has version 1, `btmh` if it has version 2.
    #[must_use]
    pub fn names(&self) -> Vec<Name> {
        let v2 = self.btmh.and_then(|digest| Name::with_32(Scheme::Btmh, digest));
        self.btih.map(Name::btih).into_iter().chain(v2).collect()
    }

    /// The 20-byte hashes that stand for it on the wire (BEP 52), in the order of [`Self::names`].
    #[must_use]
    pub fn wire_name(&self) -> Vec<[u8; 20]> {
        self.names().iter().filter_map(wire_hash).collect()
    }

    /// How many pieces it has.
    #[must_use]
    pub fn piece_count(&self) -> u32 {
        u32::try_from(self.length.div_ceil(self.piece_length)).unwrap_or(u32::MAX)
    }

    /// Bytes of a piece; 0 behind the last one.
    #[must_use]
    pub fn piece_size(&self, piece: u32) -> u64 {
        let start = u64::from(piece).saturating_mul(self.piece_length);
        self.length.saturating_sub(start).min(self.piece_length)
    }
}

/// The 20 bytes that stand for a name on the wire: a `btih`, or the first 20 bytes of a `btmh`.
#[must_use]
pub fn wire_hash(name: &Name) -> Option<[u8; 20]> {
    match name.scheme() {
        Scheme::Btih | Scheme::Btmh => name.digest().first_chunk().copied(),
        _ => None,
    }
}

struct V1 {
    files: Vec<File>,
    length: u64,
    pieces: Bytes,
}

impl V1 {
    fn parse(source: &Bytes, info: &Dict<'_>, piece_length: u64, title: &str) -> Result<Self> {
        let pieces = as_bytes("pieces", need(info, "pieces")?)?;
        let mut files = Vec::new();
        let mut length = 0u64;
        match (info.get(b"length"), info.get(b"files")) {
            (Some(_), Some(_)) => return invalid("info", "it has both `length` and `files`"),
            (None, None) => return Err(MetainfoError::Missing("length")),
            (Some(size), None) => {
                length = as_uint("length", size)?;
                files.push(File { path: title.to_owned(), offset: 0, length, tree: None });
            }
            (None, Some(list)) => {
                let list = as_list("files", list)?.items();
                if list.len() > MAX_FILES {
                    return invalid("files", format!("more than {MAX_FILES}"));
                }
                for file in list {
                    let file = as_dict("files", file)?;
                    let size = as_uint("length", need(file, "length")?)?;
                    let offset = length;
                    length = add(length, size)?;
                    if !is_pad(file) {
                        let path = path(as_list("path", need(file, "path")?)?)?;
                        files.push(File { path, offset, length: size, tree: None });
                    }
                }
            }
        }
        let wanted = length.div_ceil(piece_length);
        if wanted.checked_mul(20) != Some(pieces.len() as u64) {
            let got = pieces.len();
            return invalid(
                "pieces",
                format!(
                    "{length} bytes in pieces of {piece_length} are {wanted} hashes of 20 bytes, not {got} bytes"
                ),
            );
        }
        Ok(Self { files, length, pieces: source.slice_ref(pieces) })
    }

    /// The files with their hash trees, if version 2 describes the same files at the same places.
    fn joined(&self, v2: V2) -> Result<Vec<File>> {
        if self.files.len() != v2.files.len() {
            let (one, two) = (self.files.len(), v2.files.len());
            return invalid("file tree", format!("it has {two} files, `files` has {one}"));
        }
        let joined = self.files.iter().zip(v2.files).map(|(one, two)| {
            let same_place = one.length == 0 || one.offset == two.offset;
            if one.path != two.path || one.length != two.length || !same_place {
                return invalid(
                    "file tree",
                    format!(
                        "`{}` ({} bytes at {}) is `{}` ({} bytes at {}) in version 1",
                        two.path, two.length, two.offset, one.path, one.length, one.offset
                    ),
                );
            }
            Ok(File { tree: two.tree, ..one.clone() })
        });
        joined.collect()
    }
}

struct V2 {
    files: Vec<File>,
    length: u64,
}

impl V2 {
    fn parse(source: &Bytes, root: &Dict<'_>, info: &Dict<'_>, piece_length: u64) -> Result<Self> {
        if !piece_length.is_power_of_two() || piece_length < merkle::LEAF {
            return invalid(
                "piece length",
                format!("{piece_length} is no power of two from 16 KiB on, as version 2 wants"),
            );
        }
        let layers = root.get(b"piece layers").map(|v| as_dict("piece layers", v)).transpose()?;
        let tree = as_dict("file tree", need(info, "file tree")?)?;
        let mut walk = Walk { source, layers, piece_length, files: Vec::new(), end: 0 };
        walk.folder(tree, "")?;
        let Walk { files, end, .. } = walk;
        Ok(Self { files, length: end })
    }
}

struct Walk<'a> {
    source: &'a Bytes,
    layers: Option<&'a Dict<'a>>,
    piece_length: u64,
    files: Vec<File>,
    end: u64,
}

impl Walk<'_> {
    /// Enters the files of a folder. The reader has bounded the depth.
    fn folder(&mut self, folder: &Dict<'_>, above: &str) -> Result<()> {
        for (key, value) in folder.entries() {
            let part = component("file tree", &Value::Bytes(key))?;
            let path = if above.is_empty() { part } else { format!("{above}/{part}") };
            let node = as_dict("file tree", value)?;
            match (node.get(b""), node.entries()) {
                (Some(file), [_]) => self.file(as_dict("file tree", file)?, path)?,
                (Some(_), _) => {
                    return invalid("file tree", format!("`{path}` is both a file and a folder"));
                }
                (None, _) => self.folder(node, &path)?,
            }
        }
        Ok(())
    }

    fn file(&mut self, file: &Dict<'_>, path: String) -> Result<()> {
        if self.files.len() >= MAX_FILES {
            return invalid("file tree", format!("more than {MAX_FILES} files"));
        }
        let length = as_uint("length", need(file, "length")?)?;
        if is_pad(file) {
            return invalid(
                "file tree",
                format!("`{path}` is a pad file, which version 2 has not"),
            );
        }
        if length == 0 {
            self.files.push(File { path, offset: self.end, length, tree: None });
            return Ok(());
        }
        let offset = self.end.checked_next_multiple_of(self.piece_length);
        let Some(offset) = offset else { return invalid("length", "beyond 2^63 bytes in all") };
        self.end = add(offset, length)?;
        let root = as_bytes("pieces root", need(file, "pieces root")?)?;
        let Ok(root) = Hash::try_from(root) else {
            return invalid("pieces root", format!("{} bytes, not 32", root.len()));
        };
        let layer = self.layer(&root, length, &path)?;
        self.files.push(File { path, offset, length, tree: Some(Tree { root, layer }) });
        Ok(())
    }

    /// The piece layer of a file, checked against its root.
    fn layer(&self, root: &Hash, length: u64, path: &str) -> Result<Bytes> {
        if length <= self.piece_length {
            return Ok(Bytes::new());
        }
        let Some(layer) = self.layers.and_then(|layers| layers.get(root)) else {
            return invalid("piece layers", format!("the layer of `{path}` is missing"));
        };
        let layer = as_bytes("piece layers", layer)?;
        let wanted = length.div_ceil(self.piece_length);
        if wanted.checked_mul(32) != Some(layer.len() as u64) {
            let got = layer.len();
            return invalid(
                "piece layers",
                format!("the layer of `{path}` is {wanted} hashes of 32 bytes, not {got} bytes"),
            );
        }
        let hashes = layer.as_chunks().0.to_vec();
        if merkle::root(hashes, merkle::padding(self.piece_length / merkle::LEAF)) != *root {
            return invalid(
                "piece layers",
                format!("the layer of `{path}` does not hash to its `pieces root`"),
            );
        }
        Ok(self.source.slice_ref(layer))
    }
}

fn piece_length(info: &Dict<'_>) -> Result<u64> {
    let length = as_uint("piece length", need(info, "piece length")?)?;
    match length {
        0 => invalid("piece length", "0"),
        1..=MAX_PIECE_LENGTH => Ok(length),
        _ => invalid("piece length", format!("{length} is more than {MAX_PIECE_LENGTH} (64 MiB)")),
    }
}

/// The tiers of `announce-list`, or else the one tracker of `announce`; what is no text is passed over.
fn trackers(root: &Dict<'_>) -> Vec<Vec<String>> {
    let text = |value: &Value<'_>| {
        let url = std::str::from_utf8(value.bytes()?).ok()?.trim();
        (!url.is_empty() && url.len() <= 2048).then(|| url.to_owned())
    };
    let mut room = MAX_TRACKERS;
    let mut tiers = Vec::new();
    for tier in root.get(b"announce-list").and_then(Value::list).map_or(&[][..], List::items) {
        let urls = tier.list().map_or(&[][..], List::items);
        let urls: Vec<_> = urls.iter().filter_map(text).take(room).collect();
        room -= urls.len();
        if !urls.is_empty() {
            tiers.push(urls);
        }
    }
    if tiers.is_empty() {
        tiers.extend(root.get(b"announce").and_then(text).map(|url| vec![url]));
    }
    tiers
}

/// BEP 47: bytes of the layout that belong to no file.
fn is_pad(file: &Dict<'_>) -> bool {
    file.get(b"attr").and_then(Value::bytes).is_some_and(|attr| attr.contains(&b'p'))
}

fn path(parts: &List<'_>) -> Result<String> {
    if parts.items().is_empty() {
        return invalid("path", "it has no parts");
    }
    let parts = parts.items().iter().map(|part| component("path", part));
    Ok(parts.collect::<Result<Vec<_>>>()?.join("/"))
}

/// What is wrong with a part of a path, if it could lead out of its folder, or is too long.
pub(super) fn part_problem(part: &[u8]) -> Option<&'static str> {
    match part {
        b"" => Some("is empty"),
        b"." | b".." => Some("leads out of its folder"),
        _ if part.len() > 1024 => Some("is longer than 1,024 bytes"),
        _ if part.iter().any(|byte| matches!(byte, b'/' | 0)) => Some("has a slash or a NUL in it"),
        _ => None,
    }
}

fn component(field: &'static str, value: &Value<'_>) -> Result<String> {
    let bytes = as_bytes(field, value)?;
    let text = String::from_utf8_lossy(bytes);
    match part_problem(bytes) {
        Some(bad) => {
            let shown: String = text.chars().take(80).collect();
            invalid(field, format!("the part {shown:?} {bad}"))
        }
        None => Ok(text.into_owned()),
    }
}

fn add(total: u64, more: u64) -> Result<u64> {
    match total.checked_add(more).filter(|sum| *sum <= i64::MAX as u64) {
        Some(sum) => Ok(sum),
        None => invalid("length", "beyond 2^63 bytes in all"),
    }
}

fn need<'d, 'a>(dict: &'d Dict<'a>, key: &'static str) -> Result<&'d Value<'a>> {
    dict.get(key.as_bytes()).ok_or(MetainfoError::Missing(key))
}

fn kind(field: &'static str, value: &Value<'_>, wanted: &'static str) -> MetainfoError {
    MetainfoError::Kind { field, found: value.kind(), wanted }
}

fn as_dict<'d, 'a>(field: &'static str, value: &'d Value<'a>) -> Result<&'d Dict<'a>> {
    value.dict().ok_or_else(|| kind(field, value, "a dictionary"))
}

fn as_list<'d, 'a>(field: &'static str, value: &'d Value<'a>) -> Result<&'d List<'a>> {
    value.list().ok_or_else(|| kind(field, value, "a list"))
}

fn as_bytes<'a>(field: &'static str, value: &Value<'a>) -> Result<&'a [u8]> {
    value.bytes().ok_or_else(|| kind(field, value, "a string"))
}

fn as_uint(field: &'static str, value: &Value<'_>) -> Result<u64> {
    match value {
        Value::Int(int) => u64::try_from(*int).or_else(|_| invalid(field, format!("{int} < 0"))),
        other => Err(kind(field, other, "an integer")),
    }
}

#[cfg(test)]
#[path = "metainfo_tests.rs"]
mod tests;
