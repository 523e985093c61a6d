//! Magnet links, one a line: names in `xt`, the title in `dn`, the length in `xl`.

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{BufRead, Write},
};

use p2pbridge_proto::{Name, parse_magnet_names};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{
    lines::Lines,
    row::{Problem, Row, RowError, set_length, shown},
};

/// What a link writes as `%XX`: all but letters, digits and `-._~` (RFC 3986 §2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Reads links, one a line. Empty lines, and those that begin with `#`, are passed over.
pub(super) struct Reader<R> {
    lines: Lines<R>,
    link: fn(&str) -> Result<Row, Problem>,
}

impl<R: BufRead> Reader<R> {
    pub(super) const fn new(input: R, link: fn(&str) -> Result<Row, Problem>) -> Self {
        Self { lines: Lines::new(input), link }
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Row, RowError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let link = match self.lines.read()? {
                Ok(line) => line.trim(),
                Err(error) => return Some(Err(error)),
            };
            if link.is_empty() || link.starts_with('#') {
                continue;
            }
            let row = (self.link)(link).and_then(Row::checked);
            let line = self.lines.line();
            return Some(match row {
                Ok(row) => Ok(Row { line, ..row }),
                Err(what) => Err(RowError::new(line, what)),
            });
        }
    }
}

/// Reads one link. Parameters that say nothing of names are passed over.
pub(super) fn parse(link: &str) -> Result<Row, Problem> {
    let (row, title) = parse_titled(link)?;
    Ok(Row { title: title.unwrap_or_default(), ..row })
}

/// Reads one link; its title apart, to tell an empty one from none.
pub(super) fn parse_titled(link: &str) -> Result<(Row, Option<String>), Problem> {
    let Some((_, query)) =
        link.split_once(':').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("magnet"))
    else {
        return Err(Problem::Form(format!("`{}` is no magnet link", shown(link))));
    };
    let mut row = Row { names: parse_magnet_names(link)?, ..Row::default() };
    let mut title = None;
    let pairs = query.trim_start_matches('?').split('&').filter_map(|pair| pair.split_once('='));
    for (key, value) in pairs {
        match key {
            "dn" => title = Some(decoded(&value.replace('+', " ")).into_owned()),
            "xl" => set_length(&mut row.length, value)?,
            _ => {}
        }
    }
    Ok((row, title))
}

/// The magnet link of a row: each name an `xt`, then `dn` and `xl` as far as they are known.
#[must_use]
pub fn magnet(row: &Row) -> String {
    link(row, &row.names)
}

pub(super) fn link(row: &Row, names: &[Name]) -> String {
    let mut link = "magnet:?".to_owned();
    // Writing to a string cannot fail.
    for name in names {
        _ = write!(link, "xt={name}&");
    }
    if !row.title.is_empty() {
        _ = write!(link, "dn={}&", encoded(&row.plain_title()));
    }
    if let Some(length) = row.length {
        _ = write!(link, "xl={length}&");
    }
    link.pop();
    link
}

/// Writes a row.
pub(super) fn write(out: &mut impl Write, row: &Row, names: &[Name]) -> std::io::Result<()> {
    writeln!(out, "{}", link(row, names))
}

/// A text as it stands in a link.
pub(super) fn encoded(text: &str) -> impl std::fmt::Display {
    utf8_percent_encode(text, ESCAPED)
}

/// A text that stood in a link. What is not UTF-8 in it is shown as U+FFFD.
pub(super) fn decoded(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use p2pbridge_proto::Scheme;

    use super::*;

    #[test]
    fn every_spelling_is_read() {
        let link = "MAGNET:?xt.1=urn:btih:YNCKHTQCWBTRNJIV4WNAE52SJUQCZO5C\
            &xt.2=urn:btmh:1220caf1e1c30e81cb361b9ee167c4aa64228a7fa4fa9f6105232b28ad099f3a302e\
            &xt=urn%3Aed2k%3A31d6cfe0d16ae931b73c59d7e0c089c0&xt=urn:tree:tiger:lwpnacqdbzryxw3vhjvcj64qbznghohhhzwclnq\
            &xt=urn:md5:d41d8cd98f00b204e9800998ecf8427e&tr=udp://x:1&xl=7&dn=a+%C3%BC%2B&x.pe=1.2.3.4:5";
        let row = parse(link).unwrap();
        let schemes: Vec<_> = row.names.iter().map(Name::scheme).collect();
        assert_eq!(schemes, [Scheme::Btih, Scheme::Btmh, Scheme::Ed2k, Scheme::Tth]);
        assert_eq!((row.length, row.title.as_str()), (Some(7), "a ü+"));
        let both = format!("magnet:?xt=urn:bitprint:{}.{}", "A".repeat(32), "A".repeat(39));
        assert_eq!(parse(&both).unwrap().names.len(), 2);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |link: &str| parse(link).unwrap_err().to_string();
        let btih = "xt=urn:btih:c12fe1c06bba254a9dc9f519b335aa7c1367a88a";
        assert_eq!(error("http://x"), "`http://x` is no magnet link");
        assert!(error("magnet:?dn=x").contains("no `xt`"));
        assert!(error("magnet:?xt=urn:btih:zz").contains("no btih digest"));
        assert_eq!(error(&format!("magnet:?{btih}&xl=1e3")), "`1e3` is no number of bytes");
        assert_eq!(error(&format!("magnet:?{btih}&xl=1&xl=2")), "it has two lengths, 1 and 2");
    }

    #[test]
    fn a_link_has_all_names_and_spaces_as_percent_20() {
        let name = Name::btih([0xab; 20]);
        let row =
            Row { names: vec![name], title: "a b+c&ü".into(), length: Some(5), ..Row::default() };
        let hex = "ab".repeat(20);
        assert_eq!(magnet(&row), format!("magnet:?xt=urn:btih:{hex}&dn=a%20b%2Bc%26%C3%BC&xl=5"));
    }
}
