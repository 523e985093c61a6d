//! How records lie in sled: keys, heads, and the parts of records that are too large for one value.

use p2pbridge_proto::Name;

use super::super::record;

/// Bytes of the longest value. A leaf has up to 17 of them, and sled puts leaves over 128 KiB in files of their own.
pub(super) const PART: usize = 4_000;

/// Parts of one batch: sled's memory grows with the batch.
pub(super) const PARTS_PER_BATCH: usize = 1_000;

pub(super) const BINDING: u8 = b'b';
pub(super) const QUARANTINED: u8 = b'q';
pub(super) const PART_KEY: u8 = b'p';
pub(super) const PAGE_KEY: u8 = b'c';
/// Lists of pages that are of no more use, each four bytes.
pub(super) const DEAD_KEY: u8 = b'd';

/// The name under which the parts of a value are kept: unlike that of any other value at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PartsId {
    pub(super) sequence: u64,
    pub(super) number: u32,
}

impl PartsId {
    pub(super) fn key(self, at: u32) -> Vec<u8> {
        let mut key = vec![PART_KEY];
        key.extend_from_slice(&self.sequence.to_be_bytes());
        key.extend_from_slice(&self.number.to_be_bytes());
        key.extend_from_slice(&at.to_be_bytes());
        key
    }

    pub(super) fn parse(key: &[u8]) -> Option<(Self, u32)> {
        let (sequence, rest) = key.get(1..)?.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (sequence, number) = (u64::from_be_bytes(*sequence), u32::from_be_bytes(*number));
        Some((Self { sequence, number }, u32::from_be_bytes(rest.try_into().ok()?)))
    }
}

/// What is kept under a record's key: the batch that wrote it, and the record or where its parts are.
pub(super) struct Head<'a> {
    pub(super) sequence: u64,
    pub(super) body: Body<'a>,
}

pub(super) enum Body<'a> {
    Inline(&'a [u8]),
    Parts(PartsId, u32),
}

impl<'a> Head<'a> {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match &self.body {
            Body::Inline(body) => {
                bytes.push(0);
                bytes.extend_from_slice(&self.sequence.to_le_bytes());
                bytes.extend_from_slice(body);
            }
            Body::Parts(id, count) => {
                bytes.push(1);
                bytes.extend_from_slice(&self.sequence.to_le_bytes());
                bytes.extend_from_slice(&id.sequence.to_le_bytes());
                bytes.extend_from_slice(&id.number.to_le_bytes());
                bytes.extend_from_slice(&count.to_le_bytes());
            }
        }
        bytes
    }

    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let sequence = u64::from_le_bytes(*sequence);
        let body = match kind {
            0 => Body::Inline(rest),
            1 => {
                let (id_sequence, rest) = rest.split_first_chunk()?;
                let (number, rest) = rest.split_first_chunk()?;
                let sequence = u64::from_le_bytes(*id_sequence);
                let id = PartsId { sequence, number: u32::from_le_bytes(*number) };
                Body::Parts(id, u32::from_le_bytes(rest.try_into().ok()?))
            }
            _ => return None,
        };
        Some(Self { sequence, body })
    }
}

/// Values cut in parts, in batches that sled digests.
#[derive(Default)]
pub(super) struct Parts {
    pub(super) batches: Vec<::sled::Batch>,
    in_last: usize,
}

impl Parts {
    pub(super) fn push(&mut self, id: PartsId, bytes: &[u8]) {
        for (part, at) in bytes.chunks(PART).zip(0..) {
            if self.batches.is_empty() || self.in_last == PARTS_PER_BATCH {
                self.batches.push(::sled::Batch::default());
                self.in_last = 0;
            }
            if let Some(batch) = self.batches.last_mut() {
                batch.insert(id.key(at), part);
                self.in_last += 1;
            }
        }
    }
}

pub(super) fn binding_key(name: &Name) -> Vec<u8> {
    [&[BINDING], record::raw_name(name).as_slice()].concat()
}

pub(super) fn quarantined_key(id: u64) -> Vec<u8> {
    [&[QUARANTINED], id.to_be_bytes().as_slice()].concat()
}

pub(super) fn page_key(page: u32) -> Vec<u8> {
    [&[PAGE_KEY], page.to_be_bytes().as_slice()].concat()
}

/// The number of a page from its key.
pub(super) fn page_number(key: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(key.get(1..)?.try_into().ok()?))
}

pub(super) fn dead_key(sequence: u64, at: u32) -> Vec<u8> {
    [&[DEAD_KEY], sequence.to_be_bytes().as_slice(), &at.to_be_bytes()].concat()
}
