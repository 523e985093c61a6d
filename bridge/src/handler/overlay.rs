//! One overlay: how what it asks is answered.

use std::{collections::HashSet, net::SocketAddr, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::join_all};
use p2pbridge_adapters::{Answer, Asked, Mode};
use p2pbridge_nametable::{Binding, NameTable};
use p2pbridge_proto::{
    Announce, ErrorCode, Fault, Find, Name, OverlayId, PeerEvent, PeerList, Reply, Request, Scheme,
    Search, SearchResult,
};
use tokio::time::{Instant, timeout};

use super::{
    flights::Flight,
    neighbours::Neighbours,
    peers::{Asker, PeerBook, sum},
    search::{self, Bound, Found, Room, Searcher, View},
    swarms::{SwarmTable, want},
};

/// How long a peer waits for peers of a neighbour of whom nothing is known yet.
pub(super) const FIRST_WORD: Duration = Duration::from_secs(3);
/// How often the bridge looks at its own swarms.
const OWN_SWARMS: Duration = Duration::from_secs(5);

pub(super) struct Overlay {
    pub(super) mode: Mode,
    pub(super) own: Arc<PeerBook>,
    pub(super) names: Arc<NameTable>,
    /// Overlays of the same protocol whose peers may be named to this one's.
    pub(super) neighbours: Neighbours,
    /// The titles of what is bound.
    pub(super) bound: Arc<Bound>,
    /// Where searches wait for their turn.
    pub(super) searches: Room,
    /// The schemes of the names that its peers use.
    pub(super) schemes: &'static [Scheme],
    /// The overlays whose contents may come here.
    pub(super) givers: HashSet<OverlayId>,
}

impl Overlay {
    /// Answers one of the overlay's peers.
    pub(super) fn answer(self: &Arc<Self>, asked: Asked<'_>, mut request: Request) -> Answer {
        let table = match self.table() {
            Ok(table) => table,
            Err(fault) => return Answer::Now(Err(fault)),
        };
        // No name is looked up unless something depends on it.
        let bound_only = table.terms().bound_only;
        let mut binding = None;
        if (bound_only || !self.neighbours.is_empty()) && !request.names().is_empty() {
            binding = request.names().first().and_then(|name| self.bound(name));
            if bound_only && let Request::SwarmQuery(query) = &mut request {
                query.names.retain(|name| self.bound(name).is_some());
            } else if bound_only && binding.is_none() {
                let text = "the name is not served here: it is not bound in this overlay";
                return Answer::Now(Err(Fault::new(ErrorCode::UnknownName, text)));
            }
        }
        let binding = binding.filter(|_| asked.hop_limit >= Asked::ALL);
        if self.mode == Mode::Inline && asked.hop_limit < Asked::PASS_ON {
            let text = "a bridge has passed this on already: let it ask the tracker, not another bridge before it";
            return Answer::Now(Err(Fault::new(ErrorCode::Forbidden, text)));
        }
        match (request, self.mode, &self.own.gate) {
            (Request::Announce(announce), Mode::Inline, Some(gate)) => {
                let (this, gate) = (self.clone(), gate.clone());
                let later =
                    async move { this.pass_on(this.table()?, &gate, announce, binding).await };
                Answer::Later(later.boxed())
            }
            (Request::SwarmQuery(query), Mode::Inline, Some(gate)) => {
                let (this, gate) = (self.clone(), gate.clone());
                let later = async move { Ok(this.ask_sizes(this.table()?, &gate, query).await) };
                Answer::Later(later.boxed())
            }
            (Request::Announce(announce), ..) => {
                let answer = table.announce(&announce, asked.one_family, Instant::now());
                if answer.is_ok() {
                    self.own.note_title(&announce);
                }
                match answer {
                    Ok(list) if announce.event == PeerEvent::Stopped => {
                        Answer::Now(Ok(Reply::Peers(list)))
                    }
                    Ok(list) => {
                        let asker = Asker::of(&announce, asked.one_family);
                        self.with_neighbours(asker, binding, list)
                    }
                    Err(fault) => Answer::Now(Err(fault)),
                }
            }
            (Request::Find(find), ..) => {
                let (list, asker) = (self.found(table, &find), Asker::nobody(find.num_want));
                self.with_neighbours(asker, binding, list)
            }
            (Request::SwarmQuery(query), ..) => {
                Answer::Now(Ok(Reply::Swarms(sizes(table, &query.names))))
            }
            (Request::Search(search), ..) => match self.search(search) {
                Ok(found) => Answer::Later(found.map(|found| found.map(Reply::Found)).boxed()),
                Err(fault) => Answer::Now(Err(fault)),
            },
        }
    }

