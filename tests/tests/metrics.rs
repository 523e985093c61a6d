//! The page of metrics, read by the parser of Prometheus' Python client, says the same as `overlays --json`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, TcpListener};

use p2pbridge_tests::{
    Bridge, Client, Config, Json, Limits, Make, OverlayConfig, Peer, Scene, Side, Torrent,
    TrackerKind, What, check_flow, crossing, eventually, fill, free_port, get, run, usage,
    venv_python,
};
use tokio::net::TcpStream;

const SIZE: u64 = 5 * 1024 * 1024 + 77;
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A configuration with the page, and where it is.
fn with_page(mut config: Config) -> (Config, String) {
    let port = free_port();
    config.more = format!("[metrics]\nlisten = \"127.0.0.1:{port}\"\n");
    (config, format!("http://127.0.0.1:{port}"))
}

/// The samples of a page, by name and labels.
struct Metrics(BTreeMap<(String, BTreeMap<String, String>), f64>);

impl Metrics {
    async fn read(page: &str) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/metrics.py");
        let output = run(30, venv_python(), [script, &format!("{page}/metrics")]).await;
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let told = Json::parse(&said);
        let (open, older) = (told.get("open").items(), told.get("older").items());
        for family in &open {
            let (name, unit) = (family.get("name").text(), family.get("unit").text());
            assert!(name.starts_with("p2pbridge_") && name.ends_with(&unit), "{family:?}");
            assert!(!family.get("help").text().is_empty(), "{family:?}");
            assert!(!family.get("samples").items().is_empty(), "{family:?}");
            let kind = family.get("type").text();
            assert!(["counter", "gauge", "info"].contains(&kind.as_str()), "{family:?}");
        }
        let (open, older) = (Self::of(&open), Self::of(&older));
        assert!(open.0.keys().eq(older.0.keys()), "both formats tell the same series");
        open
    }

    fn of(families: &[Json]) -> Self {
        let samples = families.iter().flat_map(|family| family.get("samples").items());
        let one = |sample: Json| {
            let labels = sample.get("labels");
            let labels = labels.0.as_object().expect("labels").iter();
            let labels = labels.map(|(key, value)| (key.clone(), Json(value.clone()).text()));
            let value = sample.get("value").0.as_f64().expect("a number");
            ((sample.get("name").text(), labels.collect()), value)
        };
        Self(samples.map(one).collect())
    }

    /// The value of `p2pbridge_NAME` with exactly these labels.
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let key = (format!("p2pbridge_{name}"), labels.collect());
        *self.0.get(&key).unwrap_or_else(|| panic!("no {key:?} in {:?}", self.0))
    }
}

/// A transfer from A to a leecher whose only tracker is the bridge; then every number is where it belongs.
#[tokio::test]
async fn numbers_agree_with_overlays_after_a_transfer() {
    let scene = Scene::new();
    let source = scene.dir("source").join("secret-title.bin");
    fill(&source, SIZE, 401);
    let a = Side::new(&source, "secret-title.bin", Make::V1(18), TrackerKind::OpenHttp);
    let a = a.raise(&scene, "a").await;
    let limits = Limits::default();
    let _seeder = Peer::seed(Client::Aria2, &scene, &a.what(), &scene.dir("source"), limits).await;
    a.has_seeder().await;
    let front = OverlayConfig::front("b");
    let out = scene.file("b.torrent");
    let b = Torrent::make(Make::V1(20), &source, "b.bin", &front.http(), &out).await;
    let config = Config::of(&scene, OverlayConfig::new("a", &[a.tracker.url()]), front);
    let (config, page) = with_page(config);
    let bridge = Bridge::start(&scene, &config).await;
    let before = Metrics::read(&page).await;
    assert!(before.value("ledger_records_total", &[]) < 1.0);
    bridge.bind(("a", &a.torrent.path), ("b", &b.path)).await;
    let mut leecher =
        Peer::leech(Client::Aria2, &scene, &What::from(&b), &scene.dir("leech"), limits).await;
    leecher.finished(60).await;
    check_flow(&bridge, a.flow(), ("b", &b), SIZE, "demo-1").await;
    drop(leecher);

    // Between two equal answers of one source, the other must say the same.
    let (overlays, metrics, records) = eventually("a quiet moment", 30, async || {
        let overlays = bridge.json(["overlays", "--json"]).await;
        let records = usage(&bridge).await.len();
        let metrics = Metrics::read(&page).await;
        let quiet = numbers(&bridge.json(["overlays", "--json"]).await) == numbers(&overlays)
            && usage(&bridge).await.len() == records;
        quiet.then_some((overlays, metrics, records))
    })
    .await;
    for ((name, labels), told) in numbers(&overlays) {
        let labels: Vec<_> = labels.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let found = metrics.value(name, &labels);
        let differ = (found - told).abs() > 0.5;
        assert!(!differ, "{name} {labels:?}: {found} on the page, {told} in overlays");
    }
    let is = |name: &str, wanted: u64| {
        let found = metrics.value(name, &[]);
        assert!((found - wanted as f64).abs() < 0.5, "{name} is {found}, not {wanted}");
    };
    is("ledger_records_total", records as u64);
    is("spool_used_bytes", SIZE);
    is("names_bindings", 2);
    is("names_conflicts_total", 0);
    is("ledger_gaps", 0);
    is("ledger_failing", 0);
    let served = metrics.value("crossing_served_bytes_total", &[("from", "a"), ("to", "b")]);
    assert!(served >= SIZE as f64, "{served}");

    let text = get(&format!("{page}/metrics"), HERE, "").await.expect("the page");
    let text = String::from_utf8_lossy(&text.body).into_owned();
    let hash: String = b.tracker_hash().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(!text.contains("secret-title") && !text.contains(&hash), "{text}");
}

