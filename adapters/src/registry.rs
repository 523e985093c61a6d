//! The table of protocols. Adding one adds a folder, a `mod` line and a line here.

use crate::{
    DescribeError, Description, Descriptor, Links, bittorrent, ed2k,
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

/// The protocol whose links begin as a text does.
#[must_use]
pub fn linked(text: &str) -> Option<(&'static Descriptor, &'static Links)> {
    let begins = |links: &&Links| {
        let head = text.get(..links.begins.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(links.begins))
    };
    PROTOCOLS.iter().find_map(|it| Some((*it, it.links.as_ref().filter(begins)?)))
}

/// The protocol with this word.
#[must_use]
pub fn protocol(word: &str) -> Option<&'static Descriptor> {
    PROTOCOLS.iter().copied().find(|descriptor| descriptor.protocol == word)
}

#[cfg(test)]
mod tests {
    use p2pbridge_proto::Name;

    use super::*;
    use crate::{AboutFile, Door, Host};

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
    #[test]
    fn a_link_is_what_its_protocol_makes_of_a_file_and_says_the_same_of_it() {
        for descriptor in PROTOCOLS {
            let Some(links) = &descriptor.links else { continue };
            assert!(descriptor.schemes.contains(&links.scheme));
            let name = Name::new(links.scheme, &vec![7; links.scheme.digest_len()]).unwrap();
            let (title, chunks) = ("a ü.bin".to_owned(), Vec::new());
            let about = AboutFile { names: vec![name], title, length: 5, chunks };
            let link = descriptor.compose.unwrap()(&about).unwrap();
            assert_eq!((descriptor.describe)(&link).unwrap().names[0], name);
            let link = String::from_utf8(link).unwrap();
            assert!(link.starts_with(links.begins), "{link}");
            for link in [&link, &link.replacen(links.begins, &links.begins.to_uppercase(), 1)] {
                let (owner, _) = linked(link).unwrap();
                assert_eq!(
                    (owner.protocol, (links.read)(link)),
                    (descriptor.protocol, Ok(about.clone()))
                );
            }
            assert!((links.read)(links.begins).is_err());
        }
        assert!(linked("é").is_none() && linked("magnet:?xt=urn:btih:1").is_none());
    }
}
