//! The decoders of eD2k: what is written out of what was read is read again as the same.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use p2pbridge_adapters::ed2k::{
    aich::{hash_part, hash_root, prove, recovery},
    describe::{Ed2kFile, compose, describe, read_link},
    wire::{
        BLOCK, Cursor, PART, Packet, Protocol, Tag, WireError,
        agreement::Secret,
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
    Target { name: "ed2k_agreement", run: agreement },
    Target { name: "ed2k_aich", run: aich },
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

/// What the other side shows is refused, or both know the same then.
fn agreement(data: &[u8]) {
    let Some((ours, rest)) = data.split_first_chunk::<16>() else { return };
    let Some((theirs, rest)) = rest.split_first_chunk::<16>() else { return };
    // What a secret of 0 shows is refused, as it should be.
    if [*ours, *theirs].contains(&[0; 16]) {
        return;
    }
    let (ours, theirs) = (Secret::new(*ours), Secret::new(*theirs));
    assert_eq!(ours.shared(&theirs.public()), theirs.shared(&ours.public()));
    if let Some(shown) = rest.first_chunk() {
        let shared = ours.shared(shown);
        assert!(shared.is_none() || *shown != [0; 96]);
    }
}

/// What somebody sends proves nothing but by chance; what is made of all hashes proves its blocks, and no others.
fn aich(data: &[u8]) {
    for packet in messages(data) {
        let Ok(transfer::Message::AichAnswer { recovery: Some((part, root, said)), .. }) =
            transfer::decode(&packet)
        else {
            continue;
        };
        for size in
            [0, 1, BLOCK, PART - 1, PART + 1, 7 * PART + 3, u64::from(u32::MAX) + 1, u64::MAX]
        {
            drop(prove(&root, size, part.into(), &said));
        }
    }
    let Some((size, hash)) = data.split_first_chunk::<4>() else { return };
    let size = u64::from(u32::from_le_bytes(*size)) % (3 * PART) + 1;
    let mut seed = [0; 20];
    seed.iter_mut().zip(hash).for_each(|(seed, byte)| *seed = *byte);
    let parts = size.div_ceil(PART);
    let blocks = |part: u64| -> Vec<[u8; 20]> {
        let bytes = (size - part * PART).min(PART);
        let one = |block: u64| std::array::from_fn(|at| seed[at] ^ (block + 60 * part) as u8);
        (0..bytes.div_ceil(BLOCK)).map(one).collect()
    };
    let hashes: Vec<_> = (0..parts)
        .map(|part| hash_part(size, part as u32, &blocks(part)).expect("a part"))
        .collect();
    let root = hash_root(size, &hashes).expect("a root");
    for part in 0..parts {
        let mut whole = recovery(size, part as u32, &hashes, &blocks(part)).expect("all hashes");
        assert_eq!(prove(&root, size, part as u32, &whole), Some(blocks(part)));
        if let Some((_, hash)) = whole.hashes.last_mut() {
            hash[0] ^= 1;
            assert_eq!(prove(&root, size, part as u32, &whole), None);
        }
    }
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
    let about = read_link(&file.link().to_string()).expect("our own link");
    assert_eq!((about.names.first(), about.length), (description.names.first(), file.size));
    let composed = compose(&about).expect("what is read is written");
    let again = describe(&composed).expect("our own description");
    assert_eq!((again.names, again.length), (description.names, file.size));
    assert_eq!(read_link(&String::from_utf8_lossy(&composed)), Ok(about));
}
