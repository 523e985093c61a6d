//! Which blocks to ask for next, and what becomes of those that come: bookkeeping without socket or clock.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    ops::Range,
};

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::sync::oneshot;

use super::super::wire::peer::{BLOCK, Block};
use crate::{Flaw, SourceError, Waste};

/// Requests under way at the start.
const FIRST_WINDOW: usize = 64;
/// Requests under way at most.
const MAX_WINDOW: usize = 512;
/// Blocks that came without a question; one more ends the session.
const MAX_UNASKED: u32 = 4096;

pub(super) type Reply = oneshot::Sender<Result<Bytes, SourceError>>;

/// The fetches under way, cut into blocks.
#[derive(Debug)]
pub(super) struct Pipeline {
    unit: u64,
    next_id: u64,
    fetches: BTreeMap<u64, Fetch>,
    /// Blocks that were not asked for yet, in the order in which to ask.
    todo: VecDeque<(u64, Block)>,
    /// Blocks that were asked for, each with the fetches that want it.
    asked: HashMap<Block, Vec<u64>>,
    /// Blocks whose question was taken back, and may be answered all the same.
    withdrawn: HashSet<Block>,
    window: usize,
    max_window: usize,
    unasked: u32,
    /// Bytes that came and that no fetch gives.
    waste: Waste,
}

#[derive(Debug)]
struct Fetch {
    range: Range<u64>,
    /// The bytes from the start of the range, without a gap.
    data: BytesMut,
    /// Blocks that came before their turn.
    parked: BTreeMap<u64, Bytes>,
    reply: Reply,
}

/// What a block was good for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It was asked for.
    Wanted,
    /// It was not asked for, or is no longer wanted.
    Unwanted,
}

/// Why a block ends the session.
#[derive(Debug, PartialEq, Eq, Error)]
pub(super) enum BadBlock {
    /// It is not of the length that was asked for.
    #[error("{came} bytes came where {asked} were asked")]
    Length { came: u32, asked: u32 },
    /// Too many came for which nobody had asked.
    #[error("more than {MAX_UNASKED} blocks that were not asked for")]
    Unasked,
}

impl BadBlock {
    /// What the peer did wrong.
    pub(super) fn flaw(&self) -> Flaw {
        match self {
            Self::Length { .. } => Flaw::Malformed,
            Self::Unasked => Flaw::Unexpected,
        }
    }
}

impl Pipeline {
    /// Nothing under way, in chunks of `unit` bytes; what comes in vain is counted.
    pub(super) fn new(unit: u64, waste: Waste) -> Self {
        Self {
            unit: unit.max(1),
            next_id: 0,
            fetches: BTreeMap::new(),
            todo: VecDeque::new(),
            asked: HashMap::new(),
            withdrawn: HashSet::new(),
            window: FIRST_WINDOW,
            max_window: 250,
            unasked: 0,
            waste,
        }
    }

    /// The peer keeps so many requests (BEP 10 `reqq`; 250 when it does not say).
    pub(super) fn limit(&mut self, reqq: u32) {
        self.max_window = (reqq as usize).clamp(1, MAX_WINDOW);
        self.window = self.window.min(self.max_window);
    }

    /// Fetches under way.
    pub(super) fn fetches(&self) -> usize {
        self.fetches.len()
    }

