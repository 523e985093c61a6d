use std::net::{Ipv4Addr, SocketAddrV4};

use bytes::BytesMut;
use p2pbridge_proto::{FileKind, Query};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::{
    Host,
    ed2k::{
        clients::ClientsConfig,
        config::Obfuscation,
        testing::passes,
        wire::{
            Packet,
            packet::MAX_PAYLOAD,
            server::{
                CallbackRequested, Crypt, FileRecord, FoundSources, Holder, IdChange, Login,
                SearchAnswer, ServerMessage, Source, decode_from_client,
            },
        },
    },
};

const FLAGS: u32 =
    server_flags::ZLIB | server_flags::NEW_TAGS | server_flags::UNICODE | server_flags::LARGE_FILES;
const SOON: Duration = Duration::from_secs(10);
const FILE: Hash = [7; 16];

/// A server that says what it is told to.
struct Fake {
    listener: TcpListener,
}

impl Fake {
    async fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    fn link(&self) -> Ed2kServerLink {
        let port = self.listener.local_addr().unwrap().port();
        Ed2kServerLink { host: "127.0.0.1".to_owned(), port }
    }

    async fn accept(&self) -> Visitor {
        let (stream, _) = timeout(SOON, self.listener.accept()).await.unwrap().unwrap();
        Visitor { stream, inbox: BytesMut::new() }
    }

    /// A client that has got this id.
    async fn logged_in(&self, id: u32) -> (Visitor, Login) {
        let mut visitor = self.accept().await;
        let ClientMessage::Login(login) = visitor.next().await else { panic!("no login") };
        visitor.say(&id_change(id)).await;
        (visitor, login)
    }
}

/// A client of a fake server.
struct Visitor {
    stream: TcpStream,
    inbox: BytesMut,
}

impl Visitor {
    async fn next(&mut self) -> ClientMessage {
        timeout(SOON, async {
            loop {
                if let Some(packet) = Packet::take(&mut self.inbox, MAX_PAYLOAD).unwrap() {
                    return decode_from_client(&packet).unwrap();
                }
                assert_ne!(self.stream.read_buf(&mut self.inbox).await.unwrap(), 0, "closed");
            }
        })
        .await
        .unwrap()
    }

    async fn say(&mut self, message: &ServerMessage) {
        self.put(&message.to_packet(true).to_bytes()).await;
    }

