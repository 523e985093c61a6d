//! Trackers: Debian's opentracker, npm's bittorrent-tracker, aquatic.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::files::hex;
use crate::process::script;
use crate::wait::eventually;
use crate::{Launch, Program, Scene, tools};

/// Which program, and by which of its doors the torrents name it. Every one of them answers UDP also.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrackerKind {
    /// opentracker over HTTP.
    OpenHttp,
    /// opentracker over UDP.
    OpenUdp,
    /// bittorrent-tracker over HTTP.
    NpmHttp,
    /// bittorrent-tracker over UDP.
    NpmUdp,
    /// `aquatic_udp`.
    AquaticUdp,
}

impl TrackerKind {
    /// The announce URL at a port.
    #[must_use]
    pub fn url(self, port: u16) -> String {
        match self {
            Self::OpenHttp | Self::NpmHttp => {
                format!("http://127.0.0.1:{port}/announce")
            }
            Self::OpenUdp | Self::NpmUdp | Self::AquaticUdp => {
                format!("udp://127.0.0.1:{port}/announce")
            }
        }
    }
}

/// A running tracker.
#[derive(Debug)]
pub struct Tracker {
    /// Which.
    pub kind: TrackerKind,
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// The program.
    pub program: Program,
}

/// What a tracker says of one swarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swarm {
    /// Peers that hold everything.
    pub seeders: u32,
    /// Peers that lack something.
    pub leechers: u32,
}

impl Tracker {
    /// Starts it and waits until it answers. opentracker serves only the swarms in `known`.
    pub async fn start(scene: &Scene, kind: TrackerKind, port: u16, known: &[[u8; 20]]) -> Self {
        let program = match kind {
            TrackerKind::OpenHttp | TrackerKind::OpenUdp => opentracker(scene, port, known),
            TrackerKind::NpmHttp | TrackerKind::NpmUdp => npm(scene, port),
            TrackerKind::AquaticUdp => aquatic(scene, "aquatic_udp", port),
        };
        let mut tracker = Self { kind, port, program };
        eventually(&format!("{kind:?} answering"), 20, async || {
            tracker.program.assert_runs();
            scrape(port, known.first().unwrap_or(&[0; 20])).await.map(drop)
        })
        .await;
        tracker
    }

    /// The announce URL.
    #[must_use]
    pub fn url(&self) -> String {
        self.kind.url(self.port)
    }

    /// Waits until the tracker counts at least this many peers of both kinds.
    pub async fn counts(
        &self,
        hash: &[u8; 20],
        seeders: u32,
        leechers: u32,
        seconds: u64,
    ) -> Swarm {
        let what = format!("{:?} counting {seeders} seeders and {leechers} leechers", self.kind);
        eventually(&what, seconds, async || {
            scrape(self.port, hash)
                .await
                .filter(|swarm| swarm.seeders >= seeders && swarm.leechers >= leechers)
        })
        .await
    }
}

fn opentracker(scene: &Scene, port: u16, known: &[[u8; 20]]) -> Program {
    let dir = scene.dir(&format!("opentracker-{port}"));
    let list: String = known.iter().map(|hash| format!("{}\n", hex(hash))).collect();
    fs::write(dir.join("whitelist"), list).expect("a whitelist");
    let port = port.to_string();
    Launch::new("opentracker", "opentracker")
        .args(["-i", "127.0.0.1", "-p", &port, "-P", &port, "-d"])
        .arg(&dir)
        .args(["-w", "whitelist"])
        .in_dir(&dir)
        .plain_user()
        .start(scene)
}

/// Tells its peers to come back every two seconds.
fn npm(scene: &Scene, port: u16) -> Program {
    Launch::new("bittorrent-tracker", "node")
        .arg(script("npm_tracker.mjs"))
        .arg(tools())
        .args([port.to_string(), 2_000.to_string()])
        .start(scene)
}

/// Tells its peers to come back every two seconds.
fn aquatic(scene: &Scene, name: &str, port: u16) -> Program {
    let text = format!(
        "log_level = \"info\"\n[network]\naddress = \"127.0.0.1:{port}\"\n[protocol]\npeer_announce_interval = 2\n"
    );
    let config = scene.file(&format!("{name}-{port}.toml"));
    fs::write(&config, text).expect("a configuration");
    Launch::new(name, tools().join("bin").join(name)).arg("-c").arg(config).start(scene)
}

/// Asks a tracker on 127.0.0.1 over UDP for the size of a swarm (BEP 15); `None` when it does not answer within a second.
pub async fn scrape(port: u16, hash: &[u8; 20]) -> Option<Swarm> {
    timeout(Duration::from_secs(1), scrape_now(port, hash)).await.ok()?
}

async fn scrape_now(port: u16, hash: &[u8; 20]) -> Option<Swarm> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.ok()?;
    socket.connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
    let mut ask = 0x417_2710_1980_u64.to_be_bytes().to_vec();
    ask.extend([0, 0, 0, 0, 1, 2, 3, 4]);
    socket.send(&ask).await.ok()?;
    let mut answer = [0; 64];
    if socket.recv(&mut answer).await.ok()? < 16 {
        return None;
    }
    let mut ask = answer[8..16].to_vec();
    ask.extend([0, 0, 0, 2, 1, 2, 3, 4]);
    ask.extend(hash);
    socket.send(&ask).await.ok()?;
    if socket.recv(&mut answer).await.ok()? < 20 {
        // Debian's opentracker answers for an unlisted hash with 8 bytes: it is there, and knows of nobody.
        return Some(Swarm { seeders: 0, leechers: 0 });
    }
    let number = |at: usize| {
        u32::from_be_bytes([answer[at], answer[at + 1], answer[at + 2], answer[at + 3]])
    };
    Some(Swarm { seeders: number(8), leechers: number(16) })
}
