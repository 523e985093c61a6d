#![allow(clippy::single_range_in_vec_init, reason = "ranges are what is asked for")]

use tokio::net::TcpListener;

use super::{
    testing::{Peer, SIZE, SOON, Sample, content, ended, named, open, rig, sample, silent, until},
    *,
};
use crate::ed2k::wire::{
    BLOCK, Hash,
    packet::deflate,
    transfer::{Message, PartStatus, SourceRecord, decode},
};

#[tokio::test]
async fn a_file_comes_compressed_and_plain_and_its_hashes_are_learned() {
    let (rig, sample) = (rig(), sample(SIZE));
    let file = sample.hash;
    assert!(!sample.what.integrity.is_known());
    let hashes = sample.hashes.clone();
    let telling = Sample { what: sample.what.clone(), hash: file, hashes };
    let (session, script) = open(&rig, &sample, |mut peer| async move {
        peer.tell(&telling, PartStatus::complete()).await;
        peer.send(Message::AcceptUpload).await;
        let ranges = peer.ranges().await;
        assert_eq!(ranges, [PART..PART + BLOCK, PART + BLOCK..PART + 262_144]);
        let zlib = deflate(&content(ranges[0].clone())).unwrap();
        let whole = u32::try_from(zlib.len()).unwrap();
        for piece in zlib.chunks(3000) {
            let data = Bytes::copy_from_slice(piece);
            peer.send(Message::CompressedPart { file, start: PART, whole, data }).await;
        }
        peer.send_range(file, ranges[1].clone()).await;
        for range in peer.ranges().await {
            peer.send_range(file, range).await;
        }
        assert_eq!(peer.next().await, Message::CancelTransfer);
    })
    .await;
    let session = session.unwrap();
    assert_eq!(session.held(), 2);
    until(&session, 1, true).await;
    assert!(sample.what.integrity.is_known());
    let range = PART..PART + 262_144;
    assert_eq!(session.fetch(range.clone()).await, Ok(content(range)));
    assert_eq!(session.fetch(0..7).await, Ok(content(0..7)));
    assert_eq!(
        session.fetch(PART - 1..PART + 1).await,
        Err(SourceError::Refused(PART - 1..PART + 1))
    );
    assert_eq!(session.fetch(SIZE..SIZE + 1).await, Err(SourceError::Refused(SIZE..SIZE + 1)));
    drop(session);
    // The slot is kept for a while, for another file of this client.
    tokio::time::pause();
    timeout(SOON, script).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_file_of_one_part_needs_no_status_and_no_hashes() {
    let (rig, sample) = (rig(), sample(1));
    let file = sample.hash;
    let (session, _script) = open(&rig, &sample, |mut peer| async move {
        assert!(matches!(peer.next().await, Message::FileNameRequest { .. }));
        peer.send(Message::FileNameAnswer { file, name: "one".to_owned() }).await;
        assert_eq!(peer.next().await, Message::FileStatusRequest(file));
        assert!(matches!(peer.next().await, Message::SourcesRequest { .. }));
        assert_eq!(peer.next().await, Message::StartUpload(Some(file)));
        peer.send(Message::AcceptUpload).await;
        assert_eq!(peer.ranges().await, [0..1]);
        peer.send_range(file, 0..1).await;
        peer.packet_or_end().await;
    })
    .await;
    let session = session.unwrap();
    until(&session, 0, true).await;
    assert_eq!(session.fetch(0..1).await, Ok(content(0..1)));
}

#[tokio::test]
async fn who_does_not_have_the_file_or_tells_of_another_is_left() {
    let (rig, sample) = (rig(), sample(SIZE));
    let file = sample.hash;
    let (session, _) = open(&rig, &sample, |mut peer| async move {
        peer.next().await;
        peer.send(Message::NoSuchFile(file)).await;
        peer.packet_or_end().await;
    })
    .await;
    let error = session.err().unwrap();
    assert_eq!(error, SourceError::Protocol("it does not have the file".into()));
    let (session, _) = open(&rig, &sample, |mut peer| async move {
        peer.next().await;
        let parts = PartStatus::of(&Bits::none(9), 9 * PART - 1).unwrap();
        peer.send(Message::FileStatus { file, parts }).await;
        peer.packet_or_end().await;
    })
    .await;
    assert!(
        matches!(session.err().unwrap(), SourceError::Protocol(why) if why.contains("9 parts"))
    );
    let hashes = vec![[1; 16], [2; 16]];
    let liar = Sample { what: sample.what.clone(), hash: file, hashes };
    let (session, _) = open(&rig, &sample, |mut peer| async move {
        peer.tell(&liar, PartStatus::complete()).await;
        peer.packet_or_end().await;
    })
    .await;
    let error = match session {
        Ok(session) => ended(&session).await,
        Err(error) => error,
    };
    assert!(matches!(error, SourceError::Protocol(why) if why.contains("hashes")));
    assert!(!sample.what.integrity.is_known());
}

#[tokio::test]
async fn a_slot_that_goes_refuses_and_comes_again() {
    let (rig, sample) = (rig(), sample(400_000));
    let file = sample.hash;
    let telling = Sample { what: sample.what.clone(), hash: file, hashes: Vec::new() };
    let (session, _script) = open(&rig, &sample, |mut peer| async move {
        peer.tell(&telling, PartStatus::complete()).await;
        peer.send(Message::QueueRanking(3)).await;
        peer.send(Message::AcceptUpload).await;
        assert_eq!(peer.ranges().await, [0..1000]);
        peer.send(Message::OutOfParts).await;
        // It does not say that we are in its queue: so it is asked again.
        assert_eq!(peer.next().await, Message::StartUpload(Some(file)));
        peer.send(Message::AcceptUpload).await;
        assert_eq!(peer.ranges().await, [0..1000]);
        peer.send_range(file, 0..1000).await;
        peer.packet_or_end().await;
    })
    .await;
    let session = session.unwrap();
    until(&session, 0, true).await;
    assert_eq!(session.fetch(0..1000).await, Err(SourceError::Refused(0..1000)));
    assert!(!session.has(0) && session.held() == 1);
    assert_eq!(session.fetch(0..1000).await, Err(SourceError::Refused(0..1000)));
    until(&session, 0, true).await;
    assert_eq!(session.fetch(0..1000).await, Ok(content(0..1000)));
}

#[tokio::test]
async fn a_place_in_a_queue_outlives_the_connection() {
    let (rig, sample) = (rig(), sample(400_000));
    let file = sample.hash;
    let telling = Sample { what: sample.what.clone(), hash: file, hashes: Vec::new() };
    let bridge = rig.clients.endpoints()[0];
    let (hung_up, gone) = oneshot::channel();
    let (session, _script) = open(&rig, &sample, |mut peer| async move {
        peer.tell(&telling, PartStatus::complete()).await;
        peer.send(Message::QueueRanking(1)).await;
        drop(peer);
        hung_up.send(()).unwrap();
        let mut peer = Peer::connect(bridge).await;
        peer.send(Message::AcceptUpload).await;
        assert_eq!(peer.next().await, Message::FileStatusRequest(file));
        assert_eq!(peer.ranges().await, [7..1000]);
        peer.send_range(file, 7..1000).await;
        peer.packet_or_end().await;
    })
    .await;
    let session = session.unwrap();
    gone.await.unwrap();
    until(&session, 0, true).await;
    assert_eq!(session.fetch(7..1000).await, Ok(content(7..1000)));
}

#[tokio::test]
async fn who_sends_nonsense_is_left() {
    let bad_zlib = |file| Message::CompressedPart {
        file,
        start: 0,
        whole: 9,
        data: Bytes::from_static(b"not zlib!"),
    };
    let bomb = |file| {
        let zlib = deflate(&vec![0; 64 << 20]).unwrap();
        let whole = u32::try_from(zlib.len()).unwrap();
        Message::CompressedPart { file, start: 0, whole, data: zlib.into() }
    };
    let elsewhere =
        |file| Message::SendingPart { file, start: 1 << 20, data: Bytes::from(vec![0; 1 << 20]) };
    let makers: [(&dyn Fn(Hash) -> Message, usize, &str); 3] = [
        (&bad_zlib, 1, "damaged"),
        (&bomb, 1, "inflates to more"),
        (&elsewhere, 9, "not asked for"),
    ];
    for (make, times, expected) in makers {
        let (rig, sample) = (rig(), sample(400_000));
        let file = sample.hash;
        let telling = Sample { what: sample.what.clone(), hash: file, hashes: Vec::new() };
        let nonsense = make(file);
        let (session, _script) = open(&rig, &sample, move |mut peer| async move {
            peer.tell(&telling, PartStatus::complete()).await;
            peer.send(Message::AcceptUpload).await;
            peer.ranges().await;
            for _ in 0..times {
                peer.send(nonsense.clone()).await;
            }
            peer.packet_or_end().await;
        })
        .await;
        let session = session.unwrap();
        until(&session, 0, true).await;
        let error = timeout(SOON, session.fetch(0..BLOCK)).await.unwrap().unwrap_err();
        assert!(matches!(&error, SourceError::Protocol(why) if why.contains(expected)), "{error}");
    }
}

#[tokio::test]
async fn who_accepts_and_never_sends_is_given_up_and_who_never_accepts_is_waited_for() {
    let (rig, sample) = (rig(), sample(400_000));
    let file = sample.hash;
    let telling = Sample { what: sample.what.clone(), hash: file, hashes: Vec::new() };
    let (go, gone) = oneshot::channel::<()>();
    let (session, script) = open(&rig, &sample, |mut peer| async move {
        peer.tell(&telling, PartStatus::complete()).await;
        gone.await.unwrap();
        peer.send(Message::AcceptUpload).await;
        assert_eq!(peer.ranges().await, [0..BLOCK]);
        let mut last = Message::FileStatusRequest(file);
        while last == Message::FileStatusRequest(file) {
            last = peer.next().await;
        }
        // With the slot it may forget what it was asked for.
        assert_eq!(last, Message::CancelTransfer);
    })
    .await;
    let session = session.unwrap();
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(100)).await;
    assert!(!session.has(0) && session.held() == 1);
    tokio::time::resume();
    go.send(()).unwrap();
    until(&session, 0, true).await;
    tokio::time::pause();
    let error = session.fetch(0..BLOCK).await.unwrap_err();
    assert_eq!(error, SourceError::TimedOut(Duration::from_secs(60)));
    let ended = Instant::now();
    timeout(SOON, script).await.unwrap().unwrap();
    assert!(ended.elapsed() < Duration::from_secs(9), "nothing more is waited for");
    assert_eq!(silent(&rig), 1);
}

