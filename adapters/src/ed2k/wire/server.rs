//! Messages between client and server over TCP.

mod client;
mod record;
mod reply;

pub use self::{
    client::{ClientMessage, Login, MAX_32_BIT_LENGTH, Wanted, decode_from_client},
    record::{FileRecord, Holder, file_tag},
    reply::{
        CallbackRequested, Crypt, FoundSources, IdChange, Ident, SearchAnswer, ServerMessage,
        Source, decode_from_server, ident_tag,
    },
};

pub(super) use self::reply::{put_servers, read_servers};

use std::net::{Ipv4Addr, SocketAddrV4};

use super::{Cursor, WireError};

/// What a client can, in the tag [`login_tag::FLAGS`] of its login (`SRVCAP_*`).
pub mod client_flags {
    /// It reads compressed messages.
    pub const ZLIB: u32 = 0x0001;
    /// It takes another port of the server for later.
    pub const AUX_PORT: u32 = 0x0004;
    /// It reads tags of the new form.
    pub const NEW_TAGS: u32 = 0x0008;
    /// Its texts are UTF-8.
    pub const UNICODE: u32 = 0x0010;
    /// It has files over 4 GiB.
    pub const LARGE_FILES: u32 = 0x0100;
    /// It can obfuscate connections with clients.
    pub const CRYPT_SUPPORTED: u32 = 0x0200;
    /// It asks for obfuscated connections.
    pub const CRYPT_REQUESTED: u32 = 0x0400;
    /// It takes obfuscated connections only.
    pub const CRYPT_REQUIRED: u32 = 0x0800;
}

/// What a server can, in its [`IdChange`] (`SRV_TCPFLG_*`).
pub mod server_flags {
    /// It reads compressed messages, and the marks of complete and incomplete files.
    pub const ZLIB: u32 = 0x0001;
    /// It reads tags of the new form.
    pub const NEW_TAGS: u32 = 0x0008;
    /// Its texts are UTF-8.
    pub const UNICODE: u32 = 0x0010;
    /// It searches for files like a given one.
    pub const RELATED_SEARCH: u32 = 0x0040;
    /// It reads and writes a file's type as a number.
    pub const TYPE_AS_NUMBER: u32 = 0x0080;
    /// It knows files over 4 GiB.
    pub const LARGE_FILES: u32 = 0x0100;
    /// It tells how sources obfuscate, and takes obfuscated connections where it names a port for them.
    pub const OBFUSCATION: u32 = 0x0400;
}

/// Names of the tags of a login.
pub mod login_tag {
    /// The client's nick (`CT_NAME`).
    pub const NICK: u8 = 0x01;
    /// The version of eDonkey that it speaks (`CT_VERSION`), 3C.
    pub const VERSION: u8 = 0x11;
    /// [`super::client_flags`] (`CT_SERVER_FLAGS`).
    pub const FLAGS: u8 = 0x20;
    /// The client's program and version (`CT_EMULE_VERSION`).
    pub const EMULE_VERSION: u8 = 0xFB;
    /// The name of the client's program (`CT_MOD_VERSION`).
    pub const PROGRAM: u8 = 0x55;
}

/// An IPv4 address as the protocol has it: its octets in order.
pub(super) fn address(from: &mut Cursor<'_>, what: &'static str) -> Result<Ipv4Addr, WireError> {
    Ok(Ipv4Addr::from(from.u32(what)?.to_le_bytes()))
}

/// An IPv4 address and a port.
pub(super) fn endpoint(
    from: &mut Cursor<'_>,
    what: &'static str,
) -> Result<SocketAddrV4, WireError> {
    Ok(SocketAddrV4::new(address(from, what)?, from.u16(what)?))
}

pub(super) fn put_endpoint(out: &mut Vec<u8>, endpoint: SocketAddrV4) {
    out.extend_from_slice(&endpoint.ip().octets());
    out.extend_from_slice(&endpoint.port().to_le_bytes());
}

/// How many entries there are, no more than the bytes that are left have room for.
pub(super) fn count(
    from: &Cursor<'_>,
    what: &'static str,
    said: u32,
    each: usize,
) -> Result<usize, WireError> {
    let room = from.left() / each.max(1);
    usize::try_from(said).ok().filter(|count| *count <= room).ok_or_else(|| {
        from.bad(what, 4, format!("{said} of them; the bytes behind it have room for {room}"))
    })
}

#[cfg(test)]
mod tests;
