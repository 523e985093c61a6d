//! The queue, the turns, and what is brought for who waits.

use super::*;

#[tokio::test]
async fn a_part_that_is_not_there_is_brought_and_who_waited_in_vain_is_served_later() {
    let memory = Memory::new(PART as usize + 100, false);
    let serving = Serving::start(&memory, 1);
    let mut asker = Asker::new(1, &memory, &serving).await;
    asker.start().await;
    asker.ask_for(PART..PART + 100).await;
    memory.until(|log| log.prepared == [1]).await;
    memory.availability.add(1);
    assert_eq!(asker.take(PART..PART + 100).await, memory.data[PART as usize..]);
    memory.failing.store(1, Ordering::Relaxed);
    asker.ask_for(0..1000).await;
    assert_eq!(asker.hear().await, Message::OutOfParts);
    memory.until(|log| log.prepared == [1, 0, 0]).await;
    // Another one gets the slot meanwhile, and gives it back.
    let mut other = Asker::new(2, &memory, &serving).await;
    other.start().await;
    other.say(Message::CancelTransfer).await;
    memory.availability.add(0);
    assert_eq!(asker.hear().await, Message::AcceptUpload);
    asker.ask_for(0..1000).await;
    assert_eq!(asker.take(0..1000).await, memory.data[..1000]);
    serving.stop().await;
}

#[tokio::test]
async fn who_waited_in_vain_and_asks_again_has_its_turn() {
    let memory = Memory::new(1000, false);
    memory.failing.store(usize::MAX, Ordering::Relaxed);
    let serving = Serving::start(&memory, 1);
    let mut asker = Asker::new(1, &memory, &serving).await;
    for _ in 0..3 {
        asker.start().await;
        asker.ask_for(0..1000).await;
        assert_eq!(asker.hear().await, Message::OutOfParts);
    }
    serving.stop().await;
}

#[tokio::test]
async fn who_waits_is_told_its_rank_and_called_when_its_turn_comes() {
    let memory = Memory::whole(100_000, false);
    let serving = Serving::start(&memory, 1);
    let mut first = Asker::new(1, &memory, &serving).await;
    first.start().await;
    let mut second = Asker::new(2, &memory, &serving).await;
    let mut third = Asker::new(3, &memory, &serving).await;
    for (asker, rank) in [(&mut second, 1), (&mut third, 2)] {
        asker.say(Message::StartUpload(Some(memory.file))).await;
        assert_eq!(asker.hear().await, Message::QueueRanking(rank));
    }
    // Without a slot nothing is given.
    third.ask_for(0..1000).await;
    second.download.link.close("a test");
    assert!(matches!(second.heard().await, Incoming::Lost(_)));
    first.say(Message::CancelTransfer).await;
    match second.heard().await {
        Incoming::Linked(link) => second.download.link = link,
        other => panic!("{other:?}"),
    }
    assert_eq!(second.hear().await, Message::AcceptUpload);
    second.ask_for(0..1000).await;
    assert_eq!(second.take(0..1000).await, memory.data[..1000]);
    second.say(Message::CancelTransfer).await;
    assert_eq!(third.hear().await, Message::AcceptUpload);
    serving.stop().await;
}

