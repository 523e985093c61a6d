//! What programs that nobody here wrote call the same bytes.
//!
//! | name | who says it |
//! |---|---|
//! | ed2k | RHash, and aMule's alcc; `ed2k-blue` by RHash's MD4 of each part |
//! | AICH, TTH, btih | RHash |
//! | SHA-1, SHA-256 | RHash, and coreutils |
//! | `pieces root`, btih and btmh of v2 and hybrid torrents | libtorrent |
//! | CIDs of both profiles | npm's ipfs-unixfs-importer |
//! | PPSPP roots | hashlib in `programs/names.py`, which PyPPSPP's roots in `fixtures/names` confirm |

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, copy};
use std::path::{Path, PathBuf};

use crate::process::{must, script};
use crate::{Json, Scene, parse_jsonl, tools};

/// The names of one file: the rule's word (`ed2k`, `unixfs-v1-2025`, …) → the name as its system spells it, or as a URN.
pub type Names = BTreeMap<String, String>;

/// Bytes of a part in eD2k.
const PART: u64 = 9_728_000;

/// Seconds that a program may take over all files.
const DEADLINE: u64 = 180;

/// What the programs call each of these files, in order. Where two know the same name, they agree, or it panics.
pub async fn oracle_names(scene: &Scene, files: &[PathBuf]) -> Vec<Names> {
    let (rhash, alcc, sha1, sha256, cids, trees) = tokio::join!(
        rhash(files),
        alcc(files),
        sums("sha1sum", files),
        sums("sha256sum", files),
        cids(files),
        trees(files)
    );
    let mut all = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let [ed2k, aich, tth, sha1_hex, sha1_base32, sha256_hex] = &rhash[index];
        assert_eq!(ed2k, &alcc[index], "ed2k of {} by RHash and by alcc", file.display());
        assert_eq!(sha1_hex, &sha1[index], "SHA-1 of {} by RHash and by coreutils", file.display());
        assert_eq!(
            sha256_hex,
            &sha256[index],
            "SHA-256 of {} by RHash and by coreutils",
            file.display()
        );
        let mut names = Names::from([
            ("ed2k".to_owned(), format!("urn:ed2k:{ed2k}")),
            ("aich".to_owned(), format!("urn:aich:{}", aich.to_uppercase())),
            ("tth".to_owned(), format!("urn:tree:tiger:{}", tth.to_uppercase())),
            ("sha1".to_owned(), format!("urn:sha1:{}", sha1_base32.to_uppercase())),
            ("sha256".to_owned(), format!("urn:sha256:{sha256_hex}")),
        ]);
        let length = file.metadata().expect("the file").len();
        if length > 0 && length.is_multiple_of(PART) {
            names.insert(
                "ed2k-blue".to_owned(),
                format!("urn:ed2k:{}", ed2k_blue(scene, file).await),
            );
        }
        for profile in ["unixfs-v0-2015", "unixfs-v1-2025"] {
            names.insert(profile.to_owned(), cids[index].get(profile).text());
        }
        for rule in ["pieces-root", "ppspp", "ppspp-16k"].into_iter().filter(|_| length > 0) {
            names.insert(rule.to_owned(), format!("urn:{rule}:{}", trees[index].get(rule).text()));
        }
        all.push(names);
    }
    all
}

/// The info-hash of a v1 torrent of one file, under the file's own name, by RHash.
pub async fn rhash_btih(file: &Path, piece_length: u64) -> String {
    let piece = format!("--bt-piece-length={piece_length}");
    must(DEADLINE, "rhash", [&piece, "--printf=%{btih}", text(file)]).await
}

/// What RHash says of files as links: one of eD2k with the AICH root for each, or a magnet link with six names.
pub async fn rhash_links(files: &[PathBuf], magnets: bool) -> Vec<String> {
    let ed2k = ["--ed2k-link"].as_slice();
    let six = ["--magnet", "--ed2k", "--aich", "--tth", "--sha1", "--sha256", "--btih"].as_slice();
    let options = if magnets { six } else { ed2k };
    let args = options.iter().copied().chain(files.iter().map(|file| text(file)));
    lines(&must(DEADLINE, "rhash", args).await, files).map(str::to_owned).collect()
}

