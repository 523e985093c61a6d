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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Door, Host};

    /// Overlays of each protocol, which together have all its doors.
    const OVERLAYS: &[(&str, &str)] = &[
        (
            "bittorrent",
            "[overlays.bittorrent.a]\ntrackers = ['udp://127.0.0.1:1']\nlisten = ['127.0.0.1:0']\n\
             [overlays.bittorrent.b]\nmode = 'front'\nlisten = ['127.0.0.1:0']\n\
             [overlays.bittorrent.b.tracker]\nhttp = ['127.0.0.1:0']",
        ),
        (
            "ed2k",
            "[overlays.ed2k.a]\nservers = ['127.0.0.1:1']\nlisten = ['127.0.0.1:0']\n\
             [overlays.ed2k.b]\nmode = 'front'\nlisten = ['127.0.0.1:0']\n\
             [overlays.ed2k.b.server]\ntcp = ['127.0.0.1:0']\nudp = ['127.0.0.1:0']",
        ),
    ];

    #[tokio::test]
    async fn each_protocol_has_the_doors_that_it_declares() {
        for descriptor in PROTOCOLS {
            let (_, text) = OVERLAYS.iter().find(|(word, _)| *word == descriptor.protocol).unwrap();
            let mut doors = Vec::new();
            for overlay in (descriptor.configure)(text).unwrap() {
                let open = (overlay.build)(&Host { mark: [1; 6] }).unwrap();
                doors.extend(open.tracker_server.map(|_| Door::TrackerServer));
                doors.extend(open.tracker_client.map(|_| Door::TrackerClient));
                doors.extend(open.seeder.map(|_| Door::Seeder));
                doors.extend(open.leecher.map(|_| Door::Leecher));
            }
            let (has, declared) = (doors, descriptor.doors);
            assert!(has.iter().all(|door| declared.contains(door)), "{has:?}");
            assert!(declared.iter().all(|door| has.contains(door)), "{has:?}");
        }
    }
}
