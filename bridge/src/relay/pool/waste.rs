//! Bytes that sources sent in vain, and that no fetch gave: they came, and are rejected.

use std::sync::{Arc, atomic::Ordering};

use p2pbridge_adapters::Waste;

use super::{Consumer, Origin, Shared, driver::Driver};
use crate::status::meter::TransferMeter;

/// What a session has received in vain, and how much of it was counted.
#[derive(Clone)]
pub(super) struct Wasted {
    origin: Origin,
    waste: Waste,
    counted: u64,
    /// For whom the source was last asked for something.
    consumer: Option<usize>,
}

impl Wasted {
    pub(super) const fn new(origin: Origin, waste: Waste) -> Self {
        Self { origin, waste, counted: 0, consumer: None }
    }

    /// The source is asked for something.
    pub(super) const fn asked_for(&mut self, consumer: usize) {
        self.consumer = Some(consumer);
    }

    /// Counts what was not counted yet; whether more may come.
    pub(super) fn count(&mut self, shared: &Shared) -> bool {
        let is_final = self.waste.is_final();
        let bytes = self.waste.total().saturating_sub(self.counted);
        if bytes > 0 {
            self.counted += bytes;
            if let Some(meter) = shared.waste_meter(&self.origin, self.consumer) {
                meter.fetched(bytes);
                meter.rejected(bytes);
            }
        }
        !is_final
    }
}

impl Driver {
    /// Counts what came in vain since the last time.
    pub(super) fn count_waste(&mut self) {
        let shared = self.shared.clone();
        self.sources.wasted(|wasted| wasted.count(&shared));
    }
}

impl Shared {
    /// Where bytes count that came from an origin in vain: for whom the source was asked last, or for anybody who could
    /// have had them.
    fn waste_meter(&self, origin: &Origin, asked: Option<usize>) -> Option<Arc<TransferMeter>> {
        let from = self.origin_number(origin);
        if let Some(consumer) = asked {
            return self.meter(from, self.consumers.get(consumer)?);
        }
        let is_served = |to: &&Consumer| to.peers.load(Ordering::Relaxed) > 0;
        let served = self.consumers.iter().filter(is_served);
        served.chain(&self.consumers).find_map(|to| self.meter(from, to))
    }
}
