//! The files that the clients of the captures talk of: what other programs, and their own bytes, say of them.

use std::fs;
use std::sync::OnceLock;

use bytes::Bytes;
use data_encoding::{BASE32_NOPAD, HEXLOWER};
use md4::{Digest, Md4};
use p2pbridge_adapters::ed2k::aich::{hash_blocks, hash_part, hash_root, recovery};
use p2pbridge_adapters::ed2k::wire::{
    Hash, PART,
    transfer::{AichHash, Recovery},
};
use p2pbridge_tests::{Scene, fill};

/// What others say of a file.
pub(crate) struct Known {
    pub(crate) name: &'static str,
    pub(crate) size: u64,
    hash: &'static str,
    root: &'static str,
}

/// By alcc and rhash.
pub(crate) const PARTS: Known = Known {
    name: "golden parts.bin",
    size: 20_000_000,
    hash: "feb1a7ce4ed6b528c72c12cd4399df35",
    root: "MBPVHD446DCLAQ7B7BWMYK5XTPIQVLYE",
};
/// By alcc and rhash.
pub(crate) const HUGE: Known = Known {
    name: "golden huge.bin",
    size: (1 << 32) + 600_000,
    hash: "0662f590565210ec6faf08bcb57ed2f2",
    root: "TPLFSWHBEJNVL4QFTHYAWTIDTBX4C3IL",
};
/// By alcc and rhash.
pub(crate) const SMALL: Known = Known {
    name: "golden small.bin",
    size: 1_000,
    hash: "808718bc462b66fa329a2054c99ce57e",
    root: "G4S72HAH7LHVNZO7LJQFOJY5AAQD7ARQ",
};
/// As it was offered to a server: its bytes are gone.
pub(crate) const NOISE: Known = Known {
    name: "golden noise.bin",
    size: 10_000_000,
    hash: "0fe468ef87d9e2ab28efdee7427308d0",
    root: "",
};
/// As it was offered to a server: its bytes are gone.
pub(crate) const WORDS: Known = Known {
    name: "golden words.txt",
    size: 339_758,
    hash: "7535e25f7d9508fe827e2877cbdc7368",
    root: "",
};
/// As it was offered to a server: its bytes are gone.
pub(crate) const LOW: Known = Known {
    name: "golden low.bin",
    size: 100_000,
    hash: "cf0f2cadf01e71b10fab887ee391efcf",
    root: "",
};
/// As it was offered to a server: its bytes are gone.
pub(crate) const HIDDEN: Known = Known {
    name: "golden hidden.bin",
    size: 50_000,
    hash: "72fa31ad6d0d02fa865d8c32bfcde497",
    root: "",
};

impl Known {
    pub(crate) fn hash(&self) -> Hash {
        hash(self.hash)
    }

    pub(crate) fn root(&self) -> AichHash {
        BASE32_NOPAD.decode(self.root.as_bytes()).unwrap().try_into().unwrap()
    }

    pub(crate) fn parts(&self) -> u32 {
        self.size.div_ceil(PART) as u32
    }
}

/// 16 bytes of hex.
pub(crate) fn hash(hex: &str) -> Hash {
    HEXLOWER.decode(hex.as_bytes()).unwrap().try_into().unwrap()
}

/// What `fill` makes.
fn random(length: u64, seed: u64) -> Vec<u8> {
    let scene = Scene::new();
    let path = scene.file("random.bin");
    fill(&path, length, seed);
    fs::read(path).unwrap()
}

/// All of `PARTS`.
pub(crate) fn parts() -> Bytes {
    static BYTES: OnceLock<Bytes> = OnceLock::new();
    BYTES.get_or_init(|| random(PARTS.size, 81).into()).clone()
}

/// What is in `HUGE` behind its 4 GiB of zeros.
pub(crate) fn end_of_huge() -> Vec<u8> {
    let mut bytes = random(300_000, 82);
    let lines = (0..).map(|line| format!("line {line} of a text that says little\n"));
    bytes.extend(lines.flat_map(String::into_bytes).take(300_000));
    bytes
}

/// The bytes of each part of a file, from the first one to the last.
fn chunks(file: &Known) -> Vec<Bytes> {
    if file.name == HUGE.name {
        let zeros = Bytes::from(vec![0; PART as usize]);
        let mut all = vec![zeros.clone(); HUGE.parts() as usize - 1];
        let before = (1 << 32) - (u64::from(HUGE.parts()) - 1) * PART;
        all.push([&zeros[..before as usize], &end_of_huge()].concat().into());
        return all;
    }
    let bytes = if file.name == PARTS.name { parts() } else { random(SMALL.size, 83).into() };
    bytes.chunks(PART as usize).map(|part| bytes.slice_ref(part)).collect()
}

/// What is worked out once for parts of the same bytes, which follow on each other.
fn each<T: Clone>(chunks: &[Bytes], work: impl Fn(&Bytes) -> T) -> Vec<T> {
    let mut out: Vec<T> = Vec::new();
    for (at, chunk) in chunks.iter().enumerate() {
        let same = at > 0 && chunks[at - 1].as_ptr() == chunk.as_ptr();
        let one = if same { out[at - 1].clone() } else { work(chunk) };
        out.push(one);
    }
    out
}

/// The MD4 of each part.
pub(crate) fn hash_set(file: &Known) -> Vec<Hash> {
    each(&chunks(file), |part| Md4::digest(part).into())
}

/// What proves the blocks of a part, worked out of all bytes of the file, and the root.
pub(crate) fn aich(file: &Known, part: u32) -> (AichHash, Recovery) {
    let blocks = each(&chunks(file), |part| hash_blocks(std::slice::from_ref(part)));
    let parts = (0..).zip(&blocks);
    let parts: Vec<AichHash> =
        parts.map(|(part, blocks)| hash_part(file.size, part, blocks).unwrap()).collect();
    let root = hash_root(file.size, &parts).unwrap();
    (root, recovery(file.size, part, &parts, &blocks[part as usize]).unwrap())
}

#[test]
fn the_files_are_those_of_which_other_programs_gave_the_hashes() {
    for file in [PARTS, HUGE, SMALL] {
        let set = hash_set(&file);
        let whole = match &set[..] {
            [one] => *one,
            several => Md4::digest(several.concat()).into(),
        };
        assert_eq!(whole, file.hash(), "{}", file.name);
        assert_eq!(aich(&file, 0).0, file.root(), "{}", file.name);
    }
}
