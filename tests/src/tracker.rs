//! Trackers: Debian's opentracker, npm's bittorrent-tracker, aquatic.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::announce::percent;
use crate::files::hex;
use crate::http::get;
use crate::process::script;
use crate::torrent::value;
use crate::wait::eventually;
use crate::{Launch, Program, Scene, tools};

/// Which program, and by which of its doors the torrents name it. All but `aquatic_http` answer UDP also.
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
    /// bittorrent-tracker over HTTP, which takes a peer's address from `X-Forwarded-For`.
    NpmProxied,
    /// `aquatic_http`, which takes a peer's address from `X-Forwarded-For`, and from there alone.
    AquaticProxied,
    /// `aquatic_http`, which takes the address that it sees.
    AquaticHttp,
}

impl TrackerKind {
    /// The announce URL at a port.
    #[must_use]
    pub fn url(self, port: u16) -> String {
        match self {
            Self::OpenHttp
            | Self::NpmHttp
            | Self::NpmProxied
            | Self::AquaticProxied
            | Self::AquaticHttp => {
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
            TrackerKind::NpmHttp | TrackerKind::NpmUdp => npm(scene, port, false),
            TrackerKind::NpmProxied => npm(scene, port, true),
            TrackerKind::AquaticUdp => aquatic(scene, "aquatic_udp", port, ""),
            TrackerKind::AquaticHttp => {
                aquatic(scene, "aquatic_http", port, "keep_alive = false\n")
            }
            TrackerKind::AquaticProxied => {
                aquatic(scene, "aquatic_http", port, "runs_behind_reverse_proxy = true\n")
            }
        };
        let mut tracker = Self { kind, port, program };
        eventually(&format!("{kind:?} answering"), 20, async || {
            tracker.program.assert_runs();
            tracker.swarm(known.first().unwrap_or(&[0; 20])).await.map(drop)
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
            self.swarm(hash)
                .await
                .filter(|swarm| swarm.seeders >= seeders && swarm.leechers >= leechers)
        })
        .await
    }

    /// Asks it for the size of a swarm; `None` when it does not answer.
    pub async fn swarm(&self, hash: &[u8; 20]) -> Option<Swarm> {
        match self.kind {
            TrackerKind::AquaticProxied | TrackerKind::AquaticHttp => {
                scrape_http(&self.url(), hash).await
            }
            _ => scrape(self.port, hash).await,
        }
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
fn npm(scene: &Scene, port: u16, proxied: bool) -> Program {
    Launch::new("bittorrent-tracker", "node")
        .arg(script("npm_tracker.mjs"))
        .arg(tools())
        .args([port.to_string(), 2_000.to_string(), proxied.to_string()])
        .start(scene)
}

/// Tells its peers to come back every two seconds.
fn aquatic(scene: &Scene, name: &str, port: u16, network: &str) -> Program {
    let text = format!(
        "log_level = \"info\"\n[network]\naddress = \"127.0.0.1:{port}\"\n{network}[protocol]\npeer_announce_interval = 2\n"
    );
    let config = scene.file(&format!("{name}-{port}.toml"));
    fs::write(&config, text).expect("a configuration");
    Launch::new(name, tools().join("bin").join(name)).arg("-c").arg(config).start(scene)
}

/// Asks a tracker on 127.0.0.1 over UDP for the size of a swarm (BEP 15); `None` when it does not answer within a second.
pub async fn scrape(port: u16, hash: &[u8; 20]) -> Option<Swarm> {
    scrape_at((Ipv4Addr::LOCALHOST, port).into(), hash).await
}

/// Asks a tracker over HTTP for the size of a swarm (BEP 48); `None` when it does not answer properly.
pub async fn scrape_http(announce: &str, hash: &[u8; 20]) -> Option<Swarm> {
    let url = announce.replace("/announce", "/scrape");
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let query = format!("{url}?info_hash={}", percent(hash));
    let answer = get(&query, here, "X-Forwarded-For: 127.0.0.1\r\n").await?;
    let files = value(&answer.body, b"files")?;
    let Some(swarm) = value(files, hash) else { return Some(Swarm { seeders: 0, leechers: 0 }) };
    let number = |key: &[u8]| {
        let text = std::str::from_utf8(value(swarm, key)?).ok()?;
        text.strip_prefix('i')?.strip_suffix('e')?.parse().ok()
    };
    Some(Swarm { seeders: number(b"complete")?, leechers: number(b"incomplete")? })
}

/// The same over UDP at an address.
pub async fn scrape_at(server: SocketAddr, hash: &[u8; 20]) -> Option<Swarm> {
    timeout(Duration::from_secs(1), scrape_now(server, hash)).await.ok()?
}

async fn scrape_now(server: SocketAddr, hash: &[u8; 20]) -> Option<Swarm> {
    let socket = UdpSocket::bind((crate::http::loopback(server), 0)).await.ok()?;
    socket.connect(server).await.ok()?;
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
