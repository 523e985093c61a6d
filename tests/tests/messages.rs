//! Every captured tracker message is decoded, unified, carried as bytes, and made native again: what is lost is the table's.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use p2pbridge_adapters::message::{Decoded, Hint, differences};
use p2pbridge_adapters::{Capability, Descriptor, registry};
use p2pbridge_proto::{Body, Envelope, Request, v1};
use p2pbridge_tests::bridge_binary;
use prost::Message as _;

/// What is lost of the captures, by kind of message: no more and no less.
const LOST: &[(&str, &[&str])] = &[
    ("http-announce-answer", &["header *", "key downloaded", "status"]),
    (
        "http-announce-request",
        &[
            "header *",
            "no_peer_id",
            "parameter corrupt",
            "parameter key",
            "parameter redundant",
            "parameter supportcrypto",
            "path",
        ],
    ),
    ("http-failure", &["header *", "status"]),
    ("http-scrape-answer", &["header *", "key flags", "status"]),
    ("http-scrape-request", &["header *", "path"]),
    ("tcp-found-answer", &["holder", "tag type"]),
    ("tcp-offer-request", &["tag type"]),
    ("tcp-sources-answer", &["file"]),
    ("udp-announce-answer", &["transaction"]),
    ("udp-announce-request", &["connection", "options", "transaction", "url data"]),
    ("udp-empty-answer", &["action", "message", "transaction"]),
    ("udp-error", &["transaction"]),
    ("udp-scrape-answer", &["transaction"]),
    ("udp-scrape-request", &["connection", "transaction"]),
    ("udp-sources-answer", &["file"]),
];

/// What adapters can translate and nobody asks in a message of its own: trackers of BitTorrent are asked for peers by announces.
const UNASKED: &[(&str, Capability)] = &[("bittorrent", Capability::Find)];

/// Kinds of messages that none of the programs sent that were captured.
const UNSEEN: &[&str] = &[
    "tcp-more-results-request",
    "tcp-disconnect-request",
    "tcp-reject-answer",
    "tcp-callback-failed-answer",
    "tcp-sources-obfuscated-answer",
    "udp-get-sources-old-request",
    "udp-callback-request",
    "udp-get-server-list-request",
    "udp-found-answer",
    "udp-invalid-id-answer",
    "udp-server-list-answer",
];

/// A file, and what its bytes alone do not tell.
struct Capture {
    path: PathBuf,
    bytes: Vec<u8>,
    /// The kind, by the page beside it.
    kind: String,
    /// Whether it has a unified form.
    unified: bool,
    hint: Hint,
}

fn fixtures(descriptor: &Descriptor) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures")
        .join(descriptor.protocol)
        .join("captures")
}

/// The captures of a protocol, by the rows of their page.
fn captures(descriptor: &Descriptor) -> Vec<Capture> {
    let dir = fixtures(descriptor);
    let page = fs::read_to_string(dir.join("README.md")).expect("the page of the captures");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let capture = |row: &str| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let path = dir.join(cells[0].trim_matches('`'));
        let mut hint = Hint { ipv6: cells[0].contains("-udp6-"), ..Hint::default() };
        if let Some(question) = cells[3].strip_prefix("to `") {
            let question = fs::read(dir.join(question.trim_matches('`'))).expect("the question");
            let (_, question) = registry::decode(&question, &hint).expect("a question");
            if let Ok(Body::Request(Request::SwarmQuery(query))) = question.unified {
                hint.names = query.names;
            }
        }
        let bytes = fs::read(&path).expect("the capture of a row");
        let unified = !cells[1].contains("connect") && cells[3] != "no unified form";
        Capture { path, bytes, kind: cells[1].to_owned(), unified, hint }
    };
    rows.map(capture).collect()
}

fn decode(descriptor: &Descriptor, bytes: &[u8], hint: &Hint) -> Decoded {
    (descriptor.messages.decode)(bytes, hint).expect("a message that is read")
}

/// A unified message as it comes out of the bytes of its envelope.
fn carried(body: &Body) -> Body {
    let envelope = Envelope {
        id: "capture".to_owned(),
        correlation_id: "question".to_owned(),
        origin: Some("overlay-a".parse().expect("an id")),
        hop_limit: 3,
        deadline: None,
        body: body.clone(),
    };
    let bytes = v1::Envelope::from(envelope.clone()).encode_to_vec();
    let back = Envelope::try_from(&v1::Envelope::decode(&bytes[..]).expect("our own bytes"));
    let back = back.expect("our own envelope");
    assert_eq!(back, envelope);
    back.body
}

