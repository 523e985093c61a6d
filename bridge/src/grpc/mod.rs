//! The gRPC server: names, searches, status and usage, with health and reflection.

pub mod fault;
mod incoming;
pub mod names;
pub mod search;
pub mod status;
mod token;
pub mod usage;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use p2pbridge_nametable::Binding;
use p2pbridge_proto::{
    FILE_DESCRIPTOR_SET,
    v1::{
        self, name_service_server::NameServiceServer, search_service_server::SearchServiceServer,
        status_service_server::StatusServiceServer, usage_service_server::UsageServiceServer,
    },
};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic_health::ServingStatus;

use crate::{
    handler::MessageHandler,
    names::NameDesk,
    status::{choice::Score, ledger::Ledger, recorder::Recorder},
};

/// The most bytes of a request: one description of 32 MiB, and what is around it.
const MOST_REQUEST: usize = 34 << 20;
/// The most bytes of an answer; a client that wants large answers must allow them too.
pub const MOST_ANSWER: usize = 64 << 20;
/// The most bytes of a request that carries no description.
const MOST_SMALL_REQUEST: usize = 4 << 20;

const MOST_CONNECTIONS: usize = 256;
const MOST_CALLS_PER_CONNECTION: u32 = 64;
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
const KEEPALIVE: Duration = Duration::from_secs(30);
const CONNECTION_AGE: Duration = Duration::from_secs(3600);
const CONNECTION_GRACE: Duration = Duration::from_secs(60);

/// The services' full names, as health knows them.
pub const SERVICES: [&str; 4] = [
    "p2pbridge.v1.NameService",
    "p2pbridge.v1.SearchService",
    "p2pbridge.v1.StatusService",
    "p2pbridge.v1.UsageService",
];

/// Tells how the bridge is doing.
pub trait StatusSource: Send + Sync {
    /// How it is doing now. Quick: it is called on an async thread.
    fn snapshot(&self) -> Snapshot;
}

/// How the bridge is doing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// By id.
    pub overlays: Vec<v1::OverlayStatus>,
    /// By the overlays' ids.
    pub crossings: Vec<v1::Crossing>,
    /// What needs an operator's eye.
    pub alarms: Vec<String>,
}

/// Tells which overlay can bring a content, and why.
pub trait Explain: Send + Sync {
    /// How well each way serves by which a content could come to the overlays of a name, by any of its other names too.
    /// May block.
    fn explain(&self, binding: &Binding, others: &[Arc<Binding>]) -> Explained;
}

/// Which overlay can bring a content.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Explained {
    /// The ways, by the overlay that takes, the best first for each.
    pub choices: Vec<Score>,
    /// Bytes of the content that the bridge holds itself.
    pub held_bytes: u64,
}

/// What the services stand on.
#[derive(Clone)]
pub struct Services {
    /// Names.
    pub names: Arc<NameDesk>,
    /// Finds contents.
    pub search: Arc<MessageHandler>,
    /// Status.
    pub status: Arc<dyn StatusSource>,
    /// Explains choices.
    pub explain: Arc<dyn Explain>,
    /// Usage records.
    pub ledger: Arc<dyn Ledger>,
    /// Brings what was counted into the ledger before this is read; `None` reads it as it is.
    pub recorder: Option<Recorder>,
}

/// Why the server does not serve.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The reflection service cannot be built of its descriptors.
    #[error("gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The server broke down.
    #[error("gRPC: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves on a listener until told to stop; then takes no more calls, ends the streams, lets the calls under way finish,
/// and after `drain` cuts every connection that is still there.
///
/// # Errors
/// When the server cannot be built, or breaks down.
pub async fn serve(
    listener: TcpListener,
    services: Services,
    stop: CancellationToken,
    drain: Duration,
) -> Result<(), ServeError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    for service in SERVICES.iter().copied().chain([""]) {
        health.set_service_status(service, ServingStatus::Serving).await;
    }
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let names = NameServiceServer::new(names::Names::new(
        services.names,
        services.explain,
        stop.child_token(),
    ))
    .max_decoding_message_size(MOST_REQUEST)
    .max_encoding_message_size(MOST_ANSWER);
    let search = SearchServiceServer::new(search::Searches::new(services.search))
        .max_decoding_message_size(MOST_SMALL_REQUEST)
        .max_encoding_message_size(MOST_ANSWER);
    let status =
        StatusServiceServer::new(status::StatusCalls::new(services.status, stop.child_token()))
            .max_decoding_message_size(MOST_SMALL_REQUEST)
            .max_encoding_message_size(MOST_ANSWER);
    let usage = UsageServiceServer::new(usage::Usage::new(
        services.ledger,
        services.recorder,
        stop.child_token(),
    ))
    .max_decoding_message_size(MOST_SMALL_REQUEST)
    .max_encoding_message_size(MOST_ANSWER);
    let cut = CancellationToken::new();
    let _cut_at_the_end = cut.clone().drop_guard();
    let server = Server::builder()
        .timeout(CALL_TIMEOUT)
        .concurrency_limit_per_connection(MOST_CALLS_PER_CONNECTION as usize)
        .max_concurrent_streams(MOST_CALLS_PER_CONNECTION)
        .max_connection_age(CONNECTION_AGE)
        .max_connection_age_grace(CONNECTION_GRACE)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .add_service(names)
        .add_service(search)
        .add_service(status)
        .add_service(usage)
        .serve_with_incoming_shutdown(
            incoming::connections(listener, MOST_CONNECTIONS, cut),
            stop.clone().cancelled_owned(),
        );
    let deadline = async {
        stop.cancelled().await;
        for service in SERVICES.iter().copied().chain([""]) {
            health.set_service_status(service, ServingStatus::NotServing).await;
        }
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        served = server => Ok(served?),
        () = deadline => {
            tracing::warn!("gRPC connections were cut: they did not end in {drain:?}");
            Ok(())
        }
    }
}

/// Who calls, for the record of who stated what.
fn caller(remote: Option<SocketAddr>) -> String {
    remote.map_or_else(|| "operator".to_owned(), |remote| format!("operator at {}", remote.ip()))
}

/// Runs blocking work off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, tonic::Status> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a call broke down");
        fault::internal("the call broke down")
    })
}

#[cfg(test)]
mod tests;
