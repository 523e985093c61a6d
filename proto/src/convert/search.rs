//! Searches, checked ⇄ generated.

use super::{ConvertError, invalid, names, native_names};
use crate::{FileKind, MAX_QUERY_DEPTH, Query, Search, SearchHit, SearchResult, v1};

impl From<FileKind> for v1::FileKind {
    fn from(kind: FileKind) -> Self {
        match kind {
            FileKind::Audio => Self::Audio,
            FileKind::Video => Self::Video,
            FileKind::Image => Self::Image,
            FileKind::Document => Self::Document,
            FileKind::Program => Self::Program,
            FileKind::Archive => Self::Archive,
            FileKind::DiskImage => Self::DiskImage,
        }
    }
}

impl TryFrom<v1::FileKind> for FileKind {
    type Error = ConvertError;

    fn try_from(kind: v1::FileKind) -> Result<Self, ConvertError> {
        Ok(match kind {
            v1::FileKind::Unspecified => return Err(ConvertError::Missing("kind")),
            v1::FileKind::Audio => Self::Audio,
            v1::FileKind::Video => Self::Video,
            v1::FileKind::Image => Self::Image,
            v1::FileKind::Document => Self::Document,
            v1::FileKind::Program => Self::Program,
            v1::FileKind::Archive => Self::Archive,
            v1::FileKind::DiskImage => Self::DiskImage,
        })
    }
}

impl From<Query> for v1::SearchQuery {
    fn from(query: Query) -> Self {
        use v1::search_query::Term;
        let several = |queries: Vec<Query>| v1::SearchQueries {
            queries: queries.into_iter().map(Self::from).collect(),
        };
        let term = match query {
            Query::All(queries) => Term::All(several(queries)),
            Query::Any(queries) => Term::Any(several(queries)),
            Query::ButNot(query, not) => Term::ButNot(Box::new(v1::SearchButNot {
                query: Some(Box::new((*query).into())),
                but_not: Some(Box::new((*not).into())),
            })),
            Query::Words(words) => Term::Words(words),
            Query::Kind(kind) => Term::Kind(v1::FileKind::from(kind).into()),
            Query::Extension(extension) => Term::Extension(extension),
            Query::MinSize(size) => Term::MinSize(size),
            Query::MaxSize(size) => Term::MaxSize(size),
            Query::MinSources(sources) => Term::MinSources(sources),
        };
        Self { term: Some(term) }
    }
}

/// A query, no deeper than it may be.
fn query(from: &v1::SearchQuery, depth: usize) -> Result<Query, ConvertError> {
    use v1::search_query::Term;
    if depth > MAX_QUERY_DEPTH {
        return Err(invalid("query", format!("it is more than {MAX_QUERY_DEPTH} deep")));
    }
    let several = |queries: &v1::SearchQueries| {
        queries.queries.iter().map(|one| query(one, depth + 1)).collect::<Result<Vec<_>, _>>()
    };
    let inner = |one: &Option<Box<v1::SearchQuery>>| {
        let one = one.as_ref().ok_or(ConvertError::Missing("query"))?;
        Ok::<_, ConvertError>(Box::new(query(one, depth + 1)?))
    };
    Ok(match from.term.as_ref().ok_or(ConvertError::Missing("query"))? {
        Term::All(queries) => Query::All(several(queries)?),
        Term::Any(queries) => Query::Any(several(queries)?),
        Term::ButNot(pair) => Query::ButNot(inner(&pair.query)?, inner(&pair.but_not)?),
        Term::Words(words) => Query::Words(words.clone()),
        Term::Kind(kind) => {
            let kind = v1::FileKind::try_from(*kind).map_err(|error| invalid("kind", error))?;
            Query::Kind(kind.try_into()?)
        }
        Term::Extension(extension) => Query::Extension(extension.clone()),
        Term::MinSize(size) => Query::MinSize(*size),
        Term::MaxSize(size) => Query::MaxSize(*size),
        Term::MinSources(sources) => Query::MinSources(*sources),
    })
}

impl From<Search> for v1::Search {
    fn from(search: Search) -> Self {
        Self {
            query: Some(search.query.into()),
            max_results: search.max_results.unwrap_or_default(),
        }
    }
}

impl TryFrom<&v1::Search> for Search {
    type Error = ConvertError;

    fn try_from(search: &v1::Search) -> Result<Self, ConvertError> {
        let query = query(search.query.as_ref().ok_or(ConvertError::Missing("query"))?, 1)?;
        if !query.is_sound() {
            return Err(invalid("query", "it has too many terms, too much text, or an empty list"));
        }
        Ok(Self { query, max_results: (search.max_results > 0).then_some(search.max_results) })
    }
}

impl From<SearchResult> for v1::SearchResult {
    fn from(result: SearchResult) -> Self {
        let hits = result.hits.into_iter().map(|hit| v1::SearchHit {
            names: native_names(hit.names),
            title: hit.title,
            size: hit.length,
            sources: hit.sources,
            complete_sources: hit.complete_sources,
        });
        Self { hits: hits.collect(), truncated: result.truncated }
    }
}

impl TryFrom<&v1::SearchResult> for SearchResult {
    type Error = ConvertError;

    fn try_from(result: &v1::SearchResult) -> Result<Self, ConvertError> {
        let hits = result.hits.iter().map(|hit| {
            Ok(SearchHit {
                names: names(&hit.names)?,
                title: hit.title.clone(),
                length: hit.size,
                sources: hit.sources,
                complete_sources: hit.complete_sources,
            })
        });
        Ok(Self { hits: hits.collect::<Result<_, ConvertError>>()?, truncated: result.truncated })
    }
}
