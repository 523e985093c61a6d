//! Several files of one client.

#![allow(clippy::single_range_in_vec_init, reason = "ranges are what is asked for")]

use std::collections::HashSet;

use tokio::net::TcpListener;

use super::{
    testing::{Peer, SOON, Sample, content, open, rig, sample, until},
    *,
};
use crate::ed2k::wire::transfer::{Message, PartStatus, decode};

#[tokio::test]
async fn the_next_file_of_a_client_has_the_slot_of_the_last() {
    let (rig, first, second) = (rig(), sample(1000), sample(2000));
    let hashes = [first.hash, second.hash];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let script = tokio::spawn(async move {
        let mut peer = Peer::accept(&listener).await;
        let (mut slots, mut answered) = (0, HashSet::new());
        while let Some(packet) = peer.packet_or_end().await {
            match decode(&packet).unwrap() {
                Message::FileStatusRequest(file) => {
                    peer.send(Message::FileStatus { file, parts: PartStatus::complete() }).await;
                }
                Message::StartUpload(_) => {
                    slots += 1;
                    peer.send(Message::AcceptUpload).await;
                }
                Message::RequestParts { file, ranges } => {
                    // As eMule does: no range is answered twice in a slot, of whichever file.
                    for range in ranges.into_iter().filter(|range| !range.is_empty()) {
                        if answered.insert(range.clone()) {
                            peer.send_range(file, range).await;
                        }
                    }
                }
                Message::CancelTransfer => panic!("the slot was given back"),
                _ => {}
            }
        }
        slots
    });
    for sample in [&first, &second, &first] {
        let session = rig.leecher.open(sample.what.clone(), at).await.unwrap();
        until(&session, 0, true).await;
        assert_eq!(session.fetch(0..1000).await, Ok(content(0..1000)), "{hashes:?}");
    }
    drop(rig);
    assert_eq!(timeout(SOON, script).await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn two_files_of_one_client_take_turns() {
    let (rig, first, second) = (rig(), sample(400_000), sample(500_000));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let hashes = [first.hash, second.hash];
    let script = tokio::spawn(async move {
        let mut peer = Peer::accept(&listener).await;
        let mut named = None;
        let mut switches = 0;
        let mut slots = 0;
        loop {
            let Some(packet) = peer.packet_or_end().await else { return (switches, slots) };
            match decode(&packet).unwrap() {
                Message::FileNameRequest { file, .. } => named = Some(file),
                Message::FileStatusRequest(file) => {
                    switches += u32::from(named != Some(file));
                    named = Some(file);
                    peer.send(Message::FileStatus { file, parts: PartStatus::complete() }).await;
                }
                Message::StartUpload(file) => {
                    slots += 1;
                    named = file;
                    peer.send(Message::AcceptUpload).await;
                }
                Message::RequestParts { file, ranges } => {
                    assert_eq!(named, Some(file), "a request for a file that is not named");
                    for range in ranges {
                        peer.send_range(file, range).await;
                    }
                }
                _ => {}
            }
        }
    });
    let fetch_all = |sample: Sample| {
        let leecher = rig.leecher.clone();
        async move {
            let session = leecher.open(sample.what.clone(), at).await.unwrap();
            until(&session, 0, true).await;
            let length = sample.what.length;
            let ranges = (0..length).step_by(50_000).map(|at| at..(at + 50_000).min(length));
            let fetches = ranges.map(|range| {
                let session = session.clone();
                async move { assert_eq!(session.fetch(range.clone()).await, Ok(content(range))) }
            });
            futures::future::join_all(fetches).await;
        }
    };
    let both = async { tokio::join!(fetch_all(first), fetch_all(second)) };
    timeout(SOON, both).await.unwrap();
    drop(rig);
    let (switches, slots) = timeout(SOON, script).await.unwrap().unwrap();
    assert!(switches >= 1 && slots <= 2, "{switches} switches between {hashes:?}, {slots} slots");
}

#[tokio::test]
async fn a_session_that_is_dropped_gives_its_turn_on_when_its_ranges_have_come() {
    let (rig, first, second) = (rig(), sample(400_000), sample(500_000));
    let (file, next) = (first.hash, second.hash);
    let telling = Sample { what: first.what.clone(), hash: file, hashes: Vec::new() };
    let ((asked, is_asked), (go, gone)) = (oneshot::channel(), oneshot::channel::<()>());
    let (session, script) = open(&rig, &first, |mut peer| async move {
        let at = peer.stream.local_addr().unwrap();
        peer.tell(&telling, PartStatus::complete()).await;
        peer.send(Message::AcceptUpload).await;
        assert_eq!(peer.ranges().await, [0..1000]);
        asked.send(at).unwrap();
        gone.await.unwrap();
        peer.send_range(file, 0..1000).await;
        assert!(matches!(peer.next().await, Message::FileNameRequest { file, .. } if file == next));
        assert_eq!(peer.next().await, Message::FileStatusRequest(next));
        peer.send(Message::FileStatus { file: next, parts: PartStatus::complete() }).await;
        assert!(matches!(peer.next().await, Message::SourcesRequest { .. }));
        assert_eq!(peer.ranges().await, [0..2000]);
        peer.send_range(next, 0..2000).await;
    })
    .await;
    let session = session.unwrap();
    until(&session, 0, true).await;
    let fetch = tokio::spawn({
        let session = session.clone();
        async move { session.fetch(0..1000).await }
    });
    let at = timeout(SOON, is_asked).await.unwrap().unwrap();
    fetch.abort();
    assert!(fetch.await.unwrap_err().is_cancelled());
    let (mut changes, waste) = (session.changes(), session.waste());
    drop(session);
    let end = async { while changes.changed().await.is_ok() {} };
    timeout(SOON, end).await.unwrap();

    let opened = tokio::spawn({
        let (leecher, what) = (rig.leecher.clone(), second.what.clone());
        async move { leecher.open(what, at).await }
    });
    let link = rig.clients.link_to(at).await.unwrap();
    let courtesy = rig.leecher.courtesies.of(link.client().key(), Instant::now());
    let waits = async {
        while !courtesy.is_wanted() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, waits).await.expect("the turn is not free");
    go.send(()).unwrap();
    let session = timeout(SOON, opened).await.unwrap().unwrap().unwrap();
    until(&session, 0, true).await;
    assert_eq!(session.fetch(0..2000).await, Ok(content(0..2000)));
    assert_eq!(waste.total(), 1000);
    timeout(SOON, script).await.unwrap().unwrap();
}
