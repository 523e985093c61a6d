//! Messages between client and server over UDP: `E3`, an opcode, and the rest of the datagram.

mod answer;
mod request;

pub use self::{
    answer::{
        Description, ServerDatagram, StatusAnswer, UdpObfuscation, decode_from_server, udp_flags,
    },
    request::{ClientDatagram, MAX_WANTED, SearchOptions, decode_from_client},
};

use super::{Cursor, Protocol, WireError};

/// Bytes of a datagram that is answered with: what every path takes in one piece.
pub const MAX_DATAGRAM: usize = 1400;

/// The opcode, and the place behind it.
fn open(datagram: &[u8]) -> Result<(u8, Cursor<'_>), WireError> {
    let mut from = Cursor::new(datagram);
    match from.u8("the protocol")? {
        0xE3 => Ok((from.u8("the opcode")?, from)),
        other => Err(WireError::Protocol(other)),
    }
}

fn begin(opcode: u8) -> Vec<u8> {
    vec![Protocol::EDonkey.byte(), opcode]
}

fn unknown(opcode: u8) -> WireError {
    WireError::Opcode { protocol: Protocol::EDonkey.byte(), opcode }
}

#[cfg(test)]
mod tests;
