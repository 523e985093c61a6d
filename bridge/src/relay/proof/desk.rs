//! Which contents are being proven, what is to be done next, and what is given up when there is too much.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;
use p2pbridge_nametable::digest::Gather;
use p2pbridge_proto::{ContentId, Name};

use super::coverage::{Coverage, Piece, Run};

/// By which name's hashes bytes were verified, and where that name shows the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The name.
    pub(crate) name: Name,
    /// The content's first byte in the name's layout.
    pub(crate) offset: u64,
}

/// How much there may be.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    /// Contents.
    pub(super) contents: usize,
    /// Bytes in memory that wait.
    pub(super) queue: u64,
    /// Bytes of memory for what was hashed so far, and for the knowledge of runs.
    pub(super) memory: u64,
    /// Bytes hashed in one go.
    pub(super) batch: u64,
    /// Bytes of one content that wait for what is missing before them.
    pub(super) hold: u64,
}

/// Names by whose hashes one content's bytes are followed.
const MOST_NAMES: usize = 4;
/// Contents of which is remembered that they need no proof.
const MOST_SETTLED: usize = 10_000;

/// A content that is being proven. Only bytes that one name verified are hashed together: two names that were bound
/// falsely may differ anywhere.
struct Gathering {
    /// Tells it from another of the same content, before or after it.
    serial: u64,
    length: u64,
    /// When it was fed last, in feedings.
    fed: u64,
    /// What each name verified. The first name's bytes are hashed as they come.
    by: Vec<(Place, Coverage)>,
    hashing: Hashing,
    /// Whether it stands in the line.
    in_line: bool,
    /// Memory of the hashes, as of when they were here last.
    hashes: u64,
    /// Memory that it counts for.
    weight: u64,
    /// Bytes that it counts for in the queue.
    queued: u64,
}

/// The hashes of a content.
enum Hashing {
    /// They are made as bytes come; nothing has been hashed when there are none.
    OnTheWay(Option<Box<Gather>>),
    /// A worker has them.
    AtWork,
    /// They took too much memory, or were made by another name: they are made from the spool when all has come.
    Later,
}

/// Which gathering a worker has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) content: ContentId,
    serial: u64,
}

/// What a worker is to do.
pub(super) enum Work {
    /// Hash these runs.
    Feed { key: Key, length: u64, gather: Option<Box<Gather>>, pieces: Vec<Piece> },
    /// All bytes have come: finish the hashes, with what is still to be read.
    Finish(Whole),
}

/// A content of which every byte has come.
pub(super) struct Whole {
    pub(super) content: ContentId,
    pub(super) length: u64,
    /// By what it was verified.
    pub(super) place: Place,
    /// Its hashes so far; none when nothing has been hashed.
    pub(super) gather: Option<Box<Gather>>,
    /// Where its bytes are.
    pub(super) coverage: Coverage,
}

/// The contents that are being proven.
pub(super) struct Desk {
    bounds: Bounds,
    gatherings: HashMap<ContentId, Gathering>,
    /// Contents with work for a worker.
    line: VecDeque<ContentId>,
    /// Contents that need no proof, or are being finished; the oldest first.
    settled: HashSet<ContentId>,
    settled_order: VecDeque<ContentId>,
    queued: u64,
    memory: u64,
    feedings: u64,
    serials: u64,
    given_up: u64,
}

/// What is known of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Unknown,
    Gathering,
    Settled,
}

