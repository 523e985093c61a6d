//! The peer wire protocol: BEP 3, with the fast extension (BEP 6), the extension protocol (BEP 10) and the hash
//! messages of BEP 52. Bytes ⇄ [`Handshake`] and [`Message`]; nothing else.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";

/// Bytes of a block as every stock client asks for it.
pub const BLOCK: u32 = 16 * 1024;

/// Bytes of the longest block that may be asked for.
pub const MAX_BLOCK: u32 = 128 * 1024;

/// What a peer says first (BEP 3): 68 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// What it can do.
    pub features: Features,
    /// The torrent: a v1 info-hash, or the first 20 bytes of a v2 one.
    pub info_hash: [u8; 20],
    /// Who it is.
    pub peer_id: [u8; 20],
}

/// The reserved bits of a handshake, as far as they are known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// The extension protocol (BEP 10).
    pub extended: bool,
    /// The fast extension (BEP 6).
    pub fast: bool,
    /// The torrent is known under a v2 info-hash too (BEP 52).
    pub v2: bool,
}

impl Handshake {
    /// Bytes of a handshake.
    pub const LEN: usize = 68;
    /// Bytes up to the peer id: what must be known before it can be answered.
    pub const HEAD: usize = 48;

    /// The handshake as bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        out[..20].copy_from_slice(PROTOCOL);
        out[25] = u8::from(self.features.extended) * 0x10;
        out[27] = u8::from(self.features.fast) * 0x04 + u8::from(self.features.v2) * 0x10;
        out[28..48].copy_from_slice(&self.info_hash);
        out[48..].copy_from_slice(&self.peer_id);
        out
    }

    /// Reads a handshake.
    ///
    /// # Errors
    /// When the bytes begin with another protocol (an encrypted one, for example).
    pub fn decode(bytes: &[u8; Self::LEN]) -> Result<Self, PeerWireError> {
        let (head, peer_id) = bytes.split_at(Self::HEAD);
        let mut handshake = Self::decode_head(head)?;
        handshake.peer_id.copy_from_slice(peer_id);
        Ok(handshake)
    }

    /// Reads all but the peer id, which stays zero, from the first [`Self::HEAD`] bytes.
    ///
    /// # Errors
    /// When there are fewer bytes, or they begin with another protocol.
    pub fn decode_head(head: &[u8]) -> Result<Self, PeerWireError> {
        let (Some(protocol), Some(reserved), Some(hash)) =
            (head.get(..20), head.get(20..28), head.get(28..48))
        else {
            return Err(PeerWireError::NotBitTorrent);
        };
        if protocol != PROTOCOL {
            return Err(PeerWireError::NotBitTorrent);
        }
        let features = Features {
            extended: reserved[5] & 0x10 != 0,
            fast: reserved[7] & 0x04 != 0,
            v2: reserved[7] & 0x10 != 0,
        };
        let mut info_hash = [0; 20];
        info_hash.copy_from_slice(hash);
        Ok(Self { features, info_hash, peer_id: [0; 20] })
    }
}

/// A run of bytes of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Block {
    /// The piece.
    pub piece: u32,
    /// First byte in the piece.
    pub begin: u32,
    /// Number of bytes.
    pub length: u32,
}

/// The hashes that a message of BEP 52 is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashRange {
    /// The file, by the root of its tree.
    pub pieces_root: [u8; 32],
    /// The lowest layer, counted from the leaves.
    pub base_layer: u32,
    /// First hash in that layer.
    pub index: u32,
    /// Number of hashes.
    pub length: u32,
    /// Number of layers of uncle hashes.
    pub proof_layers: u32,
}

/// One message after the handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Nothing; the connection lives.
    KeepAlive,
    /// Requests will not be answered.
    Choke,
    /// Requests will be answered.
    Unchoke,
    /// The sender wants what the receiver holds.
    Interested,
    /// It does not.
    NotInterested,
    /// The sender now holds this piece.
    Have(u32),
    /// The pieces that the sender holds, one bit each.
    Bitfield(Bytes),
    /// Asks for a block.
    Request(Block),
    /// Gives a block.
    Piece {
        /// The piece.
        piece: u32,
        /// First byte in the piece.
        begin: u32,
        /// The bytes.
        data: Bytes,
    },
    /// Takes a request back.
    Cancel(Block),
    /// The UDP port of the sender's DHT node (BEP 5).
    Port(u16),
    /// A piece that had better be asked for (BEP 6).
    Suggest(u32),
    /// The sender holds every piece (BEP 6).
    HaveAll,
    /// The sender holds no piece (BEP 6).
    HaveNone,
    /// A request that will not be answered (BEP 6).
    Reject(Block),
    /// A piece that may be asked for even when choked (BEP 6).
    AllowedFast(u32),
    /// A message of an extension (BEP 10); 0 is the extended handshake.
    Extended {
        /// The number that the receiver gave to the extension.
        id: u8,
        /// What it says.
        payload: Bytes,
    },
    /// Asks for hashes (BEP 52).
    HashRequest(HashRange),
    /// Gives hashes (BEP 52).
    Hashes {
        /// Which.
        range: HashRange,
        /// The hashes, 32 bytes each.
        hashes: Bytes,
    },
    /// A request for hashes that will not be answered (BEP 52).
    HashReject(HashRange),
    /// A message of a kind that is not known here; it has been skipped.
    Unknown(u8),
}

