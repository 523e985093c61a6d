//! Names of a content whose bytes come in any order.

use std::{io, ops::Range};

use super::{Digests, Rules, lane::Lane, runs};

/// Memory that one [`Gather`] uses at most for bytes and nodes, when not said otherwise.
const ROOM: usize = 32 << 20;
/// The most runs apart from each other that are told apart. What would be one more is passed over.
const MAX_RUNS: usize = 1 << 20;
/// Bytes that are read again at a time.
const READ: u64 = 1 << 20;

/// Takes a content's bytes in any order, as they come from a relay. Trees take them as they come. A flat hash, or one of a
/// large part, takes what comes in order, and the rest is read again at the end; so is what there was no room to keep.
///
/// Bytes are hashed on the thread that brings them: a server has other work for its cores.
pub struct Gather {
    length: u64,
    rules: Rules,
    lanes: Vec<Lane>,
    come: runs::Runs,
    room: usize,
}

impl Gather {
    /// Begins a content of so many bytes.
    #[must_use]
    pub fn new(length: u64, rules: Rules) -> Self {
        let lanes =
            rules.layers().into_iter().map(|layer| Lane::new(layer, length, None)).collect();
        Self { length, rules, lanes, come: runs::Runs::default(), room: ROOM }
    }

    /// With so much memory for bytes that are kept and for nodes that are not joined yet; 32 MiB when not said.
    #[must_use]
    pub fn with_room(self, bytes: usize) -> Self {
        Self { room: bytes, ..self }
    }

    /// Takes a run of bytes. What has come already, or is behind the end, is passed over; so is a run that lies apart from
    /// all others when there are a million of these.
    pub fn add(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset.saturating_add(bytes.len() as u64).min(self.length);
        let run = offset..end;
        if run.is_empty() || (self.come.len() >= MAX_RUNS && self.come.is_apart(&run)) {
            return;
        }
        for fresh in self.come.add(run) {
            let Some(bytes) = part(bytes, offset, &fresh) else { continue };
            for at in 0..self.lanes.len() {
                let room = self.room.saturating_sub(self.lanes.iter().map(Lane::memory).sum());
                if let Some(lane) = self.lanes.get_mut(at) {
                    lane.feed(fresh.start, bytes, room);
                }
            }
        }
    }

    /// Whether every byte has come.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.come.contains(&(0..self.length))
    }

    /// What [`Self::finish`] will read, by rising offset.
    #[must_use]
    pub fn to_read(&self) -> Vec<Range<u64>> {
        runs::union(&self.lanes.iter().map(Lane::missing).collect::<Vec<_>>())
    }

    /// The names by those rules that need nothing to be read any more: what there is when reading is of no use.
    #[must_use]
    pub fn names_without_reading(&self) -> Digests {
        let done = self.lanes.iter().filter(|lane| lane.missing().is_empty());
        let forests: Vec<_> = done.map(Lane::forest).collect();
        Digests::of(self.length, &forests, self.rules, None)
    }

    /// Reads what is still wanted, by rising offset, and gives the names. `read` fills its buffer from an offset; bytes
    /// that have not come are read too. It reads a megabyte at most at a time.
    ///
    /// # Errors
    /// When reading fails.
    pub fn finish(
        mut self,
        read: &mut dyn FnMut(u64, &mut [u8]) -> io::Result<()>,
    ) -> io::Result<Digests> {
        self.lanes.iter_mut().for_each(Lane::drop_ahead);
        let missing: Vec<_> = self.lanes.iter().map(Lane::missing).collect();
        let mut buffer = Vec::new();
        for run in runs::union(&missing) {
            let mut start = run.start;
            while start < run.end {
                // To borders of blocks, so that few leaves are cut.
                let end = (start - start % READ).saturating_add(READ).min(run.end);
                buffer.resize(usize::try_from(end - start).unwrap_or_default(), 0);
                read(start, &mut buffer)?;
                for (lane, missing) in self.lanes.iter_mut().zip(&missing) {
                    let first = missing.partition_point(|run| run.end <= start);
                    let wanted = missing.iter().skip(first).take_while(|run| run.start < end);
                    for run in wanted {
                        let run = run.start.max(start)..run.end.min(end);
                        if let Some(bytes) = part(&buffer, start, &run) {
                            lane.feed(run.start, bytes, usize::MAX);
                        }
                    }
                }
                start = end;
            }
        }
        let forests: Vec<_> = self.lanes.iter().map(Lane::forest).collect();
        Ok(Digests::of(self.length, &forests, self.rules, None))
    }

    /// Bytes of memory that it uses, about.
    #[must_use]
    pub fn memory(&self) -> usize {
        let lanes: usize = self.lanes.iter().map(Lane::memory).sum();
        size_of::<Self>()
            + lanes
            + self.lanes.len() * size_of::<Lane>()
            + self.come.len() * runs::RUN_MEMORY
    }
}

/// The part of a run's bytes that lies in a range within it.
fn part<'a>(bytes: &'a [u8], offset: u64, range: &Range<u64>) -> Option<&'a [u8]> {
    let at = |position: u64| usize::try_from(position.checked_sub(offset)?).ok();
    bytes.get(at(range.start)?..at(range.end)?)
}
