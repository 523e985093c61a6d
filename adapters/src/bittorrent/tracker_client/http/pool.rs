//! Connections to one HTTP tracker.

use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpSocket,
    runtime::{self, Handle},
    time::{Instant, timeout},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};
use url::Url;

use super::{
    Target,
    exchange::{ExchangeError, Reply, exchange},
};
use crate::bittorrent::config::TrackerUrl;

/// How long setting up a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may be idle: trackers close theirs about then.
const IDLE: Duration = Duration::from_secs(30);
/// The most connections that are kept although they are idle, if so many questions may be in flight at all.
const MAX_IDLE: usize = 64;
/// The most room that a connection keeps for its next answer.
const MAX_KEPT_ROOM: usize = 64 << 10;

trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

/// Idle connections to one tracker.
pub(in super::super) struct Pool {
    idle: Mutex<Vec<Connection>>,
    most: usize,
    /// The tracker's own URL.
    pub(super) target: Target,
    /// Where it takes scrapes, if it does.
    pub(super) scrape: Option<Target>,
}

/// A connection to one address from one other.
pub(super) struct Connection {
    way: Way,
    /// The runtime that wakes who waits for it: another one would be slower, and ends it with itself.
    runtime: runtime::Id,
    stream: Box<dyn Stream>,
    /// Room for answers; empty between them.
    buffer: Vec<u8>,
    idle_since: Instant,
    /// Whether it has answered before.
    used: bool,
}

/// From where to where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Way {
    /// The address to ask from; an unspecified one leaves the choice to the system.
    pub(in super::super) source: IpAddr,
    pub(in super::super) address: SocketAddr,
}

impl Pool {
    pub(in super::super) fn new(url: &TrackerUrl, in_flight: u32) -> Self {
        let most = usize::try_from(in_flight).unwrap_or(MAX_IDLE).min(MAX_IDLE);
        let (target, scrape) = (Target::new(url.url()), Target::for_scrapes(url.url()));
        Self { idle: Mutex::default(), most, target, scrape }
    }

    /// A connection that was used before, if there is one; the last used first.
    pub(super) fn take(&self, way: Way) -> Option<Connection> {
        let (here, now) = (Handle::current().id(), Instant::now());
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| now.saturating_duration_since(connection.idle_since) < IDLE);
        loop {
            let fits = |other: &Connection| other.way == way && other.runtime == here;
            let at = idle.iter().rposition(fits)?;
            let mut connection = idle.remove(at);
            if connection.is_quiet() {
                return Some(connection);
            }
        }
    }

    pub(super) fn put(&self, mut connection: Connection) {
        connection.buffer.clear();
        connection.buffer.shrink_to(MAX_KEPT_ROOM);
        connection.idle_since = Instant::now();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() >= self.most {
            idle.remove(0);
        }
        idle.push(connection);
    }
}

impl Connection {
    /// Connects; over TLS for an https URL.
    pub(super) async fn open(way: Way, url: &Url) -> io::Result<Self> {
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "no connection within 5 s");
        let stream = timeout(CONNECT_TIMEOUT, connect(way, url)).await.map_err(late)??;
        let (runtime, idle_since) = (Handle::current().id(), Instant::now());
        Ok(Self { way, runtime, stream, buffer: Vec::new(), idle_since, used: false })
    }

    pub(super) async fn ask(&mut self, request: &[u8]) -> Result<Reply, ExchangeError> {
        let reply = exchange(&mut self.stream, &mut self.buffer, request).await;
        self.used = true;
        reply
    }

    /// Whether it has answered before: the tracker may have closed it since.
    pub(super) fn used(&self) -> bool {
        self.used
    }

    /// Whether nothing has come on it, not even its end.
    fn is_quiet(&mut self) -> bool {
        let mut byte = [0; 1];
        let mut context = Context::from_waker(Waker::noop());
        let mut read = ReadBuf::new(&mut byte);
        matches!(Pin::new(&mut self.stream).poll_read(&mut context, &mut read), Poll::Pending)
    }
}

async fn connect(way: Way, url: &Url) -> io::Result<Box<dyn Stream>> {
    let socket = if way.address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
    socket.bind(SocketAddr::new(way.source, 0))?;
    let stream = socket.connect(way.address).await?;
    stream.set_nodelay(true)?;
    if url.scheme() != "https" {
        return Ok(Box::new(stream));
    }
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let config = TLS.clone().map_err(io::Error::other)?;
    let secured: Pin<Box<dyn Future<Output = _> + Send>> =
        Box::pin(TlsConnector::from(config).connect(name, stream));
    Ok(Box::new(secured.await?))
}

/// Trusts what browsers trust; or why there is none.
static TLS: LazyLock<Result<Arc<ClientConfig>, String>> = LazyLock::new(|| {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
});