#[test]
fn every_capture_has_a_row_and_every_row_a_capture() {
    for descriptor in registry::PROTOCOLS {
        let rows: BTreeSet<_> = captures(descriptor).into_iter().map(|it| it.path).collect();
        let files = fs::read_dir(fixtures(descriptor)).expect("captures");
        let files = files.map(|entry| entry.expect("a file").path());
        let files: BTreeSet<_> =
            files.filter(|path| path.extension() != Some("md".as_ref())).collect();
        assert_eq!(rows, files);
        assert!(rows.len() > 30);
    }
}

/// What an adapter can translate that has read this.
fn capability(body: &Body) -> Option<Capability> {
    let Body::Request(request) = body else { return None };
    Some(match request {
        Request::Announce(_) => Capability::Announce,
        Request::Find(_) => Capability::Find,
        Request::SwarmQuery(_) => Capability::SwarmQuery,
        Request::Search(_) => Capability::Search,
    })
}

#[test]
fn every_capture_survives_the_unified_message_but_for_the_listed_losses() {
    let mut lost: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let (mut kinds, mut missing) = (BTreeSet::new(), Vec::new());
    for descriptor in registry::PROTOCOLS {
        let mut asked = Vec::new();
        for capture in captures(descriptor) {
            let shown = capture.path.display();
            if capture.kind == "none that is read" {
                let refused = (descriptor.messages.decode)(&capture.bytes, &capture.hint);
                assert!(refused.is_err(), "{shown}: {refused:?}");
                continue;
            }
            let first = decode(descriptor, &capture.bytes, &capture.hint);
            assert_eq!(first.kind, capture.kind, "{shown}");
            kinds.insert(first.kind);
            let Ok(body) = &first.unified else {
                assert!(!capture.unified, "{shown}: {:?}", first.unified);
                continue;
            };
            assert!(capture.unified, "{shown}");
            asked.extend(capability(body).filter(|it| !asked.contains(it)));
            let unified = carried(body);
            assert_eq!(&unified, body, "{shown}");
            let bytes = (descriptor.messages.encode)(first.kind, &unified, &capture.hint);
            let again = decode(descriptor, &bytes.expect("its own kind again"), &capture.hint);
            let losses = descriptor.messages.losses;
            let differs = differences(first.kind, &first.fields, &again.fields, losses);
            assert_eq!(differs, first.lost, "{shown}");
            for loss in differs {
                assert!(loss.why.is_some(), "{shown}: {} is lost without a row", loss.field);
                let field = match loss.field.split_once(' ') {
                    Some(("header", _)) => "header *".to_owned(),
                    _ => loss.field,
                };
                lost.entry(first.kind.to_owned()).or_default().insert(field);
            }
        }
        let declared = descriptor.capabilities;
        assert!(asked.iter().all(|it| declared.contains(it)), "{asked:?}");
        let unasked =
            declared.iter().filter(|it| !asked.contains(it)).map(|it| (descriptor.protocol, *it));
        assert!(
            unasked.clone().all(|it| UNASKED.contains(&it)),
            "{:?}",
            unasked.collect::<Vec<_>>()
        );
        let all = descriptor.messages.kinds.iter().copied();
        missing.extend(all.filter(|kind| !kinds.contains(kind)));
    }
    assert_eq!(missing, UNSEEN, "kinds of which there is no capture");
    let wanted = LOST.iter().map(|(kind, fields)| {
        ((*kind).to_owned(), fields.iter().map(|field| (*field).to_owned()).collect())
    });
    assert_eq!(lost, wanted.collect::<BTreeMap<_, BTreeSet<_>>>(), "{lost:#?}");
}

#[test]
fn the_command_line_shows_every_capture() {
    for descriptor in registry::PROTOCOLS {
        for capture in captures(descriptor) {
            let mut command = Command::new(bridge_binary());
            command.args(["message", "decode", "--json"]).arg(&capture.path);
            if capture.hint.ipv6 {
                command.arg("--ipv6");
            }
            for name in &capture.hint.names {
                command.arg("--about").arg(name.to_string());
            }
            let output = command.output().expect("p2p-bridge");
            let shown = capture.path.display();
            let said = String::from_utf8_lossy(&output.stderr);
            if capture.kind == "none that is read" {
                assert_eq!(output.status.code(), Some(1), "{shown}");
                assert!(said.contains("p2p-bridge: "), "{shown}: {said}");
                continue;
            }
            assert!(output.status.success(), "{shown}: {said}");
            let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
            assert_eq!(json["kind"], capture.kind.as_str(), "{shown}");
            assert_eq!(json["envelope"].is_object(), capture.unified, "{shown}");
        }
    }
}
