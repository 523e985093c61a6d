use std::{fmt, net::SocketAddr};

use thiserror::Error;

/// The longest identity of a peer, in bytes.
pub const MAX_PEER_ID: usize = 32;

/// A peer's own identity in its protocol; empty when it gave none. Kept in place: copying one costs no allocation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PeerId {
    length: u8,
    bytes: [u8; MAX_PEER_ID],
}

/// An identity that is longer than [`MAX_PEER_ID`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a peer's identity of {0} bytes is longer than {MAX_PEER_ID}")]
pub struct PeerIdError(usize);

impl PeerId {
    /// No identity.
    pub const NONE: Self = Self { length: 0, bytes: [0; MAX_PEER_ID] };

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// Whether the peer gave none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl TryFrom<&[u8]> for PeerId {
    type Error = PeerIdError;

    fn try_from(given: &[u8]) -> Result<Self, PeerIdError> {
        let mut bytes = [0; MAX_PEER_ID];
        let place = bytes.get_mut(..given.len()).ok_or(PeerIdError(given.len()))?;
        place.copy_from_slice(given);
        let length = u8::try_from(given.len()).map_err(|_| PeerIdError(given.len()))?;
        Ok(Self { length, bytes })
    }
}

impl From<[u8; 20]> for PeerId {
    fn from(given: [u8; 20]) -> Self {
        let mut bytes = [0; MAX_PEER_ID];
        for (place, byte) in bytes.iter_mut().zip(given) {
            *place = byte;
        }
        Self { length: 20, bytes }
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({})", self.as_bytes().escape_ascii())
    }
}

/// A peer, and where it can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The peer's own identity in its protocol; empty when it gave none.
    pub id: PeerId,
    /// Its address and port.
    pub endpoint: SocketAddr,
}

impl Peer {
    /// A peer of which only the address is known.
    #[must_use]
    pub const fn at(endpoint: SocketAddr) -> Self {
        Self { id: PeerId::NONE, endpoint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_what_was_given_up_to_its_bound() {
        for length in [0, 1, 16, 20, 32] {
            let given = vec![7; length];
            assert_eq!(PeerId::try_from(&given[..]).unwrap().as_bytes(), given);
        }
        assert_eq!(PeerId::try_from(&[0; 33][..]), Err(PeerIdError(33)));
        assert_eq!(PeerId::from([3; 20]).as_bytes(), [3; 20]);
        assert!(PeerId::NONE.is_empty() && !PeerId::from([0; 20]).is_empty());
    }
}
