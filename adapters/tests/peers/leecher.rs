use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use p2pbridge_adapters::{
    BadInput, Flaw, Leecher, Party, SourceError, SourceSession,
    bittorrent::{
        leecher::BtLeecher,
        wire::peer::{Block, Features, Message},
    },
};
use tokio::{
    io::AsyncWriteExt,
    net::TcpListener,
    task::{JoinHandle, yield_now},
    time::{pause, resume},
};

use crate::{
    memory::{Memory, Serving, UNIT, soon, theirs, until_bad},
    raw::Raw,
};

const FAST: Features = Features { extended: true, fast: true, v2: false };
const PLAIN: Features = Features { extended: false, fast: false, v2: false };

async fn open(memory: &Memory, at: std::net::SocketAddr) -> Arc<dyn SourceSession> {
    soon(BtLeecher::new(theirs(), Arc::default()).open(memory.description.clone(), at))
        .await
        .expect("a session")
}

/// A session with a scripted source that holds everything.
async fn scripted(memory: &Arc<Memory>, features: Features) -> (Arc<dyn SourceSession>, Raw) {
    let door = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = door.local_addr().expect("an address");
    let hash = memory.hash();
    let greet = tokio::spawn(async move {
        let (stream, _) = soon(door.accept()).await.expect("a caller");
        let mut raw = Raw::greet(stream, hash, features).await.expect("a greeting");
        raw.say(Message::Bitfield(Bytes::from_static(&[0xFF]))).await;
        raw
    });
    let session = open(memory, at).await;
    let mut raw = greet.await.expect("it is greeted");
    raw.until(|message| (*message == Message::Interested).then_some(())).await;
    (session, raw)
}

fn fetch(
    session: &Arc<dyn SourceSession>,
    range: std::ops::Range<u64>,
) -> JoinHandle<Result<Bytes, SourceError>> {
    let session = session.clone();
    tokio::spawn(async move { session.fetch(range).await })
}

const CHUNK: std::ops::Range<u64> = 0..UNIT as u64;

#[tokio::test]
async fn everything_comes_over_as_it_becomes_available() {
    let memory = Memory::new(20 * UNIT + 77);
    let serving = Serving::start(&memory);
    let session = open(&memory, serving.at).await;
    assert_eq!((session.held(), session.has(0)), (0, false));
    assert_eq!(session.fetch(CHUNK).await, Err(SourceError::Refused(CHUNK)));
    let mut changes = session.changes();
    memory.availability.add(7);
    soon(changes.wait_for(|_| session.has(7))).await.expect("the session lives");
    let (start, end) = (7 * UNIT as u64 + 5, 8 * UNIT as u64 - 5);
    let some = soon(session.fetch(start..end)).await.expect("the bytes");
    assert_eq!(some, memory.data.slice(start as usize..end as usize));
    (0..21).for_each(|chunk| {
        memory.availability.add(chunk);
    });
    soon(changes.wait_for(|_| session.held() == 21)).await.expect("the session lives");
    let ranges = (0..21u64).map(|chunk| {
        let start = chunk * UNIT as u64;
        start..(start + UNIT as u64).min(20 * UNIT as u64 + 77)
    });
    let chunks = stream::iter(ranges).map(|range| session.fetch(range)).buffered(8);
    let all: Vec<_> = soon(chunks.map(|chunk| chunk.expect("the chunk")).collect()).await;
    assert_eq!(all.concat(), memory.data);
    memory.until(|log| log.bytes() == end - start + 20 * UNIT as u64 + 77).await;
    serving.stop().await;
    soon(changes.wait_for(|_| false)).await.expect_err("the session has ended");
    assert!(matches!(session.fetch(CHUNK).await, Err(SourceError::Closed(_))));
}

#[tokio::test]
async fn a_choke_delays_but_loses_nothing() {
    for features in [FAST, PLAIN] {
        let memory = Memory::whole(8 * UNIT);
        let (session, mut raw) = scripted(&memory, features).await;
        let chunk = fetch(&session, CHUNK);
        raw.say(Message::Unchoke).await;
        let mut asked = Vec::new();
        for _ in 0..4 {
            asked.push(raw.request().await);
        }
        raw.give(&memory, asked[2]).await;
        raw.say(Message::Choke).await;
        asked.remove(2);
        if features.fast {
            for block in &asked {
                raw.say(Message::Reject(*block)).await;
            }
        }
        raw.say(Message::Unchoke).await;
        for block in asked {
            assert_eq!(raw.request().await, block);
            raw.give(&memory, block).await;
        }
        let chunk = soon(chunk).await.unwrap().expect("the chunk");
        assert_eq!(chunk, memory.data.slice(..UNIT));
    }
}

#[tokio::test]
async fn a_refusal_is_told_and_the_session_goes_on() {
    let memory = Memory::whole(8 * UNIT);
    let (session, mut raw) = scripted(&memory, FAST).await;
    raw.say(Message::Unchoke).await;
    let chunk = fetch(&session, 0..16_384);
    let block = raw.request().await;
    raw.say(Message::Reject(block)).await;
    assert_eq!(soon(chunk).await.unwrap(), Err(SourceError::Refused(0..16_384)));
    let chunk = fetch(&session, 0..16_384);
    let block = raw.request().await;
    raw.give(&memory, block).await;
    assert_eq!(soon(chunk).await.unwrap(), Ok(memory.data.slice(..16_384)));
}

