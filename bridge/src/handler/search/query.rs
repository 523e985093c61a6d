//! A query, read once for all titles that it is held against.

use std::{
    cell::OnceCell,
    hash::{BuildHasher, RandomState},
};

use p2pbridge_proto::{FileKind, Query};

use super::words::each_word;

/// A word, by its hash: that two words of one are taken for each other is not to be expected.
pub(super) type WordHash = u64;

/// The hashes of a text's words.
pub(super) fn hashes(text: &str, hasher: &RandomState) -> Vec<WordHash> {
    let mut hashes = Vec::new();
    each_word(text, |word| hashes.push(hasher.hash_one(word)));
    hashes
}

/// What a title and what is known of its content must be like.
pub(super) enum Term {
    All(Vec<Self>),
    Any(Vec<Self>),
    ButNot(Box<Self>, Box<Self>),
    Words(Vec<WordHash>),
    Kind(FileKind),
    Extension {
        /// In lower case, with the dot before it.
        ending: String,
        /// The words that a title must have to end so; empty where that cannot be told.
        words: Vec<WordHash>,
    },
    MinSize(u64),
    MaxSize(u64),
    MinSources(u32),
}

/// A content that a term is held against. What costs much is worked out once, when it is asked for.
pub(super) struct Item<'a> {
    pub(super) title: &'a str,
    pub(super) length: u64,
    hasher: &'a RandomState,
    words: OnceCell<Vec<WordHash>>,
    sources: &'a dyn Fn() -> u32,
    counted: OnceCell<u32>,
}

impl<'a> Item<'a> {
    pub(super) fn new(
        title: &'a str,
        length: u64,
        hasher: &'a RandomState,
        sources: &'a dyn Fn() -> u32,
    ) -> Self {
        let (words, counted) = (OnceCell::new(), OnceCell::new());
        Self { title, length, hasher, words, sources, counted }
    }

    /// Whether the title has a word.
    fn has(&self, word: WordHash) -> bool {
        let words = self.words.get_or_init(|| {
            let mut words = hashes(self.title, self.hasher);
            words.sort_unstable();
            words
        });
        words.binary_search(&word).is_ok()
    }

    fn sources(&self) -> u32 {
        *self.counted.get_or_init(self.sources)
    }
}

impl Term {
    pub(super) fn new(query: &Query, hasher: &RandomState) -> Self {
        let several = |queries: &[Query]| {
            let mut terms: Vec<_> = queries.iter().map(|query| Self::new(query, hasher)).collect();
            // What is cheap is looked at first.
            terms.sort_by_key(Self::cost);
            terms
        };
        match query {
            Query::All(queries) => Self::All(several(queries)),
            Query::Any(queries) => Self::Any(several(queries)),
            Query::ButNot(query, not) => {
                Self::ButNot(Self::new(query, hasher).into(), Self::new(not, hasher).into())
            }
            Query::Words(words) => Self::Words(hashes(words, hasher)),
            Query::Kind(kind) => Self::Kind(*kind),
            Query::Extension(extension) => Self::Extension {
                ending: format!(".{}", extension.to_lowercase()),
                words: match extension.is_ascii() {
                    true => hashes(extension, hasher),
                    false => Vec::new(),
                },
            },
            Query::MinSize(size) => Self::MinSize(*size),
            Query::MaxSize(size) => Self::MaxSize(*size),
            Query::MinSources(sources) => Self::MinSources(*sources),
        }
    }

    /// What it costs to hold it against a title, that aside.
    pub(super) fn cost(&self) -> usize {
        match self {
            Self::All(terms) | Self::Any(terms) => terms.iter().map(Self::cost).sum(),
            Self::ButNot(term, not) => term.cost() + not.cost(),
            Self::Words(words) => 60 + 10 * words.len(),
            Self::MinSources(_) => 1_000,
            Self::Extension { .. } | Self::Kind(_) => 50,
            Self::MinSize(_) | Self::MaxSize(_) => 1,
        }
    }

    pub(super) fn matches(&self, item: &Item<'_>) -> bool {
        match self {
            Self::All(terms) => terms.iter().all(|term| term.matches(item)),
            Self::Any(terms) => terms.iter().any(|term| term.matches(item)),
            Self::ButNot(term, not) => term.matches(item) && !not.matches(item),
            Self::Words(words) => words.iter().all(|word| item.has(*word)),
            Self::Kind(kind) => FileKind::of(item.title) == Some(*kind),
            Self::Extension { ending, .. } => item.title.to_lowercase().ends_with(ending.as_str()),
            Self::MinSize(size) => item.length >= *size,
            Self::MaxSize(size) => item.length <= *size,
            Self::MinSources(sources) => item.sources() >= *sources,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(query: &Query, title: &str, length: u64, sources: u32) -> bool {
        let hasher = RandomState::new();
        let sources = || sources;
        let item = Item::new(title, length, &hasher, &sources);
        Term::new(query, &hasher).matches(&item)
    }

    #[test]
    fn each_kind_of_term_says_what_it_says() {
        let words = |text: &str| Query::Words(text.to_owned());
        let film = |query: &Query| matches(query, "Big_Buck.Bunny (2008).AVI", 1000, 3);
        for query in [
            words("bunny BIG"),
            words("2008"),
            words(""),
            words("big-buck"),
            Query::Extension("avi".to_owned()),
            Query::Kind(FileKind::Video),
            Query::MinSize(1000),
            Query::MaxSize(1000),
            Query::MinSources(3),
            Query::Any(vec![words("cat"), words("buck")]),
            Query::ButNot(words("big").into(), words("small").into()),
            Query::All(vec![words("big"), Query::MinSize(10)]),
        ] {
            assert!(film(&query), "{query:?}");
        }
        for query in [
            words("bunn"),
            words("big cat"),
            Query::Extension("vi".to_owned()),
            Query::Extension(String::new()),
            Query::Kind(FileKind::Audio),
            Query::MinSize(1001),
            Query::MaxSize(999),
            Query::MinSources(4),
            Query::Any(vec![words("cat"), words("dog")]),
            Query::ButNot(words("big").into(), Query::MaxSize(5000).into()),
            Query::All(vec![words("big"), Query::MinSize(1001)]),
        ] {
            assert!(!film(&query), "{query:?}");
        }
    }
}
