//! A file, a hub, and an uploader as a test plays it.

use std::future::Future;

use bytes::BytesMut;
use md4::{Digest as _, Md4};
use p2pbridge_proto::{Ed2kFileLink, OverlayId};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{
    Flaw, Host, Party,
    ed2k::{
        clients::{ClientsConfig, Link, Uploads},
        config::Obfuscation,
        describe::describe,
        identity::Identity,
        wire::{
            Hash, Packet,
            hello::{Greeting, Options},
            packet::MAX_PAYLOAD,
            transfer::{Message, PartStatus, decode},
        },
    },
};

pub(super) const SOON: Duration = Duration::from_secs(20);
/// A file of two parts.
pub(super) const SIZE: u64 = PART + 500_000;

/// A file, its bytes by their places, and its hashes.
pub(super) struct Sample {
    pub(super) what: Arc<Description>,
    pub(super) hash: Hash,
    pub(super) hashes: Vec<Hash>,
}

pub(super) fn content(range: Range<u64>) -> Bytes {
    range.map(|at| (at / 5 % 253) as u8).collect()
}

pub(super) fn md4(bytes: &[u8]) -> Hash {
    Md4::digest(bytes).into()
}

/// A file whose link says nothing but its hash.
pub(super) fn sample(size: u64) -> Sample {
    let whole = content(0..size);
    let mut hashes: Vec<Hash> = whole.chunks(PART as usize).map(md4).collect();
    let blocks: Vec<_> = whole
        .chunks(PART as usize)
        .map(|part| aich::hash_blocks(&[Bytes::copy_from_slice(part)]))
        .collect();
    let parts = (0..).zip(&blocks).map(|(part, b)| aich::hash_part(size, part, b).unwrap());
    let root = aich::hash_root(size, &parts.collect::<Vec<_>>());
    if size.is_multiple_of(PART) {
        hashes.push(md4(b""));
    }
    let hash = if hashes.len() == 1 { hashes[0] } else { md4(&hashes.concat()) };
    named(size, hash, hashes, root)
}

pub(super) fn named(size: u64, hash: Hash, hashes: Vec<Hash>, aich: Option<[u8; 20]>) -> Sample {
    let link = Ed2kFileLink {
        title: "t.bin".to_owned(),
        length: size,
        hash,
        parts: None,
        aich,
        sources: Vec::new(),
    };
    let what = Arc::new(describe(link.to_string().as_bytes()).unwrap());
    Sample { what, hash, hashes }
}

/// The leecher under test, and its hub.
pub(super) struct Rig {
    pub(super) leecher: Arc<Ed2kLeecher>,
    pub(super) clients: Arc<Clients>,
    pub(super) book: Arc<SourceBook>,
    pub(super) _stop: DropGuard,
}

/// Serves nothing.
pub(super) struct Nothing;

impl Uploads for Nothing {
    fn session(
        self: Arc<Self>,
        _link: Arc<Link>,
        _asked: mpsc::Receiver<Packet>,
    ) -> futures::future::BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

pub(super) fn rig() -> Rig {
    let config = ClientsConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        max_sessions: 100,
        nick: "bridge".to_owned(),
        obfuscation: Obfuscation::Accepted,
    };
    let identity = Arc::new(Identity::new(&Host { mark: *b"leecht" }, &"e".parse().unwrap()));
    let overlay: OverlayId = "e".parse().unwrap();
    let clients = Clients::bind(&overlay, &config, identity).unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(clients.clone().serve(Arc::new(Nothing), stop.clone()));
    let book = Arc::new(SourceBook::default());
    let leecher = Ed2kLeecher::new(clients.clone(), Some(book.clone()));
    Rig { leecher, clients, book, _stop: stop.drop_guard() }
}

/// An uploader as a test plays it.
pub(super) struct Peer {
    pub(super) stream: TcpStream,
    pub(super) inbox: BytesMut,
}

impl Peer {
    pub(super) fn greeting() -> Greeting {
        Greeting {
            hash: [9; 16],
            id: 0x0100_007F,
            port: 1,
            nick: "fake".to_owned(),
            server: None,
            options: Options { crypt: Default::default(), ..Options::OURS },
        }
    }

