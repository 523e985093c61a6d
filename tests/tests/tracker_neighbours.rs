//! Bad neighbours of a tracker: peers that ask wrongly, too often, too slowly or under another's address, and trackers that answer so.
//! The bridge lives in bounded memory, and stock clients do not notice.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use p2pbridge_tests::{
    Ask, BadTracker, Bridge, Client, Config, Hostile, Limits, Make, OverlayConfig, Peer, Scene,
    Torrent, UdpDoor, What, World, eventually, fill, get, is_up, mib, percent, say, sha256_file,
    within,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const HASH: [u8; 20] = [0x5a; 20];

/// A front and nothing else.
struct Alone {
    scene: Scene,
    bridge: Bridge,
    http: String,
    udp: String,
    server: SocketAddr,
}

impl Alone {
    async fn start() -> Self {
        let scene = Scene::new();
        let front = OverlayConfig::front("b").with_terms("interval = 60\nmin_interval = 30\n");
        let server = (HERE, front.tracker.expect("a tracker").port).into();
        let (http, udp) = (front.http(), front.udp());
        let mut config = Config::of(&scene, OverlayConfig::front("a"), front);
        config.routes.clear();
        let bridge = Bridge::start(&scene, &config).await;
        Self { scene, bridge, http, udp, server }
    }

    /// Stock clients announce by both protocols, and are found; the bridge has not grown.
    async fn ends_well(mut self) {
        let source = self.scene.dir("source").join("film.bin");
        fill(&source, mib(1), 501);
        for (client, url) in [(Client::Aria2, &self.http), (Client::LibTorrent, &self.udp)] {
            let out = self.scene.file(&format!("{client:?}.torrent"));
            let name = format!("{client:?}.bin");
            let torrent = Torrent::make(Make::V1(18), &source, &name, url, &out).await;
            let dir = self.scene.dir("leech");
            let what = What::from(&torrent);
            let leecher = Peer::leech(client, &self.scene, &what, &dir, Limits::default()).await;
            eventually("a stock client in the swarm", 20, async || {
                let told = Ask::new(torrent.v1, 4001).from([127, 0, 0, 7]).at(&self.udp).await?;
                told.peers.contains(&(HERE, leecher.port()).into()).then_some(())
            })
            .await;
        }
        let (_, most) = self.bridge.memory();
        assert!(most < mib(150), "{most} bytes of memory");
        self.bridge.program.assert_runs();
        assert!(self.bridge.terminate(15).await.success());
    }
}

/// The fields of a good announce over HTTP.
const FIELDS: [(&str, &str); 8] = [
    ("info_hash", "ZZZZZZZZZZZZZZZZZZZZ"),
    ("peer_id", "-HN0001-000000000001"),
    ("port", "4001"),
    ("uploaded", "0"),
    ("downloaded", "0"),
    ("left", "1"),
    ("numwant", "30"),
    ("event", "started"),
];

/// A query in which `field` is as `change` says: its value, or gone, or more.
fn query(field: &str, change: Option<&str>) -> String {
    let parts = FIELDS.iter().filter_map(|(name, value)| match change {
        _ if *name != field => Some(format!("{name}={value}")),
        Some(value) => Some(format!("{name}={value}")),
        None => None,
    });
    parts.collect::<Vec<_>>().join("&")
}

