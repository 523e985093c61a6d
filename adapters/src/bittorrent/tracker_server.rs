//! The bridge as a tracker over HTTP: `/announce` and `/scrape`.
//!
//! What is asked goes to the handler. A refusal is a bencoded `failure reason` with status 200 (BEP 3), and with
//! `retry in` where the asker may come again (BEP 31). The asker's address is the one that is seen.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use p2pbridge_proto::{ErrorCode, Fault, OverlayId, Reply};
use tokio::{
    net::TcpStream,
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use super::{
    listen,
    translate::{
        failure_of_fault, failure_of_query, native_peers, native_swarms, unified_announce,
        unified_scrape,
    },
    wire::http::{
        AnnounceRequest, Failure, MAX_QUERY, QueryError, ScrapeRequest, write_failure, write_scrape,
    },
};
use crate::{Asked, BuildError, Handler, ServerCounts, TrackerServer};

/// How many connections are served at once; more wait to be accepted.
pub const MAX_CONNECTIONS: usize = 1024;
/// How long a client may take to send a request, and may leave a connection idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take to be found.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Where and how a tracker listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Addresses of the tracker over HTTP; port 0 takes any free port.
    pub http: Vec<SocketAddr>,
    /// Addresses of the tracker over UDP, which may be the same; port 0 takes any free port.
    pub udp: Vec<SocketAddr>,
    /// Whether the tracker is behind a proxy: an asker's address is then the last one in `X-Forwarded-For`.
    pub trust_forwarded_for: bool,
    /// Threads that answer, for each of HTTP and UDP; at least one.
    pub workers: usize,
}

impl Default for ServerConfig {
    /// Listens nowhere, with a thread for each processor, at most 4.
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            http: Vec::new(),
            udp: Vec::new(),
            trust_forwarded_for: false,
            workers: processors.min(4),
        }
    }
}

/// A tracker of one overlay, over HTTP and UDP.
pub struct BtTrackerServer {
    overlay: OverlayId,
    listeners: Mutex<Vec<TcpListener>>,
    endpoints: Vec<SocketAddr>,
    room: Arc<Semaphore>,
}

impl BtTrackerServer {
    /// Listens at these addresses.
    ///
    /// # Errors
    /// When an address cannot be listened at; the error says which.
    pub fn bind(overlay: &OverlayId, config: &ServerConfig) -> Result<Arc<Self>, BuildError> {
        let (mut listeners, mut endpoints) = (Vec::new(), Vec::new());
        for address in &config.http {
            let fail = |source| BuildError {
                overlay: overlay.clone(),
                what: format!("listen on {address} as a tracker"),
                source,
            };
            let listener = listen::tcp(*address).map_err(fail)?;
            endpoints.push(listener.local_addr().map_err(fail)?);
            listeners.push(listener);
        }
        Ok(Arc::new(Self {
            overlay: overlay.clone(),
            listeners: Mutex::new(listeners),
            endpoints,
            room: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        }))
    }

    /// Accepts connections of one listener until told to stop.
    async fn accept(
        self: Arc<Self>,
        listener: tokio::net::TcpListener,
        handler: Arc<dyn Handler>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) {
        loop {
            let Some(Ok(permit)) =
                stop.run_until_cancelled(self.room.clone().acquire_owned()).await
            else {
                return;
            };
            let Some(accepted) = stop.run_until_cancelled(listener.accept()).await else { return };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(overlay = %self.overlay, %error, "cannot accept a connection");
                    // Out of file descriptors, most likely: nothing tells when there is one again.
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (server, handler, stop) = (self.clone(), handler.clone(), stop.clone());
            tasks.spawn(async move {
                server.connection(stream, peer.ip(), handler, stop).await;
                drop(permit);
            });
        }
    }

