//! The page for operators' monitoring: `/metrics` and `/healthz` over HTTP/1.1.
//!
//! Each connection is for one question, and has one deadline for all of it: who sends or reads slowly costs a place for
//! that long, and nothing else.

mod families;
mod older;
mod report;

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::{JoinSet, spawn_blocking},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

pub use self::report::{LedgerReport, RelayReport, Report};

/// The types of `/metrics`: what those get who accept OpenMetrics 1.0, and what the others get.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const OLDER_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Connections at once; others wait to be accepted.
const MOST_CONNECTIONS: usize = 32;
/// Bytes of a request's head, and the number of its fields.
const MOST_HEAD: usize = 8 << 10;
const MOST_FIELDS: usize = 64;
/// How long a request's head may take, and the whole of a connection.
const HEAD_TIME: Duration = Duration::from_secs(5);
const WHOLE_TIME: Duration = Duration::from_secs(15);
/// What is still read of who has got an answer and goes on sending.
const MOST_REST: u64 = 1 << 20;
const REST_TIME: Duration = Duration::from_secs(1);
/// A pause after a failed accept (no file descriptors, for example), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Tells what stands on the page.
pub trait ReportSource: Send + Sync + 'static {
    /// The state now. May block.
    fn report(&self) -> Report;
}

/// Serves the page until `stop`; from `draining` on `/healthz` says 503.
pub async fn serve(
    listener: TcpListener,
    source: Arc<dyn ReportSource>,
    draining: CancellationToken,
    stop: CancellationToken,
) {
    let page = Arc::new(Page { source, draining, gathering: Arc::new(Semaphore::new(1)) });
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            biased;
            // What is under way is cut with the set.
            () = stop.cancelled() => return,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener), if connections.len() < MOST_CONNECTIONS => accepted,
        };
        let page = page.clone();
        connections.spawn(async move {
            if timeout(WHOLE_TIME, connection(stream, page)).await.is_err() {
                tracing::debug!("metrics: a connection took too long");
            }
        });
    }
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "metrics: cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One question, one answer.
async fn connection(mut stream: TcpStream, page: Arc<Page>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let page = page.clone();
        async move { Ok::<_, Infallible>(page.answer(&request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_header_size(MOST_HEAD)
        .max_buf_size(2 * MOST_HEAD)
        .max_headers(MOST_FIELDS)
        .keep_alive(false)
        .serve_connection(TokioIo::new(&mut stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "metrics: a connection broke");
    }
    // Who goes on sending for longer than that loses the answer.
    let _ = timeout(REST_TIME, farewell(stream)).await;
}

/// Ends the answer, and reads what was sent all the same: an early hang-up would take the answer back.
async fn farewell(mut stream: TcpStream) -> io::Result<u64> {
    stream.shutdown().await?;
    tokio::io::copy(&mut stream.take(MOST_REST), &mut tokio::io::sink()).await
}

/// What answers.
struct Page {
    source: Arc<dyn ReportSource>,
    draining: CancellationToken,
    /// One place: however many scrape, state is gathered on one thread.
    gathering: Arc<Semaphore>,
}

impl Page {
    async fn answer(&self, request: &Request<Incoming>) -> Response<String> {
        let path = request.uri().path();
        if !matches!(path, "/metrics" | "/healthz") {
            return plain(StatusCode::NOT_FOUND, "there is /metrics and /healthz\n");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        match path {
            "/metrics" => self.metrics(accepts_open_metrics(request.headers())).await,
            _ if self.draining.is_cancelled() => {
                plain(StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
            }
            _ => plain(StatusCode::OK, "ok\n"),
        }
    }

    async fn metrics(&self, open: bool) -> Response<String> {
        match self.gather().await {
            Ok(text) if open => with_type(StatusCode::OK, OPEN_METRICS, text),
            Ok(text) => with_type(StatusCode::OK, OLDER_TEXT, older::text(&text)),
            Err(error) => {
                tracing::error!(%error, "metrics: the state cannot be told");
                plain(StatusCode::INTERNAL_SERVER_ERROR, "it cannot be told; see the log\n")
            }
        }
    }

    async fn gather(&self) -> Result<String, String> {
        let place = self.gathering.clone().acquire_owned().await.map_err(|end| end.to_string())?;
        let source = self.source.clone();
        let work = move || {
            // It stays with the work: who hangs up makes no room for another thread.
            let _place = place;
            source.report().text()
        };
        let text = spawn_blocking(work).await.map_err(|error| error.to_string())?;
        text.map_err(|_| "the text cannot be written".to_owned())
    }
}

fn accepts_open_metrics(fields: &HeaderMap) -> bool {
    let named = |field: &HeaderValue| {
        field.to_str().is_ok_and(|field| field.contains("application/openmetrics-text"))
    };
    fields.get_all(ACCEPT).iter().any(named)
}

fn plain(status: StatusCode, text: &str) -> Response<String> {
    with_type(status, "text/plain; charset=utf-8", text.to_owned())
}

fn with_type(status: StatusCode, content_type: &'static str, text: String) -> Response<String> {
    let mut answer = Response::new(text);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

#[cfg(test)]
mod tests;
