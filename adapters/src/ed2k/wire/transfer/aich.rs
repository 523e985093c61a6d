use super::super::{Cursor, WireError};

/// A SHA-1 of an AICH tree.
pub type AichHash = [u8; 20];

/// The most hashes of one answer: the 53 blocks of a part, and one for each turn on the way to it.
pub const MAX_RECOVERY: usize = 53 + 32;

/// Hashes of an AICH tree that prove the blocks of one part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Each hash with its place: a 1, then from the root down a 1 for each turn to the left and a 0 for each to the
    /// right.
    pub hashes: Vec<(u32, AichHash)>,
    /// Whether places are written in 32 bits, as eMule does for files of 4 GiB and more, and not in 16.
    pub wide: bool,
}

impl Recovery {
    pub(super) fn read(from: &mut Cursor<'_>) -> Result<Self, WireError> {
        let narrow = Self::read_list(from, false)?;
        if !narrow.is_empty() || from.left() == 0 {
            return Ok(Self { hashes: narrow, wide: false });
        }
        let hashes = Self::read_list(from, true)?;
        Ok(Self { wide: !hashes.is_empty(), hashes })
    }

    fn read_list(from: &mut Cursor<'_>, wide: bool) -> Result<Vec<(u32, AichHash)>, WireError> {
        let what = "the number of AICH hashes";
        let count = usize::from(from.u16(what)?);
        if count > MAX_RECOVERY {
            let problem = format!("{count} hashes; at most {MAX_RECOVERY} are read");
            return Err(from.bad(what, 2, problem));
        }
        let one = |from: &mut Cursor<'_>| {
            let what = "the place of an AICH hash";
            let place = if wide { from.u32(what)? } else { from.u16(what)?.into() };
            Ok((place, aich_hash(from)?))
        };
        (0..count).map(|_| one(from)).collect()
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        let hashes = self.hashes.get(..MAX_RECOVERY).unwrap_or(&self.hashes);
        let count = u16::try_from(hashes.len()).unwrap_or(u16::MAX).to_le_bytes();
        if self.wide {
            out.extend_from_slice(&[0, 0]);
        }
        out.extend_from_slice(&count);
        for (place, hash) in hashes {
            let place = place.to_le_bytes();
            let width = if self.wide { 4 } else { 2 };
            out.extend_from_slice(place.get(..width).unwrap_or_default());
            out.extend_from_slice(hash);
        }
        if !self.wide {
            out.extend_from_slice(&[0, 0]);
        }
    }
}

pub(super) fn aich_hash(from: &mut Cursor<'_>) -> Result<AichHash, WireError> {
    let bytes = from.take("an AICH hash", 20)?;
    Ok(*bytes.first_chunk().unwrap_or(&[0; 20]))
}
