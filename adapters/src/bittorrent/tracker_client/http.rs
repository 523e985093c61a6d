//! Questions to an HTTP tracker, on the wire.

mod exchange;
mod pool;

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use data_encoding::BASE64;
use p2pbridge_proto::{ErrorCode, Fault};
use tokio::{net::lookup_host, time::Instant};
use url::Url;

use self::{
    exchange::{ExchangeError, Reply},
    pool::Connection,
};
use super::{Problem, tracker::Tracker};
use crate::{
    bittorrent::{
        identity::BRIDGE,
        translate::fault_of_failure,
        wire::http::{
            AnnounceRequest, AnnounceResponse, Failure, ResponseError, ScrapeRequest, SwarmCounts,
            parse_announce, parse_scrape, scrape_path,
        },
    },
    budget::Ticket,
};

pub(super) use self::pool::{Pool, Way};
pub(super) use crate::bittorrent::wire::http::MAX_SCRAPE;

/// How often a question is sent on to where the tracker says.
const MAX_REDIRECTS: usize = 3;
/// The longest URL that is followed.
const MAX_LOCATION: usize = 8 << 10;

/// By which way a question goes, for whom, and how long.
#[derive(Clone, Copy)]
pub(super) struct Trip<'a> {
    pub(super) way: Way,
    /// The address that the tracker is to take down in place of the one that it sees.
    pub(super) forwarded_for: Option<IpAddr>,
    pub(super) ticket: &'a Ticket<'a>,
    pub(super) deadline: Instant,
    /// The latest moment at which a message may leave: an answer takes its time too.
    pub(super) leave_by: Instant,
}

pub(super) async fn announce(
    tracker: &Tracker,
    announce: &AnnounceRequest,
    trip: Trip<'_>,
) -> Result<AnnounceResponse, Problem> {
    ask(tracker, &tracker.pool.target, &announce.query(), trip, parse_announce).await
}

pub(super) async fn scrape(
    tracker: &Tracker,
    info_hashes: &[[u8; 20]],
    trip: Trip<'_>,
) -> Result<Vec<([u8; 20], SwarmCounts)>, Problem> {
    let query = ScrapeRequest { info_hashes: info_hashes.to_vec() }.query();
    ask(tracker, scrape_target(tracker)?, &query, trip, parse_scrape).await
}

/// Where the tracker takes scrapes, if it does.
pub(super) fn scrape_target(tracker: &Tracker) -> Result<&Target, Problem> {
    let text = "the tracker's URL does not end in `announce`: it takes no scrapes (BEP 48)";
    let none = || Problem::Refused(Fault::new(ErrorCode::Unsupported, text));
    tracker.pool.scrape.as_ref().ok_or_else(none)
}

/// A URL in the parts of a request.
pub(super) struct Target {
    url: Url,
    /// The request up to the query: `GET /announce?key=1&`.
    line: String,
    /// What follows the query, up to the fields of the one question.
    fields: String,
}

impl Target {
    fn new(url: &Url) -> Self {
        let line = match url.query().filter(|own| !own.is_empty()) {
            Some(own) => format!("GET {}?{own}&", url.path()),
            None => format!("GET {}?", url.path()),
        };
        let mut fields = String::from(" HTTP/1.1\r\nHost: ");
        fields.push_str(url.host_str().unwrap_or_default());
        if let Some(port) = url.port() {
            let _ = write!(fields, ":{port}");
        }
        fields.push_str(concat!("\r\nUser-Agent: P2P-Bridge/", env!("CARGO_PKG_VERSION")));
        fields.push_str("\r\nAccept-Encoding: gzip\r\n");
        if !url.username().is_empty() || url.password().is_some() {
            let user = format!("{}:{}", url.username(), url.password().unwrap_or_default());
            let _ = write!(fields, "Authorization: Basic {}\r\n", BASE64.encode(user.as_bytes()));
        }
        Self { url: url.clone(), line, fields }
    }

    /// The same for scrapes (BEP 48).
    fn for_scrapes(url: &Url) -> Option<Self> {
        let mut url = url.clone();
        url.set_path(&scrape_path(url.path())?);
        Some(Self::new(&url))
    }

