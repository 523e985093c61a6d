//! What of a requested range has not come yet, and the zlib stream of one that comes compressed.

use std::ops::Range;

use flate2::{Decompress, FlushDecompress, Status};

/// Holes that one range may have: uploaders send from the start to the end.
const MAX_HOLES: usize = 64;
/// Bytes inflated at a time.
const STEP: usize = 64 * 1024;

/// The bytes of a range that are missing.
#[derive(Debug)]
pub(super) struct Missing(Vec<Range<u64>>);

impl Missing {
    pub(super) fn all(range: Range<u64>) -> Self {
        Self(vec![range])
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().map(|hole| hole.end - hole.start).sum()
    }

    /// Takes bytes off; gives those that had been missing.
    ///
    /// # Errors
    /// When they leave the range in more pieces than anybody sends it.
    pub(super) fn take(&mut self, came: &Range<u64>) -> Result<Vec<Range<u64>>, String> {
        let mut new = Vec::new();
        let mut left = Vec::with_capacity(self.0.len() + 1);
        for hole in self.0.drain(..) {
            let both = hole.start.max(came.start)..hole.end.min(came.end);
            if both.is_empty() {
                left.push(hole);
                continue;
            }
            left.extend(
                [hole.start..both.start, both.end..hole.end]
                    .into_iter()
                    .filter(|rest| !rest.is_empty()),
            );
            new.push(both);
        }
        self.0 = left;
        if self.0.len() > MAX_HOLES {
            return Err(format!("a range comes in more than {MAX_HOLES} scattered pieces"));
        }
        Ok(new)
    }
}

/// The zlib stream of one range.
pub(super) struct Stream {
    inflate: Decompress,
    /// Compressed bytes that are still to come.
    left: u64,
    whole: u32,
    /// Bytes that the range has.
    length: u64,
}

impl Stream {
    /// A stream of `whole` bytes that inflates to exactly `length`.
    pub(super) fn new(whole: u32, length: u64) -> Self {
        Self { inflate: Decompress::new(true), left: whole.into(), whole, length }
    }

    /// Inflates the next piece.
    ///
    /// # Errors
    /// When the stream is damaged, or longer or shorter than the range.
    pub(super) fn push(&mut self, whole: u32, mut piece: &[u8]) -> Result<Vec<u8>, String> {
        let length = piece.len() as u64;
        if whole != self.whole || length > self.left {
            return Err("a compressed range changes its length".to_owned());
        }
        self.left -= length;
        let mut out = Vec::new();
        loop {
            let room = self.length.saturating_sub(self.inflate.total_out());
            // One byte more shows a stream that is too long.
            let step = STEP.min(usize::try_from(room).unwrap_or(STEP).saturating_add(1));
            out.reserve(step);
            let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress_vec(piece, &mut out, FlushDecompress::None);
            let status = status.map_err(|_| "a compressed range is damaged".to_owned())?;
            let used = usize::try_from(self.inflate.total_in() - read).unwrap_or(usize::MAX);
            piece = piece.get(used..).unwrap_or_default();
            if self.inflate.total_out() > self.length {
                return Err("a compressed range inflates to more than was asked for".to_owned());
            }
            let stuck = used == 0 && self.inflate.total_out() == written;
            if status == Status::StreamEnd || stuck {
                break;
            }
        }
        if self.left == 0 && self.inflate.total_out() != self.length {
            let (came, asked) = (self.inflate.total_out(), self.length);
            return Err(format!(
                "a compressed range has {came} bytes where {asked} were asked for"
            ));
        }
        Ok(out)
    }

    /// How many bytes of the range have come.
    pub(super) fn inflated(&self) -> u64 {
        self.inflate.total_out()
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("left", &self.left).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ed2k::wire::packet::deflate;

    fn inflated(zlib: &[u8], length: u64, step: usize) -> Result<Vec<u8>, String> {
        let whole = u32::try_from(zlib.len()).unwrap();
        let mut stream = Stream::new(whole, length);
        let mut out = Vec::new();
        for piece in zlib.chunks(step) {
            out.extend(stream.push(whole, piece)?);
        }
        assert_eq!(stream.inflated(), out.len() as u64);
        Ok(out)
    }

    #[test]
    fn a_stream_is_as_long_as_its_range_or_an_error() {
        let bytes: Vec<u8> = (0..180_000u32).map(|at| (at / 700) as u8).collect();
        let zlib = deflate(&bytes).unwrap();
        for step in [1, 100, 100_000] {
            assert_eq!(inflated(&zlib, 180_000, step), Ok(bytes.clone()));
            assert!(inflated(&zlib, 179_999, step).is_err());
            assert!(inflated(&zlib, 180_001, step).is_err());
        }
        assert!(inflated(b"no zlib", 7, 9).is_err());
        let bomb = deflate(&vec![0; 50 << 20]).unwrap();
        let mut stream = Stream::new(u32::try_from(bomb.len()).unwrap(), 1000);
        assert!(stream.push(stream.whole, &bomb).is_err());
        assert!(stream.inflated() <= 1001);
    }

    proptest! {
        #[test]
        fn what_is_missing_is_what_a_plain_list_says(
            came in prop::collection::vec((0u64..60, 1u64..30), 0..20),
        ) {
            let mut missing = Missing::all(10..50);
            let mut plain: Vec<u64> = (10..50).collect();
            for (at, length) in came {
                let new = missing.take(&(at..at + length)).unwrap();
                let taken: Vec<u64> = new.into_iter().flatten().collect();
                let expected: Vec<u64> =
                    plain.iter().copied().filter(|byte| (at..at + length).contains(byte)).collect();
                plain.retain(|byte| !(at..at + length).contains(byte));
                prop_assert_eq!(taken, expected);
                prop_assert_eq!(missing.bytes(), plain.len() as u64);
                prop_assert_eq!(missing.is_empty(), plain.is_empty());
            }
        }
    }
}
