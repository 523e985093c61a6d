//! The address of a server.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Deserializer, de::Visitor};
use thiserror::Error;

/// The address of a server: an IPv4 address or a name, and a TCP port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServerAddress {
    host: String,
    port: u16,
}

/// Why a text is no [`ServerAddress`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is no server's address: {problem}")]
pub struct ServerAddressError {
    text: String,
    problem: String,
}

impl ServerAddress {
    /// Its host: an address, or a name.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its TCP port; never 0.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for ServerAddress {
    type Err = ServerAddressError;

    /// Reads `ed2k://|server|HOST|PORT|/` and `HOST:PORT`.
    fn from_str(text: &str) -> Result<Self, ServerAddressError> {
        let bad = |problem: &str| ServerAddressError {
            text: text.chars().take(200).collect(),
            problem: problem.to_owned(),
        };
        let (host, port) = if let Some(link) = text.strip_prefix("ed2k://") {
            let parts: Vec<_> = link.trim_end_matches('/').split('|').collect();
            match parts.as_slice() {
                ["", "server", host, port] | ["", "server", host, port, ""] => (*host, *port),
                _ => return Err(bad("a server's link is ed2k://|server|HOST|PORT|/")),
            }
        } else {
            let apart = text.rsplit_once(':');
            apart.ok_or_else(|| bad("write HOST:PORT, or ed2k://|server|HOST|PORT|/"))?
        };
        let port = port.parse().ok().filter(|port| *port != 0);
        let port = port.ok_or_else(|| bad("its port is not within 1 and 65535"))?;
        let host = host.trim_end_matches('.');
        match host.parse() {
            Ok(IpAddr::V4(ip)) if ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() => {
                return Err(bad("nobody can be reached there"));
            }
            Ok(IpAddr::V6(_)) => return Err(bad("eD2k has addresses of IPv4 only")),
            Ok(IpAddr::V4(_)) => {}
            Err(_) if is_name(host) => {}
            Err(_) => return Err(bad("its host is neither an IPv4 address nor a name")),
        }
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }
}

/// Whether a text may be the name of a host.
fn is_name(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let numeric = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    !numeric && host.len() <= 253 && host.split('.').all(label)
}

impl fmt::Display for ServerAddress {
    /// As a link.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ed2k://|server|{}|{}|/", self.host, self.port)
    }
}

impl<'de> Deserialize<'de> for ServerAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Address;
        impl Visitor<'_> for Address {
            type Value = ServerAddress;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a server's address")
            }

            // An error of a visitor knows its place.
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ServerAddress, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_an_address_are_read_and_the_link_is_printed() {
        let same = ["ed2k://|server|198.51.100.1|4661|/", "ed2k://|server|198.51.100.1|4661|"];
        for text in same.iter().chain(&["198.51.100.1:4661"]) {
            let server: ServerAddress = text.parse().unwrap();
            assert_eq!((server.host(), server.port()), ("198.51.100.1", 4661));
            assert_eq!(server.to_string(), same[0]);
        }
        let named: ServerAddress = "Server.Example.:4242".parse().unwrap();
        assert_eq!((named.host(), named.port()), ("server.example", 4242));
        let cases = [
            ("server.example", "HOST:PORT"),
            ("server.example:0", "within 1 and 65535"),
            ("server.example:65536", "within 1 and 65535"),
            ("0.0.0.0:1", "nobody can be reached"),
            ("224.0.0.1:1", "nobody can be reached"),
            ("[::1]:4661", "neither"),
            ("ed2k://|server|::1|4661|/", "IPv4 only"),
            ("ed2k://|server|1.2.3|4661|/", "neither"),
            ("ed2k://|file|x|1|2|/", "ed2k://|server|HOST|PORT|/"),
            ("a b:1", "neither"),
            (":1", "neither"),
        ];
        for (text, says) in cases {
            let error = text.parse::<ServerAddress>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