    fn request(&self, query: &str, forwarded_for: Option<IpAddr>) -> String {
        let length = self.line.len() + query.len() + self.fields.len() + 80;
        let mut request = String::with_capacity(length);
        request.push_str(if query.is_empty() {
            self.line.trim_end_matches(['?', '&'])
        } else {
            &self.line
        });
        request.push_str(query);
        request.push_str(&self.fields);
        if let Some(ip) = forwarded_for {
            // In exactly this case: there are trackers that know no other.
            let _ = write!(request, "X-Forwarded-For: {ip}\r\nVia: 1.1 {BRIDGE}\r\n");
        }
        request.push_str("\r\n");
        request
    }

    /// Where a redirect leads that answers a request to this target.
    fn redirected(&self, query: &str, location: &str) -> Result<Url, Problem> {
        let bad = |what: &str| Problem::failed(ErrorCode::BadAnswer, format!("a redirect {what}"));
        if location.len() > MAX_LOCATION {
            return Err(bad("to a URL that is too long"));
        }
        let mut base = self.url.clone();
        let own = base.query().filter(|own| !own.is_empty()).map(|own| format!("{own}&{query}"));
        base.set_query(Some(own.as_deref().unwrap_or(query)));
        let url = base.join(location).map_err(|_| bad("to what is no URL"))?;
        match url.scheme() {
            "http" | "https" if url.host_str().is_some_and(|host| !host.is_empty()) => Ok(url),
            _ => Err(bad("to what is no HTTP")),
        }
    }
}

type Parse<T> = fn(&[u8]) -> Result<Result<T, Failure>, ResponseError>;

async fn ask<T>(
    tracker: &Tracker,
    target: &Target,
    query: &str,
    trip: Trip<'_>,
    parse: Parse<T>,
) -> Result<T, Problem> {
    let mut reply = ask_once(Some(&tracker.pool), target, query, trip).await?;
    let mut from: Option<Target> = None;
    for hop in 0.. {
        let Some(location) = location(&reply) else { break };
        if hop == MAX_REDIRECTS {
            let text = format!("more than {MAX_REDIRECTS} redirects");
            return Err(Problem::failed(ErrorCode::BadAnswer, text));
        }
        // What leads on has the query in it, or does not want it.
        let url = match &from {
            None => target.redirected(query, location)?,
            Some(from) => from.redirected("", location)?,
        };
        let next = Target::new(&url);
        reply = if same_place(&url, tracker.url.url()) {
            ask_once(Some(&tracker.pool), &next, "", trip).await?
        } else if trip.forwarded_for.is_some() {
            let text = "the tracker sends on to another one, which is not told of a peer";
            return Err(Problem::failed(ErrorCode::BadAnswer, text));
        } else {
            let way = Way { address: resolve(&url, trip.way.source).await?, ..trip.way };
            ask_once(None, &next, "", Trip { way, ..trip }).await?
        };
        from = Some(next);
    }
    answer(&reply, parse)
}

fn location(reply: &Reply) -> Option<&str> {
    matches!(reply.status, 301 | 302 | 303 | 307 | 308).then_some(reply.location.as_deref())?
}

fn same_place(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host() == other.host()
        && one.port_or_known_default() == other.port_or_known_default()
}

async fn resolve(url: &Url, source: IpAddr) -> Result<SocketAddr, Problem> {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let unknown = |text: String| Problem::failed(ErrorCode::Unavailable, text);
    let found = lookup_host((host, url.port_or_known_default().unwrap_or(80))).await;
    let mut found = found.map_err(|error| unknown(format!("cannot resolve {host}: {error}")))?;
    found
        .find(|address| address.is_ipv6() == source.is_ipv6())
        .ok_or_else(|| unknown(format!("{host} has no address in the family that is asked over")))
}

/// Sends a request, once more if a connection that was used before turns out to be closed.
async fn ask_once(
    pool: Option<&Pool>,
    target: &Target,
    query: &str,
    trip: Trip<'_>,
) -> Result<Reply, Problem> {
    let request = target.request(query, trip.forwarded_for);
    let mut kept = pool.and_then(|pool| pool.take(trip.way));
    loop {
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => Connection::open(trip.way, &target.url).await.map_err(unreachable)?,
        };
        // Asked for when the request can leave at once.
        if let Err(shed) = trip.ticket.message(trip.leave_by).await {
            if let Some(pool) = pool {
                pool.put(connection);
            }
            return Err(Problem::Shed(shed.into()));
        }
        let used = connection.used();
        match connection.ask(request.as_bytes()).await {
            Ok(reply) => {
                if let Some(pool) = pool.filter(|_| reply.reusable) {
                    pool.put(connection);
                }
                return Ok(reply);
            }
            Err(ExchangeError::Silent) if used => {}
            Err(error) if error.is_nonsense() => {
                return Err(Problem::failed(ErrorCode::BadAnswer, error.to_string()));
            }
            Err(error) => return Err(unreachable(error)),
        }
    }
}

