//! Names as callers write them.

use p2pbridge_proto::{Name, NameError, Scheme, parse_magnet_names, v1};
use tonic::Status;

use super::super::fault;

/// The names that a text can mean, the likeliest first: a URN, a magnet link (all that it names), or a bare digest. A bare
/// digest is of the scheme that was given; without one, 40 hex letters and 32 base32 letters are a v1 info-hash, and 64
/// hex letters, or 68 that begin with `1220`, a v2 one.
///
/// # Errors
/// When it is none of these.
pub(super) fn parse(text: &str, scheme: v1::Scheme, field: &str) -> Result<Vec<Name>, Status> {
    let text = text.trim();
    let bad = |error: NameError| fault::bad_field("BAD_NAME", field, error.to_string());
    if text.is_empty() {
        return Err(fault::bad_field("BAD_NAME", field, "it is missing"));
    }
    if text.get(..7).is_some_and(|head| head.eq_ignore_ascii_case("magnet:")) {
        return parse_magnet_names(text).map_err(bad);
    }
    let error = match text.parse::<Name>() {
        Ok(name) => return Ok(vec![name]),
        Err(error) => error,
    };
    let NameError::BareDigest(_) = error else { return Err(bad(error)) };
    let number = u8::try_from(i32::from(scheme)).unwrap_or(0);
    let scheme = match (Scheme::from_number(number), text.len()) {
        (Some(scheme), _) => scheme,
        (None, 32 | 40) => Scheme::Btih,
        (None, 64 | 68) => Scheme::Btmh,
        _ => return Err(bad(error)),
    };
    Ok(vec![Name::from_digest_text(scheme, text).map_err(bad)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_be_written_in_several_ways() {
        let name = Name::btih([0xAB; 20]);
        let any = v1::Scheme::Unspecified;
        let magnet = format!("magnet:?dn=x&xt={name}");
        for text in [name.to_string(), format!(" {} ", name.hex()), name.base32(), magnet] {
            assert_eq!(parse(&text, any, "name").unwrap(), [name], "{text}");
        }
        assert_eq!(parse(&"0".repeat(64), any, "name").unwrap()[0].scheme(), Scheme::Btmh);
        let sha1 = parse(&name.hex(), v1::Scheme::Sha1, "name").unwrap()[0];
        assert_eq!(sha1.scheme(), Scheme::Sha1);
        for bad in ["", "x", "urn:btih:77", "magnet:?dn=x", &"0".repeat(48)] {
            let status = parse(bad, any, "name").unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument, "{bad}");
        }
    }
}
