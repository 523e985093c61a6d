//! What the doors count, until the ledger has it.

use std::{
    collections::BTreeMap,
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering, fence},
    },
    time::Instant,
};

use jiff::Timestamp;
use p2pbridge_proto::{Name, OverlayId, v1};
use tokio::sync::Notify;

use super::windows::{Counts, Window, cut, slot_of};

/// At most this many windows wait for the ledger. When it cannot be written for longer than that, nothing more is cut:
/// the counters go on, and what they counted is spread over the time once there is room again.
const MOST_WAITING: usize = 100_000;

/// At most this many records go into one batch.
pub const BATCH: usize = 1_000;

/// Who carries what to whom: what all records of one transfer have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferKey {
    /// Random, unique for ever.
    pub transfer_id: String,
    /// The route's agreement.
    pub agreement: String,
    /// The overlay that gives.
    pub source_overlay: OverlayId,
    /// The overlay that takes.
    pub destination_overlay: OverlayId,
    /// The content's name where it comes from.
    pub source_name: Name,
    /// The content's name where it goes.
    pub destination_name: Name,
    /// The title under which it goes.
    pub title: String,
}

/// Counts one transfer. Cheap, and never waits; the transfer has ended when its owner drops it.
#[derive(Debug)]
pub struct TransferMeter {
    key: Arc<TransferKey>,
    fetched: AtomicU64,
    verified: AtomicU64,
    rejected: AtomicU64,
    served: AtomicU64,
    chunks: AtomicU64,
}

impl TransferMeter {
    /// Payload bytes came from the source overlay, good or bad.
    pub fn fetched(&self, bytes: u64) {
        self.fetched.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes crossed and were verified.
    pub fn verified(&self, bytes: u64) {
        self.verified.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes failed verification, or came twice.
    pub fn rejected(&self, bytes: u64) {
        self.rejected.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Payload bytes went to a peer of the destination overlay.
    pub fn served(&self, bytes: u64) {
        self.served.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A destination chunk was verified.
    pub fn chunk(&self) {
        self.chunks.fetch_add(1, Ordering::Relaxed);
    }

    /// What all records of this transfer have in common.
    #[must_use]
    pub fn key(&self) -> &TransferKey {
        &self.key
    }

    /// What was counted since the transfer began.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            fetched: self.fetched.load(Ordering::Relaxed),
            verified: self.verified.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
            served: self.served.load(Ordering::Relaxed),
            chunks: self.chunks.load(Ordering::Relaxed),
        }
    }
}

/// What was counted for one transfer in one window, and is not in the ledger yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRecord {
    /// The transfer.
    pub key: Arc<TransferKey>,
    /// When, and how much.
    pub window: Window,
}

/// What goes to the ledger in one commit. It stays the same until [`Meter::committed`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// Counts the batches of this process.
    pub number: u64,
    /// Transfers of which the ledger does not know yet, and since when they run.
    pub opened: Vec<(Arc<TransferKey>, Timestamp)>,
    /// The records.
    pub records: Vec<PendingRecord>,
    /// Ids of transfers that have ended; their last record is in this batch or an earlier one.
    pub closed: Vec<String>,
    /// When the batch was made.
    pub made: Timestamp,
}

impl Batch {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.opened.is_empty() && self.records.is_empty() && self.closed.is_empty()
    }
}

/// Gives out the meters of transfers, and collects what they counted.
#[derive(Debug, Default)]
pub struct Meter {
    state: Mutex<State>,
    opened: Notify,
}

#[derive(Debug, Default)]
struct State {
    transfers: BTreeMap<String, Transfer>,
    pairs: BTreeMap<(OverlayId, OverlayId), Pair>,
    in_flight: Option<Arc<Batch>>,
    batches: u64,
    waiting: usize,
    last_tick: Option<Instant>,
}

#[derive(Debug)]
struct Transfer {
    meter: Arc<TransferMeter>,
    /// How much of the counters was cut into windows.
    taken: Counts,
    /// Where the next window begins.
    from: Timestamp,
    /// Whether the ledger was told of it.
    announced: bool,
    waiting: Vec<Window>,
}

impl Transfer {
    /// Whether nobody counts any more, and all that was counted has left.
    fn is_over(&self) -> bool {
        let alone = Arc::strong_count(&self.meter) == 1;
        // What the last owner counted before it let go is visible behind this fence.
        fence(Ordering::Acquire);
        alone && self.waiting.is_empty() && self.meter.counts() == self.taken
    }
}

#[derive(Debug, Default)]
struct Pair {
    /// Totals of transfers that were dropped.
    past: Counts,
    served_at_tick: u64,
    served_per_second: u64,
}

impl Meter {
    /// A meter that has counted nothing.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// The meter of a transfer that begins now.
    pub fn transfer(&self, key: TransferKey) -> Arc<TransferMeter> {
        self.transfer_at(key, Timestamp::now())
    }

