//! Servers, as they are written: links, and `HOST:PORT`.

use std::{fmt, net::Ipv4Addr};

use p2pbridge_proto::Ed2kServerLink;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, Visitor},
};

use super::MAX_SERVERS;

/// The address of a server.
struct Address(Ed2kServerLink);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Address;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a server's link, or HOST:PORT")
            }

            // An error of a visitor knows its place.
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Address, E> {
                address(text).map(Address).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

pub(super) fn servers<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Ed2kServerLink>, D::Error> {
    let servers = Vec::<Address>::deserialize(deserializer)?;
    match servers.len() {
        0..=MAX_SERVERS => Ok(servers.into_iter().map(|server| server.0).collect()),
        many => Err(D::Error::custom(format!("{many} servers are more than {MAX_SERVERS}"))),
    }
}

fn address(text: &str) -> Result<Ed2kServerLink, String> {
    let bad = |problem: &dyn fmt::Display| {
        format!("`{}` is no server: {problem}", text.chars().take(200).collect::<String>())
    };
    let link = match text.rsplit_once(':') {
        Some((host, port)) if !text.contains('|') => format!("ed2k://|server|{host}|{port}|/"),
        None if !text.contains('|') => {
            return Err(bad(&"write HOST:PORT, or ed2k://|server|HOST|PORT|/"));
        }
        _ => text.to_owned(),
    };
    let mut server: Ed2kServerLink = link.parse().map_err(|error| bad(&error))?;
    server.host.make_ascii_lowercase();
    match server.host.parse::<Ipv4Addr>() {
        Ok(ip) if ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() => {
            Err(bad(&"nobody can be reached there"))
        }
        Err(_) if server.host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') => {
            Err(bad(&"its host is neither an IPv4 address nor a name"))
        }
        _ => Ok(server),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_an_address_are_read() {
        for text in ["ed2k://|server|198.51.100.1|4661|/", "198.51.100.1:4661"] {
            let server = address(text).unwrap();
            assert_eq!((server.host.as_str(), server.port), ("198.51.100.1", 4661));
        }
        assert_eq!(address("Server.Example:4242").unwrap().host, "server.example");
        let cases = [
            ("server.example", "HOST:PORT"),
            ("server.example:0", "is no port"),
            ("server.example:65536", "is no port"),
            ("0.0.0.0:1", "nobody can be reached"),
            ("224.0.0.1:1", "nobody can be reached"),
            ("[::1]:4661", "is no host"),
            ("ed2k://|server|1.2.3|4661|/", "neither"),
            ("ed2k://|file|x|1|31D6CFE0D16AE931B73C59D7E0C089C0|/", "not of a server"),
            ("a b:1", "is no host"),
        ];
        for (text, says) in cases {
            let error = address(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
