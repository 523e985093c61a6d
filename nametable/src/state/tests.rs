use std::sync::{Arc, Mutex};

use p2pbridge_proto::{ContentId, Evidence, Name, Scheme};

use super::{NameEvent, NameEventKind, What};
use crate::{
    Content, MAX_CONTENT_NAMES, MemoryStore, NameTable, Proposal, ProposedFile, Statement,
};
use Evidence::{Attested, Hint, Verified};

fn name(scheme: Scheme, byte: u8) -> Name {
    Name::new(scheme, &vec![byte; scheme.digest_len()]).unwrap()
}

fn sha(byte: u8) -> Name {
    name(Scheme::Sha256, byte)
}

fn ed2k(byte: u8) -> Name {
    name(Scheme::Ed2k, byte)
}

fn tth(byte: u8) -> Name {
    name(Scheme::Tth, byte)
}

fn table() -> NameTable {
    NameTable::open(Box::new(MemoryStore::new())).unwrap()
}

fn says(evidence: Evidence, names: &[Name]) -> Statement {
    Statement {
        content: None,
        names: names.to_vec(),
        length: Some(7),
        title: "a".to_owned(),
        evidence,
        stated_by: Arc::from("test"),
    }
}

fn state(table: &NameTable, evidence: Evidence, names: &[Name]) -> What {
    let mut outcomes = table.state(&[says(evidence, names)]).unwrap();
    outcomes.pop().unwrap().what
}

/// The evidence of each name of the content that has this one.
fn known(table: &NameTable, name: &Name) -> Vec<(Name, Evidence)> {
    let content = table.content_of(name);
    let mut names: Vec<_> = content
        .iter()
        .flat_map(|content| &content.names)
        .map(|known| (known.name, known.evidence))
        .collect();
    names.sort();
    names
}

#[test]
fn statements_about_one_name_come_together() {
    let table = table();
    assert_eq!(state(&table, Hint, &[ed2k(1), tth(1)]), What::Created);
    assert_eq!(state(&table, Hint, &[ed2k(1), tth(1)]), What::Known);
    assert_eq!(state(&table, Attested, &[ed2k(1), sha(1)]), What::Extended);
    assert_eq!(known(&table, &tth(1)), [(ed2k(1), Attested), (tth(1), Hint), (sha(1), Attested)]);
    assert_eq!((table.counts().contents, table.counts().names), (1, 3));
}

#[test]
fn what_hangs_on_a_hint_is_a_hint() {
    let table = table();
    state(&table, Verified, &[sha(1), tth(1)]);
    state(&table, Hint, &[sha(1), ed2k(1)]);
    state(&table, Attested, &[ed2k(1), name(Scheme::Aich, 1)]);
    assert_eq!(
        known(&table, &sha(1)),
        [(ed2k(1), Hint), (name(Scheme::Aich, 1), Hint), (tth(1), Verified), (sha(1), Verified)]
    );
}

#[test]
fn a_hint_never_overrides_what_is_verified() {
    let table = table();
    state(&table, Verified, &[sha(1), ed2k(1)]);
    let What::Refused(why) = state(&table, Attested, &[sha(1), ed2k(2)]) else { panic!() };
    assert!(why.contains("is known to be the same bytes as urn:ed2k:0101"), "{why}");
    assert_eq!(known(&table, &sha(1)), [(ed2k(1), Verified), (sha(1), Verified)]);
    assert!(table.content_of(&ed2k(2)).is_none());
    assert_eq!(table.counts().conflicts, 0);
}

#[test]
fn a_hint_that_proves_false_is_dropped_and_counted_and_told() {
    let table = table();
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = told.clone();
    table.watch(Arc::new(move |event: &NameEvent| {
        heard.lock().unwrap().push((event.kind, event.names.clone()));
    }));
    state(&table, Hint, &[sha(1), ed2k(2), tth(1)]);
    assert_eq!(state(&table, Verified, &[sha(1), ed2k(1)]), What::Extended);
    assert_eq!(known(&table, &sha(1)), [(ed2k(1), Verified), (tth(1), Hint), (sha(1), Verified)]);
    assert!(table.content_of(&ed2k(2)).is_none());
    assert_eq!(table.counts().disproved, 1);
    let kinds: Vec<_> = told.lock().unwrap().iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [NameEventKind::Bound, NameEventKind::Disproved, NameEventKind::Proved]);
    assert_eq!(told.lock().unwrap()[1].1, [ed2k(2)]);
}

