//! Page tokens: opaque to the caller, and checked when they come back.

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest, Sha256};
use tonic::Status;

use super::fault;

const CHECK: usize = 6;

/// A token for a key. `context` is what the list depends on: with another, the token is refused.
pub(super) fn encode(context: &[u8], key: &[u8]) -> String {
    let mut bytes = key.to_vec();
    bytes.extend_from_slice(&check(context, key));
    BASE64URL_NOPAD.encode(&bytes)
}

/// The key of a token; `None` for an empty one.
///
/// # Errors
/// When it is no token of this list.
pub(super) fn decode(context: &[u8], token: &str) -> Result<Option<Vec<u8>>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let bad = || {
        fault::bad_field(
            "BAD_PAGE_TOKEN",
            "page_token",
            "give back `next_page_token` of the page before, with the same filter",
        )
    };
    if token.len() > 256 {
        return Err(bad());
    }
    let bytes = BASE64URL_NOPAD.decode(token.as_bytes()).map_err(|_| bad())?;
    let split = bytes.len().checked_sub(CHECK).ok_or_else(bad)?;
    let (key, sum) = bytes.split_at_checked(split).ok_or_else(bad)?;
    if sum != check(context, key) {
        return Err(bad());
    }
    Ok(Some(key.to_vec()))
}

fn check(context: &[u8], key: &[u8]) -> [u8; CHECK] {
    let mut hash = Sha256::new();
    hash.update((context.len() as u64).to_be_bytes());
    hash.update(context);
    hash.update(key);
    let digest: [u8; 32] = hash.finalize().into();
    let mut sum = [0; CHECK];
    sum.copy_from_slice(&digest[..CHECK]);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_tokens_are_taken() {
        let token = encode(b"names", b"key");
        assert_eq!(decode(b"names", &token).unwrap(), Some(b"key".to_vec()));
        assert_eq!(decode(b"names", "").unwrap(), None);
        for bad in ["A", "AAAAAAAAAAAA", "ä", &token[1..], &"A".repeat(999)] {
            assert!(decode(b"names", bad).is_err(), "{bad}");
        }
        assert!(decode(b"usage", &token).is_err());
    }
}
