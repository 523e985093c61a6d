//! Values that overlays of several protocols have: how they are written, and their bounds.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    Misfit,
    at::Step::{self, Key},
    misfit,
};
use crate::{Budget, Mode, TrackerTerms};

/// The longest interval, in seconds.
const DAY: u64 = 24 * 3600;

/// What each tracker may be asked, as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BudgetForm {
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

impl BudgetForm {
    /// The budget.
    pub(crate) fn budget(&self) -> Budget {
        let number = |number| u32::try_from(number).unwrap_or(u32::MAX);
        Budget { per_second: number(self.per_second), in_flight: number(self.in_flight) }
    }
}

/// What the bridge keeps and says as a tracker, as written: keys of the tracker's table.
#[derive(Default)]
pub(crate) struct TermsForm {
    pub(crate) interval: Option<Duration>,
    pub(crate) min_interval: Option<Duration>,
    pub(crate) swarms: Option<usize>,
    pub(crate) peers: Option<usize>,
    pub(crate) peers_per_swarm: Option<usize>,
    pub(crate) bound_only: bool,
}

impl TermsForm {
    /// The terms, if they fit together; a misfit is in the table with this key.
    pub(crate) fn check(self, table: Step<'static>) -> Result<TrackerTerms, Misfit> {
        let terms = TrackerTerms::default();
        let interval = self.interval.unwrap_or(terms.interval);
        let peers = self.peers.unwrap_or(terms.peers);
        if self.min_interval.is_some_and(|least| least > interval) {
            let problem = format!("`min_interval` is longer than `interval` ({interval:?})");
            return misfit(&[table, Key("min_interval")], problem);
        }
        if self.peers_per_swarm.is_some_and(|one| one > peers) {
            let problem = format!("`peers_per_swarm` is more than `peers` ({peers})");
            return misfit(&[table, Key("peers_per_swarm")], problem);
        }
        Ok(TrackerTerms {
            interval,
            min_interval: self.min_interval.unwrap_or(terms.min_interval).min(interval),
            swarms: self.swarms.unwrap_or(terms.swarms),
            peers,
            peers_per_swarm: self.peers_per_swarm.unwrap_or(terms.peers_per_swarm).min(peers),
            bound_only: self.bound_only,
        })
    }
}

/// Addresses to listen at, by their keys in a table: none of them may be there before under the same key. A port that the
/// system chooses is never the same.
pub(crate) fn no_doubles(
    table: &'static str,
    listed: [(&'static str, &[SocketAddr]); 2],
) -> Result<(), Misfit> {
    for (key, addresses) in listed {
        let is_there = |(place, address): &(usize, &SocketAddr)| {
            address.port() != 0 && addresses.iter().take(*place).any(|other| other == *address)
        };
        if let Some((place, twice)) = addresses.iter().enumerate().find(is_there) {
            let path = [Step::Key(table), Step::Key(key), Step::Place(place)];
            return misfit(&path, format!("`{twice}` is there twice"));
        }
    }
    Ok(())
}

/// How many peers may be connected, unless told otherwise.
pub(crate) const fn max_sessions() -> usize {
    400
}

/// How many peers are served at the same time, unless told otherwise.
pub(crate) const fn upload_slots() -> usize {
    16
}

pub(crate) fn mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mode, D::Error> {
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
pub(crate) fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "any" => Ok(false),
        "bound" => Ok(true),
        other => Err(D::Error::custom(format!("`{other}` can be \"any\" or \"bound\""))),
    }
}

pub(crate) fn listen<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<SocketAddr>, D::Error> {
    let listen = addresses(deserializer)?.unwrap_or_default();
    if listen.is_empty() {
        return Err(D::Error::custom("peers need at least one address to reach the bridge at"));
    }
    Ok(listen)
}

pub(crate) fn public<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpAddr>, D::Error> {
    let public = Vec::<IpAddr>::deserialize(deserializer)?;
    match public.iter().find(|ip| ip.is_unspecified() || ip.is_multicast()) {
        Some(ip) => Err(D::Error::custom(format!("nobody can be reached at {ip}"))),
        None if public.len() > 16 => {
            Err(D::Error::custom(format!("{} addresses are more than 16", public.len())))
        }
        None => Ok(public),
    }
}

pub(crate) fn addresses<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<SocketAddr>>, D::Error> {
    let addresses = Vec::deserialize(deserializer)?;
    match addresses.len() {
        0..=16 => Ok(Some(addresses)),
        many => Err(D::Error::custom(format!("{many} addresses are more than 16"))),
    }
}

pub(crate) fn seconds<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let seconds = i64::deserialize(deserializer)?;
    match u64::try_from(seconds) {
        Ok(some @ 1..=DAY) => Ok(Some(Duration::from_secs(some))),
        _ => Err(D::Error::custom(format!("{seconds} seconds are not within 1 and {DAY}"))),
    }
}

pub(crate) fn count<'de, D: Deserializer<'de>, const MOST: usize>(
    deserializer: D,
) -> Result<Option<usize>, D::Error> {
    within::<D, 1, MOST>(deserializer).map(Some)
}

pub(crate) fn within<'de, D: Deserializer<'de>, const LEAST: usize, const MOST: usize>(
    deserializer: D,
) -> Result<usize, D::Error> {
    let number = i64::deserialize(deserializer)?;
    usize::try_from(number)
        .ok()
        .filter(|number| (LEAST..=MOST).contains(number))
        .ok_or_else(|| D::Error::custom(format!("{number} is not within {LEAST} and {MOST}")))
}
