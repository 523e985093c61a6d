//! Which overlay can serve a content best: a score of terms that can be read one by one.
//!
//! Each term is a share between 0 and 1 times its weight; what is not known counts half. A candidate that cannot serve at
//! all says why, and stands behind all that can. A candidate that is better in one respect, and alike in all others,
//! never stands behind.

use std::{cmp::Ordering, fmt, time::Duration};

use p2pbridge_proto::{Name, OverlayId};
use serde::Deserialize;

use crate::config::human;

/// The round trip at which half of its points are left.
const USUAL_ROUND_TRIP: f64 = 0.2;
/// The number of seeds at which half of their points are reached.
const USUAL_SEEDS: f64 = 4.0;
/// What a peer counts, in seeds: it may hold only a part; it counts more when nobody says who is a seed.
const PEER: f64 = 0.1;
const PEER_UNTOLD: f64 = 0.3;
/// The bytes a second at which half of the points for bandwidth are reached.
const USUAL_BANDWIDTH: f64 = (10u64 << 20) as f64;
/// What counts for a thing that is not known.
const UNKNOWN: f64 = 0.5;

/// What each term of a score weighs: `[selection]` in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    /// That the overlay's trackers answer.
    pub health: f64,
    /// How soon they answer.
    pub round_trip: f64,
    /// How many peers hold the content.
    pub seeds: f64,
    /// What the route's limit leaves.
    pub bandwidth: f64,
    /// What the route costs.
    pub cost: f64,
    /// That the route is meant for this class of content.
    pub class: f64,
    /// The cost of a GiB at which half of the points for cost are left.
    pub usual_cost: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            health: 30.0,
            round_trip: 10.0,
            seeds: 20.0,
            bandwidth: 15.0,
            cost: 15.0,
            class: 10.0,
            usual_cost: 0.05,
        }
    }
}

impl Weights {
    /// The heaviest that a weight may be.
    const MOST: f64 = 1_000_000.0;

    /// Whether they make sense.
    ///
    /// # Errors
    /// Which does not, and what was expected.
    pub fn check(&self) -> Result<(), String> {
        for (what, weight) in [
            ("health", self.health),
            ("round_trip", self.round_trip),
            ("seeds", self.seeds),
            ("bandwidth", self.bandwidth),
            ("cost", self.cost),
            ("class", self.class),
        ] {
            if !(0.0..=Self::MOST).contains(&weight) {
                return Err(format!("selection.{what} is {weight}: expected 0 to {}", Self::MOST));
            }
        }
        if !(self.usual_cost > 0.0 && self.usual_cost <= Self::MOST) {
            return Err(format!(
                "selection.usual_cost is {}: expected more than 0, and {} at most",
                self.usual_cost,
                Self::MOST
            ));
        }
        Ok(())
    }
}

/// What kind of thing a content is, by the extension of its biggest file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentClass {
    /// Moving pictures.
    Video,
    /// Sound.
    Audio,
    /// Packed files, and images of disks.
    Archive,
    /// Still pictures.
    Image,
    /// Text to be read.
    Document,
    /// Programs and packages.
    Software,
    /// Anything else.
    Other,
}

impl ContentClass {
    /// The class of files, given as (path, length).
    #[must_use]
    pub fn of<'a>(files: impl IntoIterator<Item = (&'a str, u64)>) -> Self {
        // The first of several that are alike.
        let biggest =
            files.into_iter().reduce(|one, other| if other.1 > one.1 { other } else { one });
        let extension = biggest
            .and_then(|(path, _)| path.rsplit('/').next()?.rsplit_once('.'))
            .map(|(_, extension)| extension.to_ascii_lowercase());
        match extension.as_deref().unwrap_or_default() {
            "mkv" | "mp4" | "m4v" | "avi" | "mov" | "webm" | "mpg" | "mpeg" | "ts" | "m2ts"
            | "wmv" | "flv" | "ogv" | "vob" => Self::Video,
            "mp3" | "flac" | "ogg" | "oga" | "opus" | "m4a" | "m4b" | "aac" | "wav" | "wma"
            | "ape" | "alac" | "aiff" => Self::Audio,
            "zip" | "rar" | "7z" | "tar" | "gz" | "tgz" | "bz2" | "xz" | "zst" | "lz4" | "iso"
            | "img" | "cab" | "qcow2" | "vmdk" | "vdi" => Self::Archive,
            "jpg" | "jpeg" | "png" | "gif" | "webp" | "bmp" | "tif" | "tiff" | "svg" | "heic"
            | "avif" | "raw" | "psd" => Self::Image,
            "pdf" | "epub" | "mobi" | "azw3" | "djvu" | "txt" | "md" | "html" | "htm" | "doc"
            | "docx" | "odt" | "rtf" | "ppt" | "pptx" | "odp" | "xls" | "xlsx" | "ods" | "csv"
            | "cbz" | "cbr" => Self::Document,
            "exe" | "msi" | "dmg" | "pkg" | "deb" | "rpm" | "apk" | "ipa" | "appimage"
            | "flatpak" | "snap" | "jar" | "whl" | "crate" | "bin" | "so" | "dll" => Self::Software,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for ContentClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Archive => "archive",
            Self::Image => "image",
            Self::Document => "document",
            Self::Software => "software",
            Self::Other => "other",
        })
    }
}

