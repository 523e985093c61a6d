//! Captures what real clients and trackers say to each other, through a relay on loopback that keeps it.
//!
//! `cargo run -p p2pbridge-tests --example capture` after `./tests/install`; it writes tests/fixtures/bittorrent/captures.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it ends with what went wrong"
)]

mod book;
mod recorder;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use p2pbridge_tests::{
    Aria2, Launch, LibTorrent, Limits, Make, Program, Scene, Torrent, Tracker, TrackerKind,
    Transmission, What, fill, free_port, run, tools,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::time::{Instant, sleep, timeout};

use self::book::{Book, what};
use self::recorder::Recorder;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const SIZE: u64 = 1 << 20;
/// A name that no tracker here has heard of, and that opentracker's list does not have.
const UNKNOWN: &str = "0909090909090909090909090909090909090909";

/// Which client talks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Aria2,
    Transmission,
    LibTorrent,
    WebTorrent,
}

impl Who {
    fn word(self) -> &'static str {
        match self {
            Self::Aria2 => "aria2",
            Self::Transmission => "transmission",
            Self::LibTorrent => "libtorrent",
            Self::WebTorrent => "webtorrent",
        }
    }
}

fn tracker_word(kind: TrackerKind) -> &'static str {
    match kind {
        TrackerKind::OpenHttp | TrackerKind::OpenUdp => "opentracker",
        TrackerKind::NpmHttp | TrackerKind::NpmUdp | TrackerKind::NpmProxied => "npm",
        TrackerKind::AquaticUdp => "aquatic_udp",
        _ => "aquatic_http",
    }
}

fn is_udp(kind: TrackerKind) -> bool {
    matches!(kind, TrackerKind::OpenUdp | TrackerKind::NpmUdp | TrackerKind::AquaticUdp)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut book = Book::new().await;
    let plan = [
        (TrackerKind::OpenHttp, Who::Aria2, V4),
        (TrackerKind::OpenHttp, Who::WebTorrent, V4),
        (TrackerKind::NpmHttp, Who::Transmission, V4),
        (TrackerKind::NpmHttp, Who::WebTorrent, V4),
        (TrackerKind::NpmHttp, Who::LibTorrent, V4),
        (TrackerKind::AquaticHttp, Who::LibTorrent, V4),
        (TrackerKind::AquaticHttp, Who::WebTorrent, V4),
        (TrackerKind::OpenUdp, Who::LibTorrent, V4),
        (TrackerKind::OpenUdp, Who::WebTorrent, V4),
        (TrackerKind::NpmUdp, Who::Transmission, V4),
        (TrackerKind::NpmUdp, Who::WebTorrent, V4),
        (TrackerKind::NpmUdp, Who::Aria2, V4),
        (TrackerKind::AquaticUdp, Who::WebTorrent, V4),
        (TrackerKind::NpmUdp, Who::LibTorrent, V6),
    ];
    for (kind, who, at) in plan {
        println!("{} → {kind:?} at {at}", who.word());
        scenario(&mut book, kind, who, at).await;
    }
    book.close().await;
}

async fn scenario(book: &mut Book, kind: TrackerKind, who: Who, at: IpAddr) {
    let scene = Scene::new();
    let whole = scene.dir("whole");
    fill(&whole.join("content.bin"), SIZE, 7);
    let make = async |announce: &str, out: &str| {
        let source = whole.join("content.bin");
        Torrent::make(Make::V1(16), &source, "content.bin", announce, &scene.file(out)).await
    };
    let (tracker_port, port) = (free_port(), free_port());
    let hash = make(&kind.url(port), "first.torrent").await.v1;
    let tracker = Tracker::start(&scene, kind, tracker_port, &[hash]).await;
    let url = |port: u16| match at {
        IpAddr::V4(_) => kind.url(port),
        IpAddr::V6(_) => kind.url(port).replace("127.0.0.1", "[::1]"),
    };
    let recorder = Recorder::start(is_udp(kind), at, port, tracker_port).await;
    let direct = make(&url(tracker_port), "direct.torrent").await;
    let recorded = make(&url(port), "recorded.torrent").await;
    let mut seeder = LibTorrent::start(&scene, at).await;
    seeder.add(&What::from(&direct), &whole, Limits::default()).await;
    seeder.finished(20).await;
    tracker.counts(&hash, 1, 0, 20).await;
    let dir = scene.dir("got");
    match who {
        Who::Aria2 => aria2(&scene, &recorded, &dir, at, &recorder).await,
        Who::Transmission => transmission(&scene, &recorded, &dir, at, &recorder).await,
        Who::LibTorrent => libtorrent(&scene, &recorded, &dir, at, &recorder).await,
        Who::WebTorrent => {
            webtorrent(&scene, &recorded, &url(port), &recorder).await;
            refusals(kind, &url(port), port, at, &recorder).await;
        }
    }
    book.keep(who.word(), tracker_word(kind), is_udp(kind), at.is_ipv6(), &recorder.exchanges());
}

