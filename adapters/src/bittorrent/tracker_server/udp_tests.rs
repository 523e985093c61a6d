use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use p2pbridge_proto::PeerEvent;
use tokio::task::spawn_blocking;

use super::{
    super::testing::{
        FATAL, KNOWN, LARGE, LATER, Running, SHED, Scripted, UdpClient, announce, until,
    },
    super::{BtTrackerServer, ServerConfig},
    *,
};
use crate::{
    TrackerServer as _,
    bittorrent::wire::{
        http::{AnnounceRequest, AnnounceResponse},
        udp::{MAX_PEERS_V4, MAX_PEERS_V6, UdpRequest, UdpResponse},
    },
};

/// Runs a blocking client against a server.
async fn with<T: Send + 'static>(
    server: &Running,
    client: impl FnOnce(UdpClient) -> T + Send + 'static,
) -> T {
    let address = server.udp();
    spawn_blocking(move || client(UdpClient::to(address))).await.unwrap()
}

fn peers(response: UdpResponse) -> AnnounceResponse {
    match response {
        UdpResponse::Announce { transaction: 78, response } => response,
        other => panic!("{other:?}"),
    }
}

fn hop_limits(handler: &Scripted) -> Vec<u32> {
    handler.asked.lock().unwrap().iter().map(|(hop_limit, _)| *hop_limit).collect()
}

#[tokio::test]
async fn answers_connects_announces_and_scrapes() {
    let server = Running::start();
    with(&server, |client| {
        let id = client.connect();
        let list = peers(client.ask(&UdpClient::announce(id, announce(KNOWN))));
        let endpoints: Vec<_> = list.peers.iter().map(|peer| peer.endpoint).collect();
        assert_eq!(endpoints, [SocketAddr::from((Ipv4Addr::LOCALHOST, 7000))]);
        assert_eq!((list.interval.as_secs(), list.seeders, list.leechers), (60, Some(1), Some(2)));
        let stopped = AnnounceRequest { event: PeerEvent::Stopped, ..announce(LARGE) };
        assert!(peers(client.ask(&UdpClient::announce(id, stopped))).peers.is_empty());
        let bridge = AnnounceRequest { peer_id: *b"-PB0099-abcdefghijkl", ..announce(KNOWN) };
        peers(client.ask(&UdpClient::announce(id, bridge)));
        let info_hashes = (1..=74).map(|first| announce(first).info_hash).collect();
        let scrape = UdpRequest::Scrape { connection: id, transaction: 9, info_hashes };
        let UdpResponse::Scrape { transaction: 9, swarms } = client.ask(&scrape.encode()) else {
            panic!("no scrape");
        };
        let seeders: Vec<_> = swarms.iter().map(|swarm| swarm.complete).collect();
        assert_eq!((seeders.len(), &seeders[..10]), (74, &[1, 2, 3, 4, 5, 6, 7, 8, 0, 0][..]));
    })
    .await;
    assert_eq!(hop_limits(&server.handler), [2, 2, 1, 2]);
    let counts = server.server.counts();
    assert_eq!((counts.requests, counts.answered), (5, 5));
    let (http, udp) = (server.http(), server.udp());
    server.end().await;
    // Nothing holds the addresses any more.
    let config = ServerConfig { http: vec![http], udp: vec![udp], ..ServerConfig::default() };
    let again = BtTrackerServer::bind(&"t".parse().unwrap(), &config).unwrap();
    assert_eq!(again.endpoints(), [http, udp]);
}

#[tokio::test]
async fn a_packet_has_peers_of_its_family_as_many_as_fit() {
    let v4 = Running::start();
    let wanting = |num_want| AnnounceRequest { num_want, ..announce(LARGE) };
    let most = with(&v4, move |client| {
        let id = client.connect();
        client.send(&UdpClient::announce(id, wanting(Some(5000))));
        let packet = client.receive();
        assert!(packet.len() <= 1472);
        (packet.len() - 20) / 6
    })
    .await;
    assert_eq!(most, MAX_PEERS_V4);
    let asked = v4.handler.asked.lock().unwrap().pop().unwrap().1;
    let p2pbridge_proto::Request::Announce(asked) = asked else { panic!("no announce") };
    assert_eq!(asked.num_want, Some(242));
    let Ok(socket) = std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)) else { return };
    drop(socket);
    let v6 = Running::at(Ipv6Addr::LOCALHOST.into(), false);
    let most = with(&v6, move |client| {
        let id = client.connect();
        client.send(&UdpClient::announce(id, wanting(None)));
        let packet = client.receive();
        assert!(packet.len() <= 1452);
        (packet.len() - 20) / 18
    })
    .await;
    assert_eq!(most, MAX_PEERS_V6);
}

