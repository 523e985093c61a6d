use proptest::prelude::*;

use super::*;
use crate::bittorrent::wire::bencode::{DictEncoder, Encoder, encode_dict};

const ORACLE: [(&str, &[u8], &str, &str, u32); 6] = [
    (
        "v1",
        include_bytes!("../../../tests/fixtures/bittorrent/v1.torrent"),
        "bb7fe3e18adc4161342275d0af8a4e0f7b25f5ea",
        "",
        6,
    ),
    (
        "v2",
        include_bytes!("../../../tests/fixtures/bittorrent/v2.torrent"),
        "",
        "8f6553397fbb8898b0a3e9d016769d1984fbcf933f4a7efbf214465a79b2d6ad",
        9,
    ),
    (
        "hybrid",
        include_bytes!("../../../tests/fixtures/bittorrent/hybrid.torrent"),
        "b00e5e4640296212b23ca5b6815e37efb7d83cf9",
        "b007b1622b7be96ecda016aad1a6fbdb226ccab3768f35d1f77f61ab8af392c8",
        9,
    ),
    (
        "v1-single",
        include_bytes!("../../../tests/fixtures/bittorrent/v1-single.torrent"),
        "d08295a3c50e274bb34a9abf02294128353722e4",
        "",
        4,
    ),
    (
        "v2-single",
        include_bytes!("../../../tests/fixtures/bittorrent/v2-single.torrent"),
        "",
        "57208f5a806e92d5262a2df749050cb38d94e963d2fabbd6f5e6e5f263db4003",
        4,
    ),
    (
        "hybrid-single",
        include_bytes!("../../../tests/fixtures/bittorrent/hybrid-single.torrent"),
        "f9737336db4037f675ef10778d45246d61acd793",
        "0c673a6e06331734ca239c3e7f7b7666208a1f210c8c7293f085f51404dfcfa6",
        4,
    ),
];

fn parse(source: &[u8]) -> Result<Metainfo> {
    Metainfo::parse(&Bytes::copy_from_slice(source))
}

fn hex(bytes: Option<&[u8]>) -> String {
    bytes.map(|bytes| data_encoding::HEXLOWER.encode(bytes)).unwrap_or_default()
}

#[test]
fn agrees_with_libtorrent_on_names_and_places() {
    for (what, source, btih, btmh, pieces) in ORACLE {
        let metainfo = parse(source).unwrap();
        assert_eq!(hex(metainfo.btih.as_ref().map(<[u8; 20]>::as_slice)), btih, "{what}");
        assert_eq!(hex(metainfo.btmh.as_ref().map(<Hash>::as_slice)), btmh, "{what}");
        assert_eq!(metainfo.piece_count(), pieces, "{what}");
        assert_eq!(metainfo.private, what == "v1-single");
        let tiers = [["http://one.example/announce"], ["udp://two.example:6969/announce"]];
        assert_eq!(metainfo.trackers, tiers, "{what}");
        let names = metainfo.names();
        assert_eq!(metainfo.wire_name().len(), names.len());
        assert!(metainfo.wire_name().iter().zip(&names).all(|(w, n)| n.digest().starts_with(w)));
        let places: Vec<_> =
            metainfo.files.iter().map(|file| (file.path.as_str(), file.offset)).collect();
        let expected: &[_] = match what {
            "v1" => &[
                ("a.bin", 0),
                ("empty", 100_000),
                ("z.txt", 100_000),
                ("sub/b.bin", 100_011),
                ("sub/deep/c.bin", 116_395),
            ],
            "v2" => &[
                ("a.bin", 0),
                ("empty", 100_000),
                ("sub/b.bin", 131_072),
                ("sub/deep/c.bin", 163_840),
                ("z.txt", 262_144),
            ],
            "hybrid" => &[
                ("a.bin", 0),
                ("empty", 131_072),
                ("sub/b.bin", 131_072),
                ("sub/deep/c.bin", 163_840),
                ("z.txt", 262_144),
            ],
            _ => &[("a.bin", 0)],
        };
        assert_eq!(places, expected, "{what}");
        assert_eq!(metainfo.title, if what.ends_with("single") { "a.bin" } else { "many" });
    }
}

/// A small torrent of version 1, after a change to its `info`.
fn altered(change: impl FnOnce(&mut DictEncoder)) -> Result<Metainfo> {
    let info = |dict: &mut DictEncoder| {
        dict.bytes(b"name", b"x");
        dict.uint(b"piece length", 16);
        dict.bytes(b"pieces", &[0; 40]);
        dict.uint(b"length", 20);
        change(dict);
    };
    parse(&encode_dict(|root| root.entry(b"info", |out| out.dict(info))))
}

