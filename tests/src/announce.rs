//! Asking a tracker as a peer does, by hand: what it answers, to the byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::timeout;

use crate::torrent::value;

/// How long a tracker may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most bytes of an HTTP answer that are read.
const MOST: usize = 4 << 20;

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

/// What a web server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The head, as it came.
    pub head: String,
    /// The body, without chunks.
    pub body: Vec<u8>,
}

/// Asks for a URL with one connection; `None` when nothing comes that is HTTP. `more` are headers, each with its line's end.
pub async fn get(url: &str, from: IpAddr, more: &str) -> Option<Answer> {
    let rest = url.strip_prefix("http://")?;
    let target = &rest[rest.find('/')?..];
    let host = &rest[..rest.find('/')?];
    let text = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n");
    talk(server_of(rest)?, from, text.as_bytes(), true).await
}

/// Sends raw bytes, and reads what comes until the other side hangs up.
pub async fn say(server: SocketAddr, from: IpAddr, bytes: &[u8]) -> Option<Answer> {
    talk(server, from, bytes, false).await
}

/// The same; with `once` until one answer is whole: some trackers keep the connection whatever they are asked.
async fn talk(server: SocketAddr, from: IpAddr, bytes: &[u8], once: bool) -> Option<Answer> {
    let mut raw = Vec::new();
    let talking = async {
        let socket =
            if server.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.ok()?;
        let from = if from.is_ipv4() == server.is_ipv4() { from } else { loopback(server) };
        socket.bind((from, 0).into()).ok()?;
        let mut stream = socket.connect(server).await.ok()?;
        // The other side may answer, and hang up, before it has read everything.
        let _ = stream.write_all(bytes).await;
        while let Ok(1..) = stream.read_buf(&mut raw).await {
            if raw.len() > MOST || once && is_whole(&raw) {
                break;
            }
        }
        Some(())
    };
    timeout(PATIENCE, talking).await.ok()??;
    let end = end_of_head(&raw)?;
    let head = String::from_utf8_lossy(&raw[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { joined(&raw[end + 4..])? } else { raw[end + 4..].to_vec() };
    Some(Answer { status, head, body })
}

fn end_of_head(raw: &[u8]) -> Option<usize> {
    raw.windows(4).position(|four| four == b"\r\n\r\n")
}

/// Whether all has come of an answer that says how long it is.
fn is_whole(raw: &[u8]) -> bool {
    end_of_head(raw).is_some_and(|end| {
        let head = String::from_utf8_lossy(&raw[..end]).to_ascii_lowercase();
        let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length:"));
        length
            .and_then(|length| length.trim().parse::<usize>().ok())
            .is_some_and(|length| raw.len() >= end + 4 + length)
    })
}

/// A chunked body in one piece.
fn joined(mut chunks: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = chunks.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&chunks[..line]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend(chunks.get(line + 2..line + 2 + size)?);
        chunks = chunks.get(line + 4 + size..)?;
    }
}

/// The address in `127.0.0.1:80/announce`.
fn server_of(rest: &str) -> Option<SocketAddr> {
    rest.split('/').next()?.parse().ok()
}

/// The loopback address of the same family.
pub(crate) fn loopback(server: SocketAddr) -> IpAddr {
    if server.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() }
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

    #[test]
    fn joins_chunks() {
        assert_eq!(joined(b"3\r\nabc\r\n1;x\r\nd\r\n0\r\n\r\n").as_deref(), Some(&b"abcd"[..]));
        assert_eq!(joined(b"3\r\nab"), None);
    }
}
