//! Searches: what peers of an overlay can find by title, size and kind.

mod announced;
mod bound;
mod index;
mod query;
mod room;
mod segment;
mod words;

use std::{
    cmp::Reverse,
    collections::HashSet,
    hash::{Hash, RandomState},
    sync::{Arc, PoisonError, RwLock},
};

use p2pbridge_nametable::{Binding, Content, NameTable};
use p2pbridge_proto::{
    ContentId, ErrorCode, Evidence, Fault, Name, Search, SearchHit, SearchResult,
};

pub(super) use self::{announced::Announced, bound::Bound, room::Room};
use self::{index::Index, query::Term};

/// Results that an answer has when the asker did not say how many it wants, and at most.
const DEFAULT_RESULTS: usize = 200;
const MOST_RESULTS: usize = 1_000;
/// Of so many that match, the best are given.
const LOOKED_AT: usize = 2_000;
/// What it costs to see how the asker has one of them, in the index's steps.
const FOUND: usize = 300;
/// Bindings of a content that are looked at.
const BINDINGS: usize = 64;

/// How much can be searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TitleCounts {
    /// Titles.
    pub titles: usize,
    /// Bytes of memory that they and their words take.
    pub memory: usize,
}

impl TitleCounts {
    fn of<K: Copy + Eq + Hash>(index: &Index<K>) -> Self {
        Self { titles: index.len(), memory: index.memory() }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        Self { titles: self.titles + other.titles, memory: self.memory + other.memory }
    }
}

/// What one asker may find.
pub(super) trait View {
    /// The names by which the asker has a content that goes by these names, its bindings being these; and how many
    /// sources there are, and complete ones. `None` when it cannot have it.
    fn names(&self, names: Vec<Name>, bindings: &[Arc<Binding>]) -> Option<Found>;
}

/// How an asker has a content.
pub(super) struct Found {
    /// Not empty.
    pub(super) names: Vec<Name>,
    pub(super) sources: u32,
    pub(super) complete: u32,
}

/// Refuses what is too large to be looked for.
pub(super) fn check(search: &Search) -> Result<(), Fault> {
    if search.query.is_sound() {
        return Ok(());
    }
    let text = "the search has too many terms, too much text, or an empty list";
    Err(Fault::new(ErrorCode::BadRequest, text))
}

/// Gathers what a search finds, by the rules of one view.
pub(super) struct Searcher<'a, V> {
    search: &'a Search,
    names: &'a NameTable,
    view: &'a V,
    hits: Vec<SearchHit>,
    given: HashSet<Name>,
    truncated: bool,
}

impl<'a, V: View> Searcher<'a, V> {
    pub(super) fn new(search: &'a Search, names: &'a NameTable, view: &'a V) -> Self {
        Self { search, names, view, hits: Vec::new(), given: HashSet::new(), truncated: false }
    }

    /// What is bound.
    pub(super) fn bound(mut self, bound: &Bound) -> Self {
        let (names, view) = (self.names, self.view);
        let file = |id: &ContentId| {
            // A file that only a description of several has may have no name of its own.
            let content = names.content(id);
            view.names(sure_names(content.as_ref()), &names.bindings_of(id, BINDINGS))
        };
        let whole = |main: &Name| {
            let binding = names.get(main)?;
            view.names(binding.names.clone(), &[binding])
        };
        self.look(&bound.files, &file);
        self.look(&bound.wholes, &whole);
        self
    }

    /// What peers announced.
    pub(super) fn announced(mut self, announced: &Announced) -> Self {
        let (names, view) = (self.names, self.view);
        let found = |name: &Name| {
            let mut same = sure_names(names.content_of(name).as_ref());
            same.retain(|other| other != name);
            same.insert(0, *name);
            view.names(same, &[])
        };
        self.look(announced.titles(), &found);
        self
    }

    /// All that was found, the best first.
    pub(super) fn result(self) -> SearchResult {
        let Self { mut hits, mut truncated, search, .. } = self;
        hits.sort_by(|one, other| {
            let key = |hit: &SearchHit| (Reverse(hit.sources), Reverse(hit.complete_sources));
            key(one)
                .cmp(&key(other))
                .then_with(|| one.title.cmp(&other.title))
                .then_with(|| one.names.cmp(&other.names))
        });
        let wanted = search.max_results.map_or(DEFAULT_RESULTS, |most| most as usize);
        let wanted = wanted.min(MOST_RESULTS);
        truncated |= hits.len() > wanted;
        hits.truncate(wanted);
        SearchResult { hits, truncated }
    }

    /// What matches is gathered under the lock; how the asker has it is seen after it.
    fn look<K: Copy + Eq + Hash>(
        &mut self,
        index: &RwLock<Index<K>>,
        found: &dyn Fn(&K) -> Option<Found>,
    ) {
        let term = |hasher: &RandomState| Term::new(&self.search.query, hasher);
        let sources = |key: &K| found(key).map_or(0, |found| found.sources);
        let mut matches = Vec::new();
        let index = index.read().unwrap_or_else(PoisonError::into_inner);
        let all = index.search(&term, &sources, |key, title, length| {
            matches.push((*key, title.to_owned(), length));
            (matches.len() < LOOKED_AT).then_some(FOUND)
        });
        drop(index);
        self.truncated |= !all;
        for (key, title, length) in matches {
            if let Some(Found { names, sources, complete }) = found(&key)
                && !names.iter().any(|name| self.given.contains(name))
            {
                self.given.extend(names.iter().copied());
                let complete_sources = complete;
                self.hits.push(SearchHit { names, title, length, sources, complete_sources });
            }
        }
    }
}

/// The names of a content that are more than hints.
fn sure_names(content: Option<&Content>) -> Vec<Name> {
    let known = content.iter().flat_map(|content| &content.names);
    known.filter(|known| known.evidence >= Evidence::Attested).map(|known| known.name).collect()
}

#[cfg(test)]
mod tests;
