//! libtorrent, driven through `programs/lt.py`.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout};

use crate::process::script;
use crate::wait::within;
use crate::{Launch, Limits, Program, Scene, Swarm, Torrent, What, free_port};

/// A running libtorrent session with one torrent.
#[derive(Debug)]
pub struct LibTorrent {
    /// The program.
    pub program: Program,
    /// Where it listens for peers.
    pub port: u16,
    commands: ChildStdin,
    events: Lines<BufReader<ChildStdout>>,
    finished: bool,
}

/// How a session is doing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LtStatus {
    /// From 0 to 1.
    pub progress: f64,
    /// Connected peers.
    pub peers: u64,
    /// Payload bytes received.
    pub downloaded: u64,
    /// Payload bytes sent.
    pub uploaded: u64,
    /// Verified bytes.
    pub done: u64,
    /// Bytes that failed the hash check.
    pub failed: u64,
}

impl LibTorrent {
    /// Starts a session and waits until it listens at this address.
    pub async fn start(scene: &Scene, at: IpAddr) -> Self {
        let port = free_port();
        let mut program = Launch::new("libtorrent", "/usr/bin/python3")
            .args(["-X", "faulthandler"])
            .arg(script("lt.py"))
            .arg(SocketAddr::new(at, port).to_string())
            .talk()
            .start(scene);
        let (commands, events) = program.take_pipes();
        let events = BufReader::new(events).lines();
        let mut this = Self { program, port, commands, events, finished: false };
        this.event("listening", 20).await;
        this
    }

    /// Adds a torrent; what lies in `dir` is checked first.
    pub async fn add(&mut self, what: &What, dir: &Path, limits: Limits) {
        self.say(json!({"add": what.argument(), "dir": dir, "up": limits.up, "down": limits.down}))
            .await;
        self.event("added", 20).await;
    }

    /// Adds a .torrent file of which it wants one file alone.
    pub async fn add_only(&mut self, torrent: &Torrent, file: &str, dir: &Path) {
        self.say(json!({"add": torrent.path, "dir": dir, "only": file})).await;
        self.event("added", 20).await;
    }

    /// Connects to a peer on 127.0.0.1.
    pub async fn connect(&mut self, port: u16) {
        self.say(json!({"connect": ["127.0.0.1", port]})).await;
    }

    /// Asks how it is doing.
    pub async fn status(&mut self) -> LtStatus {
        self.say(json!({"status": true})).await;
        let now = self.event("status", 10).await;
        let number = |key: &str| now[key].as_u64().unwrap_or_default();
        LtStatus {
            progress: now["progress"].as_f64().unwrap_or_default(),
            peers: number("peers"),
            downloaded: number("downloaded"),
            uploaded: number("uploaded"),
            done: number("done"),
            failed: number("failed"),
        }
    }

    /// The addresses to which it has connections.
    pub async fn peers(&mut self) -> Vec<SocketAddr> {
        self.say(json!({"status": true})).await;
        let now = self.event("status", 10).await;
        let address = |peer: &Value| {
            let ip: IpAddr = peer[0].as_str()?.parse().ok()?;
            Some(SocketAddr::new(ip, u16::try_from(peer[1].as_u64()?).ok()?))
        };
        now["addresses"].as_array().into_iter().flatten().filter_map(address).collect()
    }

    /// Asks its tracker for the size of the swarm: seeders and leechers.
    pub async fn scrape(&mut self) -> Swarm {
        self.say(json!({"scrape": true})).await;
        let told = self.event("scraped", 20).await;
        let number = |key: &str| {
            told[key].as_u64().and_then(|number| u32::try_from(number).ok()).expect("a count")
        };
        Swarm { seeders: number("complete"), leechers: number("incomplete") }
    }

    /// Has it announce now, whatever the tracker's interval.
    pub async fn announce(&mut self) {
        self.say(json!({"announce": true})).await;
    }

    /// Waits until it has everything, verified and on disk.
    pub async fn finished(&mut self, seconds: u64) {
        if !self.finished {
            self.event("finished", seconds).await;
        }
    }

    async fn say(&mut self, command: Value) {
        self.commands
            .write_all(format!("{command}\n").as_bytes())
            .await
            .expect("libtorrent's driver listening");
    }

    async fn event(&mut self, wanted: &str, seconds: u64) -> Value {
        let reading = async {
            loop {
                let line = self.events.next_line().await.expect("its output");
                let line =
                    line.unwrap_or_else(|| panic!("libtorrent's driver ended; wanted {wanted}"));
                let event: Value = serde_json::from_str(&line).expect("a line of JSON");
                self.finished |= event["event"] == "finished";
                if event["event"] == wanted {
                    return event;
                }
            }
        };
        within(&format!("libtorrent: {wanted}"), seconds, reading).await
    }
}
