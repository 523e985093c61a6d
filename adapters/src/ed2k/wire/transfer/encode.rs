use std::ops::Range;

use super::{Message, RANGES, opcode as op, sources};
use crate::ed2k::wire::{
    Hash, Packet, Protocol,
    cursor::put_text,
    packet::{HEADER, put_header},
};

/// Answers of source exchange that are longer are compressed, as eMule does.
const PACKED_FROM: usize = 354;

impl Message {
    /// The message in its packet, uncompressed. `None` for what is only ever let go.
    #[must_use]
    pub fn packet(&self) -> Option<Packet> {
        use Protocol::{EDonkey, EMule};
        let mut out = self.file().map_or_else(Vec::new, |file| file.to_vec());
        let (protocol, opcode) = match self {
            Self::FileNameRequest { extended, .. } => {
                if let Some(extended) = extended {
                    extended.parts.put(&mut out);
                    let count = extended.complete_sources.map(u16::to_le_bytes);
                    out.extend(count.into_iter().flatten());
                }
                (EDonkey, op::FILE_NAME_REQUEST)
            }
            Self::FileNameAnswer { name, .. } => {
                put_text(&mut out, name);
                (EDonkey, op::FILE_NAME_ANSWER)
            }
            Self::NoSuchFile(_) => (EDonkey, op::NO_SUCH_FILE),
            Self::FileStatusRequest(_) => (EDonkey, op::FILE_STATUS_REQUEST),
            Self::FileStatus { parts, .. } => {
                parts.put(&mut out);
                (EDonkey, op::FILE_STATUS)
            }
            Self::HashSetRequest(_) => (EDonkey, op::HASH_SET_REQUEST),
            Self::HashSet { hashes, .. } => {
                let count = u16::try_from(hashes.len()).unwrap_or(u16::MAX);
                out.extend_from_slice(&count.to_le_bytes());
                out.extend(hashes.iter().take(count.into()).flatten());
                (EDonkey, op::HASH_SET)
            }
            Self::StartUpload(_) => (EDonkey, op::START_UPLOAD),
            Self::AcceptUpload => (EDonkey, op::ACCEPT_UPLOAD),
            Self::CancelTransfer => (EDonkey, op::CANCEL_TRANSFER),
            Self::OutOfParts => (EDonkey, op::OUT_OF_PARTS),
            Self::QueueRank(rank) => {
                out.extend_from_slice(&rank.to_le_bytes());
                (EDonkey, op::QUEUE_RANK)
            }
            Self::QueueRanking(rank) => {
                out.extend_from_slice(&rank.to_le_bytes());
                out.extend_from_slice(&[0; 10]);
                (EMule, op::QUEUE_RANKING)
            }
            Self::EndOfDownload(_) => (EDonkey, op::END_OF_DOWNLOAD),
            Self::RequestParts { ranges, .. } => put_ranges(&mut out, ranges),
            Self::SendingPart { file, start, data } => {
                let (kind, fields) = sending_part(file, *start, data.len());
                out = fields;
                out.extend_from_slice(data);
                kind
            }
            Self::CompressedPart { file, start, whole, data } => {
                let (kind, fields) = compressed_part(file, *start, *whole);
                out = fields;
                out.extend_from_slice(data);
                kind
            }
            Self::SourcesRequest { version: None, .. } => (EMule, op::SOURCES_REQUEST),
            Self::SourcesRequest { file, version: Some(version) } => {
                out = vec![*version, 0, 0];
                out.extend_from_slice(file);
                (EMule, op::SOURCES_REQUEST_2)
            }
            Self::Sources { file, version, sources } => {
                out = version.iter().chain(file).copied().collect();
                sources::put(&mut out, *version, sources);
                (EMule, if version.is_some() { op::SOURCES_2 } else { op::SOURCES })
            }
            Self::AichRootRequest(_) => (EMule, op::AICH_ROOT_REQUEST),
            Self::AichRoot { root, .. } => {
                out.extend_from_slice(root);
                (EMule, op::AICH_ROOT)
            }
            Self::AichRequest { part, root, .. } => {
                out.extend_from_slice(&part.to_le_bytes());
                out.extend_from_slice(root);
                (EMule, op::AICH_REQUEST)
            }
            Self::AichAnswer { recovery, .. } => {
                if let Some((part, root, recovery)) = recovery {
                    out.extend_from_slice(&part.to_le_bytes());
                    out.extend_from_slice(root);
                    recovery.put(&mut out);
                }
                (EMule, op::AICH_ANSWER)
            }
            Self::Ignored(_) => return None,
        };
        Some(Packet::new(protocol, opcode, out))
    }

