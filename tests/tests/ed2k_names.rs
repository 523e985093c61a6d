//! Files whose eD2k names or sizes are special, between a stock amuled and a swarm.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use md4::{Digest, Md4};
use p2pbridge_tests::{
    Both, Bridge, Client, Limits, Make, Mule, Peer, Scene, Torrent, Tracker, TrackerKind, What,
    check_chains, check_flow, ed2k_hash, ed2k_server, eventually, file_link, fill, free_port,
    in_namespace, mib, public, sha256_file, sharing, sum, usage, within,
};
use sha1::Sha1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Bytes of a part in eD2k.
const PART: u64 = 9_728_000;
/// Bytes of a block in eD2k.
const BLOCK: u64 = 184_320;
/// Bytes of a piece in the torrents here.
const PIECE: u64 = 256 * 1024;

/// A swarm alone has a file of this length, then an amuled.
async fn to_amuled(length: u64) {
    let scene = Scene::new();
    let source = scene.dir("source").join("film.bin");
    fill(&source, length, 71);
    let both = Both::new(&scene, &source).await;
    assert_eq!(both.hash, of_file(&source).red);
    let _seeder = both.seed(&scene, Client::Aria2, Limits::default()).await;
    let (bridge, server) = both.front(&scene).await;
    both.bind(&bridge).await;
    both.is_offered(&bridge).await;
    let mut bob = Mule::new(&scene, "bob", public(4)).start(&scene, Some(server)).await;
    bob.logged_in().await;
    bob.download(&both.link()).await;
    let got = bob.finished("film.bin", 60).await;
    assert_eq!(sha256_file(&got), sha256_file(&source));
    check_flow(&bridge, both.in_bittorrent(), both.in_ed2k(), length, "demo-2").await;
}

/// An amuled alone has a file of this length, then a client of the swarm; the name is the one that amuled gives it.
async fn from_amuled(length: u64) {
    let scene = Scene::new();
    let mule = Mule::new(&scene, "alice", public(3));
    let source = mule.incoming().join("film.bin");
    fill(&source, length, 72);
    let both = Both::new(&scene, &source).await;
    let shared = mule.prepare(&scene, 1).await;
    assert_eq!(
        (shared[0].hash.clone(), of_file(&source).red),
        (both.hash.clone(), both.hash.clone())
    );
    let (bridge, server) = both.front(&scene).await;
    let _alice = sharing(&scene, &mule, (&bridge, server), 1).await;
    both.bind(&bridge).await;
    let dir = scene.dir("leech");
    let mut leecher = both.leech(&scene, Client::Aria2, &dir, Limits::default()).await;
    leecher.finished(60).await;
    assert_eq!(sha256_file(&dir.join("film.bin")), sha256_file(&source));
    check_flow(&bridge, both.in_ed2k(), both.in_bittorrent(), length, "demo-1").await;
}

