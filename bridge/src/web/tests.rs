use std::{
    net::SocketAddr,
    time::{Duration, UNIX_EPOCH},
};

use p2pbridge_nametable::Counts;
use p2pbridge_proto::v1;

use super::*;
use crate::{grpc::Snapshot, handler::TitleCounts, relay::ProofCounts};

/// The same report again and again; `None` breaks down.
struct Still(Option<Report>);

impl ReportSource for Still {
    fn report(&self) -> Report {
        self.0.clone().expect("a report")
    }
}

fn report() -> Report {
    let tracker = v1::TrackerStatus {
        url: "http://t.example/a\"b".to_owned(),
        health: v1::Health::Degraded.into(),
        round_trip: Some(prost_types::Duration { seconds: 0, nanos: 250_000_000 }),
        consecutive_failures: 2,
        answered_share: Some(0.5),
        sent: 7,
        shed: 3,
        standing: "high id".to_owned(),
        users: Some(1_200_000),
        ..Default::default()
    };
    let swarm = |announced, trouble: &str| v1::SwarmStatus {
        name: "urn:btih:77".to_owned(),
        title: "film".to_owned(),
        sources: 2,
        served_peers: 1,
        announced,
        trouble: trouble.to_owned(),
        ..Default::default()
    };
    let overlay = v1::OverlayStatus {
        id: "a".to_owned(),
        protocol: "gopher".to_owned(),
        mode: "front".to_owned(),
        health: v1::Health::Up.into(),
        trackers: vec![tracker],
        swarms: vec![swarm(true, ""), swarm(false, "no source")],
        tracker_server: Some(v1::TrackerServerStatus {
            peers: 5,
            requests: 12,
            answered: 10,
            shed: 1,
            sessions: Some(4),
            ..Default::default()
        }),
        bad_input: vec![v1::BadInput {
            sender: "peer".to_owned(),
            flaw: "malformed".to_owned(),
            count: 11,
        }],
        ..Default::default()
    };
    let crossing = v1::Crossing {
        from_overlay: "a".to_owned(),
        to_overlay: "b".to_owned(),
        verified_bytes: 1 << 60,
        ..Default::default()
    };
    Report {
        started: UNIX_EPOCH + Duration::from_millis(1500),
        snapshot: Snapshot {
            overlays: vec![overlay],
            crossings: vec![crossing],
            alarms: vec!["full disk".to_owned()],
        },
        relay: RelayReport {
            pools: 1,
            in_memory: (5, 6),
            spool: (1 << 20, 10 << 30),
            proofs: ProofCounts { proven: 3, ..ProofCounts::default() },
        },
        ledger: LedgerReport { records: 9, gaps: 1, waiting: 4, transfers: 2, failing: true },
        names: Counts { bindings: 2, conflicts: 6, ..Counts::default() },
        search: TitleCounts { titles: 8, memory: 4096 },
    }
}

/// A page that is served, and what tells it of drain and end.
struct Served {
    address: SocketAddr,
    draining: CancellationToken,
    stop: CancellationToken,
}

impl Served {
    async fn start(report: Option<Report>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (draining, stop) = (CancellationToken::new(), CancellationToken::new());
        tokio::spawn(serve(listener, Arc::new(Still(report)), draining.clone(), stop.clone()));
        Self { address, draining, stop }
    }

