//! A session with one server: login, what the server says, what it is told.

use std::{
    net::{SocketAddr, SocketAddrV4},
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::BytesMut;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use p2pbridge_proto::Fault;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info, warn};

use super::{
    Ed2kTrackerClient,
    line::Line,
    server::{Server, shown},
};
use crate::{
    BadInput, Flaw, Party,
    budget::Shed,
    ed2k::{
        clients::Hint,
        identity,
        wire::{
            ClientId, Packet, Tag, WireError,
            hello::Crypt,
            server::{
                CallbackRequested, ClientMessage, FoundSources, Holder, IdChange, Login,
                ServerMessage, client_flags, decode_from_server, login_tag, server_flags,
            },
        },
    },
};

/// How long a connection with a server may take.
const CONNECTING: Duration = Duration::from_secs(10);
/// How long a server may take to say what it calls the bridge: it tries whether it can be reached first.
const LOGIN: Duration = Duration::from_secs(30);
/// How long a server may take to read a message.
const WRITING: Duration = Duration::from_secs(30);
/// The most bytes of a message of a server, on the wire and inflated.
const MAX_MESSAGE: usize = 1 << 20;
/// Messages of a server that may be wrong before the session ends.
const MAX_BAD: u32 = 50;
/// Messages of a server in a while, and the while.
const MAX_MESSAGES: u32 = 5_000;
const WHILE: Duration = Duration::from_secs(10);
/// Clients that are connected to at the same time because they have asked for it.
const MAX_CALLED: usize = 16;
/// A server that has not said a word for so long, and has left so many questions without an answer, is asked for other
/// servers. That is answered even by one that knows no sources; who does not within the time is gone.
const SILENCE: Duration = Duration::from_secs(300);
const MAX_UNANSWERED: u32 = 8;
const LAST_WORD: Duration = Duration::from_secs(60);
/// Files of one offer, as eMule has it.
const BATCH: usize = 200;
/// Between two offers, and before the first: what comes together is offered together.
const BETWEEN: Duration = Duration::from_secs(2);
const GATHERING: Duration = Duration::from_millis(200);
/// How often a server hears something: an empty offer when there is nothing to say.
const KEEP_ALIVE: Duration = Duration::from_secs(120);
/// The version of eDonkey that is spoken.
const VERSION: u32 = 0x3C;
/// Program and version in the form of eMule (`CT_EMULE_VERSION`): one that is compatible with it, 0.50.
const EMULE_VERSION: u32 = 0xFF << 24 | 50 << 10;

/// A connection with a server.
struct Socket {
    reader: OwnedReadHalf,
    inbox: BytesMut,
    bad_input: Arc<BadInput>,
    bad: u32,
    /// Messages since this moment.
    messages: u32,
    since: Instant,
}

impl Ed2kTrackerClient {
    /// Logs in, and keeps the session until it ends; the text says why.
    pub(super) async fn session(&self, server: &Arc<Server>) -> String {
        match self.try_session(server).await {
            Ok(never) => match never {},
            Err(problem) => problem,
        }
    }

    async fn try_session(&self, server: &Arc<Server>) -> Result<std::convert::Infallible, String> {
        let (mut socket, mut writer, address) = self.connect(server).await?;
        let (line, end) = Line::new(server.clone(), address, self.next_session());
        let begun = Instant::now();
        self.log_in(&line, &mut writer).await?;
        let change = timeout(LOGIN, self.first_id(&mut socket, &line)).await;
        let change = change.map_err(|_| {
            self.server_sent_bad(Flaw::Silent);
            format!("no id within {LOGIN:?} after the login")
        })??;
        self.called(&line, &change)?;
        server.answers(begun.elapsed());
        let _online = self.online(&line);
        tokio::select! {
            problem = self.listen(&mut socket, &line) => Err(problem),
            problem = write(&mut writer, end.queued) => Err(problem),
            fault = self.offer_all(&line) => Err(fault.text),
        }
    }

