//! `names magnet`: one link with every name that is sure.

use std::{
    io::{self, Write},
    path::Path,
};

use clap::Args;
use p2pbridge_adapters::{Description, registry};
use p2pbridge_nametable::{
    digest::{Rules, Wanted, hash_file},
    exchange::{Row, magnet as link},
};
use p2pbridge_proto::{Name, v1};
use serde_json::json;

use super::{
    super::{
        client::{CliError, Client},
        progress::Progress,
        table::plain,
    },
    first_known, make,
    scan::Scan,
    show::print_json,
    source::read,
};
use crate::names::MOST_DESCRIPTION;

/// Of what.
#[derive(Debug, Args)]
pub(super) struct MagnetArgs {
    /// A name that the bridge knows, a .torrent, or any other file, whose names are computed
    #[arg(value_name = "NAME|FILE")]
    what: String,
}

/// `magnet NAME`.
pub(super) async fn magnet(args: &MagnetArgs, endpoint: &str, json: bool) -> Result<(), CliError> {
    let path = Path::new(&args.what);
    let link = if path.exists() {
        of_path(path, endpoint).await?
    } else {
        let known = asked(std::slice::from_ref(&args.what), endpoint).await?;
        link(&known.ok_or_else(|| nothing_verified(&args.what))?)
    };
    if json {
        return print_json(&json!({ "magnet": link }));
    }
    Ok(writeln!(io::stdout(), "{link}")?)
}

/// What the daemon knows for sure of the first of these names that it knows.
async fn asked(names: &[String], endpoint: &str) -> Result<Option<Row>, CliError> {
    let client = Client::connect(endpoint).await?;
    let answer = first_known(names, async |name| {
        let request = v1::ResolveRequest { name, ..Default::default() };
        client.names().resolve(request).await.map(tonic::Response::into_inner)
    });
    Ok(verified(&answer.await.map_err(|status| client.explain(&status))?))
}

fn nothing_verified(what: &str) -> CliError {
    CliError::Refused(format!(
        "no name of `{}` is verified yet: the bridge has not seen its bytes (`names resolve` shows what is said of it)",
        plain(what)
    ))
}

/// What a file on this disk is called: a description says it, of another file it is computed.
async fn of_path(path: &Path, endpoint: &str) -> Result<String, CliError> {
    let scan = Scan::of(path)?;
    let Some(file) = scan.files.first().filter(|file| file.parts.is_empty()) else {
        let problem = "a folder has no name but that of a torrent of it: `names torrent` makes one";
        return Err(CliError::File { path: path.to_owned(), problem: problem.to_owned() });
    };
    if let Some(description) = description(path, file.length)? {
        // The daemon may know more names of it; its own need none.
        let own: Vec<_> = description.names.iter().map(ToString::to_string).collect();
        let more = asked(&own, endpoint).await.ok().flatten().unwrap_or_default().names;
        let plain = || Row { names: description.names.clone(), ..Row::default() };
        return Ok(make::magnet(&description, &more).unwrap_or_else(|| link(&plain())));
    }
    let progress = Progress::of_bytes(file.length);
    let wanted = Wanted { rules: Rules::all(), torrent: None, threads: 0 };
    let digests = hash_file(path, &wanted, &|more| progress.advance(more))
        .map_err(|error| CliError::Argument(error.to_string()))?;
    Ok(link(&Row {
        names: digests.names.iter().map(|computed| computed.name).collect(),
        length: Some(digests.length),
        title: scan.title()?,
        ..Row::default()
    }))
}

/// What a file says, if it is a description.
fn description(path: &Path, length: u64) -> Result<Option<Description>, CliError> {
    if length > MOST_DESCRIPTION as u64 {
        return Ok(None);
    }
    Ok(registry::describe(&read(path)?).ok().map(|(_, description)| description))
}

