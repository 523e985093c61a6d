use std::{fmt, str::FromStr, sync::Arc};

use thiserror::Error;

use crate::v1;

/// Id of an overlay in the configuration: 1 to 32 of `a`–`z`, `0`–`9` and `-`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OverlayId(Arc<str>);

/// A text that is no [`OverlayId`].
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{0}` is no overlay id: it takes 1 to 32 of a-z, 0-9 and -")]
pub struct OverlayIdError(String);

impl OverlayId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OverlayId {
    type Err = OverlayIdError;

    fn from_str(text: &str) -> Result<Self, OverlayIdError> {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=32).contains(&text.len()) && text.bytes().all(good) {
            Ok(Self(text.into()))
        } else {
            Err(OverlayIdError(text.to_owned()))
        }
    }
}

impl fmt::Display for OverlayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for OverlayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OverlayId({self})")
    }
}

/// How well a binding is known to be true; a stronger one is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Evidence {
    /// Anything else.
    Hint,
    /// An authenticated party said so.
    Attested,
    /// The bridge has hashed the bytes.
    Verified,
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hint => "hint",
            Self::Attested => "attested",
            Self::Verified => "verified",
        })
    }
}

impl From<Evidence> for v1::Evidence {
    fn from(evidence: Evidence) -> Self {
        match evidence {
            Evidence::Hint => Self::Hint,
            Evidence::Attested => Self::Attested,
            Evidence::Verified => Self::Verified,
        }
    }
}
