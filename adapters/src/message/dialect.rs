//! What is the same in how every protocol's messages are read and written.

use p2pbridge_proto::Body;

use super::{DecodeError, Decoded, Field, Hint, Loss, MAX_MESSAGE, Messages, differences};

/// A kind of a protocol's messages.
pub(crate) trait Kind: Copy + PartialEq + 'static {
    /// A row a kind: its word, and the same for people.
    const ROWS: &'static [(Self, &'static str, &'static str)];

    fn word(self) -> &'static str {
        Self::ROWS.iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }

    fn title(self) -> &'static str {
        Self::ROWS.iter().find(|row| row.0 == self).map_or("", |row| row.2)
    }

    fn of_word(word: &str) -> Result<Self, DecodeError> {
        Self::ROWS.iter().find(|row| row.1 == word).map(|row| row.0).ok_or_else(|| {
            let known: Vec<_> = Self::ROWS.iter().map(|row| row.1).collect();
            let known = known.join(", ");
            DecodeError(format!("no kind of message is called `{word}`; known: {known}"))
        })
    }
}

/// The words of all kinds.
pub(crate) const fn words<K: Kind, const N: usize>() -> [&'static str; N] {
    let mut words = [""; N];
    let mut at = 0;
    while at < N {
        words[at] = K::ROWS[at].1;
        at += 1;
    }
    words
}

/// A native message, and what it says besides.
pub(crate) trait Dialect: Sized {
    type Kind: Kind;
    const LOSSES: &'static [Loss];

    /// Reads a message, of this kind if one is told.
    fn read(bytes: &[u8], wanted: Option<Self::Kind>, hint: &Hint) -> Result<Self, DecodeError>;
    fn kind(&self) -> Self::Kind;
    fn fields(&self) -> Vec<Field>;
    /// The unified message, or why there is none.
    fn unified(self, hint: &Hint) -> Result<Body, &'static str>;
    fn write(kind: Self::Kind, body: &Body, hint: &Hint) -> Result<Vec<u8>, DecodeError>;
}

/// What a dialect can tell of its messages.
pub(crate) const fn messages<D: Dialect>(words: &'static [&'static str]) -> Messages {
    Messages { kinds: words, decode: decode::<D>, encode: encode::<D>, losses: D::LOSSES }
}

fn decode<D: Dialect>(bytes: &[u8], hint: &Hint) -> Result<Decoded, DecodeError> {
    let wanted = hint.kind.as_deref().map(D::Kind::of_word).transpose()?;
    let message = read::<D>(bytes, wanted, hint)?;
    let (kind, fields) = (message.kind(), message.fields());
    let unified = message.unified(hint);
    let lost = match &unified {
        Ok(body) => {
            let again = read::<D>(&D::write(kind, body, hint)?, Some(kind), hint)?;
            differences(kind.word(), &fields, &again.fields(), D::LOSSES)
        }
        Err(_) => Vec::new(),
    };
    Ok(Decoded { kind: kind.word(), title: kind.title(), fields, unified, lost })
}

fn encode<D: Dialect>(word: &str, body: &Body, hint: &Hint) -> Result<Vec<u8>, DecodeError> {
    D::write(D::Kind::of_word(word)?, body, hint)
}

fn read<D: Dialect>(bytes: &[u8], wanted: Option<D::Kind>, hint: &Hint) -> Result<D, DecodeError> {
    if bytes.len() > MAX_MESSAGE {
        return Err(DecodeError(format!("{} bytes are more than a message can have", bytes.len())));
    }
    D::read(bytes, wanted, hint)
}
