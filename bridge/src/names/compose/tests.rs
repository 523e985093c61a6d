use std::sync::Mutex;

use p2pbridge_nametable::{MemoryStore, NameTable, Statement};
use p2pbridge_proto::{Scheme, v1};

use super::{
    super::{
        OverlayInfo,
        tests::{item, torrent},
    },
    *,
};
use crate::{blobs::Blobs, routes::Route};

const RED: &str = "urn:ed2k:0102030405060708090a0b0c0d0e0f10";
const BLUE: &str = "urn:ed2k:1112131415161718191a1b1c1d1e1f20";
const SHA1: &str = "urn:sha1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const AICH: &str = "urn:aich:ABAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

struct World {
    composer: Composer,
    desk: Arc<NameDesk>,
    taken: Arc<Mutex<Option<u64>>>,
    store: Arc<MemoryStore>,
    alarms: Arc<Alarms>,
    _dir: tempfile::TempDir,
}

/// A bridge with an overlay `a` of torrents, and three of links: a route leads from `a` to `e`, and from `f` to `a`;
/// none to `g`.
fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let overlay = |id: &str, protocol| OverlayInfo {
        id: id.parse().unwrap(),
        protocol,
        trackers: Vec::new(),
    };
    let store = Arc::new(MemoryStore::new());
    let table = Arc::new(NameTable::open(Box::new(store.clone())).unwrap());
    let overlays = vec![
        overlay("a", "bittorrent"),
        overlay("e", "ed2k"),
        overlay("f", "ed2k"),
        overlay("g", "ed2k"),
    ];
    let desk = NameDesk::new(table, Blobs::open(&dir.path().join("blobs")).unwrap(), overlays);
    let desk = Arc::new(desk);
    let route = |from: &str, to: &str| {
        Route::new(from.parse().unwrap(), to.parse().unwrap(), String::new(), None)
    };
    let routes = Arc::new(Routes::new(vec![route("a", "e"), route("f", "a")]));
    let taken = Arc::new(Mutex::new(None));
    let asked = taken.clone();
    let in_use = Arc::new(move |_: &Name| *asked.lock().unwrap());
    let alarms = Arc::new(Alarms::default());
    let composer = Composer::new(desk.clone(), routes, in_use, alarms.clone());
    World { composer, desk, taken, store, alarms, _dir: dir }
}

fn name(urn: &str) -> Name {
    urn.parse().unwrap()
}

impl World {
    fn round(&mut self) {
        self.composer.round(Instant::now());
    }

    fn bind(&self, bytes: &[u8]) -> Name {
        let torrent = item(torrent("a film", 16384, bytes, &[]), "a.torrent", "");
        self.desk.bind(&[torrent], "me").unwrap().0[0].name()
    }

    fn state(&self, of: Name, evidence: Evidence, names: &[&str]) {
        let content = self.desk.table().contents_of(&of, 1).remove(0);
        let statement = Statement {
            content: Some(content.id),
            names: names.iter().map(|urn| name(urn)).collect(),
            length: content.length,
            title: String::new(),
            evidence,
            stated_by: "somebody".into(),
        };
        let outcome = self.desk.table().state(&[statement]).unwrap().remove(0);
        assert!(outcome.content.is_some(), "{outcome:?}");
    }

    fn composed(&self) -> Vec<(Name, Vec<String>)> {
        let (all, _) = self.desk.table().list(None, 100);
        let composed = all.iter().filter(|binding| binding.is_composed());
        composed
            .map(|it| (it.name(), it.overlays.iter().map(ToString::to_string).collect()))
            .collect()
    }
}

