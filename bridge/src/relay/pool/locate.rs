//! Finer hashes than those of a chunk: a source is asked for them when several senders share a chunk that does not match.

use std::{ops::Range, sync::Arc};

use p2pbridge_adapters::SourceSession;
use tokio::time::{Duration, timeout};

use super::{
    blame::Suspect,
    driver::{Done, Driver},
    verify::bytes_of,
};

/// Sources that are asked, one after the other.
const MOST_TELLERS: usize = 3;
/// How long one of them has to answer.
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
    /// Asks sources which runs of a chunk are wrong. The chunk counts as being checked meanwhile.
    pub(super) fn locate(
        &mut self,
        name: usize,
        chunk: u32,
        suspects: Vec<Suspect>,
        tellers: Vec<Arc<dyn SourceSession>>,
    ) {
        let shared = self.shared.clone();
        let Some(pieces) = self.pieces(name, chunk, false) else { return };
        let reading = self.to_read(&pieces);
        self.reading += reading;
        self.names[name].checking.insert(chunk);
        self.jobs.spawn(async move {
            let work = tokio::task::spawn_blocking(move || bytes_of(&shared, &pieces));
            let mut runs = None;
            if let Ok(Ok(bytes)) = work.await {
                for teller in tellers.into_iter().take(MOST_TELLERS) {
                    let told = timeout(PATIENCE, teller.locate(chunk, bytes.clone()));
                    runs = told.await.unwrap_or_default();
                    if runs.is_some() {
                        break;
                    }
                }
            }
            Done::Located(Located { name, chunk, suspects, runs, reading })
        });
    }
}
