//! A server that runs, a handler that keeps swarms, and clients over raw sockets.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::BytesMut;
use p2pbridge_proto::{
    Announce, ErrorCode, Fault, Name, Peer, PeerEvent, PeerList, Reply, Request, SearchHit,
    SearchResult,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{Ed2kTrackerServer, ServerConfig};
use crate::{
    Answer, Asked, Handler, Host, ServerCounts, TrackerServer as _,
    ed2k::{
        clients::{Clients, ClientsConfig},
        config::Obfuscation,
        identity::Identity,
        wire::{
            Hash, Packet, Tag,
            hello::Greeting,
            server::{
                ClientMessage, FileRecord, Holder, IdChange, Login, ServerMessage,
                decode_from_server, login_tag,
            },
            udp::{self, ClientDatagram, ServerDatagram},
        },
    },
};

/// How long a test waits for anything.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// The file that is too much.
pub(super) const SHED: u8 = 2;
/// The file whose answer comes later.
pub(super) const LATER: u8 = 3;

/// Keeps who has announced what, and what it was asked.
#[derive(Default)]
pub(super) struct Swarms {
    pub(super) peers: Mutex<HashMap<Name, Vec<Announce>>>,
    pub(super) asked: Mutex<Vec<(u32, Request)>>,
    /// Peers that it names beside those.
    pub(super) more: Mutex<Vec<Peer>>,
    /// What a search finds.
    pub(super) hits: Mutex<Vec<SearchHit>>,
}

impl Swarms {
    fn answer(&self, request: Request) -> Result<Reply, Fault> {
        let mut swarms = self.peers.lock().unwrap();
        match request {
            Request::Announce(announce) => {
                if announce.names[0].digest()[0] == SHED {
                    return Err(Fault::new(ErrorCode::Overloaded, "too much at once"));
                }
                let swarm = swarms.entry(announce.names[0]).or_default();
                swarm.retain(|known| known.peer.endpoint != announce.peer.endpoint);
                if announce.event != PeerEvent::Stopped {
                    swarm.push(announce);
                }
                Ok(Reply::Peers(PeerList::default()))
            }
            Request::Find(find) => {
                let swarm = swarms.entry(find.names[0]).or_default();
                let mut peers: Vec<_> =
                    swarm.iter().map(|known| Peer::at(known.peer.endpoint)).collect();
                peers.extend(self.more.lock().unwrap().iter().copied());
                Ok(Reply::Peers(PeerList { peers, ..PeerList::default() }))
            }
            Request::Search(_) => Ok(Reply::Found(SearchResult {
                hits: self.hits.lock().unwrap().clone(),
                truncated: false,
            })),
            Request::SwarmQuery(_) => panic!("no client of eD2k asks for sizes"),
        }
    }

    /// The announces of a file.
    pub(super) fn of(&self, file: u8) -> Vec<Announce> {
        self.peers.lock().unwrap().get(&Name::ed2k([file; 16])).cloned().unwrap_or_default()
    }
}

impl Handler for Swarms {
    fn handle(&self, asked: Asked<'_>, request: Request) -> Answer {
        assert!(asked.overlay.as_str() == "t" && asked.one_family);
        self.asked.lock().unwrap().push((asked.hop_limit, request.clone()));
        let later = matches!(&request, Request::Find(find) if find.names[0].digest()[0] == LATER);
        let answer = self.answer(request);
        if later { Answer::Later(Box::pin(async move { answer })) } else { Answer::Now(answer) }
    }
}

/// A server that runs.
pub(super) struct Running {
    pub(super) server: Arc<Ed2kTrackerServer>,
    pub(super) handler: Arc<Swarms>,
    pub(super) hub: Arc<Clients>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub(super) fn start() -> Self {
        Self::with(ServerConfig::default())
    }

    pub(super) fn with(config: ServerConfig) -> Self {
        let any: Vec<SocketAddr> = vec!["127.0.0.1:0".parse().unwrap()];
        let overlay = "t".parse().unwrap();
        let identity = Identity::new(&Host { mark: *b"abcdef" }, &overlay);
        let clients = ClientsConfig {
            listen: any.clone(),
            max_sessions: 10,
            nick: "bridge".to_owned(),
            obfuscation: Obfuscation::Accepted,
        };
        let hub = Clients::bind(&overlay, &clients, Arc::new(identity)).unwrap();
        let config = ServerConfig {
            tcp: any.clone(),
            udp: any,
            welcome: "welcome".to_owned(),
            reachable: hub.endpoints(),
            ..config
        };
        let server = Ed2kTrackerServer::bind(&overlay, &config, &identity, &hub).unwrap();
        let (handler, stop) = (Arc::new(Swarms::default()), CancellationToken::new());
        let task = tokio::spawn(server.clone().serve(handler.clone(), stop.clone()));
        Self { server, handler, hub, stop, task }
    }

    pub(super) fn tcp(&self) -> SocketAddr {
        self.server.endpoints()[0]
    }

    pub(super) fn counts(&self) -> ServerCounts {
        self.server.counts()
    }

    /// A connection that has said nothing yet.
    pub(super) async fn connect(&self) -> Raw {
        Raw { stream: TcpStream::connect(self.tcp()).await.unwrap(), inbox: BytesMut::new() }
    }

    /// A connection whose client has little room for what it has not read.
    pub(super) async fn connect_slowly(&self) -> Raw {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Raw { stream: socket.connect(self.tcp()).await.unwrap(), inbox: BytesMut::new() }
    }

    /// A client that listens nowhere.
    pub(super) async fn low(&self, user: u8) -> Raw {
        let mut raw = self.connect().await;
        raw.login(user, 9, 0x119).await;
        assert!(raw.welcomed().await.id < 1 << 24);
        raw
    }

    /// A client that can be reached, and the port at which it listens.
    pub(super) async fn high(&self, user: u8, flags: u32) -> (Raw, Listening) {
        let listening = Listening::as_user(user).await;
        let mut raw = self.connect().await;
        raw.login(user, listening.port, flags).await;
        assert_eq!(raw.welcomed().await.id, u32::from_le_bytes([127, 0, 0, 1]));
        (raw, listening)
    }

    /// Asks over UDP, and waits.
    pub(super) async fn ask_alone(&self, datagram: &[u8]) -> ServerDatagram {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(self.server.endpoints()[1]).await.unwrap();
        socket.send(datagram).await.unwrap();
        hear(&socket).await
    }

    /// Asks over UDP; `None` when nothing comes before another question is answered.
    pub(super) async fn ask(&self, datagram: &[u8]) -> Option<ServerDatagram> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(self.server.endpoints()[1]).await.unwrap();
        socket.send(datagram).await.unwrap();
        let last = ClientDatagram::Status { challenge: Some(0xABCD) };
        socket.send(&last.encode()).await.unwrap();
        match hear(&socket).await {
            ServerDatagram::Status(status) if status.challenge == 0xABCD => None,
            other => Some(other),
        }
    }

    /// Stops the server, which must end in time.
    pub(super) async fn end(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
        assert_eq!(self.server.status(), (0, 0));
    }
}