    fn table(&self) -> Result<&SwarmTable, Fault> {
        self.own.table.as_ref().ok_or_else(|| {
            Fault::new(ErrorCode::Unsupported, "the bridge is not a tracker of this overlay")
        })
    }

    /// The binding of a name, if it is used in this overlay.
    fn bound(&self, name: &Name) -> Option<Arc<Binding>> {
        self.names.find(name).filter(|binding| binding.overlays.contains(&self.own.id))
    }

    /// Asks for the bridge itself: of its own swarms, and of the trackers.
    pub(super) async fn ask(
        self: &Arc<Self>,
        request: Request,
        patience: Duration,
    ) -> Result<Reply, Fault> {
        let Some(table) = &self.own.table else {
            return match &self.own.gate {
                Some(gate) => gate.ask(request, patience).await,
                None => Err(Fault::new(ErrorCode::Unsupported, "the overlay has no tracker")),
            };
        };
        let (names, most) = match &request {
            Request::Announce(announce) => {
                self.host(table, announce);
                if announce.event == PeerEvent::Stopped {
                    // The trackers too are told, if they were.
                    if let Some(gate) = &self.own.gate {
                        let _ = gate.ask(request, patience).await;
                    }
                    return Ok(Reply::Peers(PeerList::default()));
                }
                (shorts(&announce.names), want(announce.num_want))
            }
            Request::Find(find) => {
                // Who only looks brings nothing.
                for name in shorts(&find.names) {
                    table.host(name, &[], false, Instant::now());
                }
                (shorts(&find.names), want(find.num_want))
            }
            Request::SwarmQuery(query) => return Ok(Reply::Swarms(sizes(table, &query.names))),
            Request::Search(search) => return self.search(search.clone())?.await.map(Reply::Found),
        };
        let mut list = table.list();
        let regular = match &request {
            Request::Announce(announce) => announce.event == PeerEvent::Regular,
            Request::Find(_) | Request::SwarmQuery(_) | Request::Search(_) => true,
        };
        if let (Some(gate), Some(main)) = (&self.own.gate, request.names().first())
            && (!regular || gate.is_due(main))
            && let Err(fault) = gate.ask(request, patience).await
            && fault.code != ErrorCode::Unsupported
        {
            list.warning = fault.text;
        }
        let nobody = Asker { most, ..Asker::nobody(None) };
        self.own.add_peers(&names, &nobody, Instant::now(), &mut list);
        list.interval = OWN_SWARMS.min(list.interval);
        list.min_interval = Some(list.interval);
        Ok(Reply::Peers(list))
    }

    /// From now on peers are told that the bridge serves these names, or that it does not.
    fn host(&self, table: &SwarmTable, announce: &Announce) {
        let leaves = announce.event == PeerEvent::Stopped;
        let endpoints: &[SocketAddr] = if leaves { &[] } else { &self.own.reachable };
        for name in shorts(&announce.names) {
            table.host(name, endpoints, announce.left == Some(0), Instant::now());
        }
    }

