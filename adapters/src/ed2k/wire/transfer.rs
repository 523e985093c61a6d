//! What clients say to each other about files, after the greeting: questions, answers and data.
//!
//! The names of the opcodes are those of eMule and aMule (`Client2Client/TCP.h`). Where a message has a form for 32 bits
//! and one for 64, both are read, and the short one is written where it can say it.

mod aich;
mod decode;
mod encode;
pub mod opcode;
mod parts;
mod sources;

#[cfg(test)]
mod tests;

use std::ops::Range;

use bytes::Bytes;

pub use self::{
    aich::{AichHash, MAX_RECOVERY, Recovery},
    decode::decode,
    encode::{compressed_part_head, sending_part_head},
    parts::{PartStatus, wire_parts},
    sources::{MAX_SOURCES, SourceRecord},
};
use super::Hash;

/// Ranges that one request for parts has room for.
pub const RANGES: usize = 3;

/// A message between clients about files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// `58` `OP_REQUESTFILENAME`: asks whether the other has a file, and what it is called.
    FileNameRequest {
        /// The file.
        file: Hash,
        /// What the asker has of it; clients that tell of no extended requests leave it out.
        extended: Option<Extended>,
    },
    /// `59` `OP_REQFILENAMEANSWER`.
    FileNameAnswer {
        /// The file.
        file: Hash,
        /// Its name.
        name: String,
    },
    /// `48` `OP_FILEREQANSNOFIL`: the file is not here.
    NoSuchFile(Hash),
    /// `4F` `OP_SETREQFILEID`: asks for the parts that the other has; in eMule it also chooses the file of the upload.
    FileStatusRequest(Hash),
    /// `50` `OP_FILESTATUS`.
    FileStatus {
        /// The file.
        file: Hash,
        /// The parts that the other has.
        parts: PartStatus,
    },
    /// `51` `OP_HASHSETREQUEST`.
    HashSetRequest(Hash),
    /// `52` `OP_HASHSETANSWER`: the MD4 of each part.
    HashSet {
        /// The file.
        file: Hash,
        /// The hashes, in order.
        hashes: Vec<Hash>,
    },
    /// `54` `OP_STARTUPLOADREQ`: asks for a slot, or for a place in the queue.
    StartUpload(Option<Hash>),
    /// `55` `OP_ACCEPTUPLOADREQ`: the slot is granted.
    AcceptUpload,
    /// `56` `OP_CANCELTRANSFER`: the downloader gives the slot back.
    CancelTransfer,
    /// `57` `OP_OUTOFPARTREQS`: the uploader takes the slot back.
    OutOfParts,
    /// `5C` `OP_QUEUERANK`: the place in the queue, as eDonkey says it.
    QueueRank(u32),
    /// `C5 60` `OP_QUEUERANKING`: the place in the queue, as eMule says it.
    QueueRanking(u16),
    /// `49` `OP_END_OF_DOWNLOAD`: the downloader has what it wanted.
    EndOfDownload(Hash),
    /// `47` `OP_REQUESTPARTS`, `C5 A3` `OP_REQUESTPARTS_I64`: asks for bytes.
    RequestParts {
        /// The file.
        file: Hash,
        /// The ranges, [`RANGES`] at most; one that is empty or runs backwards is as the other wrote it.
        ranges: Vec<Range<u64>>,
    },
    /// `46` `OP_SENDINGPART`, `C5 A2` `OP_SENDINGPART_I64`: bytes.
    SendingPart {
        /// The file.
        file: Hash,
        /// Where the bytes begin.
        start: u64,
        /// The bytes; never empty.
        data: Bytes,
    },
    /// `C5 40` `OP_COMPRESSEDPART`, `C5 A1` `OP_COMPRESSEDPART_I64`: a piece of the zlib stream of one requested range.
    CompressedPart {
        /// The file.
        file: Hash,
        /// Where the range begins, the same in all pieces of its stream.
        start: u64,
        /// Bytes of the whole stream.
        whole: u32,
        /// The piece; the first follows on nothing, each other on the one before.
        data: Bytes,
    },
    /// `C5 81` `OP_REQUESTSOURCES`, `C5 83` `OP_REQUESTSOURCES2`: asks for other clients that have the file.
    SourcesRequest {
        /// The file.
        file: Hash,
        /// The highest version of records that the asker reads; absent in the older form, where the greeting told it.
        version: Option<u8>,
    },
    /// `C5 82` `OP_ANSWERSOURCES`, `C5 84` `OP_ANSWERSOURCES2`.
    Sources {
        /// The file.
        file: Hash,
        /// The version of the records; absent in the older form, where the greeting told it.
        version: Option<u8>,
        /// Clients that have it.
        sources: Vec<SourceRecord>,
    },
    /// `C5 9E` `OP_AICHFILEHASHREQ`: asks for the root of the file's AICH tree.
    AichRootRequest(Hash),
    /// `C5 9D` `OP_AICHFILEHASHANS`.
    AichRoot {
        /// The file.
        file: Hash,
        /// The root that the other has.
        root: AichHash,
    },
    /// `C5 9B` `OP_AICHREQUEST`: asks for the hashes of a part's blocks.
    AichRequest {
        /// The file.
        file: Hash,
        /// The number of the part.
        part: u16,
        /// The root that the asker trusts.
        root: AichHash,
    },
    /// `C5 9C` `OP_AICHANSWER`.
    AichAnswer {
        /// The file.
        file: Hash,
        /// What was asked for; absent when the other does not have it.
        recovery: Option<(u16, AichHash, Recovery)>,
    },
    /// A message that nothing here follows from, by its name.
    Ignored(&'static str),
}

