//! The contract of an adapter: a [`Descriptor`], and up to four faces by which the bridge touches an overlay.
//!
//! |         | they call us      | we call them      |
//! |---------|-------------------|-------------------|
//! | control | [`TrackerServer`] | [`TrackerClient`] |
//! | data    | [`Seeder`]        | [`Leecher`]       |
//!
//! New features extend the unified message and the capabilities; a method of a trait only where a face must be called.

mod description;

use std::{fmt, net::SocketAddr, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use p2pbridge_proto::{Bits, Fault, Name, OverlayId, Reply, Request, Scheme};
use thiserror::Error;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

pub use self::description::{
    AboutFile, DescribeError, Description, FileSpan, Integrity, Learned, Links,
};
use crate::{Availability, BadInput, Waste, message::Messages};

/// What a protocol's folder tells of itself: one row in the registry.
pub struct Descriptor {
    /// The protocol's word in the configuration (`[overlays.<protocol>.<id>]`).
    pub protocol: &'static str,
    /// The doors that the adapter has; which of them an opened overlay has is told by [`Adapter`].
    pub doors: &'static [Door],
    /// The name schemes that peers of this protocol use for what they transfer.
    pub schemes: &'static [Scheme],
    /// What the adapter can translate.
    pub capabilities: &'static [Capability],
    /// An example of its configuration, commented; parsed by a test.
    pub example: &'static str,
    /// Reads a description of content (a .torrent file, for example).
    pub describe: fn(&[u8]) -> Result<Description, DescribeError>,
    /// Makes a description of what is known of a file anyway, where a name and a length say all that the protocol needs
    /// to transfer it; absent where they do not.
    pub compose: Option<fn(&AboutFile) -> Option<Vec<u8>>>,
    /// Its links of files, where people pass descriptions on as a line of text: what `compose` makes is one then.
    pub links: Option<Links>,
    /// Its tracker messages, one at a time.
    pub messages: &'static Messages,
    /// Reads the protocol's own overlays out of the whole text of a configuration file, so that errors keep their line.
    pub configure: fn(&str) -> Result<Vec<Configured>, toml::de::Error>,
}

/// One of the four faces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The overlay's peers announce to the bridge.
    TrackerServer,
    /// The bridge asks the overlay's trackers.
    TrackerClient,
    /// The overlay's peers download from the bridge.
    Seeder,
    /// The bridge downloads from the overlay's peers.
    Leecher,
}

/// A kind of message that an adapter can translate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// A peer tells of itself and asks for others.
    Announce,
    /// Asks for peers without telling of itself.
    Find,
    /// Asks for the size of swarms.
    SwarmQuery,
    /// Looks for contents by what is known of them.
    Search,
}

/// How an overlay is joined, from the least intrusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// The bridge announces itself to the overlay's own trackers as one more peer.
    #[default]
    Presence,
    /// The bridge is one more tracker of the overlay; it answers from its own state.
    Front,
    /// The bridge stands before the overlay's trackers: it passes announces on, and merges the answers.
    Inline,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Presence => "presence",
            Self::Front => "front",
            Self::Inline => "inline",
        })
    }
}

/// What the bridge keeps and says as a tracker of an overlay; every bound holds at any moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackerTerms {
    /// How long peers are told to wait between announces; a peer is forgotten after twice that.
    pub interval: Duration,
    /// How long peers are told to wait at least.
    pub min_interval: Duration,
    /// Swarms that are kept.
    pub swarms: usize,
    /// Peers that are kept, in all swarms.
    pub peers: usize,
    /// Peers of one swarm that are kept.
    pub peers_per_swarm: usize,
    /// Whether only names are served that are bound in this overlay.
    pub bound_only: bool,
}

impl Default for TrackerTerms {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1800),
            min_interval: Duration::from_secs(60),
            swarms: 500_000,
            peers: 2_000_000,
            peers_per_swarm: 10_000,
            bound_only: false,
        }
    }
}

