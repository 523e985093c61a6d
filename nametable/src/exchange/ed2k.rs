//! Links of eD2k, one a line: `ed2k://|file|NAME|SIZE|MD4|h=AICH|p=PART:PART|/`.

use std::io::{self, Write};

use md4::{Digest, Md4};
use p2pbridge_proto::{Name, Scheme};

use super::{
    magnet::{decoded, encoded},
    row::{Problem, Row, set_length, shown},
};

/// Bytes of a part.
const PART: u64 = 9_728_000;
/// The hash of a part without bytes, which eMule appends to the parts of a file that is a multiple of a part.
const EMPTY: [u8; 16] = [
    0x31, 0xd6, 0xcf, 0xe0, 0xd1, 0x6a, 0xe9, 0x31, 0xb7, 0x3c, 0x59, 0xd7, 0xe0, 0xc0, 0x89, 0xc0,
];

/// Reads one link. Sources and fields that say nothing of names are passed over.
pub(super) fn parse(link: &str) -> Result<Row, Problem> {
    let bad = |what: &str| Problem::Form(format!("`{}` {what}", shown(link)));
    let body = link
        .split_at_checked(7)
        .filter(|(head, _)| head.eq_ignore_ascii_case("ed2k://"))
        .map(|(_, body)| body)
        .ok_or_else(|| bad("is no ed2k link"))?;
    // Some programs escape the bars too.
    let bars = match body.starts_with('|') {
        true => body.to_owned(),
        false => body.replace("%7C", "|").replace("%7c", "|"),
    };
    let mut fields = bars.strip_prefix('|').ok_or_else(|| bad("is no ed2k link"))?.split('|');
    match fields.next() {
        Some(kind) if kind.eq_ignore_ascii_case("file") => {}
        _ => return Err(bad("is an ed2k link, but not of a file")),
    }
    let (Some(title), Some(size), Some(hash)) = (fields.next(), fields.next(), fields.next())
    else {
        return Err(bad("is cut: it takes |file|NAME|SIZE|HASH|/"));
    };
    let name = Name::from_digest_text(Scheme::Ed2k, hash)?;
    let mut row = Row { names: vec![name], title: decoded(title).into_owned(), ..Row::default() };
    set_length(&mut row.length, size)?;
    let mut closed = false;
    for field in fields {
        match field.split_once('=') {
            _ if field == "/" => {
                closed = true;
                break;
            }
            Some(("h", aich)) => row.names.push(Name::from_digest_text(Scheme::Aich, aich)?),
            Some(("p", parts)) => check_parts(&name, row.length.unwrap_or_default(), parts)?,
            _ => {}
        }
    }
    if closed { Ok(row) } else { Err(bad("is cut: it does not end in |/")) }
}

/// Checks that the hashes of the parts give the hash of the file.
fn check_parts(name: &Name, length: u64, text: &str) -> Result<(), Problem> {
    let parts: Vec<_> = text
        .split(':')
        .map(|part| Name::from_digest_text(Scheme::Ed2k, part))
        .collect::<Result<_, _>>()?;
    let whole = |parts: &[Name], more: &[u8]| {
        let mut hash = Md4::new();
        parts.iter().for_each(|part| hash.update(part.digest()));
        hash.update(more);
        hash.finalize()[..] == *name.digest()
    };
    let least = length.div_ceil(PART).max(1);
    let multiple = length > 0 && length.is_multiple_of(PART);
    let count = parts.len() as u64;
    let right = match parts.as_slice() {
        [one] if least == 1 && one == name => true,
        // The last, empty part may be left out.
        _ if count == least && multiple => {
            whole(&parts, &EMPTY) || (count > 1 && whole(&parts, &[]))
        }
        _ if count == least => count > 1 && whole(&parts, &[]),
        _ if multiple && count == least + 1 => whole(&parts, &[]),
        _ => {
            let said = format!("it has {count} part hashes; a file of {length} bytes has {least}");
            return Err(Problem::Form(said));
        }
    };
    if right { Ok(()) } else { Err(Problem::Form(format!("its part hashes are not of {name}"))) }
}

