//! Asking a tracker as a peer does, by hand: what it answers, to the byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::http::{Answer, get, server_of};
use crate::torrent::value;

/// How long a tracker may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// An announce.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Of which swarm.
    pub hash: [u8; 20],
    /// The peer's port.
    pub port: u16,
    /// Bytes that it lacks.
    pub left: u64,
    /// `started`, `completed`, `stopped`, or empty.
    pub event: &'static str,
    /// From which address it asks.
    pub from: IpAddr,
}

impl Ask {
    /// A leecher on 127.0.0.1 that has just started.
    #[must_use]
    pub fn new(hash: [u8; 20], port: u16) -> Self {
        Self { hash, port, left: 1, event: "started", from: Ipv4Addr::LOCALHOST.into() }
    }

    /// The same as a seeder.
    #[must_use]
    pub fn seeder(hash: [u8; 20], port: u16) -> Self {
        Self { left: 0, ..Self::new(hash, port) }
    }

    /// The same from another address.
    #[must_use]
    pub fn from(self, ip: impl Into<IpAddr>) -> Self {
        Self { from: ip.into(), ..self }
    }

    /// The same with another event.
    #[must_use]
    pub fn event(self, event: &'static str) -> Self {
        Self { event, ..self }
    }

    fn peer_id(&self) -> [u8; 20] {
        let mut id = *b"-HN0001-000000000000";
        id[15..].copy_from_slice(format!("{:05}", self.port).as_bytes());
        id
    }

    /// As an HTTP query.
    #[must_use]
    pub fn query(&self) -> String {
        let Self { hash, port, left, event, .. } = self;
        let event = if event.is_empty() { String::new() } else { format!("&event={event}") };
        format!(
            "info_hash={}&peer_id={}&port={port}&uploaded=0&downloaded=0&left={left}&compact=1{event}",
            percent(hash),
            percent(&self.peer_id())
        )
    }

    /// As a packet (BEP 15).
    ///
    /// # Panics
    /// When the event is none.
    #[must_use]
    pub fn packet(&self, connection: u64, transaction: u32) -> Vec<u8> {
        let mut ask = connection.to_be_bytes().to_vec();
        ask.extend([0, 0, 0, 1]);
        ask.extend(transaction.to_be_bytes());
        ask.extend(self.hash);
        ask.extend(self.peer_id());
        ask.extend([0; 8]);
        ask.extend(self.left.to_be_bytes());
        ask.extend([0; 8]);
        let event = ["", "completed", "started", "stopped"]
            .iter()
            .position(|event| *event == self.event)
            .expect("an event");
        ask.extend((event as u32).to_be_bytes());
        // No address, no key, as many peers as the tracker likes.
        ask.extend([0; 8]);
        ask.extend([0xff; 4]);
        ask.extend(self.port.to_be_bytes());
        ask
    }

    /// Announces itself at a URL; `None` when nothing comes that an announce may be answered with.
    pub async fn at(&self, url: &str) -> Option<Told> {
        match url.strip_prefix("udp://") {
            Some(rest) => timeout(PATIENCE, self.udp(server_of(rest)?)).await.ok()?,
            None => Told::of_http(get(&format!("{url}?{}", self.query()), self.from, "").await?),
        }
    }

    /// Announces itself over HTTP as a proxy passes it on: from this machine, with its address in `X-Forwarded-For`.
    pub async fn forwarded(&self, url: &str) -> Option<Told> {
        let header = format!("X-Forwarded-For: {}\r\n", self.from);
        let here = Ipv4Addr::LOCALHOST.into();
        Told::of_http(get(&format!("{url}?{}", self.query()), here, &header).await?)
    }

    async fn udp(&self, server: SocketAddr) -> Option<Told> {
        let socket = UdpSocket::bind((self.from, 0)).await.ok()?;
        socket.connect(server).await.ok()?;
        let mut ask = 0x417_2710_1980_u64.to_be_bytes().to_vec();
        ask.extend([0, 0, 0, 0, 9, 8, 7, 6]);
        socket.send(&ask).await.ok()?;
        let mut answer = [0; 2048];
        let length = socket.recv(&mut answer).await.ok()?;
        let connection = answer.get(..length)?.get(8..16)?.try_into().expect("8 bytes");
        let ask = self.packet(u64::from_be_bytes(connection), 0x0908_0706);
        socket.send(&ask).await.ok()?;
        let length = socket.recv(&mut answer).await.ok()?;
        Told::of_udp(answer.get(..length)?, server.is_ipv6())
    }
}

