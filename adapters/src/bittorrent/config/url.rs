//! The URL of a tracker.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, de::Error as _};
use thiserror::Error;
use url::{Host, Url};

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
