//! Errors of a whole, said at one of its values: with the line, and a caret below it.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// What leads to a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    Key(&'a str),
    /// A place in a list.
    Place(usize),
}

/// The error with this text at the value to which a path leads in a file, or at the last one on the way.
pub(crate) fn error_at(text: &str, path: &[Step<'_>], problem: &str) -> toml::de::Error {
    let mut error = toml::Deserializer::parse(text)
        .and_then(|file| At { path, problem }.deserialize(file))
        .err()
        .unwrap_or_else(|| toml::de::Error::custom(problem));
    error.set_input(Some(text));
    error
}

#[derive(Clone, Copy)]
struct At<'a> {
    path: &'a [Step<'a>],
    problem: &'a str,
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        // The deserializer of a value puts the value's place into an error that its visitor returns.
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.problem)
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        Err(E::custom(self.problem))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while !self.path.is_empty()
            && let Some(key) = map.next_key::<String>()?
        {
            match self.path.split_first() {
                Some((Step::Key(step), path)) if *step == key => {
                    map.next_value_seed(At { path, ..self })?;
                }
                _ => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Err(A::Error::custom(self.problem))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let mut place = 0;
        while !self.path.is_empty() {
            let more = match self.path.split_first() {
                Some((Step::Place(step), path)) if *step == place => {
                    seq.next_element_seed(At { path, ..self })?
                }
                _ => seq.next_element::<IgnoredAny>()?.map(drop),
            };
            if more.is_none() {
                break;
            }
            place += 1;
        }
        Err(A::Error::custom(self.problem))
    }
}

#[cfg(test)]
mod tests {
    use super::{Step::*, *};

    #[test]
    fn an_error_points_at_its_value() {
        let text = "a = 1\n[b.c]\nd = [\n  'x',\n  ['y',\n  'z'],\n]\n";
        let lines = |path: &[Step<'_>]| error_at(text, path, "is wrong").to_string();
        let deep = lines(&[Key("b"), Key("c"), Key("d"), Place(1), Place(1)]);
        assert!(deep.contains("line 6, column 3") && deep.contains("is wrong"), "{deep}");
        let list = lines(&[Key("b"), Key("c"), Key("d"), Place(0)]);
        assert!(list.contains("line 4, column 3"), "{list}");
        let nowhere = lines(&[Key("b"), Key("q")]);
        assert!(nowhere.contains("is wrong"), "{nowhere}");
    }
}
