use std::sync::atomic::AtomicUsize;

use p2pbridge_proto::{ContentId, Scheme};
use proptest::prelude::*;

use super::*;
use crate::{MAX_CONTENTS, MemoryStore, ProposedFile, SledStore, map_range};

fn name(number: u8) -> Name {
    Name::btih([number; 20])
}

fn root(number: u8) -> Option<Name> {
    Name::with_32(Scheme::PiecesRoot, [number; 32])
}

/// A proposal of one file of so many bytes.
fn single(number: u8, length: u64, unit: u64) -> Proposal {
    of_files(number, unit, &[("f", length, None)])
}

fn of_files(number: u8, unit: u64, rows: &[(&str, u64, Option<Name>)]) -> Proposal {
    let mut offset = 0;
    let mut files = Vec::new();
    for (path, length, digest) in rows {
        let (path, length, digest) = ((*path).to_owned(), *length, *digest);
        files.push(ProposedFile { path, offset, length, digest });
        offset += length;
    }
    Proposal {
        names: vec![name(number)],
        title: format!("title {number}"),
        length: offset,
        unit,
        files,
        overlays: vec!["one".parse().unwrap()],
        label: format!("{number}.torrent"),
        stated_by: "operator".to_owned(),
        description: Some([number; 32]),
    }
}

fn table() -> (Arc<MemoryStore>, NameTable) {
    let store = Arc::new(MemoryStore::new());
    (Arc::clone(&store), NameTable::open(Box::new(store)).unwrap())
}

fn content(binding: &Binding) -> ContentId {
    binding.files[0].content
}

fn others(table: &NameTable, number: u8) -> Vec<Name> {
    table.resolve(&name(number)).unwrap().1.iter().map(|other| other.name()).collect()
}

#[test]
fn two_names_of_one_content_resolve_to_each_other() {
    let (_, table) = table();
    let bound = table.bind(&[single(1, 1000, 256), single(2, 1000, 100)]).unwrap();
    assert_eq!(content(&bound[0]), content(&bound[1]));
    assert_eq!(bound[0].evidence, Evidence::Attested);
    assert_eq!((others(&table, 1), others(&table, 2)), (vec![name(2)], vec![name(1)]));
    assert_eq!(map_range(&bound[0].layout, &bound[1].layout, 5..9)[0].to, 5..9);
    assert!(table.get(&name(3)).is_none() && table.resolve(&name(3)).is_none());
    assert_eq!(table.len(), 2);
}

#[test]
fn a_long_name_is_found_by_its_short_form_until_it_is_taken_back() {
    let (_, table) = table();
    let long = Name::with_32(Scheme::Btmh, [7; 32]).unwrap();
    let hybrid = Proposal { names: vec![name(1), long], ..single(1, 1000, 256) };
    table.bind(&[hybrid]).unwrap();
    for asked in [name(1), long, name(7)] {
        assert_eq!(table.find(&asked).unwrap().name(), name(1));
    }
    assert!(table.get(&name(7)).is_none() && table.find(&name(8)).is_none());
    table.unbind(&name(1)).unwrap();
    assert!(table.find(&name(7)).is_none());
}

#[test]
fn binding_again_changes_nothing() {
    let (_, table) = table();
    let both = [single(1, 1000, 256), single(2, 1000, 100)];
    let first = table.bind(&both).unwrap();
    let changes = table.changes();
    assert_eq!(table.bind(&both).unwrap(), first);
    assert_eq!(table.changes(), changes);
    let mut third = both[0].clone();
    third.overlays = vec!["two".parse().unwrap()];
    third.names.push(Name::with_32(Scheme::Btmh, [9; 32]).unwrap());
    let again = table.bind(&[third.clone()]).unwrap();
    assert_eq!((again[0].version, again[0].overlays.len()), (2, 2));
    assert_eq!(table.get(&third.names[1]), Some(again[0].clone()));
    assert_eq!((again[0].created, content(&again[0])), (first[0].created, content(&first[0])));
}