/// Why bytes are not of this protocol. None of these can be answered: the connection ends.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PeerWireError {
    /// The handshake is that of another protocol.
    #[error("the handshake is not of BitTorrent")]
    NotBitTorrent,
    /// A message is longer than its kind may be.
    #[error("a message of kind {kind} has {length} bytes; at most {limit} are taken")]
    TooLong {
        /// The message's number.
        kind: u8,
        /// What it says of its length, in bytes, the number included.
        length: u32,
        /// What is taken.
        limit: u32,
    },
    /// A message has not the length that its kind has.
    #[error("a message of kind {kind} cannot have {length} bytes")]
    WrongLength {
        /// The message's number.
        kind: u8,
        /// What it says of its length, in bytes, the number included.
        length: u32,
    },
}

/// How long messages of variable length may be, in bytes of payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A bitfield.
    pub bitfield: u32,
    /// The data of a piece message.
    pub block: u32,
    /// Messages of extensions, hashes, and messages of unknown kind.
    pub other: u32,
}

impl Limits {
    /// The limits for a torrent of so many pieces, for a receiver that asks for nothing (`block` 0) or for blocks.
    #[must_use]
    pub fn new(pieces: u32, block: u32) -> Self {
        Self { bitfield: pieces.div_ceil(8), block, other: 1024 * 1024 }
    }
}

const BLOCK_LEN: u32 = 12;
const HASH_LEN: u32 = 48;

/// Takes the next message off the front of what was received; `None` when it is not whole yet. Payloads are not copied.
///
/// # Errors
/// As soon as the length and kind show that the message is not acceptable, before it is whole.
pub fn decode(inbox: &mut BytesMut, limits: &Limits) -> Result<Option<Message>, PeerWireError> {
    let Some(length) = inbox.get(..4).and_then(|head| head.try_into().ok()).map(u32::from_be_bytes)
    else {
        return Ok(None);
    };
    if length == 0 {
        inbox.advance(4);
        return Ok(Some(Message::KeepAlive));
    }
    let Some(kind) = inbox.get(4).copied() else { return Ok(None) };
    check_length(kind, length, limits)?;
    let whole = (length as usize).saturating_add(4);
    if inbox.len() < whole {
        return Ok(None);
    }
    inbox.advance(5);
    let rest = length as usize - 1;
    Ok(Some(match kind {
        0 => Message::Choke,
        1 => Message::Unchoke,
        2 => Message::Interested,
        3 => Message::NotInterested,
        4 => Message::Have(inbox.get_u32()),
        5 => Message::Bitfield(inbox.split_to(rest).freeze()),
        6 => Message::Request(take_block(inbox)),
        7 => {
            let (piece, begin) = (inbox.get_u32(), inbox.get_u32());
            Message::Piece { piece, begin, data: inbox.split_to(rest.saturating_sub(8)).freeze() }
        }
        8 => Message::Cancel(take_block(inbox)),
        9 => Message::Port(inbox.get_u16()),
        13 => Message::Suggest(inbox.get_u32()),
        14 => Message::HaveAll,
        15 => Message::HaveNone,
        16 => Message::Reject(take_block(inbox)),
        17 => Message::AllowedFast(inbox.get_u32()),
        20 => {
            let id = inbox.get_u8();
            Message::Extended { id, payload: inbox.split_to(rest.saturating_sub(1)).freeze() }
        }
        21 => Message::HashRequest(take_hash_range(inbox)),
        22 => {
            let range = take_hash_range(inbox);
            let hashes = inbox.split_to(rest.saturating_sub(HASH_LEN as usize)).freeze();
            Message::Hashes { range, hashes }
        }
        23 => Message::HashReject(take_hash_range(inbox)),
        _ => {
            inbox.advance(rest);
            Message::Unknown(kind)
        }
    }))
}

