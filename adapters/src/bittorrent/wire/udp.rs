//! Packets of UDP trackers: BEP 15, with the options of BEP 41.

use std::time::Duration;

use p2pbridge_proto::{Peer, PeerEvent};
use thiserror::Error;

use super::{
    compact,
    http::{AnnounceRequest, AnnounceResponse, MAX_PEERS, SwarmCounts, bounded_interval},
};

/// What a connect begins with instead of a connection id.
pub const MAGIC: u64 = 0x0417_2710_1980;
/// The most info-hashes in one scrape.
pub const MAX_SCRAPE: usize = 74;
/// The most IPv4 peers in one answer, so that it goes through an Ethernet in one piece: 1472 bytes.
pub const MAX_PEERS_V4: usize = (1472 - 20) / compact::STRIDE_V4;
/// The most IPv6 peers in one answer: 1452 bytes.
pub const MAX_PEERS_V6: usize = (1452 - 20) / compact::STRIDE_V6;
/// Bytes of an announce without options.
const ANNOUNCE: usize = 98;
const MAX_URL_DATA: usize = 2048;
/// Stands for "not said" among the bytes left; trackers read a signed number.
const UNKNOWN_LEFT: u64 = i64::MAX as u64;

/// A packet to a tracker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UdpRequest {
    /// Asks for a connection id.
    Connect {
        /// Chosen by the asker.
        transaction: u32,
    },
    /// Announces.
    Announce {
        /// What the tracker gave to a connect.
        connection: u64,
        /// Chosen by the asker.
        transaction: u32,
        /// What is announced. `paused` has no number in BEP 15 and is sent as a regular announce.
        announce: AnnounceRequest,
        /// Path and query of the tracker's URL (BEP 41); empty when there are none.
        url_data: String,
    },
    /// Asks for the size of swarms.
    Scrape {
        /// What the tracker gave to a connect.
        connection: u64,
        /// Chosen by the asker.
        transaction: u32,
        /// At most [`MAX_SCRAPE`].
        info_hashes: Vec<[u8; 20]>,
    },
}

/// A packet from a tracker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UdpResponse {
    /// To a connect.
    Connect {
        /// The asker's.
        transaction: u32,
        /// Good for a minute or two.
        connection: u64,
    },
    /// To an announce.
    Announce {
        /// The asker's.
        transaction: u32,
        /// The answer.
        response: AnnounceResponse,
    },
    /// To a scrape.
    Scrape {
        /// The asker's.
        transaction: u32,
        /// In the order of the question.
        swarms: Vec<SwarmCounts>,
    },
    /// A refusal.
    Error {
        /// The asker's.
        transaction: u32,
        /// The tracker's text.
        message: String,
    },
}

/// Why bytes are no packet.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UdpError {
    /// It ends before what it must have.
    #[error("a packet of {length} bytes with action {action} ends too early")]
    Short {
        /// What it says it is; `u32::MAX` when it does not even say that.
        action: u32,
        /// The asker's; 0 when it is not in the packet.
        transaction: u32,
        /// How long it is.
        length: usize,
    },
    /// An action that is not of BEP 15.
    #[error("action {0} is not known")]
    Action(u32),
    /// A connect without its magic number.
    #[error("a connect without the protocol's magic number")]
    Magic,
    /// An announce with an event that is none.
    #[error("event {event} is not known")]
    Event {
        /// What the asker says that happened.
        event: u32,
        /// The asker's.
        transaction: u32,
    },
    /// An announce of a peer that cannot be reached.
    #[error("the port is 0")]
    Port {
        /// The asker's.
        transaction: u32,
    },
    /// A number of info-hashes that cannot be.
    #[error("{length} bytes of info-hashes: 1 to {MAX_SCRAPE} of 20 bytes can be asked for")]
    Hashes {
        /// Bytes behind the head.
        length: usize,
        /// The asker's.
        transaction: u32,
    },
}

impl UdpRequest {
    /// The packet.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        let mut head = |connection: u64, action: u32, transaction: u32| {
            out.extend_from_slice(&connection.to_be_bytes());
            out.extend_from_slice(&action.to_be_bytes());
            out.extend_from_slice(&transaction.to_be_bytes());
        };
        match self {
            Self::Connect { transaction } => head(MAGIC, 0, *transaction),
            Self::Announce { connection, transaction, announce, url_data } => {
                head(*connection, 1, *transaction);
                encode_announce(&mut out, announce);
                encode_url_data(&mut out, url_data);
            }
            Self::Scrape { connection, transaction, info_hashes } => {
                head(*connection, 2, *transaction);
                info_hashes.iter().for_each(|hash| out.extend_from_slice(hash));
            }
        }
        out
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// When it is none that a tracker can be sent.
    pub fn decode(packet: &[u8]) -> Result<Self, UdpError> {
        let mut fields = Fields { packet, at: 0, action: u32::MAX, transaction: 0 };
        let connection = fields.u64()?;
        fields.action = fields.u32()?;
        fields.transaction = fields.u32()?;
        let transaction = fields.transaction;
        match fields.action {
            0 if connection == MAGIC => Ok(Self::Connect { transaction }),
            0 => Err(UdpError::Magic),
            1 => {
                let announce = decode_announce(&mut fields)?;
                let url_data = decode_url_data(packet.get(ANNOUNCE..).unwrap_or_default());
                Ok(Self::Announce { connection, transaction, announce, url_data })
            }
            2 => {
                let (hashes, rest) = fields.rest().as_chunks::<20>();
                if hashes.is_empty() || hashes.len() > MAX_SCRAPE || !rest.is_empty() {
                    return Err(UdpError::Hashes { length: fields.rest().len(), transaction });
                }
                Ok(Self::Scrape { connection, transaction, info_hashes: hashes.to_vec() })
            }
            other => Err(UdpError::Action(other)),
        }
    }
}

