//! Questions to a UDP tracker (BEP 15), on the wire.

use std::{
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use p2pbridge_proto::{ErrorCode, Fault};
use tokio::{
    net::UdpSocket,
    time::{Instant, timeout_at},
};
use url::Position;

use super::{
    Problem,
    http::{Trip, Way},
    tracker::Tracker,
};
use crate::{
    bittorrent::{
        translate::fault_of_failure,
        wire::{
            http::{AnnounceRequest, AnnounceResponse, Failure, SwarmCounts},
            udp::{UdpError, UdpRequest, UdpResponse},
        },
    },
    budget::Ticket,
};

pub(super) use crate::bittorrent::wire::udp::MAX_SCRAPE;

/// How long a connection id is used: BEP 15 gives it a minute.
const CONNECTION_LIFE: Duration = Duration::from_secs(60);
const MAX_IDLE_LINES: usize = 8;
const MAX_PACKET: usize = 16 << 10;

/// Connections to one tracker that are not in use.
#[derive(Default)]
pub(super) struct Lines(Mutex<Vec<Line>>);

/// A socket that hears one address of a tracker only, and the connection id that was given to it.
struct Line {
    way: Way,
    socket: UdpSocket,
    connection: Option<(u64, Instant)>,
}

pub(super) async fn announce(
    tracker: &Tracker,
    announce: AnnounceRequest,
    trip: Trip<'_>,
) -> Result<AnnounceResponse, Problem> {
    let url = tracker.url.url();
    let url_data = url[Position::BeforePath..Position::AfterQuery].to_owned();
    let url_data = if url_data == "/" { String::new() } else { url_data };
    let request = |connection, transaction| UdpRequest::Announce {
        connection,
        transaction,
        announce: announce.clone(),
        url_data: url_data.clone(),
    };
    match exchange(&tracker.lines, trip, request).await? {
        UdpResponse::Announce { response, .. } => Ok(response),
        other => Err(unexpected(&other)),
    }
}

pub(super) async fn scrape(
    tracker: &Tracker,
    info_hashes: &[[u8; 20]],
    trip: Trip<'_>,
) -> Result<Vec<([u8; 20], SwarmCounts)>, Problem> {
    let request = |connection, transaction| UdpRequest::Scrape {
        connection,
        transaction,
        info_hashes: info_hashes.to_vec(),
    };
    match exchange(&tracker.lines, trip, request).await? {
        UdpResponse::Scrape { swarms, .. } => Ok(info_hashes.iter().copied().zip(swarms).collect()),
        other => Err(unexpected(&other)),
    }
}

/// Random bits; those of the clock, should the operating system have none.
pub(super) fn random() -> u32 {
    getrandom::u32().unwrap_or_else(|_| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |now| now.subsec_nanos())
    })
}

/// Sends a question and waits for its answer, again and again until the deadline, and connects first where needed.
async fn exchange(
    lines: &Lines,
    trip: Trip<'_>,
    request: impl Fn(u64, u32) -> UdpRequest,
) -> Result<UdpResponse, Problem> {
    let Trip { way, ticket, deadline, leave_by, .. } = trip;
    let mut line = match lines.take(way) {
        Some(line) => line,
        None => Line::open(way).await.map_err(broken)?,
    };
    let mut fresh = false;
    let mut attempt = 0;
    while Instant::now() < leave_by {
        let Some(connection) = line.connection_id() else {
            let transaction = random();
            let connect = UdpRequest::Connect { transaction };
            leave(ticket, leave_by).await?;
            match line.ask(&connect, transaction, patience(attempt, deadline)).await? {
                Some(UdpResponse::Connect { connection, .. }) => {
                    line.connection = Some((connection, Instant::now()));
                    fresh = true;
                }
                Some(UdpResponse::Error { message, .. }) => return Err(refused(message)),
                Some(other) => return Err(unexpected(&other)),
                None => attempt += 1,
            }
            continue;
        };
        let transaction = random();
        let question = request(connection, transaction);
        leave(ticket, leave_by).await?;
        match line.ask(&question, transaction, patience(attempt, deadline)).await? {
            // The tracker may have forgotten the connection id: try a new one before believing it.
            Some(UdpResponse::Error { .. }) if !fresh => line.connection = None,
            Some(UdpResponse::Error { message, .. }) => return Err(refused(message)),
            Some(response) => {
                lines.put(line);
                return Ok(response);
            }
            None => {
                attempt += 1;
                // A restarted tracker may drop what bears a connection id that it does not know.
                line.connection = line.connection.filter(|_| fresh);
            }
        }
    }
    Err(late())
}

