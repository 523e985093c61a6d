//! Proofs of blocks.

use super::*;

#[tokio::test]
async fn hashes_of_blocks_are_made_to_the_end_and_once() {
    let memory = Memory::whole(PART as usize + 1000, false);
    let file = Ed2kFile::of(&memory.description).unwrap();
    let trees = Trees::new(TaskTracker::new(), CancellationToken::new());
    let recovery = || {
        let reader = Arc::new(Reader(memory.clone()));
        trees.clone().recovery(reader, file.clone(), 1, file.aich.unwrap())
    };
    // The first one who asks goes at once.
    assert!(recovery().now_or_never().is_none());
    assert!(soon(recovery()).await.is_some() && soon(recovery()).await.is_some());
    assert_eq!(memory.reads.load(Ordering::Relaxed), 2 + 2);
}

#[tokio::test]
async fn the_blocks_of_a_part_are_proven_to_who_trusts_the_root() {
    let memory = Memory::whole(PART as usize + 400_000, false);
    let serving = Serving::start(&memory, 2);
    let mut asker = Asker::new(1, &memory, &serving).await;
    let file = memory.file;
    asker.say(Message::AichRootRequest(file)).await;
    let root = match asker.hear().await {
        Message::AichRoot { root, .. } => root,
        other => panic!("{other:?}"),
    };
    // Who has got nothing cannot have got a corrupt part.
    asker.say(Message::AichRequest { file, part: 0, root }).await;
    assert_eq!(asker.hear().await, Message::AichAnswer { file, recovery: None });
    asker.start().await;
    asker.ask_for(0..100).await;
    asker.take(0..100).await;
    assert_eq!(memory.reads.load(Ordering::Relaxed), 1);
    for part in [1, 0] {
        asker.say(Message::AichRequest { file, part, root }).await;
        let recovery = match asker.hear().await {
            Message::AichAnswer { recovery: Some((told, of, recovery)), .. } => {
                assert_eq!((told, of), (part, root));
                recovery
            }
            other => panic!("{other:?}"),
        };
        let size = memory.data.len() as u64;
        let blocks = prove(&root, size, part.into(), &recovery).unwrap();
        let start = usize::from(part) * PART as usize;
        let end = memory.data.len().min(start + PART as usize);
        assert!(wrong_runs(&blocks, &[memory.data.slice(start..end)]).is_empty());
    }
    for (part, root) in [(2, root), (0, [1; 20])] {
        asker.say(Message::AichRequest { file, part, root }).await;
        assert_eq!(asker.hear().await, Message::AichAnswer { file, recovery: None });
    }
    serving.stop().await;
}
