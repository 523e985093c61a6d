//! Links of eD2k: `ed2k://|file|NAME|SIZE|HASH|p=PART:PART|h=AICH|/|sources,HOST:PORT|/` and `ed2k://|server|HOST|PORT|/`.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use thiserror::Error;

use crate::{Name, NameError, Scheme};

mod parts;

pub use self::parts::{ED2K_PART, Ed2kParts};

/// The most bytes of a link that is read: enough for the hashes of all parts of the longest file that eMule takes (256
/// GiB).
pub const MAX_ED2K_LINK: usize = 1 << 20;

/// The most sources of a link that are read.
pub const MAX_LINK_SOURCES: usize = 255;

/// What a link writes as `%XX`: all but letters, digits and `-._~` (RFC 3986 §2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A link of eD2k.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ed2kLink {
    /// Of a file.
    File(Ed2kFileLink),
    /// Of a server.
    Server(Ed2kServerLink),
}

/// What a link says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ed2kFileLink {
    /// What the file is called; may be empty.
    pub title: String,
    /// Its bytes.
    pub length: u64,
    /// Its hash.
    pub hash: [u8; 16],
    /// The hashes of its parts, where the link tells them; they give the file's hash.
    pub parts: Option<Ed2kParts>,
    /// The root of its AICH tree (SHA-1), where the link tells it. Nothing here proves that it is of the same file.
    pub aich: Option<[u8; 20]>,
    /// Who is said to have it: host or address, and port. What follows them in other programs' links is left out.
    pub sources: Vec<(String, u16)>,
}

/// Where a link says that a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ed2kServerLink {
    /// Its address, or its name in the DNS.
    pub host: String,
    /// Its TCP port; never 0.
    pub port: u16,
}

/// What is wrong with a link.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum LinkError {
    /// It is no eD2k link, or not one of a kind that is known.
    #[error("`{link}` {problem}")]
    Form {
        /// Its beginning.
        link: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// It has more bytes than are read.
    #[error("it is longer than {MAX_ED2K_LINK} bytes")]
    TooLong,
    /// A text that should be a hash is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A text that should be a number of bytes is none.
    #[error("`{0}` is no number of bytes")]
    Length(String),
    /// A text that should be a port is none.
    #[error("`{0}` is no port")]
    Port(String),
    /// A text that should be a host is none.
    #[error("`{0}` is no host")]
    Host(String),
    /// A file of this length has another number of parts.
    #[error("it has {said} part hashes; a file of {length} bytes has {parts}")]
    PartCount {
        /// How many there are.
        said: u64,
        /// Bytes of the file.
        length: u64,
        /// How many parts it has.
        parts: u64,
    },
    /// The hashes of the parts do not give the hash of the file.
    #[error("its part hashes are not of {0}")]
    PartsDiffer(Name),
}

impl Ed2kFileLink {
    /// The name that it gives the file.
    #[must_use]
    pub fn name(&self) -> Name {
        Name::ed2k(self.hash)
    }
}

impl FromStr for Ed2kLink {
    type Err = LinkError;

    /// Reads a link of either kind. Some programs escape the bars too; fields that nobody here knows are passed over.
    fn from_str(link: &str) -> Result<Self, LinkError> {
        let bad = |problem| LinkError::Form { link: shown(link), problem };
        if link.len() > MAX_ED2K_LINK {
            return Err(LinkError::TooLong);
        }
        let body = link
            .split_at_checked(7)
            .filter(|(head, _)| head.eq_ignore_ascii_case("ed2k://"))
            .map(|(_, body)| body)
            .ok_or_else(|| bad("is no ed2k link"))?;
        let bars = match body.starts_with('|') {
            true => body.to_owned(),
            false => body.replace("%7C", "|").replace("%7c", "|"),
        };
        let mut fields =
            bars.strip_prefix('|').ok_or_else(|| bad("is no ed2k link"))?.split('|').map(str::trim);
        match fields.next() {
            Some(kind) if kind.eq_ignore_ascii_case("file") => file(fields, bad).map(Self::File),
            Some(kind) if kind.eq_ignore_ascii_case("server") => {
                server(fields, bad).map(Self::Server)
            }
            _ => Err(bad("is an ed2k link, but not of a file or a server")),
        }
    }
}

impl FromStr for Ed2kFileLink {
    type Err = LinkError;

    fn from_str(link: &str) -> Result<Self, LinkError> {
        match link.parse()? {
            Ed2kLink::File(file) => Ok(file),
            Ed2kLink::Server(_) => Err(LinkError::Form {
                link: shown(link),
                problem: "is an ed2k link, but not of a file",
            }),
        }
    }
}

impl FromStr for Ed2kServerLink {
    type Err = LinkError;

