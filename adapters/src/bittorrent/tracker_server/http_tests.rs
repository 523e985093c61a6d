use std::net::{IpAddr, Ipv4Addr};

use p2pbridge_proto::{Name, Request};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::Instant,
};

use super::{
    super::testing::{FATAL, KNOWN, LARGE, LATER, PATIENCE, Running, SHED, announce_target, until},
    *,
};
use crate::{
    TrackerServer as _,
    bittorrent::wire::http::{RetryIn, parse_announce, parse_scrape},
};

/// Reads one answer of a connection that stays: its head, and its body.
async fn answer(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let read = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.split("Content-Length: ").nth(1).unwrap().lines().next().unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).await.unwrap();
        (head, body)
    };
    timeout(PATIENCE, read).await.unwrap()
}

fn request(target: &str, version: &str, fields: &str) -> Vec<u8> {
    format!("GET {target} {version}\r\n{fields}\r\n").into_bytes()
}

#[tokio::test]
async fn answers_announces_and_scrapes() {
    let server = Running::start();
    let (status, body) = server.get(&announce_target(KNOWN, "")).await;
    let response = parse_announce(&body).unwrap().unwrap();
    assert_eq!(status, "HTTP/1.1 200 OK");
    let endpoints: Vec<_> = response.peers.iter().map(|p| p.endpoint.to_string()).collect();
    assert_eq!(endpoints, ["127.0.0.1:7000", "[2001:db8::1]:9"]);
    assert_eq!(response.external_ip, Some(Ipv4Addr::LOCALHOST.into()));
    let (_, body) = server.get(&announce_target(KNOWN, "&compact=0&ip=9.9.9.9")).await;
    let response = parse_announce(&body).unwrap().unwrap();
    assert_eq!(response.peers[0].id.as_bytes(), b"p".repeat(20));
    let (_, body) = server.get(&announce_target(LARGE, "&event=stopped")).await;
    assert!(parse_announce(&body).unwrap().unwrap().peers.is_empty());
    let (_, body) = server.get(&announce_target(KNOWN, "").replace("announce", "scrape")).await;
    let swarms = parse_scrape(&body).unwrap().unwrap();
    assert_eq!((swarms[0].1.complete, swarms[0].1.downloaded), (1, Some(3)));
    assert_eq!(Name::btih(swarms[0].0).digest()[0], 1);
    server.end().await;
}

#[tokio::test]
async fn refuses_in_the_protocols_own_words() {
    let server = Running::start();
    let failure = async |target: &str| {
        let (status, body) = server.get(target).await;
        assert_eq!(status, "HTTP/1.1 200 OK");
        parse_announce(&body).unwrap().unwrap_err()
    };
    let shed = failure(&announce_target(SHED, "")).await;
    assert_eq!(shed.retry_in, Some(RetryIn::After(Duration::from_secs(60))));
    assert_eq!(failure(&announce_target(9, "")).await.reason, "not served here");
    assert_eq!(failure("/announce").await.reason, "`info_hash` is missing");
    assert_eq!(failure("/scrape").await.reason, "`info_hash` is missing");
    for target in ["/", "/x/announce", "/announce/", "/stats"] {
        assert!(server.get(target).await.0.contains("404"), "{target}");
    }
    let long = format!("&x={}", "y".repeat(5000));
    assert!(server.get(&announce_target(KNOWN, &long)).await.0.contains("414"));
    assert!(server.get(&"y".repeat(20_000)).await.0.contains("414"));
    let counts = server.server.counts();
    assert_eq!((counts.requests, counts.refused, counts.malformed), (10, 6, 4));
}

