//! Any tracker message of BitTorrent, as captured ⇄ unified; pure.

mod fields;
mod kind;
mod losses;
mod native;
mod raw_http;

use p2pbridge_proto::Body;

use self::{kind::Kind, native::Native};
use crate::message::{DecodeError, Decoded, Field, Hint, MAX_MESSAGE, Messages, differences};

/// BitTorrent's tracker messages.
pub static MESSAGES: Messages =
    Messages { kinds: &kind::WORDS, decode, encode, losses: losses::LOSSES };

/// A native message, and what it says besides.
struct Message {
    kind: Kind,
    native: Native,
    /// What was sent and is not in the native form.
    extra: Vec<Field>,
}

impl Message {
    fn fields(&self) -> Vec<Field> {
        let mut fields = fields::fields(&self.native);
        fields.extend_from_slice(&self.extra);
        fields
    }
}

fn decode(bytes: &[u8], hint: &Hint) -> Result<Decoded, DecodeError> {
    let message = read(bytes, hint)?;
    let (kind, fields) = (message.kind, message.fields());
    let unified = native::unified(message.native, hint);
    let lost = match &unified {
        Ok(body) => {
            let again = write(kind, body, hint)?;
            let hint = Hint { kind: Some(kind.word().to_owned()), ..hint.clone() };
            let again = read(&again, &hint)?;
            differences(kind.word(), &fields, &again.fields(), losses::LOSSES)
        }
        Err(_) => Vec::new(),
    };
    Ok(Decoded { kind: kind.word(), title: kind.title(), fields, unified, lost })
}

fn encode(word: &str, body: &Body, hint: &Hint) -> Result<Vec<u8>, DecodeError> {
    write(Kind::of_word(word)?, body, hint)
}

fn write(kind: Kind, body: &Body, hint: &Hint) -> Result<Vec<u8>, DecodeError> {
    Ok(native::native(kind, body, hint)?.encode(hint.ipv6))
}

fn read(bytes: &[u8], hint: &Hint) -> Result<Message, DecodeError> {
    if bytes.len() > MAX_MESSAGE {
        return Err(DecodeError(format!("{} bytes are more than a message can have", bytes.len())));
    }
    let wanted = hint.kind.as_deref().map(Kind::of_word).transpose()?;
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

#[cfg(test)]
#[path = "messages_tests.rs"]
mod tests;
