use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use p2pbridge_proto::Bits;
use thiserror::Error;
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    super::{
        connection::{Connection, ConnectionError, MAX_QUEUED},
        metainfo::Metainfo,
        wire::{
            extension::{ExtendedHandshake, MetadataMessage},
            peer::{Block, Features, Limits, Message},
        },
    },
    choker::{Choker, Seat},
    upload::{Answer, MAX_ASKED, Upload},
};
use crate::{Attendance, ContentReader, Flaw, admission::Ticket};

/// A peer that has not told what it holds after so long counts as holding nothing.
const TELLING: Duration = Duration::from_secs(2);
/// The last chunk but one is announced together with the last, but waits for it no longer than this.
const LAST_PAIR: Duration = Duration::from_secs(5);
/// Bytes read from the socket at a time: requests are small.
const READ_SIZE: usize = 16 * 1024;
/// The number under which metadata messages are taken (BEP 10).
const UT_METADATA: u8 = 1;

/// Why a session has ended.
#[derive(Debug, Error)]
pub(super) enum End {
    /// The connection has.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The peer asked for something that cannot be given, and cannot be told so.
    #[error("a request that cannot be refused: {0:?}")]
    BadRequest(Block),
    /// The peer tells of pieces that do not exist.
    #[error("pieces of another torrent")]
    WrongPieces,
    /// The content is no longer served in this form.
    #[error("the content is retired")]
    Retired,
    /// The peer has everything: it wants nothing here, and may allow one connection from an address only, which the
    /// leecher's face may need.
    #[error("the peer has everything")]
    Whole,
}

impl End {
    /// What the peer did wrong, if it did.
    pub(super) fn flaw(&self) -> Option<Flaw> {
        match self {
            Self::Connection(error) => error.flaw(),
            Self::BadRequest(_) => Some(Flaw::Unexpected),
            Self::WrongPieces => Some(Flaw::Malformed),
            Self::Retired | Self::Whole => None,
        }
    }
}

/// One peer that is served.
pub(super) struct Session<'a> {
    connection: Connection,
    peer: SocketAddr,
    fast: bool,
    reader: Arc<dyn ContentReader>,
    attendance: Box<dyn Attendance>,
    ticket: &'a Ticket<[u8; 20]>,
    seat: Seat,
    upload: Upload,
    /// How much of the availability was announced.
    seen: usize,
    /// Since when the last chunk but one waits to be announced.
    kept_back: Option<Instant>,
    added: watch::Receiver<usize>,
    /// What the peer holds.
    held: Bits,
    told: bool,
    wants: bool,
    choked: bool,
    /// The number under which the peer takes metadata messages.
    ut_metadata: Option<u8>,
    since: Instant,
}

impl<'a> Session<'a> {
    /// A session with a greeted peer; says what it is served from, as the first messages.
    pub(super) fn new(
        stream: TcpStream,
        peer: SocketAddr,
        features: Features,
        reader: Arc<dyn ContentReader>,
        ticket: &'a Ticket<[u8; 20]>,
        choker: &Arc<Choker>,
    ) -> Self {
        let added = reader.availability().watch();
        let (mut bits, mut seen) = reader.availability().snapshot();
        let mut kept_back = None;
        if is_last_but_one(seen, bits.len())
            && let Some(last) = reader.availability().since(seen - 1).first()
        {
            seen -= 1;
            bits.clear(*last);
            kept_back = Some(Instant::now());
        }
        let mut session = Self {
            connection: Connection::new(stream, Limits::new(bits.len(), 0), READ_SIZE),
            peer,
            fast: features.fast,
            attendance: reader.attend(peer),
            ticket,
            seat: choker.sit(),
            upload: Upload::new(reader.clone()),
            reader,
            seen,
            kept_back,
            added,
            held: Bits::none(bits.len()),
            told: false,
            wants: false,
            choked: true,
            ut_metadata: None,
            since: Instant::now(),
        };
        session.introduce(&bits, features);
        session
    }

