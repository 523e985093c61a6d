use p2pbridge_proto::Peer;

use std::time::Duration;

use super::*;

fn name(number: u64) -> Name {
    let mut digest = [0; 20];
    digest[..8].copy_from_slice(&number.to_be_bytes());
    Name::btih(digest)
}

fn announce(number: u64, port: u16, left: u64, event: PeerEvent) -> Announce {
    let [high, low] = port.to_be_bytes();
    let peer = Peer::at(([10, 0, high, low], port).into());
    Announce { event, left: Some(left), ..Announce::new(peer, vec![name(number)]) }
}

fn started(number: u64, port: u16) -> Announce {
    announce(number, port, 9, PeerEvent::Started)
}

fn terms(swarms: usize, peers: usize, peers_per_swarm: usize) -> TrackerTerms {
    let interval = Duration::from_secs(60);
    TrackerTerms { interval, swarms, peers, peers_per_swarm, ..TrackerTerms::default() }
}

#[test]
fn a_peer_sees_the_others_until_they_leave_or_are_silent() {
    let table = SwarmTable::new(terms(10, 100, 100));
    let start = Instant::now();
    table.announce(&announce(1, 1, 0, PeerEvent::Started), false, start).unwrap();
    let list = table.announce(&started(1, 2), false, start).unwrap();
    assert_eq!((list.peers.len(), list.seeders, list.leechers), (1, Some(1), Some(1)));
    assert_eq!((list.interval.as_secs(), list.min_interval.unwrap().as_secs()), (60, 60));
    table.announce(&announce(1, 1, 0, PeerEvent::Stopped), false, start).unwrap();
    let list = table.announce(&started(1, 2), false, start + Duration::from_secs(9)).unwrap();
    assert!(list.peers.is_empty());
    let list = table.announce(&started(1, 3), false, start + Duration::from_secs(140)).unwrap();
    assert!(list.peers.is_empty());
    assert_eq!(table.size(start + Duration::from_secs(140)), Size { swarms: 1, peers: 1 });
    assert_eq!(table.size(start + Duration::from_secs(400)), Size::default());
}

#[test]
fn downloads_that_complete_are_counted_once() {
    let table = SwarmTable::default();
    let now = Instant::now();
    table.announce(&started(1, 1), false, now).unwrap();
    for _ in 0..2 {
        table.announce(&announce(1, 1, 0, PeerEvent::Completed), false, now).unwrap();
    }
    let stat = table.stat(&name(1)).unwrap();
    assert_eq!((stat.seeders, stat.leechers, stat.completed), (1, 0, Some(1)));
    assert_eq!(table.stat(&name(2)), None);
}

#[test]
fn the_bridge_comes_first_until_it_is_taken_back() {
    let table = SwarmTable::default();
    let now = Instant::now();
    let own: SocketAddr = "127.0.0.1:6881".parse().unwrap();
    table.host(name(1), &[own], false, now);
    for port in 1..=300 {
        table.announce(&started(1, port), false, now).unwrap();
    }
    let list = table.announce(&started(1, 1), false, now).unwrap();
    assert_eq!((list.peers.len(), list.peers[0].endpoint), (50, own));
    assert_eq!(list.leechers, Some(301));
    table.host(name(1), &[], false, now);
    assert!(
        table.announce(&started(1, 1), false, now).unwrap().peers.iter().all(|p| p.endpoint != own)
    );
    table.host(name(2), &[own], true, now);
    table.host(name(2), &[], true, now);
    assert_eq!(table.stat(&name(2)), None);
}

#[test]
fn a_flood_of_made_up_names_is_bounded_and_drives_nobody_out() {
    let table = SwarmTable::new(terms(4_096, 100_000, 100));
    let now = Instant::now();
    for swarm in 0..100 {
        for port in 1..=3 {
            table.announce(&started(swarm, port), false, now).unwrap();
        }
    }
    for made_up in 0..200_000 {
        // Whether it is taken or not: the bound holds.
        let _ = table.announce(&started(1_000_000 + made_up % 100_000, 1), false, now);
    }
    assert!(table.size(now).swarms <= 4_096);
    for swarm in 0..100 {
        assert_eq!(table.stat(&name(swarm)).map(|stat| stat.leechers), Some(3));
    }
    // And a new swarm of true peers still finds a place.
    table.announce(&started(500, 1), false, now).unwrap();
    assert_eq!(table.announce(&started(500, 2), false, now).unwrap().peers.len(), 1);
}