/// Waits until a question of this kind was answered; tells when it was not.
async fn until(recorder: &Recorder, wanted: &str, seconds: u64) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < deadline {
        let seen = recorder.exchanges();
        if seen.iter().any(|seen| !seen.answered.is_empty() && what(&seen.asked) == wanted) {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    let seen: Vec<_> = recorder.exchanges().iter().map(|seen| what(&seen.asked)).collect();
    println!("  no {wanted} within {seconds} s; there were {seen:?}");
}

async fn aria2(scene: &Scene, torrent: &Torrent, dir: &Path, at: IpAddr, recorder: &Recorder) {
    let slow = Limits::down(SIZE / 6);
    let mut peer = Aria2::leech(scene, &What::from(torrent), dir, slow, at);
    until(recorder, "announce-started", 10).await;
    until(recorder, "announce-regular", 10).await;
    peer.finished(60).await;
    until(recorder, "announce-stopped", 10).await;
}

async fn transmission(
    scene: &Scene,
    torrent: &Torrent,
    dir: &Path,
    at: IpAddr,
    recorder: &Recorder,
) {
    let peer = Transmission::start(scene, dir, Limits::default(), at).await;
    peer.add(&What::from(torrent)).await;
    for wanted in ["announce-started", "announce-completed", "scrape", "announce-regular"] {
        until(recorder, wanted, 15).await;
    }
    // It says farewell when the torrent is stopped, and not always when it ends itself.
    let settings = scene.dir(&format!("transmission-{}", peer.port)).join("settings.json");
    let settings = std::fs::read_to_string(settings).expect("its settings");
    let settings: serde_json::Value = serde_json::from_str(&settings).expect("JSON");
    let rpc = format!("127.0.0.1:{}", settings["rpc-port"]);
    run(10, "transmission-remote", [rpc.as_str(), "-t", "all", "-S"]).await;
    until(recorder, "announce-stopped", 10).await;
}

async fn libtorrent(scene: &Scene, torrent: &Torrent, dir: &Path, at: IpAddr, recorder: &Recorder) {
    let port = free_port();
    let listen = std::net::SocketAddr::new(at, port).to_string();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/lt.py");
    let launch = Launch::new("libtorrent", "/usr/bin/python3").arg(script).arg(listen).talk();
    let (mut program, mut lines) = talk(launch, scene);
    let (path, dir) = (torrent.path.display(), dir.display());
    lines.say(&format!("{{\"add\": \"{path}\", \"dir\": \"{dir}\"}}")).await;
    until(recorder, "announce-started", 15).await;
    until(recorder, "announce-completed", 30).await;
    lines.say("{\"announce\": true}").await;
    until(recorder, "announce-regular", 10).await;
    lines.say("{\"scrape\": true}").await;
    // Over HTTP it asks nothing of a local address but an announce.
    until(recorder, "scrape", 3).await;
    drop(lines);
    program.ended(20).await;
    until(recorder, "announce-stopped", 5).await;
}

async fn webtorrent(scene: &Scene, torrent: &Torrent, announce: &str, recorder: &Recorder) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/npm_client.mjs");
    let hash: String = torrent.v1.iter().map(|byte| format!("{byte:02x}")).collect();
    let launch = Launch::new("webtorrent", "node").arg(script).arg(tools()).arg(announce);
    let launch = launch.args([&free_port().to_string(), "65536", &hash, UNKNOWN]).talk();
    let (mut program, mut lines) = talk(launch, scene);
    let steps = [
        ("start", "announce-started"),
        ("update", "announce-regular"),
        ("scrape", "scrape"),
        ("complete", "announce-completed"),
        ("stop", "announce-stopped"),
    ];
    for (word, wanted) in steps {
        lines.say(word).await;
        until(recorder, wanted, 10).await;
    }
    lines.say("quit").await;
    program.ended(10).await;
}

