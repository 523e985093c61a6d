use proptest::prelude::*;

use super::*;

const LINKS: &str = include_str!("../../../tests/fixtures/ed2k/links.txt");

fn file(link: &str) -> Ed2kFileLink {
    link.parse().unwrap()
}

fn error(link: &str) -> String {
    link.parse::<Ed2kFileLink>().unwrap_err().to_string()
}

#[test]
fn links_of_other_programs_are_read_and_written_alike() {
    let mut with_parts = 0;
    for line in LINKS.lines().filter(|line| !line.starts_with('#')) {
        let link = file(line);
        assert_eq!(link.to_string().to_lowercase(), line);
        let parts = link.parts.as_ref().map(|parts| parts.hashes().len() as u64);
        if let Some(parts) = parts {
            assert_eq!(parts, link.length.div_ceil(ED2K_PART));
            with_parts += 1;
        }
    }
    assert_eq!(with_parts, 4);
}

#[test]
fn every_spelling_is_read() {
    let hash = "51b834b7c1ef0b59ea50888fcb39ace2";
    let aich = "ch3k3dwffiuyjk5k7v6dwulfan4fyids";
    let plain = file(&format!("ed2k://|file|%c3%bc%20a%2bb%7cc.txt|1|{hash}|h={aich}|/"));
    assert_eq!((plain.title.as_str(), plain.length), ("ü a+b|c.txt", 1));
    assert!(plain.aich.is_some() && plain.sources.is_empty());
    let spaced = file(&format!("ED2K://|FILE|ü a+b%7Cc.txt| 1 |{hash}|s=http://a/b|H={aich}| / "));
    assert_eq!(spaced, plain);
    let escaped = file(&format!("ed2k://%7Cfile%7Cx%7C1%7C{hash}%7C/"));
    assert_eq!((escaped.title.as_str(), escaped.hash), ("x", plain.hash));
    let sources = file(&format!(
        "ed2k://|file|x|1|{hash}|/|sources,1.2.3.4:4662,a.example:1:131:{hash},:1,b:0,c:x,d|/"
    ));
    assert_eq!(sources.sources, [("1.2.3.4".to_owned(), 4662), ("a.example".to_owned(), 1)]);
    assert_eq!(
        sources.to_string(),
        format!("ed2k://|file|x|1|{hash}|/|sources,1.2.3.4:4662,a.example:1|/")
    );
    let server: Ed2kServerLink = "ed2k://|server|198.51.100.1|4661|/".parse().unwrap();
    assert_eq!((server.host.as_str(), server.port), ("198.51.100.1", 4661));
    assert_eq!(server.to_string(), "ed2k://|server|198.51.100.1|4661|/");
}

/// Zero bytes; the hashes are those of other programs.
#[test]
fn part_hashes_must_give_the_hash() {
    let part = "d7def262a127cd79096a108e7a9fc138";
    let empty = "31d6cfe0d16ae931b73c59d7e0c089c0";
    let link = |length: u64, hash: &str, parts: &[&str]| {
        format!("ed2k://|file|x|{length}|{hash}|p={}|/", parts.join(":"))
    };
    let listed = |length, hash, parts: &[&str]| {
        let parts = file(&link(length, hash, parts)).parts.unwrap();
        (parts.hashes().len(), parts.listed().len())
    };
    let red = "fc21d9af828f92a8df64beac3357425d";
    assert_eq!(listed(9_728_000, red, &[part, empty]), (1, 2));
    assert_eq!(listed(9_728_000, red, &[part]), (1, 2));
    assert_eq!(listed(9_728_000, part, &[part]), (1, 1));
    assert_eq!(listed(0, empty, &[empty]), (1, 1));
    let (two, blue) = ("114b21c63a74b6ca922291a11177dd5c", "194ee9e4fa79b2ee9f8829284c466051");
    assert_eq!(listed(19_456_000, two, &[part, part, empty]), (2, 3));
    assert_eq!(listed(19_456_000, two, &[part, part]), (2, 3));
    assert_eq!(listed(19_456_000, blue, &[part, part]), (2, 2));
    let error = |length, hash, parts: &[&str]| error(&link(length, hash, parts));
    let wrong = error(19_456_000, two, &[part, empty]);
    assert_eq!(wrong, format!("its part hashes are not of urn:ed2k:{two}"));
    let short = error(9_728_001, red, &[part]);
    assert_eq!(short, "it has 1 part hashes; a file of 9728001 bytes has 2");
    assert!(error(19_456_000, blue, &[part, part, part]).contains("not of"));
    assert!(error(5, red, &[part]).contains("not of"));
    assert!(error(5, red, &["12"]).contains("no ed2k digest"));
}

