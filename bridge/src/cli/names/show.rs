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

/// Prints bindings, and contents.
pub(super) fn show(
    bindings: &[v1::Binding],
    contents: &[v1::Content],
    json: bool,
) -> Result<(), CliError> {
    if json {
        let rows: Vec<_> = bindings.iter().map(binding_json).collect();
        let contents: Vec<_> = contents.iter().map(content_json).collect();
        return print_json(&json!({ "bindings": rows, "contents": contents }));
    }
    let mut out = io::stdout().lock();
    out.write_all(table(bindings).as_bytes())?;
    Ok(out.write_all(contents_table(contents).as_bytes())?)
}

/// Contents: what each is, and its names, one a line.
pub(super) fn contents_table<'a>(contents: impl IntoIterator<Item = &'a v1::Content>) -> String {
    let mut text = String::new();
    for content in contents {
        let title = if content.title.is_empty() { "without a title" } else { &content.title };
        let length = content.length.map_or_else(|| "of unknown size".to_owned(), exact);
        text += &format!("{}, {length}\n", plain(title));
        let headings = ["NAME OF THE BYTES", "CHUNK", "EVIDENCE", "SINCE", "SAID BY"];
        let mut table = Table::new(headings, &[]);
        for name in &content.names {
            let since = time_text(&name.state_time).unwrap_or_default();
            table.row([
                name.urn.clone(),
                if name.unit == 0 { String::new() } else { size(name.unit) },
                evidence_word(name.evidence()).to_owned(),
                since.replace(".000000Z", "Z"),
                plain(&name.stated_by),
            ]);
        }
        text += &table.text("  ");
    }
    text
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
    evidence_word(binding.evidence())
}

/// How well something is known, in a word.
pub(super) fn evidence_word(evidence: v1::Evidence) -> &'static str {
    match evidence {
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

/// A content with all that is known of it.
pub(super) fn content_json(content: &v1::Content) -> Value {
    let name = |known: &v1::KnownName| {
        json!({
            "urn": known.urn,
            "evidence": evidence_word(known.evidence()),
            "stated_by": known.stated_by,
            "state_time": time_text(&known.state_time),
            "unit": known.unit,
        })
    };
    json!({
        "content_id": HEXLOWER.encode(&content.content_id),
        "length": content.length,
        "title": content.title,
        "names": content.names.iter().map(name).collect::<Vec<_>>(),
    })
}

/// Prints a value on a line of its own.
pub(in crate::cli) fn print_json(value: &Value) -> Result<(), CliError> {
    Ok(writeln!(io::stdout(), "{value}")?)
}
