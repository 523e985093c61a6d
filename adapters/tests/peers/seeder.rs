use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use p2pbridge_adapters::{
    Flaw, Leecher, Seeder,
    bittorrent::{
        leecher::BtLeecher,
        seeder::{BtSeeder, SeederConfig},
        wire::{
            extension::{ExtendedHandshake, MetadataMessage},
            peer::{Block, Features, Message},
        },
    },
};
use p2pbridge_proto::Bits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    memory::{Memory, Serving, UNIT, ours, soon, theirs, until_bad},
    raw::{Raw, bytes_of},
};

const FAST: Features = Features { extended: true, fast: true, v2: false };
const PLAIN: Features = Features { extended: false, fast: false, v2: false };
const BLOCK: u32 = 16_384;

fn first(piece: u32) -> Block {
    Block { piece, begin: 0, length: BLOCK }
}

/// The answer to a request: the block, or that there is none.
async fn answer(raw: &mut Raw) -> (Block, Option<Bytes>) {
    raw.until(|message| match message {
        Message::Piece { piece, begin, data } => {
            let length = data.len() as u32;
            Some((Block { piece: *piece, begin: *begin, length }, Some(data.clone())))
        }
        Message::Reject(block) => Some((*block, None)),
        _ => None,
    })
    .await
}

async fn unchoked(raw: &mut Raw) {
    raw.say(Message::Interested).await;
    raw.until(|message| (*message == Message::Unchoke).then_some(())).await;
}

#[tokio::test]
async fn chunks_are_announced_as_they_come_and_the_last_two_together() {
    let memory = Memory::new(4 * UNIT);
    let serving = Serving::start(&memory);
    let mut raw = Raw::dial(serving.at, memory.hash(), FAST).await;
    assert_eq!(raw.hear().await, Some(Message::HaveNone));
    let have = |message: &Message| match message {
        Message::Have(chunk) => Some(*chunk),
        _ => None,
    };
    for chunk in [2, 0] {
        memory.availability.add(chunk);
        assert_eq!(raw.until(have).await, chunk);
    }
    memory.availability.add(3);
    memory.availability.add(1);
    assert_eq!((raw.until(have).await, raw.until(have).await), (3, 1));
    let mut late = Raw::dial(serving.at, memory.hash(), FAST).await;
    assert_eq!(late.hear().await, Some(Message::HaveAll));
    let mut plain = Raw::dial(serving.at, memory.hash(), PLAIN).await;
    assert_eq!(plain.hear().await, Some(Message::Bitfield(Bytes::from_static(&[0xF0]))));
    serving.stop().await;
}

#[tokio::test]
async fn a_lone_chunk_is_told_of_when_it_is_there() {
    let memory = Memory::new(1000);
    let serving = Serving::start(&memory);
    let mut raw = Raw::dial(serving.at, memory.hash(), FAST).await;
    assert!(matches!(raw.hear().await, Some(Message::Extended { id: 0, .. })));
    memory.availability.add(0);
    assert_eq!(raw.hear().await, Some(Message::HaveAll));
    serving.stop().await;
}

#[tokio::test]
async fn requests_are_answered_in_order_and_counted_when_written() {
    let memory = Memory::whole(3 * UNIT + 100);
    let serving = Serving::start(&memory);
    let mut raw = Raw::dial(serving.at, memory.hash(), FAST).await;
    raw.say(Message::HaveNone).await;
    unchoked(&mut raw).await;
    let blocks = [
        first(2),
        first(0),
        Block { piece: 0, begin: BLOCK, length: BLOCK },
        Block { piece: 3, begin: 0, length: 100 },
    ];
    for block in blocks {
        raw.say(Message::Request(block)).await;
    }
    for block in blocks {
        assert_eq!(answer(&mut raw).await, (block, Some(bytes_of(&memory, block))));
    }
    let log = memory.until(|log| log.bytes() == 3 * 16_384 + 100).await;
    let start = 3 * UNIT as u64;
    assert_eq!(log.served.last().map(|range| range.end), Some(start + 100));
    assert_eq!(log.held, vec![0]);
    serving.stop().await;
}

#[tokio::test]
async fn what_cannot_be_served_is_rejected() {
    let memory = Memory::new(3 * UNIT + 100);
    memory.availability.add(0);
    let serving = Serving::start(&memory);
    let mut raw = Raw::dial(serving.at, memory.hash(), FAST).await;
    let blocks = [
        first(0), // choked
        first(1), // not available
        first(3), // behind the end
        first(9), // no such piece
        Block { piece: 0, begin: 60_000, length: BLOCK },
        Block { piece: 0, begin: u32::MAX, length: u32::MAX },
        Block { piece: 0, begin: 0, length: 0 },
    ];
    for (at, block) in blocks.into_iter().enumerate() {
        if at == 1 {
            unchoked(&mut raw).await;
        }
        raw.say(Message::Request(block)).await;
        assert_eq!(answer(&mut raw).await, (block, None));
    }
    assert_eq!(memory.log.borrow().bytes(), 0);
    let mut plain = Raw::dial(serving.at, memory.hash(), PLAIN).await;
    unchoked(&mut plain).await;
    plain.say(Message::Request(first(1))).await;
    plain.closed().await;
    serving.stop().await;
}

