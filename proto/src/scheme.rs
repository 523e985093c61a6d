use std::{fmt, str::FromStr};

use crate::v1;

/// The rule by which a digest is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Scheme {
    /// SHA-1 of a bencoded info dictionary (BEP 3).
    Btih = 1,
    /// SHA-256 of a bencoded info dictionary (BEP 52).
    Btmh = 2,
    /// SHA-256 tree of one file over 16 KiB leaves (BEP 52).
    PiecesRoot = 3,
    /// MD4 of the MD4s of 9,728,000-byte parts.
    Ed2k = 4,
    /// SHA-1 tree over 184,320-byte blocks.
    Aich = 5,
    /// Tiger tree over 1,024-byte leaves.
    Tth = 6,
    /// SHA-1 of all bytes.
    Sha1 = 7,
    /// SHA-256 of all bytes.
    Sha256 = 8,
    /// SHA-256 of a dag-pb block of IPFS: the root of a UnixFS tree. CIDv0 (`Qm…`) and CIDv1 (`bafy…`) are spellings of it.
    CidDagPb = 9,
    /// SHA-256 of a raw block of IPFS (`bafk…`).
    CidRaw = 10,
    /// SHA-256 tree of PPSPP over chunks of 1 KiB, the protocol's default (RFC 7574 §5.2).
    Ppspp = 11,
    /// SHA-256 tree of PPSPP over chunks of 16 KiB.
    Ppspp16k = 12,
}

/// How a scheme's digests are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Hex,
    Base32,
    /// Hex of a multihash: `12 20` and a SHA-256 digest.
    Multihash,
    /// A CID of version 1 with this codec, in base32.
    Cid(u64),
}

pub(crate) const MULTIHASH_SHA256: &str = "1220";
/// Multicodec numbers of SHA-256 and of the codecs of blocks.
pub(crate) const SHA2_256: u64 = 0x12;
pub(crate) const DAG_PB: u64 = 0x70;
pub(crate) const RAW: u64 = 0x55;

impl Scheme {
    /// Every scheme.
    pub const ALL: [Self; 12] = [
        Self::Btih,
        Self::Btmh,
        Self::PiecesRoot,
        Self::Ed2k,
        Self::Aich,
        Self::Tth,
        Self::Sha1,
        Self::Sha256,
        Self::CidDagPb,
        Self::CidRaw,
        Self::Ppspp,
        Self::Ppspp16k,
    ];

    /// Bytes of a digest.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Ed2k => 16,
            Self::Btih | Self::Aich | Self::Sha1 => 20,
            Self::Tth => 24,
            Self::Btmh
            | Self::PiecesRoot
            | Self::Sha256
            | Self::CidDagPb
            | Self::CidRaw
            | Self::Ppspp
            | Self::Ppspp16k => 32,
        }
    }

    /// What stands before the digest in a URN.
    #[must_use]
    pub const fn urn_prefix(self) -> &'static str {
        match self {
            Self::Btih => "urn:btih:",
            Self::Btmh => "urn:btmh:",
            Self::PiecesRoot => "urn:pieces-root:",
            Self::Ed2k => "urn:ed2k:",
            Self::Aich => "urn:aich:",
            Self::Tth => "urn:tree:tiger:",
            Self::Sha1 => "urn:sha1:",
            Self::Sha256 => "urn:sha256:",
            Self::CidDagPb | Self::CidRaw => "urn:ipfs:",
            Self::Ppspp => "urn:ppspp:",
            Self::Ppspp16k => "urn:ppspp-16k:",
        }
    }

    /// The scheme's word in options and tables: `btih`, `pieces-root`, `tth`, `cid-raw`, …
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Btih => "btih",
            Self::Btmh => "btmh",
            Self::PiecesRoot => "pieces-root",
            Self::Ed2k => "ed2k",
            Self::Aich => "aich",
            Self::Tth => "tth",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::CidDagPb => "cid-dag-pb",
            Self::CidRaw => "cid-raw",
            Self::Ppspp => "ppspp",
            Self::Ppspp16k => "ppspp-16k",
        }
    }

    /// Whether a digest depends on the bytes alone; the others depend on what a description says around them.
    #[must_use]
    pub const fn is_of_bytes(self) -> bool {
        !matches!(self, Self::Btih | Self::Btmh)
    }

    /// Whether nobody can make two contents with one digest, as far as is known: MD4 and SHA-1 can be forged.
    #[must_use]
    pub const fn is_strong(self) -> bool {
        !matches!(self, Self::Btih | Self::Ed2k | Self::Aich | Self::Sha1)
    }

    pub(crate) const fn form(self) -> Form {
        match self {
            Self::Btih
            | Self::PiecesRoot
            | Self::Ed2k
            | Self::Sha256
            | Self::Ppspp
            | Self::Ppspp16k => Form::Hex,
            Self::Aich | Self::Tth | Self::Sha1 => Form::Base32,
            Self::Btmh => Form::Multihash,
            Self::CidDagPb => Form::Cid(DAG_PB),
            Self::CidRaw => Form::Cid(RAW),
        }
    }

    /// The scheme with this number in storage and in protobuf.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| *scheme as u8 == number)
    }
}

impl From<Scheme> for v1::Scheme {
    fn from(scheme: Scheme) -> Self {
        Self::try_from(i32::from(scheme as u8)).unwrap_or(Self::Unspecified)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Scheme {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scheme| scheme.word().eq_ignore_ascii_case(text));
        found.ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|scheme| scheme.word()).collect();
            format!("no scheme is called `{text}`; known: {}", known.join(", "))
        })
    }
}