/// The verified names of what was asked for, if there are any: those of the description, and those of its bytes when it
/// is of one file.
fn verified(answer: &v1::ResolveResponse) -> Option<Row> {
    let mut row = Row::default();
    let sure = v1::Evidence::Verified;
    let of_one_file =
        |binding: &&v1::Binding| binding.files.iter().filter(|file| file.length > 0).count() == 1;
    let asked = answer.binding.as_ref();
    if let Some(binding) = asked {
        row.title.clone_from(&binding.title);
        row.length = Some(binding.files.iter().map(|file| file.length).sum());
    }
    let same_bytes = asked.is_none_or(|binding| of_one_file(&binding));
    let is_sure = |content: &v1::Content| {
        let known = content.names.iter().find(|known| known.name == answer.name);
        known.is_some_and(|known| known.evidence() == sure)
    };
    let own = match asked {
        Some(binding) => binding.evidence() == sure,
        None => answer.contents.first().is_some_and(is_sure),
    };
    let others = answer.equivalents.iter().filter(|other| same_bytes && own && of_one_file(other));
    let described = asked.into_iter().chain(others).filter(|binding| binding.evidence() == sure);
    let mut names: Vec<&v1::Name> = described.flat_map(|binding| &binding.names).collect();
    // Whose own name is but said to be of these bytes is not called what they are.
    if let ([content], true) = (answer.contents.as_slice(), same_bytes)
        && is_sure(content)
    {
        names.extend(
            content
                .names
                .iter()
                .filter(|it| it.evidence() == sure)
                .filter_map(|it| it.name.as_ref()),
        );
        row.length = content.length.or(row.length);
        if row.title.is_empty() {
            row.title.clone_from(&content.title);
        }
    }
    row.names = names.into_iter().filter_map(|name| Name::try_from(name).ok()).collect();
    row.names.sort_unstable();
    row.names.dedup();
    (!row.names.is_empty()).then_some(row)
}

#[cfg(test)]
mod tests {
    use p2pbridge_proto::Scheme;

    use super::*;

    fn known(scheme: Scheme, evidence: v1::Evidence) -> v1::KnownName {
        let name = Name::new(scheme, &vec![7; scheme.digest_len()]).unwrap();
        v1::KnownName { name: Some(name.into()), evidence: evidence.into(), ..Default::default() }
    }

    fn torrent(digest: u8, files: usize, evidence: v1::Evidence) -> v1::Binding {
        let file = v1::File { length: 5, ..Default::default() };
        v1::Binding {
            names: vec![Name::btih([digest; 20]).into()],
            title: "t".to_owned(),
            files: vec![file; files],
            evidence: evidence.into(),
            ..Default::default()
        }
    }

    #[test]
    fn only_what_is_verified_and_of_the_same_bytes_is_in_the_link() {
        use v1::Evidence::{Attested, Verified};
        let content = v1::Content {
            length: Some(5),
            names: vec![known(Scheme::Ed2k, Attested), known(Scheme::Sha256, Verified)],
            title: "film".to_owned(),
            ..Default::default()
        };
        let contents = vec![content];
        let equivalents =
            vec![torrent(1, 1, Verified), torrent(2, 2, Verified), torrent(3, 1, Attested)];
        let name = Some(known(Scheme::Sha256, Verified).name.unwrap());
        let of_bytes = v1::ResolveResponse { contents, equivalents, name, ..Default::default() };
        let sha256 = "07".repeat(32);
        let wanted =
            format!("magnet:?xt=urn:btih:{}&xt=urn:sha256:{sha256}&dn=film&xl=5", "01".repeat(20));
        assert_eq!(link(&verified(&of_bytes).unwrap()), wanted);
        let hinted =
            v1::ResolveResponse { name: known(Scheme::Ed2k, Attested).name, ..of_bytes.clone() };
        assert_eq!(verified(&hinted), None, "a name that is not sure itself");
        let of_two =
            v1::ResolveResponse { binding: Some(torrent(4, 2, Verified)), ..of_bytes.clone() };
        assert_eq!(verified(&of_two).unwrap().names, [Name::btih([4; 20])]);
        let unsure = v1::ResolveResponse { binding: Some(torrent(4, 2, Attested)), ..of_bytes };
        assert_eq!(verified(&unsure), None);
    }
}