impl UdpResponse {
    /// The packet, for an asker of IPv6 or IPv4: only peers of that family go into it.
    #[must_use]
    pub fn encode(&self, ipv6: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        match self {
            Self::Connect { transaction, connection } => {
                write_connect(&mut out, *transaction, *connection);
            }
            Self::Announce { transaction, response } => {
                let counts = AnnounceCounts {
                    interval: response.interval,
                    leechers: response.leechers.unwrap_or(0),
                    seeders: response.seeders.unwrap_or(0),
                };
                write_peers(&mut out, *transaction, counts, &response.peers, ipv6);
            }
            Self::Scrape { transaction, swarms } => {
                write_swarms(&mut out, *transaction, swarms.iter().copied());
            }
            Self::Error { transaction, message } => write_error(&mut out, *transaction, message),
        }
        out
    }

    /// Reads a packet that came over IPv6 or IPv4.
    ///
    /// # Errors
    /// When it is none that a tracker sends.
    pub fn decode(packet: &[u8], ipv6: bool) -> Result<Self, UdpError> {
        let mut fields = Fields { packet, at: 0, action: u32::MAX, transaction: 0 };
        fields.action = fields.u32()?;
        fields.transaction = fields.u32()?;
        let transaction = fields.transaction;
        match fields.action {
            0 => Ok(Self::Connect { transaction, connection: fields.u64()? }),
            1 => {
                let (interval, leechers, seeders) = (fields.u32()?, fields.u32()?, fields.u32()?);
                let read: fn(&[u8], usize) -> Vec<Peer> =
                    if ipv6 { compact::read_v6 } else { compact::read_v4 };
                let response = AnnounceResponse {
                    interval: bounded_interval(interval.cast_signed().into()),
                    seeders: Some(seeders),
                    leechers: Some(leechers),
                    peers: read(fields.rest(), MAX_PEERS),
                    ..AnnounceResponse::default()
                };
                Ok(Self::Announce { transaction, response })
            }
            2 => {
                let mut swarms = Vec::new();
                while !fields.rest().is_empty() && swarms.len() < MAX_SCRAPE {
                    let (complete, downloaded) = (fields.u32()?, fields.u32()?);
                    let incomplete = fields.u32()?;
                    let downloaded = Some(downloaded);
                    swarms.push(SwarmCounts {
                        complete,
                        incomplete,
                        downloaded,
                        downloaders: None,
                    });
                }
                Ok(Self::Scrape { transaction, swarms })
            }
            3 => {
                let text = String::from_utf8_lossy(fields.rest());
                let message = text.chars().filter(|c| !c.is_control()).take(512).collect();
                Ok(Self::Error { transaction, message })
            }
            other => Err(UdpError::Action(other)),
        }
    }

    /// The asker's transaction.
    #[must_use]
    pub fn transaction(&self) -> u32 {
        match self {
            Self::Connect { transaction, .. }
            | Self::Announce { transaction, .. }
            | Self::Scrape { transaction, .. }
            | Self::Error { transaction, .. } => *transaction,
        }
    }
}

impl UdpError {
    /// The transaction of a broken packet of a known kind, if it got that far.
    #[must_use]
    pub fn transaction(&self) -> Option<u32> {
        match self {
            Self::Short { transaction, length, .. } if *length >= 8 => Some(*transaction),
            Self::Event { transaction, .. }
            | Self::Port { transaction }
            | Self::Hashes { transaction, .. } => Some(*transaction),
            Self::Short { .. } | Self::Action(_) | Self::Magic => None,
        }
    }
}

/// The numbers of an answer to an announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AnnounceCounts {
    /// How long to wait before the next announce.
    pub interval: Duration,
    /// Peers that lack something.
    pub leechers: u32,
    /// Peers that hold everything.
    pub seeders: u32,
}

/// Writes the answer to a connect.
pub fn write_connect(out: &mut Vec<u8>, transaction: u32, connection: u64) {
    write_head(out, 0, transaction);
    out.extend_from_slice(&connection.to_be_bytes());
}

