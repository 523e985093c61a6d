//! Messages inside the extension protocol (BEP 10): its handshake, and the exchange of metadata (BEP 9).

use std::net::IpAddr;

use bytes::Bytes;
use thiserror::Error;

use super::bencode::{BencodeError, Dict, Document, Limits, Value, encode_dict};

/// Bytes of a piece of metadata; the last may be shorter (BEP 9).
pub const METADATA_PIECE: usize = 16 * 1024;

/// What a peer can do beyond the protocol, as far as it is known here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExtendedHandshake {
    /// The number under which it takes metadata messages (BEP 9).
    pub ut_metadata: Option<u8>,
    /// Bytes of the info dictionary, if it has it.
    pub metadata_size: Option<u32>,
    /// Requests that it keeps; more are dropped.
    pub reqq: Option<u32>,
    /// Its program.
    pub version: Option<String>,
    /// The TCP port on which it listens.
    pub port: Option<u16>,
    /// The receiver's address, as it sees it.
    pub yourip: Option<IpAddr>,
}

/// A message about metadata (BEP 9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataMessage {
    /// Asks for a piece.
    Request(u32),
    /// Gives a piece.
    Data {
        /// Which.
        piece: u32,
        /// Bytes of the whole info dictionary.
        total_size: u32,
        /// The bytes.
        data: Bytes,
    },
    /// Does not give a piece.
    Reject(u32),
    /// A message of a kind that is not known here.
    Unknown(u64),
}

/// Why the payload of an extended message cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ExtensionError {
    /// It is no bencode.
    #[error(transparent)]
    Bencode(#[from] BencodeError),
    /// It is no dictionary, or a field is missing or of another type.
    #[error("`{0}` is missing, or not what it should be")]
    Field(&'static str),
}

impl ExtendedHandshake {
    /// Reads the payload of an extended message with number 0. Fields with senseless values count as missing.
    ///
    /// # Errors
    /// When it is no dictionary.
    pub fn decode(payload: &[u8]) -> Result<Self, ExtensionError> {
        let document = Document::parse_prefix(payload, Limits::MESSAGE)?;
        let dict = document.value.dict().ok_or(ExtensionError::Field("handshake"))?;
        let extensions = dict.get(b"m").and_then(Value::dict);
        let yourip = dict.get(b"yourip").and_then(Value::bytes).and_then(|ip| {
            let v4 = <[u8; 4]>::try_from(ip).map(IpAddr::from).ok();
            v4.or_else(|| <[u8; 16]>::try_from(ip).map(IpAddr::from).ok())
        });
        let version = dict.get(b"v").and_then(Value::bytes);
        Ok(Self {
            ut_metadata: extensions
                .and_then(|m| number(m, b"ut_metadata"))
                .filter(|number| *number != 0),
            metadata_size: number(dict, b"metadata_size"),
            reqq: number(dict, b"reqq"),
            version: version.map(|v| String::from_utf8_lossy(v).chars().take(100).collect()),
            port: number(dict, b"p").filter(|port| *port != 0),
            yourip,
        })
    }

    /// The payload of an extended message with number 0.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let payload = encode_dict(|dict| {
            dict.entry(b"m", |out| {
                out.dict(|m| {
                    if let Some(number) = self.ut_metadata {
                        m.uint(b"ut_metadata", number.into());
                    }
                });
            });
            if let Some(size) = self.metadata_size {
                dict.uint(b"metadata_size", size.into());
            }
            if let Some(reqq) = self.reqq {
                dict.uint(b"reqq", reqq.into());
            }
            if let Some(version) = &self.version {
                dict.bytes(b"v", version.as_bytes());
            }
            if let Some(port) = self.port {
                dict.uint(b"p", port.into());
            }
            match self.yourip {
                Some(IpAddr::V4(ip)) => dict.bytes(b"yourip", &ip.octets()),
                Some(IpAddr::V6(ip)) => dict.bytes(b"yourip", &ip.octets()),
                None => {}
            }
        });
        payload.into()
    }
}

