//! `StatusService`: how the overlays are doing.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt, stream};
use p2pbridge_proto::v1::{
    GetOverlayRequest, GetOverlayResponse, ListOverlaysRequest, ListOverlaysResponse, WatchRequest,
    WatchResponse, status_service_server::StatusService,
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{Snapshot, StatusSource, fault};

const USUAL: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3600);

/// The service over a source.
pub struct StatusCalls {
    source: Arc<dyn StatusSource>,
    stop: CancellationToken,
}

impl StatusCalls {
    /// The service; its streams end when `stop` is cancelled.
    #[must_use]
    pub fn new(source: Arc<dyn StatusSource>, stop: CancellationToken) -> Self {
        Self { source, stop }
    }
}

#[tonic::async_trait]
impl StatusService for StatusCalls {
    async fn list_overlays(
        &self,
        _: Request<ListOverlaysRequest>,
    ) -> Result<Response<ListOverlaysResponse>, Status> {
        let Snapshot { overlays, crossings, alarms } = self.source.snapshot();
        Ok(Response::new(ListOverlaysResponse { overlays, crossings, alarms }))
    }

    async fn get_overlay(
        &self,
        request: Request<GetOverlayRequest>,
    ) -> Result<Response<GetOverlayResponse>, Status> {
        let id = request.into_inner().id;
        let Snapshot { overlays, crossings, .. } = self.source.snapshot();
        let Some(overlay) = overlays.into_iter().find(|overlay| overlay.id == id) else {
            let shown: String = id.chars().take(64).collect();
            return Err(fault::not_found(
                "overlay",
                &shown,
                format!("there is no overlay `{shown}`"),
            ));
        };
        let crossings = crossings
            .into_iter()
            .filter(|crossing| crossing.from_overlay == id || crossing.to_overlay == id)
            .collect();
        Ok(Response::new(GetOverlayResponse { overlay: Some(overlay), crossings }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let every = match request.into_inner().interval {
            None => USUAL,
            Some(every) => Duration::try_from(every)
                .ok()
                .filter(|every| (SHORTEST..=LONGEST).contains(every))
                .ok_or_else(|| {
                    fault::bad_field("BAD_INTERVAL", "interval", "it takes 100 ms to 1 h")
                })?,
        };
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let source = self.source.clone();
        let states = stream::unfold((ticks, source), |(mut ticks, source)| async move {
            ticks.tick().await;
            let Snapshot { overlays, crossings, alarms } = source.snapshot();
            Some((Ok(WatchResponse { overlays, crossings, alarms }), (ticks, source)))
        });
        let states = states.take_until(self.stop.clone().cancelled_owned());
        Ok(Response::new(Box::pin(states)))
    }
}
