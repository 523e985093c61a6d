//! Two hubs that speak with each other, over loopback.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
    sync::watch,
    task::JoinHandle,
    time::Instant,
};

use super::*;
use crate::{
    Host,
    ed2k::{
        testing::{has_ended, passes_until},
        wire::{Protocol, transfer::Message},
    },
};

const FILE: Hash = [3; 16];

/// Says that each question is of a file that is not here.
struct Refusing(watch::Sender<Option<Arc<Link>>>);

impl Uploads for Refusing {
    fn session(
        self: Arc<Self>,
        link: Arc<Link>,
        mut asked: mpsc::Receiver<Packet>,
    ) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            self.0.send_replace(Some(link.clone()));
            while asked.recv().await.is_some() {
                let answer = Message::NoSuchFile(FILE).packet().unwrap();
                link.send(answer).await.unwrap();
            }
        })
    }
}

struct Hub {
    clients: Arc<Clients>,
    at: SocketAddr,
    linked: watch::Receiver<Option<Arc<Link>>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Hub {
    fn start(mark: [u8; 6], obfuscation: Obfuscation) -> Self {
        let config = ClientsConfig {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            max_sessions: 20,
            nick: "hub".to_owned(),
            obfuscation,
        };
        let identity = Arc::new(Identity::new(&Host { mark }, &"e".parse().unwrap()));
        let clients = Clients::bind(&"e".parse().unwrap(), &config, identity).unwrap();
        let stop = CancellationToken::new();
        let (sender, linked) = watch::channel(None);
        let task = tokio::spawn(clients.clone().serve(Arc::new(Refusing(sender)), stop.clone()));
        Self { at: clients.endpoints()[0], clients, linked, stop, task }
    }

    /// Waits until clients have sent so often what was not taken.
    async fn until_bad(&self, flaw: Flaw, times: u64) {
        let bad = self.clients.bad_input();
        soon(async {
            while bad.of(Party::Peer, flaw) < times {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert_eq!(bad.of(Party::Peer, flaw), times, "{bad:?}");
    }

    async fn stop(self) {
        self.stop.cancel();
        soon(self.task).await.unwrap();
    }
}

async fn soon<T>(event: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), event).await.expect("it happens in time")
}

async fn heard(download: &mut Download) -> Incoming {
    soon(download.inbox.recv()).await.expect("the client lives")
}

fn question() -> Packet {
    Message::FileStatusRequest(FILE).packet().unwrap()
}

async fn converse(one: &Hub, other: &Hub) -> Arc<Link> {
    let mut download = soon(one.clients.download(other.at, FILE)).await.unwrap();
    download.link.send(question()).await.unwrap();
    match heard(&mut download).await {
        Incoming::Packet(packet) => assert_eq!(packet.opcode, 0x48),
        unexpected => panic!("{unexpected:?}"),
    }
    download.link.clone()
}

#[tokio::test]
async fn one_connection_serves_both_directions_and_is_used_again() {
    let (one, mut other) = (
        Hub::start(*b"abcdef", Obfuscation::Accepted),
        Hub::start(*b"ghijkl", Obfuscation::Accepted),
    );
    let link = converse(&one, &other).await;
    assert!(!link.is_obfuscated() && link.options() == Options::OURS);
    assert_eq!(link.listens(), other.at);
    assert!(Arc::ptr_eq(&link, &soon(one.clients.link_to(other.at)).await.unwrap()));
    let back = soon(other.linked.wait_for(Option::is_some)).await.unwrap().clone().unwrap();
    assert_eq!(back.listens(), one.at);
    assert!(Arc::ptr_eq(&back, &soon(other.clients.link_to(one.at)).await.unwrap()));
    converse(&other, &one).await;
    assert_eq!((one.clients.sessions(), other.clients.sessions()), (1, 1));
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_download_lives_through_the_end_of_its_connection() {
    let (one, mut other) = (
        Hub::start(*b"abcdef", Obfuscation::Accepted),
        Hub::start(*b"ghijkl", Obfuscation::Accepted),
    );
    let mut download = soon(one.clients.download(other.at, FILE)).await.unwrap();
    download.link.send(question()).await.unwrap();
    assert!(matches!(heard(&mut download).await, Incoming::Packet(_)));
    let back = soon(other.linked.wait_for(Option::is_some)).await.unwrap().clone().unwrap();
    back.close("a test");
    assert!(matches!(heard(&mut download).await, Incoming::Lost(_)));
    // The other client comes by itself.
    let again = soon(other.clients.link_to(one.at)).await.unwrap();
    assert!(matches!(heard(&mut download).await, Incoming::Linked(_)));
    soon(again.send(Message::AcceptUpload.packet().unwrap())).await.unwrap();
    match heard(&mut download).await {
        Incoming::Packet(packet) => assert_eq!(packet.opcode, 0x55),
        unexpected => panic!("{unexpected:?}"),
    }
    again.close("a test");
    assert!(matches!(heard(&mut download).await, Incoming::Lost(_)));
    soon(download.reconnect()).await.unwrap();
    assert!(!download.link.is_closed());
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn obfuscation_is_spoken_where_it_is_wanted_and_tried_where_plain_words_fail() {
    let one = Hub::start(*b"abcdef", Obfuscation::Accepted);
    let strict = Hub::start(*b"ghijkl", Obfuscation::Required);
    let refused = soon(one.clients.link_to(strict.at)).await;
    assert!(matches!(refused, Err(ConnectError::Unreachable(_))), "{refused:?}");
    let hash = Some(strict.clients.identity.hash);
    // The hash alone is enough for a second try.
    one.clients.hint(strict.at, Hint { hash, crypt: Crypt::default() });
    let link = converse(&one, &strict).await;
    assert!(link.is_obfuscated() && link.options().crypt.requires);
    let open = Hub::start(*b"mnopqr", Obfuscation::Off);
    assert!(soon(strict.clients.link_to(open.at)).await.is_err());
    let wrong = Hint { hash: Some([1; 16]), crypt: Crypt::from_bits(3) };
    one.clients.hint(open.at, wrong);
    assert!(!converse(&one, &open).await.is_obfuscated());
    // A lie about what it requires, too.
    let plain = Hub::start(*b"stuvwx", Obfuscation::Off);
    let lie = Hint { hash: Some([1; 16]), crypt: Crypt::from_bits(7) };
    one.clients.hint_from_client(plain.at, lie);
    assert!(!converse(&one, &plain).await.is_obfuscated());
    plain.stop().await;
    for hub in [one, strict, open] {
        hub.stop().await;
    }
}

#[tokio::test]
async fn only_who_answers_in_neither_way_of_speaking_has_sent_something_bad() {
    let one = Hub::start(*b"abcdef", Obfuscation::Accepted);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    one.clients.hint(at, Hint { hash: Some([1; 16]), crypt: Crypt::from_bits(3) });
    let dial = || {
        let clients = one.clients.clone();
        tokio::spawn(async move { clients.link_to(at).await })
    };
    let answer = async |bytes: &[u8]| {
        let (mut stream, _) = soon(listener.accept()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    };
    let nonsense = [0x5A; 300];
    let made = dial();
    let _hidden = answer(&nonsense).await;
    let _plain = answer(&nonsense).await;
    assert!(matches!(soon(made).await.unwrap(), Err(ConnectError::Protocol(_))));
    one.until_bad(Flaw::Malformed, 1).await;
    let made = dial();
    let _hidden = answer(&nonsense).await;
    let theirs = Greeting { hash: [5; 16], ..Greeting::default() };
    let _plain = answer(&theirs.answer().to_bytes()).await;
    assert!(!soon(made).await.unwrap().unwrap().is_obfuscated());
    one.until_bad(Flaw::Malformed, 1).await;
    one.stop().await;
}

#[tokio::test]
async fn who_gives_up_a_connection_leaves_no_trace() {
    let one = Hub::start(*b"abcdef", Obfuscation::Accepted);
    // It takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = silent.local_addr().unwrap();
    let made = tokio::spawn({
        let clients = one.clients.clone();
        async move { clients.link_to(at).await }
    });
    let _stream = soon(silent.accept()).await.unwrap();
    assert_eq!(one.clients.dialling.count(), 1);
    made.abort();
    assert!(soon(made).await.unwrap_err().is_cancelled());
    assert_eq!(one.clients.dialling.count(), 0);
    one.stop().await;
}

/// A server by which one client can be asked to call.
struct Server {
    calls: Arc<Clients>,
    back: SocketAddr,
}

#[async_trait::async_trait]
impl CallBack for Server {
    async fn call_back(&self, low_id: u32) -> Result<(), String> {
        if low_id != 77 {
            return Err("nobody has this id".to_owned());
        }
        let (clients, back) = (self.calls.clone(), self.back);
        tokio::spawn(async move { clients.link_to(back).await });
        Ok(())
    }
}

#[tokio::test]
async fn who_has_a_low_id_is_asked_to_connect() {
    let one = Hub::start(*b"abcdef", Obfuscation::Accepted);
    let low = Hub::start(*b"ghijkl", Obfuscation::Accepted);
    let endpoint = ClientId::Low(77).endpoint(low.at.port());
    assert!(matches!(soon(one.clients.link_to(endpoint)).await, Err(ConnectError::NoCallBack(_))));
    low.clients.set_server(77, None);
    one.clients.set_call_back(Arc::new(Server { calls: low.clients.clone(), back: one.at }));
    let stranger = soon(one.clients.link_to(ClientId::Low(78).endpoint(1))).await;
    assert_eq!(stranger.unwrap_err().to_string(), "it cannot be called back: nobody has this id");
    let link = soon(one.clients.link_to(endpoint)).await.unwrap();
    assert_eq!(link.greeting().id, 77);
    assert!(Arc::ptr_eq(&link, &soon(one.clients.link_to(endpoint)).await.unwrap()));
    assert_eq!(one.clients.dialling.count(), 0);
    one.stop().await;
    low.stop().await;
}

#[tokio::test]
async fn the_bridge_does_not_speak_with_itself_nor_with_nonsense() {
    let one = Hub::start(*b"abcdef", Obfuscation::Accepted);
    let same = Hub::start(*b"abcdef", Obfuscation::Accepted);
    assert_eq!(soon(one.clients.link_to(same.at)).await.unwrap_err(), ConnectError::Ourselves);
    let nonsense: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\n\r\n                ",
        &[0xE3, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
        &[0xE3, 3, 0, 0, 0, 0x47, 0, 0],
        &[0xE3, 3, 0, 0, 0, 0x01, 16, 0],
    ];
    for bytes in nonsense {
        let mut stream = TcpStream::connect(one.at).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        assert_eq!(soon(stream.read(&mut [0; 1])).await.unwrap_or(0), 0);
    }
    one.until_bad(Flaw::Malformed, 3).await;
    one.until_bad(Flaw::Unexpected, 1).await;
    let mut stranger = TcpStream::connect(one.at).await.unwrap();
    let hello = Greeting { hash: [5; 16], ..Greeting::default() }.hello();
    stranger.write_all(&hello.to_bytes()).await.unwrap();
    let public_ip = Packet::new(Protocol::EMule, PUBLIC_IP, Vec::new());
    stranger.write_all(&public_ip.to_bytes()).await.unwrap();
    let mut got = bytes::BytesMut::new();
    let mut answers = Vec::new();
    while answers.len() < 2 {
        soon(stranger.read_buf(&mut got)).await.unwrap();
        while let Some(packet) = Packet::take(&mut got, 1000).unwrap() {
            answers.push(packet);
        }
    }
    assert_eq!((answers[0].opcode, answers[1].opcode), (0x4C, 0x98));
    assert_eq!(answers[1].payload[..], [127, 0, 0, 1]);
    // A range of bytes of no file.
    let cut = Packet::new(Protocol::EDonkey, 0x46, vec![7; 15]);
    stranger.write_all(&cut.to_bytes()).await.unwrap();
    one.until_bad(Flaw::Malformed, 4).await;
    one.stop().await;
    same.stop().await;
}

fn stranger() -> Vec<u8> {
    Greeting { hash: [5; 16], ..Greeting::default() }.hello().to_bytes()
}

#[tokio::test]
async fn a_greeting_has_a_quarter_of_a_minute() {
    let one = Hub::start(*b"abcdef", Obfuscation::Accepted);
    let begun = Instant::now();
    let hello = stranger();
    // Nothing, half of it, and what may become an obfuscated one.
    let mut slow = Vec::new();
    for said in [&[][..], &hello[..20], &[0x11, 0x22]] {
        let mut stream = TcpStream::connect(one.at).await.unwrap();
        stream.write_all(said).await.unwrap();
        slow.push(stream);
    }
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = silent.local_addr().unwrap();
    let made = tokio::spawn({
        let clients = one.clients.clone();
        async move { clients.link_to(at).await }
    });
    let _stream = soon(silent.accept()).await.unwrap();
    let mut first = None;
    passes_until(Duration::from_secs(1), || {
        let ended = slow.iter().filter(|stream| has_ended(stream)).count();
        first = first.or((ended > 0 || made.is_finished()).then(|| begun.elapsed()));
        ended == slow.len() && made.is_finished()
    })
    .await;
    let (first, last) = (first.unwrap(), begun.elapsed());
    assert!(first >= greet::GREETING && last < greet::GREETING * 2, "{first:?} to {last:?}");
    assert_eq!(soon(made).await.unwrap().unwrap_err(), ConnectError::TimedOut(greet::GREETING));
    one.until_bad(Flaw::Silent, 4).await;
    one.stop().await;
}

#[tokio::test]
async fn a_client_that_says_nothing_more_is_gone_after_three_minutes() {
    let one = Hub::start(*b"abcdef", Obfuscation::Accepted);
    let begun = Instant::now();
    let mut stream = TcpStream::connect(one.at).await.unwrap();
    stream.write_all(&stranger()).await.unwrap();
    // A message that does not end is none.
    stream.write_all(&question().to_bytes()[..9]).await.unwrap();
    passes_until(Duration::from_secs(10), || has_ended(&stream)).await;
    let waited = begun.elapsed();
    assert!((180..260).contains(&waited.as_secs()), "{waited:?}");
    one.until_bad(Flaw::Silent, 1).await;
    one.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up() {
    let mut one = Hub::start(*b"abcdef", Obfuscation::Accepted);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = soon(socket.connect(one.at)).await.unwrap();
    stream.write_all(&stranger()).await.unwrap();
    stream.write_all(&question().to_bytes()).await.unwrap();
    let link = soon(one.linked.wait_for(Option::is_some)).await.unwrap().clone().unwrap();
    let begun = Instant::now();
    // More than all buffers between the two hold.
    soon(link.send_data(vec![Run::plain(vec![0; 64 << 20])])).await.unwrap();
    // It goes on to ask: that is not enough.
    let mut asked = 0;
    passes_until(Duration::from_secs(10), || {
        asked += stream.try_write(&question().to_bytes()).unwrap_or(0);
        link.is_closed()
    })
    .await;
    let waited = begun.elapsed();
    assert!((100..170).contains(&waited.as_secs()) && asked > 0, "{waited:?}");
    assert_eq!(link.end(), "silent for 100s");
    one.until_bad(Flaw::Silent, 1).await;
    one.stop().await;
}
