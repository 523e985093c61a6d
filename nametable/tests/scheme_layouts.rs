//! How the chunks of any two schemes correspond: what the table says, against plain arithmetic on bytes.
// clippy.toml allows this in tests; clippy does not see that their helpers are tests too.
#![allow(clippy::unwrap_used)]

use std::{ops::Range, sync::Arc};

use p2pbridge_nametable::{
    MemoryStore, NameTable, Proposal, ProposedFile, Statement, digest, map_availability, map_chunks,
};
use p2pbridge_proto::{Bits, Evidence, Layout, Name, Scheme};
use proptest::prelude::*;

/// A table that knows one content by a name of each scheme: those of BitTorrent by a description with pieces of so many
/// bytes.
fn table(length: u64, piece: u64) -> NameTable {
    let table = NameTable::open(Box::new(MemoryStore::new())).unwrap();
    let names: Vec<Name> = Scheme::ALL.into_iter().map(name).collect();
    let file = ProposedFile { path: "a".to_owned(), offset: 0, length, digest: None };
    let torrent = Proposal {
        names: vec![name(Scheme::Btih), name(Scheme::Btmh)],
        title: "a".to_owned(),
        length,
        unit: piece,
        files: vec![file],
        overlays: vec![],
        label: "a".to_owned(),
        stated_by: "test".to_owned(),
        description: None,
    };
    table.bind(&[torrent]).unwrap();
    let statement = Statement {
        content: None,
        names,
        length: Some(length),
        title: "a".to_owned(),
        evidence: Evidence::Attested,
        stated_by: Arc::from("test"),
    };
    let outcomes = table.state(&[statement]).unwrap();
    assert!(outcomes[0].content.is_some(), "{outcomes:?}");
    table
}

/// A digest for each scheme; those that must be equal are.
fn name(scheme: Scheme) -> Name {
    let byte = if scheme == Scheme::CidRaw { Scheme::Sha256 as u8 } else { scheme as u8 };
    Name::new(scheme, &vec![byte; scheme.digest_len()]).unwrap()
}

/// The bytes of a chunk, plainly.
fn chunk(length: u64, unit: u64, number: u64) -> Range<u64> {
    (number * unit).min(length)..((number + 1) * unit).min(length)
}

fn layouts(length: u64, piece: u64) -> Vec<(Scheme, u64, Arc<Layout>)> {
    let table = table(length, piece);
    let of = |scheme| {
        let unit = digest::unit(scheme, length).unwrap_or(piece);
        (scheme, unit, table.layout(&name(scheme)).unwrap())
    };
    Scheme::ALL.into_iter().map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn chunks_of_any_scheme_map_to_those_of_any_other(
        length in prop_oneof![1u64..50_000, 9_700_000u64..40_000_000], piece in 14u32..24, pick: u64,
    ) {
        let all = layouts(length, 1 << piece);
        for (_, unit, from) in &all {
            let unit = *unit;
            prop_assert_eq!((from.length(), from.unit()), (length, unit));
            let count = length.div_ceil(unit);
            prop_assert_eq!(u64::from(from.chunk_count()), count);
            let number = pick % count;
            let bytes = chunk(length, unit, number);
            for (to_scheme, to_unit, to) in &all {
                let first = u32::try_from(number).unwrap();
                let mapped = map_chunks(from, to, first..first + 1);
                // One content, whole on both sides: a run of bytes is the same run there.
                prop_assert_eq!(mapped.len(), 1, "{}", to_scheme);
                prop_assert_eq!((&mapped[0].from, &mapped[0].to), (&bytes, &bytes));
                let chunks = to.chunks_of(&mapped[0].to);
                let model = bytes.start / to_unit..(bytes.end - 1) / to_unit + 1;
                prop_assert_eq!(u64::from(chunks.start)..u64::from(chunks.end), model);
            }
        }
    }

    #[test]
    fn availability_of_any_scheme_is_that_of_its_bytes(
        length in prop_oneof![1u64..50_000, 9_700_000u64..20_000_000], piece in 14u32..22, seed: u64,
    ) {
        let all = layouts(length, 1 << piece);
        // A few of the pairs in each case: all of them in some case.
        for step in 0..6 {
            let number = |salt: u64| usize::try_from((seed >> (8 * step)).wrapping_mul(salt) % 12).unwrap();
            let ((_, unit, from), (_, to_unit, to)) = (&all[number(7)], &all[number(5)]);
            let mut have = Bits::none(from.chunk_count());
            for chunk in 0..from.chunk_count() {
                if seed.rotate_left(chunk / 3) & 7 != 0 {
                    have.set(chunk);
                }
            }
            let whole = map_availability(from, &have, to);
            for number in 0..to.chunk_count() {
                let bytes = chunk(length, *to_unit, number.into());
                let needed = bytes.start / unit..(bytes.end - 1) / unit + 1;
                let model = needed.clone().all(|n| have.has(u32::try_from(n).unwrap()));
                prop_assert_eq!(whole.has(number), model, "chunk {} needs {:?}", number, needed);
            }
        }
    }
}
