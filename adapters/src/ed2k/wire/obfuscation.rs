//! Protocol obfuscation: a TCP stream under RC4, with keys of which only who knows a user hash has both halves. It hides
//! what is spoken from simple filters, and protects nothing. aMule's `EncryptedStreamSocket.cpp` says how it goes.

use md5::{Digest as _, Md5};
use thiserror::Error;

use super::{Hash, Protocol, packet::PACKED};

/// What shows that both sides have the same keys (`MAGICVALUE_SYNC`).
pub const SYNC: u32 = 0x835E_6FC4;
/// In the key of what the side sends that began (`MAGICVALUE_REQUESTER`).
pub const REQUESTER: u8 = 34;
/// In the key of what the other side sends (`MAGICVALUE_SERVER`).
pub const RESPONDER: u8 = 203;
/// The one method there is: obfuscation (`ENM_OBFUSCATION`).
const METHOD: u8 = 0;
/// Bytes of a key stream that are thrown away before its first use.
const DISCARDED: usize = 1024;

/// Bytes after the first five of who begins, before the padding: `SYNC`, methods, the one that is liked, length of padding.
pub const REQUEST_HEAD: usize = 7;
/// Bytes of the answer before the padding: `SYNC`, the method, length of padding.
pub const ANSWER_HEAD: usize = 6;

/// Why no obfuscated stream comes about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ObfuscationError {
    /// The bytes are not of this protocol, or of keys for another user hash.
    #[error("neither a message nor obfuscated with this client's keys")]
    OtherKeys,
    /// A method other than obfuscation was chosen.
    #[error("method {0} of encryption is not known here")]
    Method(u8),
}

/// The key stream of one direction: RC4.
pub struct Cipher {
    state: [u8; 256],
    i: u8,
    j: u8,
}

impl Cipher {
    /// The stream of a key that is the MD5 of these bytes.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        let mut cipher = Self::of_key(&Md5::digest(secret).into());
        cipher.apply(&mut [0; DISCARDED]);
        cipher
    }

    fn of_key(key: &[u8; 16]) -> Self {
        let mut state = std::array::from_fn(|at| u8::try_from(at).unwrap_or(0));
        let mut j = 0_u8;
        for (at, part) in (0..256).zip(key.iter().cycle()) {
            let value: u8 = state[at];
            j = j.wrapping_add(value).wrapping_add(*part);
            state.swap(at, j.into());
        }
        Self { state, i: 0, j: 0 }
    }

    /// Hides bytes, or shows them. Each byte of a stream must pass once, in order.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        let Self { state, i, j } = self;
        for byte in bytes {
            *i = i.wrapping_add(1);
            let one = state[usize::from(*i)];
            *j = j.wrapping_add(one);
            let other = state[usize::from(*j)];
            state[usize::from(*i)] = other;
            state[usize::from(*j)] = one;
            *byte ^= state[usize::from(one.wrapping_add(other))];
        }
    }
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cipher")
    }
}

/// Both directions of a stream.
#[derive(Debug)]
pub struct Ciphers {
    /// For what is sent.
    pub send: Cipher,
    /// For what is received.
    pub receive: Cipher,
}

impl Ciphers {
    /// The keys of who begins to speak to the client with this user hash.
    #[must_use]
    pub fn of_requester(theirs: &Hash, random: [u8; 4]) -> Self {
        Self { send: key(theirs, REQUESTER, random), receive: key(theirs, RESPONDER, random) }
    }

    /// The keys of the client with this user hash, to whom somebody has begun to speak.
    #[must_use]
    pub fn of_responder(ours: &Hash, random: [u8; 4]) -> Self {
        Self { send: key(ours, RESPONDER, random), receive: key(ours, REQUESTER, random) }
    }

    /// What who begins sends first: a byte that begins no message, the random part of the keys, and, hidden, the request.
    #[must_use]
    pub fn request(&mut self, marker: u8, random: [u8; 4], padding: &[u8]) -> Vec<u8> {
        let marker = if is_message(marker) { marker ^ 1 } else { marker };
        let padding = padding.get(..padding.len().min(255)).unwrap_or_default();
        let mut out = vec![marker];
        out.extend_from_slice(&random);
        out.extend_from_slice(&SYNC.to_le_bytes());
        out.extend_from_slice(&[METHOD, METHOD, u8::try_from(padding.len()).unwrap_or(0)]);
        out.extend_from_slice(padding);
        self.send.apply(out.get_mut(5..).unwrap_or_default());
        out
    }

