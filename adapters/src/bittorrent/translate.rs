//! BitTorrent's tracker messages ⇄ the unified ones; pure. What is lost on the way is in the README beside this file.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use p2pbridge_proto::{
    Announce, ErrorCode, Fault, Find, Name, Peer, PeerId, PeerList, Request, SwarmQuery, SwarmStat,
};

use super::wire::http::{
    AnnounceRequest, AnnounceResponse, DEFAULT_INTERVAL, Failure, QueryError, RetryIn,
    ScrapeRequest, SwarmCounts,
};

/// What "never" is to a tracker that does not want to be asked again (BEP 31): a day.
pub const NEVER: Duration = Duration::from_secs(24 * 3600);

/// Who the bridge is to a tracker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announcer {
    /// The peer id.
    pub peer_id: [u8; 20],
    /// The port at which it listens, in the family in which it announces.
    pub port: u16,
    /// What proves to the tracker that it is still the same peer.
    pub key: u32,
}

/// A find as an announce: BitTorrent has no message that only asks. The asker appears in the swarm as a peer that lacks
/// one byte, which is not a seeder to anybody, and not an announce with the size of a file that is not known.
#[must_use]
pub fn announce_of_find(find: Find) -> Announce {
    Announce {
        left: Some(1),
        num_want: find.num_want,
        ..Announce::new(Peer::at(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0)), find.names)
    }
}

/// An announce under one info-hash, in its native form.
#[must_use]
pub fn native_announce(
    announce: &Announce,
    info_hash: [u8; 20],
    by: Announcer,
    tracker_id: Option<Vec<u8>>,
) -> AnnounceRequest {
    AnnounceRequest {
        info_hash,
        peer_id: announce.peer.id.as_bytes().try_into().unwrap_or(by.peer_id),
        port: Some(announce.peer.endpoint.port()).filter(|port| *port != 0).unwrap_or(by.port),
        uploaded: announce.uploaded,
        downloaded: announce.downloaded,
        left: announce.left,
        event: announce.event,
        num_want: announce.num_want,
        key: announce.key.or(Some(by.key).filter(|_| announce.peer.id.is_empty())),
        tracker_id,
        compact: true,
        no_peer_id: true,
    }
}

/// A tracker's answer in the unified form.
#[must_use]
pub fn peer_list(response: AnnounceResponse) -> PeerList {
    PeerList {
        peers: response.peers,
        interval: response.interval,
        min_interval: response.min_interval,
        seeders: response.seeders,
        leechers: response.leechers,
        token: response.tracker_id.unwrap_or_default(),
        warning: response.warning.unwrap_or_default(),
        stale: None,
    }
}

/// Two answers about one content as one: every peer once, the longer interval, the larger counts.
#[must_use]
pub fn merged(mut one: PeerList, other: PeerList) -> PeerList {
    for peer in other.peers {
        if !one.peers.iter().any(|known| known.endpoint == peer.endpoint) {
            one.peers.push(peer);
        }
    }
    one.interval = one.interval.max(other.interval);
    one.min_interval = one.min_interval.max(other.min_interval);
    one.seeders = one.seeders.max(other.seeders);
    one.leechers = one.leechers.max(other.leechers);
    one
}

/// The size of a swarm in the unified form.
#[must_use]
pub fn swarm_stat(name: Name, counts: SwarmCounts) -> SwarmStat {
    SwarmStat {
        name,
        seeders: counts.complete,
        leechers: counts.incomplete,
        completed: counts.downloaded,
    }
}

/// A tracker's refusal in the unified form. BEP 3 has only a text: the words that trackers use for a torrent that they
/// do not serve, and for too much load, are known.
#[must_use]
pub fn fault_of_failure(failure: Failure) -> Fault {
    let text = failure.reason.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let unknown = [
        "not authorized",
        "not registered",
        "unregistered",
        "not found",
        "unknown",
        "not listed",
        "not whitelisted",
        "whitelist",
        "not tracked",
        "does not exist",
        "not exist",
    ];
    let overloaded = ["overload", "busy", "too many", "try again", "try later", "rate limit"];
    let (code, retry_after) = match failure.retry_in {
        Some(RetryIn::After(time)) if says(&unknown) => (ErrorCode::UnknownName, Some(time)),
        Some(RetryIn::After(time)) => (ErrorCode::Overloaded, Some(time)),
        _ if says(&unknown) => (ErrorCode::UnknownName, None),
        Some(RetryIn::Never) => (ErrorCode::Forbidden, Some(NEVER)),
        None if says(&overloaded) => (ErrorCode::Overloaded, None),
        None => (ErrorCode::Forbidden, None),
    };
    Fault { code, native_code: None, text: failure.reason, retry_after }
}

/// What a peer announced to the bridge, in the unified form; its address is the one that was seen.
#[must_use]
pub fn unified_announce(announce: AnnounceRequest, seen: IpAddr) -> Request {
    Request::Announce(Announce {
        peer: Peer {
            id: PeerId::from(announce.peer_id),
            endpoint: SocketAddr::new(seen.to_canonical(), announce.port),
        },
        names: vec![Name::btih(announce.info_hash)],
        event: announce.event,
        uploaded: announce.uploaded,
        downloaded: announce.downloaded,
        left: announce.left,
        num_want: announce.num_want,
        key: announce.key,
        token: announce.tracker_id.unwrap_or_default(),
        title: String::new(),
        length: None,
    })
}

