//! Tracker messages as bytes ⇄ unified ones, one at a time and outside any conversation: for tools, captures and tests.

pub(crate) mod dialect;

use std::net::IpAddr;

use p2pbridge_proto::{Body, Name};
use thiserror::Error;

/// The largest message that is looked at, in bytes.
pub const MAX_MESSAGE: usize = 4 << 20;

/// What a protocol's folder can tell of its tracker messages.
pub struct Messages {
    /// The words for its kinds of messages, as [`Hint::kind`] takes them.
    pub kinds: &'static [&'static str],
    /// Recognises and reads a message.
    pub decode: fn(&[u8], &Hint) -> Result<Decoded, DecodeError>,
    /// Writes a unified message as a native one of a kind: the word comes first.
    pub encode: fn(&str, &Body, &Hint) -> Result<Vec<u8>, DecodeError>,
    /// What a message loses on its way native → unified → native.
    pub losses: &'static [Loss],
}

/// What the bytes of a message alone cannot tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hint {
    /// The word for the kind of message, instead of recognising it.
    pub kind: Option<String>,
    /// Whether it was sent over IPv6.
    pub ipv6: bool,
    /// The address from which a request came.
    pub seen: Option<IpAddr>,
    /// The names that were asked about, when an answer does not repeat them.
    pub names: Vec<Name>,
}

/// A message that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// The word for its kind.
    pub kind: &'static str,
    /// The same for people.
    pub title: &'static str,
    /// Everything that it says, in the protocol's own words.
    pub fields: Vec<Field>,
    /// The unified message, or why there is none.
    pub unified: Result<Body, &'static str>,
    /// What is lost, or changed, when the unified message becomes one of this kind again.
    pub lost: Vec<Lost>,
}

/// One thing that a native message says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Field {
    /// The protocol's own word.
    pub name: String,
    /// Its value; without control characters.
    pub value: String,
}

/// One row of the table of what is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// The words for the kinds of messages of which it holds.
    pub kinds: &'static [&'static str],
    /// The field; with `*` at its end, all fields that begin so.
    pub field: &'static str,
    /// Why it is lost.
    pub why: &'static str,
}

/// A field that is lost or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The field.
    pub field: String,
    /// Why, by the table; nothing when the table does not have it, which is a fault of the adapter.
    pub why: Option<&'static str>,
}

/// Why bytes are no message, or a unified message cannot be one of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct DecodeError(pub String);

impl Field {
    /// A field.
    pub fn new(name: impl Into<String>, value: impl ToString) -> Self {
        Self { name: name.into(), value: value.to_string() }
    }

    /// A field of bytes: printable ones as they are, others as escapes.
    pub fn bytes(name: impl Into<String>, value: &[u8]) -> Self {
        Self::new(name, value.escape_ascii())
    }
}

impl Loss {
    /// Whether it is the row for a field of a message.
    #[must_use]
    pub fn covers(&self, kind: &str, field: &str) -> bool {
        let named = match self.field.strip_suffix('*') {
            Some(beginning) => field.starts_with(beginning),
            None => field == self.field,
        };
        named && self.kinds.contains(&kind)
    }
}

/// The fields that are in one message and not in the other, either way, each once, with the table's reasons.
#[must_use]
pub fn differences(kind: &str, first: &[Field], again: &[Field], losses: &[Loss]) -> Vec<Lost> {
    let mut first: Vec<_> = first.iter().collect();
    let mut again: Vec<_> = again.iter().collect();
    first.sort();
    again.sort();
    let mut lost: Vec<Lost> = Vec::new();
    let mut differs = |field: &Field| {
        if !lost.iter().any(|known| known.field == field.name) {
            let why =
                losses.iter().find(|loss| loss.covers(kind, &field.name)).map(|loss| loss.why);
            lost.push(Lost { field: field.name.clone(), why });
        }
    };
    let (mut left, mut right) = (first.into_iter().peekable(), again.into_iter().peekable());
    loop {
        match (left.peek(), right.peek()) {
            (Some(one), Some(other)) if one == other => {
                left.next();
                right.next();
            }
            (Some(one), Some(other)) if one < other => left.next().map_or((), &mut differs),
            (Some(_), None) => left.next().map_or((), &mut differs),
            (_, Some(_)) => right.next().map_or((), &mut differs),
            (None, None) => return lost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOSSES: &[Loss] = &[
        Loss { kinds: &["a"], field: "x", why: "x goes" },
        Loss { kinds: &["a"], field: "header *", why: "headers go" },
    ];

    #[test]
    fn differences_are_found_both_ways_and_named_once() {
        let fields = |pairs: &[(&str, u32)]| -> Vec<Field> {
            pairs.iter().map(|(name, value)| Field::new(*name, value)).collect()
        };
        let first = fields(&[("x", 1), ("same", 1), ("header b", 2), ("peer", 1), ("peer", 2)]);
        let again = fields(&[("peer", 2), ("x", 2), ("same", 1), ("new", 1)]);
        let lost = differences("a", &first, &again, LOSSES);
        let named: Vec<_> = lost.iter().map(|lost| (lost.field.as_str(), lost.why)).collect();
        let wanted = [
            ("header b", Some("headers go")),
            ("new", None),
            ("peer", None),
            ("x", Some("x goes")),
        ];
        assert_eq!(named, wanted);
        assert!(differences("a", &first, &first, LOSSES).is_empty());
        assert_eq!(differences("b", &first, &[], LOSSES)[0].why, None);
    }
}
