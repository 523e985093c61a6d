use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::{
    FileKind, MAX_QUERY_DEPTH, MAX_QUERY_TERMS, MAX_QUERY_TEXT, Query, Search, SearchHit,
    SearchResult,
};

fn any_name() -> impl Strategy<Value = Name> {
    (0usize..8, any::<[u8; 32]>()).prop_map(|(index, digest)| {
        let scheme = Scheme::ALL[index];
        Name::new(scheme, &digest[..scheme.digest_len()]).unwrap()
    })
}

fn any_event() -> impl Strategy<Value = PeerEvent> {
    prop_oneof![
        Just(PeerEvent::Regular),
        Just(PeerEvent::Started),
        Just(PeerEvent::Completed),
        Just(PeerEvent::Stopped),
        Just(PeerEvent::Paused),
    ]
}

prop_compose! {
    fn any_announce()(
        id in prop::collection::vec(any::<u8>(), 0..33),
        endpoint in any::<std::net::SocketAddrV4>(),
        names in prop::collection::vec(any_name(), 1..3),
        event in any_event(),
        uploaded: u64,
        downloaded: u64,
        left: Option<u64>,
        (num_want, key, token) in any::<(Option<u32>, Option<u32>, Vec<u8>)>(),
    ) -> Announce {
        let id = PeerId::try_from(&id[..]).unwrap();
        let peer = Peer { id, endpoint: endpoint.into() };
        Announce { peer, names, event, uploaded, downloaded, left, num_want, key, token, title: String::from("t ü"), length: left }
    }
}

proptest! {
    #[test]
    fn an_announce_survives_the_protobuf(announce in any_announce()) {
        let request = Request::Announce(announce);
        let body = v1::envelope::Body::from(request.clone());
        prop_assert_eq!(Request::try_from(&body), Ok(request));
    }

    #[test]
    fn a_peer_list_survives_the_protobuf(
        peers in prop::collection::vec(any::<std::net::SocketAddrV4>(), 0..9),
        interval in 0u64..1 << 38,
        min_interval in prop::option::of(0u64..1 << 38),
        seeders: Option<u32>,
        (token, warning, stale) in any::<(Vec<u8>, String, Option<u32>)>(),
    ) {
        let reply = Reply::Peers(PeerList {
            peers: peers.into_iter().map(|at| Peer::at(at.into())).collect(),
            interval: Duration::from_secs(interval),
            min_interval: min_interval.map(Duration::from_secs),
            seeders,
            leechers: None,
            token,
            warning,
            stale: stale.map(|age| Duration::from_secs(age.into())),
        });
        let body = v1::envelope::Body::from(reply.clone());
        prop_assert_eq!(Reply::try_from(&body), Ok(reply));
    }
}

fn any_query() -> impl Strategy<Value = Query> {
    const KINDS: [FileKind; 7] = [
        FileKind::Audio,
        FileKind::Video,
        FileKind::Image,
        FileKind::Document,
        FileKind::Program,
        FileKind::Archive,
        FileKind::DiskImage,
    ];
    let leaf = prop_oneof![
        ".{0,9}".prop_map(Query::Words),
        (0usize..7).prop_map(|kind| Query::Kind(KINDS[kind])),
        "[a-z]{0,4}".prop_map(Query::Extension),
        any::<u64>().prop_map(Query::MinSize),
        any::<u64>().prop_map(Query::MaxSize),
        any::<u32>().prop_map(Query::MinSources),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let several = || prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            several().prop_map(Query::All),
            several().prop_map(Query::Any),
            (inner.clone(), inner).prop_map(|(one, not)| Query::ButNot(one.into(), not.into())),
        ]
    })
    .prop_filter("not more than a query may have", Query::is_sound)
}

prop_compose! {
    fn any_hit()(
        names in prop::collection::vec(any_name(), 1..3),
        title: String,
        length: u64,
        (sources, complete_sources) in any::<(u32, u32)>(),
    ) -> SearchHit {
        SearchHit { names, title, length, sources, complete_sources }
    }
}

fn any_body() -> impl Strategy<Value = Body> {
    let find = (prop::collection::vec(any_name(), 1..3), any::<Option<u32>>());
    let swarms = prop::collection::vec((any_name(), any::<(u32, u32, Option<u32>)>()), 0..4);
    let fault = (0usize..8, any::<Option<i32>>(), any::<String>(), any::<Option<u32>>());
    let search = (any_query(), prop::option::of(1u32..));
    let found = (prop::collection::vec(any_hit(), 0..4), any::<bool>());
    prop_oneof![
        search.prop_map(|(query, max_results)| {
            Request::Search(Search { query, max_results }).into()
        }),
        found.prop_map(|(hits, truncated)| Reply::Found(SearchResult { hits, truncated }).into()),
        any_announce().prop_map(|announce| Request::Announce(announce).into()),
        find.prop_map(|(names, num_want)| {
            Request::Find(Find { names, num_want, length: num_want.map(u64::from) }).into()
        }),
        prop::collection::vec(any_name(), 1..4)
            .prop_map(|names| Request::SwarmQuery(SwarmQuery { names }).into()),
        swarms.prop_map(|swarms| {
            let stat = |(name, (seeders, leechers, completed))| SwarmStat {
                name,
                seeders,
                leechers,
                completed,
            };
            Reply::Swarms(swarms.into_iter().map(stat).collect()).into()
        }),
        fault.prop_map(|(code, native_code, text, after)| {
            const CODES: [ErrorCode; 8] = [
                ErrorCode::BadRequest,
                ErrorCode::UnknownName,
                ErrorCode::Forbidden,
                ErrorCode::Overloaded,
                ErrorCode::Unavailable,
                ErrorCode::BadAnswer,
                ErrorCode::Unsupported,
                ErrorCode::Internal,
            ];
            let retry_after = after.map(|millis| Duration::from_millis(millis.into()));
            Fault { code: CODES[code], native_code, text, retry_after }.into()
        }),
    ]
}

