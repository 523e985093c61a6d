//! The bridge itself, as its operator runs it.

use std::fmt::Write;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use crate::wait::eventually;
use crate::{Ed2kOverlay, Json, Launch, Program, Scene, free_port, run};

/// The binary: `P2P_BRIDGE_BIN`, or the one beside the running tests.
#[must_use]
pub fn bridge_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("P2P_BRIDGE_BIN") {
        return path.into();
    }
    let test = std::env::current_exe().expect("the test's path");
    let profile = test.ancestors().nth(2).expect("target/PROFILE/deps/TEST");
    let path = profile.join("p2p-bridge");
    assert!(
        path.exists(),
        "{} is not there: run ./tests/run, or set P2P_BRIDGE_BIN",
        path.display()
    );
    path
}

/// One BitTorrent overlay of the configuration.
#[derive(Clone, Debug)]
pub struct OverlayConfig {
    /// Its id.
    pub id: String,
    /// Announce URLs.
    pub trackers: Vec<String>,
    /// Where its peers reach the bridge: on 127.0.0.1, and with a tracker at `::1` there also.
    pub port: u16,
    /// What it is as a tracker; none in presence.
    pub tracker: Option<TrackerConfig>,
    /// Messages a second to each of its trackers; none for the default.
    pub per_second: Option<u32>,
}

/// The bridge as a tracker: one port of TCP, and in front of UDP also.
#[derive(Clone, Copy, Debug)]
pub struct TrackerConfig {
    /// `front` or `inline`.
    pub mode: &'static str,
    /// Its port.
    pub port: u16,
    /// Whether it is at `::1` also.
    pub ipv6: bool,
    /// More keys of its table, a line each.
    pub more: &'static str,
}

impl OverlayConfig {
    /// An overlay in presence, at a free port.
    #[must_use]
    pub fn new(id: &str, trackers: &[String]) -> Self {
        let trackers = trackers.to_vec();
        Self { id: id.to_owned(), trackers, port: free_port(), tracker: None, per_second: None }
    }

    /// An overlay whose only tracker is the bridge, over HTTP and UDP, on 127.0.0.1 and on `::1`. Its peers come back every two seconds.
    #[must_use]
    pub fn front(id: &str) -> Self {
        let tracker = TrackerConfig { mode: "front", port: free_port(), ipv6: true, more: LIVELY };
        Self { tracker: Some(tracker), ..Self::new(id, &[]) }
    }

    /// An overlay in which the bridge stands before these trackers, over HTTP on 127.0.0.1.
    #[must_use]
    pub fn inline(id: &str, trackers: &[String]) -> Self {
        let tracker =
            TrackerConfig { mode: "inline", port: free_port(), ipv6: false, more: LIVELY };
        Self { tracker: Some(tracker), ..Self::new(id, trackers) }
    }

    /// With this many messages a second to each of its trackers.
    #[must_use]
    pub fn with_budget(mut self, per_second: u32) -> Self {
        self.per_second = Some(per_second);
        self
    }

    /// With other keys in the tracker's table.
    #[must_use]
    pub fn with_terms(mut self, more: &'static str) -> Self {
        if let Some(tracker) = &mut self.tracker {
            tracker.more = more;
        }
        self
    }

    /// The bridge's own announce URL at one of its doors; `scheme` is `http` or `udp`.
    ///
    /// # Panics
    /// In presence.
    #[must_use]
    pub fn announce(&self, scheme: &str, at: IpAddr) -> String {
        let tracker = self.tracker.expect("a tracker of its own");
        format!("{scheme}://{}/announce", SocketAddr::new(at, tracker.port))
    }

    /// The announce URL over HTTP on 127.0.0.1.
    #[must_use]
    pub fn http(&self) -> String {
        self.announce("http", Ipv4Addr::LOCALHOST.into())
    }

    /// The announce URL over UDP on 127.0.0.1.
    #[must_use]
    pub fn udp(&self) -> String {
        self.announce("udp", Ipv4Addr::LOCALHOST.into())
    }

