use p2pbridge_proto::Bits;

use super::super::{Cursor, PART, WireError};

/// How many parts a file of so many bytes has in a file status: one more than it fills where it ends with a part.
/// `None` when that is more than a message can say.
#[must_use]
pub fn wire_parts(length: u64) -> Option<u16> {
    u16::try_from(length / PART + 1).ok()
}

/// Which parts of a file a client has: a count, and a bit each, the first in the lowest bit of the first byte.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartStatus {
    count: u16,
    bits: Vec<u8>,
}

impl PartStatus {
    /// A count of 0: all parts in `50`, nothing said in `58`.
    #[must_use]
    pub const fn complete() -> Self {
        Self { count: 0, bits: Vec::new() }
    }

    /// The parts of a file of so many bytes that are in a set. `None` when it has more than a message can say.
    #[must_use]
    pub fn of(parts: &Bits, length: u64) -> Option<Self> {
        let count = wire_parts(length)?;
        let mut bits = vec![0; usize::from(count).div_ceil(8)];
        for part in parts.ones().take_while(|part| *part < u32::from(count)) {
            if let Some(byte) = bits.get_mut((part / 8) as usize) {
                *byte |= 1 << (part % 8);
            }
        }
        Some(Self { count, bits })
    }

    /// How many parts it tells of; 0 when the client has them all.
    #[must_use]
    pub const fn count(&self) -> u16 {
        self.count
    }

    /// Whether a part is in it. Says nothing of a complete file.
    #[must_use]
    pub fn has(&self, part: u32) -> bool {
        let byte = self.bits.get((part / 8) as usize);
        part < u32::from(self.count) && byte.is_some_and(|byte| byte >> (part % 8) & 1 == 1)
    }

    /// The parts as a set, for a file of so many bytes; `None` when it tells of a file of another length. A count of 0
    /// gives all parts.
    #[must_use]
    pub fn to_bits(&self, length: u64) -> Option<Bits> {
        let parts = u32::try_from(length.div_ceil(PART)).ok()?;
        if self.count == 0 {
            return Some(Bits::all(parts));
        }
        // Some clients do not count the empty part at the end.
        if u32::from(self.count) != parts && wire_parts(length) != Some(self.count) {
            return None;
        }
        let mut bits = Bits::none(parts);
        for part in (0..parts).filter(|part| self.has(*part)) {
            bits.set(part);
        }
        Some(bits)
    }

    pub(super) fn read(from: &mut Cursor<'_>) -> Result<Self, WireError> {
        let count = from.u16("the number of parts")?;
        let bits = from.take("the parts", usize::from(count).div_ceil(8))?.to_vec();
        Ok(Self { count, bits })
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.bits);
    }
}