    async fn connect(
        &self,
        server: &Server,
    ) -> Result<(Socket, OwnedWriteHalf, SocketAddrV4), String> {
        let connect = async {
            let address = server.address().await?;
            let stream =
                self.dial(address).await.map_err(|error| format!("cannot connect: {error}"))?;
            Ok((stream, address))
        };
        let (stream, address) = timeout(CONNECTING, connect)
            .await
            .map_err(|_| format!("no connection within {CONNECTING:?}"))
            .flatten()?;
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(60))
            .with_interval(Duration::from_secs(15))
            .with_retries(4);
        // Without it a server whose machine is gone is noticed later.
        let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
        let _ = stream.set_nodelay(true);
        let (reader, writer) = stream.into_split();
        let socket = Socket {
            reader,
            inbox: BytesMut::new(),
            bad_input: self.clients.bad_input().clone(),
            bad: 0,
            messages: 0,
            since: Instant::now(),
        };
        Ok((socket, writer, address))
    }

    /// Connects from the one address at which the bridge listens, if there is one: clients find it there.
    async fn dial(&self, server: SocketAddrV4) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        let mut listens = self.clients.endpoints().into_iter();
        if let (Some(from), None) = (listens.next(), listens.next())
            && from.is_ipv4()
            && !from.ip().is_unspecified()
        {
            socket.bind(SocketAddr::new(from.ip(), 0))?;
        }
        socket.connect(server.into()).await
    }

    async fn log_in(&self, line: &Line, writer: &mut OwnedWriteHalf) -> Result<(), String> {
        let by = Instant::now().checked_add(CONNECTING).unwrap_or_else(Instant::now);
        let limiter = &line.server.limiter;
        let ticket = limiter.admit(by).await.map_err(|shed| Fault::from(shed).text)?;
        ticket.message(by).await.map_err(|shed| Fault::from(shed).text)?;
        let Crypt { supports, requests, requires } = self.crypt();
        let crypt = [
            (supports, client_flags::CRYPT_SUPPORTED),
            (requests, client_flags::CRYPT_REQUESTED),
            (requires, client_flags::CRYPT_REQUIRED),
        ];
        let flags = client_flags::ZLIB
            | client_flags::NEW_TAGS
            | client_flags::UNICODE
            | client_flags::LARGE_FILES
            | crypt.iter().filter(|(on, _)| *on).fold(0, |all, (_, flag)| all | flag);
        let login = ClientMessage::Login(Login {
            user: self.identity.hash,
            id: 0,
            port: self.port(),
            tags: vec![
                Tag::text(login_tag::NICK, self.nick.as_str()),
                Tag::number(login_tag::VERSION, VERSION),
                Tag::number(login_tag::FLAGS, flags),
                Tag::number(login_tag::EMULE_VERSION, EMULE_VERSION),
                Tag::text(login_tag::PROGRAM, identity::PROGRAM),
            ],
        });
        put(writer, &login.to_packet(false).to_bytes()).await
    }

    /// What the server calls the bridge; what it says before is heard too.
    async fn first_id(&self, socket: &mut Socket, line: &Line) -> Result<IdChange, String> {
        let mut last = String::new();
        loop {
            match socket.next().await? {
                Some(ServerMessage::IdChange(change)) if change.id != 0 => return Ok(change),
                Some(ServerMessage::IdChange(_) | ServerMessage::Reject) => {
                    return Err(format!("it does not take the bridge: {last}"));
                }
                Some(ServerMessage::Message(text)) => {
                    last = shown(&text);
                    self.told(line, &text);
                }
                Some(ServerMessage::Status { users, files }) => line.server.has(users, files),
                _ => {}
            }
        }
    }

    /// The server has given the bridge an id, the first or another.
    fn called(&self, line: &Line, change: &IdChange) -> Result<(), String> {
        if change.id == 0 {
            return Err("it has taken the bridge's id back".to_owned());
        }
        line.set(change.id, change.flags);
        let standing = match line.id() {
            ClientId::High(ip) => format!("high id {ip}"),
            ClientId::Low(number) => {
                let port = self.port();
                warn!(
                    overlay = %self.overlay, server = %line.server.link, port,
                    "the server cannot connect to the bridge: only clients that can be connected to exchange files with it"
                );
                format!(
                    "low id {number}: the server could not connect to port {port} of the bridge; other clients \
                     reach it by the server's callback only, and those with a low id not at all"
                )
            }
        };
        info!(overlay = %self.overlay, server = %line.server.link, standing, "logged in");
        line.server.stands(standing);
        self.clients.set_server(change.id, Some(line.address));
        Ok(())
    }

    /// Takes what the server says, until that ends the session.
    async fn listen(&self, socket: &mut Socket, line: &Line) -> String {
        let mut calls: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
        let mut last_words = pin!(self.last_words(line));
        loop {
            let message = tokio::select! {
                message = socket.next() => message,
                Some(()) = calls.next() => continue,
                problem = &mut last_words => return problem,
            };
            line.unanswered.store(0, Ordering::Relaxed);
            last_words.set(self.last_words(line));
            match message {
                Ok(Some(ServerMessage::CallbackRequested(asked))) => {
                    if calls.len() < MAX_CALLED {
                        calls.push(self.be_called(line, asked).boxed());
                    } else {
                        self.server_sent_bad(Flaw::Excessive);
                        debug!(overlay = %self.overlay, "too many clients want to be connected to");
                    }
                }
                Ok(Some(message)) => {
                    if let Err(problem) = self.hear(line, message) {
                        return problem;
                    }
                }
                Ok(None) => {}
                Err(problem) => return problem,
            }
        }
    }

    /// Ends when a server that says nothing must be gone. To be begun anew with each of its messages.
    async fn last_words(&self, line: &Line) -> String {
        loop {
            sleep(SILENCE).await;
            if line.unanswered.load(Ordering::Relaxed) < MAX_UNANSWERED {
                continue;
            }
            let by = Instant::now().checked_add(LAST_WORD).unwrap_or_else(Instant::now);
            // Without the budget to ask nothing is known of it.
            if line.ask(&ClientMessage::GetServerList, by).await.is_ok() {
                sleep(LAST_WORD).await;
                self.server_sent_bad(Flaw::Silent);
                return format!("it has not answered anything for {:?}", SILENCE + LAST_WORD);
            }
        }
    }

    fn hear(&self, line: &Line, message: ServerMessage) -> Result<(), String> {
        match message {
            ServerMessage::IdChange(change) => return self.called(line, &change),
            ServerMessage::Status { users, files } => line.server.has(users, files),
            ServerMessage::Message(text) => self.told(line, &text),
            ServerMessage::FoundSources(found) => self.found(line, &found, false),
            ServerMessage::FoundSourcesObfuscated(found) => self.found(line, &found, true),
            ServerMessage::SearchResult(answer) => {
                if !line.found(answer) {
                    self.server_sent_bad(Flaw::Unexpected);
                }
            }
            ServerMessage::Ident(ident) => {
                let name = shown(ident.name().unwrap_or_default());
                debug!(overlay = %self.overlay, server = %line.server.link, name, "who the server is");
            }
            // The operator says which servers the bridge speaks to.
            ServerMessage::ServerList(servers) => {
                debug!(overlay = %self.overlay, servers = servers.len(), "other servers: not used");
            }
            ServerMessage::Reject | ServerMessage::CallbackFailed => {
                debug!(overlay = %self.overlay, ?message, "the server did not do what it was asked");
            }
            ServerMessage::CallbackRequested(_) => {}
        }
        Ok(())
    }

    fn told(&self, line: &Line, text: &str) {
        info!(overlay = %self.overlay, server = %line.server.link, text = shown(text), "the server says");
    }

    fn found(&self, line: &Line, found: &FoundSources, obfuscated: bool) {
        let endpoint =
            |at: usize| found.sources.get(at).map(|source| source.id.endpoint(source.port));
        if obfuscated {
            for (at, source) in found.sources.iter().enumerate() {
                let crypt = Crypt::from_bits(source.crypt.options);
                if let Some(endpoint) = endpoint(at).filter(|endpoint| self.takes(line, *endpoint))
                    && (crypt.supports || source.crypt.user.is_some())
                {
                    self.clients.hint(endpoint, Hint { hash: source.crypt.user, crypt });
                }
            }
        }
        let endpoints: Vec<_> = (0..found.sources.len()).filter_map(endpoint).collect();
        if !self.memory().found(found.hash, endpoints.into_iter(), Instant::now()) {
            self.server_sent_bad(Flaw::Unexpected);
        }
    }

    /// Connects to a client that wants the bridge to, and lets it ask.
    async fn be_called(&self, line: &Line, asked: CallbackRequested) {
        let endpoint = SocketAddr::V4(asked.client);
        if !self.takes(line, endpoint) {
            return;
        }
        if let Some(crypt) = asked.crypt {
            let hint = Hint { hash: crypt.user, crypt: Crypt::from_bits(crypt.options) };
            self.clients.hint(endpoint, hint);
        }
        if let Err(error) = self.clients.link_to(endpoint).await {
            debug!(overlay = %self.overlay, %endpoint, %error, "a client that wants to be called");
        }
    }

    /// Offers what there is, what is new, and nothing at times; ends with a fault.
    async fn offer_all(&self, line: &Line) -> Fault {
        loop {
            sleep(GATHERING).await;
            let large = || line.can(server_flags::LARGE_FILES);
            while self.offers().is_untold(line.number, large()) {
                let by = Instant::now().checked_add(KEEP_ALIVE).unwrap_or_else(Instant::now);
                let ticket = match line.admit(by).await {
                    Ok(ticket) => ticket,
                    Err(Shed { retry_after, .. }) => {
                        sleep(retry_after).await;
                        continue;
                    }
                };
                let mut files = self.offers().batch(line.number, BATCH, large());
                if !line.can(server_flags::ZLIB) {
                    // It does not know the marks of complete and incomplete files.
                    let id = if line.is_high() { line.id() } else { ClientId::Low(0) };
                    let holder = Holder::Client { id, port: self.port() };
                    files.iter_mut().for_each(|file| file.holder = holder);
                }
                if let Err(fault) = line.send(&ClientMessage::Offer(files), true).await {
                    return fault;
                }
                drop(ticket);
                sleep(BETWEEN).await;
            }
            if timeout(KEEP_ALIVE, self.offered.notified()).await.is_err() {
                let by = Instant::now().checked_add(KEEP_ALIVE).unwrap_or_else(Instant::now);
                // When there is no budget for it, the server hears enough.
                match line.ask(&ClientMessage::Offer(Vec::new()), by).await {
                    Err(fault) if !fault.is_retryable() => return fault,
                    _ => {}
                }
            }
        }
    }

    fn server_sent_bad(&self, flaw: Flaw) {
        self.clients.bad_input().add(Party::Tracker, flaw);
    }

    /// How the bridge obfuscates its connections with clients.
    pub(super) fn crypt(&self) -> Crypt {
        self.clients.crypt()
    }
}

