//! One swarm in which the bridge takes part: it announces the bridge, and learns the swarm's peers.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use p2pbridge_adapters::Seeder;
use p2pbridge_nametable::Binding;
use p2pbridge_proto::{
    Announce, Fault, Find, Name, OverlayId, Peer, PeerEvent, PeerList, Reply, Request,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::handler::MessageHandler;

/// How long a tracker has to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a tracker has to answer a farewell.
const FAREWELL: Duration = Duration::from_secs(3);
const SHORTEST: Duration = Duration::from_secs(2);
const LONGEST: Duration = Duration::from_secs(3_600);
/// How often an empty swarm is asked about, when the tracker does not say how often it may be.
const POLL: Duration = Duration::from_secs(60);
/// How soon a swarm may be asked again when sources are wanted, when the tracker does not say.
const HURRY: Duration = Duration::from_secs(15);
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LAST_RETRY: Duration = Duration::from_secs(300);
/// Peers asked for.
const WANT: u32 = 80;

/// What is known of a swarm now.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    pub(crate) peers: Vec<SocketAddr>,
    pub(crate) seeders: Option<u32>,
    pub(crate) leechers: Option<u32>,
    pub(crate) announced: bool,
    pub(crate) last_error: String,
}

/// One swarm in which the bridge takes part.
pub(crate) struct Swarm {
    overlay: OverlayId,
    main: Name,
    names: Vec<Name>,
    pub(crate) title: String,
    pub(crate) length: u64,
    role: Mutex<Role>,
    view: Mutex<View>,
    changed: watch::Sender<u64>,
    hurry: Notify,
    poke: Notify,
}

/// What the bridge does in a swarm.
#[derive(Clone, Default)]
pub(crate) struct Role {
    /// The bridge downloads here for other swarms.
    pub(crate) source: bool,
    /// The swarms from which the bridge can bring bytes to this one.
    pub(crate) upstream: Vec<Arc<Swarm>>,
}