/// What was asked of the bridge in a scrape, in the unified form.
#[must_use]
pub fn unified_scrape(scrape: ScrapeRequest) -> Request {
    let names = scrape.info_hashes.into_iter().map(Name::btih).collect();
    Request::SwarmQuery(SwarmQuery { names })
}

/// An answer of the bridge in its native form, for an asker at an address.
#[must_use]
pub fn native_peers(list: PeerList, seen: IpAddr) -> AnnounceResponse {
    let interval = if list.interval.is_zero() { DEFAULT_INTERVAL } else { list.interval };
    AnnounceResponse {
        interval,
        min_interval: list.min_interval,
        seeders: list.seeders,
        leechers: list.leechers,
        peers: list.peers,
        tracker_id: Some(list.token).filter(|token| !token.is_empty()),
        warning: warning(list.warning, list.stale),
        external_ip: Some(seen.to_canonical()),
    }
}

/// The text for people in an answer: BitTorrent has no field for an answer's age.
fn warning(text: String, stale: Option<Duration>) -> Option<String> {
    match stale {
        Some(age) => {
            let age = format!(
                "the tracker does not answer; these peers were known {} s ago",
                age.as_secs()
            );
            Some(if text.is_empty() { age } else { format!("{text}; {age}") })
        }
        None => Some(text).filter(|text| !text.is_empty()),
    }
}

/// Sizes of swarms in their native form; names that are not of 20 bytes on the wire are left out.
#[must_use]
pub fn native_swarms(swarms: &[SwarmStat]) -> Vec<([u8; 20], SwarmCounts)> {
    let swarm = |stat: &SwarmStat| {
        let counts = SwarmCounts {
            complete: stat.seeders,
            incomplete: stat.leechers,
            downloaded: stat.completed,
            downloaders: None,
        };
        Some((super::metainfo::wire_hash(&stat.name)?, counts))
    };
    swarms.iter().filter_map(swarm).collect()
}

/// A fault as a refusal: with `retry in` when it is known when the asker may try again, or that it may never (BEP 31).
#[must_use]
pub fn failure_of_fault(fault: &Fault) -> Failure {
    let again = fault
        .retry_after
        .or_else(|| (fault.code == ErrorCode::Overloaded).then_some(Duration::from_secs(60)));
    let retry_in = match again {
        Some(time) if time >= NEVER => Some(RetryIn::Never),
        Some(time) => Some(RetryIn::After(time)),
        None => None,
    };
    Failure { reason: fault.text.clone(), retry_in }
}

/// A query that could not be understood, as a refusal.
#[must_use]
pub fn failure_of_query(error: &QueryError) -> Failure {
    Failure { reason: error.to_string(), retry_in: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BY: Announcer = Announcer { peer_id: *b"-PB0100-abcdefghijkl", port: 6881, key: 7 };

    #[test]
    fn the_bridge_announces_itself_where_nobody_is_named() {
        let find = Find { num_want: Some(50), ..Find::new(vec![Name::btih([1; 20])]) };
        let announce = announce_of_find(find);
        let native = native_announce(&announce, [1; 20], BY, Some(b"id".to_vec()));
        assert_eq!((native.peer_id, native.port, native.left), (BY.peer_id, 6881, Some(1)));
        assert_eq!((native.num_want, native.key), (Some(50), Some(7)));
        let Request::Announce(back) = unified_announce(native, "::ffff:1.2.3.4".parse().unwrap())
        else {
            panic!("no announce");
        };
        assert_eq!(back.peer.endpoint, "1.2.3.4:6881".parse().unwrap());
        assert_eq!((back.names, back.num_want), (announce.names, announce.num_want));
    }

    #[test]
    fn refusals_keep_their_meaning() {
        let code = |reason: &str, retry_in| {
            fault_of_failure(Failure { reason: reason.into(), retry_in }).code
        };
        let opentracker = "Requested download is not authorized for use with this tracker.";
        assert_eq!(code(opentracker, None), ErrorCode::UnknownName);
        assert_eq!(code("Tracker is overloaded", None), ErrorCode::Overloaded);
        assert_eq!(code("go away", Some(RetryIn::Never)), ErrorCode::Forbidden);
        let minute = RetryIn::After(Duration::from_secs(60));
        assert_eq!(code("later", Some(minute)), ErrorCode::Overloaded);
        let shed = Fault::new(ErrorCode::Overloaded, "too much");
        assert_eq!(failure_of_fault(&shed).retry_in, Some(minute));
        assert_eq!(fault_of_failure(failure_of_fault(&shed)).code, ErrorCode::Overloaded);
        let gone = Fault::new(ErrorCode::Forbidden, "no route");
        assert_eq!(fault_of_failure(failure_of_fault(&gone)).code, ErrorCode::Forbidden);
    }

    #[test]
    fn merged_answers_have_each_peer_once() {
        let list = |ports: &[u16], interval, seeders| PeerList {
            peers: ports.iter().map(|p| Peer::at(([127, 0, 0, 1], *p).into())).collect(),
            interval: Duration::from_secs(interval),
            seeders,
            ..PeerList::default()
        };
        let both = merged(list(&[1, 2], 60, None), list(&[2, 3], 30, Some(4)));
        assert_eq!((both.peers.len(), both.interval.as_secs(), both.seeders), (3, 60, Some(4)));
    }
}
