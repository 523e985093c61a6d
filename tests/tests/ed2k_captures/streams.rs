//! Whole connections, to their last byte.

use p2pbridge_adapters::ed2k::wire::{
    BLOCK, Packet,
    server::{ClientMessage, FileRecord, ServerMessage, decode_from_client, decode_from_server},
    transfer::{Message, decode},
};

use super::files::{HIDDEN, Known, LOW, NOISE, WORDS};
use super::{Says, captures, decoded, kind, packets, read};

/// The messages of each stream, in order.
const STREAMS: &[(&str, &str)] = &[
    ("called-back-downloader.bin", "E3 4C, C5 01, C5 A4, C5 87, C5 85, E3 54, C5 86, E3 47, E3 56"),
    ("downloader.bin", "E3 01, C5 87, C5 A4, C5 01, C5 85, C5 86, E3 54, E3 47, E3 56"),
    ("low-to-server.bin", "E3 01, E3 15"),
    ("searcher-to-server.bin", "E3 01, E3 16, E3 16, E3 19, E3 19, E3 19, E3 19, E3 1C"),
    ("server-to-low.bin", "E3 40, E3 34, E3 38, E3 41, E3 35"),
    (
        "server-to-searcher.bin",
        "E3 40, E3 34, E3 38, E3 41, E3 33, E3 33, E3 42, E3 42, E3 42, E3 42",
    ),
    ("server-to-sharer.bin", "E3 40, E3 34, E3 38, E3 41"),
    ("sharer-to-server.bin", "E3 01, D4 15"),
    ("uploader.bin", "E3 4C, C5 01, C5 87, C5 85, C5 93, C5 86, C5 60, E3 55, C5 40, C5 40"),
];

/// Messages of the server with tags, in which it writes each number in four bytes, and we in as few as it needs.
const OTHER_TAGS: &[u8] = &[0x33, 0x41];

fn stream(name: &str) -> Vec<Packet> {
    packets(name, &read("streams", name))
}

#[test]
fn every_stream_is_the_messages_that_it_was_to_its_last_byte() {
    let told: Vec<_> = captures("streams").into_iter().map(|(name, _, _)| name).collect();
    assert_eq!(told, STREAMS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    for (name, messages) in STREAMS {
        let packets = stream(name);
        let kinds: Vec<_> = packets.iter().map(kind).collect();
        assert_eq!(kinds.join(", "), *messages, "{name}");
        for packet in packets {
            let plain = Packet { packed: false, ..packet.clone() };
            if name.starts_with("server-to-") {
                let message = decode_from_server(&packet).expect(name);
                let again = [false, true].map(|new| message.to_packet(new));
                if OTHER_TAGS.contains(&packet.opcode) {
                    assert!(!again.contains(&plain), "{name}: {packet:?}");
                    let read = again.map(|packet| decode_from_server(&packet));
                    assert_eq!(read, [Ok(message.clone()), Ok(message)], "{name}");
                } else {
                    assert!(again.contains(&plain), "{name}: {packet:?}");
                }
            } else if name.ends_with("-to-server.bin") {
                let message = decode_from_client(&packet).expect(name);
                let again = [false, true].map(|new| message.to_packet(new));
                assert!(again.contains(&plain), "{name}: {packet:?}");
            } else if let Says::Message(message) = decoded(&packet) {
                assert_eq!(message.packet(), Some(packet), "{name}");
            }
        }
    }
}

fn named(file: &FileRecord) -> (Option<&str>, Option<u64>, [u8; 16]) {
    (file.name(), file.size(), file.hash)
}

fn known(file: &Known) -> (Option<&'static str>, Option<u64>, [u8; 16]) {
    (Some(file.name), Some(file.size), file.hash())
}

#[test]
fn what_is_found_and_asked_for_is_what_was_shared() {
    let mut asked = Vec::new();
    for packet in stream("searcher-to-server.bin") {
        if let ClientMessage::GetSources(wanted) = decode_from_client(&packet).unwrap() {
            asked.push((wanted.hash, wanted.size.unwrap()));
        }
    }
    asked.sort_unstable();
    let mut shared = [&NOISE, &WORDS, &LOW, &HIDDEN].map(|file| (file.hash(), file.size));
    shared.sort_unstable();
    assert_eq!(asked, shared);
    let mut found = Vec::new();
    for packet in stream("server-to-searcher.bin") {
        if let ServerMessage::SearchResult(answer) = decode_from_server(&packet).unwrap() {
            found.push(answer.files);
        }
    }
    let [all, one] = &found[..] else { panic!("{found:?}") };
    let mut all: Vec<_> = all.iter().map(named).collect();
    all.sort_unstable();
    assert_eq!(all, [&HIDDEN, &LOW, &NOISE, &WORDS].map(known));
    assert_eq!(one.iter().map(named).collect::<Vec<_>>(), [known(&NOISE)]);
}

/// What one side asks for is what the other one sends: two ranges of the text, which are all of it.
#[test]
fn a_downloader_gets_what_it_asks_for() {
    let ranges = |name: &str, file: &Known| {
        let asked = stream(name).into_iter().find(|packet| kind(packet) == "E3 47").unwrap();
        let Ok(Message::RequestParts { file: of, ranges }) = decode(&asked) else { panic!() };
        assert_eq!(of, file.hash());
        ranges
    };
    let all = ranges("downloader.bin", &WORDS);
    assert_eq!(all, [0..BLOCK, BLOCK..WORDS.size]);
    assert_eq!(ranges("called-back-downloader.bin", &LOW), [0..LOW.size; 1]);
    let mut sent = Vec::new();
    for packet in stream("uploader.bin") {
        if let Says::Packed { file, start, bytes } = decoded(&packet) {
            assert_eq!(file, WORDS.hash());
            sent.push(start..start + bytes.len() as u64);
        }
    }
    assert_eq!(sent, all);
}
