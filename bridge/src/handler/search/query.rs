//! A query, read once for all titles that it is held against.

use std::hash::{BuildHasher, RandomState};

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

/// A content that a term is held against.
pub(super) struct Item<'a> {
    pub(super) title: &'a str,
    pub(super) length: u64,
    /// The words of the title.
    pub(super) words: &'a dyn Fn() -> Vec<WordHash>,
    /// How many sources are known.
    pub(super) sources: &'a dyn Fn() -> u32,
}

impl Term {
    pub(super) fn new(query: &Query, hasher: &RandomState) -> Self {
        let several =
            |queries: &[Query]| queries.iter().map(|query| Self::new(query, hasher)).collect();
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

    pub(super) fn matches(&self, item: &Item<'_>) -> bool {
        match self {
            Self::All(terms) => terms.iter().all(|term| term.matches(item)),
            Self::Any(terms) => terms.iter().any(|term| term.matches(item)),
            Self::ButNot(term, not) => term.matches(item) && !not.matches(item),
            Self::Words(words) => {
                let title = (item.words)();
                words.iter().all(|word| title.contains(word))
            }
            Self::Kind(kind) => FileKind::of(item.title) == Some(*kind),
            Self::Extension { ending, .. } => item.title.to_lowercase().ends_with(ending.as_str()),
            Self::MinSize(size) => item.length >= *size,
            Self::MaxSize(size) => item.length <= *size,
            Self::MinSources(sources) => (item.sources)() >= *sources,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(query: &Query, title: &str, length: u64, sources: u32) -> bool {
        let hasher = RandomState::new();
        let words = || hashes(title, &hasher);
        let item = Item { title, length, words: &words, sources: &|| sources };
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
