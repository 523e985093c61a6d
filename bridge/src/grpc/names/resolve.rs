//! Which names stand for the same bytes.

use std::sync::Arc;

use p2pbridge_nametable::{Binding, MAX_EQUIVALENTS, NameTable};
use p2pbridge_proto::{
    Name,
    v1::{self, ResolveRequest, ResolveResponse},
};
use tonic::Status;

use super::{
    super::{Explain, Explained, fault},
    parse::parse,
};
use crate::{
    names::{content_row, row},
    status::choice::Score,
};

/// The most contents of an answer.
const MOST_CONTENTS: usize = 1_000;

/// Resolves the first of the names that a request can mean and that is known.
pub(super) fn resolve(
    table: &NameTable,
    explain: &dyn Explain,
    request: &ResolveRequest,
) -> Result<ResolveResponse, Status> {
    let names = parse(&request.name, request.scheme(), "name")?;
    let found = names.iter().find_map(|name| resolve_name(table, explain, request, name));
    found.ok_or_else(|| unknown(&names))
}

fn resolve_name(
    table: &NameTable,
    explain: &dyn Explain,
    request: &ResolveRequest,
    name: &Name,
) -> Option<ResolveResponse> {
    let contents = table.contents_of(name, MOST_CONTENTS);
    let (binding, others) = match (table.resolve(name), contents.first()) {
        (Some((binding, others)), _) => (Some(binding), others),
        (None, Some(content)) => (None, table.bindings_of(&content.id, MAX_EQUIVALENTS)),
        (None, None) => return None,
    };
    let in_overlay = |binding: &&Arc<Binding>| {
        request.overlay.is_empty()
            || binding.overlays.iter().any(|overlay| overlay.as_str() == request.overlay)
    };
    let mut response = ResolveResponse {
        binding: binding.as_deref().map(row),
        equivalents: others.iter().filter(in_overlay).map(|binding| row(binding)).collect(),
        contents: contents.iter().map(content_row).collect(),
        name: Some((*name).into()),
        ..Default::default()
    };
    if let (true, Some(binding)) = (request.explain, &binding) {
        let Explained { choices, held_bytes } = explain.explain(binding, &others);
        let from_there =
            |choice: &Score| request.overlay.is_empty() || choice.from.as_str() == request.overlay;
        response.held_bytes = held_bytes;
        response.choices = choices.into_iter().filter(from_there).map(choice).collect();
    }
    Some(response)
}

/// None of the names is known.
pub(super) fn unknown(names: &[Name]) -> Status {
    names.first().map_or_else(|| fault::internal("no name"), fault::unknown_name)
}

fn choice(score: Score) -> v1::OverlayChoice {
    let terms = score.terms.into_iter().map(|term| v1::ScoreTerm {
        what: term.what.to_owned(),
        value: term.value,
        weight: term.weight,
        points: term.points,
    });
    v1::OverlayChoice {
        from_overlay: score.from.to_string(),
        to_overlay: score.to.to_string(),
        urn: score.name.to_string(),
        content_class: score.class.to_string(),
        direct: score.direct,
        score: score.total,
        terms: terms.collect(),
        usable: score.refusal.is_none(),
        refusal: score.refusal.unwrap_or_default(),
    }
}
