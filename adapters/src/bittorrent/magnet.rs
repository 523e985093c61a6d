//! Magnet links (BEP 9, 52).

use std::fmt;

use p2pbridge_proto::{Name, NameError, parse_magnet_names};
use url::form_urlencoded;

use super::metainfo::Metainfo;

/// The longest link that is read, in bytes.
pub const MAX_LINK: usize = 64 << 10;

/// A magnet link.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Magnet {
    /// The names (`xt`) of known schemes; never empty in a link that was read.
    pub names: Vec<Name>,
    /// The title (`dn`).
    pub title: Option<String>,
    /// The trackers (`tr`).
    pub trackers: Vec<String>,
    /// Peers (`x.pe`), as they were written: `host:port`.
    pub peers: Vec<String>,
    /// Web seeds (`ws`), as they were written.
    pub web_seeds: Vec<String>,
    /// The files wanted (`so`, BEP 53), as they were written.
    pub select_only: Option<String>,
}

impl Magnet {
    /// Reads a link; parameters that are not known are passed over.
    ///
    /// # Errors
    /// When it is no magnet link, names nothing known, or a digest is not of its scheme.
    pub fn parse(link: &str) -> Result<Self, NameError> {
        let link = link.trim();
        if link.len() > MAX_LINK {
            return Err(NameError::UnknownScheme(link.chars().take(128).collect()));
        }
        let mut magnet = Self { names: parse_magnet_names(link)?, ..Self::default() };
        let query = link.split_once('?').map_or("", |(_, query)| query);
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            match key
                .split_once('.')
                .filter(|(_, n)| n.parse::<u8>().is_ok())
                .map_or(&*key, |k| k.0)
            {
                "dn" => magnet.title = Some(value),
                "tr" => magnet.trackers.push(value),
                "x.pe" => magnet.peers.push(value),
                "ws" => magnet.web_seeds.push(value),
                "so" => magnet.select_only = Some(value),
                _ => {}
            }
        }
        Ok(magnet)
    }
}

/// The magnet link of a torrent.
#[must_use]
pub fn magnet_of(metainfo: &Metainfo) -> Magnet {
    Magnet {
        names: metainfo.names(),
        title: Some(metainfo.title.clone()),
        trackers: metainfo.trackers.iter().flatten().cloned().collect(),
        ..Magnet::default()
    }
}

impl fmt::Display for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "magnet:?";
        for name in &self.names {
            write!(f, "{before}xt={name}")?;
            before = "&";
        }
        let lists = [("tr", &self.trackers), ("x.pe", &self.peers), ("ws", &self.web_seeds)];
        let title = self.title.iter().map(|title| ("dn", title));
        let select = self.select_only.iter().map(|select| ("so", select));
        let rest = lists.iter().flat_map(|(key, list)| list.iter().map(move |value| (*key, value)));
        for (key, value) in title.chain(rest).chain(select) {
            // `+` for a space is not understood by every client.
            let value: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
            write!(f, "{before}{key}={}", value.replace('+', "%20"))?;
            before = "&";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_printed_can_be_read() {
        let hybrid = include_bytes!("../../../tests/fixtures/bittorrent/hybrid.torrent");
        let mut magnet = magnet_of(&Metainfo::parse(&Bytes::from_static(hybrid)).unwrap());
        magnet.title = Some("a b+c & ü".into());
        magnet.peers.push("127.0.0.1:6881".into());
        magnet.web_seeds.push("http://x/?a=b".into());
        magnet.select_only = Some("0,2-3".into());
        assert_eq!(Magnet::parse(&magnet.to_string()), Ok(magnet.clone()));
        let text = magnet.to_string();
        assert!(text.starts_with(
            "magnet:?xt=urn:btih:b00e5e4640296212b23ca5b6815e37efb7d83cf9&xt=urn:btmh:1220b007"
        ));
        assert!(text.contains("dn=a%20b%2Bc%20%26%20%C3%BC&tr=http%3A%2F%2Fone.example"), "{text}");
    }

    #[test]
    fn numbered_and_unknown_parameters() {
        let link = "magnet:?xt.1=urn:btih:c12fe1c06bba254a9dc9f519b335aa7c1367a88a&tr.1=udp://a:1&tr.2=http://b&foo=1";
        let magnet = Magnet::parse(link).unwrap();
        assert_eq!(magnet.trackers, ["udp://a:1", "http://b"]);
        assert!(Magnet::parse("magnet:?dn=x").is_err());
        assert!(Magnet::parse("http://x").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(magnet:\\?)?(xt=urn:btih:[0-9a-f]{38,42}&)?.{0,60}") {
            let _ = Magnet::parse(&text);
        }
    }
}
