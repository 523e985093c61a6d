use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use p2pbridge_proto::{Evidence, Name};

use super::{
    value::{PART_KEY, PartsId},
    *,
};
use crate::{Binding, EMPTY_CONTENT, FileEntry, Key, MAX_BATCH, binding::layout_of};

mod contents;

/// A binding with so many empty files: the more, the larger its record.
fn binding(number: u8, files: usize) -> Record {
    let files: Vec<_> = (0..files)
        .map(|at| FileEntry {
            path: format!("folder/of/files/{at}"),
            length: 0,
            offset: 0,
            content: EMPTY_CONTENT,
            digest: None,
        })
        .collect();
    Record::Binding(Arc::new(Binding {
        names: vec![Name::btih([number; 20])],
        layout: Arc::new(layout_of(9, 4, &files).unwrap()),
        files,
        evidence: Evidence::Attested,
        overlays: vec![],
        title: format!("{number}"),
        stated_by: String::new(),
        created: SystemTime::UNIX_EPOCH,
        updated: SystemTime::UNIX_EPOCH,
        version: 1,
        description: None,
    }))
}

fn put(number: u8, files: usize) -> Change {
    Change::Put(binding(number, files))
}

/// The titles, and their numbers of files.
fn contents(store: &SledStore) -> Vec<(u8, usize)> {
    let mut rows = Vec::new();
    let each = &mut |record| match record {
        Record::Binding(binding) => {
            rows.push((binding.title.parse().unwrap(), binding.files.len()));
        }
        _ => unreachable!("none was written"),
    };
    store.load(each).unwrap();
    rows.sort_unstable();
    rows
}

fn parts(store: &SledStore) -> usize {
    store.with(|engine| Ok(engine.db.scan_prefix([PART_KEY]).count())).unwrap()
}

#[test]
fn what_was_written_is_there_after_a_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path()).unwrap();
    store.write(&[put(1, 0), put(2, 3)]).unwrap();
    let cursor = store.write(&[put(3, 1), Change::Delete(binding(1, 0).key())]).unwrap();
    assert_eq!(cursor.sequence, 2);
    drop(store);
    let store = SledStore::open(dir.path()).unwrap();
    assert_eq!(contents(&store), [(2, 3), (3, 1)]);
    assert_eq!(
        store.load(&mut |_| {}).unwrap(),
        cursor,
        "the writer is the same, its count goes on"
    );
    assert_eq!(store.write(&[]).unwrap().sequence, 3);
}

#[test]
fn a_large_record_is_cut_in_parts_that_go_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path()).unwrap();
    store.write(&[put(1, 200_000), put(2, 400)]).unwrap();
    assert!(parts(&store) > 1_000);
    assert_eq!(fs::read_dir(dir.path().join("sled/blobs")).unwrap().count(), 0);
    drop(store);
    let store = SledStore::open(dir.path()).unwrap();
    assert_eq!(contents(&store), [(1, 200_000), (2, 400)]);
    store.write(&[put(1, 1), Change::Delete(binding(2, 0).key())]).unwrap();
    assert_eq!((parts(&store), contents(&store)), (0, vec![(1, 1)]));
}

#[test]
fn parts_of_a_write_that_was_cut_short_are_swept() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path()).unwrap();
    store.write(&[put(1, 1_000)]).unwrap();
    let live = parts(&store);
    let lost = PartsId { sequence: 2, number: 0 };
    store.with(|engine| Ok(engine.db.insert(lost.key(0), b"lost").unwrap())).unwrap();
    assert_eq!(parts(&store), live + 1);
    assert_eq!(contents(&store), [(1, 1_000)]);
    assert_eq!(parts(&store), live);
}

#[test]
fn a_snapshot_that_was_cut_short_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path()).unwrap();
    store.write(&[put(1, 1)]).unwrap();
    drop(store);
    let leftover = dir.path().join("sled/snap.00000000FFFFFFFF.generating");
    fs::write(&leftover, [1; 40]).unwrap();
    assert_eq!(contents(&SledStore::open(dir.path()).unwrap()), [(1, 1)]);
    assert!(!leftover.exists());
}

#[test]
fn a_damaged_store_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path()).unwrap();
    store.write(&[put(1, 1)]).unwrap();
    drop(store);
    drop(SledStore::open(dir.path()).unwrap());
    for entry in fs::read_dir(dir.path().join("sled")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("snap.") {
            fs::write(path, [7; 40]).unwrap();
        }
    }
    let error = SledStore::open(dir.path()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("put a copy of it back or bind the names again"), "{error}");
}

#[test]
fn directories_of_others_and_a_second_user_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path()).unwrap();
    assert!(matches!(SledStore::open(dir.path()), Err(StoreError::Locked(_))));
    drop(store);
    fs::write(dir.path().join("FORMAT"), "p2p-bridge names 0 sled-0.34\n").unwrap();
    assert!(matches!(SledStore::open(dir.path()), Err(StoreError::Format { .. })));
    let foreign = tempfile::tempdir().unwrap();
    fs::create_dir(foreign.path().join("photos")).unwrap();
    assert!(matches!(SledStore::open(foreign.path()), Err(StoreError::NotAStore(_))));
}

#[test]
fn after_an_error_or_a_panic_the_next_call_opens_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path()).unwrap();
    store.write(&[put(1, 1)]).unwrap();
    let failure = || engine_error(dir.path(), "a test");
    store.with(|_| Err::<(), _>(failure())).unwrap_err();
    assert_eq!(contents(&store), [(1, 1)]);
    let error = store.with(|_| -> Result<(), StoreError> { panic!("of sled") }).unwrap_err();
    assert!(error.to_string().contains("panicked: of sled"), "{error}");
    store.write(&[put(2, 1)]).unwrap();
    assert_eq!(contents(&store), [(1, 1), (2, 1)]);
}

#[test]
fn while_it_cannot_be_reopened_every_call_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path()).unwrap();
    store.write(&[put(1, 1)]).unwrap();
    store.with(|engine| Err::<(), _>(engine_error(&engine.dir, "a test"))).unwrap_err();
    // A file where its directory was: nothing can be opened there.
    let (inner, aside) = (dir.path().join("sled"), dir.path().join("aside"));
    fs::rename(&inner, &aside).unwrap();
    fs::write(&inner, "").unwrap();
    for _ in 0..2 {
        let error = store.write(&[put(2, 1)]).unwrap_err().to_string();
        assert!(error.contains("a test") && error.contains("cannot be reopened yet"), "{error}");
    }
    fs::remove_file(&inner).unwrap();
    fs::rename(&aside, &inner).unwrap();
    store.write(&[put(2, 1)]).unwrap();
    assert_eq!(contents(&store), [(1, 1), (2, 1)]);
}

#[test]
fn too_large_a_batch_is_refused_and_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path()).unwrap();
    let batch = vec![Change::Delete(Key::Quarantined(1)); MAX_BATCH + 1];
    assert!(matches!(store.write(&batch), Err(StoreError::TooLarge { .. })));
    store.write(&[put(1, 1)]).unwrap();
}

#[test]
fn the_lock_is_let_go_soon() {
    let dir = tempfile::tempdir().unwrap();
    let start = Instant::now();
    for number in 0..5 {
        SledStore::open(dir.path()).unwrap().write(&[put(number, 1)]).unwrap();
    }
    assert!(start.elapsed() < Duration::from_secs(30));
}
