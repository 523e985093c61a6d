//! The message handler: what peers ask of the bridge as a tracker comes in here, and what the bridge asks of trackers
//! goes out here. It knows no protocol.

mod flights;
mod gate;
mod inline;
mod neighbours;
mod overlay;
mod peers;
mod search;
mod swarms;

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use p2pbridge_adapters::{Answer, Asked, Handler, Mode, TrackerClient, TrackerTerms};
use p2pbridge_nametable::{Binding, NameTable};
use p2pbridge_proto::{
    ErrorCode, Fault, Name, OverlayId, Reply, Request, Scheme, Search, SearchResult,
};
use tokio::{runtime::Handle, time::Instant};

pub use self::{
    search::TitleCounts,
    swarms::{Size, SwarmTable},
};

use self::{
    gate::Gate,
    neighbours::Neighbours,
    overlay::Overlay,
    peers::PeerBook,
    search::{Announced, Bound, Found, Room, Searcher, View},
};
use crate::{
    routes::Routes,
    status::{choice::SwarmFacts, chooser::Chooser},
};

/// What the handler needs to know of an overlay.
pub struct OverlayParts {
    /// Its id.
    pub id: OverlayId,
    /// The word of its protocol: peers of one protocol can talk to each other.
    pub protocol: &'static str,
    /// The schemes of the names that its peers use: searches give names of these.
    pub schemes: &'static [Scheme],
    /// How it is joined.
    pub mode: Mode,
    /// What the bridge keeps and says as its tracker.
    pub terms: TrackerTerms,
    /// Asks its trackers.
    pub client: Option<Arc<dyn TrackerClient>>,
    /// Where its peers reach the bridge's seeder.
    pub reachable: Vec<SocketAddr>,
    /// Where the bridge's seeder may be seen: these are never told as other peers.
    pub own: Vec<SocketAddr>,
}

/// The one way in from peers that ask the bridge, and the one way out to the trackers of all overlays.
pub struct MessageHandler {
    overlays: HashMap<OverlayId, Arc<Overlay>>,
    names: Arc<NameTable>,
    bound: Arc<Bound>,
}

impl MessageHandler {
    /// A handler for these overlays. Must be called inside a tokio runtime.
    #[must_use]
    pub fn new(
        parts: Vec<OverlayParts>,
        names: &Arc<NameTable>,
        routes: &Routes,
        chooser: &Arc<Chooser>,
    ) -> Self {
        let (bound, searches) = (Bound::follow(names), Room::new());
        let book = |parts: &OverlayParts| {
            let gate = |client: &Arc<dyn TrackerClient>| {
                Arc::new(Gate::new(parts.id.clone(), client.clone(), Handle::current()))
            };
            Arc::new(PeerBook {
                id: parts.id.clone(),
                table: (parts.mode != Mode::Presence).then(|| SwarmTable::new(parts.terms)),
                titles: (parts.mode != Mode::Presence).then(|| Announced::new(&parts.terms)),
                gate: parts.client.as_ref().map(gate),
                reachable: parts.reachable.clone(),
                own: parts.own.iter().copied().collect(),
            })
        };
        let books: Vec<_> = parts.iter().map(|parts| (parts.protocol, book(parts))).collect();
        let overlay = |(parts, (protocol, own)): (&OverlayParts, &(&str, Arc<PeerBook>))| {
            let is_neighbour = |(other, book): &&(&str, Arc<PeerBook>)| {
                other == protocol && routes.direct_to(&parts.id).any(|from| *from == book.id)
            };
            let neighbours = match parts.mode {
                Mode::Presence => Vec::new(),
                Mode::Front | Mode::Inline => {
                    books.iter().filter(is_neighbour).map(|(_, book)| book.clone()).collect()
                }
            };
            let neighbours = Neighbours::new(parts.id.clone(), neighbours, chooser.clone());
            let gives = routes.iter().filter(|route| route.to == parts.id);
            let overlay = Overlay {
                mode: parts.mode,
                own: own.clone(),
                names: names.clone(),
                neighbours,
                bound: bound.clone(),
                searches: searches.clone(),
                schemes: parts.schemes,
                givers: gives.map(|route| route.from.clone()).collect(),
            };
            (parts.id.clone(), Arc::new(overlay))
        };
        let overlays = parts.iter().zip(&books).map(overlay).collect();
        Self { overlays, names: names.clone(), bound }
    }

