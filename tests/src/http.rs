//! Asking a web server by hand: what it answers, to the byte.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::timeout;

/// How long a server may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most bytes of an answer that are read.
const MOST: usize = 4 << 20;

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
pub(crate) fn server_of(rest: &str) -> Option<SocketAddr> {
    rest.split('/').next()?.parse().ok()
}

/// The loopback address of the same family.
pub(crate) fn loopback(server: SocketAddr) -> IpAddr {
    if server.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_chunks() {
        assert_eq!(joined(b"3\r\nabc\r\n1;x\r\nd\r\n0\r\n\r\n").as_deref(), Some(&b"abcd"[..]));
        assert_eq!(joined(b"3\r\nab"), None);
    }
}
