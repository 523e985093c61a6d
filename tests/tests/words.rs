//! Nothing of the bridge learns a protocol's name: what one protocol does, the others can do too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use p2pbridge_adapters::registry;

/// What protocols are called, or call their names, beside the words of the registry.
const ALIASES: &[&str] = &["bittorrent", "infohash", "info_hash", "info-hash", "ed2k", "emule"];

/// Lines that may have such a word: in a file or below a folder, what they contain, and why.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("adapters/src/lib.rs", "pub mod ", "each protocol has a folder"),
    (
        "adapters/src/registry.rs",
        "&bittorrent::DESCRIPTOR, &ed2k::DESCRIPTOR",
        "the registry itself",
    ),
    ("adapters/src/registry.rs", "Links, bittorrent, ed2k,", "the registry itself"),
    ("bridge/src/cli/demo", "", "it plays two overlays and their peers, and has to speak for them"),
    (
        "bridge/src/cli/names/make.rs",
        "bittorrent::",
        "it makes .torrent files, which one protocol has",
    ),
    (
        "bridge/src/cli/names/of.rs",
        "/// Only these names: a scheme's word (ed2k,",
        "help: schemes as examples",
    ),
    (
        "bridge/src/cli/names/of.rs",
        "/// Also the eD2k link of each file",
        "help: what is printed, in the users' words",
    ),
    (
        "bridge/src/cli/names/mod.rs",
        "magnet and eD2k links",
        "help: what a word may be, in the users' words",
    ),
    ("bridge/src/cli/names/mod.rs", "an info-hash, or a desc", "help: what people paste"),
    ("bridge/src/cli/names/ask.rs", "an info-hash, or a desc", "help: what people paste"),
    ("bridge/src/grpc/names/parse.rs", "are a v1 info-hash", "what people paste without a scheme"),
    ("bridge/src/cli/names/mod.rs", "magnet and ed2k links", "help: the formats of lists"),
    (
        "bridge/src/cli/names/export.rs",
        "csv|jsonl|magnets|ed2k|metalink|torrent",
        "help: the formats of lists",
    ),
    (
        "bridge/src/cli/names/import/mod.rs",
        "csv|jsonl|magnets|ed2k|metalink",
        "help: the formats of lists",
    ),
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").to_owned()
}

/// The Rust files of a folder that are no tests; those below it too, if `deep`.
fn sources(folder: &Path, deep: bool, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if stem == "tests" || stem.ends_with("_tests") {
            continue;
        }
        if path.is_dir() && deep {
            sources(&path, deep, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// A file up to its tests, which stand last.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
}

/// The lines of a text that have one of the words, whatever their letters.
fn lines_with<'a>(text: &'a str, words: &BTreeSet<&str>) -> Vec<(usize, &'a str)> {
    let has = |line: &str| words.iter().any(|word| line.to_lowercase().contains(word));
    (1..).zip(text.lines()).filter(|(_, line)| has(line)).collect()
}

fn words() -> BTreeSet<&'static str> {
    let registered = registry::PROTOCOLS.iter().map(|descriptor| descriptor.protocol);
    registered.chain(ALIASES.iter().copied()).collect()
}

#[test]
fn no_protocol_is_known_by_its_name() {
    let (root, words) = (repository(), words());
    let mut files = Vec::new();
    sources(&root.join("bridge/src"), true, &mut files);
    sources(&root.join("adapters/src"), false, &mut files);
    sources(&root.join("adapters/src/contract"), true, &mut files);
    for part in ["handler", "relay", "status", "grpc", "web", "names", "cli/names"] {
        let folder = root.join("bridge/src").join(part);
        assert!(files.iter().any(|file| file.starts_with(&folder)), "{part} is not looked at");
    }
    let (mut used, mut wrong) = (vec![false; EXCEPTIONS.len()], Vec::new());
    for file in &files {
        let text = fs::read_to_string(file).expect("a source");
        let path = file.strip_prefix(&root).expect("below it");
        for (number, line) in lines_with(without_tests(&text), &words) {
            let excepts = |(place, part, _): &&(&str, &str, &str)| {
                path.starts_with(place) && line.contains(part)
            };
            match EXCEPTIONS.iter().position(|exception| excepts(&exception)) {
                Some(at) => used[at] = true,
                None => wrong.push(format!("{}:{number}: {}", path.display(), line.trim())),
            }
        }
    }
    assert!(wrong.is_empty(), "words of protocols: ask the registry instead\n{}", wrong.join("\n"));
    let idle: Vec<_> = EXCEPTIONS.iter().zip(used).filter(|(_, used)| !used).collect();
    assert!(idle.is_empty(), "exceptions that nothing needs: {idle:?}");
}

#[test]
fn words_are_found_in_front_of_tests_whatever_their_letters() {
    let text = "let it = Scheme::Ed2k;\nlet hash = 1;\n// eMule\n#[cfg(test)]\nmod tests {\n    // ed2k\n}\n";
    assert_eq!(
        lines_with(without_tests(text), &words()),
        [(1, "let it = Scheme::Ed2k;"), (3, "// eMule")]
    );
}
