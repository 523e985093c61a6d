//! Which swarms there are, and who is in them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Ports from which peers are numbered, and how many there are.
const FIRST_PORT: u64 = 1_025;
const PORTS: u64 = 64_000;

/// Which names are announced.
#[derive(Clone, Debug)]
pub enum Swarms {
    /// So many names that look random, the same in every run.
    Numbered(u64),
    /// These names.
    Listed(Arc<[[u8; 20]]>),
    /// Every announce is for a name that nobody has asked for.
    Fresh,
}

/// What an answer must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Exactly so many peers, all of them of the plan.
    Exactly(usize),
    /// At most so many peers, all of them of the plan.
    AtMost(usize),
    /// At most so many peers, whoever they are.
    Anybody(usize),
}

/// Swarms, and how many peers each has. Peer `p` of swarm `s` has a port that follows from both, so that an answer can be
/// checked: a peer with another port is not of this swarm.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The names.
    pub swarms: Swarms,
    /// Peers of each swarm.
    pub peers: u32,
    /// How many peers are asked for.
    pub want: u32,
    /// Of so many peers one holds everything; 0: none does.
    pub seeder_every: u32,
}

impl Plan {
    /// Numbered swarms of so many leechers each, who ask for 30 peers.
    #[must_use]
    pub fn numbered(swarms: u64, peers: u32) -> Self {
        Self { swarms: Swarms::Numbered(swarms), peers, want: 30, seeder_every: 0 }
    }

    /// How many swarms there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        match &self.swarms {
            Swarms::Numbered(count) => *count,
            Swarms::Listed(names) => names.len() as u64,
            Swarms::Fresh => u64::MAX,
        }
    }

    /// Whether there is no swarm.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What every answer must hold once all peers have announced: the others, as far as they were asked for.
    #[must_use]
    pub fn full(&self) -> Expect {
        Expect::Exactly(self.want.min(self.peers.saturating_sub(1)) as usize)
    }

    /// The name of a swarm.
    #[must_use]
    pub fn name(&self, swarm: u64) -> [u8; 20] {
        if let Swarms::Listed(names) = &self.swarms {
            return names[swarm as usize % names.len()];
        }
        let mut name = [0; 20];
        for (part, chunk) in name.chunks_mut(8).enumerate() {
            let bits = mix(swarm.wrapping_mul(3).wrapping_add(part as u64)).to_be_bytes();
            chunk.copy_from_slice(&bits[..chunk.len()]);
        }
        name
    }

    /// The id of a peer.
    #[must_use]
    pub fn peer_id(&self, swarm: u64, peer: u32) -> [u8; 20] {
        let mut id = *b"-LD0001-000000000000";
        id[8..16].copy_from_slice(&mix(swarm ^ u64::from(peer) << 40).to_be_bytes());
        id[16..].copy_from_slice(&peer.to_be_bytes());
        id
    }

    /// The port of a peer.
    #[must_use]
    pub fn port(&self, swarm: u64, peer: u32) -> u16 {
        (FIRST_PORT + self.base(swarm).wrapping_add(u64::from(peer)) % PORTS) as u16
    }

    /// What a peer still lacks.
    #[must_use]
    pub fn left(&self, peer: u32) -> u64 {
        u64::from(self.seeder_every == 0 || !peer.is_multiple_of(self.seeder_every)) << 20
    }

    /// Checks the peers of an answer, `stride` bytes each (6 or 18).
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check(
        &self,
        swarm: u64,
        compact: &[u8],
        stride: usize,
        expect: Expect,
    ) -> Result<(), String> {
        if !compact.len().is_multiple_of(stride) {
            return Err(format!("{} bytes of peers at {stride} bytes each", compact.len()));
        }
        let count = compact.len() / stride;
        match expect {
            Expect::Exactly(wanted) if count != wanted => {
                return Err(format!("{count} peers, not {wanted}, in swarm {swarm}"));
            }
            Expect::AtMost(most) | Expect::Anybody(most) if count > most => {
                return Err(format!("{count} peers are more than {most}"));
            }
            Expect::Anybody(_) => return Ok(()),
            Expect::Exactly(_) | Expect::AtMost(_) => {}
        }
        let base = self.base(swarm) % PORTS;
        for peer in compact.chunks_exact(stride) {
            let port = u64::from(u16::from_be_bytes([peer[stride - 2], peer[stride - 1]]));
            let number = (port + 2 * PORTS - FIRST_PORT - base) % PORTS;
            if number >= u64::from(self.peers) {
                return Err(format!("a peer at port {port} is not of swarm {swarm}"));
            }
        }
        Ok(())
    }

    fn base(&self, swarm: u64) -> u64 {
        match self.swarms {
            Swarms::Fresh => 0,
            _ => swarm.wrapping_mul(u64::from(self.peers)),
        }
    }
}

/// The address from which socket `number` of several speaks to a target: on loopback each has its own.
pub(super) fn source(target: IpAddr, number: usize) -> IpAddr {
    match target {
        IpAddr::V4(ip) if ip.is_loopback() => {
            Ipv4Addr::new(127, 0, (number / 250) as u8, (1 + number % 250) as u8).into()
        }
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Numbers that look random, and follow from the one before.
pub(super) struct Random(u64);

impl Random {
    /// Other numbers in each run: else a second run would announce the same peers as the first.
    pub(super) fn new() -> Self {
        static RUNS: AtomicU64 = AtomicU64::new(0);
        let run = RUNS.fetch_add(1, Ordering::Relaxed);
        Self(mix(run ^ u64::from(std::process::id()) << 32))
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        ((u128::from(mix(self.0)) * u128::from(bound)) >> 64) as u64
    }
}

/// The finaliser of splitmix64.
pub(super) fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compact(plan: &Plan, swarm: u64, peers: std::ops::Range<u32>) -> Vec<u8> {
        peers
            .flat_map(|peer| {
                let port = plan.port(swarm, peer).to_be_bytes();
                [127, 0, 0, 1, port[0], port[1]]
            })
            .collect()
    }

    #[test]
    fn peers_of_the_swarm_pass_and_others_do_not() {
        let plan = Plan::numbered(10_000, 50);
        for swarm in [0, 1, 1_279, 1_280, 9_999] {
            assert_eq!(plan.check(swarm, &compact(&plan, swarm, 20..50), 6, plan.full()), Ok(()));
            let other = compact(&plan, swarm + 1, 0..30);
            assert!(
                plan.check(swarm, &other, 6, plan.full()).unwrap_err().contains("not of swarm")
            );
            let anybody = Expect::Anybody(30);
            assert_eq!(plan.check(swarm, &other, 6, anybody), Ok(()));
        }
        let few = compact(&plan, 3, 0..29);
        assert!(plan.check(3, &few, 6, plan.full()).unwrap_err().contains("29 peers, not 30"));
        assert!(plan.check(3, &few[1..], 6, Expect::AtMost(50)).is_err());
    }

    #[test]
    fn names_and_ids_differ() {
        let plan = Plan::numbered(1_000, 50);
        let names: std::collections::HashSet<_> =
            (0..1_000).map(|swarm| plan.name(swarm)).collect();
        assert_eq!(names.len(), 1_000);
        let ids: std::collections::HashSet<_> =
            (0..50).flat_map(|peer| [plan.peer_id(1, peer), plan.peer_id(2, peer)]).collect();
        assert_eq!(ids.len(), 100);
    }
}
