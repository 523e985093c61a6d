//! `[overlays.bittorrent.<id>]`: how a BitTorrent overlay is configured.

use std::{collections::BTreeMap, fmt, net::SocketAddr, str::FromStr};

use p2pbridge_proto::OverlayId;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor, value::SeqAccessDeserializer},
};
use thiserror::Error;
use url::{Host, Url};

use crate::Mode;

/// The most trackers of one overlay.
pub const MAX_TRACKERS: usize = 32;

/// Every key, with its default; a test reads it.
pub const EXAMPLE: &str = r#"# A BitTorrent overlay: a set of trackers, and the peers that announce to them.
[overlays.bittorrent.example]

# Its trackers: http, https or udp. Each URL is a tier of its own, tried in this order; URLs in a list of their own
# share a tier, in which the one that answered last is tried first (BEP 12).
trackers = ["http://tracker.example/announce", ["udp://a.example:6969", "udp://b.example:6969"]]

# How the overlay is joined. "presence": the bridge announces itself as one more peer; nothing in the overlay changes.
# mode = "presence"

# Where the overlay's peers reach the bridge: these ports are announced. Port 0 takes any free port.
# listen = ["0.0.0.0:6881", "[::]:6881"]

# How many peers may be connected to download from the bridge.
# max_sessions = 400

# How many of them are served at the same time; the others take turns.
# upload_slots = 16
"#;

/// A BitTorrent overlay, as configured.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BtConfig {
    /// How it is joined.
    #[serde(default, deserialize_with = "mode")]
    pub mode: Mode,
    /// Its trackers, tier by tier; never empty.
    #[serde(deserialize_with = "tiers")]
    pub trackers: Vec<Vec<TrackerUrl>>,
    /// Where its peers reach the bridge; never empty.
    #[serde(default = "default_listen", deserialize_with = "listen")]
    pub listen: Vec<SocketAddr>,
    /// How many peers may be connected to the seeder: 1 to 10,000.
    #[serde(default = "default_max_sessions", deserialize_with = "max_sessions")]
    pub max_sessions: usize,
    /// How many peers are served at the same time: 1 to 1,000.
    #[serde(default = "default_upload_slots", deserialize_with = "upload_slots")]
    pub upload_slots: usize,
}

/// The URL of a tracker: http, https or udp.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrackerUrl(Url);

/// Why a text is no [`TrackerUrl`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{url}` is no tracker's URL: {problem}")]
pub struct TrackerUrlError {
    url: String,
    problem: String,
}

impl TrackerUrl {
    /// The URL.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// Whether it is spoken to over UDP.
    #[must_use]
    pub fn is_udp(&self) -> bool {
        self.0.scheme() == "udp"
    }

    /// Its host: an address without brackets, or a name.
    #[must_use]
    pub fn host(&self) -> String {
        match self.0.host() {
            Some(Host::Ipv6(ip)) => ip.to_string(),
            Some(host) => host.to_string(),
            None => String::new(),
        }
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(0)
    }
}

impl FromStr for TrackerUrl {
    type Err = TrackerUrlError;

    fn from_str(text: &str) -> Result<Self, TrackerUrlError> {
        let bad = |problem: &str| TrackerUrlError {
            url: text.chars().take(200).collect(),
            problem: problem.to_owned(),
        };
        let url = Url::parse(text).map_err(|error| bad(&error.to_string()))?;
        match url.scheme() {
            "http" | "https" => {}
            "udp" if url.port().is_none_or(|port| port == 0) => {
                return Err(bad("a udp tracker needs a port, as in udp://host:6969"));
            }
            "udp" => {}
            "ws" | "wss" => return Err(bad("trackers of browsers (ws, wss) are not spoken yet")),
            _ => return Err(bad("it must begin with http://, https:// or udp://")),
        }
        match url.host_str() {
            None | Some("") => Err(bad("it has no host")),
            Some(_) => Ok(Self(url)),
        }
    }
}

impl fmt::Display for TrackerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for TrackerUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Every BitTorrent overlay in the text of a configuration file; what else is in there is not looked at.
///
/// # Errors
/// When the text is no TOML, or an overlay in it is not right; the error knows the line.
pub fn parse(text: &str) -> Result<BTreeMap<OverlayId, BtConfig>, toml::de::Error> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default)]
        overlays: Overlays,
    }
    #[derive(Deserialize, Default)]
    struct Overlays {
        #[serde(default)]
        bittorrent: BTreeMap<Id, BtConfig>,
    }
    let file: File = toml::from_str(text)?;
    Ok(file.overlays.bittorrent.into_iter().map(|(id, config)| (id.0, config)).collect())
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Id(OverlayId);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(D::Error::custom)
    }
}