    /// Sends bytes; gives all that comes until the page hangs up.
    async fn say(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn get(&self, path: &str) -> String {
        self.say(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await
    }
}

#[test]
fn everything_is_told_with_its_kind_unit_and_labels() {
    let text = report().text().unwrap();
    for part in [
        "# HELP p2pbridge_crossing_verified_bytes Bytes fetched that were verified\n\
         # TYPE p2pbridge_crossing_verified_bytes counter\n\
         # UNIT p2pbridge_crossing_verified_bytes bytes\n\
         p2pbridge_crossing_verified_bytes_total{from=\"a\",to=\"b\"} 1152921504606846976\n",
        "# TYPE p2pbridge_overlay info\n\
         p2pbridge_overlay_info{overlay=\"a\",protocol=\"gopher\",mode=\"front\"} 1\n",
        "# TYPE p2pbridge_overlay_health gauge\n\
         p2pbridge_overlay_health{overlay=\"a\",state=\"unknown\"} 0\n\
         p2pbridge_overlay_health{overlay=\"a\",state=\"up\"} 1\n",
        "p2pbridge_tracker_health{overlay=\"a\",tracker=\"http://t.example/a\\\"b\",state=\"degraded\"} 1\n",
        "p2pbridge_tracker_round_trip_seconds{overlay=\"a\",tracker=\"http://t.example/a\\\"b\"} 0.25\n",
        "p2pbridge_tracker_answered_ratio{overlay=\"a\",tracker=\"http://t.example/a\\\"b\"} 0.5\n",
        "p2pbridge_tracker_sent_total{overlay=\"a\",tracker=\"http://t.example/a\\\"b\"} 7\n",
        "# TYPE p2pbridge_tracker_users gauge\n\
         p2pbridge_tracker_users{overlay=\"a\",tracker=\"http://t.example/a\\\"b\"} 1200000\n",
        "# TYPE p2pbridge_bad_input counter\n\
         p2pbridge_bad_input_total{overlay=\"a\",sender=\"peer\",flaw=\"malformed\"} 11\n",
        "p2pbridge_server_sessions{overlay=\"a\"} 4\n",
        "p2pbridge_swarms{overlay=\"a\"} 2\n",
        "p2pbridge_swarms_announced{overlay=\"a\"} 1\n",
        "p2pbridge_swarms_troubled{overlay=\"a\"} 1\n",
        "p2pbridge_relay_sources{overlay=\"a\"} 4\n",
        "p2pbridge_server_requests_total{overlay=\"a\"} 12\n",
        "p2pbridge_server_results_total{overlay=\"a\",result=\"shed\"} 1\n",
        "p2pbridge_start_time_seconds 1.5\n",
        "p2pbridge_alarms 1\n",
        "p2pbridge_spool_limit_bytes 10737418240\n",
        "p2pbridge_proofs_total{outcome=\"whole\"} 3\n",
        "p2pbridge_ledger_records_total 9\n",
        "p2pbridge_ledger_failing 1\n",
        "p2pbridge_names_bindings 2\n",
        "p2pbridge_names_conflicts_total 6\n",
        "p2pbridge_search_titles 8\n",
        "p2pbridge_search_memory_bytes 4096\n",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    assert!(text.ends_with("\n# EOF\n"));
    assert!(!text.contains("tracker_last_answer"), "what is not known is left out");
    assert!(!text.contains("tracker_contents") && !text.contains("high id"));
    assert!(!text.contains("film") && !text.contains("urn:"), "no content is named");
}

#[test]
fn no_family_is_told_twice_and_no_series() {
    let mut two = report();
    let mut other = two.snapshot.overlays[0].clone();
    other.id = "b".to_owned();
    two.snapshot.overlays.push(other);
    let text = two.text().unwrap();
    let (heads, series): (Vec<_>, Vec<_>) =
        text.lines().filter(|line| *line != "# EOF").partition(|line| line.starts_with('#'));
    let series = series.iter().filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series);
    for list in [heads, series.collect::<Vec<_>>()] {
        let mut once = list.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), list.len(), "{text}");
    }
}

#[tokio::test]
async fn answers_who_asks_rightly_and_who_does_not() {
    let page = Served::start(Some(report())).await;
    let open = b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text;version=1.0.0,*/*;q=0.1\r\n\r\n";
    let metrics = page.say(open).await;
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
    assert!(metrics.contains("content-type: application/openmetrics-text; version=1.0.0"));
    assert!(metrics.contains("connection: close\r\n") && metrics.ends_with("# EOF\n"));
    let older = page.get("/metrics").await;
    assert!(older.contains("content-type: text/plain; version=0.0.4") && !older.contains("EOF"));
    let with_query = page.get("/metrics?name[]=x").await;
    assert!(with_query.starts_with("HTTP/1.1 200"), "{with_query}");
    let head = page.say(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    let old = page.say(b"GET /healthz HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200") && old.ends_with("\r\n\r\nok\n"), "{old}");
    assert!(page.get("/").await.starts_with("HTTP/1.1 404"));
    let post = page.say(b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await;
    assert!(post.starts_with("HTTP/1.1 405") && post.contains("allow: GET, HEAD"), "{post}");
    assert!(page.say(b"nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    page.draining.cancel();
    assert!(page.get("/healthz").await.starts_with("HTTP/1.1 503"));
    assert!(page.get("/metrics").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn huge_requests_are_bounded_and_answered() {
    let page = Served::start(Some(report())).await;
    let long = format!("GET /metrics?{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(100_000));
    let answer = page.say(long.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
    let fields = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(100));
    assert!(page.say(fields.as_bytes()).await.starts_with("HTTP/1.1 431"));
    let mut body = b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n".to_vec();
    body.resize(body.len() + 900_000, b'x');
    assert!(page.say(&body).await.starts_with("HTTP/1.1 405"));
}

/// Time runs on as soon as everybody waits.
#[tokio::test(start_paused = true)]
async fn who_is_slow_loses_his_place() {
    let page = Served::start(Some(report())).await;
    let begun = tokio::time::Instant::now();
    let mut slow = Vec::new();
    for _ in 0..2 * MOST_CONNECTIONS {
        let mut stream = TcpStream::connect(page.address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHo").await.unwrap();
        slow.push(stream);
    }
    assert!(page.get("/metrics").await.starts_with("HTTP/1.1 200"));
    for mut stream in slow {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    }
    assert!(begun.elapsed() < 4 * HEAD_TIME, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_state_that_cannot_be_told_is_an_error_and_the_page_lives_on() {
    let page = Served::start(None).await;
    for _ in 0..3 {
        assert!(page.get("/metrics").await.starts_with("HTTP/1.1 500"));
    }
    assert!(page.get("/healthz").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn the_end_cuts_who_is_still_there() {
    let page = Served::start(Some(report())).await;
    let mut silent = TcpStream::connect(page.address).await.unwrap();
    assert!(page.get("/healthz").await.starts_with("HTTP/1.1 200"));
    page.stop.cancel();
    let mut rest = Vec::new();
    let end = timeout(Duration::from_secs(5), silent.read_to_end(&mut rest)).await;
    assert!(end.is_ok() && rest.is_empty());
    let refused = TcpStream::connect(page.address).await;
    assert!(refused.is_err());
}
