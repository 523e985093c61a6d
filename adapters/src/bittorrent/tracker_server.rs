//! The bridge as a tracker, over HTTP and UDP.
//!
//! What is asked goes to the handler. A refusal is told in the protocol's own form: over HTTP a bencoded `failure
//! reason` with status 200 (BEP 3), with `retry in` where the asker may come again (BEP 31); over UDP an error packet
//! (BEP 15). The asker's address is the one that is seen. A peer that leaves is told of no others.

mod connection_id;
mod desk;
mod http;
mod udp;

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use p2pbridge_proto::OverlayId;
use tokio::{runtime, sync::Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, warn};

use self::{
    connection_id::ConnectionIds,
    desk::Desk,
    http::{Room, Site},
};
use crate::{
    BuildError, Handler, ServerCounts, TrackerServer, listen,
    tally::{self, Tally},
};

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
    endpoints: Vec<SocketAddr>,
    urls: Vec<String>,
    trust_forwarded_for: bool,
    ids: ConnectionIds,
    /// One for each thread.
    tallies: Vec<Arc<Tally>>,
    /// Taken by the one call of `serve`.
    sockets: Mutex<Option<Sockets>>,
}

/// What the threads listen with.
struct Sockets {
    /// For each thread one of each address.
    http: Vec<Vec<TcpListener>>,
    /// For each thread one.
    udp: Vec<UdpSocket>,
}

impl BtTrackerServer {
    /// Listens at these addresses; answers nobody yet. An address `[::]` is passed over on a machine without IPv6.
    ///
    /// # Errors
    /// When an address cannot be listened at; the error says which.
    pub fn bind(overlay: &OverlayId, config: &ServerConfig) -> Result<Arc<Self>, BuildError> {
        let failed =
            |what: String, source: io::Error| BuildError { overlay: overlay.clone(), what, source };
        let workers = config.workers.max(1);
        let (mut endpoints, mut urls) = (Vec::new(), Vec::new());
        let mut http: Vec<Vec<TcpListener>> = Vec::new();
        http.resize_with(workers, Vec::new);
        let mut udp = Vec::new();
        for address in &config.http {
            let fail = |error| failed(format!("listen on {address} as a tracker"), error);
            let opened = listen::tcp_group(*address, workers);
            let Some(group) = if_there(overlay, *address, opened).map_err(fail)? else { continue };
            let endpoint = first(&group, TcpListener::local_addr).map_err(fail)?;
            endpoints.push(endpoint);
            urls.push(format!("http://{endpoint}/announce"));
            for (thread, listener) in http.iter_mut().zip(group) {
                thread.push(listener);
            }
        }
        http.retain(|listeners| !listeners.is_empty());
        for address in &config.udp {
            let fail = |error| failed(format!("listen on {address} (UDP) as a tracker"), error);
            let opened = listen::udp_group(*address, workers);
            let Some(group) = if_there(overlay, *address, opened).map_err(fail)? else { continue };
            let endpoint = first(&group, UdpSocket::local_addr).map_err(fail)?;
            endpoints.push(endpoint);
            urls.push(format!("udp://{endpoint}/announce"));
            udp.extend(group);
        }
        let ids = ConnectionIds::new(Instant::now())
            .map_err(|error| failed("draw a key for connection ids".to_owned(), error))?;
        let mut tallies = Vec::new();
        tallies.resize_with(http.len() + udp.len(), Arc::<Tally>::default);
        Ok(Arc::new(Self {
            overlay: overlay.clone(),
            endpoints,
            urls,
            trust_forwarded_for: config.trust_forwarded_for,
            ids,
            tallies,
            sockets: Mutex::new(Some(Sockets { http, udp })),
        }))
    }

    fn desk(&self, handler: &Arc<dyn Handler>, tally: &Arc<Tally>, one_family: bool) -> Desk {
        let (overlay, handler) = (self.overlay.clone(), handler.clone());
        Desk { overlay, handler, tally: tally.clone(), one_family }
    }
}

#[async_trait]
impl TrackerServer for BtTrackerServer {
    /// Those of HTTP, then those of UDP.
    fn endpoints(&self) -> Vec<SocketAddr> {
        self.endpoints.clone()
    }

    fn urls(&self) -> Vec<String> {
        self.urls.clone()
    }

    async fn serve(self: Arc<Self>, handler: Arc<dyn Handler>, stop: CancellationToken) {
        let taken = self.sockets.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(sockets) = taken else {
            warn!(overlay = %self.overlay, "the tracker is served already");
            return;
        };
        let threads = TaskTracker::new();
        let mut tallies = self.tallies.iter();
        let room = Room::new(self.trust_forwarded_for);
        for (number, (listeners, tally)) in sockets.http.into_iter().zip(&mut tallies).enumerate() {
            let site = Site::new(
                self.desk(&handler, tally, false),
                self.trust_forwarded_for,
                room.clone(),
                stop.child_token(),
            );
            if let Err(error) = http::start(site, listeners, number, threads.token()) {
                error!(overlay = %self.overlay, %error, "cannot start a thread of the tracker");
            }
        }
        let room = Arc::new(Semaphore::new(udp::MAX_LATER));
        for (number, (socket, tally)) in sockets.udp.into_iter().zip(&mut tallies).enumerate() {
            let worker = udp::Worker {
                socket,
                desk: self.desk(&handler, tally, true),
                ids: self.ids,
                runtime: runtime::Handle::current(),
                room: room.clone(),
                tasks: threads.clone(),
                stop: stop.child_token(),
            };
            if let Err(error) = worker.start(number, threads.token()) {
                error!(overlay = %self.overlay, %error, "cannot start a thread of the tracker");
            }
        }
        stop.cancelled().await;
        threads.close();
        threads.wait().await;
    }

    fn counts(&self) -> ServerCounts {
        let none = ServerCounts::default();
        self.tallies.iter().fold(none, |sum, tally| tally.added_to(sum))
    }
}

/// What was opened, if this machine has the family of the address.
fn if_there<T>(
    overlay: &OverlayId,
    address: SocketAddr,
    opened: io::Result<T>,
) -> io::Result<Option<T>> {
    match opened {
        Err(error) if listen::is_ipv6_missing(address, &error) => {
            warn!(%overlay, %address, %error, "no IPv6 here: this address is left out");
            Ok(None)
        }
        opened => opened.map(Some),
    }
}

/// The address of a group of sockets.
fn first<T>(group: &[T], address: impl Fn(&T) -> io::Result<SocketAddr>) -> io::Result<SocketAddr> {
    group.first().map_or_else(|| Err(io::ErrorKind::NotFound.into()), address)
}

#[cfg(test)]
mod matrix_tests;
#[cfg(test)]
mod testing;