    pub(super) async fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        let mut peer = Self { stream, inbox: BytesMut::new() };
        assert_eq!(peer.packet().await.opcode, 0x01);
        peer.write(&Self::greeting().answer().to_bytes()).await;
        peer
    }

    /// Connects to the bridge, as an uploader whose turn it is.
    pub(super) async fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).await.unwrap();
        let mut peer = Self { stream, inbox: BytesMut::new() };
        peer.write(&Self::greeting().hello().to_bytes()).await;
        assert_eq!(peer.packet().await.opcode, 0x4C);
        peer
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) {
        // What ends the session may come before all is written.
        let _ = self.stream.write_all(bytes).await;
    }

    pub(super) async fn send(&mut self, message: Message) {
        let mut bytes = Vec::new();
        message.put(&mut bytes);
        self.write(&bytes).await;
    }

    pub(super) async fn packet(&mut self) -> Packet {
        self.packet_or_end().await.expect("the bridge has hung up")
    }

    pub(super) async fn packet_or_end(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = Packet::take(&mut self.inbox, MAX_PAYLOAD).unwrap() {
                return Some(packet);
            }
            if self.stream.read_buf(&mut self.inbox).await.ok()? == 0 {
                return None;
            }
        }
    }

    pub(super) async fn next(&mut self) -> Message {
        decode(&self.packet().await).unwrap()
    }

    /// The ranges that are asked for next.
    pub(super) async fn ranges(&mut self) -> Vec<Range<u64>> {
        match self.next().await {
            Message::RequestParts { ranges, .. } => ranges,
            other => panic!("{other:?} instead of a request for parts"),
        }
    }

    pub(super) async fn send_range(&mut self, file: Hash, range: Range<u64>) {
        for start in range.clone().step_by(10_240) {
            let data = content(start..(start + 10_240).min(range.end));
            self.send(Message::SendingPart { file, start, data }).await;
        }
    }

    /// Answers the first questions, up to that for the slot; the hash set too, if it is asked for.
    pub(super) async fn tell(&mut self, sample: &Sample, parts: PartStatus) {
        let file = sample.hash;
        let extended = match self.next().await {
            Message::FileNameRequest { extended, file } if file == sample.hash => extended,
            other => panic!("{other:?} instead of a request for the file name"),
        };
        assert_eq!(extended.unwrap().complete_sources, Some(0));
        assert_eq!(self.next().await, Message::FileStatusRequest(file));
        self.send(Message::FileNameAnswer { file, name: "other.bin".to_owned() }).await;
        self.send(Message::FileStatus { file, parts }).await;
        loop {
            match self.next().await {
                Message::HashSetRequest(asked) => {
                    assert_eq!(asked, file);
                    let hashes = sample.hashes.clone();
                    self.send(Message::HashSet { file, hashes }).await;
                }
                Message::SourcesRequest { version, .. } => assert_eq!(version, None),
                Message::StartUpload(asked) => return assert_eq!(asked, Some(file)),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Opens a session with an uploader that does as told.
pub(super) async fn open<F: Future<Output = ()> + Send + 'static>(
    rig: &Rig,
    sample: &Sample,
    script: impl FnOnce(Peer) -> F,
) -> (Result<Arc<dyn SourceSession>, SourceError>, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let opened = tokio::spawn({
        let (leecher, what) = (rig.leecher.clone(), sample.what.clone());
        async move { leecher.open(what, at).await }
    });
    let peer = timeout(SOON, Peer::accept(&listener)).await.unwrap();
    let script = tokio::spawn(script(peer));
    (timeout(SOON * 3, opened).await.unwrap().unwrap(), script)
}

/// Waits until a session holds a chunk, or does not.
pub(super) async fn until(session: &Arc<dyn SourceSession>, chunk: u32, has: bool) {
    let mut changes = session.changes();
    let wait = async {
        while session.has(chunk) != has {
            changes.changed().await.unwrap();
        }
    };
    timeout(SOON, wait).await.unwrap();
}

pub(super) async fn ended(session: &Arc<dyn SourceSession>) -> SourceError {
    let mut changes = session.changes();
    let wait = async { while changes.changed().await.is_ok() {} };
    timeout(SOON * 10, wait).await.unwrap();
    session.fetch(0..1).await.unwrap_err()
}

/// How often clients were silent.
pub(super) fn silent(rig: &Rig) -> u64 {
    rig.clients.bad_input().of(Party::Peer, Flaw::Silent)
}
