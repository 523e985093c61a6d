//! What has passed is named by every rule, by the bytes that were verified.

use p2pbridge_nametable::Content;
use p2pbridge_proto::Scheme;

use super::*;

/// The content, when all its names are there.
async fn proven(house: &House, of: &Description) -> Content {
    soon(|| {
        let content = house.table.get(&of.names[0]).unwrap().files[0].content;
        let known = house.table.content(&content);
        known.filter(|known| known.of_scheme(Scheme::Sha256).count() > 0)
    })
    .await
}

fn check(known: &Content, content: &Bytes, by: &Description) {
    let sha256 = Name::new(Scheme::Sha256, &Sha256::digest(content)).unwrap();
    let of_bytes = known.names.iter().filter(|known| known.name.scheme().is_of_bytes());
    let rules = [Scheme::Ed2k, Scheme::Tth, Scheme::PiecesRoot, Scheme::CidDagPb, Scheme::Ppspp];
    assert!(rules.iter().all(|scheme| known.of_scheme(*scheme).count() > 0));
    for name in of_bytes {
        assert_eq!(name.evidence, Evidence::Verified);
        assert_eq!(*name.stated_by, *format!("relay: bytes verified by {}", by.names[0]));
    }
    assert_eq!(known.known(&sha256).map(|known| known.evidence), Some(Evidence::Verified));
    assert_eq!(known.length, Some(content.len() as u64));
}

#[tokio::test]
async fn what_has_passed_has_all_its_names() {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes_of(2_300_001);
    let (a, b) = (description(1, 1 << 16, &content), description(2, 300_000, &content));
    let setup = Setup {
        a: &a,
        b: &b,
        peers: vec![(1, content.clone()), (2, content.clone())],
        fickle: None,
        folder: folder.path(),
        table: table(),
        spool_bound: 1 << 30,
    };
    let house = house(setup).await;
    assert!(house.download(&b).await == content);
    check(&proven(&house, &b).await, &content, &b);
    assert_eq!(house.relay.proofs().proven, 1);
    house.end().await;
}

#[tokio::test]
async fn what_the_spool_kept_counts_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes_of(5_000_000);
    let (a, b) = (description(1, 1 << 16, &content), description(2, 1 << 18, &content));
    let table = table();
    let setup = || Setup {
        a: &a,
        b: &b,
        peers: vec![(1, content.clone())],
        fickle: None,
        folder: folder.path(),
        table: table.clone(),
        spool_bound: 1 << 30,
    };
    // A peer that takes nothing is served no more than what is read ahead.
    let first = house(setup()).await;
    let reader = first.reader(&b.names[0]).await;
    let peer = reader.attend(SocketAddr::from(([127, 0, 0, 1], 1)));
    peer.holds(Bits::none(20));
    until(|| first.relay.spooled() > 0).await;
    first.end().await;
    let id = table.get(&b.names[0]).unwrap().files[0].content;
    assert!(table.content(&id).unwrap().of_scheme(Scheme::Sha256).count() == 0);

    let second = house(setup()).await;
    assert!(second.download(&b).await == content);
    check(&proven(&second, &b).await, &content, &b);
    assert!(second.sent.load(Ordering::SeqCst) < content.len() as u64);
    second.end().await;
}

#[tokio::test]
async fn long_chunks_in_random_order_are_proven_too() {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes_of(40_000_001);
    let (a, b) = (description(1, 1 << 18, &content), description(2, 9_000_000, &content));
    let setup = Setup {
        a: &a,
        b: &b,
        peers: vec![(1, content.clone())],
        fickle: None,
        folder: folder.path(),
        table: table(),
        spool_bound: 1 << 30,
    };
    let house = house(setup).await;
    assert!(house.pull(&b, &pull::shuffled(5, 7), 184_320).await == content);
    check(&proven(&house, &b).await, &content, &b);
    house.end().await;
}
