use std::ops::Range;

use bytes::Bytes;

use super::{
    Extended, Message, PartStatus, RANGES, Recovery, aich::aich_hash, opcode as op, sources,
};
use crate::ed2k::wire::{Cursor, Packet, Protocol, WireError};

/// Reads a message. Bytes behind what it is known to have are let go: newer programs add some.
///
/// # Errors
/// When it is cut, a field cannot be, or nobody knows the opcode.
pub fn decode(packet: &Packet) -> Result<Message, WireError> {
    let Packet { protocol, packed, opcode, payload } = packet;
    // Between clients it is eMule's messages that come compressed; some programs compress eDonkey's too.
    let first = if *packed { Protocol::EMule } else { *protocol };
    let mut from = Cursor::new(payload);
    let unknown = WireError::Opcode { protocol: protocol.byte(), opcode: *opcode };
    let decoded = match first {
        Protocol::EDonkey => edonkey(*opcode, &mut from, payload)?,
        Protocol::EMule => emule(*opcode, &mut from, payload)?,
    };
    let decoded = match decoded {
        None if *packed => edonkey(*opcode, &mut from, payload)?,
        decoded => decoded,
    };
    decoded.ok_or(unknown)
}

fn edonkey(
    opcode: u8,
    from: &mut Cursor<'_>,
    payload: &Bytes,
) -> Result<Option<Message>, WireError> {
    let file = "the file hash";
    Ok(Some(match opcode {
        op::SENDING_PART => sending_part(from, payload, false)?,
        op::REQUEST_PARTS => request_parts(from, false)?,
        op::NO_SUCH_FILE => Message::NoSuchFile(from.hash(file)?),
        op::END_OF_DOWNLOAD => Message::EndOfDownload(from.hash(file)?),
        op::FILE_STATUS_REQUEST => Message::FileStatusRequest(from.hash(file)?),
        op::FILE_STATUS => {
            Message::FileStatus { file: from.hash(file)?, parts: PartStatus::read(from)? }
        }
        op::HASH_SET_REQUEST => Message::HashSetRequest(from.hash(file)?),
        op::HASH_SET => hash_set(from)?,
        op::START_UPLOAD if from.left() == 0 => Message::StartUpload(None),
        op::START_UPLOAD => Message::StartUpload(Some(from.hash(file)?)),
        op::ACCEPT_UPLOAD => Message::AcceptUpload,
        op::CANCEL_TRANSFER => Message::CancelTransfer,
        op::OUT_OF_PARTS => Message::OutOfParts,
        op::FILE_NAME_REQUEST => {
            Message::FileNameRequest { file: from.hash(file)?, extended: extended(from)? }
        }
        op::FILE_NAME_ANSWER => {
            let file = from.hash(file)?;
            Message::FileNameAnswer { file, name: from.text("the file name")? }
        }
        op::QUEUE_RANK => Message::QueueRank(from.u32("the rank")?),
        other => return Ok(op::ignored(Protocol::EDonkey, other).map(Message::Ignored)),
    }))
}