#[test]
fn what_is_sure_of_a_bound_file_is_composed_where_a_route_leads_and_goes_with_it() {
    let mut world = world();
    let film = world.bind(&[7; 100_000]);
    world.state(film, Evidence::Hint, &[RED]);
    world.round();
    assert_eq!(world.composed(), []);
    world.state(film, Evidence::Attested, &[RED, AICH]);
    world.round();
    let both = vec!["e".to_owned(), "f".to_owned()];
    assert_eq!(world.composed(), [(name(RED), both)]);
    let binding = world.desk.table().get(&name(RED)).unwrap();
    let text = world.desk.description_bytes(&binding).unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert!(text.starts_with("ed2k://|file|a%20film|100000|0102"), "{text}");
    assert!(text.ends_with("|h=ABAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA|/"), "{text}");
    assert_eq!(world.desk.description(&binding).unwrap().length, 100_000);
    let changes = world.desk.table().changes();
    world.round();
    assert_eq!(world.desk.table().changes(), changes, "a composed name composes nothing");
    world.desk.table().unbind(&film).unwrap();
    world.round();
    assert_eq!(world.composed(), []);
    assert!(world.desk.table().content_of(&name(RED)).is_some());
    // It comes back with the torrent, which its bytes tell.
    let again = world.bind(&[7; 100_000]);
    world.state(again, Evidence::Attested, &[RED]);
    world.round();
    assert_eq!(world.composed().len(), 1);
    Composer::undo(&world.desk).unwrap();
    assert_eq!(world.composed(), []);
}

#[test]
fn what_a_full_disk_did_not_take_is_composed_when_there_is_room() {
    let mut world = world();
    let film = world.bind(&[7; 100_000]);
    world.state(film, Evidence::Attested, &[RED]);
    let now = Instant::now();
    world.store.set_full(true);
    world.composer.round(now);
    assert_eq!(world.composed(), []);
    world.store.set_full(false);
    world.composer.round(now + AGAIN / 2);
    assert_eq!(world.composed(), [], "it is not tried all the time");
    world.composer.round(now + AGAIN);
    assert_eq!(world.composed().len(), 1);
    assert_eq!(world.composer.again, None);
}

#[test]
fn what_was_refused_is_tried_again_when_more_is_known() {
    let mut world = world();
    let film = world.bind(&[7; 100_000]);
    world.state(film, Evidence::Attested, &[RED]);
    let plan = world.composer.plan();
    world.composer.refuse(&name(RED), &plan.wanted[&name(RED)]);
    world.round();
    assert_eq!(world.composed(), []);
    world.state(film, Evidence::Attested, &[AICH]);
    world.round();
    assert_eq!(world.composed().len(), 1);
}

#[test]
fn where_there_are_too_many_each_binding_has_its_share_and_an_operator_is_told() {
    let mut world = world();
    let red = |number: u8| Name::new(Scheme::Ed2k, &[number; 16]).unwrap().to_string();
    let films: Vec<_> = (1..=3).map(|number| world.bind(&[number; 100_000])).collect();
    for (film, number) in films.iter().zip(1..) {
        world.state(*film, Evidence::Attested, &[&red(number)]);
    }
    world.composer.most = 2;
    world.round();
    assert_eq!((world.composed().len(), world.alarms.list().len()), (2, 1));
    world.composer.most = 3;
    world.round();
    assert_eq!((world.composed().len(), world.alarms.list().len()), (3, 0));

    assert_eq!(share(vec![10_000, 3, 5], 10_000), 9_992);
    assert_eq!(share(vec![9, 9, 1], 10), 4);
    assert_eq!((share(vec![1; 9], 4), share(vec![1], 4)), (1, 4));
}

#[test]
fn both_variants_are_composed_and_what_proves_false_goes() {
    let mut world = world();
    let film = world.bind(&vec![0; 9_728_000]);
    world.state(film, Evidence::Verified, &[RED, BLUE]);
    world.round();
    let names: Vec<_> = world.composed().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, [name(RED), name(BLUE)]);
    world.desk.table().quarantine(&name(BLUE), "other bytes").unwrap();
    world.round();
    assert_eq!(world.composed().len(), 1);
}

