//! Which ranges to ask for next, and what becomes of the bytes that come: bookkeeping without socket or clock.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{sync::oneshot, time::Instant};

use super::{
    super::wire::{BLOCK, transfer::RANGES},
    ranges::{Missing, Stream},
};
use crate::{SourceError, Waste};

/// Bytes asked for ahead at the start: what every client asks for.
const FIRST_WINDOW: u64 = RANGES as u64 * BLOCK;
/// Bytes asked for ahead at most.
const MAX_WINDOW: u64 = 32 * BLOCK;
/// A range that comes within this time lets more be asked for ahead.
const SOON: Duration = Duration::from_secs(2);
/// A range that takes longer than this lets less be asked for ahead.
const LATE: Duration = Duration::from_secs(5);
/// Bytes that may come without a question; one more ends the session.
const MAX_UNASKED: u64 = 8 << 20;
/// Ranges that are remembered as asked for in one slot.
const MAX_REMEMBERED: usize = 1 << 16;

pub(super) type Reply = oneshot::Sender<Result<Bytes, SourceError>>;

/// Ranges that a client was asked for in the slot that it gives us: eMule never answers the same one twice, whichever file it
/// is of. All sessions with a client share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked(Arc<Mutex<HashSet<(u64, u64)>>>);

impl Asked {
    /// The slot has ended.
    pub(super) fn clear(&self) {
        *self.lock() = HashSet::new();
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    #[cfg(test)]
    pub(super) fn note(&self, range: Range<u64>) {
        self.lock().insert((range.start, range.end));
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<(u64, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The fetches under way, cut into ranges.
#[derive(Debug)]
pub(super) struct Pipeline {
    next_id: u64,
    fetches: BTreeMap<u64, Fetch>,
    /// Ranges that were not asked for yet, in the order in which to ask.
    todo: VecDeque<(u64, Range<u64>)>,
    /// Ranges that were asked for and have not come whole, in the order of asking.
    out: VecDeque<Out>,
    asked: Asked,
    window: u64,
    /// Bytes that came and were not asked for, and those that still may, because their slot ended.
    unasked: u64,
    excused: u64,
    /// Bytes that came and that no fetch gives.
    waste: Waste,
}

#[derive(Debug)]
struct Fetch {
    range: Range<u64>,
    /// The bytes from the start of the range, without a gap.
    data: BytesMut,
    /// Bytes that came before their turn.
    parked: BTreeMap<u64, Bytes>,
    reply: Reply,
}

#[derive(Debug)]
struct Out {
    range: Range<u64>,
    missing: Missing,
    stream: Option<Stream>,
    /// The fetches that want it; none when they were taken back.
    wanting: Vec<u64>,
    asked: Instant,
}

impl Pipeline {
    /// Nothing under way; what comes in vain is counted.
    pub(super) fn new(asked: Asked, waste: Waste) -> Self {
        Self {
            next_id: 0,
            fetches: BTreeMap::new(),
            todo: VecDeque::new(),
            out: VecDeque::new(),
            asked,
            window: FIRST_WINDOW,
            unasked: 0,
            excused: 0,
            waste,
        }
    }

    /// Fetches under way.
    pub(super) fn fetches(&self) -> usize {
        self.fetches.len()
    }

    /// Whether bytes were asked for that have not come.
    pub(super) fn is_waiting(&self) -> bool {
        !self.out.is_empty()
    }

    /// Whether something is still to be asked for.
    pub(super) fn has_todo(&self) -> bool {
        !self.todo.is_empty()
    }

    /// Begins a fetch.
    pub(super) fn add(&mut self, range: Range<u64>, reply: Reply) {
        let id = self.next_id;
        self.next_id += 1;
        let mut at = range.start;
        while at < range.end {
            let end = at.saturating_add(BLOCK).min(range.end);
            self.todo.push_back((id, at..end));
            at = end;
        }
        let room = usize::try_from(range.end - range.start).unwrap_or_default();
        let data = BytesMut::with_capacity(room);
        self.fetches.insert(id, Fetch { range, data, parked: BTreeMap::new(), reply });
    }

    /// The next ranges to ask for in one message, [`RANGES`] at most; none while the window is full.
    pub(super) fn ask(&mut self, now: Instant) -> Vec<Range<u64>> {
        let mut ranges = Vec::new();
        let mut asked = self.asked.lock();
        let mut ahead: u64 = self.out.iter().map(|out| out.missing.bytes()).sum();
        while ranges.len() < RANGES && ahead < self.window {
            let Some((id, range)) = self.todo.pop_front() else { break };
            if !self.fetches.contains_key(&id) {
                continue;
            }
            let same = self.out.iter_mut().find(|out| out.range == range);
            if let Some(out) = same
                && out.is_untouched()
            {
                out.wanting.push(id);
                continue;
            }
            let length = range.end - range.start;
            if asked.contains(&(range.start, range.end))
                && let Some(cut) = cut(&range, &asked)
            {
                self.todo.push_front((id, cut..range.end));
                self.todo.push_front((id, range.start..cut));
                continue;
            }
            if asked.len() < MAX_REMEMBERED {
                asked.insert((range.start, range.end));
            }
            ahead += length;
            let missing = Missing::all(range.clone());
            let wanting = vec![id];
            self.out.push_back(Out {
                range: range.clone(),
                missing,
                stream: None,
                wanting,
                asked: now,
            });
            ranges.push(range);
        }
        ranges
    }

    /// Takes bytes that came; gives how many of them were asked for and had not come.
    ///
    /// # Errors
    /// When they come in too many pieces, or too many came that nobody had asked for.
    pub(super) fn take(&mut self, at: u64, data: &Bytes, now: Instant) -> Result<u64, String> {
        let came = at..at.saturating_add(data.len() as u64);
        let (mut wanted, mut used, mut problem) = (0, 0, None);
        for out in &mut self.out {
            // A range belongs to its stream once that has begun.
            if out.stream.is_some() {
                continue;
            }
            let news = out.missing.take(&came).unwrap_or_else(|why| {
                problem = Some(why);
                Vec::new()
            });
            for new in news {
                let bytes = new.end - new.start;
                wanted += bytes;
                if put(&mut self.fetches, &out.wanting, &new, at, data) {
                    used += bytes;
                }
            }
        }
        self.waste.add((data.len() as u64).saturating_sub(used));
        if let Some(problem) = problem {
            return Err(problem);
        }
        self.settle(now);
        let known = wanted.min(data.len() as u64);
        self.count_unasked(data.len() as u64 - known)?;
        Ok(known)
    }

    /// Takes a piece of the zlib stream of a range; gives how many bytes of the range it brought.
    ///
    /// # Errors
    /// When the stream is not one of the range, or too much came that nobody had asked for.
    pub(super) fn take_compressed(
        &mut self,
        start: u64,
        whole: u32,
        piece: &Bytes,
        now: Instant,
    ) -> Result<u64, String> {
        let begun = |out: &&mut Out| {
            out.range.start == start && (out.stream.is_some() || out.is_untouched())
        };
        let Some(out) = self.out.iter_mut().find(begun) else {
            self.waste.add(piece.len() as u64);
            self.count_unasked(piece.len() as u64)?;
            return Ok(0);
        };
        let length = out.range.end - out.range.start;
        let stream = out.stream.get_or_insert_with(|| Stream::new(whole, length));
        let at = start + stream.inflated();
        let in_vain = |bytes: &Bytes| self.waste.add(bytes.len() as u64);
        let pushed = stream.push(whole, piece).inspect_err(|_| in_vain(piece));
        let data = Bytes::from(pushed?);
        let new = at..at.saturating_add(data.len() as u64);
        out.missing.take(&new).inspect_err(|_| in_vain(&data))?;
        if !put(&mut self.fetches, &out.wanting, &new, at, &data) {
            in_vain(&data);
        }
        self.settle(now);
        Ok(data.len() as u64)
    }

    /// Drops the fetches for which nobody waits. What was asked for them cannot be taken back.
    pub(super) fn withdraw(&mut self) {
        let before = self.fetches.len();
        let waste = &self.waste;
        self.fetches.retain(|_, fetch| {
            let waited_for = !fetch.reply.is_closed();
            if !waited_for {
                waste.add(fetch.came());
            }
            waited_for
        });
        if self.fetches.len() == before {
            return;
        }
        let fetches = &self.fetches;
        self.todo.retain(|(id, _)| fetches.contains_key(id));
        for out in &mut self.out {
            out.wanting.retain(|id| fetches.contains_key(id));
        }
    }

    /// The peer gives nothing more of what it was asked for: every fetch is refused.
    pub(super) fn refuse(&mut self) {
        self.excused += self.out.iter().map(|out| out.missing.bytes()).sum::<u64>();
        self.todo.clear();
        self.out.clear();
        self.asked.clear();
        self.window = FIRST_WINDOW;
        while let Some((_, fetch)) = self.fetches.pop_first() {
            self.waste.add(fetch.came());
            let _ = fetch.reply.send(Err(SourceError::Refused(fetch.range)));
        }
    }

    /// Ends every fetch. What was asked for them cannot be taken back.
    pub(super) fn fail(&mut self, error: &SourceError) {
        self.todo.clear();
        self.out.iter_mut().for_each(|out| out.wanting.clear());
        while let Some((_, fetch)) = self.fetches.pop_first() {
            self.waste.add(fetch.came());
            let _ = fetch.reply.send(Err(error.clone()));
        }
    }

    /// Lets go of the ranges that have come whole, and answers the fetches that have all of theirs.
    fn settle(&mut self, now: Instant) {
        let (window, has_todo) = (&mut self.window, !self.todo.is_empty());
        let mut touched = Vec::new();
        self.out.retain_mut(|out| {
            if !out.missing.is_empty() {
                return true;
            }
            let took = now.saturating_duration_since(out.asked);
            let length = out.range.end - out.range.start;
            if took > LATE {
                *window = window.saturating_sub(length).max(FIRST_WINDOW);
            } else if took < SOON && has_todo {
                *window = (*window + length).min(MAX_WINDOW);
            }
            touched.append(&mut out.wanting);
            false
        });
        for id in touched {
            if self.fetches.get(&id).is_some_and(Fetch::is_whole)
                && let Some(fetch) = self.fetches.remove(&id)
            {
                // Nobody may be waiting any more.
                if let Err(Ok(lost)) = fetch.reply.send(Ok(fetch.data.freeze())) {
                    self.waste.add(lost.len() as u64);
                }
            }
        }
    }

    fn count_unasked(&mut self, bytes: u64) -> Result<(), String> {
        let excused = bytes.min(self.excused);
        self.excused -= excused;
        self.unasked += bytes - excused;
        if self.unasked > MAX_UNASKED {
            return Err(format!("more than {MAX_UNASKED} bytes that were not asked for"));
        }
        Ok(())
    }
}

/// Where a range is cut in two that were not asked for, near its middle if that can be; none if it cannot be cut.
fn cut(range: &Range<u64>, asked: &HashSet<(u64, u64)>) -> Option<u64> {
    let length = range.end - range.start;
    let is_new =
        |cut: &u64| !asked.contains(&(range.start, *cut)) && !asked.contains(&(*cut, range.end));
    let behind_middle = (0..length).map(|step| range.start + (length / 2 + step) % length);
    behind_middle.take(MAX_REMEMBERED).filter(|cut| *cut > range.start).find(is_new)
}

/// Gives bytes to the fetches that want them: `new`, a part of `data` that begins at `at`. Whether any of them is there.
fn put(
    fetches: &mut BTreeMap<u64, Fetch>,
    wanting: &[u64],
    new: &Range<u64>,
    at: u64,
    data: &Bytes,
) -> bool {
    let index = |offset: u64| usize::try_from(offset.saturating_sub(at)).unwrap_or(usize::MAX);
    let Some(bytes) = data.get(index(new.start)..index(new.end)) else { return false };
    let mut used = false;
    for id in wanting {
        if let Some(fetch) = fetches.get_mut(id) {
            fetch.put(new.start, bytes);
            used = true;
        }
    }
    used
}

impl Out {
    /// Whether nothing of it has come.
    fn is_untouched(&self) -> bool {
        self.stream.is_none() && self.missing.bytes() == self.range.end - self.range.start
    }
}

impl Fetch {
    /// Puts bytes into their place, which were not put before.
    fn put(&mut self, at: u64, bytes: &[u8]) {
        if at != self.next() {
            // A copy: the received bytes share a large buffer that is to be used again.
            self.parked.insert(at, Bytes::copy_from_slice(bytes));
            return;
        }
        self.data.extend_from_slice(bytes);
        while let Some(parked) = self.parked.remove(&self.next()) {
            self.data.extend_from_slice(&parked);
        }
    }

    fn next(&self) -> u64 {
        self.range.start + self.data.len() as u64
    }

    fn is_whole(&self) -> bool {
        self.next() >= self.range.end
    }

    /// Bytes that have come for it.
    fn came(&self) -> u64 {
        let parked: usize = self.parked.values().map(Bytes::len).sum();
        (self.data.len() + parked) as u64
    }
}

#[cfg(test)]
#[path = "pipeline_tests.rs"]
mod tests;
