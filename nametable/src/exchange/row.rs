//! What a row of a list says, and what may be wrong with one.

use std::{borrow::Cow, fmt};

use p2pbridge_proto::{Evidence, Name, NameError, Scheme};
use thiserror::Error;

use crate::{MAX_CONTENT_NAMES, MAX_TITLE};

/// The most bytes of a line, or of a tag or run of text in XML.
pub const MAX_LINE: usize = 64 << 10;

/// One row of a list: names that are said to be of the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row {
    /// The names. A row that was read has 1 to [`MAX_CONTENT_NAMES`] of them, in order, none twice.
    pub names: Vec<Name>,
    /// Number of bytes, if the list says it.
    pub length: Option<u64>,
    /// What people call the bytes; may be empty. In a row that was read, at most [`MAX_TITLE`] letters and no control
    /// character.
    pub title: String,
    /// How sure the list is of it, if it says so. In a row that was read, never [`Evidence::Verified`].
    pub evidence: Option<Evidence>,
    /// The line where it begins, from 1; 0 in a row that was not read.
    pub line: u64,
}

impl Row {
    /// Puts the names in order, without doubles, and checks what a reader promises.
    pub(super) fn checked(mut self) -> Result<Self, Problem> {
        self.names.sort_unstable();
        self.names.dedup();
        if self.names.is_empty() {
            return Err(Problem::NoName);
        }
        if self.names.len() > MAX_CONTENT_NAMES {
            return Err(Problem::TooManyNames(self.names.len()));
        }
        let twice = self.names.windows(2).find_map(|two| match two {
            [one, other] if one.scheme() == other.scheme() && is_single(one.scheme()) => {
                Some(Problem::Contradiction { one: *one, other: *other })
            }
            _ => None,
        });
        if let Some(problem) = twice {
            return Err(problem);
        }
        // Most titles are short: no need to count their letters.
        if self.title.len() > MAX_TITLE && self.title.chars().count() > MAX_TITLE {
            return Err(Problem::LongTitle);
        }
        match self.title.chars().find(|letter| letter.is_control()) {
            Some(control) => Err(Problem::Control(control.into())),
            None => Ok(self),
        }
    }

    /// The title as every format can hold it: control characters become spaces, and it ends after [`MAX_TITLE`] letters.
    pub(super) fn plain_title(&self) -> Cow<'_, str> {
        let fits = self.title.len() <= MAX_TITLE || self.title.chars().count() <= MAX_TITLE;
        if fits && !self.title.contains(char::is_control) {
            return Cow::Borrowed(&self.title);
        }
        let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
        self.title.chars().take(MAX_TITLE).map(plain).collect()
    }
}

/// Whether bytes have only one name of the scheme. eD2k has two variants; the others are names of more than bytes.
const fn is_single(scheme: Scheme) -> bool {
    use Scheme::{Aich, CidRaw, PiecesRoot, Ppspp, Ppspp16k, Sha1, Sha256, Tth};
    matches!(scheme, PiecesRoot | Aich | Tth | Sha1 | Sha256 | CidRaw | Ppspp | Ppspp16k)
}

/// A row that was not taken, or what ended a list.
#[derive(Debug, PartialEq, Eq)]
pub struct RowError {
    /// The line, from 1.
    pub line: u64,
    /// The column of a table in which it is, if it is in one: its heading.
    pub column: Option<&'static str>,
    /// What is wrong.
    pub what: Problem,
}

impl RowError {
    pub(super) const fn new(line: u64, what: Problem) -> Self {
        Self { line, column: None, what }
    }

    /// Whether nothing can be read behind it: the input fails, or the list has not its format.
    #[must_use]
    pub const fn ends(&self) -> bool {
        matches!(self.what, Problem::Input(_) | Problem::Header(_) | Problem::Markup(_))
    }
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        if let Some(column) = self.column {
            write!(f, ", column `{column}`")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl std::error::Error for RowError {}

/// What is wrong with a row, or with a whole list.
#[derive(Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Problem {
    /// The input gives an error. Ends the list.
    #[error("the input cannot be read: {0}")]
    Input(String),
    /// The first line does not say what the columns are. Ends the list.
    #[error("{0}")]
    Header(String),
    /// The markup is broken, or is not that of the format. Ends the list.
    #[error("{0}")]
    Markup(String),
    /// The line has more than [`MAX_LINE`] bytes.
    #[error("it is longer than {MAX_LINE} bytes")]
    LongLine,
    /// The line is not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// The line, or the element, has not the form of a row.
    #[error("{0}")]
    Form(String),
    /// A text that should be a name is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// It names nothing.
    #[error("it has no name of a scheme that the bridge knows")]
    NoName,
    /// More names than a content has.
    #[error("it has {0} names; a row takes {MAX_CONTENT_NAMES}")]
    TooManyNames(usize),
    /// Two names that cannot be of the same bytes.
    #[error("{one} and {other} are not of the same bytes: those have one {} name", .one.scheme())]
    Contradiction {
        /// The one.
        one: Name,
        /// The other.
        other: Name,
    },
    /// A text that should be a number of bytes is none.
    #[error("`{0}` is no number of bytes")]
    Length(String),
    /// It says its length twice, and not the same.
    #[error("it has two lengths, {0} and {1}")]
    TwoLengths(u64, u64),
    /// A title with too many letters.
    #[error("its title has more than {MAX_TITLE} letters")]
    LongTitle,
    /// A title with a control character: a line break, for example.
    #[error("its title has a control character, U+{0:04X}")]
    Control(u32),
    /// A word that should be evidence is none.
    #[error("`{0}` is no evidence; a list says `hint` or `attested`")]
    Evidence(String),
    /// Evidence that only a bridge has.
    #[error(
        "`verified` is what a bridge says of bytes that it has hashed; a list says `hint` or `attested`"
    )]
    Verified,
}

