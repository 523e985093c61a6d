//! eD2k file links as descriptions, in the contract's words.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use md4::{Digest, Md4};
use p2pbridge_proto::{Ed2kFileLink, Ed2kParts, LinkError, MAX_ED2K_LINK, Name, Scheme};

use super::wire::{Hash, PART};
use crate::{AboutFile, DescribeError, Description, FileSpan, Integrity, Learned};

/// The most bytes of a file that eMule and aMule take (`MAX_FILE_SIZE`).
pub const MAX_SIZE: u64 = 0x40_0000_0000;

/// A file, as its link tells of it: [`Description::native`].
#[derive(Debug)]
pub struct Ed2kFile {
    /// Its hash.
    pub hash: Hash,
    /// Its bytes.
    pub size: u64,
    /// What it is called: no control characters, no slashes, never empty.
    pub title: String,
    /// The root of its AICH tree, by the word of whoever bound the link.
    pub aich: Option<[u8; 20]>,
    parts: OnceLock<Ed2kParts>,
    /// The hashes of parts whose bytes have come, while `parts` is empty.
    learning: Mutex<Vec<Option<Hash>>>,
}

/// Reads the text of one file link, white space around it allowed. `Description::native` is an [`Ed2kFile`].
///
/// # Errors
/// When the bytes are no such link, or one of a file that clients do not take; the text says why.
pub fn describe(source: &[u8]) -> Result<Description, DescribeError> {
    let bad = |problem: &str| DescribeError(problem.to_owned());
    // Other descriptions are long; no need to look at all of one.
    if source.len() > MAX_ED2K_LINK {
        return Err(bad("it is longer than a link"));
    }
    let text = std::str::from_utf8(source).map_err(|_| bad("it is not UTF-8"))?.trim();
    if text.lines().nth(1).is_some() {
        return Err(bad("it has more than one line"));
    }
    let link: Ed2kFileLink =
        text.parse().map_err(|error| DescribeError(format!("as a link: {error}")))?;
    if link.length > MAX_SIZE {
        let (size, most) = (link.length, MAX_SIZE);
        return Err(DescribeError(format!("{size} bytes; clients take at most {most}")));
    }
    let title = plain(&link.title);
    if title.is_empty() {
        return Err(bad("the link has no file name"));
    }
    let name = link.name();
    let file = Arc::new(Ed2kFile::new(link, title));
    Ok(Description {
        names: vec![name],
        title: file.title.clone(),
        length: file.size,
        unit: PART,
        files: vec![FileSpan {
            path: file.title.clone(),
            offset: 0,
            length: file.size,
            digest: Some(name),
        }],
        private: false,
        trackers: Vec::new(),
        integrity: Arc::new(Parts(file.clone())),
        source: Bytes::copy_from_slice(source),
        native: file,
    })
}

/// The link of a file of which an eD2k hash is known, with the hashes of its parts and its AICH root as far as these
/// are; absent where there is none, or clients do not take the file.
#[must_use]
pub fn compose(about: &AboutFile) -> Option<Vec<u8>> {
    let of = |scheme| about.names.iter().find(move |name| name.scheme() == scheme);
    let hash = *of(Scheme::Ed2k)?.digest().first_chunk()?;
    let aich = of(Scheme::Aich).and_then(|root| root.digest().first_chunk().copied());
    let (title, length) = (plain(&about.title), about.length);
    if title.is_empty() || length > MAX_SIZE {
        return None;
    }
    let (hashes, _) = about.chunks.as_chunks();
    let parts = Ed2kParts::proven(&hash, length, hashes).ok();
    let link = Ed2kFileLink { title, length, hash, parts, aich, sources: Vec::new() };
    Some(link.to_string().into_bytes())
}

/// What a link says of its file; who is said to have it is left out.
///
/// # Errors
/// When it is no link of a file; the text says why.
pub fn read_link(text: &str) -> Result<AboutFile, DescribeError> {
    let link: Ed2kFileLink =
        text.parse().map_err(|error: LinkError| DescribeError(error.to_string()))?;
    let aich = link.aich.and_then(|root| Name::new(Scheme::Aich, &root).ok());
    let chunks = link.parts.as_ref().map(|parts| parts.hashes().as_flattened().to_vec());
    Ok(AboutFile {
        names: [link.name()].into_iter().chain(aich).collect(),
        title: plain(&link.title),
        length: link.length,
        chunks: chunks.unwrap_or_default(),
    })
}

impl Ed2kFile {
    fn new(link: Ed2kFileLink, title: String) -> Self {
        let Ed2kFileLink { hash, length: size, parts, aich, .. } = link;
        // A file shorter than a part is named by its only part's hash.
        let short = || (size < PART).then(|| Ed2kParts::proven(&hash, size, &[hash]).ok())?;
        let parts = match parts.or_else(short) {
            Some(parts) => OnceLock::from(parts),
            None => OnceLock::new(),
        };
        Self { hash, size, title, aich, parts, learning: Mutex::default() }
    }

