//! Any tracker message of BitTorrent, as captured ⇄ unified; pure.

mod fields;
mod kind;
mod losses;
mod native;
mod raw_http;

use p2pbridge_proto::Body;

use self::{kind::Kind, native::Native};
use crate::message::{
    DecodeError, Field, Hint, Loss, Messages,
    dialect::{self, Dialect},
};

/// BitTorrent's tracker messages.
pub static MESSAGES: Messages = dialect::messages::<Message>(&kind::WORDS);

/// A native message, and what it says besides.
struct Message {
    kind: Kind,
    native: Native,
    /// What was sent and is not in the native form.
    extra: Vec<Field>,
}

impl Dialect for Message {
    type Kind = Kind;
    const LOSSES: &'static [Loss] = losses::LOSSES;

    fn read(bytes: &[u8], wanted: Option<Kind>, hint: &Hint) -> Result<Self, DecodeError> {
        let kind = wanted.or_else(|| Kind::recognise(bytes)).ok_or_else(|| {
            DecodeError(format!("{} bytes that are no tracker message of BitTorrent", bytes.len()))
        })?;
        match kind {
            Kind::HttpAnnounceRequest | Kind::HttpScrapeRequest => raw_http::request(bytes, kind),
            Kind::HttpAnnounceAnswer | Kind::HttpScrapeAnswer | Kind::HttpFailure => {
                raw_http::answer(bytes, kind)
            }
            _ => native::read_udp(bytes, kind, hint.ipv6),
        }
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn fields(&self) -> Vec<Field> {
        let mut fields = fields::fields(&self.native);
        fields.extend_from_slice(&self.extra);
        fields
    }

    fn unified(self, hint: &Hint) -> Result<Body, &'static str> {
        native::unified(self.native, hint)
    }

    fn write(kind: Kind, body: &Body, hint: &Hint) -> Result<Vec<u8>, DecodeError> {
        Ok(native::native(kind, body, hint)?.encode(hint.ipv6))
    }
}

#[cfg(test)]
#[path = "messages_tests.rs"]
mod tests;