/// Each field of an announce over HTTP, wrong in each way: a refusal that names the field, or a proper answer; never silence.
#[tokio::test]
async fn wrong_announces_over_http() {
    const HUGE: &str = "9223372036854775808";
    let alone = Alone::start().await;
    let long = "7".repeat(3000);
    let mut refused = Vec::new();
    let mut accepted = Vec::new();
    for field in ["info_hash", "peer_id"] {
        refused.push((field, query(field, None)));
        for bad in [
            "",
            "ZZZZZZZZZZZZZZZZZZZ",
            "ZZZZZZZZZZZZZZZZZZZZZ",
            "ZZZZZZZZZZZZZZZZZZZ%",
            "ZZZZZZZZZZZZZZZZZZZ%f",
            "ZZZZZZZZZZZZZZZZZZZ%zz",
            long.as_str(),
        ] {
            refused.push((field, query(field, Some(bad))));
        }
    }
    refused.push(("port", query("port", None)));
    for bad in ["", "0", "65536", "-1", HUGE, "http", "4001.5", long.as_str()] {
        refused.push(("port", query("port", Some(bad))));
    }
    for field in ["uploaded", "downloaded", "left"] {
        accepted.push(query(field, None));
        for bad in ["", "-1", "18446744073709551616", "much", "0x10", long.as_str()] {
            refused.push((field, query(field, Some(bad))));
        }
    }
    accepted.push(query("numwant", None));
    accepted.push(query("numwant", Some("-1")));
    accepted.push(query("numwant", Some("0")));
    accepted.push(query("event", None));
    accepted.push(query("event", Some("")));
    for bad in [HUGE, "many"] {
        refused.push(("numwant", query("numwant", Some(bad))));
    }
    for bad in ["began", long.as_str()] {
        refused.push(("event", query("event", Some(bad))));
    }
    let good = query("", None);
    for (field, value) in FIELDS {
        refused.push((field, format!("{good}&{field}={value}")));
    }
    for unknown in ["ip=10.0.0.1", "ipv6=%00", "x", "=", "&&&", "%=%", "supportcrypto=1", "key=zz"]
    {
        accepted.push(format!("{good}&{unknown}"));
    }
    for (field, query) in refused {
        let answer = get(&format!("{}?{query}", alone.http), HERE, "").await;
        let answer = answer.unwrap_or_else(|| panic!("no answer to {query}"));
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(said.starts_with("d14:failure reason") && said.contains(field), "{query}: {said}");
    }
    for query in accepted {
        let answer = get(&format!("{}?{query}", alone.http), HERE, "").await;
        let answer = answer.unwrap_or_else(|| panic!("no answer to {query}"));
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.status == 200 && said.contains("8:interval"), "{query}: {said}");
    }
    alone.ends_well().await;
}

/// What is no announce, and hardly HTTP: an answer in its form or a closed connection, at once.
#[tokio::test]
async fn what_is_hardly_http() {
    let alone = Alone::start().await;
    let good = format!("/announce?{}", query("", None));
    let long = "x".repeat(100_000);
    let many = "X-Y: z\r\n".repeat(2_000);
    let get_with = |path: &str, headers: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: a\r\n{headers}Connection: close\r\n\r\n")
    };
    let cases: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("elsewhere", get_with("/", "").into_bytes(), &[404]),
        ("above", get_with("/../announce", "").into_bytes(), &[400, 404]),
        ("a scrape of nothing", get_with("/scrape", "").into_bytes(), &[200, 400]),
        ("a scrape of 19 bytes", get_with("/scrape?info_hash=Z", "").into_bytes(), &[200, 400]),
        (
            "a post",
            format!("POST {good} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc").into_bytes(),
            &[404, 405, 501],
        ),
        (
            "a long path",
            get_with(&format!("/announce?{long}"), "").into_bytes(),
            &[200, 400, 414, 431],
        ),
        ("a long header", get_with(&good, &format!("X: {long}\r\n")).into_bytes(), &[400, 431]),
        ("many headers", get_with(&good, &many).into_bytes(), &[400, 431]),
        ("no version", format!("GET {good}\r\n\r\n").into_bytes(), &[400, 505]),
        ("version 9", format!("GET {good} HTTP/9.9\r\n\r\n").into_bytes(), &[400, 505]),
        (
            "a body that does not come",
            format!(
                "GET {good} HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\nConnection: close\r\n\r\n"
            )
            .into_bytes(),
            &[200, 400, 413],
        ),
        (
            "two lengths",
            get_with(&good, "Content-Length: 1\r\nContent-Length: 2\r\n").into_bytes(),
            &[200, 400],
        ),
        (
            "TLS",
            vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 9, 9, 9, b'\r', b'\n', b'\r', b'\n'],
            &[400],
        ),
        ("zeros", vec![0; 20_000], &[400, 431]),
    ];
    for (what, bytes, allowed) in cases {
        let asked = Instant::now();
        let answer = say(alone.server, HERE, &bytes).await;
        let status = answer.map(|answer| answer.status);
        assert!(status.is_none_or(|status| allowed.contains(&status)), "{what}: {status:?}");
        // Without an answer the connection was closed; `say` would have waited for five seconds.
        assert!(asked.elapsed() < Duration::from_secs(4), "{what}: {:?}", asked.elapsed());
    }
    // Two requests at once, both good, over one connection.
    let once = format!("GET {good} HTTP/1.1\r\nHost: a\r\n\r\n");
    let twice = format!("{once}{}", get_with(&good, ""));
    let answer = say(alone.server, HERE, twice.as_bytes()).await.expect("two answers");
    let said = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(answer.status == 200 && said.contains("HTTP/1.1 200"), "{said}");
    // What is asked of a scrape is answered in its form.
    let scrape = alone.http.replace("/announce", &format!("/scrape?info_hash={}", percent(&HASH)));
    let answer = get(&scrape, HERE, "").await.expect("an answer");
    assert!(answer.body.starts_with(b"d5:filesd"), "{answer:?}");
    alone.ends_well().await;
}

