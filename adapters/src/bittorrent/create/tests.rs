use std::fs;

use bytes::Bytes;
use proptest::prelude::*;

use super::{memory::pieces, *};
use crate::bittorrent::{
    describe::describe,
    merkle,
    metainfo::{Metainfo, Tree},
};

/// Byte `n` of file `seed`, as `make.py` beside the fixtures has it.
fn content(seed: u64, length: u64) -> Vec<u8> {
    (0..length).map(|n| ((n * 31 + n / 251 + seed) % 256) as u8).collect()
}

fn tree(bytes: &[u8], piece_length: u64) -> Option<Tree> {
    let length = bytes.len() as u64;
    let leaves = merkle::leaves(&[Bytes::copy_from_slice(bytes)], length).unwrap();
    let per_piece = usize::try_from(piece_length / merkle::LEAF).unwrap();
    let layer: Vec<_> = leaves
        .chunks(per_piece)
        .flat_map(|leaves| merkle::piece_root(leaves.to_vec(), per_piece as u64))
        .collect();
    (length > 0).then(|| Tree { root: merkle::root(leaves, [0; 32]), layer: layer.into() })
}

fn parts(path: &str) -> Vec<String> {
    path.split('/').filter(|_| !path.is_empty()).map(str::to_owned).collect()
}

/// Makes a torrent of files in memory: their paths, and the seeds of their contents.
fn make(version: Version, title: &str, piece_length: u64, files: &[(&str, u64, u64)]) -> Vec<u8> {
    let listed = files.iter().map(|(path, _, length)| (parts(path), *length)).collect();
    let plan = Plan::new(version, title, piece_length, listed).unwrap();
    let (mut layout, mut trees) = (Vec::new(), Vec::new());
    for file in plan.files() {
        let path = file.path.join("/");
        let seed = files.iter().find(|(other, _, _)| *other == path).unwrap().1;
        let bytes = content(seed, file.length);
        layout.extend_from_slice(&bytes);
        layout.resize(layout.len() + usize::try_from(file.padding).unwrap(), 0);
        if version.has_v2() {
            trees.push(tree(&bytes, piece_length));
        }
    }
    let pieces = pieces(&layout, piece_length);
    plan.torrent(&Hashes { pieces: &pieces, trees: &trees }, &Surroundings::default()).unwrap()
}

const MANY: [(&str, u64, u64); 5] = [
    ("z.txt", 5, 11),
    ("a.bin", 1, 100_000),
    ("sub/deep/c.bin", 4, 70_001),
    ("empty", 2, 0),
    ("sub/b.bin", 3, 16_384),
];

#[test]
fn torrents_are_those_of_libtorrent() {
    let fixture = |name: &str| {
        let path = format!("{}/../tests/fixtures/bittorrent/", env!("CARGO_MANIFEST_DIR"));
        Metainfo::parse(&fs::read(path + name).unwrap().into()).unwrap()
    };
    let lone = [("", 1, 100_000)];
    for (name, version, title, files) in [
        ("v2.torrent", Version::V2, "many", &MANY[..]),
        ("hybrid.torrent", Version::Hybrid, "many", &MANY),
        ("v2-single.torrent", Version::V2, "a.bin", &lone),
        ("hybrid-single.torrent", Version::Hybrid, "a.bin", &lone),
    ] {
        let theirs = fixture(name);
        let ours = Metainfo::parse(&make(version, title, 32_768, files).into()).unwrap();
        assert_eq!(ours.info_bytes, theirs.info_bytes, "{name}");
        assert_eq!((ours.names(), &ours.files), (theirs.names(), &theirs.files), "{name}");
    }
    // This one is private, and the order of the other's files is that of a directory on a disk.
    let ours = Metainfo::parse(&make(Version::V1, "a.bin", 32_768, &lone).into()).unwrap();
    assert_eq!(ours.pieces, fixture("v1-single.torrent").pieces);
}

#[test]
fn files_lie_in_the_order_of_each_version() {
    let order = |version| {
        let files = ["a/x", "a-b/z", "a.b", "A", "ü", ".h/q"]
            .map(|path| (path.split('/').map(str::to_owned).collect::<Vec<_>>(), 20_000));
        let plan = Plan::new(version, "m", 16_384, files.to_vec()).unwrap();
        let paths = plan.files().iter().map(|file| (file.path.join("/"), file.padding));
        paths.collect::<Vec<_>>()
    };
    let v1 = [".h/q", "A", "a-b/z", "a.b", "a/x", "ü"].map(|path| (path.to_owned(), 0));
    let v2 = [".h/q", "A", "a/x", "a-b/z", "a.b", "ü"];
    assert_eq!(order(Version::V1), v1);
    assert_eq!(order(Version::V2), v2.map(|path| (path.to_owned(), 0)));
    assert_eq!(order(Version::Hybrid), v2.map(|path| (path.to_owned(), 12_768)));
}

