//! `NameService`: which names stand for the same bytes, and how their chunks correspond.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use p2pbridge_nametable::{Binding, ChunkMap, NameTable, map_availability};
use p2pbridge_proto::{
    Bits, Layout, Name, NameError, Scheme, parse_magnet_names,
    v1::{
        self, BatchResolveRequest, BatchResolveResponse, BindRequest, BindResponse, ListRequest,
        ListResponse, MapChunksRequest, MapChunksResponse, ResolveRequest, ResolveResponse,
        UnbindRequest, UnbindResponse, map_chunks_request::What, name_service_server::NameService,
    },
};
use prost::Message;
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status};

use super::{Explain, Explained, blocking, caller, fault, token};
use crate::{
    names::{NameDesk, row},
    status::choice::Score,
};

const USUAL_PAGE: usize = 100;
const MOST_PAGE: usize = 1_000;
/// A page ends early when its bindings have more files than this together.
const MOST_FILES_A_PAGE: usize = 20_000;
const MOST_REQUESTS: usize = 1_000;
const MOST_RANGES: usize = 10_000;
const MOST_ANSWERS_KEPT: usize = 64;
const MOST_REQUEST_ID: usize = 128;
const LIST: &[u8] = b"names";

/// The service over a desk.
pub struct Names {
    desk: Arc<NameDesk>,
    explain: Arc<dyn Explain>,
    answered: Arc<Answered>,
}

impl Names {
    /// The service.
    #[must_use]
    pub fn new(desk: Arc<NameDesk>, explain: Arc<dyn Explain>) -> Self {
        Self { desk, explain, answered: Arc::default() }
    }

    fn table(&self) -> &NameTable {
        self.desk.table()
    }

    fn resolve_one(
        table: &NameTable,
        explain: &dyn Explain,
        request: &ResolveRequest,
    ) -> Result<ResolveResponse, Status> {
        let names = parse(&request.name, request.scheme(), "name")?;
        let Some((binding, others)) = names.iter().find_map(|name| table.resolve(name)) else {
            return Err(names
                .first()
                .map_or_else(|| fault::internal("no name"), fault::unknown_name));
        };
        let in_overlay = |binding: &&Arc<Binding>| {
            request.overlay.is_empty()
                || binding.overlays.iter().any(|overlay| overlay.as_str() == request.overlay)
        };
        let equivalents = others.iter().filter(in_overlay).map(|binding| row(binding)).collect();
        let mut response =
            ResolveResponse { binding: Some(row(&binding)), equivalents, ..Default::default() };
        if request.explain {
            let Explained { choices, held_bytes } = explain.explain(&binding, &others);
            let from_there = |choice: &Score| {
                request.overlay.is_empty() || choice.from.as_str() == request.overlay
            };
            response.held_bytes = held_bytes;
            response.choices = choices.into_iter().filter(from_there).map(choice).collect();
        }
        Ok(response)
    }

    fn layout(&self, text: &str, field: &str) -> Result<Arc<Layout>, Status> {
        let names = parse(text, v1::Scheme::Unspecified, field)?;
        names
            .iter()
            .find_map(|name| self.table().get(name))
            .map(|binding| binding.layout.clone())
            .ok_or_else(|| {
                names.first().map_or_else(|| fault::internal("no name"), fault::unknown_name)
            })
    }
}

