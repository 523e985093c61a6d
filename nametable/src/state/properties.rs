//! What holds whatever is stated.

use std::{collections::BTreeSet, sync::Arc};

use p2pbridge_proto::{Evidence, Name, Scheme};
use proptest::prelude::*;

use crate::{Content, MemoryStore, NameTable, Proposal, ProposedFile, Statement};

const SCHEMES: [Scheme; 6] =
    [Scheme::Sha256, Scheme::Ed2k, Scheme::Tth, Scheme::Btih, Scheme::Sha1, Scheme::PiecesRoot];

fn name(pick: u8) -> Name {
    let scheme = SCHEMES[usize::from(pick) % SCHEMES.len()];
    let byte = pick / 6 % 3 + 1;
    Name::new(scheme, &vec![byte; scheme.digest_len()]).unwrap()
}

fn any_statement() -> impl Strategy<Value = Statement> {
    let names = prop::collection::vec(0u8..18, 1..5);
    (names, prop::option::of(7u64..9), 0usize..3).prop_map(|(picks, length, evidence)| {
        let names: BTreeSet<Name> = picks.into_iter().map(name).collect();
        Statement {
            content: None,
            names: names.into_iter().collect(),
            length,
            title: String::new(),
            evidence: [Evidence::Hint, Evidence::Attested, Evidence::Verified][evidence],
            stated_by: Arc::from("test"),
        }
    })
}

fn bind(table: &NameTable, pick: u8) {
    let root = name(6 * (pick % 3) + 5);
    let file = ProposedFile {
        path: "a".to_owned(),
        offset: 0,
        length: 7,
        digest: pick.is_multiple_of(2).then_some(root),
    };
    let proposal = Proposal {
        names: vec![name(6 * (pick % 3) + 3)],
        title: "t".to_owned(),
        length: 7,
        unit: 4,
        files: vec![file],
        overlays: vec![],
        label: "t".to_owned(),
        stated_by: "test".to_owned(),
        description: None,
    };
    // What is known may say otherwise.
    let _ = table.bind(&[proposal]);
}

/// Pairs of names that are verified to be of the same bytes.
fn verified(table: &NameTable) -> BTreeSet<(Name, Name)> {
    let (contents, _) = table.contents_page(0, 1_000);
    let mut pairs = BTreeSet::new();
    for content in contents {
        let sure = content.names.iter().filter(|known| known.evidence == Evidence::Verified);
        let sure: Vec<Name> = sure.map(|known| known.name).collect();
        pairs.extend(sure.iter().flat_map(|one| sure.iter().map(|other| (*one, *other))));
    }
    pairs
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn names_have_one_content_and_proof_is_only_taken_by_proof(
        steps in prop::collection::vec((any_statement(), prop::option::of(0u8..6)), 1..20),
    ) {
        let store = Arc::new(MemoryStore::new());
        let table = NameTable::open(Box::new(store.clone())).unwrap();
        for (statement, binds) in steps {
            if let Some(pick) = binds {
                let before = verified(&table);
                bind(&table, pick);
                prop_assert!(verified(&table).is_superset(&before), "a Bind took proof away");
            }
            let before = verified(&table);
            let outcome = table.state(std::slice::from_ref(&statement)).unwrap().remove(0);
            if statement.evidence < Evidence::Verified {
                prop_assert_eq!(&verified(&table), &before, "{:?} changed what is proven", statement);
            }
            if outcome.content.is_some() && statement.names.len() > 1 {
                let first = table.content_of(&statement.names[0]).map(|content| content.id);
                for name in &statement.names {
                    prop_assert_eq!(table.content_of(name).map(|content| content.id), first);
                }
            }
        }
        let (contents, _) = table.contents_page(0, 1_000);
        let names: Vec<Name> = contents.iter().flat_map(|c| c.names.iter().map(|k| k.name)).collect();
        prop_assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        prop_assert_eq!((table.counts().contents, table.counts().names), (contents.len(), names.len()));
        for content in &contents {
            prop_assert!(!content.names.is_empty());
            for known in &content.names {
                let found = table.content_of(&known.name);
                prop_assert_eq!(found.as_ref(), Some(content));
            }
        }
        // Each file of a binding has a content that knows the binding's name, or none.
        for binding in table.list(None, 1_000).0 {
            let known = table.content_of(&binding.name());
            let elsewhere = |content: &Content| {
                let evidence = content.known(&binding.name()).unwrap().evidence;
                content.id != binding.files[0].content && evidence < Evidence::Verified
            };
            prop_assert!(!known.as_ref().is_some_and(elsewhere), "{:?} {:?}", binding, known);
        }
        let again = NameTable::open(Box::new(store)).unwrap();
        let mut there = again.contents_page(0, 1_000).0;
        let mut here = contents;
        there.sort_by_key(|content| content.id);
        here.sort_by_key(|content| content.id);
        prop_assert_eq!(there, here);
    }
}
