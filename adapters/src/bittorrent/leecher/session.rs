use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use p2pbridge_proto::Bits;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    super::{
        connection::{Connection, ConnectionError},
        wire::{
            extension::ExtendedHandshake,
            peer::{Block, Message},
        },
    },
    MAX_FETCHES, Question, Shared, chunks,
    pipeline::{BadBlock, Pipeline, Taken},
    source_error,
};
use crate::{BadInput, Description, Flaw, Party, SourceError};

/// A peer that sends nothing of what it was asked for so long is given up.
const BLOCK_TIME: Duration = Duration::from_secs(20);
/// Fetches that a peer keeps choked for so long fail; the session goes on.
const CHOKED_TIME: Duration = Duration::from_secs(30);

/// The task that owns a connection to a source.
pub(super) struct Session {
    connection: Connection,
    fast: bool,
    what: Arc<Description>,
    shared: Arc<Shared>,
    changes: watch::Sender<u64>,
    bad_input: Arc<BadInput>,
    pipeline: Pipeline,
    choked: bool,
    interested: bool,
    /// When a wanted block last came, or the first of those that are out was asked for.
    progress: Instant,
}

impl Session {
    /// A session on a greeted connection, with what the greeting said of the fast extension and the extension protocol.
    pub(super) fn new(
        mut connection: Connection,
        (fast, extended): (bool, bool),
        what: Arc<Description>,
        shared: Arc<Shared>,
        changes: watch::Sender<u64>,
        bad_input: Arc<BadInput>,
    ) -> Self {
        if fast {
            connection.send(&Message::HaveNone);
        }
        if extended {
            let version = Some(concat!("P2P-Bridge/", env!("CARGO_PKG_VERSION")).to_owned());
            let handshake = ExtendedHandshake { version, ..ExtendedHandshake::default() };
            connection.send(&Message::Extended { id: 0, payload: handshake.encode() });
        }
        let pipeline = Pipeline::new(what.unit, shared.waste.clone());
        let progress = Instant::now();
        let (choked, interested) = (true, false);
        Self {
            connection,
            fast,
            what,
            shared,
            changes,
            bad_input,
            pipeline,
            choked,
            interested,
            progress,
        }
    }

    /// Works until the peer or the handle is gone.
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
        debug!(%end, wasted = self.shared.waste.total(), "a session with a source has ended");
        // Only this task sets it.
        let _ = self.shared.end.set(end);
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
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                driven = self.connection.drive() => {
                    driven.map_err(|error| self.failed(error))?;
                    while let Some(message) = self.next()? {
                        self.on_message(message)?;
                    }
                }
                question = asked.recv(), if self.pipeline.fetches() < MAX_FETCHES => match question {
                    Some(Question { range, reply }) => {
                        if self.pipeline.fetches() == 0 {
                            self.progress = Instant::now();
                        }
                        self.pipeline.add(range, reply);
                    }
                    None => return Ok(()),
                },
                () = shared.withdrawn.notified() => {
                    for block in self.pipeline.withdraw() {
                        self.connection.send(&Message::Cancel(block));
                    }
                }
                now = tick.tick() => self.look_at(now)?,
            }
            self.ask();
        }
    }

    fn next(&mut self) -> Result<Option<Message>, SourceError> {
        self.connection.next().map_err(|error| self.failed(error))
    }

    fn on_message(&mut self, message: Message) -> Result<(), SourceError> {
        match message {
            Message::Piece { piece, begin, data } => {
                let taken = self.pipeline.take(piece, begin, &data);
                let bad = |block: BadBlock| self.bad(block.flaw(), block.to_string());
                if taken.map_err(bad)? == Taken::Wanted {
                    self.progress = Instant::now();
                }
            }
            Message::Choke => {
                self.choked = true;
                if !self.fast {
                    self.pipeline.forget_asked();
                }
            }
            Message::Unchoke => {
                // Whatever is still out from before the choke was forgotten by the peer.
                if std::mem::replace(&mut self.choked, false) {
                    self.pipeline.forget_asked();
                }
                self.progress = Instant::now();
            }
            Message::Reject(block) => self.pipeline.rejected(block, self.choked),
            Message::Bitfield(bits) => {
                let held = Bits::from_bytes(&bits, chunks(&self.what));
                let wrong = || self.bad(Flaw::Malformed, "a bitfield of another torrent".into());
                self.hold(held.ok_or_else(wrong)?);
            }
            Message::HaveAll => self.hold(Bits::all(chunks(&self.what))),
            Message::HaveNone => self.hold(Bits::none(chunks(&self.what))),
            Message::Have(piece) => self.gain(piece)?,
            Message::Extended { id: 0, payload } => {
                if let Ok(handshake) = ExtendedHandshake::decode(&payload)
                    && let Some(reqq) = handshake.reqq
                {
                    self.pipeline.limit(reqq);
                }
            }
            Message::Request(block) => self.refuse(block),
            Message::HashRequest(range) => self.connection.send(&Message::HashReject(range)),
            _ => {}
        }
        Ok(())
    }

    /// The bridge holds nothing in this swarm.
    fn refuse(&mut self, block: Block) {
        if self.fast {
            self.connection.send(&Message::Reject(block));
        }
    }

    fn hold(&mut self, held: Bits) {
        *self.shared.held.write().unwrap_or_else(PoisonError::into_inner) = held;
        self.told();
    }

    fn gain(&mut self, piece: u32) -> Result<(), SourceError> {
        if piece >= chunks(&self.what) {
            let problem = format!("it tells of piece {piece}, which is none");
            return Err(self.bad(Flaw::Malformed, problem));
        }
        let gained = self.shared.held.write().unwrap_or_else(PoisonError::into_inner).set(piece);
        if gained {
            self.told();
        }
        Ok(())
    }

    fn told(&mut self) {
        let held = !self.shared.held.read().unwrap_or_else(PoisonError::into_inner).is_empty();
        if held && !self.interested {
            self.interested = true;
            self.connection.send(&Message::Interested);
        }
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn ask(&mut self) {
        if self.choked {
            return;
        }
        if !self.pipeline.is_waiting() {
            self.progress = Instant::now();
        }
        while let Some(block) = self.pipeline.ask() {
            self.connection.send(&Message::Request(block));
        }
    }

    fn look_at(&mut self, now: Instant) -> Result<(), SourceError> {
        self.connection.look_at(now).map_err(|error| self.failed(error))?;
        let waited = now.saturating_duration_since(self.progress);
        if self.choked {
            if self.pipeline.fetches() > 0 && waited >= CHOKED_TIME {
                self.pipeline.fail(&SourceError::TimedOut(CHOKED_TIME));
            }
        } else if self.pipeline.is_waiting() && waited >= BLOCK_TIME {
            self.bad_input.add(Party::Peer, Flaw::Silent);
            return Err(SourceError::TimedOut(BLOCK_TIME));
        }
        Ok(())
    }

    /// The connection has failed, which may be the peer's fault.
    fn failed(&self, error: ConnectionError) -> SourceError {
        error.count(&self.bad_input);
        source_error(error)
    }

    /// The peer has sent what ends the session.
    fn bad(&self, flaw: Flaw, problem: String) -> SourceError {
        self.bad_input.add(Party::Peer, flaw);
        SourceError::Protocol(problem)
    }
}
