//! Which ways lead to a name, and why.

use super::*;

#[tokio::test]
async fn each_way_says_how_well_it_serves_or_why_it_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let content = bytes_of(100_000);
    let (a, b) = (description(1, 1 << 16, &content), description(2, 1 << 15, &content));
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
    let ways = |of: &Description| {
        let (binding, others) = house.table.resolve(&of.names[0]).unwrap();
        house.relay.ways(&binding, &others, 100)
    };
    // The tracker answers.
    until(|| ways(&b)[0].refusal.is_none()).await;
    let to_b = ways(&b);
    assert_eq!(to_b.len(), 1);
    assert_eq!((&to_b[0].from, &to_b[0].to, to_b[0].name), (&id("a"), &id("b"), a.names[0]));
    let seeds = to_b[0].terms.iter().find(|term| term.what == "seeds").unwrap();
    // The peer that nobody can reach is known, too.
    assert_eq!(seeds.value, "3 peers known");
    assert_eq!(ways(&a)[0].refusal.as_deref(), Some("no route from b to a"));
    let (binding, others) = house.table.resolve(&b.names[0]).unwrap();
    assert!(house.relay.ways(&binding, &others, 0).is_empty());
    assert_eq!(house.relay.held_bytes(&binding), 0);
    assert!(house.download(&b).await == content);
    assert_eq!(house.relay.held_bytes(&binding), content.len() as u64);
    house.end().await;
}