    fn introduce(&mut self, bits: &Bits, features: Features) {
        // A lone chunk is told of when it is there, as the first thing: see `announce` for why not by a HAVE.
        if bits.len() != 1 || bits.is_full() {
            self.tell_all(bits);
        }
        if features.extended {
            let handshake = ExtendedHandshake {
                ut_metadata: Some(UT_METADATA),
                metadata_size: self.info().and_then(|info| u32::try_from(info.len()).ok()),
                reqq: u32::try_from(MAX_ASKED).ok(),
                version: Some(concat!("P2P-Bridge/", env!("CARGO_PKG_VERSION")).to_owned()),
                port: None,
                yourip: Some(self.peer.ip()),
            };
            self.connection.send(&Message::Extended { id: 0, payload: handshake.encode() });
        }
    }

    fn tell_all(&mut self, bits: &Bits) {
        if self.fast && bits.is_full() {
            self.connection.send(&Message::HaveAll);
        } else if self.fast && bits.is_empty() {
            self.connection.send(&Message::HaveNone);
        } else if !bits.is_empty() {
            self.connection.send(&Message::Bitfield(Bytes::copy_from_slice(bits.as_bytes())));
        }
    }

    /// Serves the peer to the end.
    pub(super) async fn run(mut self) -> End {
        match self.serve().await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn serve(&mut self) -> Result<Infallible, End> {
        let retired = self.reader.retired().clone();
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.upload.read_on(self.connection.queued());
            tokio::select! {
                () = retired.cancelled() => return Err(End::Retired),
                driven = self.connection.drive() => {
                    for range in self.connection.take_written() {
                        self.attendance.served(range);
                    }
                    driven?;
                    self.listen()?;
                }
                answers = self.upload.next(), if self.upload.is_reading() => {
                    for answer in answers {
                        self.answer(answer)?;
                    }
                }
                changed = self.added.changed() => {
                    if changed.is_ok() {
                        self.announce();
                    }
                }
                changed = self.seat.open.changed() => {
                    if changed.is_ok() {
                        self.turn();
                    }
                }
                now = tick.tick() => {
                    self.connection.look_at(now)?;
                    if self.kept_back.is_some_and(|since| now.saturating_duration_since(since) >= LAST_PAIR) {
                        self.announce();
                    }
                    if !self.told && now.saturating_duration_since(self.since) >= TELLING {
                        self.hold(Bits::none(self.held.len()));
                    }
                }
            }
        }
    }

    /// Takes what was received, unless the peer does not take what it was sent.
    fn listen(&mut self) -> Result<(), End> {
        while self.connection.queued() < MAX_QUEUED {
            let Some(message) = self.connection.next()? else { break };
            self.on_message(message)?;
        }
        if self.told && self.held.is_full() { Err(End::Whole) } else { Ok(()) }
    }

    fn on_message(&mut self, message: Message) -> Result<(), End> {
        match message {
            Message::Interested => self.want(true),
            Message::NotInterested => self.want(false),
            Message::Request(block) => self.on_request(block)?,
            Message::Cancel(block) => self.on_cancel(block),
            Message::Bitfield(bits) => {
                self.hold(Bits::from_bytes(&bits, self.held.len()).ok_or(End::WrongPieces)?);
            }
            Message::HaveAll => self.hold(Bits::all(self.held.len())),
            Message::HaveNone => self.hold(Bits::none(self.held.len())),
            Message::Have(piece) => self.gain(piece)?,
            Message::Extended { id: 0, payload } => self.meet(&payload),
            Message::Extended { id: UT_METADATA, payload } => self.on_metadata(&payload),
            Message::HashRequest(range) => self.connection.send(&Message::HashReject(range)),
            _ => {}
        }
        Ok(())
    }

    fn on_request(&mut self, block: Block) -> Result<(), End> {
        if self.choked || !self.upload.ask(block) { self.refuse(block) } else { Ok(()) }
    }

    fn on_cancel(&mut self, block: Block) {
        if self.upload.cancel(&block) && self.fast {
            self.connection.send(&Message::Reject(block));
        }
    }

    fn want(&mut self, wants: bool) {
        self.wants = wants;
        self.attendance.wants(wants);
        self.seat.wants(wants);
        self.ticket.is_now(wants, self.held.is_full());
    }