/// What the tracker says to a name that it does not serve, and to nonsense.
async fn refusals(kind: TrackerKind, url: &str, port: u16, at: IpAddr, recorder: &Recorder) {
    let before = recorder.exchanges().len();
    if !is_udp(kind) {
        let path = url.find("/announce").map_or("/", |from| &url[from..]);
        let hash = "%09".repeat(20);
        for query in [
            format!("info_hash={hash}&peer_id=-XX0001-abcdefghijkl&port=7&left=0&compact=1"),
            "info_hash=short&peer_id=-XX0001-abcdefghijkl&port=7&left=0".to_owned(),
        ] {
            let mut stream = TcpStream::connect((at, port)).await.expect("the relay");
            let request = format!(
                "GET {path}?{query} HTTP/1.1\r\nHost: {at}:{port}\r\nConnection: close\r\n\r\n"
            );
            stream.write_all(request.as_bytes()).await.expect("sent");
            let mut answer = Vec::new();
            let _ = timeout(Duration::from_secs(2), stream.read_to_end(&mut answer)).await;
        }
        return;
    }
    let socket = UdpSocket::bind((at, 0)).await.expect("a socket");
    socket.connect((at, port)).await.expect("the relay");
    let mut packet = vec![0; 2048];
    let mut ask = async |packets: &[&[u8]]| {
        let _ = socket.send(&packets.concat()).await;
        let length = timeout(Duration::from_secs(2), socket.recv(&mut packet)).await;
        length.ok().and_then(Result::ok).map(|length| packet[..length].to_vec())
    };
    let magic = 0x417_2710_1980_u64.to_be_bytes();
    let connected = ask(&[&magic, &[0; 4], b"con1"]).await.expect("a connection id");
    let (id, tail) =
        (&connected[8..16], [&[0; 24][..], &[0, 0, 0, 2], &[0; 8], &[0xFF; 4], &[0, 7]].concat());
    // A name that is not served; then an event that there is not.
    ask(&[id, &[0, 0, 0, 1], b"ann1", &[9; 20], b"-XX0001-abcdefghijkl", &tail]).await;
    let mut odd = tail.clone();
    odd[27] = 9;
    ask(&[id, &[0, 0, 0, 1], b"ann2", &[9; 20], b"-XX0001-abcdefghijkl", &odd]).await;
    // A connection id that was never given.
    ask(&[&[9; 8], &[0, 0, 0, 1], b"ann3", &[9; 20], b"-XX0001-abcdefghijkl", &tail]).await;
    println!("  {} questions to be refused", recorder.exchanges().len() - before);
}

/// Standard input and output of a program.
struct Lines(ChildStdin, #[expect(dead_code, reason = "kept open")] tokio::task::JoinHandle<()>);

impl Lines {
    async fn say(&mut self, line: &str) {
        self.0.write_all(format!("{line}\n").as_bytes()).await.expect("a listener");
    }
}

fn talk(launch: Launch, scene: &Scene) -> (Program, Lines) {
    let mut program = launch.start(scene);
    let (stdin, mut stdout): (ChildStdin, ChildStdout) = program.take_pipes();
    // What it says is not needed, but it must not wait for a reader.
    let reader = tokio::spawn(async move {
        let mut sink = tokio::io::sink();
        let _ = tokio::io::copy(&mut stdout, &mut sink).await;
    });
    (program, Lines(stdin, reader))
}