/// A torrent of a folder, of whose files amuled wants two, one after the other: nothing but their bytes crosses.
async fn folder(how: Make) {
    let scene = Scene::new();
    let root = scene.dir("source").join("album");
    let files = [
        ("cover.png", 70_001),
        ("disc 1/01.flac", mib(3) + 17),
        ("disc 1/02.flac", PART + 1),
        ("disc 2/deep/03.flac", mib(2) - 3),
        ("zz.bin", mib(2)),
    ];
    for (index, (path, length)) in files.iter().enumerate() {
        fill(&root.join(path), *length, 80 + index as u64);
    }
    let both = Both::made(&scene, &root, how).await;
    let _seeder = both.seed(&scene, Client::LibTorrent, Limits::default()).await;
    let (bridge, server) = both.front(&scene).await;
    let torrent = format!("bt={}", both.torrent.path.display());
    bridge.must(["names", "bind", &torrent]).await;
    let mut links = Vec::new();
    for (path, length) in files {
        let path = root.join(path);
        let name = path.file_name().unwrap().to_str().unwrap();
        links.push(file_link(name, length, &ed2k_hash(&path).await));
    }
    // A v2 torrent names its files: what is known of the bytes of one is enough, and its link is composed.
    let is_composed = matches!(how, Make::Hybrid(_));
    for (at, (path, _)) in files.iter().enumerate() {
        if is_composed && at == COMPOSED {
            let path = root.join(path);
            bridge.must(["names", "publish", path.to_str().unwrap(), "--torrent", "none"]).await;
        } else {
            bridge.must(["names", "bind", &torrent, &format!("ed={}", links[at])]).await;
        }
    }
    let mut bob = Mule::new(&scene, "bob", public(4)).start(&scene, Some(server)).await;
    bob.logged_in().await;
    let (mut served, mut pieces) = (0, 0);
    for at in [2, COMPOSED] {
        let (path, length) = files[at];
        let hash = links[at].split('|').nth(4).unwrap();
        is_offered(&bridge, hash).await;
        bob.download(&links[at]).await;
        let source = root.join(path);
        let got = bob.finished(source.file_name().unwrap().to_str().unwrap(), 60).await;
        assert_eq!(sha256_file(&got), sha256_file(&source));
        served += length;
        pieces += length.div_ceil(PIECE) + 1;
        eventually("the ledger having it", 15, async || {
            // Pieces at the borders have bytes of the neighbours, where no padding is between them.
            let verified = sum(&usage(&bridge).await, "bytes_verified");
            let most = if is_composed { served } else { pieces * PIECE };
            assert!(verified <= most, "{verified} bytes");
            (verified >= served).then_some(())
        })
        .await;
    }
    let records = usage(&bridge).await;
    check_chains(&records);
    assert!(records.iter().all(|record| record.get("destination_overlay").text() == "ed"));
    assert!(sum(&records, "bytes_served") >= served, "{records:?}");
    // A piece at a border has bytes of the neighbours, and is proven as a whole.
    let wire = sum(&records, "bytes_wire");
    println!("{served} bytes wanted, {wire} fetched");
    assert!(wire <= pieces * PIECE, "{wire} bytes fetched for {served}");
    assert!(!bob.mule.incoming().join("zz.bin").exists());
}

/// The file of which no link is bound: `disc 2/deep/03.flac`.
const COMPOSED: usize = 3;

/// Waits until the bridge's server has a file.
async fn is_offered(bridge: &Bridge, hash: &str) {
    let name = format!("urn:ed2k:{hash}");
    eventually(&format!("{name} offered"), 40, async || {
        let all = bridge.json(["overlays", "--json"]).await;
        let swarm = all.get("overlays").find("id", "ed")?.get("swarms").find("name", &name)?;
        (swarm.get("announced").0 == true).then_some(())
    })
    .await;
}

