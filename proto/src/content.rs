use std::fmt;

use thiserror::Error;

/// The bridge's own identity of a sequence of bytes. It is random, and means nothing to another bridge.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentId([u8; 16]);

/// Bytes that are no [`ContentId`].
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a content id has 16 bytes, not {0}")]
pub struct ContentIdError(usize);

impl ContentId {
    /// A new identity, unlike any other.
    ///
    /// # Errors
    /// When the operating system has no random bytes to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The identity with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl TryFrom<&[u8]> for ContentId {
    type Error = ContentIdError;

    fn try_from(bytes: &[u8]) -> Result<Self, ContentIdError> {
        bytes.try_into().map(Self).map_err(|_| ContentIdError(bytes.len()))
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentId({self})")
    }
}