    async fn put(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn has_closed(&mut self) {
        timeout(SOON, async {
            let mut buffer = [0; 4096];
            while !matches!(self.stream.read(&mut buffer).await, Ok(0) | Err(_)) {}
        })
        .await
        .unwrap();
    }
}

/// A tracker client that logs in to these servers; stopped when it is dropped.
struct Subject {
    client: Arc<Ed2kTrackerClient>,
    running: JoinHandle<()>,
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Subject {
    async fn new(servers: Vec<Ed2kServerLink>) -> Self {
        Self::with(servers, Budget { per_second: 1000, in_flight: 16 }).await
    }

    async fn with(servers: Vec<Ed2kServerLink>, budget: Budget) -> Self {
        let overlay: OverlayId = "e".parse().unwrap();
        let identity = Arc::new(Identity::new(&Host { mark: *b"abcdef" }, &"e".parse().unwrap()));
        let clients = ClientsConfig {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            max_sessions: 10,
            nick: "bridge".to_owned(),
            obfuscation: Obfuscation::Accepted,
        };
        let clients = Clients::bind(&overlay, &clients, identity.clone()).unwrap();
        let config =
            ClientConfig { servers, nick: "bridge".to_owned(), public: Vec::new(), budget };
        let book = Arc::new(SourceBook::default());
        let client = Ed2kTrackerClient::new(&overlay, &config, identity, clients, book);
        let run = client.clone();
        let running = tokio::spawn(async move { run.run(CancellationToken::new()).await });
        Self { client, running }
    }

    async fn call(&self, request: Request) -> Result<Reply, Fault> {
        self.client.call(request, Instant::now() + SOON).await
    }

    /// The peers that an announce brings, in the background.
    fn announces(&self, announce: Announce) -> JoinHandle<Result<Reply, Fault>> {
        let client = self.client.clone();
        tokio::spawn(async move {
            client.call(Request::Announce(announce), Instant::now() + SOON).await
        })
    }

    fn health(&self) -> TrackerHealth {
        self.client.health().remove(0)
    }

    async fn until(&self, what: impl Fn(&TrackerHealth) -> bool) {
        let asked = async {
            while !what(&self.health()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, asked).await.unwrap_or_else(|_| panic!("{:?}", self.health()));
    }
}

fn announce(event: PeerEvent) -> Announce {
    let peer = Peer::at(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0));
    Announce {
        event,
        left: Some(5),
        title: "words.txt".to_owned(),
        length: Some(5),
        ..Announce::new(peer, vec![Name::ed2k(FILE)])
    }
}

fn id_change(id: u32) -> ServerMessage {
    ServerMessage::IdChange(IdChange { id, flags: Some(FLAGS), ..IdChange::default() })
}

fn high(ip: [u8; 4]) -> u32 {
    u32::from_le_bytes(ip)
}

fn found(hash: Hash, sources: &[SocketAddr]) -> ServerMessage {
    let source = |at: &SocketAddr| Source {
        id: ClientId::of(*at).unwrap(),
        port: at.port(),
        crypt: Crypt::default(),
    };
    ServerMessage::FoundSources(FoundSources {
        hash,
        sources: sources.iter().map(source).collect(),
    })
}

fn peers(reply: Result<Reply, Fault>) -> Vec<SocketAddr> {
    let Ok(Reply::Peers(list)) = reply else { panic!("{reply:?}") };
    list.peers.iter().map(|peer| peer.endpoint).collect()
}

#[tokio::test]
async fn it_logs_in_offers_and_asks_for_sources() {
    let server = Fake::new().await;
    let subject = Subject::new(vec![server.link()]).await;
    let (mut visitor, login) = server.logged_in(high([127, 0, 0, 1])).await;
    assert_eq!((login.nick(), login.port), ("bridge", subject.client.port()));
    assert_eq!(login.user, subject.client.identity.hash);
    assert_eq!((login.flags() & 0x119, login.crypt_options()), (0x119, 1));
    visitor.say(&ServerMessage::Status { users: 3, files: 4 }).await;
    let asked = subject.announces(announce(PeerEvent::Started));
    let (mut offered, mut wanted) = (None, None);
    while offered.is_none() || wanted.is_none() {
        match visitor.next().await {
            ClientMessage::Offer(files) => offered = Some(files),
            ClientMessage::GetSources(file) => wanted = Some(file),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(wanted, Some(Wanted { hash: FILE, size: Some(5) }));
    assert_eq!(offered, Some(vec![FileRecord::new(FILE, Holder::Incomplete, "words.txt", 5)]));
    let ours = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), subject.client.port());
    let sources: [SocketAddr; 5] = [
        "127.0.0.1:1".parse().unwrap(),
        ours,
        "0.0.0.9:4662".parse().unwrap(),
        "198.51.100.3:0".parse().unwrap(),
        "9.0.0.0:4662".parse().unwrap(),
    ];
    visitor.say(&found(FILE, &sources)).await;
    subject.client.book.note(FILE, "198.51.100.8:1".parse().unwrap());
    subject.client.book.note(FILE, "8.0.0.0:1".parse().unwrap());
    let mut named = peers(asked.await.unwrap());
    named.sort();
    let expected = ["9.0.0.0:4662", "127.0.0.1:1", "198.51.100.8:1"];
    assert_eq!(named, expected.map(|at| at.parse().unwrap()));
    let health = subject.health();
    assert_eq!((health.users, health.contents), (Some(3), Some(4)));
    assert_eq!((health.standing.as_str(), health.last_error), ("high id 127.0.0.1", None));
    assert!(health.round_trip.is_some() && health.sent >= 3);
    // It is too early to ask again, and the offer is no news.
    let again = subject.call(Request::Announce(announce(PeerEvent::Regular))).await;
    assert_eq!(peers(again).len(), 3);
    let other = announce(PeerEvent::Completed);
    let _asked = subject.announces(Announce { left: Some(0), ..other });
    assert!(matches!(visitor.next().await, ClientMessage::GetSources(_)));
    let ClientMessage::Offer(files) = visitor.next().await else { panic!("no offer") };
    assert_eq!(files[0].holder, Holder::Complete);
}

#[tokio::test]
async fn the_next_session_is_offered_what_is_announced_still() {
    let server = Fake::new().await;
    let subject = Subject::new(vec![server.link()]).await;
    let (mut visitor, _) = server.logged_in(high([127, 0, 0, 1])).await;
    let large = Announce {
        names: vec![Name::ed2k([8; 16])],
        length: Some(5 << 30),
        ..announce(PeerEvent::Started)
    };
    let asked = [subject.announces(announce(PeerEvent::Started)), subject.announces(large)];
    let mut files = 0;
    while files < 2 {
        if let ClientMessage::Offer(some) = visitor.next().await {
            files += some.len();
        }
    }
    visitor.say(&found(FILE, &["9.0.0.0:1".parse().unwrap()])).await;
    visitor.say(&found([8; 16], &[])).await;
    for asked in asked {
        asked.await.unwrap().unwrap();
    }
    subject.call(Request::Announce(announce(PeerEvent::Stopped))).await.unwrap();
    drop(visitor);
    subject.until(|health| health.last_error.is_some()).await;
    let health = subject.health();
    assert!(health.rests_for.is_some() && health.standing.is_empty(), "{health:?}");
    assert!(health.last_error.unwrap().contains("closed the connection"));
    // Low ids went with the session that knew them.
    let (mut visitor, _) = server.logged_in(high([127, 0, 0, 1])).await;
    let ClientMessage::Offer(files) = visitor.next().await else { panic!("no offer") };
    assert_eq!(files.iter().map(FileRecord::size).collect::<Vec<_>>(), [Some(5 << 30)]);
    assert!(subject.client.known(&[FILE]).is_empty());
}

#[tokio::test]
async fn a_server_that_says_nothing_has_no_sources() {
    let server = Fake::new().await;
    let subject = Subject::new(vec![server.link()]).await;
    let (_visitor, _) = server.logged_in(high([127, 0, 0, 1])).await;
    let list = subject.call(Request::Announce(announce(PeerEvent::Started))).await;
    assert!(peers(list).is_empty());
    let query = Request::SwarmQuery(p2pbridge_proto::SwarmQuery { names: Vec::new() });
    assert_eq!(subject.call(query).await.unwrap_err().code, ErrorCode::Unsupported);
    let other = Announce {
        peer: Peer::at("198.51.100.3:1".parse().unwrap()),
        ..announce(PeerEvent::Started)
    };
    let fault = subject.call(Request::Announce(other)).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::Unsupported);
}

#[tokio::test]
async fn without_a_session_it_is_said_why() {
    let server = Fake::new().await;
    let subject = Subject::new(vec![server.link()]).await;
    let mut visitor = server.accept().await;
    visitor.say(&ServerMessage::Message("ERROR: you are banned".to_owned())).await;
    visitor.say(&id_change(0)).await;
    visitor.has_closed().await;
    let fault = subject
        .client
        .call(
            Request::Find(Find::new(vec![Name::ed2k(FILE)])),
            Instant::now() + Duration::from_millis(200),
        )
        .await
        .unwrap_err();
    assert_eq!(fault.code, ErrorCode::Unavailable);
    assert!(fault.text.contains("you are banned") && fault.retry_after.is_some(), "{fault:?}");
}

#[tokio::test]
async fn the_next_server_of_the_list_is_used_when_one_fails() {
    let (one, other) = (Fake::new().await, Fake::new().await);
    let gone = one.link();
    drop(one);
    let subject = Subject::new(vec![gone, other.link()]).await;
    let (_visitor, _) = other.logged_in(9).await;
    let served = || subject.client.health().remove(1);
    let up = async {
        while served().standing.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, up).await.unwrap();
    assert!(served().standing.contains("low id 9"), "{}", served().standing);
    assert!(subject.health().last_error.unwrap().contains("cannot connect"));
}

#[tokio::test]
async fn an_id_that_changes_is_taken_and_decides_who_can_be_called_back() {
    let server = Fake::new().await;
    let subject = Subject::new(vec![server.link()]).await;
    let (mut visitor, _) = server.logged_in(5).await;
    subject.until(|health| health.standing.contains("low id 5")).await;
    assert!(subject.client.call_back(9).await.unwrap_err().contains("low id itself"));
    visitor.say(&id_change(high([127, 0, 0, 1]))).await;
    subject.until(|health| health.standing == "high id 127.0.0.1").await;
    subject.client.call_back(9).await.unwrap();
    assert_eq!(visitor.next().await, ClientMessage::Callback(ClientId::Low(9)));
    visitor.say(&ServerMessage::CallbackFailed).await;
    visitor.say(&id_change(0)).await;
    visitor.has_closed().await;
}

#[tokio::test]
async fn a_client_that_wants_to_be_called_is() {
    let server = Fake::new().await;
    let _subject = Subject::new(vec![server.link()]).await;
    let (mut visitor, _) = server.logged_in(5).await;
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = other.local_addr().unwrap().port();
    let client = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let asked =
        |client| ServerMessage::CallbackRequested(CallbackRequested { client, crypt: None });
    visitor.say(&asked(SocketAddrV4::new(Ipv4Addr::BROADCAST, port))).await;
    visitor.say(&asked(client)).await;
    let (mut stream, _) = timeout(SOON, other.accept()).await.unwrap().unwrap();
    let mut hello = [0; 6];
    stream.read_exact(&mut hello).await.unwrap();
    assert_eq!((hello[0], hello[5]), (0xE3, 0x01));
}

#[tokio::test]
async fn searches_are_answered_one_by_one_and_more_is_asked_for() {
    let server = Fake::new().await;
    let subject = Subject::new(vec![server.link()]).await;
    let (mut visitor, _) = server.logged_in(high([127, 0, 0, 1])).await;
    let search = |max_results| {
        let query = Query::All(vec![Query::Words("a b".to_owned()), Query::Kind(FileKind::Audio)]);
        Request::Search(Search { query, max_results })
    };
    let results = |number: u8, more| {
        let files =
            (0..number).map(|n| FileRecord::new([n; 16], Holder::NOBODY, "a b.mp3", 9)).collect();
        ServerMessage::SearchResult(SearchAnswer { files, more })
    };
    // What nobody has asked for is dropped.
    visitor.say(&results(9, None)).await;
    subject.until(|health| !health.standing.is_empty()).await;
    let searches = |max_results| {
        let (client, search) = (subject.client.clone(), search(max_results));
        tokio::spawn(async move { client.call(search, Instant::now() + SOON).await })
    };
    let one = searches(None);
    assert!(matches!(visitor.next().await, ClientMessage::Search(_)));
    let two = searches(Some(7));
    visitor.say(&results(3, Some(true))).await;
    assert_eq!(visitor.next().await, ClientMessage::MoreResults);
    visitor.say(&results(2, Some(false))).await;
    let one = one.await.unwrap();
    assert!(matches!(visitor.next().await, ClientMessage::Search(_)));
    visitor.say(&results(200, Some(true))).await;
    let two = two.await.unwrap();
    let (Ok(Reply::Found(one)), Ok(Reply::Found(two))) = (one, two) else { panic!("no results") };
    assert_eq!((one.hits.len(), one.truncated), (5, false));
    assert_eq!((two.hits.len(), two.truncated), (7, true));
    assert_eq!(one.hits[0].title, "a b.mp3");
}

#[tokio::test]
async fn it_logs_in_to_what_a_real_server_said() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/ed2k/streams/");
    let said = std::fs::read(format!("{fixtures}server-to-sharer.bin")).unwrap();
    let server = Fake::new().await;
    let subject = Subject::new(vec![server.link()]).await;
    let mut visitor = server.accept().await;
    visitor.next().await;
    // Piece by piece, as a network may bring it.
    for piece in said.chunks(7) {
        visitor.put(piece).await;
    }
    subject.until(|health| health.standing == "high id 198.51.100.3").await;
    subject.until(|health| health.users.is_some()).await;
}

