//! The files that one client offers, and when they are announced again: a client says only once that it has them.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use p2pbridge_proto::{Announce, Name, Peer, PeerEvent, PeerId};
use tokio::time::Instant;

use super::{
    super::{
        translate::announce_of_offer,
        wire::{Hash, server::FileRecord},
    },
    roster::Seat,
};

/// What a client offers.
#[derive(Debug)]
pub(super) struct Offers {
    most: usize,
    interval: Duration,
    files: HashMap<Hash, Offer>,
    /// When which one is announced again.
    due: BTreeSet<(Instant, Hash)>,
}

#[derive(Debug)]
struct Offer {
    title: Box<str>,
    length: Option<u64>,
    left: Option<u64>,
    due: Instant,
}

/// What an offer is beside those that were made before.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is to be announced.
    New(Box<Announce>),
    /// It was known.
    Known,
    /// The client offers too many.
    TooMany,
}

impl Offers {
    /// None yet. So many are taken at most, and announced again about every `interval`.
    pub(super) fn new(most: usize, interval: Duration) -> Self {
        let interval = interval.max(Duration::from_secs(1));
        Self { most, interval, files: HashMap::new(), due: BTreeSet::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether a file is offered already.
    pub(super) fn has(&self, hash: &Hash) -> bool {
        self.files.contains_key(hash)
    }

    /// Takes an offer of a client.
    pub(super) fn take(&mut self, file: &FileRecord, seat: &Seat, now: Instant) -> Taken {
        let before = self.files.get(&file.hash).map(|offer| (offer.left, offer.due));
        let event = match before {
            None if self.files.len() >= self.most => return Taken::TooMany,
            None => PeerEvent::Started,
            Some(_) => PeerEvent::Regular,
        };
        let mut announce = announce_of_offer(file, &seat.user, seat.endpoint, event);
        if let Some((left, due)) = before {
            if left == announce.left {
                return Taken::Known;
            }
            if announce.left == Some(0) {
                announce.event = PeerEvent::Completed;
            }
            self.due.remove(&(due, file.hash));
        }
        let due = now + self.wait(&file.hash);
        let offer = Offer {
            title: announce.title.as_str().into(),
            length: announce.length,
            left: announce.left,
            due,
        };
        self.files.insert(file.hash, offer);
        self.due.insert((due, file.hash));
        Taken::New(Box::new(announce))
    }

    /// When something is to be announced again.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// The next announce whose time has come.
    pub(super) fn pop_due(&mut self, seat: &Seat, now: Instant) -> Option<Announce> {
        let (_, hash) = *self.due.first().filter(|(due, _)| *due <= now)?;
        self.due.pop_first();
        let due = now + self.wait(&hash);
        let offer = self.files.get_mut(&hash)?;
        offer.due = due;
        self.due.insert((due, hash));
        Some(offer.announce(hash, seat, PeerEvent::Regular))
    }

    /// Takes one back, as the client leaves.
    pub(super) fn pop(&mut self, seat: &Seat) -> Option<Announce> {
        let hash = *self.files.keys().next()?;
        let offer = self.files.remove(&hash)?;
        self.due.remove(&(offer.due, hash));
        Some(offer.announce(hash, seat, PeerEvent::Stopped))
    }

    /// Between three and five quarters of the interval: silence counts from twice the interval on, and what came
    /// together shall not come together always.
    fn wait(&self, hash: &Hash) -> Duration {
        let share = u32::from(hash[0]) + 384;
        self.interval * share / 512
    }
}

impl Offer {
    fn announce(&self, hash: Hash, seat: &Seat, event: PeerEvent) -> Announce {
        let id = PeerId::try_from(&seat.user[..]).unwrap_or(PeerId::NONE);
        Announce {
            event,
            left: self.left,
            num_want: Some(0),
            title: self.title.to_string(),
            length: self.length,
            ..Announce::new(Peer { id, endpoint: seat.endpoint }, vec![Name::ed2k(hash)])
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, sync::Arc};

    use super::{
        super::{super::wire::server::Holder, roster::Entrant, roster::Roster},
        *,
    };

    const INTERVAL: Duration = Duration::from_secs(100);

    fn seat() -> Arc<Seat> {
        let high = Some(Ipv4Addr::new(198, 51, 100, 3));
        let entrant = Entrant { high, port: 4662, user: [5; 16], options: 0 };
        Roster::new(0).enter(&entrant).unwrap().0
    }

    fn file(number: u8, holder: Holder) -> FileRecord {
        FileRecord::new([number; 16], holder, "film.avi", 7)
    }

    #[tokio::test(start_paused = true)]
    async fn files_are_announced_once_and_again_before_they_are_forgotten() {
        let (seat, now) = (seat(), Instant::now());
        let mut offers = Offers::new(3, INTERVAL);
        for number in [0, 255] {
            let Taken::New(announce) = offers.take(&file(number, Holder::Complete), &seat, now)
            else {
                panic!("not new");
            };
            assert_eq!((announce.event, announce.left), (PeerEvent::Started, Some(0)));
            assert_eq!((announce.title.as_str(), announce.length), ("film.avi", Some(7)));
        }
        assert_eq!(offers.take(&file(0, Holder::Complete), &seat, now), Taken::Known);
        assert_eq!(offers.pop_due(&seat, now), None);
        assert_eq!(offers.next_due(), Some(now + INTERVAL * 3 / 4));
        let later = now + INTERVAL * 5 / 4;
        let again = [0, 1].map(|_| offers.pop_due(&seat, later).unwrap());
        assert_eq!(again.map(|announce| announce.names[0].digest()[0]), [0, 255]);
        assert_eq!(offers.pop_due(&seat, later), None);
        let gone: Vec<_> = std::iter::from_fn(|| offers.pop(&seat)).collect();
        assert!(gone.len() == 2 && gone.iter().all(|gone| gone.event == PeerEvent::Stopped));
        assert_eq!((offers.len(), offers.next_due()), (0, None));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_incomplete_is_told_when_it_is_complete_and_too_many_are_not_taken() {
        let (seat, now) = (seat(), Instant::now());
        let mut offers = Offers::new(1, INTERVAL);
        assert!(matches!(
            offers.take(&file(1, Holder::Incomplete), &seat, now),
            Taken::New(announce) if announce.left == Some(1)
        ));
        assert_eq!(offers.take(&file(2, Holder::Complete), &seat, now), Taken::TooMany);
        assert!(matches!(
            offers.take(&file(1, Holder::Complete), &seat, now),
            Taken::New(announce) if announce.event == PeerEvent::Completed
        ));
        assert_eq!((offers.len(), offers.has(&[1; 16]), offers.has(&[2; 16])), (1, true, false));
    }
}
