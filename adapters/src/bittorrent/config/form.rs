//! The form of an overlay in the file, and what must fit together in it.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde::Deserialize;

use super::{BtConfig, TrackerConfig, TrackerUrl, tiers::tiers};
use crate::{
    Mode,
    config::{
        self, Misfit,
        at::Step::{Key, Place},
        misfit,
        values::{
            BudgetForm, TermsForm, addresses, count, listen, max_sessions, mode, names, no_doubles,
            public, seconds, upload_slots, within,
        },
    },
};

/// Where the tracker listens unless told otherwise.
const TRACKER_PORT: u16 = 6969;
/// Where the seeder listens unless told otherwise.
const SEEDER_PORT: u16 = 6881;

const OVER_UDP: &str = "a tracker over UDP ignores the address field and would record the bridge's \
                        own address in place of the peer's";

/// An overlay, as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Form {
    #[serde(default, deserialize_with = "mode")]
    mode: Mode,
    #[serde(default, deserialize_with = "tiers")]
    trackers: Vec<Vec<TrackerUrl>>,
    #[serde(default = "default_listen", deserialize_with = "listen")]
    listen: Vec<SocketAddr>,
    #[serde(default, deserialize_with = "public")]
    public: Vec<IpAddr>,
    #[serde(default = "max_sessions", deserialize_with = "within::<_, 1, 10_000>")]
    max_sessions: usize,
    #[serde(default = "upload_slots", deserialize_with = "within::<_, 1, 1000>")]
    upload_slots: usize,
    tracker: Option<TrackerForm>,
    #[serde(default)]
    budget: BudgetForm,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TrackerForm {
    #[serde(default, deserialize_with = "addresses")]
    http: Option<Vec<SocketAddr>>,
    #[serde(default, deserialize_with = "addresses")]
    udp: Option<Vec<SocketAddr>>,
    #[serde(default, deserialize_with = "seconds")]
    interval: Option<Duration>,
    #[serde(default, deserialize_with = "seconds")]
    min_interval: Option<Duration>,
    #[serde(default, deserialize_with = "count::<_, 100_000_000>")]
    swarms: Option<usize>,
    #[serde(default, deserialize_with = "count::<_, 1_000_000_000>")]
    peers: Option<usize>,
    #[serde(default, deserialize_with = "count::<_, 1_000_000_000>")]
    peers_per_swarm: Option<usize>,
    #[serde(default, deserialize_with = "names")]
    names: bool,
    #[serde(default)]
    trust_forwarded_for: bool,
}

impl config::Form for Form {
    const PROTOCOL: &'static str = "bittorrent";
    type Config = BtConfig;

    fn check(mut self) -> Result<BtConfig, Misfit> {
        self.check_trackers()?;
        self.trackers.retain(|tier| !tier.is_empty());
        let tracker = match (self.mode, self.tracker) {
            (Mode::Presence, None) => None,
            (Mode::Presence, Some(_)) => {
                let problem = "the bridge is no tracker with mode = \"presence\": set mode = \
                               \"front\" or \"inline\", or leave this table out";
                return misfit(&[Key("tracker")], problem);
            }
            (mode, None) => {
                let problem = format!(
                    "mode = \"{mode}\" needs a table `tracker` beside it: where the bridge listens \
                     as a tracker"
                );
                return misfit(&[Key("mode")], problem);
            }
            (mode, Some(form)) => Some(form.check(mode)?),
        };
        let config = BtConfig {
            mode: self.mode,
            trackers: self.trackers,
            listen: self.listen,
            public: self.public,
            max_sessions: self.max_sessions,
            upload_slots: self.upload_slots,
            tracker,
            budget: self.budget.budget(),
        };
        if config.mode != Mode::Presence && config.reachable(&config.listen).is_empty() {
            return misfit(&[Key("mode")], config::nowhere(config.mode));
        }
        Ok(config)
    }
}

impl Form {
    fn check_trackers(&self) -> Result<(), Misfit> {
        if self.mode != Mode::Front && self.trackers.iter().all(Vec::is_empty) {
            let problem = "an overlay needs at least one tracker in `trackers`; only with mode = \
                           \"front\" it may have none";
            return misfit(&[Key("trackers")], problem);
        }
        let mut seen: Vec<&TrackerUrl> = Vec::new();
        for (place, tier) in self.trackers.iter().enumerate() {
            for (at, url) in tier.iter().enumerate() {
                if seen.contains(&url) {
                    // Its budget would be doubled.
                    let path = [Key("trackers"), Place(place), Place(at)];
                    return misfit(&path, format!("`{url}` is there twice"));
                }
                seen.push(url);
            }
        }
        if self.mode != Mode::Inline {
            return Ok(());
        }
        for (place, tier) in self.trackers.iter().enumerate() {
            if let Some(at) = tier.iter().position(TrackerUrl::is_udp) {
                // The path goes on into a tier that is a list, and ends at one that is a URL.
                let path = [Key("trackers"), Place(place), Place(at)];
                return misfit(
                    &path,
                    format!("no announce can be passed on inline here: {OVER_UDP}"),
                );
            }
        }
        Ok(())
    }
}

impl TrackerForm {
    fn check(self, mode: Mode) -> Result<TrackerConfig, Misfit> {
        let any = || vec![([0, 0, 0, 0], TRACKER_PORT).into(), ([0u16; 8], TRACKER_PORT).into()];
        let http = self.http.unwrap_or_else(any);
        let udp = match (mode, self.udp) {
            (Mode::Inline, Some(udp)) if !udp.is_empty() => {
                let problem = format!(
                    "mode = \"inline\" serves peers over HTTP only, since it is how announces are \
                     passed on: {OVER_UDP}"
                );
                return misfit(&[Key("tracker"), Key("udp")], problem);
            }
            (Mode::Inline, _) => Vec::new(),
            (_, udp) => udp.unwrap_or_else(any),
        };
        if http.is_empty() && (udp.is_empty() || mode == Mode::Inline) {
            let problem = "as a tracker, the bridge needs at least one address to listen at";
            return misfit(&[Key("tracker"), Key("http")], problem);
        }
        no_doubles("tracker", [("http", &http), ("udp", &udp)])?;
        let terms = TermsForm {
            interval: self.interval,
            min_interval: self.min_interval,
            swarms: self.swarms,
            peers: self.peers,
            peers_per_swarm: self.peers_per_swarm,
            bound_only: self.names,
        };
        Ok(TrackerConfig {
            http,
            udp,
            terms: terms.check(Key("tracker"))?,
            trust_forwarded_for: self.trust_forwarded_for,
        })
    }
}

fn default_listen() -> Vec<SocketAddr> {
    vec![([0, 0, 0, 0], SEEDER_PORT).into(), ([0u16; 8], SEEDER_PORT).into()]
}
