use std::net::Ipv4Addr;

use p2pbridge_proto::{Name, Peer, PeerList, Request, SwarmStat};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinHandle,
};

use super::*;
use crate::Answer;
use crate::bittorrent::wire::http::{RetryIn, parse_announce, parse_scrape};

/// Answers by what the first byte of the info-hash says.
struct Scripted;

impl Handler for Scripted {
    fn handle(&self, asked: Asked<'_>, request: Request) -> Answer {
        assert_eq!(asked.overlay.as_str(), "t");
        let name = request.names()[0];
        Answer::Now(match (name.digest()[0], request) {
            (1, Request::Announce(announce)) => Ok(Reply::Peers(PeerList {
                peers: vec![announce.peer, Peer::at("[::1]:9".parse().unwrap())],
                interval: Duration::from_secs(60),
                seeders: Some(1),
                ..PeerList::default()
            })),
            (1, Request::SwarmQuery(_)) => Ok(Reply::Swarms(vec![SwarmStat {
                name,
                seeders: 1,
                leechers: 2,
                completed: Some(3),
            }])),
            (2, _) => Err(Fault::new(ErrorCode::Overloaded, "too much at once")),
            _ => Err(Fault::new(ErrorCode::UnknownName, "not served here")),
        })
    }
}

fn start() -> (SocketAddr, CancellationToken, JoinHandle<()>) {
    let http = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    let config = ServerConfig { http, ..ServerConfig::default() };
    let server = BtTrackerServer::bind(&"t".parse().unwrap(), &config).unwrap();
    let (address, stop) = (server.endpoints()[0], CancellationToken::new());
    (address, stop.clone(), tokio::spawn(server.serve(Arc::new(Scripted), stop)))
}

async fn get(address: SocketAddr, path: &str) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    let at = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..at]).into_owned();
    (head.lines().next().unwrap().to_owned(), answer[at + 4..].to_vec())
}

fn announce(first: u8, more: &str) -> String {
    let hash = format!("%{first:02x}{}", "a".repeat(19));
    format!("/announce?info_hash={hash}&peer_id={}&port=7000&left=0{more}", "p".repeat(20))
}

#[tokio::test]
async fn answers_announces_and_scrapes() {
    let (address, stop, server) = start();
    let (status, body) = get(address, &announce(1, "")).await;
    let response = parse_announce(&body).unwrap().unwrap();
    assert_eq!(status, "HTTP/1.1 200 OK");
    let endpoints: Vec<_> = response.peers.iter().map(|p| p.endpoint.to_string()).collect();
    assert_eq!(endpoints, ["127.0.0.1:7000", "[::1]:9"]);
    assert_eq!(response.external_ip, Some(Ipv4Addr::LOCALHOST.into()));
    let (_, body) = get(address, &announce(1, "&compact=0&ip=9.9.9.9")).await;
    let response = parse_announce(&body).unwrap().unwrap();
    assert_eq!(response.peers[0].id.as_bytes(), b"p".repeat(20));
    let (_, body) = get(address, &announce(1, "").replace("announce", "scrape")).await;
    let swarms = parse_scrape(&body).unwrap().unwrap();
    assert_eq!((swarms[0].1.complete, swarms[0].1.downloaded), (1, Some(3)));
    assert_eq!(Name::btih(swarms[0].0).digest()[0], 1);
    stop.cancel();
    timeout(Duration::from_secs(5), server).await.unwrap().unwrap();
}

#[tokio::test]
async fn refuses_in_the_protocols_own_words() {
    let (address, _stop, _server) = start();
    let failure = async |path: &str| {
        let (status, body) = get(address, path).await;
        assert_eq!(status, "HTTP/1.1 200 OK");
        parse_announce(&body).unwrap().unwrap_err()
    };
    let shed = failure(&announce(2, "")).await;
    assert_eq!(shed.retry_in, Some(RetryIn::After(Duration::from_secs(60))));
    assert_eq!(failure(&announce(3, "")).await.reason, "not served here");
    assert_eq!(failure("/announce").await.reason, "`info_hash` is missing");
    assert_eq!(failure("/scrape").await.reason, "`info_hash` is missing");
    assert!(get(address, "/").await.0.contains("404"));
    assert!(
        get(address, &announce(1, &format!("&x={}", "y".repeat(5000)))).await.0.contains("414")
    );
    assert!(get(address, &"y".repeat(20_000)).await.0.contains("4"));
}
