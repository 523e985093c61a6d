//! What a word of the command line stands for: a name, or the names in a file.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

use p2pbridge_adapters::registry;

use super::{
    super::{client::CliError, table::size},
    link::said_by,
};
use crate::names::MOST_DESCRIPTION;

/// A description file, whole.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    let failed = |problem: String| CliError::File { path: PathBuf::from(path), problem };
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let mut bytes = Vec::new();
    let most = MOST_DESCRIPTION as u64;
    file.take(most + 1).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > most {
        return Err(failed(format!("it is larger than a description can be ({})", size(most))));
    }
    Ok(bytes)
}

/// What a text names: itself, or the names in the description file of that path.
pub(super) fn names_of(text: &str) -> Result<Vec<String>, CliError> {
    let path = Path::new(text);
    if !fs::metadata(path).is_ok_and(|data| data.is_file()) {
        // Other links have several names, and are understood where they are asked for.
        let said = said_by(text).and_then(Result::ok);
        let name = said.and_then(|said| said.names.first().map(ToString::to_string));
        return Ok(vec![name.unwrap_or_else(|| text.to_owned())]);
    }
    let (_, description) = registry::describe(&read(path)?)
        .map_err(|error| CliError::File { path: path.into(), problem: error.to_string() })?;
    Ok(description.names.iter().map(ToString::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::tests::torrent;

    #[test]
    fn a_file_stands_for_the_names_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.torrent");
        fs::write(&path, torrent("x", 16384, &[7; 10], &[])).unwrap();
        let names = names_of(&path.display().to_string()).unwrap();
        assert!(names[0].starts_with("urn:btih:"), "{names:?}");
        assert_eq!(names_of("urn:btih:77").unwrap(), ["urn:btih:77"]);
        let (hash, bad) = ("01".repeat(16), "ed2k://|file|x|7|12|/");
        let link = format!("ed2k://|file|x|7|{hash}|/");
        assert_eq!(names_of(&link).unwrap(), [format!("urn:ed2k:{hash}")]);
        assert_eq!(names_of(bad).unwrap(), [bad]);
        fs::write(&path, b"nonsense").unwrap();
        assert!(names_of(&path.display().to_string()).is_err());
    }
}
