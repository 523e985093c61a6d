//! Who is served now, and who waits: one place for each client, slots for those who wait longest, and a share for each
//! turn.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use tokio_util::sync::{CancellationToken, DropGuard};

use super::super::{
    clients::{Client, Key, Need},
    wire::{Hash, PART},
};

/// Clients that may wait.
pub(super) const MAX_WAITING: usize = 2000;
/// Places of one address; not counted on loopback.
const PER_ADDRESS: usize = 16;
/// What a client gets in one turn, if others wait.
const SHARE: u64 = 2 * PART;
/// How long a turn lasts at most, if others wait.
const TURN: Duration = Duration::from_secs(600);
/// A slot that is not used for so long is lost.
const UNUSED: Duration = Duration::from_secs(60);
/// A place is forgotten when its client has not asked again for so long. eMule's clients ask twice an hour.
const FORGOTTEN: Duration = Duration::from_secs(3600);
/// Clients whose turn has come that may wait to be called.
const CALLS: usize = 256;

/// How a client stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It waits, without a connection or with one.
    Waiting,
    /// It may ask for bytes.
    Served,
    /// It has no place any more.
    Gone,
}

/// What came of asking for a place.
#[derive(Debug)]
pub(super) enum Asked {
    /// A place; `rank` is 0 for one that is served, and 1 for the first of those who wait.
    Place(Seat, usize),
    /// There is no room for more.
    Full,
}

/// A client whose turn has come, and that no session tells.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) client: Arc<Client>,
    pub(super) endpoint: SocketAddr,
}

/// The upload queue of one seeder.
#[derive(Debug)]
pub(super) struct Queue {
    slots: usize,
    state: Mutex<State>,
    calls: mpsc::Sender<Call>,
}

#[derive(Debug, Default)]
struct State {
    places: HashMap<Key, Place>,
    /// The one that waits longest is first.
    waiting: VecDeque<Key>,
    served: usize,
}

#[derive(Debug)]
struct Place {
    client: Arc<Client>,
    endpoint: SocketAddr,
    /// The file that it asked for last.
    file: Hash,
    standing: watch::Sender<Standing>,
    /// It waits for bytes that are not there; others go first.
    starved: bool,
    /// Ends what is done to feed it.
    feeding: Option<DropGuard>,
    asked: Instant,
    /// When its turn began, or it last asked for something in it.
    began: Instant,
    used: Instant,
    sent: u64,
    _need: Need,
}

/// A session's hold on its client's place. The place stays when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    key: Key,
    queue: Arc<Queue>,
    /// How the client stands.
    pub(super) standing: watch::Receiver<Standing>,
}

impl Queue {
    /// A queue with at least one slot; those who have to be called come by the receiver.
    pub(super) fn new(slots: usize) -> (Arc<Self>, mpsc::Receiver<Call>) {
        let (calls, called) = mpsc::channel(CALLS);
        (Arc::new(Self { slots: slots.max(1), state: Mutex::default(), calls }), called)
    }

    /// A place for a client that asks for a file, or the one that it has.
    pub(super) fn ask(self: &Arc<Self>, client: &Arc<Client>, at: SocketAddr, file: Hash) -> Asked {
        let (key, now) = (client.key(), Instant::now());
        let mut state = self.lock();
        if !state.places.contains_key(&key) {
            let same = || state.places.keys().filter(|other| other.ip == key.ip).count();
            if state.waiting.len() >= MAX_WAITING || !key.ip.is_loopback() && same() >= PER_ADDRESS
            {
                return Asked::Full;
            }
            let place = Place {
                client: client.clone(),
                endpoint: at,
                file,
                standing: watch::Sender::new(Standing::Waiting),
                starved: false,
                feeding: None,
                asked: now,
                began: now,
                used: now,
                sent: 0,
                _need: client.need(),
            };
            state.places.insert(key, place);
            state.waiting.push_back(key);
        }
        let Some(place) = state.places.get_mut(&key) else { return Asked::Full };
        place.endpoint = at;
        place.asked = now;
        // Who asks again is given a chance, and starves again if it must.
        place.starved = false;
        place.file = file;
        // Who has asked is here, and need not be called.
        let standing = place.standing.subscribe();
        self.fill(&mut state, now);
        let rank = state.rank(&key);
        Asked::Place(Seat { key, queue: self.clone(), standing }, rank)
    }

    /// The hold of a session on a place that its client has already: it was called, for example.
    pub(super) fn seat_of(self: &Arc<Self>, key: Key) -> Option<Seat> {
        let standing = self.lock().places.get(&key)?.standing.subscribe();
        Some(Seat { key, queue: self.clone(), standing })
    }