#[test]
fn what_is_wrong_is_said() {
    let hash = "51b834b7c1ef0b59ea50888fcb39ace2";
    assert_eq!(error("http://x"), "`http://x` is no ed2k link");
    assert!(error("ed2k://|server|1.2.3.4|4661|/").ends_with("but not of a file"));
    assert!(error("ed2k://|serverlist|http://x|/").ends_with("not of a file or a server"));
    assert!(error("ed2k://|file|x|1|/").contains("no ed2k digest"));
    assert!(error("ed2k://|file|x").ends_with("it takes |file|NAME|SIZE|HASH|/"));
    assert!(error(&format!("ed2k://|file|x|1|{hash}")).ends_with("end in |/"));
    for size in ["-1", "+1", "", "1.5", "18446744073709551616"] {
        let told = error(&format!("ed2k://|file|x|{size}|{hash}|/"));
        assert_eq!(told, format!("`{size}` is no number of bytes"));
    }
    assert!(error(&format!("ed2k://|file|x|1|{hash}|h=zz|/")).contains("aich"));
    assert_eq!(error(&" ".repeat(MAX_ED2K_LINK + 1)), "it is longer than 1048576 bytes");
    let server = |text: &str| text.parse::<Ed2kServerLink>().unwrap_err().to_string();
    assert_eq!(server("ed2k://|server|1.2.3.4|65536|/"), "`65536` is no port");
    assert_eq!(server("ed2k://|server|1.2.3.4|0|/"), "`0` is no port");
    assert_eq!(server("ed2k://|server|a b|1|/"), "`a b` is no host");
    assert!(server("ed2k://|server|a|1").ends_with("it takes |server|HOST|PORT|/"));
    assert!(server(&format!("ed2k://|file|x|1|{hash}|/")).ends_with("but not of a server"));
}

fn any_file() -> impl Strategy<Value = Ed2kFileLink> {
    let sources = prop::collection::vec(("[a-z0-9.-]{1,20}", 1u16..), 0..4);
    let title = ".{0,40}".prop_map(|title| title.trim().to_owned());
    (title, any::<u64>(), any::<[u8; 16]>(), any::<Option<[u8; 20]>>(), sources).prop_map(
        |(title, length, hash, aich, sources)| Ed2kFileLink {
            title,
            length,
            hash,
            parts: None,
            aich,
            sources,
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read(link in any_file(), parts in prop::collection::vec(any::<[u8; 16]>(), 2..20), last in 1..=ED2K_PART) {
        prop_assert_eq!(&file(&link.to_string()), &link);
        // The same with parts: the file's hash is made of them.
        let length = (parts.len() as u64 - 1) * ED2K_PART + last;
        let whole = parts::of_parts(&parts, false);
        let parts = Ed2kParts::proven(&whole, length, &parts).unwrap();
        let link = Ed2kFileLink { length, hash: whole, parts: Some(parts), ..link };
        prop_assert_eq!(&file(&link.to_string()), &link);
    }

    #[test]
    fn servers_are_written_and_read(host in "[a-z0-9.-]{1,60}", port in 1u16..) {
        let link = Ed2kLink::Server(Ed2kServerLink { host, port });
        prop_assert_eq!(link.to_string().parse(), Ok(link));
    }

    #[test]
    fn no_text_makes_it_panic(text in "(ed2k://\\|(file|server)\\|)?[|/:=,%a-f0-9ps é]{0,120}") {
        let _ = text.parse::<Ed2kLink>();
    }
}