#[tokio::test]
async fn a_connection_serves_many_questions_also_when_they_come_at_once_or_in_pieces() {
    let server = Running::start();
    let mut stream = TcpStream::connect(server.http()).await.unwrap();
    let ask = |first| request(&announce_target(first, ""), "HTTP/1.1", "Host: x\r\n");
    for _ in 0..3 {
        stream.write_all(&ask(KNOWN)).await.unwrap();
        let (head, body) = answer(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && !head.contains("Connection"), "{head}");
        assert_eq!(parse_announce(&body).unwrap().unwrap().peers.len(), 2);
    }
    for piece in ask(KNOWN).chunks(7) {
        stream.write_all(piece).await.unwrap();
        tokio::task::yield_now().await;
    }
    answer(&mut stream).await;
    // More than is answered in one go, of different kinds, one of them late.
    let firsts = [KNOWN, SHED, LATER, LARGE, 9, KNOWN].repeat(40);
    let all: Vec<u8> = firsts.iter().flat_map(|first| ask(*first)).collect();
    server.handler.released.send_replace(true);
    let (mut reader, mut writer) = stream.split();
    let write = async { writer.write_all(&all).await.unwrap() };
    let read = async {
        let mut bytes = Vec::new();
        let mut chunk = vec![0; 65_536];
        while bytes.windows(15).filter(|text| text == b"HTTP/1.1 200 OK").count() < firsts.len()
            || !bytes.ends_with(b"e")
        {
            let length = reader.read(&mut chunk).await.unwrap();
            assert!(length > 0);
            bytes.extend_from_slice(&chunk[..length]);
        }
        bytes
    };
    let (bytes, ()) = timeout(PATIENCE, async { tokio::join!(read, write) }).await.unwrap();
    let refusals = |text: &[u8]| bytes.windows(text.len()).filter(|part| *part == text).count();
    assert_eq!((refusals(b"too much at once"), refusals(b"not served here")), (40, 40));
}

#[tokio::test]
async fn http_1_0_whole_addresses_and_the_end_of_a_connection() {
    let server = Running::start();
    let target = announce_target(KNOWN, "");
    let old = server.exchange(&request(&target, "HTTP/1.0", "")).await;
    assert!(String::from_utf8_lossy(&old).contains("Connection: close\r\n"));
    let whole = format!("http://tracker.example{target}");
    let whole = server.exchange(&request(&whole, "HTTP/1.1", "connection: Close\r\n")).await;
    assert!(String::from_utf8_lossy(&whole).starts_with("HTTP/1.1 200 OK"));
    let mut stream = TcpStream::connect(server.http()).await.unwrap();
    for _ in 0..2 {
        let again = request(&target, "HTTP/1.0", "Connection: keep-alive\r\n");
        stream.write_all(&again).await.unwrap();
        assert!(answer(&mut stream).await.0.contains("Connection: keep-alive\r\n"));
    }
}

#[tokio::test]
async fn broken_requests_end_their_connection_only() {
    let server = Running::start();
    let good = request(&announce_target(KNOWN, ""), "HTTP/1.1", "");
    for (broken, status) in [
        (b"\x16\x03\x01\x02\x00\x01\xfc\x03\r\n\r\n".to_vec(), "400"),
        (b"POST /announce HTTP/1.1\r\n\r\n".to_vec(), "405"),
        (b"HEAD /announce HTTP/1.1\r\n\r\n".to_vec(), "405"),
        (b"GET /announce HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello".to_vec(), "400"),
        (b"GET /announce HTTP/3.0\r\n\r\n".to_vec(), "400"),
        (request("/announce", "HTTP/1.1", &"A: b\r\n".repeat(100)), "431"),
        (request("/announce", "HTTP/1.1", &format!("A: {}\r\n", "b".repeat(9000))), "431"),
        (vec![b'A'; 100_000], "4"),
    ] {
        // A good question before it is answered, one behind it is not.
        let bytes = [&good[..], &broken, &good].concat();
        let answers = server.exchange(&bytes).await;
        let text = String::from_utf8_lossy(&answers);
        let statuses: Vec<_> =
            text.split("HTTP/1.1 ").skip(1).map(|answer| answer.get(..3).unwrap()).collect();
        assert_eq!(statuses.len(), 2, "{text}");
        assert!(statuses[0] == "200" && statuses[1].starts_with(status), "{status}: {text}");
    }
    assert_eq!(server.server.counts().malformed, 8);
}

