mod known;
mod naive;
mod order;
mod torrent;

use std::{io::Write, path::PathBuf};

use tempfile::NamedTempFile;

use super::*;

/// The sizes at which something begins or ends in one of the systems, and their neighbours.
const BORDERS: [u64; 23] = [
    0, 1, 1023, 1024, 1025, 16_383, 16_384, 16_385, 184_319, 184_320, 184_321, 262_143, 262_144,
    262_145, 1_048_575, 1_048_576, 1_048_577, 9_727_999, 9_728_000, 9_728_001, 19_456_000,
    29_184_000, 29_184_001,
];

/// Bytes that repeat nowhere near.
fn bytes(length: u64, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let words = (0..length.div_ceil(8)).flat_map(|_| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state ^ (state >> 29)).to_le_bytes()
    });
    words.take(length as usize).collect()
}

/// All names, through the program's own ways: a pass over a file, or a gathering.
fn of_file(bytes: &[u8], threads: usize) -> Digests {
    let file = file_of(bytes);
    let wanted = Wanted { rules: Rules::all(), torrent: None, threads };
    hash_file(file.path(), &wanted, &|_| ()).unwrap()
}

fn file_of(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn path_of(file: &NamedTempFile) -> PathBuf {
    file.path().to_owned()
}

fn text<'a>(digests: &'a Digests, rule: &str) -> &'a str {
    let found = digests.names.iter().find(|computed| computed.rule == rule);
    found.map_or("", |computed| computed.text.as_str())
}