impl Socket {
    /// The next message; nothing when it is one that cannot be read.
    async fn next(&mut self) -> Result<Option<ServerMessage>, String> {
        loop {
            let packet = Packet::take(&mut self.inbox, MAX_MESSAGE);
            let packet = packet.map_err(|error| {
                self.bad_input.add(Party::Tracker, Flaw::Malformed);
                format!("it does not speak eD2k: {error}")
            })?;
            if let Some(packet) = packet {
                return self.read(&packet);
            }
            self.inbox.reserve(4096);
            let read = self.reader.read_buf(&mut self.inbox).await;
            if read.map_err(|error| format!("the connection has ended: {error}"))? == 0 {
                return Err("it has closed the connection".to_owned());
            }
        }
    }

    fn read(&mut self, packet: &Packet) -> Result<Option<ServerMessage>, String> {
        if self.since.elapsed() >= WHILE {
            (self.messages, self.since) = (0, Instant::now());
        }
        self.messages += 1;
        if self.messages > MAX_MESSAGES {
            self.bad_input.add(Party::Tracker, Flaw::Excessive);
            return Err(format!("it has sent {MAX_MESSAGES} messages within {WHILE:?}"));
        }
        match decode_from_server(packet) {
            Ok(message) => Ok(Some(message)),
            Err(WireError::Opcode { .. }) => Ok(None),
            Err(error) => {
                debug!(opcode = packet.opcode, %error, "a message of a server cannot be read");
                self.bad_input.add(Party::Tracker, Flaw::Malformed);
                self.bad += 1;
                if self.bad > MAX_BAD {
                    return Err(format!("{MAX_BAD} of its messages cannot be read: {error}"));
                }
                Ok(None)
            }
        }
    }
}

/// Writes what is queued, until the server does not read it.
async fn write(writer: &mut OwnedWriteHalf, mut queued: mpsc::Receiver<Vec<u8>>) -> String {
    while let Some(bytes) = queued.recv().await {
        if let Err(problem) = put(writer, &bytes).await {
            return problem;
        }
    }
    "nobody writes any more".to_owned()
}

async fn put(writer: &mut OwnedWriteHalf, bytes: &[u8]) -> Result<(), String> {
    match timeout(WRITING, writer.write_all(bytes)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("the connection has ended: {error}")),
        Err(_) => Err(format!("it has not read a message within {WRITING:?}")),
    }
}
