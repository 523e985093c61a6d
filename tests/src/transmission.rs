//! transmission-daemon, driven by transmission-remote.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use serde_json::json;

use crate::process::must;
use crate::wait::eventually;
use crate::{Launch, Limits, Program, Scene, What, free_port, run};

/// A running transmission-daemon.
#[derive(Debug)]
pub struct Transmission {
    /// The program.
    pub program: Program,
    /// Where it listens for peers.
    pub port: u16,
    rpc: String,
}

impl Transmission {
    /// Starts it and waits until it takes commands. It downloads into, and shares from, `dir`.
    pub async fn start(scene: &Scene, dir: &Path, limits: Limits, at: IpAddr) -> Self {
        let (port, rpc_port) = (free_port(), free_port());
        let home = scene.dir(&format!("transmission-{port}"));
        let kilobytes = |limit: u64| limit.div_ceil(1000);
        // Bound to an IPv4 address it asks trackers from there only.
        let (ip4, ip6) = match at {
            IpAddr::V4(ip) => (ip.to_string(), "::1".to_owned()),
            IpAddr::V6(ip) => ("0.0.0.0".to_owned(), ip.to_string()),
        };
        let settings = json!({
            "bind-address-ipv4": ip4,
            "bind-address-ipv6": ip6,
            "dht-enabled": false,
            "lpd-enabled": false,
            "pex-enabled": false,
            "utp-enabled": false,
            "port-forwarding-enabled": false,
            "download-dir": dir,
            "download-queue-enabled": false,
            "incomplete-dir-enabled": false,
            "peer-port": port,
            "preallocation": 0,
            "ratio-limit-enabled": false,
            "rpc-authentication-required": false,
            "rpc-bind-address": "127.0.0.1",
            "rpc-enabled": true,
            "rpc-host-whitelist-enabled": false,
            "rpc-port": rpc_port,
            "rpc-whitelist-enabled": false,
            "speed-limit-down": kilobytes(limits.down),
            "speed-limit-down-enabled": limits.down > 0,
            "speed-limit-up": kilobytes(limits.up),
            "speed-limit-up-enabled": limits.up > 0,
            "trash-original-torrent-files": false,
            "watch-dir-enabled": false,
        });
        fs::write(home.join("settings.json"), settings.to_string()).expect("settings");
        let program = Launch::new("transmission", "transmission-daemon")
            .args(["--foreground", "--log-info", "--config-dir"])
            .arg(&home)
            .start(scene);
        let mut this = Self { program, port, rpc: format!("127.0.0.1:{rpc_port}") };
        eventually("transmission taking commands", 20, async || {
            this.program.assert_runs();
            run(10, "transmission-remote", [this.rpc.as_str(), "-si"])
                .await
                .status
                .success()
                .then_some(())
        })
        .await;
        this
    }

    /// Adds a torrent.
    pub async fn add(&self, what: &What) {
        let said =
            must(20, "transmission-remote", [self.rpc.as_str(), "-a", &what.argument()]).await;
        assert!(said.contains("success"), "transmission-remote -a: {said}");
    }

    /// Waits until all of the torrent is there and verified.
    pub async fn finished(&self, seconds: u64) {
        eventually("transmission having everything", seconds, async || {
            let said =
                must(10, "transmission-remote", [self.rpc.as_str(), "-t", "all", "-i"]).await;
            said.contains("Percent Done: 100%").then_some(())
        })
        .await;
    }
}