/// What the asker for a file tells of what it has of it itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extended {
    /// The parts that it has; a count of 0 says nothing.
    pub parts: PartStatus,
    /// Complete sources that it knows of (version 2).
    pub complete_sources: Option<u16>,
}

impl Message {
    /// The file that the message is about, if it names one.
    #[must_use]
    pub const fn file(&self) -> Option<&Hash> {
        match self {
            Self::FileNameRequest { file, .. }
            | Self::FileNameAnswer { file, .. }
            | Self::NoSuchFile(file)
            | Self::FileStatusRequest(file)
            | Self::FileStatus { file, .. }
            | Self::HashSetRequest(file)
            | Self::HashSet { file, .. }
            | Self::EndOfDownload(file)
            | Self::RequestParts { file, .. }
            | Self::SendingPart { file, .. }
            | Self::CompressedPart { file, .. }
            | Self::SourcesRequest { file, .. }
            | Self::Sources { file, .. }
            | Self::AichRootRequest(file)
            | Self::AichRoot { file, .. }
            | Self::AichRequest { file, .. }
            | Self::AichAnswer { file, .. } => Some(file),
            Self::StartUpload(file) => file.as_ref(),
            Self::AcceptUpload
            | Self::CancelTransfer
            | Self::OutOfParts
            | Self::QueueRank(_)
            | Self::QueueRanking(_)
            | Self::Ignored(_) => None,
        }
    }

    /// Whether a client that uploads sends it: it is for who downloads here.
    #[must_use]
    pub const fn is_answer(&self) -> bool {
        matches!(
            self,
            Self::FileNameAnswer { .. }
                | Self::NoSuchFile(_)
                | Self::FileStatus { .. }
                | Self::HashSet { .. }
                | Self::AcceptUpload
                | Self::OutOfParts
                | Self::QueueRank(_)
                | Self::QueueRanking(_)
                | Self::SendingPart { .. }
                | Self::CompressedPart { .. }
                | Self::Sources { .. }
                | Self::AichRoot { .. }
                | Self::AichAnswer { .. }
        )
    }
}
