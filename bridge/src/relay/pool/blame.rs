//! Why a chunk does not match: a source that lied, a spool that was damaged, or a binding that is false.

use std::{collections::HashSet, sync::atomic::Ordering};

use super::{
    driver::{Driver, State},
    plan::Want,
    sources::SourceId,
};
use crate::relay::grid::Part;

impl Driver {
    /// Finds out why a chunk does not match.
    pub(super) fn blame(&mut self, name: usize, chunk: u32) {
        let shared = self.shared.clone();
        let mut fresh = Vec::new();
        let mut stored = false;
        for part in shared.grid.parts(&shared.names[name].binding.layout, chunk) {
            let Part::Block(number) = part else { continue };
            match &self.blocks[number] {
                State::Here { source, origin, .. } => fresh.push((number, *source, *origin)),
                State::Stored => stored = true,
                State::Missing | State::Fetching { .. } => {}
            }
        }
        let serves = shared.consumers.iter().any(|consumer| consumer.name == name);
        if stored && serves && !self.names[name].checked.has(chunk) {
            // What comes from the disk is not trusted before it has matched: it is fetched again, and nobody is blamed.
            self.discard_stored(name, chunk);
            return;
        }
        if fresh.is_empty() {
            // Nothing that a source sent just now: not to be decided here.
            self.names[name].doubted.insert(chunk);
            return;
        }
        let senders: HashSet<SourceId> = fresh.iter().map(|(_, source, _)| *source).collect();
        let by_sender = |origin: u16| shared.origin(origin).map(|origin| origin.name);
        let own = fresh.iter().all(|(_, _, origin)| by_sender(*origin) == Some(name));
        if own {
            let blocks: Vec<usize> = fresh.iter().map(|(number, ..)| *number).collect();
            self.reject(&blocks);
            self.clear_doubt(name, chunk);
            match senders.iter().next() {
                Some(liar) if senders.len() == 1 => {
                    self.ban(*liar, "it sent bytes that fail the hash of its own name");
                }
                _ => {
                    self.solo.insert((name, chunk));
                }
            }
            return;
        }
        self.doubt(name, chunk, &fresh);
    }

    /// A chunk fails by the hash of the name that is served: asks the hashes of the sending names who is wrong.
    fn doubt(&mut self, name: usize, chunk: u32, fresh: &[(usize, SourceId, u16)]) {
        let shared = self.shared.clone();
        let mut all_proven = true;
        let consumer =
            shared.consumers.iter().position(|consumer| consumer.name == name).unwrap_or(0);
        self.names[name].doubted.insert(chunk);
        for (number, _, origin) in fresh {
            let Some(origin) = shared.origin(*origin) else { continue };
            let block = &shared.grid.blocks()[*number];
            for sent in shared.names[origin.name].places.chunks(block) {
                if self.names[origin.name].checked.has(sent) {
                    continue;
                }
                all_proven = false;
                self.solo.insert((origin.name, sent));
                for part in shared.grid.parts(&shared.names[origin.name].binding.layout, sent) {
                    if let Part::Block(block) = part
                        && matches!(self.blocks[block], State::Missing)
                    {
                        let of = (origin.name, sent);
                        self.urgent.push(Want { block, consumer, of, soon: true });
                    }
                }
                self.check_if_complete(origin.name, sent);
            }
        }
        if all_proven {
            self.disprove(name);
        }
    }

    /// Good bytes by one name are bad bytes by another: they do not name the same content.
    fn disprove(&mut self, name: usize) {
        let shared = self.shared.clone();
        let Some(main) = shared.names[name].urn() else { return };
        let reason = "bytes that match the other names of this content fail this name's hashes";
        tracing::error!(name = %main, reason, "a binding is false: it is quarantined");
        let table = shared.common.names.clone();
        let retired = shared.retired.clone();
        self.shared.set_trouble(reason);
        // Outlives the pool, which ends by it.
        tokio::spawn(async move {
            let put_away = move || table.quarantine(&main, reason);
            if let Ok(Err(error)) = tokio::task::spawn_blocking(put_away).await {
                tracing::error!(%error, "the false binding could not be quarantined");
            }
            retired.cancel();
        });
    }

    pub(super) fn reject(&mut self, blocks: &[usize]) {
        for number in blocks {
            if let State::Here { bytes, origin, consumer, .. } = &self.blocks[*number] {
                let length = bytes.len() as u64;
                if let Some(meter) = self.shared.meter(*origin, &self.shared.consumers[*consumer]) {
                    meter.rejected(length);
                }
                self.forget_memory(length);
                self.give_up(*number);
            }
        }
    }

    /// A block's bytes are no longer had; checks of them that run say nothing of what comes instead.
    pub(super) fn give_up(&mut self, number: usize) {
        self.blocks[number] = State::Missing;
        let shared = self.shared.clone();
        let block = &shared.grid.blocks()[number];
        for (name, known) in shared.names.iter().enumerate() {
            let checking = &self.names[name].checking;
            let run = known.places.chunks(block).filter(|chunk| checking.contains(chunk));
            self.stale.extend(run.map(|chunk| (name, chunk)));
        }
    }

    pub(super) fn discard_stored(&mut self, name: usize, chunk: u32) {
        let shared = self.shared.clone();
        for part in shared.grid.parts(&shared.names[name].binding.layout, chunk) {
            let Part::Block(number) = part else { continue };
            if !matches!(self.blocks[number], State::Stored) {
                continue;
            }
            let block = &shared.grid.blocks()[number];
            self.give_up(number);
            shared.came_from[number].store(0, Ordering::Relaxed);
            if let Some(held) = shared.spooled.get(&block.content)
                && let Err(error) = held.discard(block.offset)
            {
                tracing::warn!(%error, "the spool's log could not be written");
            }
        }
    }
}
