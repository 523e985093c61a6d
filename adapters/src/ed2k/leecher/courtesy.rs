//! What all sessions with one client share: whose turn it is to name a file, whether the client gives us its slot, and
//! how often it was asked for one.
//!
//! An uploader of eMule's family has one slot for a client, and one file that goes with it: the one that the client
//! named last. Ranges of another file stay where they are, and all that were asked for after them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};

use super::{
    super::{
        clients::{Key, Link},
        wire::Hash,
    },
    pipeline::Asked,
};

/// Asking for a slot more often than this is rude (aMule's `MIN_REQUESTTIME`, and a little).
const POLITE: Duration = Duration::from_secs(600);
/// What each rude question costs; at [`BANNED`] aMule bans a client.
const RUDE: u32 = 3;
const BANNED: u32 = 10;
/// Clients above which those that have hung up are looked for: nothing is kept of their slots.
const TIDY: usize = 64;
/// Clients that are remembered after all sessions with them have ended.
const REMEMBERED: usize = 4096;

/// The courtesies of one overlay's leecher.
#[derive(Debug, Default)]
pub(super) struct Courtesies(Mutex<HashMap<Key, Arc<Courtesy>>>);

impl Courtesies {
    /// That of a client.
    pub(super) fn of(&self, client: Key, now: Instant) -> Arc<Courtesy> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= TIDY && !known.contains_key(&client) {
            known.values().for_each(|one| one.tidy());
        }
        if known.len() >= REMEMBERED && !known.contains_key(&client) {
            known.retain(|_, one| Arc::strong_count(one) > 1 || one.lock().asked_since(now));
        }
        known.entry(client).or_default().clone()
    }
}

/// What sessions with one client share.
#[derive(Debug)]
pub(super) struct Courtesy {
    turn: Arc<Semaphore>,
    waiting: AtomicUsize,
    sessions: watch::Sender<usize>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The connection for which the rest holds.
    link: Weak<Link>,
    /// The file that was named last.
    file: Option<Hash>,
    slot: bool,
    /// What was asked for in that slot.
    ranges: Asked,
    /// Whether the client keeps a place for us in its queue.
    queued: bool,
    /// When a slot was last asked for, and how rude that was.
    asked: Option<Instant>,
    rudeness: u32,
}

impl Default for Courtesy {
    fn default() -> Self {
        Self {
            turn: Arc::new(Semaphore::new(1)),
            waiting: AtomicUsize::new(0),
            sessions: watch::Sender::new(0),
            state: Mutex::default(),
        }
    }
}

/// The right to name a file; given back when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
    /// Since when it is had.
    pub(super) since: Instant,
}

/// A session takes part until this ends.
#[derive(Debug)]
pub(super) struct Taking {
    courtesy: Arc<Courtesy>,
    counts: bool,
}

impl Taking {
    /// In what it takes part.
    pub(super) fn courtesy(&self) -> &Arc<Courtesy> {
        &self.courtesy
    }

    /// The session wants nothing more.
    pub(super) fn end(&mut self) {
        if std::mem::replace(&mut self.counts, false) {
            self.courtesy.sessions.send_modify(|sessions| *sessions = sessions.saturating_sub(1));
        }
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        self.end();
        self.courtesy.tidy();
    }
}

impl Courtesy {
    /// A session begins.
    pub(super) fn take_part(self: Arc<Self>) -> Taking {
        self.sessions.send_modify(|sessions| *sessions += 1);
        Taking { courtesy: self, counts: true }
    }

    /// Waits until a session takes part.
    pub(super) async fn shared(&self) {
        // This holds the sender: it does not go.
        let _ = self.sessions.subscribe().wait_for(|sessions| *sessions > 0).await;
    }

    /// Waits for the turn.
    pub(super) async fn turn(self: Arc<Self>) -> Option<Turn> {
        let _waits = Waits::new(&self);
        let permit = self.turn.clone().acquire_owned().await.ok()?;
        Some(Turn { _permit: permit, since: Instant::now() })
    }

    /// The turn, if nobody has it.
    pub(super) fn turn_now(&self) -> Option<Turn> {
        let permit = self.turn.clone().try_acquire_owned().ok()?;
        Some(Turn { _permit: permit, since: Instant::now() })
    }

    /// Whether somebody waits for the turn.
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Takes down that a file is named now; gives whether that is news to the client. Only who has the turn does this.
    pub(super) fn name(&self, link: &Arc<Link>, file: &Hash) -> bool {
        let mut state = self.of(link);
        state.file.replace(*file) != Some(*file)
    }

    /// Takes down that the client gives us its slot.
    pub(super) fn granted(&self, link: &Arc<Link>) {
        let mut state = self.of(link);
        (state.slot, state.queued) = (true, false);
    }

    /// Takes down that the client has taken its slot back: in eMule we are in its queue again.
    pub(super) fn taken_back(&self, link: &Arc<Link>) {
        let mut state = self.of(link);
        state.end_slot();
        state.queued = true;
    }

    /// Takes down that we do not want the slot any more.
    pub(super) fn given_back(&self, link: &Arc<Link>) {
        let mut state = self.of(link);
        state.end_slot();
        state.queued = false;
    }