    /// Asks an overlay's trackers, the bridge's own swarms among them, and gives up after so long.
    ///
    /// # Errors
    /// The trackers' own fault, or that the overlay has no tracker to ask.
    pub async fn ask(
        &self,
        overlay: &OverlayId,
        request: Request,
        patience: Duration,
    ) -> Result<Reply, Fault> {
        if request.names().is_empty() && !matches!(request, Request::Search(_)) {
            return Err(Fault::new(ErrorCode::BadRequest, "the request names nothing"));
        }
        self.overlay(overlay)?.ask(request, patience).await
    }

    /// Whether there is such an overlay.
    #[must_use]
    pub fn has(&self, overlay: &OverlayId) -> bool {
        self.overlays.contains_key(overlay)
    }

    /// Finds contents in all that is bound, and all that was announced to the bridge. May take some ten milliseconds: call
    /// it off the async threads.
    ///
    /// # Errors
    /// When the search is too large.
    pub fn search(&self, search: &Search) -> Result<SearchResult, Fault> {
        search::check(search)?;
        let view = Everything(self);
        let bound = Searcher::new(search, &self.names, &view).bound(&self.bound);
        let announced = self.overlays.values().filter_map(|overlay| overlay.own.titles.as_ref());
        Ok(announced.fold(bound, Searcher::announced).result())
    }

    /// Whether peers of one overlay are named to those of another under the same name, so that nothing needs to be
    /// brought across.
    #[must_use]
    pub fn hands_over(&self, from: &OverlayId, to: &OverlayId) -> bool {
        self.overlays.get(to).is_some_and(|overlay| overlay.neighbours.has(from))
    }

    /// Whether an address is one at which the bridge itself may be seen in an overlay.
    #[must_use]
    pub fn is_bridge(&self, overlay: &OverlayId, endpoint: SocketAddr) -> bool {
        self.overlays.get(overlay).is_some_and(|overlay| overlay.own.is_bridge(endpoint))
    }

    /// Whether the bridge itself is a tracker of an overlay.
    #[must_use]
    pub fn is_tracker_of(&self, overlay: &OverlayId) -> bool {
        self.overlays.get(overlay).is_some_and(|overlay| overlay.own.table.is_some())
    }

    /// What is known of a swarm by its tracker's side; `None` before anything is.
    #[must_use]
    pub fn swarm_facts(&self, overlay: &OverlayId, names: &[Name]) -> Option<SwarmFacts> {
        self.overlays.get(overlay)?.own.facts(names)
    }

    /// How much the bridge keeps as a tracker of an overlay; `None` in presence.
    #[must_use]
    pub fn size(&self, overlay: &OverlayId) -> Option<Size> {
        Some(self.overlays.get(overlay)?.own.table.as_ref()?.size(Instant::now()))
    }

    /// How much can be searched.
    #[must_use]
    pub fn titles(&self) -> TitleCounts {
        let announced = self.overlays.values().filter_map(|overlay| overlay.own.titles.as_ref());
        announced.map(Announced::counts).fold(self.bound.counts(), TitleCounts::plus)
    }

    fn overlay(&self, id: &OverlayId) -> Result<&Arc<Overlay>, Fault> {
        self.overlays.get(id).ok_or_else(|| {
            Fault::new(ErrorCode::Internal, format!("there is no overlay called {id}"))
        })
    }
}

impl Handler for MessageHandler {
    fn handle(&self, asked: Asked<'_>, request: Request) -> Answer {
        match self.overlay(asked.overlay) {
            Ok(overlay) => overlay.answer(asked, request),
            Err(fault) => Answer::Now(Err(fault)),
        }
    }
}

/// What the bridge itself finds.
struct Everything<'a>(&'a MessageHandler);

impl View for Everything<'_> {
    fn names(&self, mut names: Vec<Name>, bindings: &[Arc<Binding>]) -> Option<Found> {
        if names.is_empty() {
            names = bindings.first()?.names.clone();
        }
        let all = self.0.overlays.values();
        let facts = all.filter_map(|overlay| overlay.own.facts(&names));
        let counts = facts.map(|facts| (facts.peers, facts.seeds.unwrap_or_default()));
        let (sources, complete) = counts.max().unwrap_or_default();
        (!bindings.is_empty() || sources > 0).then_some(Found { names, sources, complete })
    }
}

#[cfg(test)]
mod tests;