    /// The meter of a transfer that began at a given moment. With an id that still runs, its meter.
    pub fn transfer_at(&self, key: TransferKey, now: Timestamp) -> Arc<TransferMeter> {
        let mut state = self.lock();
        if let Some(transfer) = state.transfers.get(&key.transfer_id) {
            return transfer.meter.clone();
        }
        let pair = (key.source_overlay.clone(), key.destination_overlay.clone());
        state.pairs.entry(pair).or_default();
        let id = key.transfer_id.clone();
        let meter = Arc::new(TransferMeter {
            key: Arc::new(key),
            fetched: AtomicU64::new(0),
            verified: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            served: AtomicU64::new(0),
            chunks: AtomicU64::new(0),
        });
        let transfer = Transfer {
            meter: meter.clone(),
            taken: Counts::default(),
            from: now,
            announced: false,
            waiting: Vec::new(),
        };
        state.transfers.insert(id, transfer);
        drop(state);
        self.opened.notify_one();
        meter
    }

    /// Waits until a transfer has begun of which the ledger does not know yet.
    pub async fn opened(&self) {
        self.opened.notified().await;
    }

    /// Cuts what was counted until now into windows, which wait for the ledger. See [`cut`] for what happens when this is
    /// called late. Windows of one transfer in one slot become one, as long as they wait.
    pub fn cut(&self, now: Timestamp) {
        let state = &mut *self.lock();
        for transfer in state.transfers.values_mut() {
            if state.waiting >= MOST_WAITING {
                return;
            }
            let counts = transfer.meter.counts();
            let (windows, next) = cut(transfer.from, now, counts - transfer.taken);
            transfer.taken = counts;
            transfer.from = next;
            for window in windows {
                match transfer.waiting.last_mut() {
                    Some(last)
                        if slot_of(last.range.start) == slot_of(window.range.start)
                            && last.range.end <= window.range.start =>
                    {
                        last.range.end = window.range.end;
                        last.counts += window.counts;
                    }
                    _ => {
                        transfer.waiting.push(window);
                        state.waiting += 1;
                    }
                }
            }
        }
    }

    /// [`Self::cut`] and [`Self::batch`].
    pub fn collect(&self, now: Timestamp) -> Arc<Batch> {
        self.cut(now);
        self.batch(now)
    }

    /// Gives what was cut and the ledger lacks: at most 1,000 records. Until [`Self::committed`] was called the same batch
    /// is given again and again, so that whatever came of a write, a repetition of it is the same write.
    pub fn batch(&self, now: Timestamp) -> Arc<Batch> {
        let state = &mut *self.lock();
        if let Some(batch) = &state.in_flight {
            return batch.clone();
        }
        let mut batch = Batch { number: state.batches + 1, made: now, ..Batch::default() };
        for (id, transfer) in &mut state.transfers {
            let room = BATCH.saturating_sub(batch.records.len());
            if room == 0 || batch.opened.len() + batch.closed.len() >= BATCH {
                break;
            }
            let take = room.min(transfer.waiting.len());
            let windows = transfer.waiting.drain(..take);
            let key = transfer.meter.key.clone();
            if !transfer.announced {
                // The first window begins where the transfer does, unless nothing was counted yet.
                batch.opened.push((key.clone(), transfer.from));
                transfer.announced = true;
            }
            batch.records.extend(windows.map(|window| PendingRecord { key: key.clone(), window }));
            state.waiting -= take;
            if transfer.is_over() {
                batch.closed.push(id.clone());
            }
        }
        let batch = Arc::new(batch);
        if !batch.is_empty() {
            state.batches += 1;
            state.in_flight = Some(batch.clone());
        }
        batch
    }

    /// The ledger has the batch. Transfers that ended with it are forgotten. A batch that is not under way is ignored.
    pub fn committed(&self, batch: &Batch) {
        let state = &mut *self.lock();
        if state.in_flight.as_ref().is_none_or(|mine| mine.number != batch.number) {
            return;
        }
        state.in_flight = None;
        for id in &batch.closed {
            let Some(transfer) = state.transfers.get_mut(id) else { continue };
            if !transfer.is_over() {
                // Somebody has taken it up again: the ledger must be told anew.
                transfer.announced = false;
                continue;
            }
            let key = &transfer.meter.key;
            let pair = (key.source_overlay.clone(), key.destination_overlay.clone());
            let counts = transfer.meter.counts();
            state.transfers.remove(id);
            state.pairs.entry(pair).or_default().past += counts;
        }
    }

