//! The threads that hash what has come, and state what came of it.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use p2pbridge_nametable::{
    Binding, FileEntry, MAX_TITLE, Statement, StoreError, What, digest::Gather,
};
use p2pbridge_proto::{ContentId, Evidence, Name};

use super::{
    Inner, Place,
    coverage::{Coverage, Piece, Run},
    desk::{Key, Whole, Work},
    lock,
};

/// Statements that wait for the name table.
const MOST_UNSTATED: usize = 1_000;
/// By how much the threads step back behind those that move bytes.
const NICE: i32 = 10;

/// Memory of one content's hashes for bytes that came before those in front of them; what is over it is read again.
const ROOM: usize = 8 << 20;

/// What the bytes of a content have proved.
#[derive(Debug, Clone)]
pub(super) struct Proof {
    place: Place,
    length: u64,
    names: Vec<Name>,
}

/// Works until told to stop.
pub(super) fn run(inner: &Arc<Inner>) {
    // On Linux this is the thread's own; where it is refused, it works as all others do.
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!(%error, "the threads that prove contents keep their priority");
    }
    while let Some(work) = inner.wait() {
        inner.work(work);
    }
}

impl Inner {
    /// The next work; `None` when it is over.
    fn wait(&self) -> Option<Work> {
        let mut desk = lock(&self.desk);
        loop {
            if self.stops() {
                return None;
            }
            let rest = lock(&self.unstated).rest();
            if rest.is_some_and(|rest| rest.is_zero()) {
                drop(desk);
                self.state_again();
                desk = lock(&self.desk);
                continue;
            }
            if let Some(work) = desk.next() {
                return Some(work);
            }
            desk = match rest {
                None => self.work.wait(desk).unwrap_or_else(PoisonError::into_inner),
                Some(rest) => {
                    let woken = self.work.wait_timeout(desk, rest);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    fn work(&self, work: Work) {
        match work {
            Work::Feed { key, length, gather, pieces } => {
                let feed = || self.feed(key, length, gather, pieces);
                if catch_unwind(AssertUnwindSafe(feed)).is_err() {
                    tracing::error!(content = %key.content, "the hashing of a content has failed");
                    lock(&self.desk).abandon(key, "its hashing has failed");
                }
            }
            Work::Finish(whole) => {
                let content = whole.content;
                let finish = || self.finish(whole);
                if catch_unwind(AssertUnwindSafe(finish)).is_err() {
                    tracing::error!(%content, "the hashing of a content has failed");
                    self.given_up.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }

    fn feed(&self, key: Key, length: u64, gather: Option<Box<Gather>>, pieces: Vec<Piece>) {
        let mut gather = gather.unwrap_or_else(|| self.gather(length));
        let (content, mut lost) = (key.content, Vec::new());
        for Piece { run, bytes } in pieces {
            if self.stops() {
                return;
            }
            match bytes.map_or_else(|| self.read(content, &run), Ok) {
                Ok(bytes) => gather.add(run.offset, &bytes),
                Err(error) => {
                    tracing::debug!(%content, %error, "a run is not there any more");
                    lost.push(run);
                }
            }
        }
        let more = lock(&self.desk).give_back(key, gather, &lost);
        if more {
            self.work.notify_one();
        }
    }

    /// A run as the spool has it.
    fn read(&self, content: ContentId, run: &Run) -> io::Result<Bytes> {
        let spooled = self.spool.content(content).map_err(io::Error::other)?;
        let gone = || io::Error::new(io::ErrorKind::NotFound, "the spool has let it go");
        spooled.origin(run.offset, run.length.into()).ok_or_else(gone)?;
        let bytes = spooled.read(run.offset, run.length).map_err(io::Error::other)?;
        if self.prints.of(&bytes) == run.print {
            Ok(bytes)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the spool gives back other bytes"))
        }
    }

    /// Finishes the hashes of a content of which every byte has come, and states its names.
    fn finish(&self, whole: Whole) {
        let Whole { content, length, place, gather, mut coverage } = whole;
        let mut gather = gather.unwrap_or_else(|| self.gather(length));
        while !coverage.is_hashed() {
            for Piece { run, bytes } in coverage.take(1) {
                if self.stops() {
                    return;
                }
                match bytes.map_or_else(|| self.read(content, &run), Ok) {
                    Ok(bytes) => gather.add(run.offset, &bytes),
                    Err(error) => return self.give_up(content, &error),
                }
            }
        }
        let trees = gather.names_without_reading();
        let mut reader = Reader { inner: self, content, coverage: &coverage, last: None };
        let (digests, count) = match gather.finish(&mut |at, buffer| reader.fill(at, buffer)) {
            Ok(digests) => (digests, &self.proven),
            Err(_) if self.stops() => return,
            Err(error) if trees.names.is_empty() => return self.give_up(content, &error),
            Err(error) => {
                tracing::info!(
                    %content, by = %place.name, %error,
                    "only names of trees are proven: what the others need was not kept"
                );
                lock(&self.desk).unsettle(&content);
                (trees, &self.in_part)
            }
        };
        let names = digests.names.iter().map(|computed| computed.name).collect();
        let proof = Proof { place, length, names };
        if let Err(error) = self.state(&proof) {
            tracing::warn!(%content, %error, "a proof could not be kept: it is stated again later");
            let shed = lock(&self.unstated).keep(proof, self.rest);
            self.given_up.fetch_add(shed, Ordering::Relaxed);
        }
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn gather(&self, length: u64) -> Box<Gather> {
        Box::new(Gather::new(length, self.rules).with_room(ROOM))
    }

    /// Bytes that were there are not there any more: they count when they come again.
    fn give_up(&self, content: ContentId, error: &io::Error) {
        tracing::info!(%content, %error, "a content that has come is not proven");
        self.given_up.fetch_add(1, Ordering::Relaxed);
        lock(&self.desk).unsettle(&content);
    }

    /// Tells the name table.
    fn state(&self, proof: &Proof) -> Result<(), StoreError> {
        // The file is the same whatever its content is called by now; a name that was taken back has none.
        let binding = self.names.get(&proof.place.name);
        let file = binding.as_deref().and_then(|binding| proof.file(binding));
        let title = file.and_then(|file| file.path.rsplit('/').next()).unwrap_or_default();
        let statement = Statement {
            content: file.map(|file| file.content),
            names: proof.names.clone(),
            length: Some(proof.length),
            title: title.chars().filter(|c| !c.is_control()).take(MAX_TITLE).collect(),
            evidence: Evidence::Verified,
            stated_by: format!("relay: bytes verified by {}", proof.place.name).into(),
        };
        for outcome in self.names.state(&[statement])? {
            match outcome.what {
                What::Created | What::Extended | What::Known => tracing::info!(
                    by = %proof.place.name, length = proof.length, names = proof.names.len(),
                    "all bytes of a content have passed: its names are verified"
                ),
                What::Refused(why) => tracing::error!(
                    by = %proof.place.name, names = ?proof.names, %why,
                    "the names that were computed of a content are not taken"
                ),
            }
        }
        Ok(())
    }

    /// Tells the name table what it did not take before.
    fn state_again(&self) {
        let waiting = lock(&self.unstated).take();
        let mut refused = false;
        for proof in waiting {
            refused = refused || self.stops() || self.state(&proof).is_err();
            if refused {
                let shed = lock(&self.unstated).keep(proof, self.rest);
                self.given_up.fetch_add(shed, Ordering::Relaxed);
            }
        }
    }
}

/// Proofs that the name table did not take, the oldest first.
#[derive(Default)]
pub(super) struct Unstated {
    proofs: VecDeque<Proof>,
    /// When to try again.
    again: Option<Instant>,
}

impl Unstated {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.proofs.len()
    }

    /// How long to wait until they are stated again; `None` when there are none.
    fn rest(&self) -> Option<Duration> {
        self.again.map(|again| again.saturating_duration_since(Instant::now()))
    }

    fn take(&mut self) -> VecDeque<Proof> {
        self.again = None;
        std::mem::take(&mut self.proofs)
    }

    /// Keeps one more, to be stated after a rest; gives how many had to go for it.
    fn keep(&mut self, proof: Proof, rest: Duration) -> u64 {
        self.again = Some(Instant::now() + rest);
        self.proofs.push_back(proof);
        let over = self.proofs.len().saturating_sub(MOST_UNSTATED);
        self.proofs.drain(..over).count() as u64
    }
}

impl Proof {
    /// The file that was proven, in the binding that is in force.
    fn file<'a>(&self, binding: &'a Binding) -> Option<&'a FileEntry> {
        let is_it =
            |file: &&FileEntry| file.offset == self.place.offset && file.length == self.length;
        binding.files.iter().find(is_it)
    }
}

/// Reads a content out of the spool, run by run, as they were verified.
struct Reader<'a> {
    inner: &'a Inner,
    content: ContentId,
    coverage: &'a Coverage,
    last: Option<(Run, Bytes)>,
}

impl Reader<'_> {
    fn fill(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let (run, bytes) = self.run_with(at)?;
            let from = usize::try_from(at - run.offset).unwrap_or(usize::MAX);
            let part = bytes.get(from..).unwrap_or_default();
            let length = part.len().min(rest.len());
            let (Some(part), Some((head, tail))) =
                (part.get(..length).filter(|p| !p.is_empty()), rest.split_at_mut_checked(length))
            else {
                return Err(io::ErrorKind::UnexpectedEof.into());
            };
            head.copy_from_slice(part);
            (at, rest) = (at + length as u64, tail);
        }
        Ok(())
    }

    fn run_with(&mut self, at: u64) -> io::Result<(Run, Bytes)> {
        if let Some((run, bytes)) = &self.last
            && (run.offset..run.end()).contains(&at)
        {
            return Ok((*run, bytes.clone()));
        }
        if self.inner.stops() {
            return Err(io::Error::other("the bridge stops"));
        }
        let run = self.coverage.run_with(at).ok_or(io::ErrorKind::UnexpectedEof)?;
        let bytes = self.inner.read(self.content, &run)?;
        self.last = Some((run, bytes.clone()));
        Ok((run, bytes))
    }
}