    fn toml(&self) -> String {
        let Self { id, trackers, port, tracker, per_second } = self;
        let here: IpAddr = Ipv4Addr::LOCALHOST.into();
        let at = |port: u16, ipv6: bool| -> Vec<String> {
            let ips = [Some(here), ipv6.then_some(Ipv6Addr::LOCALHOST.into())];
            ips.into_iter().flatten().map(|ip| SocketAddr::new(ip, port).to_string()).collect()
        };
        let listen = at(*port, tracker.is_some_and(|tracker| tracker.ipv6));
        let mut text = format!("[overlays.bittorrent.{id}]\nlisten = {listen:?}\n");
        if !trackers.is_empty() {
            text += &format!("trackers = {trackers:?}\n");
        }
        if let Some(TrackerConfig { mode, port, ipv6, more }) = tracker {
            let doors = at(*port, *ipv6);
            text += &format!(
                "mode = {mode:?}\n[overlays.bittorrent.{id}.tracker]\nhttp = {doors:?}\n{more}"
            );
            if *mode == "front" {
                text += &format!("udp = {doors:?}\n");
            }
        }
        if let Some(per_second) = per_second {
            text += &format!("[overlays.bittorrent.{id}.budget]\nper_second = {per_second}\n");
        }
        text
    }
}

/// Nobody here has half an hour.
const LIVELY: &str = "interval = 2\nmin_interval = 1\n";

/// A configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the bridge keeps its data.
    pub data_dir: PathBuf,
    /// Its gRPC port.
    pub grpc_port: u16,
    /// BitTorrent overlays.
    pub overlays: Vec<OverlayConfig>,
    /// eD2k overlays.
    pub ed2k: Vec<Ed2kOverlay>,
    /// From, to, agreement.
    pub routes: Vec<(String, String, String)>,
    /// Whether peers may be named as they are across the routes.
    pub direct: bool,
    /// What is logged.
    pub log: &'static str,
    /// More TOML, at the end.
    pub more: String,
}

impl Config {
    /// Two overlays, `a` and `b`, with one route from `a` to `b` under the agreement `demo-1`.
    #[must_use]
    pub fn a_to_b(scene: &Scene, a: &[String], b: &[String]) -> Self {
        Self::of(scene, OverlayConfig::new("a", a), OverlayConfig::new("b", b))
    }

    /// These two overlays, `a` and `b`, with one route from `a` to `b` under the agreement `demo-1`.
    #[must_use]
    pub fn of(scene: &Scene, a: OverlayConfig, b: OverlayConfig) -> Self {
        let routes = vec![("a".into(), "b".into(), "demo-1".into())];
        Self { overlays: vec![a, b], routes, ..Self::empty(scene) }
    }

    /// No overlay yet, and no route.
    #[must_use]
    pub fn empty(scene: &Scene) -> Self {
        let grpc_port = free_port();
        Self {
            data_dir: scene.file(&format!("data-{grpc_port}")),
            grpc_port,
            overlays: Vec::new(),
            ed2k: Vec::new(),
            routes: Vec::new(),
            direct: false,
            log: "info,p2p_bridge=debug,p2pbridge_adapters=debug",
            more: String::new(),
        }
    }

    /// With an eD2k overlay more.
    #[must_use]
    pub fn with_ed2k(mut self, overlay: Ed2kOverlay) -> Self {
        self.ed2k.push(overlay);
        self
    }

    /// With a BitTorrent overlay more.
    #[must_use]
    pub fn with_bittorrent(mut self, overlay: OverlayConfig) -> Self {
        self.overlays.push(overlay);
        self
    }

    /// With a route more.
    #[must_use]
    pub fn with_route(mut self, from: &str, to: &str, agreement: &str) -> Self {
        self.routes.push((from.into(), to.into(), agreement.into()));
        self
    }

    /// The same with a second route back, under the agreement `demo-2`.
    #[must_use]
    pub fn both_ways(scene: &Scene, a: &[String], b: &[String]) -> Self {
        let mut config = Self::a_to_b(scene, a, b);
        config.routes.push(("b".into(), "a".into(), "demo-2".into()));
        config
    }

    /// As TOML.
    #[must_use]
    pub fn toml(&self) -> String {
        let mut text = format!(
            "data_dir = {:?}\n[grpc]\nlisten = \"127.0.0.1:{}\"\n[identity]\noperator = \"test\"\nbridge = \"b1\"\n[usage]\nflush_seconds = 1\n",
            self.data_dir, self.grpc_port
        );
        for overlay in &self.overlays {
            text += &overlay.toml();
        }
        let direct = if self.direct { "direct = true\n" } else { "" };
        for overlay in &self.ed2k {
            text += &overlay.toml();
        }
        for (from, to, agreement) in &self.routes {
            write!(
                text,
                "[[routes]]\nfrom = {from:?}\nto = {to:?}\nagreement = {agreement:?}\n{direct}"
            )
            .expect("text");
        }
        text + &format!("[log]\nfilter = {:?}\n", self.log) + &self.more
    }

