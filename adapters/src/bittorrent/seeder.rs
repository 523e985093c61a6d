//! The seeder face: BitTorrent peers download from the bridge. It takes connections, and makes some itself.

mod choker;
mod dialer;
mod session;
mod upload;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use p2pbridge_proto::{Name, OverlayId};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use self::{choker::Choker, dialer::Dialer, session::Session};
use super::{
    connection::{ConnectionError, answer, greet},
    identity::Identity,
    metainfo::wire_hash,
    wire::peer::Handshake,
};
use crate::{
    BadInput, BuildError, ContentReader, Flaw, Library, Party, Seeder,
    admission::{Admission, Ticket},
    listen,
};

/// How often upload slots go round when more peers want one than there are.
const ROTATION: Duration = Duration::from_secs(10);
/// Invitations that may wait to be looked at; more are dropped, and come again with the next announce.
const MAX_INVITATIONS: usize = 64;
/// Peers of one invitation that are looked at.
const MAX_INVITED: usize = 200;

/// What a seeder may use.
#[derive(Debug, Clone)]
pub struct SeederConfig {
    /// Where it listens; port 0 lets the system choose.
    pub listen: Vec<SocketAddr>,
    /// Connections at a time.
    pub max_sessions: usize,
    /// Peers that are served at a time; they take turns.
    pub upload_slots: usize,
}

/// Serves BitTorrent peers of one overlay.
pub struct BtSeeder {
    overlay: OverlayId,
    identity: Arc<Identity>,
    endpoints: Vec<SocketAddr>,
    admission: Arc<Admission<[u8; 20]>>,
    choker: Arc<Choker>,
    bad_input: Arc<BadInput>,
    invitations: mpsc::Sender<Invitation>,
    /// Taken by the one call of `serve`.
    idle: Mutex<Option<Idle>>,
}

struct Idle {
    listeners: Vec<TcpListener>,
    invited: mpsc::Receiver<Invitation>,
}

struct Invitation {
    name: Name,
    peers: Vec<SocketAddr>,
}

impl BtSeeder {
    /// Binds the sockets; starts nothing. What peers send that is not taken is counted in `bad_input`. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When an address cannot be bound. A machine without IPv6 may leave out `[::]` if it has another address.
    pub fn bind(
        overlay: &OverlayId,
        config: &SeederConfig,
        identity: Arc<Identity>,
        bad_input: Arc<BadInput>,
    ) -> Result<Arc<Self>, BuildError> {
        let listeners = listen::tcp_each(overlay, &config.listen)?;
        let endpoints =
            listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let (invitations, invited) = mpsc::channel(MAX_INVITATIONS);
        Ok(Arc::new(Self {
            overlay: overlay.clone(),
            identity,
            endpoints,
            admission: Admission::new(config.max_sessions),
            choker: Choker::new(config.upload_slots),
            bad_input,
            invitations,
            idle: Mutex::new(Some(Idle { listeners, invited })),
        }))
    }

    /// Connections at this moment.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.admission.count()
    }

    /// Greets a peer that has connected, and serves it to the end.
    async fn receive(
        self: Arc<Self>,
        mut stream: TcpStream,
        peer: SocketAddr,
        ticket: Ticket<[u8; 20]>,
        library: Arc<dyn Library>,
    ) {
        let find = |hash| library.open(&Name::btih(hash));
        let greeted = tokio::select! {
            greeted = answer(&mut stream, &self.identity, find) => greeted,
            () = ticket.evicted() => return,
        };
        match greeted {
            Ok((reader, theirs)) => self.serve_peer(stream, peer, ticket, reader, theirs).await,
            Err(error) => {
                error.count(&self.bad_input);
                debug!(overlay = %self.overlay, %peer, %error, "no session");
            }
        }
    }

    /// Connects to a peer that was invited, greets it, and returns what is needed to serve it.
    async fn dial(
        &self,
        peer: SocketAddr,
        name: &Name,
        library: &Arc<dyn Library>,
    ) -> Result<(TcpStream, Handshake, Arc<dyn ContentReader>), ConnectionError> {
        let hash = wire_hash(name).ok_or(ConnectionError::OtherTorrent)?;
        let reader = library.open(name).ok_or(ConnectionError::OtherTorrent)?;
        let connecting = tokio::time::timeout(dialer::CONNECTING, TcpStream::connect(peer));
        let mut stream =
            connecting.await.map_err(|_| ConnectionError::Silent(dialer::CONNECTING))??;
        let greeted = greet(&mut stream, hash, &self.identity).await;
        let theirs = greeted.inspect_err(|error| error.count(&self.bad_input))?;
        Ok((stream, theirs, reader))
    }

    async fn serve_peer(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        ticket: Ticket<[u8; 20]>,
        reader: Arc<dyn ContentReader>,
        theirs: Handshake,
    ) {
        ticket.joined(theirs.info_hash);
        let session = Session::new(stream, peer, theirs.features, reader, &ticket, &self.choker);
        let end = tokio::select! {
            end = session.run() => {
                if let Some(flaw) = end.flaw() {
                    self.bad_input.add(Party::Peer, flaw);
                }
                end.to_string()
            }
            () = ticket.evicted() => "making room for others".to_owned(),
        };
        debug!(overlay = %self.overlay, %peer, %end, "a session has ended");
    }

    /// Takes connections from one socket.
    async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        library: Arc<dyn Library>,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    // Dropping the stream closes it: the peer may come again.
                    let Some(ticket) = self.admission.admit(peer) else {
                        self.bad_input.add(Party::Peer, Flaw::Excessive);
                        continue;
                    };
                    let session = self.clone().receive(stream, peer, ticket, library.clone());
                    let stop = stop.clone();
                    tasks.spawn(async move {
                        let _ = stop.run_until_cancelled(session).await;
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

    /// Connects to invited peers, and keeps the upload slots going round.
    async fn run(
        self: Arc<Self>,
        mut invited: mpsc::Receiver<Invitation>,
        library: Arc<dyn Library>,
        stop: CancellationToken,
        tasks: TaskTracker,
    ) {
        let mut rotation = interval_at(Instant::now() + ROTATION, ROTATION);
        rotation.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut dialer = Dialer::new(self.clone(), library, stop.clone(), tasks);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = rotation.tick() => self.choker.rotate(),
                invitation = invited.recv() => match invitation {
                    Some(Invitation { name, peers }) => dialer.invite(name, &peers),
                    None => return,
                },
            }
        }
    }
}

#[async_trait]
impl Seeder for BtSeeder {
    fn endpoints(&self) -> Vec<SocketAddr> {
        self.endpoints.clone()
    }

    async fn serve(self: Arc<Self>, library: Arc<dyn Library>, stop: CancellationToken) {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Idle { listeners, invited }) = idle else {
            warn!(overlay = %self.overlay, "the seeder serves already, or has served");
            return;
        };
        let tasks = TaskTracker::new();
        for listener in listeners {
            let accept =
                self.clone().accept(listener, library.clone(), stop.clone(), tasks.clone());
            tasks.spawn(accept);
        }
        tasks.spawn(self.clone().run(invited, library, stop.clone(), tasks.clone()));
        stop.cancelled().await;
        tasks.close();
        tasks.wait().await;
    }

    fn invite(&self, name: Name, peers: &[SocketAddr]) {
        let peers: Vec<_> = peers.iter().copied().take(MAX_INVITED).collect();
        if self.invitations.try_send(Invitation { name, peers }).is_err() {
            debug!(overlay = %self.overlay, "an invitation is dropped: too many wait");
        }
    }
}