    /// Takes the time of the rates; to be called once a second.
    pub fn tick(&self, now: Instant) {
        let state = &mut *self.lock();
        let passed = state.last_tick.replace(now).map(|last| now.saturating_duration_since(last));
        let totals = state.totals();
        for (pair, total) in totals {
            let Some(pair) = state.pairs.get_mut(&pair) else { continue };
            let since =
                total.served.saturating_sub(mem::replace(&mut pair.served_at_tick, total.served));
            if let Some(micros) =
                passed.map(|passed| passed.as_micros()).filter(|micros| *micros > 0)
            {
                let rate = u128::from(since) * 1_000_000 / micros;
                pair.served_per_second = u64::try_from(rate).unwrap_or(u64::MAX);
            }
        }
    }

    /// What has crossed since the daemon's start, by the overlays' ids. The rate is of the time between the last two calls
    /// of [`Self::tick`].
    #[must_use]
    pub fn crossings(&self) -> Vec<v1::Crossing> {
        let state = self.lock();
        let row = |((from, to), total): ((OverlayId, OverlayId), Counts)| v1::Crossing {
            served_per_second: state
                .pairs
                .get(&(from.clone(), to.clone()))
                .map_or(0, |pair| pair.served_per_second),
            from_overlay: from.to_string(),
            to_overlay: to.to_string(),
            fetched_bytes: total.fetched,
            verified_bytes: total.verified,
            rejected_bytes: total.rejected,
            served_bytes: total.served,
        };
        state.totals().into_iter().map(row).collect()
    }

    /// How many transfers are in memory.
    #[must_use]
    pub fn transfers(&self) -> usize {
        self.lock().transfers.len()
    }

    /// How many windows wait for the ledger; those of the batch under way are not among them.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().waiting
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn totals(&self) -> BTreeMap<(OverlayId, OverlayId), Counts> {
        let mut totals: BTreeMap<_, _> =
            self.pairs.iter().map(|(pair, totals)| (pair.clone(), totals.past)).collect();
        for transfer in self.transfers.values() {
            let key = &transfer.meter.key;
            let pair = (key.source_overlay.clone(), key.destination_overlay.clone());
            *totals.entry(pair).or_default() += transfer.meter.counts();
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn key(id: &str) -> TransferKey {
        TransferKey {
            transfer_id: id.to_owned(),
            agreement: "free".to_owned(),
            source_overlay: "a".parse().unwrap(),
            destination_overlay: "b".parse().unwrap(),
            source_name: Name::btih([1; 20]),
            destination_name: Name::btih([2; 20]),
            title: "film".to_owned(),
        }
    }

    #[test]
    fn a_batch_stays_the_same_until_it_is_committed() {
        let meter = Meter::new();
        let transfer = meter.transfer_at(key("1"), at(1000));
        transfer.verified(10);
        let first = meter.collect(at(1001));
        transfer.verified(5);
        assert_eq!(meter.collect(at(1002)), first);
        meter.committed(&first);
        let second = meter.collect(at(1003));
        assert_eq!(second.records[0].window.counts.verified, 5);
        assert_eq!(second.records[0].window.range, at(1001)..at(1002));
        meter.committed(&first);
        assert_eq!(meter.collect(at(1004)), second);
    }

    #[test]
    fn a_transfer_that_ended_is_forgotten_but_its_bytes_stay_in_the_totals() {
        let meter = Meter::new();
        let transfer = meter.transfer_at(key("1"), at(1000));
        transfer.fetched(12);
        transfer.served(10);
        transfer.chunk();
        drop(transfer);
        let batch = meter.collect(at(1001));
        assert_eq!((batch.opened.len(), batch.closed.len()), (1, 1));
        assert_eq!(meter.transfers(), 1);
        meter.committed(&batch);
        assert_eq!(meter.transfers(), 0);
        assert!(meter.collect(at(1002)).is_empty());
        let crossing = &meter.crossings()[0];
        assert_eq!((crossing.fetched_bytes, crossing.served_bytes), (12, 10));
    }

    #[test]
    fn an_outage_of_the_ledger_costs_one_window_a_slot() {
        let meter = Meter::new();
        let transfer = meter.transfer_at(key("1"), at(0));
        meter.committed(&meter.collect(at(0)));
        transfer.verified(1);
        let stuck = meter.collect(at(5));
        for second in (10..=600).step_by(5) {
            transfer.verified(1);
            assert_eq!(meter.collect(at(second)), stuck);
        }
        meter.committed(&stuck);
        let rest = meter.collect(at(600));
        let counts: Vec<_> = rest.records.iter().map(|r| r.window.counts.verified).collect();
        assert_eq!(counts, [59, 60]);
        assert_eq!(rest.records[0].window.range, at(5)..at(300));
    }

    #[test]
    fn the_rate_is_of_the_last_full_second() {
        let meter = Meter::new();
        let transfer = meter.transfer_at(key("1"), at(0));
        let start = Instant::now();
        meter.tick(start);
        transfer.served(3000);
        meter.tick(start + Duration::from_secs(1));
        transfer.served(7);
        assert_eq!(meter.crossings()[0].served_per_second, 3000);
    }
}
