//! The programs that are measured, each on the first core.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;

use nix::sys::socket::{setsockopt, sockopt::RcvBuf};
use p2pbridge_tests::load::{Cost, Report};
use p2pbridge_tests::{Launch, Program, Scene, bridge_binary, eventually, free_port, tools};

/// A program under load.
pub(crate) struct Server {
    /// What it is called in the table.
    pub(crate) label: &'static str,
    /// Where it answers over UDP and HTTP.
    pub(crate) at: SocketAddr,
    program: Program,
}

/// What one round showed of one program.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sample {
    /// Processor time for each answer.
    pub(crate) cpu_us: f64,
    /// Answers a second.
    pub(crate) per_second: f64,
    /// The median wait for an answer.
    pub(crate) p50_us: f64,
    /// What one in a hundred exceeds.
    pub(crate) p99_us: f64,
}

impl Server {
    /// Runs a load and reads what it cost. Panics when an answer was not right.
    pub(crate) fn under(&self, load: impl FnOnce() -> Report) -> Sample {
        let before = self.cost();
        let report = load();
        let spent = self.cost().cpu_since(before);
        report.assert_clean(self.label);
        if report.lost > 0 {
            eprintln!("{}: {report}", self.label);
        }
        Sample {
            cpu_us: spent * 1e6 / report.answered as f64,
            per_second: report.per_second(),
            p50_us: report.latency.p50_us(),
            p99_us: report.latency.p99_us(),
        }
    }

