//! Prints what the bridge costs as a tracker, beside the programs that are best at the same work, in the same run.
//!
//! `cargo run --release -p p2pbridge-tests --example tracker_figures -- [udp|http|inline|memory|scale|all] [ROUNDS]` after
//! `./tests/run`; `all` and 5 rounds when not said. The programs take turns in every round; medians are printed. With two cores the
//! program that is measured has one of them to itself, and whoever asks it has the other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it ends with what went wrong"
)]

mod servers;

use p2pbridge_tests::Scene;
use p2pbridge_tests::load::http::HttpLoad;
use p2pbridge_tests::load::udp::UdpLoad;
use p2pbridge_tests::load::{Expect, Plan, Report, pin_to};
use servers::{
    Sample, Server, answer_canned, aquatic_udp, build_missing, canned, cheap_tracker, front,
    inline, length_of_answer, nginx_proxy, nginx_return,
};

/// How long each program is asked in each round.
const SECONDS: f64 = 4.0;
/// Announces a second over UDP when it is not as fast as answers come.
const PACE: f64 = 50_000.0;
/// Announces a second through a proxy.
const PROXIED: f64 = 2_000.0;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let what = args.first().map_or("all", String::as_str);
    if what == "canned" {
        answer_canned(args[1].parse().expect("a port"));
        return;
    }
    let rounds: usize = args.get(1).map_or(5, |text| text.parse().expect("rounds"));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    assert!(cores > 1, "two cores are needed: one for who asks, one for who answers");
    build_missing();
    pin_to(1);
    println!("{cores} cores, {rounds} rounds of {SECONDS} s, medians");
    let all = what == "all";
    let mut known = all;
    if all || what == "udp" {
        udp(rounds).await;
        known = true;
    }
    if all || what == "http" {
        http(rounds).await;
        known = true;
    }
    if all || what == "inline" {
        proxied(rounds).await;
        known = true;
    }
    if all || what == "memory" {
        memory(rounds).await;
        known = true;
    }
    if all || what == "scale" {
        scale(rounds).await;
        known = true;
    }
    assert!(known, "udp, http, inline, memory, scale or all, not {what}");
}

/// The front over UDP beside `aquatic_udp`.
async fn udp(rounds: usize) {
    let scene = Scene::new();
    let plan = Plan::numbered(10_000, 50);
    let servers = [canned(&scene), aquatic_udp(&scene), front(&scene).await];
    let load = |server: &Server, rate: Option<f64>| {
        let mut load = UdpLoad::new(server.at, plan.clone());
        load.rate = rate;
        if server.label.starts_with("canned") {
            load.expect = Expect::Anybody(30);
        }
        load
    };
    for server in &servers[1..] {
        let report = load(server, None).fill(120);
        println!(
            "{}: filled with {} peers, {:.0}/s",
            server.label,
            report.answered,
            report.per_second()
        );
    }
    for rate in [None, Some(PACE)] {
        let pace = rate.map_or("as fast as answers come".into(), |rate| format!("{rate} a second"));
        let title = format!("UDP, 10,000 torrents of 50 peers, 30 peers an answer, {pace}");
        let refs: Vec<&Server> = servers.iter().collect();
        take_turns(&title, rounds, &refs, |server| load(server, rate).run(SECONDS));
    }
}

/// The front over HTTP beside nginx with an answer of the same length.
async fn http(rounds: usize) {
    let scene = Scene::new();
    let plan = Plan::numbered(10_000, 50);
    let front = front(&scene).await;
    let _ = UdpLoad::new(front.at, plan.clone()).fill(120);
    // As the first peer of the first swarm, which is there already.
    let percent = |bytes: [u8; 20]| bytes.map(|byte| format!("%{byte:02x}")).concat();
    let path = format!(
        "/announce?info_hash={}&peer_id={}&port={}&left={}&compact=1&numwant=30",
        percent(plan.name(0)),
        percent(plan.peer_id(0, 0)),
        plan.port(0, 0),
        plan.left(0)
    );
    let length = length_of_answer(front.at, &path);
    let nginx = nginx_return(&scene, length).await;
    let title = format!(
        "HTTP, kept open, 32 connections, 10,000 torrents of 50 peers, {length} bytes an answer"
    );
    take_turns(&title, rounds, &[&nginx, &front], |server| {
        let mut load = HttpLoad::new(server.at, plan.clone());
        if server.label.starts_with("nginx") {
            load.expect = None;
        }
        load.run(SECONDS)
    });
}

/// The bridge before a tracker, beside nginx before the same tracker.
async fn proxied(rounds: usize) {
    let scene = Scene::new();
    let tracker = cheap_tracker(&scene).await;
    let nginx = nginx_proxy(&scene, tracker.at).await;
    let inline = inline(&scene, tracker.at).await;
    let load = |server: &Server, rate: Option<f64>| {
        let mut load = HttpLoad::new(server.at, Plan::numbered(1_000, 50_000));
        load.expect = Some(Expect::Anybody(30));
        load.rate = rate;
        let report = load.run(SECONDS);
        let mean = report.peers as f64 / report.answered.max(1) as f64;
        assert!(mean > 29.0, "{}: {mean} peers an answer", server.label);
        report
    };
    let title = "HTTP to a tracker that costs nearly nothing, kept open, 32 connections, 1,000 torrents of 50,000 peers, of whom nearly every one comes for the first time";
    take_turns(
        &format!("{title}, as fast as answers come"),
        rounds,
        &[&nginx, &inline],
        |server| load(server, None),
    );
    take_turns(
        &format!("{title}, {PROXIED} a second"),
        rounds,
        &[&tracker, &nginx, &inline],
        |server| load(server, Some(PROXIED)),
    );
}

