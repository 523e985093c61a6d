//! Values that others published, or that other programs give.

use super::*;

#[test]
fn no_bytes_have_the_names_that_others_give_them() {
    let digests = of_file(&[], 2);
    let names: Vec<_> =
        digests.names.iter().map(|computed| (computed.rule, computed.text.as_str())).collect();
    assert_eq!(
        names,
        [
            ("sha1", "urn:sha1:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ"),
            (
                "sha256",
                "urn:sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
            ),
            ("ed2k", "urn:ed2k:31d6cfe0d16ae931b73c59d7e0c089c0"),
            ("aich", "urn:aich:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ"),
            ("tth", "urn:tree:tiger:LWPNACQDBZRYXW3VHJVCJ64QBZNGHOHHHZWCLNQ"),
            ("unixfs-v0-2015", "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"),
            ("unixfs-v1-2025", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),
        ]
    );
}

#[test]
fn eleven_bytes_have_the_names_that_others_give_them() {
    let digests = of_file(b"hello world", 1);
    assert_eq!(text(&digests, "unixfs-v0-2015"), "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD");
    assert_eq!(
        text(&digests, "unixfs-v1-2025"),
        "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"
    );
    assert_eq!(text(&digests, "ed2k"), "urn:ed2k:aa010fbc1d14c795d86ef98c95479d17");
    assert_eq!(text(&digests, "ed2k-blue"), "");
    let sha256 = digests.of_scheme(Scheme::Sha256).unwrap();
    assert_eq!(digests.of_scheme(Scheme::PiecesRoot).unwrap().digest(), sha256.digest());
    assert_eq!(digests.of_scheme(Scheme::CidRaw).unwrap().digest(), sha256.digest());
}

#[test]
fn full_parts_have_two_ed2k_hashes() {
    for (length, red, blue) in [
        (9_728_000, "fc21d9af828f92a8df64beac3357425d", "d7def262a127cd79096a108e7a9fc138"),
        (19_456_000, "114b21c63a74b6ca922291a11177dd5c", "194ee9e4fa79b2ee9f8829284c466051"),
    ] {
        let digests = of_file(&vec![0; length], 2);
        assert_eq!(text(&digests, "ed2k"), format!("urn:ed2k:{red}"));
        assert_eq!(text(&digests, "ed2k-blue"), format!("urn:ed2k:{blue}"));
        assert_eq!(digests.parts.len(), length / 9_728_000);
        assert!(digests.parts.iter().all(|part| part.as_slice() == digests.parts[0]));
    }
}

#[test]
fn every_rule_has_a_word_and_every_word_its_rules() {
    for rule in RULES {
        assert!(Rules::parse(rule.word).unwrap().contains(rule.word));
        for scheme in rule.schemes {
            assert!(Rules::parse(scheme.word()).unwrap().contains(rule.word));
            assert!(Rules::of_scheme(*scheme).contains(rule.word));
            assert!(unit(*scheme, 5).is_some());
        }
    }
    let all = Rules::all();
    assert_eq!(all.iter().count(), RULES.len());
    assert_eq!(Rules::parse("cid").unwrap().iter().count(), 2);
    assert_eq!(Rules::parse("ED2K").unwrap().iter().count(), 2);
    assert_eq!(Rules::parse("ed2k-blue").unwrap().iter().count(), 1);
    assert!(Rules::none().is_empty() && Rules::parse("all").unwrap() == all);
    let error = Rules::parse("btih").unwrap_err();
    assert!(error.starts_with("no name that is made of bytes alone is called `btih`"), "{error}");
    let words: std::collections::HashSet<_> = RULES.iter().map(|rule| rule.word).collect();
    let layers: std::collections::HashSet<_> =
        all.layers().iter().map(|layer| layer.what()).collect();
    assert_eq!((words.len(), layers.len()), (RULES.len(), 9));
}

#[test]
fn a_file_that_is_none_is_said_with_its_path() {
    let wanted = Wanted { rules: Rules::all(), torrent: None, threads: 0 };
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_owned(), folder.path().join("nothing")] {
        let error = hash_file(&path, &wanted, &|_| ()).unwrap_err();
        assert!(error.to_string().starts_with(path.to_str().unwrap()), "{error}");
    }
}

#[test]
fn a_file_that_changes_meanwhile_is_refused() {
    let file = file_of(&bytes(8 << 20, 1));
    let wanted = Wanted { rules: Rules::parse("sha1").unwrap(), torrent: None, threads: 1 };
    let grow = |_: u64| file.as_file().write_all(b"more").unwrap();
    let error = hash_file(file.path(), &wanted, &grow).unwrap_err();
    assert!(error.to_string().ends_with("it changed while it was read"), "{error}");
}
