//! Who is logged in, by the ids that the server gave.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::wire::{
    ClientId, Hash,
    id::FIRST_HIGH,
    server::{Crypt, ServerMessage},
};

/// Messages to one client that come from others and wait for its session.
const MAILBOX: usize = 32;
/// Files of all sessions together.
const MAX_FILES: usize = 1_000_000;

/// The sessions of a server.
#[derive(Debug)]
pub(super) struct Roster {
    seats: Mutex<Seats>,
    files: AtomicUsize,
}

#[derive(Debug)]
struct Seats {
    by_endpoint: HashMap<SocketAddr, Arc<Seat>>,
    low: HashMap<u32, SocketAddr>,
    /// The low id that was given last.
    last: u32,
}

/// A client that is logged in, as others see it.
#[derive(Debug)]
pub(super) struct Seat {
    /// What the server calls it.
    pub(super) id: ClientId,
    /// Under which endpoint it is announced.
    pub(super) endpoint: SocketAddr,
    /// Its user hash.
    pub(super) user: Hash,
    /// How it obfuscates, as bits.
    pub(super) options: u8,
    mailbox: mpsc::Sender<ServerMessage>,
    /// Cancelled when it has to go.
    pub(super) leave: CancellationToken,
    /// Cancelled when it has gone, and its offers with it.
    pub(super) gone: CancellationToken,
}

impl Seat {
    /// Gives a message to its session; `false` when too many wait there already, or it has ended.
    pub(super) fn tell(&self, message: ServerMessage) -> bool {
        self.mailbox.try_send(message).is_ok()
    }

    /// How it obfuscates, with its user hash if it does.
    pub(super) fn crypt(&self) -> Crypt {
        Crypt { options: self.options, user: (self.options != 0).then_some(self.user) }
    }
}

/// Who wants to be logged in.
pub(super) struct Entrant {
    /// Its address, if it can be reached there.
    pub(super) high: Option<Ipv4Addr>,
    /// Its port.
    pub(super) port: u16,
    /// Its user hash.
    pub(super) user: Hash,
    /// How it obfuscates, as bits.
    pub(super) options: u8,
}

impl Roster {
    /// Nobody is logged in. Low ids are given from this number on: after a restart those of before mean nobody.
    pub(super) fn new(first: u32) -> Self {
        let seats =
            Seats { by_endpoint: HashMap::new(), low: HashMap::new(), last: first % FIRST_HIGH };
        Self { seats: Mutex::new(seats), files: AtomicUsize::new(0) }
    }

    /// A seat for a client. One who sat there before (the same address and port) gets up: its session is told to end,
    /// and is given too.
    pub(super) fn enter(
        &self,
        entrant: &Entrant,
    ) -> Option<(Arc<Seat>, mpsc::Receiver<ServerMessage>, Option<Arc<Seat>>)> {
        let mut seats = self.lock();
        let id = match entrant.high.map(|high| ClientId::from_number(number(high))) {
            Some(id @ ClientId::High(_)) => id,
            // An address that ends in 0 looks like a low id.
            _ => ClientId::Low(seats.free_low()?),
        };
        let (mailbox, letters) = mpsc::channel(MAILBOX);
        let seat = Arc::new(Seat {
            id,
            endpoint: id.endpoint(entrant.port),
            user: entrant.user,
            options: entrant.options,
            mailbox,
            leave: CancellationToken::new(),
            gone: CancellationToken::new(),
        });
        let before = seats.by_endpoint.insert(seat.endpoint, seat.clone());
        if let ClientId::Low(low) = id {
            seats.low.insert(low, seat.endpoint);
        }
        if let Some(before) = &before {
            before.leave.cancel();
        }
        Some((seat, letters, before))
    }

    /// A client has gone.
    pub(super) fn leave(&self, seat: &Arc<Seat>) {
        let mut seats = self.lock();
        if seats.by_endpoint.get(&seat.endpoint).is_some_and(|here| Arc::ptr_eq(here, seat)) {
            seats.by_endpoint.remove(&seat.endpoint);
            if let ClientId::Low(low) = seat.id {
                seats.low.remove(&low);
            }
        }
        drop(seats);
        seat.gone.cancel();
    }

    /// Who is announced at an endpoint.
    pub(super) fn at(&self, endpoint: SocketAddr) -> Option<Arc<Seat>> {
        self.lock().by_endpoint.get(&endpoint).cloned()
    }

    /// Who has a low id.
    pub(super) fn low(&self, id: u32) -> Option<Arc<Seat>> {
        let seats = self.lock();
        seats.by_endpoint.get(seats.low.get(&id)?).cloned()
    }

    /// How many are logged in, and how many of them have a low id.
    pub(super) fn users(&self) -> (usize, usize) {
        let seats = self.lock();
        (seats.by_endpoint.len(), seats.low.len())
    }

    /// Files that are offered, counted once for each who offers.
    pub(super) fn files(&self) -> usize {
        self.files.load(Ordering::Relaxed)
    }

    /// One more file is offered; `false` when there is no room for it.
    pub(super) fn take_file(&self) -> bool {
        let more = |files: usize| (files < MAX_FILES).then_some(files + 1);
        self.files.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// So many files are not offered any more.
    pub(super) fn give_files(&self, count: usize) {
        self.files.fetch_sub(count, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seats {
    /// The next number that nobody has; there are sixteen times as many as sessions at most.
    fn free_low(&mut self) -> Option<u32> {
        for _ in 0..=self.low.len() {
            self.last = (self.last % (FIRST_HIGH - 1)) + 1;
            if !self.low.contains_key(&self.last) {
                return Some(self.last);
            }
        }
        None
    }
}

fn number(address: Ipv4Addr) -> u32 {
    ClientId::High(address).number()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entrant(high: Option<Ipv4Addr>) -> Entrant {
        Entrant { high, port: 4662, user: [1; 16], options: 0 }
    }

    #[test]
    fn low_ids_are_nobodys_twice_and_start_again_at_one() {
        let roster = Roster::new(FIRST_HIGH - 2);
        let ids = [FIRST_HIGH - 1, 1, 2].map(|id| {
            let (seat, _, before) = roster.enter(&entrant(None)).unwrap();
            assert!(before.is_none());
            assert_eq!(seat.id, ClientId::Low(id));
            seat
        });
        assert_eq!(roster.users(), (3, 3));
        assert!(Arc::ptr_eq(&roster.low(1).unwrap(), &ids[1]));
        roster.leave(&ids[1]);
        assert!(roster.low(1).is_none() && ids[1].gone.is_cancelled());
        let ends_in_zero = Ipv4Addr::new(10, 1, 2, 0);
        let (seat, ..) = roster.enter(&entrant(Some(ends_in_zero))).unwrap();
        assert_eq!(seat.id, ClientId::Low(3));
    }

    #[test]
    fn who_comes_again_takes_the_seat_and_keeps_it() {
        let roster = Roster::new(0);
        let high = Some(Ipv4Addr::new(198, 51, 100, 3));
        let (first, ..) = roster.enter(&entrant(high)).unwrap();
        let (second, _, before) = roster.enter(&entrant(high)).unwrap();
        assert!(Arc::ptr_eq(&before.unwrap(), &first) && first.leave.is_cancelled());
        roster.leave(&first);
        assert!(Arc::ptr_eq(&roster.at(second.endpoint).unwrap(), &second));
        assert_eq!(roster.users(), (1, 0));
        roster.leave(&second);
        assert_eq!(roster.users(), (0, 0));
    }
}