#[tokio::test]
async fn what_was_cancelled_is_not_sent() {
    let memory = Memory::whole(80 * UNIT);
    let serving = Serving::start(&memory);
    memory.readable.send_replace(false);
    let mut raw = Raw::dial(serving.at, memory.hash(), FAST).await;
    unchoked(&mut raw).await;
    for piece in 0..80 {
        raw.say(Message::Request(first(piece))).await;
    }
    // Some of these are being read by now, and some wait: 1 MiB may be under way.
    for piece in [1, 33, 79] {
        raw.say(Message::Cancel(first(piece))).await;
    }
    raw.say(Message::Request(first(999))).await;
    let mut rejected = vec![];
    while rejected.last() != Some(&999) {
        let (block, given) = answer(&mut raw).await;
        assert_eq!(given, None);
        rejected.push(block.piece);
    }
    assert!(rejected.contains(&79));
    memory.readable.send_replace(true);
    let mut given = vec![];
    while given.len() + rejected.len() < 81 {
        match answer(&mut raw).await {
            (block, None) => rejected.push(block.piece),
            (block, bytes) => {
                assert_eq!(bytes, Some(bytes_of(&memory, block)));
                given.push(block.piece);
            }
        }
    }
    rejected.sort_unstable();
    assert_eq!(rejected, [1, 33, 79, 999]);
    assert!(given.is_sorted());
    serving.stop().await;
}

#[tokio::test]
async fn the_owner_hears_what_peers_hold() {
    let memory = Memory::whole(10 * UNIT);
    let serving = Serving::start(&memory);
    let mut raw = Raw::dial(serving.at, memory.hash(), FAST).await;
    let mut some = Bits::none(10);
    some.set(3);
    raw.say(Message::Bitfield(Bytes::copy_from_slice(some.as_bytes()))).await;
    raw.say(Message::Have(5)).await;
    let log = memory.until(|log| !log.gained.is_empty()).await;
    assert_eq!((log.held, log.gained, log.present), (vec![1], vec![5], 1));
    raw.say(Message::Have(10)).await;
    raw.closed().await;
    memory.until(|log| log.present == 0).await;
    // One that says nothing counts as holding nothing.
    let _silent = Raw::dial(serving.at, memory.hash(), FAST).await;
    memory.until(|log| log.held == [1, 0]).await;
    let mut wrong = Raw::dial(serving.at, memory.hash(), FAST).await;
    wrong.say(Message::Bitfield(Bytes::from_static(&[0]))).await;
    wrong.closed().await;
    serving.stop().await;
}

#[tokio::test]
async fn metadata_is_given_to_those_who_know_only_the_name() {
    let memory = Memory::whole(900 * UNIT);
    let serving = Serving::start(&memory);
    let mut raw = Raw::dial(serving.at, memory.hash(), FAST).await;
    let extended = |message: &Message| match message {
        Message::Extended { id, payload } => Some((*id, payload.clone())),
        _ => None,
    };
    let (_, payload) = raw.until(extended).await;
    let hello = ExtendedHandshake::decode(&payload).expect("a handshake");
    let id = hello.ut_metadata.expect("it gives metadata");
    let size = hello.metadata_size.expect("it has metadata") as usize;
    let ours = ExtendedHandshake { ut_metadata: Some(9), ..ExtendedHandshake::default() };
    raw.say(Message::Extended { id: 0, payload: ours.encode() }).await;
    let mut info = Vec::new();
    for piece in 0..3 {
        let payload = MetadataMessage::Request(piece).encode();
        raw.say(Message::Extended { id, payload }).await;
        let (id, payload) = raw.until(extended).await;
        assert_eq!(id, 9);
        match MetadataMessage::decode(&payload).expect("a message") {
            MetadataMessage::Data { data, .. } => info.extend_from_slice(&data),
            other => assert_eq!((piece, other), (2, MetadataMessage::Reject(2))),
        }
    }
    assert_eq!(info.len(), size);
    assert!(memory.description.source.windows(size).any(|window| window == info));
    serving.stop().await;
}

