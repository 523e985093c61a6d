//! Clients that ask a seeder, over loopback: other hubs, which say what a test wants them to say.

use std::{
    io::Read as _,
    ops::Range,
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use flate2::read::ZlibDecoder;
use futures::FutureExt as _;
use md4::{Digest as _, Md4};
use p2pbridge_proto::Bits;
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use super::*;
use crate::{
    Attendance, Availability, Description, Flaw, Host, Leecher as _, Party, ReadError, SourceError,
    ed2k::{
        aich::{hash_blocks, hash_part, hash_root, prove, wrong_runs},
        clients::{ClientsConfig, Download, Incoming},
        config::Obfuscation,
        describe::describe,
        identity::Identity,
        leecher::Ed2kLeecher,
        wire::{
            BLOCK, PART,
            transfer::{Extended, PartStatus, decode, opcode},
        },
    },
};

/// A content in memory.
struct Memory {
    description: Arc<Description>,
    file: Hash,
    data: Bytes,
    availability: Availability,
    retired: CancellationToken,
    log: watch::Sender<Log>,
    /// So many preparations fail at once.
    failing: AtomicUsize,
    reads: AtomicUsize,
}

#[derive(Debug, Default, Clone)]
struct Log {
    held: Vec<u32>,
    prepared: Vec<u32>,
    served: Vec<Range<u64>>,
}

impl Log {
    fn bytes(&self) -> u64 {
        self.served.iter().map(|range| range.end - range.start).sum()
    }
}

impl Memory {
    /// A content of which nothing is available; its bytes shrink or not.
    fn new(length: usize, shrinks: bool) -> Arc<Self> {
        let mut seed = 1_u64;
        let data: Bytes = (0..length)
            .map(|at| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
                if shrinks { (at / 1000) as u8 } else { (seed >> 40) as u8 }
            })
            .collect();
        let md4 = |bytes: &[u8]| -> [u8; 16] { Md4::digest(bytes).into() };
        let hex = |hash: Hash| hash.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
        let parts: Vec<_> = data.chunks(PART as usize).map(md4).collect();
        let file = if parts.len() > 1 { md4(&parts.concat()) } else { parts[0] };
        let listed: Vec<_> = parts.into_iter().map(hex).collect();
        let (hash, parts, root) = (hex(file), listed.join(":"), aich(&data));
        let link = format!("ed2k://|file|a%20name|{length}|{hash}|p={parts}|h={root}|/");
        let description = Arc::new(describe(link.as_bytes()).unwrap());
        Arc::new(Self {
            availability: Availability::new(length.div_ceil(PART as usize) as u32),
            description,
            file,
            data,
            retired: CancellationToken::new(),
            log: watch::Sender::default(),
            failing: AtomicUsize::new(0),
            reads: AtomicUsize::new(0),
        })
    }

    /// The same, as a link without the hashes of parts names it.
    fn untold(length: usize) -> Arc<Self> {
        let known = Arc::into_inner(Self::new(length, false)).unwrap();
        let hash: String = known.file.iter().map(|byte| format!("{byte:02X}")).collect();
        let link = format!("ed2k://|file|a%20name|{length}|{hash}|/");
        Arc::new(Self { description: Arc::new(describe(link.as_bytes()).unwrap()), ..known })
    }

    fn whole(length: usize, shrinks: bool) -> Arc<Self> {
        let memory = Self::new(length, shrinks);
        (0..length.div_ceil(PART as usize) as u32).for_each(|part| {
            memory.availability.add(part);
        });
        memory
    }

    async fn until(&self, wanted: impl FnMut(&Log) -> bool) -> Log {
        soon(self.log.subscribe().wait_for(wanted)).await.unwrap().clone()
    }
}

/// The root of a file's AICH tree, as links have it.
fn aich(data: &Bytes) -> String {
    let (size, mut rest, mut parts) = (data.len() as u64, data.clone(), Vec::new());
    while !rest.is_empty() {
        let blocks = hash_blocks(&[rest.split_to(rest.len().min(PART as usize))]);
        parts.push(hash_part(size, parts.len() as u32, &blocks).unwrap());
    }
    data_encoding::BASE32_NOPAD.encode(&hash_root(size, &parts).unwrap())
}

struct Reader(Arc<Memory>);