    /// A client that starves for this file: its bytes have come, or are not waited for any more.
    pub(super) fn feed(&self, key: &Key, file: &Hash) {
        let mut state = self.lock();
        if let Some(place) = state.places.get_mut(key)
            && place.file == *file
        {
            place.starved = false;
        }
        self.fill(&mut state, Instant::now());
    }

    /// Looks at the clock: unused slots and forgotten places go, and turns end when others wait.
    pub(super) fn look_at(&self, now: Instant) {
        let mut state = self.lock();
        let since = |then: Instant| now.saturating_duration_since(then);
        let gone: Vec<_> = state
            .places
            .iter()
            .filter(|(_, place)| match *place.standing.borrow() {
                Standing::Served => since(place.used) >= UNUSED,
                _ => since(place.asked) >= FORGOTTEN,
            })
            .map(|(key, _)| *key)
            .collect();
        for key in gone {
            state.remove(&key);
        }
        let over: Vec<_> = state
            .places
            .iter()
            .filter(|(_, place)| place.is_served() && since(place.began) >= TURN)
            .map(|(key, _)| *key)
            .collect();
        for key in over {
            state.end_turn(&key, now);
        }
        self.fill(&mut state, now);
    }

    /// Gives free slots to those who wait longest.
    fn fill(&self, state: &mut State, now: Instant) {
        while state.served < self.slots {
            let ready = |key: &Key| state.places.get(key).is_some_and(|place| !place.starved);
            let Some(at) = state.waiting.iter().position(ready) else { return };
            let Some(place) = state.waiting.remove(at).and_then(|key| state.places.get_mut(&key))
            else {
                continue;
            };
            (place.began, place.used, place.sent) = (now, now, 0);
            place.standing.send_replace(Standing::Served);
            state.served += 1;
            if place.standing.receiver_count() == 0 {
                let call = Call { client: place.client.clone(), endpoint: place.endpoint };
                // When too many are called, this one loses an unused slot.
                let _ = self.calls.try_send(call);
            }
        }
    }

    /// Whether anybody could use a slot.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn is_served(&self) -> bool {
        *self.standing.borrow() == Standing::Served
    }
}

impl State {
    fn rank(&self, key: &Key) -> usize {
        self.waiting.iter().position(|other| other == key).map_or(0, |at| at + 1)
    }

    fn remove(&mut self, key: &Key) {
        let Some(place) = self.places.remove(key) else { return };
        if place.is_served() {
            self.served = self.served.saturating_sub(1);
        }
        self.waiting.retain(|other| other != key);
        place.standing.send_replace(Standing::Gone);
    }

    /// Puts a client that is served behind those who wait, if somebody can use its slot.
    fn end_turn(&mut self, key: &Key, now: Instant) {
        let mut others = self.waiting.iter().filter_map(|other| self.places.get(other));
        if others.any(|place| !place.starved) {
            self.queue_again(key, now);
        }
    }

    fn queue_again(&mut self, key: &Key, now: Instant) {
        let Some(place) = self.places.get_mut(key).filter(|place| place.is_served()) else {
            return;
        };
        place.standing.send_replace(Standing::Waiting);
        place.asked = now;
        self.served = self.served.saturating_sub(1);
        self.waiting.push_back(*key);
    }
}

impl Seat {
    /// The client uses its slot: it has asked for bytes, or they are being brought for it.
    pub(super) fn used(&self) {
        if let Some(place) = self.queue.lock().places.get_mut(&self.key) {
            place.used = Instant::now();
        }
    }

    /// So many bytes were queued for the client. Ends its turn when it has had its share and others wait.
    pub(super) fn sent(&self, bytes: u64) {
        let now = Instant::now();
        let mut state = self.queue.lock();
        let Some(place) = state.places.get_mut(&self.key) else { return };
        place.used = now;
        place.sent = place.sent.saturating_add(bytes);
        if place.sent >= SHARE {
            state.end_turn(&self.key, now);
            self.queue.fill(&mut state, now);
        }
    }

    /// The bytes that the client wants are not there: it waits without a slot until [`Queue::feed`], or until it asks
    /// again. Whoever feeds it does so until the token is cancelled: it starves for something else then, or is gone.
    pub(super) fn starves(&self) -> CancellationToken {
        let (now, fed) = (Instant::now(), CancellationToken::new());
        let mut state = self.queue.lock();
        let guard = fed.clone().drop_guard();
        if let Some(place) = state.places.get_mut(&self.key) {
            place.starved = true;
            place.feeding = Some(guard);
        }
        state.queue_again(&self.key, now);
        self.queue.fill(&mut state, now);
        fed
    }

