//! Why a chunk does not match: a source that lied, a spool that was damaged, or a binding that is false.

use std::{collections::HashSet, ops::Range, sync::atomic::Ordering};

use super::{
    driver::{Driver, State},
    locate::Located,
    plan::Want,
    sources::SourceId,
    wishes::Had,
};
use crate::relay::grid::Part;

/// A block that may be the reason, and who sent it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Suspect {
    pub(super) block: usize,
    pub(super) source: SourceId,
    /// The name under which it was sent.
    name: usize,
}

impl Driver {
    /// Finds out why a chunk does not match.
    pub(super) fn blame(&mut self, name: usize, chunk: u32) {
        let shared = self.shared.clone();
        let (mut suspects, mut stored, mut kept) = (Vec::new(), Vec::new(), false);
        for part in shared.grid.parts(&shared.names[name].binding.layout, chunk) {
            let Part::Block(block) = part else { continue };
            let vouched = self.is_vouched(block, name);
            match &self.blocks[block] {
                State::Here { source, origin, .. } if !vouched => {
                    let Some(origin) = shared.origin(*origin) else { continue };
                    suspects.push(Suspect { block, source: *source, name: origin.name });
                }
                State::Stored if !vouched => stored.push(block),
                State::Stored => kept = true,
                State::Here { .. } | State::Missing | State::Fetching { .. } => {}
            }
        }
        if !stored.is_empty() && !self.names[name].checked.has(chunk) {
            // What comes from the disk is not trusted before it has matched: it is fetched again, and nobody is blamed.
            self.discard_blocks(&stored);
            self.clear_doubt(name, chunk);
        } else if suspects.is_empty() {
            self.contradicts(name, chunk, kept);
        } else if suspects.iter().all(|suspect| suspect.name == name) {
            self.convict(name, chunk, suspects);
        } else if suspects.iter().all(|suspect| self.is_alone_to_judge(name, suspect)) {
            self.condemn(name, chunk, &suspects);
        } else {
            self.doubt(name, chunk, &suspects);
        }
    }

    /// All bytes of a chunk that does not match are good by other names.
    fn contradicts(&mut self, name: usize, chunk: u32, kept: bool) {
        if !kept {
            self.disprove(name);
        } else if !self.serves(name) {
            // Its own name says otherwise than those that are served by it: it proves nothing, and nothing hangs on it.
            self.names[name].doubted.insert(chunk);
        } else if self.retried.insert((name, chunk)) {
            // Once, the disk has the benefit of the doubt.
            self.discard_stored(name, chunk);
        } else {
            self.disprove(name);
        }
    }

    /// Whether nobody else can tell whether a block is good, and its binding is beyond doubt.
    fn is_alone_to_judge(&self, name: usize, suspect: &Suspect) -> bool {
        if suspect.name == name || !self.names[suspect.name].known {
            return true;
        }
        let block = &self.shared.grid.blocks()[suspect.block];
        let mut chunks = self.shared.names[suspect.name].places.chunks(block);
        !self.names[name].unproven
            && !self.names[suspect.name].unproven
            && chunks.all(|chunk| self.had(suspect.name, chunk) != Had::Whole)
    }

    /// A chunk fails by the hash of the name under which it was sent.
    fn convict(&mut self, name: usize, chunk: u32, suspects: Vec<Suspect>) {
        // Where a finer hash of another name has failed, it is there that the lie is.
        let finer: Vec<Suspect> = suspects
            .iter()
            .copied()
            .filter(|suspect| self.is_doubted(suspect.block, name))
            .collect();
        let suspects = if finer.is_empty() { suspects } else { finer };
        // One that has sent all of it needs no finer hashes to be known.
        if senders(&suspects).len() < 2 || !self.locate(name, chunk, &suspects) {
            self.condemn(name, chunk, &suspects);
        }
    }

    /// Somebody who knows finer hashes has told which bytes are wrong, or nobody does.
    pub(super) fn located(&mut self, located: Located) {
        let Located { name, chunk, suspects, runs, reading } = located;
        self.names[name].checking.remove(&chunk);
        self.suspected.remove(&(name, chunk));
        self.reading = self.reading.saturating_sub(reading);
        if self.stale.remove(&(name, chunk)) {
            self.check_if_complete(name, chunk);
        } else {
            let (mut wrong, mut liars) = (HashSet::new(), HashSet::new());
            for run in runs.iter().flatten() {
                let touched = self.touched(name, &suspects, run);
                wrong.extend(touched.iter().map(|suspect| suspect.block));
                // Where several have sent a part of a run, it does not tell which of them lied.
                let senders = senders(&touched);
                if senders.len() == 1 {
                    liars.extend(senders);
                }
            }
            if liars.is_empty() {
                self.condemn(name, chunk, &suspects);
            } else {
                self.reject(&wrong.into_iter().collect::<Vec<_>>());
                self.clear_doubt(name, chunk);
                for liar in liars {
                    self.ban(liar, "it sent bytes that fail the finer hashes of its own name");
                }
            }
        }
        self.has_read(0);
    }

