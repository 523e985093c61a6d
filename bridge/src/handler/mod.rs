//! The message handler: unified questions go to the overlay's trackers, unified answers come back.

pub mod swarms;

use std::{collections::HashMap, sync::Arc, time::Duration};

use p2pbridge_adapters::TrackerClient;
use p2pbridge_proto::{ErrorCode, Fault, OverlayId, Reply, Request};
use tokio::time::Instant;

pub use swarms::SwarmTable;

/// The one way from the bridge to the trackers of all overlays.
pub struct MessageHandler {
    trackers: HashMap<OverlayId, Arc<dyn TrackerClient>>,
}

impl MessageHandler {
    /// A handler in front of these tracker clients.
    #[must_use]
    pub fn new(trackers: HashMap<OverlayId, Arc<dyn TrackerClient>>) -> Self {
        Self { trackers }
    }

    /// Asks an overlay's trackers, and gives up after so long.
    ///
    /// # Errors
    /// The trackers' own fault, or that the overlay has no tracker to ask.
    pub async fn ask(
        &self,
        overlay: &OverlayId,
        request: Request,
        patience: Duration,
    ) -> Result<Reply, Fault> {
        if request.names().is_empty() {
            return Err(Fault::new(ErrorCode::BadRequest, "the request names nothing"));
        }
        let tracker = self.trackers.get(overlay).ok_or_else(|| {
            Fault::new(ErrorCode::Unsupported, format!("overlay {overlay} has no tracker to ask"))
        })?;
        let start = Instant::now();
        // The client keeps the deadline itself; this one holds even if it does not.
        let slack = Duration::from_secs(1);
        let answer =
            tokio::time::timeout(patience + slack, tracker.call(request, start + patience));
        let answer = answer.await.unwrap_or_else(|_| {
            Err(Fault::new(ErrorCode::Unavailable, format!("no answer within {patience:?}")))
        });
        match &answer {
            Ok(_) => tracing::debug!(%overlay, took = ?start.elapsed(), "the tracker has answered"),
            Err(fault) => tracing::debug!(%overlay, %fault, "the tracker has not answered"),
        }
        answer
    }
}