/// Packets that are wrong in each way: an error that is no longer than the question, or nothing.
#[tokio::test]
async fn wrong_packets() {
    let alone = Alone::start().await;
    let mut door = UdpDoor::new(alone.server, HERE).await;
    let id = door.connect().await;
    let good = Ask::new(HASH, 4001).packet(id, 77);
    let cut = |length: usize| good[..length].to_vec();
    let with = |at: usize, bytes: &[u8]| {
        let mut packet = good.clone();
        packet[at..at + bytes.len()].copy_from_slice(bytes);
        packet
    };
    let scrape = |hashes: usize| {
        let mut packet = [&id.to_be_bytes()[..], &[0, 0, 0, 2, 0, 0, 0, 77]].concat();
        packet.resize(16 + 20 * hashes, 0x5a);
        packet
    };
    let refused = [
        ("an empty packet", Vec::new()),
        ("a byte", vec![0]),
        ("15 bytes", cut(15)),
        ("16 bytes of an announce", cut(16)),
        ("97 bytes of an announce", cut(97)),
        ("a connect without its magic", vec![0; 16]),
        ("action 9", with(8, &[0, 0, 0, 9])),
        ("action 2^31", with(8, &[0x80, 0, 0, 0])),
        ("an answer", with(8, &[0, 0, 0, 3])),
        ("another's id", with(0, &(id ^ 1).to_be_bytes())),
        ("an id of zeros", with(0, &[0; 8])),
        ("port 0", with(96, &[0, 0])),
        ("a scrape of nothing", scrape(0)),
        ("a scrape of a cut hash", [scrape(1), vec![1; 7]].concat()),
    ];
    for (what, packet) in refused {
        for answer in door.answers(&packet).await {
            let error = answer.len() >= 8 && answer[..4] == [0, 0, 0, 3];
            let scraped = what.starts_with("a scrape") && answer[..4] == [0, 0, 0, 2];
            assert!(error || scraped, "{what}: {answer:?}");
            // Nobody can have more sent to another than they send themselves.
            let proven = packet.starts_with(&id.to_be_bytes());
            assert!(proven || answer.len() <= packet.len(), "{what}: {} bytes", answer.len());
        }
    }
    let taken = [
        ("as it should be", good.clone()),
        ("an address of its own", with(84, &[10, 0, 0, 1])),
        ("numwant 2^31", with(92, &[0x80, 0, 0, 0])),
        ("left 2^63", with(64, &[0x80, 0, 0, 0, 0, 0, 0, 0])),
        ("options (BEP 41)", [good.clone(), b"\x02\x09/announce\x00".to_vec()].concat()),
        ("options that are cut", [good.clone(), b"\x02\xff/ann".to_vec()].concat()),
        ("much behind it", [good.clone(), vec![0xee; 1_300]].concat()),
    ];
    for (what, packet) in taken {
        let answers = door.answers(&packet).await;
        assert!(
            matches!(answers.as_slice(), [one] if one.len() >= 20 && one[..8] == [0, 0, 0, 1, 0, 0, 0, 77]),
            "{what}: {answers:?}"
        );
    }
    let told = Ask::new(HASH, 4002).from([127, 0, 0, 2]).at(&alone.udp).await.expect("an answer");
    assert_eq!(
        told.peers,
        [(HERE, 4001).into()],
        "nobody at an address that it did not announce from"
    );
    alone.ends_well().await;
}