/// Writes the answer to an announce that came over IPv6 or IPv4: the peers of that family, as many as go into a
/// packet ([`MAX_PEERS_V4`], [`MAX_PEERS_V6`]).
pub fn write_peers(
    out: &mut Vec<u8>,
    transaction: u32,
    counts: AnnounceCounts,
    peers: &[Peer],
    ipv6: bool,
) {
    write_head(out, 1, transaction);
    let interval = u32::try_from(counts.interval.as_secs()).unwrap_or(u32::MAX);
    for number in [interval, counts.leechers, counts.seeders] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    if ipv6 {
        compact::write_v6(out, peers, MAX_PEERS_V6);
    } else {
        compact::write_v4(out, peers, MAX_PEERS_V4);
    }
}

/// Writes the answer to a scrape.
pub fn write_swarms(
    out: &mut Vec<u8>,
    transaction: u32,
    swarms: impl Iterator<Item = SwarmCounts>,
) {
    write_head(out, 2, transaction);
    for swarm in swarms {
        for number in [swarm.complete, swarm.downloaded.unwrap_or(0), swarm.incomplete] {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
}

/// Writes a refusal.
pub fn write_error(out: &mut Vec<u8>, transaction: u32, message: &str) {
    write_head(out, 3, transaction);
    out.extend_from_slice(message.as_bytes());
}

fn write_head(out: &mut Vec<u8>, action: u32, transaction: u32) {
    out.extend_from_slice(&action.to_be_bytes());
    out.extend_from_slice(&transaction.to_be_bytes());
}

fn encode_announce(out: &mut Vec<u8>, announce: &AnnounceRequest) {
    out.extend_from_slice(&announce.info_hash);
    out.extend_from_slice(&announce.peer_id);
    let left = announce.left.unwrap_or(UNKNOWN_LEFT);
    for number in [announce.downloaded, left, announce.uploaded] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    let event: u32 = match announce.event {
        PeerEvent::Regular | PeerEvent::Paused => 0,
        PeerEvent::Completed => 1,
        PeerEvent::Started => 2,
        PeerEvent::Stopped => 3,
    };
    // No address: trackers take the one that they see.
    for number in [event, 0, announce.key.unwrap_or(0), announce.num_want.unwrap_or(u32::MAX)] {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(&announce.port.to_be_bytes());
}

fn decode_announce(fields: &mut Fields<'_>) -> Result<AnnounceRequest, UdpError> {
    let (info_hash, peer_id) = (fields.array()?, fields.array()?);
    let (downloaded, left, uploaded) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let event = match fields.u32()? {
        0 => PeerEvent::Regular,
        1 => PeerEvent::Completed,
        2 => PeerEvent::Started,
        3 => PeerEvent::Stopped,
        event => return Err(UdpError::Event { event, transaction: fields.transaction }),
    };
    let (_address, key, num_want) = (fields.u32()?, fields.u32()?, fields.u32()?);
    let port = u16::from_be_bytes(fields.array()?);
    if port == 0 && event != PeerEvent::Stopped {
        return Err(UdpError::Port { transaction: fields.transaction });
    }
    Ok(AnnounceRequest {
        info_hash,
        peer_id,
        port,
        uploaded,
        downloaded,
        left: (left < UNKNOWN_LEFT).then_some(left),
        event,
        num_want: (num_want.cast_signed() >= 0).then_some(num_want),
        key: Some(key),
        tracker_id: None,
        compact: true,
        no_peer_id: true,
    })
}

/// BEP 41: option 2, in runs of at most 255 bytes; the packet's end ends the options.
fn encode_url_data(out: &mut Vec<u8>, url_data: &str) {
    let bytes = url_data.as_bytes();
    for run in bytes.get(..MAX_URL_DATA).unwrap_or(bytes).chunks(255) {
        out.push(2);
        out.push(u8::try_from(run.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(run);
    }
}

/// The URL data among the options; what cannot be understood ends them.
fn decode_url_data(mut options: &[u8]) -> String {
    let mut out = Vec::new();
    while let Some((kind, rest)) = options.split_first() {
        options = match kind {
            1 => rest,
            2 => {
                let Some((length, rest)) = rest.split_first() else { break };
                let Some((data, rest)) = rest.split_at_checked((*length).into()) else { break };
                out.extend_from_slice(data);
                rest
            }
            _ => break,
        };
        if out.len() > MAX_URL_DATA {
            break;
        }
    }
    let mut text = String::from_utf8_lossy(&out).into_owned();
    let end = (0..=text.len().min(MAX_URL_DATA)).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or(0));
    text
}

struct Fields<'a> {
    packet: &'a [u8],
    at: usize,
    action: u32,
    transaction: u32,
}

impl<'a> Fields<'a> {
    fn rest(&self) -> &'a [u8] {
        self.packet.get(self.at..).unwrap_or_default()
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], UdpError> {
        let (action, transaction) = (self.action, self.transaction);
        let short = UdpError::Short { action, transaction, length: self.packet.len() };
        let array = self.rest().first_chunk().copied().ok_or(short)?;
        self.at += N;
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32, UdpError> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, UdpError> {
        self.array().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
#[path = "udp_tests.rs"]
mod tests;
