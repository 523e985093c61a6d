//! What the protocols' parts of a configuration file have in common: `[overlays.<protocol>.<id>]`.

pub(crate) mod at;
pub(crate) mod values;

use std::{
    collections::BTreeMap,
    fmt,
    marker::PhantomData,
    net::{IpAddr, SocketAddr},
};

use p2pbridge_proto::OverlayId;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _, IgnoredAny, MapAccess, Visitor},
};

use self::at::{Step, error_at};
use crate::Mode;

/// An overlay of one protocol, as written.
pub(crate) trait Form: DeserializeOwned {
    /// The protocol's word.
    const PROTOCOL: &'static str;
    /// What comes of it.
    type Config;

    /// The overlay, if all of it fits together.
    fn check(self) -> Result<Self::Config, Misfit>;
}

/// What does not fit: the value below the overlay's table, and why.
pub(crate) type Misfit = (Vec<Step<'static>>, String);

/// Something that does not fit, at this value.
pub(crate) fn misfit<T>(path: &[Step<'static>], problem: impl fmt::Display) -> Result<T, Misfit> {
    Err((path.to_vec(), problem.to_string()))
}

/// Every overlay of a protocol in the text of a configuration file; what else is in there is not looked at.
pub(crate) fn parse<F: Form>(
    text: &str,
) -> Result<BTreeMap<OverlayId, F::Config>, toml::de::Error> {
    let file: File<F> = toml::from_str(text)?;
    let checked = file.overlays.0.into_iter().map(|(Id(id), form)| {
        let config = form.check().map_err(|(path, problem)| {
            let steps = ["overlays", F::PROTOCOL, id.as_str()].map(Step::Key);
            error_at(text, &[&steps[..], &path].concat(), &problem)
        })?;
        Ok((id, config))
    });
    checked.collect()
}

/// What is wrong with a mode in which the bridge tells peers where it is, and does not know it.
pub(crate) fn nowhere(mode: Mode) -> String {
    format!(
        "with mode = \"{mode}\" the bridge itself tells peers where it is: give `public` the addresses \
         by which they reach this host, or let `listen` name one"
    )
}

/// Where peers reach what listens at these addresses: an unspecified one stands for the public ones of its family.
pub(crate) fn reachable(listening: &[SocketAddr], public: &[IpAddr]) -> Vec<SocketAddr> {
    let each = listening.iter().flat_map(|at| {
        let stands = |ip: &&IpAddr| at.ip().is_unspecified() && ip.is_ipv4() == at.is_ipv4();
        let public = public.iter().filter(stands).map(|ip| SocketAddr::new(*ip, at.port()));
        let said = (!at.ip().is_unspecified()).then_some(*at);
        public.chain(said)
    });
    each.collect()
}

#[derive(Deserialize)]
#[serde(bound = "F: Form")]
struct File<F> {
    #[serde(default = "Overlays::none")]
    overlays: Overlays<F>,
}

/// The overlays of one protocol; those of others are passed over.
struct Overlays<F>(BTreeMap<Id, F>);

impl<F> Overlays<F> {
    fn none() -> Self {
        Self(BTreeMap::new())
    }
}

impl<'de, F: Form> Deserialize<'de> for Overlays<F> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Protocols<F>(PhantomData<F>);
        impl<'de, F: Form> Visitor<'de> for Protocols<F> {
            type Value = Overlays<F>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table for each protocol")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Overlays<F>, A::Error> {
                let mut overlays = Overlays::none();
                while let Some(protocol) = map.next_key::<String>()? {
                    if protocol == F::PROTOCOL {
                        overlays.0 = map.next_value()?;
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(overlays)
            }
        }
        deserializer.deserialize_map(Protocols(PhantomData))
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Id(OverlayId);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(D::Error::custom)
    }
}

#[cfg(test)]
/// An example with every setting that it shows, as if it were spelt out.
pub(crate) fn spelt_out(example: &str) -> String {
    let setting = |line: &str| {
        let rest = line.strip_prefix("# ")?;
        let key = rest.split_once(" = ").map(|(key, _)| key);
        let is_key = |key: &str| key.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase());
        (rest.starts_with('[') || key.is_some_and(is_key)).then(|| rest.to_owned())
    };
    let lines = example.lines().map(|line| setting(line).unwrap_or_else(|| line.to_owned()));
    lines.map(|line| line + "\n").collect()
}
