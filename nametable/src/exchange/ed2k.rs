//! Links of eD2k, one a line: `ed2k://|file|NAME|SIZE|MD4|p=PART:PART|h=AICH|/`.

use std::io::{self, Write};

use p2pbridge_proto::{Ed2kFileLink, LinkError, Name, Scheme};

use super::row::{Problem, Row};

impl From<LinkError> for Problem {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Name(error) => Self::Name(error),
            LinkError::Length(text) => Self::Length(text),
            other => Self::Form(other.to_string()),
        }
    }
}

/// Reads one link. What says nothing of names is passed over.
pub(super) fn parse(link: &str) -> Result<Row, Problem> {
    let link: Ed2kFileLink = link.parse()?;
    let mut names = vec![link.name()];
    if let Some(root) = link.aich {
        names.push(Name::new(Scheme::Aich, &root)?);
    }
    Ok(Row { names, title: link.title, length: Some(link.length), ..Row::default() })
}

/// Writes a row, a line for each eD2k name; without one, a length and a title there is no link.
pub(super) fn write(
    out: &mut impl Write,
    row: &Row,
    names: &[Name],
) -> io::Result<Result<(), &'static str>> {
    let Some(length) = row.length else { return Ok(Err("an ed2k link needs a length")) };
    let hash = |name: &Name| match name.scheme() {
        Scheme::Ed2k => name.digest().first_chunk().copied(),
        _ => None,
    };
    if names.iter().all(|name| hash(name).is_none()) {
        return Ok(Err("an ed2k link needs an ed2k name"));
    }
    if row.title.is_empty() {
        return Ok(Err("an ed2k link needs a title"));
    }
    let title = row.plain_title();
    let aich = names.iter().find(|name| name.scheme() == Scheme::Aich);
    let aich = aich.and_then(|name| name.digest().first_chunk().copied());
    for hash in names.iter().filter_map(hash) {
        let (title, parts, sources) = (title.clone().into_owned(), None, Vec::new());
        writeln!(out, "{}", Ed2kFileLink { title, length, hash, parts, aich, sources })?;
    }
    Ok(Ok(()))
}

/// Whether a link has room for a name.
pub(super) fn takes(name: &Name) -> bool {
    matches!(name.scheme(), Scheme::Ed2k | Scheme::Aich)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(link: &str) -> String {
        parse(link).unwrap_err().to_string()
    }

    #[test]
    fn a_link_of_rhash_is_read() {
        let link = "ed2k://|file|%c3%bc%20a%2bb%7cc.txt|1|51b834b7c1ef0b59ea50888fcb39ace2\
            |h=ch3k3dwffiuyjk5k7v6dwulfan4fyids|/";
        let row = parse(link).unwrap();
        assert_eq!((row.title.as_str(), row.length), ("ü a+b|c.txt", Some(1)));
        assert_eq!(row.names.len(), 2);
        let sources = format!("{link}|sources,1.2.3.4:4662|/");
        assert_eq!(parse(&sources), Ok(row));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let ed2k = "51b834b7c1ef0b59ea50888fcb39ace2";
        assert_eq!(error("http://x"), "`http://x` is no ed2k link");
        assert!(error("ed2k://|server|1.2.3.4|4661|/").ends_with("but not of a file"));
        assert!(error("ed2k://|file|x|1|/").contains("no ed2k digest"));
        assert!(error(&format!("ed2k://|file|x|-1|{ed2k}|/")).contains("no number"));
        assert!(error(&format!("ed2k://|file|x|5|{ed2k}|p={ed2k}:{ed2k}|/")).contains("has 1"));
    }
}
