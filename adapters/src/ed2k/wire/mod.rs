//! Bytes ⇄ native messages of eD2k. No tokio, no clock, no socket; limits before allocation.

pub mod agreement;
pub mod cursor;
pub mod hello;
pub mod id;
pub mod obfuscation;
pub mod packet;
pub mod search;
pub mod server;
pub mod tags;
pub mod transfer;
pub mod udp;

pub use self::{
    cursor::{Cursor, WireError},
    id::ClientId,
    packet::{Packet, Protocol},
    tags::{Tag, TagName, TagValue},
};

/// Bytes of a part: what has an MD4 of its own.
pub const PART: u64 = 9_728_000;
/// Bytes of a block: what a client asks for at once, and what has a hash of its own in an AICH tree.
pub const BLOCK: u64 = 184_320;

/// A 16-byte hash: of a file, a part, or a user.
pub type Hash = [u8; 16];