/// What a tracker told.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// HTTP's status; 200 for UDP.
    pub status: u16,
    /// When to come back, in seconds.
    pub interval: u64,
    /// Peers that hold everything.
    pub seeders: Option<u64>,
    /// Peers that lack something.
    pub leechers: Option<u64>,
    /// Who is there.
    pub peers: Vec<SocketAddr>,
    /// Why there is no answer.
    pub failure: Option<String>,
    /// What else there is to say (`warning message`).
    pub warning: Option<String>,
    /// When to try again, as it was said: minutes, or `never` (BEP 31).
    pub retry_in: Option<String>,
}

impl Told {
    fn of_http(answer: Answer) -> Option<Self> {
        let body = &answer.body;
        let number = |key: &[u8]| {
            let text = std::str::from_utf8(value(body, key)?).ok()?;
            text.strip_prefix('i')?.strip_suffix('e')?.parse().ok()
        };
        let text = |key: &[u8]| {
            let raw = value(body, key)?;
            let text = String::from_utf8_lossy(raw).into_owned();
            Some(match text.split_once(':') {
                Some((_, text)) => text.to_owned(),
                None => text.trim_matches(['i', 'e']).to_owned(),
            })
        };
        let compact = |key: &[u8], ipv6: bool| {
            let raw = value(body, key).unwrap_or_default();
            let colon = raw.iter().position(|byte| *byte == b':').map_or(raw.len(), |at| at + 1);
            endpoints(&raw[colon..], ipv6)
        };
        body.starts_with(b"d").then(|| Self {
            status: answer.status,
            interval: number(b"interval").unwrap_or_default(),
            seeders: number(b"complete"),
            leechers: number(b"incomplete"),
            peers: [compact(b"peers", false), compact(b"peers6", true)].concat(),
            failure: text(b"failure reason"),
            warning: text(b"warning message"),
            retry_in: text(b"retry in"),
        })
    }

    fn of_udp(answer: &[u8], ipv6: bool) -> Option<Self> {
        let number = |at: usize| Some(u32::from_be_bytes(answer.get(at..at + 4)?.try_into().ok()?));
        if number(4)? != 0x0908_0706 {
            return None;
        }
        if number(0)? == 3 {
            let failure = String::from_utf8_lossy(&answer[8..]).into_owned();
            return Some(Self { status: 200, failure: Some(failure), ..Self::default() });
        }
        Some(Self {
            status: 200,
            interval: number(8)?.into(),
            leechers: number(12).map(Into::into),
            seeders: number(16).map(Into::into),
            peers: endpoints(answer.get(20..)?, ipv6),
            ..Self::default()
        })
    }
}

/// A compact list (BEP 23, BEP 7).
fn endpoints(bytes: &[u8], ipv6: bool) -> Vec<SocketAddr> {
    let port = |bytes: &[u8]| u16::from_be_bytes([bytes[0], bytes[1]]);
    if ipv6 {
        let entry = |bytes: &[u8]| {
            let ip: [u8; 16] = bytes[..16].try_into().expect("16 bytes");
            SocketAddr::new(Ipv6Addr::from(ip).into(), port(&bytes[16..]))
        };
        return bytes.chunks_exact(18).map(entry).collect();
    }
    let entry = |bytes: &[u8]| {
        let ip: [u8; 4] = bytes[..4].try_into().expect("4 bytes");
        SocketAddr::new(Ipv4Addr::from(ip).into(), port(&bytes[4..]))
    };
    bytes.chunks_exact(6).map(entry).collect()
}

/// Every byte as `%xx`.
#[must_use]
pub fn percent(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_families_and_texts() {
        let body = b"d8:completei1e8:intervali60e5:peers6:\x7f\0\0\x01\0\x506:peers618:\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\x518:retry ini5e15:warning message3:olde";
        let answer = Answer { status: 200, head: String::new(), body: body.to_vec() };
        let told = Told::of_http(answer).expect("an answer");
        let peers: Vec<String> = told.peers.iter().map(ToString::to_string).collect();
        assert_eq!(peers, ["127.0.0.1:80", "[::1]:81"]);
        assert_eq!((told.interval, told.seeders, told.leechers), (60, Some(1), None));
        assert_eq!((told.warning.as_deref(), told.retry_in.as_deref()), (Some("old"), Some("5")));
    }
}
