//! What every decoder must do with any bytes: give a value or an error, and read what it writes.
//!
//! The functions are called by libFuzzer (`../run`), and by a test that replays the corpora.

use bytes::{Bytes, BytesMut};
use p2pbridge_adapters::bittorrent::{
    describe::describe,
    magnet::Magnet,
    wire::{
        bencode::{Document, Encoder, Limits, Value},
        extension::{ExtendedHandshake, MetadataMessage},
        http::{
            AnnounceRequest, ScrapeRequest, SwarmCounts, parse_announce, parse_scrape,
            write_failure, write_scrape,
        },
        peer::{self, Handshake, Message},
        udp::{UdpRequest, UdpResponse},
    },
};
use p2pbridge_adapters::message::{Decoded, Hint};
use p2pbridge_adapters::registry;
use p2pbridge_nametable::exchange::{Format, Outcome, Row, Writer, magnet as link_of, read};
use p2pbridge_proto::{Body, Envelope, Name, Reply, Request, parse_magnet_names, v1};
use prost::Message as _;

#[path = "ed2k.rs"]
mod ed2k;

/// A decoder, and what is true of it. The function panics when it is not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// Its name: that of its corpus.
    pub(crate) name: &'static str,
    /// Takes any bytes.
    pub(crate) run: fn(&[u8]),
}

/// The target of this name.
pub(crate) fn target(name: &str) -> Option<&'static Target> {
    all().find(|target| target.name == name)
}

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = &'static Target> {
    TARGETS.iter().chain(ed2k::TARGETS)
}

const TARGETS: &[Target] = &[
    Target { name: "bencode", run: bencode },
    Target { name: "http_request", run: http_request },
    Target { name: "http_answer", run: http_answer },
    Target { name: "udp_request", run: udp_request },
    Target { name: "udp_answer", run: udp_answer },
    Target { name: "peer_wire", run: peer_wire },
    Target { name: "extension", run: extension },
    Target { name: "metainfo", run: metainfo },
    Target { name: "magnet", run: magnet },
    Target { name: "envelope", run: envelope },
    Target { name: "message", run: message },
    Target { name: "translate", run: translate },
    Target { name: "list_csv", run: |data| list(Format::Csv, data) },
    Target { name: "list_json", run: |data| list(Format::JsonLines, data) },
    Target { name: "list_magnets", run: |data| list(Format::Magnets, data) },
    Target { name: "list_links", run: |data| list(Format::Ed2kLinks, data) },
    Target { name: "list_metalink", run: |data| list(Format::Metalink, data) },
];

/// Canonical input is what the encoder makes of the values.
fn bencode(data: &[u8]) {
    if let Ok(document) = Document::parse_prefix(data, Limits::MESSAGE) {
        assert!(document.length <= data.len());
        let mut encoder = Encoder::new();
        encode(&document.value, &mut encoder);
        let written = encoder.finish();
        let again = Document::parse(&written, Limits::MESSAGE).expect("our own bencode");
        assert!(again.canonical);
        assert_eq!(document.canonical, written == data[..document.length]);
    }
}

fn encode(value: &Value<'_>, out: &mut Encoder) {
    match value {
        Value::Int(int) => out.int(*int),
        Value::Bytes(bytes) => out.bytes(bytes),
        Value::List(list) => out.list(|out| list.items().iter().for_each(|it| encode(it, out))),
        Value::Dict(dict) => out.dict(|out| {
            for (key, value) in dict.entries() {
                out.entry(key, |out| encode(value, out));
            }
        }),
    }
}

fn http_request(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    // Of a whole request, what stands behind the path.
    let query = text.split_once('?').map_or(&*text, |(_, rest)| rest);
    let query = query.split(' ').next().unwrap_or_default();
    if let Ok(announce) = AnnounceRequest::parse(query) {
        assert_eq!(AnnounceRequest::parse(&announce.query()), Ok(announce));
    }
    if let Ok(scrape) = ScrapeRequest::parse(query) {
        assert_eq!(ScrapeRequest::parse(&scrape.query()), Ok(scrape));
    }
}

fn http_answer(data: &[u8]) {
    let end = data.windows(4).position(|four| four == b"\r\n\r\n");
    let body = end.map_or(data, |end| &data[end + 4..]);
    match parse_announce(body) {
        Ok(Ok(response)) => {
            assert!(response.peers.iter().all(|peer| peer.endpoint.port() != 0));
            let again = parse_announce(&response.encode(false, false));
            assert_eq!(again, Ok(Ok(response)));
        }
        Ok(Err(failure)) => {
            let again = parse_announce(&write_failure(&failure));
            assert_eq!(again, Ok(Err(failure)));
        }
        Err(_) => {}
    }
    if let Ok(Ok(mut swarms)) = parse_scrape(body) {
        let said = |counts: &mut SwarmCounts| counts.downloaded = counts.downloaded.or(Some(0));
        swarms.iter_mut().for_each(|(_, counts)| said(counts));
        swarms.sort_by_key(|(hash, _)| *hash);
        assert_eq!(parse_scrape(&write_scrape(&swarms)), Ok(Ok(swarms)));
    }
}

