//! Every field of an announce, in every way in which it can be wrong, over HTTP and UDP.

use tokio::task::spawn_blocking;

use super::{
    super::wire::http::parse_announce,
    testing::{KNOWN, Running, UdpClient, announce},
};
use crate::TrackerServer as _;

/// What an announce without these fields has otherwise.
const REST: [(&str, &str); 9] = [
    ("info_hash", "%01aaaaaaaaaaaaaaaaaaa"),
    ("peer_id", "-XX0000-aaaaaaaaaaaa"),
    ("port", "7000"),
    ("uploaded", "0"),
    ("downloaded", "0"),
    ("left", "0"),
    ("event", "started"),
    ("numwant", "30"),
    ("compact", "1"),
];

/// Longer than any number, and than any name; twice within the longest query.
fn long() -> String {
    "9".repeat(1000)
}

/// What is said of an announce in which one field has these values; nothing when it is answered with peers.
async fn said(server: &Running, field: &str, values: &[&str]) -> Option<String> {
    let mut pairs: Vec<String> = REST
        .iter()
        .filter(|(name, _)| *name != field)
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.extend(values.iter().map(|value| format!("{field}={value}")));
    let (status, body) = server.get(&format!("/announce?{}", pairs.join("&"))).await;
    assert_eq!(status, "HTTP/1.1 200 OK", "{field} {values:?}");
    parse_announce(&body).unwrap().err().map(|failure| failure.reason)
}

#[tokio::test]
async fn every_field_over_http() {
    let server = Running::start();
    let number = "is no number that it can be";
    let max = "18446744073709551615";
    let long = long();
    // Field, the values with which it is answered, and the values with which it is not and why.
    let bytes: &[(&[&str], &str)] = &[
        (&[], "is missing"),
        (&[""], "has not 20 bytes"),
        (&["aaaaaaaaaaaaaaaaaaa"], "has not 20 bytes"),
        (&["aaaaaaaaaaaaaaaaaaaaa"], "has not 20 bytes"),
        (&["0101010101010101010101010101010101010101"], "has not 20 bytes"),
        (&[&long], "has not 20 bytes"),
        (&["-1"], "has not 20 bytes"),
        (&["9223372036854775808"], "has not 20 bytes"),
        (&["aaaaaaaaaaaaaaaaaaa%"], "has a % without two hex digits"),
        (&["aaaaaaaaaaaaaaaaaaa%4"], "has a % without two hex digits"),
        (&["%g1aaaaaaaaaaaaaaaaaaa"], "has a % without two hex digits"),
        (&["%%aaaaaaaaaaaaaaaaaaa"], "has a % without two hex digits"),
        (&["%+1aaaaaaaaaaaaaaaaaaa"], "has a % without two hex digits"),
    ];
    let port: &[(&[&str], &str)] = &[
        (&[], "is missing"),
        (&["0"], "is 0"),
        (&["65536"], number),
        (&["-1"], number),
        (&[""], number),
        (&["http"], number),
        (&["1.5"], number),
        (&["9223372036854775808"], number),
        (&[&long], number),
    ];
    let amount: &[(&[&str], &str)] = &[
        (&["-1"], number),
        (&[""], number),
        (&["1e9"], number),
        (&["0x10"], number),
        (&["18446744073709551616"], number),
        (&[&long], number),
    ];
    let event: &[(&[&str], &str)] =
        &[(&["gone"], "is not known"), (&["-1"], "is not known"), (&[&long], "is not known")];
    let wanted: &[(&[&str], &str)] =
        &[(&["9223372036854775808"], number), (&["many"], number), (&[&long], number)];
    let token: &[(&[&str], &str)] =
        &[(&[&long], "is too long"), (&["%"], "has a % without two hex digits")];
    let table: [(&str, &[&str], &[(&[&str], &str)]); 12] = [
        ("info_hash", &["%01%00%ff%FFaaaaaaaaaaaaaaaa"], bytes),
        ("peer_id", &["%00%00%00%00%00%00%00%00%00%00++++++++++"], bytes),
        ("port", &["1", "65535", "00080"], port),
        ("uploaded", &["0", max, "9223372036854775808"], amount),
        ("downloaded", &["0", max, "9223372036854775808"], amount),
        ("left", &["0", max, "9223372036854775808"], amount),
        ("event", &["", "empty", "started", "completed", "stopped", "paused"], event),
        ("numwant", &["0", "-1", "-9223372036854775808", "4294967295"], wanted),
        ("key", &["", "-1", "xyz", "9223372036854775808", &long], &[]),
        ("trackerid", &["", "a%00b", "-1"], token),
        ("compact", &["0", "1", "", "-1", &long], &[]),
        ("no_peer_id", &["0", "1", "", "-1", &long], &[]),
    ];
    let mut requests = 0;
    for (field, good, bad) in table {
        for value in good {
            let said = said(&server, field, &[value]).await;
            assert_eq!(said, None, "{field}={value}");
            let twice = self::said(&server, field, &[value, value]).await.unwrap();
            assert_eq!(twice, format!("`{field}` is there twice"));
            requests += 2;
        }
        for (values, why) in bad {
            let said = said(&server, field, values).await;
            assert_eq!(said, Some(format!("`{field}` {why}")), "{values:?}");
            requests += 1;
        }
    }
    // What is not looked at does no harm.
    for (field, value) in [("ip", "9.9.9.9"), ("ipv6", long.as_str()), ("supportcrypto", "%")] {
        assert_eq!(said(&server, field, &[value, value]).await, None);
        requests += 1;
    }
    let counts = server.server.counts();
    let done = counts.answered + counts.refused + counts.malformed + counts.shed;
    assert_eq!((counts.requests, done), (requests, requests));
    assert_eq!(server.handler.asked.lock().unwrap().len() as u64, counts.answered);
    server.end().await;
}

