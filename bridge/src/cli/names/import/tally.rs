//! What became of everything that was imported.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use p2pbridge_proto::v1;
use serde_json::{Value, json};

use super::super::{
    super::{
        client::CliError,
        table::{grouped, plain},
    },
    show::print_json,
};

/// Of what was refused, so many are shown.
const SHOWN: usize = 20;

/// Counts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    rows: u64,
    created: u64,
    extended: u64,
    known: u64,
    bound: u64,
    refused: u64,
    first: Vec<Refused>,
}

#[derive(Debug)]
struct Refused {
    file: String,
    line: Option<u64>,
    reason: String,
}

impl Tally {
    /// Rows, or whole files, that were refused.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// One that was refused, on a line of a list or as a whole.
    pub(super) fn refuse(&mut self, file: &str, line: Option<u64>, reason: String) {
        self.rows += u64::from(line.is_some());
        self.refused += 1;
        if self.first.len() < SHOWN {
            self.first.push(Refused { file: file.to_owned(), line, reason });
        }
    }

    /// Descriptions that were bound.
    pub(super) fn bound(&mut self, count: usize) {
        self.bound += count as u64;
    }

    /// What the bridge said to rows that stood on these lines.
    pub(super) fn answered(&mut self, file: &str, lines: &[u64], answer: &v1::ImportNamesResponse) {
        self.created += u64::from(answer.created);
        self.extended += u64::from(answer.extended);
        self.known += u64::from(answer.known);
        self.rows +=
            u64::from(answer.created) + u64::from(answer.extended) + u64::from(answer.known);
        for refused in &answer.refused {
            let line = usize::try_from(refused.row).ok().and_then(|row| lines.get(row)).copied();
            self.refuse(file, Some(line.unwrap_or_default()), refused.reason.clone());
        }
    }

    /// Prints it.
    pub(super) fn show(&self, json: bool) -> Result<(), CliError> {
        if json {
            return print_json(&self.json());
        }
        Ok(io::stdout().write_all(self.text().as_bytes())?)
    }

    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        if self.rows > 0 || self.bound == 0 {
            let _ = writeln!(
                text,
                "rows: {}; contents that are new: {}, that have more names now: {}, that were known: {}",
                grouped(self.rows),
                grouped(self.created),
                grouped(self.extended),
                grouped(self.known)
            );
        }
        if self.bound > 0 {
            let _ = writeln!(text, "descriptions: {}", grouped(self.bound));
        }
        if self.refused > 0 {
            let _ = writeln!(text, "refused: {}", grouped(self.refused));
        }
        for Refused { file, line, reason } in &self.first {
            let line = line.map(|line| format!(":{line}")).unwrap_or_default();
            let _ = writeln!(text, "  {}{line}: {}", plain(file), plain(reason));
        }
        let more = self.refused.saturating_sub(self.first.len() as u64);
        if more > 0 {
            let _ = writeln!(text, "  … and {} more", grouped(more));
        }
        text
    }

    fn json(&self) -> Value {
        let first: Vec<_> = self
            .first
            .iter()
            .map(|Refused { file, line, reason }| {
                json!({ "file": file, "line": line, "reason": reason })
            })
            .collect();
        json!({
            "rows": self.rows,
            "created": self.created,
            "extended": self.extended,
            "known": self.known,
            "bound": self.bound,
            "refused": self.refused,
            "first_refused": first,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_named_by_file_and_line() {
        let mut tally = Tally::default();
        let refused = vec![v1::RefusedRow { row: 1, reason: "a\nb".into() }];
        let answer = v1::ImportNamesResponse { created: 1_000, extended: 2, known: 1, refused };
        tally.answered("x.csv", &[7, 9], &answer);
        tally.refuse("y.torrent", None, "no".into());
        let text = tally.text();
        assert!(
            text.starts_with(
                "rows: 1,004; contents that are new: 1,000, that have more names now: 2,"
            ),
            "{text}"
        );
        assert!(text.ends_with("refused: 2\n  x.csv:9: a\u{FFFD}b\n  y.torrent: no\n"), "{text}");
        (0..30).for_each(|line| tally.refuse("z", Some(line), "no".into()));
        assert!(tally.text().ends_with("  … and 12 more\n"));
        let json = tally.json();
        assert_eq!((&json["refused"], &json["rows"]), (&json!(32), &json!(1_034)));
        assert_eq!(
            json["first_refused"][1],
            json!({"file": "y.torrent", "line": null, "reason": "no"})
        );
        tally.bound(2);
        assert!(tally.text().contains("\ndescriptions: 2\n"));
    }
}
