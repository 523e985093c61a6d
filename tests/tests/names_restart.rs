//! What is known of names when the bridge has ended, in whatever way, and runs again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use p2pbridge_proto::{Name, Scheme};
use p2pbridge_tests::{
    Bridge, Film, Launch, NAME_SERVICE as NAMES, Scene, bridge_alone, grpcio, name_rows,
    venv_python, within,
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::ChildStdout;

fn name(scheme: Scheme, number: u8) -> Name {
    Name::new(scheme, &vec![number; scheme.digest_len()]).expect("a name")
}

/// What was bound and what came in lists is there after a restart: the names, with who, when and how.
#[tokio::test]
async fn all_is_there_after_a_restart() {
    let scene = Scene::new();
    let (mut bridge, film) = (bridge_alone(&scene).await, Film::new(&scene).await);
    film.publish(&bridge).await;
    let (strong, weak) = (name(Scheme::Sha256, 1), name(Scheme::Ed2k, 1));
    let requests = json!([
        {"rows": [{"names": name_rows(&[strong]), "length": 7, "title": "seven"}], "source": "one.csv"},
        {"rows": [{"names": name_rows(&[strong, weak]), "evidence": "EVIDENCE_HINT"}], "source": "two.csv"},
    ]);
    grpcio(&bridge, json!([[NAMES, "ImportNames", requests]])).await;
    let all = film.names.iter().chain([&strong, &weak]);
    let asked: Vec<Value> =
        all.map(|name| json!([NAMES, "Resolve", {"name": name.to_string()}])).collect();
    let before = grpcio(&bridge, json!(asked)).await;
    let known = before[before.len() - 1].get("contents").items()[0].get("names").items();
    let told: Vec<(String, bool)> = known
        .iter()
        .map(|known| (known.get("evidence").text(), known.get("stated_by").text()))
        .map(|(evidence, by)| (evidence, by.contains("one.csv")))
        .collect();
    assert!(told.contains(&("EVIDENCE_ATTESTED".to_owned(), true)), "{told:?}");
    assert!(told.contains(&("EVIDENCE_HINT".to_owned(), false)), "{told:?}");

    for kill in [false, true] {
        match kill {
            true => bridge.kill9().await,
            false => assert!(bridge.terminate(20).await.success()),
        }
        let config = bridge.config.clone();
        bridge = Bridge::start(&scene, &config).await;
        let after = grpcio(&bridge, json!(asked)).await;
        for (asked, (before, after)) in asked.iter().zip(before.iter().zip(after)) {
            assert!(*before == after, "killed: {kill}: {asked}: {after:?}");
        }
    }
}

/// What has been acknowledged of a list is there after the bridge was killed in the middle of it.
#[tokio::test]
async fn killed_in_the_middle_of_a_list() {
    const ROWS: u64 = 500;
    let scene = Scene::new();
    let mut bridge = bridge_alone(&scene).await;
    let config = bridge.config.clone();
    let mut most = 0;
    for round in 1..=3 {
        let mut import = rows_program(&bridge, "import", ROWS).talk().start(&scene);
        let (_stdin, stdout) = import.take_pipes();
        let goal = most + 10 * ROWS;
        let told = within("acknowledged rows", 60, acknowledged(stdout, goal, &mut bridge)).await;
        assert!(told >= goal, "round {round}: {told} rows");
        most = most.max(told);
        import.ended(20).await;
        bridge = Bridge::start(&scene, &config).await;
        let mut look = rows_program(&bridge, "look", most).start(&scene);
        assert!(look.ended(60).await.success(), "{}", look.said());
        assert_eq!(
            look.said().trim(),
            format!("{most} of {most} whole; 0 in part"),
            "round {round}"
        );
    }
}

fn rows_program(bridge: &Bridge, what: &str, rows: u64) -> Launch {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/programs/import_rows.py");
    Launch::new(&format!("rows-{what}"), venv_python()).args([
        program,
        &bridge.grpc_target(),
        what,
        &rows.to_string(),
    ])
}

/// Reads until so many rows are acknowledged, kills the bridge, and reads what had been acknowledged until then.
async fn acknowledged(stdout: ChildStdout, goal: u64, bridge: &mut Bridge) -> u64 {
    let (mut lines, mut most, mut killed) = (BufReader::new(stdout).lines(), 0, false);
    while let Some(line) = lines.next_line().await.expect("its output") {
        if let Ok(rows) = line.parse() {
            most = rows;
        }
        if most >= goal && !killed {
            bridge.kill9().await;
            killed = true;
        }
    }
    most
}
