//! The bridge as an eD2k server: clients log in over TCP and stay; others ask over UDP.
//!
//! What clients offer is announced to the handler for as long as they stay, and taken back when they leave. A client
//! is called by the address from which it comes, if the server can connect to it there (a high id), else by a number
//! that means something here only (a low id).

mod answers;
mod line;
mod offers;
mod pace;
mod probe;
mod roster;
mod session;
mod udp;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use p2pbridge_proto::{OverlayId, Request};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use self::roster::Roster;
use super::{
    callback::CallBack,
    clients::Clients,
    identity::Identity,
    wire::{
        ClientId, Tag,
        hello::Greeting,
        server::{Crypt, Ident, Login, ident_tag, login_tag, server_flags},
        udp::udp_flags,
    },
};
use crate::{
    Answer, Asked, BuildError, Handler, ServerCounts, TrackerServer,
    admission::Admission,
    listen,
    tally::{Outcome, Tally},
};

/// What clients are told that the server can.
const FLAGS: u32 = server_flags::ZLIB
    | server_flags::NEW_TAGS
    | server_flags::UNICODE
    | server_flags::TYPE_AS_NUMBER
    | server_flags::LARGE_FILES
    | server_flags::OBFUSCATION;
const UDP_FLAGS: u32 = udp_flags::EXT_GET_SOURCES
    | udp_flags::EXT_GET_FILES
    | udp_flags::NEW_TAGS
    | udp_flags::UNICODE
    | udp_flags::EXT_GET_SOURCES2
    | udp_flags::LARGE_FILES;
/// Clients that are tried at a time whether they can be reached.
const PROBES: usize = 256;
/// A connection is tried after so long without a word, then so often until it is given up.
const KEEP_ALIVE: (Duration, Duration, u32) =
    (Duration::from_secs(120), Duration::from_secs(30), 4);

/// Where an eD2k server listens, and what it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Addresses at which clients log in; IPv4, since the protocol has no other. Port 0 takes any free port.
    pub tcp: Vec<SocketAddr>,
    /// Addresses for questions over UDP. Clients ask at the TCP port + 4, whatever is said here.
    pub udp: Vec<SocketAddr>,
    /// The server's name in clients' lists.
    pub name: String,
    /// A line about it, in clients' lists.
    pub description: String,
    /// Lines that clients show when they log in; may be empty.
    pub welcome: String,
    /// Clients that may be logged in at a time.
    pub max_sessions: usize,
    /// Files that one client may offer; those above are passed over, and the client is told.
    pub max_files_per_client: usize,
    /// How often what clients offer is announced to the handler: `TrackerTerms::interval`.
    pub interval: Duration,
    /// Whether obfuscated connections are taken, at the same port as plain ones.
    pub obfuscation: bool,
    /// Servers that clients are told of.
    pub other_servers: Vec<SocketAddrV4>,
    /// Where clients reach the bridge's own seeder. Of the server itself they are told the same address.
    pub reachable: Vec<SocketAddr>,
}

impl Default for ServerConfig {
    /// Listens nowhere.
    fn default() -> Self {
        Self {
            tcp: Vec::new(),
            udp: Vec::new(),
            name: "P2P-Bridge".to_owned(),
            description: String::new(),
            welcome: String::new(),
            max_sessions: 10_000,
            max_files_per_client: 10_000,
            interval: crate::TrackerTerms::default().interval,
            obfuscation: true,
            other_servers: Vec::new(),
            reachable: Vec::new(),
        }
    }
}

/// An eD2k server of one overlay.
pub struct Ed2kTrackerServer {
    overlay: OverlayId,
    config: ServerConfig,
    /// How it greets clients to see whether they can be reached.
    greeting: Greeting,
    /// The bridge's own client.
    hub: Weak<Clients>,
    endpoints: Vec<SocketAddr>,
    urls: Vec<String>,
    admission: Arc<Admission<()>>,
    roster: Roster,
    tally: Arc<Tally>,
    /// Taken by the one call of `serve`.
    sockets: Mutex<Option<Sockets>>,
}

