//! How the bridge is called among clients: a user hash of the form that eMule gives itself.
//!
//! It stays the same over restarts: aMule bans an address for two hours that it knows by another hash.

use p2pbridge_proto::OverlayId;
use sha1::{Digest as _, Sha1};

use super::wire::Hash;
use crate::Host;

/// How the bridge's program is called among clients and servers.
pub const PROGRAM: &str = concat!("P2P-Bridge ", env!("CARGO_PKG_VERSION"));

/// Who the bridge is in one overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The user hash. eMule's own have fixed bytes at two places.
    pub hash: Hash,
    mark: [u8; 6],
}

impl Identity {
    /// The identity of this installation in an overlay; all of its identities have its mark.
    #[must_use]
    pub fn new(host: &Host, overlay: &OverlayId) -> Self {
        let digest = Sha1::new()
            .chain_update(b"p2p-bridge ed2k user hash")
            .chain_update(host.mark)
            .chain_update(overlay.to_string())
            .finalize();
        let mut hash: Hash = *digest.first_chunk().unwrap_or(&[0; 16]);
        hash[..5].copy_from_slice(&host.mark[..5]);
        hash[5] = 0x0E;
        hash[6] = host.mark[5];
        hash[14] = 0x6F;
        Self { hash, mark: host.mark }
    }

    /// Whether a user hash is of this installation.
    #[must_use]
    pub fn is_ours(&self, hash: &Hash) -> bool {
        hash[..5] == self.mark[..5] && hash[6] == self.mark[5]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faces_of_an_installation_know_each_other_and_stay_who_they_are() {
        let host = Host { mark: *b"abcdef" };
        let identity = |name: &str| Identity::new(&host, &name.parse().unwrap());
        let (one, other) = (identity("one"), identity("other"));
        assert_eq!(one, identity("one"));
        assert!(one.is_ours(&other.hash) && one.hash != other.hash);
        let elsewhere = Identity::new(&Host { mark: *b"ghijkl" }, &"one".parse().unwrap());
        assert!(!elsewhere.is_ours(&one.hash));
        assert_eq!((one.hash[5], one.hash[14]), (0x0E, 0x6F));
    }
}