/// aMule's links with the MD4 of each part. It writes `_` for letters that are not ASCII.
pub async fn alcc_links(files: &[PathBuf]) -> Vec<String> {
    // It finds names with other letters than ASCII by its locale only.
    let args = ["LC_ALL=C.UTF-8", "alcc", "--parthashes"].into_iter();
    let said = must(DEADLINE, "env", args.chain(files.iter().map(|file| text(file)))).await;
    let links = said.lines().filter(|line| line.starts_with("ed2k://")).map(str::to_owned);
    let links: Vec<String> = links.collect();
    assert_eq!(links.len(), files.len(), "links in {said}");
    links
}

/// What libtorrent reads in a .torrent file: `v1`, `v2`, `name`, `piece_length`, and of each file its `path`, `length`, `offset`, `root`
/// and the SHA-256 of its piece layer, `layer`.
pub async fn libtorrent_reads_torrent(file: &Path) -> Json {
    python("torrent", &[text(file)]).await.remove(0)
}

/// What libtorrent reads in a magnet link: `v1`, `v2` and `name`.
pub async fn libtorrent_reads_magnet(link: &str) -> Json {
    python("magnet", &[link]).await.remove(0)
}

/// ed2k, AICH, TTH, SHA-1 in hex and in base32, SHA-256.
async fn rhash(files: &[PathBuf]) -> Vec<[String; 6]> {
    let rows = "--printf=%{ed2k} %b{aich} %b{tth} %{sha1} %b{sha1} %{sha-256}\\n";
    let said =
        must(DEADLINE, "rhash", std::iter::once(rows).chain(files.iter().map(|file| text(file))))
            .await;
    let row = |line: &str| -> [String; 6] {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        words.try_into().expect("six names")
    };
    lines(&said, files).map(row).collect()
}

/// ed2k out of the links that aMule's link creator prints.
async fn alcc(files: &[PathBuf]) -> Vec<String> {
    let hash = |link: &String| link.split('|').nth(4).expect("a hash").to_owned();
    alcc_links(files).await.iter().map(hash).collect()
}

/// Hex digests by a program of coreutils.
async fn sums(program: &str, files: &[PathBuf]) -> Vec<String> {
    let said = must(DEADLINE, program, files).await;
    lines(&said, files).map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
}

async fn cids(files: &[PathBuf]) -> Vec<Json> {
    let (program, tools) = (script("cids.mjs"), tools());
    let args = [program.as_path(), &tools].into_iter().chain(files.iter().map(PathBuf::as_path));
    parse_jsonl(&must(DEADLINE, "node", args).await)
}

async fn trees(files: &[PathBuf]) -> Vec<Json> {
    python("files", &files.iter().map(|file| text(file)).collect::<Vec<_>>()).await
}

async fn python(what: &str, items: &[&str]) -> Vec<Json> {
    let program = script("names.py");
    let args = [text(&program), what].into_iter().chain(items.iter().copied());
    parse_jsonl(&must(DEADLINE, "/usr/bin/python3", args).await)
}

/// MD4 of the MD4s of the parts, without the MD4 of nothing that eMule puts behind the last whole part.
async fn ed2k_blue(scene: &Scene, file: &Path) -> String {
    let (dir, mut reader, mut parts) =
        (scene.dir("parts"), File::open(file).expect("the file"), Vec::new());
    loop {
        let part = dir.join(parts.len().to_string());
        let written =
            copy(&mut reader.by_ref().take(PART), &mut File::create(&part).expect("a part"));
        if written.expect("a part") == 0 {
            break;
        }
        parts.push(part);
    }
    let hashes = md4(&parts).await;
    if hashes.len() == 1 {
        return hashes.concat();
    }
    let bytes: Vec<u8> = hashes.concat().as_bytes().chunks(2).map(byte).collect();
    let all = dir.join("hashes");
    std::fs::write(&all, bytes).expect("the hashes");
    md4(&[all]).await.concat()
}

async fn md4(files: &[PathBuf]) -> Vec<String> {
    let args = std::iter::once("--printf=%{md4}\\n").chain(files.iter().map(|file| text(file)));
    let said = must(DEADLINE, "rhash", args).await;
    lines(&said, files).map(str::to_owned).collect()
}

fn byte(hex: &[u8]) -> u8 {
    let digits = std::str::from_utf8(hex).expect("hex");
    u8::from_str_radix(digits, 16).expect("hex")
}

/// As many lines as there are files.
fn lines<'a>(said: &'a str, files: &[PathBuf]) -> impl Iterator<Item = &'a str> {
    assert_eq!(said.lines().count(), files.len(), "lines of\n{said}");
    said.lines()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
