//! BitTorrent: BEP 3 and its extensions. See the README beside this file.

pub mod create;
pub mod describe;
pub mod magnet;
pub mod merkle;
pub mod metainfo;
pub mod wire;

use p2pbridge_proto::Scheme;

use crate::{Capability, Descriptor, Door};

/// BitTorrent's row in the registry.
pub static DESCRIPTOR: Descriptor = Descriptor {
    protocol: "bittorrent",
    doors: &[Door::TrackerServer, Door::TrackerClient, Door::Seeder, Door::Leecher],
    schemes: &[Scheme::Btih, Scheme::Btmh],
    capabilities: &[Capability::Announce, Capability::Find, Capability::SwarmQuery],
    example: "",
    describe: describe::describe,
    configure: |_| Ok(Vec::new()),
};
