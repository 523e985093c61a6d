//! Announces of peers that are passed on, and budgets.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;

/// A tracker behind the bridge: takes down every request with its time, and answers with the address that it is told.
#[derive(Default)]
struct Behind {
    requests: Mutex<Vec<(Instant, String)>>,
    connections: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

impl Behind {
    async fn start(self: &Arc<Self>) -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind((V4, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        (address, tokio::spawn(self.clone().serve(listener)))
    }

    async fn serve(self: Arc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let connection = tokio::spawn(self.clone().connection(stream));
            self.connections.lock().unwrap().push(connection);
        }
    }

    async fn connection(self: Arc<Self>, mut stream: TcpStream) {
        let mut buffer = Vec::new();
        loop {
            while !buffer.ends_with(b"\r\n\r\n") {
                match stream.read_buf(&mut buffer).await {
                    Ok(read) if read > 0 => {}
                    _ => return,
                }
            }
            let request = String::from_utf8(std::mem::take(&mut buffer)).unwrap();
            self.requests.lock().unwrap().push((Instant::now(), request));
            let body = "d8:intervali900e12:min intervali300e10:tracker id2:id5:peers6:\x01\x02\x03\x04\x1b\x58e";
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            if stream.write_all((head + body).as_bytes()).await.is_err() {
                return;
            }
        }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|(_, request)| request.clone()).collect()
    }

    /// Ends as a tracker that is killed.
    fn stop(&self, serving: &tokio::task::JoinHandle<()>) {
        serving.abort();
        self.connections.lock().unwrap().drain(..).for_each(|connection| connection.abort());
    }
}

fn of_peer(ip: &str, event: PeerEvent) -> Request {
    Request::Announce(Announce {
        event,
        uploaded: 1,
        downloaded: 2,
        left: Some(3),
        num_want: Some(4),
        key: Some(0xAB),
        token: b"t&".to_vec(),
        ..Announce::new(
            Peer {
                id: (*b"-TR4000-abcdefghijkl").into(),
                endpoint: SocketAddr::new(ip.parse().unwrap(), 5000),
            },
            vec![Name::btih([1; 20])],
        )
    })
}

fn inline() -> ClientConfig {
    ClientConfig { inline: true, ..ClientConfig::default() }
}

/// The values of a header, its name in exactly this case.
fn header<'a>(request: &'a str, name: &str) -> Vec<&'a str> {
    request.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
}

#[tokio::test]
async fn a_peers_announce_reaches_the_tracker_as_the_peers_own() {
    let behind = Arc::new(Behind::default());
    let (address, _serving) = behind.start().await;
    let url = format!("http://{address}/announce?pass=x");
    let client = client_with(inline(), &[&[url]], &[("0.0.0.0".parse().unwrap(), 6881)]);
    for _ in 0..2 {
        let list = peers(&client, of_peer("9.8.7.6", PeerEvent::Started)).await;
        assert_eq!((list.peers.len(), list.token.as_slice()), (1, &b"id"[..]));
        assert_eq!((list.interval.as_secs(), list.min_interval.unwrap().as_secs()), (900, 300));
    }
    peers(&client, of_peer("9.8.7.6", PeerEvent::Stopped)).await;
    peers(&client, of_peer("2001:db8::1", PeerEvent::Regular)).await;
    peers(&client, of_peer("::ffff:9.8.7.5", PeerEvent::Regular)).await;
    let requests = behind.requests();
    // Nothing is answered from a memory, and nothing of one peer is told of another.
    assert_eq!(requests.len(), 5);
    let hash = "%01".repeat(20);
    let line = format!(
        "GET /announce?pass=x&info_hash={hash}&peer_id=-TR4000-abcdefghijkl&port=5000&uploaded=1&downloaded=2&left=3\
         &compact=1&no_peer_id=1&numwant=4&event=started&key=000000AB&trackerid=t%26 HTTP/1.1"
    );
    assert_eq!(requests[0].lines().next().unwrap(), line);
    assert!(requests[2].contains("&event=stopped&"));
    for (request, ip) in
        requests.iter().zip(["9.8.7.6", "9.8.7.6", "9.8.7.6", "2001:db8::1", "9.8.7.5"])
    {
        assert_eq!(header(request, "X-Forwarded-For"), [ip], "{request}");
        assert_eq!(request.to_lowercase().matches("x-forwarded-for").count(), 1);
        assert_eq!(header(request, "Host"), [address.to_string()]);
    }
    assert_eq!(behind.connections.lock().unwrap().len(), 1);
    assert!(client.memory().told(&[1; 20]).is_empty());
}

#[tokio::test]
async fn the_bridge_itself_is_told_by_its_specific_address_or_not_at_all() {
    let behind = Arc::new(Behind::default());
    let (address, _serving) = behind.start().await;
    let urls: &[&[String]] = &[&[http(address)]];
    let mine = own(&[Name::btih([1; 20])], PeerEvent::Started);
    let any = client_with(inline(), urls, &[("0.0.0.0".parse().unwrap(), 6881)]);
    let fault = ask(&any, mine.clone()).await.unwrap_err();
    assert!(fault.code == ErrorCode::Unsupported && fault.text.contains("specific"), "{fault}");
    let specific =
        client_with(inline(), urls, &[("203.0.113.9".parse().unwrap(), 6881), (V6, 6882)]);
    peers(&specific, mine).await;
    let query = Request::SwarmQuery(SwarmQuery { names: vec![Name::btih([1; 20])] });
    // An announce's answer is no scrape's; here it counts that it was asked with the header.
    assert_eq!(ask(&specific, query).await.unwrap_err().code, ErrorCode::BadAnswer);
    let mut told: Vec<_> = behind
        .requests()
        .iter()
        .map(|request| {
            let port = request.split("&port=").nth(1).map_or("", |rest| &rest[..4]).to_owned();
            (header(request, "X-Forwarded-For").join(","), port)
        })
        .collect();
    told.sort();
    let told: Vec<_> = told.iter().map(|(ip, port)| (ip.as_str(), port.as_str())).collect();
    assert_eq!(told, [("203.0.113.9", ""), ("203.0.113.9", "6881"), ("::1", "6882")]);
    let mut nameless = of_peer("9.8.7.6", PeerEvent::Started);
    if let Request::Announce(announce) = &mut nameless {
        announce.peer.id = p2pbridge_proto::PeerId::NONE;
    }
    assert_eq!(ask(&specific, nameless).await.unwrap_err().code, ErrorCode::Unsupported);
}