struct Sockets {
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
}

/// What the sessions share while the server serves.
struct Front {
    server: Arc<Ed2kTrackerServer>,
    handler: Arc<dyn Handler>,
    tally: Arc<Tally>,
    probes: Semaphore,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Ed2kTrackerServer {
    /// Listens at these addresses; answers nobody yet. Must be called inside a tokio runtime. The hub is the bridge's own
    /// client of the overlay: from now on it has clients with a low id called by this server.
    ///
    /// # Errors
    /// When an address cannot be listened at; the error says which.
    pub fn bind(
        overlay: &OverlayId,
        config: &ServerConfig,
        identity: &Identity,
        hub: &Arc<Clients>,
    ) -> Result<Arc<Self>, BuildError> {
        let tcp = listen::tcp_each(overlay, &config.tcp)
            .map_err(|error| BuildError { what: format!("{} as a server", error.what), ..error })?;
        let mut udp = Vec::new();
        for address in &config.udp {
            udp.push(udp::open(*address).map_err(|source| {
                let what = format!("listen on {address} (UDP) as a server");
                BuildError { overlay: overlay.clone(), what, source }
            })?);
        }
        let tcp_at: Vec<_> = tcp.iter().filter_map(|socket| socket.local_addr().ok()).collect();
        let udp_at = udp.iter().filter_map(|socket| socket.local_addr().ok());
        let urls = tcp_at.iter().map(|at| {
            let ip = Some(at.ip()).filter(|ip| !ip.is_unspecified());
            let ip = ip.or(config.reachable.first().map(SocketAddr::ip)).unwrap_or(at.ip());
            format!("ed2k://|server|{ip}|{}|/", at.port())
        });
        let mut first = [0; 4];
        // Without random bytes low ids begin at 1.
        let _ = getrandom::fill(&mut first);
        // Clients know the bridge's own client by its hash, and take a second connection from it for a new one in place of
        // the first: who only asks has another hash.
        let mut hash = identity.hash;
        hash[15] ^= 0xFF;
        let server = Arc::new(Self {
            overlay: overlay.clone(),
            config: config.clone(),
            greeting: Greeting { hash, nick: config.name.clone(), ..Greeting::default() },
            hub: Arc::downgrade(hub),
            urls: urls.collect(),
            endpoints: tcp_at.iter().copied().chain(udp_at).collect(),
            admission: Admission::new(config.max_sessions),
            roster: Roster::new(u32::from_le_bytes(first)),
            tally: Arc::default(),
            sockets: Mutex::new(Some(Sockets { tcp, udp })),
        });
        hub.set_call_back(server.clone());
        if let Some(ClientId::High(own)) = server.own().map(|own| ClientId::High(*own.ip())) {
            hub.set_server(ClientId::High(own).number(), Some(server.seen_at(None)));
        }
        Ok(server)
    }

    /// Clients that are logged in, and files that they offer.
    fn status(&self) -> (u32, u32) {
        let number = |number| u32::try_from(number).unwrap_or(u32::MAX);
        (number(self.roster.users().0), number(self.roster.files()))
    }

    /// Where clients reach the bridge's own client.
    fn own(&self) -> Option<SocketAddrV4> {
        self.config.reachable.iter().find_map(|at| match at {
            SocketAddr::V4(at) if !at.ip().is_unspecified() => Some(*at),
            _ => None,
        })
    }

    /// Where clients see the server: at the public address, else where one has connected to.
    fn seen_at(&self, here: Option<SocketAddr>) -> SocketAddrV4 {
        let port = here.or(self.endpoints.first().copied()).map_or(0, |at| at.port());
        let here = here.or(self.endpoints.first().copied()).map(|at| at.ip().to_canonical());
        let here = match here {
            Some(IpAddr::V4(ip)) => Some(ip).filter(|ip| !ip.is_unspecified()),
            _ => None,
        };
        let ip = self.own().map(|own| *own.ip()).or(here).unwrap_or(Ipv4Addr::UNSPECIFIED);
        SocketAddrV4::new(ip, port)
    }

    /// Where obfuscated connections are taken; 0 for nowhere.
    fn obfuscated_port(&self, at: SocketAddrV4) -> u16 {
        if self.config.obfuscation { at.port() } else { 0 }
    }

    fn ident(&self, at: SocketAddrV4) -> Ident {
        let tags = vec![
            Tag::text(ident_tag::NAME, self.config.name.as_str()),
            Tag::text(ident_tag::DESCRIPTION, self.config.description.as_str()),
        ];
        Ident { hash: self.greeting.hash, server: at, tags }
    }

    /// How the bridge's own client obfuscates.
    fn own_crypt(&self) -> Crypt {
        let Some(hub) = self.hub.upgrade() else { return Crypt::default() };
        let (hash, crypt) = hub.user();
        Crypt { options: crypt.bits(), user: crypt.supports.then_some(hash) }
    }
}

impl Front {
    fn ask(&self, hop_limit: u32, request: Request) -> Answer {
        let asked = Asked { overlay: &self.server.overlay, hop_limit, one_family: true };
        self.handler.handle(asked, request)
    }

