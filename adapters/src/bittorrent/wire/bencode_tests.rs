use bendy::decoding::{Decoder, Object};
use proptest::prelude::*;

use super::*;

fn parse(input: &[u8]) -> Result<Document<'_>, BencodeError> {
    Document::parse(input, Limits::MESSAGE)
}

fn error(input: &[u8]) -> String {
    parse(input).unwrap_err().to_string()
}

#[test]
fn knows_the_exact_bytes_of_a_dictionary() {
    let document = parse(b"d4:infod1:bi1e1:ai2ee3:zzzl0:ee").unwrap();
    let info = document.value.dict().unwrap().get(b"info").unwrap().dict().unwrap();
    assert_eq!(info.raw(), b"d1:bi1e1:ai2ee");
    assert_eq!(info.get(b"a").unwrap().int(), Some(2));
    assert!(!document.canonical);
    assert!(parse(b"d1:ai-1e1:bi0ee").unwrap().canonical);
    for odd in ["i03e", "i-0e", "01:a", "l00:e"] {
        assert!(!parse(odd.as_bytes()).unwrap().canonical, "{odd}");
    }
    assert_eq!(Document::parse_prefix(b"i1eabc", Limits::MESSAGE).unwrap().length, 3);
}

#[test]
fn says_what_is_wrong_and_where() {
    let overlong = "byte 0: a string longer than what is left of the input";
    assert_eq!(error(b"18446744073709551615:"), overlong);
    assert_eq!(error(b"99999999999999999999999:"), overlong);
    assert_eq!(error(b"5:abcd"), overlong);
    assert_eq!(error(&[b'l'; 100_000]), "byte 16: nested too deep");
    assert_eq!(error(b"d1:a"), "byte 4: the input ends within a value");
    assert_eq!(error(b""), "byte 0: the input ends within a value");
    assert_eq!(error(b"i9223372036854775808e"), "byte 1: an integer beyond 64 bits");
    assert_eq!(parse(b"i-9223372036854775808e").unwrap().value, Value::Int(i64::MIN));
    assert_eq!(error(b"i-e"), "byte 2: no integer");
    assert_eq!(error(b"i1-e"), "byte 2: no integer");
    assert_eq!(error(b"di1ei1ee"), "byte 1: a key that is no string");
    assert_eq!(error(b"d1:ai1e1:ai2ee"), "byte 0: a dictionary with the same key twice");
    assert_eq!(error(b"i1ei1e"), "byte 3: bytes behind the value");
    assert_eq!(error(b"x"), "byte 0: no value begins with byte 0x78");
    let many = [b"l".as_slice(), &b"le".repeat(100_000), b"e"].concat();
    assert_eq!(error(&many), "byte 199999: too many values");
}

/// Bendy's view of the same bytes, written again; `None` when it refuses them.
fn oracle(input: &[u8]) -> Option<Vec<u8>> {
    fn again(object: Object<'_, '_>, out: &mut Encoder) -> Option<()> {
        match object {
            Object::Integer(text) => {
                text.parse::<i64>().ok()?;
                out.raw(format!("i{text}e").as_bytes());
            }
            Object::Bytes(bytes) => out.bytes(bytes),
            Object::List(mut list) => {
                out.raw(b"l");
                while let Some(item) = list.next_object().ok()? {
                    again(item, out)?;
                }
                out.raw(b"e");
            }
            Object::Dict(mut dict) => {
                out.raw(b"d");
                while let Some((key, value)) = dict.next_pair().ok()? {
                    out.bytes(key);
                    again(value, out)?;
                }
                out.raw(b"e");
            }
        }
        Some(())
    }
    let mut out = Encoder::new();
    let mut decoder = Decoder::new(input).with_max_depth(16);
    again(decoder.next_object().ok()??, &mut out)?;
    Some(out.finish())
}

fn write(value: &Value<'_>, out: &mut Encoder) {
    match value {
        Value::Int(int) => out.int(*int),
        Value::Bytes(bytes) => out.bytes(bytes),
        Value::List(list) => out.list(|out| list.items().iter().for_each(|v| write(v, out))),
        Value::Dict(dict) => out.dict(|out| {
            for (key, value) in dict.entries() {
                out.entry(key, |out| write(value, out));
            }
        }),
    }
}

fn bencode() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(|int| format!("i{int}e").into_bytes()),
        prop::collection::vec(any::<u8>(), 0..12).prop_map(|bytes| {
            let mut out = Encoder::new();
            out.bytes(&bytes);
            out.finish()
        }),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        let entries = prop::collection::vec(("[a-d]{1,2}", inner.clone()), 0..5);
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(|items| [
                b"l".as_slice(),
                &items.concat(),
                b"e"
            ]
            .concat()),
            // Keys as they come: sorted, unsorted and twice.
            entries.prop_map(|entries| {
                let pair = |(key, value): (String, Vec<u8>)| {
                    [format!("{}:{key}", key.len()).into_bytes(), value].concat()
                };
                let entries: Vec<_> = entries.into_iter().map(pair).collect();
                [b"d".as_slice(), &entries.concat(), b"e"].concat()
            }),
        ]
    })
}

fn agrees_with_the_oracle(input: &[u8]) {
    let ours = Document::parse_prefix(input, Limits::MESSAGE).ok();
    let canonical = ours.as_ref().filter(|document| document.canonical);
    assert_eq!(canonical.map(|d| input[..d.length].to_vec()), oracle(input));
    if let Some(document) = ours {
        let mut out = Encoder::new();
        write(&document.value, &mut out);
        let again = out.finish();
        assert_eq!(document.canonical, again == input[..document.length]);
        assert!(parse(&again).unwrap().canonical);
    }
}

proptest! {
    #[test]
    fn agrees_with_bendy_on_bencode(input in bencode()) {
        prop_assert!(parse(&input).is_ok() || error(&input).contains("twice"));
        agrees_with_the_oracle(&input);
    }

    #[test]
    fn agrees_with_bendy_on_broken_bencode(
        mut input in bencode(), at in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let at = at.index(input.len());
        input[at] = byte;
        agrees_with_the_oracle(&input);
        input.truncate(at);
        prop_assert!(parse(&input).is_err());
    }

    #[test]
    fn agrees_with_bendy_on_noise(input in "[ilde0-9:-]{0,40}") {
        agrees_with_the_oracle(input.as_bytes());
    }
}