    /// A choked peer without the fast extension may have asked before it knew: that is passed over.
    fn refuse(&mut self, block: Block) -> Result<(), End> {
        if self.fast {
            self.connection.send(&Message::Reject(block));
            Ok(())
        } else if self.choked {
            Ok(())
        } else {
            Err(End::BadRequest(block))
        }
    }

    fn answer(&mut self, answer: Answer) -> Result<(), End> {
        match answer {
            Answer::Give(block, at, bytes) => {
                self.connection.send_block(block.piece, block.begin, at, bytes);
                Ok(())
            }
            Answer::Refuse(block) => self.refuse(block),
        }
    }

    /// The peer's turn to be served has come, or is over.
    fn turn(&mut self) {
        let open = *self.seat.open.borrow_and_update();
        if open != self.choked {
            return;
        }
        self.choked = !open;
        if open {
            self.connection.send(&Message::Unchoke);
            return;
        }
        self.connection.send(&Message::Choke);
        if self.fast {
            for block in self.upload.clear() {
                self.connection.send(&Message::Reject(block));
            }
        } else {
            self.upload.abandon();
        }
    }

    /// Announces the chunks that have become available.
    ///
    /// libtorrent (2.0.8, for one) closes the connection when a HAVE makes a seed of a peer that it is not interested
    /// in: as happens to one who took every chunk as soon as it was announced, when the last one comes. So the last two
    /// go out together: by the first of them it becomes interested.
    fn announce(&mut self) {
        let mut added = self.reader.availability().since(self.seen);
        let keep = is_last_but_one(self.seen + added.len(), self.held.len());
        if keep && self.kept_back.is_none_or(|since| since.elapsed() < LAST_PAIR) {
            added.pop();
            self.kept_back.get_or_insert_with(Instant::now);
        }
        self.seen += added.len();
        if self.held.len() == 1 && !added.is_empty() {
            self.tell_all(&Bits::all(1));
            return;
        }
        for chunk in added {
            if !self.held.has(chunk) {
                self.connection.send(&Message::Have(chunk));
            }
        }
    }

    fn hold(&mut self, held: Bits) {
        self.told = true;
        self.held = held.clone();
        self.attendance.wants(self.wants);
        self.attendance.holds(held);
        self.ticket.is_now(self.wants, self.held.is_full());
    }

    fn gain(&mut self, piece: u32) -> Result<(), End> {
        if piece >= self.held.len() {
            return Err(End::WrongPieces);
        }
        if !self.told {
            self.hold(Bits::none(self.held.len()));
        }
        if self.held.set(piece) {
            self.attendance.gained(piece);
            if self.held.is_full() {
                self.ticket.is_now(self.wants, true);
            }
        }
        Ok(())
    }

    fn meet(&mut self, payload: &[u8]) {
        // A peer whose extended handshake cannot be read gets no extensions.
        let Ok(handshake) = ExtendedHandshake::decode(payload) else { return };
        self.ut_metadata = handshake.ut_metadata;
        if let Some(port) = handshake.port {
            self.ticket.listens_on(SocketAddr::new(self.peer.ip(), port));
        }
    }

    fn on_metadata(&mut self, payload: &Bytes) {
        let Some(id) = self.ut_metadata else { return };
        let Ok(MetadataMessage::Request(piece)) = MetadataMessage::decode(payload) else { return };
        let answer = match self.info() {
            Some(info) => MetadataMessage::answer(info, piece),
            None => MetadataMessage::Reject(piece),
        };
        self.connection.send(&Message::Extended { id, payload: answer.encode() });
    }

    fn info(&self) -> Option<&Bytes> {
        let native = &self.reader.description().native;
        native.downcast_ref::<Metainfo>().map(|metainfo| &metainfo.info_bytes)
    }
}

/// Whether so many announced chunks are all but one; not so when that leaves none.
fn is_last_but_one(seen: usize, chunks: u32) -> bool {
    seen > 0 && seen.checked_add(1) == usize::try_from(chunks).ok()
}
