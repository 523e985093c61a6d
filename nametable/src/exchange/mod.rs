//! The formats in which names are exchanged: lists that others write, and that others read.
//!
//! [`read`] gives the rows of a list one by one, whatever its size, and says for each that is wrong on which line and why;
//! [`Writer`] writes them. What is written is read again as the same.

mod bounded;
mod csv;
mod ed2k;
mod json;
mod lines;
mod magnet;
mod metalink;
mod row;
#[cfg(test)]
mod tests;
mod writer;

use std::{fmt, io::BufRead, str::FromStr};

pub use magnet::magnet;
pub use row::{MAX_LINE, Problem, Row, RowError};
pub use writer::{Outcome, Writer};

/// A format of lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// A table with commas between the columns; its first line names them: `names` (URNs, with spaces between), or one for
    /// each scheme (`ed2k`, `tth`, `cid`, …); `length`, `title`, `evidence`.
    Csv,
    /// A JSON object a line: `names` (URNs), `length`, `title`, `evidence`.
    JsonLines,
    /// A magnet link a line.
    Magnets,
    /// A link `ed2k://|file|…|/` a line.
    Ed2kLinks,
    /// Metalink 4 (RFC 5854).
    Metalink,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Csv, Self::JsonLines, Self::Magnets, Self::Ed2kLinks, Self::Metalink];

    /// Its word in options.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::JsonLines => "jsonl",
            Self::Magnets => "magnets",
            Self::Ed2kLinks => "ed2k",
            Self::Metalink => "metalink",
        }
    }

    /// The format of a list, by how it begins (a few hundred bytes are enough), else by the end of its file's name.
    #[must_use]
    pub fn detect(head: &[u8], file_name: &str) -> Option<Self> {
        let head = String::from_utf8_lossy(head.get(..head.len().min(4096)).unwrap_or_default());
        let text = head.trim_start_matches('\u{FEFF}');
        let mut lines = text.lines().map(str::trim_start);
        let line =
            lines.find(|line| !line.is_empty() && !line.starts_with('#')).unwrap_or_default();
        let begins = |word: &str| {
            line.split_at_checked(word.len())
                .is_some_and(|(head, _)| head.eq_ignore_ascii_case(word))
        };
        let by_content = match line {
            _ if begins("<") => Some(Self::Metalink),
            _ if begins("{") => Some(Self::JsonLines),
            _ if begins("magnet:") => Some(Self::Magnets),
            _ if begins("ed2k:") => Some(Self::Ed2kLinks),
            _ => None,
        };
        let end = file_name.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase());
        by_content.or(match end.as_deref() {
            Some("csv") => Some(Self::Csv),
            Some("jsonl" | "ndjson") => Some(Self::JsonLines),
            Some("magnet" | "magnets") => Some(Self::Magnets),
            Some("ed2k") => Some(Self::Ed2kLinks),
            Some("meta4") => Some(Self::Metalink),
            _ => csv::is_header(line).then_some(Self::Csv),
        })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|format| format.word().eq_ignore_ascii_case(text));
        found.ok_or_else(|| {
            let known = Self::ALL.map(Self::word).join(", ");
            format!("no format is called `{text}`; known: {known}")
        })
    }
}

/// Reads the rows of a list in its order, in bounded memory. A row that is wrong gives an error, and reading goes on behind
/// it, but for one that [ends](RowError::ends) the list.
pub fn read<R: BufRead>(format: Format, input: R) -> Rows<R> {
    Rows(match format {
        Format::Csv => Source::Csv(Box::new(csv::Reader::new(input))),
        Format::JsonLines => Source::JsonLines(json::Reader::new(input)),
        Format::Magnets => Source::Links(magnet::Reader::new(input, magnet::parse)),
        Format::Ed2kLinks => Source::Links(magnet::Reader::new(input, ed2k::parse)),
        Format::Metalink => Source::Metalink(Box::new(metalink::Reader::new(input))),
    })
}

/// The rows of a list; see [`read`].
pub struct Rows<R: BufRead>(Source<R>);

enum Source<R: BufRead> {
    Csv(Box<csv::Reader<R>>),
    JsonLines(json::Reader<R>),
    Links(magnet::Reader<R>),
    Metalink(Box<metalink::Reader<R>>),
}

impl<R: BufRead> Iterator for Rows<R> {
    type Item = Result<Row, RowError>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Source::Csv(rows) => rows.next(),
            Source::JsonLines(rows) => rows.next(),
            Source::Links(rows) => rows.next(),
            Source::Metalink(rows) => rows.next(),
        }
    }
}
