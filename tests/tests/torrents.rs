//! The adapter reads what mktorrent and libtorrent write, and they read what it writes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;

use bytes::Bytes;
use p2pbridge_adapters::{Description, bittorrent::create::of_bytes, registry::describe};
use p2pbridge_tests::{Make, Scene, Torrent, fill, tree};

const URL: &str = "http://127.0.0.1:9/announce";

/// Files of odd sizes, one of them empty, one of exactly two pieces.
fn album(scene: &Scene) -> std::path::PathBuf {
    let root = scene.dir("album");
    let files = [
        ("a.bin", 70_001),
        ("b/c.bin", 131_072),
        ("b/d/empty.bin", 0),
        ("b/d/e.bin", 999_983),
        ("z.bin", 5),
    ];
    for (index, (path, length)) in files.into_iter().enumerate() {
        fill(&root.join(path), length, 40 + index as u64);
    }
    root
}

/// All bytes of the layout; what is in no file is padding.
fn layout(description: &Description, root: &Path) -> Vec<u8> {
    let mut bytes = vec![0; description.length as usize];
    for file in &description.files {
        let path = if root.is_dir() { root.join(&file.path) } else { root.to_owned() };
        let content = fs::read(path).expect("a file");
        assert_eq!(content.len() as u64, file.length, "{}", file.path);
        bytes[file.offset as usize..][..content.len()].copy_from_slice(&content);
    }
    bytes
}

async fn reads(make: Make, lone: bool) {
    let scene = Scene::new();
    let root = if lone { album(&scene).join("b/d/e.bin") } else { album(&scene) };
    let torrent = Torrent::make(make, &root, "the name", URL, &scene.file("x.torrent")).await;
    let (descriptor, description) =
        describe(&fs::read(&torrent.path).expect("the torrent")).expect("a description");
    assert_eq!(descriptor.protocol, "bittorrent");
    let names: Vec<String> = description.names.iter().map(ToString::to_string).collect();
    assert_eq!(names, torrent.urns());
    assert_eq!(description.title, "the name");
    assert_eq!(description.private, matches!(make, Make::Private(_)));
    assert_eq!(description.trackers, [[URL]]);
    let real: u64 = tree(&root).values().map(|(length, _)| length).sum();
    assert_eq!(description.files.iter().map(|file| file.length).sum::<u64>(), real);
    assert_eq!(description.files.len(), tree(&root).len(), "the empty file is among them");

    let bytes = layout(&description, &root);
    for (chunk, piece) in bytes.chunks(description.unit as usize).enumerate() {
        let piece = Bytes::copy_from_slice(piece);
        let (left, right) = (piece.slice(..piece.len() / 3), piece.slice(piece.len() / 3..));
        assert!(
            description.integrity.check(chunk as u32, &[left, right]),
            "{make:?}: chunk {chunk}"
        );
        let mut wrong = piece.to_vec();
        wrong[0] ^= 1;
        assert!(
            !description.integrity.check(chunk as u32, &[wrong.into()]),
            "{make:?}: wrong chunk {chunk}"
        );
        assert!(
            !description.integrity.check(chunk as u32, &[piece.slice(1..)]),
            "{make:?}: short chunk {chunk}"
        );
    }
    let chunks = description.length.div_ceil(description.unit) as u32;
    assert!(
        !description.integrity.check(chunks, &[Bytes::from_static(b"x")]),
        "a chunk that is not there"
    );
}

macro_rules! reads {
    ($($name:ident: $make:expr, lone $lone:expr;)+) => {$(
        #[tokio::test]
        async fn $name() {
            reads($make, $lone).await;
        }
    )+};
}

reads! {
    reads_v1_by_mktorrent: Make::V1(15), lone false;
    reads_v1_of_one_file_by_mktorrent: Make::V1(18), lone true;
    reads_private_by_mktorrent: Make::Private(16), lone false;
    reads_v2_by_libtorrent: Make::V2(16), lone false;
    reads_v2_of_one_file_by_libtorrent: Make::V2(15), lone true;
    reads_hybrid_by_libtorrent: Make::Hybrid(16), lone false;
    reads_hybrid_of_one_file_by_libtorrent: Make::Hybrid(14), lone true;
}

/// mktorrent and the adapter make the same torrent of the same bytes, but for the keys that mktorrent adds around it.
#[tokio::test]
async fn makes_the_info_dictionary_that_mktorrent_makes() {
    let scene = Scene::new();
    let root = scene.file("film.bin");
    fill(&root, 1_234_567, 44);
    let theirs =
        Torrent::make(Make::V1(17), &root, "film.bin", URL, &scene.file("theirs.torrent")).await;
    let content = fs::read(&root).expect("the file");
    let made = of_bytes(&content, "film.bin", 1 << 17, &[vec![URL.to_owned()]]).expect("a torrent");
    let ours = scene.file("ours.torrent");
    fs::write(&ours, made).expect("a .torrent");
    assert_eq!(Torrent::read(&ours, URL).v1, theirs.v1);
}
