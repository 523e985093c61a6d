//! One pass over files, on all cores.
//!
//! A file is read in blocks, which stand in a short queue until every layer has taken them. Layers whose leaves divide a
//! block hash blocks side by side; the others take them in order, each on whatever thread is free. The queue's length is
//! what bounds memory.

use std::{
    collections::VecDeque,
    io,
    num::NonZero,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use super::{
    Digests, Rules,
    lane::Lane,
    layer::Layer,
    merkle,
    pieces::{TorrentWanted, V1Pieces},
    reader::{BLOCK, Block, Reader, Target},
};

/// What is to be computed of files.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// The names.
    pub rules: Rules,
    /// The hashes of a torrent over all files.
    pub torrent: Option<TorrentWanted>,
    /// Threads; 0: one for each core.
    pub threads: usize,
}

/// Hashes one file. See [`hash_files`].
///
/// # Errors
/// As [`hash_files`].
pub fn hash_file(
    path: &Path,
    wanted: &Wanted,
    progress: &(dyn Fn(u64) + Sync),
) -> io::Result<Digests> {
    let (mut digests, _) = hash_files(&[path.to_owned()], wanted, progress)?;
    digests.pop().ok_or_else(|| io::Error::other("nothing was hashed"))
}

/// Hashes files in order, as a torrent over them sees them: what is wanted of each of them, and the v1 pieces over all (20
/// bytes each), when those are wanted. `progress` is called with the bytes that were hashed since its last call, by any
/// thread. Memory is bounded by a few megabytes a thread, and by what is given back.
///
/// # Errors
/// When a file cannot be read, is no regular file, or changes meanwhile; the text has its path. When the torrent's piece
/// length cannot be.
pub fn hash_files(
    files: &[PathBuf],
    wanted: &Wanted,
    progress: &(dyn Fn(u64) + Sync),
) -> io::Result<(Vec<Digests>, Option<Vec<u8>>)> {
    if let Some(torrent) = wanted.torrent {
        torrent.check()?;
    }
    let pass = Pass::new(files, *wanted, progress);
    std::thread::scope(|scope| {
        for _ in 1..pass.threads {
            scope.spawn(|| pass.work());
        }
        pass.work();
    });
    let state = pass.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = state.error {
        return Err(error);
    }
    let v1 = pass.v1.into_inner().unwrap_or_else(PoisonError::into_inner);
    let digests = pass.digests.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok((digests.into_iter().flatten().collect(), v1.map(V1Pieces::finish)))
}

/// A block that is so short is taken by one thread for all layers.
const SHORT: usize = 64 << 10;
/// The most threads that are of use: MD4, which goes in order, takes an eighth of the time of all.
const MAX_THREADS: usize = 12;
/// Blocks that wait, for each thread.
const BLOCKS_A_THREAD: usize = 3;

struct Pass<'a> {
    wanted: Wanted,
    layers: Vec<&'static dyn Layer>,
    /// The jobs of a block that must follow those of the block before it, as bits: one for each layer, and
    /// [`Self::v1_job`].
    ordered: u64,
    threads: usize,
    progress: &'a (dyn Fn(u64) + Sync),
    state: Mutex<State<'a>>,
    changed: Condvar,
    v1: Mutex<Option<V1Pieces>>,
    digests: Mutex<Vec<Option<Digests>>>,
}

struct State<'a> {
    queue: VecDeque<Slot>,
    /// Who reads; taken while it does, and gone at the end.
    reader: Option<Reader<'a>>,
    spare: Vec<Vec<u8>>,
    is_read: bool,
    error: Option<io::Error>,
}

/// A block that is not done, and its jobs: one bit each.
struct Slot {
    block: Arc<Block>,
    to_do: u64,
    in_work: u64,
}

/// What a thread does next.
enum Step<'a> {
    Read(Reader<'a>, Vec<u8>),
    Hash(Arc<Block>, u64),
    Wait,
    End,
}

impl<'a> Pass<'a> {
    fn new(files: &'a [PathBuf], wanted: Wanted, progress: &'a (dyn Fn(u64) + Sync)) -> Self {
        let mut layers = wanted.rules.layers();
        let torrent = wanted.torrent;
        let leaves: &'static dyn Layer = &merkle::Leaves16k;
        let has_leaves = layers.iter().any(|layer| layer.what() == leaves.what());
        if torrent.is_some_and(|torrent| torrent.v2) && !has_leaves {
            layers.push(leaves);
        }
        let splits = |layer: &dyn Layer| (BLOCK as u64).is_multiple_of(layer.leaf_len());
        let in_order = layers.iter().enumerate().filter(|(_, layer)| !splits(**layer));
        let mut ordered: u64 = in_order.map(|(at, _)| 1u64 << at).sum();
        let v1 = torrent.filter(|torrent| torrent.v1).map(V1Pieces::new);
        if v1.is_some() {
            ordered |= 1 << layers.len();
        }
        let cores = || std::thread::available_parallelism().map_or(1, NonZero::get);
        let threads = if wanted.threads == 0 { cores() } else { wanted.threads };
        let threads = if is_much(files) { threads.min(MAX_THREADS) } else { 1 };
        let reader = Reader::new(files);
        let state = State {
            queue: VecDeque::new(),
            reader: Some(reader),
            spare: Vec::new(),
            is_read: false,
            error: None,
        };
        Self {
            wanted,
            layers,
            ordered,
            threads,
            progress,
            state: Mutex::new(state),
            changed: Condvar::new(),
            v1: Mutex::new(v1),
            digests: Mutex::new(files.iter().map(|_| None).collect()),
        }
    }