    /// Whether questions are out.
    pub(super) fn is_waiting(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Begins a fetch. The range lies in one chunk.
    pub(super) fn add(&mut self, range: Range<u64>, reply: Reply) {
        let id = self.next_id;
        self.next_id += 1;
        let mut at = range.start;
        while at < range.end {
            let in_piece = at % self.unit;
            let to_grid = u64::from(BLOCK) - in_piece % u64::from(BLOCK);
            let length = to_grid.min(range.end - at);
            self.todo.push_back((id, block(at / self.unit, in_piece, length)));
            at += length;
        }
        let room = usize::try_from(range.end - range.start).unwrap_or_default();
        let data = BytesMut::with_capacity(room);
        self.fetches.insert(id, Fetch { range, data, parked: BTreeMap::new(), reply });
    }

    /// The next block to ask for, while the window has room.
    pub(super) fn ask(&mut self) -> Option<Block> {
        while self.asked.len() < self.window {
            let (id, block) = self.todo.pop_front()?;
            if !self.fetches.contains_key(&id) {
                continue;
            }
            let wanting = self.asked.entry(block).or_default();
            wanting.push(id);
            if wanting.len() == 1 {
                return Some(block);
            }
        }
        None
    }

    /// Takes a block that came.
    ///
    /// # Errors
    /// When it is not of the length that was asked for, or too many came that nobody had asked for.
    pub(super) fn take(&mut self, piece: u32, begin: u32, data: &Bytes) -> Result<Taken, BadBlock> {
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        let block = Block { piece, begin, length };
        self.withdrawn.remove(&block);
        let wanting = match self.asked.remove(&block) {
            Some(wanting) => wanting,
            None => self.take_unasked(&block).inspect_err(|_| self.waste.add(length.into()))?,
        };
        if !wanting.iter().any(|id| self.fetches.contains_key(id)) {
            self.waste.add(length.into());
            return Ok(Taken::Unwanted);
        }
        if !self.todo.is_empty() && self.window < self.max_window {
            self.window += 1;
        }
        let at = u64::from(piece).saturating_mul(self.unit).saturating_add(begin.into());
        for id in wanting {
            let whole = self.fetches.get_mut(&id).is_some_and(|fetch| fetch.put(at, data));
            if whole && let Some(fetch) = self.fetches.remove(&id) {
                // Nobody may be waiting any more.
                if let Err(Ok(lost)) = fetch.reply.send(Ok(fetch.data.freeze())) {
                    self.waste.add(lost.len() as u64);
                }
            }
        }
        Ok(Taken::Wanted)
    }

    /// A block that is about to be asked for again, or that nobody wants.
    fn take_unasked(&mut self, block: &Block) -> Result<Vec<u64>, BadBlock> {
        let same_place = |asked: &Block| (asked.piece, asked.begin) == (block.piece, block.begin);
        if let Some(asked) = self.asked.keys().find(|asked| same_place(asked)) {
            return Err(BadBlock::Length { came: block.length, asked: asked.length });
        }
        if let Some(at) = self.todo.iter().position(|(_, todo)| todo == block) {
            return Ok(self.todo.remove(at).map(|(id, _)| id).into_iter().collect());
        }
        self.unasked += 1;
        if self.unasked > MAX_UNASKED {
            return Err(BadBlock::Unasked);
        }
        Ok(Vec::new())
    }

    /// The peer does not answer a request: ends the fetches that need it, unless it is to be asked again later.
    pub(super) fn rejected(&mut self, block: Block, later: bool) {
        if self.withdrawn.remove(&block) {
            return;
        }
        for id in self.asked.remove(&block).unwrap_or_default() {
            if later {
                self.todo.push_front((id, block));
            } else if let Some(fetch) = self.fetches.remove(&id) {
                self.waste.add(fetch.came());
                let refused = SourceError::Refused(fetch.range);
                let _ = fetch.reply.send(Err(refused));
            }
        }
        if later {
            self.sort_todo();
        }
    }

    /// Everything that was asked for is to be asked for again.
    pub(super) fn forget_asked(&mut self) {
        for (block, wanting) in self.asked.drain() {
            self.todo.extend(wanting.into_iter().map(|id| (id, block)));
        }
        self.sort_todo();
    }

    fn sort_todo(&mut self) {
        self.todo.make_contiguous().sort_by_key(|(id, block)| (*id, block.piece, block.begin));
    }

    /// Drops the fetches for which nobody waits; returns the questions to take back.
    pub(super) fn withdraw(&mut self) -> Vec<Block> {
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
            return Vec::new();
        }
        let fetches = &self.fetches;
        self.todo.retain(|(id, _)| fetches.contains_key(id));
        let mut back = Vec::new();
        self.asked.retain(|block, wanting| {
            wanting.retain(|id| fetches.contains_key(id));
            if wanting.is_empty() {
                back.push(*block);
            }
            !wanting.is_empty()
        });
        if self.withdrawn.len() < MAX_UNASKED as usize {
            self.withdrawn.extend(&back);
        }
        back
    }

