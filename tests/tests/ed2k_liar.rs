//! An eD2k client that sends wrong bytes, beside an amuled that shares the same file: what is wrong is not served, and who sent it is known.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use md4::{Digest, Md4};
use p2pbridge_tests::{
    Both, Bridge, Client, Json, Limits, Make, Mule, Peer, Scene, check_chains, crossing,
    eventually, fill, in_namespace, mib, public, rhash_links, sha256_file, sharing, sum, usage,
    within,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;

const PART: u64 = 9_728_000;
const BLOCK: u64 = 184_320;
const SIZE: u64 = 2 * PART + 555_555;

/// What amuled may send in a second: the liar is quicker.
const HONEST: u64 = mib(3);
/// How long the liar takes for a block.
const LIAR_PACE: Duration = Duration::from_millis(25);

/// What the liar has done.
#[derive(Debug, Default)]
struct Deeds {
    /// How often it was asked for the file, and for a slot.
    asked: (u32, u32),
    /// Wrong bytes that it has sent.
    lies: u64,
    /// How often a slot was given back, or the connection was closed.
    left: u32,
}

/// A client at 198.51.100.5 that shares a file, and of whose blocks every third has a wrong byte.
struct Liar {
    deeds: Arc<Mutex<Deeds>>,
    /// It grants slots from then on.
    grants: watch::Sender<bool>,
    /// It is logged in for as long as this lives.
    _server: TcpStream,
}

/// What it knows of the file.
#[derive(Clone)]
struct Film {
    hash: [u8; 16],
    bytes: Arc<Vec<u8>>,
}

impl Liar {
    /// Listens, logs in to the server, and offers the file.
    async fn start(server: SocketAddr, path: &Path, hash: &str) -> Self {
        let digit = |at: usize| u8::from_str_radix(&hash[at..at + 2], 16).unwrap();
        let hash: Vec<u8> = (0..32).step_by(2).map(digit).collect();
        let film =
            Film { hash: hash.try_into().unwrap(), bytes: Arc::new(fs::read(path).unwrap()) };
        let deeds = Arc::new(Mutex::new(Deeds::default()));
        let (grants, granted) = watch::channel(false);
        let listener = TcpListener::bind((public(5), 4662)).await.unwrap();
        tokio::spawn({
            let (film, deeds) = (film.clone(), deeds.clone());
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let talk = talk(stream, film.clone(), deeds.clone(), granted.clone());
                    tokio::spawn(talk);
                }
            }
        });
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((public(5), 0).into()).unwrap();
        let mut stream = within("the server", 10, socket.connect(server)).await.unwrap();
        let login = [&[8; 16][..], &[0; 4], &4662_u16.to_le_bytes(), &[0; 4]].concat();
        say(&mut stream, 0x01, &login).await;
        let id = loop {
            let (opcode, payload) = within("an id", 20, hear(&mut stream)).await.unwrap();
            if opcode == 0x40 {
                break payload;
            }
        };
        assert_eq!(id[..4], public(5).octets(), "a high id");
        let length = u32::try_from(film.bytes.len()).unwrap();
        let mut offer = [&1_u32.to_le_bytes()[..], &film.hash, &[0xFB; 6]].concat();
        // Two tags: the name, and the size.
        offer.extend([2, 0, 0, 0, 2, 1, 0, 1, 8, 0]);
        offer.extend(b"film.bin");
        offer.extend([3, 1, 0, 2]);
        offer.extend(length.to_le_bytes());
        say(&mut stream, 0x15, &offer).await;
        Self { deeds, grants, _server: stream }
    }
}

/// One connection, which the bridge makes: to see whether it can be reached, or to download.
async fn talk(
    mut stream: TcpStream,
    film: Film,
    deeds: Arc<Mutex<Deeds>>,
    mut granted: watch::Receiver<bool>,
) {
    let file = film.hash;
    let mut downloads = false;
    while let Some((opcode, payload)) = hear(&mut stream).await {
        match opcode {
            0x01 => {
                let mut answer = vec![8; 16];
                answer.extend(public(5).octets());
                answer.extend(4662_u16.to_le_bytes());
                answer.extend([0; 10]);
                say(&mut stream, 0x4C, &answer).await;
            }
            0x58 => {
                downloads = true;
                deeds.lock().unwrap().asked.0 += 1;
                say(&mut stream, 0x59, &[&file[..], &[8, 0], b"film.bin"].concat()).await;
            }
            // All parts are here.
            0x4F => say(&mut stream, 0x50, &[&file[..], &[0, 0]].concat()).await,
            0x51 => {
                let parts = film.bytes.chunks(PART as usize).map(Md4::digest);
                let hashes: Vec<u8> = parts.flatten().collect();
                let count = u16::try_from(hashes.len() / 16).unwrap().to_le_bytes();
                say(&mut stream, 0x52, &[&file[..], &count, &hashes].concat()).await;
            }
            0x54 => {
                deeds.lock().unwrap().asked.1 += 1;
                if granted.wait_for(|granted| *granted).await.is_err() {
                    return;
                }
                say(&mut stream, 0x55, &[]).await;
            }
            0x47 => {
                let at = |at: usize| {
                    let number = payload[16 + 4 * at..20 + 4 * at].try_into().unwrap();
                    u64::from(u32::from_le_bytes(number))
                };
                for range in (0..3).map(|number| at(number)..at(number + 3)) {
                    if !range.is_empty() {
                        send(&mut stream, &film, range, &deeds).await;
                    }
                }
            }
            0x56 => deeds.lock().unwrap().left += 1,
            _ => {}
        }
    }
    deeds.lock().unwrap().left += u32::from(downloads);
}