fn files(list: &[(&[&str], i64, &str)]) -> Vec<u8> {
    let mut out = Encoder::new();
    out.list(|out| {
        for (path, length, attr) in list {
            out.dict(|file| {
                file.int(b"length", *length);
                file.bytes(b"attr", attr.as_bytes());
                file.entry(b"path", |out| {
                    out.list(|out| path.iter().for_each(|part| out.bytes(part.as_bytes())));
                });
            });
        }
    });
    out.finish()
}

/// The same, of several files.
fn several(list: &[(&[&str], i64, &str)]) -> Result<Metainfo> {
    let files = files(list);
    let info = |dict: &mut DictEncoder| {
        dict.bytes(b"name", b"x");
        dict.uint(b"piece length", 16);
        dict.bytes(b"pieces", &[0; 40]);
        dict.entry(b"files", |out| out.raw(&files));
    };
    parse(&encode_dict(|root| root.entry(b"info", |out| out.dict(info))))
}

#[test]
fn says_what_is_wrong_with_a_torrent() {
    let text = |result: Result<Metainfo>| result.unwrap_err().to_string();
    assert!(altered(|_| {}).is_ok());
    assert_eq!(text(altered(|d| d.uint(b"piece length", 0))), "`piece length`: 0");
    assert!(text(altered(|d| d.uint(b"piece length", 1 << 27))).contains("64 MiB"));
    assert!(text(altered(|d| d.int(b"length", -1))).contains("-1 < 0"));
    assert_eq!(
        text(altered(|d| d.uint(b"length", 33))),
        "`pieces`: 33 bytes in pieces of 16 are 3 hashes of 20 bytes, not 40 bytes"
    );
    assert_eq!(
        text(altered(|d| d.bytes(b"name", b".."))),
        "`name`: the part \"..\" leads out of its folder"
    );
    assert_eq!(text(altered(|d| d.int(b"name", 1))), "`name` is an integer, not a string");
    assert!(text(altered(|d| d.uint(b"meta version", 3))).contains("is not known"));
    assert!(text(altered(|d| d.uint(b"meta version", 2))).contains("power of two"));
    assert!(altered(|d| d.uint(b"private", 1)).unwrap().private);
    assert!(altered(|d| d.bytes(b"private", b"?")).unwrap().private);
    assert_eq!(text(parse(b"de")), "`info` is missing");
    assert_eq!(text(parse(b"le")), "`the file` is a list, not a dictionary");
    assert!(text(parse(b"hello")).starts_with("not a .torrent file: byte 0"));
    assert!(text(parse(&vec![b'l'; MAX_SOURCE + 1])).contains("too much"));
}

#[test]
fn checks_the_paths_of_files() {
    let good =
        several(&[(&["a", "b"], 10, ""), (&[".pad", "6"], 6, "p"), (&["c"], 4, "x")]).unwrap();
    let paths: Vec<_> = good.files.iter().map(|f| (f.path.as_str(), f.offset)).collect();
    assert_eq!((paths, good.length), (vec![("a/b", 0), ("c", 16)], 20));
    for bad in [&["a/b"][..], &[""], &["a", ".."], &["."], &["a\0"], &[]] {
        let error = several(&[(bad, 20, "")]).unwrap_err().to_string();
        assert!(error.starts_with("`path`: "), "{error}");
    }
    let huge = several(&[(&["a"], i64::MAX, ""), (&["b"], i64::MAX, "")]).unwrap_err();
    assert!(huge.to_string().contains("2^63"), "{huge}");
    assert!(several(&[(&["a"], 0, "")]).is_err());
}

#[test]
fn a_hybrid_whose_versions_differ_is_refused() {
    let hybrid = ORACLE[2].1;
    let find = |needle: &[u8]| hybrid.windows(needle.len()).position(|w| w == needle).unwrap();
    let mut other_path = hybrid.to_vec();
    other_path[find(b"4:pathl5:a.bin") + 9] = b'q';
    assert!(parse(&other_path).unwrap_err().to_string().contains("in version 1"));
    let mut other_layer = hybrid.to_vec();
    let at = find(b"12:piece layersd32:") + 19 + 32 + 4;
    other_layer[at] ^= 1;
    let error = parse(&other_layer).unwrap_err().to_string();
    assert!(error.contains("does not hash to its `pieces root`"), "{error}");
}

proptest! {
    #[test]
    fn no_altered_torrent_makes_it_panic(
        which in 0usize..6, changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)
    ) {
        let mut source = ORACLE[which].1.to_vec();
        for (at, byte) in changes {
            let at = at.index(source.len());
            source[at] = byte;
        }
        if let Ok(description) = crate::bittorrent::describe::describe(&source) {
            description.integrity.check(0, &[Bytes::from(vec![0; 32_768])]);
        }
    }
}