#[test]
fn a_name_that_was_hinted_to_be_of_another_content_goes_where_it_belongs() {
    let table = table();
    state(&table, Verified, &[sha(1), tth(1)]);
    state(&table, Hint, &[sha(1), ed2k(2)]);
    assert_eq!(state(&table, Verified, &[sha(2), ed2k(2)]), What::Created);
    assert_eq!(known(&table, &sha(1)), [(tth(1), Verified), (sha(1), Verified)]);
    assert_eq!(known(&table, &sha(2)), [(ed2k(2), Verified), (sha(2), Verified)]);
    assert_eq!(table.counts().disproved, 1);
}

#[test]
fn two_verified_statements_that_differ_are_an_alarm() {
    let table = table();
    state(&table, Verified, &[sha(1), ed2k(1)]);
    let What::Refused(why) = state(&table, Verified, &[sha(2), ed2k(1)]) else { panic!() };
    assert!(why.contains("which are not those of"), "{why}");
    assert_eq!((table.counts().conflicts, table.quarantined().len()), (1, 1));
    state(&table, Verified, &[sha(2), ed2k(1)]);
    assert_eq!(table.quarantined().len(), 1, "the same is kept once");
    assert_eq!(known(&table, &ed2k(1)), [(ed2k(1), Verified), (sha(1), Verified)]);
}

#[test]
fn names_that_can_be_forged_do_not_carry_proof_over() {
    let table = table();
    state(&table, Verified, &[ed2k(1), tth(1)]);
    state(&table, Verified, &[ed2k(1), sha(1)]);
    assert_eq!(
        known(&table, &ed2k(1)),
        [(ed2k(1), Verified), (tth(1), Verified), (sha(1), Attested)]
    );
}

#[test]
fn a_statement_joins_two_contents_unless_they_differ() {
    let table = table();
    state(&table, Attested, &[ed2k(1), tth(1)]);
    state(&table, Hint, &[sha(1), name(Scheme::Aich, 1)]);
    assert_eq!(state(&table, Attested, &[tth(1), sha(1)]), What::Extended);
    assert_eq!(table.counts().contents, 1);
    assert_eq!(
        known(&table, &sha(1)),
        [
            (ed2k(1), Attested),
            (name(Scheme::Aich, 1), Hint),
            (tth(1), Attested),
            (sha(1), Attested)
        ]
    );
    state(&table, Attested, &[ed2k(2), sha(2)]);
    let What::Refused(_) = state(&table, Attested, &[ed2k(2), tth(1)]) else { panic!() };
    assert_eq!(table.counts().contents, 2);
}

#[test]
fn lengths_must_agree() {
    let table = table();
    state(&table, Hint, &[ed2k(1), tth(1)]);
    let longer = |evidence| Statement { length: Some(8), ..says(evidence, &[ed2k(1), sha(1)]) };
    let refused = table.state(&[longer(Hint)]).unwrap();
    let What::Refused(why) = &refused[0].what else { panic!() };
    assert!(why.ends_with("is known to be of 7 bytes, not 8"), "{why}");
    table.state(&[longer(Verified)]).unwrap();
    assert_eq!(known(&table, &ed2k(1)), [(ed2k(1), Verified), (sha(1), Verified)]);
    assert_eq!(table.content_of(&sha(1)).unwrap().length, Some(8));
}

#[test]
fn at_a_multiple_of_a_part_there_are_two_ed2k_names() {
    let both = [ed2k(1), ed2k(2), sha(1)];
    let table = table();
    let refused = table.state(&[says(Verified, &both)]).unwrap();
    assert!(matches!(&refused[0].what, What::Refused(why) if why.ends_with("of the same bytes")));
    let exact = Statement { length: Some(19_456_000), ..says(Verified, &both) };
    assert_eq!(table.state(&[exact]).unwrap()[0].what, What::Created);
}