fn udp_request(data: &[u8]) {
    match UdpRequest::decode(data) {
        Ok(request) => assert_eq!(UdpRequest::decode(&request.encode()), Ok(request)),
        Err(error) => drop(error.to_string()),
    }
}

fn udp_answer(data: &[u8]) {
    for ipv6 in [false, true] {
        match UdpResponse::decode(data, ipv6) {
            Ok(mut response) => {
                let mut again = UdpResponse::decode(&response.encode(ipv6), ipv6);
                if let (
                    UdpResponse::Announce { response, .. },
                    Ok(UdpResponse::Announce { response: again, .. }),
                ) = (&mut response, &mut again)
                {
                    // A packet has peers of one family, and no more than fit.
                    let mut there = response.peers.iter();
                    assert!(again.peers.iter().all(|peer| there.any(|it| it == peer)));
                    again.peers.clear();
                    response.peers.clear();
                }
                assert_eq!(again, Ok(response));
            }
            Err(error) => drop(error.to_string()),
        }
    }
}

/// However the bytes are cut, they are the same messages; and what is written is read again.
fn peer_wire(data: &[u8]) {
    if let Some(head) = data.first_chunk::<{ Handshake::LEN }>()
        && let Ok(handshake) = Handshake::decode(head)
    {
        assert_eq!(Handshake::decode(&handshake.encode()), Ok(handshake));
    }
    let limits = peer::Limits::new(1000, 16 << 10);
    let whole = messages(&[data], &limits);
    let halves = data.split_at(data.len() / 2);
    assert_eq!(messages(&[halves.0, halves.1], &limits), whole);
    let mut written = BytesMut::new();
    let known: Vec<_> =
        whole.0.into_iter().filter(|it| !matches!(it, Message::Unknown(_))).collect();
    known.iter().for_each(|message| message.encode(&mut written));
    assert_eq!(messages(&[&written], &limits), (known, None));
}

/// The messages up to the first error.
fn messages(parts: &[&[u8]], limits: &peer::Limits) -> (Vec<Message>, Option<String>) {
    let (mut inbox, mut out) = (BytesMut::new(), Vec::new());
    for part in parts {
        inbox.extend_from_slice(part);
        loop {
            match peer::decode(&mut inbox, limits) {
                Ok(Some(message)) => out.push(message),
                Ok(None) => break,
                Err(error) => return (out, Some(error.to_string())),
            }
        }
    }
    (out, None)
}

fn extension(data: &[u8]) {
    if let Ok(handshake) = ExtendedHandshake::decode(data) {
        assert_eq!(ExtendedHandshake::decode(&handshake.encode()), Ok(handshake));
    }
    if let Ok(message) = MetadataMessage::decode(&Bytes::copy_from_slice(data)) {
        assert_eq!(MetadataMessage::decode(&message.encode()), Ok(message));
    }
}

/// Files lie inside the layout, one behind the other.
fn metainfo(data: &[u8]) {
    let Ok(description) = describe(data) else { return };
    assert!(!description.names.is_empty() && description.unit > 0);
    let mut end = 0;
    for file in &description.files {
        assert!(file.offset >= end, "{file:?}");
        end = file.offset.checked_add(file.length).expect("an end");
        assert!(end <= description.length);
        let safe = |part: &str| !part.is_empty() && part != ".." && part != ".";
        assert!(file.path.split('/').all(safe), "{:?}", file.path);
    }
    assert!(!description.integrity.check(0, &[Bytes::from_static(b"no such bytes")]) || end < 100);
    assert!(!description.integrity.check(u32::MAX, &[]));
}

fn magnet(data: &[u8]) {
    let link = String::from_utf8_lossy(data);
    if let Ok(names) = parse_magnet_names(&link) {
        assert!(!names.is_empty());
        for name in names {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
    }
    drop(link.parse::<Name>());
    if let Ok(magnet) = Magnet::parse(&link) {
        assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet));
    }
}

fn envelope(data: &[u8]) {
    let Ok(native) = v1::Envelope::decode(data) else { return };
    match Envelope::try_from(&native) {
        Ok(envelope) => assert_eq!(through_bytes(envelope.clone()), envelope),
        Err(error) => drop(error.to_string()),
    }
}

fn through_bytes(envelope: Envelope) -> Envelope {
    let bytes = v1::Envelope::from(envelope).encode_to_vec();
    let native = v1::Envelope::decode(&bytes[..]).expect("our own bytes");
    Envelope::try_from(&native).expect("our own envelope")
}

