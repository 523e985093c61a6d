//! The frame of every TCP message: protocol, length, opcode, payload. The payload may be compressed.

use std::io::{Read as _, Write as _};

use bytes::{Buf as _, Bytes, BytesMut};
use flate2::{Compression, read::ZlibDecoder, write::ZlibEncoder};

use super::WireError;

/// Bytes before the payload.
pub const HEADER: usize = 6;
/// The most bytes of a payload, on the wire and inflated.
pub const MAX_PAYLOAD: usize = 2 << 20;

/// The first byte of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `E3`: eDonkey.
    EDonkey,
    /// `C5`: eMule's extensions.
    EMule,
}

impl Protocol {
    /// The byte.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::EDonkey => 0xE3,
            Self::EMule => 0xC5,
        }
    }
}

/// The first byte of a message of eDonkey whose payload is compressed (`D4`).
pub const PACKED: u8 = 0xD4;

/// One message in its frame, its payload inflated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Whose opcode it is. A compressed message (`D4`) is one of eDonkey here, or of eMule where only that has the
    /// opcode: who reads it decides by the opcode.
    pub protocol: Protocol,
    /// Whether it came compressed (`D4`).
    pub packed: bool,
    /// What it is.
    pub opcode: u8,
    /// What it says.
    pub payload: Bytes,
}

impl Packet {
    /// A message.
    pub fn new(protocol: Protocol, opcode: u8, payload: impl Into<Bytes>) -> Self {
        Self { protocol, packed: false, opcode, payload: payload.into() }
    }

    /// Takes the first whole message out of what has come; nothing while it is not whole. `most` bounds its payload,
    /// on the wire and inflated.
    ///
    /// # Errors
    /// When what has come is no message: the connection is of no use any more.
    pub fn take(from: &mut BytesMut, most: usize) -> Result<Option<Self>, WireError> {
        let most = most.min(MAX_PAYLOAD);
        let Some(&first) = from.first() else { return Ok(None) };
        let (protocol, packed) = match first {
            0xE3 => (Protocol::EDonkey, false),
            0xC5 => (Protocol::EMule, false),
            PACKED => (Protocol::EDonkey, true),
            other => return Err(WireError::Protocol(other)),
        };
        let Some(length) = from.get(1..5).and_then(|bytes| bytes.first_chunk::<4>()) else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length);
        let too_long = WireError::TooLong { length: length.into(), most: most as u64 };
        let whole = usize::try_from(length).map_err(|_| too_long.clone())?;
        let Some(payload) = whole.checked_sub(1) else {
            return Err(WireError::Bad {
                what: "the length",
                at: 1,
                problem: "it is 0".to_owned(),
            });
        };
        if payload > most {
            return Err(too_long);
        }
        if from.len() < HEADER + payload {
            from.reserve(HEADER + payload - from.len());
            return Ok(None);
        }
        let mut frame = from.split_to(HEADER + payload);
        let opcode = frame.get(5).copied().unwrap_or_default();
        frame.advance(HEADER);
        let frame = frame.freeze();
        let payload = if packed { inflate(&frame, most)? } else { frame };
        Ok(Some(Self { protocol, packed, opcode, payload }))
    }

    /// Writes the message, uncompressed.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_header(out, self.protocol.byte(), self.opcode, self.payload.len());
        out.extend_from_slice(&self.payload);
    }

    /// Writes the message compressed, where that makes it shorter.
    pub fn put_packed(&self, out: &mut Vec<u8>) {
        match deflate(&self.payload) {
            Some(short) if short.len() < self.payload.len() => {
                put_header(out, PACKED, self.opcode, short.len());
                out.extend_from_slice(&short);
            }
            _ => self.put(out),
        }
    }

    /// The message as bytes, uncompressed.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + self.payload.len());
        self.put(&mut out);
        out
    }
}

/// Writes the six bytes before a payload.
pub fn put_header(out: &mut Vec<u8>, protocol: u8, opcode: u8, payload: usize) {
    let length = u32::try_from(payload + 1).unwrap_or(u32::MAX);
    out.push(protocol);
    out.extend_from_slice(&length.to_le_bytes());
    out.push(opcode);
}

/// Inflates a zlib stream to at most so many bytes.
///
/// # Errors
/// When it is damaged, cut, or longer than that.
pub fn inflate(bytes: &[u8], most: usize) -> Result<Bytes, WireError> {
    let mut out = Vec::new();
    let limit = most as u64 + 1;
    ZlibDecoder::new(bytes)
        .take(limit)
        .read_to_end(&mut out)
        .map_err(|_| WireError::Compressed("it is damaged or cut"))?;
    if out.len() > most {
        return Err(WireError::Compressed("it inflates to more than a message may have"));
    }
    Ok(out.into())
}

/// Bytes as a zlib stream.
#[must_use]
pub fn deflate(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn taken(bytes: &[u8], most: usize) -> Result<Option<Packet>, WireError> {
        Packet::take(&mut BytesMut::from(bytes), most)
    }

    #[test]
    fn a_bomb_and_a_long_message_are_refused_before_they_cost_anything() {
        let zeros = deflate(&vec![0; 3 << 20]).unwrap();
        let mut bomb = Vec::new();
        put_header(&mut bomb, PACKED, 1, zeros.len());
        bomb.extend_from_slice(&zeros);
        assert!(matches!(taken(&bomb, 1 << 20), Err(WireError::Compressed(_))));
        assert!(matches!(
            taken(&[0xE3, 0xFF, 0xFF, 0xFF, 0x7F, 1], 1 << 20),
            Err(WireError::TooLong { length: 0x7FFF_FFFF, .. })
        ));
        assert!(matches!(taken(&[0xE3, 0, 0, 0, 0, 1], 9), Err(WireError::Bad { .. })));
        assert_eq!(taken(b"GET / HTTP/1.1", 9), Err(WireError::Protocol(b'G')));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_a_cut_message_waits(
            opcode: u8, payload in prop::collection::vec(0u8..4, 0..2000), packed: bool, mule: bool,
        ) {
            let protocol = if mule && !packed { Protocol::EMule } else { Protocol::EDonkey };
            let packet = Packet::new(protocol, opcode, payload);
            let mut bytes = Vec::new();
            if packed { packet.put_packed(&mut bytes) } else { packet.put(&mut bytes) }
            let read = taken(&bytes, MAX_PAYLOAD).unwrap().unwrap();
            prop_assert_eq!((read.protocol, read.opcode, &read.payload), (protocol, opcode, &packet.payload));
            for cut in 0..bytes.len().min(40) {
                prop_assert_eq!(taken(&bytes[..cut], MAX_PAYLOAD), Ok(None));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = taken(&bytes, 100);
        }
    }
}
