//! `SearchService`: contents by title, size and kind.

use std::{sync::Arc, time::Duration};

use p2pbridge_proto::{
    OverlayId, Reply, Search,
    v1::{SearchRequest, SearchResponse, search_service_server::SearchService},
};
use tonic::{Request, Response, Status};

use super::{blocking, fault};
use crate::handler::MessageHandler;

/// How long trackers have to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The service over the handler of messages.
pub struct Searches {
    handler: Arc<MessageHandler>,
}

impl Searches {
    /// The service.
    #[must_use]
    pub fn new(handler: Arc<MessageHandler>) -> Self {
        Self { handler }
    }
}

#[tonic::async_trait]
impl SearchService for Searches {
    async fn search(
        &self,
        request: Request<SearchRequest>,
    ) -> Result<Response<SearchResponse>, Status> {
        let SearchRequest { search, overlay } = request.into_inner();
        let search = Search::try_from(&search.unwrap_or_default());
        let search =
            search.map_err(|error| fault::bad_field("BAD_SEARCH", "search", error.to_string()))?;
        if overlay.is_empty() {
            let handler = self.handler.clone();
            let result = blocking(move || handler.search(&search)).await?.map_err(fault::said)?;
            return Ok(Response::new(SearchResponse { result: Some(result.into()) }));
        }
        let shown: String = overlay.chars().take(64).collect();
        let id: Option<OverlayId> = overlay.parse().ok();
        let Some(id) = id.filter(|id| self.handler.has(id)) else {
            let text = format!("there is no overlay `{shown}`");
            return Err(fault::not_found("overlay", &shown, text));
        };
        let request = p2pbridge_proto::Request::Search(search);
        let result = match self.handler.ask(&id, request, PATIENCE).await.map_err(fault::said)? {
            Reply::Found(result) => result,
            Reply::Peers(_) | Reply::Swarms(_) => {
                return Err(fault::internal("a search was answered with something else"));
            }
        };
        Ok(Response::new(SearchResponse { result: Some(result.into()) }))
    }
}