type Rows<T> = std::pin::Pin<Box<dyn futures::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl NameService for Names {
    type ImportNamesStream = Rows<v1::ImportNamesResponse>;
    type ExportNamesStream = Rows<v1::ExportNamesResponse>;
    type WatchNamesStream = Rows<v1::WatchNamesResponse>;

    async fn translate(
        &self,
        _: Request<v1::TranslateRequest>,
    ) -> Result<Response<v1::TranslateResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn publish(
        &self,
        _: Request<v1::PublishRequest>,
    ) -> Result<Response<v1::PublishResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn import_names(
        &self,
        _: Request<tonic::Streaming<v1::ImportNamesRequest>>,
    ) -> Result<Response<Self::ImportNamesStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn export_names(
        &self,
        _: Request<v1::ExportNamesRequest>,
    ) -> Result<Response<Self::ExportNamesStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn watch_names(
        &self,
        _: Request<v1::WatchNamesRequest>,
    ) -> Result<Response<Self::WatchNamesStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn resolve(
        &self,
        request: Request<ResolveRequest>,
    ) -> Result<Response<ResolveResponse>, Status> {
        let request = request.into_inner();
        if !request.explain {
            return Self::resolve_one(self.table(), &*self.explain, &request).map(Response::new);
        }
        // To explain takes reading descriptions.
        let (desk, explain) = (self.desk.clone(), self.explain.clone());
        blocking(move || Self::resolve_one(desk.table(), &*explain, &request))
            .await?
            .map(Response::new)
    }

    async fn batch_resolve(
        &self,
        request: Request<BatchResolveRequest>,
    ) -> Result<Response<BatchResolveResponse>, Status> {
        let requests = request.into_inner().requests;
        if requests.len() > MOST_REQUESTS {
            let text = format!("{} are more than {MOST_REQUESTS}", requests.len());
            return Err(fault::bad_field("TOO_MUCH", "requests", text));
        }
        if requests.iter().any(|request| request.explain) {
            let text = "one name at a time can be explained: ask Resolve";
            return Err(fault::bad_field("BAD_EXPLAIN", "requests", text));
        }
        let mut responses = Vec::with_capacity(requests.len());
        for request in &requests {
            match Self::resolve_one(self.table(), &*self.explain, request) {
                Ok(response) => responses.push(response),
                Err(status) if status.code() == tonic::Code::NotFound => {
                    responses.push(ResolveResponse::default());
                }
                Err(status) => return Err(status),
            }
        }
        Ok(Response::new(BatchResolveResponse { responses }))
    }

    async fn bind(&self, request: Request<BindRequest>) -> Result<Response<BindResponse>, Status> {
        let stated_by = caller(request.remote_addr());
        let request = request.into_inner();
        if request.items.is_empty() {
            return Err(fault::bad_field("BAD_ITEMS", "items", "there is nothing to bind"));
        }
        if request.request_id.len() > MOST_REQUEST_ID {
            let text = format!("it takes {MOST_REQUEST_ID} bytes at most");
            return Err(fault::bad_field("BAD_REQUEST_ID", "request_id", text));
        }
        let (desk, answered) = (self.desk.clone(), self.answered.clone());
        blocking(move || {
            if let Some(answer) = answered.find(&request)? {
                return Ok(answer);
            }
            let seen = Seen::of(&request);
            let bindings = desk.bind(request.items, &stated_by)?;
            let answer = BindResponse {
                bindings: bindings.iter().map(|b| row(b)).collect(),
                contents: Vec::new(),
            };
            answered.keep(seen, &answer);
            Ok(answer)
        })
        .await?
        .map(Response::new)
    }

    async fn unbind(
        &self,
        request: Request<UnbindRequest>,
    ) -> Result<Response<UnbindResponse>, Status> {
        let names = parse(&request.get_ref().name, request.get_ref().scheme(), "name")?;
        let desk = self.desk.clone();
        let (names, taken) = blocking(move || {
            for name in &names {
                match desk.table().unbind(name) {
                    Ok(None) => {}
                    found => return (names, found),
                }
            }
            (names, Ok(None))
        })
        .await?;
        match taken.map_err(|error| fault::store(&error))? {
            Some(binding) => Ok(Response::new(UnbindResponse { binding: Some(row(&binding)) })),
            None => {
                Err(names.first().map_or_else(|| fault::internal("no name"), fault::unknown_name))
            }
        }
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        let request = request.into_inner();
        let after = match token::decode(LIST, &request.page_token)? {
            Some(key) => Some(name_of_key(&key)?),
            None => None,
        };
        let limit = match usize::try_from(request.page_size).unwrap_or(MOST_PAGE) {
            0 => USUAL_PAGE,
            size => size.min(MOST_PAGE),
        };
        let (mut bindings, mut next) = self.table().list(after.as_ref(), limit);
        let mut files = 0usize;
        let fits = bindings.iter().take_while(|binding| {
            let first = files == 0;
            files = files.saturating_add(binding.files.len().max(1));
            first || files <= MOST_FILES_A_PAGE
        });
        let fits = fits.count();
        if fits < bindings.len() {
            bindings.truncate(fits);
            next = bindings.last().map(|binding| binding.name());
        }
        Ok(Response::new(ListResponse {
            bindings: bindings.iter().map(|binding| row(binding)).collect(),
            next_page_token: next
                .map_or_else(String::new, |name| token::encode(LIST, &key_of(&name))),
        }))
    }

    async fn map_chunks(
        &self,
        request: Request<MapChunksRequest>,
    ) -> Result<Response<MapChunksResponse>, Status> {
        let request = request.into_inner();
        let from = self.layout(&request.from, "from")?;
        let to = self.layout(&request.to, "to")?;
        let what = request.what.ok_or_else(|| {
            fault::bad_field("BAD_RANGE", "what", "say `bytes`, `chunks` or `availability`")
        })?;
        blocking(move || map(&from, &to, what)).await?.map(Response::new)
    }
}