#[async_trait]
impl ContentReader for Reader {
    fn description(&self) -> &Arc<Description> {
        &self.0.description
    }

    fn availability(&self) -> &Availability {
        &self.0.availability
    }

    fn retired(&self) -> &CancellationToken {
        &self.0.retired
    }

    async fn prepare(&self, chunk: u32) -> Result<(), ReadError> {
        self.0.log.send_modify(|log| log.prepared.push(chunk));
        let fails = |left: usize| left.checked_sub(1);
        if self.0.failing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fails).is_ok() {
            return Err(ReadError::Failed("a test".to_owned()));
        }
        let mut added = self.0.availability.watch();
        let _ = added.wait_for(|_| self.0.availability.has(chunk)).await;
        Ok(())
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes, ReadError> {
        self.0.reads.fetch_add(1, Ordering::Relaxed);
        Ok(self.0.data.slice(range.start as usize..range.end as usize))
    }

    fn attend(&self, _: SocketAddr) -> Box<dyn Attendance> {
        Box::new(Present(self.0.clone()))
    }
}

struct Present(Arc<Memory>);

impl Attendance for Present {
    fn holds(&self, chunks: Bits) {
        self.0.log.send_modify(|log| log.held.push(chunks.count()));
    }

    fn gained(&self, _: u32) {}

    fn served(&self, range: Range<u64>) {
        self.0.log.send_modify(|log| log.served.push(range));
    }
}

impl Library for Reader {
    fn open(&self, name: &Name) -> Option<Arc<dyn ContentReader>> {
        (name.digest() == self.0.file).then(|| Arc::new(Self(self.0.clone())) as _)
    }
}

fn hub(mark: u8) -> Arc<Clients> {
    let config = ClientsConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        max_sessions: 50,
        nick: "hub".to_owned(),
        obfuscation: Obfuscation::Accepted,
    };
    let identity = Arc::new(Identity::new(&Host { mark: [mark; 6] }, &"e".parse().unwrap()));
    Clients::bind(&"e".parse().unwrap(), &config, identity).unwrap()
}

async fn soon<T>(event: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), event).await.expect("it happens in time")
}

