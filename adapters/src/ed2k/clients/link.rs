//! A connection with a client that has greeted. Both data faces use it: what asks goes to the seeder's session, what
//! answers to the downloads from this client.

use std::{
    convert::Infallible,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    super::wire::{
        ClientId, Hash, Packet, Protocol,
        hello::{self, Greeting, Options},
    },
    client::Client,
    socket::{Batch, LinkError, Reader, Run, SILENCE, Writer},
};
use crate::{BadInput, Flaw, Party};

/// Messages that may wait to be written.
const CONTROL: usize = 64;
/// Batches of data that may wait to be written; their bytes are bounded by [`ROOM`].
const BATCHES: usize = 64;
/// Bytes of data that may wait to be written, or be on their way there.
const ROOM: usize = 2 << 20;
/// Questions that may wait for the seeder's session; then nothing more is read from the client.
const ASKS: usize = 64;

/// The link has ended; nothing can be sent by it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection has ended")]
pub(crate) struct Gone;

/// A connection with a client.
pub(crate) struct Link {
    remote: SocketAddr,
    greeting: Greeting,
    options: Mutex<Options>,
    obfuscated: bool,
    client: Arc<Client>,
    control: mpsc::Sender<Packet>,
    data: mpsc::Sender<Batch>,
    room: Arc<Semaphore>,
    epoch: AtomicU64,
    closed: CancellationToken,
    end: OnceLock<String>,
    bad_input: Arc<BadInput>,
}

/// What the task of a link needs beside the link.
pub(super) struct Ends {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    control: mpsc::Receiver<Packet>,
    data: mpsc::Receiver<Batch>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("remote", &self.remote).finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn new(
        remote: SocketAddr,
        greeted: super::greet::Greeted,
        client: Arc<Client>,
        bad_input: Arc<BadInput>,
    ) -> (Arc<Self>, Ends) {
        let (control, from_control) = mpsc::channel(CONTROL);
        let (data, from_data) = mpsc::channel(BATCHES);
        let super::greet::Greeted { reader, writer, theirs, obfuscated } = greeted;
        let link = Self {
            remote,
            options: Mutex::new(theirs.options),
            greeting: theirs,
            obfuscated,
            client,
            control,
            data,
            room: Arc::new(Semaphore::new(ROOM)),
            epoch: AtomicU64::new(0),
            closed: CancellationToken::new(),
            end: OnceLock::new(),
            bad_input,
        };
        (Arc::new(link), Ends { reader, writer, control: from_control, data: from_data })
    }

    /// Where the client's socket is seen: not where it listens, if it has connected.
    pub(crate) fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// Where the client says that it listens.
    pub(crate) fn listens(&self) -> SocketAddr {
        SocketAddr::new(self.remote.ip(), self.greeting.port)
    }

    /// How the client is reached: by its low id, or where it listens.
    pub(crate) fn endpoint(&self) -> SocketAddr {
        match ClientId::from_number(self.greeting.id) {
            ClientId::Low(0) | ClientId::High(_) => self.listens(),
            low @ ClientId::Low(_) => low.endpoint(self.greeting.port),
        }
    }

