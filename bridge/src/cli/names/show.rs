//! What bindings look like: a table for people, JSON for programs.

use std::io::{self, Write};

use data_encoding::HEXLOWER;
use p2pbridge_proto::v1;
use serde_json::{Value, json};

use super::super::{
    client::CliError,
    table::{Table, exact, plain, size},
};
use crate::status::export::time_text;

/// Prints bindings.
pub(super) fn show(bindings: &[v1::Binding], json: bool) -> Result<(), CliError> {
    if json {
        let rows: Vec<_> = bindings.iter().map(binding_json).collect();
        return print_json(&json!({ "bindings": rows }));
    }
    Ok(io::stdout().write_all(table(bindings).as_bytes())?)
}

/// Bindings, one a line.
pub(super) fn table<'a>(bindings: impl IntoIterator<Item = &'a v1::Binding>) -> String {
    let headings = ["NAME", "TITLE", "SIZE", "FILES", "UNIT", "EVIDENCE", "OVERLAYS"];
    let mut table = Table::new(headings, &[3]);
    for binding in bindings {
        let layout = binding.layout.clone().unwrap_or_default();
        let overlays = match binding.overlays.as_slice() {
            [] => "none".to_owned(),
            overlays => overlays.join(", "),
        };
        table.row([
            binding.urns.join(" "),
            plain(&binding.title),
            exact(layout.length),
            binding.files.len().to_string(),
            size(layout.unit),
            evidence(binding).to_owned(),
            overlays,
        ]);
    }
    table.text("")
}

fn evidence(binding: &v1::Binding) -> &'static str {
    match binding.evidence() {
        v1::Evidence::Verified => "verified",
        v1::Evidence::Attested => "attested",
        v1::Evidence::Hint => "hint",
        v1::Evidence::Unspecified => "",
    }
}

/// A binding with all that is known of it.
pub(super) fn binding_json(binding: &v1::Binding) -> Value {
    let layout = binding.layout.clone().unwrap_or_default();
    let file = |file: &v1::File| {
        json!({
            "path": file.path,
            "length": file.length,
            "offset": file.offset,
            "content_id": HEXLOWER.encode(&file.content_id),
        })
    };
    json!({
        "names": binding.urns,
        "title": binding.title,
        "length": layout.length,
        "unit": layout.unit,
        "files": binding.files.iter().map(file).collect::<Vec<_>>(),
        "evidence": evidence(binding),
        "overlays": binding.overlays,
        "stated_by": binding.stated_by,
        "create_time": time_text(&binding.create_time),
        "update_time": time_text(&binding.update_time),
        "version": binding.version,
    })
}

/// Prints a value on a line of its own.
pub(in crate::cli) fn print_json(value: &Value) -> Result<(), CliError> {
    Ok(writeln!(io::stdout(), "{value}")?)
}
