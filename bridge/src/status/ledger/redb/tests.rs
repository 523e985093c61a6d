use std::sync::Arc;

use p2pbridge_proto::Name;
use proptest::prelude::*;

use super::*;
use crate::status::meter::{Meter, TransferKey};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn open(path: &Path, now: i64) -> RedbLedger {
    RedbLedger::open(path, "op", "br", at(now)).unwrap()
}

fn record(transfer: &str, from: i64, to: i64, verified: u64) -> v1::UsageRecord {
    v1::UsageRecord {
        kind: v1::UsageKind::Delta.into(),
        transfer_id: transfer.to_owned(),
        source_overlay: "a".to_owned(),
        destination_overlay: "b".to_owned(),
        bytes_verified: verified,
        window_start: Some(proto_time(at(from))),
        window_end: Some(proto_time(at(to))),
        ..v1::UsageRecord::default()
    }
}

fn entry(records: Vec<v1::UsageRecord>) -> Entry {
    Entry { records, ..Entry::default() }
}

fn all(ledger: &RedbLedger) -> Vec<v1::UsageRecord> {
    ledger.scan(&Filter::default(), None, usize::MAX).unwrap().records
}

#[test]
fn a_repeated_append_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&dir.path().join("l"), 0);
    let one = entry(vec![record("t", 0, 5, 10), record("t", 5, 10, 7)]);
    let ids = ledger.append(1, &one).unwrap();
    assert_eq!(ledger.append(1, &one).unwrap(), ids);
    assert_eq!((ledger.next_seq(), all(&ledger).len()), (3, 2));
    let last = &all(&ledger)[1];
    assert_eq!((last.counter_start, last.counter_end), (10, 17));
    assert!(matches!(ledger.append(4, &one), Err(LedgerError::Hole { next: 3, got: 4 })));
}

#[test]
fn another_payload_is_refused_and_kept_as_evidence() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(&dir.path().join("l"), 0);
    ledger.append(1, &entry(vec![record("t", 0, 5, 10)])).unwrap();
    let before = all(&ledger);
    let other = entry(vec![record("t", 0, 5, 11)]);
    assert!(matches!(ledger.append(1, &other), Err(LedgerError::Conflict(_))));
    assert!(matches!(ledger.append(1, &other), Err(LedgerError::Conflict(_))));
    assert_eq!((all(&ledger), ledger.evidence().unwrap()), (before, 1));
    ledger.append(2, &entry(vec![record("t", 5, 10, 1)])).unwrap();
}

#[test]
fn an_unclean_end_leaves_a_gap_for_each_transfer_that_ran() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("l");
    let template = |id: &str| v1::UsageRecord {
        transfer_id: id.to_owned(),
        window_end: Some(proto_time(at(100))),
        ..v1::UsageRecord::default()
    };
    let ledger = open(&path, 0);
    let begun = Entry {
        opened: vec![template("new"), template("over"), template("runs")],
        records: vec![record("over", 100, 105, 5), record("runs", 100, 107, 9)],
        closed: vec!["over".to_owned()],
    };
    ledger.append(1, &begun).unwrap();
    drop(ledger);
    let ledger = open(&path, 1000);
    let gaps = all(&ledger).split_off(2);
    assert_eq!(gaps.len(), 2);
    for (gap, (id, since)) in gaps.iter().zip([("new", 100), ("runs", 107)]) {
        assert_eq!((gap.kind(), gap.transfer_id.as_str()), (v1::UsageKind::Gap, id));
        assert_eq!(micros(&gap.window_start), at(since).as_microsecond());
        assert_eq!(micros(&gap.window_end), at(1000).as_microsecond());
        assert_eq!(gap.id.as_ref().unwrap().boot_epoch, 2);
    }
    assert_eq!(gaps[1].counter_end, 9);
    assert_eq!(ledger.next_seq(), 3);
    ledger.close().unwrap();
    drop(ledger);
    assert_eq!(open(&path, 2000).next_seq(), 1);
}

#[test]
fn a_ledger_of_somebody_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("l");
    let ledger = open(&path, 0);
    let again = RedbLedger::open(&path, "op", "br", at(1)).err().unwrap();
    assert!(matches!(again, LedgerError::InUse(_)), "{again}");
    drop(ledger);
    let other = RedbLedger::open(&path, "op", "br2", at(1)).err().unwrap();
    assert!(other.to_string().contains("bridge `br`, and not of"), "{other}");

    let database = Database::create(&path).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(META).unwrap().insert("format", b"p2p-bridge ledger 9".as_slice()).unwrap();
    write.commit().unwrap();
    drop(database);
    let newer = RedbLedger::open(&path, "op", "br", at(1)).err().unwrap();
    assert!(newer.to_string().contains("it says `p2p-bridge ledger 9`"), "{newer}");

    let foreign = dir.path().join("f");
    std::fs::write(&foreign, [7; 9000]).unwrap();
    let error = RedbLedger::open(&foreign, "op", "br", at(1)).err().unwrap();
    assert!(matches!(error, LedgerError::Format { .. }), "{error}");
    assert_eq!(std::fs::read(&foreign).unwrap(), [7; 9000]);
}

#[test]
fn what_a_first_start_left_half_made_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("l.redb");
    std::fs::write(dir.path().join("l.new"), [0; 4096]).unwrap();
    assert_eq!(open(&path, 0).writer().boot_epoch, 1);
    assert!(!dir.path().join("l.new").exists());
    let nowhere = RedbLedger::open(&dir.path().join("no/l"), "op", "br", at(0)).err().unwrap();
    assert!(matches!(nowhere, LedgerError::Open { .. }), "{nowhere}");
}

