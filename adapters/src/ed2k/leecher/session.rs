mod answers;

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    super::{
        clients::{Clients, Download, Incoming},
        describe::Ed2kFile,
        sources::SourceBook,
        wire::transfer::{Extended, Message, PartStatus, Recovery},
    },
    MAX_FETCHES, Question, Shared, TELLING,
    courtesy::{Courtesy, Taking, Turn},
    pipeline::Pipeline,
    source_error,
};
use crate::{Flaw, SourceError};

/// A client that sends nothing of what it was asked for so long is given up: a part may have to be fetched first, where
/// it is a bridge itself.
const BLOCK_TIME: Duration = Duration::from_secs(60);
/// How long one session may keep the others with its client from theirs.
const TURN: Duration = Duration::from_secs(2);
/// How often a place in a queue is confirmed (aMule's `FILEREASKTIME`).
const CONFIRM: Duration = Duration::from_secs(1300);
/// How long an uploader that took its slot back may take to say that we are in its queue.
const QUEUEING: Duration = Duration::from_secs(5);
/// How long until a client that was asked for its slot too often may be asked again.
const AGAIN: Duration = Duration::from_secs(10);
/// How long a slot is kept for another file of the same client.
const KEPT: Duration = Duration::from_secs(15);
/// How often a client is spoken to while its slot is not used, and asked for what else it has got: eMule hangs up after
/// 40 seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(25);
/// A slot that is not used for so long goes back.
const IDLE: Duration = Duration::from_secs(600);
/// How long what was asked for is waited for when nobody wants it any more, so that others may ask.
const DRAINING: Duration = Duration::from_secs(10);
/// Questions for hashes of blocks that are open at a time.
const MAX_LOCATES: usize = 4;

/// The task of a session with a source.
pub(super) struct Session {
    download: Download,
    file: Arc<Ed2kFile>,
    clients: Arc<Clients>,
    sources: Option<Arc<SourceBook>>,
    courtesy: Arc<Courtesy>,
    shared: Arc<Shared>,
    changes: watch::Sender<u64>,
    pipeline: Pipeline,
    turn: Option<Turn>,
    /// Waits for the turn.
    queueing: Option<Pin<Box<dyn Future<Output = Option<Turn>> + Send>>>,
    stage: Stage,
    /// Whether there is a connection.
    linked: bool,
    /// Whether other questions than those for the file itself were asked: hashes, sources.
    asked_all: bool,
    asked_hashes: bool,
    /// When the slot is to be asked for.
    ask_slot: Option<Instant>,
    /// When a wanted byte last came, or the first of those that are out was asked for.
    progress: Instant,
    /// When the client was last spoken to and last spoke, and when anything was last fetched.
    spoken: Instant,
    heard: Instant,
    used: Instant,
    locates: VecDeque<(u16, oneshot::Sender<Option<Recovery>>)>,
    /// Counted among the sessions with this client. Dropped last: nothing of the slot is in use here then.
    taking: Taking,
}

/// How far the client has been asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was asked on this connection.
    New,
    /// It was asked for the file, and has not answered.
    Asked,
    /// It has told what it has of the file.
    Told,
}

impl Session {
    pub(super) fn new(
        download: Download,
        file: Arc<Ed2kFile>,
        (clients, sources): (Arc<Clients>, Option<Arc<SourceBook>>),
        taking: Taking,
        shared: Arc<Shared>,
        changes: watch::Sender<u64>,
    ) -> Self {
        let now = Instant::now();
        let pipeline = Pipeline::new(taking.courtesy().ranges(), shared.waste.clone());
        Self {
            download,
            file,
            clients,
            sources,
            courtesy: taking.courtesy().clone(),
            shared,
            changes,
            pipeline,
            turn: None,
            queueing: None,
            stage: Stage::New,
            linked: true,
            asked_all: false,
            asked_hashes: false,
            ask_slot: None,
            progress: now,
            spoken: now,
            heard: now,
            used: now,
            locates: VecDeque::new(),
            taking,
        }
    }