/// Writes a row, a line for each eD2k name; without one, a length and a title there is no link.
pub(super) fn write(
    out: &mut impl Write,
    row: &Row,
    names: &[Name],
) -> io::Result<Result<(), &'static str>> {
    let Some(length) = row.length else { return Ok(Err("an ed2k link needs a length")) };
    let of = |scheme| names.iter().filter(move |name| name.scheme() == scheme);
    if of(Scheme::Ed2k).next().is_none() {
        return Ok(Err("an ed2k link needs an ed2k name"));
    }
    if row.title.is_empty() {
        return Ok(Err("an ed2k link needs a title"));
    }
    let title = row.plain_title();
    for name in of(Scheme::Ed2k) {
        write!(out, "ed2k://|file|{}|{length}|{}|", encoded(&title), name.hex())?;
        if let Some(aich) = of(Scheme::Aich).next() {
            write!(out, "h={}|", aich.base32())?;
        }
        out.write_all(b"/\n")?;
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
        assert_eq!(parse(&sources), Ok(row.clone()));
        let escaped = "ED2K://%7Cfile%7Cx%7C1%7C51b834b7c1ef0b59ea50888fcb39ace2%7C/";
        assert_eq!(parse(escaped).unwrap().names, row.names[..1]);
        assert_eq!(
            parse("ed2k://|file|日本 x|1|51b834b7c1ef0b59ea50888fcb39ace2|s=http://a/b|/")
                .unwrap()
                .title,
            "日本 x"
        );
    }

    /// Zero bytes; the hashes are those of other programs.
    #[test]
    fn part_hashes_must_give_the_hash() {
        let part = "d7def262a127cd79096a108e7a9fc138";
        let empty = "31d6cfe0d16ae931b73c59d7e0c089c0";
        let red = "fc21d9af828f92a8df64beac3357425d";
        let link = |length: u64, hash: &str, parts: &[&str]| {
            parse(&format!("ed2k://|file|x|{length}|{hash}|p={}|/", parts.join(":")))
        };
        assert!(link(9_728_000, red, &[part, empty]).is_ok());
        assert!(link(9_728_000, red, &[part]).is_ok());
        assert!(link(9_728_000, part, &[part]).is_ok());
        let (red, blue) = ("114b21c63a74b6ca922291a11177dd5c", "194ee9e4fa79b2ee9f8829284c466051");
        assert!(link(19_456_000, red, &[part, part, empty]).is_ok());
        assert!(link(19_456_000, red, &[part, part]).is_ok());
        assert!(link(19_456_000, blue, &[part, part]).is_ok());
        let error =
            |length, hash, parts: &[&str]| link(length, hash, parts).unwrap_err().to_string();
        let wrong = error(19_456_000, red, &[part, empty]);
        assert_eq!(wrong, format!("its part hashes are not of urn:ed2k:{red}"));
        assert_eq!(
            error(9_728_001, red, &[part]),
            "it has 1 part hashes; a file of 9728001 bytes has 2"
        );
        assert!(error(5, red, &[part]).contains("not of"));
        assert!(error(5, red, &["12"]).contains("no ed2k digest"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(error("http://x"), "`http://x` is no ed2k link");
        assert!(error("ed2k://|server|1.2.3.4|4661|/").ends_with("but not of a file"));
        assert!(error("ed2k://|file|x|1|/").contains("no ed2k digest"));
        assert!(error("ed2k://|file|x").ends_with("it takes |file|NAME|SIZE|HASH|/"));
        assert!(error("ed2k://|file|x|1|51b834b7c1ef0b59ea50888fcb39ace2").ends_with("end in |/"));
        assert!(
            error("ed2k://|file|x|-1|51b834b7c1ef0b59ea50888fcb39ace2|/").contains("no number")
        );
        assert!(error("ed2k://|file|x|1|51b834b7c1ef0b59ea50888fcb39ace2|h=zz|/").contains("aich"));
    }
}
