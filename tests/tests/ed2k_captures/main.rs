//! What real eD2k clients said to each other says what it should by what is known of who said it, and is written as it was.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod files;
mod streams;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use bytes::BytesMut;
use md4::{Digest, Md4};
use p2pbridge_adapters::ed2k::wire::{
    BLOCK, Cursor, Hash, Packet, Protocol, Tag, WireError,
    hello::{
        EMULE_INFO, EMULE_INFO_ANSWER, Greeting, HELLO, HELLO_ANSWER, Options, info, read_info,
    },
    packet::{MAX_PAYLOAD, inflate},
    server::{ClientMessage, Holder, decode_from_client},
    transfer::{Message, decode},
};

use self::files::{HIDDEN, Known, LOW, NOISE, PARTS, WORDS};
use self::table::{Says, says};

fn fixtures(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ed2k").join(folder)
}

fn read(folder: &str, name: &str) -> Vec<u8> {
    fs::read(fixtures(folder).join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The rows of the page of a folder: the name of a file, and what stands beside it.
fn rows(folder: &str) -> BTreeMap<String, String> {
    let page = fs::read_to_string(fixtures(folder).join("README.md")).expect("the page");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let row = |row: &str| {
        let (name, rest) = row.split_once("` | ").expect("a name");
        let next = rest.split(" |").next().expect("a second column");
        (name.to_owned(), next.to_owned())
    };
    rows.map(row).collect()
}

/// The files of a folder, which are those of its page.
fn captures(folder: &str) -> Vec<(String, String, Vec<u8>)> {
    let rows = rows(folder);
    let files = fs::read_dir(fixtures(folder)).expect("captures");
    let files = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let files: BTreeSet<_> = files.filter(|name| name != "README.md").collect();
    assert_eq!(files, rows.keys().cloned().collect(), "the files and the rows of {folder}");
    let all = rows.into_iter().map(|(name, kind)| {
        let bytes = read(folder, &name);
        (name, kind, bytes)
    });
    all.collect()
}

/// All messages of a stream, to its last byte.
fn packets(name: &str, bytes: &[u8]) -> Vec<Packet> {
    let (mut left, mut out) = (BytesMut::from(bytes), Vec::new());
    while let Some(packet) = Packet::take(&mut left, MAX_PAYLOAD).expect(name) {
        out.push(packet);
    }
    assert!(left.is_empty(), "{name} ends inside a message");
    out
}

/// The only message of a capture.
fn packet(name: &str, bytes: &[u8]) -> Packet {
    let mut all = packets(name, bytes);
    assert_eq!(all.len(), 1, "{name}");
    all.remove(0)
}

/// `E3 01`, as the pages have it.
fn kind(packet: &Packet) -> String {
    let protocol = if packet.packed { 0xD4 } else { packet.protocol.byte() };
    format!("{protocol:02X} {:02X}", packet.opcode)
}

/// What a message between clients says, by our decoders.
fn decoded(packet: &Packet) -> Says {
    let payload = &packet.payload;
    match (packet.protocol.byte(), packet.opcode) {
        (0xE3, HELLO) => Says::Hello(Greeting::read_hello(payload).unwrap()),
        (0xE3, HELLO_ANSWER) => Says::Hello(Greeting::read_answer(payload).unwrap()),
        (0xC5, EMULE_INFO | EMULE_INFO_ANSWER) => {
            let mut options = Options::default();
            let tells = read_info(payload, &mut options).unwrap();
            assert_eq!(tells, options != Options::default());
            Says::Info(tells.then_some(options))
        }
        _ => match decode(packet).unwrap() {
            Message::Ignored(name) => Says::Ignored(name),
            Message::CompressedPart { file, start, whole, data } => {
                assert_eq!(data.len(), whole as usize, "a stream in one piece");
                Says::Packed { file, start, bytes: inflate(&data, 1 << 20).unwrap() }
            }
            message => Says::Message(message),
        },
    }
}

#[test]
fn every_message_says_what_is_known_of_it_and_is_written_as_it_was() {
    for (name, said, bytes) in captures("clients") {
        let packet = packet(&name, &bytes);
        assert_eq!(kind(&packet), said, "{name}");
        let expected = says(&name, &bytes).unwrap_or_else(|| panic!("{name} is not in the table"));
        let told = decoded(&packet);
        assert!(told == expected, "{name} says {told:?}\nand not {expected:?}");
        match told {
            Says::Hello(greeting) => {
                let again = match packet.opcode {
                    HELLO => Greeting::read_hello(&greeting.hello().payload),
                    _ => Greeting::read_answer(&greeting.answer().payload),
                };
                assert_eq!(again.unwrap(), greeting, "{name}: other tags, which say the same");
            }
            Says::Info(_) => {
                let ours = info(packet.opcode == EMULE_INFO_ANSWER);
                assert_eq!((ours.protocol, ours.opcode), (packet.protocol, packet.opcode));
            }
            Says::Message(_) | Says::Packed { .. } => {
                let message = decode(&packet).unwrap();
                assert_eq!(message.packet().expect(&name).to_bytes(), bytes, "{name}");
                let mut put = Vec::new();
                message.put(&mut put);
                assert_eq!(put, bytes, "{name}");
            }
            Says::Ignored(_) => assert!(decode(&packet).unwrap().packet().is_none(), "{name}"),
        }
    }
}

/// Kinds of messages that the decoder knows and amuled sent.
#[test]
fn what_amuled_never_sent_is_told_on_the_page() {
    let page = fs::read_to_string(fixtures("clients").join("README.md")).unwrap();
    let sent: BTreeSet<_> = captures("clients").into_iter().map(|(_, kind, _)| kind).collect();
    let mut missing = BTreeSet::new();
    for protocol in [Protocol::EDonkey, Protocol::EMule] {
        for opcode in 0..=0xFF {
            let packet = Packet::new(protocol, opcode, vec![0; 100]);
            let known =
                !matches!(decode(&packet), Err(WireError::Opcode { .. }) | Ok(Message::Ignored(_)));
            if known && !sent.contains(&kind(&packet)) {
                missing.insert(kind(&packet));
            }
        }
    }
    assert_eq!(missing, ["E3 49", "E3 5C"].map(str::to_owned).into());
    assert!(missing.iter().all(|kind| page.contains(&format!("`{kind}`"))));
}

/// Who greets another client is who has logged in to the server.
#[test]
fn who_greets_is_who_has_logged_in() {
    let logins = [
        ("hello-answer", "amuled-tcp-login.request"),
        ("hello-2", "amuled-tcp-login-2.request"),
        ("hello-3", "amuled-tcp-login-3.request"),
    ];
    for (greeting, login) in logins {
        let greeting = format!("amuled-{greeting}.bin");
        let Says::Hello(said) = decoded(&packet(&greeting, &read("clients", &greeting))) else {
            panic!("{greeting}")
        };
        let login = decode_from_client(&packet(login, &read("captures", login))).unwrap();
        let ClientMessage::Login(login) = login else { panic!("{login:?}") };
        let known = (login.user, login.port, login.nick());
        assert_eq!((said.hash, said.port, said.nick.as_str()), known, "{greeting}");
    }
}

/// Each greeting is of aMule (3) 3.2.0, as is what it calls itself.
#[test]
fn the_greetings_are_of_amuled_3_2_0() {
    let mut seen = 0;
    for (name, _, bytes) in captures("clients") {
        let packet = packet(&name, &bytes);
        let before = match kind(&packet).as_str() {
            "E3 01" => 1 + 16 + 6,
            "E3 4C" => 16 + 6,
            "C5 01" | "C5 02" => 2,
            _ => continue,
        };
        let tags = Tag::read_list(&mut Cursor::new(&packet.payload[before..])).unwrap();
        let number = |id| tags.iter().find_map(|tag| tag.as_number(id));
        let text = |id| tags.iter().find_map(|tag| tag.as_text(id));
        match before {
            // The operating system is alone.
            2 if tags.len() == 1 => assert_eq!(text(0x94), Some("Linux"), "{name}"),
            2 => {
                assert_eq!((text(0x55), number(0x26)), (Some("aMule 3.2.0"), Some(3)), "{name}");
            }
            _ => assert_eq!(number(0xFB), Some(3 << 24 | 3 << 17 | 2 << 10), "{name}"),
        }
        seen += 1;
    }
    assert_eq!(seen, 7);
}

/// The files of the first run were offered to a server by the same names, sizes and hashes.
#[test]
fn the_files_are_those_that_were_offered() {
    let mut offered: Vec<(String, u64, Hash)> = Vec::new();
    for name in
        ["amuled-tcp-offer.request", "amuled-tcp-offer-2.request", "amuled-tcp-offer-3.request"]
    {
        let offer = decode_from_client(&packet(name, &read("captures", name))).unwrap();
        let ClientMessage::Offer(files) = offer else { panic!("{offer:?}") };
        for file in files {
            assert_eq!(file.holder, Holder::Complete);
            offered.push((file.name().unwrap().to_owned(), file.size().unwrap(), file.hash));
        }
    }
    let known = |file: &Known| (file.name.to_owned(), file.size, file.hash());
    assert_eq!(offered, [known(&NOISE), known(&WORDS), known(&LOW), known(&HIDDEN)]);
}

/// The hash of a file of several parts is that of their hashes; text is text; multipackets name the files that they are about.
#[test]
fn what_is_inside_fits_together() {
    let set = decode(&packet("hash set", &read("clients", "amuled-hashset-answer.bin"))).unwrap();
    let Message::HashSet { file, hashes } = set else { panic!("{set:?}") };
    assert_eq!(file, <[u8; 16]>::from(Md4::digest(hashes.concat())));
    let text = packet("text", &read("clients", "amuled-compressed-part.bin"));
    let Says::Packed { bytes, .. } = decoded(&text) else { panic!("{text:?}") };
    assert_eq!(bytes.len() as u64, BLOCK);
    let words: BTreeSet<_> = bytes.split(u8::is_ascii_whitespace).collect();
    // The block ends inside a word.
    let whole: BTreeSet<_> = words.iter().filter(|word| word.len() >= 4).copied().collect();
    assert_eq!(whole, [&b"alpha"[..], b"beta", b"gamma"].into());
    let answers = [("", NOISE), ("-2", WORDS), ("-3", HIDDEN), ("-4", LOW), ("-5", PARTS)];
    for (number, file) in answers {
        let name = format!("amuled-multipacket-answer{number}.bin");
        let payload = packet(&name, &read("clients", &name)).payload;
        let wanted = [&file.hash()[..], &[0x59, file.name.len() as u8, 0], file.name.as_bytes()];
        assert!(payload.starts_with(&wanted.concat()), "{name}");
    }
}
