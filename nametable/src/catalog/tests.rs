use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant, UNIX_EPOCH},
};

use p2pbridge_proto::{Evidence, Scheme};
use proptest::prelude::*;

use super::{packed::tests::any_content, *};
use crate::Known;

/// A content of so many names: its number is in each, and in its title.
fn content(number: u64, names: u8) -> Content {
    let known = |at: u8| {
        let mut digest = [at; 32];
        digest[..8].copy_from_slice(&number.to_le_bytes());
        let scheme = Scheme::ALL[usize::from(at) % Scheme::ALL.len()];
        let name = Name::new(scheme, &digest[..scheme.digest_len()]).unwrap();
        let (evidence, stated_by) = (Evidence::Attested, "operator".into());
        Known { name, evidence, stated_by, since: UNIX_EPOCH + Duration::from_secs(1 << 30) }
    };
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_le_bytes());
    Content {
        id: ContentId::from_bytes(id),
        length: Some(number),
        title: format!("film number {number}"),
        names: (0..names).map(known).collect(),
    }
}

fn rows(catalog: &Catalog) -> HashMap<ContentId, Content> {
    let (mut rows, mut cursor) = (HashMap::new(), Some(0));
    while let Some(from) = cursor {
        let (page, next) = catalog.page(from, 7);
        for row in page {
            assert!(rows.insert(row.id, row).is_none(), "a row came twice");
        }
        cursor = next;
    }
    rows
}

/// What a catalog should be, in a plain map: no name is of two contents.
#[derive(Default)]
struct Model(HashMap<ContentId, Content>);

impl Model {
    /// As the table does it: the content that gets a name, then the others without it.
    fn put(&mut self, catalog: &Catalog, content: &Content) {
        catalog.put(content);
        for other in self.0.values_mut().filter(|other| other.id != content.id) {
            let before = other.names.len();
            other.names.retain(|known| content.known(&known.name).is_none());
            if other.names.len() < before {
                catalog.put(other);
            }
        }
        self.0.insert(content.id, content.clone());
    }

    fn check(&self, catalog: &Catalog) {
        assert_eq!(rows(catalog), self.0);
        assert_eq!(catalog.len(), self.0.len());
        assert_eq!(catalog.names(), self.0.values().map(|it| it.names.len()).sum::<usize>());
        for content in self.0.values() {
            assert_eq!(catalog.get(&content.id).as_ref(), Some(content));
            for known in &content.names {
                assert_eq!(catalog.of(&known.name).as_ref(), Some(content));
                assert_eq!(catalog.id_of(&known.name), Some(content.id));
            }
        }
        self.check_translation(catalog);
    }

