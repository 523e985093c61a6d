use std::{fmt, str::FromStr};

use cid::{Cid, multihash::Multihash};
use data_encoding::{
    BASE32_NOPAD, BASE32_NOPAD_NOCASE, BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE,
};
use thiserror::Error;

use crate::{
    Scheme,
    scheme::{DAG_PB, Form, MULTIHASH_SHA256, RAW, SHA2_256},
};

/// What an overlay calls a content: a scheme and a digest. Small, inline, cheap to copy and to hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    scheme: Scheme,
    digest: [u8; 32],
}

/// Why a text or bytes are no [`Name`].
#[derive(Debug, Error, PartialEq, Eq)]
pub enum NameError {
    /// The digest has not the scheme's length.
    #[error("a {} digest has {} bytes, not {got}", .scheme.word(), .scheme.digest_len())]
    DigestLength {
        /// The scheme.
        scheme: Scheme,
        /// The length that was found.
        got: usize,
    },
    /// The digest has letters that are neither hex nor base32, or too many or few of them.
    #[error("`{text}` is no {} digest in hex or base32", .scheme.word())]
    DigestText {
        /// The scheme.
        scheme: Scheme,
        /// The text that was found.
        text: String,
    },
    /// A scheme that the bridge does not know.
    #[error("`{0}` is of no known scheme (urn:btih:, urn:btmh:, urn:ed2k:, urn:tree:tiger:, …)")]
    UnknownScheme(String),
    /// A bare digest that could be of several schemes.
    #[error("`{0}` is a bare digest: say its scheme, for example urn:btih:{0}")]
    BareDigest(String),
    /// A text of IPFS that is no CID, or one of another hash or codec.
    #[error("`{text}` is no CID that the bridge knows: {problem}")]
    Cid {
        /// The text.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A name of RFC 6920 that is of another hash, or cut.
    #[error("`{0}` is no `ni:///sha-256;…` name (RFC 6920)")]
    Ni(String),
    /// A magnet link that names nothing.
    #[error("the magnet link has no `xt` that the bridge understands")]
    EmptyMagnet,
}

impl Name {
    /// The form in which peers and trackers say this name where a message has room for 20 bytes only: of a `btmh`, a
    /// `btih` of its first 20 bytes (BEP 52); of any other name, itself.
    #[must_use]
    pub fn short(&self) -> Self {
        match (self.scheme(), self.digest().first_chunk::<20>()) {
            (Scheme::Btmh, Some(first)) => Self::btih(*first),
            _ => *self,
        }
    }

    /// Makes a name from a digest.
    ///
    /// # Errors
    /// When the digest has not the scheme's length.
    pub fn new(scheme: Scheme, digest: &[u8]) -> Result<Self, NameError> {
        if digest.len() != scheme.digest_len() {
            return Err(NameError::DigestLength { scheme, got: digest.len() });
        }
        let mut padded = [0; 32];
        for (to, from) in padded.iter_mut().zip(digest) {
            *to = *from;
        }
        Ok(Self { scheme, digest: padded })
    }

    /// A BitTorrent v1 info-hash.
    #[must_use]
    pub fn btih(digest: [u8; 20]) -> Self {
        let mut padded = [0; 32];
        padded[..20].copy_from_slice(&digest);
        Self { scheme: Scheme::Btih, digest: padded }
    }

    /// An eD2k hash of a file.
    #[must_use]
    pub fn ed2k(digest: [u8; 16]) -> Self {
        let mut padded = [0; 32];
        padded[..16].copy_from_slice(&digest);
        Self { scheme: Scheme::Ed2k, digest: padded }
    }

    /// A name whose scheme has digests of 32 bytes; `None` for another scheme.
    #[must_use]
    pub fn with_32(scheme: Scheme, digest: [u8; 32]) -> Option<Self> {
        (scheme.digest_len() == 32).then_some(Self { scheme, digest })
    }

    /// The rule by which the digest was made.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The digest.
    #[must_use]
    pub fn digest(&self) -> &[u8] {
        self.digest.get(..self.scheme.digest_len()).unwrap_or(&self.digest)
    }

