//! What a client is answered, question by question.

use std::ops::Range;

use futures::{FutureExt as _, future::BoxFuture};
use tokio::time::timeout;
use tracing::debug;

use super::{End, File, Session, Turn};
use crate::ed2k::{
    clients::Run,
    seeder::{
        SOURCES_VERSION,
        queue::{Asked, Standing},
        upload::{BRINGING, MAX_RANGE},
    },
    wire::{
        Hash,
        transfer::{Extended, Message},
    },
};

impl Session {
    pub(super) async fn on_name(
        &mut self,
        file: Hash,
        extended: Option<Extended>,
    ) -> Result<(), End> {
        if !self.open(&file).await? {
            return Ok(());
        }
        let Some(File { served, native, .. }) = self.files.last() else { return Ok(()) };
        if let Some(extended) = extended.filter(|extended| extended.parts.count() > 0)
            && let Some(bits) = extended.parts.to_bits(native.size)
        {
            served.attendance.holds(bits);
        }
        let name = native.title.clone();
        self.say(&Message::FileNameAnswer { file, name }).await
    }

    pub(super) async fn on_start(&mut self, file: Hash) -> Result<(), End> {
        if !self.open(&file).await? {
            return Ok(());
        }
        let at = self.link.endpoint();
        match self.seeder.queue.ask(self.link.client(), at, file) {
            Asked::Place(mut seat, rank) => {
                let standing = *seat.standing.borrow_and_update();
                self.seat = Some(seat);
                match standing {
                    Standing::Served if self.turn == Turn::Open => {
                        // It has a slot, and wants another file by it.
                        self.say(&Message::AcceptUpload).await
                    }
                    Standing::Served => self.stands(standing).await,
                    _ => self.tell_rank(rank).await,
                }
            }
            Asked::Full => self.tell_rank(0).await,
        }
    }

    /// eMule's own form of a rank for its clients. 0 is no place: the queue is full.
    async fn tell_rank(&mut self, rank: usize) -> Result<(), End> {
        debug!(remote = %self.link.remote(), rank, "a client waits in the queue");
        let rank = if self.link.options().emule {
            Message::QueueRanking(u16::try_from(rank).unwrap_or(u16::MAX))
        } else {
            Message::QueueRank(u32::try_from(rank).unwrap_or(u32::MAX))
        };
        self.say(&rank).await
    }

    pub(super) async fn on_ranges(
        &mut self,
        file: Hash,
        ranges: Vec<Range<u64>>,
    ) -> Result<(), End> {
        if self.turn != Turn::Open {
            // Asked before it heard that its turn is over, or never begun.
            return Ok(());
        }
        if !self.open(&file).await? {
            return Ok(());
        }
        let Some(File { served, native, .. }) = self.files.last() else { return Ok(()) };
        for range in ranges.into_iter().filter(|range| *range != (0..0)) {
            let length = range.end.checked_sub(range.start);
            let sound = length.is_some_and(|length| (1..=MAX_RANGE).contains(&length));
            if !sound || range.end > native.size {
                return Err(End::Range { range, length: native.size });
            }
            self.upload.ask(served, range);
        }
        self.seeder.trees.takes(self.link.client().key(), file);
        if let Some(seat) = &self.seat {
            seat.used();
        }
        Ok(())
    }

    pub(super) async fn on_sources(&mut self, file: Hash, version: Option<u8>) -> Result<(), End> {
        let options = self.link.options();
        let records = match version {
            Some(version) => version.min(SOURCES_VERSION),
            None => options.source_exchange.min(SOURCES_VERSION),
        };
        if records == 0 || !self.open(&file).await? {
            return Ok(());
        }
        let sources = self.seeder.sources_of(&file, self.link.endpoint(), records);
        if sources.is_empty() {
            return Ok(());
        }
        let version = version.map(|_| records);
        let mut bytes = Vec::new();
        Message::Sources { file, version, sources }.put(&mut bytes);
        Ok(self.link.send_data(vec![Run::plain(bytes)]).await?)
    }

    pub(super) async fn on_aich(
        &mut self,
        file: Hash,
        part: u16,
        root: [u8; 20],
    ) -> Result<(), End> {
        if !self.open(&file).await? {
            return Ok(());
        }
        let trees = &self.seeder.trees;
        let known = self.files.last().filter(|known| {
            known.native.aich == Some(root) && trees.has_taken(self.link.client().key(), file)
        });
        if let (Some(File { served, native, .. }), true) = (known, self.answers.is_empty()) {
            let recovery =
                trees.clone().recovery(served.reader.clone(), native.clone(), part, root);
            let answer = recovery.map(move |recovery| Message::AichAnswer { file, recovery });
            self.answers.push(answer.boxed());
            return Ok(());
        }
        self.say(&Message::AichAnswer { file, recovery: None }).await
    }

    /// Tells the hashes of parts for which the client waits, as far as they are known.
    pub(super) async fn tell_hashes(&mut self) -> Result<(), End> {
        let mut sets = Vec::new();
        for file in self.files.iter_mut().filter(|file| file.wants_hashes) {
            if let Some(hashes) = file.native.hashes_for_wire() {
                file.wants_hashes = false;
                sets.push(Message::HashSet { file: file.served.file, hashes });
            }
        }
        for set in &sets {
            self.say(set).await?;
        }
        Ok(())
    }

    /// Has the hashes learned for which the client waits, of one file at a time: without them it asks for no bytes, and
    /// until bytes are asked for nobody else would want them.
    pub(super) fn learn_hashes(&mut self) {
        let waits = |file: &&File| file.wants_hashes;
        let mut waiting = self.files.iter().filter(waits);
        if let Some((learned, _)) = &self.learning
            && waiting.any(|file| file.served.file == *learned)
        {
            return;
        }
        self.learning = self.files.iter().rfind(waits).map(|file| {
            let reader = file.served.reader.clone();
            let bring = async move {
                // What comes of it is seen in the hashes.
                let _ = timeout(BRINGING, reader.prepare(0)).await;
            };
            (file.served.file, bring.boxed())
        });
    }
}

/// Waits until a part has been brought, or is not.
pub(super) async fn brought(learning: &mut Option<(Hash, BoxFuture<'static, ()>)>) {
    match learning {
        Some((_, bring)) => bring.await,
        None => std::future::pending().await,
    }
    *learning = None;
}