/// Connection ids hold for the address that asked, and cannot be guessed.
#[tokio::test]
async fn forged_connection_ids() {
    let alone = Alone::start().await;
    let mut mine = UdpDoor::new(alone.server, HERE).await;
    let mut other = UdpDoor::new(alone.server, [127, 0, 0, 2].into()).await;
    let (my_id, other_id) = (mine.connect().await, other.connect().await);
    assert_ne!(my_id, other_id);
    let announced = |answers: &[Vec<u8>]| answers.iter().any(|answer| answer[..4] == [0, 0, 0, 1]);
    assert!(announced(&mine.answers(&Ask::new(HASH, 4001).packet(my_id, 1)).await));
    assert!(!announced(&other.answers(&Ask::new(HASH, 4002).packet(my_id, 2)).await));
    let mut guess = my_id;
    for turn in 0..5_000_u32 {
        // Neighbours of a good id first, then anything.
        guess = if turn < 64 {
            my_id ^ (1 << turn)
        } else {
            guess.wrapping_mul(6_364_136_223_846_793_005) ^ u64::from(turn)
        };
        let answers = mine.answers(&Ask::new(HASH, 4003).packet(guess, 3)).await;
        assert!(guess == my_id || !announced(&answers), "guessed {guess:x} for {my_id:x}");
    }
    let told = Ask::new(HASH, 4004).from([127, 0, 0, 4]).at(&alone.udp).await.expect("an answer");
    assert_eq!(told.peers, [(HERE, 4001).into()]);
    alone.ends_well().await;
}

/// Connects from everywhere, as many as go through: no table of them is kept.
#[tokio::test]
async fn a_flood_of_connects() {
    let alone = Alone::start().await;
    let (before, server) = (alone.bridge.memory().0, alone.server);
    let flood = tokio::task::spawn_blocking(move || {
        let sockets: Vec<UdpSocket> = (1..=250)
            .map(|last| UdpSocket::bind((Ipv4Addr::new(127, 9, 9, last), 0)).expect("a socket"))
            .collect();
        let until = Instant::now() + Duration::from_secs(2);
        let mut sent = 0_u32;
        while Instant::now() < until {
            for socket in &sockets {
                let mut packet = 0x417_2710_1980_u64.to_be_bytes().to_vec();
                packet.extend([0; 4]);
                packet.extend(sent.to_be_bytes());
                sent += u32::from(socket.send_to(&packet, server).is_ok());
            }
        }
        sent
    });
    let sent = flood.await.expect("the flood");
    assert!(sent > 10_000, "{sent} connects");
    let told = eventually("an announce answered after the flood", 10, async || {
        Ask::new(HASH, 4001).at(&alone.udp).await
    })
    .await;
    assert_eq!(told.failure, None);
    let after = alone.bridge.memory().0;
    assert!(after < before + mib(24), "{before} bytes before {sent} connects, {after} after");
    alone.ends_well().await;
}

/// A hundred connections over which a request comes a byte at a time are ended, and hold nobody up meanwhile.
#[tokio::test]
async fn slow_loris() {
    let alone = Alone::start().await;
    let (server, http) = (alone.server, alone.http.clone());
    let drips: Vec<_> = (0..100)
        .map(|_| {
            tokio::spawn(async move {
                let mut stream = connection([127, 8, 2, 1], server).await.expect("a connection");
                let mut byte = [0];
                for letter in b"GET /announce?info_hash=ZZ".iter().chain(std::iter::repeat(&b'Z')) {
                    let hung_up = tokio::select! {
                        read = stream.read(&mut byte) => matches!(read, Ok(0) | Err(_)),
                        () = tokio::time::sleep(Duration::from_millis(200)) => {
                            stream.write_all(&[*letter]).await.is_err()
                        }
                    };
                    if hung_up {
                        return;
                    }
                }
            })
        })
        .collect();
    let asked = Instant::now();
    let told = Ask::new(HASH, 4001).at(&http).await.expect("an answer");
    assert_eq!(told.failure, None);
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    for drip in drips {
        within("the bridge hanging up", 45, drip).await.expect("a drip");
    }
    alone.ends_well().await;
}

/// A connection from an address of our choice; `None` when the bridge, or this machine, refuses: that is a bound.
async fn connection(from: [u8; 4], server: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((IpAddr::from(from), 0).into()).expect("an address");
    within("a connection", 10, socket.connect(server)).await.ok()
}

/// Two thousand connections over which nothing comes: stock clients are served all the same.
#[tokio::test]
async fn idle_connections() {
    let alone = Alone::start().await;
    let mut crowd = Vec::new();
    for number in 0..2_000_u16 {
        crowd.extend(connection([127, 8, 0, 1 + (number % 100) as u8], alone.server).await);
    }
    assert!(crowd.len() >= 500, "{} connections", crowd.len());
    let told = Ask::new(HASH, 4001).at(&alone.http).await.expect("an answer");
    assert_eq!((told.status, told.failure), (200, None));
    alone.ends_well().await;
    drop(crowd);
}

