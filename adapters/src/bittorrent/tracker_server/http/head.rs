//! The head of a request, as far as a tracker looks at it.

use std::mem::MaybeUninit;

use httparse::{Error, Request, Status};

use crate::bittorrent::identity::BRIDGE;

/// Bytes of a head at most.
pub(super) const MAX_HEAD: usize = 8192;
/// Header fields at most.
const MAX_FIELDS: usize = 64;

/// A request: where to, and what else is of interest.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head<'a> {
    pub(super) path: &'a str,
    pub(super) query: &'a str,
    pub(super) keep_alive: bool,
    /// Whether the asker speaks HTTP/1.0, and must be told that the connection stays.
    pub(super) old: bool,
    /// The last `X-Forwarded-For`.
    pub(super) forwarded: Option<&'a [u8]>,
    /// Whether a bridge has passed it on (`Via`).
    pub(super) passed_on: bool,
}

/// Why there is no answer to a request but an HTTP status. The connection ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadError {
    /// Not HTTP/1.
    Malformed,
    /// An address that is longer than the longest head.
    TooLong,
    /// A head longer than [`MAX_HEAD`], or with more than [`MAX_FIELDS`] fields.
    TooLarge,
    /// Another method than GET.
    Method,
    /// A body, which no question to a tracker has.
    Body,
}

/// Reads a head with which the bytes begin, and says how long it is; nothing when it is not complete.
///
/// # Errors
/// When no more bytes can make it a question to a tracker.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Head<'_>, usize)>, HeadError> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut request = Request::new(&mut []);
    let length = match request.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(Status::Partial) if bytes.len() < MAX_HEAD => return Ok(None),
        Ok(_) if request.version.is_none() => return Err(HeadError::TooLong),
        Ok(_) | Err(Error::TooManyHeaders) => return Err(HeadError::TooLarge),
        Err(_) => return Err(HeadError::Malformed),
    };
    if request.method != Some("GET") {
        return Err(HeadError::Method);
    }
    let old = request.version == Some(0);
    let (path, query) = target(request.path.unwrap_or_default());
    let mut head = Head { path, query, keep_alive: !old, old, forwarded: None, passed_on: false };
    for field in request.headers.iter() {
        // Names of other lengths are not of interest.
        match field.name.len() {
            3 if field.name.eq_ignore_ascii_case("via") => {
                let bridge = BRIDGE.as_bytes();
                head.passed_on |= field.value.windows(bridge.len()).any(|word| word == bridge);
            }
            10 if field.name.eq_ignore_ascii_case("connection") => {
                for word in field.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    if word.eq_ignore_ascii_case(b"close") {
                        head.keep_alive = false;
                    } else if old && word.eq_ignore_ascii_case(b"keep-alive") {
                        head.keep_alive = true;
                    }
                }
            }
            14 if field.name.eq_ignore_ascii_case("content-length")
                && field.value.trim_ascii() != b"0" =>
            {
                return Err(HeadError::Body);
            }
            17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                return Err(HeadError::Body);
            }
            15 if field.name.eq_ignore_ascii_case("x-forwarded-for") => {
                head.forwarded = Some(field.value);
            }
            _ => {}
        }
    }
    Ok(Some((head, length)))
}

/// Path and query of a request's target, which may be a whole address (RFC 9112 §3.2.2).
fn target(target: &str) -> (&str, &str) {
    let is_whole = |scheme: &&str| {
        target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    let target = match ["http://", "https://"].iter().find(|scheme| is_whole(scheme)) {
        Some(scheme) => {
            let rest = target.get(scheme.len()..).unwrap_or_default();
            rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/")
        }
        None => target,
    };
    target.split_once('?').unwrap_or((target, ""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(text: &str) -> Head<'_> {
        let (head, length) = parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!(length, text.len());
        head
    }

    #[test]
    fn reads_what_clients_send() {
        let plain = head("GET /announce?a=%1f&b HTTP/1.1\r\nHost: x\r\nUser-Agent: y\r\n\r\n");
        assert_eq!((plain.path, plain.query), ("/announce", "a=%1f&b"));
        assert!(plain.keep_alive && !plain.old && plain.forwarded.is_none());
        let whole = head("GET http://x:80/scrape?q HTTP/1.1\r\nConnection: Foo, Close\r\n\r\n");
        assert_eq!((whole.path, whole.query, whole.keep_alive), ("/scrape", "q", false));
        assert_eq!(head("GET HTTP://x HTTP/1.1\r\n\r\n").path, "/");
        let old = head("GET / HTTP/1.0\r\n\r\n");
        assert!(old.old && !old.keep_alive);
        assert!(head("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").keep_alive);
        let proxied = head("GET / HTTP/1.1\nX-Forwarded-For: 1.1.1.1\nx-forwarded-for: 2\n\n");
        assert_eq!(proxied.forwarded, Some(&b"2"[..]));
        let none = head("GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n");
        assert!(none.keep_alive);
    }

    #[test]
    fn says_what_is_no_question() {
        let error = |text: &str| parse(text.as_bytes()).unwrap_err();
        assert_eq!(error("POST / HTTP/1.1\r\n\r\n"), HeadError::Method);
        assert_eq!(error("GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\n"), HeadError::Body);
        assert_eq!(error("GET / HTTP/1.1\r\nTransfer-Encoding: x\r\n\r\n"), HeadError::Body);
        assert_eq!(error("GET / HTTP/2.0\r\n\r\n"), HeadError::Malformed);
        assert_eq!(error("\x16\x03\x01\x02\0\x01"), HeadError::Malformed);
        assert_eq!(error("d1:ad2:id20:"), HeadError::Malformed);
        assert_eq!(error(&format!("GET /{}", "a".repeat(MAX_HEAD))), HeadError::TooLong);
        let fields = "A: b\r\n".repeat(65);
        assert_eq!(error(&format!("GET / HTTP/1.1\r\n{fields}\r\n")), HeadError::TooLarge);
        let long = format!("GET / HTTP/1.1\r\nA: {}", "b".repeat(MAX_HEAD));
        assert_eq!(error(&long), HeadError::TooLarge);
        assert_eq!(error(&format!("{long}\r\n\r\n")), HeadError::TooLarge);
        assert_eq!(parse(b"GET /announce?x HTTP/1.1\r\nHost"), Ok(None));
        assert_eq!(parse(b""), Ok(None));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(noise in any::<Vec<u8>>(), text in "(GET |POST |/|\\?|http://|HTTP/1|\\.|0|1|:|\r\n|.){0,40}") {
            let _ = parse(&noise);
            let _ = parse(text.as_bytes());
        }
    }
}
