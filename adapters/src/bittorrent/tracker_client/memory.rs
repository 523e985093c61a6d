//! What trackers said of each name: bounded.

use std::{collections::HashMap, time::Duration};

use p2pbridge_proto::{Fault, PeerList};
use tokio::time::Instant;

use crate::bittorrent::translate::NEVER;

/// The most names that are remembered; the one not used for longest goes first.
const MAX_NAMES: usize = 10_000;
/// Between regular announces, where the tracker gives no `min interval`; less when its interval is shorter.
const FLOOR: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Memory {
    names: HashMap<[u8; 20], Entry>,
}

struct Entry {
    used: Instant,
    list: Option<(Instant, PeerList)>,
    trackers: HashMap<usize, Told>,
}

/// What passed between the bridge and one tracker about a name.
#[derive(Default)]
struct Told {
    answered: bool,
    tracker_id: Option<Vec<u8>>,
    refused: Option<(Instant, Fault)>,
}

impl Memory {
    /// The last answer, when it is too early for another; its intervals are what is left of them.
    pub(super) fn cached(&self, hash: &[u8; 20], now: Instant) -> Option<PeerList> {
        let (at, list) = self.names.get(hash)?.list.as_ref()?;
        let age = now.saturating_duration_since(*at);
        let wait = list.min_interval.unwrap_or(FLOOR).min(list.interval);
        let left = wait.checked_sub(age).filter(|left| !left.is_zero())?;
        Some(PeerList {
            interval: list.interval.saturating_sub(age),
            min_interval: Some(left),
            ..list.clone()
        })
    }

    pub(super) fn tracker_id(&self, hash: &[u8; 20], tracker: usize) -> Option<Vec<u8>> {
        self.names.get(hash)?.trackers.get(&tracker)?.tracker_id.clone()
    }

    /// Why a tracker is not asked of a name now, if it has refused it for a time.
    pub(super) fn refusal(&self, hash: &[u8; 20], tracker: usize, now: Instant) -> Option<Fault> {
        let (until, fault) = self.names.get(hash)?.trackers.get(&tracker)?.refused.as_ref()?;
        let left = until.checked_duration_since(now).filter(|left| !left.is_zero())?;
        Some(Fault { retry_after: Some(left), ..fault.clone() })
    }

    /// The trackers that know that the bridge is in the swarm.
    pub(super) fn told(&self, hash: &[u8; 20]) -> Vec<usize> {
        let told = self.names.get(hash).map(|entry| &entry.trackers);
        let told = told.into_iter().flatten().filter(|(_, told)| told.answered);
        told.map(|(id, _)| *id).collect()
    }

    pub(super) fn keep(&mut self, hash: [u8; 20], list: &PeerList, now: Instant) {
        self.entry(hash, now).list = Some((now, list.clone()));
    }

    pub(super) fn answered(
        &mut self,
        hash: [u8; 20],
        tracker: usize,
        tracker_id: Option<Vec<u8>>,
        now: Instant,
    ) {
        let told = self.entry(hash, now).trackers.entry(tracker).or_default();
        told.answered = true;
        told.refused = None;
        // An answer without one does not take back the one before it (BEP 3).
        told.tracker_id = tracker_id.filter(|id| id.len() <= 1024).or(told.tracker_id.take());
    }

    pub(super) fn refused(&mut self, hash: [u8; 20], tracker: usize, fault: &Fault, now: Instant) {
        let Some(wait) = fault.retry_after else { return };
        if let Some(until) = now.checked_add(wait.min(NEVER)) {
            let told = self.entry(hash, now).trackers.entry(tracker).or_default();
            told.refused = Some((until, fault.clone()));
        }
    }

    pub(super) fn forget(&mut self, hash: &[u8; 20]) {
        self.names.remove(hash);
    }

    fn entry(&mut self, hash: [u8; 20], now: Instant) -> &mut Entry {
        if self.names.len() >= MAX_NAMES && !self.names.contains_key(&hash) {
            let stalest = self.names.iter().min_by_key(|(_, entry)| entry.used);
            if let Some(stalest) = stalest.map(|(hash, _)| *hash) {
                self.names.remove(&stalest);
            }
        }
        let entry = self.names.entry(hash).or_insert_with(|| Entry {
            used: now,
            list: None,
            trackers: HashMap::new(),
        });
        entry.used = now;
        entry
    }
}

#[cfg(test)]
mod tests {
    use p2pbridge_proto::ErrorCode;

    use super::*;

    #[tokio::test]
    async fn an_answer_is_given_again_until_it_may_be_asked_for() {
        let now = Instant::now();
        let mut memory = Memory::default();
        let list = |interval, min: Option<u64>| PeerList {
            interval: Duration::from_secs(interval),
            min_interval: min.map(Duration::from_secs),
            ..PeerList::default()
        };
        memory.keep([1; 20], &list(100, Some(40)), now);
        let cached = memory.cached(&[1; 20], now + Duration::from_secs(30)).unwrap();
        assert_eq!((cached.interval.as_secs(), cached.min_interval.unwrap().as_secs()), (70, 10));
        assert!(memory.cached(&[1; 20], now + Duration::from_secs(40)).is_none());
        memory.keep([2; 20], &list(2, None), now);
        assert!(memory.cached(&[2; 20], now + Duration::from_secs(1)).is_some());
        assert!(memory.cached(&[2; 20], now + Duration::from_secs(2)).is_none());
    }

    #[tokio::test]
    async fn refusals_and_ids_are_kept_by_tracker_and_names_are_bounded() {
        let now = Instant::now();
        let mut memory = Memory::default();
        let mut fault = Fault::new(ErrorCode::Overloaded, "busy");
        fault.retry_after = Some(Duration::from_secs(60));
        memory.refused([1; 20], 0, &fault, now);
        assert!(memory.refusal(&[1; 20], 0, now).is_some());
        assert!(memory.refusal(&[1; 20], 1, now).is_none());
        assert!(memory.refusal(&[1; 20], 0, now + Duration::from_secs(60)).is_none());
        memory.answered([1; 20], 0, Some(b"x".to_vec()), now);
        memory.answered([1; 20], 0, None, now);
        assert_eq!(memory.tracker_id(&[1; 20], 0), Some(b"x".to_vec()));
        assert_eq!(memory.told(&[1; 20]), [0]);
        for n in 0..20_000u32 {
            let mut hash = [0; 20];
            hash[..4].copy_from_slice(&n.to_be_bytes());
            if !(9_000..=19_990).contains(&n) {
                memory.answered(hash, 0, None, now + Duration::from_secs(n.into()));
            }
        }
        for n in 0..2_000u32 {
            let mut hash = [9; 20];
            hash[..4].copy_from_slice(&n.to_be_bytes());
            memory.answered(hash, 0, None, now + Duration::from_secs(30_000));
        }
        assert_eq!(memory.names.len(), MAX_NAMES);
        assert!(memory.told(&[1; 20]).is_empty());
    }
}