    /// The ranges that the client was asked for in its slot.
    pub(super) fn ranges(&self) -> Asked {
        self.lock().ranges.clone()
    }

    /// Whether the client gives us its slot on this connection.
    pub(super) fn has_slot(&self, link: &Arc<Link>) -> bool {
        self.of(link).slot
    }

    /// Whether the client may be asked for its slot now; it counts as asked then.
    pub(super) fn may_ask(&self, link: &Arc<Link>, now: Instant) -> bool {
        self.of(link).may_ask(now)
    }

    /// Nothing is kept of a slot whose connection has ended.
    fn tidy(&self) {
        let mut state = self.lock();
        if state.link.upgrade().is_none_or(|link| link.is_closed()) {
            state.end_slot();
        }
    }

    /// The state of this connection: a new one begins without file and slot. Who kept no place for us has forgotten us
    /// with the old one.
    fn of(&self, link: &Arc<Link>) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        if !std::ptr::eq(state.link.as_ptr(), Arc::as_ptr(link)) {
            state.change_link(Arc::downgrade(link));
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn change_link(&mut self, link: Weak<Link>) {
        (self.link, self.file) = (link, None);
        self.end_slot();
        if !self.queued {
            (self.asked, self.rudeness) = (None, 0);
        }
    }

    fn end_slot(&mut self) {
        self.slot = false;
        self.ranges.clear();
    }

    fn may_ask(&mut self, now: Instant) -> bool {
        let rudeness = match self.asked {
            None => 0,
            Some(_) if !self.asked_since(now) => self.rudeness.saturating_sub(1),
            Some(_) => self.rudeness + RUDE,
        };
        if rudeness >= BANNED {
            return false;
        }
        (self.asked, self.rudeness, self.queued) = (Some(now), rudeness, true);
        true
    }

    fn asked_since(&self, now: Instant) -> bool {
        self.asked.is_some_and(|asked| now.saturating_duration_since(asked) < POLITE)
    }
}

/// Counts who waits.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn new(courtesy: &'a Courtesy) -> Self {
        courtesy.waiting.fetch_add(1, Ordering::Relaxed);
        Self(&courtesy.waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{SOON, Sample, open, rig, sample, until},
        *,
    };
    use crate::{
        SourceError,
        ed2k::wire::transfer::{Message, PartStatus},
    };

    #[tokio::test(start_paused = true)]
    async fn a_slot_is_asked_for_as_often_as_amule_bears() {
        let courtesy = Courtesy::default();
        let asked = || courtesy.lock().may_ask(Instant::now());
        assert_eq!([asked(), asked(), asked(), asked(), asked()], [true, true, true, true, false]);
        tokio::time::advance(POLITE - Duration::from_secs(1)).await;
        assert!(!asked());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!([asked(), asked()], [true, false]);
        // A place in its queue is remembered over connections, and with it what was asked.
        courtesy.lock().change_link(Weak::new());
        assert!(!asked());
        courtesy.lock().queued = false;
        courtesy.lock().change_link(Weak::new());
        assert_eq!([asked(), asked(), asked(), asked(), asked()], [true, true, true, true, false]);
    }

    #[tokio::test]
    async fn nothing_is_kept_of_a_slot_that_has_ended_with_its_connection() {
        let (rig, sample) = (rig(), sample(400_000));
        let telling = Sample { what: sample.what.clone(), hash: sample.hash, hashes: Vec::new() };
        let (session, _script) = open(&rig, &sample, |mut peer| async move {
            peer.tell(&telling, PartStatus::complete()).await;
            peer.send(Message::AcceptUpload).await;
            // It hangs up instead of sending them.
            peer.ranges().await;
        })
        .await;
        let session = session.unwrap();
        until(&session, 0, true).await;
        let known = rig.leecher.courtesies.0.lock().unwrap().values().next().cloned();
        let courtesy = known.unwrap();
        assert!(courtesy.lock().slot);
        assert!(matches!(session.fetch(0..1000).await, Err(SourceError::Closed(_))));
        let emptied = async {
            while courtesy.lock().slot || courtesy.ranges().count() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SOON, emptied).await.unwrap();
    }

    #[tokio::test]
    async fn slots_of_clients_that_have_gone_are_looked_for_when_others_come() {
        let courtesies = Courtesies::default();
        let client = |number: u8| Key { hash: [number; 16], ip: [198, 51, 100, number].into() };
        let first = courtesies.of(client(0), Instant::now());
        first.ranges().note(0..1);
        first.lock().slot = true;
        for number in 0..64 {
            courtesies.of(client(number), Instant::now());
        }
        assert!(first.lock().slot && first.ranges().count() == 1);
        courtesies.of(client(64), Instant::now());
        assert!(!first.lock().slot && first.ranges().count() == 0);
    }

    #[tokio::test]
    async fn the_turn_goes_round_and_is_known_to_be_wanted() {
        let courtesy = Arc::new(Courtesy::default());
        let turn = courtesy.clone().turn().await.unwrap();
        assert!(courtesy.turn_now().is_none() && !courtesy.is_wanted());
        let next = tokio::spawn(courtesy.clone().turn());
        while !courtesy.is_wanted() {
            tokio::task::yield_now().await;
        }
        drop(turn);
        assert!(next.await.unwrap().is_some() && !courtesy.is_wanted());
    }
}
