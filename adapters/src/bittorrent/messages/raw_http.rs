//! HTTP around tracker messages, as captured: whole messages, or only the query or the body.

use super::{Kind, Message, native::Native};
use crate::{
    bittorrent::wire::{
        bencode::{Dict, Document, Limits, Value},
        http::{
            AnnounceRequest, AnnounceResponse, FIELDS, Failure, ScrapeRequest, SwarmCounts,
            parse_announce, parse_scrape,
        },
    },
    message::{DecodeError, Field},
};

const MAX_HEADERS: usize = 64;
/// Letters of a value that are shown.
const SHOWN: usize = 200;

type Result<T> = std::result::Result<T, DecodeError>;

fn fail<T>(text: impl Into<String>) -> Result<T> {
    Err(DecodeError(text.into()))
}

/// The kind of what looks like an answer.
pub(super) fn kind_of_answer(bytes: &[u8]) -> Kind {
    let body = Answer::read(bytes).map(|answer| answer.body).unwrap_or_default();
    let document = Document::parse(&body, Limits::MESSAGE);
    let Some(dict) = document.as_ref().ok().and_then(|document| document.value.dict()) else {
        return Kind::HttpAnnounceAnswer;
    };
    match (dict.get(b"failure reason"), dict.get(b"files")) {
        (Some(_), _) => Kind::HttpFailure,
        (None, Some(_)) => Kind::HttpScrapeAnswer,
        (None, None) => Kind::HttpAnnounceAnswer,
    }
}

/// The kind of what may be a request; nothing when it is none.
pub(super) fn kind_of_request(bytes: &[u8]) -> Option<Kind> {
    let asked = Asked::read(bytes).ok()?;
    let last = asked.path.and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let has = |name: &str| asked.query.split('&').any(|pair| pair.starts_with(name));
    match last {
        _ if last.starts_with("scrape") => Some(Kind::HttpScrapeRequest),
        _ if last.starts_with("announce") || has("peer_id=") => Some(Kind::HttpAnnounceRequest),
        _ if has("info_hash=") && !has("port=") => Some(Kind::HttpScrapeRequest),
        _ if has("info_hash=") => Some(Kind::HttpAnnounceRequest),
        _ => None,
    }
}

/// Reads a request: a whole one, a URL, a path with a query, or a query.
pub(super) fn request(bytes: &[u8], kind: Kind) -> Result<Message> {
    let asked = Asked::read(bytes)?;
    let mut extra: Vec<_> = asked.path.map(|path| Field::new("path", path)).into_iter().collect();
    extra.extend(asked.headers);
    let failed = |error: crate::bittorrent::wire::http::QueryError| DecodeError(error.to_string());
    let pairs = asked.query.split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let parameter =
        |(name, value): (&str, &str)| Field::new(format!("parameter {name}"), shown(value));
    if kind == Kind::HttpScrapeRequest {
        let scrape = ScrapeRequest::parse(asked.query).map_err(failed)?;
        extra.extend(pairs.filter(|(name, _)| *name != "info_hash").map(parameter));
        return Ok(Message { kind, native: Native::HttpScrape(scrape), extra });
    }
    let announce = AnnounceRequest::parse(asked.query).map_err(failed)?;
    let known = |name: &str| match name {
        "key" => announce.key.is_some(),
        name => FIELDS.contains(&name),
    };
    extra.extend(pairs.filter(|(name, _)| !known(name)).map(parameter));
    Ok(Message { kind, native: Native::HttpAnnounce(announce), extra })
}

/// Reads an answer: a whole one, or its body.
pub(super) fn answer(bytes: &[u8], kind: Kind) -> Result<Message> {
    let answer = Answer::read(bytes)?;
    let mut extra = answer.extra;
    let broken = |error: crate::bittorrent::wire::http::ResponseError| match &answer.status {
        Some(status) if status != "200" => DecodeError(format!("HTTP status {status}; {error}")),
        _ => DecodeError(error.to_string()),
    };
    let document = Document::parse(&answer.body, Limits::MESSAGE);
    let dict = document.as_ref().ok().and_then(|document| document.value.dict());
    let refused = |failure: Failure, mut extra: Vec<Field>| {
        let known = ["failure reason", "retry in"];
        let known = &known[..1 + usize::from(failure.retry_in.is_some())];
        extra.extend(unknown_keys("", dict, known));
        Message { kind: Kind::HttpFailure, native: Native::HttpFailure(failure), extra }
    };
    if kind == Kind::HttpScrapeAnswer {
        return Ok(match parse_scrape(&answer.body).map_err(broken)? {
            Err(failure) => refused(failure, extra),
            Ok(swarms) => {
                extra.extend(swarms_extra(dict, &swarms));
                Message { kind, native: Native::HttpSwarms(swarms), extra }
            }
        });
    }
    Ok(match parse_announce(&answer.body).map_err(broken)? {
        Err(failure) => refused(failure, extra),
        Ok(response) => {
            extra.extend(dict.into_iter().flat_map(|dict| peers_extra(dict, &response)));
            let native = Native::HttpPeers(response);
            Message { kind: Kind::HttpAnnounceAnswer, native, extra }
        }
    })
}

