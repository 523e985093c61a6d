//! Servers that say nothing, too much, or what cannot be read.

use super::*;
use crate::{
    Flaw, Party,
    ed2k::{
        testing::passes_until,
        wire::{Protocol, server::FoundSources},
    },
};

impl Subject {
    /// How often the server sent what was not taken.
    fn bad(&self, flaw: Flaw) -> u64 {
        self.client.clients.bad_input().of(Party::Tracker, flaw)
    }
}

impl Visitor {
    /// Whether something has come that was not read yet.
    fn has_heard(&mut self) -> bool {
        let _ = self.stream.try_read_buf(&mut self.inbox);
        !self.inbox.is_empty()
    }
}

#[tokio::test]
async fn a_server_has_half_a_minute_to_give_an_id() {
    let begun = Instant::now();
    let server = Fake::new().await;
    let subject = Subject::new(vec![server.link()]).await;
    let mut visitor = server.accept().await;
    assert!(matches!(visitor.next().await, ClientMessage::Login(_)));
    // Other words do not make it longer.
    visitor.say(&ServerMessage::Status { users: 5, files: 6 }).await;
    subject.until(|health| health.users == Some(5)).await;
    passes_until(Duration::from_secs(2), || subject.health().last_error.is_some()).await;
    let waited = begun.elapsed();
    assert!((30..45).contains(&waited.as_secs()), "{waited:?}");
    let error = subject.health().last_error.unwrap();
    assert!(error.contains("no id within 30s"), "{error}");
    assert_eq!(subject.bad(Flaw::Silent), 1);
    visitor.has_closed().await;
}

#[tokio::test]
async fn a_server_hears_an_empty_offer_every_two_minutes() {
    let server = Fake::new().await;
    let subject = Subject::new(vec![server.link()]).await;
    let (mut visitor, _) = server.logged_in(high([127, 0, 0, 1])).await;
    let mut since = Instant::now();
    // What was seen one step late began to count a step before.
    for least in [120, 110] {
        passes_until(Duration::from_secs(5), || visitor.has_heard()).await;
        let waited = since.elapsed();
        assert!((least..140).contains(&waited.as_secs()), "{waited:?}");
        assert_eq!(visitor.next().await, ClientMessage::Offer(Vec::new()));
        since = Instant::now();
    }
    assert_eq!(subject.health().last_error, None);
}

#[tokio::test]
async fn of_two_hundred_thousand_sources_so_many_are_kept() {
    let server = Fake::new().await;
    let subject = Subject::new(vec![server.link()]).await;
    let (mut visitor, _) = server.logged_in(high([127, 0, 0, 1])).await;
    let asked = subject.announces(announce(PeerEvent::Started));
    assert!(matches!(visitor.question().await, ClientMessage::GetSources(_)));
    for message in 0..800_u32 {
        let [.., one, other] = message.to_be_bytes();
        let sources = (1..=250).map(|port| Source {
            id: ClientId::High([198, 51, one, other].into()),
            port,
            crypt: Crypt::default(),
        });
        let found = FoundSources { hash: FILE, sources: sources.collect() };
        visitor.say(&ServerMessage::FoundSources(found)).await;
    }
    visitor.say(&ServerMessage::Status { users: 1, files: 1 }).await;
    assert!(!peers(asked.await.unwrap()).is_empty());
    subject.until(|health| health.users == Some(1)).await;
    let known = subject.client.known(&[FILE]);
    assert_eq!(known.len(), crate::ed2k::sources::MAX_SOURCES);
    // Those that were named last.
    let last: SocketAddr = "198.51.3.31:250".parse().unwrap();
    assert!(known.iter().any(|peer| peer.endpoint == last), "{:?}", known[0]);
    assert_eq!(subject.bad(Flaw::Unexpected), 0);
}

#[tokio::test]
async fn what_nobody_asked_for_is_counted_and_dropped() {
    let server = Fake::new().await;
    let subject = Subject::new(vec![server.link()]).await;
    let (mut visitor, _) = server.logged_in(high([127, 0, 0, 1])).await;
    let sources: Vec<SocketAddr> = (1..=250).map(|port| ([198, 51, 100, 3], port).into()).collect();
    for _ in 0..4_000 {
        visitor.say(&found([9; 16], &sources)).await;
    }
    visitor.say(&ServerMessage::Status { users: 1, files: 1 }).await;
    subject.until(|health| health.users == Some(1)).await;
    assert_eq!(subject.bad(Flaw::Unexpected), 4_000);
    assert!(subject.client.known(&[[9; 16]]).is_empty());
}

