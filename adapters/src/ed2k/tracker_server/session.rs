//! The session of one client, from its login until it leaves.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use p2pbridge_proto::{OverlayId, SearchHit, SearchResult};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tracing::debug;

use super::{
    Front,
    line::{End, Form, Line},
    offers::Offers,
    pace::Bucket,
    probe,
    roster::{Entrant, Seat},
};
use crate::{
    admission::Ticket,
    ed2k::{
        clients::Hint,
        wire::{
            Packet,
            hello::Crypt,
            server::{
                ClientMessage, IdChange, Login, ServerMessage, client_flags, decode_from_client,
            },
        },
    },
    tally::{Outcome, Owed},
};

/// How long a client may take to log in.
const LOGIN: Duration = Duration::from_secs(15);
/// How long an answer may take to be found.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Answers of one client that are waited for; with so many no question is taken from it.
const MAX_WAITING: usize = 16;
/// Questions that a client may ask at once, and then in a second: it has to wait with others.
const BURST: f64 = 200.0;
const PER_SECOND: f64 = 20.0;
/// Messages of a client that could not be understood; then it is of no use.
const MAX_BAD: u32 = 50;
/// Between two messages that say how many clients and files there are.
const STATUS: Duration = Duration::from_secs(60);
/// Files that are announced again, or taken back, at a time.
const AT_ONCE: usize = 100;
/// Between two such times.
const BREATH: Duration = Duration::from_millis(50);
/// How long what is left to be sent may take when the server stops.
const DRAIN: Duration = Duration::from_secs(2);
/// How long a client's earlier session may take to end when it logs in again.
const TAKING_OVER: Duration = Duration::from_secs(5);

/// A client that is logged in.
pub(super) struct Session {
    pub(super) front: Arc<Front>,
    pub(super) line: Line,
    pub(super) form: Form,
    pub(super) seat: Arc<Seat>,
    /// It is another bridge: it must not be answered with what this one would ask others for.
    pub(super) is_bridge: bool,
    pub(super) offers: Offers,
    /// Whether the client was told that it offers too many files.
    pub(super) told_too_many: bool,
    /// Results of its last search that it may ask for.
    pub(super) rest: Vec<SearchHit>,
    /// Answers that come later.
    pub(super) waiting: FuturesUnordered<BoxFuture<'static, Later>>,
    pub(super) pace: Bucket,
    bad: u32,
    status: (u32, u32),
    next_status: Instant,
    next_offers: Instant,
}

/// What came later.
pub(super) enum Later {
    /// This is to be said.
    Say(ServerMessage, Outcome, Owed),
    /// A search has found this.
    Found(SearchResult, Owed),
}

/// Serves a client until it leaves, or has to.
pub(super) async fn run(
    front: Arc<Front>,
    stream: TcpStream,
    remote: SocketAddr,
    ticket: Ticket<()>,
) {
    let overlay = front.server.overlay.clone();
    let (stop, here) = (front.stop.clone(), stream.local_addr().ok());
    let mut line = Line::new(stream);
    let logged_in = tokio::select! {
        login = timeout(LOGIN, first(&front, &mut line)) => login,
        () = ticket.evicted() => return,
        () = stop.cancelled() => return,
    };
    let (login, owed) = match logged_in {
        Ok(Ok(login)) => login,
        Ok(Err(error)) => {
            debug!(%overlay, %remote, %error, "a client has not logged in");
            return;
        }
        Err(_) => {
            debug!(%overlay, %remote, "a client has not logged in in time");
            return;
        }
    };
    ticket.joined(());
    ticket.is_now(true, false);
    let seated = tokio::select! {
        seated = seat(&front, &login, remote, here) => seated,
        () = stop.cancelled() => return,
    };
    let Some((seat, letters)) = seated else { return };
    let mut session = Session::new(front.clone(), line, &login, seat.clone());
    session.welcome(&login, here);
    owed.done(Outcome::Answered);
    let end = session.serve(letters).await;
    front.count_noise(&end);
    debug!(%overlay, %remote, nick = login.nick(), %end, "a client has left");
    session.leave(&overlay).await;
}