impl MetadataMessage {
    /// Reads the payload of a metadata message; data is not copied.
    ///
    /// # Errors
    /// When it does not begin with a dictionary that has what its kind needs.
    pub fn decode(payload: &Bytes) -> Result<Self, ExtensionError> {
        let document = Document::parse_prefix(payload, Limits::MESSAGE)?;
        let dict = document.value.dict().ok_or(ExtensionError::Field("message"))?;
        let kind = dict.get(b"msg_type").and_then(Value::uint);
        let kind = kind.ok_or(ExtensionError::Field("msg_type"))?;
        let piece = number(dict, b"piece").ok_or(ExtensionError::Field("piece"));
        Ok(match kind {
            0 => Self::Request(piece?),
            1 => {
                let total_size = number(dict, b"total_size");
                let total_size = total_size.ok_or(ExtensionError::Field("total_size"))?;
                let data = payload.slice(document.length.min(payload.len())..);
                Self::Data { piece: piece?, total_size, data }
            }
            2 => Self::Reject(piece?),
            other => Self::Unknown(other),
        })
    }

    /// The payload of a metadata message.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let (kind, piece, total) = match self {
            Self::Request(piece) => (0, *piece, None),
            Self::Data { piece, total_size, .. } => (1, *piece, Some(*total_size)),
            Self::Reject(piece) => (2, *piece, None),
            Self::Unknown(kind) => (*kind, 0, None),
        };
        let mut payload = encode_dict(|dict| {
            dict.uint(b"msg_type", kind);
            dict.uint(b"piece", piece.into());
            if let Some(total) = total {
                dict.uint(b"total_size", total.into());
            }
        });
        if let Self::Data { data, .. } = self {
            payload.extend_from_slice(data);
        }
        payload.into()
    }

    /// The answer to a request, from the whole info dictionary: the piece, or a refusal.
    #[must_use]
    pub fn answer(info: &Bytes, piece: u32) -> Self {
        let start = (piece as usize).saturating_mul(METADATA_PIECE);
        match u32::try_from(info.len()) {
            Ok(total_size) if start < info.len() => {
                let end = start.saturating_add(METADATA_PIECE).min(info.len());
                Self::Data { piece, total_size, data: info.slice(start..end) }
            }
            _ => Self::Reject(piece),
        }
    }
}

fn number<T: TryFrom<u64>>(dict: &Dict<'_>, key: &[u8]) -> Option<T> {
    dict.get(key).and_then(Value::uint).and_then(|value| T::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn handshakes_survive(
            ut_metadata in prop::option::of(1u8..), metadata_size in any::<Option<u32>>(),
            reqq in any::<Option<u32>>(), version in prop::option::of("[ -~]{0,90}"),
            port in prop::option::of(1u16..), yourip in any::<Option<IpAddr>>(),
        ) {
            let handshake = ExtendedHandshake { ut_metadata, metadata_size, reqq, version, port, yourip };
            prop_assert_eq!(ExtendedHandshake::decode(&handshake.encode()), Ok(handshake));
        }

        #[test]
        fn pieces_of_metadata_make_the_whole(info in prop::collection::vec(any::<u8>(), 1..50_000)) {
            let info = Bytes::from(info);
            let mut whole = Vec::new();
            for piece in 0..4 {
                match MetadataMessage::decode(&MetadataMessage::answer(&info, piece).encode()) {
                    Ok(MetadataMessage::Data { piece: given, total_size, data }) => {
                        prop_assert_eq!((given, total_size as usize), (piece, info.len()));
                        whole.extend_from_slice(&data);
                    }
                    other => prop_assert_eq!(other, Ok(MetadataMessage::Reject(piece))),
                }
            }
            prop_assert_eq!(whole, info);
        }

        #[test]
        fn random_bytes_do_no_harm(noise in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = ExtendedHandshake::decode(&noise);
            let _ = MetadataMessage::decode(&noise.into());
        }
    }

    #[test]
    fn senseless_fields_count_as_missing() {
        let payload = b"d1:md11:ut_metadatai300ee13:metadata_sizei-1e1:pi0e4:reqq1:x6:yourip3:abce";
        assert_eq!(ExtendedHandshake::decode(payload), Ok(ExtendedHandshake::default()));
        assert_eq!(ExtendedHandshake::decode(b"le"), Err(ExtensionError::Field("handshake")));
        let request = Bytes::from_static(b"d8:msg_typei0ee");
        assert_eq!(MetadataMessage::decode(&request), Err(ExtensionError::Field("piece")));
    }
}
