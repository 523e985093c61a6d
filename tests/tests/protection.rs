//! Protection: whatever comes to the front, a tracker behind the bridge sees no more than its budget, answers stay right, and memory
//! stays flat. A proxy before the real tracker notes when each message passes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;

use p2pbridge_tests::load::{
    Expect, Plan, Swarms,
    http::HttpLoad,
    udp::{UdpLoad, udp_flood},
};
use p2pbridge_tests::{
    Ask, Bridge, Config, Counting, Make, OverlayConfig, Scene, Torrent, Tracker, TrackerKind,
    eventually, fill, free_port, mib,
};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

/// Each of these wants both cores; besides, what is noted late seems to come too close together.
static ALONE: Mutex<()> = Mutex::const_new(());

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Messages a second that the tracker behind is to see at most.
const BUDGET: usize = 10;
/// Names that are bound in both overlays: to ask for each of them every two seconds, as npm's tracker wishes, is twice the budget.
const BOUND: u8 = 40;
/// Small tables, so that a flood reaches their bounds.
const TERMS: &str = "interval = 1800\nmin_interval = 60\nswarms = 20000\npeers = 60000\n";

fn server(overlay: &OverlayConfig) -> SocketAddr {
    (HERE, overlay.tracker.expect("a tracker").port).into()
}

/// Peers announce to a front as fast as it answers: for names that a neighbour's tracker knows, and for names that nobody does.
async fn a_front_under_load(scheme: &str) {
    let _alone = ALONE.lock().await;
    let scene = Scene::new();
    let npm = Tracker::start(&scene, TrackerKind::NpmHttp, free_port(), &[]).await;
    let counting = Counting::before(npm.port);
    let tracker = format!("{scheme}://127.0.0.1:{}/announce", counting.port);
    let front = OverlayConfig::front("b").with_terms(TERMS);
    let (target, url) = (server(&front), front.udp());
    let a = OverlayConfig::new("a", &[tracker]).with_budget(BUDGET as u32);
    let mut config = Config::of(&scene, a, front);
    config.direct = true;
    config.log = "info";
    let mut bridge = Bridge::start(&scene, &config).await;

    let mut names = Vec::new();
    for number in 0..BOUND {
        let name = format!("{number}.bin");
        let source = scene.dir("source").join(&name);
        fill(&source, 20_000, number.into());
        let out = scene.file(&format!("{number}.torrent"));
        let torrent = Torrent::make(Make::V1(15), &source, &name, &url, &out).await;
        bridge.bind_same(("a", &torrent.path), ("b", &torrent.path)).await;
        Ask::seeder(torrent.v1, seeder_port(number)).at(&npm.url()).await.expect("an answer");
        names.push(torrent.v1);
    }

    let plan = Plan { swarms: Swarms::Listed(names.clone().into()), ..Plan::numbered(1, 40) };
    let mut known = UdpLoad::new(target, plan);
    known.expect = Expect::Anybody(80);
    let (first, known, flood) = spawn_blocking(move || {
        let first = udp_flood(target, None, 3.0);
        thread::scope(|scope| {
            let flood = scope.spawn(|| udp_flood(target, None, 7.0));
            (first, known.run(7.0), flood.join().expect("the flood"))
        })
    })
    .await
    .expect("the load");
    let most = bridge.memory().1;
    println!("known names: {known}\nmade-up names: {first}\nmade-up names again: {flood}");
    println!(
        "{} messages to the tracker, at most {} in a second",
        counting.seen(),
        counting.busiest_second()
    );
    println!("{} MiB of memory at most", most >> 20);
    for load in [&first, &known, &flood] {
        assert_eq!(load.wrong, 0, "{load}");
    }
    let answered = first.answered + known.answered + flood.answered;
    assert!(answered > 100_000, "{answered} answers in ten seconds");
    assert_eq!(known.refused, 0, "names that are in use: {known}");
    assert!(counting.seen() > BUDGET, "the tracker was asked {} times", counting.seen());
    assert!(most < mib(120), "{most} bytes of memory");

    // Every seeder that the tracker behind knows is named in the end.
    for (number, name) in names.iter().enumerate() {
        let wanted = (HERE, seeder_port(number as u8)).into();
        eventually("the seeder of a bound name", 60, async || {
            let ask = Ask { port: 999, ..Ask::new(*name, 999) }.from([127, 0, 0, 99]);
            // With 40 leechers of its own, each answer is a choice among them.
            ask.at(&url).await?.peers.contains(&wanted).then_some(())
        })
        .await;
    }
    let busiest = counting.busiest_second();
    assert!(busiest <= BUDGET, "{busiest} messages within a second");
    let all = bridge.json(["overlays", "--json"]).await;
    println!("{:?}", all.get("overlays").find("id", "a").expect("a").get("trackers"));
    bridge.program.assert_runs();
    assert!(bridge.terminate(15).await.success());
}

fn seeder_port(number: u8) -> u16 {
    600 + u16::from(number)
}

#[tokio::test]
async fn a_front_under_load_and_a_udp_tracker() {
    a_front_under_load("udp").await;
}

