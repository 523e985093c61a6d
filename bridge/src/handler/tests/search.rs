use p2pbridge_nametable::{AboutFile, Statement};
use p2pbridge_proto::{Evidence, Query, Search, SearchHit};

use super::*;

fn tth(number: u8) -> Name {
    Name::new(Scheme::Tth, &[number; 24]).unwrap()
}

/// An overlay whose peers say `urn:tree:tiger:…`.
fn front(overlay: &str) -> OverlayParts {
    OverlayParts { schemes: &[Scheme::Tth], ..part(overlay, Mode::Front, None) }
}

/// Binds a file of the overlay `b` that goes by a name of another scheme too.
fn bind(table: &NameTable, number: u8, title: &str, also: Option<(Name, Evidence)>) {
    let file = ProposedFile { path: title.into(), offset: 0, length: 1000, digest: None };
    let proposal = Proposal {
        names: vec![Name::btih([number; 20])],
        title: title.into(),
        length: 1000,
        unit: 100,
        files: vec![file],
        overlays: vec![id("b")],
        label: title.into(),
        stated_by: "test".into(),
        description: None,
    };
    let about = also.map(|(name, evidence)| AboutFile {
        proposal: 0,
        file: 0,
        statement: Statement {
            content: None,
            names: vec![name],
            length: Some(1000),
            title: String::new(),
            evidence,
            stated_by: "test".into(),
        },
    });
    table.bind_with(&[proposal], about.as_slice(), Evidence::Attested).unwrap();
}

fn announced(number: u8, port: u16, title: &str, event: PeerEvent) -> Request {
    let peer = Peer::at(([10, 0, 0, 2], port).into());
    let (title, length) = (title.to_owned(), Some(5));
    Request::Announce(Announce {
        event,
        title,
        length,
        left: Some(u64::from(port % 2)),
        ..Announce::new(peer, vec![tth(number)])
    })
}

async fn search(handler: &MessageHandler, overlay: &str, words: &str) -> Vec<SearchHit> {
    let search = Search { query: Query::Words(words.to_owned()), max_results: None };
    let reply = asked(handler, overlay, Asked::ALL, Request::Search(search)).await.unwrap();
    let Reply::Found(result) = reply else { panic!("{reply:?}") };
    assert!(!result.truncated);
    result.hits
}

fn table() -> Arc<NameTable> {
    Arc::new(NameTable::open(Box::new(MemoryStore::new())).unwrap())
}

#[tokio::test]
async fn peers_find_what_others_announced_and_what_a_route_may_bring() {
    let table = table();
    bind(&table, 1, "Big Film.avi", Some((tth(1), Evidence::Attested)));
    let route = Route::new(id("b"), id("a"), String::new(), None);
    let handler = house(vec![front("a"), front("c")], &table, vec![route]);
    bind(&table, 2, "Small Film.avi", Some((tth(2), Evidence::Attested)));
    bind(&table, 3, "Film that is guessed.avi", Some((tth(3), Evidence::Hint)));
    bind(&table, 4, "Film without a name there.avi", None);
    for port in 1..=3 {
        let announce = announced(9, port, "holiday film.mkv", PeerEvent::Started);
        asked(&handler, "a", Asked::ALL, announce).await.unwrap();
    }
    // Of what is bound too, the table knows the name, and the peers are counted.
    for port in 1..=2 {
        let announce = announced(2, port, "xxx", PeerEvent::Started);
        asked(&handler, "a", Asked::ALL, announce).await.unwrap();
    }
    let hits = search(&handler, "a", "FILM").await;
    let hit = |number, title: &str, length, sources, complete_sources| SearchHit {
        names: vec![tth(number)],
        title: title.to_owned(),
        length,
        sources,
        complete_sources,
    };
    assert_eq!(
        hits,
        [
            hit(9, "holiday film.mkv", 5, 3, 1),
            hit(2, "Small Film.avi", 1000, 2, 1),
            hit(1, "Big Film.avi", 1000, 0, 0),
        ]
    );
    assert_eq!(search(&handler, "a", "film small").await.len(), 1);
    assert_eq!(search(&handler, "c", "film").await, []);
    let everything = Search { query: Query::Words("film".to_owned()), max_results: Some(4) };
    let everything = handler.search(&everything).unwrap();
    let titles: Vec<_> = everything.hits.iter().map(|hit| hit.title.as_str()).collect();
    let two = ["Big Film.avi", "Film that is guessed.avi"];
    assert_eq!(titles, ["holiday film.mkv", "Small Film.avi", two[0], two[1]]);
    assert!(everything.truncated);

    for port in 1..=3 {
        let announce = announced(9, port, "", PeerEvent::Stopped);
        asked(&handler, "a", Asked::ALL, announce).await.unwrap();
    }
    assert_eq!(search(&handler, "a", "holiday").await, []);
    table.unbind(&Name::btih([1; 20])).unwrap();
    assert_eq!(search(&handler, "a", "big").await, []);
    let bad = Search { query: Query::All(Vec::new()), max_results: None };
    let fault = asked(&handler, "a", Asked::ALL, Request::Search(bad)).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::BadRequest);
}

