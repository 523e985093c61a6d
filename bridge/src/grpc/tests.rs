use std::{collections::HashMap, time::Instant};

use futures::StreamExt;
use jiff::Timestamp;
use p2pbridge_adapters::{Mode, TrackerTerms};
use p2pbridge_nametable::NameTable;
use p2pbridge_proto::v1::{
    name_service_client::NameServiceClient, search_service_client::SearchServiceClient,
    status_service_client::StatusServiceClient, usage_service_client::UsageServiceClient,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

use super::*;
use crate::{
    handler::{MessageHandler, OverlayParts},
    names::tests::{desk, item, torrent},
    routes::Routes,
    status::{
        choice::{Candidate, ContentClass, Weights, rank},
        chooser::Chooser,
        ledger::{Entry, RedbLedger, proto_time},
        meter::{Meter, TransferKey},
    },
};
use p2pbridge_proto::Name;

#[path = "lists_tests.rs"]
mod lists;

struct Still;

impl StatusSource for Still {
    fn snapshot(&self) -> Snapshot {
        let overlay = |id: &str| v1::OverlayStatus { id: id.to_owned(), ..Default::default() };
        let crossing = v1::Crossing {
            from_overlay: "a".to_owned(),
            to_overlay: "b".to_owned(),
            ..Default::default()
        };
        Snapshot {
            overlays: vec![overlay("a"), overlay("b"), overlay("c")],
            crossings: vec![crossing],
            alarms: vec!["fire".to_owned()],
        }
    }
}

impl Explain for Still {
    fn explain(&self, binding: &Binding, others: &[Arc<Binding>]) -> Explained {
        let to = binding.overlays.first().unwrap();
        let candidate = |other: &Arc<Binding>| Candidate {
            from: other.overlays.first().unwrap().clone(),
            to: to.clone(),
            name: other.name(),
            class: ContentClass::Video,
            route: None,
            trackers: None,
            swarm: None,
            closed: None,
        };
        let choices = rank(&Weights::default(), others.iter().map(candidate));
        Explained { choices, held_bytes: 7 }
    }
}

/// Finds what is bound; `a` is an overlay of peers that find nothing.
fn finder(table: &Arc<NameTable>) -> MessageHandler {
    let overlay = OverlayParts {
        id: "a".parse().unwrap(),
        protocol: "p",
        schemes: &[],
        mode: Mode::Front,
        terms: TrackerTerms::default(),
        client: None,
        reachable: Vec::new(),
        own: Vec::new(),
    };
    let routes = Arc::new(Routes::default());
    let chooser = Chooser::new(Weights::default(), routes.clone(), HashMap::new());
    MessageHandler::new(vec![overlay], table, &routes, &Arc::new(chooser))
}

/// A server on a free port, and a client.
struct Bench {
    channel: Channel,
    address: SocketAddr,
    ledger: Arc<RedbLedger>,
    meter: Arc<Meter>,
    stop: CancellationToken,
    server: JoinHandle<Result<(), ServeError>>,
    _dir: TempDir,
}

impl Bench {
    async fn start(drain: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.redb");
        let ledger = Arc::new(RedbLedger::open(&path, "op", "br", Timestamp::now()).unwrap());
        let (meter, stop) = (Meter::new(), CancellationToken::new());
        let every = Duration::from_secs(3600);
        let recorder = Recorder::start(meter.clone(), ledger.clone(), every, stop.clone());
        let names = Arc::new(desk(dir.path()));
        let services = Services {
            search: Arc::new(finder(names.table())),
            names,
            status: Arc::new(Still),
            explain: Arc::new(Still),
            ledger: ledger.clone(),
            recorder: Some(recorder),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(serve(listener, services, stop.clone(), drain));
        let channel =
            Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { channel, address, ledger, meter, stop, server, _dir: dir }
    }

    fn names(&self) -> NameServiceClient<Channel> {
        NameServiceClient::new(self.channel.clone())
    }

    fn usage(&self) -> UsageServiceClient<Channel> {
        UsageServiceClient::new(self.channel.clone())
    }
}

fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(info.domain, "p2p-bridge");
    info.reason.clone()
}

fn bind_request(content: &[u8]) -> v1::BindRequest {
    let items = vec![
        item(torrent("one", 16384, content, &[]), "A.torrent", "a"),
        item(torrent("two", 65536, content, &[]), "B.torrent", "b"),
    ];
    v1::BindRequest { items, request_id: String::new() }
}

#[tokio::test]
async fn contents_are_found_by_what_they_are_called() {
    let bench = Bench::start(Duration::from_secs(1)).await;
    bench.names().bind(bind_request(&[5; 200_000])).await.unwrap();
    let mut client = SearchServiceClient::new(bench.channel.clone());
    let mut search = async |words: &str, overlay: &str| {
        let query = p2pbridge_proto::Query::Words(words.to_owned());
        let search = p2pbridge_proto::Search { query, max_results: None };
        let search = Some(search.into());
        let request = v1::SearchRequest { search, overlay: overlay.to_owned() };
        let answer = client.search(request).await?;
        Ok::<_, Status>(answer.into_inner().result.unwrap().hits)
    };
    let hits = search("ONE", "").await.unwrap();
    assert_eq!((hits.len(), hits[0].title.as_str(), hits[0].size), (1, "one", 200_000));
    assert_eq!(hits[0].names.len(), 2, "both torrents are of this content");
    assert!(search("three", "").await.unwrap().is_empty());
    assert!(search("one", "a").await.unwrap().is_empty());
    let unknown = search("one", "zz").await.unwrap_err();
    assert_eq!((unknown.code(), reason(&unknown)), (Code::NotFound, "UNKNOWN_OVERLAY".to_owned()));
    let bad = search(&"x".repeat(2_000), "").await.unwrap_err();
    assert_eq!((bad.code(), reason(&bad)), (Code::InvalidArgument, "BAD_SEARCH".to_owned()));
}

#[tokio::test]
async fn names_are_bound_resolved_mapped_listed_and_taken_back() {
    let bench = Bench::start(Duration::from_secs(1)).await;
    let mut names = bench.names();
    let content: Vec<u8> = (0u32..150_000).map(|n| n as u8).collect();
    let bound = names.bind(bind_request(&content)).await.unwrap().into_inner().bindings;
    let (a, b) = (bound[0].urns[0].clone(), bound[1].urns[0].clone());
    let request = |name: &str| v1::ResolveRequest { name: name.to_owned(), ..Default::default() };
    let hex = a.trim_start_matches("urn:btih:");
    let found = names.resolve(request(hex)).await.unwrap().into_inner();
    assert_eq!(found.binding.as_ref(), Some(&bound[0]));
    assert_eq!(found.equivalents, [bound[1].clone()]);
    let elsewhere = v1::ResolveRequest { overlay: "a".to_owned(), ..request(&a) };
    assert!(names.resolve(elsewhere).await.unwrap().into_inner().equivalents.is_empty());

    let unknown = Name::btih([9; 20]).to_string();
    let status = names.resolve(request(&unknown)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::NotFound, "UNKNOWN_NAME".to_owned()));
    assert_eq!(status.get_error_details().resource_info().unwrap().resource_name, unknown);
    let batch = v1::BatchResolveRequest { requests: vec![request(&unknown), request(&b)] };
    let batch = names.batch_resolve(batch).await.unwrap().into_inner().responses;
    assert!(batch[0].binding.is_none() && batch[1].binding.is_some());

    let map = |what| v1::MapChunksRequest { from: a.clone(), to: b.clone(), what: Some(what) };
    use v1::map_chunks_request::What;
    let chunks = What::Chunks(v1::ChunkRange { first: 3, count: 2 });
    let mapped = names.map_chunks(map(chunks)).await.unwrap().into_inner().ranges;
    let expected = v1::ByteRange { offset: 3 * 16384, length: 2 * 16384 };
    assert_eq!(mapped[0].to, Some(expected));
    assert_eq!(mapped[0].to_chunks, Some(v1::ChunkRange { first: 0, count: 2 }));
    let have = What::Availability(vec![0b1111_1100, 0]);
    let mapped = names.map_chunks(map(have)).await.unwrap().into_inner();
    assert_eq!(mapped.availability, [0b1000_0000]);
    let beyond = What::Bytes(v1::ByteRange { offset: 1, length: 150_000 });
    let status = names.map_chunks(map(beyond)).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::InvalidArgument, "BAD_RANGE".to_owned()));

    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let page = v1::ListRequest { page_size: 1, page_token };
        let page = names.list(page).await.unwrap().into_inner();
        listed.extend(page.bindings);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed.len(), 2);
    let bad = v1::ListRequest { page_size: 1, page_token: "AAAA".to_owned() };
    assert_eq!(reason(&names.list(bad).await.unwrap_err()), "BAD_PAGE_TOKEN");

    let request = v1::UnbindRequest { name: b, ..Default::default() };
    names.unbind(request.clone()).await.unwrap();
    assert_eq!(names.unbind(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_bind_is_refused_with_the_reason_and_repeated_without_harm() {
    let bench = Bench::start(Duration::from_secs(1)).await;
    let mut names = bench.names();
    let content = vec![7; 100_000];
    let mut request = bind_request(&content);
    request.items[1].description = torrent("two", 65536, &content[1..], &[]);
    let status = names.bind(request).await.unwrap_err();
    assert_eq!(reason(&status), "NO_COUNTERPART");
    let fields = status.get_error_details().bad_request().unwrap().field_violations.clone();
    assert_eq!(fields[0].field, "items");
    assert!(fields[0].description.contains("has no counterpart"));

    let mut private = b"d4:infod6:lengthi5e4:name1:x12:piece lengthi16384e6:pieces20:".to_vec();
    private.extend([0; 20]);
    private.extend(b"7:privatei1eee");
    let items = vec![item(private, "P.torrent", "")];
    let status =
        names.bind(v1::BindRequest { items, request_id: String::new() }).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::FailedPrecondition, "PRIVATE".into()));

    let mut request = bind_request(&content);
    request.request_id = "once".to_owned();
    let first = names.bind(request.clone()).await.unwrap().into_inner();
    assert_eq!(names.bind(request.clone()).await.unwrap().into_inner(), first);
    request.items.pop();
    let status = names.bind(request).await.unwrap_err();
    assert_eq!(reason(&status), "REQUEST_ID_REUSED");
}

