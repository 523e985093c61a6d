//! Lists of names: in and out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;

use data_encoding::BASE64;
use p2pbridge_proto::{Name, Scheme};
use p2pbridge_tests::{
    Json, NAME_SERVICE as NAMES, Scene, bridge_alone, exported, grpcio, name_row, name_rows,
};
use serde_json::json;

fn name(scheme: Scheme, number: u8) -> Name {
    Name::new(scheme, &vec![number; scheme.digest_len()]).expect("a name")
}

/// A list comes in request by request; rows that are wrong are named, and do not hold up the others. What goes out is what came in.
#[tokio::test]
async fn lists_go_in_and_out() {
    let scene = Scene::new();
    let bridge = bridge_alone(&scene).await;
    let good = |number: u8| {
        let names =
            [name(Scheme::Ed2k, number), name(Scheme::Tth, number), name(Scheme::Sha256, number)];
        json!({"names": name_rows(&names), "length": 1000 + u64::from(number), "title": format!("häß {number}")})
    };
    let requests = json!([
        {"rows": [good(1), good(2)], "source": "one.csv"},
        {"rows": [
            good(2),
            {"names": [{"scheme": "SCHEME_TTH", "digest": BASE64.encode(&[1; 20])}]},
            {"names": []},
            {"names": [name_row(&name(Scheme::Sha1, 9))], "evidence": "EVIDENCE_VERIFIED"},
            {"names": name_rows(&[name(Scheme::Sha1, 3), name(Scheme::Ed2k, 1)]), "evidence": "EVIDENCE_HINT"},
            {"names": name_rows(&[name(Scheme::Sha256, 1)]), "length": 7},
            good(4),
        ]},
    ]);
    let answers = grpcio(&bridge, json!([[NAMES, "ImportNames", requests]])).await;
    let answers = answers[0].items();
    assert_eq!(answers.len(), 2, "{answers:?}");
    let told = |answer: &Json| {
        let refused: Vec<u64> = answer
            .get("refused")
            .items()
            .iter()
            .map(|refused| refused.get("row").number())
            .collect();
        let number = |key: &str| answer.get(key).number();
        (number("created"), number("extended"), number("known"), refused)
    };
    assert_eq!(told(&answers[0]), (2, 0, 0, vec![]), "{:?}", answers[0]);
    assert_eq!(told(&answers[1]), (1, 1, 1, vec![1, 2, 3, 5]), "{:?}", answers[1]);
    for refused in answers[1].get("refused").items() {
        assert_ne!(refused.get("reason").text(), "");
    }

    let three = |number| {
        BTreeSet::from(
            [Scheme::Ed2k, Scheme::Tth, Scheme::Sha256].map(|scheme| name(scheme, number)),
        )
    };
    let mut first = three(1);
    first.insert(name(Scheme::Sha1, 3));
    let wanted = vec![
        (1001, "häß 1".to_owned(), first),
        (1002, "häß 2".to_owned(), three(2)),
        (1004, "häß 4".to_owned(), three(4)),
    ];
    assert_eq!(exported(&bridge).await, wanted);
}
