//! Files with known contents, and their digests.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

/// Path below a root → length and SHA-256 in hex.
pub type Tree = BTreeMap<String, (u64, String)>;

/// Writes a file of `length` pseudo-random bytes that depend on `seed` alone. Its directory is made when it is not there.
///
/// # Panics
/// When it cannot be written.
pub fn fill(path: &Path, length: u64, seed: u64) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("its directory");
    let mut file = File::create(path).expect("a new file");
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut left = length as usize;
    let mut block = vec![0_u8; 64 * 1024];
    while left > 0 {
        for word in block.chunks_exact_mut(8) {
            // xorshift64*
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            word.copy_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
        }
        let now = left.min(block.len());
        file.write_all(&block[..now]).expect("written");
        left -= now;
    }
}

/// Length and SHA-256 in hex of a file; `None` when it cannot be read.
#[must_use]
pub fn sha256_file(path: &Path) -> Option<(u64, String)> {
    let mut file = File::open(path).ok()?;
    let (mut hasher, mut length, mut block) = (Sha256::new(), 0, vec![0; 256 * 1024]);
    loop {
        let read = file.read(&mut block).ok()?;
        if read == 0 {
            break;
        }
        hasher.update(&block[..read]);
        length += read as u64;
    }
    Some((length, hex(&hasher.finalize())))
}

/// Every file below `root`; a file as the root is one file with an empty path.
#[must_use]
pub fn tree(root: &Path) -> Tree {
    let mut found = Tree::new();
    collect(root, "", &mut found);
    found
}

fn collect(path: &Path, below: &str, found: &mut Tree) {
    if !path.is_dir() {
        found.extend(sha256_file(path).map(|file| (below.to_owned(), file)));
        return;
    }
    for entry in fs::read_dir(path).expect("a directory").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let below = if below.is_empty() { name } else { format!("{below}/{name}") };
        collect(&entry.path(), &below, found);
    }
}

/// Bytes in hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