#[test]
fn what_an_operator_binds_stays_his() {
    let mut world = world();
    let film = world.bind(&[7; 100_000]);
    world.state(film, Evidence::Attested, &[RED, SHA1]);
    let link = "ed2k://|file|mine|100000|0102030405060708090a0b0c0d0e0f10|/";
    let items = [item(link.as_bytes().to_vec(), "a link", "g")];
    let bound = world.desk.bind(&items, "me").unwrap().0;
    assert_eq!(bound[0].overlays.len(), 1);
    world.round();
    assert_eq!(world.composed(), []);
    assert_eq!(world.desk.table().get(&name(RED)).unwrap(), bound[0]);
    world.desk.table().unbind(&name(RED)).unwrap();
    world.round();
    assert_eq!(world.composed().len(), 1, "it is still known of the torrent's file");
    world.desk.table().unbind(&name(RED)).unwrap();
    world.round();
    assert_eq!(world.composed(), []);
}

#[test]
fn a_transfer_that_runs_is_not_disturbed() {
    let mut world = world();
    let film = world.bind(&[7; 100_000]);
    world.state(film, Evidence::Verified, &[RED]);
    let now = Instant::now();
    let mut after = |seconds, taken| {
        *world.taken.lock().unwrap() = taken;
        world.composer.round(now + Duration::from_secs(seconds));
        world.composed().len()
    };
    assert_eq!(after(0, Some(5)), 0);
    assert_eq!(after(4, Some(6)), 0);
    assert_eq!(after(8, Some(6)), 0);
    assert_eq!(after(9, Some(6)), 1, "quiet for 5 s");
    world.state(film, Evidence::Attested, &[AICH]);
    Composer::undo(&world.desk).unwrap();
    let mut after = |seconds, taken| {
        *world.taken.lock().unwrap() = taken;
        world.composer.round(now + Duration::from_secs(seconds));
        world.composed().len()
    };
    assert_eq!((after(10, Some(7)), after(11, None)), (0, 1), "nobody is served");
    Composer::undo(&world.desk).unwrap();
    let busy: Vec<_> = (0..=200).map(|at| world_round(&mut world, now, at)).collect();
    assert_eq!(busy.iter().position(|count| *count == 1), Some(200), "for ever is too long");
}

/// Three seconds later each time, with something taken.
fn world_round(world: &mut World, start: Instant, at: u64) -> usize {
    *world.taken.lock().unwrap() = Some(100 + at);
    world.composer.round(start + Duration::from_secs(20 + 3 * at));
    world.composed().len()
}

#[test]
fn a_link_is_bound_as_a_name_with_its_layout_or_where_nobody_speaks_of_it_as_names() {
    let world = world();
    let film = item(torrent("a film", 16384, &[7; 100_000], &[]), "a.torrent", "");
    let link = "ed2k://|file|mine|100000|0102030405060708090a0b0c0d0e0f10|/";
    let both = v1::Statement {
        names: [RED, AICH].iter().map(|urn| name(urn).into()).collect(),
        length: Some(100_000),
        ..v1::Statement::default()
    };
    let link = |overlay: &str| v1::BindItem {
        content: Some(both.clone()),
        ..item(link.as_bytes().to_vec(), "a link", overlay)
    };
    let (bound, contents) = world.desk.bind(&[film.clone(), link("")], "me").unwrap();
    assert_eq!((bound.len(), bound[1].overlays.len(), bound[1].layout.unit()), (2, 3, 9_728_000));
    assert_eq!(bound[0].files[0].content, bound[1].files[0].content);
    let schemes = |content: &Content| {
        let of = |scheme: Scheme| content.of_scheme(scheme).count();
        (of(Scheme::Btih), of(Scheme::Ed2k), of(Scheme::Aich))
    };
    assert_eq!(contents.iter().map(schemes).collect::<Vec<_>>(), [(1, 1, 1)]);
    let elsewhere = world.desk.bind(&[link("a")], "me").unwrap_err();
    assert_eq!(elsewhere.to_string(), "a link is of ed2k, and overlay `a` speaks bittorrent");

    let dir = tempfile::tempdir().unwrap();
    let without = super::super::tests::desk(dir.path());
    let (bound, contents) = without.bind(&[film, link("")], "me").unwrap();
    assert_eq!((bound.len(), contents.len()), (1, 1));
    assert_eq!(schemes(&contents[0]), (1, 1, 1));
    let (bound, contents) = without.bind(&[link("")], "me").unwrap();
    assert_eq!((bound.len(), contents.len()), (0, 1));
}
