use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use p2pbridge_proto::{ContentId, Scheme};
use proptest::prelude::*;

use super::*;
use crate::{
    Content, Known, MAX_CONTENTS,
    catalog::packed::tests::any_content,
    store::sled::{
        value::{DEAD_KEY, Head, PAGE_KEY, dead_key, page_key},
        write::PAGES_AT_ONCE,
    },
};

type Model = BTreeMap<ContentId, Arc<Content>>;

fn id(number: u64) -> ContentId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_le_bytes());
    ContentId::from_bytes(id)
}

fn content(number: u64, title: &str) -> Arc<Content> {
    let mut digest = [9; 24];
    digest[..8].copy_from_slice(&number.to_le_bytes());
    let name = Name::new(Scheme::Tth, &digest).unwrap();
    let (evidence, since) = (Evidence::Attested, SystemTime::UNIX_EPOCH);
    let known = Known { name, evidence, stated_by: "operator".into(), since };
    Arc::new(Content { id: id(number), length: None, title: title.to_owned(), names: vec![known] })
}

fn change(content: Arc<Content>) -> Change {
    Change::Put(Record::Content(content))
}

fn forget(id: ContentId) -> Change {
    Change::Delete(Key::Content(id))
}

fn loaded(store: &SledStore) -> Model {
    let mut rows = Model::new();
    let each = &mut |record| {
        if let Record::Content(content) = record {
            assert!(rows.insert(content.id, content).is_none(), "a content came twice");
        }
    };
    store.load(each).unwrap();
    rows
}

fn keys(store: &SledStore, prefix: u8) -> usize {
    store.with(|engine| Ok(engine.db.scan_prefix([prefix]).count())).unwrap()
}

fn apply(model: &mut Model, batch: &[Change]) {
    for change in batch {
        match change {
            Change::Put(Record::Content(content)) => {
                model.insert(content.id, Arc::clone(content));
            }
            Change::Delete(Key::Content(id)) => {
                model.remove(id);
            }
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn contents_are_what_a_plain_map_would_hold(
        batches in prop::collection::vec(
            (prop::collection::vec((any_content(250), 0..4u8), 0..150), any::<bool>()),
            1..6,
        ),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = SledStore::open(dir.path()).unwrap();
        let mut model = Model::new();
        for (batch, reopen) in batches {
            let batch: Vec<_> = batch.into_iter().map(|(content, what)| match what {
                0 => forget(content.id),
                _ => change(Arc::new(content)),
            }).collect();
            store.write(&batch).unwrap();
            apply(&mut model, &batch);
            if reopen {
                drop(store);
                store = SledStore::open(dir.path()).unwrap();
            } else {
                prop_assert_eq!(&loaded(&store), &model);
            }
        }
        prop_assert_eq!(&loaded(&store), &model);
        prop_assert_eq!(keys(&store, DEAD_KEY), 0);
        let all: Vec<_> = model.keys().map(|id| forget(*id)).collect();
        store.write(&all).unwrap();
        prop_assert_eq!((keys(&store, PAGE_KEY), keys(&store, PART_KEY)), (0, 0));
    }
}

#[test]
fn many_pages_change_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path()).unwrap();
    let mut model = Model::new();
    let first: Vec<_> = (0..2_000).map(|number| change(content(number, "first"))).collect();
    // One in each page, some go, some grow out of their page; and a binding beside them.
    let mut second: Vec<_> = (0..2_000).step_by(7).map(|number| forget(id(number))).collect();
    second.extend((3..2_000).step_by(7).map(|number| change(content(number, &"x".repeat(99)))));
    second.push(put(1, 1));
    for batch in [&first, &second] {
        store.write(batch).unwrap();
        apply(&mut model, batch);
    }
    assert!(keys(&store, PAGE_KEY) > PAGES_AT_ONCE);
    assert_eq!(keys(&store, DEAD_KEY), 0);
    drop(store);
    let store = SledStore::open(dir.path()).unwrap();
    assert_eq!(loaded(&store), model);
    let mut bindings = 0;
    store
        .load(&mut |record| bindings += usize::from(matches!(record, Record::Binding(_))))
        .unwrap();
    assert_eq!(bindings, 1);
}

#[test]
fn a_write_that_was_cut_short_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::new();
    for with_load in [true, false] {
        let store = SledStore::open(dir.path()).unwrap();
        let batch: Vec<_> = (0..30).map(|number| change(content(number, "kept"))).collect();
        let cursor = store.write(&batch).unwrap();
        apply(&mut model, &batch);
        // A page of a batch that never became true.
        let mut packer = page::Packer::default();
        packer.push(&content(99, "lost"));
        let bytes = packer.to_bytes();
        let body = value::Body::Inline(&bytes);
        let value = Head { sequence: cursor.sequence + 1, body }.to_bytes();
        store.with(|engine| Ok(engine.db.insert(page_key(70), value).unwrap())).unwrap();
        drop(store);
        let store = SledStore::open(dir.path()).unwrap();
        if with_load {
            assert_eq!(loaded(&store), model);
        }
        store.write(&[put(1, 1)]).unwrap();
        assert_eq!(loaded(&store), model);
        assert_eq!(keys(&store, PAGE_KEY), 1);
    }
}

