//! Bytes ⇄ native messages: pure, without runtime, clock or socket.

pub mod bencode;
pub mod compact;
pub mod extension;
pub mod http;
pub mod peer;
pub mod udp;