fn answer<T>(reply: &Reply, parse: Parse<T>) -> Result<T, Problem> {
    let is_success = (200..300).contains(&reply.status);
    match parse(&reply.body) {
        Ok(Ok(answer)) if is_success => Ok(answer),
        Ok(Err(failure)) => Err(Problem::Refused(fault_of_failure(failure))),
        Err(_) if is_success && reply.body.is_empty() => {
            Err(Problem::failed(ErrorCode::BadAnswer, "an empty answer"))
        }
        Err(error) if is_success => Err(Problem::failed(ErrorCode::BadAnswer, error.to_string())),
        _ => Err(Problem::Failed(fault_of_status(reply))),
    }
}

fn fault_of_status(reply: &Reply) -> Fault {
    let code = match reply.status {
        429 | 503 => ErrorCode::Overloaded,
        500.. => ErrorCode::Unavailable,
        _ => ErrorCode::BadAnswer,
    };
    Fault {
        code,
        native_code: Some(reply.status.into()),
        text: format!("HTTP status {}", reply.status),
        retry_after: reply.retry_after.map(|seconds| Duration::from_secs(seconds.into())),
    }
}

/// What went wrong below HTTP. The URL is not in it: it may bear a passkey.
fn unreachable(error: impl std::fmt::Display) -> Problem {
    Problem::failed(ErrorCode::Unavailable, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        Target::new(&url.parse().unwrap())
    }

    #[test]
    fn a_request_has_what_its_url_says() {
        let request = target("http://u:p@T.example:80/a%20b?k=1#x").request("q=2", None);
        let agent = concat!("User-Agent: P2P-Bridge/", env!("CARGO_PKG_VERSION"));
        let head = format!("GET /a%20b?k=1&q=2 HTTP/1.1\r\nHost: t.example\r\n{agent}\r\n");
        let rest = "Accept-Encoding: gzip\r\nAuthorization: Basic dTpw\r\n\r\n";
        assert_eq!(request, head + rest);
        let ip = "2001:db8::1".parse().ok();
        let request = target("https://[::1]:8443").request("q=2", ip);
        assert!(request.starts_with("GET /?q=2 HTTP/1.1\r\nHost: [::1]:8443\r\n"), "{request}");
        assert!(
            request
                .ends_with("gzip\r\nX-Forwarded-For: 2001:db8::1\r\nVia: 1.1 p2p-bridge\r\n\r\n"),
            "{request}"
        );
        assert!(target("http://x/a").request("", None).starts_with("GET /a HTTP"));
        let scrapes = |url: &str| Target::for_scrapes(&url.parse().unwrap());
        let request = scrapes("http://x/k/announce?a=b").unwrap().request("q=2", None);
        assert!(request.starts_with("GET /k/scrape?a=b&q=2 HTTP"), "{request}");
        assert!(scrapes("http://x/k").is_none());
    }

    #[test]
    fn a_redirect_is_read_from_where_it_was_given() {
        let from = target("http://t.example/x/announce?k=1");
        let to = |location: &str| from.redirected("q=2", location).map(|url| url.to_string());
        assert_eq!(to("y?q=2").unwrap(), "http://t.example/x/y?q=2");
        assert_eq!(to("//o.example/").unwrap(), "http://o.example/");
        assert_eq!(to("").unwrap(), "http://t.example/x/announce?k=1&q=2");
        for bad in ["udp://t.example:1/", "file:///etc/passwd", "http://[", "data:,x"] {
            assert!(to(bad).is_err(), "{bad}");
        }
        let same =
            |one: &str, other: &str| same_place(&one.parse().unwrap(), &other.parse().unwrap());
        assert!(same("http://a/x", "http://a:80/y") && !same("http://a/", "https://a/"));
        assert!(!same("http://a/", "http://b/") && !same("http://a/", "http://a:81/"));
    }
}