#[test]
fn a_raw_block_is_named_by_its_sha256() {
    let table = table();
    let raw = name(Scheme::CidRaw, 2);
    assert!(matches!(state(&table, Verified, &[sha(1), raw]), What::Refused(_)));
    state(&table, Attested, &[sha(2), raw, name(Scheme::CidDagPb, 1)]);
    assert_eq!(state(&table, Attested, &[raw, name(Scheme::CidDagPb, 2)]), What::Extended);
}

fn torrent(hash: u8, files: &[(&str, u64, Option<Name>)]) -> Proposal {
    let mut offset = 0;
    let files = files.iter().map(|(path, length, digest)| {
        let file =
            ProposedFile { path: (*path).to_owned(), offset, length: *length, digest: *digest };
        offset += length;
        file
    });
    let files: Vec<_> = files.collect();
    Proposal {
        names: vec![Name::btih([hash; 20])],
        title: "t".to_owned(),
        length: offset,
        unit: 4,
        files,
        overlays: vec![],
        label: "t".to_owned(),
        stated_by: "test".to_owned(),
        description: None,
    }
}

fn content_of(table: &NameTable, hash: u8) -> ContentId {
    table.get(&Name::btih([hash; 20])).unwrap().files[0].content
}

#[test]
fn a_bound_torrent_of_one_file_and_what_lists_say_of_it_are_one_content() {
    let (table, root) = (table(), name(Scheme::PiecesRoot, 1));
    state(&table, Attested, &[Name::btih([1; 20]), ed2k(1)]);
    table.bind(&[torrent(1, &[("x/a", 7, None)])]).unwrap();
    assert_eq!(table.content_of(&ed2k(1)).unwrap().id, content_of(&table, 1));
    table.bind(&[torrent(2, &[("b", 7, Some(root))])]).unwrap();
    assert_ne!(content_of(&table, 1), content_of(&table, 2));
    state(&table, Verified, &[root, ed2k(1), sha(1)]);
    assert_eq!(content_of(&table, 1), content_of(&table, 2));
    let content: Content = table.content_of(&sha(1)).unwrap();
    assert_eq!(content.id, content_of(&table, 1));
    assert_eq!(table.bindings_of(&content.id, 9).len(), 2);
    assert_eq!(table.layout(&sha(1)).unwrap().extents()[0].content, content.id);
}

#[test]
fn a_digest_in_a_description_finds_the_content_that_is_known() {
    let (table, root) = (table(), name(Scheme::PiecesRoot, 1));
    state(&table, Verified, &[root, sha(1)]);
    let content = table.content_of(&root).unwrap().id;
    table.bind(&[torrent(1, &[("a", 7, Some(root)), ("b", 9, None)])]).unwrap();
    assert_eq!(content_of(&table, 1), table.content_of(&sha(1)).unwrap().id);
    let others = table.contents_of(&Name::btih([1; 20]), 9);
    assert_eq!(others.len(), 1);
    assert_eq!(table.content_of(&sha(1)).unwrap().title, "a");
    let _ = content;
    let What::Refused(why) = state(&table, Hint, &[Name::btih([1; 20]), ed2k(1)]) else { panic!() };
    assert!(why.contains("is known to name 2 files"), "{why}");
}

#[test]
fn what_a_binding_said_goes_with_it() {
    let (table, root) = (table(), name(Scheme::PiecesRoot, 1));
    table.bind(&[torrent(1, &[("a", 7, Some(root))])]).unwrap();
    assert_eq!(known(&table, &root).len(), 2);
    table.unbind(&Name::btih([1; 20])).unwrap();
    assert_eq!((table.counts().contents, table.counts().names), (0, 0));
}

#[test]
fn a_raised_binding_raises_its_names() {
    let table = table();
    table.bind(&[torrent(1, &[("a", 7, None)])]).unwrap();
    assert_eq!(known(&table, &Name::btih([1; 20])), [(Name::btih([1; 20]), Attested)]);
    assert!(table.raise(&Name::btih([1; 20]), Verified).unwrap());
    assert_eq!(known(&table, &Name::btih([1; 20])), [(Name::btih([1; 20]), Verified)]);
}

