//! The hub of one overlay's connections with other clients. A connection between two clients serves both directions:
//! the seeder and the leecher are two faces over this.

mod client;
mod dial;
mod dialling;
mod download;
mod greet;
mod hints;
mod link;
mod socket;
mod table;

use std::{
    net::{SocketAddr, SocketAddrV4},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use p2pbridge_proto::OverlayId;
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, trace, warn};

pub(crate) use self::{
    client::{Client, Incoming, Key, Need},
    download::Download,
    greet::ask_who,
    hints::Hint,
    link::{Gone, Link, PUBLIC_IP},
    socket::Run,
};
use self::{
    dialling::Dialling,
    greet::{Greeted, Taken},
    hints::Teller,
    socket::LinkError,
    table::Table,
};
use super::{
    callback::CallBack,
    config::Obfuscation,
    identity::Identity,
    wire::{
        ClientId, Hash, Packet,
        hello::{Crypt, Greeting, Options},
    },
};
use crate::{
    BadInput, BuildError, Flaw, Party,
    admission::{Admission, Ticket},
    listen,
};

/// How long a client with a low id may take to connect after it was asked to.
const CALLING_BACK: Duration = Duration::from_secs(30);

/// What the hub may use, and how it introduces itself.
#[derive(Debug, Clone)]
pub struct ClientsConfig {
    /// Where it listens; port 0 lets the system choose.
    pub listen: Vec<SocketAddr>,
    /// Connections at a time.
    pub max_sessions: usize,
    /// What clients are told as the user's name.
    pub nick: String,
    /// Which connections are obfuscated.
    pub obfuscation: Obfuscation,
}

/// Why a client cannot be spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum ConnectError {
    /// It cannot be reached.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// It is the bridge itself.
    #[error("it is the bridge itself")]
    Ourselves,
    /// It does not speak the protocol.
    #[error("bad client: {0}")]
    Protocol(String),
    /// It did not answer in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// It has a low id, and cannot be asked to connect.
    #[error("it cannot be called back: {0}")]
    NoCallBack(String),
    /// The bridge has no room for it.
    #[error("too many connections")]
    Full,
}

/// Serves what clients ask: the seeder's side of the hub.
pub(crate) trait Uploads: Send + Sync {
    /// A session with a client that has asked the first question. It ends when no more questions come.
    fn session(
        self: Arc<Self>,
        link: Arc<Link>,
        asked: mpsc::Receiver<Packet>,
    ) -> BoxFuture<'static, ()>;
}

/// The connections of one overlay with other clients.
pub struct Clients {
    overlay: OverlayId,
    identity: Arc<Identity>,
    nick: String,
    obfuscation: Obfuscation,
    endpoints: Vec<SocketAddr>,
    admission: Arc<Admission<()>>,
    table: Mutex<Table>,
    /// What our server calls us, and where it is.
    at_server: Mutex<(u32, Option<SocketAddrV4>)>,
    call_back: OnceLock<Arc<dyn CallBack>>,
    uploads: OnceLock<Arc<dyn Uploads>>,
    dialling: Dialling,
    bad_input: Arc<BadInput>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Taken by the one call of `serve`.
    listeners: Mutex<Option<Vec<TcpListener>>>,
}

impl Clients {
    /// Binds the sockets; starts nothing. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When an address cannot be bound. A machine without IPv6 may leave out `[::]` if it has another address.
    pub fn bind(
        overlay: &OverlayId,
        config: &ClientsConfig,
        identity: Arc<Identity>,
    ) -> Result<Arc<Self>, BuildError> {
        let listeners = listen::tcp_each(overlay, &config.listen)?;
        let endpoints =
            listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        Ok(Arc::new(Self {
            overlay: overlay.clone(),
            identity,
            nick: config.nick.clone(),
            obfuscation: config.obfuscation,
            endpoints,
            admission: Admission::new(config.max_sessions),
            table: Mutex::default(),
            at_server: Mutex::default(),
            call_back: OnceLock::new(),
            uploads: OnceLock::new(),
            dialling: Dialling::default(),
            bad_input: Arc::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            listeners: Mutex::new(Some(listeners)),
        }))
    }

    /// Where it listens.
    #[must_use]
    pub fn endpoints(&self) -> Vec<SocketAddr> {
        self.endpoints.clone()
    }