impl Desk {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            gatherings: HashMap::new(),
            line: VecDeque::new(),
            settled: HashSet::new(),
            settled_order: VecDeque::new(),
            queued: 0,
            memory: 0,
            feedings: 0,
            serials: 0,
            given_up: 0,
        }
    }

    pub(super) fn standing(&self, content: &ContentId) -> Standing {
        match (self.settled.contains(content), self.gatherings.contains_key(content)) {
            (true, _) => Standing::Settled,
            (false, true) => Standing::Gathering,
            (false, false) => Standing::Unknown,
        }
    }

    /// Remembers that a content needs no proof.
    pub(super) fn settle(&mut self, content: ContentId) {
        if self.settled.insert(content) {
            self.settled_order.push_back(content);
        }
        while self.settled.len() > MOST_SETTLED
            && let Some(oldest) = self.settled_order.pop_front()
        {
            self.settled.remove(&oldest);
        }
    }

    /// Forgets that a content needs no proof: its bytes count when they come again.
    pub(super) fn unsettle(&mut self, content: &ContentId) {
        if self.settled.remove(content) {
            self.settled_order.retain(|known| known != content);
        }
    }

    /// Takes verified runs of a content. Says whether there is work.
    pub(super) fn offer(
        &mut self,
        content: ContentId,
        length: u64,
        place: Place,
        runs: Vec<(Run, Bytes)>,
    ) -> bool {
        if self.settled.contains(&content) {
            return false;
        }
        self.feedings += 1;
        if self.gatherings.get(&content).is_some_and(|known| known.length != length) {
            self.drop_gathering(&content, "its length is another than it was");
        }
        if !self.gatherings.contains_key(&content) {
            if Coverage::memory_of(length) > self.bounds.memory {
                tracing::info!(%content, length, "a content is too long to be proven by its traffic");
                self.given_up += 1;
                self.settle(content);
                return false;
            }
            self.begin(content, length);
        }
        let Some(gathering) = self.gatherings.get_mut(&content) else { return false };
        gathering.fed = self.feedings;
        let at = match gathering.by.iter().position(|(known, _)| *known == place) {
            Some(at) => at,
            None if gathering.by.len() < MOST_NAMES => {
                gathering.by.push((place, Coverage::default()));
                gathering.by.len() - 1
            }
            None => return false,
        };
        let at_once = at == 0 && !matches!(gathering.hashing, Hashing::Later);
        let mut room = self.bounds.queue.saturating_sub(self.queued);
        for (run, bytes) in runs {
            let Some((_, coverage)) = gathering.by.get_mut(at).filter(|_| run.end() <= length)
            else {
                continue;
            };
            if at_once && u64::from(run.length) <= room {
                room -= u64::from(run.length);
                coverage.add(run, Some(bytes));
            } else if run.spooled {
                coverage.add(run, None);
            }
        }
        gathering.choose_name();
        self.weigh(&content);
        self.shed();
        self.put_in_line(content)
    }

    /// What is to be done next.
    pub(super) fn next(&mut self) -> Option<Work> {
        loop {
            let content = self.line.pop_front()?;
            if let Some(work) = self.work_on(content) {
                return Some(work);
            }
        }
    }

    fn work_on(&mut self, content: ContentId) -> Option<Work> {
        let gathering = self.gatherings.get_mut(&content)?;
        gathering.in_line = false;
        let hashed = gathering.by.first().is_some_and(|(_, coverage)| coverage.is_hashed());
        if gathering.is_whole() && (hashed || matches!(gathering.hashing, Hashing::Later)) {
            return self.finish(content);
        }
        let key = Key { content, serial: gathering.serial };
        let Hashing::OnTheWay(gather) = &mut gathering.hashing else { return None };
        let gather = gather.take();
        gathering.hashing = Hashing::AtWork;
        let pieces = match gathering.by.first_mut() {
            Some((_, coverage)) => coverage.take(self.bounds.batch),
            None => Vec::new(),
        };
        let length = gathering.length;
        self.weigh(&content);
        Some(Work::Feed { key, length, gather, pieces })
    }

    /// Takes the hashes of a gathering back; `lost` are runs that the spool did not give. Says whether there is work.
    pub(super) fn give_back(&mut self, key: Key, gather: Box<Gather>, lost: &[Run]) -> bool {
        let Some(gathering) = self.gatherings.get_mut(&key.content) else { return false };
        if gathering.serial != key.serial {
            return false;
        }
        if matches!(gathering.hashing, Hashing::AtWork) {
            gathering.hashing = Hashing::OnTheWay(Some(gather));
        }
        if let Some((_, coverage)) = gathering.by.first_mut() {
            lost.iter().for_each(|run| coverage.lose(run));
        }
        self.weigh(&key.content);
        self.shed();
        self.put_in_line(key.content)
    }

    /// Forgets a gathering whose hashes are lost.
    pub(super) fn abandon(&mut self, key: Key, why: &str) {
        if self.gatherings.get(&key.content).is_some_and(|known| known.serial == key.serial) {
            self.drop_gathering(&key.content, why);
        }
    }

    /// Contents that are being proven.
    pub(super) fn len(&self) -> usize {
        self.gatherings.len()
    }

    /// Bytes in memory that wait.
    pub(super) fn queued(&self) -> u64 {
        self.queued
    }

    /// Whether no worker has, or will find, something to do.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        let at_work = |known: &Gathering| matches!(known.hashing, Hashing::AtWork);
        self.line.is_empty() && !self.gatherings.values().any(at_work)
    }

    /// Contents that were given up.
    pub(super) fn given_up(&self) -> u64 {
        self.given_up
    }

    fn begin(&mut self, content: ContentId, length: u64) {
        if self.gatherings.len() >= self.bounds.contents
            && let Some(oldest) = self.oldest(|_| true)
        {
            self.drop_gathering(&oldest, "others have come since");
        }
        self.serials += 1;
        let gathering = Gathering {
            serial: self.serials,
            length,
            fed: self.feedings,
            by: Vec::new(),
            hashing: Hashing::OnTheWay(None),
            in_line: false,
            hashes: 0,
            weight: 0,
            queued: 0,
        };
        self.gatherings.insert(content, gathering);
    }

    /// Takes a whole content out, to be finished; it counts as settled meanwhile.
    fn finish(&mut self, content: ContentId) -> Option<Work> {
        let gathering = self.remove(&content)?;
        let length = gathering.length;
        let (place, coverage) = gathering.by.into_iter().next()?;
        let gather = match gathering.hashing {
            Hashing::OnTheWay(gather) => gather,
            Hashing::AtWork | Hashing::Later => None,
        };
        self.settle(content);
        Some(Work::Finish(Whole { content, length, place, gather, coverage }))
    }

    /// Says whether it stands in the line now.
    fn put_in_line(&mut self, content: ContentId) -> bool {
        let hold = self.bounds.hold;
        let Some(gathering) = self.gatherings.get_mut(&content) else { return false };
        let ready = match &gathering.hashing {
            Hashing::AtWork => false,
            Hashing::Later => gathering.is_whole(),
            Hashing::OnTheWay(_) => {
                let work = |coverage: &Coverage| coverage.has_work(gathering.length, hold);
                gathering.is_whole() || gathering.by.first().is_some_and(|(_, c)| work(c))
            }
        };
        if ready && !gathering.in_line {
            gathering.in_line = true;
            self.line.push_back(content);
        }
        ready
    }

    /// Counts again what a gathering takes.
    fn weigh(&mut self, content: &ContentId) {
        let Some(gathering) = self.gatherings.get_mut(content) else { return };
        gathering.hashes = match &gathering.hashing {
            Hashing::OnTheWay(Some(gather)) => gather.memory() as u64,
            Hashing::AtWork => gathering.hashes,
            Hashing::OnTheWay(None) | Hashing::Later => 0,
        };
        let hashes = gathering.hashes;
        let runs = gathering.by.iter().map(|(_, coverage)| coverage.memory()).sum::<u64>();
        let queued = gathering.by.iter().map(|(_, coverage)| coverage.queued()).sum::<u64>();
        self.memory = (self.memory + hashes + runs).saturating_sub(gathering.weight);
        self.queued = (self.queued + queued).saturating_sub(gathering.queued);
        (gathering.weight, gathering.queued) = (hashes + runs, queued);
    }

    /// Keeps the bound of memory: first hashes are dropped, to be made from the spool later; then contents are given up.
    fn shed(&mut self) {
        while self.memory > self.bounds.memory {
            let has_hashes = |g: &Gathering| matches!(g.hashing, Hashing::OnTheWay(Some(_)));
            if let Some(content) = self.oldest(has_hashes) {
                if let Some(gathering) = self.gatherings.get_mut(&content) {
                    gathering.hash_later();
                }
                self.weigh(&content);
                self.put_in_line(content);
            } else if let Some(content) = self.oldest(|_| true) {
                self.drop_gathering(&content, "it takes too much memory");
            } else {
                break;
            }
        }
    }

    /// The one of these that was fed longest ago.
    fn oldest(&self, of: impl Fn(&Gathering) -> bool) -> Option<ContentId> {
        let of = self.gatherings.iter().filter(|(_, gathering)| of(gathering));
        of.min_by_key(|(_, gathering)| gathering.fed).map(|(content, _)| *content)
    }

    fn drop_gathering(&mut self, content: &ContentId, why: &str) {
        if self.remove(content).is_some() {
            self.given_up += 1;
            tracing::debug!(%content, why, "a content is not proven by its traffic");
        }
    }

    fn remove(&mut self, content: &ContentId) -> Option<Gathering> {
        let gathering = self.gatherings.remove(content)?;
        if gathering.in_line {
            self.line.retain(|other| other != content);
        }
        self.memory = self.memory.saturating_sub(gathering.weight);
        self.queued = self.queued.saturating_sub(gathering.queued);
        Some(gathering)
    }
}

impl Gathering {
    /// Whether the first name has verified every byte.
    fn is_whole(&self) -> bool {
        self.by.first().is_some_and(|(_, coverage)| coverage.is_whole(self.length))
    }

    /// When another name has verified every byte before the first one has, its bytes are the ones to be hashed.
    fn choose_name(&mut self) {
        if self.is_whole() {
            return;
        }
        let whole = self.by.iter().position(|(_, coverage)| coverage.is_whole(self.length));
        if let Some(at) = whole {
            self.hash_later();
            self.by.swap(0, at);
        }
    }

    fn hash_later(&mut self) {
        self.hashing = Hashing::Later;
        self.by.iter_mut().for_each(|(_, coverage)| coverage.start_over());
    }
}
