//! The bridge as one more client of an eD2k server: logged in to one of a list at a time.
//!
//! What is announced is offered to the server, and stays offered until the session ends: the protocol cannot take an
//! offer back. Other servers that a server names are not used: the operator says to whom the bridge speaks.

mod line;
mod memory;
mod offers;
mod server;
mod session;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use p2pbridge_proto::{
    Announce, Ed2kServerLink, ErrorCode, Fault, Find, Name, OverlayId, Peer, PeerEvent, PeerList,
    Reply, Request, Scheme, Search, SearchResult,
};
use tokio::{
    sync::{Notify, Semaphore, oneshot, watch},
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::{
    line::Line,
    memory::Memory,
    offers::{MAX_OFFERS, Offers},
    server::Server,
};
use super::{
    callback::CallBack,
    clients::Clients,
    identity::Identity,
    sources::{Filter, SourceBook},
    translate::{expression_of_query, offer_of_announce, result_of_answer},
    wire::{
        ClientId, Hash,
        server::{ClientMessage, SearchAnswer, Wanted, server_flags},
    },
};
use crate::{Budget, TrackerClient, TrackerHealth, listen};

/// How many calls may be under way at once; more are refused.
const MAX_CALLS: usize = 4096;
/// How long a server has to name sources; many say nothing when they know none.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long peers of a file are told to be good for, and how often a server is asked of a file at most.
const INTERVAL: Duration = Duration::from_secs(900);
const MIN_INTERVAL: Duration = Duration::from_secs(20);
/// The most names of one file: there are two where its length is a multiple of a part's.
const MAX_HASHES: usize = 4;
/// The most results of a search, and the most questions for more of them.
const MAX_RESULTS: usize = 1000;
const MAX_MORE: usize = 5;
/// How long the answer to a search may take that was given up: the next one waits for it, to have its own.
const LATE: Duration = Duration::from_secs(60);

/// To which servers the bridge logs in, and as whom.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The servers, in order; the first one that is not left alone is used.
    pub servers: Vec<Ed2kServerLink>,
    /// What the bridge calls itself.
    pub nick: String,
    /// The addresses by which this host is known outside.
    pub public: Vec<IpAddr>,
    /// What each server may be asked.
    pub budget: Budget,
}

/// Asks the server to which the bridge is logged in.
pub struct Ed2kTrackerClient {
    overlay: OverlayId,
    identity: Arc<Identity>,
    nick: String,
    clients: Arc<Clients>,
    book: Arc<SourceBook>,
    /// Where the bridge may be seen.
    own: Vec<SocketAddr>,
    servers: Vec<Arc<Server>>,
    /// The session, while there is one.
    line: watch::Sender<Option<Arc<Line>>>,
    sessions: AtomicU64,
    offers: Mutex<Offers>,
    /// There is something new to offer.
    offered: Notify,
    memory: Mutex<Memory>,
    /// Held by whoever searches: an answer does not say to what. In it is a search that was given up before its answer.
    turn: tokio::sync::Mutex<Option<Owed>>,
    room: Semaphore,
}

/// The answer to a search, from when it is asked until it comes.
struct Owed {
    /// The session's number.
    session: u64,
    answer: oneshot::Receiver<SearchAnswer>,
    /// Until when it may come.
    until: Instant,
}

/// A session that others may use, until this is dropped.
struct Online<'a>(&'a Ed2kTrackerClient);

impl Drop for Online<'_> {
    fn drop(&mut self) {
        self.0.line.send_replace(None);
        self.0.clients.set_server(0, None);
        self.0.memory().new_session();
    }
}

impl Ed2kTrackerClient {
    /// A client that is not logged in yet: [`Self::run`] does that. Clients that the server has call back, and those that
    /// want to be called, meet the bridge in `clients`; `book` has what clients say of sources.
    #[must_use]
    pub fn new(
        overlay: &OverlayId,
        config: &ClientConfig,
        identity: Arc<Identity>,
        clients: Arc<Clients>,
        book: Arc<SourceBook>,
    ) -> Arc<Self> {
        let server = |link: &Ed2kServerLink| Arc::new(Server::new(link.clone(), config.budget));
        let client = Arc::new(Self {
            overlay: overlay.clone(),
            identity,
            nick: config.nick.clone(),
            own: listen::seen_at(&clients.endpoints(), &config.public),
            clients,
            book,
            servers: config.servers.iter().map(server).collect(),
            line: watch::Sender::new(None),
            sessions: AtomicU64::new(0),
            offers: Mutex::default(),
            offered: Notify::new(),
            memory: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            room: Semaphore::new(MAX_CALLS),
        });
        client.clients.set_call_back(Arc::new(Caller(Arc::downgrade(&client))));
        client
    }