    async fn connection(
        &self,
        stream: TcpStream,
        peer: IpAddr,
        handler: Arc<dyn Handler>,
        stop: CancellationToken,
    ) {
        let service = service_fn(|request: hyper::Request<Incoming>| {
            let handler = &handler;
            async move { Ok::<_, Infallible>(self.request(&request, peer, &**handler).await) }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        builder.max_buf_size(2 * MAX_QUERY).max_headers(64).half_close(true);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                timeout(Duration::from_secs(2), connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = result {
            debug!(overlay = %self.overlay, %peer, %error, "a connection to the tracker failed");
        }
    }

    async fn request(
        &self,
        request: &hyper::Request<Incoming>,
        peer: IpAddr,
        handler: &dyn Handler,
    ) -> Response<Full<Bytes>> {
        let uri = request.uri();
        if request.method() != Method::GET {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "a tracker is asked by GET\n");
        }
        let query = uri.query().unwrap_or_default();
        let body = match uri.path() {
            "/announce" => self.announce(query, peer, handler).await,
            "/scrape" => self.scrape(query, handler).await,
            _ => return plain(StatusCode::NOT_FOUND, "a tracker: /announce and /scrape\n"),
        };
        match body.or_else(Refusal::body) {
            Ok(body) => {
                let mut response = Response::new(Full::from(body));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
                response
            }
            Err(error) => plain(StatusCode::URI_TOO_LONG, &format!("{error}\n")),
        }
    }

    fn asked(&self) -> Asked<'_> {
        Asked { overlay: &self.overlay, hop_limit: 1 }
    }

    async fn announce(
        &self,
        query: &str,
        peer: IpAddr,
        handler: &dyn Handler,
    ) -> Result<Vec<u8>, Refusal> {
        let native = AnnounceRequest::parse(query)?;
        let (compact, no_peer_id) = (native.compact, native.no_peer_id);
        let asked = handler.handle(self.asked(), unified_announce(native, peer));
        match timeout(ANSWER_TIMEOUT, asked.wait()).await.map_err(|_| late())?? {
            Reply::Peers(list) => Ok(native_peers(list, peer).encode(compact, no_peer_id)),
            Reply::Swarms(_) => Err(unfit()),
        }
    }

    async fn scrape(&self, query: &str, handler: &dyn Handler) -> Result<Vec<u8>, Refusal> {
        let native = ScrapeRequest::parse(query)?;
        let asked = handler.handle(self.asked(), unified_scrape(native));
        match timeout(ANSWER_TIMEOUT, asked.wait()).await.map_err(|_| late())?? {
            Reply::Swarms(swarms) => Ok(write_scrape(&native_swarms(&swarms))),
            Reply::Peers(_) => Err(unfit()),
        }
    }
}

#[async_trait]
impl TrackerServer for BtTrackerServer {
    fn endpoints(&self) -> Vec<SocketAddr> {
        self.endpoints.clone()
    }

    async fn serve(self: Arc<Self>, handler: Arc<dyn Handler>, stop: CancellationToken) {
        let listeners =
            std::mem::take(&mut *self.listeners.lock().unwrap_or_else(PoisonError::into_inner));
        let tasks = TaskTracker::new();
        for listener in listeners {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => {
                    let (handler, stop) = (handler.clone(), stop.clone());
                    tasks.spawn(self.clone().accept(listener, handler, tasks.clone(), stop));
                }
                Err(error) => warn!(overlay = %self.overlay, %error, "cannot serve as a tracker"),
            }
        }
        stop.cancelled().await;
        tasks.close();
        tasks.wait().await;
    }

    fn counts(&self) -> ServerCounts {
        ServerCounts::default()
    }
}

/// Why a request is not answered with what it asks for.
enum Refusal {
    Query(QueryError),
    Fault(Fault),
}

impl Refusal {
    /// The refusal as an answer, if the asker can be told.
    fn body(self) -> Result<Vec<u8>, QueryError> {
        let failure: Failure = match self {
            Self::Query(error) if !error.is_answerable() => return Err(error),
            Self::Query(error) => failure_of_query(&error),
            Self::Fault(fault) => failure_of_fault(&fault),
        };
        Ok(write_failure(&failure))
    }
}

impl From<QueryError> for Refusal {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

fn late() -> Refusal {
    Fault::new(ErrorCode::Overloaded, "the answer took too long; try again").into()
}

fn unfit() -> Refusal {
    Fault::new(ErrorCode::Internal, "the bridge found no fitting answer").into()
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text.to_owned()));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
#[path = "tracker_server_tests.rs"]
mod tests;
