//! `p2p-bridge overlays`: how the overlays are doing, and what crosses between them.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal, Write as _},
    time::Duration,
};

use clap::Args;
use jiff::Timestamp;
use p2pbridge_proto::v1;
use serde_json::{Value, json};

use super::{
    client::{CliError, Client},
    names::print_json,
    table::{Table, exact, grouped, plain, size},
};
use crate::{
    grpc::Snapshot,
    status::{export::time_text, ledger::micros},
};

/// Home, and clear to the end.
const REPAINT: &str = "\x1b[H\x1b[2J";
const AGAIN: Duration = Duration::from_secs(1);

/// What to show of the overlays.
#[derive(Debug, Args)]
pub struct OverlaysArgs {
    /// Shows it again each second, until interrupted
    #[arg(long)]
    watch: bool,
}

/// Shows it.
///
/// # Errors
/// When no bridge answers.
pub async fn run(args: OverlaysArgs, endpoint: &str, json: bool) -> Result<(), CliError> {
    let mut client = Client::connect(endpoint).await?;
    if !args.watch {
        let answer = client.status().list_overlays(v1::ListOverlaysRequest {}).await;
        let v1::ListOverlaysResponse { overlays, crossings, alarms } =
            answer.map_err(|status| client.explain(&status))?.into_inner();
        return show(&Snapshot { overlays, crossings, alarms }, json, false);
    }
    let repaint = io::stdout().is_terminal() && !json;
    loop {
        let watch = client.status().watch(v1::WatchRequest { interval: None }).await;
        let mut states = watch.map_err(|status| client.explain(&status))?.into_inner();
        while let Ok(Some(state)) = states.message().await {
            let v1::WatchResponse { overlays, crossings, alarms } = state;
            show(&Snapshot { overlays, crossings, alarms }, json, repaint)?;
        }
        // The bridge ends old connections now and then; when it is gone, connecting says so.
        tokio::time::sleep(AGAIN).await;
        client = Client::connect(endpoint).await?;
    }
}

