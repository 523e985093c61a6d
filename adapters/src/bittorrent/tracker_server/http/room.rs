//! Room for connections: so many in all, and so many from one place.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::process::{Resource, getrlimit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections of a server at a time, if the process may open four times as many files; those above are told so.
const MAX_CONNECTIONS: usize = 4096;
/// Connections from one IPv4 address or one IPv6 network of 64 bits, which is what one customer has. This machine may
/// have more, and so may the proxy that all come through.
const MAX_FROM_ONE: usize = 128;

/// Room for the connections of a server, of all its threads together.
pub(in super::super) struct Room {
    capacity: usize,
    free: Arc<Semaphore>,
    /// Connections from each place; none is kept with zero.
    from: Mutex<HashMap<IpAddr, usize>>,
    each: usize,
}

/// A connection's place, which is free again when it is dropped.
pub(super) struct Place {
    room: Arc<Room>,
    from: Option<IpAddr>,
    _permit: OwnedSemaphorePermit,
}

impl Room {
    /// Room for what the process can afford: with a quarter of its files for this it has enough for all else.
    pub(in super::super) fn new(behind_a_proxy: bool) -> Arc<Self> {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let files = usize::try_from(files / 4).unwrap_or(usize::MAX);
        let each = if behind_a_proxy { usize::MAX } else { MAX_FROM_ONE };
        Self::of(files.clamp(1, MAX_CONNECTIONS), each)
    }

    fn of(capacity: usize, each: usize) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(capacity));
        Arc::new(Self { capacity, free, from: Mutex::default(), each })
    }

    /// How many connections there can be.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether more than half of the room is taken, so that idle connections are not kept for long.
    pub(super) fn is_crowded(&self) -> bool {
        self.free.available_permits() < self.capacity / 2
    }

    /// A place for a connection from an address, if there is one.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let permit = self.free.clone().try_acquire_owned().ok()?;
        let from = (!address.is_loopback()).then(|| network(address));
        if let Some(from) = from {
            let mut counts = self.counts();
            let count = counts.entry(from).or_default();
            if *count >= self.each {
                return None;
            }
            *count += 1;
        }
        Some(Place { room: self.clone(), from, _permit: permit })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.from.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(from) = self.from else { return };
        let mut counts = self.room.counts();
        if let Some(count) = counts.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&from);
            }
        }
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_does_not_take_all_the_room() {
        let room = Room::of(5, 2);
        let admit = |address: &str| room.admit(address.parse().unwrap());
        let held = [admit("2001:db8::1"), admit("2001:db8::2:1")].map(Option::unwrap);
        assert!(admit("2001:db8::3").is_none() && !room.is_crowded());
        let other = admit("2001:db8:0:1::1").unwrap();
        let four = admit("10.0.0.1").unwrap();
        assert!(room.is_crowded());
        let last = admit("127.0.0.1").unwrap();
        assert!(admit("10.0.0.2").is_none(), "the room is full");
        drop((held, last));
        assert!(admit("2001:db8::3").is_some());
        drop((four, other));
        assert!(room.counts().is_empty() && room.free.available_permits() == 5);
    }

    #[test]
    fn this_machine_and_a_proxy_may_take_all_of_it() {
        let room = Room::of(5, 1);
        let mine: Vec<_> = (0..5).map(|_| room.admit([127, 0, 0, 1].into()).unwrap()).collect();
        assert!(room.admit([127, 0, 0, 1].into()).is_none());
        drop(mine);
        let room = Room::of(5, usize::MAX);
        let proxied: Vec<_> = (0..5).map(|_| room.admit([10, 0, 0, 1].into()).unwrap()).collect();
        assert_eq!(proxied.len(), 5);
    }
}