#[tokio::test]
async fn a_redirect_does_not_carry_a_peers_address_elsewhere() {
    let listener = TcpListener::bind((V4, 0)).await.unwrap();
    let url = http(listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        let to = "HTTP/1.1 302 X\r\nLocation: http://127.0.0.2:1/\r\nContent-Length: 0\r\n\r\n";
        stream.write_all(to.as_bytes()).await.unwrap();
    });
    let client = client_with(inline(), &[&[url]], &[(V4, 6881)]);
    let fault = ask(&client, of_peer("9.8.7.6", PeerEvent::Started)).await.unwrap_err();
    assert!(fault.code == ErrorCode::BadAnswer && fault.text.contains("another"), "{fault}");
}

#[tokio::test(start_paused = true)]
async fn a_tracker_that_comes_back_is_found_within_fifteen_seconds() {
    let behind = Arc::new(Behind::default());
    let (address, serving) = behind.start().await;
    let client = client_with(inline(), &[&[http(address)]], &[(V4, 6881)]);
    peers(&client, of_peer("9.8.7.6", PeerEvent::Started)).await;
    behind.stop(&serving);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(120) {
        let fault = ask(&client, of_peer("9.8.7.6", PeerEvent::Regular)).await.unwrap_err();
        assert_eq!(fault.code, ErrorCode::Unavailable);
        tokio::time::advance(Duration::from_millis(500)).await;
    }
    let health = &client.health()[0];
    assert!(health.consecutive_failures > 5 && health.answered.unwrap() < 0.8, "{health:?}");
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(behind.clone().serve(listener));
    let back = Instant::now();
    while ask(&client, of_peer("9.8.7.6", PeerEvent::Regular)).await.is_err() {
        assert!(back.elapsed() <= Duration::from_secs(16));
        tokio::time::advance(Duration::from_millis(500)).await;
    }
    assert_eq!(client.health()[0].rests_for, None);
}

#[tokio::test]
async fn a_flood_stays_within_the_budget_and_says_so() {
    let behind = Arc::new(Behind::default());
    let (address, _serving) = behind.start().await;
    let budget = Budget { per_second: 10, in_flight: 4 };
    let client = client_with(ClientConfig { budget, ..inline() }, &[&[http(address)]], &[(V4, 1)]);
    let deadline = Instant::now() + Duration::from_millis(2500);
    let each = (0..3000u32).map(|number| {
        let ip = std::net::Ipv4Addr::from(0x0A00_0000 + number);
        client.call(of_peer(&ip.to_string(), PeerEvent::Started), deadline)
    });
    let results = join_all(each).await;
    let answered = results.iter().filter(|result| result.is_ok()).count();
    assert!((10..=25).contains(&answered), "{answered}");
    for fault in results.into_iter().filter_map(Result::err) {
        assert_eq!(fault.code, ErrorCode::Overloaded);
        assert!(fault.retry_after.unwrap() >= Duration::from_secs(1));
    }
    let times: Vec<_> = behind.requests.lock().unwrap().iter().map(|(time, _)| *time).collect();
    for (at, time) in times.iter().enumerate() {
        let second = times[at..].iter().filter(|other| **other - *time < Duration::from_secs(1));
        assert!(second.count() <= 10, "{times:?}");
    }
    let health = &client.health()[0];
    assert_eq!((health.budget, health.sent), (budget, times.len() as u64));
    assert_eq!(health.shed, 3000 - answered as u64);
    // It is not the tracker's fault.
    assert_eq!((health.answered, health.consecutive_failures), (Some(1.0), 0));
    assert_eq!((health.rests_for, &health.last_error), (None, &None));
    assert!(behind.connections.lock().unwrap().len() <= 4);
}

#[tokio::test]
async fn what_one_tracker_may_not_be_asked_another_of_the_tier_is() {
    let (one, two) = (Arc::new(Behind::default()), Arc::new(Behind::default()));
    let ((first, _a), (second, _b)) = (one.start().await, two.start().await);
    let config = ClientConfig { budget: Budget { per_second: 1, in_flight: 1 }, ..inline() };
    let client = client_with(config, &[&[http(first), http(second)]], &[(V4, 1)]);
    let soon = || Instant::now() + Duration::from_millis(400);
    for _ in 0..2 {
        assert!(client.call(of_peer("9.8.7.6", PeerEvent::Started), soon()).await.is_ok());
    }
    let shed = client.call(of_peer("9.8.7.6", PeerEvent::Started), soon()).await.unwrap_err();
    assert_eq!(shed.code, ErrorCode::Overloaded);
    assert_eq!((one.requests().len(), two.requests().len()), (1, 1));
}