    fn from_str(link: &str) -> Result<Self, LinkError> {
        match link.parse()? {
            Ed2kLink::Server(server) => Ok(server),
            Ed2kLink::File(_) => Err(LinkError::Form {
                link: shown(link),
                problem: "is an ed2k link, but not of a server",
            }),
        }
    }
}

fn file<'a>(
    mut fields: impl Iterator<Item = &'a str>,
    bad: impl Fn(&'static str) -> LinkError,
) -> Result<Ed2kFileLink, LinkError> {
    let (Some(title), Some(size), Some(hash)) = (fields.next(), fields.next(), fields.next())
    else {
        return Err(bad("is cut: it takes |file|NAME|SIZE|HASH|/"));
    };
    let mut link = Ed2kFileLink {
        title: percent_decode_str(title).decode_utf8_lossy().into_owned(),
        length: number(size).ok_or_else(|| LinkError::Length(shown(size)))?,
        hash: hash_of(hash)?,
        parts: None,
        aich: None,
        sources: Vec::new(),
    };
    let mut closed = false;
    for field in fields {
        let begins = |with: &str| {
            let (head, rest) = field.split_at_checked(with.len())?;
            head.eq_ignore_ascii_case(with).then_some(rest)
        };
        if field == "/" {
            closed = true;
        } else if let Some(list) = begins("sources,") {
            link.sources.extend(list.split(',').filter_map(source));
            link.sources.truncate(MAX_LINK_SOURCES);
        } else if closed {
            // Behind its end there are only sources.
        } else if let Some(root) = begins("h=") {
            let root = Name::from_digest_text(Scheme::Aich, root)?;
            link.aich = root.digest().first_chunk().copied();
        } else if let Some(parts) = begins("p=") {
            let hashes = parts.split(':').map(hash_of).collect::<Result<Vec<_>, _>>()?;
            link.parts = Some(Ed2kParts::proven(&link.hash, link.length, &hashes)?);
        }
    }
    if closed { Ok(link) } else { Err(bad("is cut: it does not end in |/")) }
}

fn server<'a>(
    mut fields: impl Iterator<Item = &'a str>,
    bad: impl Fn(&'static str) -> LinkError,
) -> Result<Ed2kServerLink, LinkError> {
    let (Some(host), Some(port), Some("/")) = (fields.next(), fields.next(), fields.next()) else {
        return Err(bad("is cut: it takes |server|HOST|PORT|/"));
    };
    if !is_host(host) {
        return Err(LinkError::Host(shown(host)));
    }
    let port = port_of(port).ok_or_else(|| LinkError::Port(shown(port)))?;
    Ok(Ed2kServerLink { host: host.to_owned(), port })
}

/// `HOST:PORT`, and in some programs' links a flag and a user hash behind it. One that is none is passed over: it is of
/// no harm to what the link says of the file.
fn source(text: &str) -> Option<(String, u16)> {
    let mut fields = text.trim().split(':');
    let host = fields.next().filter(|host| is_host(host))?;
    Some((host.to_owned(), port_of(fields.next()?)?))
}

fn is_host(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (1..=253).contains(&text.len()) && text.bytes().all(letter)
}

fn port_of(text: &str) -> Option<u16> {
    number(text).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)
}

/// Digits and nothing else: `parse` alone would take a sign.
fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn hash_of(text: &str) -> Result<[u8; 16], LinkError> {
    let name = Name::from_digest_text(Scheme::Ed2k, text.trim())?;
    Ok(name.digest().first_chunk().copied().unwrap_or_default())
}

/// A text as an error shows it: not too long, on one line.
fn shown(text: &str) -> String {
    text.chars().take(128).map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

impl fmt::Display for Ed2kLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => file.fmt(f),
            Self::Server(server) => server.fmt(f),
        }
    }
}

impl fmt::Display for Ed2kFileLink {
    /// With the hashes of parts only where there are several, as aMule writes and reads them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = utf8_percent_encode(&self.title, ESCAPED);
        write!(f, "ed2k://|file|{title}|{}|{}|", self.length, HEXLOWER.encode(&self.hash))?;
        let parts = self.parts.as_ref().map(Ed2kParts::listed).unwrap_or_default();
        if parts.len() > 1 {
            let parts: Vec<_> = parts.iter().map(|hash| HEXLOWER.encode(hash)).collect();
            write!(f, "p={}|", parts.join(":"))?;
        }
        if let Some(aich) = self.aich.and_then(|root| Name::new(Scheme::Aich, &root).ok()) {
            write!(f, "h={}|", aich.base32())?;
        }
        f.write_str("/")?;
        if !self.sources.is_empty() {
            let sources = self.sources.iter().map(|(host, port)| format!("{host}:{port}"));
            write!(f, "|sources,{}|/", sources.collect::<Vec<_>>().join(","))?;
        }
        Ok(())
    }
}

impl fmt::Display for Ed2kServerLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ed2k://|server|{}|{}|/", self.host, self.port)
    }
}

#[cfg(test)]
mod tests;
