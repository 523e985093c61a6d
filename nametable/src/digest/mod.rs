//! Every name of a content that is made of its bytes alone, in one pass over them.
//!
//! A [`Rule`] is one line of [`RULES`]: the word by which it is asked for, and the layer of hashes that it is made of.
//! Rules that need the same layer share it. [`hash_files`] reads files once, on all cores, with bounded memory; [`Gather`]
//! takes bytes that come in any order.
//!
//! A scheme is one file here, behind the trait `layer::Layer`, and a line in [`RULES`].

mod aich;
mod ed2k;
mod forest;
mod gather;
mod lane;
mod layer;
mod merkle;
mod pass;
mod pieces;
mod reader;
mod rules;
mod runs;
mod sha1;
mod sha256;
#[cfg(test)]
mod tests;
mod tth;
mod unixfs;

use p2pbridge_proto::{Name, Scheme};

pub use gather::Gather;
pub use pass::{Wanted, hash_file, hash_files};
pub use pieces::{FilePieces, TorrentWanted};
pub use rules::Rules;

use forest::Forest;
use layer::Layer;

/// One rule by which a name is made of bytes alone.
pub struct Rule {
    /// What it is called in options and tables; unique.
    pub word: &'static str,
    /// What it is, in a few words.
    pub title: &'static str,
    /// The schemes of which its names may be.
    pub schemes: &'static [Scheme],
    layer: &'static dyn Layer,
    name: fn(&Forest) -> Option<Name>,
    text: fn(&Name) -> String,
}

/// Every rule, in the order in which names are given.
pub static RULES: &[Rule] = &[
    rule("sha1", "SHA-1 of all bytes", &[Scheme::Sha1], &sha1::Sha1Layer, sha1::name),
    rule("sha256", "SHA-256 of all bytes", &[Scheme::Sha256], &sha256::Sha256Layer, sha256::name),
    rule("ed2k", "eD2k hash of eMule and aMule", &[Scheme::Ed2k], &ed2k::Parts, ed2k::red),
    rule("ed2k-blue", "eD2k hash of other programs", &[Scheme::Ed2k], &ed2k::Parts, ed2k::blue),
    rule("aich", "AICH root of eMule", &[Scheme::Aich], &aich::Blocks, aich::name),
    rule("tth", "Tiger tree hash", &[Scheme::Tth], &tth::TigerTree, tth::name),
    rule(
        "pieces-root",
        "BitTorrent v2 `pieces root`",
        &[Scheme::PiecesRoot],
        &merkle::Leaves16k,
        merkle::pieces_root,
    ),
    Rule {
        text: cid_v0,
        ..rule(
            "unixfs-v0-2015",
            "CIDv0 of IPFS: 256 KiB, 174 links",
            &[Scheme::CidDagPb],
            &unixfs::V0_2015,
            unixfs::v0_name,
        )
    },
    Rule {
        text: cid_v1,
        ..rule(
            "unixfs-v1-2025",
            "CIDv1 of IPFS: 1 MiB, 1,024 links, raw leaves",
            &[Scheme::CidRaw, Scheme::CidDagPb],
            &unixfs::V1_2025,
            unixfs::v1_name,
        )
    },
    rule("ppspp", "PPSPP root, 1 KiB", &[Scheme::Ppspp], &merkle::Leaves1k, merkle::ppspp),
    rule(
        "ppspp-16k",
        "PPSPP root, 16 KiB",
        &[Scheme::Ppspp16k],
        &merkle::Leaves16k,
        merkle::ppspp_16k,
    ),
];

const fn rule(
    word: &'static str,
    title: &'static str,
    schemes: &'static [Scheme],
    layer: &'static dyn Layer,
    name: fn(&Forest) -> Option<Name>,
) -> Rule {
    Rule { word, title, schemes, layer, name, text: urn }
}

fn urn(name: &Name) -> String {
    name.to_string()
}

fn cid_v0(name: &Name) -> String {
    name.cid(true).unwrap_or_else(|| urn(name))
}

fn cid_v1(name: &Name) -> String {
    name.cid(false).unwrap_or_else(|| urn(name))
}