    fn check_translation(&self, catalog: &Catalog) {
        let all = Scheme::ALL.iter().flat_map(|scheme| {
            (0..9).map(|digest| Name::new(*scheme, &[digest; 32][..scheme.digest_len()]).unwrap())
        });
        let (all, to) = (all.collect::<Vec<_>>(), [Scheme::Tth, Scheme::Sha1]);
        let mut found = HashMap::new();
        catalog.translate(&all, &to, &mut |at, it| {
            let mut names = Vec::new();
            it.names(&mut names);
            found.insert(all[at], (it.length(), names));
        });
        for content in self.0.values() {
            let wanted = content.names.iter().filter(|known| to.contains(&known.name.scheme()));
            let names: Vec<_> = wanted.map(|known| (known.name, known.evidence)).collect();
            for known in &content.names {
                assert_eq!(found.remove(&known.name), Some((content.length, names.clone())));
            }
        }
        assert!(found.is_empty(), "names of nothing were found");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn it_is_what_a_plain_map_would_be(
        steps in prop::collection::vec((any_content(12), 0..4u8), 1..40),
        truth in prop::collection::vec(any_content(12), 0..9),
    ) {
        let (catalog, mut model) = (Catalog::new(), Model::default());
        for (content, what) in &steps {
            if *what == 0 {
                let known = model.0.remove(&content.id).is_some();
                assert_eq!(catalog.remove(&content.id), known);
                assert!(catalog.get(&content.id).is_none());
            } else {
                model.put(&catalog, content);
            }
        }
        model.check(&catalog);
        // Then a store says otherwise.
        let (other, mut next) = (Catalog::new(), Model::default());
        for content in &truth {
            next.put(&other, content);
        }
        let mut reload = catalog.reload();
        for content in next.0.values() {
            reload.put(content);
        }
        reload.finish();
        next.check(&catalog);
    }
}

#[test]
fn a_name_goes_to_who_was_put_last() {
    let catalog = Catalog::new();
    let (one, two) = (content(1, 3), content(2, 3));
    catalog.put(&one);
    catalog.put(&two);
    let mut both = two.clone();
    both.names.extend(one.names.iter().cloned());
    catalog.put(&both);
    assert_eq!(catalog.of(&one.names[1].name).as_ref(), Some(&both));
    assert!(catalog.remove(&one.id) && !catalog.remove(&one.id));
    assert_eq!(catalog.of(&one.names[1].name).as_ref(), Some(&both));
    assert_eq!((catalog.len(), catalog.names()), (1, 6));
    catalog.put(&two);
    assert_eq!((catalog.of(&one.names[1].name), catalog.names()), (None, 3));
}

#[test]
fn pages_go_on_while_others_come_and_go() {
    let catalog = Catalog::new();
    let all: Vec<_> = (0..500).map(|number| content(number, 2)).collect();
    all.iter().for_each(|content| catalog.put(content));
    let (mut seen, mut cursor) = (HashMap::new(), Some(0));
    let mut number = 0;
    while let Some(from) = cursor {
        let (page, next) = catalog.page(from, 70);
        assert!(page.len() <= 70);
        for row in page {
            assert!(seen.insert(row.id, row).is_none());
        }
        // Even ones stay, odd ones go, others take their slots, and some that stay grow.
        for _ in 0..20 {
            catalog.remove(&all[number * 2 + 1].id);
            catalog.put(&content(1_000 + number as u64, 3));
            catalog.put(&content(number as u64 * 2, 5));
            number += 1;
        }
        cursor = next;
    }
    assert!(all.iter().step_by(2).all(|content| seen.contains_key(&content.id)));
    assert_eq!(catalog.page(u64::MAX, 10), (vec![], None));
}

#[test]
fn readers_see_whole_contents_while_it_changes() {
    let catalog = Catalog::new();
    (0..1_000).for_each(|number| catalog.put(&content(number, 4)));
    let (done, longest) = (AtomicBool::new(false), AtomicU64::new(0));
    let reader = |seed: u64| {
        let mut number = seed;
        while !done.load(Ordering::Relaxed) {
            number = (number + 7) % 1_000;
            let asked = content(number, 4).names;
            let began = Instant::now();
            let found = catalog.of(&asked[2].name);
            longest.fetch_max(began.elapsed().as_micros() as u64, Ordering::Relaxed);
            if let Some(found) = found {
                assert!(found == content(number, 4) || found == content(number, 9));
            } else {
                assert!(number % 2 == 1, "{number} is never taken out");
            }
            let names: Vec<_> = (number..number + 40).map(|at| content(at % 1_000, 4)).collect();
            let names: Vec<_> = names.iter().map(|content| content.names[0].name).collect();
            catalog.translate(&names, &Scheme::ALL, &mut |at, found| {
                let it = (number + at as u64) % 1_000;
                assert_eq!(found.length(), Some(it));
                let mut names = Vec::new();
                found.names(&mut names);
                assert!([4, 9].contains(&names.len()));
            });
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| reader(1));
        scope.spawn(|| reader(500));
        for round in 0..8 {
            for number in 0..1_000 {
                catalog.put(&content(number, if (round + number) % 3 == 0 { 9 } else { 4 }));
                if number % 2 == 1 && round % 2 == 0 {
                    catalog.remove(&content(number, 0).id);
                }
            }
            (0..500).for_each(|more| catalog.put(&content(round * 500 + more + 10_000, 4)));
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(catalog.len(), 5_000);
    assert!(longest.into_inner() < 5_000_000, "readers get through");
}

#[test]
fn what_it_says_of_its_memory_is_near_what_it_holds() {
    let catalog = Catalog::new();
    let empty = catalog.memory();
    (0..50_000).for_each(|number| catalog.put(&content(number, 4)));
    let a_name = (catalog.memory() - empty) as f64 / catalog.names() as f64;
    assert!((50.0..100.0).contains(&a_name), "{a_name:.1} bytes a name");
}
