//! Questions to an HTTP tracker, as query strings.

use p2pbridge_proto::PeerEvent;
use thiserror::Error;

/// The longest query string that is read, in bytes.
pub const MAX_QUERY: usize = 4096;
/// The most info-hashes in one scrape.
pub const MAX_SCRAPE: usize = 50;
/// The longest `trackerid` that is taken back, in bytes.
pub const MAX_TOKEN: usize = 256;

/// An announce (BEP 3), over HTTP or UDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnounceRequest {
    /// The torrent.
    pub info_hash: [u8; 20],
    /// Who announces.
    pub peer_id: [u8; 20],
    /// The port at which the peer listens.
    pub port: u16,
    /// Payload bytes sent since `started`.
    pub uploaded: u64,
    /// Payload bytes received since `started`.
    pub downloaded: u64,
    /// Bytes still lacking, if said.
    pub left: Option<u64>,
    /// Where in its life the peer is.
    pub event: PeerEvent,
    /// How many peers are wanted, if said.
    pub num_want: Option<u32>,
    /// What proves to the tracker, after a change of address, that it is the same peer.
    pub key: Option<u32>,
    /// What the tracker wants to be told again. Not in UDP.
    pub tracker_id: Option<Vec<u8>>,
    /// Whether peers are wanted as strings of addresses (BEP 23). Not in UDP.
    pub compact: bool,
    /// Whether peer ids may be left out of the other form. Not in UDP.
    pub no_peer_id: bool,
}

/// A scrape (BEP 48), over HTTP or UDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrapeRequest {
    /// The torrents; at most [`MAX_SCRAPE`] over HTTP.
    pub info_hashes: Vec<[u8; 20]>,
}

/// What is wrong with a query string.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QueryError {
    /// Longer than [`MAX_QUERY`].
    #[error("the request is longer than {MAX_QUERY} bytes")]
    TooLong,
    /// A field that must be there is not.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A field with a value that it cannot have.
    #[error("`{field}` {problem}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl QueryError {
    /// Whether the asker can be told: one that sends endless requests is not listened to any further.
    #[must_use]
    pub fn is_answerable(&self) -> bool {
        !matches!(self, Self::TooLong)
    }
}

impl AnnounceRequest {
    /// The query string, without `?`.
    #[must_use]
    pub fn query(&self) -> String {
        let mut out = String::with_capacity(320);
        field(&mut out, "info_hash", &self.info_hash);
        field(&mut out, "peer_id", &self.peer_id);
        let numbers = [
            ("port", Some(u64::from(self.port))),
            ("uploaded", Some(self.uploaded)),
            ("downloaded", Some(self.downloaded)),
            ("left", self.left),
            ("compact", Some(u64::from(self.compact))),
            ("no_peer_id", self.no_peer_id.then_some(1)),
            ("numwant", self.num_want.map(u64::from)),
        ];
        for (name, value) in numbers {
            if let Some(value) = value {
                field(&mut out, name, itoa::Buffer::new().format(value).as_bytes());
            }
        }
        if let Some(word) = event_word(self.event) {
            field(&mut out, "event", word.as_bytes());
        }
        if let Some(key) = self.key {
            field(&mut out, "key", format!("{key:08X}").as_bytes());
        }
        if let Some(id) = &self.tracker_id {
            field(&mut out, "trackerid", id);
        }
        out
    }

