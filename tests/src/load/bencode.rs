//! Just enough bencoding to check a tracker's answer.

/// How deep lists and dictionaries may lie in one another.
const DEPTH: u32 = 8;

/// What an announce over HTTP was answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body<'a> {
    /// The peers, 6 bytes each.
    Peers(&'a [u8]),
    /// The reason of a refusal.
    Refusal(&'a [u8]),
}

/// Reads an answer; the whole of it must be one dictionary. aquatic ends it with an empty line.
pub(super) fn read(text: &[u8]) -> Result<Body<'_>, String> {
    let text = text.strip_suffix(b"\r\n").unwrap_or(text);
    let mut rest = text.strip_prefix(b"d").ok_or("no dictionary")?;
    let (mut peers, mut interval, mut refusal) = (None, false, None);
    while rest.first() != Some(&b'e') {
        let (key, after) = string(rest).ok_or("a key is no string")?;
        let value = after;
        rest = skip(value, DEPTH)
            .ok_or_else(|| format!("no value after `{}`", String::from_utf8_lossy(key)))?;
        match key {
            b"peers" => peers = string(value).map(|(peers, _)| peers),
            b"failure reason" => refusal = string(value).map(|(text, _)| text),
            b"interval" => interval = value.starts_with(b"i"),
            _ => {}
        }
    }
    if rest.len() != 1 {
        return Err(format!("{} bytes after the dictionary", rest.len() - 1));
    }
    match (refusal, peers) {
        (Some(text), _) => Ok(Body::Refusal(text)),
        (None, Some(peers)) if interval => Ok(Body::Peers(peers)),
        (None, Some(_)) => Err("no interval".into()),
        (None, None) => Err("no compact peers".into()),
    }
}

fn string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = text.iter().take(10).position(|byte| *byte == b':')?;
    let length: usize = std::str::from_utf8(&text[..colon]).ok()?.parse().ok()?;
    text[colon + 1..].split_at_checked(length)
}

/// What comes after one value.
fn skip(text: &[u8], depth: u32) -> Option<&[u8]> {
    match text.first()? {
        b'i' => {
            let end = text.iter().take(24).position(|byte| *byte == b'e')?;
            std::str::from_utf8(&text[1..end]).ok()?.parse::<i64>().ok()?;
            Some(&text[end + 1..])
        }
        b'l' | b'd' if depth > 0 => {
            let mut rest = &text[1..];
            while *rest.first()? != b'e' {
                rest = skip(rest, depth - 1)?;
            }
            Some(&rest[1..])
        }
        _ => string(text).map(|(_, rest)| rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_refusals_are_told_apart() {
        let good = b"d8:completei1e8:intervali1800e5:peers6:abcdefe";
        assert_eq!(read(good), Ok(Body::Peers(b"abcdef")));
        assert_eq!(read(b"d14:failure reason2:no8:retry ini5ee"), Ok(Body::Refusal(b"no")));
        for bad in [
            &b""[..],
            b"d",
            b"de",
            b"d5:peers6:abcdefe",
            b"d8:intervali1e5:peers9:abcdefe",
            b"d8:intervali1e5:peers0:ee",
            b"d8:interval5:peers0:e",
            b"<html>",
        ] {
            assert!(read(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
