//! Writing lists.

use std::io::{self, Write};

use p2pbridge_proto::Name;

use super::{Format, Row, csv, ed2k, json, magnet, metalink};
use crate::MAX_CONTENT_NAMES;

/// Writes a list, row by row. Without [`finish`](Self::finish) it is not whole.
///
/// Control characters in titles become spaces, and a title ends after 1,000 letters. Evidence is written where the format has
/// a place for it (CSV and JSON lines); what is verified is written as attested, since a reader has only the list's word.
#[derive(Debug)]
pub struct Writer<W> {
    format: Format,
    out: W,
    begun: bool,
}

/// What became of a row that was to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is written, with all its names.
    Whole,
    /// It is written, but for names for which the format, or a row, has no room.
    Without(Vec<Name>),
    /// It is not written: this is what it lacks.
    Skipped(&'static str),
}

impl<W: Write> Writer<W> {
    /// A writer of a list.
    pub const fn new(format: Format, out: W) -> Self {
        Self { format, out, begun: false }
    }

    /// Writes a row, or says why there is none in this format.
    ///
    /// # Errors
    /// What the output gives.
    pub fn write(&mut self, row: &Row) -> io::Result<Outcome> {
        self.begin()?;
        let (names, rest) =
            row.names.split_at_checked(MAX_CONTENT_NAMES).unwrap_or((&row.names, &[]));
        if names.is_empty() {
            return Ok(Outcome::Skipped("it has no name"));
        }
        let mut without = rest.to_vec();
        match self.format {
            Format::Csv => csv::write(&mut self.out, row, names)?,
            Format::JsonLines => json::write(&mut self.out, row, names)?,
            Format::Magnets => magnet::write(&mut self.out, row, names)?,
            Format::Metalink => metalink::write(&mut self.out, row, names)?,
            Format::Ed2kLinks => {
                if let Err(lack) = ed2k::write(&mut self.out, row, names)? {
                    return Ok(Outcome::Skipped(lack));
                }
                without.extend(names.iter().filter(|name| !ed2k::takes(name)));
            }
        }
        Ok(if without.is_empty() { Outcome::Whole } else { Outcome::Without(without) })
    }

    /// Writes what stands behind the last row, and gives the output back, flushed.
    ///
    /// # Errors
    /// What the output gives.
    pub fn finish(mut self) -> io::Result<W> {
        self.begin()?;
        if self.format == Format::Metalink {
            metalink::write_end(&mut self.out)?;
        }
        self.out.flush()?;
        Ok(self.out)
    }

    fn begin(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.begun, true) {
            return Ok(());
        }
        match self.format {
            Format::Csv => csv::write_header(&mut self.out),
            Format::Metalink => metalink::write_header(&mut self.out),
            Format::JsonLines | Format::Magnets | Format::Ed2kLinks => Ok(()),
        }
    }
}
