//! Tables with commas between the columns (RFC 4180), one row a line.
//!
//! No title has a line break, so a row is a line: a quote that is not closed costs its own row only.

use std::io::{self, BufRead, Write};

use csv_core::ReadRecordResult;
use p2pbridge_proto::{Name, NameError, Scheme};

use super::{
    lines::Lines,
    row::{Problem, Row, RowError, evidence, evidence_word, set_length, shown},
};

/// The most columns of a table.
const MAX_COLUMNS: usize = 32;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    /// URNs, with spaces between them.
    Names,
    /// Digests of a scheme, with spaces between them.
    Digest(Scheme),
    /// CIDs of either codec, with spaces between them.
    Cid,
    Length,
    Title,
    Evidence,
}

impl Column {
    fn from_heading(heading: &str) -> Option<Self> {
        let fixed = [Self::Names, Self::Cid, Self::Length, Self::Title, Self::Evidence];
        let known = fixed.into_iter().chain(Scheme::ALL.map(Self::Digest));
        known.into_iter().find(|column| column.heading().eq_ignore_ascii_case(heading))
    }

    const fn heading(self) -> &'static str {
        match self {
            Self::Names => "names",
            Self::Digest(scheme) => scheme.word(),
            Self::Cid => "cid",
            Self::Length => "length",
            Self::Title => "title",
            Self::Evidence => "evidence",
        }
    }

    /// Puts what stands in a row's cell into the row.
    fn take(self, cell: &str, row: &mut Row) -> Result<(), Problem> {
        match self {
            Self::Names | Self::Cid | Self::Digest(_) => {
                for word in cell.split_ascii_whitespace() {
                    row.names.push(self.name(word)?);
                }
            }
            Self::Title => row.title = cell.to_owned(),
            Self::Length if !cell.trim().is_empty() => set_length(&mut row.length, cell.trim())?,
            Self::Evidence if !cell.trim().is_empty() => {
                row.evidence = Some(evidence(cell.trim())?)
            }
            Self::Length | Self::Evidence => {}
        }
        Ok(())
    }

    /// Reads one of its words.
    fn name(self, word: &str) -> Result<Name, NameError> {
        match self {
            Self::Digest(scheme) => Name::from_digest_text(scheme, word),
            Self::Cid => Name::from_cid(word),
            _ => word.parse(),
        }
    }
}

/// Reads a table. Its first line names the columns.
pub(super) struct Reader<R> {
    lines: Lines<R>,
    columns: Vec<Column>,
    cells: Cells,
}

impl<R: BufRead> Reader<R> {
    pub(super) fn new(input: R) -> Self {
        Self { lines: Lines::new(input), columns: Vec::new(), cells: Cells::new() }
    }

    /// The columns, from the first line.
    fn header(&mut self) -> Option<Result<(), RowError>> {
        let found = match self.lines.read() {
            Some(Ok(line)) => self.cells.cut(line).and_then(columns),
            Some(Err(error)) if error.ends() => return Some(Err(error)),
            Some(Err(error)) => Err(error.what),
            None => Err(Problem::Header("it is empty: the first line names the columns".into())),
        };
        let line = self.lines.line();
        Some(match found {
            Ok(columns) => {
                self.columns = columns;
                Ok(())
            }
            Err(problem) => {
                self.lines.end();
                Err(RowError::new(line, Problem::Header(problem.to_string())))
            }
        })
    }

    fn row(columns: &[Column], cells: &Cells, line: u64) -> Result<Row, RowError> {
        let mut row = Row { line, names: Vec::with_capacity(columns.len()), ..Row::default() };
        if cells.count != columns.len() {
            let said = format!("it has {} columns, the header {}", cells.count, columns.len());
            return Err(RowError::new(line, Problem::Form(said)));
        }
        for (column, cell) in columns.iter().zip(cells.iter()) {
            column.take(cell, &mut row).map_err(|what| RowError {
                line,
                column: Some(column.heading()),
                what,
            })?;
        }
        row.checked().map_err(|what| RowError::new(line, what))
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Row, RowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.columns.is_empty() {
            // Asked again behind a header that was none, there are no lines.
            if self.lines.is_ended() {
                return None;
            }
            if let Err(error) = self.header()? {
                return Some(Err(error));
            }
        }
        loop {
            let line = match self.lines.read()? {
                Ok(line) if line.trim().is_empty() => continue,
                Ok(line) => line,
                Err(error) => return Some(Err(error)),
            };
            let cut = self.cells.cut(line).map(|_| ());
            let line = self.lines.line();
            return Some(match cut {
                Ok(()) => Self::row(&self.columns, &self.cells, line),
                Err(problem) => Err(RowError::new(line, problem)),
            });
        }
    }
}

