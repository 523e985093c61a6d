//! `names bind` and `names unbind`.

use std::{
    io::{self, Write},
    path::Path,
};

use p2pbridge_adapters::registry;
use p2pbridge_nametable::exchange::{self, Format};
use p2pbridge_proto::{Name, OverlayId, v1};

use super::{
    super::client::{CliError, Client},
    first_known,
    link::{said_by, statement_of},
    show::{contents_table, show},
    source::{names_of, read},
};

/// `bind FILE|NAME…`.
pub(super) async fn bind(files: &[String], endpoint: &str, json: bool) -> Result<(), CliError> {
    // Files first: what is wrong with them needs no bridge to say it.
    let items = files.iter().map(|file| bind_item(file)).collect::<Result<_, _>>()?;
    let client = Client::connect(endpoint).await?;
    let request = v1::BindRequest { items, request_id: String::new() };
    let answer = client.names().bind(request).await;
    let answer = answer.map_err(|status| client.explain(&status))?.into_inner();
    show(&answer.bindings, &answer.contents, json)
}

/// `unbind NAME`.
pub(super) async fn unbind(name: &str, endpoint: &str, json: bool) -> Result<(), CliError> {
    let names = names_of(name)?;
    let client = Client::connect(endpoint).await?;
    let taken = first_known(&names, async |name| {
        let request = v1::UnbindRequest { name, ..Default::default() };
        client.names().unbind(request).await.map(tonic::Response::into_inner)
    });
    let taken = taken.await.map_err(|status| client.explain(&status))?;
    let bindings: Vec<_> = taken.binding.into_iter().collect();
    if json {
        return show(&bindings, &taken.content.into_iter().collect::<Vec<_>>(), json);
    }
    let mut out = io::stdout().lock();
    match &taken.content {
        None => {
            writeln!(out, "taken back:")?;
            drop(out);
            show(&bindings, &[], json)
        }
        Some(content) if content.names.is_empty() => {
            Ok(writeln!(out, "taken back; no other name of its bytes is known")?)
        }
        Some(content) => {
            writeln!(out, "taken back; what is still known of its bytes:")?;
            Ok(out.write_all(contents_table([content]).as_bytes())?)
        }
    }
}

/// `FILE` or a link of a protocol, with `OVERLAY=` before it if need be, a URN, or a magnet link; a file that has such a name
/// itself wins.
fn bind_item(text: &str) -> Result<v1::BindItem, CliError> {
    let whole = Path::new(text);
    if !whole.exists()
        && let Some(content) = statement(text)?
    {
        let label = text.chars().take(100).collect();
        let description = if is_link(text) { text.as_bytes().to_vec() } else { Vec::new() };
        return Ok(v1::BindItem {
            description,
            label,
            content: Some(content),
            ..Default::default()
        });
    }
    let (overlay, rest) = match text.split_once('=') {
        Some((overlay, rest)) if !whole.exists() && overlay.parse::<OverlayId>().is_ok() => {
            (overlay.to_owned(), rest)
        }
        _ => (String::new(), text),
    };
    if !overlay.is_empty() && is_link(rest) {
        return Ok(v1::BindItem { overlay, ..bind_item(rest)? });
    }
    let path = Path::new(rest);
    let description = read(path)?;
    let label = path.file_name().map_or_else(|| rest.into(), |name| name.to_string_lossy());
    // A file with a link says what the link says.
    let link = std::str::from_utf8(&description).ok().map(str::trim).filter(|text| is_link(text));
    let failed = |problem: String| CliError::File { path: path.to_owned(), problem };
    if link.is_some_and(|text| text.lines().nth(1).is_some()) {
        return Err(failed("it has more than a link: `names import` takes lists".to_owned()));
    }
    let said = link.map(statement).transpose().map_err(|error| failed(error.to_string()))?;
    Ok(v1::BindItem { description, label: label.into_owned(), overlay, content: said.flatten() })
}

/// Whether a text looks like a link that a protocol has as a description.
fn is_link(text: &str) -> bool {
    registry::linked(text).is_some()
}

/// What a text says of bytes; nothing when it looks like no name.
fn statement(text: &str) -> Result<Option<v1::Statement>, CliError> {
    if let Some(said) = said_by(text) {
        return Ok(Some(statement_of(&said.map_err(CliError::Argument)?)));
    }
    let begins =
        |with: &str| text.get(..with.len()).is_some_and(|head| head.eq_ignore_ascii_case(with));
    if begins("magnet:") {
        let row = exchange::read(Format::Magnets, text.as_bytes()).next();
        let row = row.transpose().map_err(|error| CliError::Argument(error.what.to_string()))?;
        return Ok(row.map(|row| v1::Statement {
            names: row.names.iter().map(|name| (*name).into()).collect(),
            length: row.length,
            title: row.title,
            ..Default::default()
        }));
    }
    if !["urn:", "ipfs://", "/ipfs/", "ni://"].iter().any(|with| begins(with)) {
        return Ok(None);
    }
    let name: Name = text.parse().map_err(|error| CliError::Argument(format!("{error}")))?;
    Ok(Some(v1::Statement { names: vec![name.into()], ..Default::default() }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_overlay_stands_before_a_file_unless_the_file_is_called_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.torrent");
        fs::write(&path, b"de").unwrap();
        let item = bind_item(&format!("a={}", path.display())).unwrap();
        assert_eq!((item.overlay.as_str(), item.label.as_str()), ("a", "x.torrent"));
        let odd = dir.path().join("a=b.torrent");
        fs::write(&odd, b"de").unwrap();
        assert_eq!(bind_item(&odd.display().to_string()).unwrap().overlay, "");
        let names = |text: &str| bind_item(text).unwrap().content.unwrap().names.len();
        let ed2k = "0102030405060708090a0b0c0d0e0f10";
        assert_eq!(names(&format!("urn:ed2k:{ed2k}")), 1);
        assert_eq!(names(&format!("magnet:?xt=urn:ed2k:{ed2k}&xt=urn:btih:{ed2k}01020304")), 2);
        assert_eq!(names(&format!("ed2k://|file|a|7|{ed2k}|/")), 1);
        assert!(bind_item("urn:btih:77").unwrap_err().to_string().contains("no btih digest"));
        let link = format!("ed2k://|file|a|7|{ed2k}|h=ABAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA|/");
        let item = bind_item(&format!("mule={link}")).unwrap();
        assert_eq!((item.overlay.as_str(), item.description.as_slice()), ("mule", link.as_bytes()));
        assert_eq!(item.content.unwrap().names.len(), 2);
        let path = dir.path().join("x.ed2k");
        fs::write(&path, format!("{link}\n")).unwrap();
        let item = bind_item(&format!("mule={}", path.display())).unwrap();
        assert_eq!((item.label.as_str(), item.content.unwrap().names.len()), ("x.ed2k", 2));
        fs::write(&path, format!("{link}\n{link}\n")).unwrap();
        let error = bind_item(&path.display().to_string()).unwrap_err().to_string();
        assert!(error.ends_with("more than a link: `names import` takes lists"), "{error}");
        fs::write(&path, "ed2k://|file|a|7|12|/").unwrap();
        let error = bind_item(&path.display().to_string()).unwrap_err().to_string();
        assert!(error.contains("x.ed2k: ") && error.contains("no ed2k digest"), "{error}");
        let error = bind_item("a=/nowhere.torrent").unwrap_err();
        assert!(error.to_string().starts_with("/nowhere.torrent: "), "{error}");
    }
}
