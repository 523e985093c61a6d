//! Questions to an HTTP tracker, on the wire.

use std::{error::Error, net::IpAddr, time::Duration};

use p2pbridge_proto::{ErrorCode, Fault};
use reqwest::{Client, Response, StatusCode, Url, header::RETRY_AFTER, redirect::Policy};

use super::Problem;
use crate::bittorrent::{
    config::TrackerUrl,
    translate::fault_of_failure,
    wire::http::{
        AnnounceRequest, AnnounceResponse, Failure, ResponseError, ScrapeRequest, SwarmCounts,
        parse_announce, parse_scrape, scrape_path,
    },
};

pub(super) use crate::bittorrent::wire::http::MAX_SCRAPE;

/// The most bytes that are read of an answer.
const MAX_BODY: usize = 1 << 20;

/// A client that asks from one address, and so in one family.
pub(super) fn client(source: IpAddr) -> reqwest::Result<Client> {
    Client::builder()
        .no_proxy()
        .redirect(Policy::limited(3))
        .connect_timeout(Duration::from_secs(5))
        .pool_max_idle_per_host(2)
        .pool_idle_timeout(Duration::from_secs(30))
        .local_address(source)
        .user_agent(concat!("P2P-Bridge/", env!("CARGO_PKG_VERSION")))
        .build()
}

pub(super) async fn announce(
    client: &Client,
    tracker: &TrackerUrl,
    announce: &AnnounceRequest,
) -> Result<AnnounceResponse, Problem> {
    let url = with_query(tracker.url().clone(), &announce.query());
    ask(client, url, parse_announce).await
}

pub(super) async fn scrape(
    client: &Client,
    tracker: &TrackerUrl,
    info_hashes: &[[u8; 20]],
) -> Result<Vec<([u8; 20], SwarmCounts)>, Problem> {
    let mut url = tracker.url().clone();
    let Some(path) = scrape_path(url.path()) else {
        let text = "the tracker's URL does not end in `announce`: it takes no scrapes (BEP 48)";
        return Err(Problem::Refused(Fault::new(ErrorCode::Unsupported, text)));
    };
    url.set_path(&path);
    let query = ScrapeRequest { info_hashes: info_hashes.to_vec() }.query();
    ask(client, with_query(url, &query), parse_scrape).await
}

/// Puts the query behind what the tracker's URL has of its own.
fn with_query(mut url: Url, query: &str) -> Url {
    let query = match url.query().filter(|own| !own.is_empty()) {
        Some(own) => format!("{own}&{query}"),
        None => query.to_owned(),
    };
    url.set_query(Some(&query));
    url
}

type Parse<T> = fn(&[u8]) -> Result<Result<T, Failure>, ResponseError>;

async fn ask<T>(client: &Client, url: Url, parse: Parse<T>) -> Result<T, Problem> {
    let mut response = client.get(url).send().await.map_err(unreachable)?;
    let status = response.status();
    let body = body(&mut response).await?;
    match parse(&body) {
        Ok(Ok(answer)) if status.is_success() => Ok(answer),
        Ok(Err(failure)) => Err(Problem::Refused(fault_of_failure(failure))),
        Err(error) if status.is_success() => {
            Err(Problem::failed(ErrorCode::BadAnswer, error.to_string()))
        }
        _ => Err(Problem::Failed(fault_of_status(status, &response))),
    }
}

async fn body(response: &mut Response) -> Result<Vec<u8>, Problem> {
    let mut body = Vec::new();
    while let Some(bytes) = response.chunk().await.map_err(unreachable)? {
        if body.len() + bytes.len() > MAX_BODY {
            let text = format!("an answer of more than {MAX_BODY} bytes");
            return Err(Problem::failed(ErrorCode::BadAnswer, text));
        }
        body.extend_from_slice(&bytes);
    }
    Ok(body)
}

fn fault_of_status(status: StatusCode, response: &Response) -> Fault {
    let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let seconds: Option<u32> = seconds.and_then(|text| text.trim().parse().ok());
    let code = match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => ErrorCode::Overloaded,
        _ if status.is_server_error() => ErrorCode::Unavailable,
        _ => ErrorCode::BadAnswer,
    };
    Fault {
        code,
        native_code: Some(status.as_u16().into()),
        text: format!("HTTP status {status}"),
        retry_after: seconds.map(|seconds| Duration::from_secs(seconds.into())),
    }
}

/// What went wrong below HTTP, without the URL: it may bear a passkey.
fn unreachable(error: reqwest::Error) -> Problem {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    Problem::failed(ErrorCode::Unavailable, text)
}