#[tokio::test]
async fn a_share_ends_a_turn_behind_all_that_was_asked_for() {
    let memory = Memory::whole(3 * PART as usize, false);
    let serving = Serving::start(&memory, 1);
    let mut first = Asker::new(1, &memory, &serving).await;
    let mut second = Asker::new(2, &memory, &serving).await;
    first.start().await;
    second.say(Message::StartUpload(Some(memory.file))).await;
    assert_eq!(second.hear().await, Message::QueueRanking(1));
    let block = |at: u64| at * BLOCK..(at + 1) * BLOCK;
    let mut at = 0;
    first.ask(&[block(0), block(1)]).await;
    loop {
        first.ask_for(block(at + 2)).await;
        first.take(block(at)).await;
        at += 1;
        if *serving.seeder.queue.seat_of(first_key(&serving, &first)).unwrap().standing.borrow()
            == queue::Standing::Waiting
        {
            break;
        }
    }
    // Everything that was read is given before the word.
    let mut more = at * BLOCK;
    loop {
        match first.hear().await {
            Message::SendingPart { start, data, .. } => {
                assert_eq!(start, more);
                more += data.len() as u64;
            }
            Message::OutOfParts => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(more.is_multiple_of(BLOCK) && more > 2 * PART, "{more}");
    assert_eq!(second.hear().await, Message::AcceptUpload);
    serving.stop().await;
}

fn first_key(serving: &Serving, asker: &Asker) -> Key {
    let hash = asker.download.own_hash();
    Key { hash, ip: serving.at.ip() }
}

/// Fetches the whole content, part by part, whenever there is a slot.
async fn fetched(memory: Arc<Memory>, at: SocketAddr, mark: u8) -> Vec<u8> {
    let (clients, stop) = (hub(mark), CancellationToken::new());
    let serving = tokio::spawn(clients.clone().serve(Arc::new(Nothing), stop.clone()));
    let leecher = Ed2kLeecher::new(clients, None);
    let session = soon(leecher.open(memory.description.clone(), at)).await.unwrap();
    let mut changes = session.changes();
    let (length, mut got) = (memory.data.len() as u64, Vec::new());
    while (got.len() as u64) < length {
        let start = got.len() as u64;
        let end = length.min(start + 3 * BLOCK).min((start / PART + 1) * PART);
        match session.fetch(start..end).await {
            Ok(bytes) => got.extend_from_slice(&bytes),
            Err(SourceError::Refused(_)) => drop(changes.changed().await),
            Err(error) => panic!("{error}"),
        }
    }
    drop(session);
    stop.cancel();
    soon(serving).await.unwrap();
    got
}

#[tokio::test]
async fn bridges_download_from_a_bridge_in_turn() {
    for shrinks in [false, true] {
        let memory = Memory::whole(3 * PART as usize + 77, shrinks);
        let serving = Serving::start(&memory, 1);
        let one = tokio::spawn(fetched(memory.clone(), serving.at, 1));
        let other = tokio::spawn(fetched(memory.clone(), serving.at, 2));
        for got in [soon(one).await.unwrap(), soon(other).await.unwrap()] {
            assert!(got == memory.data, "other bytes");
        }
        let log = memory.until(|log| log.bytes() >= 2 * memory.data.len() as u64).await;
        assert!(log.bytes() <= 2 * memory.data.len() as u64 + 20 * BLOCK, "{}", log.bytes());
        serving.stop().await;
    }
}

#[tokio::test]
async fn hashes_that_are_not_known_are_wanted_by_who_asks_for_them() {
    let memory = Memory::untold(PART as usize + 1);
    memory.failing.store(1, Ordering::Relaxed);
    let serving = Serving::start(&memory, 2);
    let mut asker = Asker::new(1, &memory, &serving).await;
    asker.say(Message::FileStatusRequest(memory.file)).await;
    asker.hear().await;
    asker.say(Message::HashSetRequest(memory.file)).await;
    memory.until(|log| log.prepared == [0, 0]).await;
    let parts = memory.data.chunks(PART as usize);
    let hashes: Vec<Hash> = parts.map(|part| Md4::digest(part).into()).collect();
    let native = Ed2kFile::of(&memory.description).unwrap();
    assert!(native.learn_hashes(&hashes));
    memory.availability.add(0);
    assert_eq!(asker.hear().await, Message::HashSet { file: memory.file, hashes });
    serving.stop().await;
}

#[tokio::test]
async fn what_is_put_away_is_not_waited_for() {
    let memory = Memory::whole(1000, false);
    let serving = Serving::start(&memory, 1);
    let asker = Asker::new(1, &memory, &serving).await;
    let mut session = Session::new(serving.seeder.clone(), asker.download.link.clone());
    let file = memory.file;
    for _ in 0..100 {
        session.on_message(Message::FileStatusRequest(file)).await.unwrap();
        session.on_message(Message::EndOfDownload(file)).await.unwrap();
    }
    session.on_message(Message::FileStatusRequest(file)).await.unwrap();
    assert_eq!(session.watched(), 1);
    drop(session);
    serving.stop().await;
}