/// A table with two bound torrents of one file each, proven, of equal length.
fn two_proven() -> NameTable {
    let table = table();
    for hash in [1, 2] {
        table.bind(&[torrent(hash, &[("a", 7, None)])]).unwrap();
        table.raise(&Name::btih([hash; 20]), Verified).unwrap();
    }
    table
}

#[test]
fn a_hint_joins_nothing_that_is_better_known_apart() {
    let table = two_proven();
    let (one, two) = (Name::btih([1; 20]), Name::btih([2; 20]));
    for evidence in [Hint, Attested] {
        let What::Refused(why) = state(&table, evidence, &[one, two]) else { panic!() };
        assert!(why.contains("better known apart"), "{why}");
    }
    assert_ne!(content_of(&table, 1), content_of(&table, 2));
    assert_eq!(known(&table, &one), [(one, Verified)]);
    state(&table, Verified, &[sha(1), tth(1)]);
    state(&table, Verified, &[name(Scheme::Sha1, 2), name(Scheme::Aich, 2)]);
    assert!(matches!(state(&table, Hint, &[sha(1), name(Scheme::Aich, 2)]), What::Refused(_)));
    assert_eq!(known(&table, &sha(1)), [(tth(1), Verified), (sha(1), Verified)]);
}

#[test]
fn what_was_hashed_is_not_made_a_hint_by_a_hint() {
    let table = table();
    state(&table, Verified, &[sha(1), tth(1)]);
    state(&table, Hint, &[sha(1), ed2k(2)]);
    state(&table, Verified, &[ed2k(2), name(Scheme::Aich, 2)]);
    assert_eq!(known(&table, &ed2k(2)), [(ed2k(2), Verified), (name(Scheme::Aich, 2), Verified)]);
    assert_eq!(known(&table, &sha(1)).len(), 2);
}

#[test]
fn a_forged_hash_joins_no_verified_contents() {
    let table = table();
    state(&table, Verified, &[ed2k(1), tth(1)]);
    state(&table, Verified, &[sha(2), name(Scheme::Aich, 2)]);
    let all = [sha(2), name(Scheme::Aich, 2), ed2k(1)];
    assert!(matches!(state(&table, Verified, &all), What::Refused(_)));
    assert_eq!(known(&table, &tth(1)), [(ed2k(1), Verified), (tth(1), Verified)]);
    assert_eq!(table.counts().conflicts, 1);
}

#[test]
fn a_wrong_hint_yields_where_two_verified_contents_are_one() {
    let table = table();
    state(&table, Verified, &[sha(1), ed2k(1)]);
    state(&table, Hint, &[sha(1), tth(9)]);
    state(&table, Verified, &[name(Scheme::PiecesRoot, 1), tth(1)]);
    let both = [sha(1), name(Scheme::PiecesRoot, 1)];
    assert_eq!(state(&table, Verified, &both), What::Extended);
    assert!(known(&table, &sha(1)).contains(&(tth(1), Verified)));
    assert!(table.content_of(&tth(9)).is_none());
    assert_eq!((table.counts().disproved, table.counts().conflicts), (1, 0));
}

#[test]
fn hints_make_room_for_what_is_verified() {
    let table = table();
    let mut hints: Vec<Name> = (0..31).map(|byte| Name::btih([byte; 20])).collect();
    hints.push(sha(1));
    state(&table, Hint, &hints);
    assert!(matches!(state(&table, Hint, &[sha(1), tth(1)]), What::Refused(_)));
    assert_eq!(state(&table, Verified, &[sha(1), tth(1), ed2k(1)]), What::Extended);
    let names = known(&table, &sha(1));
    assert_eq!(names.len(), 32);
    assert!(names.contains(&(ed2k(1), Verified)) && names.contains(&(tth(1), Verified)));
}