    /// The file of a description, if it is one of eD2k.
    #[must_use]
    pub fn of(description: &Description) -> Option<Arc<Self>> {
        Arc::clone(&description.native).downcast().ok()
    }

    /// Parts that have bytes.
    #[must_use]
    pub fn part_count(&self) -> u32 {
        u32::try_from(self.size.div_ceil(PART)).unwrap_or(u32::MAX)
    }

    /// Bytes of a part; 0 where there is none.
    #[must_use]
    pub fn part_size(&self, part: u32) -> u64 {
        self.size.saturating_sub(u64::from(part).saturating_mul(PART)).min(PART)
    }

    /// The hashes of the parts that have bytes, in order, once they are known.
    #[must_use]
    pub fn hashes(&self) -> Option<&[Hash]> {
        self.parts.get().map(Ed2kParts::hashes)
    }

    /// What a hash set answer carries (`OP_HASHSETANSWER`), once it is known: `size / PART + 1` hashes, as eMule counts
    /// them, that of the empty part behind a last full one among them; none of a file shorter than a part. A name of
    /// the other variant has one less at exact multiples.
    #[must_use]
    pub fn hashes_for_wire(&self) -> Option<Vec<Hash>> {
        let listed = self.parts.get()?.listed();
        Some(if self.size < PART { Vec::new() } else { listed })
    }

    /// Takes the hashes of the parts from somebody, with or without that of an empty part behind the last full one.
    /// Gives whether they are those of this file; then they are known from now on.
    pub fn learn_hashes(&self, said: &[Hash]) -> bool {
        let proven = Ed2kParts::proven(&self.hash, self.size, said);
        let is_good = proven.is_ok();
        if let Ok(parts) = proven {
            // Somebody else may have told before: the same.
            let _ = self.parts.set(parts);
        }
        is_good
    }

    /// The link that tells all that is known of the file.
    #[must_use]
    pub fn link(&self) -> Ed2kFileLink {
        Ed2kFileLink {
            title: self.title.clone(),
            length: self.size,
            hash: self.hash,
            parts: self.parts.get().cloned(),
            aich: self.aich,
            sources: Vec::new(),
        }
    }

    /// Takes down the hash of a part; when it was the last one, finds whether all of them are of this file.
    fn learn_part(&self, part: usize, hash: Hash) -> Learned {
        if self.parts.get().is_some() {
            return Learned::Known;
        }
        let mut learning = self.learning.lock().unwrap_or_else(PoisonError::into_inner);
        learning.resize(self.part_count() as usize, None);
        if let Some(place) = learning.get_mut(part) {
            *place = Some(hash);
        }
        let Some(all) = learning.iter().copied().collect::<Option<Vec<Hash>>>() else {
            return Learned::More;
        };
        // Whatever comes of them, they are not needed again.
        *learning = Vec::new();
        if self.learn_hashes(&all) { Learned::Known } else { Learned::OtherBytes }
    }
}

/// Checks parts by their MD4.
struct Parts(Arc<Ed2kFile>);

impl Parts {
    /// The hash of these bytes, if they are as many as the part has.
    fn hash(&self, part: u32, bytes: &[Bytes]) -> Option<Hash> {
        let size = self.0.part_size(part);
        let given = bytes.iter().fold(0u64, |sum, run| sum.saturating_add(run.len() as u64));
        if size == 0 || given != size {
            return None;
        }
        let mut hasher = Md4::new();
        bytes.iter().for_each(|run| hasher.update(run));
        Some(hasher.finalize().into())
    }
}

impl Integrity for Parts {
    fn check(&self, chunk: u32, bytes: &[Bytes]) -> bool {
        let expected = self.0.hashes().and_then(|hashes| hashes.get(chunk as usize));
        expected.is_some_and(|expected| self.hash(chunk, bytes).as_ref() == Some(expected))
    }

    fn is_known(&self) -> bool {
        self.0.parts.get().is_some()
    }

    fn learn(&self, chunk: u32, bytes: &[Bytes]) -> Learned {
        match self.hash(chunk, bytes) {
            _ if self.is_known() => Learned::Known,
            Some(hash) => self.0.learn_part(chunk as usize, hash),
            // Of another length: they say nothing of this file.
            None => Learned::OtherBytes,
        }
    }
}

/// A file name as a path can hold it. aMule too makes a line of a slash.
fn plain(title: &str) -> String {
    let letter = |letter: char| match letter {
        '/' => '_',
        letter if letter.is_control() => ' ',
        letter => letter,
    };
    title.chars().map(letter).collect::<String>().trim().to_owned()
}

#[cfg(test)]
#[path = "describe_tests.rs"]
mod tests;
