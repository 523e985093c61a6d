//! How fast one client may ask.

use std::{
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    time::Duration,
};

use tokio::time::Instant;

/// A bucket that fills with time: what is asked takes out of it.
#[derive(Debug)]
pub(super) struct Bucket {
    /// How much it holds at most.
    most: f64,
    /// How much comes in a second.
    per_second: f64,
    level: f64,
    since: Instant,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(most: f64, per_second: f64, now: Instant) -> Self {
        Self { most, per_second, level: most, since: now }
    }

    /// Takes so much, even if the bucket is left with less than nothing: then it has to fill first.
    pub(super) fn take(&mut self, cost: f64, now: Instant) {
        self.fill(now);
        self.level -= cost;
    }

    /// When there is something in it; `None` when there is now.
    pub(super) fn ready_at(&mut self, now: Instant) -> Option<Instant> {
        self.fill(now);
        let lacks = 1.0 - self.level;
        (lacks > 0.0)
            .then(|| now + Duration::try_from_secs_f64(lacks / self.per_second).unwrap_or_default())
    }

    fn fill(&mut self, now: Instant) {
        let time = now.saturating_duration_since(self.since).as_secs_f64();
        self.level = (self.level + time * self.per_second).min(self.most);
        self.since = now;
    }
}

/// Questions of each address in this second. Addresses that fall together share what is theirs; nobody can choose with
/// whom.
#[derive(Debug)]
pub(super) struct PerAddress {
    hasher: RandomState,
    most: u16,
    counts: Box<[u16; SLOTS]>,
    second: Instant,
}

const SLOTS: usize = 4096;

impl PerAddress {
    /// So many questions of one address in a second.
    pub(super) fn new(most: u16, now: Instant) -> Self {
        Self { hasher: RandomState::new(), most, counts: Box::new([0; SLOTS]), second: now }
    }

    /// Whether an address may ask once more.
    pub(super) fn allows(&mut self, address: IpAddr, now: Instant) -> bool {
        if now.saturating_duration_since(self.second) >= Duration::from_secs(1) {
            self.counts.fill(0);
            self.second = now;
        }
        let slot = usize::try_from(self.hasher.hash_one(address) % SLOTS as u64).unwrap_or(0);
        let Some(count) = self.counts.get_mut(slot) else { return false };
        *count = count.saturating_add(1);
        *count <= self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bucket_lets_a_burst_pass_and_then_so_many_a_second() {
        let now = Instant::now();
        let mut bucket = Bucket::new(3.0, 2.0, now);
        for _ in 0..3 {
            assert_eq!(bucket.ready_at(now), None);
            bucket.take(1.0, now);
        }
        let then = bucket.ready_at(now).unwrap();
        assert_eq!(then, now + Duration::from_millis(500));
        assert_eq!(bucket.ready_at(then), None);
        bucket.take(5.0, then);
        assert_eq!(bucket.ready_at(then), Some(then + Duration::from_millis(2500)));
        assert_eq!(bucket.ready_at(then + Duration::from_secs(900)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_has_its_share_of_every_second() {
        let now = Instant::now();
        let mut pace = PerAddress::new(2, now);
        let asks = |pace: &mut PerAddress, now| pace.allows([10, 0, 0, 1].into(), now);
        assert!(asks(&mut pace, now) && asks(&mut pace, now) && !asks(&mut pace, now));
        assert!(asks(&mut pace, now + Duration::from_secs(1)));
    }
}
