//! The kinds of messages, and how they are told apart.

use super::raw_http;
use crate::{
    bittorrent::wire::udp::MAGIC,
    message::dialect::{self, Kind as _},
};

/// A kind of tracker message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    UdpConnectRequest,
    UdpConnectAnswer,
    UdpAnnounceRequest,
    UdpAnnounceAnswer,
    /// What opentracker says to an announce of a name that it does not serve: no more than action and transaction.
    UdpEmptyAnswer,
    UdpScrapeRequest,
    UdpScrapeAnswer,
    UdpError,
    HttpAnnounceRequest,
    HttpAnnounceAnswer,
    HttpScrapeRequest,
    HttpScrapeAnswer,
    HttpFailure,
}

impl dialect::Kind for Kind {
    const ROWS: &'static [(Self, &'static str, &'static str)] = &[
        (Kind::UdpConnectRequest, "udp-connect-request", "UDP connect request"),
        (Kind::UdpConnectAnswer, "udp-connect-answer", "UDP connect answer"),
        (Kind::UdpAnnounceRequest, "udp-announce-request", "UDP announce request"),
        (Kind::UdpAnnounceAnswer, "udp-announce-answer", "UDP announce answer"),
        (Kind::UdpEmptyAnswer, "udp-empty-answer", "UDP announce answer without content"),
        (Kind::UdpScrapeRequest, "udp-scrape-request", "UDP scrape request"),
        (Kind::UdpScrapeAnswer, "udp-scrape-answer", "UDP scrape answer"),
        (Kind::UdpError, "udp-error", "UDP error"),
        (Kind::HttpAnnounceRequest, "http-announce-request", "HTTP announce request"),
        (Kind::HttpAnnounceAnswer, "http-announce-answer", "HTTP announce answer"),
        (Kind::HttpScrapeRequest, "http-scrape-request", "HTTP scrape request"),
        (Kind::HttpScrapeAnswer, "http-scrape-answer", "HTTP scrape answer"),
        (Kind::HttpFailure, "http-failure", "HTTP refusal"),
    ];
}

/// The words of all kinds.
pub(super) static WORDS: [&str; Kind::ROWS.len()] = dialect::words::<Kind, { Kind::ROWS.len() }>();

impl Kind {
    /// The kind that bytes seem to be of, by what is where.
    pub(super) fn recognise(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(b"HTTP/") || bytes.first() == Some(&b'd') {
            return Some(raw_http::kind_of_answer(bytes));
        }
        // A packet to a tracker has its action behind the connection id, one from a tracker begins with it. A connection
        // id may begin as an action does: aquatic_udp's begin with the seconds since its start.
        let word = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
        let length = bytes.len();
        let swarms = word(0) == Some(2) && length >= 8 && (length - 8).is_multiple_of(12);
        match word(8) {
            Some(0) if length == 16 && bytes.starts_with(&MAGIC.to_be_bytes()) => {
                return Some(Self::UdpConnectRequest);
            }
            // In an answer, an address of 0.0.0.x would stand where the event is.
            Some(1) if length >= 98 && word(80).is_some_and(|event| event <= 3) => {
                return Some(Self::UdpAnnounceRequest);
            }
            Some(2) if length >= 36 && (length - 16).is_multiple_of(20) && !swarms => {
                return Some(Self::UdpScrapeRequest);
            }
            _ => {}
        }
        match word(0) {
            Some(0) if length == 16 => Some(Self::UdpConnectAnswer),
            Some(1) if length == 8 => Some(Self::UdpEmptyAnswer),
            Some(1) if length >= 20 => Some(Self::UdpAnnounceAnswer),
            Some(2) if swarms => Some(Self::UdpScrapeAnswer),
            Some(3) if length >= 8 => Some(Self::UdpError),
            _ => raw_http::kind_of_request(bytes),
        }
    }
}