/// Sends a range, in which the middle of every third block of the file is wrong.
async fn send(
    stream: &mut TcpStream,
    film: &Film,
    range: std::ops::Range<u64>,
    deeds: &Mutex<Deeds>,
) {
    let mut bytes = film.bytes[range.start as usize..range.end as usize].to_vec();
    let lies = (0..).map(|third| third * 3 * BLOCK + BLOCK / 2);
    for lie in lies.take_while(|lie| *lie < range.end).filter(|lie| *lie >= range.start) {
        bytes[(lie - range.start) as usize] ^= 1;
        deeds.lock().unwrap().lies += 1;
    }
    for (start, piece) in (range.start..).step_by(10_240).zip(bytes.chunks(10_240)) {
        let end = start + piece.len() as u64;
        let mut part = film.hash.to_vec();
        part.extend((start as u32).to_le_bytes());
        part.extend((end as u32).to_le_bytes());
        part.extend(piece);
        say(stream, 0x46, &part).await;
    }
    tokio::time::sleep(LIAR_PACE).await;
}

async fn say(stream: &mut TcpStream, opcode: u8, payload: &[u8]) {
    let mut out = vec![0xE3];
    out.extend((payload.len() as u32 + 1).to_le_bytes());
    out.push(opcode);
    out.extend(payload);
    // Whoever has hung up hears no more.
    let _ = stream.write_all(&out).await;
}

/// The next message; `None` at the end.
async fn hear(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 6];
    stream.read_exact(&mut head).await.ok()?;
    let length = u32::from_le_bytes(head[1..5].try_into().unwrap());
    let mut payload = vec![0; length as usize - 1];
    stream.read_exact(&mut payload).await.ok()?;
    Some((head[5], payload))
}

/// What the bridge says of sources that it has banned.
fn bans(bridge: &Bridge) -> Vec<String> {
    let said = bridge.program.said();
    said.lines().filter(|line| line.contains("a source is banned")).map(str::to_owned).collect()
}

/// How the link is written, how long the torrent's pieces are, and by what the liar is known.
struct Case {
    /// With `h=`, the root of a tree of hashes of the blocks.
    finer: bool,
    /// As a power of two.
    piece: u8,
    why: &'static str,
}

async fn lied_to(case: Case) {
    let scene = Scene::new();
    let alice = Mule::new(&scene, "alice", public(3)).limited(Limits::up(HONEST));
    let source = alice.incoming().join("film.bin");
    fill(&source, SIZE, 91);
    let both = Both::made(&scene, &source, Make::V1(case.piece.into())).await;
    alice.prepare(&scene, 1).await;
    let (bridge, server) = both.front(&scene).await;
    let _alice = sharing(&scene, &alice, (&bridge, server), 1).await;
    let liar = Liar::start(server, &source, &both.hash).await;
    let link = match case.finer {
        true => rhash_links(std::slice::from_ref(&source), false).await.remove(0),
        false => both.link(),
    };
    assert_eq!(link.contains("|h="), case.finer, "{link}");
    let torrent = format!("bt={}", both.torrent.path.display());
    bridge.must(["names", "bind", &torrent, &format!("ed={link}")]).await;
    let dir = scene.dir("leech");
    let mut leecher = both.leech(&scene, Client::LibTorrent, &dir, Limits::default()).await;

    // Both have brought something of a part: who lied is not known by that part's hash alone.
    let fetched = async || {
        let all = bridge.json(["overlays", "--json"]).await;
        crossing(&all, "ed", "bt").get("fetched_bytes").number()
    };
    eventually("bytes of amuled", 60, async || {
        (fetched().await >= mib(1) && liar.deeds.lock().unwrap().asked.1 > 0).then_some(())
    })
    .await;
    liar.grants.send(true).unwrap();
    let banned = eventually("a ban", 60, async || {
        let banned = bans(&bridge);
        (!banned.is_empty()).then_some(banned)
    })
    .await;
    assert!(banned[0].contains("198.51.100.5") && banned[0].contains(case.why), "{banned:?}");
    assert!(fetched().await < SIZE, "the rest is still to come");

    leecher.finished(60).await;
    assert_eq!(sha256_file(&dir.join("film.bin")), sha256_file(&source));
    let Peer::LibTorrent(client) = &mut leecher else { unreachable!() };
    let status = client.status().await;
    assert_eq!((status.done, status.failed), (SIZE, 0), "a wrong byte was served");
    let records = eventually("the ledger having it all", 15, async || {
        let records = usage(&bridge).await;
        (sum(&records, "bytes_verified") == SIZE).then_some(records)
    })
    .await;
    check_books(&records);
    assert_eq!(bans(&bridge).len(), 1, "nobody but the liar: {:?}", bans(&bridge));
    eventually("the liar left", 40, async || (liar.deeds.lock().unwrap().left > 0).then_some(()))
        .await;
    let deeds = liar.deeds.lock().unwrap();
    assert!(deeds.lies > 0, "{deeds:?}");
    assert_eq!(deeds.asked, (1, 1), "the liar was asked again");
}

/// What came was either good or is told as rejected.
fn check_books(records: &[Json]) {
    check_chains(records);
    let (wire, rejected) = (sum(records, "bytes_wire"), sum(records, "bytes_rejected"));
    assert!(rejected > 0, "{records:?}");
    assert_eq!(wire, SIZE + rejected, "{records:?}");
}

in_namespace! {
    /// Pieces longer than parts: amuled tells which blocks of the part are wrong (AICH).
    async fn a_liar_is_known_by_the_hashes_of_blocks() {
        lied_to(Case { finer: true, piece: 24, why: "fail the finer hashes" }).await;
    }

    /// The link has nothing finer than parts, but the torrent has.
    async fn a_liar_is_known_by_the_hashes_of_pieces() {
        lied_to(Case { finer: false, piece: 18, why: "fail their hash" }).await;
    }
}