fn key() -> TransferKey {
    TransferKey {
        transfer_id: "1".to_owned(),
        agreement: "free".to_owned(),
        source_overlay: "a".parse().unwrap(),
        destination_overlay: "b".parse().unwrap(),
        source_name: Name::btih([1; 20]),
        destination_name: Name::btih([2; 20]),
        title: "film".to_owned(),
    }
}

#[tokio::test]
async fn the_command_line_talks_to_it_and_says_when_it_cannot() {
    use crate::cli::{client::CliError, names, overlays, usage};
    use clap::{Args, Command, FromArgMatches};
    fn args<T: Args + FromArgMatches>(words: &[&str]) -> T {
        let command = T::augment_args(Command::new("x"));
        let words = [&["x"], words].concat();
        T::from_arg_matches(&command.try_get_matches_from(words).unwrap()).unwrap()
    }
    let bench = Bench::start(Duration::from_secs(1)).await;
    let endpoint = format!("http://{}", bench.address);
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, unit| {
        let path = dir.path().join(name);
        std::fs::write(&path, torrent(name, unit, &[7; 100_000], &[])).unwrap();
        path.display().to_string()
    };
    let (a, b) = (file("A.torrent", 16384), file("B.torrent", 65536));
    let in_b = format!("b={b}");
    for json in [false, true] {
        for words in [
            vec!["bind", &a, &in_b],
            vec!["resolve", &a],
            vec!["map", &a, &b],
            vec!["map", &a, &b, "--chunks", "1+2"],
            vec!["list"],
        ] {
            names::run(args(&words), &endpoint, json).await.unwrap();
        }
        overlays::run(args(&[]), &endpoint, json).await.unwrap();
        usage::run(args(&["list"]), &endpoint, json).await.unwrap();
    }
    names::run(args(&["unbind", &b]), &endpoint, false).await.unwrap();
    let gone = names::run(args(&["resolve", &b]), &endpoint, false).await.unwrap_err();
    assert!(gone.to_string().contains("bind, publish or import it first"), "{gone}");

    let transfer = bench.meter.transfer(key());
    transfer.verified(77);
    let out = dir.path().join("out.csv").display().to_string();
    let export = ["export", "--format", "csv", "-o", &out];
    usage::run(args(&export), &endpoint, false).await.unwrap();
    let text = std::fs::read_to_string(&out).unwrap();
    assert_eq!(text.lines().count(), 2);
    assert!(text.contains(",film,77,"), "{text}");

    let nobody = names::run(args(&["list"]), "http://127.0.0.1:1", false).await.unwrap_err();
    assert!(matches!(nobody, CliError::NoServer { .. }));
    assert!(nobody.to_string().contains("no p2p-bridge answers at http://127.0.0.1:1: start one"));
}