#[test]
fn padding_is_between_files_and_not_behind_a_lone_one() {
    let padding = |lengths: &[u64]| {
        let files = lengths.iter().enumerate();
        let files = files.map(|(n, length)| (vec![n.to_string()], *length)).collect();
        let plan = Plan::new(Version::Hybrid, "m", 16_384, files).unwrap();
        assert_eq!(plan.is_padded(), lengths.len() > 1);
        plan.files().iter().map(|file| file.padding).collect::<Vec<_>>()
    };
    assert_eq!(padding(&[5]), [0]);
    assert_eq!(padding(&[5, 0]), [16_379, 0]);
    assert_eq!(padding(&[0, 16_384, 16_385, 16_383]), [0, 0, 16_383, 1]);
}

#[test]
fn what_readers_would_refuse_is_not_made() {
    let refused = |version, title: &str, piece_length, files: &[(&str, u64)]| {
        let files = files.iter().map(|(path, length)| (parts(path), *length)).collect();
        Plan::new(version, title, piece_length, files).unwrap_err().to_string()
    };
    for (piece_length, version) in
        [(0, Version::V1), (1 << 27, Version::V1), (8192, Version::V2), (20_000, Version::Hybrid)]
    {
        let error = refused(version, "t", piece_length, &[("a", 1)]);
        assert!(error.contains(&format!("pieces cannot have {piece_length} bytes")), "{error}");
    }
    for (files, problem) in [
        (&[("a", 0), ("b", 0)][..], "no files with bytes"),
        (&[("a/b", 1), ("a/b", 1)], "`a/b` is there twice"),
        (&[("a", 1), ("a-", 1), ("a/b", 1)], "`a/b` is there twice, or is both"),
        (&[("a/../b", 1)], "`a/../b`: the part \"..\" leads out"),
        (&[("a//b", 1)], "the part \"\" is empty"),
        (&[("a", u64::MAX), ("b", 1)], "more than 2^63 bytes"),
    ] {
        let error = refused(Version::V1, "t", 16_384, files);
        assert!(error.contains(problem), "{error}");
    }
    assert!(refused(Version::V1, "a/b", 1, &[("a", 1)]).contains("has a slash"));
    let deep = ["a"; 65].join("/");
    assert!(refused(Version::V1, "t", 1, &[(&deep, 1)]).contains("65 parts"));
    let many: Vec<_> = (0..50_001).map(|n| (vec![n.to_string()], 1)).collect();
    let error = Plan::new(Version::Hybrid, "t", 1 << 14, many.clone()).unwrap_err();
    assert_eq!(error, CreateError::TooManyFiles(100_002));
    assert!(Plan::new(Version::V2, "t", 1 << 14, many).is_ok());
}

#[test]
fn hashes_of_other_files_are_refused() {
    let plan = |version| {
        let files = vec![(vec!["a".to_owned()], 40_000), (vec!["b".to_owned()], 0)];
        Plan::new(version, "m", 16_384, files).unwrap()
    };
    let error = |version, pieces: &[u8], trees: &[Option<Tree>]| {
        plan(version).info(&Hashes { pieces, trees }).unwrap_err().to_string()
    };
    assert!(error(Version::V1, &[0; 40], &[]).contains("the pieces are 2, and 3 are needed"));
    let good = tree(&content(1, 40_000), 16_384);
    assert!(
        error(Version::V2, &[], std::slice::from_ref(&good)).contains("the files are 1, and 2")
    );
    assert!(error(Version::Hybrid, &[0; 60], &[None, None]).contains("`a` are 0, and 1"));
    assert!(error(Version::V2, &[], &[good.clone(), good]).contains("`b` are 1, and 0"));
    let short = tree(&content(1, 20_000), 16_384);
    assert!(error(Version::V2, &[], &[short, None]).contains("pieces of `a` are 2, and 3"));
}

