//! Messages of HTTP trackers: BEP 3, 7, 21, 23, 24, 31, 48.

mod query;
mod response;

pub use query::{
    AnnounceRequest, FIELDS, MAX_QUERY, MAX_SCRAPE, MAX_TOKEN, QueryError, ScrapeRequest,
    event_word,
};
pub use response::{
    AnnounceResponse, DEFAULT_INTERVAL, Failure, MAX_INTERVAL, MAX_PEERS, MIN_INTERVAL,
    ResponseError, RetryIn, SwarmCounts, bounded_interval, parse_announce, parse_scrape,
    write_failure, write_scrape,
};

/// The path and query at which a tracker takes scrapes, by the path and query at which it takes announces (BEP 48):
/// `announce`, with which the last part of the path must begin, becomes `scrape`.
#[must_use]
pub fn scrape_path(announce_path: &str) -> Option<String> {
    let (folder, last) = announce_path.rsplit_once('/')?;
    let rest = last.strip_prefix("announce")?;
    Some(format!("{folder}/scrape{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrape_paths_follow_bep_48() {
        assert_eq!(scrape_path("/announce").as_deref(), Some("/scrape"));
        assert_eq!(scrape_path("/x/announce.php").as_deref(), Some("/x/scrape.php"));
        assert_eq!(scrape_path("/announce/x"), None);
        assert_eq!(scrape_path("/a"), None);
    }
}