/// A seeder at work.
struct Serving {
    seeder: Arc<Ed2kSeeder>,
    at: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Serving {
    fn start(memory: &Arc<Memory>, slots: usize) -> Self {
        let clients = hub(0);
        let own = clients.endpoints()[0];
        let seeder = Ed2kSeeder::new(clients, slots, Arc::default(), vec![own]);
        let (at, stop) = (seeder.endpoints()[0], CancellationToken::new());
        let library = Arc::new(Reader(memory.clone()));
        let task = tokio::spawn(seeder.clone().serve(library, stop.clone()));
        Self { seeder, at, stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        soon(self.task).await.unwrap();
    }
}

/// A client that asks.
struct Asker {
    download: Download,
    at: SocketAddr,
    file: Hash,
    stop: CancellationToken,
}

/// Serves nothing.
struct Nothing;

impl Uploads for Nothing {
    fn session(self: Arc<Self>, _: Arc<Link>, _: mpsc::Receiver<Packet>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

impl Asker {
    async fn new(mark: u8, memory: &Memory, serving: &Serving) -> Self {
        Self::about(mark, memory.file, serving).await
    }

    async fn about(mark: u8, file: Hash, serving: &Serving) -> Self {
        let (clients, stop) = (hub(mark), CancellationToken::new());
        tokio::spawn(clients.clone().serve(Arc::new(Nothing), stop.clone()));
        let download = soon(clients.download(serving.at, file)).await.unwrap();
        Self { download, at: clients.endpoints()[0], file, stop }
    }

    async fn say(&self, message: Message) {
        soon(self.download.link.send(message.packet().unwrap())).await.unwrap();
    }

    async fn heard(&mut self) -> Incoming {
        soon(self.download.inbox.recv()).await.unwrap()
    }

    async fn hear(&mut self) -> Message {
        match self.heard().await {
            Incoming::Packet(packet) => decode(&packet).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    async fn start(&mut self) {
        self.say(Message::StartUpload(Some(self.file))).await;
        assert_eq!(self.hear().await, Message::AcceptUpload);
    }

    async fn ask(&self, ranges: &[Range<u64>]) {
        let file = self.file;
        self.say(Message::RequestParts { file, ranges: ranges.to_vec() }).await;
    }

    async fn ask_for(&self, range: Range<u64>) {
        self.ask(&[range]).await;
    }

    /// The bytes of plain messages, which must follow on each other.
    async fn take(&mut self, range: Range<u64>) -> Vec<u8> {
        let mut got = Vec::new();
        while (got.len() as u64) < range.end - range.start {
            match self.hear().await {
                Message::SendingPart { start, data, .. } => {
                    assert_eq!(start, range.start + got.len() as u64);
                    assert!(data.len() <= 12_800);
                    got.extend_from_slice(&data);
                }
                other => panic!("{other:?}"),
            }
        }
        got
    }

    async fn is_closed(&mut self, serving: &Serving) {
        while !matches!(self.heard().await, Incoming::Lost(_)) {}
        soon(async {
            while serving.seeder.clients.sessions() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn a_client_is_served_as_it_asks_and_each_range_once() {
    let size = 2 * PART + 5000;
    let memory = Memory::whole(size as usize, false);
    let serving = Serving::start(&memory, 2);
    let mut asker = Asker::new(1, &memory, &serving).await;
    let file = memory.file;
    let mut bits = Bits::none(3);
    bits.set(1);
    let parts = PartStatus::of(&bits, size).unwrap();
    let extended = Some(Extended { parts, complete_sources: Some(0) });
    asker.say(Message::FileNameRequest { file, extended }).await;
    assert_eq!(asker.hear().await, Message::FileNameAnswer { file, name: "a name".to_owned() });
    asker.say(Message::FileStatusRequest(file)).await;
    let complete = PartStatus::complete();
    assert_eq!(asker.hear().await, Message::FileStatus { file, parts: complete });
    asker.say(Message::HashSetRequest(file)).await;
    match asker.hear().await {
        Message::HashSet { hashes, .. } => {
            assert_eq!(Md4::digest(hashes.concat()).as_slice(), file);
        }
        other => panic!("{other:?}"),
    }
    asker.start().await;
    let ranges = [0..BLOCK, BLOCK..2 * BLOCK, size - 100..size];
    asker.ask(&ranges).await;
    asker.ask(&ranges).await;
    let next = 2 * BLOCK..3 * BLOCK;
    asker.ask_for(next.clone()).await;
    for range in ranges.into_iter().chain([next]) {
        let bytes = asker.take(range.clone()).await;
        assert_eq!(bytes, memory.data[range.start as usize..range.end as usize]);
    }
    let log = memory.until(|log| log.bytes() == 3 * BLOCK + 100).await;
    assert_eq!((log.held, log.prepared), (vec![0, 1], vec![]));
    asker.say(Message::EndOfDownload(file)).await;
    asker.start().await;
    serving.stop().await;
}

#[tokio::test]
async fn bytes_that_shrink_are_compressed_for_clients_that_take_it() {
    let memory = Memory::whole(500_000, true);
    let serving = Serving::start(&memory, 2);
    let mut asker = Asker::new(1, &memory, &serving).await;
    asker.start().await;
    asker.ask_for(BLOCK..2 * BLOCK).await;
    let mut packed = Vec::new();
    loop {
        match asker.hear().await {
            Message::CompressedPart { start, whole, data, .. } => {
                assert_eq!(start, BLOCK);
                packed.extend_from_slice(&data);
                if packed.len() == whole as usize {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    let mut bytes = Vec::new();
    ZlibDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, memory.data[BLOCK as usize..2 * BLOCK as usize]);
    assert!(packed.len() < bytes.len() / 4);
    // Each message tells of its share.
    let log = memory.until(|log| log.bytes() >= BLOCK).await;
    let mut at = BLOCK;
    for range in log.served {
        assert_eq!(range.start, at);
        at = range.end;
    }
    assert_eq!(at, 2 * BLOCK);
    serving.stop().await;
}

#[tokio::test]
async fn an_upload_is_not_idle_while_its_last_range_waits_for_room() {
    let memory = Memory::whole(3 * PART as usize, false);
    let serving = Serving::start(&memory, 1);
    // It reads nothing that is sent to it.
    let asker = Asker::new(1, &memory, &serving).await;
    let link = soon(serving.seeder.clients.link_to(asker.at)).await.unwrap();
    let mut upload = upload::Upload::new(link);
    let reader: Arc<dyn ContentReader> = Arc::new(Reader(memory.clone()));
    let attendance = reader.attend(asker.at).into();
    let what = Served { file: memory.file, reader, attendance };
    let mut stuck = false;
    for at in 0..50 {
        upload.ask(&what, at * 3 * BLOCK..(at + 1) * 3 * BLOCK);
        assert!(!upload.is_idle());
        if timeout(Duration::from_secs(1), upload.next()).await.is_err() {
            stuck = true;
            break;
        }
        assert!(upload.is_idle());
    }
    assert!(stuck && !upload.is_idle());
    upload.clear();
    assert!(upload.is_idle());
    serving.stop().await;
}

#[tokio::test]
async fn strangers_liars_and_floods_are_answered_or_hung_up_on() {
    let memory = Memory::whole(100_000, false);
    let serving = Serving::start(&memory, 2);
    let mut stranger = Asker::about(1, [9; 16], &serving).await;
    for message in [
        Message::FileNameRequest { file: [9; 16], extended: None },
        Message::FileStatusRequest([9; 16]),
        Message::StartUpload(Some([9; 16])),
    ] {
        stranger.say(message).await;
        assert_eq!(stranger.hear().await, Message::NoSuchFile([9; 16]));
    }
    drop(stranger);
    for bad in [99_999..100_001, Range { start: 5, end: 4 }, 0..MAX_BAD] {
        let mut asker = Asker::new(2, &memory, &serving).await;
        asker.start().await;
        asker.ask_for(bad).await;
        asker.is_closed(&serving).await;
    }
    let mut cut = Asker::new(3, &memory, &serving).await;
    let bytes =
        Packet::new(crate::ed2k::wire::Protocol::EDonkey, opcode::REQUEST_PARTS, vec![1; 7]);
    soon(cut.download.link.send(bytes)).await.unwrap();
    cut.is_closed(&serving).await;
    let mut flood = Asker::new(4, &memory, &serving).await;
    for _ in 0..1000 {
        let ask = Message::AichRequest { file: memory.file, part: 0, root: [1; 20] };
        if flood.download.link.send(ask.packet().unwrap()).await.is_err() {
            break;
        }
        while flood.download.inbox.try_recv().is_ok() {}
    }
    flood.is_closed(&serving).await;
    let bad = serving.seeder.clients.bad_input();
    let counts = Flaw::ALL.map(|flaw| bad.of(Party::Peer, flaw));
    assert_eq!(counts, [1, 3, 1, 0], "{bad:?}");
    serving.stop().await;
}

/// One byte more than a range may have, in a file that has fewer.
const MAX_BAD: u64 = 3 * BLOCK + 1;

#[tokio::test]
async fn sources_are_told_and_what_is_retired_is_given_up() {
    let memory = Memory::whole(100_000, false);
    let serving = Serving::start(&memory, 2);
    let other: SocketAddr = "198.51.100.9:4662".parse().unwrap();
    let name = Name::ed2k(memory.file);
    let mut asker = Asker::new(1, &memory, &serving).await;
    let own = serving.at;
    let server = "198.51.100.1:4661".parse().unwrap();
    serving.seeder.clients.set_server(0, Some(server));
    let others = ["[::1]:1", "127.0.0.1:1", "10.0.0.1:1", "224.0.0.1:1", "198.51.100.3:0"];
    let invited: Vec<_> = others.map(|at| at.parse().unwrap()).into_iter().chain([own]).collect();
    serving.seeder.invite(name, &[&invited[..], &[other]].concat());
    serving.seeder.sources.note(memory.file, "10.0.0.2:1".parse().unwrap());
    for version in [None, Some(4)] {
        asker.say(Message::SourcesRequest { file: memory.file, version }).await;
        match asker.hear().await {
            Message::Sources { version: told, sources, .. } => {
                assert_eq!((told, sources.len()), (version, 1));
                assert_eq!(sources[0].client(told.unwrap_or(3)).endpoint(4662), other);
            }
            other => panic!("{other:?}"),
        }
    }
    asker.start().await;
    memory.retired.cancel();
    assert_eq!(asker.hear().await, Message::OutOfParts);
    asker.say(Message::FileStatusRequest(memory.file)).await;
    assert_eq!(asker.hear().await, Message::NoSuchFile(memory.file));
    serving.stop().await;
}

mod aich;
mod turns;
