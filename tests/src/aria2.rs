//! aria2: a downloader without a session of its own. It ends when it has everything.

use std::net::IpAddr;
use std::path::Path;

use crate::{Launch, Limits, Program, Scene, What, free_port};

/// A running aria2.
#[derive(Debug)]
pub struct Aria2 {
    /// The program.
    pub program: Program,
    /// Where it listens for peers.
    pub port: u16,
}

impl Aria2 {
    /// Shares what lies whole in `dir`, at this address.
    #[must_use]
    pub fn seed(scene: &Scene, what: &What, dir: &Path, limits: Limits, at: IpAddr) -> Self {
        let port = free_port();
        let program = common(scene, "aria2-seed", (at, port), dir, limits)
            .args(["--seed-ratio=0.0", "--check-integrity=true", "--bt-seed-unverified=true"])
            .arg(what.argument())
            .start(scene);
        Self { program, port }
    }

    /// Downloads into `dir`, and ends.
    #[must_use]
    pub fn leech(scene: &Scene, what: &What, dir: &Path, limits: Limits, at: IpAddr) -> Self {
        let port = free_port();
        let program = common(scene, "aria2-leech", (at, port), dir, limits)
            .arg("--seed-time=0")
            .arg(what.argument())
            .start(scene);
        Self { program, port }
    }

    /// Waits until it has everything.
    pub async fn finished(&mut self, seconds: u64) {
        let status = self.program.ended(seconds).await;
        assert!(status.success(), "aria2: {status}");
    }
}

/// What every aria2 here has: no other way to peers than the tracker, and a short interval between announces. Without a DHT it has no
/// UDP socket and cannot ask UDP trackers; its DHT here knows of nobody.
fn common(
    scene: &Scene,
    label: &str,
    (at, port): (IpAddr, u16),
    dir: &Path,
    limits: Limits,
) -> Launch {
    Launch::new(label, "aria2c")
        .args([
            "--no-conf=true",
            "--enable-dht=true",
            "--enable-dht6=false",
            "--bt-enable-lpd=false",
        ])
        .args(["--enable-peer-exchange=false", "--file-allocation=none"])
        .arg(format!("--disable-ipv6={}", at.is_ipv4()))
        .arg(format!("--interface={at}"))
        .args([
            "--bt-max-peers=0",
            "--allow-overwrite=true",
            "--bt-tracker-interval=1",
            "--summary-interval=1",
        ])
        .args([
            "--follow-torrent=mem",
            "--auto-save-interval=1",
            "--no-netrc=true",
            "--bt-save-metadata=false",
        ])
        .arg(format!("--log={}", scene.log(label).display()))
        .arg("--log-level=info")
        .arg(format!("--max-upload-limit={}", limits.up))
        .arg(format!("--max-download-limit={}", limits.down))
        .arg(format!("--listen-port={port}"))
        .arg(format!("--dir={}", dir.display()))
        .arg(format!("--dht-listen-port={}", free_port()))
        .arg(format!("--dht-file-path={}", scene.file(&format!("dht-{port}")).display()))
}