    /// Parses a digest in hex or base32, of either case; for `btmh`, also the multihash.
    ///
    /// # Errors
    /// When the text is no digest of the scheme.
    pub fn from_digest_text(scheme: Scheme, text: &str) -> Result<Self, NameError> {
        let bad = || NameError::DigestText { scheme, text: text.chars().take(128).collect() };
        let plain = match scheme.form() {
            Form::Multihash if text.len() == 68 => {
                text.strip_prefix(MULTIHASH_SHA256).ok_or_else(bad)?
            }
            Form::Cid(_) if text.len() != 64 => {
                return Self::from_cid(text)
                    .ok()
                    .filter(|name| name.scheme == scheme)
                    .ok_or_else(bad);
            }
            _ => text,
        };
        let (base, letters) = match plain.len() == scheme.digest_len() * 2 {
            true => (&HEXLOWER_PERMISSIVE, plain),
            false => (&BASE32_NOPAD_NOCASE, plain.trim_end_matches('=')),
        };
        let mut digest = [0; 32];
        let bytes = digest.get_mut(..scheme.digest_len()).ok_or_else(bad)?;
        // `decode_mut` takes a place of the right size only.
        if base.decode_len(letters.len()) != Ok(bytes.len()) {
            return Err(bad());
        }
        base.decode_mut(letters.as_bytes(), bytes).map_err(|_| bad())?;
        Ok(Self { scheme, digest })
    }

    /// Parses a CID of version 0 or 1, in any multibase spelling. Its hash must be SHA-256, its codec `dag-pb` or `raw`.
    ///
    /// # Errors
    /// When it is no such CID.
    pub fn from_cid(text: &str) -> Result<Self, NameError> {
        let bad =
            |problem: String| NameError::Cid { text: text.chars().take(128).collect(), problem };
        if text.len() > MAX_CID {
            return Err(bad(format!("it has more than {MAX_CID} letters")));
        }
        let cid = Cid::try_from(text).map_err(|error| bad(error.to_string()))?;
        let scheme = match cid.codec() {
            DAG_PB => Scheme::CidDagPb,
            RAW => Scheme::CidRaw,
            other => return Err(bad(format!("its codec is 0x{other:x}, not dag-pb or raw"))),
        };
        if cid.hash().code() != SHA2_256 {
            return Err(bad(format!("its hash is 0x{:x}, not sha2-256", cid.hash().code())));
        }
        Self::new(scheme, cid.hash().digest()).map_err(|error| bad(error.to_string()))
    }

    /// The name as a CID: of version 0 (`Qm…`, dag-pb only) or 1 (base32); `None` for another scheme.
    #[must_use]
    pub fn cid(&self, version_0: bool) -> Option<String> {
        let Form::Cid(codec) = self.scheme.form() else { return None };
        let hash = Multihash::wrap(SHA2_256, self.digest()).ok()?;
        match version_0 {
            true => Cid::new_v0(hash).ok().filter(|_| codec == DAG_PB),
            false => Some(Cid::new_v1(codec, hash)),
        }
        .map(|cid| cid.to_string())
    }

    /// Parses `ni:///sha-256;…` (RFC 6920); an authority and parameters are passed over.
    fn from_ni(text: &str) -> Result<Self, NameError> {
        let bad = || NameError::Ni(text.chars().take(128).collect());
        let path = text.get(5..).and_then(|rest| rest.split_once('/')).ok_or_else(bad)?.1;
        let digest = path.strip_prefix("sha-256;").ok_or_else(bad)?;
        let digest = digest.split(['?', '#']).next().unwrap_or_default();
        let bytes = BASE64URL_NOPAD.decode(digest.as_bytes()).map_err(|_| bad())?;
        Self::new(Scheme::Sha256, &bytes).map_err(|_| bad())
    }

    /// The name as `ni:///sha-256;…` (RFC 6920); `None` for another scheme than SHA-256.
    #[must_use]
    pub fn ni(&self) -> Option<String> {
        let digest = || BASE64URL_NOPAD.encode(self.digest());
        (self.scheme == Scheme::Sha256).then(|| format!("ni:///sha-256;{}", digest()))
    }

