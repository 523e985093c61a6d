use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, de};

/// The page of metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Where it listens; `None`, in the file `""`, for nowhere.
    #[serde(deserialize_with = "address")]
    pub listen: Option<SocketAddr>,
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let expected = "expected an address and a port, such as \"127.0.0.1:9464\", or \"\" for none";
    text.parse().map(Some).map_err(|_| de::Error::custom(expected))
}