/// Trackers of an overlay in presence that answer badly, all of them before the good one: the content crosses, and each one's error is
/// shown.
#[tokio::test]
async fn trackers_that_answer_badly() {
    let scene = Scene::new();
    let source = scene.dir("source").join("film.bin");
    fill(&source, mib(2), 502);
    let world = World::plain(&scene, &source).await;
    let answers: [(&str, &'static [u8]); 8] = [
        ("a page", b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html><body>It works!</body></html>"),
        ("nothing", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("a redirect to itself", b"HTTP/1.1 302 Found\r\nLocation: /announce?again=1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        ("7 bytes of peers", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nd8:intervali60e5:peers7:\x7f\0\0\x01\0\x09Xe"),
        ("an interval that is no number", b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nd8:interval3:day5:peers0:e"),
        ("an error", b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        ("a cut body", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\nConnection: close\r\n\r\nd8:intervali60e5:peers"),
        ("no gzip", b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\nnot gzip at all"),
    ];
    let mut hostile = Vec::new();
    for (what, answer) in answers {
        hostile.push((what, Hostile::start(BadTracker::Says(answer)).await));
    }
    let mut config = Config::a_to_b(&scene, &[world.a.tracker.url()], &[world.b.tracker.url()]);
    for (_, bad) in &hostile {
        config.overlays[0].trackers.insert(0, bad.url.clone());
    }
    let limits = Limits::default();
    let _seeder =
        Peer::seed(Client::LibTorrent, &scene, &world.a.what(), &scene.dir("source"), limits).await;
    world.a.has_seeder().await;
    let mut bridge = Bridge::start(&scene, &config).await;
    bridge.bind(("a", &world.a.torrent.path), ("b", &world.b.torrent.path)).await;
    let dir = scene.dir("leech");
    let mut leecher = Peer::leech(Client::Aria2, &scene, &world.b.what(), &dir, limits).await;
    leecher.finished(60).await;
    assert_eq!(sha256_file(&dir.join("b.bin")), sha256_file(&source));
    let overlays = bridge.json(["overlays", "--json"]).await.get("overlays");
    let trackers = overlays.find("id", "a").expect("a").get("trackers");
    for (what, bad) in &hostile {
        let tracker = trackers.find("url", &bad.url).expect("a tracker");
        let error = tracker.get("last_error").text();
        assert!(!is_up(&tracker.get("health")) && !error.is_empty(), "{what}: {tracker:?}");
    }
    assert!(is_up(&trackers.find("url", &world.a.tracker.url()).expect("a").get("health")));
    let (_, most) = bridge.memory();
    assert!(most < mib(150), "{most} bytes of memory");
    assert!(bridge.terminate(15).await.success());
}

/// Intervals that nobody can keep are no reason to ask at once, or never.
#[tokio::test]
async fn trackers_with_strange_intervals() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nd8:intervali0e5:peers0:e"[..],
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nd8:intervali-1e5:peers0:e",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nd8:intervali9223372036854775808e5:peers0:e",
    ] {
        let scene = Scene::new();
        let source = scene.dir("source").join("film.bin");
        fill(&source, mib(1), 503);
        let world = World::plain(&scene, &source).await;
        let hostile = Hostile::start(BadTracker::Says(answer)).await;
        let url = std::slice::from_ref(&hostile.url);
        let config = Config::a_to_b(&scene, url, &[world.b.tracker.url()]);
        let mut bridge = Bridge::start(&scene, &config).await;
        bridge.bind(("a", &world.a.torrent.path), ("b", &world.b.torrent.path)).await;
        eventually("the tracker asked", 20, async || (hostile.asked() > 0).then_some(())).await;
        let first = hostile.asked();
        // The other tracker's answers come every two seconds: time enough for one that is asked at once.
        let usage = bridge.cpu_seconds();
        let began = Instant::now();
        eventually("three seconds", 10, async || {
            (began.elapsed() >= Duration::from_secs(3)).then_some(())
        })
        .await;
        assert!(hostile.asked() <= first + 3, "{} questions in 3 s", hostile.asked() - first);
        assert!(bridge.cpu_seconds() - usage < 1.0);
        bridge.program.assert_runs();
        assert!(bridge.terminate(15).await.success());
    }
}