/// Waits until a packet may leave. When the question cannot be repeated any more, it is late; when it could not even be
/// asked, it is shed.
async fn leave(ticket: &Ticket<'_>, deadline: Instant) -> Result<(), Problem> {
    let begun = ticket.begun();
    match ticket.message(deadline).await {
        Ok(()) => Ok(()),
        Err(_) if begun => Err(late()),
        Err(shed) => Err(Problem::Shed(shed.into())),
    }
}

/// Until when an answer is waited for before the question is sent again: 1 s, 2 s, 4 s, … 15 s. (BEP 15 begins at 15 s,
/// for which the deadlines here are too short.)
fn patience(attempt: u32, deadline: Instant) -> Instant {
    let wait = Duration::from_secs((1 << attempt.min(4)).min(15));
    Instant::now().checked_add(wait).unwrap_or(deadline).min(deadline)
}

impl Lines {
    fn take(&self, way: Way) -> Option<Line> {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = lines.iter().position(|line| line.way == way)?;
        Some(lines.swap_remove(at))
    }

    fn put(&self, line: Line) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= MAX_IDLE_LINES {
            lines.remove(0);
        }
        lines.push(line);
    }
}

impl Line {
    async fn open(way: Way) -> io::Result<Self> {
        let socket = UdpSocket::bind((way.source, 0)).await?;
        // From here on the kernel drops what comes from anybody else.
        socket.connect(way.address).await?;
        Ok(Self { way, socket, connection: None })
    }

    fn connection_id(&self) -> Option<u64> {
        self.connection.filter(|(_, since)| since.elapsed() < CONNECTION_LIFE).map(|(id, _)| id)
    }

    /// Sends a packet and waits for the answer with its transaction; nothing when there is none in time.
    async fn ask(
        &mut self,
        request: &UdpRequest,
        transaction: u32,
        until: Instant,
    ) -> Result<Option<UdpResponse>, Problem> {
        self.socket.send(&request.encode()).await.map_err(broken)?;
        let mut packet = vec![0; MAX_PACKET];
        loop {
            let Ok(received) = timeout_at(until, self.socket.recv(&mut packet)).await else {
                return Ok(None);
            };
            let length = received.map_err(broken)?;
            let packet = packet.get(..length).unwrap_or_default();
            match UdpResponse::decode(packet, self.way.address.is_ipv6()) {
                Ok(response) if response.transaction() == transaction => return Ok(Some(response)),
                Err(error) if transaction_of(packet) == Some(transaction) => {
                    return Err(cut_short(&error));
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
}

/// The transaction of a packet that cannot be understood otherwise (BEP 15: after the action).
fn transaction_of(packet: &[u8]) -> Option<u32> {
    let (_, rest) = packet.split_first_chunk::<4>()?;
    rest.first_chunk().copied().map(u32::from_be_bytes)
}

fn late() -> Problem {
    Problem::failed(ErrorCode::Unavailable, "no answer in time")
}

fn cut_short(error: &UdpError) -> Problem {
    match error {
        UdpError::Short { action: 1, length: 8, .. } => {
            let text = "the tracker does not list the info-hash: its answer is empty";
            Problem::Refused(Fault::new(ErrorCode::UnknownName, text))
        }
        other => Problem::failed(ErrorCode::BadAnswer, other.to_string()),
    }
}

fn refused(reason: String) -> Problem {
    Problem::Refused(fault_of_failure(Failure { reason, retry_in: None }))
}

fn unexpected(response: &UdpResponse) -> Problem {
    let what = match response {
        UdpResponse::Connect { .. } => "a connect",
        UdpResponse::Announce { .. } => "an announce",
        UdpResponse::Scrape { .. } => "a scrape",
        UdpResponse::Error { .. } => "an error",
    };
    Problem::failed(ErrorCode::BadAnswer, format!("the answer is one to {what}"))
}

fn broken(error: io::Error) -> Problem {
    Problem::failed(ErrorCode::Unavailable, format!("UDP: {error}"))
}
