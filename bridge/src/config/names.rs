use p2pbridge_nametable::digest::Rules;
use serde::{Deserialize, Deserializer, de};

/// The names that the bridge finds out itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NamesConfig {
    /// Whether the names of what passes are computed.
    pub prove: bool,
    /// By which rules; in the file a list of their words, of which the empty one stands for all.
    #[serde(deserialize_with = "rules")]
    pub prove_schemes: Rules,
    /// By how many threads.
    pub prove_threads: Threads,
    /// Whether descriptions are made of names that are known, where a name and a length say all.
    pub compose: bool,
}

impl Default for NamesConfig {
    fn default() -> Self {
        Self { prove: true, prove_schemes: Rules::all(), prove_threads: Threads(1), compose: true }
    }
}

/// A number of threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u64")]
pub struct Threads(usize);

impl Threads {
    /// As a number.
    #[must_use]
    pub fn count(self) -> usize {
        self.0
    }
}

impl TryFrom<u64> for Threads {
    type Error = String;

    fn try_from(count: u64) -> Result<Self, String> {
        let within = usize::try_from(count).ok().filter(|count| (1..=64).contains(count));
        within.map(Self).ok_or_else(|| format!("expected 1 to 64 threads, not {count}"))
    }
}

fn rules<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Rules, D::Error> {
    let words = Vec::<String>::deserialize(deserializer)?;
    if words.is_empty() {
        return Ok(Rules::all());
    }
    let parse = |word: &String| Rules::parse(word).map_err(de::Error::custom);
    words.iter().try_fold(Rules::none(), |all, word| Ok(all.with(parse(word)?)))
}
