//! Reading little-endian fields out of bytes, with errors that say what was wrong and where.

use thiserror::Error;

use super::Hash;

/// Why bytes are no message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WireError {
    /// The bytes end in the middle of a field.
    #[error("it ends at byte {at}, inside {what}")]
    Cut {
        /// The field.
        what: &'static str,
        /// Where the bytes end.
        at: usize,
    },
    /// A field has a value that it cannot have.
    #[error("{what} at byte {at}: {problem}")]
    Bad {
        /// The field.
        what: &'static str,
        /// Where it begins.
        at: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// The message is larger than one may be.
    #[error("it has {length} bytes; at most {most} are taken")]
    TooLong {
        /// Bytes that it says it has.
        length: u64,
        /// Bytes that it may have.
        most: u64,
    },
    /// The first byte is of no protocol that is spoken here.
    #[error("it begins with {0:#04x}, which is no protocol of eD2k")]
    Protocol(u8),
    /// The compressed payload is damaged, or inflates to more than a message may have.
    #[error("its compressed payload cannot be read: {0}")]
    Compressed(&'static str),
    /// The opcode means nothing here.
    #[error("opcode {opcode:#04x} of protocol {protocol:#04x} is not known here")]
    Opcode {
        /// The protocol byte.
        protocol: u8,
        /// The opcode.
        opcode: u8,
    },
}

/// A place in bytes that are being read.
#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The beginning of some bytes.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes have been read.
    #[must_use]
    pub const fn at(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// An error about a field that begins so many bytes before this place.
    #[must_use]
    pub fn bad(&self, what: &'static str, back: usize, problem: impl ToString) -> WireError {
        WireError::Bad { what, at: self.at.saturating_sub(back), problem: problem.to_string() }
    }

    /// The next bytes.
    ///
    /// # Errors
    /// When there are not so many.
    pub fn take(&mut self, what: &'static str, count: usize) -> Result<&'a [u8], WireError> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or(WireError::Cut { what, at: self.bytes.len() })?;
        self.at += count;
        Ok(taken)
    }

    /// All bytes that are left.
    pub fn rest(&mut self) -> &'a [u8] {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at = self.bytes.len();
        rest
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WireError> {
        let taken = self.take(what, N)?;
        Ok(*taken.first_chunk().unwrap_or(&[0; N]))
    }

    /// One byte.
    ///
    /// # Errors
    /// When the bytes end before it.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        Ok(u8::from_le_bytes(self.array(what)?))
    }

    /// Two bytes.
    ///
    /// # Errors
    /// When the bytes end before it.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, WireError> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }

    /// Four bytes.
    ///
    /// # Errors
    /// When the bytes end before it.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    /// Eight bytes.
    ///
    /// # Errors
    /// When the bytes end before it.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// Sixteen bytes.
    ///
    /// # Errors
    /// When the bytes end before it.
    pub fn hash(&mut self, what: &'static str) -> Result<Hash, WireError> {
        self.array(what)
    }

    /// A text behind two bytes of length. What is no UTF-8 is read as Latin-1: old programs send their local letters.
    ///
    /// # Errors
    /// When the bytes end before its end.
    pub fn text(&mut self, what: &'static str) -> Result<String, WireError> {
        let length = self.u16(what)?;
        Ok(text(self.take(what, length.into())?))
    }
}

/// Bytes as text: UTF-8, with or without its mark, else Latin-1.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    let plain = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match std::str::from_utf8(plain) {
        Ok(text) => text.to_owned(),
        Err(_) => plain.iter().copied().map(char::from).collect(),
    }
}

/// Writes a text behind two bytes of length; what is longer than these can say is cut at a letter.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(u16::MAX.into());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let cut = text.get(..end).unwrap_or_default();
    out.extend_from_slice(&u16::try_from(cut.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(cut.as_bytes());
}