/// One name that was computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Computed {
    /// The word of the [`Rule`].
    pub rule: &'static str,
    /// The name.
    pub name: Name,
    /// As the system itself writes it: `Qm…` or `baf…` for IPFS, a URN otherwise.
    pub text: String,
}

/// What was computed of one content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digests {
    /// Its bytes.
    pub length: u64,
    /// Its names, in the order of [`RULES`]. The "blue" eD2k hash is left out where it equals the "red" one that is there
    /// too. A content of no bytes has no `pieces root` and no PPSPP root.
    pub names: Vec<Computed>,
    /// What a v2 torrent says of it, when that was asked for; `None` for a content of no bytes.
    pub pieces: Option<FilePieces>,
    /// The hashes of its eD2k parts, when a rule of eD2k was asked for: what a link carries, without that of an empty part.
    pub parts: Vec<[u8; 16]>,
}

impl Digests {
    /// What the layers of a whole content come to.
    fn of(length: u64, forests: &[&Forest], wanted: Rules, torrent: Option<TorrentWanted>) -> Self {
        let forest = |layer: &dyn Layer| {
            let is_it = |forest: &&&Forest| forest.tree().layer.what() == layer.what();
            forests.iter().find(is_it).copied()
        };
        let mut names: Vec<Computed> = Vec::new();
        for rule in wanted.iter() {
            let Some(name) = forest(rule.layer).and_then(rule.name) else { continue };
            if names.iter().all(|known| known.name != name) {
                names.push(Computed { rule: rule.word, name, text: (rule.text)(&name) });
            }
        }
        let pieces = torrent
            .filter(|torrent| torrent.v2 && length > 0)
            .and_then(|torrent| FilePieces::of(forest(&merkle::Leaves16k)?, torrent));
        let of_ed2k = wanted.iter().any(|rule| rule.layer.what() == ed2k::Parts.what());
        let parts = forest(&ed2k::Parts).filter(|_| of_ed2k).map(ed2k::parts).unwrap_or_default();
        Self { length, names, pieces, parts }
    }

    /// The first name of a scheme.
    #[must_use]
    pub fn of_scheme(&self, scheme: Scheme) -> Option<Name> {
        self.names.iter().map(|computed| computed.name).find(|name| name.scheme() == scheme)
    }

    /// The hashes of the chunks in which systems of a scheme cut the content, one behind the other, as far as such are
    /// kept.
    #[must_use]
    pub fn chunks_of(&self, scheme: Scheme) -> &[u8] {
        match scheme {
            Scheme::Ed2k => self.parts.as_flattened(),
            _ => &[],
        }
    }
}

/// How many names of a scheme the same bytes can have, when there are so many. `None` where names depend on more than the
/// bytes, or on how these are cut.
pub(crate) fn variants(scheme: Scheme, length: Option<u64>) -> Option<usize> {
    match scheme {
        Scheme::Btih | Scheme::Btmh | Scheme::CidDagPb => None,
        Scheme::Ed2k => Some(ed2k::variants(length)),
        _ => Some(1),
    }
}

/// Bytes of the chunks in which systems of a scheme cut a content of this length; the last may be shorter. `None` where
/// the scheme says nothing of it: BitTorrent's pieces are a torrent's own. Of a UnixFS tree it is the chunk of
/// `unixfs-v0-2015`, which divides that of `unixfs-v1-2025`.
#[must_use]
pub fn unit(scheme: Scheme, length: u64) -> Option<u64> {
    match scheme {
        Scheme::Btih | Scheme::Btmh => None,
        Scheme::Ed2k => Some(ed2k::PART),
        Scheme::Aich => Some(aich::BLOCK),
        Scheme::Tth => Some(tth::TigerTree.leaf_len()),
        Scheme::PiecesRoot | Scheme::Ppspp16k => Some(merkle::Leaves16k.leaf_len()),
        Scheme::Ppspp => Some(merkle::Leaves1k.leaf_len()),
        Scheme::CidDagPb => Some(unixfs::V0_2015.leaf_len()),
        Scheme::CidRaw | Scheme::Sha1 | Scheme::Sha256 => Some(length.max(1)),
    }
}
