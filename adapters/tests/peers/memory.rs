//! A content in memory, and a seeder that serves it.

use std::{net::SocketAddr, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use p2pbridge_adapters::{
    Attendance, Availability, BadInput, ContentReader, Description, Flaw, Host, Library, Party,
    ReadError, Seeder,
    bittorrent::{
        create::of_bytes,
        describe::describe,
        identity::Identity,
        seeder::{BtSeeder, SeederConfig},
    },
};
use p2pbridge_proto::{Bits, Name};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

/// Bytes of a chunk.
pub(crate) const UNIT: usize = 65_536;
/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for something that must happen.
pub(crate) async fn soon<T>(event: impl Future<Output = T>) -> T {
    timeout(PATIENCE, event).await.expect("it happens in time")
}

/// An identity of another process than [`ours`].
pub(crate) fn theirs() -> Arc<Identity> {
    Arc::new(Identity::new(&Host { mark: *b"others" }))
}

/// An identity of the seeder's process.
pub(crate) fn ours() -> Arc<Identity> {
    Arc::new(Identity::new(&Host { mark: *b"myself" }))
}

/// A content in memory.
pub(crate) struct Memory {
    pub(crate) description: Arc<Description>,
    pub(crate) data: Bytes,
    pub(crate) availability: Availability,
    pub(crate) retired: CancellationToken,
    /// What peers were told to hold, joined and served, changed at each event.
    pub(crate) log: watch::Sender<Log>,
    /// Reads wait until this is true.
    pub(crate) readable: watch::Sender<bool>,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Log {
    pub(crate) held: Vec<u32>,
    pub(crate) gained: Vec<u32>,
    pub(crate) served: Vec<Range<u64>>,
    pub(crate) present: usize,
}

impl Log {
    pub(crate) fn bytes(&self) -> u64 {
        self.served.iter().map(|range| range.end - range.start).sum()
    }
}

impl Memory {
    /// A content of so many bytes, nothing of it available.
    pub(crate) fn new(length: usize) -> Arc<Self> {
        let data: Bytes = (0..length).map(|at| (at % 251 + at / 70_000) as u8).collect();
        let torrent = of_bytes(&data, "memory", UNIT as u64, &[]).expect("a torrent");
        let description = Arc::new(describe(&torrent).expect("a torrent"));
        Arc::new(Self {
            availability: Availability::new(length.div_ceil(UNIT) as u32),
            description,
            data,
            retired: CancellationToken::new(),
            log: watch::Sender::default(),
            readable: watch::Sender::new(true),
        })
    }

    /// A content of so many bytes, all available.
    pub(crate) fn whole(length: usize) -> Arc<Self> {
        let memory = Self::new(length);
        (0..length.div_ceil(UNIT) as u32).for_each(|chunk| {
            memory.availability.add(chunk);
        });
        memory
    }

    /// The hash with which peers greet.
    pub(crate) fn hash(&self) -> [u8; 20] {
        *self.description.names[0].digest().first_chunk().expect("20 bytes")
    }

    /// Waits until the log is as wanted.
    pub(crate) async fn until(&self, wanted: impl FnMut(&Log) -> bool) -> Log {
        soon(self.log.subscribe().wait_for(wanted)).await.expect("the log lives").clone()
    }
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

    async fn prepare(&self, _chunk: u32) -> Result<(), ReadError> {
        Ok(())
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes, ReadError> {
        let _ = self.0.readable.subscribe().wait_for(|readable| *readable).await;
        Ok(self.0.data.slice(range.start as usize..range.end as usize))
    }

    fn attend(&self, _: SocketAddr) -> Box<dyn Attendance> {
        self.0.log.send_modify(|log| log.present += 1);
        Box::new(Present(self.0.clone()))
    }
}

struct Present(Arc<Memory>);

impl Attendance for Present {
    fn holds(&self, chunks: Bits) {
        self.0.log.send_modify(|log| log.held.push(chunks.count()));
    }

    fn gained(&self, chunk: u32) {
        self.0.log.send_modify(|log| log.gained.push(chunk));
    }

    fn served(&self, range: Range<u64>) {
        self.0.log.send_modify(|log| log.served.push(range));
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.log.send_modify(|log| log.present -= 1);
    }
}

impl Library for Reader {
    fn open(&self, name: &Name) -> Option<Arc<dyn ContentReader>> {
        (name.digest() == self.0.hash()).then(|| Arc::new(Self(self.0.clone())) as _)
    }
}

/// A seeder at work, on a port of its own.
pub(crate) struct Serving {
    pub(crate) seeder: Arc<BtSeeder>,
    pub(crate) at: SocketAddr,
    pub(crate) bad_input: Arc<BadInput>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Serving {
    pub(crate) fn start(memory: &Arc<Memory>) -> Self {
        Self::with(memory, "127.0.0.1:0", 50, 4)
    }

    pub(crate) fn with(memory: &Arc<Memory>, at: &str, sessions: usize, slots: usize) -> Self {
        let listen = vec![at.parse().expect("an address")];
        let config = SeederConfig { listen, max_sessions: sessions, upload_slots: slots };
        let overlay = "b".parse().expect("an id");
        let bad_input = Arc::new(BadInput::default());
        let seeder =
            BtSeeder::bind(&overlay, &config, ours(), bad_input.clone()).expect("a free port");
        let stop = CancellationToken::new();
        let library = Arc::new(Reader(memory.clone()));
        let task = tokio::spawn(seeder.clone().serve(library, stop.clone()));
        Self { at: seeder.endpoints()[0], seeder, bad_input, stop, task }
    }

    /// Stops it; returns when every task has ended.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        soon(self.task).await.expect("it ends well");
    }
}

/// Waits until peers have sent so often what was not taken.
pub(crate) async fn until_bad(bad_input: &BadInput, flaw: Flaw, times: u64) {
    soon(async {
        while bad_input.of(Party::Peer, flaw) < times {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(bad_input.of(Party::Peer, flaw), times, "{bad_input:?}");
}