#[test]
fn trackers_date_and_program_stand_around_the_info() {
    let plan = Plan::new(Version::V1, "t", 16_384, vec![(Vec::new(), 1)]).unwrap();
    let tiers =
        vec![vec!["http://one".to_owned(), "udp://two:1".to_owned()], vec!["http://3".into()]];
    let around = Surroundings {
        trackers: tiers.clone(),
        creation_date: Some(1_700_000_000),
        created_by: Some("p2p-bridge".to_owned()),
    };
    let torrent = plan.torrent(&Hashes { pieces: &[0; 20], trees: &[] }, &around).unwrap();
    let text = String::from_utf8_lossy(&torrent).into_owned();
    assert!(text.starts_with("d8:announce10:http://one13:announce-listll"), "{text}");
    assert!(
        text.contains("10:created by10:p2p-bridge13:creation datei1700000000e4:info"),
        "{text}"
    );
    assert_eq!(Metainfo::parse(&torrent.into()).unwrap().trackers, tiers);
}

/// What libtorrent 2.0.8 chose for these totals.
#[test]
fn pieces_are_as_large_as_libtorrent_has_them() {
    for (total, wanted) in [
        (1, 1 << 14),
        (1 << 20, 1 << 14),
        (1 << 23, 1 << 15),
        (1 << 24, 1 << 16),
        (1 << 26, 1 << 17),
        (1 << 28, 1 << 18),
        (1 << 30, 1 << 19),
        (1 << 31, 1 << 19),
        (1 << 32, 1 << 20),
        (3 << 32, 1 << 21),
        (1 << 36, 1 << 22),
        (1 << 40, 1 << 24),
        (u64::MAX, 1 << 24),
    ] {
        assert_eq!(default_piece_length(total), wanted, "{total}");
    }
}

#[test]
fn bytes_in_memory_become_a_torrent_that_can_be_read() {
    let tiers = [vec!["http://one".to_owned()], vec!["http://three".to_owned()]];
    let source = of_bytes(&[7; 1038], "x", 100, &tiers).unwrap();
    let metainfo = Metainfo::parse(&Bytes::from(source.clone())).unwrap();
    assert_eq!((metainfo.title.as_str(), metainfo.trackers), ("x", tiers.to_vec()));
    let description = describe(&source).unwrap();
    assert!(description.integrity.check(10, &[Bytes::from(vec![7; 38])]));
    assert_eq!(of_bytes(&[], "x", 100, &[]), Err(CreateError::Empty));
}

fn any_files() -> impl Strategy<Value = Vec<(String, u64, u64)>> {
    let part = || "[a-c.ü-]{1,2}".prop_filter("leads out", |part| part != "." && part != "..");
    let path = prop::collection::vec(part(), 1..4).prop_map(|parts| parts.join("/"));
    let length = prop_oneof![Just(0), 1..40_000u64, Just(16_384), Just(32_768), Just(32_769)];
    prop::collection::vec((path, any::<u8>().prop_map(u64::from), length), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever can be planned can be read back, and its pieces are those of the files.
    #[test]
    fn what_is_made_is_read(files in any_files(), large in any::<bool>()) {
        let piece_length = if large { 32_768 } else { 16_384 };
        let listed: Vec<(&str, u64, u64)> =
            files.iter().map(|(path, seed, length)| (path.as_str(), *seed, *length)).collect();
        let plain = listed.iter().map(|(path, _, length)| (parts(path), *length)).collect();
        prop_assume!(Plan::new(Version::Hybrid, "t", piece_length, plain).is_ok());
        for version in [Version::V1, Version::V2, Version::Hybrid] {
            let description = describe(&make(version, "t", piece_length, &listed)).unwrap();
            prop_assert_eq!(description.names.len(), 1 + usize::from(version == Version::Hybrid));
            prop_assert_eq!(description.files.len(), files.len());
            let mut layout = vec![0; usize::try_from(description.length).unwrap()];
            for file in &description.files {
                let (_, seed, length) = listed.iter().find(|it| it.0 == file.path).unwrap();
                prop_assert_eq!(*length, file.length);
                let start = usize::try_from(file.offset).unwrap();
                let bytes = content(*seed, *length);
                layout[start..start + bytes.len()].copy_from_slice(&bytes);
            }
            for (piece, bytes) in (0u32..).zip(layout.chunks(piece_length as usize)) {
                prop_assert!(description.integrity.check(piece, &[Bytes::copy_from_slice(bytes)]));
            }
        }
    }
}