in_namespace! {
    async fn one_whole_part_to_amuled() {
        to_amuled(PART).await;
    }

    async fn two_whole_parts_to_amuled() {
        to_amuled(2 * PART).await;
    }

    async fn one_byte_to_amuled() {
        to_amuled(1).await;
    }

    async fn one_whole_part_from_amuled() {
        from_amuled(PART).await;
    }

    async fn two_whole_parts_from_amuled() {
        from_amuled(2 * PART).await;
    }

    async fn one_byte_from_amuled() {
        from_amuled(1).await;
    }

    async fn files_of_a_folder_with_padding() {
        folder(Make::Hybrid(18)).await;
    }

    /// Files begin and end within pieces.
    async fn files_of_a_folder_without_padding() {
        folder(Make::V1(18)).await;
    }

    /// amuled shares no empty file and takes no link to one: there is nothing that could cross. The bridge knows its name, and binds it.
    async fn no_byte_at_all() {
        let scene = Scene::new();
        let mule = Mule::new(&scene, "alice", public(3));
        let empty = mule.incoming().join("empty.bin");
        fs::write(&empty, "").unwrap();
        fill(&mule.incoming().join("small.bin"), 1, 73);
        let shared = mule.prepare(&scene, 1).await;
        assert!(shared.iter().all(|file| file.name != "empty.bin"), "{shared:?}");
        let hash = ed2k_hash(&empty).await;
        assert_eq!(hash, of_file(&empty).red);
        let both = Both::new(&scene, &mule.incoming().join("small.bin")).await;
        let (bridge, server) = both.front(&scene).await;
        let link = file_link("empty.bin", 0, &hash);
        let bound = bridge.json(["names", "bind", "--json", &format!("ed={link}")]).await;
        let content = &bound.get("contents").items()[0];
        assert_eq!(content.get("length").number(), 0, "{bound:?}");
        assert_eq!(content.get("names").items()[0].get("urn").text(), format!("urn:ed2k:{hash}"));
        let known = bridge.must(["names", "resolve", "--json", &link]).await;
        assert!(known.contains(&hash), "{known}");
        let alice = sharing(&scene, &mule, (&bridge, server), 1).await;
        let said = alice.tell(&format!("add {link}")).await;
        assert!(!said.contains("successful"), "{said}");
        assert!(!alice.downloads().await.contains("empty.bin"));
    }

    /// eMule's clients know the red name alone: who asks by the blue one, and for its hash set, is a client of ours.
    async fn by_the_blue_name() {
        let scene = Scene::new();
        let source = scene.dir("source").join("film.bin");
        fill(&source, 2 * PART, 74);
        let mut both = Both::new(&scene, &source).await;
        let named = of_file(&source);
        assert_ne!(named.blue, both.hash);
        both.hash.clone_from(&named.blue);
        let _seeder = both.seed(&scene, Client::Aria2, Limits::default()).await;
        let (bridge, _) = both.front(&scene).await;
        both.bind(&bridge).await;
        both.is_offered(&bridge).await;
        let hash: [u8; 16] = bytes_of(&named.blue);
        let mut link = RawLeech::new((public(2), 4662).into(), hash).await;
        let sets = link.parts().await;
        assert_eq!(sets, named.parts, "two parts, and none of nothing");
        let mut bytes = vec![0; 2 * PART as usize];
        link.read(0, &mut bytes).await;
        assert!(bytes == fs::read(&source).unwrap(), "other bytes");
        check_flow(&bridge, both.in_bittorrent(), both.in_ed2k(), 2 * PART, "demo-2").await;
    }

    /// amuled is logged in at a server that knows no source, and asks the bridge, which is another server of its list, over UDP.
    async fn found_over_udp() {
        let scene = Scene::new();
        let source = scene.dir("source").join("film.bin");
        fill(&source, mib(3), 75);
        let both = Both::new(&scene, &source).await;
        let _seeder = both.seed(&scene, Client::Aria2, Limits::default()).await;
        let (_other, at) = ed2k_server(&scene).await;
        let (bridge, server) = both.front(&scene).await;
        both.bind(&bridge).await;
        both.is_offered(&bridge).await;
        let mut bob = Mule::new(&scene, "bob", public(4)).start(&scene, Some(at)).await;
        bob.logged_in().await;
        bob.tell(&format!("add ed2k://|server|{}|{}|/", server.ip(), server.port())).await;
        bob.download(&both.link()).await;
        let got = bob.finished("film.bin", 90).await;
        assert_eq!(sha256_file(&got), sha256_file(&source));
        let all = bridge.json(["overlays", "--json"]).await;
        let overlay = all.get("overlays").find("id", "ed").unwrap();
        assert_eq!(overlay.get("tracker_server").get("sessions").number(), 0, "{overlay:?}");
        check_flow(&bridge, both.in_bittorrent(), both.in_ed2k(), mib(3), "demo-2").await;
    }

    /// Of a film of more than 4 GiB amuled asks for the first and the last part first: what is beyond 4 GiB comes to lie where it should.
    async fn beyond_four_gibibytes() {
        let scene = Scene::new();
        let huge = Huge::new(&scene);
        let both = huge.both(&scene).await;
        let _seeder =
            Peer::seed(Client::Aria2, &scene, &What::from(&both.torrent), huge.path.parent().unwrap(), Limits::default())
                .await;
        both.tracker.counts(&both.torrent.tracker_hash(), 1, 0, 60).await;
        let (bridge, server) = both.front(&scene).await;
        let torrent = format!("bt={}", both.torrent.path.display());
        bridge.must(["names", "bind", &torrent, &format!("ed={}", huge.link)]).await;
        both.is_offered(&bridge).await;
        let bob = Mule::new(&scene, "bob", public(4)).previewing().start(&scene, Some(server)).await;
        bob.logged_in().await;
        bob.download(&file_link("film.avi", huge.length, &huge.hash)).await;
        let mut wanted = vec![0; huge.tail as usize];
        File::open(&huge.path).unwrap().read_exact_at(&mut wanted, huge.length - huge.tail).unwrap();
        let mut there = vec![0; wanted.len()];
        let part = bob.mule.part_file();
        eventually("the last part", 60, async || {
            let file = File::open(&part).ok()?;
            file.read_exact_at(&mut there, huge.length - huge.tail).ok()?;
            (there == wanted).then_some(())
        })
        .await;
    }
}