/// Offsets of an announce's fields in its packet, and how long they are (BEP 15).
const LAYOUT: [(&str, usize, usize); 12] = [
    ("action", 8, 4),
    ("transaction", 12, 4),
    ("info_hash", 16, 20),
    ("peer_id", 36, 20),
    ("downloaded", 56, 8),
    ("left", 64, 8),
    ("uploaded", 72, 8),
    ("event", 80, 4),
    ("address", 84, 4),
    ("key", 88, 4),
    ("num_want", 92, 4),
    ("port", 96, 2),
];

#[tokio::test]
async fn every_field_over_udp() {
    let server = Running::start();
    let udp = server.udp();
    let client = move || {
        let client = UdpClient::to(udp);
        let id = client.connect();
        let good = UdpClient::announce(id, announce(KNOWN));
        let (mut sent, mut answered) = (1, 1);
        // A packet that is not answered is followed by one that is: an answer to that shows that none came before.
        let answer = |packet: &[u8]| {
            client.send(packet);
            client.send(&super::super::wire::udp::UdpRequest::Connect { transaction: 5 }.encode());
            let mut answers = Vec::new();
            loop {
                let answer = client.receive();
                if answer[..8] == [0, 0, 0, 0, 0, 0, 0, 5] {
                    return answers.pop();
                }
                answers.push(answer);
            }
        };
        let text = |answer: &[u8]| String::from_utf8(answer[8..].to_vec()).unwrap();
        // Cut anywhere; with options, good and broken ones, behind (BEP 41).
        for length in 0..good.len() {
            let said = answer(&good[..length]);
            match said {
                Some(said) => {
                    assert!(length >= 16);
                    assert_eq!(said[..8], [&[0, 0, 0, 3][..], &good[12..16]].concat());
                    assert!(text(&said).ends_with("ends too early"), "{}", text(&said));
                }
                None => assert!(length < 16),
            }
            sent += 2;
            answered += 1;
        }
        for options in [&b""[..], b"\x02\x02/a", b"\x02\xff/a", b"\x02", b"\x00\x07", b"\xff\xff"] {
            let said = answer(&[&good[..], options].concat()).unwrap();
            assert_eq!(said[..8], [&[0, 0, 0, 1][..], &good[12..16]].concat());
            (sent, answered) = (sent + 2, answered + 2);
        }
        // Zeros, ones, the sign alone, and all but the sign.
        for (field, at, length) in LAYOUT {
            for (first, others) in [(0, 0), (0xFF, 0xFF), (0x80, 0), (0x7F, 0xFF)] {
                let mut packet = good.clone();
                packet[at..at + length].fill(others);
                packet[at] = first;
                let said = answer(&packet);
                let kind = said.as_ref().map(|said| said[3]);
                sent += 2;
                answered += 1;
                match field {
                    // A connect without its magic, or no action at all.
                    "action" => assert_eq!(kind, None),
                    "info_hash" => assert_eq!(text(&said.unwrap()), "not served here"),
                    "event" if (first, others) != (0, 0) => {
                        let text = text(&said.unwrap());
                        assert!(text.starts_with("event ") && text.ends_with(" is not known"));
                    }
                    "port" if (first, others) == (0, 0) => {
                        assert_eq!(text(&said.unwrap()), "the port is 0");
                    }
                    _ => {
                        assert_eq!(kind, Some(1), "{field} {first:x} {others:x}");
                        answered += 1;
                    }
                }
            }
        }
        // Scrapes of no, half a, and too many info-hashes.
        for length in [0, 19, 21, 75 * 20] {
            let mut packet = good[..16].to_vec();
            packet[11] = 2;
            packet.resize(16 + length, 1);
            let said = answer(&packet).unwrap();
            assert_eq!(said[3], 3);
            assert!(text(&said).contains("of info-hashes"), "{}", text(&said));
            (sent, answered) = (sent + 2, answered + 1);
        }
        (sent, answered)
    };
    let (sent, answered) = spawn_blocking(client).await.unwrap();
    let counts = server.server.counts();
    assert_eq!((counts.requests, counts.answered), (sent, answered));
    let done = counts.answered + counts.refused + counts.malformed + counts.shed;
    assert_eq!(done, sent);
    server.end().await;
}