    /// Works until the client or the handle is gone.
    pub(super) async fn run(
        mut self,
        mut asked: mpsc::Receiver<Question>,
        stop: CancellationToken,
    ) {
        let end = match self.work(&mut asked, &stop).await {
            Ok(()) => SourceError::Closed("the bridge has closed it".into()),
            Err(end) => end,
        };
        self.pipeline.fail(&end);
        let is_silent = matches!(end, SourceError::TimedOut(_));
        let (remote, wasted) = (self.download.link.remote(), self.shared.waste.total());
        debug!(%remote, %end, wasted, "a session with a source has ended");
        // Only this task sets it.
        let _ = self.shared.end.set(end);
        drop(asked);
        let (changes, _) = watch::channel(0);
        // Whoever looks at the session learns of its end.
        drop(std::mem::replace(&mut self.changes, changes));
        self.leave(is_silent).await;
    }

    async fn work(
        &mut self,
        asked: &mut mpsc::Receiver<Question>,
        stop: &CancellationToken,
    ) -> Result<(), SourceError> {
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let shared = self.shared.clone();
        loop {
            self.step().await?;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                incoming = self.download.inbox.recv() => {
                    self.on_incoming(incoming).await?;
                    // What has come already needs no waiting.
                    while let Ok(incoming) = self.download.inbox.try_recv() {
                        self.on_incoming(Some(incoming)).await?;
                    }
                }
                question = asked.recv(), if self.pipeline.fetches() < MAX_FETCHES => {
                    let Some(question) = question else { return Ok(()) };
                    self.on_question(question).await;
                    while self.pipeline.fetches() < MAX_FETCHES
                        && let Ok(question) = asked.try_recv()
                    {
                        self.on_question(question).await;
                    }
                }
                () = shared.withdrawn.notified() => self.pipeline.withdraw(),
                turn = wait_for(&mut self.queueing) => {
                    self.queueing = None;
                    self.turn = turn;
                }
                now = tick.tick() => self.look_at(now, stop).await?,
            }
        }
    }

    /// Asks whatever can be asked now.
    async fn step(&mut self) -> Result<(), SourceError> {
        if self.turn.is_none() && self.wants_turn() {
            self.turn = self.courtesy.turn_now();
            if self.turn.is_none() && self.queueing.is_none() {
                self.queueing = Some(Box::pin(self.courtesy.clone().turn()));
            }
        }
        if self.turn.is_some() {
            self.ask().await?;
        }
        if self.turn.is_some() && self.stage != Stage::Asked && !self.pipeline.is_waiting() {
            let keeps = self.pipeline.has_todo() && self.has_slot() && !self.must_yield();
            if !keeps {
                self.turn = None;
            }
        }
        Ok(())
    }

    fn wants_turn(&self) -> bool {
        let asks = self.ask_slot.is_some_and(|at| at <= Instant::now());
        let fetches = self.has_slot() && self.pipeline.has_todo();
        self.linked && (self.stage == Stage::New || asks || fetches)
    }

    fn must_yield(&self) -> bool {
        let long = self.turn.as_ref().is_some_and(|turn| turn.since.elapsed() >= TURN);
        long && self.courtesy.is_wanted()
    }

    /// Asks what the turn is needed for.
    async fn ask(&mut self) -> Result<(), SourceError> {
        let now = Instant::now();
        match self.stage {
            _ if !self.linked => return Ok(()),
            Stage::New => return self.ask_for_file(now).await,
            Stage::Asked => return Ok(()),
            Stage::Told => {}
        }
        self.ask_beside().await?;
        if self.ask_slot.is_some_and(|at| at <= now) {
            self.ask_for_slot(now).await?;
        }
        if !self.has_slot() || self.must_yield() {
            return Ok(());
        }
        if !self.pipeline.is_waiting() {
            self.progress = now;
        }
        let link = self.download.link.clone();
        let mut ranges = self.pipeline.ask(now);
        if !ranges.is_empty() && self.courtesy.name(&link, &self.file.hash) {
            self.send(&Message::FileStatusRequest(self.file.hash)).await?;
        }
        while !ranges.is_empty() {
            self.used = now;
            self.send(&Message::RequestParts { file: self.file.hash, ranges }).await?;
            ranges = self.pipeline.ask(now);
        }
        Ok(())
    }

    /// The first questions on a connection.
    async fn ask_for_file(&mut self, now: Instant) -> Result<(), SourceError> {
        let (link, file) = (self.download.link.clone(), self.file.hash);
        let extended = match link.options().extended_requests {
            0 => None,
            version => Some(Extended {
                parts: PartStatus::complete(),
                complete_sources: (version > 1).then_some(0),
            }),
        };
        self.courtesy.name(&link, &file);
        self.send(&Message::FileNameRequest { file, extended }).await?;
        self.send(&Message::FileStatusRequest(file)).await?;
        (self.stage, self.progress) = (Stage::Asked, now);
        Ok(())
    }

    /// What else a client is asked once: the hashes of the parts, and other sources.
    async fn ask_beside(&mut self) -> Result<(), SourceError> {
        if std::mem::replace(&mut self.asked_all, true) {
            return Ok(());
        }
        let (file, options) = (self.file.hash, self.download.link.options());
        if self.file.hashes().is_none() {
            self.asked_hashes = true;
            self.send(&Message::HashSetRequest(file)).await?;
        }
        if self.sources.is_none() {
            return Ok(());
        }
        // aMule hangs up on the second form outside a multipacket.
        if options.source_exchange > 0 {
            self.send(&Message::SourcesRequest { file, version: None }).await?;
        } else if options.source_exchange2 {
            self.send(&Message::SourcesRequest { file, version: Some(4) }).await?;
        }
        Ok(())
    }

    async fn ask_for_slot(&mut self, now: Instant) -> Result<(), SourceError> {
        self.ask_slot = Some(now + CONFIRM);
        if self.has_nothing() {
            return Ok(());
        }
        let link = self.download.link.clone();
        if self.courtesy.has_slot(&link) {
            // The slot is for the client, whatever file it was asked for.
            self.gain_slot();
        } else if self.courtesy.may_ask(&link, now) {
            self.courtesy.name(&link, &self.file.hash);
            self.send(&Message::StartUpload(Some(self.file.hash))).await?;
        } else {
            // The client forgets us when it hangs up, which it does when nothing is said.
            self.ask_slot = Some(now + AGAIN);
        }
        Ok(())
    }

    async fn on_question(&mut self, question: Question) {
        match question {
            Question::Fetch { range, reply } if self.has_slot() => {
                self.used = Instant::now();
                self.pipeline.add(range, reply);
            }
            Question::Fetch { range, reply } => {
                let _ = reply.send(Err(SourceError::Refused(range)));
            }
            Question::Locate { part, reply } => {
                self.locates.retain(|(_, reply)| !reply.is_closed());
                let Some(root) = self.file.aich else { return };
                if !self.download.link.options().aich || self.locates.len() >= MAX_LOCATES {
                    return;
                }
                let file = self.file.hash;
                if self.send(&Message::AichRequest { file, part, root }).await.is_ok() {
                    self.locates.push_back((part, reply));
                }
            }
        }
    }

    async fn look_at(&mut self, now: Instant, stop: &CancellationToken) -> Result<(), SourceError> {
        let link = self.download.link.clone();
        if self.linked && self.has_slot() && !self.courtesy.has_slot(&link) {
            // Another session has given it back.
            self.lose_slot();
            self.ask_slot = Some(now);
        }
        if !self.linked && self.ask_slot.is_some_and(|at| at <= now) {
            tokio::select! {
                connected = self.download.reconnect() => connected.map_err(source_error)?,
                () = stop.cancelled() => return Ok(()),
            }
            (self.linked, self.stage) = (true, Stage::New);
            return Ok(());
        }
        let answers_by = self.progress + TELLING;
        if self.linked && self.stage == Stage::Asked && now >= answers_by {
            return Err(self.silent(TELLING));
        }
        if self.has_slot() {
            if self.pipeline.is_waiting() && now.duration_since(self.progress) >= BLOCK_TIME {
                return Err(self.silent(BLOCK_TIME));
            }
            if now.saturating_duration_since(self.used) >= IDLE {
                return Err(SourceError::Closed("nothing was wanted of it for long".into()));
            }
        }
        let silent = now.saturating_duration_since(self.spoken) >= KEEP_ALIVE;
        if silent
            && self.linked
            && self.stage == Stage::Told
            && (self.has_slot() || self.has_nothing())
        {
            let turn = self.turn.is_none().then(|| self.courtesy.turn_now()).flatten();
            if self.turn.is_some() || turn.is_some() {
                self.courtesy.name(&link, &self.file.hash);
                self.send(&Message::FileStatusRequest(self.file.hash)).await?;
            }
        }
        Ok(())
    }

    /// The client has not done in time what it was asked for.
    fn silent(&self, time: Duration) -> SourceError {
        self.download.link.sent_bad(Flaw::Silent);
        SourceError::TimedOut(time)
    }

    /// Leaves the client as others need it: without ranges of this file in its queue, and with its slot for a while. From
    /// one that is silent nothing more is expected: it gets its slot back, and with it what was asked for is forgotten.
    async fn leave(mut self, is_silent: bool) {
        let link = self.download.link.clone();
        if !self.linked || link.is_closed() || !self.has_slot() {
            return;
        }
        self.taking.end();
        let comes = !is_silent || !self.pipeline.is_waiting();
        if comes && timeout(DRAINING, self.drain()).await == Ok(true) {
            self.turn = None;
            if timeout(KEPT, self.keep()).await.is_ok() {
                return;
            }
        }
        if link.is_closed() {
            return;
        }
        self.courtesy.given_back(&link);
        let _ = self.send(&Message::CancelTransfer).await;
    }

    /// Waits for what was asked for; `false` when not all of it comes.
    async fn drain(&mut self) -> bool {
        while self.pipeline.is_waiting() {
            if !self.hear().await {
                return false;
            }
        }
        true
    }

    /// Waits until somebody else uses the slot, or it is gone.
    async fn keep(&mut self) {
        let courtesy = self.courtesy.clone();
        let heard = async { while self.has_slot() && self.hear().await {} };
        tokio::select! {
            () = heard => {}
            () = courtesy.shared() => {}
        }
    }

    /// Takes what the client says; `false` when that is the last of it.
    async fn hear(&mut self) -> bool {
        match self.download.inbox.recv().await {
            Some(Incoming::Packet(packet)) => self.on_packet(&packet).is_ok(),
            _ => false,
        }
    }

    fn gain_slot(&mut self) {
        self.ask_slot = None;
        if !self.shared.slot.swap(true, Ordering::Relaxed) {
            debug!(remote = %self.download.link.remote(), "a source gives its slot");
            self.used = Instant::now();
            self.changed();
        }
    }

    fn lose_slot(&mut self) {
        if self.shared.slot.swap(false, Ordering::Relaxed) {
            debug!(remote = %self.download.link.remote(), "a source takes its slot back");
            self.turn = None;
            self.pipeline.refuse();
            self.changed();
        }
    }

    fn has_slot(&self) -> bool {
        self.shared.slot.load(Ordering::Relaxed)
    }

    fn has_nothing(&self) -> bool {
        self.shared.held.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    async fn send(&mut self, message: &Message) -> Result<(), SourceError> {
        self.spoken = Instant::now();
        let Some(packet) = message.packet() else { return Ok(()) };
        let sent = self.download.link.send(packet).await;
        sent.map_err(|gone| SourceError::Closed(gone.to_string()))
    }
}

async fn wait_for(
    queueing: &mut Option<Pin<Box<dyn Future<Output = Option<Turn>> + Send>>>,
) -> Option<Turn> {
    match queueing {
        Some(turn) => turn.await,
        None => std::future::pending().await,
    }
}