/// An overlay that a configuration asks for, not yet opened.
pub struct Configured {
    /// Its id.
    pub id: OverlayId,
    /// How it is joined.
    pub mode: Mode,
    /// Its trackers, for finding the overlay of a description by the trackers that this names.
    pub trackers: Vec<String>,
    /// Opens it: binds sockets, starts nothing. Must be called inside a tokio runtime.
    pub build: Box<dyn FnOnce(&Host) -> Result<Adapter, BuildError> + Send>,
}

/// What the bridge tells every adapter of itself.
#[derive(Debug, Clone)]
pub struct Host {
    /// Random bytes of this installation, which outlive the process: an adapter puts them into its peer ids, so that the
    /// bridge knows itself again, and so that peers do who take a known address with another id for somebody else.
    pub mark: [u8; 6],
}

/// An opened overlay: its faces.
#[derive(Clone)]
pub struct Adapter {
    /// How it is joined.
    pub mode: Mode,
    /// What the bridge keeps and says as its tracker; of use with a tracker server.
    pub terms: TrackerTerms,
    /// Where the overlay's peers reach the seeder: what they are told by the bridge as their tracker.
    pub reachable: Vec<SocketAddr>,
    /// Where the seeder may be seen: at every address of this host, when it listens at all of them.
    pub own: Vec<SocketAddr>,
    /// The face that answers the overlay's peers as a tracker.
    pub tracker_server: Option<Arc<dyn TrackerServer>>,
    /// The face that asks the overlay's trackers.
    pub tracker_client: Option<Arc<dyn TrackerClient>>,
    /// The face from which the overlay's peers download.
    pub seeder: Option<Arc<dyn Seeder>>,
    /// The face that downloads from the overlay's peers.
    pub leecher: Option<Arc<dyn Leecher>>,
    /// What its peers and trackers sent that was not taken.
    pub bad_input: Arc<BadInput>,
}

/// Why an overlay cannot be opened.
#[derive(Debug, Error)]
#[error("overlay {overlay}: {what}: {source}")]
pub struct BuildError {
    /// The overlay's id.
    pub overlay: OverlayId,
    /// What was tried, for example `listen on 127.0.0.1:6881`.
    pub what: String,
    /// What came of it.
    pub source: std::io::Error,
}

/// Answers the overlay's peers as a tracker.
#[async_trait]
pub trait TrackerServer: Send + Sync {
    /// Where it listens.
    fn endpoints(&self) -> Vec<SocketAddr>;
    /// What peers are given to ask it, with the addresses at which it listens.
    fn urls(&self) -> Vec<String>;
    /// Serves until told to stop; calls the handler for each native request.
    async fn serve(self: Arc<Self>, handler: Arc<dyn Handler>, stop: CancellationToken);
    /// What it has done since the start.
    fn counts(&self) -> ServerCounts;
}

/// What a tracker server has done since the start. Every message that came is one of `requests`, and becomes one of the
/// others when it is done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServerCounts {
    /// Messages that came.
    pub requests: u64,
    /// Those that were answered with what they asked for.
    pub answered: u64,
    /// Those that were understood, and got an error that says why not.
    pub refused: u64,
    /// Those that could not be understood; where somebody can be told, he was.
    pub malformed: u64,
    /// Those for which there was no room: connections and messages over the server's own bounds.
    pub shed: u64,
    /// Peers that are logged in now, in protocols in which a peer stays connected to its tracker.
    pub sessions: Option<u64>,
}

/// The one entry point to which tracker servers bring what they were asked.
pub trait Handler: Send + Sync {
    /// Answers a request that came in by an overlay. Does not block: what is not known yet comes later.
    fn handle(&self, asked: Asked<'_>, request: Request) -> Answer;
}

/// By which way a request came in.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The overlay by which it entered the bridge.
    pub overlay: &'a OverlayId,
    /// How far it may go: [`Asked::ALL`], [`Asked::PASS_ON`] or [`Asked::ANSWER_HERE`]. No question goes in circles.
    pub hop_limit: u32,
    /// The answer has room for addresses of the asker's family only.
    pub one_family: bool,
}

