//! What a bridge in front tells amuled of other servers, and of itself to an amuled that is logged in elsewhere.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::net::SocketAddr;

use p2pbridge_tests::{
    Amule, Bridge, Config, Ed2kOverlay, Mule, Scene, ed2k_server, eventually, fill, in_namespace,
    mib, public, sharing,
};

/// An amuled that shares one file at this server.
async fn shares(scene: &Scene, mule: &Mule, at: (&Bridge, SocketAddr), seed: u64) -> Amule {
    fill(&mule.incoming().join("film.bin"), mib(1), seed);
    mule.prepare(scene, 1).await;
    sharing(scene, mule, at, 1).await
}

in_namespace! {
    async fn a_list_of_servers_and_what_each_says_of_itself() {
        let scene = Scene::new();
        let (other, elsewhere) = ed2k_server(&scene).await;
        let nobody = SocketAddr::from((public(9), 4242));
        let mut overlay = Ed2kOverlay::front("ed", public(2));
        overlay.servers = vec![elsewhere, nobody];
        let server = overlay.server();
        let bridge = Bridge::start(&scene, &Config::empty(&scene).with_ed2k(overlay)).await;
        let _bob = shares(&scene, &Mule::new(&scene, "bob", public(4)), (&other, elsewhere), 71).await;
        let mule = Mule::new(&scene, "alice", public(3)).learning();
        let alice = shares(&scene, &mule, (&bridge, server), 72).await;
        assert!(alice.logged_in().await);
        // It knows of one server only; the list comes over TCP, and the names of those who are there over UDP.
        eventually("the other servers in amuled's list, one by its name", 60, async || {
            let said = alice.tell("show servers").await;
            let line = |at: SocketAddr| said.lines().find(|line| line.contains(&format!("[{at}]")));
            (line(nobody).is_some() && line(elsewhere)?.contains("P2P-Bridge")).then_some(())
        })
        .await;
        alice.stop().await;
        let known = mule.servers();
        let at = |at| known.iter().find(|known| known.at == Some(at)).unwrap();
        assert_eq!(known.len(), 3, "{known:?}");
        assert_eq!((at(nobody).max_users, at(nobody).users), (0, 0), "{known:?}");
        for there in [at(server), at(elsewhere)] {
            assert_eq!((there.users, there.files), (1, 1), "{known:?}");
            assert_eq!(there.name, "P2P-Bridge");
            assert_eq!(there.description, "crosses over");
            assert!(there.version.starts_with("P2P-Bridge "), "{known:?}");
            assert!(there.max_users > 0 && there.soft_files > 0, "{known:?}");
        }
        // Where it was never logged in it has learned all of this over UDP.
        let all = other.json(["overlays", "--json"]).await;
        let counts = all.get("overlays").find("id", "server").unwrap().get("tracker_server");
        assert_eq!(counts.get("sessions").number(), 1);
    }
}
