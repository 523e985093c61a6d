//! eD2k clients and servers that are wrong: they are answered or closed, and everybody else is served as before.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use p2pbridge_adapters::ed2k::wire::packet::deflate;
use p2pbridge_tests::{
    Both, Bridge, Client, Ed2kOverlay, Json, Limits, Mule, Scene, ed2k_server, eventually, fill,
    in_namespace, mib, public, sha256_file, within,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

/// Memory that the bridge may have after all of it.
const MEMORY: u64 = mib(250);

fn frame(protocol: u8, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![protocol];
    out.extend((payload.len() as u32 + 1).to_le_bytes());
    out.push(opcode);
    out.extend(payload);
    out
}

/// `OP_LOGINREQUEST` without a tag, of a client that listens nowhere.
fn login() -> Vec<u8> {
    let mut payload = vec![7; 16];
    payload.extend([0; 4]);
    payload.extend(4662_u16.to_le_bytes());
    payload.extend([0; 4]);
    frame(0xE3, 0x01, &payload)
}

/// `OP_HELLO` of an old client.
fn hello() -> Vec<u8> {
    let mut payload = vec![16];
    payload.extend([8; 16]);
    payload.extend([0; 4]);
    payload.extend(4662_u16.to_le_bytes());
    payload.extend([0; 10]);
    frame(0xE3, 0x01, &payload)
}

/// A connection from 198.51.100.6, where nobody listens.
async fn connect(to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((public(6), 0).into()).unwrap();
    within("a connection", 10, socket.connect(to)).await.unwrap()
}

/// Says something and no more, and gives what is answered until the connection ends, which it must.
async fn says(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(to).await;
    let (mut read, mut write) = stream.split();
    let mut answer = Vec::new();
    let said = async {
        // It may be closed before all is said.
        let _ = write.write_all(bytes).await;
        let _ = write.shutdown().await;
    };
    let heard = async { drop(read.read_to_end(&mut answer).await) };
    within("the end of a bad connection", 30, async { tokio::join!(said, heard) }).await;
    answer
}

/// Whether an answer has a message of this opcode.
fn has(mut answer: &[u8], opcode: u8) -> bool {
    while let [_, a, b, c, d, found, ..] = answer {
        if *found == opcode {
            return true;
        }
        let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
        answer = answer.get(5 + length..).unwrap_or_default();
    }
    false
}

/// Frames that are wrong for whoever reads them.
fn bad_frames() -> Vec<(&'static str, Vec<u8>)> {
    let bomb = deflate(&vec![0; mib(64) as usize]).unwrap();
    vec![
        ("no frame", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("no length", vec![0xE3, 0, 0, 0, 0, 1]),
        ("a length of 4 GiB", vec![0xE3, 255, 255, 255, 255, 1, 2, 3]),
        ("a bomb", frame(0xD4, 0x15, &bomb)),
        ("no zlib", frame(0xD4, 0x15, &[9; 100])),
        ("half a message", login()[..20].to_vec()),
        (
            "rubbish",
            (0..100_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect(),
        ),
        ("nothing", Vec::new()),
    ]
}

/// What a client that is logged in should not send to a server.
fn bad_messages() -> Vec<(&'static str, Vec<u8>)> {
    let count = |count: u32, rest: &[u8]| [&count.to_le_bytes(), rest].concat();
    let deep = [[0, 0].repeat(50_000), [1, 1, 0, b'a'].repeat(50_001)].concat();
    let file = [&[1; 16][..], &[0xFB; 6]].concat();
    vec![
        ("four milliards of files", frame(0xE3, 0x15, &count(u32::MAX, &[]))),
        (
            "a bad tag",
            frame(0xE3, 0x15, &count(1, &[&file[..], &[1, 0, 0, 0, 0x7F, 1, 0, 1]].concat())),
        ),
        ("a million tags", frame(0xE3, 0x15, &count(1, &[&file[..], &[64, 66, 15, 0]].concat()))),
        ("a deep search", frame(0xE3, 0x16, &deep)),
        ("half a search", frame(0xE3, 0x16, &[0, 0, 1, 255, 255])),
        ("half a file", frame(0xE3, 0x19, &[3; 9])),
        ("a callback of nobody", frame(0xE3, 0x1C, &[255, 255, 0, 0])),
        ("an opcode of nobody", frame(0xE3, 0xEE, &[1; 500])),
        ("a second login", login()),
        ("a flood", frame(0xE3, 0x19, &[[5; 16].as_slice(), &[1, 0, 0, 0]].concat()).repeat(300)),
    ]
}

/// A bridge in front with a file that a swarm seeds, and somebody who wants it.
async fn front(scene: &Scene) -> (Both, Bridge, SocketAddr, p2pbridge_tests::Peer) {
    let source = scene.dir("source").join("film.bin");
    fill(&source, mib(12), 61);
    let both = Both::new(scene, &source).await;
    let seeder = both.seed(scene, Client::Aria2, Limits::default()).await;
    let (bridge, server) = both.front(scene).await;
    both.bind(&bridge).await;
    (both, bridge, server, seeder)
}

/// amuled is served as ever, and the bridge has grown by little.
async fn all_is_well(scene: &Scene, both: &Both, bridge: &mut Bridge, server: SocketAddr) {
    let mut bob = Mule::new(scene, "bob", public(4)).start(scene, Some(server)).await;
    assert!(bob.logged_in().await);
    bob.download(&both.link()).await;
    let got = bob.finished("film.bin", 60).await;
    assert_eq!(sha256_file(&got), sha256_file(&both.path));
    bridge.program.assert_runs();
    let (now, peak) = bridge.memory();
    assert!(peak < MEMORY, "{now} bytes, {peak} at the most");
    assert!(!bridge.program.said().contains("panicked"));
}

/// What peers or trackers of the overlay sent that was not taken.
async fn bad_input(bridge: &Bridge, sender: &str) -> Json {
    let all = bridge.json(["overlays", "--json"]).await;
    all.get("overlays").find("id", "ed").unwrap().get("bad_input").get(sender)
}

in_namespace! {
    async fn clients_of_the_server() {
        let scene = Scene::new();
        let (both, mut bridge, server, _seeder) = front(&scene).await;
        for (_, bytes) in bad_frames() {
            says(server, &bytes).await;
        }
        for (what, bytes) in bad_messages() {
            let answer = says(server, &[login(), bytes].concat()).await;
            assert!(has(&answer, 0x40), "{what}: no id; {}", answer.escape_ascii());
        }
        let udp = UdpSocket::bind((public(6), 0)).await.unwrap();
        let at = SocketAddr::new(server.ip(), server.port() + 4);
        for (_, bytes) in bad_frames().into_iter().chain(bad_messages()) {
            let cut = &bytes[..bytes.len().min(1_400)];
            udp.send_to(cut, at).await.unwrap();
            udp.send_to(cut.get(5..).map_or(&[][..], |rest| rest), at).await.unwrap();
        }
        // Many who never log in, for as long as the rest takes.
        let mut idle = Vec::new();
        for _ in 0..300 {
            idle.push(connect(server).await);
        }
        all_is_well(&scene, &both, &mut bridge, server).await;
        let all = bridge.json(["overlays", "--json"]).await;
        let counts = all.get("overlays").find("id", "ed").unwrap().get("tracker_server");
        assert!(counts.get("malformed").number() >= 5, "{counts:?}");
    }

    async fn clients_of_the_seeder() {
        let scene = Scene::new();
        let (both, mut bridge, server, _seeder) = front(&scene).await;
        let at = SocketAddr::new(server.ip(), 4662);
        for (_, bytes) in bad_frames() {
            says(at, &bytes).await;
            says(at, &[hello(), bytes].concat()).await;
        }
        let file: Vec<u8> = (0..32).step_by(2).map(|at| u8::from_str_radix(&both.hash[at..at + 2], 16).unwrap()).collect();
        let ranges = |ends: [u32; 6]| -> Vec<u8> {
            file.iter().copied().chain(ends.into_iter().flat_map(u32::to_le_bytes)).collect()
        };
        let name = frame(0xE3, 0x58, &file);
        let part = frame(0xE3, 0x47, &ranges([0, 0, 0, 184_320, 0, 0]));
        let beyond = frame(0xE3, 0x47, &ranges([mib(12) as u32, 5, 9_000_000, u32::MAX, 4, 8_999_999]));
        let start = frame(0xE3, 0x54, &file);
        for (what, bytes, opcode) in [
            ("bytes without a slot", [&name[..], &part].concat(), None),
            ("bytes of nothing", [&name[..], &start, &beyond].concat(), None),
            ("a file that is not here", frame(0xE3, 0x58, &[9; 16]), Some(0x48)),
            ("many files", (0..5_000_u32).flat_map(|at| frame(0xE3, 0x58, &[&at.to_le_bytes()[..], &[9; 12]].concat())).collect(), None),
            ("many slots", start.repeat(5_000), None),
            ("answers that nobody asked for", frame(0xE3, 0x46, &[&ranges([0, 1_000, 0, 0, 0, 0])[..24], &[1; 1_000]].concat()).repeat(50), None),
        ] {
            let mut stream = connect(at).await;
            stream.write_all(&hello()).await.unwrap();
            // It may have heard enough before all is said.
            let _ = stream.write_all(&bytes).await;
            let mut answer = Vec::new();
            // Who has hung up need not be answered.
            if let Some(opcode) = opcode {
                let told = async {
                    while !has(&answer, opcode) && stream.read_buf(&mut answer).await.unwrap() > 0 {}
                };
                within(what, 30, told).await;
            }
            let _ = stream.shutdown().await;
            let _ = timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
            assert!(has(&answer, 0x4C), "{what}: no greeting; {}", answer.escape_ascii());
            assert!(opcode.is_none_or(|opcode| has(&answer, opcode)), "{what}: {}", answer.escape_ascii());
            assert!(!has(&answer, 0x46), "{what}: bytes");
        }
        all_is_well(&scene, &both, &mut bridge, server).await;
        let flaws = bad_input(&bridge, "peer").await;
        assert!(flaws.get("malformed").number() >= 8 && flaws.get("excessive").number() >= 1, "{flaws:?}");
    }

    /// Servers that hang up, talk rubbish, name impossible sources without end, and change the id; the last one in the list is good.
    async fn servers_that_are_wrong() {
        let scene = Scene::new();
        let source = scene.dir("source").join("film.bin");
        fill(&source, mib(3), 62);
        let both = Both::new(&scene, &source).await;
        let file: Vec<u8> = (0..32).step_by(2).map(|at| u8::from_str_radix(&both.hash[at..at + 2], 16).unwrap()).collect();
        let id = |ip: Ipv4Addr| frame(0xE3, 0x40, &ip.octets());
        let sources: Vec<u8> = (0..255_u32)
            .flat_map(|at| {
                let ip = match at % 5 {
                    0 => [0, 0, 0, 0],
                    1 => [255, 255, 255, 255],
                    2 => public(2).octets(),
                    3 => [239, 1, 2, 3],
                    _ => [7, 0, 0, 0],
                };
                ip.into_iter().chain((4_662 * u16::from(at % 7 != 0)).to_le_bytes())
            })
            .collect();
        let found = frame(0xE3, 0x42, &[&file[..], &[255], &sources].concat());
        let others = frame(0xE3, 0x32, &[&[255][..], &sources].concat());
        let scripts: Vec<Vec<u8>> = vec![
            Vec::new(),
            b"220 welcome\r\n".to_vec(),
            frame(0xE3, 0x05, &[]),
            [id(public(2)), found.repeat(4_000), others.repeat(100), id(Ipv4Addr::new(7, 0, 0, 0)), id(Ipv4Addr::UNSPECIFIED)].concat(),
            [id(public(2)), vec![0xE3, 255, 255, 255, 127, 0x33]].concat(),
            [id(public(2)), frame(0xE3, 0x33, &[255, 255, 255, 255]), frame(0xD4, 0x33, &deflate(&vec![0; mib(64) as usize]).unwrap())].concat(),
        ];
        let mut overlay = Ed2kOverlay::presence("ed", public(2), (public(1), 4661).into());
        let mut bad = Vec::new();
        for (port, script) in (5_001..).zip(scripts) {
            let at = SocketAddr::from((public(1), port));
            bad.push((TcpListener::bind(at).await.unwrap(), script));
            overlay.servers.insert(bad.len() - 1, at);
        }
        let (_other, good) = ed2k_server(&scene).await;
        let _seeder = both.seed(&scene, Client::Aria2, Limits::default()).await;
        let mut bridge = Bridge::start(&scene, &both.config(&scene, overlay)).await;
        both.bind(&bridge).await;
        for (listener, script) in bad {
            let (mut server, _) = within("a login", 60, listener.accept()).await.unwrap();
            let mut login = [0; 6];
            let _ = server.read_exact(&mut login).await;
            let _ = server.write_all(&script).await;
            let _ = server.shutdown().await;
            // What is not read would take along what was said.
            let _ = timeout(Duration::from_secs(10), server.read_to_end(&mut Vec::new())).await;
        }
        eventually("the bridge logged in to the good server", 60, async || {
            let all = bridge.json(["overlays", "--json"]).await;
            let trackers = all.get("overlays").find("id", "ed")?.get("trackers").items();
            trackers.iter().any(|it| it.get("standing").text().contains("high id")).then_some(())
        })
        .await;
        both.is_offered(&bridge).await;
        all_is_well(&scene, &both, &mut bridge, good).await;
        let flaws = bad_input(&bridge, "tracker").await;
        assert!(flaws.get("malformed").number() >= 2, "{flaws:?}");
    }
}
