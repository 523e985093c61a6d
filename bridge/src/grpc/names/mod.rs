//! `NameService`: which names stand for the same bytes, and how their chunks correspond.

mod answered;
mod lists;
mod map;
mod parse;
mod resolve;

use std::sync::Arc;

use p2pbridge_nametable::NameTable;
use p2pbridge_proto::{
    Layout, Name, Scheme,
    v1::{
        self, BatchResolveRequest, BatchResolveResponse, BindRequest, BindResponse, ListRequest,
        ListResponse, MapChunksRequest, MapChunksResponse, ResolveRequest, ResolveResponse,
        UnbindRequest, UnbindResponse, name_service_server::NameService,
    },
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use self::{
    answered::{Answered, Seen},
    lists::{Rows, Watchers},
    parse::parse,
    resolve::{resolve, unknown},
};
use super::{Explain, blocking, caller, fault, token};
use crate::names::{NameDesk, content_row, row};

const USUAL_PAGE: usize = 100;
const MOST_PAGE: usize = 1_000;
/// A page ends early when its bindings have more files than this together.
const MOST_FILES_A_PAGE: usize = 20_000;
const MOST_REQUESTS: usize = 1_000;
const MOST_REQUEST_ID: usize = 128;
const LIST: &[u8] = b"names";
/// Bytes of packed names that are translated on the spot; more are worked off elsewhere.
const QUICK: usize = 4_096;

/// The service over a desk.
pub struct Names {
    desk: Arc<NameDesk>,
    explain: Arc<dyn Explain>,
    answered: Arc<Answered>,
    watchers: Watchers,
}

impl Names {
    /// The service; its streams end when `stop` is cancelled.
    #[must_use]
    pub fn new(desk: Arc<NameDesk>, explain: Arc<dyn Explain>, stop: CancellationToken) -> Self {
        let watchers = Watchers::of(desk.table(), stop);
        Self { desk, explain, answered: Arc::default(), watchers }
    }

    fn table(&self) -> &NameTable {
        self.desk.table()
    }

    fn layout(&self, text: &str, field: &str) -> Result<Arc<Layout>, Status> {
        let names = parse(text, v1::Scheme::Unspecified, field)?;
        names.iter().find_map(|name| self.table().layout(name)).ok_or_else(|| {
            match names.iter().find(|name| self.table().content_of(name).is_some()) {
                Some(name) => fault::no_layout(name),
                None => unknown(&names),
            }
        })
    }
}

#[tonic::async_trait]
impl NameService for Names {
    type ImportNamesStream = Rows<v1::ImportNamesResponse>;
    type ExportNamesStream = Rows<v1::ExportNamesResponse>;
    type WatchNamesStream = Rows<v1::WatchNamesResponse>;

    async fn resolve(
        &self,
        request: Request<ResolveRequest>,
    ) -> Result<Response<ResolveResponse>, Status> {
        let request = request.into_inner();
        if !request.explain {
            return resolve(self.table(), &*self.explain, &request).map(Response::new);
        }
        // To explain takes reading descriptions.
        let (desk, explain) = (self.desk.clone(), self.explain.clone());
        blocking(move || resolve(desk.table(), &*explain, &request)).await?.map(Response::new)
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
            match resolve(self.table(), &*self.explain, request) {
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
            let (bindings, contents) = desk.bind(&request.items, &stated_by)?;
            let answer = BindResponse {
                bindings: bindings.iter().map(|binding| row(binding)).collect(),
                contents: contents.iter().map(content_row).collect(),
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
                    Ok(taken) if taken.is_nothing() => {}
                    found => return (names, found),
                }
            }
            (names, Ok(Default::default()))
        })
        .await?;
        let taken = taken.map_err(|error| fault::store(&error))?;
        if taken.is_nothing() {
            return Err(unknown(&names));
        }
        Ok(Response::new(UnbindResponse {
            binding: taken.binding.as_deref().map(row),
            content: taken.content.as_ref().map(content_row),
        }))
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

    async fn get_description(
        &self,
        request: Request<v1::GetDescriptionRequest>,
    ) -> Result<Response<v1::GetDescriptionResponse>, Status> {
        let names = parse(&request.get_ref().name, v1::Scheme::Unspecified, "name")?;
        let binding = names.iter().find_map(|name| self.table().get(name));
        let binding = binding.ok_or_else(|| unknown(&names))?;
        let desk = self.desk.clone();
        let bytes = blocking(move || desk.description_bytes(&binding)).await??;
        Ok(Response::new(v1::GetDescriptionResponse { description: bytes.to_vec() }))
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
        blocking(move || map::map(&from, &to, what)).await?.map(Response::new)
    }

    async fn translate(
        &self,
        request: Request<v1::TranslateRequest>,
    ) -> Result<Response<v1::TranslateResponse>, Status> {
        let request = request.into_inner();
        if request.names.len() <= QUICK {
            return lists::translate(self.table(), &request).map(Response::new);
        }
        let desk = self.desk.clone();
        blocking(move || lists::translate(desk.table(), &request)).await?.map(Response::new)
    }

    async fn publish(
        &self,
        request: Request<v1::PublishRequest>,
    ) -> Result<Response<v1::PublishResponse>, Status> {
        let caller = caller(request.remote_addr());
        let (desk, request) = (self.desk.clone(), request.into_inner());
        let published = blocking(move || desk.publish(request, &caller)).await?;
        let (contents, binding) = published?;
        Ok(Response::new(v1::PublishResponse {
            contents: contents.iter().map(content_row).collect(),
            binding: binding.as_deref().map(row),
        }))
    }

    async fn import_names(
        &self,
        request: Request<Streaming<v1::ImportNamesRequest>>,
    ) -> Result<Response<Self::ImportNamesStream>, Status> {
        let caller = caller(request.remote_addr());
        let (requests, stop) = (request.into_inner(), self.watchers.stop());
        Ok(Response::new(lists::import(self.desk.clone(), requests, caller, stop)))
    }

    async fn export_names(
        &self,
        request: Request<v1::ExportNamesRequest>,
    ) -> Result<Response<Self::ExportNamesStream>, Status> {
        lists::export(self.desk.clone(), request.get_ref()).map(Response::new)
    }

    async fn watch_names(
        &self,
        _: Request<v1::WatchNamesRequest>,
    ) -> Result<Response<Self::WatchNamesStream>, Status> {
        Ok(Response::new(self.watchers.watch()))
    }
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