    /// Ends every fetch.
    pub(super) fn fail(&mut self, error: &SourceError) {
        self.todo.clear();
        self.asked.clear();
        while let Some((_, fetch)) = self.fetches.pop_first() {
            self.waste.add(fetch.came());
            let _ = fetch.reply.send(Err(error.clone()));
        }
    }
}

impl Fetch {
    /// Puts a block into its place; whether the range is whole now.
    fn put(&mut self, at: u64, data: &Bytes) -> bool {
        let next = self.range.start + self.data.len() as u64;
        if at == next {
            self.data.extend_from_slice(data);
            loop {
                let next = self.range.start + self.data.len() as u64;
                let Some(parked) = self.parked.remove(&next) else { break };
                self.data.extend_from_slice(&parked);
            }
        } else if at > next {
            // A copy: the received bytes share a large buffer that is to be used again.
            self.parked.insert(at, Bytes::copy_from_slice(data));
        }
        self.data.len() as u64 >= self.range.end - self.range.start
    }

    /// Bytes that have come for it.
    fn came(&self) -> u64 {
        let parked: usize = self.parked.values().map(Bytes::len).sum();
        (self.data.len() + parked) as u64
    }
}

fn block(piece: u64, begin: u64, length: u64) -> Block {
    let short = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Block { piece: short(piece), begin: short(begin), length: short(length) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch(
        pipeline: &mut Pipeline,
        range: Range<u64>,
    ) -> oneshot::Receiver<Result<Bytes, SourceError>> {
        let (reply, answer) = oneshot::channel();
        pipeline.add(range, reply);
        answer
    }

    fn bytes_of(block: Block, unit: u64) -> Bytes {
        let start = u64::from(block.piece) * unit + u64::from(block.begin);
        (start..start + u64::from(block.length)).map(|at| (at % 251) as u8).collect()
    }

    #[test]
    fn blocks_end_at_the_grid_and_are_put_together_in_any_order() {
        let mut pipeline = Pipeline::new(100_000, Waste::default());
        let mut answer = fetch(&mut pipeline, 110_000..200_000);
        let mut blocks: Vec<Block> = std::iter::from_fn(|| pipeline.ask()).collect();
        assert_eq!(blocks[0], Block { piece: 1, begin: 10_000, length: 6_384 });
        assert_eq!(blocks[1], Block { piece: 1, begin: 16_384, length: 16_384 });
        assert_eq!(blocks.last().map(|block| block.begin + block.length), Some(100_000));
        blocks.reverse();
        for block in blocks {
            assert!(answer.try_recv().is_err());
            let data = bytes_of(block, 100_000);
            assert_eq!(pipeline.take(block.piece, block.begin, &data), Ok(Taken::Wanted));
        }
        let data = answer.try_recv().unwrap().unwrap();
        assert!(data.iter().zip(110_000u64..).all(|(byte, at)| *byte == (at % 251) as u8));
        assert_eq!((data.len(), pipeline.fetches(), pipeline.is_waiting()), (90_000, 0, false));
    }

    #[test]
    fn what_a_choke_took_is_asked_again_in_order() {
        let mut pipeline = Pipeline::new(1 << 20, Waste::default());
        let _answer = fetch(&mut pipeline, 0..1 << 18);
        let first: Vec<Block> = std::iter::from_fn(|| pipeline.ask()).collect();
        pipeline.forget_asked();
        assert_eq!(std::iter::from_fn(|| pipeline.ask()).collect::<Vec<_>>(), first);
        for block in &first {
            pipeline.rejected(*block, true);
        }
        assert_eq!(std::iter::from_fn(|| pipeline.ask()).collect::<Vec<_>>(), first);
    }

    #[test]
    fn a_refusal_ends_its_fetch_only() {
        let mut pipeline = Pipeline::new(1 << 20, Waste::default());
        let mut one = fetch(&mut pipeline, 0..16_384);
        let mut two = fetch(&mut pipeline, 16_384..32_768);
        let block = pipeline.ask().unwrap();
        pipeline.rejected(block, false);
        assert_eq!(one.try_recv().unwrap(), Err(SourceError::Refused(0..16_384)));
        assert!(two.try_recv().is_err());
    }

    #[test]
    fn what_nobody_waits_for_is_taken_back() {
        let mut pipeline = Pipeline::new(1 << 20, Waste::default());
        let one = fetch(&mut pipeline, 0..16_384);
        let both = (fetch(&mut pipeline, 0..16_384), fetch(&mut pipeline, 65_536..131_072));
        let first = pipeline.ask().unwrap();
        pipeline.ask().unwrap();
        drop(one);
        assert_eq!(pipeline.withdraw(), vec![]);
        drop(both);
        let back = pipeline.withdraw();
        assert_eq!((back.len(), back.contains(&first)), (2, true));
        pipeline.rejected(first, false);
        assert!(pipeline.ask().is_none() && !pipeline.is_waiting());
    }

    #[test]
    fn what_no_fetch_gives_is_wasted() {
        let mut pipeline = Pipeline::new(1 << 20, Waste::default());
        let one = fetch(&mut pipeline, 0..32_768);
        let mut two = fetch(&mut pipeline, 32_768..65_536);
        let three = fetch(&mut pipeline, 65_536..65_636);
        let blocks: Vec<Block> = std::iter::from_fn(|| pipeline.ask()).collect();
        let take = |pipeline: &mut Pipeline, at: usize| {
            let data = bytes_of(blocks[at], 1 << 20);
            pipeline.take(blocks[at].piece, blocks[at].begin, &data).unwrap()
        };
        assert_eq!(take(&mut pipeline, 1), Taken::Wanted);
        drop(one);
        pipeline.withdraw();
        assert_eq!(pipeline.waste.total(), 16_384, "a fetch that was taken back");
        assert_eq!(take(&mut pipeline, 0), Taken::Unwanted);
        assert_eq!(pipeline.waste.total(), 32_768, "a block that was taken back too late");
        assert_eq!(take(&mut pipeline, 2), Taken::Wanted);
        pipeline.rejected(blocks[3], false);
        assert!(two.try_recv().unwrap().is_err());
        assert_eq!(pipeline.waste.total(), 49_152, "half of a fetch that was refused");
        drop(three);
        assert_eq!(take(&mut pipeline, 4), Taken::Wanted);
        assert_eq!(pipeline.waste.total(), 49_252, "an answer for which nobody waits");
        assert_eq!(take(&mut pipeline, 4), Taken::Unwanted);
        assert_eq!(pipeline.waste.total(), 49_352, "the same once more");
        let _four = fetch(&mut pipeline, 0..32_768);
        while pipeline.ask().is_some() {}
        take(&mut pipeline, 0);
        pipeline.fail(&SourceError::Closed("test".into()));
        assert_eq!(pipeline.waste.total(), 65_736, "what a session had at its end");
    }

    #[test]
    fn wrong_lengths_and_floods_are_errors() {
        let mut pipeline = Pipeline::new(1 << 20, Waste::default());
        let _answer = fetch(&mut pipeline, 0..16_384);
        pipeline.ask().unwrap();
        let error = pipeline.take(0, 0, &Bytes::from_static(b"short")).unwrap_err();
        assert_eq!(error, BadBlock::Length { came: 5, asked: 16_384 });
        assert_eq!(pipeline.waste.total(), 5);
        let one = Bytes::from_static(b"x");
        let mut flood = (0..=MAX_UNASKED).filter_map(|_| pipeline.take(7, 7, &one).err());
        assert_eq!(flood.next(), Some(BadBlock::Unasked));
        drop(flood);
        assert_eq!(pipeline.unasked, MAX_UNASKED + 1);
    }

    #[test]
    fn the_window_grows_up_to_what_the_peer_keeps() {
        let mut pipeline = Pipeline::new(64 << 20, Waste::default());
        pipeline.limit(100);
        let _answer = fetch(&mut pipeline, 0..64 << 20);
        let mut out: VecDeque<Block> = std::iter::from_fn(|| pipeline.ask()).collect();
        assert_eq!(out.len(), FIRST_WINDOW);
        for _ in 0..200 {
            let block = out.pop_front().unwrap();
            pipeline.take(block.piece, block.begin, &bytes_of(block, 64 << 20)).unwrap();
            out.extend(std::iter::from_fn(|| pipeline.ask()));
        }
        assert_eq!(out.len(), 100);
    }
}
