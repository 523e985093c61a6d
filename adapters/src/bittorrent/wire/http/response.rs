//! Answers of an HTTP tracker, in bencode.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use p2pbridge_proto::{Peer, PeerId};
use thiserror::Error;

use super::super::{
    bencode::{BencodeError, Dict, Document, Limits, List, Value, encode_dict},
    compact,
};

/// Taken when the tracker names no interval, or one that is none.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(1800);
/// The shortest interval that is taken from a tracker.
pub const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// The longest interval that is taken from a tracker.
pub const MAX_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// The most peers that are taken from one answer.
pub const MAX_PEERS: usize = 2000;

/// An answer to an announce, over HTTP or UDP.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AnnounceResponse {
    /// How long to wait before the next regular announce: from [`MIN_INTERVAL`] to [`MAX_INTERVAL`].
    pub interval: Duration,
    /// How long to wait before any announce, if that was said, within the same bounds.
    pub min_interval: Option<Duration>,
    /// Peers that hold everything, if that was said.
    pub seeders: Option<u32>,
    /// Peers that lack something, if that was said.
    pub leechers: Option<u32>,
    /// At most [`MAX_PEERS`]; none has port 0.
    pub peers: Vec<Peer>,
    /// What the tracker wants to be told again. Not in UDP.
    pub tracker_id: Option<Vec<u8>>,
    /// A text for people. Not in UDP.
    pub warning: Option<String>,
    /// The asker's address, as the tracker sees it (BEP 24). Not in UDP.
    pub external_ip: Option<IpAddr>,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Failure {
    /// The tracker's text.
    pub reason: String,
    /// When to ask again, if that was said (BEP 31).
    pub retry_in: Option<RetryIn>,
}

/// When to ask a tracker again that has refused (BEP 31).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryIn {
    /// Not at all.
    Never,
    /// After this time; on the wire it is counted in minutes.
    After(Duration),
}

/// The size of a swarm (BEP 48).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SwarmCounts {
    /// Peers that hold everything.
    pub complete: u32,
    /// Peers that lack something.
    pub incomplete: u32,
    /// Downloads seen to complete, if that was said.
    pub downloaded: Option<u32>,
    /// Of the incomplete ones, those that still download (BEP 21), if that was said.
    pub downloaders: Option<u32>,
}

