//! What one client asks, over one connection.

mod answers;

use std::{ops::Range, sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use p2pbridge_proto::Bits;
use thiserror::Error;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::DropGuard;
use tracing::debug;

use self::answers::brought;
use super::{
    Ed2kSeeder,
    queue::{Seat, Standing},
    upload::{Event, Served, Upload},
};
use crate::{
    Flaw,
    ed2k::{
        clients::{Gone, Link, PUBLIC_IP, Run},
        describe::Ed2kFile,
        wire::{
            Hash, Packet, Protocol, WireError,
            transfer::{Message, PartStatus, decode},
        },
    },
};

/// Files of which one client may ask at a time; over it, the one asked for longest ago is put away.
const MAX_FILES: usize = 64;
/// Questions that a client may have ahead; it gets [`QUESTIONS_A_SECOND`] more in each second.
const QUESTIONS: u32 = 300;
/// What a patient client does not need.
const QUESTIONS_A_SECOND: u32 = 10;
/// Clients hang up after 40 s without a word: while something is brought for them, they get one this often.
const WORD: Duration = Duration::from_secs(25);

/// Why a session has ended.
#[derive(Debug, Error)]
pub(super) enum End {
    #[error(transparent)]
    Gone(#[from] Gone),
    #[error("a message cannot be read: {0}")]
    Wire(#[from] WireError),
    #[error("it asks for bytes {} to {} of a file of {length}", .range.start, .range.end)]
    Range { range: Range<u64>, length: u64 },
    #[error("it asks too much")]
    Flood,
    #[error("no more questions")]
    Quiet,
}

impl End {
    /// What the client did wrong, if it did.
    fn flaw(&self) -> Option<Flaw> {
        match self {
            Self::Wire(_) => Some(Flaw::Malformed),
            Self::Range { .. } => Some(Flaw::Unexpected),
            Self::Flood => Some(Flaw::Excessive),
            Self::Gone(_) | Self::Quiet => None,
        }
    }
}

/// One client that asks.
pub(super) struct Session {
    seeder: Arc<Ed2kSeeder>,
    link: Arc<Link>,
    upload: Upload,
    /// The one asked for last is last.
    files: Vec<File>,
    retired: FuturesUnordered<BoxFuture<'static, Hash>>,
    /// Slow answers.
    answers: FuturesUnordered<BoxFuture<'static, Message>>,
    /// The file whose first part is being brought, so that its hashes become known.
    learning: Option<(Hash, BoxFuture<'static, ()>)>,
    seat: Option<Seat>,
    turn: Turn,
    questions: u32,
    /// When the client last got a word, or bytes.
    spoken: Instant,
}

/// Whether the client may ask for bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// It was told so.
    Open,
    /// No more; what it has asked for is still sent.
    Ending,
    /// It knows that it may not.
    Over,
}

struct File {
    served: Served,
    native: Arc<Ed2kFile>,
    /// The client waits for the hashes of the parts.
    wants_hashes: bool,
    /// Ends the wait for the retirement with the file.
    _waits: DropGuard,
}

impl Session {
    pub(super) fn new(seeder: Arc<Ed2kSeeder>, link: Arc<Link>) -> Self {
        // One that was called, because its turn has come, was told so.
        let mut seat = seeder.queue.seat_of(link.client().key());
        let standing = seat.as_mut().map(|seat| *seat.standing.borrow_and_update());
        let turn = if standing == Some(Standing::Served) { Turn::Open } else { Turn::Over };
        Self {
            seeder,
            upload: Upload::new(link.clone()),
            link,
            files: Vec::new(),
            retired: FuturesUnordered::new(),
            answers: FuturesUnordered::new(),
            learning: None,
            seat,
            turn,
            questions: QUESTIONS,
            spoken: Instant::now(),
        }
    }

    /// Answers until no more questions come.
    pub(super) async fn run(mut self, mut asked: mpsc::Receiver<Packet>) {
        let Err(end) = self.serve(&mut asked).await;
        debug!(remote = %self.link.remote(), %end, "a client asks no more");
        // Who waits keeps its place; who goes in its turn gives the slot back, as with aMule.
        if self.turn != Turn::Over
            && let Some(seat) = self.seat.take()
        {
            seat.leave();
        }
        if let Some(flaw) = end.flaw() {
            self.link.sent_bad(flaw);
            self.link.close(end.to_string());
        }
    }

    async fn serve(
        &mut self,
        asked: &mut mpsc::Receiver<Packet>,
    ) -> Result<std::convert::Infallible, End> {
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                packet = asked.recv() => {
                    let packet = packet.ok_or(End::Quiet)?;
                    self.on_message(decode(&packet)?).await?;
                }
                standing = changed(&mut self.seat) => self.stands(standing).await?,
                event = self.upload.next() => self.on_upload(event).await?,
                Some(file) = self.retired.next() => self.put_away(&file).await?,
                Some(answer) = self.answers.next() => self.say(&answer).await?,
                () = brought(&mut self.learning) => self.tell_hashes().await?,
                now = tick.tick() => self.look_at(now).await?,
            }
        }
    }

    pub(super) async fn on_message(&mut self, message: Message) -> Result<(), End> {
        if self.turn != Turn::Open || !matches!(message, Message::RequestParts { .. }) {
            self.questions = self.questions.checked_sub(1).ok_or(End::Flood)?;
        }
        match message {
            Message::FileNameRequest { file, extended } => self.on_name(file, extended).await,
            Message::FileStatusRequest(file) => {
                if self.open(&file).await? {
                    // All parts: what is not here is brought when it is asked for.
                    self.say(&Message::FileStatus { file, parts: PartStatus::complete() }).await?;
                }
                Ok(())
            }
            Message::HashSetRequest(file) => {
                if self.open(&file).await?
                    && let Some(file) = self.files.last_mut()
                {
                    file.wants_hashes = true;
                    self.tell_hashes().await?;
                    self.learn_hashes();
                }
                Ok(())
            }
            Message::StartUpload(file) => {
                let file = file.or_else(|| self.files.last().map(|file| file.served.file));
                match file {
                    Some(file) => self.on_start(file).await,
                    None => Ok(()),
                }
            }
            Message::RequestParts { file, ranges } => self.on_ranges(file, ranges).await,
            Message::CancelTransfer => {
                self.leave();
                Ok(())
            }
            Message::EndOfDownload(file) => {
                if self.files.last().is_some_and(|last| last.served.file == file) {
                    self.leave();
                }
                self.files.retain(|other| other.served.file != file);
                Ok(())
            }
            Message::SourcesRequest { file, version } => self.on_sources(file, version).await,
            Message::AichRootRequest(file) => {
                if self.open(&file).await?
                    && let Some(root) = self.files.last().and_then(|file| file.native.aich)
                {
                    self.say(&Message::AichRoot { file, root }).await?;
                }
                Ok(())
            }
            Message::AichRequest { file, part, root } => self.on_aich(file, part, root).await,
            // Multipackets are among these: the greeting says that they are not taken.
            _ => Ok(()),
        }
    }

    /// Files whose retirement is waited for.
    #[cfg(test)]
    pub(super) fn watched(&mut self) -> usize {
        while let Some(Some(_)) = self.retired.next().now_or_never() {}
        self.retired.len()
    }

    /// Makes a file the last one of `files`; `false` when it is not served: the client is told so.
    async fn open(&mut self, file: &Hash) -> Result<bool, End> {
        if let Some(at) = self.files.iter().position(|known| known.served.file == *file) {
            let known = self.files.remove(at);
            self.files.push(known);
            return Ok(true);
        }
        let Some((reader, native)) = self.seeder.find(file) else {
            self.say(&Message::NoSuchFile(*file)).await?;
            return Ok(false);
        };
        if self.files.len() >= MAX_FILES {
            self.files.remove(0);
        }
        let retired = reader.retired().child_token();
        let waits = retired.clone().drop_guard();
        let hash = *file;
        self.retired.push(
            async move {
                retired.cancelled_owned().await;
                hash
            }
            .boxed(),
        );
        let attendance: Arc<dyn crate::Attendance> = reader.attend(self.link.listens()).into();
        // Until it tells: who asks lacks something.
        attendance.holds(Bits::none(native.part_count()));
        let served = Served { file: hash, reader, attendance };
        self.files.push(File { served, native, wants_hashes: false, _waits: waits });
        Ok(true)
    }

    /// A file is no longer served in this form; asked for again, it may be served in another.
    async fn put_away(&mut self, file: &Hash) -> Result<(), End> {
        let retired = |known: &File| {
            known.served.file == *file && known.served.reader.retired().is_cancelled()
        };
        if !self.files.iter().any(retired) {
            return Ok(());
        }
        self.files.retain(|known| !retired(known));
        if let Some(seat) = self.seat.take() {
            seat.leave();
        }
        if self.turn == Turn::Over { Ok(()) } else { self.end_turn().await }
    }

    /// The client's standing in the queue has changed.
    async fn stands(&mut self, standing: Standing) -> Result<(), End> {
        match standing {
            Standing::Served => {
                let before = std::mem::replace(&mut self.turn, Turn::Open);
                // Whose turn was ending, and begins again, has heard of neither.
                if before == Turn::Over {
                    debug!(remote = %self.link.remote(), "a client's turn has come");
                    self.say(&Message::AcceptUpload).await?;
                }
            }
            Standing::Waiting | Standing::Gone => {
                if standing == Standing::Gone {
                    self.seat = None;
                }
                if self.turn == Turn::Open {
                    self.turn = Turn::Ending;
                    if self.upload.is_idle() {
                        self.end_turn().await?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Tells the client that its turn is over, behind all bytes that were queued for it.
    async fn end_turn(&mut self) -> Result<(), End> {
        self.turn = Turn::Over;
        self.upload.clear();
        let Some(packet) = Message::OutOfParts.packet() else { return Ok(()) };
        Ok(self.link.send_data(vec![Run::plain(packet.to_bytes())]).await?)
    }

    /// The client wants nothing more.
    fn leave(&mut self) {
        self.upload.clear();
        self.link.drop_data();
        self.turn = Turn::Over;
        if let Some(seat) = self.seat.take() {
            seat.leave();
        }
    }

    async fn on_upload(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Sent(range) => {
                self.spoken = Instant::now();
                if let Some(seat) = &self.seat {
                    seat.sent(range.end.saturating_sub(range.start));
                }
                if self.turn == Turn::Ending && self.upload.is_idle() {
                    self.end_turn().await?;
                }
                Ok(())
            }
            Event::Missing(what, part, error) => {
                debug!(remote = %self.link.remote(), part, %error, "bytes are missing");
                if let Some(seat) = &mut self.seat {
                    let fed = seat.starves();
                    seat.standing.borrow_and_update();
                    self.seeder.feed_later(self.link.client().key(), what, part, fed);
                }
                self.end_turn().await
            }
            Event::Gone => Err(Gone.into()),
        }
    }

    async fn look_at(&mut self, now: Instant) -> Result<(), End> {
        self.questions = self.questions.saturating_add(QUESTIONS_A_SECOND).min(QUESTIONS);
        self.tell_hashes().await?;
        self.learn_hashes();
        let brings = !self.upload.is_idle();
        if let (true, Some(seat)) = (brings || self.link.has_data(), &self.seat) {
            seat.used();
        }
        let waits = brings || self.files.iter().any(|file| file.wants_hashes);
        if waits && now.saturating_duration_since(self.spoken) >= WORD {
            self.send(Packet::new(Protocol::EMule, PUBLIC_IP, Vec::new())).await?;
        }
        Ok(())
    }

    async fn say(&mut self, message: &Message) -> Result<(), End> {
        match message.packet() {
            Some(packet) => self.send(packet).await,
            None => Ok(()),
        }
    }

    async fn send(&mut self, packet: Packet) -> Result<(), End> {
        self.spoken = Instant::now();
        Ok(self.link.send(packet).await?)
    }
}

/// Waits until the client stands otherwise in the queue.
async fn changed(seat: &mut Option<Seat>) -> Standing {
    if let Some(seat) = seat
        && seat.standing.changed().await.is_ok()
    {
        return *seat.standing.borrow_and_update();
    }
    std::future::pending().await
}