fn mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mode, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "presence" => Ok(Mode::Presence),
        other => Err(D::Error::custom(format!("`{other}` is no mode: it can be \"presence\""))),
    }
}

/// A tier: one URL, or a list of them.
struct Tier(Vec<TrackerUrl>);

impl<'de> Deserialize<'de> for Tier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Tier;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a tracker's URL, or a list of them")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Tier, E> {
                text.parse().map(|url| Tier(vec![url])).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Tier, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Tier)
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

fn tiers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Vec<TrackerUrl>>, D::Error> {
    let mut tiers = Vec::<Tier>::deserialize(deserializer)?;
    tiers.retain(|tier| !tier.0.is_empty());
    match tiers.iter().map(|tier| tier.0.len()).sum::<usize>() {
        0 => Err(D::Error::custom("an overlay needs at least one tracker")),
        1..=MAX_TRACKERS => Ok(tiers.into_iter().map(|tier| tier.0).collect()),
        many => Err(D::Error::custom(format!("{many} trackers are more than {MAX_TRACKERS}"))),
    }
}

fn listen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    let listen = Vec::deserialize(deserializer)?;
    match listen.len() {
        0 => Err(D::Error::custom("peers need at least one address to reach the bridge at")),
        1..=16 => Ok(listen),
        many => Err(D::Error::custom(format!("{many} addresses are more than 16"))),
    }
}

fn max_sessions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    within(deserializer, 10_000)
}

fn upload_slots<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    within(deserializer, 1000)
}

fn within<'de, D: Deserializer<'de>>(deserializer: D, most: usize) -> Result<usize, D::Error> {
    let number = i64::deserialize(deserializer)?;
    usize::try_from(number)
        .ok()
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| D::Error::custom(format!("{number} is not within 1 and {most}")))
}

fn default_listen() -> Vec<SocketAddr> {
    vec![([0, 0, 0, 0], 6881).into(), ([0u16; 8], 6881).into()]
}

const fn default_max_sessions() -> usize {
    400
}

const fn default_upload_slots() -> usize {
    16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(keys: &str) -> Result<BtConfig, toml::de::Error> {
        let text = format!("[overlays.bittorrent.a]\n{keys}\n");
        parse(&text).map(|mut all| all.remove(&"a".parse().unwrap()).unwrap())
    }

    #[test]
    fn the_example_shows_the_defaults() {
        let id = "example".parse().unwrap();
        let short = parse(EXAMPLE).unwrap().remove(&id).unwrap();
        let spelt_out: String = EXAMPLE
            .lines()
            .map(|line| match line.strip_prefix("# ").filter(|rest| rest.contains(" = ")) {
                Some(setting) => format!("{setting}\n"),
                None => format!("{line}\n"),
            })
            .collect();
        assert_eq!(spelt_out.matches("\nmode =").count(), 1);
        assert_eq!(parse(&spelt_out).unwrap().remove(&id).unwrap(), short);
        assert_eq!(short.trackers.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2]);
        assert_eq!((short.max_sessions, short.upload_slots), (400, 16));
    }

    #[test]
    fn other_parts_of_the_file_are_not_looked_at() {
        let text = "data_dir = 1\n[overlays.other.x]\ny = 1\n[overlays.bittorrent.a]\ntrackers = ['http://x/announce']\n";
        assert_eq!(parse(text).unwrap().len(), 1);
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn errors_name_the_value_and_its_line() {
        let error = |keys: &str| one(keys).unwrap_err().to_string();
        let bad = error("trackers = [\n  'http://x/a',\n  'ftp://y/a',\n]");
        assert!(bad.contains("line 4") && bad.contains("it must begin with http://"), "{bad}");
        assert!(error("trackers = ['udp://y']").contains("needs a port"));
        assert!(error("trackers = ['udp://:1']").contains("host"));
        assert!(error("trackers = []").contains("at least one tracker"));
        assert!(error("").contains("trackers"));
        assert!(error("trackers = [1]").contains("a tracker's URL"));
        let ok = "trackers = ['udp://y:1']\n";
        let inline = error(&format!("{ok}mode = 'inline'"));
        assert!(inline.contains("line 3") && inline.contains("is no mode"), "{inline}");
        assert!(error(&format!("{ok}max_sessions = 0")).contains("within 1 and 10000"));
        assert!(error(&format!("{ok}listen = ['x']")).contains("line 3"));
        assert!(error(&format!("{ok}colour = 1")).contains("unknown field `colour`"));
        let id = parse("[overlays.bittorrent.A_]\ntrackers = ['udp://y:1']").unwrap_err();
        assert!(id.to_string().contains("is no overlay id"), "{id}");
    }
}
