//! What must be true of the bridge's own account after something has crossed.

use std::collections::{BTreeMap, BTreeSet};

use crate::wait::eventually;
use crate::{Bridge, Json, Torrent, World, parse_csv, parse_jsonl};

/// All usage records, as JSON lines.
pub async fn usage(bridge: &Bridge) -> Vec<Json> {
    parse_jsonl(&bridge.must(["usage", "export", "--format", "jsonl"]).await)
}

/// The permanent identity of a record.
#[must_use]
pub fn record_id(record: &Json) -> (String, String, u64, u64) {
    let text = |key: &str| record.get(key).text();
    (
        text("operator"),
        text("bridge"),
        record.get("boot_epoch").number(),
        record.get("seq").number(),
    )
}

/// The sum of a column.
#[must_use]
pub fn sum(records: &[Json], column: &str) -> u64 {
    records.iter().map(|record| record.get(column).number()).sum()
}

/// One end of a flow: an overlay, and what the content is called in it.
#[derive(Clone, Debug)]
pub struct End {
    /// The overlay's id.
    pub overlay: String,
    /// URNs, any of which the ledger may use.
    pub urns: Vec<String>,
    /// The title.
    pub title: String,
}

impl From<(&str, &Torrent)> for End {
    fn from((overlay, torrent): (&str, &Torrent)) -> Self {
        let (overlay, title) = (overlay.to_owned(), torrent.name.clone());
        Self { overlay, urns: torrent.urns(), title }
    }
}

/// Waits until the ledger says that `bytes` went from one end to another; then checks that JSON lines and CSV say the same, that no
/// record is doubled, that the windows of a transfer join without a hole, and that next to nothing came in vain. Gives the records.
pub async fn check_flow(
    bridge: &Bridge,
    from: impl Into<End>,
    to: impl Into<End>,
    bytes: u64,
    agreement: &str,
) -> Vec<Json> {
    let (from, to) = (from.into(), to.into());
    let of_flow = |record: &Json| {
        record.get("source_overlay").text() == from.overlay
            && record.get("destination_overlay").text() == to.overlay
            && from.urns.contains(&record.get("source_name").text())
            && to.urns.contains(&record.get("destination_name").text())
    };
    let select =
        |records: Vec<Json>| -> Vec<Json> { records.into_iter().filter(of_flow).collect() };
    let records = eventually("the ledger having it all", 15, async || {
        let all = usage(bridge).await;
        let records = select(all.clone());
        let told = (sum(&records, "bytes_verified"), sum(&records, "bytes_served"));
        assert!(told.0 <= bytes, "{} of {bytes} bytes verified: {all:?}", told.0);
        (told.0 == bytes && told.1 >= bytes).then_some(records)
    })
    .await;
    let wire = sum(&records, "bytes_wire");
    assert!(wire * 100 <= bytes * 101, "{wire} bytes came for {bytes}");
    for record in &records {
        assert_eq!(record.get("agreement").text(), agreement, "{record:?}");
        assert_eq!(record.get("operator").text(), "test", "{record:?}");
        assert_eq!(record.get("bridge").text(), "b1", "{record:?}");
        assert_eq!(record.get("title").text(), to.title, "{record:?}");
    }
    check_chains(&records);

    let csv = select(parse_csv(&bridge.must(["usage", "export", "--format", "csv"]).await));
    for column in ["bytes_verified", "bytes_wire", "bytes_rejected", "chunks"] {
        assert_eq!(sum(&csv, column), sum(&records, column), "{column} in CSV and in JSON lines");
    }
    records
}

/// No identity twice; within a transfer each record begins where the one before ended.
pub fn check_chains(records: &[Json]) {
    let ids: BTreeSet<_> = records.iter().map(record_id).collect();
    assert_eq!(ids.len(), records.len(), "record ids");
    let mut ends = BTreeMap::new();
    for record in records {
        let (start, end) =
            (record.get("counter_start").number(), record.get("counter_end").number());
        let before = ends.insert(record.get("transfer_id").text(), end).unwrap_or_default();
        assert_eq!(start, before, "{record:?}");
        assert_eq!(end - start, record.get("bytes_verified").number(), "{record:?}");
    }
}

/// Checks that `overlays` shows both overlays, their trackers up, the sizes of their swarms, and `bytes` that crossed.
pub async fn check_overlays(bridge: &Bridge, world: &World, bytes: u64) {
    let all = bridge.json(["overlays", "--json"]).await;
    for place in [&world.a, &world.b] {
        let overlay = all.get("overlays").find("id", &place.id);
        let overlay = overlay.unwrap_or_else(|| panic!("no overlay {}: {all:?}", place.id));
        assert_eq!(overlay.get("protocol").text(), "bittorrent", "{overlay:?}");
        let tracker = overlay.get("trackers").find("url", &place.tracker.url());
        let tracker =
            tracker.unwrap_or_else(|| panic!("no tracker {}: {overlay:?}", place.tracker.url()));
        assert!(is_up(&tracker.get("health")), "{tracker:?}");
        assert!(is_up(&overlay.get("health")), "{overlay:?}");
        let swarms = overlay.get("swarms").items();
        let swarm =
            swarms.iter().find(|swarm| place.torrent.urns().contains(&swarm.get("name").text()));
        let swarm =
            swarm.unwrap_or_else(|| panic!("no swarm {:?}: {overlay:?}", place.torrent.urns()));
        assert!(swarm.get("length").number() >= bytes, "{swarm:?}");
        // As the tracker said when it was last asked: of A's seeder it knew before the bridge came.
        let known = !swarm.get("seeders").0.is_null() && !swarm.get("leechers").0.is_null();
        assert!(known && swarm.get("announced").0 == true, "the swarm's size: {swarm:?}");
        assert!(place.id != "a" || swarm.get("seeders").number() >= 1, "{swarm:?}");
    }
    let crossing = crossing(&all, "a", "b");
    assert!(crossing.get("verified_bytes").number() >= bytes, "{crossing:?}");
    assert!(crossing.get("served_bytes").number() >= bytes, "{crossing:?}");
}

/// What crosses from one overlay to another, in the answer of `overlays --json`; null, whose numbers are 0, when nothing has.
#[must_use]
pub fn crossing(overlays: &Json, from: &str, to: &str) -> Json {
    let of = |item: &Json| {
        item.get("from_overlay").text() == from && item.get("to_overlay").text() == to
    };
    overlays.get("crossings").items().into_iter().find(of).unwrap_or(Json(serde_json::Value::Null))
}

/// Whether a health says up, as a word or as protobuf's name or number.
#[must_use]
pub fn is_up(health: &Json) -> bool {
    let text = health.text().to_lowercase();
    text == "up" || text == "health_up" || health.0.as_u64() == Some(1)
}
