//! Links of eD2k as descriptions, and names that the bridge binds itself where a name and a length say all.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use data_encoding::BASE64;
use p2pbridge_proto::{Ed2kFileLink, Name, Scheme};
use p2pbridge_tests::{
    Bridge, Client, Config, Ed2kOverlay, Film, Json, Limits, NAME_SERVICE as NAMES, OverlayConfig,
    Peer, Scene, World, alcc_links, eventually, fill, grpcio, mib, oracle_names, rhash_links,
    sha256_file,
};
use serde_json::json;

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A bridge with an overlay of torrents, `a`, and one of links, `e`; content may cross from `a` to `e`. The server of
/// each test has an address of its own.
async fn bridge(scene: &Scene, number: u8, more: &str) -> Bridge {
    let at = Ipv4Addr::new(127, 77, 1, number);
    let mut config = Config::empty(scene)
        .with_bittorrent(OverlayConfig::front("a"))
        .with_ed2k(Ed2kOverlay::front("e", at))
        .with_route("a", "e", "x");
    config.more = more.to_owned();
    Bridge::start(scene, &config).await
}

/// The bindings that the bridge made itself: name and overlays.
async fn composed(bridge: &Bridge) -> Vec<(String, Vec<String>)> {
    let all = bridge.json(["names", "list", "--json"]).await;
    let bindings = all.get("bindings").items();
    let composed =
        bindings.iter().filter(|it| it.get("stated_by").text().starts_with("the bridge"));
    let texts = |binding: &Json, key: &str| {
        binding.get(key).items().iter().map(Json::text).collect::<Vec<_>>()
    };
    composed.map(|it| (texts(it, "names").remove(0), texts(it, "overlays"))).collect()
}

/// The link that stands for a name.
async fn link_of(bridge: &Bridge, name: &Name) -> Ed2kFileLink {
    let asked = json!([[NAMES, "GetDescription", {"name": name.to_string()}]]);
    let answer = grpcio(bridge, asked).await.remove(0);
    let bytes = BASE64.decode(answer.get("description").text().as_bytes()).expect("base64");
    String::from_utf8(bytes).expect("UTF-8").parse().expect("a link")
}

/// `names of --link` prints what alcc and RHash say together.
#[tokio::test]
async fn links_of_files_are_those_of_other_programs() {
    let scene = Scene::new();
    let film = Film::new(&scene).await;
    let empty = scene.file("empty");
    fs::write(&empty, "").expect("a file");
    let files = [film.path.clone(), empty];
    let (alcc, rhash) = (alcc_links(&files).await, rhash_links(&files, false).await);
    let bridge = bridge(&scene, 1, "").await;
    for (file, (alcc, rhash)) in files.iter().zip(alcc.iter().zip(&rhash)) {
        let said = bridge.json(["names", "of", "--json", "--link", text(file)]).await;
        let link: Ed2kFileLink =
            said.get("files").items()[0].get("link").text().parse().expect("a link");
        let (alcc, rhash): (Ed2kFileLink, Ed2kFileLink) =
            (alcc.parse().expect("alcc's"), rhash.parse().expect("RHash's"));
        assert_eq!((link.hash, link.length, &link.title), (alcc.hash, alcc.length, &alcc.title));
        assert_eq!((&link.parts, link.aich), (&alcc.parts, rhash.aich));
        let printed = bridge.must(["names", "of", "--link", text(file)]).await;
        assert_eq!(printed.lines().last().map(str::trim), Some(link.to_string().as_str()));
    }
}

/// A torrent and its link in one Bind: two names with their layouts, of one content; the link's AICH is a name too.
#[tokio::test]
async fn a_link_is_bound_beside_a_torrent_and_taken_back() {
    let scene = Scene::new();
    let (bridge, film) = (bridge(&scene, 2, "").await, Film::new(&scene).await);
    let link = rhash_links(std::slice::from_ref(&film.path), false).await.remove(0);
    let torrent = text(&film.torrent.path);
    let said = bridge.json(["names", "bind", "--json", torrent, &link]).await;
    let bound = said.get("bindings").items();
    assert_eq!(bound[1].get("unit").number(), 9_728_000);
    assert_eq!(bound[1].get("overlays").items()[0].text(), "e");
    let file = scene.file("film.ed2k");
    fs::write(&file, format!("{link}\n")).expect("a link");
    let again = bridge.json(["names", "bind", "--json", &format!("e={}", text(&file))]).await;
    assert_eq!(again.get("bindings").items()[0].get("names"), bound[1].get("names"));
    let known = bridge.json(["names", "resolve", "--json", &link]).await;
    assert_eq!(known.get("equivalents").items().len(), 1, "{known:?}");
    let aich = film.name(Scheme::Aich).to_string();
    bridge.must(["names", "resolve", &aich]).await;
    // A file of several links is a list.
    fs::write(&file, format!("{link}\n{link}\n")).expect("two links");
    assert!(!bridge.cli(["names", "bind", text(&file)]).await.status.success());
    let wrong = bridge.cli(["names", "bind", &format!("a={link}")]).await;
    assert!(wrong.stderr.contains("is of ed2k, and overlay `a` speaks bittorrent"), "{wrong:?}");
    bridge.must(["names", "unbind", &link]).await;
    assert_eq!(composed(&bridge).await, [], "nobody says it any more");
}

