use std::io::BufReader;

use p2pbridge_proto::{Evidence, Name, Scheme};
use proptest::prelude::*;

use super::*;

const SHA1: &str = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
const SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const TTH: &str = "LWPNACQDBZRYXW3VHJVCJ64QBZNGHOHHHZWCLNQ";
const ED2K: &str = "31d6cfe0d16ae931b73c59d7e0c089c0";
const CID: &str = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";

fn all(format: Format, text: &str) -> Vec<Result<Row, RowError>> {
    // A small buffer: whatever is read lies across its borders.
    read(format, BufReader::with_capacity(13, text.as_bytes())).collect()
}

fn rows(format: Format, text: &str) -> Vec<Row> {
    all(format, text).into_iter().map(|row| row.unwrap_or_else(|error| panic!("{error}"))).collect()
}

/// What the errors say, and how many rows came beside them.
fn errors(format: Format, text: &str) -> (Vec<String>, usize) {
    let (good, bad): (Vec<_>, Vec<_>) = all(format, text).into_iter().partition(Result::is_ok);
    (bad.into_iter().map(|error| error.unwrap_err().to_string()).collect(), good.len())
}

fn written(format: Format, rows: &[Row]) -> (String, Vec<Outcome>) {
    let mut writer = Writer::new(format, Vec::new());
    let outcomes = rows.iter().map(|row| writer.write(row).unwrap()).collect();
    (String::from_utf8(writer.finish().unwrap()).unwrap(), outcomes)
}

#[test]
fn a_table_has_urns_or_a_column_for_each_scheme() {
    let text = format!(
        "Title,Length,SHA1, tth ,cid,evidence\r\n\
         \"a, \"\"b\"\"\",5,{SHA1},{TTH},,hint\r\n\
         \r\n\
         c,,,{},{CID},\r\n",
        TTH.to_lowercase()
    );
    let read = rows(Format::Csv, &text);
    assert_eq!((read[0].title.as_str(), read[0].length, read[0].line), ("a, \"b\"", Some(5), 2));
    assert_eq!(read[0].evidence, Some(Evidence::Hint));
    let urns: Vec<_> = read[0].names.iter().map(ToString::to_string).collect();
    assert_eq!(urns[0], format!("urn:tree:tiger:{TTH}"));
    assert!(urns[1].starts_with("urn:sha1:") && urns.len() == 2);
    let schemes: Vec<_> = read[1].names.iter().map(Name::scheme).collect();
    assert_eq!((schemes, read[1].line), (vec![Scheme::Tth, Scheme::CidRaw], 4));

    let text = format!("\u{FEFF}names\nurn:sha1:{SHA1}  urn:ed2k:{ED2K} \n");
    let read = rows(Format::Csv, &text);
    assert_eq!((read[0].names.len(), read[0].length, read[0].evidence), (2, None, None));
}

#[test]
fn a_bad_row_of_a_table_costs_itself_only() {
    let text = format!(
        "names,length,title,evidence\n\
         urn:sha1:{SHA1},1,x,\n\
         urn:sha1:zz,1,x,\n\
         urn:sha1:{SHA1},-1,x,\n\
         urn:sha1:{SHA1},1,\"x,\n\
         urn:sha1:{SHA1},1,x\n\
         urn:sha1:{SHA1},1,x,verified\n\
         ,1,x,\n\
         urn:sha1:{SHA1},1,a\tb,\n\
         urn:sha1:{SHA1},1,x,attested\n"
    );
    let (errors, good) = errors(Format::Csv, &text);
    assert_eq!(good, 2);
    assert_eq!(
        errors,
        [
            "line 3, column `names`: `zz` is no sha1 digest in hex or base32",
            "line 4, column `length`: `-1` is no number of bytes",
            "line 5: it has a quote that is not closed on its line",
            "line 6: it has 3 columns, the header 4",
            "line 7, column `evidence`: `verified` is what a bridge says of bytes that it has hashed; \
             a list says `hint` or `attested`",
            "line 8: it has no name of a scheme that the bridge knows",
            "line 9: its title has a control character, U+0009",
        ]
    );
}

