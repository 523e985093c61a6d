//! What the client says.

use std::sync::{Arc, PoisonError};

use p2pbridge_proto::Bits;
use tokio::time::Instant;
use tracing::{debug, trace};

use super::{AGAIN, CONFIRM, KEEP_ALIVE, QUEUEING, Session, Stage};
use crate::{
    Flaw, SourceError,
    ed2k::{
        clients::{Hint, Incoming, Link},
        wire::{
            ClientId, Packet,
            hello::Crypt,
            transfer::{AichHash, Message, Recovery, SourceRecord, decode},
        },
    },
};

impl Session {
    pub(super) async fn on_incoming(
        &mut self,
        incoming: Option<Incoming>,
    ) -> Result<(), SourceError> {
        match incoming {
            Some(Incoming::Packet(packet)) => self.on_packet(&packet),
            Some(Incoming::Linked(link)) => {
                self.on_link(link);
                Ok(())
            }
            Some(Incoming::Lost(why)) => self.on_lost(why),
            None => Err(SourceError::Closed("the hub is gone".into())),
        }
    }

    pub(super) fn on_packet(&mut self, packet: &Packet) -> Result<(), SourceError> {
        let message =
            decode(packet).map_err(|error| self.bad(Flaw::Malformed, error.to_string()))?;
        let now = Instant::now();
        self.heard = now;
        match message {
            Message::SendingPart { start, data, .. } => {
                let came = self.pipeline.take(start, &data, now);
                self.came(came, now)?;
            }
            Message::CompressedPart { start, whole, data, .. } => {
                let came = self.pipeline.take_compressed(start, whole, &data, now);
                self.came(came, now)?;
            }
            // A file of one part is there as a whole, if it is there.
            Message::FileNameAnswer { .. } if self.file.part_count() == 1 => {
                self.hold(Bits::all(1), now);
            }
            Message::FileStatus { parts, .. } => {
                let (count, size) = (parts.count(), self.file.size);
                let wrong = || format!("a status of {count} parts for a file of {size} bytes");
                let held = parts.to_bits(size).ok_or_else(|| self.bad(Flaw::Malformed, wrong()))?;
                self.hold(held, now);
            }
            Message::NoSuchFile(_) => {
                return Err(SourceError::Protocol("it does not have the file".into()));
            }
            Message::HashSet { hashes, .. } if self.asked_hashes => {
                self.asked_hashes = false;
                if !self.file.learn_hashes(&hashes) {
                    let problem = "its hashes of the parts are not those of the file";
                    return Err(self.bad(Flaw::Malformed, problem.to_owned()));
                }
                self.changed();
            }
            Message::AcceptUpload => {
                self.courtesy.granted(&self.download.link);
                self.gain_slot();
            }
            Message::OutOfParts => {
                self.courtesy.taken_back(&self.download.link);
                self.lose_slot();
                self.ask_slot = Some(now + QUEUEING);
            }
            Message::QueueRank(rank) => self.queued(rank, now),
            Message::QueueRanking(rank) => self.queued(rank.into(), now),
            Message::Sources { version, sources, .. } => self.note(version, &sources),
            Message::AichAnswer { recovery, .. } => self.on_recovery(recovery),
            _ => {}
        }
        Ok(())
    }

    fn came(&mut self, came: Result<u64, String>, now: Instant) -> Result<(), SourceError> {
        if came.map_err(|problem| self.bad(Flaw::Unexpected, problem))? > 0 {
            self.progress = now;
        }
        Ok(())
    }

    /// The client has sent what ends the session.
    fn bad(&self, flaw: Flaw, problem: String) -> SourceError {
        self.download.link.sent_bad(flaw);
        SourceError::Protocol(problem)
    }

    /// The client has told what it has.
    fn hold(&mut self, held: Bits, now: Instant) {
        if self.stage != Stage::Told {
            self.ask_slot = Some(now);
        }
        let (gains, is_first) = (self.has_nothing() && !held.is_empty(), self.stage != Stage::Told);
        if gains && !self.has_slot() {
            self.ask_slot = Some(now);
        }
        let mut known = self.shared.held.write().unwrap_or_else(PoisonError::into_inner);
        let is_news = is_first || *known != held;
        *known = held;
        drop(known);
        self.stage = Stage::Told;
        if is_news {
            self.changed();
        }
    }

    fn queued(&mut self, rank: u32, now: Instant) {
        trace!(remote = %self.download.link.remote(), rank, "in a client's queue");
        self.ask_slot = Some(now + CONFIRM);
    }

    fn note(&mut self, version: Option<u8>, sources: &[SourceRecord]) {
        let Some(book) = &self.sources else { return };
        let version = version.unwrap_or(self.download.link.options().source_exchange);
        for source in sources {
            // A low id means something at its own server only.
            let high @ ClientId::High(_) = source.client(version) else { continue };
            let endpoint = high.endpoint(source.port);
            book.note(self.file.hash, endpoint);
            let crypt = Crypt::from_bits(source.crypt.unwrap_or_default());
            self.clients.hint_from_client(endpoint, Hint { hash: source.user, crypt });
        }
    }

    fn on_recovery(&mut self, recovery: Option<(u16, AichHash, Recovery)>) {
        let place = match &recovery {
            None => Some(0),
            Some((part, ..)) => self.locates.iter().position(|(asked, _)| asked == part),
        };
        if let Some((_, reply)) = place.and_then(|place| self.locates.remove(place)) {
            // Nobody may be waiting any more.
            let _ = reply.send(recovery.map(|(_, _, recovery)| recovery));
        }
    }

    /// The client has connected again: most likely to give us its slot.
    fn on_link(&mut self, link: Arc<Link>) {
        self.lose_slot();
        self.download.link = link;
        self.linked = true;
        self.turn = None;
        if self.stage == Stage::Asked {
            self.stage = Stage::New;
        }
        self.spoken = Instant::now();
    }

    fn on_lost(&mut self, why: String) -> Result<(), SourceError> {
        self.linked = false;
        (self.turn, self.queueing) = (None, None);
        if self.stage != Stage::Told || self.has_slot() {
            return Err(SourceError::Closed(why));
        }
        // A place in the queue outlives the connection, unless the client itself has ended: it lets a silent one be for
        // longer than this.
        let now = Instant::now();
        if now.saturating_duration_since(self.heard) < KEEP_ALIVE {
            self.ask_slot = Some(now + AGAIN);
        }
        debug!(remote = %self.download.link.remote(), why, "a client lets us wait unconnected");
        Ok(())
    }
}
