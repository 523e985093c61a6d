//! Sets of rules.

use std::str::FromStr;

use p2pbridge_proto::Scheme;

use super::{RULES, Rule, layer::Layer};

/// A set of the rules of [`RULES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules(u32);

impl Rules {
    /// Every rule.
    #[must_use]
    pub fn all() -> Self {
        Self::that(|_| true)
    }

    /// No rule.
    #[must_use]
    pub const fn none() -> Self {
        Self(0)
    }

    /// The rules whose names may be of a scheme; none of `btih` and `btmh`.
    #[must_use]
    pub fn of_scheme(scheme: Scheme) -> Self {
        Self::that(|rule| rule.schemes.contains(&scheme))
    }

    /// The rules that a word stands for: a scheme's (`ed2k` is both kinds of it), a rule's (`ed2k-blue`,
    /// `unixfs-v0-2015`), `cid` or `all`.
    ///
    /// # Errors
    /// When nothing is called so; the text says what is.
    pub fn parse(word: &str) -> Result<Self, String> {
        let word = word.trim().to_ascii_lowercase();
        let of_word = Self::that(|rule| rule.word == word);
        let found = match word.as_str() {
            "all" => Self::all(),
            "cid" => Self::of_scheme(Scheme::CidDagPb).with(Self::of_scheme(Scheme::CidRaw)),
            _ => Scheme::from_str(&word)
                .map_or(of_word, |scheme| of_word.with(Self::of_scheme(scheme))),
        };
        if found.is_empty() {
            let known: Vec<_> = RULES.iter().map(|rule| rule.word).collect();
            return Err(format!(
                "no name that is made of bytes alone is called `{word}`; known: {}, cid, all",
                known.join(", ")
            ));
        }
        Ok(found)
    }

    /// Both together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it has the rule of this word.
    #[must_use]
    pub fn contains(self, word: &str) -> bool {
        self.iter().any(|rule| rule.word == word)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The rules, in the order of [`RULES`].
    pub fn iter(self) -> impl Iterator<Item = &'static Rule> {
        RULES.iter().enumerate().filter(move |(at, _)| self.0 >> at & 1 == 1).map(|(_, rule)| rule)
    }

    fn that(is: impl Fn(&Rule) -> bool) -> Self {
        let of = |(at, rule): (usize, &Rule)| if is(rule) { 1u32 << at } else { 0 };
        Self(RULES.iter().enumerate().map(of).sum())
    }

    /// The layers that the rules are made of, each once.
    pub(super) fn layers(self) -> Vec<&'static dyn Layer> {
        let mut layers: Vec<&'static dyn Layer> = Vec::new();
        for rule in self.iter() {
            if layers.iter().all(|layer| layer.what() != rule.layer.what()) {
                layers.push(rule.layer);
            }
        }
        layers
    }
}

impl FromStr for Rules {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Self::parse(word)
    }
}