    /// What this overlay's peers can have: what they announced themselves, and what may come from others. It is looked
    /// for off the async threads.
    fn search(
        self: &Arc<Self>,
        search: Search,
    ) -> Result<impl Future<Output = Result<SearchResult, Fault>> + Send + 'static, Fault> {
        search::check(&search)?;
        let this = self.clone();
        self.searches.take(move || {
            let table = this.table()?;
            // Peers that have long been silent are cleared out before they are counted.
            let _ = table.size(Instant::now());
            let view = OverlayView { overlay: &this, table };
            let searcher = Searcher::new(&search, &this.names, &view).bound(&this.bound);
            Ok(match &this.own.titles {
                Some(titles) => searcher.announced(titles).result(),
                None => searcher.result(),
            })
        })
    }

    fn found(&self, table: &SwarmTable, find: &Find) -> PeerList {
        let mut list = table.list();
        table.add_peers(&find.names, want(find.num_want), None, Instant::now(), &mut list);
        list
    }

    /// The answer, with peers of the neighbours; later, when one of them is asked for the first time.
    fn with_neighbours(
        self: &Arc<Self>,
        asker: Asker,
        binding: Option<Arc<Binding>>,
        mut list: PeerList,
    ) -> Answer {
        let Some(binding) = binding else { return Answer::Now(Ok(Reply::Peers(list))) };
        let before = list.clone();
        let waits = self.add_neighbours(&asker, &binding, &mut list);
        if waits.is_empty() {
            return Answer::Now(Ok(Reply::Peers(list)));
        }
        let this = self.clone();
        let later = async move {
            let _ = timeout(FIRST_WORD, join_all(waits)).await;
            let mut list = before;
            this.add_neighbours(&asker, &binding, &mut list);
            Ok(Reply::Peers(list))
        };
        Answer::Later(later.boxed())
    }

    /// Adds peers that go by another name of the same binding here, or by any of its names at a neighbour. Gives what is
    /// worth waiting for.
    pub(super) fn add_neighbours(
        &self,
        asker: &Asker,
        binding: &Binding,
        list: &mut PeerList,
    ) -> Vec<Flight<()>> {
        let (names, now) = (shorts(&binding.names), Instant::now());
        let counts = (list.seeders, list.leechers);
        if names.len() > 1 {
            self.own.add_peers(&names, asker, now, list);
            // Most of them are counted already, under the name that was asked for.
            (list.seeders, list.leechers) = counts;
        }
        let mut theirs = PeerList::default();
        let waits = self.neighbours.add_peers(binding, &names, asker, now, &mut theirs);
        // A crowd at home leaves neighbours half of the places: who holds the content may be there.
        let places = theirs.peers.len().min(asker.most / 2);
        list.peers.truncate(asker.most.saturating_sub(places));
        list.stale = list.stale.max(theirs.stale);
        list.seeders = sum(list.seeders, theirs.seeders);
        list.leechers = sum(list.leechers, theirs.leechers);
        self.own.add(theirs.peers, asker, list);
        waits
    }
}

/// What peers of an overlay find.
struct OverlayView<'a> {
    overlay: &'a Overlay,
    table: &'a SwarmTable,
}

impl View for OverlayView<'_> {
    fn names(&self, mut names: Vec<Name>, bindings: &[Arc<Binding>]) -> Option<Found> {
        let Overlay { own, schemes, givers, .. } = self.overlay;
        let bound_only = self.table.terms().bound_only;
        names.retain(|name| {
            schemes.contains(&name.scheme()) && !(bound_only && self.overlay.bound(name).is_none())
        });
        if names.is_empty() {
            return None;
        }
        let stats = names.iter().filter_map(|name| self.table.stat(&name.short()));
        let counts = stats.map(|stat| (stat.seeders.saturating_add(stat.leechers), stat.seeders));
        // Who has a content by two names is often one.
        let (sources, complete) = counts.max().unwrap_or_default();
        let comes = |id: &OverlayId| *id != own.id && givers.contains(id);
        let comes = bindings.iter().any(|binding| binding.overlays.iter().any(comes));
        (comes || sources > 0).then_some(Found { names, sources, complete })
    }
}

fn shorts(names: &[Name]) -> Vec<Name> {
    names.iter().map(Name::short).collect()
}

pub(super) fn sizes(table: &SwarmTable, names: &[Name]) -> Vec<p2pbridge_proto::SwarmStat> {
    names.iter().filter_map(|name| table.stat(name)).collect()
}
