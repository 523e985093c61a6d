//! Protocol obfuscation: the handshake and the RC4 stream.