#[tokio::test]
async fn usage_shows_what_was_counted_a_moment_ago() {
    let bench = Bench::start(Duration::from_secs(1)).await;
    let transfer = bench.meter.transfer(key());
    transfer.verified(77);
    let listed = bench.usage().list(v1::UsageServiceListRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().records.iter().map(|r| r.bytes_verified).sum::<u64>(), 77);
}

#[tokio::test]
async fn a_choice_is_explained_when_that_is_asked_for() {
    let bench = Bench::start(Duration::from_secs(1)).await;
    let mut names = bench.names();
    let bound = names.bind(bind_request(&[7; 100_000])).await.unwrap().into_inner().bindings;
    let mut request = v1::ResolveRequest { name: bound[1].urns[0].clone(), ..Default::default() };
    let plain = names.resolve(request.clone()).await.unwrap().into_inner();
    assert!(plain.choices.is_empty() && plain.held_bytes == 0);
    request.explain = true;
    let told = names.resolve(request.clone()).await.unwrap().into_inner();
    assert_eq!((told.held_bytes, told.choices.len()), (7, 1));
    let choice = &told.choices[0];
    assert_eq!((choice.from_overlay.as_str(), choice.to_overlay.as_str()), ("a", "b"));
    assert_eq!(choice.urn, bound[0].urns[0]);
    assert!(!choice.usable && choice.content_class == "video");
    assert_eq!(choice.refusal, "no route from a to b");
    let sum: f64 = choice.terms.iter().map(|term| term.points).sum();
    assert!((sum - choice.score).abs() < 1e-9 && sum > 0.0);
    request.overlay = "c".to_owned();
    assert!(names.resolve(request.clone()).await.unwrap().into_inner().choices.is_empty());
    let batch = v1::BatchResolveRequest { requests: vec![request] };
    assert_eq!(reason(&names.batch_resolve(batch).await.unwrap_err()), "BAD_EXPLAIN");
}

