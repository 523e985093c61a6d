//! `UsageService`: the ledger's records.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, stream};
use jiff::Timestamp;
use p2pbridge_proto::v1::{
    ExportRequest, ExportResponse, UsageFilter, UsageServiceListRequest, UsageServiceListResponse,
    usage_service_server::UsageService,
};
use prost::Message;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{blocking, fault, token};
use crate::status::{
    ledger::{Cursor, Filter, Ledger, Page},
    recorder::Recorder,
};

const USUAL_PAGE: usize = 100;
const MOST_PAGE: usize = 1_000;
/// Records in one message of an export.
const PORTION: usize = 500;
/// How long a call waits until what was counted is in the ledger; then it gives what is there.
const FLUSH: Duration = Duration::from_secs(2);

/// The service over a ledger.
pub struct Usage {
    ledger: Arc<dyn Ledger>,
    recorder: Option<Recorder>,
    stop: CancellationToken,
}

impl Usage {
    /// The service. Before it reads from the start, it lets the recorder write what was counted.
    #[must_use]
    pub fn new(
        ledger: Arc<dyn Ledger>,
        recorder: Option<Recorder>,
        stop: CancellationToken,
    ) -> Self {
        Self { ledger, recorder, stop }
    }

    async fn flush(&self) {
        let Some(recorder) = &self.recorder else { return };
        match timeout(FLUSH, recorder.flush_now()).await {
            Ok(Ok(())) => {}
            // The recorder raises the alarm itself.
            Ok(Err(problem)) => tracing::debug!(%problem, "usage is read without the latest"),
            Err(_) => tracing::debug!("usage is read without the latest: the ledger is slow"),
        }
    }
}

#[tonic::async_trait]
impl UsageService for Usage {
    async fn list(
        &self,
        request: Request<UsageServiceListRequest>,
    ) -> Result<Response<UsageServiceListResponse>, Status> {
        let request = request.into_inner();
        let context = request.filter.clone().unwrap_or_default().encode_to_vec();
        let filter = checked(request.filter)?;
        let after = match token::decode(&context, &request.page_token)? {
            Some(key) => Some(cursor(&key)?),
            None => None,
        };
        let limit = match usize::try_from(request.page_size).unwrap_or(MOST_PAGE) {
            0 => USUAL_PAGE,
            size => size.min(MOST_PAGE),
        };
        if after.is_none() {
            self.flush().await;
        }
        let page = scan(self.ledger.clone(), filter, after, limit).await?;
        let next_page_token = page.next.map_or_else(String::new, |next| {
            let key = [next.boot_epoch.to_be_bytes(), next.seq.to_be_bytes()].concat();
            token::encode(&context, &key)
        });
        Ok(Response::new(UsageServiceListResponse { records: page.records, next_page_token }))
    }

    type ExportStream = Pin<Box<dyn Stream<Item = Result<ExportResponse, Status>> + Send>>;

    async fn export(
        &self,
        request: Request<ExportRequest>,
    ) -> Result<Response<Self::ExportStream>, Status> {
        let filter = checked(request.into_inner().filter)?;
        self.flush().await;
        let (ledger, stop) = (self.ledger.clone(), self.stop.clone());
        // The next portion is read when the last one was taken. A stream that the bridge's end cuts off ends with an error:
        // who gets a part must not take it for the whole.
        let portions = stream::unfold(Some(None), move |state: Option<Option<Cursor>>| {
            let (ledger, filter, stop) = (ledger.clone(), filter.clone(), stop.clone());
            async move {
                let after = state?;
                let page = tokio::select! {
                    biased;
                    () = stop.cancelled() => Err(fault::unavailable("STOPPING", "the bridge stops")),
                    page = scan(ledger, filter, after, PORTION) => page,
                };
                Some(match page {
                    Ok(page) => (Ok(ExportResponse { records: page.records }), page.next.map(Some)),
                    Err(status) => (Err(status), None),
                })
            }
        });
        Ok(Response::new(Box::pin(portions)))
    }
}

async fn scan(
    ledger: Arc<dyn Ledger>,
    filter: Filter,
    after: Option<Cursor>,
    limit: usize,
) -> Result<Page, Status> {
    blocking(move || ledger.scan(&filter, after, limit))
        .await?
        .map_err(|error| fault::ledger(&error))
}

fn cursor(key: &[u8]) -> Result<Cursor, Status> {
    let bad = || fault::bad_field("BAD_PAGE_TOKEN", "page_token", "it is of no ledger");
    let (epoch, seq) = key.split_at_checked(8).ok_or_else(bad)?;
    Ok(Cursor {
        boot_epoch: u64::from_be_bytes(epoch.try_into().map_err(|_| bad())?),
        seq: u64::from_be_bytes(seq.try_into().map_err(|_| bad())?),
    })
}

fn checked(filter: Option<UsageFilter>) -> Result<Filter, Status> {
    let filter = filter.unwrap_or_default();
    let moment = |field: &str, at: Option<prost_types::Timestamp>| {
        at.map(|at| {
            Timestamp::new(at.seconds, at.nanos)
                .map_err(|error| fault::bad_field("BAD_TIME", field, error.to_string()))
        })
        .transpose()
    };
    let (from, to) = (moment("filter.from", filter.from)?, moment("filter.to", filter.to)?);
    if let (Some(from), Some(to)) = (from, to)
        && from > to
    {
        return Err(fault::bad_field("BAD_TIME", "filter.to", "it lies before `from`"));
    }
    Ok(Filter {
        from,
        to,
        source_overlay: filter.source_overlay,
        destination_overlay: filter.destination_overlay,
    })
}