impl Asked<'_> {
    /// It may be passed on, and neighbours may be asked for it.
    pub const ALL: u32 = 2;
    /// It may be passed on inside its overlay: a bridge asks, which asks neighbours itself.
    pub const PASS_ON: u32 = 1;
    /// A bridge has passed it on already.
    pub const ANSWER_HERE: u32 = 0;
}

/// What becomes of a request.
pub enum Answer {
    /// It is answered.
    Now(Result<Reply, Fault>),
    /// It will be answered; dropping it takes the question back.
    Later(BoxFuture<'static, Result<Reply, Fault>>),
}

impl Answer {
    /// Waits for the answer.
    ///
    /// # Errors
    /// The fault that is the answer.
    pub async fn wait(self) -> Result<Reply, Fault> {
        match self {
            Self::Now(result) => result,
            Self::Later(answer) => answer.await,
        }
    }
}

/// Asks the overlay's trackers.
#[async_trait]
pub trait TrackerClient: Send + Sync {
    /// Asks, and gives up at the deadline. In an announce of the bridge itself the peer's id is empty and the address
    /// unspecified: the adapter puts in its own id, and the tracker sees the address. An announce of another peer can
    /// be passed on only inline.
    async fn call(&self, request: Request, deadline: Instant) -> Result<Reply, Fault>;
    /// How each tracker is doing, by what it answered.
    fn health(&self) -> Vec<TrackerHealth>;
}

/// How a tracker is doing, by what it answered.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TrackerHealth {
    /// Its address.
    pub url: String,
    /// When it last gave a proper answer.
    pub last_answer: Option<std::time::SystemTime>,
    /// How long that answer took.
    pub round_trip: Option<Duration>,
    /// Questions without a proper answer since.
    pub consecutive_failures: u32,
    /// What the last failure was, if the last question failed.
    pub last_error: Option<String>,
    /// Share of the questions of late that were answered, 0 to 1; newer ones weigh more.
    pub answered: Option<f64>,
    /// How long it is still left alone, after failures.
    pub rests_for: Option<Duration>,
    /// What may be asked of it.
    pub budget: Budget,
    /// Messages sent to it since the start.
    pub sent: u64,
    /// Questions that its budget did not allow.
    pub shed: u64,
    /// How the bridge stands with it, for people: what it was called, and why; empty where there is nothing to say.
    pub standing: String,
    /// Peers that it says it has, if it says so.
    pub users: Option<u64>,
    /// Contents that it says it has, if it says so.
    pub contents: Option<u64>,
}

/// What one tracker may be asked at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Messages in any second.
    pub per_second: u32,
    /// Questions without an answer yet.
    pub in_flight: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self { per_second: 50, in_flight: 16 }
    }
}

/// Serves the overlay's peers from a [`Library`].
#[async_trait]
pub trait Seeder: Send + Sync {
    /// Where it listens: these ports are announced.
    fn endpoints(&self) -> Vec<SocketAddr>;
    /// Serves until told to stop.
    async fn serve(self: Arc<Self>, library: Arc<dyn Library>, stop: CancellationToken);
    /// Connects to peers of a swarm, as far as there is room and they are not connected yet. Returns at once.
    fn invite(&self, name: Name, peers: &[SocketAddr]);
}

/// Where a seeder finds what it may serve.
pub trait Library: Send + Sync {
    /// The content of a name, if it may be served to this overlay's peers. Where peers greet with 20 bytes, these
    /// come here as a `btih`, also when they are the first 20 bytes of a `btmh`: the library knows both.
    fn open(&self, name: &Name) -> Option<Arc<dyn ContentReader>>;
}

