//! Clients that take their time, and what is told of other servers.

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::ed2k::testing::{has_ended, passes_until};

#[tokio::test]
async fn a_login_has_a_quarter_of_a_minute() {
    let running = Running::start();
    let mut well = running.low(1).await;
    let begun = Instant::now();
    let hello = ClientMessage::Login(Login { user: hash(2), id: 0, port: 9, tags: Vec::new() })
        .to_packet(true)
        .to_bytes();
    let mut slow = Vec::new();
    // Nothing, half of it, and what may become an obfuscated one.
    for said in [&[][..], &hello[..20], &[0x11; 50]] {
        let mut raw = running.connect().await;
        raw.send(said).await;
        slow.push(raw);
    }
    let mut first = None;
    passes_until(Duration::from_secs(1), || {
        let ended = slow.iter().filter(|raw| has_ended(&raw.stream)).count();
        first = first.or((ended > 0).then(|| begun.elapsed()));
        ended == slow.len()
    })
    .await;
    let (first, last) = (first.unwrap().as_secs(), begun.elapsed().as_secs());
    assert!(first >= 15 && last < 30, "{first} s to {last} s");
    well.settled().await;
    running.end().await;
}

/// A client that reads nothing, and has asked for more than all buffers hold: searches with 600 long titles each, and all
/// of their results. It does not read compressed answers.
async fn asks_without_reading(running: &Running) -> Raw {
    let hit = |number: u16| SearchHit {
        names: vec![Name::ed2k([number.to_le_bytes()[0]; 16])],
        title: format!("{number} {}", "x".repeat(240)),
        length: 7,
        sources: 3,
        complete_sources: 2,
    };
    *running.handler.hits.lock().unwrap() = (0..600).map(hit).collect();
    let mut client = running.connect_slowly().await;
    client.login(1, 9, 0x118).await;
    client.welcomed().await;
    let search = ClientMessage::Search(Expression::Words("x".to_owned()));
    for _ in 0..SEARCHES {
        client.say(&search).await;
        client.say(&ClientMessage::MoreResults).await;
        client.say(&ClientMessage::MoreResults).await;
    }
    client
}

/// Within the burst that a client has; the answers have more than four megabytes.
const SEARCHES: usize = 28;

#[tokio::test]
async fn a_client_that_does_not_read_is_not_answered_until_it_does() {
    let running = Running::start();
    let mut client = asks_without_reading(&running).await;
    let mut other = running.low(2).await;
    other.settled().await;
    let mut bytes = 0;
    for _ in 0..SEARCHES * 3 {
        let packet = client.packet().await.unwrap();
        assert_eq!(packet.opcode, 0x33);
        bytes += packet.payload.len();
    }
    assert!(bytes > 4 << 20, "{bytes}");
    client.settled().await;
    assert_eq!(running.handler.asked.lock().unwrap().len(), SEARCHES);
    running.end().await;
}

#[tokio::test]
async fn a_client_that_never_reads_costs_so_much_for_a_minute() {
    let running = Running::start();
    let begun = Instant::now();
    let client = asks_without_reading(&running).await;
    until("it is logged in", || running.server.status() == (1, 0)).await;
    passes_until(Duration::from_secs(5), || running.server.status() == (0, 0)).await;
    let waited = begun.elapsed();
    assert!((60..90).contains(&waited.as_secs()), "{waited:?}");
    // With half a megabyte unsent no more questions were taken from it.
    let asked = running.handler.asked.lock().unwrap().len();
    assert!((1..SEARCHES).contains(&asked), "{asked} searches");
    drop(client);
    running.end().await;
}

#[tokio::test]
async fn clients_are_told_of_other_servers() {
    let others: Vec<SocketAddrV4> =
        vec!["198.51.100.9:4661".parse().unwrap(), "203.0.113.7:4242".parse().unwrap()];
    let config = ServerConfig { other_servers: others.clone(), ..ServerConfig::default() };
    let running = Running::with(config);
    let mut client = running.low(1).await;
    let told = client.ask(&ClientMessage::GetServerList).await;
    assert_eq!(told, ServerMessage::ServerList(others.clone()));
    let told = Some(ServerDatagram::ServerList(others));
    let own = SocketAddrV4::new(Ipv4Addr::LOCALHOST, running.tcp().port());
    assert_eq!(running.ask(&ClientDatagram::ServerList2.encode()).await, told);
    assert_eq!(running.ask(&ClientDatagram::ServerList(own).encode()).await, told);
    running.end().await;
}
