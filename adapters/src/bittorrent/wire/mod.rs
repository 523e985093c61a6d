//! Bytes ⇄ native messages: pure, without runtime, clock or socket.

pub mod bencode;