    /// The digest in lower-case hex.
    #[must_use]
    pub fn hex(&self) -> String {
        HEXLOWER.encode(self.digest())
    }

    /// The digest in upper-case base32 without padding.
    #[must_use]
    pub fn base32(&self) -> String {
        BASE32_NOPAD.encode(self.digest())
    }
}

impl FromStr for Name {
    type Err = NameError;

    /// Parses a URN (`urn:btih:…`), `ipfs://…`, `/ipfs/…`, a CID, or `ni:///sha-256;…`; another bare hex or base32 text is
    /// refused, since its scheme is not known. For magnet links see [`parse_magnet_names`].
    fn from_str(text: &str) -> Result<Self, NameError> {
        let shown = || text.chars().take(128).collect::<String>();
        for prefix in ["urn:ipfs:", "ipfs://", "/ipfs/"] {
            if let Some(cid) = without_prefix(text, prefix) {
                return Self::from_cid(cid.trim_end_matches('/'));
            }
        }
        if without_prefix(text, "ni://").is_some() {
            return Self::from_ni(text);
        }
        for scheme in Scheme::ALL {
            if let Some(digest) = without_prefix(text, scheme.urn_prefix()) {
                return Self::from_digest_text(scheme, digest);
            }
        }
        let is_cid = (text.len() == 46 && text.starts_with("Qm")) || text.starts_with("baf");
        if is_cid && let Ok(name) = Self::from_cid(text) {
            return Ok(name);
        }
        let bare =
            (26..=68).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        Err(if bare { NameError::BareDigest(shown()) } else { NameError::UnknownScheme(shown()) })
    }
}

/// What stands behind a prefix, of which case does not matter.
fn without_prefix<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// The most letters of a CID that is read.
const MAX_CID: usize = 128;

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scheme.urn_prefix())?;
        match self.scheme.form() {
            Form::Hex => f.write_str(&self.hex()),
            Form::Base32 => f.write_str(&self.base32()),
            Form::Multihash => write!(f, "{MULTIHASH_SHA256}{}", self.hex()),
            Form::Cid(_) => f.write_str(&self.cid(false).unwrap_or_default()),
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

/// The names in the `xt` parameters of a magnet link (BEP 9), in order; those of unknown schemes are passed over.
///
/// # Errors
/// When the link is no magnet, names nothing known, or a digest is not of its scheme.
pub fn parse_magnet_names(link: &str) -> Result<Vec<Name>, NameError> {
    let query = link
        .split_at_checked(8)
        .filter(|(head, _)| head.eq_ignore_ascii_case("magnet:?"))
        .map(|(_, query)| query)
        .ok_or_else(|| NameError::UnknownScheme(link.chars().take(128).collect()))?;
    let mut names = Vec::new();
    for (key, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let is_xt = key == "xt" || key.strip_prefix("xt.").is_some_and(|n| n.parse::<u8>().is_ok());
        if !is_xt {
            continue;
        }
        let urn = value.replace("%3A", ":").replace("%3a", ":");
        // Two names in one (Gnutella): SHA-1 and the Tiger tree.
        if let Some((sha1, tth)) =
            without_prefix(&urn, "urn:bitprint:").and_then(|both| both.split_once('.'))
        {
            names.push(Name::from_digest_text(Scheme::Sha1, sha1)?);
            names.push(Name::from_digest_text(Scheme::Tth, tth)?);
            continue;
        }
        match urn.parse() {
            Ok(name) => names.push(name),
            Err(NameError::UnknownScheme(_)) => {}
            Err(error) => return Err(error),
        }
    }
    if names.is_empty() { Err(NameError::EmptyMagnet) } else { Ok(names) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parses_the_spellings_of_an_info_hash() {
        let hex = "c12fe1c06bba254a9dc9f519b335aa7c1367a88a";
        let name: Name = format!("urn:btih:{hex}").parse().unwrap();
        assert_eq!(name.to_string(), format!("urn:btih:{hex}"));
        assert_eq!(format!("URN:BTIH:{}", hex.to_uppercase()).parse(), Ok(name));
        assert_eq!(format!("urn:btih:{}", name.base32().to_lowercase()).parse(), Ok(name));
        assert_eq!(name.base32().len(), 32);
        let magnet = format!("magnet:?dn=x&xt=urn%3abtih:{hex}&xt.2=urn:foo:bar&tr=http://x");
        assert_eq!(parse_magnet_names(&magnet), Ok(vec![name]));
    }

    #[test]
    fn one_block_of_ipfs_has_two_spellings() {
        let v0: Name = "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD".parse().unwrap();
        assert_eq!(v0.scheme(), Scheme::CidDagPb);
        assert_eq!(v0.cid(true).unwrap(), "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD");
        assert_eq!(v0.cid(false).unwrap().parse(), Ok(v0));
        let raw = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
        let name: Name = raw.parse().unwrap();
        assert_eq!((name.scheme(), name.cid(true)), (Scheme::CidRaw, None));
        assert_eq!(name.to_string(), format!("urn:ipfs:{raw}"));
        assert_eq!(format!("/ipfs/{raw}/").parse(), Ok(name));
    }

    #[test]
    fn a_bitprint_is_two_names() {
        let (sha1, tth) = ("A".repeat(32), "A".repeat(39));
        let names = parse_magnet_names(&format!("magnet:?xt=urn:bitprint:{sha1}.{tth}")).unwrap();
        assert_eq!(names.iter().map(Name::scheme).collect::<Vec<_>>(), [Scheme::Sha1, Scheme::Tth]);
    }

    #[test]
    fn says_what_is_wrong() {
        let error = "urn:btih:zz".parse::<Name>().unwrap_err();
        assert_eq!(error.to_string(), "`zz` is no btih digest in hex or base32");
        let bare = "c12fe1c06bba254a9dc9f519b335aa7c1367a88a".parse::<Name>().unwrap_err();
        assert!(bare.to_string().contains("say its scheme"), "{bare}");
        let error = "ipfs://bafzzz".parse::<Name>().unwrap_err();
        assert!(
            error.to_string().starts_with("`bafzzz` is no CID that the bridge knows: "),
            "{error}"
        );
        let error = "ni:///sha-1;AAAA".parse::<Name>().unwrap_err();
        assert_eq!(error.to_string(), "`ni:///sha-1;AAAA` is no `ni:///sha-256;…` name (RFC 6920)");
        assert!(matches!("urn:foo:12".parse::<Name>(), Err(NameError::UnknownScheme(_))));
        assert_eq!(parse_magnet_names("magnet:?dn=x"), Err(NameError::EmptyMagnet));
        assert!(parse_magnet_names("http://x").is_err());
    }

    proptest! {
        #[test]
        fn what_is_printed_can_be_parsed(index in 0usize..12, digest in any::<[u8; 32]>()) {
            let scheme = Scheme::ALL[index];
            let name = Name::new(scheme, &digest[..scheme.digest_len()]).unwrap();
            prop_assert_eq!(name.to_string().parse(), Ok(name));
            prop_assert_eq!(Name::from_digest_text(scheme, &name.hex()), Ok(name));
            match name.cid(false) {
                None => prop_assert_eq!(Name::from_digest_text(scheme, &name.base32()), Ok(name)),
                Some(cid) => {
                    prop_assert_eq!(Name::from_cid(&cid), Ok(name));
                    prop_assert_eq!(format!("ipfs://{cid}").parse(), Ok(name));
                }
            }
            if let Some(cid) = name.cid(true) {
                prop_assert_eq!(cid.parse(), Ok(name));
            }
            if let Some(ni) = name.ni() {
                prop_assert_eq!(ni.parse(), Ok(name));
            }
            prop_assert_eq!(scheme.word().parse(), Ok(scheme));
            prop_assert_eq!(Scheme::from_number(scheme as u8), Some(scheme));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,80}") {
            let _ = text.parse::<Name>();
            let _ = parse_magnet_names(&text);
        }
    }
}
