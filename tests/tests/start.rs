//! How the daemon starts, or says why it does not; and what happens when a disk is full.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use p2pbridge_nametable::{NameTable, SledStore, Statement, StoreError};
use p2pbridge_proto::{Evidence, Name, Scheme};
use p2pbridge_tests::{
    Bridge, Client, Config, Limits, Peer, Scene, World, bridge_binary, check_chains, crossing,
    eventually, fill, free_port, mib, run, sha256_file, usage,
};

/// A configuration whose trackers do not answer.
fn nobody(scene: &Scene) -> Config {
    let url = |port: u16| [format!("http://127.0.0.1:{port}/announce")];
    Config::a_to_b(scene, &url(free_port()), &url(free_port()))
}

#[tokio::test]
async fn a_port_in_use() {
    let scene = Scene::new();
    let config = nobody(&scene);
    let taken = TcpListener::bind(("127.0.0.1", config.overlays[0].port)).expect("the port");
    let mut bridge = Bridge::spawn(&scene, &config);
    let status = bridge.program.ended(15).await;
    let port = config.overlays[0].port.to_string();
    assert!(!status.success() && status.code().is_some(), "{status}");
    assert!(bridge.program.said().contains(&port), "{}", bridge.program.said());
    drop(taken);

    let taken = TcpListener::bind(("127.0.0.1", config.grpc_port)).expect("the port");
    let mut bridge = Bridge::spawn(&scene, &config);
    let status = bridge.program.ended(15).await;
    assert!(!status.success() && status.code().is_some(), "{status}");
    assert!(
        bridge.program.said().contains(&config.grpc_port.to_string()),
        "{}",
        bridge.program.said()
    );
    drop(taken);

    // It was the ports and nothing else.
    let mut bridge = Bridge::start(&scene, &config).await;
    assert!(bridge.terminate(15).await.success());
}

/// A second daemon over the same data is refused, and the first one does not notice.
#[tokio::test]
async fn a_data_directory_in_use() {
    let scene = Scene::new();
    let config = nobody(&scene);
    let mut first = Bridge::start(&scene, &config).await;
    let mut other = nobody(&scene);
    other.data_dir.clone_from(&config.data_dir);
    let mut second = Bridge::spawn(&scene, &other);
    let status = second.program.ended(20).await;
    assert!(!status.success() && status.code().is_some(), "{status}");
    assert!(second.program.said().contains("data"), "{}", second.program.said());
    first.program.assert_runs();
    first.must(["overlays"]).await;
}

/// Written by a version that this one does not know: refused, and left as it was.
#[tokio::test]
async fn a_data_directory_of_another_version() {
    let scene = Scene::new();
    let config = nobody(&scene);
    let mut bridge = Bridge::start(&scene, &config).await;
    assert!(bridge.terminate(15).await.success());
    let marker = config.data_dir.join("FORMAT");
    let before = fs::read_to_string(&marker).expect("the marker");
    fs::write(&marker, "p2p-bridge data 999999\n").expect("another version");
    let mut bridge = Bridge::spawn(&scene, &config);
    let status = bridge.program.ended(15).await;
    assert!(!status.success() && status.code().is_some(), "{status}");
    assert!(bridge.program.said().contains("999999"), "{}", bridge.program.said());
    fs::write(&marker, before).expect("the version again");
    let mut bridge = Bridge::start(&scene, &config).await;
    assert!(bridge.terminate(15).await.success());
}

#[tokio::test]
async fn a_wrong_configuration_is_shown_with_its_place() {
    let scene = Scene::new();
    let config = nobody(&scene);
    let path = scene.file("wrong.toml");
    fs::write(&path, config.toml().replace("flush_seconds = 1", "flush_seconds = \"soon\""))
        .expect("a configuration");
    let said = run(
        20,
        bridge_binary(),
        ["check-config", "--config", path.to_str().expect("a plain path")],
    )
    .await;
    let text =
        String::from_utf8_lossy(&said.stderr).into_owned() + &String::from_utf8_lossy(&said.stdout);
    assert!(!said.status.success(), "{text}");
    assert!(text.contains("flush_seconds") && text.contains('^'), "{text}");

    fs::write(&path, config.toml()).expect("a configuration");
    let said = run(
        20,
        bridge_binary(),
        ["check-config", "--config", path.to_str().expect("a plain path")],
    )
    .await;
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
}

