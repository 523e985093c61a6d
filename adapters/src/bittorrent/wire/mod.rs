//! Bytes ⇄ native messages: pure, without runtime, clock or socket.

pub mod bencode;
pub mod compact;
pub mod http;
pub mod udp;
