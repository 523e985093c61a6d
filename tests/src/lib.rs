//! Runs real third-party programs around the bridge, and stops them.
//!
//! A scenario begins with a [`Scene`]: a directory of its own, whose logs are shown when the test fails. Programs started in it end
//! with it. Everything listens on a loopback address, 127.0.0.1 if not told otherwise, at a port of its own. Whoever waits here waits for
//! an event, with a deadline, and panics with what it waited for.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a harness fails by panicking: the test shows it"
)]

mod amule;
mod announce;
mod aria2;
mod both;
mod bridge;
mod check;
mod counting;
mod ed2k;
mod evil;
mod files;
mod film;
mod grpc;
mod hostile;
mod http;
mod libtorrent;
pub mod load;
mod namespace;
mod oracles;
mod peer;
mod ports;
mod process;
mod scene;
mod server_met;
mod torrent;
mod tracker;
mod transmission;
mod udp;
mod verdict;
mod wait;
mod world;

pub use amule::{Amule, Crypt, Hit, MULE_PORT, Mule, Shared, file_link};
pub use announce::{Ask, Told, percent};
pub use aria2::Aria2;
pub use both::{Both, ed2k_hash, ed2k_server, sharing};
pub use bridge::{Bridge, Config, OverlayConfig, Ran, TrackerConfig, bridge_binary};
pub use check::{Json, parse_csv, parse_jsonl};
pub use counting::Counting;
pub use ed2k::Ed2kOverlay;
pub use evil::{Evil, Manner};
pub use files::{Tree, fill, sha256_file, tree};
pub use film::{Film, NAME_SERVICE, bridge_alone, exported, name_row, name_rows, names_in};
pub use grpc::{buf_curl, grpcio};
pub use hostile::{BadTracker, Hostile};
pub use http::{Answer, get, say};
pub use libtorrent::{LibTorrent, LtStatus};
pub use namespace::{UNREACHABLE_PORT, bytes_passed, is_inside, public, reenter, run_in_namespace};
pub use oracles::{
    Names, alcc_links, libtorrent_reads_magnet, libtorrent_reads_torrent, oracle_names, rhash_btih,
    rhash_links,
};
pub use peer::{Client, Limits, Peer, What};
pub use ports::free_port;
pub use process::{Launch, Program, run, tools, venv_python};
pub use scene::Scene;
pub use server_met::KnownServer;
pub use torrent::{Make, Torrent};
pub use tracker::{Swarm, Tracker, TrackerKind, scrape, scrape_at, scrape_http};
pub use transmission::Transmission;
pub use udp::UdpDoor;
pub use verdict::{
    End, check_chains, check_flow, check_overlays, crossing, is_up, record_id, sum, usage,
};
pub use wait::{eventually, within};
pub use world::{Place, Side, Trackers, World, mib};