/// A route from or to an overlay that is not there.
#[tokio::test]
async fn a_route_to_nowhere_is_refused() {
    let scene = Scene::new();
    let mut config = nobody(&scene);
    config.routes[0].1 = "nowhere".into();
    let mut bridge = Bridge::spawn(&scene, &config);
    let status = bridge.program.ended(15).await;
    assert!(!status.success() && status.code().is_some(), "{status}");
    assert!(bridge.program.said().contains("nowhere"), "{}", bridge.program.said());
}

/// A small file system of its own, taken away at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf, bytes: u64) -> Self {
        root(&[
            "mount",
            "-t",
            "tmpfs",
            "-o",
            &format!("size={bytes},mode=0777"),
            "p2pbridge-test",
            at.to_str().expect("a path"),
        ]);
        Self(at)
    }

    /// Fills what is left, but for `spare` bytes.
    fn fill_up(&self, spare: u64) {
        use std::io::Write;
        let mut file = fs::File::create(self.0.join("filler")).expect("a filler");
        let block = vec![1; 16 * 1024];
        while file.write_all(&block).is_ok() {}
        let length = file.metadata().expect("its length").len();
        file.set_len(length.saturating_sub(spare)).expect("cut");
    }

    fn make_room(&self) {
        fs::remove_file(self.0.join("filler")).expect("the filler");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        root(&["umount", "-l", self.0.to_str().expect("a path")]);
    }
}

fn root(command: &[&str]) {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|said| said.stdout == b"0\n");
    let prefix: &[&str] = if is_root { &[] } else { &["sudo", "-n"] };
    let whole: Vec<&str> = prefix.iter().chain(command).copied().collect();
    let done = Command::new(whole[0]).args(&whole[1..]).status();
    assert!(done.is_ok_and(|status| status.success()), "{whole:?}: this test needs root or sudo");
}

/// The disk under everything (spool, names, ledger) fills up in mid-transfer: the daemon lives and says so; with room again, all that
/// was acknowledged is still there, and the leecher finishes.
#[tokio::test]
async fn a_full_disk() {
    const SIZE: u64 = 12 * 1024 * 1024;
    let scene = Scene::new();
    let source = scene.dir("source").join("film.bin");
    fill(&source, SIZE, 71);
    let world = World::plain(&scene, &source).await;
    let _seeder = Peer::seed(
        Client::LibTorrent,
        &scene,
        &world.a.what(),
        &scene.dir("source"),
        Limits::up(mib(3)),
    )
    .await;
    world.a.has_seeder().await;
    let mut config = Config::a_to_b(&scene, &[world.a.tracker.url()], &[world.b.tracker.url()]);
    let disk = SmallDisk::mount(scene.dir("disk"), mib(64));
    config.data_dir = scene.file("disk").join("data");
    let mut bridge = Bridge::start(&scene, &config).await;
    bridge.bind(("a", &world.a.torrent.path), ("b", &world.b.torrent.path)).await;
    let dir = scene.dir("leech");
    let mut leecher =
        Peer::leech(Client::LibTorrent, &scene, &world.b.what(), &dir, Limits::default()).await;
    let seen = eventually("a first record", 20, async || {
        Some(usage(&bridge).await).filter(|seen| !seen.is_empty())
    })
    .await;
    disk.fill_up(0);
    let names = bridge.json(["names", "list", "--json"]).await;
    eventually("an alarm about the disk", 30, async || {
        bridge.program.assert_runs();
        let alarms = bridge.json(["overlays", "--json"]).await.get("alarms").items();
        alarms.iter().any(|alarm| !alarm.text().is_empty()).then_some(())
    })
    .await;
    assert_eq!(usage(&bridge).await.get(..seen.len()), Some(&seen[..]));
    disk.make_room();
    leecher.finished(60).await;
    assert_eq!(sha256_file(&dir.join("b.bin")), sha256_file(&source));
    let all = eventually("the ledger going on", 40, async || {
        Some(usage(&bridge).await)
            .filter(|records| p2pbridge_tests::sum(records, "bytes_served") >= SIZE)
    })
    .await;
    assert_eq!(all.get(..seen.len()), Some(&seen[..]));
    check_chains(&all);
    assert_eq!(
        bridge.json(["names", "list", "--json"]).await.get("bindings").items().len(),
        names.get("bindings").items().len()
    );
    let crossed = crossing(&bridge.json(["overlays", "--json"]).await, "a", "b");
    assert!(crossed.get("served_bytes").number() >= SIZE, "{crossed:?}");
    bridge.kill9().await;
    let bridge = Bridge::start(&scene, &config).await;
    assert_eq!(usage(&bridge).await.get(..all.len()), Some(&all[..]));
}