/// What `overlays --json` says, as the page calls it: a name, its labels, the number.
fn numbers(overlays: &Json) -> BTreeMap<(&'static str, Vec<(&'static str, String)>), f64> {
    let mut all = BTreeMap::new();
    let mut put = |name, labels: &[(&'static str, &str)], number: u64| {
        let labels = labels.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        all.insert((name, labels), number as f64);
    };
    put("alarms", &[], overlays.get("alarms").items().len() as u64);
    for overlay in overlays.get("overlays").items() {
        let id = overlay.get("id").text();
        let id = ("overlay", id.as_str());
        put("overlay_health", &[id, ("state", &overlay.get("health").text())], 1);
        let swarms = overlay.get("swarms").items();
        let sum = |key: &str| swarms.iter().map(|swarm| swarm.get(key).number()).sum();
        put("swarms", &[id], swarms.len() as u64);
        put("relay_sources", &[id], sum("sources"));
        put("relay_served_peers", &[id], sum("served_peers"));
        let announced = swarms.iter().filter(|swarm| swarm.get("announced").0 == true).count();
        put("swarms_announced", &[id], announced as u64);
        for tracker in overlay.get("trackers").items() {
            let url = tracker.get("url").text();
            let url = ("tracker", url.as_str());
            put("tracker_health", &[id, url, ("state", &tracker.get("health").text())], 1);
            put("tracker_sent_total", &[id, url], tracker.get("sent").number());
            put("tracker_shed_total", &[id, url], tracker.get("shed").number());
            let budget = tracker.get("budget_per_second").number();
            put("tracker_budget_per_second", &[id, url], budget);
        }
        for sender in ["peer", "tracker"] {
            for flaw in ["malformed", "unexpected", "excessive", "silent"] {
                let count = overlay.get("bad_input").get(sender).get(flaw).number();
                put("bad_input_total", &[id, ("sender", sender), ("flaw", flaw)], count);
            }
        }
        let server = overlay.get("tracker_server");
        if !server.0.is_null() {
            for (name, key) in [
                ("server_swarms", "swarms"),
                ("server_peers", "peers"),
                ("server_requests_total", "requests"),
            ] {
                put(name, &[id], server.get(key).number());
            }
            for result in ["answered", "refused", "malformed", "shed"] {
                put("server_results_total", &[id, ("result", result)], server.get(result).number());
            }
        }
    }
    let crossed = crossing(overlays, "a", "b");
    for (name, key) in [
        ("crossing_fetched_bytes_total", "fetched_bytes"),
        ("crossing_verified_bytes_total", "verified_bytes"),
        ("crossing_rejected_bytes_total", "rejected_bytes"),
        ("crossing_served_bytes_total", "served_bytes"),
    ] {
        put(name, &[("from", "a"), ("to", "b")], crossed.get(key).number());
    }
    all
}

#[tokio::test]
async fn a_port_in_use_is_named_and_a_silent_client_holds_nothing_up() {
    let scene = Scene::new();
    let nobody = [format!("http://127.0.0.1:{}/announce", free_port())];
    let (config, page) = with_page(Config::a_to_b(&scene, &nobody, &nobody));
    let address = page.strip_prefix("http://").expect("a URL");
    let taken = TcpListener::bind(address).expect("the port");
    let mut bridge = Bridge::spawn(&scene, &config);
    assert_eq!(bridge.program.ended(15).await.code(), Some(1));
    let said = bridge.program.said();
    assert!(said.contains(address) && said.contains("metrics.listen"), "{said}");
    drop(taken);

    let mut bridge = Bridge::start(&scene, &config).await;
    let healthy = get(&format!("{page}/healthz"), HERE, "").await.expect("an answer");
    assert_eq!((healthy.status, healthy.body.as_slice()), (200, b"ok\n".as_slice()));
    let _silent = TcpStream::connect(address).await.expect("a connection");
    assert!(bridge.terminate(8).await.success());
    assert!(get(&format!("{page}/healthz"), HERE, "").await.is_none());
}