#[tokio::test]
async fn who_greets_and_tells_nothing_is_given_up() {
    let (rig, sample) = (rig(), sample(1000));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let opened = tokio::spawn({
        let (leecher, what) = (rig.leecher.clone(), sample.what.clone());
        async move { leecher.open(what, at).await.err() }
    });
    let mut peer = Peer::accept(&listener).await;
    peer.packet().await;
    tokio::time::pause();
    assert_eq!(opened.await.unwrap(), Some(SourceError::TimedOut(Duration::from_secs(30))));
    assert_eq!(silent(&rig), 1);
}

#[tokio::test]
async fn who_is_silent_on_a_new_connection_is_given_up() {
    let (rig, sample) = (rig(), sample(400_000));
    let telling = Sample { what: sample.what.clone(), hash: sample.hash, hashes: Vec::new() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let script = tokio::spawn(async move {
        let mut peer = Peer::accept(&listener).await;
        peer.tell(&telling, PartStatus::complete()).await;
        peer.send(Message::QueueRanking(1)).await;
        drop(peer);
        let mut peer = Peer::accept(&listener).await;
        assert!(matches!(peer.next().await, Message::FileNameRequest { .. }));
        // Nothing is answered.
        while peer.packet_or_end().await.is_some() {}
    });
    let session = rig.leecher.open(sample.what.clone(), at).await.unwrap();
    tokio::time::pause();
    assert_eq!(ended(&session).await, SourceError::TimedOut(Duration::from_secs(30)));
    assert_eq!(silent(&rig), 1);
    drop((session, rig));
    timeout(SOON, script).await.unwrap().unwrap();
}

#[tokio::test]
async fn large_files_are_asked_for_in_64_bits() {
    let size = (4 << 30) + 3 * PART;
    let sample = named(size, [5; 16], Vec::new(), None);
    let rig = rig();
    let file = sample.hash;
    let (session, _script) = open(&rig, &sample, |mut peer| async move {
        peer.next().await;
        peer.send(Message::FileStatus { file, parts: PartStatus::complete() }).await;
        while !matches!(peer.next().await, Message::StartUpload(_)) {}
        peer.send(Message::AcceptUpload).await;
        let packet = peer.packet().await;
        assert_eq!((packet.protocol.byte(), packet.opcode), (0xC5, 0xA3));
        let Message::RequestParts { ranges, .. } = decode(&packet).unwrap() else { panic!() };
        for range in ranges {
            peer.send_range(file, range).await;
        }
        let packet = peer.packet().await;
        assert_eq!((packet.protocol.byte(), packet.opcode), (0xE3, 0x47));
        peer.send_range(file, 10..20).await;
        peer.packet_or_end().await;
    })
    .await;
    let session = session.unwrap();
    until(&session, 440, true).await;
    let range = size - 200_000..size - 5;
    assert_eq!(session.fetch(range.clone()).await, Ok(content(range)));
    assert_eq!(session.fetch(10..20).await, Ok(content(10..20)));
}

#[tokio::test]
async fn sources_are_noted_and_wrong_blocks_are_found() {
    let (rig, sample) = (rig(), sample(SIZE));
    let file = sample.hash;
    let root = Ed2kFile::of(&sample.what).unwrap().aich.unwrap();
    let telling = Sample { what: sample.what.clone(), hash: file, hashes: sample.hashes.clone() };
    let (session, _script) = open(&rig, &sample, |mut peer| async move {
        peer.tell(&telling, PartStatus::complete()).await;
        let server = "198.51.100.1:4661".parse().unwrap();
        let record = |id| SourceRecord { id, port: 4662, server, user: Some([3; 16]), crypt: None };
        let sources = vec![record(0xC633_6403), record(77)];
        peer.send(Message::Sources { file, version: None, sources }).await;
        let request = Message::AichRequest { file, part: 1, root };
        assert_eq!(peer.next().await, request);
        peer.send(Message::AichAnswer { file, recovery: None }).await;
        assert_eq!(peer.next().await, request);
        let parts: Vec<_> = [0..PART, PART..SIZE]
            .into_iter()
            .map(|part| aich::hash_blocks(&[content(part)]))
            .collect();
        let hashes: Vec<_> = (0..2)
            .map(|part| aich::hash_part(SIZE, part, &parts[part as usize]).unwrap())
            .collect();
        let recovery = aich::recovery(SIZE, 1, &hashes, &parts[1]).unwrap();
        peer.send(Message::AichAnswer { file, recovery: Some((1, root, recovery)) }).await;
        peer.packet_or_end().await;
    })
    .await;
    let session = session.unwrap();
    let mut bytes = content(PART..SIZE).to_vec();
    assert_eq!(session.locate(1, vec![Bytes::from(bytes.clone())]).await, None);
    bytes[BLOCK as usize] ^= 1;
    let wrong = session.locate(1, vec![Bytes::from(bytes)]).await;
    assert_eq!(wrong, Some(vec![PART + BLOCK..PART + 2 * BLOCK]));
    assert_eq!(rig.book.of(&file), ["198.51.100.3:4662".parse().unwrap()]);
}