#[test]
fn pages_that_were_replaced_are_gone_when_it_opens() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path()).unwrap();
    store.write(&[change(content(1, "kept"))]).unwrap();
    store
        .with(|engine| {
            let value = engine.get(&page_key(0))?.unwrap();
            for page in 5..50 {
                engine.db.insert(page_key(page), &value).unwrap();
            }
            let list: Vec<u8> = (5..50u32).flat_map(u32::to_be_bytes).collect();
            Ok(engine.db.insert(dead_key(1, 0), list).unwrap())
        })
        .unwrap();
    drop(store);
    let store = SledStore::open(dir.path()).unwrap();
    assert_eq!((keys(&store, PAGE_KEY), keys(&store, DEAD_KEY)), (1, 0));
    assert_eq!(loaded(&store).len(), 1);
}

#[test]
fn a_content_that_is_longer_than_a_value_is_cut_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path()).unwrap();
    let long = content(1, &"€".repeat(9_000));
    store
        .write(&[change(content(2, "")), change(Arc::clone(&long)), change(content(3, ""))])
        .unwrap();
    assert_eq!(keys(&store, PART_KEY), 7);
    drop(store);
    let store = SledStore::open(dir.path()).unwrap();
    assert_eq!((loaded(&store).get(&id(1)), loaded(&store).len()), (Some(&long), 3));
    store.write(&[change(content(1, "short"))]).unwrap();
    assert_eq!((keys(&store, PART_KEY), loaded(&store).len()), (0, 3));
}

#[test]
fn a_damaged_page_is_said_to_be_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path()).unwrap();
    store.write(&[change(content(1, ""))]).unwrap();
    let body = value::Body::Inline(&[1, 200]);
    let value = Head { sequence: 1, body }.to_bytes();
    store.with(|engine| Ok(engine.db.insert(page_key(0), value).unwrap())).unwrap();
    let error = store.load(&mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("damaged: a page of contents"), "{error}");
}

#[test]
fn too_many_contents_are_refused_and_harm_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path()).unwrap();
    let batch = vec![forget(id(1)); MAX_CONTENTS + 1];
    assert!(matches!(store.write(&batch), Err(StoreError::TooLarge { .. })));
    store.write(&[change(content(1, ""))]).unwrap();
    assert_eq!(loaded(&store).len(), 1);
}

/// Where the child of the next test writes.
const KILLED: &str = "P2PBRIDGE_TEST_KILLED_STORE";

/// What the batch of a number changes: most are small, every ninth changes many pages.
fn numbered(batch: u64) -> Vec<Change> {
    let (count, title) = (if batch % 9 == 8 { 900 } else { 40 }, format!("batch {batch}"));
    let random = |at: u64| (batch * 1_000 + at).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
    let numbers = (0..count).map(|at| random(at) % 1_500);
    numbers
        .map(|number| match number % 5 {
            0 => forget(id(number)),
            _ => change(content(number, &title)),
        })
        .collect()
}

/// The child of the next test: it writes batches and says of each that it was acknowledged, until it is killed.
#[test]
fn child_that_is_killed() {
    let Ok(dir) = env::var(KILLED) else { return };
    let store = SledStore::open(Path::new(&dir)).unwrap();
    let mut next = store.load(&mut |_| {}).unwrap().sequence + 1;
    loop {
        let cursor = store.write(&numbered(next)).unwrap();
        println!("acknowledged {}", cursor.sequence);
        next += 1;
    }
}

#[test]
fn a_kill_at_any_moment_keeps_whole_batches() {
    let dir = tempfile::tempdir().unwrap();
    let (mut model, mut known) = (Model::new(), 0);
    for round in 0..8 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "store::sled::tests::contents::child_that_is_killed", "--nocapture"])
            .env(KILLED, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let acknowledged = lines.map_while(Result::ok).filter_map(|line| {
            line.strip_prefix("acknowledged ").and_then(|number| number.parse::<u64>().ok())
        });
        let acknowledged = acknowledged.take(7 + round).last().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let store = SledStore::open(dir.path()).unwrap();
        let sequence = store.load(&mut |_| {}).unwrap().sequence;
        assert!(sequence >= acknowledged, "{sequence} is less than {acknowledged}");
        (known + 1..=sequence).for_each(|batch| apply(&mut model, &numbered(batch)));
        known = sequence;
        assert_eq!(loaded(&store), model);
    }
}