impl Visitor {
    /// The next message that is no offer.
    async fn question(&mut self) -> ClientMessage {
        loop {
            match self.next().await {
                ClientMessage::Offer(_) => {}
                question => return question,
            }
        }
    }
}

#[tokio::test]
async fn an_answer_that_comes_too_late_is_not_that_to_the_next_search() {
    let server = Fake::new().await;
    let subject = Subject::new(vec![server.link()]).await;
    let (mut visitor, _) = server.logged_in(high([127, 0, 0, 1])).await;
    subject.until(|health| !health.standing.is_empty()).await;
    let searches = |words: &str| {
        let search = Search { query: Query::Words(words.to_owned()), max_results: None };
        let (client, search) = (subject.client.clone(), Request::Search(search));
        tokio::spawn(async move { client.call(search, Instant::now() + SOON).await })
    };
    let results = |name: &str| {
        let files = vec![FileRecord::new([1; 16], Holder::NOBODY, name, 9)];
        ServerMessage::SearchResult(SearchAnswer { files, more: Some(false) })
    };
    let one = searches("one");
    assert!(matches!(visitor.question().await, ClientMessage::Search(_)));
    // Whoever searches goes away; the server still answers.
    one.abort();
    assert!(one.await.unwrap_err().is_cancelled());
    let two = searches("two");
    visitor.say(&results("one.txt")).await;
    assert!(matches!(visitor.question().await, ClientMessage::Search(_)));
    visitor.say(&results("two.txt")).await;
    let Ok(Reply::Found(two)) = two.await.unwrap() else { panic!("no results") };
    assert_eq!(two.hits[0].title, "two.txt");
    // One that is never answered is not waited for for ever.
    let three = searches("three");
    assert!(matches!(visitor.question().await, ClientMessage::Search(_)));
    three.abort();
    assert!(three.await.unwrap_err().is_cancelled());
    passes(LATE).await;
    let four = searches("four");
    assert!(matches!(visitor.question().await, ClientMessage::Search(_)));
    visitor.say(&results("four.txt")).await;
    let Ok(Reply::Found(four)) = four.await.unwrap() else { panic!("no results") };
    assert_eq!(four.hits[0].title, "four.txt");
}

#[path = "tracker_client/bounds_tests.rs"]
mod bounds;
