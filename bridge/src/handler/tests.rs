use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use p2pbridge_adapters::TrackerHealth;
use p2pbridge_nametable::{MemoryStore, Proposal, ProposedFile};
use p2pbridge_proto::{Announce, Name, Peer, PeerEvent, PeerList, Scheme, SwarmQuery, SwarmStat};

use super::*;
use crate::{routes::Route, status::choice::Weights};

/// A tracker that says what it is told to say, and takes down what it is asked.
struct Tracker {
    says: Mutex<Result<PeerList, Fault>>,
    asked: Mutex<Vec<Request>>,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
}

impl Tracker {
    fn new(peers: &[u16]) -> Arc<Self> {
        Arc::new(Self {
            says: Mutex::new(Ok(said(peers))),
            asked: Mutex::default(),
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
        })
    }

    fn say(&self, answer: Result<PeerList, Fault>) {
        *self.says.lock().unwrap() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

#[async_trait]
impl TrackerClient for Tracker {
    async fn call(&self, request: Request, _: Instant) -> Result<Reply, Fault> {
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_under_way.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        self.asked.lock().unwrap().push(request.clone());
        let said = self.says.lock().unwrap().clone()?;
        Ok(match request {
            Request::SwarmQuery(query) => Reply::Swarms(
                query
                    .names
                    .into_iter()
                    .map(|name| SwarmStat { name, seeders: 7, leechers: 8, completed: None })
                    .collect(),
            ),
            _ => Reply::Peers(said),
        })
    }

    fn health(&self) -> Vec<TrackerHealth> {
        Vec::new()
    }
}

fn said(ports: &[u16]) -> PeerList {
    PeerList {
        peers: ports.iter().map(|port| Peer::at(([10, 0, 0, 9], *port).into())).collect(),
        interval: Duration::from_secs(600),
        min_interval: Some(Duration::from_secs(300)),
        seeders: Some(1),
        leechers: Some(2),
        ..PeerList::default()
    }
}

fn id(text: &str) -> OverlayId {
    text.parse().unwrap()
}

const SEEDER: u16 = 6881;

fn part(overlay: &str, mode: Mode, tracker: Option<&Arc<Tracker>>) -> OverlayParts {
    OverlayParts {
        id: id(overlay),
        protocol: "p",
        schemes: &[Scheme::Btih, Scheme::Btmh],
        mode,
        terms: TrackerTerms::default(),
        client: tracker.map(|tracker| tracker.clone() as Arc<dyn TrackerClient>),
        reachable: vec![([10, 0, 0, 1], SEEDER).into()],
        own: vec![([10, 0, 0, 1], SEEDER).into()],
    }
}

fn names(overlays: &[&str]) -> Arc<NameTable> {
    let table = NameTable::open(Box::new(MemoryStore::new())).unwrap();
    let file = ProposedFile { path: "f".into(), offset: 0, length: 1000, digest: None };
    table
        .bind(&[Proposal {
            names: vec![Name::btih([1; 20]), Name::with_32(Scheme::Btmh, [2; 32]).unwrap()],
            title: "t".into(),
            length: 1000,
            unit: 100,
            files: vec![file],
            overlays: overlays.iter().map(|overlay| id(overlay)).collect(),
            label: "t".into(),
            stated_by: "test".into(),
            description: None,
        }])
        .unwrap();
    Arc::new(table)
}

fn house(parts: Vec<OverlayParts>, names: &Arc<NameTable>, routes: Vec<Route>) -> MessageHandler {
    let routes = Arc::new(Routes::new(routes));
    let clients = parts.iter().filter_map(|part| Some((part.id.clone(), part.client.clone()?)));
    let chooser = Chooser::new(Weights::default(), routes.clone(), clients.collect());
    MessageHandler::new(parts, names, &routes, &Arc::new(chooser))
}

fn direct(from: &str, to: &str) -> Route {
    let mut route = Route::new(id(from), id(to), String::new(), None);
    route.direct = true;
    route
}

fn announce(name: u8, port: u16, event: PeerEvent) -> Request {
    let peer = Peer::at(([10, 0, 0, 2], port).into());
    let names = vec![Name::btih([name; 20])];
    Request::Announce(Announce { event, left: Some(5), ..Announce::new(peer, names) })
}

async fn ask(handler: &MessageHandler, overlay: &str, hops: u32, request: Request) -> PeerList {
    match asked(handler, overlay, hops, request).await.unwrap() {
        Reply::Peers(list) => list,
        Reply::Swarms(_) | Reply::Found(_) => panic!("no peers"),
    }
}

async fn asked(
    handler: &MessageHandler,
    overlay: &str,
    hop_limit: u32,
    request: Request,
) -> Result<Reply, Fault> {
    let overlay = id(overlay);
    handler.handle(Asked { overlay: &overlay, hop_limit, one_family: false }, request).wait().await
}

fn ports(list: &PeerList) -> Vec<u16> {
    let mut ports: Vec<_> = list.peers.iter().map(|peer| peer.endpoint.port()).collect();
    ports.sort_unstable();
    ports
}

#[tokio::test(start_paused = true)]
async fn a_front_answers_at_once_from_its_own_state_and_names_the_bridge() {
    let parts = vec![part("f", Mode::Front, None)];
    let handler = house(parts, &names(&["f"]), vec![]);
    ask(&handler, "f", Asked::ALL, announce(9, 1, PeerEvent::Started)).await;
    let overlay = id("f");
    let at_once = handler.handle(
        Asked { overlay: &overlay, hop_limit: Asked::ALL, one_family: false },
        announce(9, 2, PeerEvent::Started),
    );
    assert!(matches!(at_once, Answer::Now(Ok(Reply::Peers(list))) if ports(&list) == [1]));
    let own = Announce {
        event: PeerEvent::Started,
        left: Some(5),
        ..Announce::new(Peer::at(([0, 0, 0, 0], 0).into()), vec![Name::btih([9; 20])])
    };
    let seen = handler.ask(&overlay, Request::Announce(own.clone()), PATIENCE).await.unwrap();
    assert!(matches!(seen, Reply::Peers(list) if ports(&list) == [1, 2]));
    let list = ask(&handler, "f", Asked::ALL, announce(9, 2, PeerEvent::Regular)).await;
    assert_eq!((ports(&list), list.leechers), (vec![1, SEEDER], Some(3)));
    let leave = Announce { event: PeerEvent::Stopped, ..own };
    handler.ask(&overlay, Request::Announce(leave), PATIENCE).await.unwrap();
    assert_eq!(
        ports(&ask(&handler, "f", Asked::ALL, announce(9, 2, PeerEvent::Regular)).await),
        [1]
    );
    assert_eq!(handler.size(&overlay), Some(Size { swarms: 1, peers: 2 }));
}

const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn what_is_not_bound_can_be_refused() {
    let mut parts = vec![part("f", Mode::Front, None), part("p", Mode::Presence, None)];
    parts[0].terms.bound_only = true;
    let handler = house(parts, &names(&["f"]), vec![]);
    let refused =
        asked(&handler, "f", Asked::ALL, announce(9, 1, PeerEvent::Started)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::UnknownName);
    // The long name is asked for in its short form.
    for name in [1, 2] {
        assert!(
            asked(&handler, "f", Asked::ALL, announce(name, 1, PeerEvent::Started)).await.is_ok()
        );
    }
    let refused =
        asked(&handler, "p", Asked::ALL, announce(1, 1, PeerEvent::Started)).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unsupported);
}

#[tokio::test(start_paused = true)]
async fn neighbours_are_named_by_a_direct_route_only() {
    let tracker = Tracker::new(&[5, SEEDER]);
    tracker.say(Ok(PeerList {
        peers: [([10, 0, 0, 9], 5), ([10, 0, 0, 1], SEEDER)]
            .map(|(ip, port)| Peer::at((ip, port).into()))
            .to_vec(),
        ..said(&[])
    }));
    let parts = || {
        vec![
            part("f", Mode::Front, None),
            part("p", Mode::Presence, Some(&tracker)),
            part("g", Mode::Front, None),
        ]
    };
    let names = names(&["f", "p", "g"]);
    let relayed = Route::new(id("p"), id("f"), String::new(), None);
    let handler = house(parts(), &names, vec![relayed]);
    assert!(
        ask(&handler, "f", Asked::ALL, announce(1, 1, PeerEvent::Started)).await.peers.is_empty()
    );
    assert!(!handler.hands_over(&id("p"), &id("f")) && tracker.asked() == 0);

    let routes = vec![direct("p", "f"), direct("g", "f")];
    let handler = house(parts(), &names, routes);
    assert!(handler.hands_over(&id("p"), &id("f")) && !handler.hands_over(&id("f"), &id("p")));
    ask(&handler, "g", Asked::ALL, announce(2, 7, PeerEvent::Started)).await;
    // Neither the bridge's own address at the neighbour, nor anything under a name that is not bound.
    assert_eq!(
        ports(&ask(&handler, "f", Asked::ALL, announce(1, 1, PeerEvent::Started)).await),
        [5, 7]
    );
    assert!(
        ask(&handler, "f", Asked::ALL, announce(9, 1, PeerEvent::Started)).await.peers.is_empty()
    );
    // A bridge that asks is told of this overlay alone.
    assert!(
        ask(&handler, "f", Asked::PASS_ON, announce(1, 2, PeerEvent::Started)).await.peers.len()
            == 1
    );
    // Who is known is told at once, and nobody is asked again before the interval is over.
    for port in 10..20 {
        let overlay = id("f");
        let answer = handler.handle(
            Asked { overlay: &overlay, hop_limit: Asked::ALL, one_family: false },
            announce(2, port, PeerEvent::Started),
        );
        assert!(matches!(answer, Answer::Now(Ok(_))));
    }
    // And the bridge, which brings nothing there, does not stay in that swarm.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let asked = tracker.asked.lock().unwrap();
    assert!(matches!(
        &asked[..],
        [Request::Find(_), Request::Announce(Announce { event: PeerEvent::Stopped, .. })]
    ));
}

#[tokio::test(start_paused = true)]
async fn a_crowd_asks_a_neighbours_tracker_once() {
    let tracker = Tracker::new(&[5]);
    let parts = vec![part("f", Mode::Front, None), part("p", Mode::Presence, Some(&tracker))];
    let routes = vec![direct("p", "f")];
    let handler = house(parts, &names(&["f", "p"]), routes);
    let crowd =
        (1..100).map(|port| ask(&handler, "f", Asked::ALL, announce(1, port, PeerEvent::Started)));
    let lists = futures::future::join_all(crowd).await;
    assert!(lists.iter().all(|list| ports(list).contains(&5)));
    assert_eq!(tracker.asked(), 1);
    // Its peers are told with their age when it is silent.
    tracker.say(Err(Fault::new(ErrorCode::Unavailable, "down")));
    tokio::time::advance(Duration::from_secs(700)).await;
    ask(&handler, "f", Asked::ALL, announce(1, 1, PeerEvent::Regular)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let list = ask(&handler, "f", Asked::ALL, announce(1, 1, PeerEvent::Regular)).await;
    assert!(ports(&list).contains(&5) && list.stale.is_some_and(|age| age.as_secs() > 700));
    tokio::time::advance(Duration::from_secs(3 * 3600)).await;
    assert!(
        !ports(&ask(&handler, "f", Asked::ALL, announce(1, 1, PeerEvent::Regular)).await)
            .contains(&5)
    );
}

#[tokio::test(start_paused = true)]
async fn inline_passes_on_merges_and_lives_on_when_the_tracker_does_not() {
    let tracker = Tracker::new(&[5]);
    let parts = vec![part("i", Mode::Inline, Some(&tracker))];
    let handler = house(parts, &names(&["i"]), vec![]);
    let own = Announce {
        left: Some(5),
        ..Announce::new(Peer::at(([0, 0, 0, 0], 0).into()), vec![Name::btih([1; 20])])
    };
    handler.ask(&id("i"), Request::Announce(own), PATIENCE).await.unwrap();
    let before = tracker.asked();
    let list = ask(&handler, "i", Asked::ALL, announce(1, 1, PeerEvent::Started)).await;
    assert_eq!((ports(&list), list.interval.as_secs()), (vec![5, SEEDER], 600));
    assert_eq!((list.stale, list.seeders), (None, Some(1)));
    assert_eq!(tracker.asked.lock().unwrap()[before], announce(1, 1, PeerEvent::Started));

    // Too early: it is answered, and the tracker is not bothered.
    assert_eq!(
        ports(&ask(&handler, "i", Asked::ALL, announce(1, 1, PeerEvent::Regular)).await),
        [5, SEEDER]
    );
    assert_eq!(tracker.asked(), before + 1);
    // What the tracker said a moment ago does not hide who came since.
    ask(&handler, "i", Asked::ALL, announce(1, 3, PeerEvent::Started)).await;
    let list = ask(&handler, "i", Asked::ALL, announce(1, 1, PeerEvent::Regular)).await;
    assert_eq!((ports(&list), tracker.asked()), (vec![3, 5, SEEDER], before + 2));
    ask(&handler, "i", Asked::ALL, announce(1, 3, PeerEvent::Stopped)).await;

    tracker.say(Err(Fault::new(ErrorCode::Unavailable, "connection refused")));
    let list = ask(&handler, "i", Asked::ALL, announce(1, 2, PeerEvent::Started)).await;
    assert_eq!(ports(&list), [1, 5, SEEDER]);
    assert!(list.stale.is_some() && list.interval.as_secs() == 60, "{list:?}");
    let nobody =
        asked(&handler, "i", Asked::ALL, announce(8, 2, PeerEvent::Started)).await.unwrap_err();
    assert_eq!(nobody.text, "connection refused");

    tracker.say(Ok(said(&[6])));
    let list = ask(&handler, "i", Asked::ALL, announce(1, 2, PeerEvent::Regular)).await;
    assert!(list.stale.is_none() && ports(&list).contains(&6), "{list:?}");

    // Each peer is passed on again, however often it came while nobody answered.
    let before = tracker.asked();
    ask(&handler, "i", Asked::ALL, announce(1, 1, PeerEvent::Completed)).await;
    assert_eq!(tracker.asked(), before + 1);
    for minutes in 1..=3 {
        tokio::time::advance(Duration::from_secs(200)).await;
        ask(&handler, "i", Asked::ALL, announce(1, 3, PeerEvent::Regular)).await;
        ask(&handler, "i", Asked::ALL, announce(1, 1, PeerEvent::Regular)).await;
        // Of the two one comes too early each second time.
        assert!(tracker.asked() > before + minutes, "{minutes}");
    }

    // Another bridge's announce is passed on; what a bridge has passed on is not, or it might go in circles.
    let before = tracker.asked();
    ask(&handler, "i", Asked::PASS_ON, announce(1, 4, PeerEvent::Started)).await;
    let circle = announce(1, 5, PeerEvent::Started);
    let circle = asked(&handler, "i", Asked::ANSWER_HERE, circle).await.unwrap_err();
    assert_eq!((circle.code, tracker.asked()), (ErrorCode::Forbidden, before + 1));

    let refusal = Fault::new(ErrorCode::UnknownName, "not registered here");
    tracker.say(Err(refusal.clone()));
    assert_eq!(
        asked(&handler, "i", Asked::ALL, announce(7, 3, PeerEvent::Started)).await,
        Err(refusal)
    );
    assert_eq!(
        handler.overlays[&id("i")].own.table.as_ref().unwrap().stat(&Name::btih([7; 20])),
        None
    );
}

#[tokio::test(start_paused = true)]
async fn over_budget_what_is_known_is_told_and_else_when_to_come_again() {
    let tracker = Tracker::new(&[5]);
    let parts = vec![part("i", Mode::Inline, Some(&tracker))];
    let handler = house(parts, &names(&["i"]), vec![]);
    ask(&handler, "i", Asked::ALL, announce(1, 1, PeerEvent::Started)).await;
    let mut shed = Fault::new(ErrorCode::Overloaded, "over budget");
    shed.retry_after = Some(Duration::from_secs(90));
    tracker.say(Err(shed.clone()));
    let list = ask(&handler, "i", Asked::ALL, announce(1, 2, PeerEvent::Started)).await;
    assert_eq!((ports(&list), list.stale), (vec![1, 5], None));
    assert_eq!(
        asked(&handler, "i", Asked::ALL, announce(4, 2, PeerEvent::Started)).await,
        Err(shed)
    );
}

#[tokio::test(start_paused = true)]
async fn equal_announces_and_scrapes_are_sent_once() {
    let tracker = Tracker::new(&[5]);
    let parts = vec![part("i", Mode::Inline, Some(&tracker))];
    let handler = house(parts, &names(&["i"]), vec![]);
    let repeated =
        (0..20).map(|_| ask(&handler, "i", Asked::ALL, announce(1, 1, PeerEvent::Started)));
    futures::future::join_all(repeated).await;
    assert_eq!(tracker.asked(), 1);
    let query = || Request::SwarmQuery(SwarmQuery { names: vec![Name::btih([1; 20])] });
    let repeated = (0..20).map(|_| asked(&handler, "i", Asked::ALL, query()));
    for reply in futures::future::join_all(repeated).await {
        assert!(matches!(&reply.unwrap(), Reply::Swarms(stats) if stats[0].seeders == 7));
    }
    assert_eq!(tracker.asked(), 2);
    tokio::time::advance(Duration::from_secs(31)).await;
    tracker.say(Err(Fault::new(ErrorCode::Unavailable, "down")));
    // Then what the bridge itself knows.
    let own = asked(&handler, "i", Asked::ALL, query()).await.unwrap();
    assert!(matches!(own, Reply::Swarms(stats) if stats[0].leechers == 1));
}

mod search;