    /// Reads a query string. `ip=`, `ipv4=` and `ipv6=` are not looked at: the address is the one that is seen. Fields
    /// that are not known are passed over.
    ///
    /// # Errors
    /// When a field that must be there is missing, a known field is there twice, or one cannot be understood.
    pub fn parse(query: &str) -> Result<Self, QueryError> {
        let (mut info_hash, mut peer_id, mut port) = (None, None, None);
        let mut request = Self {
            info_hash: [0; 20],
            peer_id: [0; 20],
            port: 0,
            uploaded: 0,
            downloaded: 0,
            left: None,
            event: PeerEvent::Regular,
            num_want: None,
            key: None,
            tracker_id: None,
            compact: true,
            no_peer_id: false,
        };
        let mut seen = Seen::default();
        for (name, value) in pairs(query)? {
            let Some((at, field)) = FIELDS.iter().enumerate().find(|(_, field)| **field == name)
            else {
                continue;
            };
            seen.once(at, field)?;
            match name {
                "info_hash" => info_hash = Some(hash(field, value)?),
                "peer_id" => peer_id = Some(hash(field, value)?),
                "port" => port = Some(number(field, value)?),
                "uploaded" => request.uploaded = number(field, value)?,
                "downloaded" => request.downloaded = number(field, value)?,
                "left" => request.left = Some(number(field, value)?),
                "event" => request.event = event(value)?,
                // Clients send -1 for "as many as you like".
                "numwant" if value.starts_with('-') => request.num_want = None,
                "numwant" => request.num_want = Some(number(field, value)?),
                "key" => request.key = u32::from_str_radix(value, 16).ok(),
                "trackerid" => request.tracker_id = Some(decode(field, value)?),
                "compact" => request.compact = value != "0",
                "no_peer_id" => request.no_peer_id = value == "1",
                _ => {}
            }
        }
        request.info_hash = info_hash.ok_or(QueryError::Missing("info_hash"))?;
        request.peer_id = peer_id.ok_or(QueryError::Missing("peer_id"))?;
        request.port = port.ok_or(QueryError::Missing("port"))?;
        if request.port == 0 && request.event != PeerEvent::Stopped {
            return Err(QueryError::Invalid { field: "port", problem: "is 0" });
        }
        Ok(request)
    }
}

impl ScrapeRequest {
    /// The query string, without `?`.
    #[must_use]
    pub fn query(&self) -> String {
        let mut out = String::new();
        self.info_hashes.iter().for_each(|hash| field(&mut out, "info_hash", hash));
        out
    }

    /// Reads a query string.
    ///
    /// # Errors
    /// When there is no info-hash, one that is none, or more than [`MAX_SCRAPE`]. The same one may be there twice.
    pub fn parse(query: &str) -> Result<Self, QueryError> {
        let mut info_hashes = Vec::new();
        for (_, value) in pairs(query)?.filter(|(name, _)| *name == "info_hash") {
            if info_hashes.len() >= MAX_SCRAPE {
                let problem = "is there more than 50 times";
                return Err(QueryError::Invalid { field: "info_hash", problem });
            }
            info_hashes.push(hash("info_hash", value)?);
        }
        if info_hashes.is_empty() {
            return Err(QueryError::Missing("info_hash"));
        }
        Ok(Self { info_hashes })
    }
}

/// The word of an event; a regular announce has none.
#[must_use]
pub fn event_word(event: PeerEvent) -> Option<&'static str> {
    match event {
        PeerEvent::Regular => None,
        PeerEvent::Started => Some("started"),
        PeerEvent::Completed => Some("completed"),
        PeerEvent::Stopped => Some("stopped"),
        PeerEvent::Paused => Some("paused"),
    }
}

fn event(word: &str) -> Result<PeerEvent, QueryError> {
    Ok(match word {
        "" | "empty" => PeerEvent::Regular,
        "started" => PeerEvent::Started,
        "completed" => PeerEvent::Completed,
        "stopped" => PeerEvent::Stopped,
        "paused" => PeerEvent::Paused,
        _ => return Err(QueryError::Invalid { field: "event", problem: "is not known" }),
    })
}

fn field(out: &mut String, name: &str, value: &[u8]) {
    if !out.is_empty() {
        out.push('&');
    }
    out.push_str(name);
    out.push('=');
    for byte in value {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(*byte));
            }
            other => {
                out.push('%');
                out.push(hex_digit(other >> 4));
                out.push(hex_digit(other & 0xF));
            }
        }
    }
}

