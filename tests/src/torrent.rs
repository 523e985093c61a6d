//! Making .torrent files with mktorrent and libtorrent, and reading the little that the tests need of them.

use std::fs;
use std::path::{Path, PathBuf};

use sha1::{Digest, Sha1};
use sha2::Sha256;

use crate::announce::percent;
use crate::files::hex;
use crate::process::{must, script};

/// A .torrent file.
#[derive(Clone, Debug)]
pub struct Torrent {
    /// Where it is.
    pub path: PathBuf,
    /// The name inside: what a client calls the file or the folder.
    pub name: String,
    /// SHA-1 of the info dictionary.
    pub v1: [u8; 20],
    /// SHA-256 of the info dictionary.
    pub v2: [u8; 32],
    /// Whether it has v1 pieces.
    pub has_v1: bool,
    /// Whether it has a v2 file tree.
    pub has_v2: bool,
    /// The announce URL, as made.
    pub announce: String,
}

/// How to make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Make {
    /// By mktorrent: v1, pieces of 2^n bytes.
    V1(u32),
    /// By mktorrent: v1, private (BEP 27).
    Private(u32),
    /// By libtorrent: v2 only (BEP 52).
    V2(u32),
    /// By libtorrent: v1 and v2.
    Hybrid(u32),
}

impl Torrent {
    /// Makes `out` over the file or folder `source`, called `name` inside. mktorrent takes several announce URLs with spaces between:
    /// each is a tier of its own.
    pub async fn make(how: Make, source: &Path, name: &str, announce: &str, out: &Path) -> Self {
        let text = |path: &Path| path.to_str().expect("a plain path").to_owned();
        match how {
            Make::V1(power) | Make::Private(power) => {
                let (power, out, source) = (power.to_string(), text(out), text(source));
                let mut args = vec!["-l", &power, "-n", name, "-o", &out];
                args.extend(announce.split(' ').flat_map(|url| ["-a", url]));
                if matches!(how, Make::Private(_)) {
                    args.push("-p");
                }
                args.push(&source);
                must(60, "mktorrent", args).await;
            }
            Make::V2(power) | Make::Hybrid(power) => {
                let kind = if matches!(how, Make::V2(_)) { "v2" } else { "hybrid" };
                let piece = (1_u64 << power).to_string();
                let maker = text(&script("make_torrent.py"));
                must(
                    60,
                    "/usr/bin/python3",
                    [&maker, kind, &piece, announce, name, &text(source), &text(out)],
                )
                .await;
            }
        }
        Self::read(out, announce)
    }

    /// Reads one that is there.
    #[must_use]
    pub fn read(path: &Path, announce: &str) -> Self {
        let bytes = fs::read(path).expect("a .torrent");
        let info = value(&bytes, b"info").expect("an info dictionary");
        let name = value(info, b"name").expect("a name");
        let colon = name.iter().position(|byte| *byte == b':').expect("a string");
        Self {
            path: path.to_owned(),
            name: String::from_utf8(name[colon + 1..].to_vec()).expect("UTF-8"),
            v1: Sha1::digest(info).into(),
            v2: Sha256::digest(info).into(),
            has_v1: value(info, b"pieces").is_some(),
            has_v2: value(info, b"file tree").is_some(),
            announce: announce.to_owned(),
        }
    }

    /// The 20 bytes by which trackers know it: v1's, or the first 20 of v2's.
    #[must_use]
    pub fn tracker_hash(&self) -> [u8; 20] {
        if self.has_v1 { self.v1 } else { self.v2[..20].try_into().expect("20 of 32") }
    }

    /// The same for v1 and v2, as far as it has them.
    #[must_use]
    pub fn tracker_hashes(&self) -> Vec<[u8; 20]> {
        let v2 = self.has_v2.then(|| self.v2[..20].try_into().expect("20 of 32"));
        self.has_v1.then_some(self.v1).into_iter().chain(v2).collect()
    }

    /// Its names as URNs, v1's first.
    #[must_use]
    pub fn urns(&self) -> Vec<String> {
        let v1 = self.has_v1.then(|| format!("urn:btih:{}", hex(&self.v1)));
        let v2 = self.has_v2.then(|| format!("urn:btmh:1220{}", hex(&self.v2)));
        v1.into_iter().chain(v2).collect()
    }

    /// The URN of its first name: v1's when it has one.
    #[must_use]
    pub fn urn(&self) -> String {
        self.urns().swap_remove(0)
    }

    /// Its v2 piece layers as they are written.
    ///
    /// # Panics
    /// When the file is gone.
    #[must_use]
    pub fn piece_layers(&self) -> Option<Vec<u8>> {
        let bytes = fs::read(&self.path).expect("a .torrent");
        value(&bytes, b"piece layers").map(<[u8]>::to_vec)
    }

    /// A magnet link with the tracker in it.
    #[must_use]
    pub fn magnet(&self) -> String {
        self.magnet_by(&self.urn())
    }

    /// A magnet link by one of its names, with the tracker in it.
    #[must_use]
    pub fn magnet_by(&self, urn: &str) -> String {
        let tracker = percent(self.announce.as_bytes());
        format!("magnet:?xt={urn}&dn={}&tr={tracker}", self.name)
    }
}

/// The raw value of `key` in the bencoded dictionary `dict`.
pub(crate) fn value<'a>(dict: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    if dict.first() != Some(&b'd') {
        return None;
    }
    let mut at = 1;
    while *dict.get(at)? != b'e' {
        let key_end = end(dict, at)?;
        let value_end = end(dict, key_end)?;
        let found = dict.get(at..key_end)?;
        if found.ends_with(key) && found.len() == key.len() + 1 + key.len().to_string().len() {
            return dict.get(key_end..value_end);
        }
        at = value_end;
    }
    None
}

/// Where the bencoded value that begins at `at` ends.
fn end(bytes: &[u8], at: usize) -> Option<usize> {
    match *bytes.get(at)? {
        b'i' => Some(at + bytes[at..].iter().position(|byte| *byte == b'e')? + 1),
        b'l' | b'd' => {
            let mut next = at + 1;
            while *bytes.get(next)? != b'e' {
                next = end(bytes, next)?;
            }
            Some(next + 1)
        }
        _ => {
            let colon = at + bytes[at..].iter().position(|byte| *byte == b':')?;
            let length: usize = std::str::from_utf8(&bytes[at..colon]).ok()?.parse().ok()?;
            Some(colon + 1 + length)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_raw_value() {
        let dict = b"d8:announce3:url4:infod4:name1:x6:lengthi3ee3:zzzle1:qi0ee";
        assert_eq!(value(dict, b"info"), Some(&b"d4:name1:x6:lengthi3ee"[..]));
        assert_eq!(value(dict, b"fo"), None);
        assert_eq!(value(dict, b"q"), Some(&b"i0e"[..]));
    }
}
