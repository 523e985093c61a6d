//! One of the clients, so that a scenario can be told for all of them.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use crate::{Aria2, LibTorrent, Scene, Torrent, Transmission};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Which client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// aria2.
    Aria2,
    /// libtorrent with Debian's Python.
    LibTorrent,
    /// transmission-daemon.
    Transmission,
}

/// What a client is given.
#[derive(Clone, Debug)]
pub enum What {
    /// A .torrent file.
    File(PathBuf),
    /// A magnet link.
    Magnet(String),
}

impl What {
    /// As an argument of a command line.
    #[must_use]
    pub fn argument(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Magnet(link) => link.clone(),
        }
    }
}

impl From<&Torrent> for What {
    fn from(torrent: &Torrent) -> Self {
        Self::File(torrent.path.clone())
    }
}

/// Bytes per second that a client may send and receive; 0 for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// To send.
    pub up: u64,
    /// To receive.
    pub down: u64,
}

impl Limits {
    /// No limit up, this one down.
    #[must_use]
    pub fn down(down: u64) -> Self {
        Self { up: 0, down }
    }

    /// This limit up, none down.
    #[must_use]
    pub fn up(up: u64) -> Self {
        Self { up, down: 0 }
    }
}

/// A running client.
#[derive(Debug)]
pub enum Peer {
    /// aria2.
    Aria2(Aria2),
    /// libtorrent.
    LibTorrent(LibTorrent),
    /// transmission-daemon.
    Transmission(Transmission),
}

impl Peer {
    /// Starts a client on 127.0.0.1 that shares what lies whole in `dir`.
    pub async fn seed(
        client: Client,
        scene: &Scene,
        what: &What,
        dir: &Path,
        limits: Limits,
    ) -> Self {
        Self::seed_at(HERE, client, scene, what, dir, limits).await
    }

    /// The same at another address.
    pub async fn seed_at(
        at: IpAddr,
        client: Client,
        scene: &Scene,
        what: &What,
        dir: &Path,
        limits: Limits,
    ) -> Self {
        match client {
            Client::Aria2 => Self::Aria2(Aria2::seed(scene, what, dir, limits, at)),
            // They look at what is there, and have it.
            Client::LibTorrent | Client::Transmission => {
                let mut peer = Self::leech_at(at, client, scene, what, dir, limits).await;
                peer.finished(30).await;
                peer
            }
        }
    }

    /// Starts a client on 127.0.0.1 that downloads into `dir`.
    pub async fn leech(
        client: Client,
        scene: &Scene,
        what: &What,
        dir: &Path,
        limits: Limits,
    ) -> Self {
        Self::leech_at(HERE, client, scene, what, dir, limits).await
    }

    /// The same at another address.
    pub async fn leech_at(
        at: IpAddr,
        client: Client,
        scene: &Scene,
        what: &What,
        dir: &Path,
        limits: Limits,
    ) -> Self {
        match client {
            Client::Aria2 => Self::Aria2(Aria2::leech(scene, what, dir, limits, at)),
            Client::LibTorrent => {
                let mut peer = LibTorrent::start(scene, at).await;
                peer.add(what, dir, limits).await;
                Self::LibTorrent(peer)
            }
            Client::Transmission => {
                let peer = Transmission::start(scene, dir, limits, at).await;
                peer.add(what).await;
                Self::Transmission(peer)
            }
        }
    }

    /// Waits until a leecher has everything.
    pub async fn finished(&mut self, seconds: u64) {
        match self {
            Self::Aria2(peer) => peer.finished(seconds).await,
            Self::LibTorrent(peer) => peer.finished(seconds).await,
            Self::Transmission(peer) => peer.finished(seconds).await,
        }
    }

    /// Where it listens for peers.
    #[must_use]
    pub fn port(&self) -> u16 {
        match self {
            Self::Aria2(peer) => peer.port,
            Self::LibTorrent(peer) => peer.port,
            Self::Transmission(peer) => peer.port,
        }
    }

    /// Kills it without a farewell.
    pub async fn kill(&mut self) {
        match self {
            Self::Aria2(peer) => peer.program.kill().await,
            Self::LibTorrent(peer) => peer.program.kill().await,
            Self::Transmission(peer) => peer.program.kill().await,
        }
    }
}