fn hex_digit(digit: u8) -> char {
    char::from(if digit < 10 { b'0' + digit } else { b'A' - 10 + digit })
}

/// Names and values; what has no `=` is passed over. One pass over the bytes: this is most of what a question costs.
fn pairs(query: &str) -> Result<impl Iterator<Item = (&str, &str)>, QueryError> {
    if query.len() > MAX_QUERY {
        return Err(QueryError::TooLong);
    }
    let mut rest = query;
    Ok(std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (mut equals, mut end) = (None, rest.len());
            for (at, byte) in rest.bytes().enumerate() {
                match byte {
                    b'=' if equals.is_none() => equals = Some(at),
                    b'&' => {
                        end = at;
                        break;
                    }
                    _ => {}
                }
            }
            let (pair, behind) = rest.split_at(end);
            rest = behind.get(1..).unwrap_or_default();
            if let Some((name, value)) = equals.and_then(|at| pair.split_at_checked(at)) {
                return Some((name, value.get(1..).unwrap_or_default()));
            }
        }
        None
    }))
}

fn number<N: std::str::FromStr>(field: &'static str, value: &str) -> Result<N, QueryError> {
    value.parse().map_err(|_| QueryError::Invalid { field, problem: "is no number that it can be" })
}

fn hash(field: &'static str, value: &str) -> Result<[u8; 20], QueryError> {
    let mut out = [0; 20];
    let mut places = out.iter_mut();
    let wrong = || QueryError::Invalid { field, problem: "has not 20 bytes" };
    for byte in decoded(field, value) {
        *places.next().ok_or_else(wrong)? = byte?;
    }
    if places.next().is_some() { Err(wrong()) } else { Ok(out) }
}

/// A byte string of at most [`MAX_TOKEN`] bytes.
fn decode(field: &'static str, value: &str) -> Result<Vec<u8>, QueryError> {
    let bytes: Vec<u8> = decoded(field, value).collect::<Result<_, _>>()?;
    if bytes.len() > MAX_TOKEN {
        return Err(QueryError::Invalid { field, problem: "is too long" });
    }
    Ok(bytes)
}

