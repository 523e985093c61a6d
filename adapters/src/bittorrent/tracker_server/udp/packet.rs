//! What a packet asks, and the packet that answers it. Whoever has not shown by a connection id that he gets what is
//! sent to his address is sent no more bytes than he has sent.

use std::net::{IpAddr, SocketAddr};

use futures::future::BoxFuture;
use p2pbridge_proto::{ErrorCode, Fault, PeerEvent, PeerList, Reply, SwarmStat};

use super::super::{
    super::{
        metainfo::wire_hash,
        wire::{
            http::{AnnounceRequest, DEFAULT_INTERVAL, ScrapeRequest, SwarmCounts},
            udp::{
                AnnounceCounts, MAX_PEERS_V4, MAX_PEERS_V6, UdpError, UdpRequest, write_connect,
                write_error, write_peers, write_swarms,
            },
        },
    },
    connection_id::{ConnectionIds, Epoch},
    desk::{Desk, without_peers},
    tally::Outcome,
};
use crate::Answer;

/// Bytes of an error's text at most.
const MAX_TEXT: usize = 256;
/// Bytes of a packet before its text.
const HEAD: usize = 8;

/// What becomes of a packet.
pub(super) enum Taken {
    /// The answer is written.
    Written(Outcome),
    /// It is not answered: it cannot be understood, or not be answered without harm.
    Dropped,
    /// The answer comes later.
    Later(Later),
}

/// An answer that comes later.
pub(super) struct Later {
    pub(super) asker: Asker,
    pub(super) answer: BoxFuture<'static, Result<Reply, Fault>>,
}

/// Who has asked, and what: all that an answer needs.
pub(super) struct Asker {
    transaction: u32,
    question: Question,
}

enum Question {
    Announce { ipv6: bool, stopped: bool },
    Scrape { info_hashes: Vec<[u8; 20]> },
}

/// Takes a packet, and writes its answer behind what is there if there is one now.
pub(super) fn take(
    desk: &Desk,
    ids: &ConnectionIds,
    epoch: Epoch,
    packet: &[u8],
    from: SocketAddr,
    out: &mut Vec<u8>,
) -> Taken {
    let ip = from.ip().to_canonical();
    if from.port() == 0 || ip.is_unspecified() {
        return Taken::Dropped;
    }
    let forged = |connection| !ids.accepts(connection, ip, epoch);
    match UdpRequest::decode(packet) {
        Ok(UdpRequest::Connect { transaction }) => {
            write_connect(out, transaction, ids.issue(ip, epoch));
            Taken::Written(Outcome::Answered)
        }
        Ok(
            UdpRequest::Announce { connection, transaction, .. }
            | UdpRequest::Scrape { connection, transaction, .. },
        ) if forged(connection) => {
            let room = packet.len().saturating_sub(HEAD);
            write_error(out, transaction, cut("the connection id is unknown or too old", room));
            Taken::Written(Outcome::Refused)
        }
        Ok(UdpRequest::Announce { transaction, announce, .. }) => {
            answer_announce(desk, transaction, announce, ip, out)
        }
        Ok(UdpRequest::Scrape { transaction, info_hashes, .. }) => {
            let native = ScrapeRequest { info_hashes: info_hashes.clone() };
            let asker = Asker { transaction, question: Question::Scrape { info_hashes } };
            settle(asker, desk.scrape(native, false), out)
        }
        Err(error) => explain(&error, packet, forged, out),
    }
}

fn answer_announce(
    desk: &Desk,
    transaction: u32,
    mut native: AnnounceRequest,
    ip: IpAddr,
    out: &mut Vec<u8>,
) -> Taken {
    let (ipv6, stopped) = (ip.is_ipv6(), native.event == PeerEvent::Stopped);
    let most = if ipv6 { MAX_PEERS_V6 } else { MAX_PEERS_V4 };
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    native.num_want = native.num_want.map(|wanted| wanted.min(most));
    let asker = Asker { transaction, question: Question::Announce { ipv6, stopped } };
    settle(asker, desk.announce(native, ip, false), out)
}

fn settle(asker: Asker, answer: Answer, out: &mut Vec<u8>) -> Taken {
    match answer {
        Answer::Now(result) => Taken::Written(asker.write(out, result)),
        Answer::Later(answer) => Taken::Later(Later { asker, answer }),
    }
}

/// Tells an asker with a good connection id what is wrong with his packet.
fn explain(
    error: &UdpError,
    packet: &[u8],
    forged: impl Fn(u64) -> bool,
    out: &mut Vec<u8>,
) -> Taken {
    let connection = packet.first_chunk().copied().map(u64::from_be_bytes);
    match (error.transaction(), connection) {
        (Some(transaction), Some(connection)) if packet.len() >= 16 && !forged(connection) => {
            write_error(out, transaction, cut(&error.to_string(), MAX_TEXT));
            Taken::Written(Outcome::Malformed)
        }
        _ => Taken::Dropped,
    }
}

impl Asker {
    /// Writes the answer.
    pub(super) fn write(&self, out: &mut Vec<u8>, result: Result<Reply, Fault>) -> Outcome {
        let unfit = || Fault::new(ErrorCode::Internal, "the bridge found no fitting answer");
        let fault = match (&self.question, result) {
            (Question::Announce { stopped: true, ipv6 }, Ok(reply)) => match without_peers(reply) {
                Reply::Peers(list) => return self.peers(out, &list, *ipv6),
                Reply::Swarms(_) | Reply::Found(_) => unfit(),
            },
            (Question::Announce { ipv6, .. }, Ok(Reply::Peers(list))) => {
                return self.peers(out, &list, *ipv6);
            }
            (Question::Scrape { info_hashes }, Ok(Reply::Swarms(swarms))) => {
                write_swarms(out, self.transaction, in_order(info_hashes, &swarms));
                return Outcome::Answered;
            }
            (_, Ok(_)) => unfit(),
            (_, Err(fault)) => fault,
        };
        self.refuse(out, &fault.text);
        Outcome::Refused
    }

    /// Writes a refusal.
    pub(super) fn refuse(&self, out: &mut Vec<u8>, text: &str) {
        write_error(out, self.transaction, cut(text, MAX_TEXT));
    }

    fn peers(&self, out: &mut Vec<u8>, list: &PeerList, ipv6: bool) -> Outcome {
        let interval = if list.interval.is_zero() { DEFAULT_INTERVAL } else { list.interval };
        let counts = AnnounceCounts {
            interval,
            leechers: list.leechers.unwrap_or(0),
            seeders: list.seeders.unwrap_or(0),
        };
        write_peers(out, self.transaction, counts, &list.peers, ipv6);
        Outcome::Answered
    }
}

/// Sizes of swarms in the order in which they were asked for; zeros for those that are not known.
fn in_order(info_hashes: &[[u8; 20]], swarms: &[SwarmStat]) -> impl Iterator<Item = SwarmCounts> {
    let mut next = 0;
    info_hashes.iter().map(move |hash| {
        let is_it = |stat: &SwarmStat| wire_hash(&stat.name).as_ref() == Some(hash);
        // The handler answers in the same order, mostly.
        let found = match swarms.get(next).filter(|stat| is_it(stat)) {
            Some(stat) => {
                next += 1;
                Some(stat)
            }
            None => swarms.iter().find(|stat| is_it(stat)),
        };
        found.map_or_else(SwarmCounts::default, |stat| SwarmCounts {
            complete: stat.seeders,
            incomplete: stat.leechers,
            downloaded: stat.completed,
            downloaders: None,
        })
    })
}

/// At most so many bytes of a text.
fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