    /// Those of the suspects that have bytes in a run of the name's layout.
    fn touched(&self, name: usize, suspects: &[Suspect], run: &Range<u64>) -> Vec<Suspect> {
        let places = &self.shared.names[name].places;
        let touches = |suspect: &&Suspect| {
            let block = &self.shared.grid.blocks()[suspect.block];
            let reaches = |at: u64| run.start < at + u64::from(block.length) && at < run.end;
            places.offsets(block).any(reaches)
        };
        suspects.iter().filter(touches).copied().collect()
    }

    /// Rejects blocks; if one source has sent them all, it is banned, else the next try is left to one alone.
    fn condemn(&mut self, name: usize, chunk: u32, suspects: &[Suspect]) {
        let shared = self.shared.clone();
        self.reject(&suspects.iter().map(|suspect| suspect.block).collect::<Vec<_>>());
        self.clear_doubt(name, chunk);
        let senders = senders(suspects);
        match senders.iter().next() {
            Some(liar) if senders.len() == 1 => {
                self.ban(*liar, "it sent bytes that fail their hash");
            }
            _ => {
                for suspect in suspects {
                    let block = &shared.grid.blocks()[suspect.block];
                    let chunks = shared.names[suspect.name].places.chunks(block);
                    self.solo.extend(chunks.map(|chunk| (suspect.name, chunk)));
                }
            }
        }
    }

    /// Whether a block lies in a chunk that does not match by another name than `name`.
    fn is_doubted(&self, block: usize, name: usize) -> bool {
        let block = &self.shared.grid.blocks()[block];
        let others = self.shared.names.iter().zip(&self.names).enumerate();
        others.filter(|(other, _)| *other != name).any(|(_, (other, state))| {
            other.places.chunks(block).any(|chunk| state.doubted.contains(&chunk))
        })
    }

    /// A chunk fails by the hash of the name that is served: asks the hashes of the sending names who is wrong.
    fn doubt(&mut self, name: usize, chunk: u32, suspects: &[Suspect]) {
        let shared = self.shared.clone();
        let consumer =
            shared.consumers.iter().position(|consumer| consumer.name == name).unwrap_or(0);
        self.names[name].doubted.insert(chunk);
        let mut asked = HashSet::new();
        for suspect in suspects.iter().filter(|suspect| suspect.name != name) {
            let block = &shared.grid.blocks()[suspect.block];
            for sent in shared.names[suspect.name].places.chunks(block) {
                let of = (suspect.name, sent);
                if !asked.insert(of) {
                    continue;
                }
                self.solo.insert(of);
                self.urgent.retain(|want| want.of != of);
                for part in shared.grid.parts(&shared.names[suspect.name].binding.layout, sent) {
                    if let Part::Block(block) = part
                        && matches!(self.blocks[block], State::Missing)
                    {
                        self.urgent.push(Want { block, consumer, of, soon: true });
                    }
                }
                self.check_if_complete(suspect.name, sent);
            }
        }
        // Those that were sent under this very name have nobody else to tell.
        let own: Vec<usize> = suspects.iter().filter(|s| s.name == name).map(|s| s.block).collect();
        if !own.is_empty() {
            self.reject(&own);
            self.names[name].doubted.remove(&chunk);
        }
    }

    /// Good bytes by one name are bad bytes by another: they do not name the same content.
    pub(super) fn disprove(&mut self, name: usize) {
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
        self.unvouch(number);
        let shared = self.shared.clone();
        let block = &shared.grid.blocks()[number];
        for (name, known) in shared.names.iter().enumerate() {
            let checking = &self.names[name].checking;
            let run = known.places.chunks(block).filter(|chunk| checking.contains(chunk));
            self.stale.extend(run.map(|chunk| (name, chunk)));
        }
    }

    /// Forgets what the spool has of a chunk.
    pub(super) fn discard_stored(&mut self, name: usize, chunk: u32) {
        let shared = self.shared.clone();
        let parts = shared.grid.parts(&shared.names[name].binding.layout, chunk);
        let block = |part| match part {
            Part::Block(number) => Some(number),
            Part::Zeros(_) => None,
        };
        self.discard_blocks(&parts.into_iter().filter_map(block).collect::<Vec<_>>());
    }

    fn discard_blocks(&mut self, blocks: &[usize]) {
        let shared = self.shared.clone();
        for number in blocks.iter().copied() {
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

/// Those who have sent the blocks.
pub(super) fn senders(suspects: &[Suspect]) -> HashSet<SourceId> {
    suspects.iter().map(|suspect| suspect.source).collect()
}