    /// The client wants nothing more.
    pub(super) fn leave(&self) {
        let mut state = self.queue.lock();
        state.remove(&self.key);
        self.queue.fill(&mut state, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use tokio::time::advance;

    use super::*;

    const FILE: Hash = [7; 16];

    struct Crowd {
        queue: Arc<Queue>,
        calls: mpsc::Receiver<Call>,
    }

    impl Crowd {
        fn new(slots: usize) -> Self {
            let (queue, calls) = Queue::new(slots);
            Self { queue, calls }
        }

        fn client(number: u8, ip: IpAddr) -> Arc<Client> {
            Client::new(Key { hash: [number; 16], ip })
        }

        fn ask_from(&self, number: u8, ip: IpAddr) -> Option<(Seat, usize)> {
            let asked = self.queue.ask(&Self::client(number, ip), (ip, 1).into(), FILE);
            match asked {
                Asked::Place(seat, rank) => Some((seat, rank)),
                Asked::Full => None,
            }
        }

        fn ask(&self, number: u8) -> (Seat, usize) {
            self.ask_from(number, Ipv4Addr::LOCALHOST.into()).unwrap()
        }
    }

    fn is_served(seat: &Seat) -> bool {
        *seat.standing.borrow() == Standing::Served
    }

    #[tokio::test(start_paused = true)]
    async fn slots_go_to_those_who_wait_longest_and_shares_are_equal() {
        let crowd = Crowd::new(1);
        let seats: Vec<_> = (0..5).map(|number| crowd.ask(number).0).collect();
        assert_eq!((crowd.ask(3).1, crowd.ask(0).1, crowd.queue.waiting()), (3, 0, 4));
        let mut turns = [0; 5];
        for _ in 0..25 {
            let served: Vec<_> = (0..5).filter(|at| is_served(&seats[*at])).collect();
            assert_eq!(served.len(), 1);
            for at in served {
                turns[at] += 1;
                seats[at].sent(SHARE);
            }
        }
        assert_eq!(turns, [5; 5]);
    }

    #[tokio::test(start_paused = true)]
    async fn alone_a_client_goes_on_and_unused_slots_are_lost() {
        let crowd = Crowd::new(1);
        let (one, _) = crowd.ask(1);
        one.sent(10 * SHARE);
        advance(UNUSED / 2).await;
        crowd.queue.look_at(Instant::now());
        assert!(is_served(&one));
        let (two, rank) = crowd.ask(2);
        assert_eq!(rank, 1);
        advance(UNUSED).await;
        crowd.queue.look_at(Instant::now());
        assert!(*one.standing.borrow() == Standing::Gone && is_served(&two));
        for _ in 0..20 {
            advance(UNUSED / 2).await;
            two.used();
            crowd.queue.look_at(Instant::now());
        }
        let (three, _) = crowd.ask(3);
        crowd.queue.look_at(Instant::now());
        assert!(is_served(&three) && *two.standing.borrow() == Standing::Waiting);
        three.leave();
        assert!(is_served(&two));
    }

    #[tokio::test(start_paused = true)]
    async fn who_starves_lets_others_go_first_and_is_called_when_there_is_something() {
        let mut crowd = Crowd::new(1);
        let (one, _) = crowd.ask(1);
        let (two, _) = crowd.ask(2);
        let feeding = one.starves();
        assert!(is_served(&two) && !is_served(&one) && !feeding.is_cancelled());
        two.leave();
        assert!(!is_served(&one) && crowd.queue.waiting() == 1);
        crowd.queue.feed(&one.key, &[0; 16]);
        assert!(!is_served(&one));
        assert!(crowd.calls.try_recv().is_err());
        let key = one.key;
        drop(one);
        crowd.queue.feed(&key, &FILE);
        assert_eq!(crowd.calls.try_recv().unwrap().client.key(), key);
        assert!(is_served(&crowd.queue.seat_of(key).unwrap()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_starves_and_asks_again_has_a_chance_again_and_one_feeding() {
        let crowd = Crowd::new(1);
        let (one, _) = crowd.ask(1);
        let first = one.starves();
        assert!(!is_served(&one));
        let (one, rank) = crowd.ask(1);
        assert!(is_served(&one) && rank == 0);
        let second = one.starves();
        assert!(first.is_cancelled() && !second.is_cancelled());
        one.leave();
        assert!(second.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_and_the_places_of_an_address_are_bounded_and_forgotten() {
        let crowd = Crowd::new(1);
        let ip = IpAddr::from([198, 51, 100, 7]);
        let seats: Vec<_> = (0..40).map_while(|number| crowd.ask_from(number, ip)).collect();
        assert_eq!(seats.len(), PER_ADDRESS);
        let mut came = seats.len();
        for other in 0..5000_u16 {
            let [high, low] = other.to_be_bytes();
            came += usize::from(crowd.ask_from(9, [203, 0, high, low].into()).is_some());
        }
        assert_eq!(came, MAX_WAITING + 1);
        advance(FORGOTTEN).await;
        crowd.queue.look_at(Instant::now());
        assert_eq!(crowd.queue.waiting(), 0);
    }
}
