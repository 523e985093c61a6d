use p2pbridge_proto::{ErrorCode, Name, PeerEvent, Reply, Request};

use super::*;
use crate::message::Decoded;

const HASH: &str = "%124Vx%9A%BC%DE%F1%23Eg%89%AB%CD%EF%124Vx%9A";

fn decoded(bytes: &[u8]) -> Decoded {
    (MESSAGES.decode)(bytes, &Hint::default()).unwrap()
}

fn lost(decoded: &Decoded) -> Vec<&str> {
    assert!(decoded.lost.iter().all(|lost| lost.why.is_some()), "{:?}", decoded.lost);
    decoded.lost.iter().map(|lost| lost.field.as_str()).collect()
}

#[test]
fn a_request_is_known_in_every_form() {
    let query = format!(
        "info_hash={HASH}&peer_id=-XX0001-abcdefghijkl&port=7&left=3&event=started&ip=1.2.3.4"
    );
    let forms = [
        format!("GET /announce?{query} HTTP/1.1\r\nHost: x\r\nUser-Agent: y\r\n\r\n"),
        format!("http://tracker.example/announce?{query}\n"),
        format!("/announce?{query}"),
        format!("?{query}"),
        query.clone(),
    ];
    for form in &forms {
        let decoded = decoded(form.as_bytes());
        assert_eq!(decoded.kind, "http-announce-request", "{form}");
        let Ok(Body::Request(Request::Announce(announce))) = &decoded.unified else {
            panic!("{form}: {:?}", decoded.unified);
        };
        assert_eq!((announce.event, announce.left), (PeerEvent::Started, Some(3)));
        assert_eq!(announce.peer.endpoint, "0.0.0.0:7".parse().unwrap());
    }
    let whole = decoded(forms[0].as_bytes());
    assert_eq!(
        lost(&whole),
        ["header host", "header user-agent", "no_peer_id", "parameter ip", "path"]
    );
    let scrape = decoded(format!("/x/scrape?info_hash={HASH}&info_hash={HASH}").as_bytes());
    assert_eq!((scrape.kind, lost(&scrape)), ("http-scrape-request", vec!["path"]));
    let seen = Hint { seen: Some("10.0.0.9".parse().unwrap()), ..Hint::default() };
    let Ok(Body::Request(Request::Announce(announce))) =
        (MESSAGES.decode)(query.as_bytes(), &seen).unwrap().unified
    else {
        panic!("no announce");
    };
    assert_eq!(announce.peer.endpoint, "10.0.0.9:7".parse().unwrap());
}

#[test]
fn an_answer_is_known_in_every_form() {
    let body = "d8:completei1e8:intervali9e5:peers12:\x7f\0\0\x01\0\x07\x7f\0\0\x01\0\0e";
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        &body[..5],
        body.len() - 5,
        &body[5..]
    );
    let whole = format!("HTTP/1.0 200 OK\nContent-Length: {}\n\n{body}tail", body.len());
    for form in [body, &chunked, &whole] {
        let decoded = decoded(form.as_bytes());
        assert_eq!(decoded.kind, "http-announce-answer", "{form}");
        let Ok(Body::Reply(Reply::Peers(list))) = &decoded.unified else {
            panic!("{form}: {:?}", decoded.unified);
        };
        assert_eq!((list.peers.len(), list.seeders, list.interval.as_secs()), (1, Some(1), 9));
        assert!(lost(&decoded).contains(&"passed over"));
    }
    let refused = decoded(b"d14:failure reason4:busy8:retry ini5ee");
    let Ok(Body::Fault(fault)) = &refused.unified else { panic!("{:?}", refused.unified) };
    assert_eq!((refused.kind, fault.code), ("http-failure", ErrorCode::Overloaded));
    assert!(refused.lost.is_empty(), "{:?}", refused.lost);
}

#[test]
fn packets_are_known_by_what_is_where() {
    let connect = [&0x417_2710_1980_u64.to_be_bytes()[..], &[0; 4], &[9; 4]].concat();
    assert_eq!(decoded(&connect).kind, "udp-connect-request");
    assert!(decoded(&connect).unified.is_err());
    assert_eq!(decoded(&[&[0; 4][..], &[9; 12]].concat()).kind, "udp-connect-answer");
    let empty = decoded(&[0, 0, 0, 1, 9, 9, 9, 9]);
    assert_eq!(lost(&empty), ["action", "message", "transaction"]);
    assert_eq!(decoded(b"\0\0\0\x03abcdbusy").kind, "udp-error");
    // An interval of one second stands where a request has its action; a connection id where an answer has it.
    let answer = [&[0, 0, 0, 1, 9, 9, 9, 9, 0, 0, 0, 1][..], &[0; 8], &[9; 6 * 14]].concat();
    assert_eq!(decoded(&answer).kind, "udp-announce-answer");
    let request = [&[0, 0, 0, 1, 9, 9, 9, 9, 0, 0, 0, 1][..], &[7; 44], &[0; 40], &[0, 7]].concat();
    assert_eq!(decoded(&request).kind, "udp-announce-request");
    let request = [&[0, 0, 0, 2, 9, 9, 9, 9, 0, 0, 0, 2][..], &[7; 24]].concat();
    assert_eq!(decoded(&request).kind, "udp-scrape-request");
    let swarms = [&[0, 0, 0, 2, 9, 9, 9, 9][..], &[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]].concat();
    assert!(decoded(&swarms).unified.is_err());
    let asked = Hint { names: vec![Name::btih([7; 20])], ..Hint::default() };
    let Ok(Body::Reply(Reply::Swarms(stats))) = (MESSAGES.decode)(&swarms, &asked).unwrap().unified
    else {
        panic!("no sizes");
    };
    assert_eq!((stats[0].seeders, stats[0].completed, stats[0].leechers), (1, Some(2), 3));
}

#[test]
fn what_is_no_message_says_why() {
    let text = |bytes: &[u8]| (MESSAGES.decode)(bytes, &Hint::default()).unwrap_err().to_string();
    assert_eq!(text(b"\xFF\xFF"), "2 bytes that are no tracker message of BitTorrent");
    assert_eq!(
        text(b"HTTP/1.1 502 Bad\r\n\r\n<html>"),
        "HTTP status 502; no answer of a tracker: byte 0: no value begins with byte 0x3c"
    );
    assert!(
        text(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nx").contains("compressed (gzip)")
    );
    assert!(text(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nde").contains("2 of 9 bytes"));
    assert_eq!(text(b"info_hash=abc"), "`info_hash` has not 20 bytes");
    let hint = Hint { kind: Some("udp-x".into()), ..Hint::default() };
    assert!(
        (MESSAGES.decode)(b"", &hint)
            .unwrap_err()
            .to_string()
            .contains("known: udp-connect-request, ")
    );
}

#[test]
fn the_readme_has_the_table_of_what_is_lost() {
    let readme = include_str!("README.md");
    for loss in losses::LOSSES {
        let row = format!("| `{}` | {} | {} |", loss.field, losses::of(loss.kinds), loss.why);
        assert!(readme.contains(&row), "the README lacks the row:\n{row}");
    }
    let rows = readme.lines().skip_while(|line| !line.starts_with("| field | of"));
    let rows = rows.take_while(|line| line.starts_with('|')).count();
    assert_eq!(rows, losses::LOSSES.len() + 2);
}