fn show(snapshot: &Snapshot, json: bool, repaint: bool) -> Result<(), CliError> {
    if json {
        return print_json(&snapshot_json(snapshot));
    }
    let mut text = if repaint { REPAINT.to_owned() } else { String::new() };
    text.push_str(&snapshot_text(snapshot, Timestamp::now()));
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// The whole state as people read it. Writing to a string does not fail.
fn snapshot_text(snapshot: &Snapshot, now: Timestamp) -> String {
    let mut text = String::new();
    if snapshot.overlays.is_empty() {
        text.push_str("no overlay is configured: see `p2p-bridge check-config --print-default`\n");
    }
    for overlay in &snapshot.overlays {
        let _ = writeln!(
            text,
            "{} ({}, {}): {}",
            plain(&overlay.id),
            plain(&overlay.protocol),
            plain(&overlay.mode),
            health(overlay.health())
        );
        for tracker in &overlay.trackers {
            let _ = writeln!(text, "  tracker {}", tracker_text(tracker, now));
        }
        if !overlay.endpoints.is_empty() {
            let _ = writeln!(text, "  peers reach the bridge at {}", overlay.endpoints.join(", "));
        }
        if let Some(server) = &overlay.tracker_server {
            let _ = writeln!(text, "  {}", server_text(server));
        }
        if overlay.bad_input.iter().any(|bad| bad.count > 0) {
            let _ = writeln!(text, "  {}", bad_input_text(&overlay.bad_input));
        }
        text.push_str(&swarms(&overlay.swarms).text("  "));
        for swarm in overlay.swarms.iter().filter(|swarm| !swarm.trouble.is_empty()) {
            let _ = writeln!(text, "  ! {}: {}", plain(&swarm.title), plain(&swarm.trouble));
        }
        text.push('\n');
    }
    let headings = ["CROSSING", "FETCHED", "VERIFIED", "REJECTED", "SERVED", "NOW"];
    let mut table = Table::new(headings, &[1, 2, 3, 4, 5]);
    for crossing in &snapshot.crossings {
        table.row([
            format!("{} → {}", crossing.from_overlay, crossing.to_overlay),
            exact(crossing.fetched_bytes),
            exact(crossing.verified_bytes),
            exact(crossing.rejected_bytes),
            exact(crossing.served_bytes),
            format!("{}/s", size(crossing.served_per_second)),
        ]);
    }
    text.push_str(&table.text(""));
    for alarm in &snapshot.alarms {
        let _ = writeln!(text, "ALARM: {}", plain(alarm));
    }
    text
}

fn swarms(swarms: &[v1::SwarmStatus]) -> Table {
    let headings =
        ["NAME", "TITLE", "SEEDERS", "LEECHERS", "SOURCES", "SERVED", "HELD", "OF", "ANNOUNCED"];
    let mut table = Table::new(headings, &[2, 3, 4, 5, 6, 7]);
    let count =
        |count: Option<u32>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
    for swarm in swarms {
        table.row([
            swarm.name.clone(),
            swarm.title.clone(),
            count(swarm.seeders),
            count(swarm.leechers),
            swarm.sources.to_string(),
            swarm.served_peers.to_string(),
            size(swarm.held_bytes),
            size(swarm.length),
            if swarm.announced { "yes" } else { "no" }.to_owned(),
        ]);
    }
    table
}

fn tracker_text(tracker: &v1::TrackerStatus, now: Timestamp) -> String {
    let mut text = format!("{}: {}", plain(&tracker.url), health(tracker.health()));
    if tracker.last_answer_time.is_some() {
        let passed = now.as_microsecond().saturating_sub(micros(&tracker.last_answer_time));
        let _ = write!(text, ", answered {} s ago", passed.max(0) / 1_000_000);
    }
    if let Some(trip) = tracker.round_trip.and_then(|trip| Duration::try_from(trip).ok()) {
        let _ = write!(text, " in {} ms", trip.as_millis());
    }
    if !tracker.standing.is_empty() {
        let _ = write!(text, ", {}", plain(&tracker.standing));
    }
    for (count, what) in [(tracker.users, "users"), (tracker.contents, "contents")] {
        if let Some(count) = count {
            let _ = write!(text, ", {} {what}", grouped(count));
        }
    }
    if tracker.shed > 0 {
        let _ = write!(
            text,
            ", {} questions over its budget of {} a second",
            grouped(tracker.shed),
            tracker.budget_per_second
        );
    }
    if let Some(rest) = tracker.rest.and_then(|rest| Duration::try_from(rest).ok()) {
        let _ = write!(text, ", left alone for {} s", rest.as_secs_f64().ceil());
    }
    if tracker.consecutive_failures > 0 {
        let _ = write!(text, ", {} failures since", tracker.consecutive_failures);
    }
    if !tracker.last_error.is_empty() {
        let _ = write!(text, ": {}", plain(&tracker.last_error));
    }
    text
}

/// The bridge as a tracker, in a line.
fn server_text(server: &v1::TrackerServerStatus) -> String {
    let mut text = format!("the bridge is a tracker at {}: ", server.urls.join(", "));
    if let Some(sessions) = server.sessions {
        let _ = write!(text, "{} logged in, ", grouped(sessions));
    }
    let _ = write!(
        text,
        "{} swarms, {} peers; {} requests",
        grouped(server.swarms),
        grouped(server.peers),
        grouped(server.requests)
    );
    for (count, what) in
        [(server.refused, "refused"), (server.malformed, "malformed"), (server.shed, "shed")]
    {
        if count > 0 {
            let _ = write!(text, ", {} {what}", grouped(count));
        }
    }
    text
}

/// What was not taken, in a line.
fn bad_input_text(all: &[v1::BadInput]) -> String {
    let some = all.iter().filter(|bad| bad.count > 0);
    let some = some.map(|v1::BadInput { sender, flaw, count }| {
        format!("{} {} from a {}", grouped(*count), plain(flaw), plain(sender))
    });
    format!("not taken: {}", some.collect::<Vec<_>>().join(", "))
}

fn health(health: v1::Health) -> &'static str {
    match health {
        v1::Health::Unspecified => "unknown",
        v1::Health::Up => "up",
        v1::Health::Degraded => "degraded",
        v1::Health::Down => "down",
    }
}

fn seconds(time: Option<prost_types::Duration>) -> Option<f64> {
    time.and_then(|time| Duration::try_from(time).ok()).map(|time| time.as_secs_f64())
}

