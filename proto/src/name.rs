use std::{fmt, str::FromStr};

use data_encoding::{BASE32_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use thiserror::Error;

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
}

/// How a scheme's digests are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Hex,
    Base32,
    /// Hex of a multihash: `12 20` and a SHA-256 digest.
    Multihash,
}

const MULTIHASH_SHA256: &str = "1220";

impl Scheme {
    /// Every scheme.
    pub const ALL: [Self; 8] = [
        Self::Btih,
        Self::Btmh,
        Self::PiecesRoot,
        Self::Ed2k,
        Self::Aich,
        Self::Tth,
        Self::Sha1,
        Self::Sha256,
    ];

    /// Bytes of a digest.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Ed2k => 16,
            Self::Btih | Self::Aich | Self::Sha1 => 20,
            Self::Tth => 24,
            Self::Btmh | Self::PiecesRoot | Self::Sha256 => 32,
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
        }
    }

    const fn form(self) -> Form {
        match self {
            Self::Btih | Self::PiecesRoot | Self::Ed2k | Self::Sha256 => Form::Hex,
            Self::Aich | Self::Tth | Self::Sha1 => Form::Base32,
            Self::Btmh => Form::Multihash,
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
    #[error("a {} digest has {} bytes, not {got}", scheme_word(*.scheme), .scheme.digest_len())]
    DigestLength {
        /// The scheme.
        scheme: Scheme,
        /// The length that was found.
        got: usize,
    },
    /// The digest has letters that are neither hex nor base32, or too many or few of them.
    #[error("`{text}` is no {} digest in hex or base32", scheme_word(*.scheme))]
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
    /// A magnet link that names nothing.
    #[error("the magnet link has no `xt` that the bridge understands")]
    EmptyMagnet,
}

fn scheme_word(scheme: Scheme) -> &'static str {
    scheme.urn_prefix().trim_start_matches("urn:").trim_end_matches(':')
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
            _ => text,
        };
        let bytes = if plain.len() == scheme.digest_len() * 2 {
            HEXLOWER_PERMISSIVE.decode(plain.as_bytes()).map_err(|_| bad())?
        } else {
            let upper = plain.trim_end_matches('=').to_ascii_uppercase();
            BASE32_NOPAD.decode(upper.as_bytes()).map_err(|_| bad())?
        };
        Self::new(scheme, &bytes).map_err(|_| bad())
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

    /// Parses a URN (`urn:btih:…`); a bare hex or base32 text is refused, since its scheme is not known. For magnet
    /// links see [`parse_magnet_names`].
    fn from_str(text: &str) -> Result<Self, NameError> {
        let shown = || text.chars().take(128).collect::<String>();
        for scheme in Scheme::ALL {
            let prefix = scheme.urn_prefix();
            if let Some((head, digest)) = text.split_at_checked(prefix.len())
                && head.eq_ignore_ascii_case(prefix)
            {
                return Self::from_digest_text(scheme, digest);
            }
        }
        let bare =
            (26..=68).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        Err(if bare { NameError::BareDigest(shown()) } else { NameError::UnknownScheme(shown()) })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.scheme.urn_prefix())?;
        match self.scheme.form() {
            Form::Hex => f.write_str(&self.hex()),
            Form::Base32 => f.write_str(&self.base32()),
            Form::Multihash => write!(f, "{MULTIHASH_SHA256}{}", self.hex()),
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
        match value.replace("%3A", ":").replace("%3a", ":").parse() {
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
    fn says_what_is_wrong() {
        let error = "urn:btih:zz".parse::<Name>().unwrap_err();
        assert_eq!(error.to_string(), "`zz` is no btih digest in hex or base32");
        let bare = "c12fe1c06bba254a9dc9f519b335aa7c1367a88a".parse::<Name>().unwrap_err();
        assert!(bare.to_string().contains("say its scheme"), "{bare}");
        assert!(matches!("urn:foo:12".parse::<Name>(), Err(NameError::UnknownScheme(_))));
        assert_eq!(parse_magnet_names("magnet:?dn=x"), Err(NameError::EmptyMagnet));
        assert!(parse_magnet_names("http://x").is_err());
    }

    proptest! {
        #[test]
        fn what_is_printed_can_be_parsed(index in 0usize..8, digest in any::<[u8; 32]>()) {
            let scheme = Scheme::ALL[index];
            let name = Name::new(scheme, &digest[..scheme.digest_len()]).unwrap();
            prop_assert_eq!(name.to_string().parse(), Ok(name));
            prop_assert_eq!(Name::from_digest_text(scheme, &name.hex()), Ok(name));
            prop_assert_eq!(Name::from_digest_text(scheme, &name.base32()), Ok(name));
            prop_assert_eq!(Scheme::from_number(scheme as u8), Some(scheme));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,80}") {
            let _ = text.parse::<Name>();
            let _ = parse_magnet_names(&text);
        }
    }
}
