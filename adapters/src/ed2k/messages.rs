//! Any message between client and server of eD2k, as captured ⇄ unified; pure.

mod fields;
mod kind;
mod losses;
mod native;

use bytes::BytesMut;
use p2pbridge_proto::Body;

use self::{kind::Kind, native::Native};
use super::wire::{
    Packet, WireError,
    obfuscation::is_message,
    packet::MAX_PAYLOAD,
    server::{decode_from_client, decode_from_server},
    udp,
};
use crate::message::{
    DecodeError, Field, Hint, Loss, Messages,
    dialect::{self, Dialect, Kind as _},
};

/// eD2k's messages between client and server.
pub static MESSAGES: Messages = dialect::messages::<Message>(&kind::WORDS);

/// A native message, and what it says besides.
struct Message {
    kind: Kind,
    native: Native,
    packed: bool,
}

impl Dialect for Message {
    type Kind = Kind;
    const LOSSES: &'static [Loss] = losses::LOSSES;

    fn read(bytes: &[u8], wanted: Option<Kind>, _hint: &Hint) -> Result<Self, DecodeError> {
        let failed = |error: WireError| DecodeError(error.to_string());
        let (native, packed) = match wanted {
            Some(kind) if kind.is_udp() => (read_datagram(bytes).map_err(failed)?, false),
            Some(_) => {
                let packet = framed(bytes).map_err(failed)?;
                let packet = packet.ok_or_else(|| {
                    let length = bytes.len();
                    DecodeError(format!("{length} bytes that are not one message in its frame"))
                })?;
                (read_packet(&packet).map_err(failed)?, packet.packed)
            }
            None => match framed(bytes) {
                Ok(Some(packet)) => (read_packet(&packet).map_err(failed)?, packet.packed),
                _ if Kind::may_be_udp(bytes) => (read_datagram(bytes).map_err(failed)?, false),
                Err(error) if bytes.first().is_some_and(|first| is_message(*first)) => {
                    return Err(failed(error));
                }
                _ => {
                    let length = bytes.len();
                    return Err(DecodeError(format!(
                        "{length} bytes that are no message between client and server of eD2k"
                    )));
                }
            },
        };
        let kind = Kind::of(&native);
        match wanted {
            Some(wanted) if wanted != kind => {
                Err(DecodeError(format!("it is a {}, not a {}", kind.title(), wanted.title())))
            }
            _ => Ok(Self { kind, native, packed }),
        }
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn fields(&self) -> Vec<Field> {
        let mut fields = fields::fields(&self.native);
        if self.packed {
            fields.push(Field::new("compressed", "yes"));
        }
        fields
    }

    fn unified(self, hint: &Hint) -> Result<Body, &'static str> {
        native::unified(&self.native, hint)
    }

    fn write(kind: Kind, body: &Body, hint: &Hint) -> Result<Vec<u8>, DecodeError> {
        Ok(native::native(kind, body, hint)?.encode())
    }
}

/// One whole TCP message, and nothing behind it.
fn framed(bytes: &[u8]) -> Result<Option<Packet>, WireError> {
    let mut from = BytesMut::from(bytes);
    let packet = Packet::take(&mut from, MAX_PAYLOAD)?;
    Ok(packet.filter(|_| from.is_empty()))
}

fn read_packet(packet: &Packet) -> Result<Native, WireError> {
    match decode_from_client(packet) {
        Err(WireError::Opcode { .. }) => decode_from_server(packet).map(Native::TcpServer),
        message => message.map(Native::TcpClient),
    }
}

fn read_datagram(bytes: &[u8]) -> Result<Native, WireError> {
    match udp::decode_from_client(bytes) {
        Err(WireError::Opcode { .. }) => udp::decode_from_server(bytes).map(Native::UdpServer),
        message => message.map(Native::UdpClient),
    }
}

#[cfg(test)]
mod tests;