#[tokio::test]
async fn usage_is_listed_in_pages_and_exported_as_a_stream() {
    let bench = Bench::start(Duration::from_secs(1)).await;
    let at = |second| Some(proto_time(Timestamp::from_second(second).unwrap()));
    let records = (0..1200).map(|n| v1::UsageRecord {
        source_overlay: if n % 2 == 0 { "a" } else { "b" }.to_owned(),
        window_start: at(n),
        window_end: at(n + 1),
        bytes_verified: 1,
        ..Default::default()
    });
    let entry = Entry { records: records.collect(), ..Entry::default() };
    bench.ledger.append(1, &entry).unwrap();
    let filter = v1::UsageFilter {
        source_overlay: "a".to_owned(),
        from: at(100),
        to: at(1000),
        ..Default::default()
    };
    let mut usage = bench.usage();
    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let filter = Some(filter.clone());
        let request = v1::UsageServiceListRequest { filter, page_size: 99, page_token };
        let page = usage.list(request).await.unwrap().into_inner();
        listed.extend(page.records);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
        let other = v1::UsageServiceListRequest {
            filter: None,
            page_size: 9,
            page_token: page_token.clone(),
        };
        assert_eq!(reason(&usage.list(other).await.unwrap_err()), "BAD_PAGE_TOKEN");
    }
    assert_eq!(listed.len(), 450);
    let request = v1::ExportRequest { filter: Some(filter) };
    let mut stream = usage.export(request).await.unwrap().into_inner();
    let mut exported = Vec::new();
    while let Some(portion) = stream.message().await.unwrap() {
        exported.extend(portion.records);
    }
    assert_eq!(exported, listed);
    let bad = v1::UsageFilter { from: at(2), to: at(1), ..Default::default() };
    let status = usage.export(v1::ExportRequest { filter: Some(bad) }).await.unwrap_err();
    assert_eq!(reason(&status), "BAD_TIME");
}

