use p2pbridge_adapters::bittorrent::create;
use p2pbridge_nametable::MemoryStore;

use super::*;

/// A .torrent file of one file.
pub(crate) fn torrent(title: &str, unit: u64, content: &[u8], trackers: &[&str]) -> Vec<u8> {
    let tiers: Vec<_> = trackers.iter().map(|url| vec![(*url).to_owned()]).collect();
    create::of_bytes(content, title, unit, &tiers).unwrap()
}

pub(crate) fn item(description: Vec<u8>, label: &str, overlay: &str) -> v1::BindItem {
    v1::BindItem {
        description,
        label: label.to_owned(),
        overlay: overlay.to_owned(),
        content: None,
    }
}

/// A desk with two overlays, `a` and `b`.
pub(crate) fn desk(dir: &std::path::Path) -> NameDesk {
    let overlay = |id: &str, tracker: &str| OverlayInfo {
        id: id.parse().unwrap(),
        protocol: "bittorrent",
        trackers: vec![tracker.to_owned()],
    };
    let table = NameTable::open(Box::new(MemoryStore::new())).unwrap();
    let overlays = vec![
        overlay("a", "http://Tracker-A.example:80/announce"),
        overlay("b", "udp://tracker-b.example:6969"),
    ];
    NameDesk::new(Arc::new(table), Blobs::open(&dir.join("blobs")).unwrap(), overlays)
}

const A: &str = "http://tracker-a.example/announce";
const B: &str = "udp://TRACKER-B.example:6969/announce";

#[test]
fn overlays_are_found_by_the_trackers() {
    let dir = tempfile::tempdir().unwrap();
    let desk = desk(dir.path());
    let content = vec![7; 100_000];
    let items = vec![
        item(torrent("one", 16384, &content, &[A]), "A.torrent", ""),
        item(torrent("two", 32768, &content, &["http://x.example/", B]), "B.torrent", ""),
    ];
    let bound = desk.bind(items.clone(), "me").unwrap();
    let overlays = |binding: &Binding| -> Vec<_> {
        binding.overlays.iter().map(ToString::to_string).collect()
    };
    assert_eq!((overlays(&bound[0]), overlays(&bound[1])), (vec!["a".into()], vec!["b".into()]));
    let again = desk.bind(items, "me").unwrap();
    assert_eq!(again, bound);
    let lost = item(torrent("three", 65536, &content, &["http://x.example/"]), "", "");
    assert_eq!(overlays(&desk.bind(vec![lost], "me").unwrap()[0]), ["a", "b"]);
    let said = item(torrent("four", 65536, &content, &[A]), "", "b");
    assert_eq!(overlays(&desk.bind(vec![said], "me").unwrap()[0]), ["b"]);
}

#[test]
fn a_description_is_read_once_while_it_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let desk = desk(dir.path());
    let items = vec![item(torrent("one", 16384, &[7; 100_000], &[A]), "A.torrent", "")];
    let bound = desk.bind(items, "me").unwrap();
    let first = desk.description(&bound[0]).unwrap();
    assert_eq!((first.title.as_str(), first.length), ("one", 100_000));
    assert!(Arc::ptr_eq(&first, &desk.description(&bound[0]).unwrap()));
}

#[test]
fn what_may_not_be_bound_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let desk = desk(dir.path());
    let good = || item(torrent("one", 16384, &[7; 100_000], &[A]), "A.torrent", "");
    let mut private = b"d4:infod6:lengthi5e4:name1:x12:piece lengthi16384e6:pieces20:".to_vec();
    private.extend([0; 20]);
    private.extend(b"7:privatei1eee");
    let refused = |other: v1::BindItem| desk.bind(vec![good(), other], "me").unwrap_err();
    assert!(matches!(refused(item(private, "p", "")), NameFault::Private { .. }));
    let nonsense = refused(item(b"nonsense".to_vec(), "N.torrent", ""));
    assert!(nonsense.to_string().starts_with("N.torrent: not bittorrent"), "{nonsense}");
    let elsewhere = refused(item(torrent("x", 16384, &[7; 100_000], &[]), "X", "c"));
    assert_eq!(elsewhere.to_string(), "X: there is no overlay `c`; there are: a, b");
    let shorter = refused(item(torrent("x", 16384, &[7; 99_999], &[]), "X.torrent", ""));
    assert!(shorter.to_string().contains("has no counterpart"), "{shorter}");
    assert!(desk.table().is_empty());
}
