//! Descriptions that are named by their bytes alone, beside those of more than bytes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;

use p2pbridge_nametable::{
    AboutFile, Binding, COMPOSED, MemoryStore, NameTable, Proposal, ProposedFile, Statement,
};
use p2pbridge_proto::{ContentId, Evidence, Name, Scheme};

const LENGTH: u64 = 1_000;

fn ed2k(byte: u8) -> Name {
    Name::ed2k([byte; 16])
}

fn torrent(byte: u8, files: usize) -> Proposal {
    let file = |at: usize| ProposedFile {
        path: format!("d/{at}"),
        offset: at as u64 * LENGTH,
        length: LENGTH,
        digest: None,
    };
    Proposal {
        names: vec![Name::btih([byte; 20])],
        title: "d".to_owned(),
        length: LENGTH * files as u64,
        unit: 64,
        files: (0..files).map(file).collect(),
        overlays: vec!["a".parse().unwrap()],
        label: "t".to_owned(),
        stated_by: "me".to_owned(),
        description: None,
    }
}

/// A file named by its bytes, of all of which a part has.
fn link(byte: u8, stated_by: &str) -> Proposal {
    let mut link = torrent(byte, 1);
    link.names = vec![ed2k(byte)];
    link.files[0].digest = Some(ed2k(byte));
    link.unit = 9_728_000;
    link.overlays = vec!["e".parse().unwrap()];
    link.stated_by = stated_by.to_owned();
    link
}

fn says(evidence: Evidence, byte: u8) -> Statement {
    Statement {
        content: None,
        names: vec![ed2k(byte), Name::new(Scheme::Sha1, &[byte; 20]).unwrap()],
        length: Some(LENGTH),
        title: "x".to_owned(),
        evidence,
        stated_by: Arc::from("somebody"),
    }
}

/// A table with a torrent of two files whose eD2k names are known so well.
fn known(evidence: Evidence) -> NameTable {
    let table = NameTable::open(Box::new(MemoryStore::new())).unwrap();
    let about = |file, byte| AboutFile { proposal: 0, file, statement: says(evidence, byte) };
    table.bind_with(&[torrent(9, 2)], &[about(0, 1), about(1, 2)], evidence).unwrap();
    table
}

fn binding(table: &NameTable, name: &Name) -> Arc<Binding> {
    table.get(name).unwrap()
}

fn contents(table: &NameTable) -> Vec<ContentId> {
    binding(table, &Name::btih([9; 20])).files.iter().map(|file| file.content).collect()
}

#[test]
fn a_composed_binding_comes_to_its_file_and_lowers_nothing() {
    for evidence in [Evidence::Attested, Evidence::Verified] {
        let table = known(evidence);
        let before = (binding(&table, &Name::btih([9; 20])), table.content_of(&ed2k(2)).unwrap());
        let composed = table.bind(&[link(2, COMPOSED)]).unwrap().remove(0);
        assert_eq!(composed.files[0].content, contents(&table)[1]);
        assert!(composed.is_composed() && composed.evidence == Evidence::Attested);
        assert_eq!(binding(&table, &Name::btih([9; 20])), before.0);
        assert_eq!(table.content_of(&ed2k(2)).unwrap(), before.1);
        assert_eq!(table.resolve(&ed2k(2)).unwrap().1, [before.0]);
    }
}

#[test]
fn what_was_known_stays_when_a_composed_binding_goes_and_not_when_its_name_is_taken_back() {
    let table = known(Evidence::Attested);
    table.bind(&[link(1, COMPOSED)]).unwrap();
    table.raise(&ed2k(1), Evidence::Verified).unwrap();
    assert!(table.decompose(&ed2k(1)).unwrap() && !table.decompose(&ed2k(1)).unwrap());
    assert!(!table.decompose(&Name::btih([9; 20])).unwrap());
    let left = table.content_of(&ed2k(1)).unwrap();
    assert_eq!(left.known(&ed2k(1)).unwrap().evidence, Evidence::Verified);
    table.bind(&[link(1, COMPOSED)]).unwrap();
    assert!(table.unbind(&ed2k(1)).unwrap().binding.is_some());
    assert!(table.content_of(&ed2k(1)).is_none() && table.get(&ed2k(1)).is_none());
    table.bind(&[link(2, COMPOSED)]).unwrap();
    table.quarantine(&ed2k(2), "other bytes").unwrap();
    assert!(table.content_of(&ed2k(2)).is_none(), "it would be made again");
}

#[test]
fn what_somebody_binds_is_his_and_his_alone_goes_with_it() {
    let table = known(Evidence::Attested);
    table.bind(&[link(1, COMPOSED)]).unwrap();
    let his = table.bind(&[link(1, "me")]).unwrap().remove(0);
    assert!(!his.is_composed() && !table.decompose(&ed2k(1)).unwrap());
    assert!(!table.bind(&[link(1, COMPOSED)]).unwrap()[0].is_composed());
    table.unbind(&ed2k(1)).unwrap();
    assert!(table.content_of(&ed2k(1)).is_some(), "somebody else had said it");
    table.bind(&[link(5, "me")]).unwrap();
    table.unbind(&ed2k(5)).unwrap();
    assert!(table.content_of(&ed2k(5)).is_none());
}

#[test]
fn links_are_paired_with_the_files_of_a_torrent() {
    let table = NameTable::open(Box::new(MemoryStore::new())).unwrap();
    let named = |byte, path: &str| {
        let mut link = link(byte, "me");
        link.files[0].path = path.to_owned();
        link
    };
    let bound = table.bind(&[named(2, "1"), torrent(9, 3), named(1, "0")]).unwrap();
    let file = |at: usize| contents(&table)[at];
    assert_eq!((bound[0].files[0].content, bound[2].files[0].content), (file(1), file(0)));
    assert_eq!(table.content_of(&ed2k(1)).unwrap().id, file(0));
    assert!(table.content(&file(2)).is_none());
}

#[test]
fn both_variants_of_a_name_may_be_composed() {
    const FULL: u64 = 9_728_000;
    let full = |mut proposal: Proposal| {
        (proposal.length, proposal.files[0].length) = (FULL, FULL);
        proposal
    };
    let table = NameTable::open(Box::new(MemoryStore::new())).unwrap();
    let names = vec![ed2k(1), ed2k(2)];
    let statement = Statement { names, length: Some(FULL), ..says(Evidence::Verified, 1) };
    let about = AboutFile { proposal: 0, file: 0, statement };
    table.bind_with(&[full(torrent(9, 1))], &[about], Evidence::Attested).unwrap();
    let bound = binding(&table, &Name::btih([9; 20]));
    for variant in [1, 2] {
        table.bind(&[full(link(variant, COMPOSED))]).unwrap();
    }
    assert_eq!(table.resolve(&Name::btih([9; 20])).unwrap().1.len(), 2);
    assert_eq!(binding(&table, &Name::btih([9; 20])), bound);
    // As somebody's links too, each beside the torrent or both.
    let one = |variant| full(link(variant, "me"));
    table.bind(&[full(torrent(9, 1)), one(1), one(2)]).unwrap();
}
