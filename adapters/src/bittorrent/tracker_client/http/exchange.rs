//! One question and its answer on an HTTP/1.1 connection: bounded in every part.

use std::io::{self, Read};

use flate2::read::GzDecoder;
use httparse::Status;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The most bytes that are read of an answer, packed and unpacked.
pub(super) const MAX_BODY: usize = 1 << 20;
/// The most bytes of an answer's head, and of what follows its last chunk.
const MAX_HEAD: usize = 16 << 10;
const MAX_HEADERS: usize = 64;
/// The most answers of the kind `100 Continue` before the one that is meant.
const MAX_INTERIM: usize = 4;
/// The longest line that tells a chunk's size.
const MAX_CHUNK_LINE: usize = 256;

/// An answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: u16,
    /// Seconds.
    pub(super) retry_after: Option<u32>,
    pub(super) location: Option<String>,
    pub(super) body: Vec<u8>,
    /// Whether the connection can be asked again.
    pub(super) reusable: bool,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub(super) enum ExchangeError {
    /// Nothing came: on a connection that was used before, the tracker may have closed it before it was asked.
    #[error("the tracker closed the connection without an answer")]
    Silent,
    #[error("the answer ends too early")]
    Cut,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("an answer of more than {MAX_BODY} bytes")]
    TooLong,
    #[error("no HTTP answer: {0}")]
    NoHttp(String),
    #[error("the answer is packed as `{0}`, which was not asked for")]
    Packing(String),
    #[error("the answer cannot be unpacked: {0}")]
    Unpacking(io::Error),
}

impl ExchangeError {
    /// Whether what came is not of the protocol; else the connection failed.
    pub(super) fn is_nonsense(&self) -> bool {
        !matches!(self, Self::Silent | Self::Cut | Self::Io(_))
    }
}

/// Where a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    /// With the connection.
    Close,
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    reply: Reply,
    framing: Framing,
    gzip: bool,
}

/// Sends a request and reads its answer. `buffer` keeps its room for the next one; it must be empty.
pub(super) async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
    request: &[u8],
) -> Result<Reply, ExchangeError> {
    // When the tracker has closed the connection, this may fail before the answer to that is read.
    stream.write_all(request).await.map_err(|_| ExchangeError::Silent)?;
    stream.flush().await.map_err(|_| ExchangeError::Silent)?;
    let mut reader = Reader { stream, buffer, at: 0 };
    let Head { mut reply, framing, gzip } = reader.head().await?;
    reply.body = match framing {
        Framing::Length(length) => reader.exactly(length).await?.to_vec(),
        Framing::Chunked => reader.chunks().await?,
        Framing::Close => reader.until_close().await?,
    };
    // More than was asked for is nonsense that must not be taken for the next answer.
    reply.reusable &= reader.at == reader.buffer.len();
    if gzip {
        reply.body = unpacked(&reply.body)?;
    }
    Ok(reply)
}

struct Reader<'a, S> {
    stream: &'a mut S,
    buffer: &'a mut Vec<u8>,
    /// Bytes of the buffer that are done with.
    at: usize,
}

