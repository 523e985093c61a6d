//! Connection ids of the UDP tracker (BEP 15): they need no table and cannot be forged.

use std::{
    hash::Hasher as _,
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

use siphasher::sip::SipHasher24;

/// How long an id is given out; it is taken for as long again.
const EPOCH: Duration = Duration::from_secs(60);
/// Bits of a keyed hash in an id; above them are the lowest bits of the epoch.
const MAC_BITS: u32 = 56;

/// Gives ids out and knows them again: a hash of the address and the minute, with a key that nobody knows.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionIds {
    keyed: SipHasher24,
    begun: Instant,
}

/// A span of [`EPOCH`], counted from the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Epoch(u64);

impl ConnectionIds {
    /// With a key that is drawn now.
    ///
    /// # Errors
    /// When there are no random bytes.
    pub(super) fn new(now: Instant) -> io::Result<Self> {
        let mut key = [0; 16];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        Ok(Self { keyed: SipHasher24::new_with_key(&key), begun: now })
    }

    /// The epoch of a moment.
    pub(super) fn epoch(&self, now: Instant) -> Epoch {
        Epoch(now.saturating_duration_since(self.begun).as_secs() / EPOCH.as_secs())
    }

    /// The id of an address in an epoch.
    pub(super) fn issue(&self, ip: IpAddr, epoch: Epoch) -> u64 {
        let mut hasher = self.keyed;
        match ip {
            IpAddr::V4(ip) => hasher.write(&ip.octets()),
            IpAddr::V6(ip) => hasher.write(&ip.octets()),
        }
        hasher.write_u64(epoch.0);
        (epoch.0 << MAC_BITS) | (hasher.finish() >> (u64::BITS - MAC_BITS))
    }

    /// Whether an address was given this id in this epoch or the one before.
    pub(super) fn accepts(&self, id: u64, ip: IpAddr, epoch: Epoch) -> bool {
        let before = epoch.0.checked_sub(1).map(Epoch);
        [Some(epoch), before]
            .into_iter()
            .flatten()
            .find(|epoch| id >> MAC_BITS == (epoch.0 << MAC_BITS) >> MAC_BITS)
            .is_some_and(|epoch| self.issue(ip, epoch) == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_good_for_its_address_for_one_to_two_minutes() {
        let start = Instant::now();
        let ids = ConnectionIds::new(start).unwrap();
        let at = |seconds| ids.epoch(start + Duration::from_secs(seconds));
        let addresses = ["1.2.3.4", "1.2.3.5", "::1", "::102:304"].map(|ip| ip.parse().unwrap());
        for ip in addresses {
            for begun in [0, 59, 60, 3600 * 24 * 365] {
                let id = ids.issue(ip, at(begun));
                assert!(ids.accepts(id, ip, at(begun)) && ids.accepts(id, ip, at(begun + 60)));
                assert!(!ids.accepts(id, ip, at(begun + 120)));
                // The epoch's bits come back after 256 minutes, the hash does not.
                assert!(!ids.accepts(id, ip, at(begun + 256 * 60)));
                let others = addresses.iter().filter(|other| **other != ip);
                assert!(others.clone().all(|other| !ids.accepts(id, *other, at(begun))));
                assert!((0..64).all(|bit| !ids.accepts(id ^ (1 << bit), ip, at(begun))));
            }
        }
        let restarted = ConnectionIds::new(start).unwrap();
        assert!(!restarted.accepts(ids.issue(addresses[0], at(0)), addresses[0], at(0)));
    }
}