async fn hear(socket: &UdpSocket) -> ServerDatagram {
    let mut packet = vec![0; 4096];
    let length = timeout(PATIENCE, socket.recv(&mut packet)).await.unwrap().unwrap();
    udp::decode_from_server(&packet[..length]).unwrap()
}

/// Answers greetings as a user.
pub(super) struct Listening {
    pub(super) port: u16,
    task: JoinHandle<()>,
}

impl Listening {
    pub(super) async fn as_user(user: u8) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut raw = Raw { stream, inbox: BytesMut::new() };
                let Some(hello) = raw.packet().await else { continue };
                Greeting::read_hello(&hello.payload).unwrap();
                let greeting = Greeting { hash: [user; 16], port, ..Greeting::default() };
                raw.send(&greeting.answer().to_bytes()).await;
                // Until the other side has read it.
                raw.packet().await;
            }
        });
        Self { port, task }
    }

    pub(super) fn at(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client that says what the test wants.
pub(super) struct Raw {
    pub(super) stream: TcpStream,
    inbox: BytesMut,
}

impl Raw {
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub(super) async fn say(&mut self, message: &ClientMessage) {
        self.send(&message.to_packet(true).to_bytes()).await;
    }

    pub(super) async fn login(&mut self, user: u8, port: u16, flags: u32) {
        let tags = vec![Tag::text(login_tag::NICK, "me"), Tag::number(login_tag::FLAGS, flags)];
        self.say(&ClientMessage::Login(Login { user: [user; 16], id: 0, port, tags })).await;
    }

    pub(super) async fn offer(&mut self, files: &[u8]) {
        let record = |file: &u8| FileRecord::new([*file; 16], Holder::Complete, "film.avi", 7);
        self.say(&ClientMessage::Offer(files.iter().map(record).collect())).await;
    }

    /// The next message; nothing at the end of the connection.
    pub(super) async fn packet(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = Packet::take(&mut self.inbox, 1 << 20).unwrap() {
                return Some(packet);
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.inbox)).await.unwrap();
            if !read.is_ok_and(|read| read > 0) {
                return None;
            }
        }
    }

    /// The next message of the server.
    pub(super) async fn hear(&mut self) -> ServerMessage {
        decode_from_server(&self.packet().await.expect("the connection has ended")).unwrap()
    }

    /// The answer to a message.
    pub(super) async fn ask(&mut self, message: &ClientMessage) -> ServerMessage {
        self.say(message).await;
        self.hear().await
    }

    /// All that comes after a login.
    pub(super) async fn welcomed(&mut self) -> IdChange {
        let ServerMessage::IdChange(change) = self.hear().await else { panic!("no id") };
        loop {
            if matches!(self.hear().await, ServerMessage::Status { .. }) {
                return change;
            }
        }
    }

    /// The server ends the connection; what it says before is passed over.
    pub(super) async fn ends(mut self) {
        while self.packet().await.is_some() {}
    }

    /// The server ends the connection, after bytes that are no messages.
    pub(super) async fn ends_obscurely(mut self) {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.unwrap();
    }

    /// Until all that was said before has been answered.
    pub(super) async fn settled(&mut self) {
        self.say(&ClientMessage::GetServerList).await;
        while !matches!(self.hear().await, ServerMessage::ServerList(_)) {}
    }
}

/// The hash of a user or a file.
pub(super) fn hash(number: u8) -> Hash {
    [number; 16]
}

/// Waits until something is so.
pub(super) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "in vain: {what}");
}