#[test]
fn a_hints_length_does_not_stand_in_the_way() {
    let table = table();
    let unknown = |evidence, names: &[Name]| Statement { length: None, ..says(evidence, names) };
    table.state(&[unknown(Attested, &[sha(1), tth(1)])]).unwrap();
    let nine = Statement { length: Some(9), ..says(Hint, &[sha(1)]) };
    table.state(&[nine]).unwrap();
    assert_eq!(table.content_of(&sha(1)).unwrap().length, None);
    state(&table, Attested, &[sha(1), ed2k(1)]);
    assert_eq!(table.content_of(&sha(1)).unwrap().length, Some(7));
    table.state(&[Statement { length: Some(8), ..says(Attested, &[ed2k(2), sha(2)]) }]).unwrap();
    let joins = table.state(&[unknown(Attested, &[sha(1), ed2k(2)])]).unwrap();
    assert!(matches!(joins[0].what, What::Refused(_)));
    assert_eq!(table.counts().disproved, 0);
}

#[test]
fn a_third_ed2k_hash_is_false() {
    let table = table();
    let exact =
        |evidence, names: &[Name]| Statement { length: Some(9_728_000), ..says(evidence, names) };
    table.state(&[exact(Hint, &[sha(1), ed2k(9)])]).unwrap();
    table.state(&[exact(Verified, &[sha(1), ed2k(1), ed2k(2)])]).unwrap();
    assert_eq!(known(&table, &sha(1)).len(), 3);
    assert!(table.content_of(&ed2k(9)).is_none());
    // It goes also when the proof says nothing else that is new.
    table.state(&[Statement { length: None, ..says(Hint, &[sha(2), ed2k(9)]) }]).unwrap();
    let both = Statement {
        content: table.content_of(&sha(1)).map(|content| content.id),
        ..exact(Verified, &[ed2k(1), ed2k(2)])
    };
    assert_eq!(table.state(&[both]).unwrap()[0].what, What::Known);
    assert_eq!(known(&table, &sha(1)).len(), 3);
}

#[test]
fn a_contradicted_binding_is_not_raised() {
    let (table, root) = (table(), |byte| name(Scheme::PiecesRoot, byte));
    let mut v2 = torrent(1, &[("a", 7, Some(root(1)))]);
    v2.names.push(name(Scheme::Btmh, 1));
    table.bind(&[v2]).unwrap();
    let id = content_of(&table, 1);
    let hashed = Statement { content: Some(id), ..says(Verified, &[root(2), sha(1)]) };
    table.state(&[hashed]).unwrap();
    assert!(!table.raise(&Name::btih([1; 20]), Verified).unwrap());
    assert_eq!(table.get(&Name::btih([1; 20])).unwrap().evidence, Attested);
}

#[test]
fn a_digest_that_was_only_stated_is_not_proven_by_the_binding() {
    let (table, main) = (table(), Name::btih([1; 20]));
    table.bind(&[torrent(1, &[("a", 7, Some(sha(9)))])]).unwrap();
    assert!(table.raise(&main, Verified).unwrap());
    assert_eq!(known(&table, &main), [(main, Verified), (sha(9), Attested)]);
    let content = Some(content_of(&table, 1));
    table.state(&[Statement { content, ..says(Verified, &[sha(1), tth(1)]) }]).unwrap();
    assert_eq!(known(&table, &main), [(main, Verified), (tth(1), Verified), (sha(1), Verified)]);
    assert_eq!((table.counts().disproved, table.counts().conflicts), (1, 0));
}

#[test]
fn hints_do_not_draw_a_proof_to_another_content() {
    let table = two_proven();
    let one = Name::btih([1; 20]);
    state(&table, Hint, &[one, tth(5)]);
    state(&table, Hint, &[one, ed2k(9)]);
    assert_eq!(state(&table, Verified, &[sha(5), tth(5), ed2k(5)]), What::Created);
    assert_eq!(
        known(&table, &tth(5)),
        [(ed2k(5), Verified), (tth(5), Verified), (sha(5), Verified)]
    );
    assert_eq!(known(&table, &one), [(one, Verified), (ed2k(9), Hint)]);
}