    /// Connections at this moment.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.admission.count()
    }

    /// What clients sent that was not taken, and what our server did.
    pub(crate) fn bad_input(&self) -> &Arc<BadInput> {
        &self.bad_input
    }

    /// By whom clients with a low id are asked to connect; the first one stays.
    pub(crate) fn set_call_back(&self, call_back: Arc<dyn CallBack>) {
        let _ = self.call_back.set(call_back);
    }

    /// What our server calls us, and where it is: clients are told so from now on.
    pub(crate) fn set_server(&self, id: u32, server: Option<SocketAddrV4>) {
        *self.at_server.lock().unwrap_or_else(PoisonError::into_inner) = (id, server);
    }

    /// Its user hash, and how it obfuscates: what a server tells others of it.
    pub(crate) fn user(&self) -> (Hash, Crypt) {
        let ours = self.ours();
        (ours.hash, ours.options.crypt)
    }

    /// Takes down what a server says of a client.
    pub(crate) fn hint(&self, endpoint: SocketAddr, hint: Hint) {
        self.table().hints.note(Teller::Server, endpoint, hint);
    }

    /// Takes down what a client says of another one.
    pub(crate) fn hint_from_client(&self, endpoint: SocketAddr, hint: Hint) {
        self.table().hints.note(Teller::Client, endpoint, hint);
    }

    /// What is known of a client beside its address.
    pub(crate) fn hint_of(&self, endpoint: &SocketAddr) -> Hint {
        self.table().hints.of(endpoint)
    }

    /// Where our server is.
    pub(crate) fn server(&self) -> Option<SocketAddrV4> {
        lock(&self.at_server).1
    }

    /// Takes connections, and serves what is asked, until told to stop; returns when all tasks have ended.
    pub(crate) async fn serve(self: Arc<Self>, uploads: Arc<dyn Uploads>, stop: CancellationToken) {
        let listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(listeners) = listeners else {
            warn!(overlay = %self.overlay, "clients are served already, or have been");
            return;
        };
        let _ = self.uploads.set(uploads);
        for listener in listeners {
            self.tasks.spawn(self.clone().accept(listener));
        }
        stop.cancelled().await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Connects to a client, or uses the connection that there is, to download a file from it.
    pub(crate) async fn download(
        self: &Arc<Self>,
        endpoint: SocketAddr,
        file: Hash,
    ) -> Result<Download, ConnectError> {
        let link = self.link_to(endpoint).await?;
        let client = link.client().clone();
        let (id, inbox) = client.subscribe(file).ok_or(ConnectError::Full)?;
        Ok(Download { clients: self.clone(), client, endpoint, id, link, inbox })
    }

    /// A connection with the client at an endpoint, which may be that of a low id.
    pub(crate) async fn link_to(
        self: &Arc<Self>,
        endpoint: SocketAddr,
    ) -> Result<Arc<Link>, ConnectError> {
        if let Some(link) = self.table().link_to(&endpoint) {
            return Ok(link);
        }
        let dialler = self.dialling.to(endpoint);
        let _turn = dialler.turn.lock().await;
        let known = self.table().link_to(&endpoint);
        match known {
            Some(link) => Ok(link),
            None => match ClientId::of(endpoint) {
                Some(ClientId::Low(id)) => self.be_called(id, endpoint).await,
                _ => self.dial(endpoint).await,
            },
        }
    }

    /// Asks for a client with a low id to connect, and waits until it has.
    async fn be_called(&self, id: u32, endpoint: SocketAddr) -> Result<Arc<Link>, ConnectError> {
        let cannot = |why: &str| ConnectError::NoCallBack(why.to_owned());
        let call_back = self.call_back.get().ok_or_else(|| cannot("there is no server"))?;
        let link = self.table().await_low(endpoint).ok_or(ConnectError::Full)?;
        call_back.call_back(id).await.map_err(ConnectError::NoCallBack)?;
        match timeout(CALLING_BACK, link).await {
            Ok(Ok(link)) => Ok(link),
            Ok(Err(_)) => Err(cannot("it is not waited for any more")),
            Err(_) => Err(ConnectError::TimedOut(CALLING_BACK)),
        }
    }

    /// From where connections to an address are made: a single address at which the bridge listens, so that clients
    /// see it where servers do.
    fn source_for(&self, endpoint: &SocketAddr) -> Option<SocketAddr> {
        let mut fits = self.endpoints.iter().filter(|own| own.is_ipv4() == endpoint.is_ipv4());
        let own = fits.next().filter(|own| !own.ip().is_unspecified())?;
        fits.next().is_none().then_some(*own)
    }

    /// Who we say that we are.
    fn ours(&self) -> Greeting {
        let (id, server) = *lock(&self.at_server);
        let port = self.endpoints.first().map_or(0, SocketAddr::port);
        let nick = self.nick.clone();
        let options = Options { crypt: self.crypt(), ..Options::OURS };
        Greeting { hash: self.identity.hash, id, port, nick, server, options }
    }

    /// What we want of obfuscation: clients and servers are told so.
    pub(crate) fn crypt(&self) -> Crypt {
        let required = self.obfuscation == Obfuscation::Required;
        Crypt {
            supports: self.obfuscation != Obfuscation::Off,
            requests: required,
            requires: required,
        }
    }

    /// Which ways of speaking are taken from a client. A server that tries whether we can be reached does so plainly.
    fn taken_from(&self, remote: &SocketAddr) -> Taken {
        let server = lock(&self.at_server).1;
        let is_server = server.is_some_and(|server| remote.ip().to_canonical() == *server.ip());
        Taken {
            plain: self.obfuscation != Obfuscation::Required || is_server,
            obfuscated: self.obfuscation != Obfuscation::Off,
        }
    }

    /// Starts the task of a connection on which both sides have greeted.
    async fn meet(
        self: &Arc<Self>,
        remote: SocketAddr,
        greeted: Greeted,
        ticket: Ticket<()>,
        dialled: Option<SocketAddr>,
    ) -> Result<Arc<Link>, LinkError> {
        if self.identity.is_ours(&greeted.theirs.hash) {
            return Err(LinkError::Ourselves);
        }
        ticket.joined(());
        let key = Key { hash: greeted.theirs.hash, ip: remote.ip().to_canonical() };
        let client = self.table().client(key);
        let (link, ends) = Link::new(remote, greeted, client.clone(), self.bad_input.clone());
        trace!(
            overlay = %self.overlay, %remote, nick = link.greeting().nick,
            options = ?link.options(), obfuscated = link.is_obfuscated(), "a client has greeted"
        );
        client.attach(&link).await;
        self.table().met(&link, dialled);
        let (clients, task) = (self.clone(), link.clone());
        self.tasks.spawn(async move {
            let start = |asked| clients.start_session(&task, asked);
            tokio::select! {
                () = task.run(ends, start, || clients.ours()) => {}
                () = busy(&task, &ticket) => {}
                () = ticket.evicted() => task.close("making room for others"),
                () = clients.stop.cancelled() => task.close("shutting down"),
            }
            debug!(overlay = %clients.overlay, %remote, end = task.end(), "a connection has ended");
            let _ = clients.stop.run_until_cancelled(client.detach(&task)).await;
        });
        Ok(link)
    }

    fn start_session(&self, link: &Arc<Link>, asked: mpsc::Receiver<Packet>) {
        let Some(uploads) = self.uploads.get() else { return };
        let session = uploads.clone().session(link.clone(), asked);
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let _ = stop.run_until_cancelled(session).await;
        });
    }

    /// Takes connections from one socket.
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, remote)) => {
                    // Dropping the stream closes it: the client may come again.
                    let Some(ticket) = self.admission.admit(remote) else {
                        self.bad_input.add(Party::Peer, Flaw::Excessive);
                        continue;
                    };
                    let clients = self.clone();
                    self.tasks.spawn(async move {
                        let stop = clients.stop.clone();
                        let _ =
                            stop.run_until_cancelled(clients.receive(stream, remote, ticket)).await;
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: some will be closed soon.
                    warn!(overlay = %self.overlay, %error, "cannot take a connection");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn receive(self: &Arc<Self>, stream: TcpStream, remote: SocketAddr, ticket: Ticket<()>) {
        let ours = self.ours();
        let greeted = tokio::select! {
            greeted = greet::answer(stream, &ours, self.taken_from(&remote)) => greeted,
            () = ticket.evicted() => return,
        };
        let met = match greeted {
            Ok(greeted) => self.meet(remote, greeted, ticket, None).await,
            Err(error) => Err(error),
        };
        if let Err(error) = met {
            self.count(&error);
            debug!(overlay = %self.overlay, %remote, %error, "a connection did not come about");
        }
    }

    fn count(&self, error: &LinkError) {
        if let Some(flaw) = error.flaw() {
            self.bad_input.add(Party::Peer, flaw);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }
}

/// Says at times whether a client is needed; never ends.
async fn busy(link: &Link, ticket: &Ticket<()>) {
    loop {
        ticket.is_now(link.client().is_needed(), false);
        sleep(Duration::from_secs(5)).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connect_error(error: LinkError) -> ConnectError {
    match error {
        LinkError::Ourselves => ConnectError::Ourselves,
        LinkError::Silent(time) => ConnectError::TimedOut(time),
        LinkError::Closed | LinkError::Io(_) => ConnectError::Unreachable(error.to_string()),
        other => ConnectError::Protocol(other.to_string()),
    }
}

#[cfg(test)]
#[path = "clients_tests.rs"]
mod tests;