impl<S: AsyncRead + Unpin> Reader<'_, S> {
    /// Reads more; `false` at the end.
    async fn more(&mut self) -> Result<bool, ExchangeError> {
        self.buffer.reserve(4096);
        match self.stream.read_buf(self.buffer).await {
            Ok(read) => Ok(read > 0),
            // What a restarted tracker leaves behind.
            Err(error) if self.buffer.is_empty() && is_reset(&error) => Err(ExchangeError::Silent),
            Err(error) => Err(error.into()),
        }
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.at..).unwrap_or_default()
    }

    async fn head(&mut self) -> Result<Head, ExchangeError> {
        for _ in 0..=MAX_INTERIM {
            let head = loop {
                match parse_head(self.rest())? {
                    Some((length, head)) => {
                        self.at = self.at.saturating_add(length);
                        break head;
                    }
                    None if self.rest().len() > MAX_HEAD => {
                        return Err(no_http("its head is longer than 16 KiB"));
                    }
                    None if self.more().await? => {}
                    None if self.buffer.is_empty() => return Err(ExchangeError::Silent),
                    None => return Err(ExchangeError::Cut),
                }
            };
            if !(100..200).contains(&head.reply.status) {
                return Ok(head);
            }
        }
        Err(no_http("it is put off again and again"))
    }

    async fn exactly(&mut self, length: usize) -> Result<&[u8], ExchangeError> {
        while self.rest().len() < length {
            if !self.more().await? {
                return Err(ExchangeError::Cut);
            }
        }
        let start = self.at;
        self.at = start.saturating_add(length);
        Ok(self.buffer.get(start..self.at).unwrap_or_default())
    }

    async fn chunks(&mut self) -> Result<Vec<u8>, ExchangeError> {
        let mut body = Vec::new();
        loop {
            let length = self.chunk_line().await?;
            if length == 0 {
                break;
            }
            if length > MAX_BODY - body.len() {
                return Err(ExchangeError::TooLong);
            }
            body.extend_from_slice(self.exactly(length).await?);
            if self.exactly(2).await? != b"\r\n" {
                return Err(no_http("a chunk is longer than it says"));
            }
            // What is done with is not kept: a body may come in many small chunks.
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        // Fields may follow, then an empty line.
        let mut trailers = 0;
        loop {
            let line = self.line().await?;
            trailers += line;
            match line {
                2 => return Ok(body),
                _ if trailers > MAX_HEAD => return Err(no_http("endless trailers")),
                _ => {}
            }
        }
    }

    async fn chunk_line(&mut self) -> Result<usize, ExchangeError> {
        loop {
            match httparse::parse_chunk_size(self.rest()) {
                Ok(Status::Complete((used, length))) => {
                    self.at = self.at.saturating_add(used);
                    return usize::try_from(length).map_err(|_| ExchangeError::TooLong);
                }
                Ok(Status::Partial) if self.rest().len() > MAX_CHUNK_LINE => {
                    return Err(no_http("a chunk's size is endless"));
                }
                Ok(Status::Partial) if self.more().await? => {}
                Ok(Status::Partial) => return Err(ExchangeError::Cut),
                Err(_) => return Err(no_http("a chunk has no size")),
            }
        }
    }

    /// Passes over a line and tells its length with its end.
    async fn line(&mut self) -> Result<usize, ExchangeError> {
        loop {
            if let Some(end) = self.rest().iter().position(|byte| *byte == b'\n') {
                self.at = self.at.saturating_add(end + 1);
                return Ok(end + 1);
            }
            if self.rest().len() > MAX_HEAD {
                return Err(no_http("an endless line"));
            }
            if !self.more().await? {
                return Err(ExchangeError::Cut);
            }
        }
    }

    async fn until_close(&mut self) -> Result<Vec<u8>, ExchangeError> {
        while self.more().await? {
            if self.rest().len() > MAX_BODY {
                return Err(ExchangeError::TooLong);
            }
        }
        let body = self.rest().to_vec();
        self.at = self.buffer.len();
        Ok(body)
    }
}

fn no_http(problem: impl Into<String>) -> ExchangeError {
    ExchangeError::NoHttp(problem.into())
}

fn is_reset(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// The head at the beginning of some bytes, and its length, if it is whole.
fn parse_head(bytes: &[u8]) -> Result<Option<(usize, Head)>, ExchangeError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(error) => return Err(no_http(error.to_string())),
    };
    let status = response.code.unwrap_or(0);
    let mut reply = Reply { status, reusable: response.version == Some(1), ..Reply::default() };
    let (mut said, mut chunked, mut gzip) = (None, false, false);
    for header in response.headers.iter() {
        let value = std::str::from_utf8(header.value).unwrap_or_default().trim();
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            let length = value.parse::<u64>().map_err(|_| no_http("its length is no number"))?;
            if said.is_some_and(|said| said != length) {
                return Err(no_http("it has two lengths"));
            }
            said = Some(length);
        } else if is("transfer-encoding") {
            chunked = value.eq_ignore_ascii_case("chunked");
            if !chunked && !value.eq_ignore_ascii_case("identity") {
                return Err(ExchangeError::Packing(value.chars().take(40).collect()));
            }
        } else if is("content-encoding") {
            gzip = value.eq_ignore_ascii_case("gzip") || value.eq_ignore_ascii_case("x-gzip");
            if !gzip && !value.is_empty() && !value.eq_ignore_ascii_case("identity") {
                return Err(ExchangeError::Packing(value.chars().take(40).collect()));
            }
        } else if is("connection") {
            let says = |word: &str| value.split(',').any(|w| w.trim().eq_ignore_ascii_case(word));
            reply.reusable = (reply.reusable || says("keep-alive")) && !says("close");
        } else if is("retry-after") {
            reply.retry_after = value.parse().ok();
        } else if is("location") {
            reply.location = Some(value.to_owned());
        }
    }
    let framing = match said {
        _ if (100..200).contains(&status) || status == 204 || status == 304 => Framing::Length(0),
        _ if chunked => Framing::Chunked,
        Some(length) => match usize::try_from(length) {
            Ok(length @ ..=MAX_BODY) => Framing::Length(length),
            _ => return Err(ExchangeError::TooLong),
        },
        None => Framing::Close,
    };
    reply.reusable &= framing != Framing::Close;
    Ok(Some((length, Head { reply, framing, gzip })))
}

fn unpacked(body: &[u8]) -> Result<Vec<u8>, ExchangeError> {
    let most = u64::try_from(MAX_BODY).unwrap_or(u64::MAX).saturating_add(1);
    let mut out = Vec::new();
    GzDecoder::new(body).take(most).read_to_end(&mut out).map_err(ExchangeError::Unpacking)?;
    if out.len() > MAX_BODY {
        return Err(ExchangeError::TooLong);
    }
    Ok(out)
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
