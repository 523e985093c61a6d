//! One file in a BitTorrent swarm and in eD2k.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::wait::eventually;
use crate::{
    Amule, Bridge, Client, Config, Ed2kOverlay, End, Limits, Make, Mule, OverlayConfig, Peer,
    Scene, Torrent, Tracker, TrackerKind, What, alcc_links, file_link, free_port, public, scrape,
};

/// The overlays' ids.
const BT: &str = "bt";
const ED: &str = "ed";

/// A file, its torrent with pieces of 256 KiB and the swarm's tracker, and its eD2k hash. Of a folder there is the torrent only.
#[derive(Debug)]
pub struct Both {
    /// Where the bytes are.
    pub path: PathBuf,
    /// Its bytes.
    pub length: u64,
    /// Its eD2k hash, as another program says it.
    pub hash: String,
    /// Its torrent.
    pub torrent: Torrent,
    /// The tracker of the swarm.
    pub tracker: Tracker,
    name: String,
}

impl Both {
    /// Makes the torrent and starts opentracker.
    pub async fn new(scene: &Scene, path: &Path) -> Self {
        Self::made(scene, path, Make::V1(18)).await
    }

    /// The same with a torrent of another kind.
    pub async fn made(scene: &Scene, path: &Path, how: Make) -> Self {
        let port = free_port();
        let (kind, name) = (TrackerKind::OpenHttp, file_name(path));
        let out = scene.file(&format!("{name}.torrent"));
        let torrent = Torrent::make(how, path, &name, &kind.url(port), &out).await;
        let tracker = Tracker::start(scene, kind, port, &torrent.tracker_hashes()).await;
        let (mut length, mut hash) = (0, String::new());
        if path.is_file() {
            length = path.metadata().expect("the file").len();
            hash = ed2k_hash(path).await;
        }
        Self { path: path.to_owned(), length, hash, torrent, tracker, name }
    }

    /// Its eD2k link: name, length and hash.
    #[must_use]
    pub fn link(&self) -> String {
        file_link(&self.name, self.length, &self.hash)
    }

    /// What the ledger calls it in BitTorrent.
    #[must_use]
    pub fn in_bittorrent(&self) -> End {
        (BT, &self.torrent).into()
    }

    /// What the ledger calls it in eD2k.
    #[must_use]
    pub fn in_ed2k(&self) -> End {
        let urns = vec![format!("urn:ed2k:{}", self.hash)];
        End { overlay: ED.to_owned(), urns, title: self.name.clone() }
    }

    /// A bridge between its swarm and an eD2k overlay, both ways, not started yet.
    #[must_use]
    pub fn config(&self, scene: &Scene, ed2k: Ed2kOverlay) -> Config {
        Config::empty(scene)
            .with_bittorrent(OverlayConfig::new(BT, &[self.tracker.url()]))
            .with_ed2k(ed2k)
            .with_route(ED, BT, "demo-1")
            .with_route(BT, ED, "demo-2")
    }

    /// Starts that bridge in front, at 198.51.100.2: it is the server.
    pub async fn front(&self, scene: &Scene) -> (Bridge, SocketAddr) {
        let overlay = Ed2kOverlay::front(ED, public(2));
        let server = overlay.server();
        (Bridge::start(scene, &self.config(scene, overlay)).await, server)
    }

    /// Starts that bridge in presence, at 198.51.100.2.
    pub async fn presence(&self, scene: &Scene, server: SocketAddr) -> Bridge {
        let overlay = Ed2kOverlay::presence(ED, public(2), server);
        Bridge::start(scene, &self.config(scene, overlay)).await
    }

    /// Tells the bridge that the torrent and the link are of the same bytes.
    pub async fn bind(&self, bridge: &Bridge) {
        let torrent = format!("{BT}={}", self.torrent.path.display());
        let link = format!("{ED}={}", self.link());
        bridge.must(["names", "bind", &torrent, &link]).await;
    }

    /// The same by a link that tells the hashes of the parts, as aMule's alcc writes it.
    pub async fn bind_with_hashes(&self, bridge: &Bridge) {
        let torrent = format!("{BT}={}", self.torrent.path.display());
        let link = format!("{ED}={}", alcc_links(std::slice::from_ref(&self.path)).await.remove(0));
        assert!(link.contains("|p="), "{link}");
        bridge.must(["names", "bind", &torrent, &link]).await;
    }

    /// Waits until the bridge has told its eD2k server of the file: amuled asks for sources once, and then after a quarter of an hour.
    pub async fn is_offered(&self, bridge: &Bridge) {
        let name = format!("urn:ed2k:{}", self.hash);
        eventually("the bridge's offer", 40, async || {
            let all = bridge.json(["overlays", "--json"]).await;
            let swarm = all.get("overlays").find("id", ED)?.get("swarms").find("name", &name)?;
            (swarm.get("announced").0 == true).then_some(())
        })
        .await;
    }

    /// Starts a seeder of the swarm, and waits until the tracker counts it.
    pub async fn seed(&self, scene: &Scene, client: Client, limits: Limits) -> Peer {
        let dir = self.path.parent().expect("a directory");
        let seeder = Peer::seed(client, scene, &What::from(&self.torrent), dir, limits).await;
        self.tracker.counts(&self.torrent.tracker_hash(), 1, 0, 20).await;
        seeder
    }

    /// Waits until somebody is in the swarm, and starts a leecher.
    pub async fn leech(&self, scene: &Scene, client: Client, dir: &Path, limits: Limits) -> Peer {
        eventually("the bridge in the swarm", 30, async || {
            let swarm = scrape(self.tracker.port, &self.torrent.tracker_hash()).await?;
            (swarm.seeders + swarm.leechers >= 1).then_some(())
        })
        .await;
        Peer::leech(client, scene, &What::from(&self.torrent), dir, limits).await
    }
}

/// A bridge that is an eD2k server at 198.51.100.1 and nothing else, and where clients log in.
pub async fn ed2k_server(scene: &Scene) -> (Bridge, SocketAddr) {
    let overlay = Ed2kOverlay::front("server", public(1));
    let server = overlay.server();
    (Bridge::start(scene, &Config::empty(scene).with_ed2k(overlay)).await, server)
}

/// Starts a prepared amuled with a server that a bridge is, and waits until its `files` files are offered there.
pub async fn sharing(
    scene: &Scene,
    mule: &Mule,
    (bridge, server): (&Bridge, SocketAddr),
    files: u64,
) -> Amule {
    let peers = async || {
        let overlays = bridge.json(["overlays", "--json"]).await.get("overlays").items();
        let counts = overlays.iter().filter(|it| it.get("mode").text() == "front");
        counts.map(|it| it.get("tracker_server").get("peers").number()).sum::<u64>()
    };
    let before = peers().await;
    let amule = mule.start(scene, Some(server)).await;
    // It may have missed the second after its start: the next time is a minute later.
    eventually("what amuled shares offered", 75, async || {
        (peers().await >= before + files).then_some(())
    })
    .await;
    amule
}

/// A file's eD2k hash, by aMule's alcc.
pub async fn ed2k_hash(path: &Path) -> String {
    let link = alcc_links(&[path.to_owned()]).await.remove(0);
    let hash = link.split('|').nth(4).map(str::to_lowercase);
    hash.unwrap_or_else(|| panic!("alcc: {link}"))
}

fn file_name(path: &Path) -> String {
    path.file_name().and_then(|name| name.to_str()).expect("a plain name").to_owned()
}