    /// Reads the request behind its first five bytes; gives how many bytes of padding follow, which must pass
    /// `receive` too.
    ///
    /// # Errors
    /// When it is no request for these keys.
    pub fn read_request(
        &mut self,
        mut head: [u8; REQUEST_HEAD],
    ) -> Result<usize, ObfuscationError> {
        self.receive.apply(&mut head);
        let [a, b, c, d, _, _, padding] = head;
        if u32::from_le_bytes([a, b, c, d]) != SYNC {
            return Err(ObfuscationError::OtherKeys);
        }
        Ok(padding.into())
    }

    /// The answer to a request.
    #[must_use]
    pub fn answer(&mut self, padding: &[u8]) -> Vec<u8> {
        let padding = padding.get(..padding.len().min(255)).unwrap_or_default();
        let mut out = SYNC.to_le_bytes().to_vec();
        out.extend_from_slice(&[METHOD, u8::try_from(padding.len()).unwrap_or(0)]);
        out.extend_from_slice(padding);
        self.send.apply(&mut out);
        out
    }

    /// Reads the answer; gives how many bytes of padding follow, which must pass `receive` too.
    ///
    /// # Errors
    /// When it is no answer with these keys, or chooses an unknown method.
    pub fn read_answer(&mut self, mut head: [u8; ANSWER_HEAD]) -> Result<usize, ObfuscationError> {
        self.receive.apply(&mut head);
        let [a, b, c, d, method, padding] = head;
        if u32::from_le_bytes([a, b, c, d]) != SYNC {
            return Err(ObfuscationError::OtherKeys);
        }
        if method != METHOD {
            return Err(ObfuscationError::Method(method));
        }
        Ok(padding.into())
    }
}

fn key(hash: &Hash, side: u8, random: [u8; 4]) -> Cipher {
    let mut secret = [0; 21];
    secret[..16].copy_from_slice(hash);
    secret[16] = side;
    secret[17..].copy_from_slice(&random);
    Cipher::new(&secret)
}

/// Whether a connection that begins with this byte is a plain one.
#[must_use]
pub fn is_message(first: u8) -> bool {
    [Protocol::EDonkey.byte(), Protocol::EMule.byte(), PACKED].contains(&first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_stream_is_that_of_rfc_6229() {
        let mut cipher = Cipher::of_key(&std::array::from_fn(|at| at as u8 + 1));
        let mut bytes = [0; 1040];
        cipher.apply(&mut bytes);
        assert_eq!(bytes[..8], [0x9A, 0xC7, 0xCC, 0x9A, 0x60, 0x9D, 0x1E, 0xF7]);
        assert_eq!(bytes[1024..1032], [0xBD, 0xF0, 0x32, 0x4E, 0x60, 0x83, 0xDC, 0xC6]);
    }

    #[test]
    fn two_sides_understand_each_other_and_a_third_does_not() {
        let (hash, random) = ([9; 16], [1, 2, 3, 4]);
        let mut one = Ciphers::of_requester(&hash, random);
        let request = one.request(0xE3, random, b"padding");
        assert!(!is_message(request[0]) && request[1..5] == random);
        let head = *request[5..].first_chunk().unwrap();
        assert_eq!(
            Ciphers::of_responder(&[8; 16], random).read_request(head),
            Err(ObfuscationError::OtherKeys)
        );
        let mut other = Ciphers::of_responder(&hash, random);
        assert_eq!(other.read_request(head), Ok(7));
        let mut padding = request[5 + REQUEST_HEAD..].to_vec();
        other.receive.apply(&mut padding);
        assert_eq!(padding, b"padding");
        let answer = other.answer(&[]);
        assert_eq!(one.read_answer(*answer.first_chunk().unwrap()), Ok(0));
        let mut said = *b"hello";
        one.send.apply(&mut said);
        assert_ne!(&said, b"hello");
        other.receive.apply(&mut said);
        assert_eq!(&said, b"hello");
    }
}
