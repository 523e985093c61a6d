//! How chunks of one name correspond to those of another.

use std::ops::Range;

use p2pbridge_nametable::{ChunkMap, map_availability};
use p2pbridge_proto::{
    Bits, Layout,
    v1::{self, MapChunksResponse, map_chunks_request::What},
};
use tonic::Status;

use super::super::fault;

const MOST_RANGES: usize = 10_000;
/// Chunks of a name whose availability is mapped: 16 MiB of bits.
const MOST_CHUNKS: u32 = 1 << 27;

/// Maps what was asked for.
pub(super) fn map(from: &Layout, to: &Layout, what: What) -> Result<MapChunksResponse, Status> {
    let range = match what {
        What::Bytes(bytes) => byte_range(from, &bytes)?,
        What::Chunks(chunks) => chunk_range(from, &chunks)?,
        What::Availability(bytes) => {
            for (field, chunks) in [("from", from.chunk_count()), ("to", to.chunk_count())] {
                if chunks > MOST_CHUNKS {
                    let text =
                        format!("its {chunks} chunks are more than {MOST_CHUNKS}: map ranges");
                    return Err(fault::bad_field("TOO_MUCH", field, text));
                }
            }
            let have = Bits::from_bytes(&bytes, from.chunk_count()).ok_or_else(|| {
                let text = format!(
                    "`from` has {} chunks: it takes {} bytes, the bits behind the last chunk 0",
                    from.chunk_count(),
                    from.chunk_count().div_ceil(8)
                );
                fault::bad_field("BAD_AVAILABILITY", "availability", text)
            })?;
            let availability = map_availability(from, &have, to).as_bytes().to_vec();
            return Ok(MapChunksResponse { ranges: Vec::new(), availability });
        }
    };
    let map = ChunkMap::new(from, to);
    let mut mapped: Vec<_> = map.range(range).take(MOST_RANGES + 1).collect();
    if mapped.len() > MOST_RANGES {
        let text = format!("it maps to more than {MOST_RANGES} ranges: ask for less at once");
        return Err(fault::bad_field("TOO_MUCH", "what", text));
    }
    mapped.sort_by_key(|mapped| (mapped.from.start, mapped.to.start));
    let ranges = mapped.iter().map(|mapped| {
        let chunks = map.to_chunks(mapped);
        v1::MappedRange {
            from: Some(proto_range(&mapped.from)),
            to: Some(proto_range(&mapped.to)),
            to_chunks: Some(v1::ChunkRange {
                first: chunks.start.into(),
                count: chunks.end.saturating_sub(chunks.start).into(),
            }),
        }
    });
    Ok(MapChunksResponse { ranges: ranges.collect(), availability: Vec::new() })
}

fn byte_range(from: &Layout, bytes: &v1::ByteRange) -> Result<Range<u64>, Status> {
    let end = bytes.offset.checked_add(bytes.length).filter(|end| *end <= from.length());
    let end = end.ok_or_else(|| {
        let text = format!("it leaves the {} bytes of `from`", from.length());
        fault::bad_field("BAD_RANGE", "bytes", text)
    })?;
    Ok(bytes.offset..end)
}

fn chunk_range(from: &Layout, chunks: &v1::ChunkRange) -> Result<Range<u64>, Status> {
    let bad = || {
        let text = format!("it leaves the {} chunks of `from`", from.chunk_count());
        fault::bad_field("BAD_RANGE", "chunks", text)
    };
    let end = chunks.first.checked_add(chunks.count).ok_or_else(bad)?;
    if end > u64::from(from.chunk_count()) {
        return Err(bad());
    }
    let place = |chunk: u64| chunk.saturating_mul(from.unit()).min(from.length());
    Ok(place(chunks.first)..place(end))
}

fn proto_range(range: &Range<u64>) -> v1::ByteRange {
    v1::ByteRange { offset: range.start, length: range.end.saturating_sub(range.start) }
}