#[test]
fn a_filter_gives_what_a_plain_one_would_page_by_page() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("l");
    for epoch in 0..2 {
        let ledger = open(&path, 0);
        for batch in 0..5u64 {
            let records = (0..1000).map(|n| {
                let start = i64::try_from(epoch * 5000 + batch * 1000 + n).unwrap() * 5;
                let mut record = record("t", start, start + 5, 1);
                if n % 3 == 0 {
                    record.source_overlay = "c".to_owned();
                }
                record
            });
            ledger.append(batch * 1000 + 1, &entry(records.collect())).unwrap();
        }
    }
    let ledger = open(&path, 0);
    let everything = all(&ledger);
    assert_eq!(everything.len(), 10_000);
    let filter = Filter {
        from: Some(at(21_003)),
        to: Some(at(29_000)),
        source_overlay: "c".to_owned(),
        destination_overlay: String::new(),
    };
    let plain: Vec<_> = everything.into_iter().filter(|record| filter.takes(record)).collect();
    let (mut paged, mut after) = (Vec::new(), None);
    loop {
        let page = ledger.scan(&filter, after, 100).unwrap();
        paged.extend(page.records);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert!(plain.len() > 500);
    assert_eq!(paged, plain);
}

#[derive(Debug, Clone)]
enum Step {
    Count {
        transfer: usize,
        verified: u64,
        fetched: u64,
        served: u64,
    },
    Wait(i64),
    /// The write reaches the disk, its acknowledgement is lost.
    LostAnswer,
    /// The write does not reach the disk.
    FailedWrite,
    Write,
    End(usize),
    Restart {
        clean: bool,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0usize..4, 0u64..9, 0u64..9, 0u64..9).prop_map(|(transfer, verified, fetched, served)| {
            Step::Count { transfer, verified, fetched, served }
        }),
        3 => (-400i64..900).prop_map(Step::Wait),
        1 => Just(Step::LostAnswer),
        1 => Just(Step::FailedWrite),
        3 => Just(Step::Write),
        1 => (0usize..4).prop_map(Step::End),
        1 => any::<bool>().prop_map(|clean| Step::Restart { clean }),
    ]
}

fn key(id: String) -> TransferKey {
    TransferKey {
        transfer_id: id,
        agreement: "free".to_owned(),
        source_overlay: "a".parse().unwrap(),
        destination_overlay: "b".parse().unwrap(),
        source_name: Name::btih([1; 20]),
        destination_name: Name::btih([2; 20]),
        title: "film".to_owned(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Totals are those of a run without faults, less exactly what no write had taken when the daemon was killed.
    #[test]
    fn the_ledger_has_what_the_doors_counted(steps in prop::collection::vec(any_step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        let mut now = 1_000_000_000;
        let mut ledger = open(&path, now);
        let mut meter = Meter::new();
        let mut running: Vec<Option<Arc<_>>> = vec![None; 4];
        let (mut names, mut counted, mut on_disk) = (0, 0, 0);
        // As the recorder: `next` follows the last batch that was acknowledged.
        let mut next = ledger.next_seq();
        let write = |ledger: &RedbLedger, meter: &Meter, now: i64, next: &mut u64, answer: bool| {
            let batch = meter.collect(at(now));
            if batch.is_empty() {
                return false;
            }
            let ids = ledger.append(*next, &Entry::from(&*batch)).unwrap();
            if answer {
                meter.committed(&batch);
                *next += ids.len() as u64;
            }
            answer
        };
        for step in steps {
            match step {
                Step::Count { transfer, verified, fetched, served } => {
                    let meter = running[transfer].get_or_insert_with(|| {
                        names += 1;
                        meter.transfer_at(key(format!("t{names}")), at(now))
                    });
                    meter.verified(verified);
                    meter.fetched(fetched);
                    meter.served(served);
                    counted += verified;
                }
                Step::Wait(seconds) => now += seconds,
                Step::LostAnswer => {
                    write(&ledger, &meter, now, &mut next, false);
                    on_disk = all(&ledger).iter().map(|r| r.bytes_verified).sum();
                }
                Step::FailedWrite => drop(meter.collect(at(now))),
                Step::Write => {
                    while write(&ledger, &meter, now, &mut next, true) {}
                    on_disk = counted;
                }
                Step::End(transfer) => running[transfer] = None,
                Step::Restart { clean } => {
                    running = vec![None; 4];
                    if clean {
                        while write(&ledger, &meter, now, &mut next, true) {}
                        on_disk = counted;
                        ledger.close().unwrap();
                    }
                    drop(ledger);
                    meter = Meter::new();
                    counted = on_disk;
                    ledger = open(&path, now);
                    next = ledger.next_seq();
                }
            }
        }
        while write(&ledger, &meter, now, &mut next, true) {}
        let records = all(&ledger);
        prop_assert_eq!(records.iter().map(|r| r.bytes_verified).sum::<u64>(), counted);
        let mut counters = std::collections::BTreeMap::new();
        let mut numbers = std::collections::BTreeMap::new();
        for record in &records {
            let counter = counters.entry(&record.transfer_id).or_insert(0);
            prop_assert_eq!(record.counter_start, *counter);
            *counter += record.bytes_verified;
            prop_assert_eq!(record.counter_end, *counter);
            let id = record.id.as_ref().unwrap();
            let number = numbers.entry(id.boot_epoch).or_insert(0);
            *number += 1;
            prop_assert_eq!(id.seq, *number);
            prop_assert!(micros(&record.window_start) < micros(&record.window_end));
        }
    }
}
