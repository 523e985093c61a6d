use std::ops::Range;

use thiserror::Error;

use crate::ContentId;

/// A run of a name's bytes that is a run of a content's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extent {
    /// First byte in the layout.
    pub offset: u64,
    /// Number of bytes; never 0.
    pub length: u64,
    /// The content.
    pub content: ContentId,
    /// First byte in the content.
    pub content_offset: u64,
}

impl Extent {
    /// Where the extent lies in the layout.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(self.length)
    }

    /// Where the extent lies in its content.
    #[must_use]
    pub fn content_range(&self) -> Range<u64> {
        self.content_offset..self.content_offset.saturating_add(self.length)
    }
}

/// How a name sees its bytes: total length, unit length, and extents. Bytes in no extent are padding and read as zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    length: u64,
    unit: u64,
    extents: Vec<Extent>,
}

/// Why numbers make no [`Layout`].
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LayoutError {
    /// A chunk of nothing.
    #[error("the unit length is 0")]
    ZeroUnit,
    /// More chunks than can be counted in 32 bits.
    #[error("{length} bytes in units of {unit} are more than 2^32 - 1 chunks")]
    TooManyChunks {
        /// Total length.
        length: u64,
        /// Unit length.
        unit: u64,
    },
    /// An extent of nothing.
    #[error("extent {0} is empty")]
    EmptyExtent(usize),
    /// An extent that is not behind the one before it.
    #[error("extent {0} begins before the one before it ends")]
    Overlap(usize),
    /// An extent that leaves the layout, or its content's 2^64 bytes.
    #[error("extent {0} ends behind the layout's end")]
    OutOfBounds(usize),
}

impl Layout {
    /// Checks the numbers and makes a layout.
    ///
    /// # Errors
    /// When the extents are empty, out of order or out of bounds, or chunks cannot be counted.
    pub fn new(length: u64, unit: u64, extents: Vec<Extent>) -> Result<Self, LayoutError> {
        if unit == 0 {
            return Err(LayoutError::ZeroUnit);
        }
        if length.div_ceil(unit) > u64::from(u32::MAX) {
            return Err(LayoutError::TooManyChunks { length, unit });
        }
        let mut end = 0;
        for (at, extent) in extents.iter().enumerate() {
            if extent.length == 0 {
                return Err(LayoutError::EmptyExtent(at));
            }
            if extent.offset < end {
                return Err(LayoutError::Overlap(at));
            }
            end = extent
                .offset
                .checked_add(extent.length)
                .filter(|end| *end <= length)
                .ok_or(LayoutError::OutOfBounds(at))?;
            extent.content_offset.checked_add(extent.length).ok_or(LayoutError::OutOfBounds(at))?;
        }
        Ok(Self { length, unit, extents })
    }

    /// Number of bytes, padding included.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of a chunk; the last chunk may be shorter.
    #[must_use]
    pub fn unit(&self) -> u64 {
        self.unit
    }

    /// Runs of content, by rising offset, without overlap.
    #[must_use]
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// Number of chunks.
    #[must_use]
    pub fn chunk_count(&self) -> u32 {
        u32::try_from(self.length.div_ceil(self.unit)).unwrap_or(u32::MAX)
    }

    /// Where a chunk lies; empty behind the last one.
    #[must_use]
    pub fn chunk_range(&self, chunk: u32) -> Range<u64> {
        let start = u64::from(chunk).saturating_mul(self.unit).min(self.length);
        start..start.saturating_add(self.unit).min(self.length)
    }

    /// The chunks that a run of bytes touches.
    #[must_use]
    pub fn chunks_of(&self, range: &Range<u64>) -> Range<u32> {
        let end = range.end.min(self.length);
        if range.start >= end {
            return 0..0;
        }
        let index = |chunk: u64| u32::try_from(chunk).unwrap_or(u32::MAX);
        index(range.start / self.unit)..index(end.div_ceil(self.unit))
    }

    /// The extents that touch a run of bytes, each cut to it, by rising offset.
    pub fn extents_in(&self, range: Range<u64>) -> impl Iterator<Item = Extent> + '_ {
        let first = self.extents.partition_point(|extent| extent.range().end <= range.start);
        let (from, to) = (range.start, range.end);
        self.extents
            .get(first..)
            .unwrap_or_default()
            .iter()
            .take_while(move |extent| extent.offset < to)
            .filter_map(move |extent| {
                let start = extent.offset.max(from);
                let end = extent.range().end.min(to);
                (start < end).then(|| Extent {
                    offset: start,
                    length: end - start,
                    content: extent.content,
                    content_offset: extent.content_offset + (start - extent.offset),
                })
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENT: ContentId = ContentId::from_bytes([7; 16]);

    fn extent(offset: u64, length: u64) -> Extent {
        Extent { offset, length, content: CONTENT, content_offset: 0 }
    }

    #[test]
    fn refuses_what_is_no_layout() {
        assert_eq!(Layout::new(1, 0, vec![]), Err(LayoutError::ZeroUnit));
        assert_eq!(Layout::new(9, 4, vec![extent(0, 0)]), Err(LayoutError::EmptyExtent(0)));
        assert_eq!(Layout::new(9, 4, vec![extent(8, 2)]), Err(LayoutError::OutOfBounds(0)));
        assert_eq!(
            Layout::new(9, 4, vec![extent(0, 3), extent(2, 3)]),
            Err(LayoutError::Overlap(1))
        );
        assert!(Layout::new(u64::MAX, 1, vec![]).is_err());
    }

    #[test]
    fn cuts_a_short_last_chunk() {
        let layout = Layout::new(10, 4, vec![extent(0, 10)]).unwrap();
        assert_eq!(layout.chunk_count(), 3);
        assert_eq!(layout.chunk_range(2), 8..10);
        assert_eq!(layout.chunk_range(3), 10..10);
        assert_eq!(layout.chunks_of(&(3..5)), 0..2);
        assert_eq!(layout.chunks_of(&(8..99)), 2..3);
        assert_eq!(layout.chunks_of(&(10..99)), 0..0);
    }

    #[test]
    fn cuts_extents_to_a_range() {
        let layout = Layout::new(20, 4, vec![extent(2, 5), extent(9, 11)]).unwrap();
        let cut: Vec<_> = layout.extents_in(5..10).collect();
        assert_eq!(cut.len(), 2);
        assert_eq!((cut[0].offset, cut[0].length, cut[0].content_offset), (5, 2, 3));
        assert_eq!((cut[1].offset, cut[1].length, cut[1].content_offset), (9, 1, 0));
    }
}