fn choice(score: Score) -> v1::OverlayChoice {
    let terms = score.terms.into_iter().map(|term| v1::ScoreTerm {
        what: term.what.to_owned(),
        value: term.value,
        weight: term.weight,
        points: term.points,
    });
    v1::OverlayChoice {
        from_overlay: score.from.to_string(),
        to_overlay: score.to.to_string(),
        urn: score.name.to_string(),
        content_class: score.class.to_string(),
        direct: score.direct,
        score: score.total,
        terms: terms.collect(),
        usable: score.refusal.is_none(),
        refusal: score.refusal.unwrap_or_default(),
    }
}

fn map(from: &Layout, to: &Layout, what: What) -> Result<MapChunksResponse, Status> {
    let range = match what {
        What::Bytes(bytes) => byte_range(from, &bytes)?,
        What::Chunks(chunks) => chunk_range(from, &chunks)?,
        What::Availability(bytes) => {
            let have = Bits::from_bytes(&bytes, from.chunk_count()).ok_or_else(|| {
                let text = format!(
                    "`from` has {} chunks: it takes {} bytes, the bits behind the last chunk 0",
                    from.chunk_count(),
                    from.chunk_count().div_ceil(8)
                );
                fault::bad_field("BAD_AVAILABILITY", "availability", text)
            })?;
            let availability = map_availability(from, &have, to).as_bytes().to_vec();
            return Ok(MapChunksResponse { ranges: Vec::new(), availability });
        }
    };
    let map = ChunkMap::new(from, to);
    let mut mapped: Vec<_> = map.range(range).take(MOST_RANGES + 1).collect();
    if mapped.len() > MOST_RANGES {
        let text = format!("it maps to more than {MOST_RANGES} ranges: ask for less at once");
        return Err(fault::bad_field("TOO_MUCH", "what", text));
    }
    mapped.sort_by_key(|mapped| (mapped.from.start, mapped.to.start));
    let ranges = mapped.iter().map(|mapped| {
        let chunks = map.to_chunks(mapped);
        v1::MappedRange {
            from: Some(proto_range(&mapped.from)),
            to: Some(proto_range(&mapped.to)),
            to_chunks: Some(v1::ChunkRange {
                first: chunks.start.into(),
                count: chunks.end.saturating_sub(chunks.start).into(),
            }),
        }
    });
    Ok(MapChunksResponse { ranges: ranges.collect(), availability: Vec::new() })
}

fn byte_range(from: &Layout, bytes: &v1::ByteRange) -> Result<Range<u64>, Status> {
    let end = bytes.offset.checked_add(bytes.length).filter(|end| *end <= from.length());
    let end = end.ok_or_else(|| {
        let text = format!("it leaves the {} bytes of `from`", from.length());
        fault::bad_field("BAD_RANGE", "bytes", text)
    })?;
    Ok(bytes.offset..end)
}

fn chunk_range(from: &Layout, chunks: &v1::ChunkRange) -> Result<Range<u64>, Status> {
    let bad = || {
        let text = format!("it leaves the {} chunks of `from`", from.chunk_count());
        fault::bad_field("BAD_RANGE", "chunks", text)
    };
    let end = chunks.first.checked_add(chunks.count).ok_or_else(bad)?;
    if end > u64::from(from.chunk_count()) {
        return Err(bad());
    }
    let place = |chunk: u64| chunk.saturating_mul(from.unit()).min(from.length());
    Ok(place(chunks.first)..place(end))
}

fn proto_range(range: &Range<u64>) -> v1::ByteRange {
    v1::ByteRange { offset: range.start, length: range.end.saturating_sub(range.start) }
}