/// An overlay that may give a content, and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// The overlay that would give.
    pub from: OverlayId,
    /// The overlay that would take.
    pub to: OverlayId,
    /// The name by which the content is had there.
    pub name: Name,
    /// What kind of content it is.
    pub class: ContentClass,
    /// The route between them, if there is one.
    pub route: Option<RouteFacts>,
    /// The overlay's trackers; `None` when the bridge itself is its tracker.
    pub trackers: Option<TrackerFacts>,
    /// Its swarm; `None` when it has not been asked for yet.
    pub swarm: Option<SwarmFacts>,
    /// Why the name may not leave its overlay at all, if it may not.
    pub closed: Option<String>,
}

/// A route, as far as the choice needs to know it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RouteFacts {
    /// Whether peers may be named as they are.
    pub direct: bool,
    /// Bytes a second that its limit leaves; `None` without a limit.
    pub spare: Option<u64>,
    /// Money for a GiB.
    pub cost: f64,
    /// Whether it is meant for this class of content; `None` when it is for all alike.
    pub meant_for: Option<bool>,
}

/// The trackers of an overlay, as the best of them does.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TrackerFacts {
    /// Share of the questions of late that were answered, 0 to 1.
    pub answered: Option<f64>,
    /// How long an answer takes.
    pub round_trip: Option<Duration>,
    /// When all are left alone after failures: for how long still, and what the failure was.
    pub rest: Option<(Duration, String)>,
}

/// A swarm, as the overlay's trackers tell of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SwarmFacts {
    /// Peers that hold everything, if the trackers say.
    pub seeds: Option<u32>,
    /// Peers whose address is known.
    pub peers: u32,
}

/// One term of a score.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    /// What it is about, as in `[selection]`.
    pub what: &'static str,
    /// What is known of that, in words.
    pub value: String,
    /// What it weighs: the most points that it can give.
    pub weight: f64,
    /// The points that it gives.
    pub points: f64,
}

/// How well an overlay can serve a content.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// The overlay that would give.
    pub from: OverlayId,
    /// The overlay that would take.
    pub to: OverlayId,
    /// The name by which the content is had there.
    pub name: Name,
    /// What kind of content it is.
    pub class: ContentClass,
    /// Whether its peers may be named as they are.
    pub direct: bool,
    /// The sum of all points.
    pub total: f64,
    /// What makes the sum.
    pub terms: Vec<Term>,
    /// Why it cannot serve, if it cannot.
    pub refusal: Option<String>,
}

impl Score {
    /// The order of preference: those that can serve first, those with more points first, then by their ids and names.
    #[must_use]
    pub fn preference(&self, other: &Self) -> Ordering {
        let key = |score: &Self| (score.refusal.is_some(), score.from.clone(), score.name);
        let (one, two) = (key(self), key(other));
        one.0
            .cmp(&two.0)
            .then(other.total.total_cmp(&self.total))
            .then(one.1.cmp(&two.1))
            .then(one.2.cmp(&two.2))
    }
}

/// Scores candidates, the best first.
#[must_use]
pub fn rank(weights: &Weights, candidates: impl IntoIterator<Item = Candidate>) -> Vec<Score> {
    let mut scores: Vec<Score> =
        candidates.into_iter().map(|candidate| score(weights, candidate)).collect();
    scores.sort_by(Score::preference);
    scores
}

