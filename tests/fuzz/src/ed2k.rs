//! The decoders of eD2k: what is written out of what was read is read again as the same.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use p2pbridge_adapters::AboutFile;
use p2pbridge_adapters::ed2k::{
    describe::{Ed2kFile, compose, describe},
    wire::{
        Cursor, Packet, Protocol, Tag, WireError,
        hello::{Greeting, Options, read_info},
        obfuscation::{ANSWER_HEAD, Ciphers, REQUEST_HEAD, is_message},
        packet::inflate,
        search::Expression,
        server::{decode_from_client, decode_from_server},
        transfer, udp,
    },
};
use p2pbridge_proto::Ed2kLink;

use super::Target;

/// All of them.
pub(crate) const TARGETS: &[Target] = &[
    Target { name: "ed2k_packet", run: packet },
    Target { name: "ed2k_tags", run: tags },
    Target { name: "ed2k_from_client", run: from_client },
    Target { name: "ed2k_from_server", run: from_server },
    Target { name: "ed2k_udp", run: udp },
    Target { name: "ed2k_search", run: search },
    Target { name: "ed2k_hello", run: hello },
    Target { name: "ed2k_transfer", run: transfer },
    Target { name: "ed2k_obfuscation", run: obfuscation },
    Target { name: "ed2k_inflate", run: inflated },
    Target { name: "ed2k_link", run: link },
    Target { name: "ed2k_describe", run: described },
];

const MOST: usize = 1 << 20;

/// Numbers that are none equal nothing, so what they look like is compared.
fn same<T: Debug>(one: &T, other: &T) {
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
}

/// However the bytes are cut, they are the same messages; and what is written is read again.
fn packet(data: &[u8]) {
    let whole = packets(&[data]);
    let (front, back) = data.split_at(data.len() / 2);
    assert_eq!(packets(&[front, back]), whole);
    for packet in whole.0 {
        let bytes = packet.to_bytes();
        let (again, error) = packets(&[&bytes]);
        assert_eq!((again, error), (vec![Packet { packed: false, ..packet.clone() }], None));
        let mut packed = Vec::new();
        packet.put_packed(&mut packed);
        let (again, error) = packets(&[&packed]);
        assert!(error.is_none() && again.len() == 1);
        assert!(again.iter().all(|it| it.opcode == packet.opcode && it.payload == packet.payload));
    }
}

/// The messages up to the first error.
fn packets(parts: &[&[u8]]) -> (Vec<Packet>, Option<WireError>) {
    let (mut inbox, mut out) = (BytesMut::new(), Vec::new());
    for part in parts {
        inbox.extend_from_slice(part);
        loop {
            match Packet::take(&mut inbox, MOST) {
                Ok(Some(packet)) => out.push(packet),
                Ok(None) => break,
                Err(error) => return (out, Some(error)),
            }
        }
    }
    (out, None)
}

/// The messages in a stream; and the first of them whatever its length says.
fn messages(data: &[u8]) -> Vec<Packet> {
    let mut all = packets(&[data]).0;
    if let [first, _, _, _, _, opcode, payload @ ..] = data {
        let protocol = if *first == 0xC5 { Protocol::EMule } else { Protocol::EDonkey };
        all.push(Packet::new(protocol, *opcode, payload.to_vec()));
    }
    all
}

fn tags(data: &[u8]) {
    let Ok(tags) = Tag::read_list(&mut Cursor::new(data)) else { return };
    for new in [false, true] {
        let mut written = Vec::new();
        Tag::put_list(&mut written, &tags, new);
        let again = Tag::read_list(&mut Cursor::new(&written)).expect("our own tags");
        same(&again, &tags);
    }
}

fn from_client(data: &[u8]) {
    for packet in messages(data) {
        match decode_from_client(&packet) {
            Ok(message) => [false, true].into_iter().for_each(|new| {
                let again = decode_from_client(&message.to_packet(new));
                same(&again.expect("our own message"), &message);
            }),
            Err(error) => drop(error.to_string()),
        }
    }
}

fn from_server(data: &[u8]) {
    for packet in messages(data) {
        match decode_from_server(&packet) {
            Ok(message) => [false, true].into_iter().for_each(|new| {
                let again = decode_from_server(&message.to_packet(new));
                same(&again.expect("our own message"), &message);
            }),
            Err(error) => drop(error.to_string()),
        }
    }
}

fn udp(data: &[u8]) {
    match udp::decode_from_client(data) {
        Ok(question) => {
            let again = udp::decode_from_client(&question.encode());
            same(&again.expect("our own question"), &question);
        }
        Err(error) => drop(error.to_string()),
    }
    match udp::decode_from_server(data) {
        Ok(answer) => [false, true].into_iter().for_each(|new| {
            let again = udp::decode_from_server(&answer.encode(new));
            same(&again.expect("our own answer"), &answer);
        }),
        Err(error) => drop(error.to_string()),
    }
}