#[test]
fn what_is_in_use_is_not_driven_out_and_the_newcomer_is_told_when_to_come_again() {
    let table = SwarmTable::new(terms(3, 100, 100));
    let now = Instant::now();
    for swarm in 0..3 {
        table.announce(&started(swarm, 1), false, now).unwrap();
        table.announce(&started(swarm, 2), false, now).unwrap();
    }
    let refused = table.announce(&started(9, 1), false, now).unwrap_err();
    assert_eq!(
        (refused.code, refused.retry_after),
        (ErrorCode::Overloaded, Some(Duration::from_secs(60)))
    );
    assert!(table.announce(&started(9, 1), false, now + Duration::from_secs(61)).is_ok());
}

#[test]
fn a_swarm_and_the_table_have_room_for_so_many_peers() {
    let table = SwarmTable::new(terms(3, 200, 100));
    let now = Instant::now();
    for port in 1..=1000 {
        table.announce(&started(1, port), false, now).unwrap();
        assert!(table.announce(&started(2, port), false, now).is_ok());
    }
    assert_eq!(table.stat(&name(1)).unwrap().leechers, 100);
    assert_eq!(table.size(now), Size { swarms: 2, peers: 200 });
    // The newest is there: it took somebody's place.
    let newest = table.announce(&started(2, 1000), false, now).unwrap();
    assert_eq!(newest.leechers, Some(100));
    assert_eq!(table.announce(&started(3, 1), false, now).unwrap_err().code, ErrorCode::Overloaded);
}

#[test]
fn the_bounds_of_small_and_of_wide_tables_hold() {
    let now = Instant::now();
    let table = SwarmTable::new(terms(500_000, 5_000, 5_000));
    for port in 1..=6_000 {
        table.announce(&started(1, port), false, now).unwrap();
    }
    assert_eq!(table.size(now).peers, 5_000);
    let table = SwarmTable::new(terms(500_000, 10, 10));
    for swarm in 0..100 {
        let _ = table.announce(&started(swarm, 1), false, now);
    }
    assert_eq!(table.size(now).peers, 10);
}

#[test]
fn what_the_bridge_serves_has_room_in_a_full_table() {
    let table = SwarmTable::new(terms(3, 100, 100));
    let now = Instant::now();
    for swarm in 0..3 {
        table.announce(&started(swarm, 1), false, now).unwrap();
        table.announce(&started(swarm, 2), false, now).unwrap();
    }
    let own: SocketAddr = "127.0.0.1:6881".parse().unwrap();
    table.host(name(9), &[own], true, now);
    assert_eq!(table.stat(&name(9)).unwrap().seeders, 1);
    assert_eq!(table.size(now), Size { swarms: 3, peers: 4 });
}

#[test]
fn an_answer_over_udp_has_one_family() {
    let table = SwarmTable::default();
    let now = Instant::now();
    let at = |endpoint: &str| {
        let peer = Peer::at(endpoint.parse().unwrap());
        Announce { num_want: Some(1), ..Announce::new(peer, vec![name(1)]) }
    };
    table.host(name(1), &["127.0.0.1:6881".parse().unwrap()], false, now);
    table.announce(&at("[2001:db8::1]:1"), false, now).unwrap();
    let list = table.announce(&at("[2001:db8::2]:1"), true, now).unwrap();
    assert_eq!(list.peers[0].endpoint, "[2001:db8::1]:1".parse().unwrap());
    let list = table.announce(&at("192.0.2.1:1"), true, now).unwrap();
    assert_eq!(list.peers[0].endpoint, "127.0.0.1:6881".parse().unwrap());
}

#[test]
fn names_of_one_content_are_answered_together() {
    let table = SwarmTable::default();
    let now = Instant::now();
    table.announce(&started(1, 1), false, now).unwrap();
    table.announce(&started(2, 1), false, now).unwrap();
    table.announce(&started(2, 2), false, now).unwrap();
    let mut list = PeerList::default();
    table.add_peers(&[name(1), name(2)], 50, None, now, &mut list);
    assert_eq!((list.peers.len(), list.leechers), (2, Some(3)));
}
