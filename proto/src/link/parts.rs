use md4::{Digest, Md4};

use super::LinkError;
use crate::Name;

/// Bytes of a part of eD2k; the last one of a file may be shorter.
pub const ED2K_PART: u64 = 9_728_000;

/// The hash of a part without bytes. eMule ends the list with it when the last part is full ("red"), others do not ("blue").
const EMPTY: [u8; 16] = [
    0x31, 0xd6, 0xcf, 0xe0, 0xd1, 0x6a, 0xe9, 0x31, 0xb7, 0x3c, 0x59, 0xd7, 0xe0, 0xc0, 0x89, 0xc0,
];

/// The hashes (MD4) of a file's parts, which give the file's hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ed2kParts {
    hashes: Vec<[u8; 16]>,
    ends_empty: bool,
}

impl Ed2kParts {
    /// Hashes that somebody says are those of the parts of a file with this hash and length. Where the last part is
    /// full, the hash of the empty part behind it may be there or be left out.
    ///
    /// # Errors
    /// When there are too many or too few, or they do not give the file's hash.
    pub fn proven(hash: &[u8; 16], length: u64, said: &[[u8; 16]]) -> Result<Self, LinkError> {
        let (count, least) = (said.len() as u64, length.div_ceil(ED2K_PART).max(1));
        let all_full = length > 0 && length.is_multiple_of(ED2K_PART);
        let gives = |parts: &[[u8; 16]], ends_empty| of_parts(parts, ends_empty) == *hash;
        let of = |hashes: &[[u8; 16]], ends_empty| Self { hashes: hashes.to_vec(), ends_empty };
        let found = match said {
            [only] if least == 1 && only == hash => Some(of(said, false)),
            _ if count == least && all_full && gives(said, true) => Some(of(said, true)),
            _ if count == least => (count > 1 && gives(said, false)).then(|| of(said, false)),
            [parts @ .., last] if all_full && count == least + 1 => {
                (*last == EMPTY && gives(parts, true)).then(|| of(parts, true))
            }
            _ => return Err(LinkError::PartCount { said: count, length, parts: least }),
        };
        found.ok_or_else(|| LinkError::PartsDiffer(Name::ed2k(*hash)))
    }

    /// One for each part that has bytes, in order; of a file without bytes, its hash.
    #[must_use]
    pub fn hashes(&self) -> &[[u8; 16]] {
        &self.hashes
    }

    /// What the file's hash is made of: with the hash of the empty part, where eMule counts one.
    #[must_use]
    pub fn listed(&self) -> Vec<[u8; 16]> {
        let mut all = self.hashes.clone();
        all.extend(self.ends_empty.then_some(EMPTY));
        all
    }
}

/// The hash of a file of several parts.
pub(super) fn of_parts(parts: &[[u8; 16]], ends_empty: bool) -> [u8; 16] {
    let mut whole = Md4::new();
    parts.iter().for_each(|part| whole.update(part));
    if ends_empty {
        whole.update(EMPTY);
    }
    whole.finalize().into()
}
