//! What people read: aligned tables, and sizes in words.

use std::fmt::Write as _;

pub(super) use p2pbridge_nametable::grouped;

pub(super) use crate::config::human as size;

/// Rows under headings, each column as wide as it must be.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Vec<String>>,
    /// Columns of numbers, which are aligned to the right.
    right: Vec<usize>,
}

impl Table {
    /// A table with headings; columns in `right` are aligned to the right.
    pub(super) fn new<const N: usize>(headings: [&str; N], right: &[usize]) -> Self {
        let headings = headings.iter().map(|heading| (*heading).to_owned()).collect();
        Self { rows: vec![headings], right: right.to_vec() }
    }

    /// One more row.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.iter().map(|cell| plain(cell)).collect());
    }

    /// The table as text, each line behind `indent`; empty when there are no rows but the headings.
    pub(super) fn text(&self, indent: &str) -> String {
        let mut text = String::new();
        if self.rows.len() < 2 {
            return text;
        }
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let fill = " ".repeat(width.saturating_sub(cell.chars().count()));
                let space = if column == 0 { "" } else { "  " };
                let cell = if self.right.contains(&column) {
                    format!("{space}{fill}{cell}")
                } else {
                    format!("{space}{cell}{fill}")
                };
                line.push_str(&cell);
            }
            // Writing to a string does not fail.
            let _ = writeln!(text, "{indent}{}", line.trim_end());
        }
        text
    }
}

/// Text from outside without what a terminal would take for commands.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect()
}

/// `1.00 GiB (1,073,741,824 bytes)`.
pub(super) fn exact(bytes: u64) -> String {
    if bytes < 1024 { size(bytes) } else { format!("{} ({} bytes)", size(bytes), grouped(bytes)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_and_exact() {
        assert_eq!(exact(1 << 30), "1.00 GiB (1,073,741,824 bytes)");
        assert_eq!(
            (grouped(0), grouped(999), grouped(1000)),
            ("0".into(), "999".into(), "1,000".into())
        );
    }

    #[test]
    fn columns_are_aligned_and_terminals_are_safe() {
        let mut table = Table::new(["NAME", "SIZE"], &[1]);
        assert_eq!(table.text(""), "");
        table.row(["a\u{1b}[2J".to_owned(), "7".to_owned()]);
        assert_eq!(table.text(" "), " NAME   SIZE\n a\u{FFFD}[2J     7\n");
    }
}
