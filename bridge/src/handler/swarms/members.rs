//! The peers of one swarm in one family of addresses, packed: ten bytes each in IPv4.

use std::{
    hash::{BuildHasher, Hash},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

use hashbrown::HashTable;
use p2pbridge_proto::Peer;

/// Up to here, looking at each is faster than an index.
const INDEX_FROM: usize = 64;
/// How many are looked at for each peer that is wanted: bounds the time that a swarm full of seeders costs a seeder.
const LOOKED_AT: usize = 8;

/// An address and a port, as bytes in network order.
pub(super) trait Place: Copy + Eq + Hash {
    fn endpoint(self) -> SocketAddr;
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct V4([u8; 6]);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct V6([u8; 18]);

impl From<SocketAddrV4> for V4 {
    fn from(at: SocketAddrV4) -> Self {
        let [a, b, c, d] = at.ip().octets();
        let [high, low] = at.port().to_be_bytes();
        Self([a, b, c, d, high, low])
    }
}

impl From<SocketAddrV6> for V6 {
    fn from(at: SocketAddrV6) -> Self {
        let mut bytes = [0; 18];
        let parts = at.ip().octets().into_iter().chain(at.port().to_be_bytes());
        bytes.iter_mut().zip(parts).for_each(|(place, byte)| *place = byte);
        Self(bytes)
    }
}

impl Place for V4 {
    fn endpoint(self) -> SocketAddr {
        let [a, b, c, d, high, low] = self.0;
        SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([high, low])).into()
    }
}

impl Place for V6 {
    fn endpoint(self) -> SocketAddr {
        let [ip @ .., high, low] = self.0;
        let port = u16::from_be_bytes([high, low]);
        SocketAddrV6::new(Ipv6Addr::from(ip), port, 0, 0).into()
    }
}

/// What a peer said last: when, in seconds, and whether it has everything.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Told([u8; 4]);

impl Told {
    pub(super) fn new(second: u32, complete: bool) -> Self {
        Self((second << 1 | u32::from(complete)).to_ne_bytes())
    }

    pub(super) fn second(self) -> u32 {
        u32::from_ne_bytes(self.0) >> 1
    }

    pub(super) fn complete(self) -> bool {
        u32::from_ne_bytes(self.0) & 1 == 1
    }
}

#[derive(Clone, Copy)]
struct Member<P> {
    at: P,
    told: Told,
}

/// The peers of a swarm in one family.
pub(super) struct Members<P> {
    list: Vec<Member<P>>,
    /// Where in the list an address is, once the list is long.
    index: Option<Box<HashTable<u32>>>,
    seeders: u32,
}

impl<P> Default for Members<P> {
    fn default() -> Self {
        Self { list: Vec::new(), index: None, seeders: 0 }
    }
}

/// Which peers are wanted.
pub(super) struct Wanted<P> {
    /// Peers in the answer at most, with those that are in it already.
    pub(super) most: usize,
    /// Where in the list to begin.
    pub(super) start: u64,
    /// Who asks.
    pub(super) asker: Option<P>,
    /// Peers that have everything are of no use to one that has everything too.
    pub(super) leechers_only: bool,
    /// Who was heard before this second is gone.
    pub(super) since: u32,
}

impl<P: Place> Members<P> {
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// One of them.
    pub(super) fn first(&self) -> Option<SocketAddr> {
        self.list.first().map(|member| member.at.endpoint())
    }

    /// (Seeders, leechers).
    pub(super) fn counts(&self) -> (u32, u32) {
        let all = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        (self.seeders, all.saturating_sub(self.seeders))
    }

    /// What a peer said last.
    pub(super) fn get(&self, at: P, hasher: &impl BuildHasher) -> Option<Told> {
        self.position(at, hasher).and_then(|place| self.list.get(place)).map(|member| member.told)
    }

    /// Takes down what a peer says; `true` when it is new.
    pub(super) fn put(&mut self, at: P, told: Told, hasher: &impl BuildHasher) -> bool {
        if let Some(place) = self.position(at, hasher)
            && let Some(member) = self.list.get_mut(place)
        {
            self.seeders -= u32::from(member.told.complete());
            self.seeders += u32::from(told.complete());
            member.told = told;
            return false;
        }
        let place = self.list.len();
        self.list.push(Member { at, told });
        self.seeders += u32::from(told.complete());
        match &mut self.index {
            Some(index) => {
                let list = &self.list;
                index.insert_unique(hasher.hash_one(at), number(place), |place| {
                    hash_at(list, *place, hasher)
                });
            }
            None if self.list.len() > INDEX_FROM => self.build_index(hasher),
            None => {}
        }
        true
    }

    /// Forgets a peer; `true` when it was there.
    pub(super) fn remove(&mut self, at: P, hasher: &impl BuildHasher) -> bool {
        let place = self.position(at, hasher);
        place.is_some_and(|place| self.remove_at(place, hasher))
    }

    /// Forgets the peer at a place that a number picks.
    pub(super) fn remove_any(&mut self, pick: u64, hasher: &impl BuildHasher) -> bool {
        let place = start(pick, self.list.len());
        !self.list.is_empty() && self.remove_at(place, hasher)
    }

    fn remove_at(&mut self, place: usize, hasher: &impl BuildHasher) -> bool {
        let Some(member) = self.list.get(place).copied() else { return false };
        let last = self.list.len() - 1;
        if let Some(index) = &mut self.index {
            let hash = hasher.hash_one(member.at);
            if let Ok(entry) = index.find_entry(hash, |other| *other == number(place)) {
                entry.remove();
            }
            if let Some(moved) = self.list.get(last).filter(|_| last != place)
                && let Some(entry) =
                    index.find_mut(hasher.hash_one(moved.at), |other| *other == number(last))
            {
                *entry = number(place);
            }
        }
        self.list.swap_remove(place);
        self.seeders -= u32::from(member.told.complete());
        true
    }

    /// Forgets who was heard before a second; gives how many.
    pub(super) fn expire(&mut self, since: u32, hasher: &impl BuildHasher) -> usize {
        let before = self.list.len();
        self.list.retain(|member| member.told.second() >= since);
        let gone = before - self.list.len();
        if gone > 0 {
            let seeders = self.list.iter().filter(|member| member.told.complete()).count();
            self.seeders = number(seeders);
            self.list.shrink_to(self.list.len() * 2);
            self.index = None;
            if self.list.len() > INDEX_FROM {
                self.build_index(hasher);
            }
        }
        gone
    }

    /// When the last one was heard.
    pub(super) fn last_heard(&self) -> u32 {
        // The samples that eviction looks at are small swarms.
        self.list.iter().take(INDEX_FROM).map(|member| member.told.second()).max().unwrap_or(0)
    }

    /// Adds peers to an answer.
    pub(super) fn pick(&self, wanted: &Wanted<P>, out: &mut Vec<Peer>) {
        let room = wanted.most.saturating_sub(out.len());
        if room == 0 || (wanted.leechers_only && self.counts().1 == 0) {
            return;
        }
        let (head, tail) = self.list.split_at(start(wanted.start, self.list.len()));
        let looked_at = room.saturating_mul(LOOKED_AT).saturating_add(LOOKED_AT);
        let fit = |member: &&Member<P>| {
            Some(member.at) != wanted.asker
                && !(wanted.leechers_only && member.told.complete())
                && member.told.second() >= wanted.since
        };
        let fitting = tail.iter().chain(head).take(looked_at).filter(fit).take(room);
        out.extend(fitting.map(|member| Peer::at(member.at.endpoint())));
    }

    fn position(&self, at: P, hasher: &impl BuildHasher) -> Option<usize> {
        let is = |place: &u32| self.list.get(*place as usize).is_some_and(|m| m.at == at);
        match &self.index {
            Some(index) => index.find(hasher.hash_one(at), is).map(|place| *place as usize),
            None => self.list.iter().position(|member| member.at == at),
        }
    }

    fn build_index(&mut self, hasher: &impl BuildHasher) {
        let mut index = HashTable::with_capacity(self.list.len());
        for (place, member) in self.list.iter().enumerate() {
            let rehash = |place: &u32| hash_at(&self.list, *place, hasher);
            index.insert_unique(hasher.hash_one(member.at), number(place), rehash);
        }
        self.index = Some(Box::new(index));
    }
}

fn hash_at<P: Place>(list: &[Member<P>], place: u32, hasher: &impl BuildHasher) -> u64 {
    list.get(place as usize).map_or(0, |member| hasher.hash_one(member.at))
}

/// Lists are never longer than the bound of a swarm, which is a `u32`.
fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

fn start(pick: u64, length: usize) -> usize {
    usize::try_from(pick).unwrap_or(0).checked_rem(length).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, hash::RandomState};

    use proptest::prelude::*;

    use super::*;

    fn place(number: u16) -> V4 {
        SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), number).into()
    }

    proptest! {
        #[test]
        fn it_does_what_a_map_does(steps in prop::collection::vec((0u8..4, 0u16..150, 0u32..50, any::<bool>()), 0..400)) {
            let (hasher, mut members) = (RandomState::new(), Members::default());
            let mut model: BTreeMap<u16, (u32, bool)> = BTreeMap::new();
            for (what, port, second, complete) in steps {
                match what {
                    0 => prop_assert_eq!(members.remove(place(port), &hasher), model.remove(&port).is_some()),
                    1 if port < 10 => {
                        let before = model.len();
                        model.retain(|_, (heard, _)| *heard >= second);
                        prop_assert_eq!(members.expire(second, &hasher), before - model.len());
                    }
                    _ => {
                        let new = members.put(place(port), Told::new(second, complete), &hasher);
                        prop_assert_eq!(new, model.insert(port, (second, complete)).is_none());
                    }
                }
                let seeders = model.values().filter(|(_, complete)| *complete).count();
                prop_assert_eq!(members.counts(), (number(seeders), number(model.len() - seeders)));
            }
            let mut out = Vec::new();
            let all = Wanted { most: 500, start: 77, asker: None, leechers_only: false, since: 0 };
            members.pick(&all, &mut out);
            let mut ports: Vec<_> = out.iter().map(|peer| peer.endpoint.port()).collect();
            ports.sort_unstable();
            prop_assert_eq!(ports, model.keys().copied().collect::<Vec<_>>());
            for port in 0..150 {
                let told = members.get(place(port), &hasher).map(|told| (told.second(), told.complete()));
                prop_assert_eq!(told, model.get(&port).copied());
            }
        }
    }

    #[test]
    fn addresses_come_back_as_they_were() {
        let v6: SocketAddrV6 = "[2001:db8::7]:6881".parse().unwrap();
        assert_eq!(V6::from(v6).endpoint(), SocketAddr::from(v6));
        let v4: SocketAddrV4 = "192.0.2.1:65535".parse().unwrap();
        assert_eq!(V4::from(v4).endpoint(), SocketAddr::from(v4));
        assert_eq!(size_of::<Member<V4>>(), 10);
    }

    #[test]
    fn a_seeder_is_given_leechers_and_nobody_himself() {
        let (hasher, mut members) = (RandomState::new(), Members::default());
        for port in 1..=100 {
            members.put(place(port), Told::new(9, port % 2 == 0), &hasher);
        }
        for start in 0..200 {
            let mut out = Vec::new();
            let asker = Some(place(7));
            members
                .pick(&Wanted { most: 30, start, asker, leechers_only: true, since: 9 }, &mut out);
            assert_eq!(out.len(), 30);
            assert!(
                out.iter().all(|peer| peer.endpoint.port() % 2 == 1 && peer.endpoint.port() != 7)
            );
        }
        let mut out = Vec::new();
        let none = Wanted { most: 30, start: 0, asker: None, leechers_only: false, since: 10 };
        members.pick(&none, &mut out);
        assert!(out.is_empty());
    }
}