#[test]
fn a_file_in_a_collection_shares_only_that() {
    let (_, table) = table();
    let collection = of_files(1, 16, &[("a", 10, None), ("empty", 0, None), ("b", 20, None)]);
    let bound = table.bind(&[single(2, 20, 8), collection]).unwrap();
    assert_eq!(content(&bound[0]), bound[1].files[2].content);
    assert_eq!(bound[1].files[1].content, EMPTY_CONTENT);
    assert_eq!(map_range(&bound[0].layout, &bound[1].layout, 0..20)[0].to, 10..30);
    table.bind(&[of_files(3, 4, &[("x", 5, None), ("nil", 0, None)])]).unwrap();
    assert!(others(&table, 3).is_empty(), "files of zero length make nothing equivalent");
}

#[test]
fn equal_roots_of_all_files_are_proof() {
    let (_, table) = table();
    let (one, two) = (of_files(1, 8, &[("a", 9, root(1))]), of_files(2, 4, &[("b", 9, root(1))]));
    let bound = table.bind(&[one, two]).unwrap();
    assert!(bound.iter().all(|binding| binding.evidence == Evidence::Verified));
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let (_, table) = table();
    let refuse = |proposals: &[Proposal]| table.bind(proposals).unwrap_err();
    assert!(matches!(refuse(&[]), BindError::Empty));
    let error = refuse(&[single(1, 9, 4), single(2, 8, 4)]);
    assert!(matches!(error, BindError::NoCounterpart { .. }));
    assert!(matches!(refuse(&[single(1, 9, 4), single(1, 9, 4)]), BindError::SameName { .. }));
    assert!(matches!(refuse(&[single(1, 9, 0)]), BindError::Layout { .. }));
    assert!(matches!(refuse(&[single(1, 0, 4)]), BindError::NoBytes { .. }));
    let nameless = Proposal { names: vec![], ..single(1, 9, 4) };
    assert!(matches!(refuse(&[nameless]), BindError::Names { .. }));
    let (one, two) = (of_files(1, 8, &[("a", 9, root(1))]), of_files(2, 4, &[("b", 9, root(2))]));
    assert!(matches!(refuse(&[one, two]), BindError::DigestsDiffer { .. }));
    assert!(table.is_empty() && table.quarantined().is_empty());
}

#[test]
fn another_layout_of_a_known_name_is_quarantined() {
    let (_, table) = table();
    let first = table.bind(&[single(1, 1000, 256)]).unwrap();
    for _ in 0..2 {
        let error = table.bind(&[single(2, 1001, 256), single(1, 1001, 256)]).unwrap_err();
        assert!(error.to_string().contains("its length is 1,000, not 1,001"), "{error}");
    }
    assert_eq!(table.get(&name(1)).as_ref(), Some(&first[0]));
    assert!(table.get(&name(2)).is_none(), "all or nothing");
    let kept = table.quarantined();
    assert_eq!((kept.len(), kept[0].reason), (1, Reason::Conflict));
    assert_eq!(kept[0].binding.layout.length(), 1001);
}

#[test]
fn joining_two_groups_repoints_the_weaker_and_lowers_it() {
    let (_, table) = table();
    table.bind(&[single(1, 50, 8), single(2, 50, 9)]).unwrap();
    table.bind(&[single(3, 50, 8), single(4, 50, 9), single(5, 50, 10)]).unwrap();
    for number in [1, 2] {
        assert!(table.raise(&name(number), Evidence::Verified).unwrap());
    }
    assert!(others(&table, 1) == [name(2)] && others(&table, 3) == [name(4), name(5)]);
    let kept = content(&table.get(&name(1)).unwrap());
    table.bind(&[single(3, 50, 8), single(1, 50, 8)]).unwrap();
    assert_eq!(others(&table, 4), [name(1), name(2), name(3), name(5)]);
    for number in 1..6 {
        let binding = table.get(&name(number)).unwrap();
        assert_eq!(content(&binding), kept, "the verified group's content stays");
        assert_eq!(binding.layout.extents()[0].content, kept);
        let verified = binding.evidence == Evidence::Verified;
        assert_eq!(verified, number < 3, "an attested statement lowers no other group");
    }
    table.bind(&[single(6, 50, 8), single(7, 50, 9)]).unwrap();
    table.raise(&name(7), Evidence::Verified).unwrap();
    table.bind(&[single(6, 50, 8), single(5, 50, 10)]).unwrap();
    let joined = table.get(&name(7)).unwrap();
    assert_eq!((content(&joined), joined.evidence), (kept, Evidence::Attested));
}