/// The login, which comes first.
async fn first(front: &Front, line: &mut Line) -> Result<(Login, Owed), End> {
    let packet = opening(front, line).await.inspect_err(|end| front.count_noise(end))?;
    front.tally.came();
    match decode_from_client(&packet) {
        Ok(ClientMessage::Login(login)) => Ok((login, front.tally.owed())),
        Ok(_) => {
            front.tally.done(Outcome::Malformed);
            Err(End::Said("it has asked before it has logged in"))
        }
        Err(error) => {
            front.tally.done(Outcome::Malformed);
            Err(error.into())
        }
    }
}

/// The first message, plainly or obfuscated.
async fn opening(front: &Front, line: &mut Line) -> Result<Packet, End> {
    if !line.begins_plainly().await? {
        if !front.server.config.obfuscation {
            return Err(End::NoMessage("it does not begin as eD2k does"));
        }
        line.agree().await?;
    }
    line.next().await
}

impl Front {
    /// Counts what has ended a connection because it was no message at all.
    fn count_noise(&self, end: &End) {
        if matches!(end, End::Wire(_) | End::Obfuscation(_) | End::NoMessage(_)) {
            self.tally.came();
            self.tally.done(Outcome::Malformed);
        }
    }
}

/// Finds out whether the client can be reached, and gives it a seat.
async fn seat(
    front: &Front,
    login: &Login,
    remote: SocketAddr,
    here: Option<SocketAddr>,
) -> Option<(Arc<Seat>, mpsc::Receiver<ServerMessage>)> {
    let server = &front.server;
    let client = probe::in_ipv4(remote, login.port)?;
    let here = here.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
    let _turn = front.probes.acquire().await.ok()?;
    let reached =
        login.port != 0 && probe::is_reachable(login, client, here, &server.greeting).await;
    let entrant = Entrant {
        high: reached.then_some(*client.ip()),
        port: login.port,
        user: login.user,
        options: login.crypt_options(),
    };
    let (seat, letters, before) = server.roster.enter(&entrant)?;
    if let Some(before) = before {
        // What it offered is taken back before it is offered again.
        let _ = timeout(TAKING_OVER, before.gone.cancelled()).await;
    }
    if let (Some(hub), true) = (server.hub.upgrade(), seat.options != 0) {
        let crypt = Crypt::from_bits(seat.options);
        hub.hint(seat.endpoint, Hint { hash: Some(seat.user), crypt });
    }
    Some((seat, letters))
}

impl Session {
    fn new(front: Arc<Front>, line: Line, login: &Login, seat: Arc<Seat>) -> Self {
        let (now, flags) = (Instant::now(), login.flags());
        let config = &front.server.config;
        let offers = Offers::new(config.max_files_per_client, config.interval);
        Self {
            line,
            form: Form {
                new_tags: flags & client_flags::NEW_TAGS != 0,
                packed: flags & client_flags::ZLIB != 0,
            },
            seat,
            is_bridge: super::is_a_bridge(login),
            offers,
            told_too_many: false,
            rest: Vec::new(),
            waiting: FuturesUnordered::new(),
            pace: Bucket::new(BURST, PER_SECOND, now),
            bad: 0,
            status: (0, 0),
            next_status: now + STATUS,
            next_offers: now,
            front,
        }
    }

    pub(super) fn say(&mut self, message: &ServerMessage) {
        self.line.say(message, self.form);
    }

    /// Tells the client its id, and who the server is.
    fn welcome(&mut self, login: &Login, here: Option<SocketAddr>) {
        let server = self.front.server.clone();
        let at = server.seen_at(here);
        let seen = self.line.remote().and_then(|remote| probe::in_ipv4(remote, login.port));
        self.say(&ServerMessage::IdChange(IdChange {
            id: self.seat.id.number(),
            flags: Some(super::FLAGS),
            port: Some(at.port().into()),
            seen: seen.map(|seen| *seen.ip()),
            obfuscated_port: Some(server.obfuscated_port(at).into()),
        }));
        if !server.config.welcome.is_empty() {
            self.say(&ServerMessage::Message(server.config.welcome.clone()));
        }
        if self.seat.id.is_low() {
            let text = format!(
                "WARNING : nobody can connect to your port {}: you have a low id",
                login.port
            );
            self.say(&ServerMessage::Message(text));
        }
        self.say(&ServerMessage::Ident(server.ident(at)));
        self.tell_status(true);
    }

