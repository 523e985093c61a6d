use std::fmt;

/// A set of chunk numbers, one bit each, the first in the highest bit of the first byte (as a BEP 3 `bitfield`).
#[derive(Clone, PartialEq, Eq)]
pub struct Bits {
    bytes: Vec<u8>,
    len: u32,
    ones: u32,
}

impl Bits {
    /// The empty set of numbers below `len`.
    #[must_use]
    pub fn none(len: u32) -> Self {
        Self { bytes: vec![0; len.div_ceil(8) as usize], len, ones: 0 }
    }

    /// The full set of numbers below `len`.
    #[must_use]
    pub fn all(len: u32) -> Self {
        let mut bits = Self { bytes: vec![0xFF; len.div_ceil(8) as usize], len, ones: len };
        if let Some(last) = bits.bytes.last_mut() {
            *last &= spare_mask(len);
        }
        bits
    }

    /// Reads a set; `None` when the number of bytes does not fit, or a spare bit is set.
    #[must_use]
    pub fn from_bytes(bytes: &[u8], len: u32) -> Option<Self> {
        if bytes.len() != len.div_ceil(8) as usize {
            return None;
        }
        if bytes.last().is_some_and(|last| last & !spare_mask(len) != 0) {
            return None;
        }
        let ones = bytes.iter().map(|byte| byte.count_ones()).sum();
        Some(Self { bytes: bytes.to_vec(), len, ones })
    }

    /// The set as bytes; spare bits are 0.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many numbers the set could hold.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// How many numbers the set holds.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.ones
    }

    /// Whether the set holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ones == 0
    }

    /// Whether the set holds everything.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.ones == self.len
    }

    /// Whether the set holds a number; never one from `len` on.
    #[must_use]
    pub fn has(&self, at: u32) -> bool {
        self.bytes.get((at / 8) as usize).is_some_and(|byte| byte & mask(at) != 0)
    }

    /// Puts a number in; `false` when it was there, or is not below `len`.
    pub fn set(&mut self, at: u32) -> bool {
        if at >= self.len || self.has(at) {
            return false;
        }
        if let Some(byte) = self.bytes.get_mut((at / 8) as usize) {
            *byte |= mask(at);
            self.ones += 1;
        }
        true
    }

    /// Takes a number out; `false` when it was not there.
    pub fn clear(&mut self, at: u32) -> bool {
        if !self.has(at) {
            return false;
        }
        if let Some(byte) = self.bytes.get_mut((at / 8) as usize) {
            *byte &= !mask(at);
            self.ones -= 1;
        }
        true
    }

    /// The numbers in the set, rising.
    pub fn ones(&self) -> impl Iterator<Item = u32> + '_ {
        self.bytes.iter().zip(0u32..).filter(|(byte, _)| **byte != 0).flat_map(|(byte, at)| {
            (0..8).filter(move |bit| byte & (0x80 >> bit) != 0).map(move |bit| at * 8 + bit)
        })
    }

    /// The numbers that are not in the set, rising.
    pub fn zeros(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.len).filter(|at| !self.has(*at))
    }
}

impl fmt::Debug for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bits({} of {})", self.ones, self.len)
    }
}

fn mask(at: u32) -> u8 {
    0x80 >> (at % 8)
}

/// The bits of the last byte that mean a number below `len`.
fn spare_mask(len: u32) -> u8 {
    match len % 8 {
        0 => 0xFF,
        used => !(0xFFu8 >> used),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_plain_set(len in 1u32..70, marks in prop::collection::vec(0u32..80, 0..90)) {
            let mut bits = Bits::none(len);
            let mut plain = std::collections::BTreeSet::new();
            for mark in marks {
                if plain.contains(&mark) {
                    prop_assert!(bits.clear(mark));
                    plain.remove(&mark);
                } else {
                    prop_assert_eq!(bits.set(mark), mark < len);
                    if mark < len {
                        plain.insert(mark);
                    }
                }
            }
            prop_assert_eq!(bits.ones().collect::<Vec<_>>(), plain.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(bits.count() as usize, plain.len());
            prop_assert_eq!(Bits::from_bytes(bits.as_bytes(), len), Some(bits));
        }
    }

    #[test]
    fn refuses_spare_bits_and_wrong_lengths() {
        assert_eq!(Bits::from_bytes(&[0xFF, 0xC0], 10), Some(Bits::all(10)));
        assert_eq!(Bits::from_bytes(&[0xFF, 0xE0], 10), None);
        assert_eq!(Bits::from_bytes(&[0xFF], 10), None);
        assert!(Bits::from_bytes(&[], 0).is_some());
    }
}
