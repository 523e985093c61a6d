//! What each capture says.

use std::net::{Ipv4Addr, SocketAddrV4};

use bytes::Bytes;
use p2pbridge_adapters::ed2k::wire::{
    BLOCK, ClientId, Hash,
    hello::{Crypt, Greeting, Options},
    packet::inflate,
    transfer::{Extended, Message, PartStatus, SourceRecord},
};
use p2pbridge_proto::Bits;
use p2pbridge_tests::public;

use super::files::{
    HUGE, Known, NOISE, PARTS, SMALL, WORDS, aich, end_of_huge, hash, hash_set, parts,
};

/// What a message says.
#[derive(Debug, PartialEq)]
pub(crate) enum Says {
    /// A greeting; we greet with what we are ourselves, so it is written with other tags.
    Hello(Greeting),
    /// What a client can do beside its greeting, or nothing; this too is written as what we can.
    Info(Option<Options>),
    /// A message that is written as it was.
    Message(Message),
    /// A stream of zlib, which inflates to these bytes; the message is written as it was.
    Packed { file: Hash, start: u64, bytes: Bytes },
    /// A message that nothing follows from, by its name; it is never written.
    Ignored(&'static str),
}

/// What amuled 3.2.0 says in every greeting that it can do.
const AMULED: Options = Options {
    emule: true,
    udp_port: 0,
    compression: 1,
    source_exchange: 3,
    source_exchange2: true,
    extended_requests: 2,
    aich: true,
    unicode: true,
    large_files: true,
    multipacket: true,
    secure_identification: 3,
    crypt: Crypt { supports: false, requests: false, requires: false },
};

/// What it says in the older form.
const OLDER: Options = Options {
    udp_port: 4672,
    source_exchange2: false,
    aich: false,
    unicode: false,
    large_files: false,
    multipacket: false,
    ..AMULED
};

/// At 198.51.100.1.
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 4661);

fn high(number: u8) -> u32 {
    ClientId::High(public(number)).number()
}

/// Its UDP port is ten above the other.
fn greeting(nick: &str, user: &str, id: u32, port: u16) -> Greeting {
    let options = Options { udp_port: port + 10, ..AMULED };
    Greeting { hash: hash(user), id, port, nick: nick.to_owned(), server: Some(SERVER), options }
}

/// What the script at this address says of itself.
fn script(number: u8, version: u8, crypt: u8) -> SourceRecord {
    let mut user = [0xA0 + number; 16];
    (user[5], user[14]) = (0x0E, 0x6F);
    SourceRecord {
        id: SourceRecord::id(ClientId::High(public(number)), version),
        port: 4662,
        server: SERVER,
        user: (version >= 2).then_some(user),
        crypt: (version >= 4).then_some(crypt),
    }
}

fn status(file: &Known, held: &[u32]) -> PartStatus {
    let mut bits = Bits::none(file.parts());
    held.iter().for_each(|part| assert!(bits.set(*part)));
    PartStatus::of(&bits, file.size).unwrap()
}

fn asks(file: &Known, held: &[u32]) -> Says {
    let extended = Extended { parts: status(file, held), complete_sources: Some(0) };
    Says::Message(Message::FileNameRequest { file: file.hash(), extended: Some(extended) })
}

fn sources(version: Option<u8>, sources: Vec<SourceRecord>) -> Says {
    Says::Message(Message::Sources { file: PARTS.hash(), version, sources })
}

fn data(file: &Known, start: u64, data: impl Into<Bytes>) -> Says {
    Says::Message(Message::SendingPart { file: file.hash(), start, data: data.into() })
}

/// The hashes of a part's blocks, which are those that the file's bytes give.
fn proof(file: &Known, part: u32) -> Says {
    let (root, hashes) = aich(file, part);
    let recovery = Some((part as u16, root, hashes));
    Says::Message(Message::AichAnswer { file: file.hash(), recovery })
}

/// What the capture of this name says; `bytes` is all of it, for what is known of random bytes is no more than how many
/// there are. `None` for a name that is none.
pub(crate) fn says(name: &str, bytes: &[u8]) -> Option<Says> {
    let known = name.strip_prefix("amuled-")?.strip_suffix(".bin")?;
    greets(known).or_else(|| message(known, bytes)).or_else(|| ignored(known))
}

fn greets(name: &str) -> Option<Says> {
    let mut asking = greeting("echo", "f94de5dfa40ed8f10a8449bd70f76f55", high(4), 4731);
    asking.options.crypt = Crypt { supports: true, requests: true, requires: false };
    let hello = match name {
        "hello" => greeting("bravo", "a4315f05a50eb6d050c7ca4942ff6faa", high(4), 4731),
        "hello-2" => greeting("charlie", "7441f3f0b50eedb88d41880f3f8e6f54", 1, 4751),
        "hello-3" => asking,
        "hello-answer" => greeting("alpha", "fb6d6db1b50e8dfdb4b77d25e3f76fa4", high(3), 4711),
        "emule-info" => return Some(Says::Info(None)),
        "emule-info-2" | "emule-info-answer" => return Some(Says::Info(Some(OLDER))),
        _ => return None,
    };
    Some(Says::Hello(hello))
}