#[tokio::test]
async fn nobody_waits_for_the_searches_of_others_and_too_many_are_refused() {
    let handler = house(vec![front("a")], &table(), Vec::new());
    let announce = announced(1, 1, "film", PeerEvent::Started);
    asked(&handler, "a", Asked::ALL, announce).await.unwrap();
    let overlay = id("a");
    let search = Search { query: Query::Words("film".to_owned()), max_results: None };
    let ask = || {
        let asked = Asked { overlay: &overlay, hop_limit: Asked::ALL, one_family: false };
        handler.handle(asked, Request::Search(search.clone()))
    };
    let (mut later, mut refused) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        match ask() {
            Answer::Later(answer) => later.push(answer),
            Answer::Now(answer) => refused.push(answer.unwrap_err()),
        }
    }
    assert!((2..100).contains(&later.len()), "{}", later.len());
    let is_told = |fault: &Fault| (fault.code, fault.retry_after.is_some());
    assert!(refused.iter().all(|fault| is_told(fault) == (ErrorCode::Overloaded, true)));
    for answer in futures::future::join_all(later).await {
        assert!(matches!(answer, Ok(Reply::Found(found)) if found.hits.len() == 1));
    }
    assert!(matches!(ask(), Answer::Later(_)), "the room is free again");
}

#[tokio::test(start_paused = true)]
async fn who_has_been_silent_for_long_is_found_no_more() {
    let handler = house(vec![front("a")], &table(), Vec::new());
    let announce = announced(1, 1, "film", PeerEvent::Started);
    asked(&handler, "a", Asked::ALL, announce).await.unwrap();
    assert_eq!(search(&handler, "a", "film").await.len(), 1);
    tokio::time::advance(TrackerTerms::default().interval * 2 + Duration::from_secs(60)).await;
    assert_eq!(search(&handler, "a", "film").await, []);
}

#[tokio::test]
async fn where_only_bound_names_are_served_no_others_are_found() {
    let table = table();
    bind(&table, 1, "film.avi", Some((tth(1), Evidence::Attested)));
    let mut overlay = front("a");
    overlay.terms.bound_only = true;
    let route = Route::new(id("b"), id("a"), String::new(), None);
    let handler = house(vec![overlay], &table, vec![route]);
    assert_eq!(search(&handler, "a", "film").await, []);
    let whole = ProposedFile { path: "film.avi".into(), offset: 0, length: 1000, digest: None };
    let proposal = Proposal {
        names: vec![tth(1)],
        title: "film.avi".into(),
        length: 1000,
        unit: 1000,
        files: vec![whole],
        overlays: vec![id("a")],
        label: "film.avi".into(),
        stated_by: "test".into(),
        description: None,
    };
    table.bind(&[proposal]).unwrap();
    assert_eq!(search(&handler, "a", "film").await.len(), 1);
}

#[tokio::test]
async fn in_presence_the_trackers_are_asked() {
    let tracker = Tracker::new(&[]);
    let handler = house(vec![part("p", Mode::Presence, Some(&tracker))], &table(), Vec::new());
    let search = Search { query: Query::Words("x".to_owned()), max_results: None };
    let patience = Duration::from_secs(1);
    let request = Request::Search(search.clone());
    assert!(handler.ask(&id("p"), request.clone(), patience).await.is_ok());
    assert_eq!(*tracker.asked.lock().unwrap(), [request]);
}