    /// What it has used.
    pub(crate) fn cost(&self) -> Cost {
        Cost::of(self.program.pid())
    }
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Starts a program on one core.
fn on_core(core: usize, label: &str, program: PathBuf, args: &[String], scene: &Scene) -> Program {
    let launch = Launch::new(label, "taskset").args(["-c", &core.to_string()]);
    launch.arg(program).args(args).start(scene)
}

async fn listens(label: &'static str, port: u16, mut program: Program) -> Server {
    eventually(label, 20, async || {
        program.assert_runs();
        TcpStream::connect(local(port)).ok()
    })
    .await;
    Server { label, at: local(port), program }
}

/// A program that reads nothing of an announce but its transaction, and gives 30 peers: what the kernel alone costs.
pub(crate) fn canned(scene: &Scene) -> Server {
    let port = free_port();
    let this = std::env::current_exe().expect("this program");
    let args = ["canned".to_owned(), port.to_string()];
    let program = on_core(0, "canned", this, &args, scene);
    Server { label: "canned answer", at: local(port), program }
}

/// What [`canned`] runs.
pub(crate) fn answer_canned(port: u16) {
    let socket = UdpSocket::bind(local(port)).expect("the port");
    let _ = setsockopt(&socket, RcvBuf, &(4 << 20));
    let mut packet = [0; 2_048];
    let mut answer = [0; 200];
    loop {
        let (length, from) = socket.recv_from(&mut packet).expect("a packet");
        answer[..8].copy_from_slice(&packet[8..16]);
        answer[8..12].copy_from_slice(&1_800_u32.to_be_bytes());
        let size = if length == 16 { 16 } else { 200 };
        // The asker may be gone.
        let _ = socket.send_to(&answer[..size], from);
    }
}

/// `aquatic_udp` with one worker.
pub(crate) fn aquatic_udp(scene: &Scene) -> Server {
    let port = free_port();
    let text = format!(
        "socket_workers = 1\nlog_level = \"warn\"\n[network]\naddress = \"127.0.0.1:{port}\"\n\
         [protocol]\nmax_response_peers = 30\npeer_announce_interval = 1800\n\
         [cleaning]\nmax_peer_age = 3600\ntorrent_cleaning_interval = 100000\n"
    );
    let program = on_core(0, "aquatic_udp", aquatic(), &configured(scene, port, &text), scene);
    Server { label: "aquatic_udp", at: local(port), program }
}

fn configured(scene: &Scene, port: u16, text: &str) -> [String; 2] {
    let path = scene.file(&format!("{port}.toml"));
    fs::write(&path, text).expect("a configuration");
    ["-c".to_owned(), path.display().to_string()]
}

/// nginx that gives the same `length` bytes to everybody.
pub(crate) async fn nginx_return(scene: &Scene, length: usize) -> Server {
    let location = returned(&"x".repeat(length));
    nginx(scene, 0, "nginx `return 200`", "", &location).await
}

/// A tracker that costs nearly nothing, on the asker's core: 30 peers, the same to everybody.
pub(crate) async fn cheap_tracker(scene: &Scene) -> Server {
    let peers: String = ('A'..='Z').chain('a'..='d').map(|at| format!("@@@{at}xx")).collect();
    let body = format!("d8:completei0e10:incompletei50e8:intervali1800e5:peers180:{peers}e");
    nginx(scene, 1, "no proxy", "", &returned(&body)).await
}

fn returned(body: &str) -> String {
    format!("default_type text/plain; return 200 \"{body}\";")
}

/// nginx as a proxy that keeps its connections to the tracker.
pub(crate) async fn nginx_proxy(scene: &Scene, tracker: SocketAddr) -> Server {
    let upstream = format!(
        "upstream tracker {{ server {tracker}; keepalive 64; keepalive_requests 1000000000; keepalive_time 1h; }}"
    );
    let location = "proxy_pass http://tracker; proxy_http_version 1.1; proxy_set_header Connection \"\"; \
                    proxy_set_header X-Forwarded-For $remote_addr;";
    nginx(scene, 0, "nginx proxy", &upstream, location).await
}

async fn nginx(
    scene: &Scene,
    core: usize,
    label: &'static str,
    upstream: &str,
    location: &str,
) -> Server {
    let port = free_port();
    let dir = scene.dir(&format!("nginx-{port}"));
    let text = format!(
        "daemon off; master_process off; pid nginx.pid; error_log stderr warn;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; keepalive_time 1h; tcp_nodelay on; {upstream}\n\
         server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ {location} }} }} }}\n"
    );
    let path = dir.join("nginx.conf");
    fs::write(&path, text).expect("a configuration");
    let args =
        ["-p", &dir.display().to_string(), "-c", &path.display().to_string()].map(str::to_owned);
    let program = on_core(core, "nginx", "nginx".into(), &args, scene);
    listens(label, port, program).await
}

/// The bridge as a tracker of its own.
pub(crate) async fn front(scene: &Scene) -> Server {
    bridge(scene, "p2p-bridge front", "mode = \"front\"\n", true).await
}

/// The bridge before a tracker.
pub(crate) async fn inline(scene: &Scene, tracker: SocketAddr) -> Server {
    let keys = format!("mode = \"inline\"\ntrackers = [\"http://{tracker}/announce\"]\n");
    bridge(scene, "p2p-bridge inline", &keys, false).await
}

async fn bridge(scene: &Scene, label: &'static str, keys: &str, udp: bool) -> Server {
    let (port, peers, grpc) = (free_port(), free_port(), free_port());
    let data = scene.file(&format!("data-{port}"));
    let udp = if udp { format!("udp = [\"127.0.0.1:{port}\"]\n") } else { String::new() };
    let text = format!(
        "data_dir = {data:?}\n[grpc]\nlisten = \"127.0.0.1:{grpc}\"\n[identity]\noperator = \"test\"\nbridge = \"b1\"\n\
         [log]\nfilter = \"warn\"\n\
         [overlays.bittorrent.a]\nlisten = [\"127.0.0.1:{peers}\"]\n{keys}\
         [overlays.bittorrent.a.tracker]\nhttp = [\"127.0.0.1:{port}\"]\n{udp}\
         swarms = 1200000\npeers = 8000000\n\
         [overlays.bittorrent.a.budget]\nper_second = 1000000\nin_flight = 1000\n"
    );
    let path = scene.file(&format!("bridge-{port}.toml"));
    fs::write(&path, text).expect("a configuration");
    let args = ["serve", "--config", &path.display().to_string()].map(str::to_owned);
    let program = on_core(0, "p2p-bridge", bridge_binary(), &args, scene);
    listens(label, port, program).await
}

/// How many bytes a tracker answers to an announce over HTTP, without the head.
pub(crate) fn length_of_answer(at: SocketAddr, path: &str) -> usize {
    let mut stream = TcpStream::connect(at).expect("the tracker");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut answer).expect("an answer");
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    answer.len() - head - 4
}

/// `aquatic_udp`, optimised as its authors do it. The one in `tests/.tools/bin` is built fast and runs slowly.
fn aquatic() -> PathBuf {
    tools().join("fast/bin/aquatic_udp")
}

/// Builds what is measured against, when it is not there: a few minutes, once.
pub(crate) fn build_missing() {
    if aquatic().exists() {
        return;
    }
    eprintln!("building aquatic_udp with full optimisation: this takes minutes, once");
    let root = tools().join("fast");
    let status = Command::new("cargo")
        .args(["install", "--quiet", "--version", "0.9.0", "aquatic_udp", "--root"])
        .arg(&root)
        .env("CARGO_TARGET_DIR", root.join("target"))
        .env("CARGO_PROFILE_RELEASE_LTO", "thin")
        .status();
    assert!(status.is_ok_and(|status| status.success()), "cargo install of aquatic_udp");
    // The program is kept, what it was built from is not.
    let _ = fs::remove_dir_all(root.join("target"));
}
