//! JSON lines: an object a line, `{"names":["urn:…"],"length":1,"title":"…","evidence":"hint"}`. Only `names` must be there.

use std::{
    borrow::Cow,
    fmt,
    io::{self, BufRead, Write},
};

use p2pbridge_proto::Name;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Visitor};

use super::{
    lines::Lines,
    row::{Problem, Row, RowError, evidence, evidence_word},
};

/// A line as it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    names: Vec<Read>,
    length: Option<u64>,
    #[serde(borrow, default)]
    title: Cow<'a, str>,
    #[serde(borrow)]
    evidence: Option<Cow<'a, str>>,
}

/// A name, read from where it stands.
struct Read(Name);

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Read;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name: urn:btih:…, urn:sha256:…, …")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Read, E> {
                text.parse().map(Read).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Reads the rows of JSON lines.
pub(super) struct Reader<R> {
    lines: Lines<R>,
}

impl<R: BufRead> Reader<R> {
    pub(super) const fn new(input: R) -> Self {
        Self { lines: Lines::new(input) }
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Row, RowError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let line = match self.lines.read()? {
                Ok(line) if line.trim().is_empty() => continue,
                Ok(line) => line,
                Err(error) => return Some(Err(error)),
            };
            let row = row(line);
            let line = self.lines.line();
            return Some(match row {
                Ok(row) => Ok(Row { line, ..row }),
                Err(what) => Err(RowError::new(line, what)),
            });
        }
    }
}

fn row(line: &str) -> Result<Row, Problem> {
    let line: Line<'_> = serde_json::from_str(line).map_err(|error| {
        // Its own place is within the line, and says line 1.
        let text = error.to_string();
        let what = text.rsplit_once(" at line ").map_or(&*text, |(what, _)| what);
        Problem::Form(format!("{what}, at byte {}", error.column()))
    })?;
    Row {
        names: line.names.into_iter().map(|read| read.0).collect(),
        length: line.length,
        title: line.title.into_owned(),
        evidence: line.evidence.as_deref().map(evidence).transpose()?,
        line: 0,
    }
    .checked()
}

/// A line as it is written.
#[derive(Serialize)]
struct Out<'a> {
    #[serde(serialize_with = "urns")]
    names: &'a [Name],
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    title: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<&'static str>,
}

fn urns<S: Serializer>(names: &[Name], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(ToString::to_string))
}

/// Writes a row.
pub(super) fn write(out: &mut impl Write, row: &Row, names: &[Name]) -> io::Result<()> {
    let title = row.plain_title();
    let evidence = row.evidence.map(evidence_word);
    let line = Out { names, length: row.length, title: &title, evidence };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}