/// What an answer to an announce says, and its native form does not.
fn peers_extra(dict: &Dict<'_>, response: &AnnounceResponse) -> Vec<Field> {
    let mut known = vec!["peers", "peers6", "interval", "min interval"];
    let scalars = [
        ("complete", response.seeders.is_some()),
        ("incomplete", response.leechers.is_some()),
        ("tracker id", response.tracker_id.is_some()),
        ("warning message", response.warning.is_some()),
        ("external ip", response.external_ip.is_some()),
    ];
    known.extend(scalars.iter().filter(|(_, is_there)| *is_there).map(|(key, _)| *key));
    let mut extra = unknown_keys("", Some(dict), &known);
    let seconds =
        |time: Option<std::time::Duration>| time.and_then(|t| i64::try_from(t.as_secs()).ok());
    let intervals =
        [("interval", Some(response.interval)), ("min interval", response.min_interval)];
    for (key, taken) in intervals {
        let sent = dict.get(key.as_bytes());
        if sent.and_then(Value::int) != seconds(taken) {
            let sent = sent.map_or_else(|| "nothing".to_owned(), summary);
            extra.push(Field::new(format!("{key} as sent"), sent));
        }
    }
    let mut entries = 0;
    for (key, stride) in [(&b"peers"[..], 6), (b"peers6", 18)] {
        match dict.get(key) {
            Some(Value::Bytes(bytes)) => entries += bytes.len() / stride,
            Some(Value::List(list)) => entries += list.items().len(),
            Some(_) | None => {}
        }
    }
    if entries > response.peers.len() {
        extra.push(Field::new("passed over", entries - response.peers.len()));
    }
    extra
}

/// What an answer to a scrape says, and its native form does not.
fn swarms_extra(dict: Option<&Dict<'_>>, swarms: &[([u8; 20], SwarmCounts)]) -> Vec<Field> {
    let mut extra = unknown_keys("", dict, &["files"]);
    let Some(files) = dict.and_then(|dict| dict.get(b"files")).and_then(Value::dict) else {
        return extra;
    };
    let known = ["complete", "incomplete", "downloaded", "downloaders"];
    for (hash, swarm) in files.entries() {
        let which = format!("{} ", data_encoding::HEXLOWER.encode(hash.get(..20).unwrap_or(hash)));
        extra.extend(unknown_keys(&which, swarm.dict(), &known));
    }
    if files.entries().len() > swarms.len() {
        extra.push(Field::new("passed over", files.entries().len() - swarms.len()));
    }
    extra
}

fn unknown_keys(of: &str, dict: Option<&Dict<'_>>, known: &[&str]) -> Vec<Field> {
    let entries = dict.map(Dict::entries).unwrap_or_default().iter();
    let unknown = entries.filter(|(key, _)| !known.iter().any(|known| known.as_bytes() == *key));
    let field = |(key, value): &(&[u8], Value<'_>)| {
        let key = shown(&key.escape_ascii().to_string());
        Field::new(format!("key {of}{key}"), summary(value))
    };
    unknown.map(field).collect()
}

fn summary(value: &Value<'_>) -> String {
    match value {
        Value::Bytes(bytes) => {
            shown(&bytes.get(..SHOWN).unwrap_or(bytes).escape_ascii().to_string())
        }
        Value::List(list) => format!("a list of {}", list.items().len()),
        Value::Dict(dict) => format!("a dictionary of {}", dict.entries().len()),
        other => other.int().map_or_else(|| other.kind().to_owned(), |int| int.to_string()),
    }
}

fn shown(text: &str) -> String {
    text.escape_debug().take(SHOWN).collect()
}

/// A request as far as HTTP goes.
struct Asked<'a> {
    path: Option<&'a str>,
    query: &'a str,
    headers: Vec<Field>,
}