    /// The job of taking a block into the v1 pieces, when they are wanted.
    fn v1_job(&self) -> u64 {
        self.ordered & (1 << self.layers.len())
    }

    /// Does whatever there is to do, until the end.
    fn work(&self) {
        let _guard = Unwinding(self);
        let mut state = lock(&self.state);
        loop {
            match self.next_step(&mut state) {
                Step::Read(mut reader, buffer) => {
                    drop(state);
                    let read =
                        reader.next_block(buffer, |index, length| self.target(index, length));
                    state = lock(&self.state);
                    match read {
                        Ok(Some(block)) => {
                            let to_do = ((1 << self.layers.len()) - 1) | self.v1_job();
                            let slot = Slot { block: Arc::new(block), to_do, in_work: 0 };
                            state.queue.push_back(slot);
                            state.reader = Some(reader);
                        }
                        Ok(None) => state.is_read = true,
                        Err(error) => state.error = Some(error),
                    }
                }
                Step::Hash(block, jobs) => {
                    drop(state);
                    self.hash(&block, jobs);
                    state = lock(&self.state);
                    let slot = state.queue.iter_mut().find(|slot| Arc::ptr_eq(&slot.block, &block));
                    if let Some(slot) = slot {
                        slot.in_work &= !jobs;
                    }
                }
                Step::Wait => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                Step::End => return,
            }
            state = self.end_blocks(state);
            self.changed.notify_all();
        }
    }

    fn next_step(&self, state: &mut State<'a>) -> Step<'a> {
        if state.error.is_some() || (state.is_read && state.queue.is_empty()) {
            return Step::End;
        }
        if state.queue.len() < self.threads * BLOCKS_A_THREAD
            && let Some(reader) = state.reader.take()
        {
            return Step::Read(reader, state.spare.pop().unwrap_or_default());
        }
        // The oldest block goes first. A job in order waits for the same job of the blocks before; those of another file
        // are others, but the v1 pieces go on.
        let (mut waits, mut file) = (0, None);
        for slot in &mut state.queue {
            let index = slot.block.file.index;
            if file.replace(index) != Some(index) {
                waits &= self.v1_job();
            }
            let free = slot.to_do & !waits;
            if free != 0 {
                let is_short = slot.block.bytes.len() <= SHORT;
                let jobs = if is_short { free } else { free & free.wrapping_neg() };
                slot.to_do &= !jobs;
                slot.in_work |= jobs;
                return Step::Hash(Arc::clone(&slot.block), jobs);
            }
            waits |= (slot.to_do | slot.in_work) & self.ordered;
        }
        Step::Wait
    }

    fn hash(&self, block: &Block, jobs: u64) {
        for (at, lane) in block.file.lanes.iter().enumerate() {
            if (jobs >> at) & 1 == 0 || block.bytes.is_empty() {
                continue;
            }
            if (self.ordered >> at) & 1 == 1 {
                lock(lane).feed(block.offset, &block.bytes, usize::MAX);
                continue;
            }
            let tree = lock(lane).forest().tree();
            let subtrees = tree.subtrees(tree.layer.leaf_of(block.offset), &block.bytes);
            lock(lane).insert(subtrees);
        }
        if jobs & self.v1_job() != 0
            && let Some(v1) = lock(&self.v1).as_mut()
        {
            v1.feed(block.offset, &block.bytes);
        }
    }

    /// Takes blocks that are done off the queue, and says what their files' names are when they are the last.
    fn end_blocks<'s>(&'s self, mut state: MutexGuard<'s, State<'a>>) -> MutexGuard<'s, State<'a>> {
        while state.queue.front().is_some_and(|slot| slot.to_do | slot.in_work == 0) {
            let Some(Slot { block, .. }) = state.queue.pop_front() else { break };
            drop(state);
            (self.progress)(block.bytes.len() as u64);
            if block.is_last {
                let Target { index, length, lanes } = &*block.file;
                let lanes: Vec<_> = lanes.iter().map(lock).collect();
                let forests: Vec<_> = lanes.iter().map(|lane| lane.forest()).collect();
                let Wanted { rules, torrent, .. } = self.wanted;
                let digests = Digests::of(*length, &forests, rules, torrent);
                if let Some(place) = lock(&self.digests).get_mut(*index) {
                    *place = Some(digests);
                }
            }
            let buffer = Arc::into_inner(block).map(|block| block.bytes);
            state = lock(&self.state);
            state.spare.extend(buffer);
        }
        state
    }

    fn target(&self, index: usize, length: u64) -> Target {
        let keep = self.wanted.torrent.filter(|torrent| torrent.v2).map(TorrentWanted::level);
        let lane = |layer: &&'static dyn Layer| {
            let keep = keep.filter(|_| layer.what() == merkle::Leaves16k.what());
            Mutex::new(Lane::new(*layer, length, keep))
        };
        Target { index, length, lanes: self.layers.iter().map(lane).collect() }
    }
}

/// Lets the other threads end when one of them panics.
struct Unwinding<'p, 'a>(&'p Pass<'a>);

impl Drop for Unwinding<'_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            lock(&self.0.state).error = Some(io::Error::other("a thread has panicked"));
            self.0.changed.notify_all();
        }
    }
}

/// Whether more than one thread is of use.
fn is_much(files: &[PathBuf]) -> bool {
    match files {
        [only] => std::fs::metadata(only).is_ok_and(|metadata| metadata.len() > SHORT as u64),
        _ => files.len() > 1,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