fn message(name: &str, bytes: &[u8]) -> Option<Says> {
    let (parts_hash, huge) = (PARTS.hash(), HUGE.hash());
    Some(Says::Message(match name {
        "accept-upload" => Message::AcceptUpload,
        "aich-answer" => return Some(proof(&PARTS, 0)),
        "aich-answer-2" => return Some(proof(&HUGE, 441)),
        "aich-answer-3" => Message::AichAnswer { file: parts_hash, recovery: None },
        "aich-request" => Message::AichRequest { file: parts_hash, part: 0, root: PARTS.root() },
        "aich-root" => Message::AichRoot { file: parts_hash, root: PARTS.root() },
        "aich-root-request" => Message::AichRootRequest(parts_hash),
        "cancel" => Message::CancelTransfer,
        "compressed-part" => {
            let bytes = inflate(&bytes[30..], 1 << 20).unwrap();
            return Some(Says::Packed { file: WORDS.hash(), start: 0, bytes });
        }
        "compressed-part-64" => {
            let bytes = Bytes::from(end_of_huge()).slice(400_000..403_000);
            return Some(Says::Packed { file: huge, start: (1 << 32) + 400_000, bytes });
        }
        "file-name-answer" => {
            Message::FileNameAnswer { file: parts_hash, name: PARTS.name.to_owned() }
        }
        "file-name-request" => return Some(asks(&PARTS, &[])),
        "file-name-request-2" => return Some(asks(&HUGE, &[])),
        "file-name-request-3" => Message::FileNameRequest { file: SMALL.hash(), extended: None },
        "file-name-request-4" => return Some(asks(&PARTS, &[1])),
        "file-status" => Message::FileStatus { file: parts_hash, parts: PartStatus::complete() },
        "file-status-2" => Message::FileStatus { file: parts_hash, parts: status(&PARTS, &[1]) },
        "file-status-request" => Message::FileStatusRequest(parts_hash),
        "hashset-answer" => Message::HashSet {
            file: NOISE.hash(),
            hashes: vec![
                hash("a4e31435a70d80dc6fe280c2e6e444b1"),
                hash("4b4c612649b3b7506dbfc21dc72cef18"),
            ],
        },
        "hashset-answer-2" => Message::HashSet { file: parts_hash, hashes: hash_set(&PARTS) },
        "hashset-request" => Message::HashSetRequest(NOISE.hash()),
        "no-such-file" => Message::NoSuchFile([0x77; 16]),
        "out-of-parts" => Message::OutOfParts,
        "queue-rank" => Message::QueueRanking(1),
        "queue-rank-2" => Message::QueueRanking(2),
        "request-parts" => {
            // The second part begins at 9,728,000; the file ends with it.
            let ranges = vec![9_728_000..9_912_320, 9_912_320..NOISE.size, 0..BLOCK];
            Message::RequestParts { file: NOISE.hash(), ranges }
        }
        "request-parts-64" => {
            // Part 441 begins at 4,290,048,000: its block 26 crosses 4 GiB.
            let start = 4_290_048_000 + 26 * BLOCK;
            let ranges = std::iter::once(start..start + BLOCK).collect();
            Message::RequestParts { file: huge, ranges }
        }
        "sending-part" => {
            let random = Bytes::copy_from_slice(&bytes[bytes.len() - 10_240..]);
            return Some(data(&NOISE, 9_728_000, random));
        }
        "sending-part-2" => return Some(data(&PARTS, 1_000, parts().slice(1_000..1_900))),
        "sending-part-64" => return Some(data(&HUGE, 1 << 32, end_of_huge()[..700].to_vec())),
        "sources" => return Some(sources(None, vec![script(6, 1, 0), script(5, 1, 0)])),
        "sources-2" => return Some(sources(None, vec![script(6, 3, 0)])),
        "sources-3" => return Some(sources(None, vec![script(5, 4, 3)])),
        "sources-4" => return Some(sources(Some(4), vec![script(5, 4, 3)])),
        "sources-request" => Message::SourcesRequest { file: parts_hash, version: None },
        "sources-request-2" => Message::SourcesRequest { file: huge, version: Some(4) },
        "start-upload" => Message::StartUpload(Some(NOISE.hash())),
        _ => return None,
    }))
}

fn ignored(name: &str) -> Option<Says> {
    Some(Says::Ignored(match name {
        "multipacket-ext" | "multipacket-ext-2" => "OP_MULTIPACKET_EXT",
        "multipacket-answer"
        | "multipacket-answer-2"
        | "multipacket-answer-3"
        | "multipacket-answer-4"
        | "multipacket-answer-5" => "OP_MULTIPACKETANSWER",
        "public-ip-answer" => "OP_PUBLICIP_ANSWER",
        "public-key" => "OP_PUBLICKEY",
        "secident-state" => "OP_SECIDENTSTATE",
        "shared-files-denied" => "OP_ASKSHAREDDENIEDANS",
        "signature" => "OP_SIGNATURE",
        _ => return None,
    }))
}