impl<'a> Asked<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self> {
        let Ok(text) = std::str::from_utf8(bytes) else { return fail("a request is text") };
        let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
        let words: Vec<&str> = line.trim().splitn(4, ' ').collect();
        let (target, headers) = match words[..] {
            ["GET", target, version] if version.starts_with("HTTP/") => {
                (target, headers(rest.as_bytes())?)
            }
            [_, _, version] if version.starts_with("HTTP/") => {
                return fail("a tracker is asked by GET");
            }
            [target] if rest.trim().is_empty() => (target, Vec::new()),
            _ => return fail("it is no request line, URL or query string"),
        };
        let target = match target.split_once("://") {
            Some(("http" | "https", rest)) => {
                rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/")
            }
            _ => target,
        };
        let target = target.split('#').next().unwrap_or_default();
        Ok(match target.split_once('?') {
            Some(("", query)) => Self { path: None, query, headers },
            Some((path, query)) => Self { path: Some(path), query, headers },
            None if target.starts_with('/') => Self { path: Some(target), query: "", headers },
            None => Self { path: None, query: target, headers },
        })
    }
}

/// An answer as far as HTTP goes.
struct Answer {
    status: Option<String>,
    extra: Vec<Field>,
    body: Vec<u8>,
}

impl Answer {
    fn read(bytes: &[u8]) -> Result<Self> {
        if !bytes.starts_with(b"HTTP/") {
            let body = bytes.trim_ascii_end().to_vec();
            return Ok(Self { status: None, extra: Vec::new(), body });
        }
        let (head, body) = split_head(bytes)?;
        let (line, rest) =
            head.split_at(head.iter().position(|b| *b == b'\n').unwrap_or(head.len()));
        let line = String::from_utf8_lossy(line);
        let status = line.split_whitespace().nth(1).unwrap_or_default();
        if status.len() != 3 || !status.bytes().all(|byte| byte.is_ascii_digit()) {
            return fail("an answer of HTTP without a status");
        }
        let headers = headers(rest)?;
        let header = |name: &str| {
            let name = format!("header {name}");
            headers.iter().find(|field| field.name == name).map(|field| field.value.as_str())
        };
        if let Some(coding) = header("content-encoding").filter(|coding| *coding != "identity") {
            return fail(format!("its body is compressed ({coding}): unpack it first"));
        }
        let mut body = match (header("transfer-encoding"), header("content-length")) {
            (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => unchunked(body)?,
            (_, Some(length)) => {
                let whole = length.parse().ok().and_then(|length: usize| body.get(..length));
                whole.map(<[u8]>::to_vec).ok_or_else(|| {
                    DecodeError(format!("{} of {length} bytes of the body are there", body.len()))
                })?
            }
            _ => body.to_vec(),
        };
        // aquatic_http puts a line end behind the bencode.
        body.truncate(body.trim_ascii_end().len());
        let mut extra = vec![Field::new("status", status)];
        let status = Some(status.to_owned());
        extra.extend(headers);
        Ok(Self { status, extra, body })
    }
}

fn split_head(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let ends = [&b"\r\n\r\n"[..], b"\n\n"];
    let end = |end: &[u8]| {
        let at = bytes.windows(end.len()).position(|window| window == end)?;
        Some((bytes.get(..at)?, bytes.get(at + end.len()..)?))
    };
    match ends.into_iter().filter_map(end).min_by_key(|(head, _)| head.len()) {
        Some(parts) => Ok(parts),
        None => fail("the headers have no end"),
    }
}

/// Header lines up to an empty one; names in small letters.
fn headers(lines: &[u8]) -> Result<Vec<Field>> {
    let mut headers = Vec::new();
    for line in lines.split(|byte| *byte == b'\n').skip_while(|line| line.trim_ascii().is_empty()) {
        let line = line.trim_ascii();
        if line.is_empty() {
            break;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return fail("a header without a colon");
        };
        if headers.len() >= MAX_HEADERS {
            return fail(format!("more than {MAX_HEADERS} headers"));
        }
        let (name, value) = line.split_at(colon);
        let name = name.trim_ascii().escape_ascii().to_string().to_lowercase();
        let value = value.get(1..).unwrap_or_default().trim_ascii().escape_ascii().to_string();
        headers.push(Field::new(format!("header {}", shown(&name)), value));
    }
    Ok(headers)
}

fn unchunked(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    let short = || DecodeError("the chunked body ends too early".to_owned());
    loop {
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(short)?;
        let (line, after) = rest.split_at(end);
        let size = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let size =
            std::str::from_utf8(size).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.ok_or_else(|| DecodeError("a chunk without a size".to_owned()))?;
        if size == 0 {
            return Ok(body);
        }
        let (chunk, after) =
            after.get(1..).and_then(|after| after.split_at_checked(size)).ok_or_else(short)?;
        body.extend_from_slice(chunk);
        let line = after.strip_prefix(b"\r\n").or_else(|| after.strip_prefix(b"\n"));
        rest = line.ok_or_else(short)?;
    }
}