/// What a swarm needs of the rest of the house.
pub(crate) struct Around {
    /// The way to the trackers.
    pub(crate) handler: Arc<MessageHandler>,
    /// Serves this swarm's peers.
    pub(crate) seeder: Option<Arc<dyn Seeder>>,
    /// Bytes of the name that the spool holds.
    pub(crate) held: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl Swarm {
    pub(crate) fn new(overlay: OverlayId, binding: &Binding) -> Self {
        Self {
            overlay,
            main: binding.name(),
            names: binding.names.clone(),
            title: binding.title.clone(),
            length: binding.layout.length(),
            role: Mutex::default(),
            view: Mutex::default(),
            changed: watch::Sender::new(0),
            hurry: Notify::new(),
            poke: Notify::new(),
        }
    }

    /// The overlay.
    pub(crate) fn overlay(&self) -> &OverlayId {
        &self.overlay
    }

    /// The main name.
    pub(crate) fn name(&self) -> Name {
        self.main
    }

    /// Peers that the tracker has named.
    pub(crate) fn peers(&self) -> Vec<SocketAddr> {
        self.lock().peers.clone()
    }

    /// What is known now.
    pub(crate) fn view(&self) -> View {
        self.lock().clone()
    }

    /// Changes when something new is known.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Asks the tracker again as soon as it may be asked.
    pub(crate) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Gives the swarm another role.
    pub(crate) fn set_role(&self, role: Role) {
        *self.role.lock().unwrap_or_else(PoisonError::into_inner) = role;
        self.poke.notify_one();
    }

    fn role(&self) -> Role {
        self.role.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn lock(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes part in the swarm until told to stop, then takes leave.
    pub(crate) async fn run(self: Arc<Self>, around: Around, stop: CancellationToken) {
        let mut failures = 0;
        let (mut next, mut soonest) = (Instant::now(), Instant::now());
        loop {
            let role = self.role();
            // Watched before it is looked at, so that no change is missed.
            let mut upstream: Vec<_> = role.upstream.iter().map(|swarm| swarm.changes()).collect();
            let useful = self.is_useful(&role, &around);
            if !useful && self.lock().announced {
                // Nothing can be brought any more: nobody shall be led to the bridge.
                self.leave(&around).await;
                (next, soonest) = (Instant::now(), Instant::now());
            }
            if useful && next <= Instant::now() {
                let start = Instant::now();
                let event =
                    if self.lock().announced { PeerEvent::Regular } else { PeerEvent::Started };
                let answer = tokio::select! {
                    answer = self.announce(&around, &role, event, PATIENCE) => answer,
                    () = stop.cancelled() => break,
                };
                failures = if answer.is_ok() { 0 } else { failures + 1 };
                (next, soonest) = self.take(answer, &role, &around, failures, start);
            }
            tokio::select! {
                () = sleep_until(next), if useful => {}
                () = self.hurry.notified() => next = next.min(soonest),
                () = self.poke.notified() => {}
                () = one_changed(&mut upstream) => {}
                () = stop.cancelled() => break,
            }
        }
        if self.lock().announced {
            self.leave(&around).await;
        }
    }

    fn is_useful(&self, role: &Role, around: &Around) -> bool {
        let complete = || self.length > 0 && (around.held)() >= self.length;
        role.source
            || role.upstream.iter().any(|swarm| !swarm.peers().is_empty())
            || (!role.upstream.is_empty() && complete())
    }

    async fn leave(&self, around: &Around) {
        self.lock().announced = false;
        if let Err(fault) = self.announce(around, &self.role(), PeerEvent::Stopped, FAREWELL).await
        {
            tracing::warn!(overlay = %self.overlay, name = %self.name(), %fault, "the tracker did not take the farewell");
        }
    }

    async fn announce(
        &self,
        around: &Around,
        role: &Role,
        event: PeerEvent,
        patience: Duration,
    ) -> Result<PeerList, Fault> {
        let only_takes = role.upstream.is_empty() && event != PeerEvent::Stopped;
        if only_takes && around.handler.is_tracker_of(&self.overlay) {
            // Where the bridge keeps the swarm itself it need not be in it to see who is.
            let find =
                Find { names: self.names.clone(), num_want: Some(WANT), length: Some(self.length) };
            return match around.handler.ask(&self.overlay, Request::Find(find), patience).await? {
                Reply::Peers(list) => Ok(list),
                Reply::Swarms(_) | Reply::Found(_) => Ok(PeerList::default()),
            };
        }
        let held = (around.held)();
        let request = Request::Announce(Announce {
            event,
            downloaded: held,
            left: Some(self.length.saturating_sub(held)),
            num_want: Some(if event == PeerEvent::Stopped { 0 } else { WANT }),
            title: self.title.clone(),
            length: Some(self.length),
            ..Announce::new(
                Peer::at(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0)),
                self.names.clone(),
            )
        });
        match around.handler.ask(&self.overlay, request, patience).await? {
            Reply::Peers(list) => Ok(list),
            Reply::Swarms(_) | Reply::Found(_) => Ok(PeerList::default()),
        }
    }

    /// Takes note of an answer; gives when to ask next, and when at the soonest.
    fn take(
        &self,
        answer: Result<PeerList, Fault>,
        role: &Role,
        around: &Around,
        failures: u32,
        start: Instant,
    ) -> (Instant, Instant) {
        let wait = match answer {
            Ok(list) => {
                let is_own = |peer: &SocketAddr| around.handler.is_bridge(&self.overlay, *peer);
                let peers: Vec<SocketAddr> = list
                    .peers
                    .iter()
                    .map(|peer| peer.endpoint)
                    .filter(|peer| !is_own(peer))
                    .collect();
                if let Some(seeder) = &around.seeder
                    && !role.upstream.is_empty()
                {
                    seeder.invite(self.name(), &peers);
                }
                let regular = list.interval.clamp(SHORTEST, LONGEST);
                let empty = peers.is_empty() && role.source;
                let mut view = self.lock();
                // A tracker that was asked too soon may name nobody; what was known is better than nothing.
                if !peers.is_empty() || list.seeders == Some(0) {
                    view.peers = peers;
                }
                view.seeders = list.seeders;
                view.leechers = list.leechers;
                view.announced = true;
                view.last_error = list.warning;
                drop(view);
                let least =
                    list.min_interval.unwrap_or(HURRY.min(regular)).clamp(SHORTEST, LONGEST);
                let next = if empty { regular.min(POLL.max(least)) } else { regular };
                (start + next, start + least)
            }
            Err(fault) => {
                let backoff =
                    FIRST_RETRY.saturating_mul(1 << (failures - 1).min(10)).min(LAST_RETRY);
                let wait = fault.retry_after.unwrap_or(backoff).clamp(FIRST_RETRY, LONGEST);
                self.lock().last_error = fault.text;
                (start + wait, start + wait)
            }
        };
        self.changed.send_modify(|count| *count += 1);
        wait
    }
}

/// Waits until one of them changes.
pub(crate) async fn one_changed(watched: &mut [watch::Receiver<u64>]) {
    if watched.is_empty() {
        return std::future::pending().await;
    }
    let waits = watched.iter_mut().map(|watch| {
        Box::pin(async move {
            if watch.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    });
    futures::future::select_all(waits).await;
}