/// Undoes percent-encoding. A `+` is a plus.
fn decoded(field: &'static str, value: &str) -> impl Iterator<Item = Result<u8, QueryError>> {
    let bad = move || QueryError::Invalid { field, problem: "has a % without two hex digits" };
    let digit = |byte: Option<u8>| {
        byte.and_then(|byte| char::from(byte).to_digit(16))
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let mut bytes = value.bytes();
    std::iter::from_fn(move || {
        Some(match bytes.next()? {
            b'%' => match (digit(bytes.next()), digit(bytes.next())) {
                (Some(high), Some(low)) => Ok(high << 4 | low),
                _ => Err(bad()),
            },
            other => Ok(other),
        })
    })
}

/// The fields of an announce that are looked at.
pub const FIELDS: [&str; 12] = [
    "info_hash",
    "peer_id",
    "port",
    "uploaded",
    "downloaded",
    "left",
    "event",
    "numwant",
    "key",
    "trackerid",
    "compact",
    "no_peer_id",
];

/// Which of [`FIELDS`] there were.
#[derive(Default)]
struct Seen(u16);

impl Seen {
    /// # Errors
    /// When the field was there before: which of the two is meant cannot be known.
    fn once(&mut self, at: usize, field: &'static str) -> Result<(), QueryError> {
        let bit = 1 << at;
        if self.0 & bit != 0 {
            return Err(QueryError::Invalid { field, problem: "is there twice" });
        }
        self.0 |= bit;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HASH: &str = "%124Vx%9A%BC%DE%F1%23Eg%89%AB%CD%EF%124Vx%9A";

    #[test]
    fn reads_the_example_of_the_field() {
        let query = format!(
            "info_hash={HASH}&peer_id=-TR2940-k8hj0wgej6ch&port=51413&uploaded=0&downloaded=0&left=7&numwant=80&key=1a2b\
             &compact=1&supportcrypto=1&event=started&ip=10.0.0.1"
        );
        let request = AnnounceRequest::parse(&query).unwrap();
        assert_eq!(request.info_hash[..4], [0x12, 0x34, 0x56, 0x78]);
        assert_eq!(&request.peer_id, b"-TR2940-k8hj0wgej6ch");
        assert_eq!((request.port, request.left, request.num_want), (51413, Some(7), Some(80)));
        assert_eq!((request.event, request.key), (PeerEvent::Started, Some(0x1a2b)));
    }

    #[test]
    fn pairs_are_split_as_the_field_does() {
        let split = |query| pairs(query).unwrap().collect::<Vec<_>>();
        assert_eq!(split("a=1&&b&c=&=d&e=f=g&"), [("a", "1"), ("c", ""), ("", "d"), ("e", "f=g")]);
        assert_eq!(split(""), []);
        assert_eq!(split("é=ü&&&"), [("é", "ü")]);
    }

    #[test]
    fn says_which_field_is_wrong() {
        let text = |query: &str| AnnounceRequest::parse(query).unwrap_err().to_string();
        assert_eq!(text("port=1"), "`info_hash` is missing");
        assert_eq!(text("info_hash=abc"), "`info_hash` has not 20 bytes");
        assert_eq!(text("info_hash=%zz"), "`info_hash` has a % without two hex digits");
        assert_eq!(text("port=65536"), "`port` is no number that it can be");
        assert_eq!(text("event=gone"), "`event` is not known");
        let zero = format!("info_hash={HASH}&peer_id={HASH}&port=0");
        assert_eq!(text(&zero), "`port` is 0");
        assert!(AnnounceRequest::parse(&format!("{zero}&event=stopped&numwant=-1")).is_ok());
        assert!(!AnnounceRequest::parse(&"a".repeat(5000)).unwrap_err().is_answerable());
        assert!(ScrapeRequest::parse("").unwrap_err().is_answerable());
        assert!(ScrapeRequest::parse(&format!("info_hash={HASH}&").repeat(51)).is_err());
    }

    prop_compose! {
        pub(in crate::bittorrent::wire) fn any_announce()(
            (info_hash, peer_id, port) in (any::<[u8; 20]>(), any::<[u8; 20]>(), 1u16..),
            (uploaded, downloaded, left) in (any::<u64>(), any::<u64>(), any::<Option<u64>>()),
            event in prop::sample::select(vec![
                PeerEvent::Regular, PeerEvent::Started, PeerEvent::Completed, PeerEvent::Stopped, PeerEvent::Paused,
            ]),
            (num_want, key, compact, no_peer_id) in any::<(Option<u32>, Option<u32>, bool, bool)>(),
            tracker_id in prop::option::of(prop::collection::vec(any::<u8>(), 0..MAX_TOKEN)),
        ) -> AnnounceRequest {
            AnnounceRequest {
                info_hash, peer_id, port, uploaded, downloaded, left, event, num_want, key, tracker_id, compact,
                no_peer_id,
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_can_be_read(announce in any_announce()) {
            prop_assert_eq!(AnnounceRequest::parse(&announce.query()), Ok(announce));
        }

        #[test]
        fn scrapes_too(info_hashes in prop::collection::vec(any::<[u8; 20]>(), 1..50)) {
            let scrape = ScrapeRequest { info_hashes };
            prop_assert_eq!(ScrapeRequest::parse(&scrape.query()), Ok(scrape));
        }

        #[test]
        fn no_text_makes_it_panic(query in "((info_hash|peer_id|port|left|numwant|key|&|=|%)|.){0,60}") {
            let _ = AnnounceRequest::parse(&query);
            let _ = ScrapeRequest::parse(&query);
        }
    }
}
