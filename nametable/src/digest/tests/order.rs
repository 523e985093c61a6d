//! Bytes that come in any order make the names that they make in order.

use std::ops::Range;

use proptest::{prelude::*, sample::SizeRange};

use super::*;

/// Gathers runs, checks what is read at the end, and gives the names.
fn gathered(mut gather: Gather, bytes: &[u8], runs: &[Range<usize>]) -> (Digests, u64) {
    for run in runs {
        gather.add(run.start as u64, &bytes[run.clone()]);
    }
    let expected = gather.to_read();
    let mut read = Vec::new();
    let digests = gather
        .finish(&mut |offset, buffer| {
            let at = offset as usize;
            buffer.copy_from_slice(&bytes[at..at + buffer.len()]);
            read.push(offset..offset + buffer.len() as u64);
            Ok(())
        })
        .unwrap();
    let sum = read.iter().map(|run| run.end - run.start).sum();
    assert_eq!(super::super::runs::union(&[read]), expected);
    (digests, sum)
}

fn cut(length: usize, unit: usize) -> Vec<Range<usize>> {
    (0..length).step_by(unit).map(|start| start..(start + unit).min(length)).collect()
}

fn trees() -> Rules {
    let flat = ["sha1", "sha256", "ed2k"];
    let rules = RULES.iter().filter(|rule| !flat.contains(&rule.word.trim_end_matches("-blue")));
    rules.map(|rule| Rules::parse(rule.word).unwrap()).fold(Rules::none(), Rules::with)
}

#[test]
fn at_every_border_what_comes_in_order_is_read_once() {
    for length in BORDERS {
        let bytes = bytes(length, 7);
        let whole = of_file(&bytes, 1);
        // Short runs only where there are not many of them.
        let short = if length < 2 << 20 { 10_007 } else { 1_000_003 };
        for unit in [1 << 20, short] {
            let gather = Gather::new(length, Rules::all());
            let (digests, read) = gathered(gather, &bytes, &cut(bytes.len(), unit));
            assert_eq!((&digests, read), (&whole, 0), "{length} bytes by {unit}");
        }
    }
}

#[test]
fn trees_take_runs_from_the_end_without_reading_again() {
    for unit in [16_384, 262_144, 1_000_003, 9_728_000] {
        let bytes = bytes(2 * 9_728_000 + 12_345, 3);
        let whole = of_file(&bytes, 2);
        let mut runs = cut(bytes.len(), unit);
        runs.reverse();
        let (digests, read) = gathered(Gather::new(whole.length, trees()), &bytes, &runs);
        assert_eq!(read, 0);
        assert!(digests.names.iter().all(|name| whole.names.contains(name)));
        let (digests, read) = gathered(Gather::new(whole.length, Rules::all()), &bytes, &runs);
        assert_eq!(digests, whole);
        assert!(read >= whole.length - unit as u64, "{read}");
    }
}

#[test]
fn whole_parts_in_any_order_make_the_ed2k_hash_without_reading_again() {
    let bytes = bytes(3 * 9_728_000 + 1, 4);
    let mut runs = cut(bytes.len(), 9_728_000);
    runs.swap(0, 2);
    let rules = Rules::parse("ed2k").unwrap();
    let (digests, read) = gathered(Gather::new(bytes.len() as u64, rules), &bytes, &runs);
    assert_eq!(digests.names, of_file(&bytes, 1).names[2..3]);
    assert_eq!(read, 0);
}

#[test]
fn without_room_it_reads_again_what_it_could_not_keep() {
    let bytes = bytes(3 << 20, 5);
    let whole = of_file(&bytes, 1);
    let mut runs = cut(bytes.len(), 5000);
    runs.reverse();
    for room in [0, 5_000, 100_000] {
        let mut gather = Gather::new(whole.length, Rules::all()).with_room(room);
        for run in &runs {
            gather.add(run.start as u64, &bytes[run.clone()]);
            assert!(gather.memory() < room + 8 * 1024, "{}", gather.memory());
        }
        assert!(gather.is_whole());
        let (digests, _) = gathered(gather, &bytes, &[]);
        assert_eq!(digests, whole);
    }
}