fn search(data: &[u8]) {
    let Ok(expression) = Expression::read(&mut Cursor::new(data)) else { return };
    let mut written = Vec::new();
    expression.put(&mut written);
    let again = Expression::read(&mut Cursor::new(&written)).expect("our own expression");
    same(&again, &expression);
}

/// Of what nobody here knows nothing is kept, so a greeting is what it is after it has been written once.
fn hello(data: &[u8]) {
    let payload = data.get(6..).unwrap_or_default();
    for payload in [data, payload] {
        for greeting in [Greeting::read_hello(payload), Greeting::read_answer(payload)] {
            let Ok(greeting) = greeting else { continue };
            let asked = Greeting::read_hello(&greeting.hello().payload).expect("our own greeting");
            let told = Greeting::read_answer(&greeting.answer().payload).expect("our own greeting");
            assert_eq!(asked, told);
            assert_eq!(
                (asked.hash, asked.id, asked.port),
                (greeting.hash, greeting.id, greeting.port)
            );
        }
        drop(read_info(payload, &mut Options::default()));
    }
}

fn transfer(data: &[u8]) {
    for packet in messages(data) {
        match transfer::decode(&packet) {
            Ok(message) => {
                let Some(packet) = message.packet() else { continue };
                let again = transfer::decode(&packet).expect("our own message");
                // A short form becomes a long one and the other way round.
                assert_eq!(again, message);
            }
            Err(error) => drop(error.to_string()),
        }
    }
}

/// A request that was made for these keys is read; any other bytes are refused, or are one by chance.
fn obfuscation(data: &[u8]) {
    let Some((hash, rest)) = data.split_first_chunk::<16>() else { return };
    let Some((random, rest)) = rest.split_first_chunk::<4>() else { return };
    if let Some(head) = rest.first_chunk::<REQUEST_HEAD>() {
        let _ = Ciphers::of_responder(hash, *random).read_request(*head);
    }
    if let Some(head) = rest.first_chunk::<ANSWER_HEAD>() {
        let _ = Ciphers::of_requester(hash, *random).read_answer(*head);
    }
    let (mut one, mut other) =
        (Ciphers::of_requester(hash, *random), Ciphers::of_responder(hash, *random));
    let padding = &rest[..rest.len().min(255)];
    let request = one.request(rest.first().copied().unwrap_or(0xE3), *random, padding);
    assert!(!is_message(request[0]) && request[1..5] == random[..]);
    let (head, hidden) = request[5..].split_first_chunk().expect("a head");
    assert_eq!(other.read_request(*head), Ok(padding.len()));
    let mut shown = hidden.to_vec();
    other.receive.apply(&mut shown);
    assert_eq!(shown, padding);
    let answer = other.answer(padding);
    let (head, _) = answer.split_first_chunk().expect("a head");
    assert_eq!(one.read_answer(*head), Ok(padding.len()));
}

fn inflated(data: &[u8]) {
    for most in [0, 100, MOST] {
        if let Ok(bytes) = inflate(data, most) {
            assert!(bytes.len() <= most);
        }
    }
}

fn link(data: &[u8]) {
    for line in String::from_utf8_lossy(data).lines() {
        match line.parse::<Ed2kLink>() {
            Ok(link) => {
                let written = match &link {
                    Ed2kLink::File(file) => file.to_string(),
                    Ed2kLink::Server(server) => server.to_string(),
                };
                assert_eq!(written.parse(), Ok(link), "{written}");
            }
            Err(error) => drop(error.to_string()),
        }
    }
}

/// No bytes but those of the file hold against a description; what is composed of one describes the same.
fn described(data: &[u8]) {
    let description = match describe(data) {
        Ok(description) => description,
        Err(error) => return drop(error.to_string()),
    };
    let file = Ed2kFile::of(&description).expect("a file");
    let title = &description.title;
    assert!(!title.is_empty() && !title.contains(char::is_control) && !title.contains('/'));
    assert!(file.part_count() == 0 || file.part_size(file.part_count() - 1) > 0);
    assert!(!description.integrity.check(u32::MAX, &[]));
    let _ = description.integrity.check(0, &[Bytes::from_static(b"no such bytes")]);
    let hash = file.hash;
    assert!(!file.learn_hashes(&[]) || file.size == 0 || file.hashes().is_some());
    let _ = file.learn_hashes(&[hash, [0; 16]]);
    let again = describe(file.link().to_string().as_bytes()).expect("our own link");
    assert_eq!((&again.names, again.length, &again.title), (&description.names, file.size, title));
    let about = AboutFile { names: &description.names, title, length: file.size };
    if let Some(composed) = compose(&about) {
        let again = describe(&composed).expect("our own description");
        assert_eq!((again.names, again.length), (description.names, file.size));
    }
}