#[tokio::test]
async fn strangers_and_ourselves_are_turned_away() {
    let memory = Memory::whole(UNIT);
    let serving = Serving::start(&memory);
    let stream = soon(TcpStream::connect(serving.at)).await.unwrap();
    assert!(Raw::greet(stream, [9; 20], FAST).await.is_none());
    let itself =
        BtLeecher::new(ours(), Arc::default()).open(memory.description.clone(), serving.at).await;
    assert_eq!(
        itself.err().map(|error| error.to_string()).as_deref(),
        Some("it is the bridge itself")
    );
    assert_eq!(memory.log.borrow().held.len(), 0);
    until_bad(&serving.bad_input, Flaw::Unexpected, 1).await;
    let mut stream = soon(TcpStream::connect(serving.at)).await.unwrap();
    stream.write_all(&[b'?'; 68]).await.unwrap();
    until_bad(&serving.bad_input, Flaw::Malformed, 1).await;
    let mut raw = Raw::dial(serving.at, memory.hash(), FAST).await;
    raw.say(Message::Have(99)).await;
    raw.closed().await;
    until_bad(&serving.bad_input, Flaw::Malformed, 2).await;
    serving.stop().await;
}

#[tokio::test]
async fn a_thousand_silent_connections_leave_room_for_a_real_one() {
    let memory = Memory::whole(UNIT);
    let serving = Serving::with(&memory, "127.0.0.1:0", 50, 4);
    let mut crowd = Vec::new();
    for _ in 0..1000 {
        crowd.push(soon(TcpStream::connect(serving.at)).await.unwrap());
    }
    assert!(serving.seeder.sessions() <= 50);
    // The silent ones have a second's grace; until it is over, the real one is turned away and comes again.
    let joined = async {
        loop {
            let stream = TcpStream::connect(serving.at).await.unwrap();
            if let Some(raw) = Raw::greet(stream, memory.hash(), FAST).await {
                return raw;
            }
        }
    };
    let mut raw = soon(joined).await;
    unchoked(&mut raw).await;
    assert!(serving.seeder.sessions() <= 50);
    serving.stop().await;
}

#[tokio::test]
async fn invited_peers_are_called_once() {
    let memory = Memory::whole(2 * UNIT);
    let serving = Serving::start(&memory);
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = door.local_addr().unwrap();
    serving.seeder.invite(memory.description.names[0], &[at, at]);
    serving.seeder.invite(memory.description.names[0], &[at, serving.at]);
    let (stream, _) = soon(door.accept()).await.unwrap();
    let mut raw = Raw::greet(stream, memory.hash(), FAST).await.unwrap();
    unchoked(&mut raw).await;
    raw.say(Message::Request(first(1))).await;
    assert_eq!(answer(&mut raw).await.1, Some(bytes_of(&memory, first(1))));
    let again = tokio::time::timeout(Duration::from_millis(300), door.accept()).await;
    assert!(again.is_err());
    serving.stop().await;
}

#[tokio::test]
async fn slots_are_given_on() {
    let memory = Memory::whole(UNIT);
    let serving = Serving::with(&memory, "127.0.0.1:0", 50, 1);
    let mut one = Raw::dial(serving.at, memory.hash(), FAST).await;
    unchoked(&mut one).await;
    let mut two = Raw::dial(serving.at, memory.hash(), FAST).await;
    two.say(Message::Interested).await;
    two.say(Message::Request(first(0))).await;
    assert!(answer(&mut two).await == (first(0), None));
    one.say(Message::NotInterested).await;
    one.until(|message| (*message == Message::Choke).then_some(())).await;
    two.until(|message| (*message == Message::Unchoke).then_some(())).await;
    serving.stop().await;
}

#[tokio::test]
async fn retiring_a_content_and_stopping_end_sessions() {
    let memory = Memory::whole(UNIT);
    let serving = Serving::with(&memory, "[::1]:0", 50, 4);
    let mut raw = Raw::dial(serving.at, memory.hash(), FAST).await;
    unchoked(&mut raw).await;
    memory.retired.cancel();
    raw.closed().await;
    memory.until(|log| log.present == 0).await;
    let mut silent = soon(TcpStream::connect(serving.at)).await.unwrap();
    let at = serving.at;
    serving.stop().await;
    assert_eq!(soon(silent.read(&mut [0; 8])).await.unwrap_or(0), 0);
    assert!(TcpStream::connect(at).await.is_err());
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let memory = Memory::whole(UNIT);
    let serving = Serving::start(&memory);
    let config = SeederConfig { listen: vec![serving.at], max_sessions: 1, upload_slots: 1 };
    let error = BtSeeder::bind(&"b".parse().unwrap(), &config, theirs(), Arc::default())
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains(&format!("listen on {}", serving.at)), "{error}");
    assert!(error.to_lowercase().contains("address already in use"), "{error}");
    serving.stop().await;
}