#[test]
fn groups_with_other_digests_are_not_joined_through_a_third() {
    let (_, table) = table();
    let with_root = |number, root| of_files(number, 8, &[("a", 9, root)]);
    table.bind(&[with_root(1, root(1)), with_root(2, None)]).unwrap();
    table.bind(&[with_root(3, root(3)), with_root(4, None)]).unwrap();
    let error = table.bind(&[with_root(2, None), with_root(4, None)]).unwrap_err();
    assert!(matches!(error, BindError::DigestsDiffer { .. }), "{error}");
    assert_eq!(others(&table, 2), [name(1)]);
}

#[test]
fn copies_in_one_name_become_one_content_everywhere() {
    let (_, table) = table();
    let copies = of_files(1, 8, &[("a", 9, root(1)), ("b", 9, root(1))]);
    let bound = table.bind(&[copies, of_files(2, 4, &[("x", 9, None), ("y", 9, None)])]).unwrap();
    assert_eq!(bound[0].files[0].content, bound[0].files[1].content);
    assert_eq!(map_range(&bound[1].layout, &bound[0].layout, 0..9).len(), 2);
}

#[test]
fn a_disproved_binding_leaves_use_and_raises_an_alarm() {
    let (_, table) = table();
    table.bind(&[single(1, 50, 8), single(2, 50, 9)]).unwrap();
    assert!(table.quarantine(&name(2), "chunk 3 differs").unwrap());
    assert!(!table.quarantine(&name(2), "again").unwrap());
    assert!(table.get(&name(2)).is_none() && others(&table, 1).is_empty());
    let kept = table.quarantined();
    assert_eq!((kept[0].reason, kept[0].text.as_str()), (Reason::Disproved, "chunk 3 differs"));
    assert_eq!(table.unbind(&name(1)).unwrap().binding.unwrap().name(), name(1));
    assert!(table.unbind(&name(1)).unwrap().is_nothing() && table.is_empty());
}

#[test]
fn a_binding_of_more_files_than_a_batch_takes_can_go_again() {
    let (_, table) = table();
    let mut large = of_files(1, 16, &[]);
    let digest = |number: u32| {
        let mut digest = [0; 32];
        digest[..4].copy_from_slice(&number.to_le_bytes());
        Name::with_32(Scheme::PiecesRoot, digest)
    };
    let file = |number: u32| ProposedFile {
        path: number.to_string(),
        offset: u64::from(number) * 7,
        length: 7,
        digest: digest(number),
    };
    large.files = (0..=MAX_CONTENTS as u32).map(file).collect();
    large.length = 7 * large.files.len() as u64;
    table.bind(&[large]).unwrap();
    assert_eq!(table.counts().contents, MAX_CONTENTS + 1);
    assert!(table.quarantine(&name(1), "false").unwrap());
    assert_eq!((table.len(), table.counts().contents, table.counts().quarantined), (0, 0, 1));
}

#[test]
fn evidence_is_only_raised() {
    let (_, table) = table();
    table.bind(&[single(1, 50, 8)]).unwrap();
    assert!(table.raise(&name(1), Evidence::Verified).unwrap());
    assert!(!table.raise(&name(1), Evidence::Attested).unwrap());
    assert!(!table.raise(&name(9), Evidence::Verified).unwrap());
    let bound = table.bind(&[single(1, 50, 8), single(2, 50, 16)]).unwrap();
    assert_eq!(bound[0].evidence, Evidence::Verified);
    assert_eq!(bound[1].evidence, Evidence::Attested);
}