#[tokio::test]
async fn status_is_given_once_and_as_a_stream_that_ends_with_the_server() {
    let bench = Bench::start(Duration::from_secs(5)).await;
    let mut status = StatusServiceClient::new(bench.channel.clone());
    let all = status.list_overlays(v1::ListOverlaysRequest {}).await.unwrap().into_inner();
    assert_eq!((all.overlays.len(), all.alarms.len()), (3, 1));
    let one = |id: &str| v1::GetOverlayRequest { id: id.to_owned() };
    assert_eq!(status.get_overlay(one("b")).await.unwrap().into_inner().crossings.len(), 1);
    assert!(status.get_overlay(one("c")).await.unwrap().into_inner().crossings.is_empty());
    assert_eq!(status.get_overlay(one("d")).await.unwrap_err().code(), Code::NotFound);
    let every =
        |nanos| v1::WatchRequest { interval: Some(prost_types::Duration { seconds: 0, nanos }) };
    assert_eq!(reason(&status.watch(every(1)).await.unwrap_err()), "BAD_INTERVAL");
    let mut states = status.watch(every(100_000_000)).await.unwrap().into_inner();
    for _ in 0..3 {
        assert_eq!(states.next().await.unwrap().unwrap().overlays.len(), 3);
    }
    bench.stop.cancel();
    while let Some(Ok(_)) = states.next().await {}
    drop((states, status, bench.channel));
    bench.server.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_silent_client_does_not_hold_the_shutdown() {
    let bench = Bench::start(Duration::from_millis(300)).await;
    let silent = tokio::net::TcpStream::connect(bench.address).await.unwrap();
    bench.names().list(v1::ListRequest::default()).await.unwrap();
    let started = Instant::now();
    bench.stop.cancel();
    bench.server.await.unwrap().unwrap();
    assert!(started.elapsed() < Duration::from_secs(3));
    // The connection is cut, not left open.
    let mut buffer = [0; 64];
    let cut = async {
        loop {
            silent.readable().await.unwrap();
            match silent.try_read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(3), cut).await.unwrap();
}

#[tokio::test]
async fn health_and_reflection_are_served() {
    let bench = Bench::start(Duration::from_secs(1)).await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(bench.channel.clone());
    for service in SERVICES.iter().copied().chain([""]) {
        let request = tonic_health::pb::HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(
            answer.status(),
            tonic_health::pb::health_check_response::ServingStatus::Serving
        );
    }
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let mut reflection = ServerReflectionClient::new(bench.channel.clone());
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let requests = futures::stream::iter([request]);
    let mut answers = reflection.server_reflection_info(requests).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let listed: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    assert!(SERVICES.iter().all(|service| listed.iter().any(|name| name == service)), "{listed:?}");
}