/// Scores one candidate.
#[must_use]
pub fn score(weights: &Weights, candidate: Candidate) -> Score {
    let refusal = refusal(&candidate);
    let Candidate { from, to, name, class, route, trackers, swarm, .. } = candidate;
    let mut terms = Vec::with_capacity(6);
    let mut term = |what, weight: f64, (share, value): (f64, String)| {
        terms.push(Term { what, value, weight, points: weight * share });
    };
    term("health", weights.health, health(trackers.as_ref()));
    term("round_trip", weights.round_trip, round_trip(trackers.as_ref()));
    term("seeds", weights.seeds, seeds(swarm));
    if let Some(route) = route {
        term("bandwidth", weights.bandwidth, bandwidth(route.spare));
        term("cost", weights.cost, cost(route.cost, weights.usual_cost));
        term("class", weights.class, meant_for(route.meant_for, class));
    }
    let total = terms.iter().map(|term| term.points).sum();
    let direct = route.is_some_and(|route| route.direct);
    Score { from, to, name, class, direct, total, terms, refusal }
}

fn refusal(candidate: &Candidate) -> Option<String> {
    if candidate.route.is_none() {
        return Some(format!("no route from {} to {}", candidate.from, candidate.to));
    }
    if let Some(why) = &candidate.closed {
        return Some(why.clone());
    }
    if candidate.swarm.is_some_and(|swarm| swarm.peers > 0) {
        return None;
    }
    let rest = candidate.trackers.as_ref().and_then(|trackers| trackers.rest.as_ref());
    Some(match (rest, candidate.swarm) {
        (Some((left, error)), _) => format!("no peer is known: {}", resting(*left, error)),
        (None, None) => "no peer is known: its trackers have not answered yet".to_owned(),
        (None, Some(_)) => "no peer is known".to_owned(),
    })
}

fn resting(left: Duration, error: &str) -> String {
    // A rest that ends within the second is still one.
    let seconds = left.as_secs_f64().ceil();
    match error {
        "" => format!("its trackers rest for {seconds} s"),
        error => format!("its trackers rest for {seconds} s: {error}"),
    }
}

fn health(trackers: Option<&TrackerFacts>) -> (f64, String) {
    match trackers {
        None => (1.0, "the bridge is its tracker".to_owned()),
        Some(TrackerFacts { rest: Some((left, error)), .. }) => (0.0, resting(*left, error)),
        Some(TrackerFacts { answered: Some(share), .. }) => {
            let share = share.clamp(0.0, 1.0);
            (share, format!("{:.0} % answered", share * 100.0))
        }
        Some(_) => (UNKNOWN, "not asked yet".to_owned()),
    }
}

fn round_trip(trackers: Option<&TrackerFacts>) -> (f64, String) {
    match trackers.map(|trackers| trackers.round_trip) {
        None => (1.0, "none".to_owned()),
        Some(Some(took)) => {
            let seconds = took.as_secs_f64();
            (1.0 / (1.0 + seconds / USUAL_ROUND_TRIP), format!("{:.1} ms", seconds * 1_000.0))
        }
        Some(None) => (UNKNOWN, "not known".to_owned()),
    }
}

fn seeds(swarm: Option<SwarmFacts>) -> (f64, String) {
    let Some(SwarmFacts { seeds, peers }) = swarm else { return (0.0, "not known".to_owned()) };
    let (count, text) = match seeds {
        Some(seeds) => (
            f64::from(seeds) + PEER * f64::from(peers),
            format!("{seeds} seeds, {peers} peers known"),
        ),
        None => (PEER_UNTOLD * f64::from(peers), format!("{peers} peers known")),
    };
    (grows(count, USUAL_SEEDS), text)
}

#[allow(clippy::cast_precision_loss, reason = "a share need not be exact")]
fn bandwidth(spare: Option<u64>) -> (f64, String) {
    match spare {
        None => (1.0, "no limit".to_owned()),
        Some(spare) => {
            let bytes = spare as f64;
            (grows(bytes, USUAL_BANDWIDTH), format!("{}/s spare", human(spare)))
        }
    }
}

/// From 0 towards 1, and half at `usual`; never falls, not even by rounding.
fn grows(value: f64, usual: f64) -> f64 {
    1.0 - usual / (value + usual)
}

fn cost(cost: f64, usual: f64) -> (f64, String) {
    (1.0 / (1.0 + cost.max(0.0) / usual), format!("{cost} a GiB"))
}

fn meant_for(meant: Option<bool>, class: ContentClass) -> (f64, String) {
    match meant {
        Some(true) => (1.0, format!("meant for {class}")),
        Some(false) => (0.0, format!("not meant for {class}")),
        None => (UNKNOWN, format!("{class}, as good as any")),
    }
}

#[cfg(test)]
mod tests;