    fn tell_status(&mut self, always: bool) {
        let status = self.front.server.status();
        if always || status != self.status {
            self.status = status;
            self.say(&ServerMessage::Status { users: status.0, files: status.1 });
        }
        self.next_status = Instant::now() + STATUS;
    }

    /// Until it leaves.
    async fn serve(&mut self, mut letters: mpsc::Receiver<ServerMessage>) -> End {
        let stop = self.front.stop.clone();
        let leave = self.seat.leave.clone();
        loop {
            if let Err(end) = self.take_messages() {
                return end;
            }
            let now = Instant::now();
            let room = self.line.has_room() && self.waiting.len() < MAX_WAITING;
            let pause = self.pace.ready_at(now);
            let offers = self.offers.next_due().map(|due| due.max(self.next_offers));
            let wake = [Some(self.next_status), offers, pause.filter(|_| room)];
            let wake = wake.into_iter().flatten().min().unwrap_or(self.next_status);
            tokio::select! {
                turned = self.line.turn(room && pause.is_none()) => {
                    if let Err(end) = turned {
                        return end;
                    }
                }
                Some(later) = self.waiting.next() => self.later(later),
                Some(letter) = letters.recv(), if self.line.has_room() => self.say(&letter),
                () = sleep_until(wake) => self.on_time(),
                () = leave.cancelled() => return End::Said("it has logged in again"),
                () = stop.cancelled() => return End::Said("the server stops"),
            }
        }
    }

    /// Takes the messages that are there, as far as there is room for answers.
    fn take_messages(&mut self) -> Result<(), End> {
        while self.line.has_room()
            && self.waiting.len() < MAX_WAITING
            && self.pace.ready_at(Instant::now()).is_none()
        {
            let Some(packet) = self.line.take()? else { return Ok(()) };
            self.front.tally.came();
            match decode_from_client(&packet) {
                Ok(ClientMessage::Disconnect) => {
                    self.front.tally.done(Outcome::Answered);
                    return Err(End::Closed);
                }
                Ok(message) => self.answer(message),
                Err(error) => {
                    debug!(opcode = packet.opcode, %error, "a message that is not understood");
                    self.front.tally.done(Outcome::Malformed);
                    self.pace.take(1.0, Instant::now());
                    self.bad += 1;
                    if self.bad > MAX_BAD {
                        return Err(End::Said("too many messages that are not understood"));
                    }
                    if !matches!(error, crate::ed2k::wire::WireError::Opcode { .. }) {
                        self.say(&ServerMessage::Reject);
                    }
                }
            }
        }
        Ok(())
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        if self.next_status <= now {
            self.tell_status(false);
        }
        if self.next_offers <= now {
            for _ in 0..AT_ONCE {
                let Some(announce) = self.offers.pop_due(&self.seat, now) else { return };
                // It was taken once; a refusal now is one for next time.
                let _ = self.announce(announce);
            }
            self.next_offers = now + BREATH;
        }
    }

    /// Takes back what the client offered, and gives up its seat.
    async fn leave(mut self, overlay: &OverlayId) {
        let files = self.offers.len();
        let mut taken_back = 0_usize;
        while let Some(announce) = self.offers.pop(&self.seat) {
            let _ = self.announce(announce);
            taken_back += 1;
            if taken_back.is_multiple_of(AT_ONCE) {
                tokio::task::yield_now().await;
            }
        }
        self.front.server.roster.give_files(files);
        self.front.server.roster.leave(&self.seat);
        debug!(%overlay, files, "offers of a client that has left are taken back");
        self.line.finish(DRAIN).await;
    }
}
