//! Killed twice in mid-transfer between eD2k and BitTorrent, and started again: nothing acknowledged is lost, nothing is counted twice,
//! and the transfer goes on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;

use p2pbridge_tests::{
    Both, Bridge, Client, Json, Limits, Mule, Scene, check_chains, crossing, ed2k_server,
    eventually, fill, in_namespace, mib, public, record_id, sha256_file, sharing, sum, usage,
};

const PART: u64 = 9_728_000;
const SIZE: u64 = 6 * PART + 555;
const PER_SECOND: u64 = mib(8);
/// Served when it is killed: in the first part, and in the middle.
const KILLS: [u64; 2] = [mib(4), mib(24)];

/// Kills the bridge when `goal` bytes are served, starts it again, and checks that what it had acknowledged is there.
async fn killed(scene: &Scene, mut bridge: Bridge, goal: u64) -> (Bridge, Vec<Json>) {
    let seen = eventually("records of a part of the transfer", 40, async || {
        let records = usage(&bridge).await;
        (sum(&records, "bytes_served") >= goal).then_some(records)
    })
    .await;
    assert!(sum(&seen, "bytes_served") < SIZE, "the transfer was over too soon");
    let (config, bindings) =
        (bridge.config.clone(), bridge.json(["names", "list", "--json"]).await);
    bridge.kill9().await;
    let bridge = Bridge::start(scene, &config).await;
    let after = usage(&bridge).await;
    assert_eq!(after.get(..seen.len()), Some(&seen[..]), "what was acknowledged is there");
    assert_eq!(bridge.json(["names", "list", "--json"]).await, bindings);
    (bridge, seen)
}

/// The ledger, when the rest has come too: whole, nothing twice, and what the spool held was not fetched again.
async fn check(bridge: &Bridge, seen: &[Json], (from, to): (&str, &str)) {
    let (before, held) = (sum(seen, "bytes_served"), sum(seen, "bytes_verified"));
    let all = eventually("the ledger having the rest", 15, async || {
        let records = usage(bridge).await;
        let served = sum(&records, "bytes_served");
        // What was counted after the last record before a kill was never acknowledged: at most the windows of two seconds.
        let unsaid = KILLS.len() as u64 * 2 * (PER_SECOND + mib(1));
        (served > before && served + unsaid >= SIZE).then_some(records)
    })
    .await;
    check_chains(&all);
    let verified = sum(&all, "bytes_verified");
    assert!(verified <= SIZE, "{verified} bytes verified in records, of {SIZE}");
    let epochs: BTreeSet<u64> = all.iter().map(|record| record_id(record).2).collect();
    assert_eq!(epochs.len(), KILLS.len() + 1, "each start has an epoch of its own: {epochs:?}");
    let all = bridge.json(["overlays", "--json"]).await;
    let again = crossing(&all, from, to).get("fetched_bytes").number();
    assert!(again + held <= SIZE + mib(2), "{again} fetched, though {held} were held");
}

in_namespace! {
    async fn killed_while_amuled_is_the_source() {
        let scene = Scene::new();
        let alice = Mule::new(&scene, "alice", public(3)).limited(Limits::up(PER_SECOND));
        let source = alice.incoming().join("film.bin");
        fill(&source, SIZE, 81);
        let both = Both::new(&scene, &source).await;
        alice.prepare(&scene, 1).await;
        let (other, server) = ed2k_server(&scene).await;
        let mut bridge = both.presence(&scene, server).await;
        let _alice = sharing(&scene, &alice, (&other, server), 1).await;
        both.bind(&bridge).await;
        let dir = scene.dir("leech");
        let mut leecher = both.leech(&scene, Client::LibTorrent, &dir, Limits::default()).await;
        let mut seen = Vec::new();
        for goal in KILLS {
            (bridge, seen) = killed(&scene, bridge, goal).await;
        }
        leecher.finished(90).await;
        assert_eq!(sha256_file(&dir.join("film.bin")), sha256_file(&source));
        check(&bridge, &seen, ("ed", "bt")).await;
    }

    async fn killed_while_amuled_downloads() {
        let scene = Scene::new();
        let source = scene.dir("source").join("film.bin");
        fill(&source, SIZE, 82);
        let both = Both::new(&scene, &source).await;
        let _seeder = both.seed(&scene, Client::Aria2, Limits::default()).await;
        let (mut bridge, server) = both.front(&scene).await;
        both.bind(&bridge).await;
        let bob = Mule::new(&scene, "bob", public(4)).limited(Limits::down(PER_SECOND));
        let mut bob = bob.start(&scene, Some(server)).await;
        bob.logged_in().await;
        bob.download(&both.link()).await;
        let mut seen = Vec::new();
        for goal in KILLS {
            (bridge, seen) = killed(&scene, bridge, goal).await;
            // It asks a source that it has lost again after twenty minutes, or when it is started anew.
            let mule = bob.mule.clone();
            bob.stop().await;
            bob = mule.start(&scene, Some(server)).await;
        }
        let got = bob.finished("film.bin", 90).await;
        assert_eq!(sha256_file(&got), sha256_file(&source));
        check(&bridge, &seen, ("bt", "ed")).await;
    }
}