#[test]
fn a_join_that_is_not_proven_lowers_no_name_and_keeps_no_binding_verified() {
    let table = table();
    state(&table, Verified, &[sha(1), name(Scheme::Aich, 1)]);
    state(&table, Attested, &[ed2k(2), name(Scheme::Sha1, 2)]);
    state(&table, Hint, &[ed2k(2), tth(2)]);
    assert!(matches!(state(&table, Attested, &[sha(1), tth(2)]), What::Refused(_)));
    assert!(known(&table, &tth(2)).contains(&(ed2k(2), Attested)));

    let (many, main) =
        (|digest| torrent(3, &[("a", 7, digest), ("b", 9, None)]), Name::btih([3; 20]));
    table.bind(&[many(None)]).unwrap();
    table.raise(&main, Verified).unwrap();
    table.bind(&[many(Some(sha(1)))]).unwrap();
    assert_eq!(content_of(&table, 3), table.content_of(&sha(1)).unwrap().id);
    assert_eq!(table.get(&main).unwrap().evidence, Attested);
}

#[test]
fn hints_make_room_for_what_is_verified_of_two_contents() {
    let (table, root) = (table(), name(Scheme::PiecesRoot, 1));
    let hints: Vec<Name> = (0..31).map(|byte| Name::btih([byte; 20])).chain([root]).collect();
    state(&table, Hint, &hints);
    state(&table, Verified, &[sha(1), tth(1)]);
    assert_eq!(state(&table, Verified, &[sha(1), root, ed2k(1)]), What::Extended);
    assert_eq!((table.counts().contents, known(&table, &root).len()), (1, MAX_CONTENT_NAMES));
}

#[test]
fn a_hints_length_does_not_come_with_a_join() {
    let table = table();
    let unknown = |evidence, names: &[Name]| Statement { length: None, ..says(evidence, names) };
    table.state(&[unknown(Attested, &[sha(1), ed2k(1)])]).unwrap();
    table.state(&[Statement { length: Some(9), ..says(Hint, &[tth(1)]) }]).unwrap();
    table.state(&[unknown(Attested, &[sha(1), tth(1)])]).unwrap();
    assert_eq!(state(&table, Attested, &[sha(1), name(Scheme::Sha1, 1)]), What::Extended);
    assert_eq!(table.content_of(&tth(1)).unwrap().length, Some(7));
}

#[test]
fn what_proof_changes_of_a_torrent_of_many_files_is_told() {
    let table = table();
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = told.clone();
    table.watch(Arc::new(move |event: &NameEvent| heard.lock().unwrap().push(event.kind)));
    table.bind(&[torrent(1, &[("a", 7, None), ("b", 9, None)])]).unwrap();
    table.raise(&Name::btih([1; 20]), Verified).unwrap();
    table.quarantine(&Name::btih([1; 20]), "wrong").unwrap();
    assert_eq!(*told.lock().unwrap(), [NameEventKind::Proved, NameEventKind::Disproved]);
    assert_eq!(table.counts().disproved, 1);
}

#[test]
fn quarantine_is_bounded_whatever_comes_at_once() {
    let table = table();
    for round in 0..20u8 {
        let rows: Vec<_> = (0..200u8)
            .flat_map(|byte| {
                let base = Name::new(Scheme::Sha1, &[round, byte, 1].repeat(7)[..20]).unwrap();
                [says(Verified, &[base, sha(1)]), says(Verified, &[base, sha(2)])]
            })
            .collect();
        table.state(&rows).unwrap();
    }
    assert!(table.quarantined().len() <= crate::MAX_QUARANTINED);
    assert!(table.counts().conflicts > 1_000);
}

#[test]
fn very_many_torrents_of_one_file_share_its_content() {
    let (table, root) = (table(), name(Scheme::PiecesRoot, 1));
    for hash in 0..60 {
        table.bind(&[torrent(hash, &[("a", 7, Some(root))])]).unwrap();
    }
    let content = table.content_of(&root).unwrap();
    assert_eq!((content.names.len(), table.counts().contents), (crate::MAX_CONTENT_NAMES, 1));
    assert!((0..60).all(|hash| content_of(&table, hash) == content.id));
}