    /// Writes the message in its frame, compressed where eMule does so. What is only ever let go writes nothing.
    pub fn put(&self, out: &mut Vec<u8>) {
        let Some(packet) = self.packet() else { return };
        if matches!(self, Self::Sources { .. }) && packet.payload.len() > PACKED_FROM {
            packet.put_packed(out);
        } else {
            packet.put(out);
        }
    }
}

/// All that comes before the data in the frame of a [`Message::SendingPart`] with so many bytes of data: the data can be
/// written behind it as it is.
#[must_use]
pub fn sending_part_head(file: &Hash, start: u64, data: usize) -> Vec<u8> {
    let (kind, fields) = sending_part(file, start, data);
    head(kind, &fields, data)
}

/// All that comes before the data in the frame of a [`Message::CompressedPart`] with so many bytes of data, for a stream
/// of `whole` bytes in all.
#[must_use]
pub fn compressed_part_head(file: &Hash, start: u64, whole: u32, data: usize) -> Vec<u8> {
    let (kind, fields) = compressed_part(file, start, whole);
    head(kind, &fields, data)
}

fn head((protocol, opcode): (Protocol, u8), fields: &[u8], data: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + fields.len());
    put_header(&mut out, protocol.byte(), opcode, fields.len() + data);
    out.extend_from_slice(fields);
    out
}

fn sending_part(file: &Hash, start: u64, data: usize) -> ((Protocol, u8), Vec<u8>) {
    let end = start.saturating_add(data as u64);
    let wide = is_wide(end);
    let mut fields = file.to_vec();
    put_offset(&mut fields, start, wide);
    put_offset(&mut fields, end, wide);
    let kind = if wide {
        (Protocol::EMule, op::SENDING_PART_64)
    } else {
        (Protocol::EDonkey, op::SENDING_PART)
    };
    (kind, fields)
}

fn compressed_part(file: &Hash, start: u64, whole: u32) -> ((Protocol, u8), Vec<u8>) {
    let wide = is_wide(start);
    let mut fields = file.to_vec();
    put_offset(&mut fields, start, wide);
    fields.extend_from_slice(&whole.to_le_bytes());
    let opcode = if wide { op::COMPRESSED_PART_64 } else { op::COMPRESSED_PART };
    ((Protocol::EMule, opcode), fields)
}

fn put_ranges(out: &mut Vec<u8>, ranges: &[Range<u64>]) -> (Protocol, u8) {
    let wide = ranges.iter().any(|range| is_wide(range.start.max(range.end)));
    let at = |place: usize| ranges.get(place).cloned().unwrap_or_default();
    for place in 0..RANGES {
        put_offset(out, at(place).start, wide);
    }
    for place in 0..RANGES {
        put_offset(out, at(place).end, wide);
    }
    if wide {
        (Protocol::EMule, op::REQUEST_PARTS_64)
    } else {
        (Protocol::EDonkey, op::REQUEST_PARTS)
    }
}

fn is_wide(offset: u64) -> bool {
    offset > u64::from(u32::MAX)
}

fn put_offset(out: &mut Vec<u8>, offset: u64, wide: bool) {
    let bytes = offset.to_le_bytes();
    out.extend_from_slice(bytes.get(..if wide { 8 } else { 4 }).unwrap_or_default());
}
