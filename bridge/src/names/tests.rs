use p2pbridge_adapters::bittorrent::create;
use p2pbridge_nametable::MemoryStore;

use p2pbridge_proto::Evidence;

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
    let bound = desk.bind(&items, "me").unwrap().0;
    let overlays = |binding: &Binding| -> Vec<_> {
        binding.overlays.iter().map(ToString::to_string).collect()
    };
    assert_eq!((overlays(&bound[0]), overlays(&bound[1])), (vec!["a".into()], vec!["b".into()]));
    let again = desk.bind(&items, "me").unwrap().0;
    assert_eq!(again, bound);
    let lost = item(torrent("three", 65536, &content, &["http://x.example/"]), "", "");
    assert_eq!(overlays(&desk.bind(&[lost], "me").unwrap().0[0]), ["a", "b"]);
    let said = item(torrent("four", 65536, &content, &[A]), "", "b");
    assert_eq!(overlays(&desk.bind(&[said], "me").unwrap().0[0]), ["b"]);
}

#[test]
fn a_description_is_read_once_while_it_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let desk = desk(dir.path());
    let items = vec![item(torrent("one", 16384, &[7; 100_000], &[A]), "A.torrent", "")];
    let bound = desk.bind(&items, "me").unwrap().0;
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
    let refused = |other: v1::BindItem| desk.bind(&[good(), other], "me").unwrap_err();
    assert!(matches!(refused(item(private, "p", "")), NameFault::Private { .. }));
    let nonsense = refused(item(b"nonsense".to_vec(), "N.torrent", ""));
    assert!(nonsense.to_string().starts_with("N.torrent: not bittorrent"), "{nonsense}");
    let elsewhere = refused(item(torrent("x", 16384, &[7; 100_000], &[]), "X", "c"));
    assert_eq!(elsewhere.to_string(), "X: there is no overlay `c`; there are: a, b");
    let shorter = refused(item(torrent("x", 16384, &[7; 99_999], &[]), "X.torrent", ""));
    assert!(shorter.to_string().contains("has no counterpart"), "{shorter}");
    assert!(desk.table().is_empty());
}

fn about(names: &[&str], length: Option<u64>) -> v1::Statement {
    let names = names.iter().map(|name| name.parse::<p2pbridge_proto::Name>().unwrap().into());
    v1::Statement { names: names.collect(), length, ..Default::default() }
}

fn names_item(names: &[&str], length: Option<u64>) -> v1::BindItem {
    v1::BindItem { content: Some(about(names, length)), ..Default::default() }
}

const ED2K: &str = "urn:ed2k:0102030405060708090a0b0c0d0e0f10";
const SHA1: &str = "urn:sha1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

#[test]
fn names_are_bound_beside_descriptions_and_alone() {
    let dir = tempfile::tempdir().unwrap();
    let desk = desk(dir.path());
    let bytes = [7; 100_000];
    let one = item(torrent("one", 16384, &bytes, &[A]), "A.torrent", "");
    let (bindings, contents) = desk.bind(&[one.clone(), names_item(&[ED2K], None)], "me").unwrap();
    let content = &contents[0];
    assert_eq!((content.id, content.length), (bindings[0].files[0].content, Some(100_000)));
    assert_eq!(content.names.len(), 2, "{content:?}");
    assert!(content.names.iter().all(|known| known.evidence == Evidence::Attested));
    let (_, alone) =
        desk.bind(&[names_item(&[ED2K], None), names_item(&[SHA1], None)], "me").unwrap();
    assert_eq!((alone[0].id, alone.len()), (content.id, 2));
    let wrong = desk.bind(&[one, names_item(&[ED2K], Some(7))], "me").unwrap_err();
    assert_eq!(wrong.to_string(), "item 2: no file of A.torrent has 7 bytes");
    let longer = desk.bind(&[names_item(&[SHA1], Some(7))], "me").unwrap_err();
    assert!(longer.to_string().ends_with("is known to be of 100000 bytes, not 7"), "{longer}");
}

#[test]
fn what_is_published_is_verified_and_what_is_in_a_list_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let desk = desk(dir.path());
    let bytes = [7; 100_000];
    let request = v1::PublishRequest {
        contents: vec![about(&[ED2K, SHA1], Some(100_000))],
        description: Some(item(torrent("one", 16384, &bytes, &[]), "one", "")),
        source: "/a/file".to_owned(),
        without_overlay: true,
    };
    let (contents, binding) = desk.publish(request.clone(), "me").unwrap();
    let binding = binding.unwrap();
    assert_eq!((binding.evidence, binding.overlays.len()), (Evidence::Verified, 0));
    assert_eq!(contents[0].names.len(), 3);
    assert!(
        contents[0].names.iter().all(|known| {
            known.evidence == Evidence::Verified && known.stated_by.contains("publication /a/file")
        }),
        "{contents:?}"
    );
    let mut shorter = request;
    shorter.contents[0].length = Some(9);
    assert!(desk.publish(shorter, "me").unwrap_err().to_string().contains("is not the next"));
    let list = v1::ImportNamesRequest {
        rows: vec![
            about(&["urn:ed2k:00000000000000000000000000000001", SHA1], None),
            v1::Statement { evidence: v1::Evidence::Verified.into(), ..about(&[ED2K], None) },
            about(&[], None),
            about(&["urn:ed2k:00000000000000000000000000000002"], None),
            about(&[ED2K], None),
        ],
        source: "list.csv".to_owned(),
    };
    let answer = desk.import(&list, "me").unwrap();
    assert_eq!((answer.created, answer.extended, answer.known), (1, 0, 1));
    let reasons: Vec<_> = answer.refused.iter().map(|row| (row.row, row.reason.as_str())).collect();
    assert_eq!(reasons.iter().map(|row| row.0).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(reasons[1].1, "a list cannot say that it is verified: attested or hint");
}