/// Memory of 100,000 torrents with 1,000,000 peers.
async fn memory(rounds: usize) {
    let plan = Plan::numbered(100_000, 10);
    println!("\nMemory with 100,000 torrents of 10 peers, filled over UDP\n");
    println!("| program | empty MB | full MB | bytes a peer | peak MB |\n|---|---|---|---|---|");
    let mut full = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (at, full) in full.iter_mut().enumerate() {
            let scene = Scene::new();
            let server = if at == 0 { aquatic_udp(&scene) } else { front(&scene).await };
            let load = UdpLoad::new(server.at, plan.clone());
            // Once it has answered it is up, and no swarm is there.
            let one = Plan { want: 1, ..Plan::numbered(1, 1) };
            let _ = UdpLoad { plan: one, ..load.clone() }.fill(20);
            let empty = server.cost();
            let _ = load.fill(120);
            let _ = load.run(1.0);
            let cost = server.cost();
            let mb = |bytes: u64| bytes as f64 / 1e6;
            println!(
                "| {} | {:.1} | {:.1} | {:.0} | {:.1} |",
                server.label,
                mb(empty.resident),
                mb(cost.resident),
                (cost.resident - empty.resident) as f64 / 1e6,
                mb(cost.peak)
            );
            full.push(mb(cost.resident));
        }
    }
    let [theirs, ours] = full.map(median);
    println!(
        "\nmedian: p2p-bridge {ours:.1} MB ÷ aquatic_udp {theirs:.1} MB = {:.2}",
        ours / theirs
    );
}

/// Cost of an announce from a hundred to a million torrents.
async fn scale(rounds: usize) {
    println!("\nUDP, torrents of 4 peers: processor time of an answer in µs, answers a second\n");
    println!("| torrents | aquatic_udp | p2p-bridge | ratio |\n|---|---|---|---|");
    for torrents in [100, 1_000, 10_000, 100_000, 1_000_000] {
        let plan = Plan::numbered(torrents, 4);
        let scene = Scene::new();
        let servers = [aquatic_udp(&scene), front(&scene).await];
        let loads = servers.each_ref().map(|server| {
            let load = UdpLoad { sockets: 4, window: 64, ..UdpLoad::new(server.at, plan.clone()) };
            let _ = load.fill(240);
            load
        });
        let mut samples = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for at in 0..2 {
                samples[at].push(servers[at].under(|| loads[at].run(SECONDS / 2.0)));
            }
        }
        let [theirs, ours] = samples.map(|all| middle(&all));
        println!(
            "| {torrents} | {:.2} ({:.0}/s) | {:.2} ({:.0}/s) | {:.2} |",
            theirs.cpu_us,
            theirs.per_second,
            ours.cpu_us,
            ours.per_second,
            ours.cpu_us / theirs.cpu_us
        );
    }
}

/// Asks each program in each round, and prints the medians, and their ratios to those of the first but one in the list.
fn take_turns(title: &str, rounds: usize, servers: &[&Server], run: impl Fn(&Server) -> Report) {
    let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); servers.len()];
    for round in 0..rounds {
        for (server, samples) in servers.iter().zip(&mut samples) {
            let sample = server.under(|| run(server));
            eprintln!("round {}: {}: {}", round + 1, server.label, cells(sample));
            samples.push(sample);
        }
    }
    // The bridge is the last, and who it is measured against stands before it.
    let other = middle(&samples[servers.len() - 2]);
    println!("\n{title}\n");
    println!(
        "| program | CPU µs an answer | answers a second | p50 µs | p99 µs | CPU ratio | throughput ratio | p50 added µs |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let first = middle(&samples[0]);
    for (server, samples) in servers.iter().zip(&samples) {
        let sample = middle(samples);
        println!(
            "| {} | {} | {:.2} | {:.2} | {:.0} |",
            server.label,
            cells(sample),
            sample.cpu_us / other.cpu_us,
            sample.per_second / other.per_second,
            sample.p50_us - first.p50_us
        );
    }
}

fn cells(sample: Sample) -> String {
    let Sample { cpu_us, per_second, p50_us, p99_us } = sample;
    format!("{cpu_us:.2} | {per_second:.0} | {p50_us:.0} | {p99_us:.0}")
}

fn middle(samples: &[Sample]) -> Sample {
    let of = |field: fn(&Sample) -> f64| median(samples.iter().map(field).collect());
    Sample {
        cpu_us: of(|sample| sample.cpu_us),
        per_second: of(|sample| sample.per_second),
        p50_us: of(|sample| sample.p50_us),
        p99_us: of(|sample| sample.p99_us),
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
