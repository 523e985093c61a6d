//! Stands in for the digest module: whoever brings that one replaces this file.
use p2pbridge_proto::Scheme;
/// Bytes of a chunk.
#[must_use]
pub fn unit(scheme: Scheme, length: u64) -> Option<u64> {
    Some(match scheme {
        Scheme::Ed2k => 9_728_000,
        Scheme::Btih | Scheme::Btmh => return None,
        _ => length.max(1),
    })
}