#[tokio::test]
async fn a_front_under_load_and_an_http_tracker() {
    a_front_under_load("http").await;
}

/// Inline, all announces are for the tracker behind. It gets what its budget allows; the others are answered from what the bridge knows,
/// or told when to come again.
async fn inline_under_load(kind: TrackerKind) {
    let _alone = ALONE.lock().await;
    let scene = Scene::new();
    let tracker = Tracker::start(&scene, kind, free_port(), &[]).await;
    let counting = Counting::before(tracker.port);
    let inline = OverlayConfig::inline("b", &[kind.url(counting.port)])
        .with_terms(TERMS)
        .with_budget(BUDGET as u32);
    let (target, url) = (server(&inline), inline.http());
    let mut config = Config::of(&scene, OverlayConfig::front("a"), inline);
    config.routes.clear();
    config.log = "info";
    let mut bridge = Bridge::start(&scene, &config).await;
    let mut load = HttpLoad::new(target, Plan::numbered(200, 20));
    load.expect = Some(Expect::Anybody(80));
    let report = spawn_blocking(move || load.run(6.0)).await.expect("the load");
    let most = bridge.memory().1;
    println!("{report}");
    println!(
        "{} messages to the tracker, at most {} in a second",
        counting.seen(),
        counting.busiest_second()
    );
    assert_eq!(report.wrong, 0, "{report}");
    assert!(report.answered > 1_000, "{report}");
    assert!(most < mib(120), "{most} bytes of memory");
    let busiest = counting.busiest_second();
    assert!(busiest <= BUDGET, "{busiest} messages within a second");
    assert!(counting.seen() > BUDGET, "the tracker was asked {} times", counting.seen());

    // A crowd at once, each alone in its swarm: there is nothing that the bridge could tell them.
    let mut shed = 0;
    let crowd: Vec<_> = (0..60_u8)
        .map(|number| {
            let url = url.clone();
            tokio::spawn(async move { Ask::new([number; 20], 4001).at(&url).await })
        })
        .collect();
    for asked in crowd {
        let told = asked.await.expect("a task").expect("an answer");
        if told.failure.is_some() {
            let minutes = told.retry_in.as_deref().and_then(|minutes| minutes.parse::<u32>().ok());
            assert!(minutes.is_some_and(|minutes| minutes >= 1), "BEP 31: {told:?}");
            shed += 1;
        }
    }
    assert!(shed > 0, "60 announces at once, and none too many");
    // When it is quiet, announces reach the tracker again.
    eventually("an announce that reaches the tracker", 20, async || {
        let ask = Ask::new([99; 20], 4099).from([127, 0, 0, 2]);
        ask.at(&url).await?;
        let told = Ask::new([99; 20], 4098).forwarded(&tracker.url()).await?;
        told.peers.contains(&([127, 0, 0, 2], 4099).into()).then_some(())
    })
    .await;
    assert!(counting.busiest_second() <= BUDGET);
    bridge.program.assert_runs();
    assert!(bridge.terminate(15).await.success());
}

#[tokio::test]
async fn inline_under_load_before_npm() {
    inline_under_load(TrackerKind::NpmProxied).await;
}

#[tokio::test]
async fn inline_under_load_before_aquatic() {
    inline_under_load(TrackerKind::AquaticProxied).await;
}

/// Announces for a million names that nobody has: memory keeps to its bound, and a swarm that was there before is there still.
#[tokio::test]
async fn a_million_made_up_names() {
    let _alone = ALONE.lock().await;
    let scene = Scene::new();
    let front = OverlayConfig::front("b").with_terms(TERMS);
    let (target, http, udp) = (server(&front), front.http(), front.udp());
    let mut config = Config::of(&scene, OverlayConfig::front("a"), front);
    config.routes.clear();
    config.log = "info";
    let mut bridge = Bridge::start(&scene, &config).await;
    let known = [0xaa; 20];
    for last in 2..=6 {
        let ask = Ask::new(known, 4000 + u16::from(last)).from([127, 0, 0, last]);
        ask.at(&http).await.expect("an answer");
    }
    let (mut asked, mut after) = (0, Vec::new());
    while asked < 1_000_000 && after.len() < 30 {
        let report = spawn_blocking(move || udp_flood(target, None, 2.0)).await.expect("a flood");
        assert_eq!(report.wrong, 0, "{report}");
        asked += report.answered + report.refused;
        after.push(bridge.memory().0);
    }
    println!("{asked} names, memory after each two seconds: {after:?}");
    assert!(asked >= 1_000_000, "{asked} names in a minute");
    let (first, last) = (after[0], after[after.len() - 1]);
    assert!(last < first + mib(8), "memory grows: {after:?}");
    assert!(bridge.memory().1 < mib(80), "{:?}", bridge.memory());
    let told = Ask::new(known, 4001).at(&udp).await.expect("an answer");
    assert_eq!(told.peers.len(), 5, "{told:?}");
    bridge.program.assert_runs();
    assert!(bridge.terminate(15).await.success());
}
