//! The form of an overlay in the file, and what must fit together in it.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use p2pbridge_proto::OverlayId;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    BtConfig, TrackerConfig, TrackerUrl,
    at::Step::{self, Key, Place},
    tiers::tiers,
};
use crate::{Budget, Mode, TrackerTerms};

/// The longest interval, in seconds.
const DAY: u64 = 24 * 3600;
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
    #[serde(default = "default_max_sessions", deserialize_with = "within::<_, 1, 10_000>")]
    max_sessions: usize,
    #[serde(default = "default_upload_slots", deserialize_with = "within::<_, 1, 1000>")]
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct BudgetForm {
    #[serde(deserialize_with = "within::<_, 1, 1_000_000>")]
    per_second: usize,
    #[serde(deserialize_with = "within::<_, 1, 10_000>")]
    in_flight: usize,
}

impl Default for BudgetForm {
    fn default() -> Self {
        let Budget { per_second, in_flight } = Budget::default();
        let number = |number| usize::try_from(number).unwrap_or(usize::MAX);
        Self { per_second: number(per_second), in_flight: number(in_flight) }
    }
}

/// What does not fit: the value below the overlay's table, and why.
pub(super) type Misfit = (Vec<Step<'static>>, String);

fn misfit<T>(path: &[Step<'static>], problem: impl fmt::Display) -> Result<T, Misfit> {
    Err((path.to_vec(), problem.to_string()))
}

/// Reads the overlays of a file, each for itself.
pub(super) fn read(text: &str) -> Result<BTreeMap<OverlayId, Form>, toml::de::Error> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        overlays: Overlays,
    }
    #[derive(Deserialize, Default)]
    struct Overlays {
        #[serde(default)]
        bittorrent: BTreeMap<Id, Form>,
    }
    let file: File = toml::from_str(text)?;
    Ok(file.overlays.bittorrent.into_iter().map(|(id, form)| (id.0, form)).collect())
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Id(OverlayId);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(D::Error::custom)
    }
}

impl Form {
    /// The overlay, if all of it fits together.
    pub(super) fn check(mut self) -> Result<BtConfig, Misfit> {
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
        let number = |number| u32::try_from(number).unwrap_or(u32::MAX);
        let config = BtConfig {
            mode: self.mode,
            trackers: self.trackers,
            listen: self.listen,
            public: self.public,
            max_sessions: self.max_sessions,
            upload_slots: self.upload_slots,
            tracker,
            budget: Budget {
                per_second: number(self.budget.per_second),
                in_flight: number(self.budget.in_flight),
            },
        };
        if config.mode != Mode::Presence && config.reachable(&config.listen).is_empty() {
            let problem = format!(
                "with mode = \"{}\" the bridge itself tells peers where it is: give `public` the \
                 addresses by which they reach this host, or let `listen` name one",
                config.mode
            );
            return misfit(&[Key("mode")], problem);
        }
        Ok(config)
    }

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
        for (key, addresses) in [("http", &http), ("udp", &udp)] {
            if let Some((place, twice)) = doubled(addresses) {
                return misfit(
                    &[Key("tracker"), Key(key), Place(place)],
                    format!("`{twice}` is there twice"),
                );
            }
        }
        let terms = TrackerTerms::default();
        let interval = self.interval.unwrap_or(terms.interval);
        let peers = self.peers.unwrap_or(terms.peers);
        if self.min_interval.is_some_and(|least| least > interval) {
            let problem = format!("`min_interval` is longer than `interval` ({interval:?})");
            return misfit(&[Key("tracker"), Key("min_interval")], problem);
        }
        if self.peers_per_swarm.is_some_and(|one| one > peers) {
            let problem = format!("`peers_per_swarm` is more than `peers` ({peers})");
            return misfit(&[Key("tracker"), Key("peers_per_swarm")], problem);
        }
        Ok(TrackerConfig {
            http,
            udp,
            terms: TrackerTerms {
                interval,
                min_interval: self.min_interval.unwrap_or(terms.min_interval).min(interval),
                swarms: self.swarms.unwrap_or(terms.swarms),
                peers,
                peers_per_swarm: self.peers_per_swarm.unwrap_or(terms.peers_per_swarm).min(peers),
                bound_only: self.names,
            },
            trust_forwarded_for: self.trust_forwarded_for,
        })
    }
}

/// The first address that was there before; a port that the system chooses is never the same.
fn doubled(addresses: &[SocketAddr]) -> Option<(usize, SocketAddr)> {
    let twice = |(place, address): &(usize, SocketAddr)| {
        address.port() != 0 && addresses.iter().take(*place).any(|other| other == address)
    };
    addresses.iter().copied().enumerate().find(twice)
}

fn mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mode, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "presence" => Ok(Mode::Presence),
        "front" => Ok(Mode::Front),
        "inline" => Ok(Mode::Inline),
        other => Err(D::Error::custom(format!(
            "`{other}` is no mode: it can be \"presence\", \"front\" or \"inline\""
        ))),
    }
}

/// Whether only bound names are served.
fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "any" => Ok(false),
        "bound" => Ok(true),
        other => Err(D::Error::custom(format!("`{other}` can be \"any\" or \"bound\""))),
    }
}

fn listen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    let listen = addresses(deserializer)?.unwrap_or_default();
    if listen.is_empty() {
        return Err(D::Error::custom("peers need at least one address to reach the bridge at"));
    }
    Ok(listen)
}

fn public<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpAddr>, D::Error> {
    let public = Vec::<IpAddr>::deserialize(deserializer)?;
    match public.iter().find(|ip| ip.is_unspecified() || ip.is_multicast()) {
        Some(ip) => Err(D::Error::custom(format!("nobody can be reached at {ip}"))),
        None if public.len() > 16 => {
            Err(D::Error::custom(format!("{} addresses are more than 16", public.len())))
        }
        None => Ok(public),
    }
}

fn addresses<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<SocketAddr>>, D::Error> {
    let addresses = Vec::deserialize(deserializer)?;
    match addresses.len() {
        0..=16 => Ok(Some(addresses)),
        many => Err(D::Error::custom(format!("{many} addresses are more than 16"))),
    }
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let seconds = i64::deserialize(deserializer)?;
    match u64::try_from(seconds) {
        Ok(some @ 1..=DAY) => Ok(Some(Duration::from_secs(some))),
        _ => Err(D::Error::custom(format!("{seconds} seconds are not within 1 and {DAY}"))),
    }
}

fn count<'de, D: Deserializer<'de>, const MOST: usize>(
    deserializer: D,
) -> Result<Option<usize>, D::Error> {
    within::<D, 1, MOST>(deserializer).map(Some)
}

fn within<'de, D: Deserializer<'de>, const LEAST: usize, const MOST: usize>(
    deserializer: D,
) -> Result<usize, D::Error> {
    let number = i64::deserialize(deserializer)?;
    usize::try_from(number)
        .ok()
        .filter(|number| (LEAST..=MOST).contains(number))
        .ok_or_else(|| D::Error::custom(format!("{number} is not within {LEAST} and {MOST}")))
}

fn default_listen() -> Vec<SocketAddr> {
    vec![([0, 0, 0, 0], SEEDER_PORT).into(), ([0u16; 8], SEEDER_PORT).into()]
}

const fn default_max_sessions() -> usize {
    400
}

const fn default_upload_slots() -> usize {
    16
}
