//! Finer hashes than those of a chunk: a source is asked for them when several senders share a chunk that does not match.

use std::{ops::Range, sync::Arc};

use futures::{StreamExt as _, stream::FuturesUnordered};
use p2pbridge_adapters::SourceSession;
use tokio::time::{Duration, timeout};

use super::{
    blame::{Suspect, senders},
    driver::{Done, Driver},
    sources::SourceId,
    verify::bytes_of,
};

/// Chunks of one pool about which sources are asked at the same time.
const MOST_LOCATED: usize = 2;
/// Sources that are asked about one.
const MOST_TELLERS: usize = 3;
/// How long they have to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What finer hashes say of a chunk that does not match.
pub(super) struct Located {
    pub(super) name: usize,
    pub(super) chunk: u32,
    pub(super) suspects: Vec<Suspect>,
    /// Runs of the name's layout that are wrong; none when nobody has finer hashes.
    pub(super) runs: Option<Vec<Range<u64>>>,
    pub(super) reading: u64,
}

impl Driver {
    /// Asks sources which runs of a chunk are wrong; `false` when nobody can be asked now. The chunk counts as being
    /// checked meanwhile, and those who have sent it are asked for nothing more.
    pub(super) fn locate(&mut self, name: usize, chunk: u32, suspects: &[Suspect]) -> bool {
        let shared = self.shared.clone();
        let of_name = self.sources.connected().values().filter(|source| source.origin.name == name);
        let tellers: Vec<Arc<dyn SourceSession>> =
            of_name.map(|source| source.session.clone()).take(MOST_TELLERS).collect();
        if tellers.is_empty() || self.suspected.len() >= MOST_LOCATED {
            return false;
        }
        let Some(pieces) = self.pieces(name, chunk, false) else { return false };
        let reading = self.to_read(&pieces);
        if !self.may_read(reading, (name, chunk)) {
            return false;
        }
        self.names[name].checking.insert(chunk);
        self.suspected.insert((name, chunk), senders(suspects));
        let suspects = suspects.to_vec();
        self.jobs.spawn(async move {
            let common = shared.common.clone();
            let work = common.work.check(move || bytes_of(&shared, &pieces));
            let mut runs = None;
            if let Ok(Ok(bytes)) = work.await {
                let tell = |teller: Arc<dyn SourceSession>| {
                    let bytes = bytes.clone();
                    async move { teller.locate(chunk, bytes).await }
                };
                let mut told: FuturesUnordered<_> = tellers.into_iter().map(tell).collect();
                let first = async {
                    while let Some(told) = told.next().await {
                        if told.is_some() {
                            return told;
                        }
                    }
                    None
                };
                runs = timeout(PATIENCE, first).await.unwrap_or_default();
            }
            Done::Located(Located { name, chunk, suspects, runs, reading })
        });
        true
    }

    /// Whether a source may have sent bytes that are wrong, which others are being asked about.
    pub(super) fn is_suspected(&self, source: SourceId) -> bool {
        self.suspected.values().any(|suspected| suspected.contains(&source))
    }
}