/// Reads a number of bytes.
pub(super) fn length(text: &str) -> Result<u64, Problem> {
    // `parse` would take a sign.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { text.parse().ok() } else { None };
    number.ok_or_else(|| Problem::Length(shown(text)))
}

/// Takes down a length; saying it again is no harm.
pub(super) fn set_length(known: &mut Option<u64>, text: &str) -> Result<(), Problem> {
    let length = length(text)?;
    match known.replace(length) {
        Some(before) if before != length => Err(Problem::TwoLengths(before, length)),
        _ => Ok(()),
    }
}

/// Reads how sure a list is.
pub(super) fn evidence(word: &str) -> Result<Evidence, Problem> {
    match word {
        _ if word.eq_ignore_ascii_case("attested") => Ok(Evidence::Attested),
        _ if word.eq_ignore_ascii_case("hint") => Ok(Evidence::Hint),
        _ if word.eq_ignore_ascii_case("verified") => Err(Problem::Verified),
        _ => Err(Problem::Evidence(shown(word))),
    }
}

/// The word of an evidence in a list. What this bridge has verified is, for whoever reads the list, what a bridge says.
pub(super) const fn evidence_word(evidence: Evidence) -> &'static str {
    match evidence {
        Evidence::Hint => "hint",
        Evidence::Attested | Evidence::Verified => "attested",
    }
}

/// A text as an error shows it: not too long, on one line.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(128).map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[Name]) -> Row {
        Row { names: names.to_vec(), ..Row::default() }
    }

    #[test]
    fn names_are_put_in_order_and_counted() {
        let name = |scheme: Scheme, first: u8| {
            let mut digest = vec![0; scheme.digest_len()];
            digest[0] = first;
            Name::new(scheme, &digest).unwrap()
        };
        let (sha1, btih) = (name(Scheme::Sha1, 7), name(Scheme::Btih, 9));
        assert_eq!(named(&[sha1, btih, sha1]).checked().unwrap().names, [btih, sha1]);
        assert_eq!(named(&[]).checked(), Err(Problem::NoName));
        let many: Vec<_> = (0..33).map(|first| name(Scheme::Btih, first)).collect();
        assert_eq!(named(&many).checked(), Err(Problem::TooManyNames(33)));
        assert!(named(&many[1..]).checked().is_ok());
        let two = named(&[name(Scheme::Tth, 1), sha1, name(Scheme::Tth, 2)]).checked();
        assert!(matches!(two, Err(Problem::Contradiction { .. })), "{two:?}");
        assert!(named(&[name(Scheme::Ed2k, 1), name(Scheme::Ed2k, 2)]).checked().is_ok());
    }

    #[test]
    fn titles_are_bounded_and_of_one_line() {
        let titled = |title: &str| Row { title: title.into(), ..named(&[Name::btih([1; 20])]) };
        assert!(titled(&"ü".repeat(1000)).checked().is_ok());
        assert_eq!(titled(&"ü".repeat(1001)).checked(), Err(Problem::LongTitle));
        assert_eq!(titled("a\nb").checked(), Err(Problem::Control(10)));
        assert_eq!(titled("a\nb").plain_title(), "a b");
        assert_eq!(titled(&"ü".repeat(1001)).plain_title(), "ü".repeat(1000));
    }

    #[test]
    fn a_length_is_digits_and_evidence_is_a_word() {
        assert_eq!(length("18446744073709551615"), Ok(u64::MAX));
        for bad in ["", "+1", "-1", "1.5", "18446744073709551616", "1 ", "0x1"] {
            assert_eq!(length(bad), Err(Problem::Length(bad.into())));
        }
        assert_eq!(evidence("Attested"), Ok(Evidence::Attested));
        assert_eq!(evidence("verified"), Err(Problem::Verified));
        assert_eq!(evidence("sure"), Err(Problem::Evidence("sure".into())));
    }
}
