//! `[overlays.bittorrent.<id>]`: how a BitTorrent overlay is configured.

mod example;
mod form;
mod tiers;
mod url;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use p2pbridge_proto::OverlayId;

pub use self::{
    example::EXAMPLE,
    url::{TrackerUrl, TrackerUrlError},
};
use crate::{Budget, Mode, TrackerTerms, config};

/// The most trackers of one overlay.
pub const MAX_TRACKERS: usize = 32;

/// A BitTorrent overlay, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BtConfig {
    /// How it is joined.
    pub mode: Mode,
    /// Its trackers, tier by tier; empty in front mode only, and over HTTP all of them inline.
    pub trackers: Vec<Vec<TrackerUrl>>,
    /// Where its peers reach the bridge; never empty.
    pub listen: Vec<SocketAddr>,
    /// The addresses by which its peers reach this host, where `listen` has none; not empty in front and inline, unless
    /// `listen` says them.
    pub public: Vec<IpAddr>,
    /// How many peers may be connected to the seeder: 1 to 10,000.
    pub max_sessions: usize,
    /// How many peers are served at the same time: 1 to 1,000.
    pub upload_slots: usize,
    /// The bridge as a tracker: in front and inline mode, and only there.
    pub tracker: Option<TrackerConfig>,
    /// What each of the trackers may be asked.
    pub budget: Budget,
}

/// The bridge as a tracker of an overlay, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackerConfig {
    /// Where it listens over HTTP; not empty inline.
    pub http: Vec<SocketAddr>,
    /// Where it listens over UDP; empty inline.
    pub udp: Vec<SocketAddr>,
    /// What it keeps and says.
    pub terms: TrackerTerms,
    /// Whether a proxy stands before it, whose `X-Forwarded-For` is believed.
    pub trust_forwarded_for: bool,
}

impl BtConfig {
    /// Where peers reach what listens at these addresses: an unspecified one stands for the public ones of its family.
    #[must_use]
    pub fn reachable(&self, listening: &[SocketAddr]) -> Vec<SocketAddr> {
        config::reachable(listening, &self.public)
    }
}

/// Every BitTorrent overlay in the text of a configuration file; what else is in there is not looked at.
///
/// # Errors
/// When the text is no TOML, or an overlay in it is not right; the error knows the line.
pub fn parse(text: &str) -> Result<BTreeMap<OverlayId, BtConfig>, toml::de::Error> {
    config::parse::<form::Form>(text)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