    /// Keeps the bridge logged in to one of the servers until told to stop. The seeder must be listening: servers try
    /// whether it can be reached.
    pub async fn run(&self, stop: CancellationToken) {
        stop.run_until_cancelled(self.stay_logged_in()).await;
    }

    async fn stay_logged_in(&self) {
        loop {
            let now = Instant::now();
            let ready = self.servers.iter().find(|server| server.rests_for(now).is_none());
            match ready {
                Some(server) => {
                    let problem = self.session(server).await;
                    warn!(overlay = %self.overlay, server = %server.link, problem, "not logged in");
                    server.failed(problem);
                }
                None => {
                    let next = self.next_try(now).and_then(|left| now.checked_add(left));
                    sleep_until(next.unwrap_or(now)).await;
                }
            }
        }
    }

    /// How long it is until a server may be logged in to again.
    fn next_try(&self, now: Instant) -> Option<Duration> {
        self.servers.iter().filter_map(|server| server.rests_for(now)).min()
    }

    fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    fn online(&self, line: &Arc<Line>) -> Online<'_> {
        self.line.send_replace(Some(line.clone()));
        Online(self)
    }

    /// The session; while there is none, it is waited for.
    async fn line(&self, deadline: Instant) -> Result<Arc<Line>, Fault> {
        let mut lines = self.line.subscribe();
        let line = match timeout_at(deadline, lines.wait_for(Option::is_some)).await {
            Ok(Ok(line)) => line.clone(),
            _ => None,
        };
        line.ok_or_else(|| {
            let said = self.servers.iter().find_map(|server| server.last_error());
            let said = said.unwrap_or_else(|| "no server has answered yet".to_owned());
            let text = format!("the bridge is not logged in to a server: {said}");
            let mut fault = Fault::new(ErrorCode::Unavailable, text);
            fault.retry_after = self.next_try(Instant::now());
            fault
        })
    }

    async fn announce(&self, announce: Announce, deadline: Instant) -> Result<PeerList, Fault> {
        if !announce.peer.endpoint.ip().is_unspecified() || !announce.peer.id.is_empty() {
            let text = "a server takes down the client that is logged in: the bridge can only announce itself";
            return Err(Fault::new(ErrorCode::Unsupported, text));
        }
        let hashes = hashes(&announce.names)?;
        if announce.event == PeerEvent::Stopped {
            let mut offers = self.offers();
            hashes.iter().for_each(|hash| offers.remove(hash));
            return Ok(PeerList::default());
        }
        self.offer(&announce, &hashes);
        let fresh = announce.event != PeerEvent::Regular;
        self.sources(&hashes, announce.length, fresh, deadline).await
    }

    /// Offers a file, under each of its names. Empty files are not offered: nobody asks for them.
    fn offer(&self, announce: &Announce, hashes: &[Hash]) {
        if announce.length.is_none_or(|length| length == 0) {
            return;
        }
        let mut news = false;
        for hash in hashes {
            let names = vec![Name::ed2k(*hash)];
            let mut announce = Announce { names, ..announce.clone() };
            if announce.title.is_empty() {
                announce.title = data_encoding::HEXLOWER.encode(hash);
            }
            if let Some(file) = offer_of_announce(&announce) {
                news |= self.offers().put(file);
            }
        }
        if news {
            self.offered.notify_one();
        }
    }

    /// The sources of a file, of its server and of other clients. `fresh`: the server is asked even if it was so of late.
    async fn sources(
        &self,
        hashes: &[Hash],
        size: Option<u64>,
        fresh: bool,
        deadline: Instant,
    ) -> Result<PeerList, Fault> {
        let mut next = MIN_INTERVAL;
        let mut fault = None;
        for hash in hashes {
            let asked = self.memory().asked(hash);
            let age = asked.map(|at| at.elapsed()).filter(|age| *age < MIN_INTERVAL);
            match age {
                Some(age) if !fresh => next = next.min(MIN_INTERVAL.saturating_sub(age)),
                _ => {
                    let wanted = Wanted { hash: *hash, size };
                    fault = self.ask(wanted, deadline).await.err().or(fault);
                }
            }
        }
        let peers = self.known(hashes);
        match fault {
            Some(fault) if peers.is_empty() => Err(fault),
            fault => Ok(PeerList {
                peers,
                interval: INTERVAL,
                min_interval: Some(next.max(Duration::from_secs(1))),
                warning: fault.map(|fault| fault.text).unwrap_or_default(),
                ..PeerList::default()
            }),
        }
    }

    /// Asks the server of one file, and waits until it has answered, or has had the time.
    async fn ask(&self, wanted: Wanted, deadline: Instant) -> Result<(), Fault> {
        let line = self.line(deadline).await?;
        if wanted.size.is_some_and(|size| size > u32::MAX.into())
            && !line.can(server_flags::LARGE_FILES)
        {
            let text = "the server knows no files over 4 GiB";
            return Err(Fault::new(ErrorCode::Unsupported, text));
        }
        let leave_by = leave_by(deadline);
        let _ticket = line.admit(leave_by).await?;
        let answer = self.memory().ask(wanted.hash, Instant::now());
        let obfuscated = self.crypt().supports && line.can(server_flags::OBFUSCATION);
        let message = match obfuscated {
            true => ClientMessage::GetSourcesObfuscated(wanted),
            false => ClientMessage::GetSources(wanted),
        };
        line.send(&message, false).await?;
        let sent = Instant::now();
        let patience = sent.checked_add(PATIENCE).unwrap_or(deadline).min(deadline);
        tokio::select! {
            Ok(()) = answer => {
                line.server.answers(sent.elapsed());
                Ok(())
            }
            () = line.closed() => Err(line.gone()),
            // A server that knows no sources need not say so.
            () = sleep_until(patience) => {
                line.unanswered.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// Who is known to have a file, without the bridge itself and without those that cannot be reached.
    fn known(&self, hashes: &[Hash]) -> Vec<Peer> {
        let line = self.line.borrow().clone();
        let mut peers: Vec<SocketAddr> = Vec::new();
        for hash in hashes {
            let said = self.memory().of(hash);
            // A low id that a client tells means something to that client's server only.
            let heard = self.book.of(hash);
            let heard =
                heard.into_iter().filter(|at| !matches!(ClientId::of(*at), Some(ClientId::Low(_))));
            for source in said.into_iter().chain(heard) {
                if line.as_ref().is_some_and(|line| self.takes(line, source))
                    && !peers.contains(&source)
                {
                    peers.push(source);
                }
            }
        }
        peers.into_iter().map(Peer::at).collect()
    }

    /// Whether a source can be at this address.
    fn takes(&self, line: &Line, source: SocketAddr) -> bool {
        let ourselves = line.id().endpoint(self.port()) == source;
        let filter = Filter { own: &self.own, server: *line.address.ip(), low_ids: line.is_high() };
        !ourselves && filter.takes(source)
    }

    async fn search(&self, search: Search, deadline: Instant) -> Result<SearchResult, Fault> {
        let most = search.max_results.and_then(|most| usize::try_from(most).ok());
        let most = most.unwrap_or(MAX_RESULTS).min(MAX_RESULTS);
        let expression = expression_of_query(&search.query);
        let line = self.line(deadline).await?;
        let busy = |_| Fault::new(ErrorCode::Overloaded, "other searches are under way");
        let mut turn = timeout_at(deadline, self.turn.lock()).await.map_err(busy)?;
        if let Some(owed) = turn.as_mut().filter(|owed| owed.session == line.number) {
            tokio::select! {
                _ = &mut owed.answer => {}
                () = sleep_until(owed.until) => {}
                () = line.closed() => return Err(line.gone()),
                () = sleep_until(deadline) => {
                    let text = "the server has not answered an earlier search yet";
                    return Err(Fault::new(ErrorCode::Overloaded, text));
                }
            }
        }
        *turn = None;
        let mut found = SearchResult::default();
        let mut question = ClientMessage::Search(expression);
        for _ in 0..=MAX_MORE {
            let answer = line.search();
            line.ask(&question, leave_by(deadline)).await?;
            let sent = Instant::now();
            let until = sent.checked_add(LATE).unwrap_or(deadline);
            // It is owed even when whoever searches goes away.
            let owed = turn.insert(Owed { session: line.number, answer, until });
            let answer = tokio::select! {
                Ok(answer) = &mut owed.answer => result_of_answer(&answer),
                () = line.closed() => return Err(line.gone()),
                () = sleep_until(deadline) => {
                    line.unanswered.fetch_add(1, Ordering::Relaxed);
                    let text = "the server has not answered the search in time";
                    return Err(Fault::new(ErrorCode::Unavailable, text));
                }
            };
            *turn = None;
            line.server.answers(sent.elapsed());
            let none = answer.hits.is_empty();
            found.truncated = answer.truncated;
            found.hits.extend(answer.hits);
            if !found.truncated || none || found.hits.len() >= most {
                break;
            }
            question = ClientMessage::MoreResults;
        }
        found.truncated |= found.hits.len() > most;
        found.hits.truncate(most);
        Ok(found)
    }

    /// Asks the server to have a client with a low id connect to the bridge.
    async fn call_back(&self, low_id: u32) -> Result<(), String> {
        let by = Instant::now().checked_add(PATIENCE).unwrap_or_else(Instant::now);
        let line = self.line(by).await.map_err(|fault| fault.text)?;
        if !line.is_high() {
            return Err("the bridge has a low id itself".to_owned());
        }
        let asked = ClientMessage::Callback(ClientId::Low(low_id));
        line.ask(&asked, by).await.map_err(|fault| fault.text)
    }

    /// The TCP port that clients are told.
    fn port(&self) -> u16 {
        self.clients.endpoints().first().map_or(0, SocketAddr::port)
    }

    fn offers(&self) -> MutexGuard<'_, Offers> {
        self.offers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl TrackerClient for Ed2kTrackerClient {
    async fn call(&self, request: Request, deadline: Instant) -> Result<Reply, Fault> {
        let _permit = self.room.try_acquire().map_err(|_| {
            Fault::new(ErrorCode::Overloaded, "too many questions to the server are under way")
        })?;
        match request {
            Request::Announce(announce) => {
                self.announce(announce, deadline).await.map(Reply::Peers)
            }
            Request::Find(Find { names, length, .. }) => {
                let hashes = hashes(&names)?;
                self.sources(&hashes, length, false, deadline).await.map(Reply::Peers)
            }
            Request::SwarmQuery(_) => {
                let text = "an eD2k server tells the number of sources in results of searches only";
                Err(Fault::new(ErrorCode::Unsupported, text))
            }
            Request::Search(search) => self.search(search, deadline).await.map(Reply::Found),
        }
    }

    fn health(&self) -> Vec<TrackerHealth> {
        let shed = self.offers().shed;
        let health = self.servers.iter().map(|server| {
            let mut health = server.health();
            if shed > 0 && !health.standing.is_empty() {
                let text = format!("; {shed} offers over {MAX_OFFERS} files were not made");
                health.standing.push_str(&text);
            }
            health
        });
        health.collect()
    }
}

/// By whom the hub has clients called, without keeping it.
struct Caller(Weak<Ed2kTrackerClient>);

#[async_trait]
impl CallBack for Caller {
    async fn call_back(&self, low_id: u32) -> Result<(), String> {
        let client = self.0.upgrade().ok_or("the overlay is closed")?;
        client.call_back(low_id).await
    }
}

/// The latest moment at which a question may leave whose answer is waited for until a deadline.
fn leave_by(deadline: Instant) -> Instant {
    let now = Instant::now();
    let left = deadline.saturating_duration_since(now);
    let reserve = Duration::from_secs(1).min(left / 2);
    now.checked_add(left.saturating_sub(reserve)).unwrap_or(deadline)
}

/// The eD2k hashes among names, each once.
fn hashes(names: &[Name]) -> Result<Vec<Hash>, Fault> {
    let mut hashes: Vec<Hash> = Vec::new();
    for name in names.iter().filter(|name| name.scheme() == Scheme::Ed2k) {
        if let Ok(hash) = name.digest().try_into()
            && !hashes.contains(&hash)
        {
            hashes.push(hash);
        }
    }
    hashes.truncate(MAX_HASHES);
    if hashes.is_empty() {
        let text = "none of the names is of eD2k";
        return Err(Fault::new(ErrorCode::Unsupported, text));
    }
    Ok(hashes)
}

#[cfg(test)]
#[path = "tracker_client_tests.rs"]
mod tests;
