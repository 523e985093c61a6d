//! What the tests of the tracker's doors share: a handler that answers by what the first byte of the info-hash says,
//! and clients that send what they are told.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use p2pbridge_proto::{
    ErrorCode, Fault, Name, Peer, PeerList, Reply, Request, SearchResult, SwarmStat,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    super::wire::{
        http::AnnounceRequest,
        udp::{UdpRequest, UdpResponse},
    },
    BtTrackerServer, ServerConfig,
};
use crate::{Answer, Asked, Handler, TrackerServer as _};

/// The swarm that has two peers, one of each family.
pub(super) const KNOWN: u8 = 1;
/// The swarm that is too much.
pub(super) const SHED: u8 = 2;
/// The swarm whose answer comes later.
pub(super) const LATER: u8 = 3;
/// The swarm with more peers than go into a packet.
pub(super) const LARGE: u8 = 4;
/// The swarm at which the handler panics.
pub(super) const FATAL: u8 = 5;

/// How long a test waits for anything.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Answers by the first byte of the info-hash, and keeps what it was asked.
pub(super) struct Scripted {
    pub(super) asked: Mutex<Vec<(u32, Request)>>,
    /// Lets the answers of [`LATER`] go.
    pub(super) released: watch::Sender<bool>,
}

impl Scripted {
    fn new() -> Self {
        Self { asked: Mutex::default(), released: watch::Sender::new(false) }
    }
}

impl Handler for Scripted {
    fn handle(&self, asked: Asked<'_>, request: Request) -> Answer {
        assert_eq!(asked.overlay.as_str(), "t");
        let name = request.names()[0];
        self.asked.lock().unwrap().push((asked.hop_limit, request.clone()));
        let first = name.digest()[0];
        if first == LATER {
            let mut released = self.released.subscribe();
            return Answer::Later(Box::pin(async move {
                released.wait_for(|released| *released).await.unwrap();
                Ok(answer(KNOWN, request))
            }));
        }
        Answer::Now(match first {
            KNOWN | LARGE => Ok(answer(first, request)),
            SHED => Err(Fault::new(ErrorCode::Overloaded, "too much at once")),
            FATAL => panic!("the handler fails"),
            _ => Err(Fault::new(ErrorCode::UnknownName, "not served here")),
        })
    }
}

fn answer(first: u8, request: Request) -> Reply {
    match request {
        Request::Search(_) => Reply::Found(SearchResult::default()),
        Request::SwarmQuery(query) => {
            // Unknown ones are left out, and the order is another.
            let known = query.names.into_iter().rev().filter(|name| name.digest()[0] < 9);
            let stat = |name: Name| SwarmStat {
                name,
                seeders: name.digest()[0].into(),
                leechers: 2,
                completed: Some(3),
            };
            Reply::Swarms(known.map(stat).collect())
        }
        Request::Announce(announce) => {
            let mut peers = vec![announce.peer, Peer::at("[2001:db8::1]:9".parse().unwrap())];
            if first == LARGE {
                for port in 1..=500 {
                    peers.push(Peer::at(([10, 0, 0, 1], port).into()));
                    peers.push(Peer::at((Ipv4Addr::LOCALHOST.to_ipv6_compatible(), port).into()));
                }
            }
            Reply::Peers(PeerList {
                peers,
                interval: Duration::from_secs(60),
                seeders: Some(1),
                leechers: Some(2),
                ..PeerList::default()
            })
        }
        Request::Find(_) => panic!("no tracker's client only asks"),
    }
}

/// A server that runs.
pub(super) struct Running {
    pub(super) server: Arc<BtTrackerServer>,
    pub(super) handler: Arc<Scripted>,
    pub(super) stop: CancellationToken,
    pub(super) task: JoinHandle<()>,
}

impl Running {
    /// Serves HTTP and UDP, each at one address.
    pub(super) fn at(ip: IpAddr, trust_forwarded_for: bool) -> Self {
        let any = vec![SocketAddr::new(ip, 0)];
        let config = ServerConfig { http: any.clone(), udp: any, trust_forwarded_for, workers: 2 };
        let server = BtTrackerServer::bind(&"t".parse().unwrap(), &config).unwrap();
        let (handler, stop) = (Arc::new(Scripted::new()), CancellationToken::new());
        let task = tokio::spawn(server.clone().serve(handler.clone(), stop.clone()));
        Self { server, handler, stop, task }
    }

    pub(super) fn start() -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into(), false)
    }

    pub(super) fn http(&self) -> SocketAddr {
        self.server.endpoints()[0]
    }

    pub(super) fn udp(&self) -> SocketAddr {
        self.server.endpoints()[1]
    }

    /// Sends a GET, and reads the answer: its first line, and its body.
    pub(super) async fn get(&self, target: &str) -> (String, Vec<u8>) {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = self.exchange(request.as_bytes()).await;
        let at = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..at]).into_owned();
        (head.lines().next().unwrap().to_owned(), answer[at + 4..].to_vec())
    }

    /// Sends bytes, and reads until the server ends the connection.
    pub(super) async fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.http()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        answer
    }

    /// Stops the server, which must end in time.
    pub(super) async fn end(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

/// The target of an announce.
pub(super) fn announce_target(first: u8, more: &str) -> String {
    let hash = format!("%{first:02x}{}", "a".repeat(19));
    format!("/announce?info_hash={hash}&peer_id={}&port=7000&left=0{more}", "p".repeat(20))
}

/// An announce to the swarm that the handler knows by a first byte.
pub(super) fn announce(first: u8) -> AnnounceRequest {
    let mut info_hash = [b'a'; 20];
    info_hash[0] = first;
    let target = announce_target(KNOWN, "");
    let (_, query) = target.split_once('?').unwrap();
    AnnounceRequest { info_hash, ..AnnounceRequest::parse(query).unwrap() }
}

/// A UDP client.
pub(super) struct UdpClient {
    socket: UdpSocket,
    ipv6: bool,
}

impl UdpClient {
    pub(super) fn to(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind(SocketAddr::new(server.ip(), 0)).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, ipv6: server.is_ipv6() }
    }

    pub(super) fn send(&self, packet: &[u8]) {
        self.socket.send(packet).unwrap();
    }

    pub(super) fn receive(&self) -> Vec<u8> {
        let mut packet = [0; 4096];
        let length = self.socket.recv(&mut packet).unwrap();
        packet[..length].to_vec()
    }

    pub(super) fn ask(&self, packet: &[u8]) -> UdpResponse {
        self.send(packet);
        UdpResponse::decode(&self.receive(), self.ipv6).unwrap()
    }

    /// A connection id.
    pub(super) fn connect(&self) -> u64 {
        match self.ask(&UdpRequest::Connect { transaction: 77 }.encode()) {
            UdpResponse::Connect { transaction: 77, connection } => connection,
            other => panic!("{other:?}"),
        }
    }

    /// An announce's packet.
    pub(super) fn announce(connection: u64, announce: AnnounceRequest) -> Vec<u8> {
        let url_data = String::new();
        UdpRequest::Announce { connection, transaction: 78, announce, url_data }.encode()
    }

    /// The text of an error that must come.
    pub(super) fn error(&self, packet: &[u8]) -> String {
        match self.ask(packet) {
            UdpResponse::Error { message, .. } => message,
            other => panic!("{other:?}"),
        }
    }
}

/// Waits until something is so.
pub(super) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