#[tokio::test]
async fn a_fetch_that_is_dropped_is_taken_back() {
    let memory = Memory::whole(8 * UNIT);
    let (session, mut raw) = scripted(&memory, FAST).await;
    raw.say(Message::Unchoke).await;
    let chunk = fetch(&session, 0..16_384);
    let block = raw.request().await;
    chunk.abort();
    let cancelled = raw.until(|message| match message {
        Message::Cancel(block) => Some(*block),
        _ => None,
    });
    assert_eq!(cancelled.await, block);
    // It comes all the same, and does no harm.
    raw.give(&memory, block).await;
    let chunk = fetch(&session, 0..16_384);
    let block = raw.request().await;
    raw.give(&memory, block).await;
    assert!(soon(chunk).await.unwrap().is_ok());
    drop(session);
    raw.closed().await;
}

#[tokio::test]
async fn wrong_lengths_and_wrong_pieces_end_the_session() {
    let memory = Memory::whole(8 * UNIT);
    let (session, mut raw) = scripted(&memory, FAST).await;
    raw.say(Message::Unchoke).await;
    let chunk = fetch(&session, CHUNK);
    let Block { piece, begin, .. } = raw.request().await;
    raw.say(Message::Piece { piece, begin, data: Bytes::from_static(b"short") }).await;
    assert!(matches!(soon(chunk).await.unwrap(), Err(SourceError::Protocol(_))));
    for bad in [Message::Have(8), Message::Bitfield(Bytes::from_static(&[0, 0]))] {
        let (session, mut raw) = scripted(&memory, FAST).await;
        raw.say(bad).await;
        raw.closed().await;
        while !matches!(session.fetch(CHUNK).await, Err(SourceError::Protocol(_))) {
            yield_now().await;
        }
    }
}

#[tokio::test]
async fn nobody_there_and_nothing_to_say() {
    let memory = Memory::whole(8 * UNIT);
    let door = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = door.local_addr().expect("an address");
    let leecher = BtLeecher::new(theirs(), Arc::default());
    let open = tokio::spawn({
        let (leecher, what) = (leecher.clone(), memory.description.clone());
        async move { leecher.open(what, at).await.err() }
    });
    drop(soon(door.accept()).await);
    assert!(matches!(soon(open).await.unwrap(), Some(SourceError::Closed(_))));
    drop(door);
    let error = soon(leecher.open(memory.description.clone(), at)).await.err();
    assert!(matches!(error, Some(SourceError::Unreachable(_))));
}

#[tokio::test]
async fn what_is_wrong_in_a_source_is_counted() {
    let memory = Memory::whole(8 * UNIT);
    let door = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (at, bad) = (door.local_addr().expect("an address"), Arc::new(BadInput::default()));
    let leecher = BtLeecher::new(theirs(), bad.clone());
    let open = || {
        let (leecher, what) = (leecher.clone(), memory.description.clone());
        tokio::spawn(async move { leecher.open(what, at).await })
    };
    let opening = open();
    let (mut stream, _) = soon(door.accept()).await.expect("a caller");
    stream.write_all(&[b'?'; 68]).await.expect("a greeting");
    assert!(matches!(soon(opening).await.unwrap(), Err(SourceError::Protocol(_))));
    until_bad(&bad, Flaw::Malformed, 1).await;
    let opening = open();
    let (stream, _) = soon(door.accept()).await.expect("a caller");
    let mut raw = Raw::greet(stream, memory.hash(), FAST).await.expect("a greeting");
    raw.say(Message::Bitfield(Bytes::from_static(&[0, 0]))).await;
    assert!(matches!(soon(opening).await.unwrap(), Err(SourceError::Protocol(_))));
    until_bad(&bad, Flaw::Malformed, 2).await;
    // Blocks for which nobody has asked.
    let opening = open();
    let (stream, _) = soon(door.accept()).await.expect("a caller");
    let mut raw = Raw::greet(stream, memory.hash(), FAST).await.expect("a greeting");
    raw.say(Message::Bitfield(Bytes::from_static(&[0xFF]))).await;
    let session = soon(opening).await.unwrap().expect("a session");
    for _ in 0..4097 {
        raw.say(Message::Piece { piece: 7, begin: 0, data: Bytes::from_static(b"x") }).await;
    }
    until_bad(&bad, Flaw::Unexpected, 1).await;
    assert_eq!(bad.of(Party::Peer, Flaw::Malformed), 2);
    drop((session, raw));
    // Nothing comes of what was asked.
    let opening = open();
    let (stream, _) = soon(door.accept()).await.expect("a caller");
    let mut raw = Raw::greet(stream, memory.hash(), FAST).await.expect("a greeting");
    raw.say(Message::Bitfield(Bytes::from_static(&[0xFF]))).await;
    let session = soon(opening).await.unwrap().expect("a session");
    raw.say(Message::Unchoke).await;
    let chunk = fetch(&session, 0..16_384);
    raw.request().await;
    pause();
    assert!(matches!(chunk.await.unwrap(), Err(SourceError::TimedOut(_))));
    resume();
    until_bad(&bad, Flaw::Silent, 1).await;
}