proptest! {
    #[test]
    fn an_envelope_survives_its_bytes(
        (id, correlation_id) in ("[a-z0-9]{0,40}", "[a-z0-9]{0,40}"),
        origin in prop::option::of("[a-z][a-z0-9-]{0,20}"),
        hop_limit: u32,
        deadline in prop::option::of(0u64..253_402_300_800),
        body in any_body(),
    ) {
        let envelope = Envelope {
            id, correlation_id, hop_limit, body,
            origin: origin.map(|id| id.parse().unwrap()),
            deadline: deadline.map(|at| SystemTime::UNIX_EPOCH + Duration::from_secs(at)),
        };
        let bytes = v1::Envelope::from(envelope.clone()).encode_to_vec();
        let back = v1::Envelope::decode(&bytes[..]).unwrap();
        prop_assert_eq!(Envelope::try_from(&back), Ok(envelope));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>()) {
        if let Ok(native) = v1::Envelope::decode(&bytes[..]) {
            let _ = Envelope::try_from(&native);
        }
    }
}

#[test]
fn an_envelope_that_cannot_be_says_why() {
    let fault = Fault::new(ErrorCode::Forbidden, "no route");
    let good = v1::Envelope::from(Envelope::new(fault.into()));
    let text = |change: fn(&mut v1::Envelope)| {
        let mut envelope = good.clone();
        change(&mut envelope);
        Envelope::try_from(&envelope).unwrap_err().to_string()
    };
    assert_eq!(text(|it| it.body = None), "`body` is missing");
    assert_eq!(
        text(|it| it.origin_overlay = "A".into()),
        "`origin_overlay`: `A` is no overlay id: it takes 1 to 32 of a-z, 0-9 and -"
    );
    assert_eq!(text(|it| it.id = "x".repeat(129)), "`id`: 129 bytes are more than 128");
    let late = prost_types::Timestamp { seconds: 1 << 40, nanos: 0 };
    assert!(Envelope::try_from(&v1::Envelope { deadline: Some(late), ..good.clone() }).is_err());
    assert_eq!(
        text(|it| it.body = Some(v1::envelope::Body::Error(v1::Error::default()))),
        "`code` is missing"
    );
    assert_eq!(
        text(|it| {
            let code = v1::ErrorCode::Overloaded.into();
            let error = v1::Error { code, ..v1::Error::default() };
            it.body = Some(v1::envelope::Body::Error(error));
        }),
        "`retryable`: false does not go with the code"
    );
    assert_eq!(
        text(|it| it.body = Some(v1::envelope::Body::Control(v1::Control::default()))),
        "`body`: it is of no conversation with a tracker"
    );
    let negative = prost_types::Duration { seconds: -1, nanos: 0 };
    assert!(checked_duration("interval", negative).is_err());
    let longest = proto_duration(Duration::MAX);
    assert_eq!(checked_duration("interval", longest), Ok(Duration::from_secs(MOST_SECONDS)));
}

#[test]
fn refuses_what_is_missing() {
    let body = v1::envelope::Body::Find(v1::Find::default());
    assert_eq!(Request::try_from(&body), Err(ConvertError::Missing("names")));
    let name = v1::Name { scheme: 1, digest: vec![0; 19] };
    assert_eq!(
        Name::try_from(&name).unwrap_err().to_string(),
        "`name`: a btih digest has 20 bytes, not 19"
    );
}

#[test]
fn a_search_that_cannot_be_says_why() {
    let words = |words: &str| Query::Words(words.to_owned());
    let read = |query: Query| {
        let search = v1::Search { query: Some(query.into()), max_results: 0 };
        Search::try_from(&search).map_err(|error| error.to_string())
    };
    let deep = |depth: usize| (1..depth).fold(words("x"), |inner, _| Query::All(vec![inner]));
    assert!(read(deep(MAX_QUERY_DEPTH)).is_ok());
    assert_eq!(read(deep(MAX_QUERY_DEPTH + 1)).unwrap_err(), "`query`: it is more than 16 deep");
    for query in [
        Query::Any(Vec::new()),
        Query::All(vec![words("x"); MAX_QUERY_TERMS]),
        words(&"x".repeat(MAX_QUERY_TEXT + 1)),
    ] {
        let problem = "`query`: it has too many terms, too much text, or an empty list";
        assert_eq!(read(query).unwrap_err(), problem);
    }
    let of = |term| v1::Search { query: Some(v1::SearchQuery { term }), max_results: 0 };
    let text = |search: v1::Search| Search::try_from(&search).unwrap_err().to_string();
    assert_eq!(text(v1::Search::default()), "`query` is missing");
    assert_eq!(text(of(None)), "`query` is missing");
    assert_eq!(text(of(Some(v1::search_query::Term::Kind(0)))), "`kind` is missing");
    let alone = v1::SearchButNot { query: of(None).query.map(Box::new), but_not: None };
    let alone = v1::search_query::Term::ButNot(Box::new(alone));
    assert_eq!(text(of(Some(alone))), "`query` is missing");
}