#[test]
fn what_has_not_come_is_read() {
    let bytes = bytes(2 << 20, 6);
    let mut gather = Gather::new(bytes.len() as u64, Rules::all());
    gather.add(100, &bytes[100..900_000]);
    gather.add(bytes.len() as u64 - 5, &[bytes[bytes.len() - 5..].to_vec(), vec![1; 50]].concat());
    gather.add(u64::MAX, b"behind the end");
    assert!(!gather.is_whole());
    assert_eq!(gathered(gather, &bytes, &[]).0, of_file(&bytes, 1));
    let error = Gather::new(5, Rules::all())
        .finish(&mut |_, _| Err(std::io::Error::other("the disk is gone")))
        .unwrap_err();
    assert_eq!(error.to_string(), "the disk is gone");
}

#[test]
fn a_length_that_nobody_can_have_costs_nothing() {
    let mut gather = Gather::new(u64::MAX, Rules::all());
    gather.add(u64::MAX - 3, &[1, 2, 3]);
    gather.add(1 << 63, &[1; 100_000]);
    assert!(!gather.is_whole() && gather.memory() < 1 << 20);
    assert_eq!(gather.to_read(), std::iter::once(0..u64::MAX).collect::<Vec<_>>());
}

/// A length near a border, and runs that overlap, repeat, and leave holes.
fn content_and_runs() -> impl Strategy<Value = (usize, Vec<Range<usize>>)> {
    const BORDERS: &[usize] = &[1024, 16_384, 184_320, 262_144, 1 << 20, 2 << 20, 300_000];
    let length = (proptest::sample::select(BORDERS), 0usize..20_000)
        .prop_map(|(border, more)| border + more - 1000);
    let runs = |size: SizeRange| proptest::collection::vec((any::<u32>(), any::<u16>()), size);
    (length, runs((0..60).into()), any::<u64>()).prop_map(|(length, cuts, seed)| {
        let mut runs = cut(length, 40_000 + seed as usize % 70_000);
        for (at, size) in cuts {
            let start = at as usize % length;
            runs.push(start..(start + size as usize).min(length));
        }
        let mut keys = bytes(runs.len() as u64, seed).into_iter().cycle();
        runs.sort_by_cached_key(|_| keys.next());
        (length, runs)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_order_makes_the_same_names((length, runs) in content_and_runs(), room in 0usize..3_000_000) {
        let bytes = bytes(length as u64, 9);
        let mut gather = Gather::new(length as u64, Rules::all());
        for run in &runs {
            gather.add(run.start as u64, &bytes[run.clone()]);
        }
        prop_assert!(gather.is_whole());
        let (digests, _) = gathered(gather, &bytes, &[]);
        let names = digests.names.iter().map(|name| (name.rule, Some(name.name.digest().to_vec())));
        let models = naive::models(&bytes).into_iter().filter(|(_, digest)| digest.is_some());
        prop_assert_eq!(names.collect::<Vec<_>>(), models.collect::<Vec<_>>());
        let narrow = Gather::new(length as u64, Rules::all()).with_room(room);
        prop_assert_eq!(gathered(narrow, &bytes, &runs).0, digests.clone());
        let trees_only = Gather::new(length as u64, trees());
        prop_assert_eq!(gathered(trees_only, &bytes, &runs).1, 0);
    }

    #[test]
    fn runs_are_a_set_of_bytes(adds in proptest::collection::vec((0u64..60, 0u64..20), 0..30)) {
        let (mut runs, mut model) = (super::super::runs::Runs::default(), [false; 80]);
        for (start, length) in adds {
            let run = start..start + length;
            let was_apart = runs.is_apart(&run);
            let touched = (start.saturating_sub(1)..(run.end + 1).min(80)).any(|at| model[at as usize]);
            prop_assert!(length == 0 || was_apart != touched);
            let fresh: Vec<u64> = runs.add(run.clone()).into_iter().flatten().collect();
            let expected: Vec<u64> = run.clone().filter(|at| !model[*at as usize]).collect();
            prop_assert_eq!(fresh, expected);
            run.clone().for_each(|at| model[at as usize] = true);
            let mut count = 0;
            for at in 0..80usize {
                count += usize::from(model[at] && (at == 0 || !model[at - 1]));
                prop_assert_eq!(runs.contains(&(at as u64..at as u64 + 1)), model[at]);
            }
            prop_assert_eq!(runs.len(), count);
        }
    }
}