/// The names that a text can mean, the likeliest first: a URN, a magnet link (all that it names), or a bare digest. A bare
/// digest is of the scheme that was given; without one, 40 hex letters and 32 base32 letters are a v1 info-hash, and 64
/// hex letters, or 68 that begin with `1220`, a v2 one.
///
/// # Errors
/// When it is none of these.
pub fn parse(text: &str, scheme: v1::Scheme, field: &str) -> Result<Vec<Name>, Status> {
    let text = text.trim();
    let bad = |error: NameError| fault::bad_field("BAD_NAME", field, error.to_string());
    if text.is_empty() {
        return Err(fault::bad_field("BAD_NAME", field, "it is missing"));
    }
    if text.get(..7).is_some_and(|head| head.eq_ignore_ascii_case("magnet:")) {
        return parse_magnet_names(text).map_err(bad);
    }
    let error = match text.parse::<Name>() {
        Ok(name) => return Ok(vec![name]),
        Err(error) => error,
    };
    let NameError::BareDigest(_) = error else { return Err(bad(error)) };
    let number = u8::try_from(i32::from(scheme)).unwrap_or(0);
    let scheme = match (Scheme::from_number(number), text.len()) {
        (Some(scheme), _) => scheme,
        (None, 32 | 40) => Scheme::Btih,
        (None, 64 | 68) => Scheme::Btmh,
        _ => return Err(bad(error)),
    };
    Ok(vec![Name::from_digest_text(scheme, text).map_err(bad)?])
}

fn key_of(name: &Name) -> Vec<u8> {
    let mut key = vec![name.scheme() as u8];
    key.extend_from_slice(name.digest());
    key
}

fn name_of_key(key: &[u8]) -> Result<Name, Status> {
    key.split_first()
        .and_then(|(scheme, digest)| Name::new(Scheme::from_number(*scheme)?, digest).ok())
        .ok_or_else(|| fault::bad_field("BAD_PAGE_TOKEN", "page_token", "it is of no name"))
}

/// The answers to the last Binds that had a `request_id`.
#[derive(Default)]
struct Answered(Mutex<VecDeque<(Seen, BindResponse)>>);

/// A request, as far as it must be known again.
#[derive(PartialEq, Eq)]
struct Seen {
    request_id: String,
    items: [u8; 32],
}

impl Seen {
    fn of(request: &BindRequest) -> Self {
        let mut hash = Sha256::new();
        for item in &request.items {
            hash.update(item.encode_length_delimited_to_vec());
        }
        Self { request_id: request.request_id.clone(), items: hash.finalize().into() }
    }
}

impl Answered {
    fn find(&self, request: &BindRequest) -> Result<Option<BindResponse>, Status> {
        if request.request_id.is_empty() {
            return Ok(None);
        }
        let seen = Seen::of(request);
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.iter().find(|(known, _)| known.request_id == seen.request_id) {
            Some((known, answer)) if *known == seen => Ok(Some(answer.clone())),
            Some(_) => Err(fault::bad_field(
                "REQUEST_ID_REUSED",
                "request_id",
                "it was used for another request",
            )),
            None => Ok(None),
        }
    }

    fn keep(&self, seen: Seen, answer: &BindResponse) {
        if seen.request_id.is_empty() {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MOST_ANSWERS_KEPT {
            kept.pop_front();
        }
        kept.push_back((seen, answer.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_be_written_in_several_ways() {
        let name = Name::btih([0xAB; 20]);
        let any = v1::Scheme::Unspecified;
        let magnet = format!("magnet:?dn=x&xt={name}");
        for text in [name.to_string(), format!(" {} ", name.hex()), name.base32(), magnet] {
            assert_eq!(parse(&text, any, "name").unwrap(), [name], "{text}");
        }
        assert_eq!(parse(&"0".repeat(64), any, "name").unwrap()[0].scheme(), Scheme::Btmh);
        let sha1 = parse(&name.hex(), v1::Scheme::Sha1, "name").unwrap()[0];
        assert_eq!(sha1.scheme(), Scheme::Sha1);
        for bad in ["", "x", "urn:btih:77", "magnet:?dn=x", &"0".repeat(48)] {
            let status = parse(bad, any, "name").unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument, "{bad}");
        }
    }
}