/// Why bytes are no answer of a tracker.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ResponseError {
    /// Not bencode.
    #[error("no answer of a tracker: {0}")]
    Bencode(#[from] BencodeError),
    /// A field is missing, or of another kind.
    #[error("`{0}` is missing or of a wrong kind")]
    Field(&'static str),
}

/// What a tracker says to an announce. aquatic_http ends its answers with the end of a line: that is passed over.
///
/// # Errors
/// When the bytes are no answer.
pub fn parse_announce(body: &[u8]) -> Result<Result<AnnounceResponse, Failure>, ResponseError> {
    let document = Document::parse(body.trim_ascii_end(), Limits::MESSAGE)?;
    let dict = document.value.dict().ok_or(ResponseError::Field("the answer"))?;
    if let Some(failure) = failure(dict)? {
        return Ok(Err(failure));
    }
    let mut peers = match dict.get(b"peers") {
        None => Vec::new(),
        Some(Value::Bytes(bytes)) if bytes.len() % compact::STRIDE_V4 == 0 => {
            compact::read_v4(bytes, MAX_PEERS)
        }
        Some(Value::List(list)) => dict_peers(list),
        Some(_) => return Err(ResponseError::Field("peers")),
    };
    let room = MAX_PEERS.saturating_sub(peers.len());
    match dict.get(b"peers6") {
        None => {}
        Some(Value::Bytes(bytes)) if bytes.len() % compact::STRIDE_V6 == 0 => {
            peers.extend(compact::read_v6(bytes, room));
        }
        Some(Value::List(list)) => peers.extend(dict_peers(list).into_iter().take(room)),
        Some(_) => return Err(ResponseError::Field("peers6")),
    }
    if dict.get(b"interval").is_none() && dict.get(b"peers").is_none() {
        return Err(ResponseError::Field("interval"));
    }
    Ok(Ok(AnnounceResponse {
        interval: seconds(dict, "interval")?.unwrap_or(DEFAULT_INTERVAL),
        min_interval: seconds(dict, "min interval")?,
        seeders: count(dict, b"complete"),
        leechers: count(dict, b"incomplete"),
        peers,
        tracker_id: dict.get(b"tracker id").and_then(Value::bytes).map(<[u8]>::to_vec),
        warning: dict.get(b"warning message").and_then(Value::bytes).map(text),
        external_ip: dict.get(b"external ip").and_then(Value::bytes).and_then(address),
    }))
}

/// What a tracker says to a scrape, by info-hash; keys that are none are passed over.
///
/// # Errors
/// When the bytes are no answer.
pub fn parse_scrape(
    body: &[u8],
) -> Result<Result<Vec<([u8; 20], SwarmCounts)>, Failure>, ResponseError> {
    let document = Document::parse(body.trim_ascii_end(), Limits::MESSAGE)?;
    let dict = document.value.dict().ok_or(ResponseError::Field("the answer"))?;
    if let Some(failure) = failure(dict)? {
        return Ok(Err(failure));
    }
    let files = dict.get(b"files").and_then(Value::dict).ok_or(ResponseError::Field("files"))?;
    let swarms = files.entries().iter().filter_map(|(key, value)| {
        let (hash, swarm) = (swarm_hash(files, key)?, value.dict()?);
        let counts = SwarmCounts {
            complete: count(swarm, b"complete").unwrap_or(0),
            incomplete: count(swarm, b"incomplete").unwrap_or(0),
            downloaded: count(swarm, b"downloaded"),
            downloaders: count(swarm, b"downloaders"),
        };
        Some((hash, counts))
    });
    Ok(Ok(swarms.collect()))
}

/// The info-hash that is a key. npm's bittorrent-tracker 11 writes it as text: each byte from 128 on as two of UTF-8.
fn swarm_hash(files: &Dict<'_>, key: &[u8]) -> Option<[u8; 20]> {
    let of_text = || {
        if key.len() > 40 {
            return None;
        }
        let letters = std::str::from_utf8(key).ok()?.chars();
        let bytes: Option<Vec<u8>> = letters.map(|c| u8::try_from(u32::from(c)).ok()).collect();
        let hash: [u8; 20] = bytes?.try_into().ok()?;
        files.get(&hash).is_none().then_some(hash)
    };
    key.try_into().ok().or_else(of_text)
}

impl AnnounceResponse {
    /// The answer as bencode: with peers as strings of addresses (BEP 23, 7) or as dictionaries, with or without their
    /// ids.
    #[must_use]
    pub fn encode(&self, compact: bool, no_peer_id: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        self.encode_into(&mut out, compact, no_peer_id);
        out
    }

    /// Writes the answer as bencode behind what is there, as [`AnnounceResponse::encode`] does.
    pub fn encode_into(&self, out: &mut Vec<u8>, compact: bool, no_peer_id: bool) {
        // Keys in rising order, as bencode wants them.
        out.push(b'd');
        if let Some(seeders) = self.seeders {
            put_uint(out, b"complete", seeders.into());
        }
        match self.external_ip {
            Some(IpAddr::V4(ip)) => put_bytes(out, b"external ip", &ip.octets()),
            Some(IpAddr::V6(ip)) => put_bytes(out, b"external ip", &ip.octets()),
            None => {}
        }
        if let Some(leechers) = self.leechers {
            put_uint(out, b"incomplete", leechers.into());
        }
        put_uint(out, b"interval", self.interval.as_secs());
        if let Some(min) = self.min_interval {
            put_uint(out, b"min interval", min.as_secs());
        }
        if compact {
            self.put_compact(out);
        } else {
            self.put_dicts(out, no_peer_id);
        }
        if let Some(id) = &self.tracker_id {
            put_bytes(out, b"tracker id", id);
        }
        if let Some(warning) = &self.warning {
            put_bytes(out, b"warning message", warning.as_bytes());
        }
        out.push(b'e');
    }

    fn put_compact(&self, out: &mut Vec<u8>) {
        let is_v4 = |peer: &&Peer| peer.endpoint.ip().to_canonical().is_ipv4();
        let v4 = self.peers.iter().filter(is_v4).count();
        let v6 = self.peers.len() - v4;
        put_string(out, b"peers");
        put_length(out, v4 * compact::STRIDE_V4);
        compact::write_v4(out, &self.peers, v4);
        if v6 > 0 {
            put_string(out, b"peers6");
            put_length(out, v6 * compact::STRIDE_V6);
            compact::write_v6(out, &self.peers, v6);
        }
    }

    fn put_dicts(&self, out: &mut Vec<u8>, no_peer_id: bool) {
        put_string(out, b"peers");
        out.push(b'l');
        for peer in &self.peers {
            out.push(b'd');
            put_bytes(out, b"ip", peer.endpoint.ip().to_string().as_bytes());
            if !no_peer_id && peer.id.as_bytes().len() == 20 {
                put_bytes(out, b"peer id", peer.id.as_bytes());
            }
            put_uint(out, b"port", peer.endpoint.port().into());
            out.push(b'e');
        }
        out.push(b'e');
    }
}

fn put_uint(out: &mut Vec<u8>, key: &[u8], value: u64) {
    put_string(out, key);
    out.push(b'i');
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    out.push(b'e');
}

fn put_bytes(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    put_string(out, key);
    put_string(out, value);
}

fn put_string(out: &mut Vec<u8>, value: &[u8]) {
    put_length(out, value.len());
    out.extend_from_slice(value);
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.push(b':');
}

/// A refusal as bencode (BEP 3, 31).
#[must_use]
pub fn write_failure(failure: &Failure) -> Vec<u8> {
    encode_dict(|dict| {
        dict.bytes(b"failure reason", failure.reason.as_bytes());
        match failure.retry_in {
            Some(RetryIn::Never) => dict.bytes(b"retry in", b"never"),
            Some(RetryIn::After(time)) => dict.uint(b"retry in", time.as_secs().div_ceil(60)),
            None => {}
        }
    })
}

/// An answer to a scrape as bencode.
#[must_use]
pub fn write_scrape(swarms: &[([u8; 20], SwarmCounts)]) -> Vec<u8> {
    encode_dict(|dict| {
        dict.entry(b"files", |out| {
            out.dict(|files| {
                for (hash, counts) in swarms {
                    files.entry(hash, |out| {
                        out.dict(|swarm| {
                            swarm.uint(b"complete", counts.complete.into());
                            swarm.uint(b"incomplete", counts.incomplete.into());
                            swarm.uint(b"downloaded", counts.downloaded.unwrap_or(0).into());
                            if let Some(downloaders) = counts.downloaders {
                                swarm.uint(b"downloaders", downloaders.into());
                            }
                        });
                    });
                }
            });
        });
    })
}

/// An interval within [`MIN_INTERVAL`] and [`MAX_INTERVAL`]; [`DEFAULT_INTERVAL`] for one that is not positive.
#[must_use]
pub fn bounded_interval(seconds: i64) -> Duration {
    match u64::try_from(seconds) {
        Err(_) | Ok(0) => DEFAULT_INTERVAL,
        Ok(seconds) => Duration::from_secs(seconds).clamp(MIN_INTERVAL, MAX_INTERVAL),
    }
}

fn seconds(dict: &Dict<'_>, key: &'static str) -> Result<Option<Duration>, ResponseError> {
    let Some(value) = dict.get(key.as_bytes()) else { return Ok(None) };
    value.int().map(bounded_interval).map(Some).ok_or(ResponseError::Field(key))
}

fn failure(dict: &Dict<'_>) -> Result<Option<Failure>, ResponseError> {
    let Some(reason) = dict.get(b"failure reason") else { return Ok(None) };
    let reason = reason.bytes().map(text).ok_or(ResponseError::Field("failure reason"))?;
    let minutes = |minutes: u64| {
        let time = Duration::from_secs(minutes.saturating_mul(60)).min(MAX_INTERVAL);
        RetryIn::After(time)
    };
    let retry_in = match dict.get(b"retry in") {
        Some(Value::Bytes(b"never")) => Some(RetryIn::Never),
        Some(Value::Bytes(digits)) => text(digits).trim().parse().ok().map(minutes),
        Some(value) => value.uint().map(minutes),
        None => None,
    };
    Ok(Some(Failure { reason, retry_in }))
}

/// Peers as dictionaries; those with a host name, or without a port, are passed over.
fn dict_peers(list: &List<'_>) -> Vec<Peer> {
    let peers = list.items().iter().filter_map(|item| {
        let dict = item.dict()?;
        let ip: IpAddr = text(dict.get(b"ip")?.bytes()?).parse().ok()?;
        let port = u16::try_from(dict.get(b"port")?.int()?).ok().filter(|port| *port != 0)?;
        let id = dict.get(b"peer id").and_then(Value::bytes).unwrap_or_default();
        let id = <[u8; 20]>::try_from(id).map_or(PeerId::NONE, PeerId::from);
        let endpoint = SocketAddr::new(ip.to_canonical(), port);
        Some(Peer { id, endpoint })
    });
    peers.take(MAX_PEERS).collect()
}

fn count(dict: &Dict<'_>, key: &[u8]) -> Option<u32> {
    dict.get(key)?.uint().map(|count| u32::try_from(count).unwrap_or(u32::MAX))
}

/// A text of a tracker: at most 512 letters of it.
fn text(bytes: &[u8]) -> String {
    let shown = bytes.get(..2048).unwrap_or(bytes);
    String::from_utf8_lossy(shown).chars().filter(|c| !c.is_control()).take(512).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()),
        16 => Some(IpAddr::from(Ipv6Addr::from(*bytes.first_chunk::<16>()?)).to_canonical()),
        _ => text(bytes).parse().ok(),
    }
}

#[cfg(test)]
#[path = "response_tests.rs"]
mod tests;
