//! Links of files on a disk.

use std::path::Path;

use p2pbridge_nametable::digest::Digests;
use p2pbridge_proto::{Ed2kFileLink, Ed2kParts, Scheme};

use super::super::table::plain;

/// The eD2k link of a file, with the hashes of its parts and its AICH root, as eMule and aMule name it; `None` where the
/// names of that kind were not computed.
pub(super) fn link_of(path: &Path, digests: &Digests) -> Option<Ed2kFileLink> {
    let of_rule = |word: &str| digests.names.iter().find(|it| it.rule == word);
    let hash = *of_rule("ed2k")?.name.digest().first_chunk()?;
    let aich = digests.of_scheme(Scheme::Aich).and_then(|it| it.digest().first_chunk().copied());
    Some(Ed2kFileLink {
        title: plain(&path.file_name()?.to_string_lossy()),
        length: digests.length,
        hash,
        parts: Ed2kParts::proven(&hash, digests.length, &digests.parts).ok(),
        aich,
        sources: Vec::new(),
    })
}