#[test]
fn a_table_without_a_proper_header_is_no_table() {
    let error = |text: &str| {
        let read = all(Format::Csv, text);
        assert_eq!(read.len(), 1, "{text}");
        let error = read.into_iter().next().unwrap().unwrap_err();
        assert!(error.ends());
        error.to_string()
    };
    assert_eq!(error(""), "line 1: it is empty: the first line names the columns");
    assert!(error(&format!("urn:sha1:{SHA1},1\n")).contains("is no column; the first line names"));
    assert_eq!(error("names,title,TITLE\nx"), "line 1: there are two columns `title`");
    assert_eq!(error("length,title\n1,x"), "line 1: no column has names");
    assert!(error(&format!("names{}\n", ",".repeat(40))).contains("more than 32 columns"));
    assert!(error("\"names\n").contains("not closed"));
}

#[test]
fn json_lines_take_known_fields_only() {
    let text = format!(
        "{{\"names\":[\"urn:sha1:{SHA1}\"],\"length\":18446744073709551615,\"title\":\"\\u00fc\"}}\n\n\
         {{\"names\":[\"urn:ed2k:{ED2K}\", \"{CID}\"], \"evidence\":\"attested\", \"length\":null}}\n"
    );
    let read = rows(Format::JsonLines, &text);
    assert_eq!((read[0].length, read[0].title.as_str(), read[0].line), (Some(u64::MAX), "ü", 1));
    assert_eq!((read[1].names.len(), read[1].evidence), (2, Some(Evidence::Attested)));
    assert_eq!((read[1].length, read[1].line), (None, 3));

    let name = format!("\"names\":[\"urn:sha1:{SHA1}\"]");
    let text = [
        format!("{{{name},\"size\":1}}"),
        format!("{{{name},\"length\":-1}}"),
        "{\"names\":[\"urn:sha1:zz\"]}".to_owned(),
        "{\"names\":[]}".to_owned(),
        "{\"length\":1}".to_owned(),
        format!("{{{name},\"title\":\"a\\nb\"}}"),
        format!("{{{name},{name}}}"),
        "[".repeat(1000),
        format!("{{{name}}}"),
    ]
    .join("\n");
    let (errors, good) = errors(Format::JsonLines, &text);
    assert_eq!((errors.len(), good), (8, 1));
    assert!(
        errors[0].starts_with("line 1: unknown field `size`, expected one of `names`"),
        "{errors:?}"
    );
    assert!(errors[1].contains("line 2: invalid value: integer `-1`"), "{errors:?}");
    assert_eq!(errors[2], "line 3: `zz` is no sha1 digest in hex or base32, at byte 23");
    assert!(errors[3].starts_with("line 4: it has no name"), "{errors:?}");
    assert!(errors[4].starts_with("line 5: missing field `names`"), "{errors:?}");
    assert_eq!(errors[5], "line 6: its title has a control character, U+000A");
    assert!(errors[6].starts_with("line 7: duplicate field `names`"), "{errors:?}");
}

#[test]
fn links_are_read_one_a_line() {
    let text = format!(
        "# a list\n\nmagnet:?xt=urn:ed2k:{ED2K}&xl=0\nmagnet:?xt=urn:foo:1\n  magnet:?xt=urn:sha1:{SHA1}  "
    );
    let (errors, good) = errors(Format::Magnets, &text);
    assert_eq!((errors.len(), good), (1, 2));
    assert!(errors[0].starts_with("line 4: the magnet link has no `xt`"), "{errors:?}");
    let text = format!("ed2k://|file|x|0|{ED2K}|/\ned2k://|file|x|0|zz|/\n");
    let (errors, good) = self::errors(Format::Ed2kLinks, &text);
    assert_eq!((errors.len(), good), (1, 1));
    assert!(errors[0].starts_with("line 2: `zz` is no ed2k digest"), "{errors:?}");
}

