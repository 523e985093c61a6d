//! The fuzz targets over their corpora, over the captures, and over mutations of both: the same ones in every run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};

#[path = "../fuzz/src/targets.rs"]
mod targets;

/// Mutations of each input.
const MUTATIONS: u64 = 40;
/// The longest input that is mutated.
const MOST: usize = 8192;

fn inputs(dir: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .map(|entries| entries.map(|entry| entry.expect("a file").path()).collect())
        .unwrap_or_default();
    paths.retain(|path| path.is_file());
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("an input")).collect()
}

/// A small generator: the same numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most.max(1) as u64) as usize
    }
}

/// Changes an input as a bad neighbour might: bits, lengths, ends, doubled and swapped parts, odd numbers.
fn mutated(input: &[u8], other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    const ODD: [&[u8]; 8] = [
        b"-1",
        b"0",
        b"9223372036854775808",
        b"18446744073709551616",
        b"%",
        b"\xFF\xFF\xFF\xFF",
        b"e",
        b"i1e",
    ];
    let mut out = input[..input.len().min(MOST)].to_vec();
    for _ in 0..=numbers.below(3) {
        let at = numbers.below(out.len() + 1);
        match numbers.below(7) {
            0 if at < out.len() => out[at] ^= 1 << numbers.below(8),
            1 if at < out.len() => out[at] = numbers.below(256) as u8,
            2 => out.truncate(at),
            3 => {
                let part = out[at..out.len().min(at + 30)].to_vec();
                out.extend_from_slice(&part);
            }
            4 => drop(out.splice(at..at, ODD[numbers.below(ODD.len())].iter().copied())),
            5 => {
                let from = numbers.below(other.len() + 1);
                out.extend_from_slice(&other[from..other.len().min(from + 200)]);
            }
            _ => drop(out.splice(at..out.len().min(at + numbers.below(9)), [])),
        }
    }
    out
}

/// Runs one target over everything; the input that breaks it is printed.
fn replay(name: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = targets::target(name).expect("a target");
    let corpus = inputs(&root.join("fuzz/corpus").join(name));
    assert!(!corpus.is_empty(), "{name} has no corpus");
    let folders: &[&str] = match name {
        // They take messages of every protocol.
        "message" | "translate" => &["bittorrent", "bittorrent/captures", "ed2k/captures"],
        name if name.starts_with("ed2k_") => {
            &["ed2k", "ed2k/captures", "ed2k/clients", "ed2k/streams"]
        }
        _ => &["bittorrent", "bittorrent/captures"],
    };
    let fixtures: Vec<_> = folders.iter().map(|it| root.join("fixtures").join(it)).collect();
    let inputs: Vec<_> =
        corpus.into_iter().chain(fixtures.iter().flat_map(|dir| inputs(dir))).collect();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for input in &inputs {
        let run = |bytes: &[u8]| {
            let told = std::panic::catch_unwind(|| (target.run)(bytes));
            assert!(told.is_ok(), "{name} breaks on \"{}\"", bytes.escape_ascii());
        };
        run(input);
        for _ in 0..MUTATIONS {
            let other = &inputs[numbers.below(inputs.len())];
            run(&mutated(input, other, &mut numbers));
        }
    }
}

macro_rules! replays {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        #[test]
        fn no_target_is_forgotten() {
            let replayed = [$(stringify!($name)),*];
            let known: Vec<_> = targets::all().map(|target| target.name).collect();
            assert_eq!(known, replayed);
        }
    };
}

replays! {
    bencode http_request http_answer udp_request udp_answer peer_wire extension metainfo magnet envelope message translate
    list_csv list_json list_magnets list_links list_metalink
    ed2k_packet ed2k_tags ed2k_from_client ed2k_from_server ed2k_udp ed2k_search ed2k_hello ed2k_transfer ed2k_obfuscation ed2k_agreement
    ed2k_aich ed2k_inflate ed2k_link ed2k_describe
}