#[tokio::test]
async fn rubbish_ends_the_session() {
    // What a server says after the login; what is said of it, and counted.
    let bad_message = Packet::new(Protocol::EDonkey, 0x42, vec![0; 5]).to_bytes();
    let status = ServerMessage::Status { users: 0, files: 0 }.to_packet(true).to_bytes();
    let cases = [
        (b"HTTP/1.1 400 Bad Request".to_vec(), "does not speak eD2k", Flaw::Malformed, 1),
        (vec![0xE3, 0xFF, 0xFF, 0xFF, 0xFF, 0x42], "does not speak eD2k", Flaw::Malformed, 1),
        (bad_message.repeat(60), "of its messages cannot be read", Flaw::Malformed, 51),
        (status.repeat(6_000), "messages within", Flaw::Excessive, 1),
    ];
    for (bytes, says, flaw, times) in cases {
        let server = Fake::new().await;
        let subject = Subject::new(vec![server.link()]).await;
        let (mut visitor, _) = server.logged_in(high([127, 0, 0, 1])).await;
        // It may hang up before all is written.
        let _ = visitor.stream.write_all(&bytes).await;
        visitor.has_closed().await;
        subject.until(|health| health.last_error.is_some()).await;
        let error = subject.health().last_error.unwrap();
        assert!(error.contains(says), "{error}");
        assert_eq!(subject.bad(flaw), times, "{says}");
    }
}

#[tokio::test]
async fn a_server_that_knows_no_sources_is_asked_for_something_else_before_it_is_given_up() {
    let server = Fake::new().await;
    let subject = Subject::new(vec![server.link()]).await;
    let (mut visitor, _) = server.logged_in(high([127, 0, 0, 1])).await;
    subject.until(|health| !health.standing.is_empty()).await;
    let line = subject.client.line.borrow().clone().unwrap();
    for _ in 0..2 {
        line.unanswered.store(8, Ordering::Relaxed);
        passes(Duration::from_secs(301)).await;
        assert_eq!(visitor.question().await, ClientMessage::GetServerList);
        visitor.say(&ServerMessage::ServerList(Vec::new())).await;
        let answered = async {
            while line.unanswered.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, answered).await.unwrap();
        passes(Duration::from_secs(61)).await;
    }
    assert_eq!(subject.health().last_error, None);
    line.unanswered.store(8, Ordering::Relaxed);
    passes(Duration::from_secs(301)).await;
    assert_eq!(visitor.question().await, ClientMessage::GetServerList);
    passes(Duration::from_secs(61)).await;
    visitor.has_closed().await;
    subject.until(|health| health.last_error.is_some()).await;
    let error = subject.health().last_error.unwrap();
    assert!(error.contains("not answered anything"), "{error}");
    assert_eq!(subject.bad(Flaw::Silent), 1);
}

#[tokio::test]
async fn more_questions_than_the_budget_allows_do_not_stop_the_session() {
    let server = Fake::new().await;
    let subject = Subject::with(vec![server.link()], Budget { per_second: 16, in_flight: 1 }).await;
    let (mut visitor, _) = server.logged_in(high([127, 0, 0, 1])).await;
    subject.until(|health| !health.standing.is_empty()).await;
    // None is answered: all room is taken, and the places to wait too.
    let _asked: Vec<_> = (0..70)
        .map(|number| {
            let names = vec![Name::ed2k([number; 16])];
            subject.announces(Announce { names, ..announce(PeerEvent::Started) })
        })
        .collect();
    subject.until(|health| health.shed > 40).await;
    // The first offer is about to be made.
    tokio::time::sleep(Duration::from_millis(300)).await;
    visitor.say(&ServerMessage::Status { users: 1, files: 2 }).await;
    subject.until(|health| health.users == Some(1)).await;
    assert!(subject.health().shed < 200, "{:?}", subject.health());
}
