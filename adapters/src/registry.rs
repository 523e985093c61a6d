//! The table of protocols. Adding one adds a folder, a `mod` line and a line here.

use crate::{
    DescribeError, Description, Descriptor, bittorrent, ed2k,
    message::{DecodeError, Decoded, Hint},
};

/// Every protocol that the bridge speaks.
pub static PROTOCOLS: &[&Descriptor] = &[&bittorrent::DESCRIPTOR, &ed2k::DESCRIPTOR];

/// Reads a description, whatever protocol it is of: the first that understands the bytes wins.
///
/// # Errors
/// When no protocol understands them; the error says what each of them found wrong.
pub fn describe(bytes: &[u8]) -> Result<(&'static Descriptor, Description), DescribeError> {
    let mut problems = Vec::new();
    for descriptor in PROTOCOLS {
        match (descriptor.describe)(bytes) {
            Ok(description) => return Ok((descriptor, description)),
            Err(error) => problems.push(format!("not {}: {error}", descriptor.protocol)),
        }
    }
    Err(DescribeError(problems.join("; ")))
}

/// Reads a tracker message, whatever protocol it is of: the first that recognises the bytes wins.
///
/// # Errors
/// When no protocol does; the error says what each of them found wrong.
pub fn decode(bytes: &[u8], hint: &Hint) -> Result<(&'static Descriptor, Decoded), DecodeError> {
    let mut problems = Vec::new();
    for descriptor in PROTOCOLS {
        match (descriptor.messages.decode)(bytes, hint) {
            Ok(decoded) => return Ok((descriptor, decoded)),
            Err(error) => problems.push(format!("not {}: {error}", descriptor.protocol)),
        }
    }
    Err(DecodeError(problems.join("; ")))
}

/// The protocol with this word.
#[must_use]
pub fn protocol(word: &str) -> Option<&'static Descriptor> {
    PROTOCOLS.iter().copied().find(|descriptor| descriptor.protocol == word)
}