#[test]
fn a_metalink_gives_its_files() {
    let text = format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<metalink xmlns="urn:ietf:params:xml:ns:metalink" xmlns:x="urn:x">
  <published>2009-05-15T12:23:23Z</published>
  <file name="a &amp; &#x62;.iso">
    <size> 14471447 </size>
    <identity>Example</identity>
    <hash type="sha-1">{SHA1}</hash>
    <hash type="md5">83b1a04f18d6782cfe0407edadac377f</hash>
    <x:hash type="sha-1">zz</x:hash>
    <hash type="sha-256"><![CDATA[{}]]></hash>
    <pieces length="1048576" type="sha-1"><hash>zz</hash></pieces>
    <metaurl mediatype="torrent">http://example.com/a.torrent</metaurl>
    <metaurl mediatype="torrent" name="b">magnet:?xt=urn:btih:{SHA1}</metaurl>
    <metaurl mediatype="torrent">magnet:?xt=urn:ed2k:{ED2K}&amp;xt=urn:sha1:{SHA1}</metaurl>
    <url location="de" priority="1">ftp://ftp.example.com/a</url>
    <signature mediatype="application/pgp-signature">x</signature>
  </file>
  <file name="b"><hash type="sha-1">{SHA1}</hash></file>
</metalink>
"#,
        SHA256.to_uppercase()
    );
    let read = rows(Format::Metalink, &text);
    assert_eq!(
        (read[0].title.as_str(), read[0].length, read[0].line),
        ("a & b.iso", Some(14_471_447), 4)
    );
    let schemes: Vec<_> = read[0].names.iter().map(Name::scheme).collect();
    assert_eq!(schemes, [Scheme::Ed2k, Scheme::Sha1, Scheme::Sha256]);
    assert_eq!((read[1].title.as_str(), read[1].length, read[1].line), ("b", None, 18));

    let prefixed = format!(
        "<m:metalink xmlns:m='urn:ietf:params:xml:ns:metalink'><m:file name='x'><m:hash type='sha-1'>{SHA1}</m:hash></m:file></m:metalink>"
    );
    assert_eq!(rows(Format::Metalink, &prefixed).len(), 1);
}