fn emule(opcode: u8, from: &mut Cursor<'_>, payload: &Bytes) -> Result<Option<Message>, WireError> {
    let file = "the file hash";
    Ok(Some(match opcode {
        op::COMPRESSED_PART => compressed_part(from, payload, false)?,
        op::COMPRESSED_PART_64 => compressed_part(from, payload, true)?,
        op::SENDING_PART_64 => sending_part(from, payload, true)?,
        op::REQUEST_PARTS_64 => request_parts(from, true)?,
        op::QUEUE_RANKING => Message::QueueRanking(from.u16("the rank")?),
        op::SOURCES_REQUEST => Message::SourcesRequest { file: from.hash(file)?, version: None },
        op::SOURCES_REQUEST_2 => {
            let version = from.u8("the version")?;
            from.u16("the options")?;
            Message::SourcesRequest { file: from.hash(file)?, version: Some(version) }
        }
        op::SOURCES => {
            let file = from.hash(file)?;
            Message::Sources { file, version: None, sources: sources::read(from, None)? }
        }
        op::SOURCES_2 => {
            let version = Some(from.u8("the version")?);
            let file = from.hash(file)?;
            Message::Sources { file, version, sources: sources::read(from, version)? }
        }
        op::AICH_ROOT_REQUEST => Message::AichRootRequest(from.hash(file)?),
        op::AICH_ROOT => Message::AichRoot { file: from.hash(file)?, root: aich_hash(from)? },
        op::AICH_REQUEST => {
            let (file, part) = (from.hash(file)?, from.u16("the part")?);
            Message::AichRequest { file, part, root: aich_hash(from)? }
        }
        op::AICH_ANSWER => {
            let file = from.hash(file)?;
            let recovery = if from.left() == 0 {
                None
            } else {
                let (part, root) = (from.u16("the part")?, aich_hash(from)?);
                Some((part, root, Recovery::read(from)?))
            };
            Message::AichAnswer { file, recovery }
        }
        other => return Ok(op::ignored(Protocol::EMule, other).map(Message::Ignored)),
    }))
}

fn extended(from: &mut Cursor<'_>) -> Result<Option<Extended>, WireError> {
    if from.left() == 0 {
        return Ok(None);
    }
    let parts = PartStatus::read(from)?;
    let complete_sources = match from.left() {
        0 => None,
        _ => Some(from.u16("the number of complete sources")?),
    };
    Ok(Some(Extended { parts, complete_sources }))
}

fn hash_set(from: &mut Cursor<'_>) -> Result<Message, WireError> {
    let file = from.hash("the file hash")?;
    let count = usize::from(from.u16("the number of hashes")?);
    let bytes = from.take("the hashes of the parts", count * 16)?;
    let hashes = bytes.chunks_exact(16).filter_map(|hash| hash.first_chunk().copied()).collect();
    Ok(Message::HashSet { file, hashes })
}

fn offset(from: &mut Cursor<'_>, what: &'static str, wide: bool) -> Result<u64, WireError> {
    if wide { from.u64(what) } else { from.u32(what).map(u64::from) }
}

fn request_parts(from: &mut Cursor<'_>, wide: bool) -> Result<Message, WireError> {
    let file = from.hash("the file hash")?;
    let mut starts = [0; RANGES];
    for start in &mut starts {
        *start = offset(from, "the start of a range", wide)?;
    }
    let mut ranges: Vec<Range<u64>> = Vec::with_capacity(RANGES);
    for start in starts {
        ranges.push(start..offset(from, "the end of a range", wide)?);
    }
    // Unused places are zeros.
    ranges.retain(|range| *range != (0..0));
    Ok(Message::RequestParts { file, ranges })
}

fn sending_part(from: &mut Cursor<'_>, payload: &Bytes, wide: bool) -> Result<Message, WireError> {
    let file = from.hash("the file hash")?;
    let start = offset(from, "the start of the data", wide)?;
    let end = offset(from, "the end of the data", wide)?;
    let data = payload.slice(from.at()..);
    if end.checked_sub(start) != Some(data.len() as u64) || data.is_empty() {
        let problem = format!("{} bytes came for {start}..{end}", data.len());
        return Err(from.bad("the data", 0, problem));
    }
    Ok(Message::SendingPart { file, start, data })
}

fn compressed_part(
    from: &mut Cursor<'_>,
    payload: &Bytes,
    wide: bool,
) -> Result<Message, WireError> {
    let file = from.hash("the file hash")?;
    let start = offset(from, "the start of the data", wide)?;
    let whole = from.u32("the length of the stream")?;
    let data = payload.slice(from.at()..);
    if data.is_empty() || data.len() as u64 > u64::from(whole) {
        let problem = format!("{} bytes came of a stream of {whole}", data.len());
        return Err(from.bad("the data", 0, problem));
    }
    Ok(Message::CompressedPart { file, start, whole, data })
}
