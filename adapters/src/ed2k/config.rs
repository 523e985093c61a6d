//! `[overlays.ed2k.<id>]`: how an eD2k overlay is configured.

mod example;
mod form;
mod servers;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use p2pbridge_proto::{Ed2kServerLink, OverlayId};
use serde::Deserialize;

pub use self::example::EXAMPLE;
use crate::{Budget, Mode, TrackerTerms, config};

/// The most servers of one overlay.
pub const MAX_SERVERS: usize = 32;

/// An eD2k overlay, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ed2kConfig {
    /// How it is joined: in presence or in front.
    pub mode: Mode,
    /// In presence mode the servers to log in to, in order; never empty there. In front mode those of which clients are
    /// told, all of them with addresses.
    pub servers: Vec<Ed2kServerLink>,
    /// Where its clients reach the bridge, in IPv4; never empty.
    pub listen: Vec<SocketAddr>,
    /// The addresses by which its clients reach this host, in IPv4, where `listen` has none; not empty in front, unless
    /// `listen` says them.
    pub public: Vec<IpAddr>,
    /// What the bridge calls itself among clients: 1 to 50 bytes.
    pub nick: String,
    /// How many clients may be connected: 1 to 10,000.
    pub max_sessions: usize,
    /// How many clients are served at the same time: 1 to 1,000.
    pub upload_slots: usize,
    /// Which connections with clients are obfuscated.
    pub obfuscation: Obfuscation,
    /// The bridge as a server: in front mode, and only there.
    pub server: Option<ServerTable>,
    /// What the server may be asked.
    pub budget: Budget,
}

/// Which connections with clients are obfuscated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Obfuscation {
    /// None: clients that insist on it cannot be reached.
    Off,
    /// Those with clients that ask for it.
    #[default]
    Accepted,
    /// All: clients that cannot are not spoken with.
    Required,
}

/// The bridge as a server of an overlay, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTable {
    /// Where clients log in; never empty.
    pub tcp: Vec<SocketAddr>,
    /// Where clients that are logged in elsewhere ask.
    pub udp: Vec<SocketAddr>,
    /// Its name: 1 to 200 bytes.
    pub name: String,
    /// What it says of itself: at most 200 bytes.
    pub description: String,
    /// What clients are told when they log in: at most 4,000 bytes; empty for nothing.
    pub welcome: String,
    /// How many clients may be logged in: 1 to 1,000,000.
    pub max_sessions: usize,
    /// How many files one client may offer: 1 to 1,000,000.
    pub max_files_per_client: usize,
    /// What it keeps and says.
    pub terms: TrackerTerms,
}

impl Ed2kConfig {
    /// Where clients reach what listens at these addresses: an unspecified one stands for the public ones.
    #[must_use]
    pub fn reachable(&self, listening: &[SocketAddr]) -> Vec<SocketAddr> {
        config::reachable(listening, &self.public)
    }
}

/// Every eD2k overlay in the text of a configuration file; what else is in there is not looked at.
///
/// # Errors
/// When the text is no TOML, or an overlay in it is not right; the error knows the line.
pub fn parse(text: &str) -> Result<BTreeMap<OverlayId, Ed2kConfig>, toml::de::Error> {
    config::parse::<form::Form>(text)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