fn snapshot_json(snapshot: &Snapshot) -> Value {
    let tracker = |tracker: &v1::TrackerStatus| {
        json!({
            "url": tracker.url,
            "health": health(tracker.health()),
            "last_answer_time": time_text(&tracker.last_answer_time),
            "round_trip_seconds": seconds(tracker.round_trip),
            "consecutive_failures": tracker.consecutive_failures,
            "last_error": tracker.last_error,
            "answered_share": tracker.answered_share,
            "rest_seconds": seconds(tracker.rest),
            "budget_per_second": tracker.budget_per_second,
            "budget_in_flight": tracker.budget_in_flight,
            "sent": tracker.sent,
            "shed": tracker.shed,
            "standing": tracker.standing,
            "users": tracker.users,
            "contents": tracker.contents,
        })
    };
    let server = |server: &v1::TrackerServerStatus| {
        json!({
            "urls": server.urls,
            "swarms": server.swarms,
            "peers": server.peers,
            "requests": server.requests,
            "answered": server.answered,
            "refused": server.refused,
            "malformed": server.malformed,
            "shed": server.shed,
            "sessions": server.sessions,
        })
    };
    let bad_input = |all: &[v1::BadInput]| {
        let mut senders = serde_json::Map::new();
        for v1::BadInput { sender, flaw, count } in all {
            let flaws = senders.entry(sender.clone()).or_insert_with(|| json!({}));
            if let Some(flaws) = flaws.as_object_mut() {
                flaws.insert(flaw.clone(), (*count).into());
            }
        }
        senders
    };
    let swarm = |swarm: &v1::SwarmStatus| {
        json!({
            "name": swarm.name,
            "title": swarm.title,
            "seeders": swarm.seeders,
            "leechers": swarm.leechers,
            "sources": swarm.sources,
            "served_peers": swarm.served_peers,
            "length": swarm.length,
            "held_bytes": swarm.held_bytes,
            "announced": swarm.announced,
            "trouble": swarm.trouble,
        })
    };
    let overlay = |overlay: &v1::OverlayStatus| {
        json!({
            "id": overlay.id,
            "protocol": overlay.protocol,
            "mode": overlay.mode,
            "health": health(overlay.health()),
            "trackers": overlay.trackers.iter().map(tracker).collect::<Vec<_>>(),
            "swarms": overlay.swarms.iter().map(swarm).collect::<Vec<_>>(),
            "endpoints": overlay.endpoints,
            "tracker_server": overlay.tracker_server.as_ref().map(server),
            "bad_input": bad_input(&overlay.bad_input),
        })
    };
    let crossing = |crossing: &v1::Crossing| {
        json!({
            "from_overlay": crossing.from_overlay,
            "to_overlay": crossing.to_overlay,
            "fetched_bytes": crossing.fetched_bytes,
            "verified_bytes": crossing.verified_bytes,
            "rejected_bytes": crossing.rejected_bytes,
            "served_bytes": crossing.served_bytes,
            "served_per_second": crossing.served_per_second,
        })
    };
    json!({
        "overlays": snapshot.overlays.iter().map(overlay).collect::<Vec<_>>(),
        "crossings": snapshot.crossings.iter().map(crossing).collect::<Vec<_>>(),
        "alarms": snapshot.alarms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_an_operator_looks_for_is_shown() {
        let tracker = v1::TrackerStatus {
            url: "http://t.example/announce".to_owned(),
            health: v1::Health::Down.into(),
            last_answer_time: Some(prost_types::Timestamp { seconds: 1000, nanos: 0 }),
            consecutive_failures: 3,
            last_error: "refused".to_owned(),
            rest: Some(prost_types::Duration { seconds: 14, nanos: 1 }),
            budget_per_second: 10,
            shed: 12_345,
            standing: "low id: nobody can connect to it".to_owned(),
            users: Some(1_000),
            contents: Some(2_000_000),
            ..Default::default()
        };
        let swarm = v1::SwarmStatus {
            name: "urn:btih:77".to_owned(),
            title: "film".to_owned(),
            seeders: Some(4),
            length: 1 << 20,
            trouble: "no source".to_owned(),
            ..Default::default()
        };
        let overlay = v1::OverlayStatus {
            id: "a".to_owned(),
            protocol: "bittorrent".to_owned(),
            mode: "presence".to_owned(),
            trackers: vec![tracker],
            swarms: vec![swarm],
            tracker_server: Some(v1::TrackerServerStatus {
                urls: vec!["udp://127.0.0.1:6969/announce".to_owned()],
                swarms: 2,
                peers: 1_000_000,
                requests: 7,
                malformed: 1,
                sessions: Some(12),
                ..Default::default()
            }),
            bad_input: [("peer", 0), ("peer", 1_200), ("tracker", 3)]
                .map(|(sender, count)| v1::BadInput {
                    sender: sender.to_owned(),
                    flaw: if count == 0 { "silent" } else { "malformed" }.to_owned(),
                    count,
                })
                .to_vec(),
            ..Default::default()
        };
        let crossing = v1::Crossing {
            from_overlay: "a".to_owned(),
            to_overlay: "b".to_owned(),
            verified_bytes: 1 << 30,
            served_per_second: 2048,
            ..Default::default()
        };
        let snapshot = Snapshot {
            overlays: vec![overlay],
            crossings: vec![crossing],
            alarms: vec!["full disk".to_owned()],
        };
        let text = snapshot_text(&snapshot, Timestamp::from_second(1005).unwrap());
        for part in [
            "a (bittorrent, presence): unknown",
            "http://t.example/announce: down, answered 5 s ago, low id: nobody can connect to it, 1,000 users, 2,000,000 contents, \
             12,345 questions over its budget of 10 a second, left alone for 15 s, 3 failures since: refused",
            "the bridge is a tracker at udp://127.0.0.1:6969/announce: 12 logged in, 2 swarms, 1,000,000 peers; \
             7 requests, 1 malformed",
            "not taken: 1,200 malformed from a peer, 3 malformed from a tracker\n",
            "film",
            "! film: no source",
            "a → b",
            "1.00 GiB (1,073,741,824 bytes)",
            "2.00 KiB/s",
            "ALARM: full disk",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        let json = snapshot_json(&snapshot);
        assert_eq!(json["crossings"][0]["verified_bytes"], 1 << 30);
        let bad = json!({"peer": {"silent": 0, "malformed": 1200}, "tracker": {"malformed": 3}});
        assert_eq!(json["overlays"][0]["bad_input"], bad);
    }
}