/// What eD2k calls a file.
struct Named {
    /// MD4 of the hashes of its parts, in lower-case hex, with that of nothing behind the last whole part: eMule's.
    red: String,
    /// The same without: that of the first clients.
    blue: String,
    /// Of the parts that have bytes.
    parts: Vec<[u8; 16]>,
}

fn of_file(path: &Path) -> Named {
    let bytes = fs::read(path).unwrap();
    of_parts(bytes.chunks(PART as usize).map(md4).collect(), bytes.len() as u64)
}

fn of_parts(parts: Vec<[u8; 16]>, length: u64) -> Named {
    let whole = |parts: &[[u8; 16]]| match parts {
        [] => hex(&md4(&[])),
        [one] => hex(one),
        several => hex(&md4(&several.concat())),
    };
    let mut more = parts.clone();
    if length > 0 && length.is_multiple_of(PART) {
        more.push(md4(&[]));
    }
    Named { red: whole(&more), blue: whole(&parts), parts }
}

fn md4(bytes: &[u8]) -> [u8; 16] {
    Md4::digest(bytes).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes_of<const N: usize>(hex: &str) -> [u8; N] {
    std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
}

/// A file of zeros, but for its end beyond 4 GiB; its names are computed without reading it.
struct Huge {
    path: PathBuf,
    length: u64,
    /// Bytes of its last part.
    tail: u64,
    /// With the hashes of its parts.
    link: String,
    /// What a torrent of it has as `pieces`.
    pieces: Vec<u8>,
    hash: String,
}

/// Bytes of its torrent's pieces.
const LONG_PIECE: u64 = 4 << 20;

impl Huge {
    fn new(scene: &Scene) -> Self {
        let (zeros, more): (u64, u64) = (1 << 32, 12_000_000);
        let length = zeros + more;
        let end = scene.file("end.bin");
        fill(&end, more, 76);
        let end = fs::read(end).unwrap();
        let path = scene.dir("source").join("film.avi");
        let file = File::create(&path).unwrap();
        file.write_all_at(&end, zeros).unwrap();
        let bytes = |start: u64, unit: u64| {
            let mut bytes = vec![0; (length - start).min(unit) as usize];
            file_at(&path, start, &mut bytes);
            bytes
        };
        let (no_part, no_piece) =
            (md4(&vec![0; PART as usize]), sha1(&vec![0; LONG_PIECE as usize]));
        let parts = (0..length.div_ceil(PART)).map(|at| match (at + 1) * PART <= zeros {
            true => no_part,
            false => md4(&bytes(at * PART, PART)),
        });
        let parts = of_parts(parts.collect(), length);
        let pieces =
            (0..length.div_ceil(LONG_PIECE)).flat_map(|at| match (at + 1) * LONG_PIECE <= zeros {
                true => no_piece,
                false => sha1(&bytes(at * LONG_PIECE, LONG_PIECE)),
            });
        let pieces = pieces.collect();
        let set: Vec<String> = parts.parts.iter().map(|part| hex(part)).collect();
        let hash = parts.red;
        let link = format!("ed2k://|file|film.avi|{length}|{hash}|p={}|/", set.join(":"));
        Self { path, length, tail: length % PART, link, pieces, hash }
    }

    /// The torrent and its tracker.
    async fn both(&self, scene: &Scene) -> Both {
        let small = scene.file("small.bin");
        fill(&small, 1, 77);
        let mut both = Both::new(scene, &small).await;
        let port = free_port();
        let kind = TrackerKind::OpenHttp;
        let url = kind.url(port);
        let mut bytes = format!(
            "d8:announce{}:{url}4:infod6:lengthi{}e4:name8:film.avi12:piece lengthi{LONG_PIECE}e6:pieces{}:",
            url.len(),
            self.length,
            self.pieces.len()
        )
        .into_bytes();
        bytes.extend(&self.pieces);
        bytes.extend(b"ee");
        let out = scene.file("film.avi.torrent");
        fs::write(&out, bytes).unwrap();
        both.torrent = Torrent::read(&out, &url);
        both.tracker = Tracker::start(scene, kind, port, &both.torrent.tracker_hashes()).await;
        (both.length, both.hash) = (self.length, self.hash.clone());
        both
    }
}

fn file_at(path: &Path, start: u64, bytes: &mut [u8]) {
    File::open(path).unwrap().read_exact_at(bytes, start).unwrap();
}

fn sha1(bytes: &[u8]) -> [u8; 20] {
    Sha1::digest(bytes).into()
}

/// A leecher that says no more than it must, at 198.51.100.6.
struct RawLeech {
    stream: TcpStream,
    hash: [u8; 16],
}

impl RawLeech {
    /// Connects and greets as an old client (`OP_HELLO` without tags).
    async fn new(to: SocketAddr, hash: [u8; 16]) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((public(6), 0).into()).unwrap();
        let stream = within("a connection", 10, socket.connect(to)).await.unwrap();
        let mut this = Self { stream, hash };
        let mut hello = vec![16];
        hello.extend([8; 16]);
        hello.extend(u32::from_le_bytes(public(6).octets()).to_le_bytes());
        hello.extend(4662_u16.to_le_bytes());
        hello.extend([0; 10]);
        this.say(0x01, &hello).await;
        this.hears(0x4C).await;
        this
    }

    /// Asks for the file, its hash set (`OP_HASHSETREQUEST`) and a slot.
    async fn parts(&mut self) -> Vec<[u8; 16]> {
        let hash = self.hash;
        for (ask, answer) in [(0x58, 0x59), (0x4F, 0x50), (0x51, 0x52)] {
            self.say(ask, &hash).await;
            let said = self.hears(answer).await;
            assert_eq!(said[..16], hash, "{answer:#x}");
            if answer == 0x52 {
                self.say(0x54, &hash).await;
                self.hears(0x55).await;
                return said[18..].chunks(16).map(|part| part.try_into().unwrap()).collect();
            }
        }
        Vec::new()
    }

    /// Reads from here on (`OP_REQUESTPARTS`), three blocks at a time.
    async fn read(&mut self, start: u64, into: &mut [u8]) {
        let end = start + into.len() as u64;
        let mut next = start;
        while next < end {
            let mut ask = self.hash.to_vec();
            let starts = [0, 1, 2].map(|at| (next + at * BLOCK).min(end));
            let ends = starts.map(|start| (start + BLOCK).min(end));
            // A range of nothing is 0 to 0.
            let place = |at: usize, place: u64| if starts[at] < ends[at] { place } else { 0 };
            for (at, value) in starts.into_iter().enumerate().chain(ends.into_iter().enumerate()) {
                ask.extend(u32::try_from(place(at, value)).unwrap().to_le_bytes());
            }
            self.say(0x47, &ask).await;
            while next < ends[2] {
                let said = self.hears(0x46).await;
                let place =
                    |at: usize| u64::from(u32::from_le_bytes(said[at..at + 4].try_into().unwrap()));
                assert_eq!(place(16), next, "in order");
                let (from, to) = ((place(16) - start) as usize, (place(20) - start) as usize);
                into[from..to].copy_from_slice(&said[24..]);
                next = place(20);
            }
        }
    }

    async fn say(&mut self, opcode: u8, payload: &[u8]) {
        let mut out = vec![0xE3];
        out.extend((payload.len() as u32 + 1).to_le_bytes());
        out.push(opcode);
        out.extend(payload);
        self.stream.write_all(&out).await.unwrap();
    }

    /// The next message of this opcode, without those between.
    async fn hears(&mut self, opcode: u8) -> Vec<u8> {
        let reading = async {
            loop {
                let mut head = [0; 6];
                self.stream.read_exact(&mut head).await.unwrap();
                let length = u32::from_le_bytes(head[1..5].try_into().unwrap());
                let mut payload = vec![0; length as usize - 1];
                self.stream.read_exact(&mut payload).await.unwrap();
                if head[5] == opcode {
                    return payload;
                }
            }
        };
        within(&format!("a message {opcode:#x}"), 60, reading).await
    }
}