#[tokio::test]
async fn refuses_with_an_error_and_lives_through_a_failing_handler() {
    let server = Running::start();
    with(&server, |client| {
        let id = client.connect();
        let error = |first| client.error(&UdpClient::announce(id, announce(first)));
        assert_eq!(error(SHED), "too much at once");
        assert_eq!(error(9), "not served here");
        client.send(&UdpClient::announce(id, announce(FATAL)));
        assert_eq!(client.connect(), id);
    })
    .await;
    let counts = server.server.counts();
    assert_eq!((counts.requests, counts.answered, counts.refused), (5, 2, 2));
}

#[tokio::test]
async fn an_answer_may_come_later_but_not_too_many() {
    let server = Running::start();
    let client = with(&server, |client| {
        let id = client.connect();
        let packet = UdpClient::announce(id, announce(LATER));
        let connect = UdpRequest::Connect { transaction: 5 }.encode();
        // A few at a time, so that the kernel drops none.
        for _ in 0..=MAX_LATER / 64 {
            (0..64).for_each(|_| client.send(&packet));
            match client.ask(&connect) {
                UdpResponse::Connect { .. } => {}
                // What is above the bound is told so at once.
                UdpResponse::Error { message, .. } => {
                    assert_eq!(message, "overloaded; try again later");
                    return client;
                }
                other => panic!("{other:?}"),
            }
        }
        panic!("there is no bound");
    })
    .await;
    assert!(server.server.counts().shed > 0);
    until("the bound is reached", || server.handler.released.receiver_count() == MAX_LATER).await;
    server.handler.released.send_replace(true);
    spawn_blocking(move || {
        loop {
            let answer = UdpResponse::decode(&client.receive(), false).unwrap();
            if let UdpResponse::Announce { .. } = answer {
                break;
            }
        }
    })
    .await
    .unwrap();
    server.end().await;
}

#[tokio::test]
async fn who_forges_a_connection_id_gets_no_more_than_he_sends() {
    let server = Running::start();
    with(&server, |client| {
        let id = client.connect();
        let last = [7; 20];
        let scrape = |connection| {
            UdpRequest::Scrape { connection, transaction: 9, info_hashes: vec![last] }.encode()
        };
        for forged in [0, id ^ 1, id ^ (1 << 60), u64::MAX] {
            for packet in [UdpClient::announce(forged, announce(KNOWN)), scrape(forged)] {
                client.send(&packet);
                let answer = client.receive();
                assert!(answer.len() <= packet.len());
                let UdpResponse::Error { message, .. } =
                    UdpResponse::decode(&answer, false).unwrap()
                else {
                    panic!("no error");
                };
                assert!(message.starts_with("the connection id is"), "{message}");
            }
        }
    })
    .await;
    assert!(server.handler.asked.lock().unwrap().is_empty());
    assert_eq!(server.server.counts().refused, 8);
}

#[tokio::test]
async fn a_flood_of_connects_and_noise_leaves_nothing_behind() {
    let server = Running::start();
    let sent = with(&server, |client| {
        let mut sent = 0;
        for round in 0..100_u8 {
            for length in 0..=100 {
                client.send(&vec![round; length]);
                sent += 1;
            }
            // A reply shows that the socket is read, so that the kernel drops nothing.
            client.connect();
            sent += 1;
        }
        sent
    })
    .await;
    until("all is counted", || {
        let counts = server.server.counts();
        counts.requests == sent && counts.malformed == sent - 100 && counts.answered == 100
    })
    .await;
    server.end().await;
}
