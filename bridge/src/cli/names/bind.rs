//! `names bind` and `names unbind`.

use std::{
    io::{self, Write},
    path::Path,
};

use p2pbridge_proto::{OverlayId, v1};

use super::{
    super::client::{CliError, Client},
    first_known,
    show::show,
    source::{names_of, read},
};

/// `bind FILE…`.
pub(super) async fn bind(files: &[String], endpoint: &str, json: bool) -> Result<(), CliError> {
    // Files first: what is wrong with them needs no bridge to say it.
    let items = files.iter().map(|file| bind_item(file)).collect::<Result<_, _>>()?;
    let client = Client::connect(endpoint).await?;
    let request = v1::BindRequest { items, request_id: String::new() };
    let answer = client.names().bind(request).await;
    show(&answer.map_err(|status| client.explain(&status))?.into_inner().bindings, json)
}

/// `unbind NAME`.
pub(super) async fn unbind(name: &str, endpoint: &str, json: bool) -> Result<(), CliError> {
    let names = names_of(name)?;
    let client = Client::connect(endpoint).await?;
    let binding = first_known(&names, async |name| {
        let request = v1::UnbindRequest { name, ..Default::default() };
        client.names().unbind(request).await.map(|answer| answer.into_inner().binding)
    });
    let binding = binding.await.map_err(|status| client.explain(&status))?;
    if !json {
        writeln!(io::stdout(), "taken back:")?;
    }
    show(&binding.into_iter().collect::<Vec<_>>(), json)
}

/// `FILE` or `OVERLAY=FILE`; a file that has such a name itself wins.
fn bind_item(text: &str) -> Result<v1::BindItem, CliError> {
    let whole = Path::new(text);
    let (overlay, path) = match text.split_once('=') {
        Some((overlay, file)) if !whole.exists() && overlay.parse::<OverlayId>().is_ok() => {
            (overlay, Path::new(file))
        }
        _ => ("", whole),
    };
    let description = read(path)?;
    let label = path.file_name().map_or_else(|| text.into(), |name| name.to_string_lossy());
    Ok(v1::BindItem {
        description,
        label: label.into_owned(),
        overlay: overlay.to_owned(),
        content: None,
    })
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
        let error = bind_item("a=/nowhere.torrent").unwrap_err();
        assert!(error.to_string().starts_with("/nowhere.torrent: "), "{error}");
    }
}