#[test]
fn lists_page_by_page_in_the_order_of_names() {
    let (_, table) = table();
    for number in [5, 3, 1, 4, 2] {
        table.bind(&[single(number, 50, 8)]).unwrap();
    }
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let (page, next) = table.list(after.as_ref(), 2);
        seen.extend(page.iter().map(|binding| binding.name()));
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, (1..6).map(name).collect::<Vec<_>>());
}

#[test]
fn a_full_store_refuses_keeps_what_there_is_and_recovers() {
    let (store, table) = table();
    let first = table.bind(&[single(1, 50, 8)]).unwrap();
    store.set_full(true);
    for _ in 0..2 {
        let error = table.bind(&[single(2, 50, 8)]).unwrap_err();
        assert!(matches!(error, BindError::Store(StoreError::Full(_))), "{error}");
    }
    assert!(table.raise(&name(1), Evidence::Verified).is_err());
    assert_eq!((table.get(&name(1)).as_ref(), table.len()), (Some(&first[0]), 1));
    store.set_full(false);
    table.bind(&[single(2, 50, 8)]).unwrap();
    assert_eq!(table.len(), 2);
}

/// A store that takes a batch, and says that it has not.
struct Liar(Arc<MemoryStore>, AtomicUsize);

impl NameStore for Liar {
    fn load(&self, each: &mut dyn FnMut(Record)) -> Result<crate::Cursor, StoreError> {
        self.0.load(each)
    }

    fn write(&self, batch: &[Change]) -> Result<crate::Cursor, StoreError> {
        let cursor = self.0.write(batch)?;
        match self.1.fetch_add(1, Ordering::SeqCst) {
            0 => Err(StoreError::Full("here".into())),
            _ => Ok(cursor),
        }
    }
}

#[test]
fn what_the_store_took_after_all_shows_with_the_next_change() {
    let liar = Liar(Arc::new(MemoryStore::new()), AtomicUsize::new(0));
    let table = NameTable::open(Box::new(liar)).unwrap();
    table.bind(&[single(1, 50, 8)]).unwrap_err();
    assert!(table.is_empty());
    let bound = table.bind(&[single(1, 50, 8), single(2, 50, 9)]).unwrap();
    assert_eq!((table.len(), bound[0].version), (2, 1));
}

#[test]
fn subscribers_hear_of_changes_only() {
    let (_, table) = table();
    let heard = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&heard);
    table.subscribe(Box::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
    }));
    for _ in 0..3 {
        table.bind(&[single(1, 50, 8)]).unwrap();
    }
    assert_eq!(heard.load(Ordering::SeqCst), 1);
}

#[test]
fn the_quarantine_is_bounded_and_keeps_alarms() {
    let (_, table) = table();
    table.bind(&[single(1, 50, 8), single(2, 50, 9)]).unwrap();
    table.quarantine(&name(2), "differs").unwrap();
    for length in 0..MAX_QUARANTINED as u64 + 5 {
        table.bind(&[single(1, 100 + length, 8)]).unwrap_err();
    }
    let kept = table.quarantined();
    assert_eq!((kept.len(), kept[0].reason), (MAX_QUARANTINED, Reason::Disproved));
}

#[test]
fn all_of_it_comes_back_from_disk() {
    let dir = tempfile::tempdir().unwrap();
    let open = || NameTable::open(Box::new(SledStore::open(dir.path()).unwrap())).unwrap();
    let table = open();
    table.bind(&[single(1, 50, 8), single(2, 50, 9)]).unwrap();
    table.bind(&[single(3, 50, 8), single(4, 50, 9)]).unwrap();
    table.bind(&[single(4, 50, 9), single(1, 50, 8)]).unwrap();
    table.raise(&name(1), Evidence::Verified).unwrap();
    table.quarantine(&name(3), "no").unwrap();
    let (before, _) = table.list(None, 99);
    drop(table);
    let table = open();
    assert_eq!(table.list(None, 99).0, before);
    assert_eq!(table.quarantined().len(), 1);
    assert_eq!(others(&table, 1), [name(2), name(4)]);
}

