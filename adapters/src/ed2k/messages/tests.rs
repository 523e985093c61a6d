use p2pbridge_proto::{Name, Query, Reply, Request};

use super::*;
use crate::message::Decoded;

/// Bytes of a capture.
macro_rules! capture {
    ($name:literal) => {
        &include_bytes!(concat!("../../../../tests/fixtures/ed2k/captures/", $name))[..]
    };
}

fn decoded(bytes: &[u8]) -> Decoded {
    (MESSAGES.decode)(bytes, &Hint::default()).unwrap()
}

fn lost(decoded: &Decoded) -> Vec<&str> {
    assert!(decoded.lost.iter().all(|lost| lost.why.is_some()), "{:?}", decoded.lost);
    decoded.lost.iter().map(|lost| lost.field.as_str()).collect()
}

fn field<'a>(decoded: &'a Decoded, name: &str) -> Vec<&'a str> {
    let named = decoded.fields.iter().filter(|field| field.name == name);
    named.map(|field| field.value.as_str()).collect()
}

#[test]
fn what_amuled_says_is_known() {
    let login = decoded(capture!("amuled-tcp-login-3.request"));
    assert_eq!(login.kind, "tcp-login-request");
    assert_eq!((field(&login, "port"), field(&login, "tag nick")), (vec!["4731"], vec!["echo"]));
    assert!(login.unified.is_err());
    let offer = decoded(capture!("amuled-tcp-offer.request"));
    assert_eq!(field(&offer, "holder"), ["complete", "complete"]);
    assert_eq!(field(&offer, "compressed"), ["yes"]);
    assert_eq!(
        offer.unified,
        Err("it is about several files: each of them is a unified message of its own")
    );
    let search = decoded(capture!("amuled-tcp-search-3.request"));
    assert_eq!(field(&search, "search").len(), 1);
    assert!(matches!(search.unified, Ok(Body::Request(Request::Search(_)))), "{search:?}");
    assert!(lost(&search).is_empty(), "{search:?}");
    let search = decoded(capture!("amuled-udp-search.request"));
    let Ok(Body::Request(Request::Search(asked))) = &search.unified else { panic!("{search:?}") };
    assert_eq!(asked.query, Query::Words("golden noise".to_owned()));
    let several = decoded(capture!("amuled-udp-get-sources.request"));
    assert_eq!((several.kind, field(&several, "size").len()), ("udp-get-sources-request", 4));
    assert!(several.unified.is_err());
}

#[test]
fn what_a_server_says_is_known() {
    let sources = decoded(capture!("ed2k-server-tcp-sources.answer"));
    assert_eq!(field(&sources, "source"), ["198.51.100.6:4771"]);
    assert_eq!(lost(&sources), ["file"]);
    let Ok(Body::Reply(Reply::Peers(list))) = &sources.unified else { panic!("{sources:?}") };
    assert_eq!(list.peers[0].endpoint, "198.51.100.6:4771".parse().unwrap());
    let file = Name::from_digest_text(p2pbridge_proto::Scheme::Ed2k, field(&sources, "file")[0]);
    let hint = Hint { names: vec![file.unwrap()], ..Hint::default() };
    let again = (MESSAGES.decode)(capture!("ed2k-server-tcp-sources.answer"), &hint).unwrap();
    assert!(again.lost.is_empty(), "the file is told: {:?}", again.lost);
    let found = decoded(capture!("ed2k-server-tcp-found.answer"));
    let Ok(Body::Reply(Reply::Found(result))) = &found.unified else { panic!("{found:?}") };
    assert_eq!((result.hits.len(), result.hits[0].length), (4, 10_000_000));
    assert_eq!(lost(&found), ["holder", "tag type"]);
    let status = decoded(capture!("ed2k-server-udp-status.answer"));
    assert_eq!((status.kind, status.unified.is_err()), ("udp-status-answer", true));
}

#[test]
fn what_is_no_message_says_why() {
    let text = |bytes: &[u8], kind: Option<&str>| {
        let hint = Hint { kind: kind.map(str::to_owned), ..Hint::default() };
        (MESSAGES.decode)(bytes, &hint).unwrap_err().to_string()
    };
    assert!(text(b"GET /", None).contains("no message between client and server"));
    let status = capture!("ed2k-server-tcp-status.answer");
    assert!(text(&status[..9], Some("tcp-status-answer")).contains("not one message"));
    assert!(text(status, Some("tcp-id-answer")).contains("it is a status of a server"));
    assert!(text(status, Some("udp-status-answer")).contains("not known here"));
    assert!(text(b"\xE3\x9A\x01", None).contains("inside the wanted file"));
    assert!(text(b"", Some("x")).contains("known: tcp-login-request, "));
}

#[test]
fn every_kind_of_message_is_written_and_known_again() {
    let body = Body::from(Request::Search(p2pbridge_proto::Search {
        query: Query::Words("film".to_owned()),
        max_results: None,
    }));
    for kind in ["tcp-search-request", "udp-search-request"] {
        let bytes = (MESSAGES.encode)(kind, &body, &Hint::default()).unwrap();
        let again = decoded(&bytes);
        assert_eq!((again.kind, again.unified), (kind, Ok(body.clone())));
    }
    assert!((MESSAGES.encode)("tcp-login-request", &body, &Hint::default()).is_err());
}

#[test]
fn the_readme_has_the_table_of_what_is_lost() {
    let readme = include_str!("../README.md");
    for loss in losses::LOSSES {
        let row = format!("| `{}` | {} | {} |", loss.field, losses::of(loss.kinds), loss.why);
        assert!(readme.contains(&row), "the README lacks the row:\n{row}");
    }
    let rows = readme.lines().skip_while(|line| !line.starts_with("| field | of"));
    let rows = rows.take_while(|line| line.starts_with('|')).count();
    assert_eq!(rows, losses::LOSSES.len() + 2);
}
