//! How the bridge is called among clients: a user hash of the form that eMule gives itself.

use super::wire::Hash;
use crate::Host;

/// Who the bridge is in one overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The user hash. eMule's own have fixed bytes at two places.
    pub hash: Hash,
    mark: [u8; 6],
}

impl Identity {
    /// A new identity of this process; all of them have its mark.
    #[must_use]
    pub fn new(host: &Host) -> Self {
        let mut hash = [0; 16];
        // Without random bytes two identities of one process are the same: clients take one of the two connections.
        let _ = getrandom::fill(&mut hash);
        hash[..5].copy_from_slice(&host.mark[..5]);
        hash[5] = 0x0E;
        hash[6] = host.mark[5];
        hash[14] = 0x6F;
        Self { hash, mark: host.mark }
    }

    /// Whether a user hash is of this process.
    #[must_use]
    pub fn is_ours(&self, hash: &Hash) -> bool {
        hash[..5] == self.mark[..5] && hash[6] == self.mark[5]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faces_of_a_process_know_each_other() {
        let host = Host { mark: *b"abcdef" };
        let (one, other) = (Identity::new(&host), Identity::new(&host));
        assert!(one.is_ours(&other.hash) && one.hash != other.hash);
        assert!(!Identity::new(&Host { mark: *b"ghijkl" }).is_ours(&one.hash));
        assert_eq!((one.hash[5], one.hash[14]), (0x0E, 0x6F));
    }
}
