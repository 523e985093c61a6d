//! How a client and a server agree on keys for an obfuscated connection: a server has no user hash of which both know,
//! so the keys come of a secret that both make together (Diffie-Hellman over 768 bits). aMule's
//! `EncryptedStreamSocket.cpp` says how it goes.

use crypto_bigint::{
    Odd, U128, U768,
    modular::{FixedMontyForm, FixedMontyParams},
};

use super::obfuscation::{Cipher, Ciphers, REQUESTER, RESPONDER, SYNC};

/// Bytes of what each side shows the other.
pub const PUBLIC: usize = 96;
/// Bytes that the client sends first: one that begins no message, what it shows, and how many of padding follow. None
/// of this is hidden.
pub const CLIENT_HEAD: usize = 1 + PUBLIC + 1;
/// The most bytes of that padding that are taken; clients send up to 15.
pub const MAX_PADDING: usize = 15;
/// The one method there is: obfuscation (`ENM_OBFUSCATION`).
const METHOD: u8 = 0;
/// `dh768_p`.
const PRIME: Odd<U768> = Odd::<U768>::from_be_hex(
    "F2BF52C55F587ADD5371A936E886EB3C6217A33EC34CB40DC73A41A643AFFCE721FC2863\
     66535BDBCE259F2286DA4A91B207CBAA5255D4F61CCEAED45AD5E0747DF7781828105F34\
     0F762387F88B289142FB42688F05150F548B5F436AF70DF3",
);

/// What one side keeps to itself.
pub struct Secret(U128);

impl Secret {
    /// From random bytes.
    #[must_use]
    pub const fn new(random: [u8; 16]) -> Self {
        Self(U128::from_be_slice(&random))
    }

    /// What it shows the other side.
    #[must_use]
    pub fn public(&self) -> [u8; PUBLIC] {
        self.power(&U768::from_u8(2))
    }

    /// What both sides know then; `None` when what the other side shows cannot be.
    #[must_use]
    pub fn shared(&self, theirs: &[u8; PUBLIC]) -> Option<[u8; PUBLIC]> {
        let theirs = U768::from_be_slice(theirs);
        (theirs > U768::ONE && theirs < *PRIME.as_ref()).then(|| self.power(&theirs))
    }

    fn power(&self, base: &U768) -> [u8; PUBLIC] {
        let params = FixedMontyParams::new_vartime(PRIME);
        let power = FixedMontyForm::new(base, &params).pow(&self.0).retrieve();
        let mut bytes = [0; PUBLIC];
        for (place, byte) in bytes.iter_mut().zip(power.to_be_bytes().as_ref()) {
            *place = *byte;
        }
        bytes
    }
}

impl Ciphers {
    /// The server's keys.
    #[must_use]
    pub fn of_server(shared: &[u8; PUBLIC]) -> Self {
        Self { send: key(shared, RESPONDER), receive: key(shared, REQUESTER) }
    }

    /// The keys of a server's client.
    #[must_use]
    pub fn of_client(shared: &[u8; PUBLIC]) -> Self {
        Self { send: key(shared, REQUESTER), receive: key(shared, RESPONDER) }
    }

    /// What the server says behind what it shows: the methods that it knows, and the one that it likes. The client's
    /// answer has the form of [`Ciphers::answer`].
    #[must_use]
    pub fn offer(&mut self, padding: &[u8]) -> Vec<u8> {
        let padding = padding.get(..padding.len().min(MAX_PADDING)).unwrap_or_default();
        let mut out = SYNC.to_le_bytes().to_vec();
        out.extend_from_slice(&[METHOD, METHOD, u8::try_from(padding.len()).unwrap_or(0)]);
        out.extend_from_slice(padding);
        self.send.apply(&mut out);
        out
    }
}

fn key(shared: &[u8; PUBLIC], side: u8) -> Cipher {
    let mut secret = shared.to_vec();
    secret.push(side);
    Cipher::new(&secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_come_to_the_same_keys() {
        let (client, server) = (Secret::new([7; 16]), Secret::new([0xFE; 16]));
        let shared = server.shared(&client.public()).unwrap();
        assert_eq!(client.shared(&server.public()), Some(shared));
        let (mut ours, mut theirs) = (Ciphers::of_server(&shared), Ciphers::of_client(&shared));
        let mut offer = ours.offer(b"pad");
        theirs.receive.apply(&mut offer);
        assert_eq!(offer, [0xC4, 0x6F, 0x5E, 0x83, 0, 0, 3, b'p', b'a', b'd']);
        let answer = theirs.answer(&[]);
        assert_eq!(ours.read_answer(*answer.first_chunk().unwrap()), Ok(0));
    }

    #[test]
    fn what_cannot_be_shown_is_refused() {
        let secret = Secret::new([7; 16]);
        let mut one = [0; PUBLIC];
        assert_eq!(secret.shared(&one), None);
        one[PUBLIC - 1] = 1;
        assert_eq!(secret.shared(&one), None);
        assert_eq!(secret.shared(&[0xFF; PUBLIC]), None);
    }

    #[test]
    fn small_powers_are_right() {
        // 2 to the 10th.
        let mut random = [0; 16];
        random[15] = 10;
        let public = Secret::new(random).public();
        assert_eq!(public[PUBLIC - 2..], [4, 0]);
        assert!(public[..PUBLIC - 2].iter().all(|byte| *byte == 0));
    }
}