/// After this check, a message that is whole can be taken apart without further ones.
fn check_length(kind: u8, length: u32, limits: &Limits) -> Result<(), PeerWireError> {
    let exactly = |payload: u32| (payload, payload);
    let (least, most) = match kind {
        0..=3 | 14 | 15 => exactly(0),
        4 | 13 | 17 => exactly(4),
        5 => (0, limits.bitfield),
        6 | 8 | 16 => exactly(BLOCK_LEN),
        7 => (8, limits.block.saturating_add(8)),
        9 => exactly(2),
        20 => (1, limits.other),
        21 | 23 => exactly(HASH_LEN),
        22 => (HASH_LEN, limits.other),
        _ => (0, limits.other),
    };
    let payload = length.saturating_sub(1);
    if payload < least || (least == most && payload > most) {
        Err(PeerWireError::WrongLength { kind, length })
    } else if payload > most {
        Err(PeerWireError::TooLong { kind, length, limit: most.saturating_add(1) })
    } else {
        Ok(())
    }
}

fn take_block(inbox: &mut BytesMut) -> Block {
    Block { piece: inbox.get_u32(), begin: inbox.get_u32(), length: inbox.get_u32() }
}

fn take_hash_range(inbox: &mut BytesMut) -> HashRange {
    let mut pieces_root = [0; 32];
    inbox.copy_to_slice(&mut pieces_root);
    HashRange {
        pieces_root,
        base_layer: inbox.get_u32(),
        index: inbox.get_u32(),
        length: inbox.get_u32(),
        proof_layers: inbox.get_u32(),
    }
}

/// What comes before the data of a piece message.
#[must_use]
pub fn piece_header(piece: u32, begin: u32, length: u32) -> [u8; 13] {
    let mut out = [0; 13];
    out[..4].copy_from_slice(&length.saturating_add(9).to_be_bytes());
    out[4] = 7;
    out[5..9].copy_from_slice(&piece.to_be_bytes());
    out[9..].copy_from_slice(&begin.to_be_bytes());
    out
}

impl Message {
    /// Appends the message as bytes. [`Message::Unknown`] has none.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::KeepAlive => out.put_u32(0),
            Self::Choke => put(out, 0, &[]),
            Self::Unchoke => put(out, 1, &[]),
            Self::Interested => put(out, 2, &[]),
            Self::NotInterested => put(out, 3, &[]),
            Self::Have(piece) => put(out, 4, &piece.to_be_bytes()),
            Self::Bitfield(bits) => put(out, 5, bits),
            Self::Request(block) => put_block(out, 6, block),
            Self::Piece { piece, begin, data } => {
                out.put_slice(&piece_header(*piece, *begin, short(data.len())));
                out.put_slice(data);
            }
            Self::Cancel(block) => put_block(out, 8, block),
            Self::Port(port) => put(out, 9, &port.to_be_bytes()),
            Self::Suggest(piece) => put(out, 13, &piece.to_be_bytes()),
            Self::HaveAll => put(out, 14, &[]),
            Self::HaveNone => put(out, 15, &[]),
            Self::Reject(block) => put_block(out, 16, block),
            Self::AllowedFast(piece) => put(out, 17, &piece.to_be_bytes()),
            Self::Extended { id, payload } => {
                out.put_u32(short(payload.len()).saturating_add(2));
                out.put_slice(&[20, *id]);
                out.put_slice(payload);
            }
            Self::HashRequest(range) => put_hash_range(out, 21, range, &[]),
            Self::Hashes { range, hashes } => put_hash_range(out, 22, range, hashes),
            Self::HashReject(range) => put_hash_range(out, 23, range, &[]),
            Self::Unknown(_) => {}
        }
    }
}

fn put(out: &mut BytesMut, kind: u8, payload: &[u8]) {
    out.put_u32(short(payload.len()).saturating_add(1));
    out.put_u8(kind);
    out.put_slice(payload);
}

fn put_block(out: &mut BytesMut, kind: u8, block: &Block) {
    out.put_u32(BLOCK_LEN + 1);
    out.put_u8(kind);
    out.put_u32(block.piece);
    out.put_u32(block.begin);
    out.put_u32(block.length);
}

fn put_hash_range(out: &mut BytesMut, kind: u8, range: &HashRange, hashes: &[u8]) {
    out.put_u32(short(hashes.len()).saturating_add(HASH_LEN + 1));
    out.put_u8(kind);
    out.put_slice(&range.pieces_root);
    out.put_u32(range.base_layer);
    out.put_u32(range.index);
    out.put_u32(range.length);
    out.put_u32(range.proof_layers);
    out.put_slice(hashes);
}

fn short(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
