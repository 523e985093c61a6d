//! Trackers that misbehave: each gets a clear fault, costs little, and is asked again as if nothing had been.

use std::sync::atomic::{AtomicUsize, Ordering};

use ErrorCode::{BadAnswer, Forbidden, Overloaded, Unavailable, UnknownName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;

/// What a scripted tracker does with a request.
enum Act {
    /// Sends these bytes, and takes the next request if the connection lives.
    Say(Vec<u8>),
    /// Sends these bytes and closes.
    SayAndClose(Vec<u8>),
    /// Says nothing until the other side closes.
    Hang,
}

/// A tracker that follows a script, a step for each request; then it answers properly. It also counts connections.
struct Script {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

fn good() -> Vec<u8> {
    let body = b"d8:intervali900e5:peers6:\x7f\x00\x00\x01\x1b\x58e";
    response("200 OK", "", body)
}

fn response(status: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{fields}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

impl Script {
    async fn start(acts: Vec<Act>) -> Self {
        let listener = TcpListener::bind((V4, 0)).await.unwrap();
        let url = http(listener.local_addr().unwrap());
        let acts = Arc::new(Mutex::new(acts.into_iter()));
        let (requests, connections) = (Arc::default(), Arc::new(AtomicUsize::new(0)));
        let (seen, counter) = (Arc::clone(&requests), connections.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(Self::connection(stream, acts.clone(), Arc::clone(&seen)));
            }
        });
        Self { url, requests, connections }
    }

    async fn connection(
        mut stream: TcpStream,
        acts: Arc<Mutex<std::vec::IntoIter<Act>>>,
        seen: Arc<Mutex<Vec<String>>>,
    ) {
        let mut buffer = Vec::new();
        loop {
            while !buffer.ends_with(b"\r\n\r\n") {
                match stream.read_buf(&mut buffer).await {
                    Ok(read) if read > 0 => {}
                    _ => return,
                }
            }
            seen.lock().unwrap().push(String::from_utf8(std::mem::take(&mut buffer)).unwrap());
            let act = acts.lock().unwrap().next().unwrap_or(Act::Say(good()));
            let (bytes, close) = match act {
                Act::Say(bytes) => (bytes, false),
                Act::SayAndClose(bytes) => (bytes, true),
                Act::Hang => {
                    let _ = stream.read_u8().await;
                    return;
                }
            };
            if stream.write_all(&bytes).await.is_err() || close {
                return;
            }
        }
    }

    fn client(&self) -> Arc<BtTrackerClient> {
        client(&[std::slice::from_ref(&self.url)], &[(V4, 6881)])
    }
}

fn announce(number: u8) -> Request {
    own(&[Name::btih([number; 20])], PeerEvent::Started)
}

/// Asks for a fault, and then, when the rest after it is over, for an answer.
async fn fault_then_answer(client: &BtTrackerClient, what: &str) -> Fault {
    let fault = ask(client, announce(1)).await.unwrap_err();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match ask(client, announce(2)).await {
            Ok(Reply::Peers(list)) => {
                assert_eq!(list.peers.len(), 1, "{what}");
                return fault;
            }
            Err(resting) if resting.text.contains("left alone") => {
                assert!(Instant::now() < deadline, "{what}: {resting}");
                tokio::time::sleep(resting.retry_after.unwrap()).await;
            }
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn each_odd_answer_is_a_clear_fault_and_the_next_question_works() {
    let html = "<!doctype html><html><body>It works!</body></html>";
    let body = |bencode: &str| response("200 OK", "", bencode.as_bytes());
    let chunk = |body: &str| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).into_bytes()
    };
    let cases: Vec<(&str, Vec<u8>, ErrorCode, &str)> = vec![
        ("html", body(html), BadAnswer, "no answer of a tracker"),
        ("html in a chunk", chunk(html), BadAnswer, "no answer of a tracker"),
        ("nothing", body(""), BadAnswer, "empty"),
        ("no content", b"HTTP/1.1 204 X\r\n\r\n".to_vec(), BadAnswer, "empty"),
        ("500", response("500 X", "", b""), Unavailable, "HTTP status 500"),
        ("404", response("404 X", "", html.as_bytes()), BadAnswer, "HTTP status 404"),
        (
            "403 with a reason",
            response("403 X", "", b"d14:failure reason6:busy!!e"),
            Overloaded,
            "busy!!",
        ),
        ("503", response("503 X", "Retry-After: 2\r\n", b""), Overloaded, "HTTP status 503"),
        ("429", response("429 X", "Retry-After: soon\r\n", b""), Overloaded, "HTTP status 429"),
        ("half a body", body("d8:intervali900e5:peers"), BadAnswer, "no answer of a tracker"),
        ("two bodies", body("d8:intervali900eede"), BadAnswer, "no answer of a tracker"),
        ("an empty dictionary", body("de"), BadAnswer, "`interval` is missing"),
        ("a list", body("le"), BadAnswer, "`the answer`"),
        ("peers as a number", body("d8:intervali9e5:peersi1ee"), BadAnswer, "`peers`"),
        ("peers of 7 bytes", body("d8:intervali900e5:peers7:1234567e"), BadAnswer, "`peers`"),
        (
            "peers6 of 17 bytes",
            body("d8:intervali900e6:peers617:12345678901234567e"),
            BadAnswer,
            "`peers6`",
        ),
        ("peers6 as a number", body("d8:intervali900e6:peers6i1ee"), BadAnswer, "`peers6`"),
        ("an interval in letters", body("d8:interval3:900e"), BadAnswer, "`interval`"),
        (
            "a min interval as a list",
            body("d8:intervali9e12:min intervallee"),
            BadAnswer,
            "`min interval`",
        ),
        (
            "an interval of 2^63",
            body("d8:intervali9223372036854775808ee"),
            BadAnswer,
            "no answer of a tracker",
        ),
        (
            "a doubled interval",
            body("d8:intervali900e8:intervali7ee"),
            BadAnswer,
            "the same key twice",
        ),
        ("a reason as a number", body("d14:failure reasoni1ee"), BadAnswer, "`failure reason`"),
        ("a refusal", body("d14:failure reason4:no!!e"), Forbidden, "no!!"),
        (
            "an unlisted one",
            body(concat!("d14:failure reason9:not found", "e")),
            UnknownName,
            "not found",
        ),
        ("closed unanswered", Vec::new(), Unavailable, "without an answer"),
        ("a head cut", b"HTTP/1.1 20".to_vec(), Unavailable, "too early"),
        (
            "a body cut",
            b"HTTP/1.1 200 X\r\nContent-Length: 50\r\n\r\nd8:".to_vec(),
            Unavailable,
            "too early",
        ),
        ("no HTTP", b"220 ftp.example ready\r\n\r\n".to_vec(), BadAnswer, "no HTTP"),
        ("an upgrade", response("426 X", "", b""), BadAnswer, "426"),
    ];
    let each = cases.into_iter().map(|(what, answer, code, says)| async move {
        let whole = !matches!(what, "closed unanswered" | "a head cut" | "a body cut");
        let act = if whole { Act::Say(answer) } else { Act::SayAndClose(answer) };
        let script = Script::start(vec![act]).await;
        let fault = fault_then_answer(&script.client(), what).await;
        assert_eq!(fault.code, code, "{what}: {fault}");
        assert!(fault.text.contains(says) && !fault.text.contains("info_hash"), "{what}: {fault}");
        let retries = fault.retry_after.map(|time| time.as_secs());
        assert_eq!(retries, (what == "503").then_some(2), "{what}: {fault:?}");
    });
    join_all(each).await;
}

#[tokio::test]
async fn each_odd_field_is_taken_within_bounds() {
    let most = "9223372036854775807";
    // What comes, and the interval, the least interval, the seeders and the peers' ports that are made of it.
    let cases: Vec<(String, u64, Option<u64>, Option<u32>, &[u16])> = vec![
        ("d8:intervali0ee".into(), 1800, None, None, &[]),
        ("d8:intervali-1ee".into(), 1800, None, None, &[]),
        (format!("d8:intervali{most}ee"), 86400, None, None, &[]),
        ("d5:peers0:e".into(), 1800, None, None, &[]),
        (format!("d8:intervali900e12:min intervali{most}ee"), 900, Some(86400), None, &[]),
        ("d8:completei-1e8:intervali900ee".into(), 900, None, None, &[]),
        (format!("d8:completei{most}e8:intervali900ee"), 900, None, Some(u32::MAX), &[]),
        ("d8:complete1:910:incompletele8:intervali900ee".into(), 900, None, None, &[]),
        ("d8:intervali900e5:peers12:\x01\x02\x03\x04\x00\x00\x01\x02\x03\x04\x00\x09e".into(), 900, None, None, &[9]),
        (
            "d8:intervali900e5:peersld2:ip7:1.2.3.44:porti-1eed2:ip7:1.2.3.44:porti65536eed2:ip1:x4:porti1ee\
             i7ed4:porti1eed2:ip7:1.2.3.44:porti8eeee"
                .into(),
            900,
            None,
            None,
            &[8],
        ),
        ("d11:external ip2:xx8:intervali900e5:peersle10:tracker idi1e15:warning messagelee".into(), 900, None, None, &[]),
        ("d5:peers0:8:intervali900ee".into(), 900, None, None, &[]),
    ];
    for (answer, interval, min_interval, seeders, ports) in cases {
        let script = Script::start(vec![Act::Say(response("200 OK", "", answer.as_bytes()))]).await;
        let list = match ask(&script.client(), announce(1)).await {
            Ok(Reply::Peers(list)) => list,
            other => panic!("{answer:?}: {other:?}"),
        };
        let found: Vec<_> = list.peers.iter().map(|peer| peer.endpoint.port()).collect();
        assert_eq!(found, ports, "{answer:?}");
        let least = list.min_interval.map(|least| least.as_secs());
        let got = (list.interval.as_secs(), least, list.seeders);
        assert_eq!(got, (interval, min_interval, seeders), "{answer:?}");
    }
}

#[tokio::test]
async fn ten_megabytes_are_not_read() {
    for head in ["", "Content-Length: 10000000\r\n"] {
        let answer =
            [format!("HTTP/1.1 200 OK\r\n{head}\r\n").as_bytes(), &[b'x'; 10_000_000]].concat();
        let script = Script::start(vec![Act::SayAndClose(answer)]).await;
        let fault = fault_then_answer(&script.client(), head).await;
        assert_eq!(
            (fault.code, fault.text.as_str()),
            (BadAnswer, "an answer of more than 1048576 bytes")
        );
    }
}

#[tokio::test]
async fn redirects_are_followed_a_little_and_each_counts() {
    let to =
        |location: &str| Act::Say(response("302 Found", &format!("Location: {location}\r\n"), b""));
    let other = Script::start(Vec::new()).await;
    let query = "info_hash=x";
    let elsewhere = format!("{}?{query}", other.url);
    let script = Script::start(vec![to("/b?c=d"), to(&elsewhere)]).await;
    let client = script.client();
    peers(&client, announce(1)).await;
    let line = |script: &Script, at: usize| {
        script.requests.lock().unwrap()[at].lines().next().unwrap().to_owned()
    };
    assert_eq!(line(&script, 1), "GET /b?c=d HTTP/1.1");
    assert_eq!(line(&other, 0), "GET /announce?info_hash=x HTTP/1.1");
    assert_eq!((client.health()[0].sent, script.connections.load(Ordering::Relaxed)), (3, 1));
    let endless: Vec<_> = (0..9).map(|_| to("/announce")).collect();
    let cases = [
        (endless, "more than 3 redirects"),
        (vec![to("ftp://127.0.0.1/announce")], "to what is no HTTP"),
        (vec![to("http://")], "redirect"),
        (vec![to(&format!("/{}", "a".repeat(9000)))], "too long"),
        (vec![Act::Say(response("302 Found", "", b""))], "HTTP status 302"),
    ];
    for (acts, says) in cases {
        let requests = acts.len().min(4);
        let script = Script::start(acts).await;
        let fault = ask(&script.client(), announce(1)).await.unwrap_err();
        assert!(fault.code == BadAnswer && fault.text.contains(says), "{says}: {fault:?}");
        assert_eq!(script.requests.lock().unwrap().len(), requests, "{says}");
    }
    let script =
        Script::start(vec![to(&format!("http://127.0.0.1:{}/", closed_port().await))]).await;
    let fault = fault_then_answer(&script.client(), "to a dead one").await;
    assert_eq!(fault.code, Unavailable);
}

#[tokio::test]
async fn a_tracker_that_does_not_speak_tls_is_named() {
    let script = Script::start(vec![Act::Say(good())]).await;
    let url = script.url.replace("http:", "https:");
    let client = client(&[&[url]], &[(V4, 6881)]);
    // It waits for the end of a request that never comes; a listener that closes says so at once.
    let late = client.call(announce(1), Instant::now() + Duration::from_millis(300)).await;
    assert_eq!(late.unwrap_err().text, "no answer in time");
    let listener = TcpListener::bind((V4, 0)).await.unwrap();
    let url = format!("https://{}/announce", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut hello = [0; 1024];
        let _ = stream.read(&mut hello).await;
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let client = super::client(&[&[url]], &[(V4, 6881)]);
    let fault = ask(&client, announce(1)).await.unwrap_err();
    assert_eq!(fault.code, Unavailable, "{fault}");
    assert_eq!(client.health()[0].sent, 0);
}

#[tokio::test]
async fn a_connection_that_the_tracker_has_closed_is_replaced_unseen() {
    let script = Script::start(vec![Act::Say(good()), Act::SayAndClose(Vec::new())]).await;
    let client = script.client();
    for number in 1..=4 {
        peers(&client, announce(number)).await;
    }
    // The second question was sent twice: the first time, the connection ended under it.
    assert_eq!(script.connections.load(Ordering::Relaxed), 2);
    let health = &client.health()[0];
    assert_eq!((health.sent, health.consecutive_failures, health.answered), (5, 0, Some(1.0)));
}

#[tokio::test(start_paused = true)]
async fn a_tracker_that_hangs_costs_the_deadline_and_no_more() {
    let script = Script::start(vec![Act::Hang]).await;
    let client = script.client();
    let start = Instant::now();
    let fault = ask(&client, announce(1)).await.unwrap_err();
    assert_eq!((fault.code, fault.text.as_str()), (Unavailable, "no answer in time"));
    assert_eq!(start.elapsed().as_secs(), 10);
}

/// A UDP tracker that gives a connection id, and then answers announces as it is told.
async fn udp_script(
    answer: impl Fn(&UdpSocket, u32) -> Vec<Vec<u8>> + Send + 'static,
) -> (String, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind((V4, 0)).await.unwrap();
    let url = format!("udp://{}", socket.local_addr().unwrap());
    let packets = Arc::new(AtomicUsize::new(0));
    let counter = packets.clone();
    tokio::spawn(async move {
        let mut packet = [0; 2048];
        loop {
            let (length, from) = socket.recv_from(&mut packet).await.unwrap();
            counter.fetch_add(1, Ordering::Relaxed);
            let answers = match UdpRequest::decode(&packet[..length]).unwrap() {
                UdpRequest::Connect { transaction } => {
                    vec![UdpResponse::Connect { transaction, connection: 7 }.encode(false)]
                }
                UdpRequest::Announce { transaction, announce, .. }
                    if announce.info_hash[0] == 1 =>
                {
                    answer(&socket, transaction)
                }
                UdpRequest::Announce { transaction, .. } => vec![well(transaction)],
                UdpRequest::Scrape { .. } => Vec::new(),
            };
            for answer in answers {
                socket.send_to(&answer, from).await.unwrap();
            }
        }
    });
    (url, packets)
}

fn well(transaction: u32) -> Vec<u8> {
    let peers = vec![Peer::at(([127, 0, 0, 1], 7000).into())];
    let response = AnnounceResponse {
        interval: Duration::from_secs(900),
        peers,
        ..AnnounceResponse::default()
    };
    UdpResponse::Announce { transaction, response }.encode(false)
}

#[tokio::test]
async fn odd_packets_are_faults_or_are_not_looked_at() {
    type Answer = fn(u32) -> Vec<Vec<u8>>;
    fn words(action: u32, transaction: u32, rest: &[u8]) -> Vec<u8> {
        [&action.to_be_bytes()[..], &transaction.to_be_bytes(), rest].concat()
    }
    let faults: [(&str, Answer, ErrorCode, &str); 8] = [
        ("short", |t| vec![words(1, t, &[0; 11])], BadAnswer, "ends too early"),
        ("only its head", |t| vec![words(1, t, &[])], UnknownName, "not list"),
        ("of another action", |t| vec![words(2, t, &[0; 12])], BadAnswer, "one to a scrape"),
        ("of an unknown action", |t| vec![words(9, t, &[0; 12])], BadAnswer, "action 9"),
        ("a connect again", |t| vec![words(0, t, &[0; 8])], BadAnswer, "one to a connect"),
        ("an error", |t| vec![words(3, t, b"busy"), words(3, t, b"busy")], Overloaded, "busy"),
        ("an error of nonsense", |t| vec![words(3, t, &[0xFF, 0, 7])], Forbidden, "\u{FFFD}"),
        ("an error without a text", |t| vec![words(3, t, &[])], Forbidden, ""),
    ];
    for (what, answer, code, says) in faults {
        let (url, _) = udp_script(move |_, transaction| answer(transaction)).await;
        let client = client(&[&[url]], &[(V4, 6881)]);
        let fault = fault_then_answer(&client, what).await;
        assert!(fault.code == code && fault.text.contains(says), "{what}: {fault:?}");
    }
    let unseen: [(&str, Answer); 4] = [
        ("of 3 bytes", |t| vec![vec![0, 0, 0], well(t)]),
        ("nothing", |t| vec![Vec::new(), well(t)]),
        ("of another transaction", |t| {
            vec![words(3, !t, b"no"), words(1, t ^ 1, &[0; 12]), well(t)]
        }),
        ("doubled", |t| vec![well(t), well(t)]),
    ];
    for (what, answer) in unseen {
        let (url, packets) = udp_script(move |_, transaction| answer(transaction)).await;
        let client = client(&[&[url]], &[(V4, 6881)]);
        for number in [1, 2, 1] {
            let list = peers(&client, announce(number)).await;
            assert_eq!((list.peers.len(), list.interval.as_secs()), (1, 900), "{what}");
        }
        assert_eq!(packets.load(Ordering::Relaxed), 4, "{what}");
        assert_eq!(client.health()[0].sent, 4, "{what}");
    }
}

#[tokio::test]
async fn an_answer_from_another_port_is_none() {
    let (socket, other) =
        (UdpSocket::bind((V4, 0)).await.unwrap(), UdpSocket::bind((V4, 0)).await.unwrap());
    let url = format!("udp://{}", socket.local_addr().unwrap());
    tokio::spawn(async move {
        let mut packet = [0; 2048];
        loop {
            let (length, from) = socket.recv_from(&mut packet).await.unwrap();
            match UdpRequest::decode(&packet[..length]).unwrap() {
                UdpRequest::Connect { transaction } => {
                    let connect = UdpResponse::Connect { transaction, connection: 7 };
                    socket.send_to(&connect.encode(false), from).await.unwrap();
                }
                request => {
                    let UdpRequest::Announce { transaction, .. } = request else { continue };
                    let refusal = UdpResponse::Error { transaction, message: "no".into() };
                    other.send_to(&refusal.encode(false), from).await.unwrap();
                    socket.send_to(&well(transaction), from).await.unwrap();
                }
            }
        }
    });
    let client = client(&[&[url]], &[(V4, 6881)]);
    assert_eq!(peers(&client, announce(1)).await.peers.len(), 1);
}
