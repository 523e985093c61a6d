//! A file as it is offered and found.

use crate::ed2k::wire::{ClientId, Cursor, Hash, Tag, WireError};

/// Names of the tags of a file.
pub mod file_tag {
    /// Its name (`FT_FILENAME`).
    pub const NAME: u8 = 0x01;
    /// Its size; the lower 32 bits where [`SIZE_HIGH`] has the others (`FT_FILESIZE`).
    pub const SIZE: u8 = 0x02;
    /// Its type, as a text or a number (`FT_FILETYPE`).
    pub const TYPE: u8 = 0x03;
    /// The letters behind the last dot of its name (`FT_FILEFORMAT`).
    pub const FORMAT: u8 = 0x04;
    /// How many sources there are (`FT_SOURCES`).
    pub const SOURCES: u8 = 0x15;
    /// How many sources have all of it (`FT_COMPLETE_SOURCES`).
    pub const COMPLETE_SOURCES: u8 = 0x30;
    /// The upper 32 bits of its size (`FT_FILESIZE_HI`).
    pub const SIZE_HIGH: u8 = 0x3A;
}

/// Bytes of a record without tags.
pub(super) const LEAST: usize = 26;
const COMPLETE: (u32, u16) = (0xFBFB_FBFB, 0xFBFB);
const INCOMPLETE: (u32, u16) = (0xFCFC_FCFC, 0xFCFC);

/// A file, who has it, and what is said of it.
#[derive(Debug, Clone, PartialEq)]
pub struct FileRecord {
    /// Its hash.
    pub hash: Hash,
    /// Who has it.
    pub holder: Holder,
    /// What is said of it: [`file_tag`].
    pub tags: Vec<Tag>,
}

/// Who has a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// The client that offers it, all of it.
    Complete,
    /// The client that offers it, a part of it.
    Incomplete,
    /// A client; with id 0 nobody is named.
    Client {
        /// Its id.
        id: ClientId,
        /// Its port.
        port: u16,
    },
}

impl Holder {
    /// Nobody is named.
    pub const NOBODY: Self = Self::Client { id: ClientId::Low(0), port: 0 };
}

impl FileRecord {
    /// A file of which name and size are told.
    #[must_use]
    pub fn new(hash: Hash, holder: Holder, name: &str, size: u64) -> Self {
        let mut tags = vec![Tag::text(file_tag::NAME, name)];
        tags.push(Tag::number(file_tag::SIZE, size & u64::from(u32::MAX)));
        if size > u32::MAX.into() {
            tags.push(Tag::number(file_tag::SIZE_HIGH, size >> 32));
        }
        Self { hash, holder, tags }
    }

    /// Its name, if it is told.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.tags.iter().find_map(|tag| tag.as_text(file_tag::NAME))
    }

    /// Its size in bytes, if it is told.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        let low = self.number(file_tag::SIZE)?;
        let high = self.number(file_tag::SIZE_HIGH).unwrap_or(0) & u64::from(u32::MAX);
        // One tag of 64 bits says all of it.
        Some(if low > u32::MAX.into() { low } else { high << 32 | low })
    }

    /// How many sources there are, if it is told.
    #[must_use]
    pub fn sources(&self) -> Option<u64> {
        self.number(file_tag::SOURCES)
    }

    /// How many sources have all of it, if it is told.
    #[must_use]
    pub fn complete_sources(&self) -> Option<u64> {
        self.number(file_tag::COMPLETE_SOURCES)
    }

    fn number(&self, id: u8) -> Option<u64> {
        self.tags.iter().find_map(|tag| tag.as_number(id))
    }

    /// Reads a record.
    ///
    /// # Errors
    /// When it is cut, or one of its tags cannot be read.
    pub fn read(from: &mut Cursor<'_>) -> Result<Self, WireError> {
        let hash = from.hash("a file's hash")?;
        let (id, port) = (from.u32("a file's client")?, from.u16("a file's client")?);
        let holder = match (id, port) {
            COMPLETE => Holder::Complete,
            INCOMPLETE => Holder::Incomplete,
            (id, port) => Holder::Client { id: ClientId::from_number(id), port },
        };
        Ok(Self { hash, holder, tags: Tag::read_list(from)? })
    }

    /// Writes the record, its tags in the new form or in the old one.
    pub fn put(&self, out: &mut Vec<u8>, new_tags: bool) {
        let (id, port) = match self.holder {
            Holder::Complete => COMPLETE,
            Holder::Incomplete => INCOMPLETE,
            Holder::Client { id, port } => (id.number(), port),
        };
        out.extend_from_slice(&self.hash);
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&port.to_le_bytes());
        Tag::put_list(out, &self.tags, new_tags);
    }

    /// Reads records behind four bytes of count.
    pub(super) fn read_list(from: &mut Cursor<'_>) -> Result<Vec<Self>, WireError> {
        let said = from.u32("the number of files")?;
        let count = super::count(from, "the number of files", said, LEAST)?;
        (0..count).map(|_| Self::read(from)).collect()
    }

    pub(super) fn put_list(out: &mut Vec<u8>, files: &[Self], new_tags: bool) {
        out.extend_from_slice(&u32::try_from(files.len()).unwrap_or(u32::MAX).to_le_bytes());
        files.iter().for_each(|file| file.put(out, new_tags));
    }
}