    /// Who it says that it is.
    pub(crate) fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// What it can do, as far as it has told.
    pub(crate) fn options(&self) -> Options {
        *self.options.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client at the other end.
    pub(crate) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Whether the stream is obfuscated.
    pub(crate) fn is_obfuscated(&self) -> bool {
        self.obfuscated
    }

    /// Queues a message; waits while the queue is full. It is written before data that waits.
    pub(crate) async fn send(&self, packet: Packet) -> Result<(), Gone> {
        tokio::select! {
            sent = self.control.send(packet) => sent.map_err(|_| Gone),
            () = self.closed.cancelled() => Err(Gone),
        }
    }

    /// Queues data that begins and ends with whole messages; waits while there is no room.
    pub(crate) async fn send_data(&self, mut runs: Vec<Run>) -> Result<(), Gone> {
        let epoch = self.epoch.load(Ordering::Relaxed);
        let bytes: usize = runs.iter().map(|run| run.bytes.len()).sum();
        let bytes = u32::try_from(bytes.min(ROOM)).unwrap_or(u32::MAX);
        let queue = async {
            let room = self.room.clone().acquire_many_owned(bytes).await.map_err(|_| Gone)?;
            if let Some(last) = runs.last_mut() {
                last.room = Some(room);
            }
            self.data.send(Batch { epoch, runs }).await.map_err(|_| Gone)
        };
        tokio::select! {
            queued = queue => queued,
            () = self.closed.cancelled() => Err(Gone),
        }
    }

    /// Takes back the data that waits and is not being written.
    pub(crate) fn drop_data(&self) {
        self.epoch.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether data waits to be written.
    pub(crate) fn has_data(&self) -> bool {
        self.room.available_permits() < ROOM
    }

    /// Whether it has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Why it has ended; empty while it has not.
    pub(crate) fn end(&self) -> &str {
        self.end.get().map_or("", String::as_str)
    }

    /// Takes down that the client sent something that is not taken.
    pub(crate) fn sent_bad(&self, flaw: Flaw) {
        self.bad_input.add(Party::Peer, flaw);
    }

    /// Ends it.
    pub(crate) fn close(&self, why: impl Into<String>) {
        // The first reason stays.
        let _ = self.end.set(why.into());
        self.closed.cancel();
    }

    /// Reads and writes until either fails, or the link is closed.
    pub(super) async fn run(
        self: &Arc<Self>,
        ends: Ends,
        start: impl FnOnce(mpsc::Receiver<Packet>),
        ours: impl Fn() -> Greeting,
    ) {
        let Ends { reader, writer, control, data } = ends;
        let end = tokio::select! {
            end = self.read(reader, start, ours) => end.err(),
            end = writer.run(control, data, &self.epoch) => end.err(),
            () = self.closed.cancelled() => None,
        };
        if let Some(end) = end {
            if let Some(flaw) = end.flaw() {
                self.sent_bad(flaw);
            }
            self.close(end.to_string());
        }
    }

    async fn read(
        &self,
        mut reader: Reader,
        start: impl FnOnce(mpsc::Receiver<Packet>),
        ours: impl Fn() -> Greeting,
    ) -> Result<Infallible, LinkError> {
        let (asks, asked) = mpsc::channel(ASKS);
        let mut idle = Some((start, asked));
        loop {
            let next = timeout(SILENCE, reader.next()).await;
            let mut packet = next.map_err(|_| LinkError::Silent(SILENCE))??;
            if packet.packed {
                packet.protocol = Protocol::EMule;
            }
            match Way::of(&packet) {
                Way::Ask => {
                    if let Some((start, asked)) = idle.take() {
                        start(asked);
                    }
                    let gone = |_| LinkError::Ended("nothing more is given".to_owned());
                    asks.send(packet).await.map_err(gone)?;
                }
                Way::About(file) => self.client.deliver(&file, packet).await,
                Way::General => {
                    if !self.client.deliver_to_all(&packet).await && packet.opcode == ACCEPTED {
                        self.reply(Packet::new(Protocol::EDonkey, CANCEL, Vec::new())).await;
                    }
                }
                Way::Here => self.answer(&packet, &ours).await?,
                Way::Cut => self.sent_bad(Flaw::Malformed),
                Way::Nowhere => {}
            }
        }
    }

    /// Answers what is about the clients themselves.
    async fn answer(&self, packet: &Packet, ours: impl Fn() -> Greeting) -> Result<(), LinkError> {
        match (packet.protocol, packet.opcode) {
            (Protocol::EDonkey, hello::HELLO) => self.reply(ours().answer()).await,
            (Protocol::EDonkey, _) => {
                self.reply(Packet::new(Protocol::EDonkey, SHARES_DENIED, Vec::new())).await;
            }
            (Protocol::EMule, PUBLIC_IP) => {
                if let IpAddr::V4(ip) = self.remote.ip().to_canonical() {
                    let octets = ip.octets().to_vec();
                    self.reply(Packet::new(Protocol::EMule, PUBLIC_IP_ANSWER, octets)).await;
                }
            }
            (Protocol::EMule, opcode) => {
                let mut options = self.options();
                hello::read_info(&packet.payload, &mut options)?;
                *self.options.lock().unwrap_or_else(PoisonError::into_inner) = options;
                if opcode == hello::EMULE_INFO {
                    self.reply(hello::info(true)).await;
                }
            }
        }
        Ok(())
    }

    async fn reply(&self, packet: Packet) {
        // When it has ended, whoever reads hears of it.
        let _ = self.send(packet).await;
    }
}

/// `OP_ACCEPTUPLOADREQ`.
const ACCEPTED: u8 = 0x55;
/// `OP_CANCELTRANSFER`.
const CANCEL: u8 = 0x56;
/// `OP_ASKSHAREDDENIEDANS`.
const SHARES_DENIED: u8 = 0x61;
/// `OP_PUBLICIP_REQ`.
pub(crate) const PUBLIC_IP: u8 = 0x97;
/// `OP_PUBLICIP_ANSWER`.
const PUBLIC_IP_ANSWER: u8 = 0x98;

/// Where a message goes.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    /// It asks: to the seeder's session.
    Ask,
    /// It answers a download about this file.
    About(Hash),
    /// It answers whatever is downloaded.
    General,
    /// It is answered by the link.
    Here,
    /// It does not say about which file it is.
    Cut,
    /// Nobody needs it.
    Nowhere,
}

impl Way {
    fn of(packet: &Packet) -> Self {
        let hash_at = |at: usize| {
            let hash = packet.payload.get(at..).and_then(|bytes| bytes.first_chunk::<16>());
            hash.map_or(Self::Cut, |hash| Self::About(*hash))
        };
        match (packet.protocol, packet.opcode) {
            (Protocol::EDonkey, 0x47 | 0x49 | 0x4F | 0x51 | 0x54 | 0x56 | 0x58)
            | (Protocol::EMule, 0x81 | 0x83 | 0x92 | 0x9B | 0x9E | 0xA3 | 0xA4) => Self::Ask,
            (Protocol::EDonkey, 0x46 | 0x48 | 0x50 | 0x52 | 0x59)
            | (Protocol::EMule, 0x40 | 0x82 | 0x9C | 0x9D | 0xA1 | 0xA2) => hash_at(0),
            (Protocol::EMule, 0x84) => hash_at(1),
            (Protocol::EDonkey, ACCEPTED | 0x57 | 0x5C) | (Protocol::EMule, 0x60) => Self::General,
            (Protocol::EDonkey, hello::HELLO | 0x4A | 0x5D | 0x5E)
            | (Protocol::EMule, hello::EMULE_INFO | hello::EMULE_INFO_ANSWER | PUBLIC_IP) => {
                Self::Here
            }
            _ => Self::Nowhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_go_to_the_seeder_and_answers_to_their_file() {
        let way = |protocol, opcode, payload: &[u8]| {
            Way::of(&Packet::new(protocol, opcode, payload.to_vec()))
        };
        let of_seven = Way::About([7; 16]);
        assert_eq!(way(Protocol::EDonkey, 0x47, &[]), Way::Ask);
        assert_eq!(way(Protocol::EDonkey, 0x46, &[7; 40]), of_seven);
        assert_eq!(way(Protocol::EDonkey, 0x46, &[7; 15]), Way::Cut);
        let second_form: Vec<u8> = [4].into_iter().chain([7; 16]).collect();
        assert_eq!(way(Protocol::EMule, 0x84, &second_form), of_seven);
        assert_eq!(way(Protocol::EDonkey, 0x55, &[]), Way::General);
        assert_eq!(way(Protocol::EMule, 0x01, &[]), Way::Here);
        assert_eq!(way(Protocol::EDonkey, 0x4E, &[]), Way::Nowhere);
    }
}
