//! One overlay: how what it asks is answered.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::join_all};
use p2pbridge_adapters::{Answer, Mode};
use p2pbridge_nametable::{Binding, NameTable};
use p2pbridge_proto::{
    Announce, ErrorCode, Fault, Find, Name, Peer, PeerEvent, PeerList, Reply, Request, SwarmQuery,
};
use tokio::time::{Instant, timeout};

use super::{
    flights::Flight,
    gate::Gate,
    neighbours::Neighbours,
    peers::{Asker, PeerBook},
    swarms::{SwarmTable, want},
};

/// How long a peer waits for peers of a neighbour of whom nothing is known yet.
const FIRST_WORD: Duration = Duration::from_secs(3);
/// How often the bridge looks at its own swarms.
const OWN_SWARMS: Duration = Duration::from_secs(5);

pub(super) struct Overlay {
    pub(super) mode: Mode,
    pub(super) own: Arc<PeerBook>,
    pub(super) names: Arc<NameTable>,
    /// Overlays of the same protocol whose peers may be named to this one's.
    pub(super) neighbours: Neighbours,
}

impl Overlay {
    /// Answers one of the overlay's peers.
    pub(super) fn answer(self: &Arc<Self>, hop_limit: u32, request: Request) -> Answer {
        let Some(table) = &self.own.table else {
            let text = "the bridge is not a tracker of this overlay";
            return Answer::Now(Err(Fault::new(ErrorCode::Unsupported, text)));
        };
        // No name is looked up unless something depends on it.
        let bound_only = table.terms().bound_only;
        let mut binding = None;
        if bound_only || !self.neighbours.is_empty() {
            let first = request.names().first();
            binding = first.and_then(|name| self.names.find(name));
            binding = binding.filter(|binding| binding.overlays.contains(&self.own.id));
            if bound_only && binding.is_none() {
                let text = "the name is not served here: it is not bound in this overlay";
                return Answer::Now(Err(Fault::new(ErrorCode::UnknownName, text)));
            }
        }
        let binding = binding.filter(|_| hop_limit > 0);
        match (request, self.mode, &self.own.gate) {
            (Request::Announce(announce), Mode::Inline, Some(gate)) => {
                let (this, gate) = (self.clone(), gate.clone());
                Answer::Later(async move { this.pass_on(&gate, announce, binding).await }.boxed())
            }
            (Request::SwarmQuery(query), Mode::Inline, Some(gate)) => {
                let (this, gate) = (self.clone(), gate.clone());
                Answer::Later(async move { Ok(this.ask_sizes(&gate, query).await) }.boxed())
            }
            (Request::Announce(announce), ..) => match table.announce(&announce, Instant::now()) {
                Ok(noted) if announce.event == PeerEvent::Stopped => {
                    Answer::Now(Ok(Reply::Peers(noted.list)))
                }
                Ok(noted) => self.with_neighbours(asker(&announce), binding, noted.list),
                Err(fault) => Answer::Now(Err(fault)),
            },
            (Request::Find(find), ..) => {
                let (list, asker) = (self.found(table, &find), nobody(find.num_want));
                self.with_neighbours(asker, binding, list)
            }
            (Request::SwarmQuery(query), ..) => {
                Answer::Now(Ok(Reply::Swarms(sizes(table, &query.names))))
            }
        }
    }

    /// Asks for the bridge itself: of its own swarms, and of the trackers.
    pub(super) async fn ask(&self, request: Request, patience: Duration) -> Result<Reply, Fault> {
        let Some(table) = &self.own.table else {
            return match &self.own.gate {
                Some(gate) => gate.ask(request, patience).await,
                None => Err(Fault::new(ErrorCode::Unsupported, "the overlay has no tracker")),
            };
        };
        let (names, most) = match &request {
            Request::Announce(announce) => {
                self.host(table, announce)?;
                if announce.event == PeerEvent::Stopped {
                    // The trackers too are told, if they were.
                    if let Some(gate) = &self.own.gate {
                        let _ = gate.ask(request, patience).await;
                    }
                    return Ok(Reply::Peers(PeerList::default()));
                }
                (shorts(&announce.names), want(announce.num_want))
            }
            Request::Find(find) => (shorts(&find.names), want(find.num_want)),
            Request::SwarmQuery(query) => return Ok(Reply::Swarms(sizes(table, &query.names))),
        };
        let now = Instant::now();
        if let (Some(gate), Some(main)) = (&self.own.gate, request.names().first())
            && gate.known(main).is_none_or(|known| known.is_due(now))
            && let Err(fault) = gate.ask(request, patience).await
        {
            tracing::debug!(overlay = %self.own.id, %fault, "asked the bridge's own swarms alone");
        }
        let mut list = table.list();
        let nobody = Asker { most, ..nobody(None) };
        self.own.add_peers(&names, &nobody, Instant::now(), &mut list);
        list.interval = OWN_SWARMS.min(list.interval);
        list.min_interval = Some(list.interval);
        Ok(Reply::Peers(list))
    }

