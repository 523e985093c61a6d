//! The connection of one client: whole messages in, and what is to be sent out, within bounds.

use std::{io, net::SocketAddr, time::Duration};

use bytes::{Buf as _, BytesMut};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{Instant, sleep_until},
};

use super::super::wire::{
    Packet, WireError,
    agreement::{CLIENT_HEAD, MAX_PADDING, PUBLIC, Secret},
    obfuscation::{ANSWER_HEAD, Ciphers, ObfuscationError, is_message},
    server::ServerMessage,
};

/// The most bytes of a message of a client, inflated: 200 offers have 40,000.
const MAX_MESSAGE: usize = 256 << 10;
/// With so many bytes that are not sent yet, no question is taken from the client.
const MAX_UNSENT: usize = 512 << 10;
/// How long a client may take none of what is sent.
const STUCK: Duration = Duration::from_secs(60);
/// Answers from this length on are compressed, for clients that read such.
const PACK_FROM: usize = 300;
/// Bytes that are read at a time.
const READ: usize = 8 << 10;

/// Why a connection ends.
#[derive(Debug, Error)]
pub(super) enum End {
    /// The client has closed it.
    #[error("the client has closed the connection")]
    Closed,
    /// It has broken.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What came is no message.
    #[error("not a message: {0}")]
    Wire(#[from] WireError),
    /// No keys come about.
    #[error("no obfuscated connection: {0}")]
    Obfuscation(#[from] ObfuscationError),
    /// What came cannot begin a message or an agreement on keys.
    #[error("{0}")]
    NoMessage(&'static str),
    /// The client takes nothing of what is sent.
    #[error("the client has taken nothing for {0:?}")]
    Stuck(Duration),
    /// What the server decides, and says.
    #[error("{0}")]
    Said(&'static str),
}

/// The connection of one client.
pub(super) struct Line {
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    inbox: BytesMut,
    unsent: BytesMut,
    /// When the client last took something, or had nothing to take.
    taken: Instant,
    ciphers: Option<Ciphers>,
}

impl Line {
    pub(super) fn new(stream: TcpStream) -> Self {
        // Every answer is written whole.
        let _ = stream.set_nodelay(true);
        let (reader, writer) = stream.into_split();
        Self {
            reader,
            writer,
            inbox: BytesMut::new(),
            unsent: BytesMut::new(),
            taken: Instant::now(),
            ciphers: None,
        }
    }

    /// Where the client is.
    pub(super) fn remote(&self) -> Option<SocketAddr> {
        self.reader.peer_addr().ok()
    }

    /// Waits for a message, and sends meanwhile what is to be sent.
    pub(super) async fn next(&mut self) -> Result<Packet, End> {
        loop {
            if let Some(packet) = self.take()? {
                return Ok(packet);
            }
            self.turn(true).await?;
        }
    }

    /// A message that is there.
    pub(super) fn take(&mut self) -> Result<Option<Packet>, End> {
        Ok(Packet::take(&mut self.inbox, MAX_MESSAGE)?)
    }

    /// Whether what is sent leaves room for more answers.
    pub(super) fn has_room(&self) -> bool {
        self.unsent.len() < MAX_UNSENT
    }

    /// Reads some, if it may, or sends some, whatever comes first. Nothing is lost when this is dropped.
    pub(super) async fn turn(&mut self, may_read: bool) -> Result<(), End> {
        if self.unsent.is_empty() {
            self.taken = Instant::now();
        }
        if self.inbox.is_empty() {
            // A client that is silent costs no buffer.
            self.inbox = BytesMut::new();
        }
        let before = self.inbox.len();
        if may_read {
            self.inbox.reserve(READ);
        }
        tokio::select! {
            read = self.reader.read_buf(&mut self.inbox), if may_read => {
                if read? == 0 {
                    return Err(End::Closed);
                }
                if let (Some(ciphers), Some(new)) = (&mut self.ciphers, self.inbox.get_mut(before..)) {
                    ciphers.receive.apply(new);
                }
            }
            written = self.writer.write_buf(&mut self.unsent), if !self.unsent.is_empty() => {
                written?;
                self.taken = Instant::now();
                if self.unsent.is_empty() {
                    self.unsent = BytesMut::new();
                }
            }
            () = sleep_until(self.taken + STUCK), if !self.unsent.is_empty() => {
                return Err(End::Stuck(STUCK));
            }
            else => std::future::pending().await,
        }
        Ok(())
    }

    /// Has a message sent. `form` is what the client reads.
    pub(super) fn say(&mut self, message: &ServerMessage, form: Form) {
        let packet = message.to_packet(form.new_tags);
        let mut bytes = Vec::new();
        if form.packed && packet.payload.len() >= PACK_FROM {
            packet.put_packed(&mut bytes);
        } else {
            packet.put(&mut bytes);
        }
        if let Some(ciphers) = &mut self.ciphers {
            ciphers.send.apply(&mut bytes);
        }
        self.unsent.extend_from_slice(&bytes);
    }

    /// Sends what is left, and ends.
    pub(super) async fn finish(mut self, patience: Duration) {
        let sending = async {
            while self.unsent.has_remaining()
                && self.writer.write_buf(&mut self.unsent).await.is_ok()
            {}
            let _ = self.writer.shutdown().await;
        };
        let _ = tokio::time::timeout(patience, sending).await;
    }

    /// Agrees with a client on keys; all that follows is obfuscated.
    pub(super) async fn agree(&mut self) -> Result<(), End> {
        let head = self.exactly(CLIENT_HEAD).await?;
        let theirs = head.get(1..).and_then(|theirs| theirs.first_chunk::<PUBLIC>()).copied();
        let padding = usize::from(head.last().copied().unwrap_or(0));
        if padding > MAX_PADDING {
            return Err(End::NoMessage("the padding of its key is too long"));
        }
        self.exactly(padding).await?;
        let (mut random, mut padding) = ([0; 16], [0; 1 + MAX_PADDING]);
        getrandom::fill(&mut random).map_err(io::Error::from)?;
        getrandom::fill(&mut padding).map_err(io::Error::from)?;
        let secret = Secret::new(random);
        let shared = theirs.and_then(|theirs| secret.shared(&theirs));
        let shared = shared.ok_or(End::NoMessage("what it shows cannot be a key"))?;
        let mut ciphers = Ciphers::of_server(&shared);
        let [length, padding @ ..] = padding;
        let padding = padding.get(..usize::from(length) % (MAX_PADDING + 1)).unwrap_or_default();
        self.unsent.extend_from_slice(&secret.public());
        self.unsent.extend_from_slice(&ciphers.offer(padding));
        let answer = self.exactly(ANSWER_HEAD).await?;
        let answer = answer.first_chunk::<ANSWER_HEAD>().copied().unwrap_or_default();
        let padding = ciphers.read_answer(answer)?;
        let mut padding = self.exactly(padding).await?;
        ciphers.receive.apply(&mut padding);
        ciphers.receive.apply(&mut self.inbox);
        self.ciphers = Some(ciphers);
        Ok(())
    }

    /// So many bytes, as they come.
    async fn exactly(&mut self, count: usize) -> Result<BytesMut, End> {
        while self.inbox.len() < count {
            self.turn(true).await?;
        }
        Ok(self.inbox.split_to(count))
    }

    /// Waits for the first byte; whether it begins a message.
    pub(super) async fn begins_plainly(&mut self) -> Result<bool, End> {
        while self.inbox.is_empty() {
            self.turn(true).await?;
        }
        Ok(self.inbox.first().copied().is_some_and(is_message))
    }
}

/// What a client reads.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Form {
    /// Tags of the new form.
    pub(super) new_tags: bool,
    /// Compressed messages.
    pub(super) packed: bool,
}