    /// Takes connections from one socket.
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, remote)) => self.admit(stream, remote),
                Err(error) => {
                    // Out of file descriptors, most likely: some will be closed soon.
                    warn!(overlay = %self.server.overlay, %error, "cannot take a connection");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, remote: SocketAddr) {
        let Some(ticket) = self.server.admission.admit(remote) else {
            // Dropping the stream closes it: the client tries another server.
            self.tally.came();
            self.tally.done(Outcome::Shed);
            return;
        };
        // A client may be silent for hours: the kernel finds out whether it is still there.
        let (time, interval, retries) = KEEP_ALIVE;
        let keep_alive =
            TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(retries);
        if let Err(error) = SockRef::from(&stream).set_tcp_keepalive(&keep_alive) {
            warn!(overlay = %self.server.overlay, %error, "cannot watch over a connection");
        }
        self.tasks.spawn(session::run(self.clone(), stream, remote, ticket));
    }
}

#[async_trait]
impl TrackerServer for Ed2kTrackerServer {
    /// Those of TCP, then those of UDP.
    fn endpoints(&self) -> Vec<SocketAddr> {
        self.endpoints.clone()
    }

    fn urls(&self) -> Vec<String> {
        self.urls.clone()
    }

    async fn serve(self: Arc<Self>, handler: Arc<dyn Handler>, stop: CancellationToken) {
        let taken = self.sockets.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(sockets) = taken else {
            warn!(overlay = %self.overlay, "the server is served already");
            return;
        };
        let front = Arc::new(Front {
            handler,
            tally: self.tally.clone(),
            probes: Semaphore::new(PROBES),
            tasks: TaskTracker::new(),
            stop: stop.child_token(),
            server: self,
        });
        for listener in sockets.tcp {
            front.tasks.spawn(front.clone().accept(listener));
        }
        for socket in sockets.udp {
            front.tasks.spawn(udp::serve(front.clone(), socket));
        }
        stop.cancelled().await;
        front.tasks.close();
        front.tasks.wait().await;
    }

    fn counts(&self) -> ServerCounts {
        let sessions = u64::try_from(self.roster.users().0).ok();
        ServerCounts { sessions, ..self.tally.added_to(ServerCounts::default()) }
    }
}

#[async_trait]
impl CallBack for Ed2kTrackerServer {
    async fn call_back(&self, low_id: u32) -> Result<(), String> {
        let own = self.own().ok_or("nobody knows where the bridge itself can be reached")?;
        if self.call(ClientId::Low(low_id), own, self.own_crypt()) {
            Ok(())
        } else {
            Err(format!("no client with id {low_id} is logged in here, or it does not listen"))
        }
    }
}

/// Whether who logs in is another bridge.
fn is_a_bridge(login: &Login) -> bool {
    let program = login.tags.iter().find_map(|tag| tag.as_text(login_tag::PROGRAM));
    program.is_some_and(|program| program.starts_with("P2P-Bridge "))
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