#[tokio::test]
async fn a_late_answer_and_a_failing_handler() {
    let server = Running::start();
    let mut stream = TcpStream::connect(server.http()).await.unwrap();
    let ask = |first| request(&announce_target(first, ""), "HTTP/1.1", "");
    stream.write_all(&ask(LATER)).await.unwrap();
    until("the question has come", || server.handler.released.receiver_count() == 1).await;
    // It costs its own connection, not the thread.
    let mut other = TcpStream::connect(server.http()).await.unwrap();
    other.write_all(&ask(FATAL)).await.unwrap();
    assert_eq!(timeout(PATIENCE, other.read(&mut [0; 9])).await.unwrap().unwrap_or(0), 0);
    // A server that stops still gives the answers that are under way.
    server.stop.cancel();
    server.handler.released.send_replace(true);
    let (_, body) = answer(&mut stream).await;
    assert_eq!(parse_announce(&body).unwrap().unwrap().peers.len(), 2);
    timeout(PATIENCE, server.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn behind_a_proxy_the_last_address_counts_and_there_must_be_one() {
    let server = Running::at(Ipv4Addr::LOCALHOST.into(), true);
    let ask = async |fields: &str| {
        let fields = format!("{fields}Connection: close\r\n");
        let bytes = request(&announce_target(KNOWN, ""), "HTTP/1.1", &fields);
        String::from_utf8_lossy(&server.exchange(&bytes).await).into_owned()
    };
    for (list, address) in [
        ("1.2.3.4", "1.2.3.4"),
        ("nonsense, 9.9.9.9 ,  ::1 ", "::1"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
    ] {
        assert!(ask(&format!("X-Forwarded-For: {list}\r\n")).await.contains("200 OK"), "{list}");
        let (_, asked) = server.handler.asked.lock().unwrap().pop().unwrap();
        let Request::Announce(asked) = asked else { panic!("no announce") };
        assert_eq!(asked.peer.endpoint.ip(), address.parse::<IpAddr>().unwrap());
    }
    for bad in ["", "X-Forwarded-For: \r\n", "X-Forwarded-For: 1.2.3.4, unknown\r\n"] {
        assert!(ask(bad).await.starts_with("HTTP/1.1 400 "), "{bad}");
    }
    assert!(server.handler.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn whoever_sends_too_slowly_is_told_and_dropped() {
    let server = Running::start();
    let mut slow = TcpStream::connect(server.http()).await.unwrap();
    let begun = Instant::now();
    let drip = async {
        let mut at = 0;
        let bytes = request(&announce_target(KNOWN, ""), "HTTP/1.1", "");
        let mut seen = Vec::new();
        loop {
            // One byte at a time keeps no connection open.
            let _ = slow.write_all(&bytes[at % 40..=at % 40]).await;
            at += 1;
            let read = timeout(Duration::from_millis(200), slow.read_buf(&mut seen)).await;
            if matches!(read, Ok(Ok(0) | Err(_))) {
                return seen;
            }
        }
    };
    let seen = timeout(Duration::from_secs(25), drip).await.unwrap();
    assert!(String::from_utf8_lossy(&seen).starts_with("HTTP/1.1 4"));
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn connections_are_bounded_and_those_above_are_told_so() {
    let server = Running::start();
    let bound = Room::new(false).capacity();
    let mut idle = Vec::new();
    for _ in 0..bound {
        idle.push(TcpStream::connect(server.http()).await.unwrap());
    }
    let begun = Instant::now();
    // All of them are taken when the next is refused; idle ones are then not kept for long.
    let refused = async {
        loop {
            let mut one = TcpStream::connect(server.http()).await.unwrap();
            let mut said = Vec::new();
            let _ = timeout(Duration::from_millis(500), one.read_to_end(&mut said)).await;
            if !said.is_empty() {
                return said;
            }
            idle.push(one);
        }
    };
    let said = timeout(PATIENCE, refused).await.unwrap();
    let said = String::from_utf8(said).unwrap();
    assert!(said.starts_with("HTTP/1.1 503 ") && said.contains("Retry-After: 60\r\n"), "{said}");
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{said}");
    assert!(server.server.counts().shed > 0);
    let again = async {
        loop {
            let mut one = TcpStream::connect(server.http()).await.unwrap();
            let ask = request(&announce_target(KNOWN, ""), "HTTP/1.0", "");
            let _ = one.write_all(&ask).await;
            let mut said = Vec::new();
            let _ = one.read_to_end(&mut said).await;
            if said.starts_with(b"HTTP/1.1 200 OK") {
                return;
            }
        }
    };
    timeout(Duration::from_secs(20), again).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(30));
}