#[test]
fn a_bad_file_of_a_metalink_costs_itself_only() {
    let text = format!(
        r#"<metalink xmlns="urn:ietf:params:xml:ns:metalink">
<file name="a">
  <hash type="sha-1">zz</hash>
</file>
<file><hash type="sha-1">{SHA1}</hash></file>
<file name="c"><size>1</size>
  <size>2</size><hash type="sha-1">{SHA1}</hash></file>
<file name="d"><hash>{SHA1}</hash></file>
<file name="e"><size>1</size></file>
<file name="f"><hash type="sha-1">{SHA1}</hash>
  <metaurl>magnet:?xt=urn:sha1:{}</metaurl></file>
<file name="g&#10;"><hash type="sha-1">{SHA1}</hash></file>
<file name="&x;"><hash type="sha-1">{SHA1}</hash></file>
<file name="h"><hash type="sha-1">{SHA1}</hash></file>
</metalink>"#,
        "00".repeat(20)
    );
    let (errors, good) = errors(Format::Metalink, &text);
    assert_eq!(good, 1);
    let expected = [
        "line 3: `zz` is no sha1 digest in hex or base32",
        "line 5: a `file` has no `name`",
        "line 7: it has two lengths, 1 and 2",
        "line 8: a `hash` has no `type`",
        "line 9: it has no name of a scheme",
        "line 10: urn:sha1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA and urn:sha1:",
        "line 12: its title has a control character, U+000A",
        "line 13: attribute `name`: ",
    ];
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for (error, expected) in errors.iter().zip(expected) {
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn what_is_no_metalink_4_ends_at_once() {
    let head = "<metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">";
    for (text, expected) in [
        (
            "<metalink version=\"3.0\" xmlns=\"http://www.metalinker.org/\"><files/></metalink>"
                .to_owned(),
            "line 1: it is a Metalink of version 3; only version 4 (RFC 5854) is read",
        ),
        (
            "\n<html/>".to_owned(),
            "line 2: its root is `html`, not `metalink` of urn:ietf:params:xml:ns:metalink",
        ),
        ("".to_owned(), "line 1: it has no element"),
        ("no markup".to_owned(), "line 1: it has no element"),
        (
            format!("<!DOCTYPE m [<!ENTITY a \"b\">]>{head}</metalink>"),
            "line 1: it has a document type (DTD), which is not read",
        ),
        (format!("{head}\n&a;</metalink>"), "line 2: `&a;` is not defined"),
        (format!("{head}\n<file name=\"x\">"), "line 2: it ends within an element"),
        (format!("{head}\n</file>"), "line 2: "),
        (format!("{head}</metalink>\n{head}"), "line 2: it has a second root"),
        (format!("{head}{}", "<a>".repeat(40)), "line 1: its elements lie more than 32 deep"),
        (
            format!("{head}\n<a b=\"{}\"/>", "x".repeat(MAX_LINE)),
            "line 2: a tag or a run of text is longer than 65536 bytes",
        ),
        (
            format!("{head}\n<!--{}-->", "x".repeat(10 * MAX_LINE)),
            "line 2: a tag or a run of text is longer than 65536 bytes",
        ),
    ] {
        let (errors, good) = errors(Format::Metalink, &text);
        assert_eq!((errors.len(), good), (1, 0), "{text:.100} {errors:?}");
        assert!(errors[0].starts_with(expected), "{errors:?}");
    }
}

#[test]
fn the_format_is_told_by_the_content_then_by_the_file() {
    let detect = |head: &str, file: &str| Format::detect(head.as_bytes(), file);
    assert_eq!(detect("\u{FEFF}\n <?xml", "x.csv"), Some(Format::Metalink));
    assert_eq!(detect("{\"names\"", ""), Some(Format::JsonLines));
    assert_eq!(detect("# x\nMagnet:?xt", "x.txt"), Some(Format::Magnets));
    assert_eq!(detect("ed2k://|file", "-"), Some(Format::Ed2kLinks));
    assert_eq!(detect("Title,sha1", "-"), Some(Format::Csv));
    assert_eq!(detect("whatever", "x.CSV"), Some(Format::Csv));
    assert_eq!(detect("", "x.meta4"), Some(Format::Metalink));
    assert_eq!(detect("d8:announce", "x.torrent"), None);
    for format in Format::ALL {
        assert_eq!(format.word().parse(), Ok(format));
    }
    assert!("xml".parse::<Format>().unwrap_err().contains("csv, jsonl, magnets, ed2k, metalink"));
}

#[test]
fn what_a_format_has_no_room_for_is_told() {
    let names = [format!("urn:sha1:{SHA1}"), format!("urn:ed2k:{ED2K}")];
    let [sha1, ed2k] = names.map(|urn| urn.parse::<Name>().unwrap());
    let row = Row { names: vec![sha1, ed2k], length: Some(0), title: "x".into(), ..Row::default() };
    let (text, outcomes) = written(Format::Ed2kLinks, std::slice::from_ref(&row));
    assert_eq!(text, format!("ed2k://|file|x|0|{ED2K}|/\n"));
    assert_eq!(outcomes, [Outcome::Without(vec![sha1])]);
    let lacking = [
        Row { length: None, ..row.clone() },
        Row { title: String::new(), ..row.clone() },
        Row { names: vec![sha1], ..row.clone() },
    ];
    let (text, outcomes) = written(Format::Ed2kLinks, &lacking);
    assert!(text.is_empty());
    let skipped = ["a length", "a title", "an ed2k name"];
    for (outcome, lack) in outcomes.iter().zip(skipped) {
        assert!(matches!(outcome, Outcome::Skipped(why) if why.ends_with(lack)), "{outcome:?}");
    }
    for format in Format::ALL {
        let none = Row { names: Vec::new(), ..row.clone() };
        assert_eq!(written(format, &[none]).1, [Outcome::Skipped("it has no name")]);
    }
    let many: Vec<_> = (0..40).map(|first| Name::btih([first; 20])).collect();
    let (text, outcomes) = written(Format::Csv, &[Row { names: many.clone(), ..row.clone() }]);
    assert_eq!(outcomes, [Outcome::Without(many[32..].to_vec())]);
    assert_eq!(rows(Format::Csv, &text)[0].names, many[..32]);
    let verified = Row { evidence: Some(Evidence::Verified), ..row };
    for format in [Format::Csv, Format::JsonLines] {
        let (text, _) = written(format, std::slice::from_ref(&verified));
        assert_eq!(rows(format, &text)[0].evidence, Some(Evidence::Attested));
    }
}

#[test]
fn a_metalink_of_ours_is_as_rfc_5854_wants_it() {
    let names = [format!("urn:sha1:{SHA1}"), format!("urn:ed2k:{ED2K}")];
    let names = names.iter().map(|urn| urn.parse().unwrap()).collect();
    let row = Row { names, length: Some(0), title: "../<ü>".into(), ..Row::default() };
    let (text, outcomes) = written(Format::Metalink, &[row]);
    assert_eq!(outcomes, [Outcome::Whole]);
    let expected = format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<metalink xmlns="urn:ietf:params:xml:ns:metalink">
  <generator>p2p-bridge</generator>
  <file name=".._&lt;ü&gt;">
    <size>0</size>
    <hash type="sha-1">{SHA1}</hash>
    <metaurl mediatype="x-scheme-handler/magnet">magnet:?xt=urn:sha1:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ&amp;xt=urn:ed2k:{ED2K}&amp;dn=..%2F%3C%C3%BC%3E&amp;xl=0</metaurl>
  </file>
</metalink>
"#
    );
    assert_eq!(text, expected);
    assert!(rows(Format::Metalink, &written(Format::Metalink, &[]).0).is_empty());
}

fn a_name() -> impl Strategy<Value = Name> {
    (0..Scheme::ALL.len(), any::<[u8; 32]>()).prop_map(|(index, digest)| {
        let scheme = Scheme::ALL[index];
        Name::new(scheme, &digest[..scheme.digest_len()]).unwrap()
    })
}

/// Rows as a reader gives them.
fn a_row() -> impl Strategy<Value = Row> {
    let title = prop_oneof![
        "[ -~ü日]{0,12}",
        "\\PC{0,30}",
        "[,\"<>&%+|/\\\\ =;'\u{FEFF}\u{FFFE}.-]{0,8}",
        Just("..".to_owned()),
    ];
    let evidence =
        prop_oneof![Just(None), Just(Some(Evidence::Hint)), Just(Some(Evidence::Attested))];
    let names = proptest::collection::vec(a_name(), 1..6);
    (names, any::<Option<u64>>(), title, evidence).prop_filter_map(
        "a row",
        |(names, length, title, evidence)| {
            Row { names, length, title, evidence, line: 0 }.checked().ok()
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(rows in proptest::collection::vec(a_row(), 0..6)) {
        for format in Format::ALL {
            let (text, outcomes) = written(format, &rows);
            let mut expected: Vec<_> = rows.clone();
            if !matches!(format, Format::Csv | Format::JsonLines) {
                expected.iter_mut().for_each(|row| row.evidence = None);
            }
            if format == Format::Ed2kLinks {
                expected = links(&expected);
            } else {
                prop_assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Whole));
            }
            let mut before = 0;
            let mut again = self::rows(format, &text);
            for row in &mut again {
                prop_assert!(row.line > before);
                before = std::mem::take(&mut row.line);
            }
            prop_assert_eq!(again, expected);
        }
    }

    #[test]
    fn no_text_makes_a_reader_panic_and_all_that_is_read_can_be_written(
        text in "(names,title\n|\\{\"names\":\\[|magnet:\\?xt=|ed2k://\\|file\\||<metalink xmlns=\"urn:ietf:params:xml:ns:metalink\"><file )?(\\PC|[\n\r\t\",<>&|/=]){0,80}"
    ) {
        for format in Format::ALL {
            for row in all(format, &text).into_iter().filter_map(Result::ok) {
                let (text, _) = written(Format::JsonLines, std::slice::from_ref(&row));
                prop_assert_eq!(&rows(Format::JsonLines, &text)[0].names, &row.names);
            }
        }
    }
}

/// What links of eD2k keep of rows: one for each eD2k name, with the first AICH name.
fn links(rows: &[Row]) -> Vec<Row> {
    let of = |row: &Row, scheme| {
        row.names.iter().filter(move |name| name.scheme() == scheme).copied().collect::<Vec<_>>()
    };
    rows.iter()
        .filter(|row| row.length.is_some() && !row.title.is_empty())
        .flat_map(|row| {
            let aich = of(row, Scheme::Aich);
            of(row, Scheme::Ed2k).into_iter().map(move |name| {
                let names = std::iter::once(name).chain(aich.first().copied()).collect();
                Row { names, ..row.clone() }
            })
        })
        .collect()
}
