//! `names export --format torrent`: every description, as it was bound.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use p2pbridge_proto::{Name, v1};
use serde_json::json;
use tonic::Code;

use super::{
    super::{
        client::{CliError, Client},
        output::Output,
        progress::Progress,
        table::grouped,
    },
    show::print_json,
};

/// The most bytes of a title in a file's name; file systems take 255, and a name and an end stand behind it.
const MOST_TITLE: usize = 170;

/// Writes all descriptions into a folder, each as `TITLE NAME.torrent`.
pub(super) async fn export(folder: &Path, endpoint: &str, json: bool) -> Result<(), CliError> {
    fs::create_dir_all(folder)
        .map_err(|error| CliError::File { path: folder.into(), problem: error.to_string() })?;
    let client = Client::connect(endpoint).await?;
    let progress = Progress::of_unknown("files");
    let (mut written, mut without) = (0u64, 0u64);
    let mut page_token = String::new();
    loop {
        let request = v1::ListRequest { page_size: 1_000, page_token };
        let page = client.names().list(request).await;
        let page = page.map_err(|status| client.explain(&status))?.into_inner();
        for binding in &page.bindings {
            match one(&client, folder, binding).await? {
                true => written += 1,
                false => without += 1,
            }
            progress.advance(1);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    drop(progress);
    if json {
        return print_json(&json!({ "written": written, "without_description": without }));
    }
    let mut out = io::stdout().lock();
    writeln!(out, "files: {}", grouped(written))?;
    if without > 0 {
        writeln!(
            out,
            "names left out, since they were bound without a .torrent: {}",
            grouped(without)
        )?;
    }
    Ok(())
}

/// Writes one; tells whether there is any.
async fn one(client: &Client, folder: &Path, binding: &v1::Binding) -> Result<bool, CliError> {
    let Some(urn) = binding.urns.first() else { return Ok(false) };
    let request = v1::GetDescriptionRequest { name: urn.clone() };
    let description = match client.names().get_description(request).await {
        Ok(answer) => answer.into_inner().description,
        // Without a description, or taken back meanwhile.
        Err(status) if matches!(status.code(), Code::FailedPrecondition | Code::NotFound) => {
            return Ok(false);
        }
        Err(status) => return Err(client.explain(&status)),
    };
    // Of other protocols' descriptions there are lists.
    if !description.starts_with(b"d") {
        return Ok(false);
    }
    let path = folder.join(file_name(&binding.title, urn));
    let mut out = Output::open(Some(&path))?;
    out.write_all(&description)
        .map_err(|error| CliError::File { path, problem: error.to_string() })?;
    out.keep()?;
    Ok(true)
}

/// A file's name that cannot leave its folder, and that no other name's file has.
fn file_name(title: &str, urn: &str) -> String {
    let mut plain = String::new();
    for letter in title.chars() {
        if plain.len() + letter.len_utf8() > MOST_TITLE {
            break;
        }
        let bad = letter.is_control() || matches!(letter, '/' | '\\' | ':');
        plain.push(if bad { '_' } else { letter });
    }
    let name = urn.parse().map_or_else(|_| String::new(), |name: Name| name.hex());
    match plain.trim_start_matches(['.', ' ']) {
        "" => format!("{name}.torrent"),
        plain => format!("{plain} {name}.torrent"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_stays_in_its_folder() {
        let urn = format!("urn:btih:{}", "ab".repeat(20));
        let hex = "ab".repeat(20);
        assert_eq!(file_name("a ü", &urn), format!("a ü {hex}.torrent"));
        assert_eq!(file_name("../x\n", &urn), format!("_x_ {hex}.torrent"));
        assert_eq!(file_name("..", &urn), format!("{hex}.torrent"));
        assert!(file_name(&"ü".repeat(500), &urn).len() <= 255);
    }
}