/// A content that can be served, chunk by chunk as it becomes available.
#[async_trait]
pub trait ContentReader: Send + Sync {
    /// What is served.
    fn description(&self) -> &Arc<Description>;
    /// The chunks that may be announced: whole, and verified. None is ever taken back.
    fn availability(&self) -> &Availability;
    /// Cancelled when the content is no longer served in this form: a session that serves it must end then.
    fn retired(&self) -> &CancellationToken;
    /// Has a chunk brought that is not available yet, and waits until it is: for protocols in which the asking peer
    /// chooses the order, and learns of no chunk that comes later. What is brought so costs a whole chunk: a seeder
    /// asks for no more of them at once than it serves. Dropping the future takes the question back. It fails when the chunk
    /// cannot be had, or not in time: the peer may ask again.
    async fn prepare(&self, chunk: u32) -> Result<(), ReadError>;
    /// Reads a run of bytes that lies in available chunks. May wait.
    async fn read(&self, range: Range<u64>) -> Result<Bytes, ReadError>;
    /// Tells of a connected peer; it is forgotten when the attendance is dropped.
    fn attend(&self, peer: SocketAddr) -> Box<dyn Attendance>;
}

/// A connected peer, as the owner of the content sees it. What it lacks is what the bridge tries to bring.
pub trait Attendance: Send + Sync {
    /// The peer has told which chunks it holds.
    fn holds(&self, chunks: Bits);
    /// The peer has told that it now holds one more chunk.
    fn gained(&self, chunk: u32);
    /// The peer has told whether it wants something of what was announced to it. Not called where the protocol has no word for
    /// that; before the first call it may want all that it lacks.
    fn wants(&self, _wants: bool) {}
    /// A run of bytes of the layout that was handed to the peer's socket.
    fn served(&self, range: Range<u64>);
}

/// Why bytes cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReadError {
    /// The range is not available, or not of this content.
    #[error("bytes {}..{} are not available", .0.start, .0.end)]
    NotAvailable(Range<u64>),
    /// The bytes could not be had.
    #[error("{0}")]
    Failed(String),
}

/// Downloads from the overlay's peers.
#[async_trait]
pub trait Leecher: Send + Sync {
    /// Connects to a peer and greets it. The session ends when it is dropped.
    async fn open(
        &self,
        what: Arc<Description>,
        peer: SocketAddr,
    ) -> Result<Arc<dyn SourceSession>, SourceError>;
}

/// A peer from which the bridge downloads.
#[async_trait]
pub trait SourceSession: Send + Sync {
    /// Whether the peer has told that it holds a chunk, and gives it now. It may become false again. A session that
    /// holds something (`held`) and gives nothing stands in the peer's queue: it is kept, and asked for nothing.
    fn has(&self, chunk: u32) -> bool;
    /// How many chunks it has told that it holds.
    fn held(&self) -> u32;
    /// Changes when the peer has told of more chunks; its sender is gone when the session has ended.
    fn changes(&self) -> watch::Receiver<u64>;
    /// Fetches a run of bytes that lies in one chunk. Several may be under way; they are asked for in the order of the
    /// calls. Dropping the future takes the question back.
    async fn fetch(&self, range: Range<u64>) -> Result<Bytes, SourceError>;
    /// Asks the peer for finer hashes of a chunk, which prove themselves by a name, and gives which runs of these bytes
    /// of the whole chunk are wrong by them, in the layout. `None` when the peer or the protocol has none.
    async fn locate(&self, _chunk: u32, _bytes: Vec<Bytes>) -> Option<Vec<Range<u64>>> {
        None
    }
    /// Payload bytes that came from the peer and that no fetch has given: what was not asked for, came twice, or came
    /// for a fetch that failed or was taken back. They are counted until the peer is done with, also when the handle
    /// was dropped before.
    fn waste(&self) -> Waste {
        Waste::default()
    }
}

/// Why a peer does not give what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SourceError {
    /// It cannot be reached.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// It is the bridge itself.
    #[error("it is the bridge itself")]
    Ourselves,
    /// It does not speak the protocol, or not about this content.
    #[error("bad peer: {0}")]
    Protocol(String),
    /// It did not answer in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// It refused this range; the session goes on, and may be asked again.
    #[error("it refused bytes {}..{}", .0.start, .0.end)]
    Refused(Range<u64>),
    /// The connection has ended.
    #[error("the connection has ended: {0}")]
    Closed(String),
}