fn hints() -> [Hint; 3] {
    let names = vec![Name::btih([7; 20]), Name::btih([9; 20])];
    let one = Hint { names: names[..1].to_vec(), ..Hint::default() };
    let seen = Some("2001:db8::7".parse().expect("an address"));
    let file = Hint { names: vec![Name::ed2k([7; 16])], ..Hint::default() };
    [one, Hint { ipv6: true, seen, names, kind: None }, file]
}

/// A captured message is unified, and nothing is lost but what the table has.
fn message(data: &[u8]) {
    for hint in hints() {
        let decoded = match registry::decode(data, &hint) {
            Ok((_, decoded)) => decoded,
            Err(error) => {
                drop(error.to_string());
                continue;
            }
        };
        let unknown = decoded.lost.iter().find(|lost| lost.why.is_none());
        assert!(unknown.is_none(), "{unknown:?} of {decoded:?}");
        if let Ok(body) = decoded.unified {
            let envelope = Envelope::new(body);
            assert_eq!(through_bytes(envelope.clone()), envelope);
        }
    }
}

/// A unified message becomes one of each kind that it can be, and that is read again; of its own kind, with the same
/// meaning.
fn translate(data: &[u8]) {
    for hint in hints() {
        let Ok((descriptor, decoded)) = registry::decode(data, &hint) else { continue };
        let Decoded { kind, unified: Ok(body), .. } = decoded else { continue };
        for other in descriptor.messages.kinds {
            let Ok(bytes) = (descriptor.messages.encode)(other, &body, &hint) else { continue };
            let word = Some((*other).to_owned());
            let hint = Hint { names: names(&body), kind: word, ..hint.clone() };
            let again = (descriptor.messages.decode)(&bytes, &hint);
            let again =
                again.unwrap_or_else(|error| panic!("{kind} as {other}: {error}; {body:?}"));
            let again =
                again.unified.unwrap_or_else(|reason| panic!("{kind} as {other}: {reason}"));
            if *other == kind {
                same_meaning(&body, &again);
            }
        }
    }
}

/// The names that an answer is about.
fn names(body: &Body) -> Vec<Name> {
    match body {
        Body::Reply(Reply::Swarms(swarms)) => swarms.iter().map(|swarm| swarm.name).collect(),
        Body::Request(request) => request.names().to_vec(),
        _ => Vec::new(),
    }
}

fn same_meaning(one: &Body, other: &Body) {
    match (one, other) {
        (Body::Request(Request::Announce(one)), Body::Request(Request::Announce(other))) => {
            assert_eq!(one, other);
        }
        (Body::Reply(Reply::Peers(one)), Body::Reply(Reply::Peers(other))) => {
            // The compact form has the families apart; a packet has one of them, and no more than fit.
            assert!(other.peers.iter().all(|peer| one.peers.contains(peer)));
            let (mut one, mut other) = (one.clone(), other.clone());
            one.peers.clear();
            other.peers.clear();
            assert_eq!(one, other);
        }
        (Body::Reply(Reply::Swarms(one)), Body::Reply(Reply::Swarms(other))) => {
            assert_eq!(one.len(), other.len());
        }
        (Body::Fault(one), Body::Fault(other)) => assert_eq!(one.code, other.code),
        (one, other) => assert_eq!(one, other),
    }
}

/// Rows are what a reader promises, on rising lines, and every format that has room for one gives it back.
fn list(format: Format, data: &[u8]) {
    let mut before = 1;
    for row in read(format, data) {
        let row = match row {
            Ok(row) => row,
            Err(error) => {
                drop(error.to_string());
                continue;
            }
        };
        assert!(row.line >= before, "{row:?}");
        before = row.line;
        assert!((1..=32).contains(&row.names.len()) && row.names.is_sorted());
        assert!(row.title.chars().count() <= 1_000 && !row.title.contains(char::is_control));
        for format in Format::ALL {
            through_list(format, &row);
        }
        let names = parse_magnet_names(&link_of(&row)).expect("our own link");
        assert_eq!(names, row.names);
    }
}

fn through_list(format: Format, row: &Row) {
    let mut writer = Writer::new(format, Vec::new());
    let outcome = writer.write(row).expect("memory");
    let list = writer.finish().expect("memory");
    let rows: Vec<_> = read(format, &list[..]).map(|row| row.expect("our own row")).collect();
    match outcome {
        Outcome::Whole if format == Format::Ed2kLinks && rows.len() > 1 => {}
        Outcome::Whole => {
            let [again] = &rows[..] else { panic!("{rows:?} of {row:?}") };
            let (named, titled) = (again.names == row.names, again.title == row.title);
            assert!(named && titled && again.length == row.length, "{again:?} of {row:?}");
        }
        Outcome::Without(_) => assert!(!rows.is_empty()),
        Outcome::Skipped(_) => assert!(rows.is_empty()),
    }
}