/// A .torrent is bound, and the names of its file are published: the file's eD2k name is bound in the other overlay, with
/// the hashes of its parts. It goes with the torrent, and `compose = false` ends it.
#[tokio::test]
async fn what_is_known_of_a_bound_file_is_bound_where_a_route_leads() {
    let scene = Scene::new();
    let (mut bridge, film) = (bridge(&scene, 3, "").await, Film::new(&scene).await);
    let name = film.name(Scheme::Ed2k);
    let torrent = text(&film.torrent.path);
    bridge.must(["names", "bind", &format!("a={torrent}")]).await;
    let list = scene.file("list.csv");
    fs::write(&list, format!("names\n{name} {}\n", film.name(Scheme::Btih))).expect("a list");
    bridge.must(["names", "import", text(&list)]).await;
    let wanted = vec![(name.to_string(), vec!["e".to_owned()])];
    let is_there = async || (composed(&bridge).await == wanted).then_some(());
    eventually("the composed name", 20, is_there).await;
    assert!(link_of(&bridge, &name).await.parts.is_none());

    // It outlives a restart; taken back, it does not come again.
    bridge.kill9().await;
    let again = Bridge::start(&scene, &bridge.config).await;
    assert_eq!(composed(&again).await, wanted);
    again.must(["names", "unbind", &name.to_string()]).await;
    assert_eq!(composed(&again).await, []);

    // Published, it has the hashes of its parts, and is the publisher's.
    again.must(["names", "publish", "--torrent", "none", text(&film.path)]).await;
    assert_eq!(link_of(&again, &name).await.parts.map(|parts| parts.hashes().len()), Some(3));
    assert_eq!(composed(&again).await, []);
    again.must(["names", "unbind", torrent]).await;
    again.must(["names", "resolve", &name.to_string()]).await;
}

/// The off switch: nothing is composed, and what was is taken back.
#[tokio::test]
async fn nothing_is_composed_when_that_is_not_wanted() {
    let scene = Scene::new();
    let (mut first, film) = (bridge(&scene, 4, "").await, Film::new(&scene).await);
    film.publish(&first).await;
    eventually("the composed name", 20, async || (composed(&first).await.len() == 1).then_some(()))
        .await;
    first.kill9().await;
    let mut config = first.config.clone();
    config.more = "[names]\ncompose = false\n".to_owned();
    let second = Bridge::start(&scene, &config).await;
    assert_eq!(composed(&second).await, []);
    second.must(["names", "resolve", &film.name(Scheme::Ed2k).to_string()]).await;
}

/// A client is served while the bytes prove the film's eD2k name: nobody hangs up on it. When it has everything, the name
/// is bound in the overlay of links, and the next client is served all the same.
#[tokio::test]
async fn a_transfer_is_not_disturbed_by_the_name_that_it_proves() {
    let scene = Scene::new();
    let source = scene.dir("source").join("film.bin");
    fill(&source, mib(30), 77);
    let world = World::plain(&scene, &source).await;
    let theirs = oracle_names(&scene, std::slice::from_ref(&source)).await.remove(0);
    let name = theirs["ed2k"].clone();
    let what = world.a.what();
    let _seeder =
        Peer::seed(Client::LibTorrent, &scene, &what, &scene.dir("source"), Limits::default())
            .await;
    world.a.has_seeder().await;
    let config = Config::a_to_b(&scene, &[world.a.tracker.url()], &[world.b.tracker.url()])
        .with_ed2k(Ed2kOverlay::front("e", Ipv4Addr::new(127, 77, 1, 5)))
        .with_route("a", "e", "x");
    let bridge = Bridge::start(&scene, &config).await;
    bridge.bind(("a", &world.a.torrent.path), ("b", &world.b.torrent.path)).await;
    let got = |dir: &str| scene.dir(dir).join("b.bin");
    let slow = Limits::down(mib(3));
    let (fast, what) = (Limits::default(), world.b.what());
    let mut first = Peer::leech(Client::Aria2, &scene, &what, &scene.dir("first"), slow).await;
    first.finished(90).await;
    assert_eq!(sha256_file(&got("first")), sha256_file(&source));
    let wanted = vec![(name.clone(), vec!["e".to_owned()])];
    let is_there = async || (composed(&bridge).await == wanted).then_some(());
    eventually("the composed name", 60, is_there).await;
    let link = link_of(&bridge, &name.parse().expect("a name")).await;
    assert_eq!((link.title.as_str(), link.length), ("film.bin", mib(30)));
    drop(first);
    let mut second = Peer::leech(Client::Aria2, &scene, &what, &scene.dir("second"), fast).await;
    second.finished(90).await;
    assert_eq!(sha256_file(&got("second")), sha256_file(&source));
}
