//! Who the bridge is to BitTorrent peers, and how it knows itself again.

use tracing::warn;

use crate::Host;

/// What begins every peer id of the bridge (BEP 20, Azureus style).
pub const PREFIX: &[u8; 8] = b"-PB0100-";

/// What the bridge calls itself where it passes a message on (`Via`, RFC 9110 §7.6.3).
pub const BRIDGE: &str = "p2p-bridge";

/// The bridge as one overlay's peers see it. All identities of a process bear the same mark, so that a face that meets
/// another face of the same process knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The peer id of this overlay's faces: [`PREFIX`], the mark, six random bytes.
    pub peer_id: [u8; 20],
    /// The mark of the process.
    pub mark: [u8; 6],
}

impl Identity {
    /// A new identity with the host's mark, unlike any other of this process.
    #[must_use]
    pub fn new(host: &Host) -> Self {
        let mut own = [0; 6];
        if let Err(error) = getrandom::fill(&mut own) {
            warn!(%error, "no random bytes: the overlays of this bridge share one peer id");
        }
        let mut peer_id = [0; 20];
        peer_id[..8].copy_from_slice(PREFIX);
        peer_id[8..14].copy_from_slice(&host.mark);
        peer_id[14..].copy_from_slice(&own);
        Self { peer_id, mark: host.mark }
    }

    /// Whether a peer id is one of this process.
    #[must_use]
    pub fn is_ours(&self, peer_id: &[u8; 20]) -> bool {
        peer_id.starts_with(PREFIX) && peer_id[8..14] == self.mark
    }
}

/// Whether a peer id is one of any bridge, of this version or another: `-PBnnnn-`.
#[must_use]
pub fn is_a_bridge(peer_id: &[u8; 20]) -> bool {
    peer_id.starts_with(b"-PB") && peer_id[7] == b'-'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_every_identity_of_its_process_and_no_other() {
        let here = Host { mark: *b"abcdef" };
        let (one, two) = (Identity::new(&here), Identity::new(&here));
        assert_ne!(one.peer_id, two.peer_id);
        assert!(one.is_ours(&two.peer_id) && two.is_ours(&one.peer_id));
        let elsewhere = Identity::new(&Host { mark: *b"ABCDEF" });
        assert!(!one.is_ours(&elsewhere.peer_id));
        assert!(!one.is_ours(b"-TR3000-abcdef000000"));
        assert!(is_a_bridge(&one.peer_id) && is_a_bridge(&elsewhere.peer_id));
        assert!(is_a_bridge(b"-PB9999-abcdef000000") && !is_a_bridge(b"-PBabcdefghijklmnopq"));
    }
}