/// The columns that a header names.
fn columns(cells: &Cells) -> Result<Vec<Column>, Problem> {
    let bad = |what: String| Err(Problem::Header(what));
    let mut columns = Vec::with_capacity(cells.count);
    for cell in cells.iter() {
        let Some(column) = Column::from_heading(cell.trim()) else {
            let schemes = Scheme::ALL.map(Scheme::word).join(", ");
            return bad(format!(
                "`{}` is no column; the first line names them, with commas between: names or {schemes}, cid; \
                 length, title, evidence",
                shown(cell)
            ));
        };
        if columns.contains(&column) {
            return bad(format!("there are two columns `{}`", column.heading()));
        }
        columns.push(column);
    }
    let names =
        |column: &Column| !matches!(column, Column::Length | Column::Title | Column::Evidence);
    if !columns.iter().any(names) {
        return bad("no column has names".into());
    }
    Ok(columns)
}

/// The cells of one line.
struct Cells {
    reader: csv_core::Reader,
    text: Vec<u8>,
    ends: [usize; MAX_COLUMNS + 1],
    count: usize,
}

impl Cells {
    fn new() -> Self {
        // Whatever ends a line has been taken from it.
        let reader =
            csv_core::ReaderBuilder::new().terminator(csv_core::Terminator::Any(b'\n')).build();
        Self { reader, text: Vec::new(), ends: [0; MAX_COLUMNS + 1], count: 0 }
    }

    /// Cuts a line, which is not empty.
    fn cut(&mut self, line: &str) -> Result<&Self, Problem> {
        self.count = 0;
        self.reader.reset();
        // Quotes only make it shorter.
        if self.text.len() <= line.len() {
            self.text.resize((line.len() + 1).next_power_of_two(), 0);
        }
        let (mut last, _, written, ends) =
            self.reader.read_record(line.as_bytes(), &mut self.text, &mut self.ends);
        if let (ReadRecordResult::InputEmpty, Some(text), Some(more)) =
            (&last, self.text.get_mut(written..), self.ends.get_mut(ends..))
        {
            let (result, _, _, more) = self.reader.read_record(b"\n", text, more);
            last = result;
            self.count = ends + more;
        }
        match last {
            ReadRecordResult::Record if self.count <= MAX_COLUMNS => Ok(self),
            ReadRecordResult::Record | ReadRecordResult::OutputEndsFull => {
                Err(Problem::Form(format!("it has more than {MAX_COLUMNS} columns")))
            }
            ReadRecordResult::OutputFull => Err(Problem::LongLine),
            ReadRecordResult::InputEmpty | ReadRecordResult::End => {
                Err(Problem::Form("it has a quote that is not closed on its line".into()))
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        let mut from = 0;
        self.ends.iter().take(self.count).map(move |end| {
            let cell = self.text.get(from..*end).unwrap_or_default();
            from = *end;
            // A line is UTF-8, and is cut at commas and quotes only.
            std::str::from_utf8(cell).unwrap_or_default()
        })
    }
}

/// Writes the first line.
pub(super) fn write_header(out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"names,length,title,evidence\n")
}

/// Writes a row.
pub(super) fn write(out: &mut impl Write, row: &Row, names: &[Name]) -> io::Result<()> {
    for (place, name) in names.iter().enumerate() {
        write!(out, "{}{name}", if place == 0 { "" } else { " " })?;
    }
    out.write_all(b",")?;
    if let Some(length) = row.length {
        write!(out, "{length}")?;
    }
    let title = row.plain_title();
    match title.contains([',', '"']) {
        true => write!(out, ",\"{}\",", title.replace('"', "\"\""))?,
        false => write!(out, ",{title},")?,
    }
    writeln!(out, "{}", row.evidence.map_or("", evidence_word))
}

/// Whether a line looks like the first of a table: it begins with a column's heading.
pub(super) fn is_header(line: &str) -> bool {
    let first = line.split(',').next().unwrap_or_default();
    Column::from_heading(first.trim().trim_matches('"')).is_some()
}
