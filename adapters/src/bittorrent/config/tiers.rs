//! Trackers in tiers (BEP 12), as they are written: URLs, and lists of URLs.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, SeqAccess, Visitor, value::SeqAccessDeserializer},
};

use super::{MAX_TRACKERS, TrackerUrl};

/// A tier: one URL, or a list of them.
struct Tier(Vec<TrackerUrl>);

impl<'de> Deserialize<'de> for Tier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Tier;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a tracker's URL, or a list of them")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Tier, E> {
                text.parse().map(|url| Tier(vec![url])).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Tier, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Tier)
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

/// Every tier, empty ones too, so that a place among them is the place in the file.
pub(super) fn tiers<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Vec<TrackerUrl>>, D::Error> {
    let tiers = Vec::<Tier>::deserialize(deserializer)?;
    match tiers.iter().map(|tier| tier.0.len()).sum::<usize>() {
        0..=MAX_TRACKERS => Ok(tiers.into_iter().map(|tier| tier.0).collect()),
        many => Err(D::Error::custom(format!("{many} trackers are more than {MAX_TRACKERS}"))),
    }
}