/// With a full disk a binding is refused with the reason, and what was bound before stays.
#[tokio::test]
async fn a_binding_on_a_full_disk() {
    let scene = Scene::new();
    let source = scene.file("film.bin");
    fill(&source, 1_000_000, 72);
    let world = World::plain(&scene, &source).await;
    let mut config = Config::a_to_b(&scene, &[world.a.tracker.url()], &[world.b.tracker.url()]);
    let disk = SmallDisk::mount(scene.dir("disk"), mib(32));
    config.data_dir = scene.file("disk").join("data");
    let mut bridge = Bridge::start(&scene, &config).await;
    disk.fill_up(0);
    let (a_item, b_item) = (
        format!("a={}", world.a.torrent.path.display()),
        format!("b={}", world.b.torrent.path.display()),
    );
    let refused = bridge.cli(["names", "bind", &a_item, &b_item]).await;
    if !refused.status.success() {
        assert!(
            refused.stderr.to_lowercase().contains("space") || refused.stderr.contains("disk"),
            "{}",
            refused.stderr
        );
    }
    bridge.program.assert_runs();
    disk.make_room();
    bridge.bind(("a", &world.a.torrent.path), ("b", &world.b.torrent.path)).await;
    bridge.kill9().await;
    let bridge = Bridge::start(&scene, &config).await;
    bridge.must(["names", "resolve", &world.a.torrent.urn(), "--json"]).await;
}

/// A list of names on a disk that fills up: what was acknowledged stays, what was refused is not there, and with room it
/// goes on.
#[test]
fn contents_on_a_full_disk() {
    let scene = Scene::new();
    let disk = SmallDisk::mount(scene.dir("disk"), mib(48));
    let dir = scene.file("disk").join("names");
    let open = || NameTable::open(Box::new(SledStore::open(&dir).unwrap())).unwrap();
    let table = open();
    let row = |number: u64| {
        let mut digest = [7; 24];
        digest[..8].copy_from_slice(&number.to_le_bytes());
        Statement {
            content: None,
            names: vec![Name::new(Scheme::Tth, &digest).unwrap()],
            length: Some(number),
            title: format!("number {number}"),
            evidence: Evidence::Attested,
            stated_by: "a list".into(),
        }
    };
    let rows = |batch: u64| (batch * 500..(batch + 1) * 500).map(row).collect::<Vec<_>>();
    let (mut batch, mut refused) = (0, 0);
    while batch < 60 {
        if batch == 10 && refused == 0 {
            disk.fill_up(mib(1));
        }
        match table.state(&rows(batch)) {
            Ok(_) => batch += 1,
            Err(error) => {
                assert!(matches!(error, StoreError::Full(_)), "{error}");
                // The batch that failed may show after all.
                let there = table.counts().contents as u64 / 500;
                assert!(there == batch || there == batch + 1, "{there} of {batch} batches");
                refused += 1;
                if refused == 3 {
                    disk.make_room();
                }
            }
        }
        assert!(batch < 60 || refused >= 3, "the disk never was full");
    }
    let check = |table: &NameTable| {
        assert_eq!(table.counts().contents, 30_000);
        for number in (0..30_000).step_by(97) {
            let content = table.content_of(&row(number).names[0]).unwrap();
            assert_eq!(content.title, format!("number {number}"));
        }
    };
    check(&table);
    drop(table);
    check(&open());
}