    /// From now on peers are told that the bridge serves these names, or that it does not.
    fn host(&self, table: &SwarmTable, announce: &Announce) -> Result<(), Fault> {
        let leaves = announce.event == PeerEvent::Stopped;
        let endpoints: &[SocketAddr] = if leaves { &[] } else { &self.own.seeder };
        for name in shorts(&announce.names) {
            table.host(name, endpoints, announce.left == Some(0), Instant::now())?;
        }
        Ok(())
    }

    /// Passes an announce on to the tracker, and merges what it says with what the bridge knows. While there is no
    /// answer, what the bridge knows is the answer.
    async fn pass_on(
        &self,
        gate: &Arc<Gate>,
        announce: Announce,
        binding: Option<Arc<Binding>>,
    ) -> Result<Reply, Fault> {
        let Some(table) = &self.own.table else {
            return Err(Fault::new(ErrorCode::Internal, "the bridge keeps no swarms here"));
        };
        let (now, asker) = (Instant::now(), asker(&announce));
        let name = announce.names.first().copied();
        // When the table has no room, the tracker behind may have.
        let noted = table.announce(&announce, now).ok();
        let known = name.and_then(|name| gate.known(&name));
        let last = noted.as_ref().and_then(|noted| noted.last);
        let early = announce.event == PeerEvent::Regular
            && known.as_ref().is_some_and(|known| known.is_soon(last, now));
        let names = announce.names.clone();
        let result = match &known {
            Some(known) if early => Ok(known.list.clone()),
            _ => gate.pass(announce).await,
        };
        let mut list = match result {
            Ok(said) => {
                let mut list = PeerList { peers: Vec::new(), ..said.clone() };
                let hosts = table.hosts(&names, asker.complete);
                list.peers.extend(hosts.iter().take(asker.most).copied().map(Peer::at));
                let counts = (said.seeders, said.leechers);
                self.own.add(PeerList { seeders: None, leechers: None, ..said }, &asker, &mut list);
                if early && let Some(noted) = noted {
                    // Who came since the tracker was last asked is known here.
                    self.own.add(noted.list, &asker, &mut list);
                }
                (list.seeders, list.leechers) = counts;
                list
            }
            Err(fault) if fault.is_retryable() => self.without_tracker(
                table,
                noted.map(|noted| noted.list).unwrap_or_default(),
                known.and_then(|known| known.peers(now)),
                &asker,
                fault,
            )?,
            Err(fault) => {
                table.forget(&names, asker.endpoint);
                return Err(fault);
            }
        };
        if let Some(binding) = binding {
            let waits = self.add_neighbours(&asker, &binding, &mut list);
            if !waits.is_empty() {
                let _ = timeout(FIRST_WORD, join_all(waits)).await;
                self.add_neighbours(&asker, &binding, &mut list);
            }
        }
        Ok(Reply::Peers(list))
    }

    /// What is answered while the tracker does not: who announced here, and whom the tracker named last.
    fn without_tracker(
        &self,
        table: &SwarmTable,
        own: PeerList,
        known: Option<PeerList>,
        asker: &Asker,
        fault: Fault,
    ) -> Result<PeerList, Fault> {
        let mut list = PeerList { peers: own.peers, ..table.list() };
        (list.seeders, list.leechers) = (own.seeders, own.leechers);
        let age = known.as_ref().and_then(|known| known.stale);
        if let Some(known) = known {
            self.own.add(PeerList { seeders: None, leechers: None, ..known }, asker, &mut list);
        }
        if list.peers.is_empty() {
            return Err(fault);
        }
        if fault.code != ErrorCode::Overloaded {
            list.stale = Some(age.unwrap_or_default());
            // It may be back soon, and then wants to know who is there.
            list.interval = table.terms().min_interval.min(table.terms().interval);
        }
        Ok(list)
    }

    async fn ask_sizes(&self, gate: &Arc<Gate>, query: SwarmQuery) -> Reply {
        Reply::Swarms(match gate.stats(&query.names).await {
            Ok(stats) => stats,
            Err(_) => self.own.table.as_ref().map_or_else(Vec::new, |t| sizes(t, &query.names)),
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
    fn add_neighbours(
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
        self.own.add(theirs, asker, list);
        waits
    }
}

fn asker(announce: &Announce) -> Asker {
    Asker {
        endpoint: announce.peer.endpoint,
        complete: announce.left == Some(0),
        most: want(announce.num_want),
    }
}

/// Asks without being a peer.
fn nobody(num_want: Option<u32>) -> Asker {
    let endpoint = SocketAddr::from(([0, 0, 0, 0], 0));
    Asker { endpoint, complete: false, most: want(num_want) }
}

fn shorts(names: &[Name]) -> Vec<Name> {
    names.iter().map(Name::short).collect()
}

fn sizes(table: &SwarmTable, names: &[Name]) -> Vec<p2pbridge_proto::SwarmStat> {
    names.iter().filter_map(|name| table.stat(name)).collect()
}