/// What somebody does to the table. Names 0 to 3 are of 40 bytes, 4 and 5 of 60, 6 has a file of each length.
#[derive(Debug, Clone)]
enum Step {
    Bind(Vec<u8>),
    Raise(u8),
    Unbind(u8),
    Quarantine(u8),
    Full(bool),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(0u8..7, 1..4).prop_map(Step::Bind),
        1 => (0u8..7).prop_map(Step::Raise),
        1 => (0u8..7).prop_map(Step::Unbind),
        1 => (0u8..7).prop_map(Step::Quarantine),
        1 => any::<bool>().prop_map(Step::Full),
    ]
}

fn numbered(number: u8) -> Proposal {
    match number {
        0..4 => single(number, 40, 8),
        4..6 => single(number, 60, 8),
        _ => of_files(number, 8, &[("a", 40, None), ("z", 0, None), ("b", 60, None)]),
    }
}

fn shares(one: &Binding, other: &Binding) -> bool {
    let contents = |binding: &Binding| {
        let contents = binding.layout.extents().iter().map(|extent| extent.content);
        contents.collect::<HashSet<_>>()
    };
    !contents(one).is_disjoint(&contents(other))
}

/// Keeps what it is told.
fn follower(kept: &Arc<Mutex<BTreeMap<Name, Binding>>>) -> Follower {
    let kept = Arc::clone(kept);
    Box::new(move |old, new| {
        let mut kept = kept.lock().unwrap();
        if let Some(old) = old {
            assert_eq!(kept.remove(&old.name()).as_ref(), Some(old));
        }
        if let Some(new) = new {
            assert_eq!(kept.insert(new.name(), new.clone()), None);
        }
    })
}

proptest! {
    #[test]
    fn whatever_is_done_index_and_store_agree(steps in prop::collection::vec(any_step(), 1..20)) {
        let (store, table) = table();
        let mut full = false;
        let followed = Arc::new(Mutex::new(BTreeMap::new()));
        table.follow(follower(&followed));
        for step in steps {
            let before = table.list(None, 99).0;
            let done = match &step {
                Step::Bind(numbers) => {
                    let proposals: Vec<_> = numbers.iter().map(|number| numbered(*number)).collect();
                    match table.bind(&proposals) {
                        Ok(bound) => {
                            let hub = bound.iter().max_by_key(|binding| binding.files.len()).unwrap();
                            prop_assert!(bound.iter().all(|binding| shares(binding, hub)));
                            true
                        }
                        Err(_) => false,
                    }
                }
                Step::Raise(number) => table.raise(&name(*number), Evidence::Verified).is_ok(),
                Step::Unbind(number) => table.unbind(&name(*number)).is_ok(),
                Step::Quarantine(number) => table.quarantine(&name(*number), "test").is_ok(),
                Step::Full(now) => {
                    full = *now;
                    store.set_full(full);
                    true
                }
            };
            let after = table.list(None, 99).0;
            prop_assert!(done || before == after, "a refusal changes nothing: {step:?}");
            for one in &after {
                let (found, others) = table.resolve(&one.name()).unwrap();
                prop_assert_eq!(&found, one);
                let model: Vec<_> = after
                    .iter()
                    .filter(|other| other.name() != one.name() && shares(one, other))
                    .cloned()
                    .collect();
                prop_assert_eq!(others, model);
            }
            store.set_full(false);
            let again = NameTable::open(Box::new(Arc::clone(&store))).unwrap();
            prop_assert_eq!(&again.list(None, 99).0, &after);
            prop_assert!(followed.lock().unwrap().values().eq(after.iter().map(|one| &**one)));
            let late = Arc::new(Mutex::new(BTreeMap::new()));
            again.follow(follower(&late));
            prop_assert!(late.lock().unwrap().values().eq(after.iter().map(|one| &**one)));
            prop_assert_eq!(again.quarantined(), table.quarantined());
            store.set_full(full);
        }
    }
}