    /// Writes it into the scene.
    #[must_use]
    pub fn write(&self, scene: &Scene) -> PathBuf {
        let path = scene.file(&format!("bridge-{}.toml", self.grpc_port));
        fs::write(&path, self.toml()).expect("a configuration");
        path
    }
}

/// What a command of the bridge said.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A running bridge.
#[derive(Debug)]
pub struct Bridge {
    /// The program.
    pub program: Program,
    /// Its configuration.
    pub config: Config,
}

impl Bridge {
    /// Starts the daemon, without waiting for it.
    #[must_use]
    pub fn spawn(scene: &Scene, config: &Config) -> Self {
        let path = config.write(scene);
        let program = Launch::new("p2p-bridge", bridge_binary())
            .args(["serve", "--config"])
            .arg(path)
            .start(scene);
        Self { program, config: config.clone() }
    }

    /// Starts the daemon and waits until it answers.
    pub async fn start(scene: &Scene, config: &Config) -> Self {
        let mut this = Self::spawn(scene, config);
        eventually("the bridge answering", 20, async || {
            this.program.assert_runs();
            this.cli(["overlays", "--json"]).await.status.success().then_some(())
        })
        .await;
        this
    }

    /// The address of its gRPC server.
    #[must_use]
    pub fn server(&self) -> String {
        format!("http://127.0.0.1:{}", self.config.grpc_port)
    }

    /// The same for clients that take `HOST:PORT`.
    #[must_use]
    pub fn grpc_target(&self) -> String {
        format!("127.0.0.1:{}", self.config.grpc_port)
    }

    /// Runs a command against it.
    pub async fn cli<const N: usize>(&self, args: [&str; N]) -> Ran {
        let server = self.server();
        let all: Vec<&str> = ["--server", &server].into_iter().chain(args).collect();
        let output = run(30, bridge_binary(), all).await;
        Ran {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a command that must succeed, and gives its standard output.
    pub async fn must<const N: usize>(&self, args: [&str; N]) -> String {
        let ran = self.cli(args).await;
        assert!(
            ran.status.success(),
            "p2p-bridge {args:?}: {}\n{}{}",
            ran.status,
            ran.stdout,
            ran.stderr
        );
        ran.stdout
    }

    /// Runs a command that must succeed, and reads its output as JSON.
    pub async fn json<const N: usize>(&self, args: [&str; N]) -> Json {
        Json::parse(&self.must(args).await)
    }

    /// Binds two .torrent files as the same content.
    pub async fn bind(&self, a: (&str, &Path), b: (&str, &Path)) {
        let item = |(overlay, path): (&str, &Path)| format!("{overlay}={}", path.display());
        self.must(["names", "bind", &item(a), &item(b)]).await;
    }

    /// Binds one torrent that is the same in two overlays.
    pub async fn bind_same(&self, a: (&str, &Path), b: (&str, &Path)) {
        for (overlay, path) in [a, b] {
            self.must(["names", "bind", &format!("{overlay}={}", path.display())]).await;
        }
    }

    /// Kills it with signal 9 and waits until it is gone.
    pub async fn kill9(&mut self) {
        self.program.kill().await;
    }

    /// Asks it to end (TERM) and waits for it.
    pub async fn terminate(&mut self, seconds: u64) -> ExitStatus {
        self.program.signal("TERM");
        self.program.ended(seconds).await
    }

    /// Its resident memory, and the most it had, in bytes.
    #[must_use]
    pub fn memory(&self) -> (u64, u64) {
        let text =
            fs::read_to_string(format!("/proc/{}/status", self.program.pid())).unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_whitespace()
                .nth(1)
                .and_then(|number| number.parse::<u64>().ok())
                .unwrap_or_default()
                * 1024
        };
        (field("VmRSS:"), field("VmHWM:"))
    }

    /// The processor time it has used, in seconds.
    #[must_use]
    pub fn cpu_seconds(&self) -> f64 {
        let text =
            fs::read_to_string(format!("/proc/{}/stat", self.program.pid())).unwrap_or_default();
        let after = text.rsplit(')').next().unwrap_or_default();
        let ticks = |at: usize| {
            after.split_whitespace().nth(at).and_then(|n| n.parse::<f64>().ok()).unwrap_or_default()
        };
        // Linux counts in hundredths of a second.
        (ticks(11) + ticks(12)) / 100.0
    }
}
