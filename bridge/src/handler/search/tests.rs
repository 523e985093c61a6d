use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use p2pbridge_adapters::TrackerTerms;
use p2pbridge_proto::{Announce, Peer, PeerEvent, Query};
use proptest::prelude::*;
use tokio::time::Instant;

use super::{super::swarms::SwarmTable, query::Item, segment::PLACES, *};

fn words(text: &str) -> Query {
    Query::Words(text.to_owned())
}

/// The keys that a search gives, and whether it has seen all.
fn find(index: &Index<u32>, query: &Query) -> (BTreeSet<u32>, bool) {
    let mut found = BTreeSet::new();
    let term = |hasher: &RandomState| Term::new(query, hasher);
    let all = index.search(&term, &|key| key % 7, |key, _, _| {
        found.insert(*key);
        Some(0)
    });
    (found, all)
}

/// Looks at every title.
fn scan(titles: &BTreeMap<u32, (Vec<String>, u64)>, query: &Query) -> BTreeSet<u32> {
    let hasher = RandomState::new();
    let term = Term::new(query, &hasher);
    let holds = |key: u32, title: &str, length| {
        let sources = || key % 7;
        term.matches(&Item::new(title, length, &hasher, &sources))
    };
    let found = titles
        .iter()
        .filter(|(key, (titles, length))| titles.iter().any(|title| holds(**key, title, *length)));
    found.map(|(key, _)| *key).collect()
}

fn a_title() -> impl Strategy<Value = String> {
    let word =
        prop::sample::select(vec!["a", "B", "ä", "c.mp3", "d", "E", "東京", "f.tar.gz", "g"]);
    prop::collection::vec(word, 0..5).prop_map(|words| words.join("_"))
}

fn a_query() -> impl Strategy<Value = Query> {
    let leaf = prop_oneof![
        4 => a_title().prop_map(Query::Words),
        1 => prop::sample::select(vec!["mp3", "gz", "Tar.gz", "B", "ä", ""])
            .prop_map(|extension| Query::Extension(extension.to_owned())),
        1 => Just(Query::Kind(p2pbridge_proto::FileKind::Audio)),
        1 => (0u64..50).prop_map(Query::MinSize),
        1 => (0u64..50).prop_map(Query::MaxSize),
        1 => (0u32..7).prop_map(Query::MinSources),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Query::All),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Query::Any),
            (inner.clone(), inner)
                .prop_map(|(one, other)| Query::ButNot(Box::new(one), Box::new(other))),
        ]
    })
}

proptest! {
    /// Whatever was put in, changed and taken out: the index finds what looking at every title finds.
    #[test]
    fn an_index_finds_what_a_scan_finds(
        steps in prop::collection::vec((0u32..40, prop::collection::vec(a_title(), 0..3), 0u64..50), 0..120),
        queries in prop::collection::vec(a_query(), 1..8),
    ) {
        let (mut index, mut model) = (Index::new(), BTreeMap::new());
        for (key, mut titles, length) in steps {
            titles.dedup();
            index.set(key, &titles.iter().map(String::as_str).collect::<Vec<_>>(), length);
            if titles.is_empty() {
                model.remove(&key);
            } else {
                model.insert(key, (titles, length));
            }
            prop_assert_eq!(index.contains(&key), model.contains_key(&key));
        }
        for query in &queries {
            prop_assert_eq!(find(&index, query), (scan(&model, query), true), "{:?}", query);
        }
        let is_even = |key: &u32| key.is_multiple_of(2);
        for _ in 0..4 {
            index.sweep(40, is_even);
        }
        model.retain(|key, _| is_even(key));
        for query in &queries {
            prop_assert_eq!(find(&index, query), (scan(&model, query), true), "{:?}", query);
        }
        prop_assert_eq!(index.len(), model.values().map(|(titles, _)| titles.len()).sum::<usize>());
    }
}

#[test]
fn segments_are_packed_and_emptied_and_everything_is_found() {
    let mut index = Index::new();
    let count = 5 * PLACES as u32;
    for key in 0..count {
        index.set(key, &[&format!("file {key} of {}", key % 10)], key.into());
    }
    for key in (0..count).filter(|key| key % 3 != 0) {
        index.remove(&key);
    }
    assert_eq!(index.len(), count.div_ceil(3) as usize);
    for key in (0..count).step_by(1_001) {
        let (found, all) = find(&index, &words(&format!("{key} file")));
        let expected = if key % 3 == 0 && key > 10 { 1 } else { found.len() };
        assert!(all && found.len() == expected && found.contains(&key) == (key % 3 == 0), "{key}");
    }
    let before = index.memory();
    for round in 0..20 {
        for key in 0..count {
            index.set(key, &[&format!("round {round} file {key}")], 1);
            index.remove(&key);
        }
    }
    assert_eq!((index.len(), index.title_bytes()), (0, 0));
    assert!(index.memory() <= 2 * before, "{} after {before}", index.memory());
}

#[test]
fn a_search_costs_so_much_and_no_more() {
    let mut index = Index::new();
    for key in 0..200_000 {
        index.set(key, &["the same title for all of them"], key.into());
    }
    let (found, all) = find(&index, &Query::MinSize(1_000_000));
    assert!(found.is_empty() && !all);
    let everything = words("the same title for all of them");
    let many = Query::All(vec![Query::Any(vec![everything; 8]), Query::MaxSize(0)]);
    assert!(!find(&index, &many).1);
    let (mut seen, term) = (0, |hasher: &RandomState| Term::new(&words("same"), hasher));
    let all = index.search(&term, &|_| 0, |_, _, _| {
        seen += 1;
        Some(100_000)
    });
    assert!(!all && seen <= 10, "{seen}: what is done with what is found costs too");
}

fn name(number: u32) -> Name {
    let mut digest = [0; 20];
    digest[..4].copy_from_slice(&number.to_be_bytes());
    Name::btih(digest)
}

fn announce(number: u32, title: &str, event: PeerEvent) -> Announce {
    let peer = Peer::at(([10, 0, 0, 1], 7).into());
    let title = title.to_owned();
    Announce { event, title, length: Some(9), ..Announce::new(peer, vec![name(number)]) }
}

#[test]
fn announced_titles_are_there_as_long_as_their_peers_and_made_up_ones_are_bounded() {
    let terms =
        TrackerTerms { interval: Duration::from_secs(60), swarms: 100, ..TrackerTerms::default() };
    let (swarms, titles) = (SwarmTable::new(terms), Announced::new(&terms));
    let now = Instant::now();
    let note = |number, title: &str, event, now| {
        let announce = announce(number, title, event);
        let taken = swarms.announce(&announce, false, now).is_ok();
        if taken {
            titles.note(&announce, &swarms);
        }
    };
    let count = || titles.read(Index::len);
    note(1, "one", PeerEvent::Started, now);
    note(1, "another title", PeerEvent::Regular, now);
    note(2, "", PeerEvent::Started, now);
    note(3, "new\nline", PeerEvent::Started, now);
    note(4, &"x".repeat(1_001), PeerEvent::Started, now);
    assert_eq!((count(), titles.read(Index::title_bytes)), (1, 3));
    note(1, "", PeerEvent::Stopped, now);
    assert_eq!(count(), 0);
    for number in 0..10_000 {
        note(number, &format!("made up {number}"), PeerEvent::Started, now);
        assert!(count() <= 100);
    }
    let later = now + Duration::from_secs(200);
    let _ = swarms.size(later);
    for number in 20_000..20_100 {
        note(number, "new", PeerEvent::Started, later);
    }
    assert!((90..=100).contains(&count()), "{}", count());
    // Long titles have as much room as short ones.
    for number in 20_000..20_100 {
        note(number, "", PeerEvent::Stopped, later);
        note(number, &"x".repeat(1_000), PeerEvent::Started, later);
    }
    assert!(titles.read(Index::title_bytes) < 100 * 128 + 1_000);
}
