use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use p2pbridge_proto::{Find, Peer, Scheme, SwarmQuery};
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    Handler, Host, TrackerServer,
    bittorrent::{
        tracker_server::{BtTrackerServer, ServerConfig},
        wire::{
            http::{AnnounceResponse, SwarmCounts},
            udp::{UdpRequest, UdpResponse},
        },
    },
};

#[path = "tracker_client/inline_tests.rs"]
mod inline;
#[path = "tracker_client/neighbours_tests.rs"]
mod neighbours;

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// A tracker's handler that takes down what it is asked.
#[derive(Default)]
struct Swarm {
    asked: Mutex<Vec<Request>>,
}

impl Swarm {
    fn announces(&self) -> Vec<Announce> {
        let announce = |request: &Request| match request {
            Request::Announce(announce) => Some(announce.clone()),
            _ => None,
        };
        self.asked.lock().unwrap().iter().filter_map(announce).collect()
    }

    fn start(self: &Arc<Self>, ip: IpAddr) -> SocketAddr {
        let overlay = "t".parse().unwrap();
        let config = ServerConfig {
            http: vec![SocketAddr::new(ip, 0)],
            workers: 1,
            ..ServerConfig::default()
        };
        let server = BtTrackerServer::bind(&overlay, &config).unwrap();
        let address = server.endpoints()[0];
        tokio::spawn(server.serve(self.clone(), CancellationToken::new()));
        address
    }
}

impl Handler for Swarm {
    fn handle(&self, _: crate::Asked<'_>, request: Request) -> crate::Answer {
        self.asked.lock().unwrap().push(request.clone());
        if request.names()[0].digest()[0] == 0xFF {
            return crate::Answer::Now(Err(Fault::new(
                ErrorCode::UnknownName,
                "not registered here",
            )));
        }
        crate::Answer::Now(Ok(match request {
            Request::SwarmQuery(query) => Reply::Swarms(
                query
                    .names
                    .into_iter()
                    .map(|name| SwarmStat { name, seeders: 3, leechers: 4, completed: None })
                    .collect(),
            ),
            _ => Reply::Peers(PeerList {
                peers: vec![Peer::at(([127, 0, 0, 1], 7000).into())],
                interval: Duration::from_secs(1000),
                min_interval: Some(Duration::from_secs(500)),
                seeders: Some(1),
                leechers: Some(0),
                ..PeerList::default()
            }),
        }))
    }
}

fn client(tiers: &[&[String]], listen: &[(IpAddr, u16)]) -> Arc<BtTrackerClient> {
    client_with(ClientConfig::default(), tiers, listen)
}

fn client_with(
    config: ClientConfig,
    tiers: &[&[String]],
    listen: &[(IpAddr, u16)],
) -> Arc<BtTrackerClient> {
    let identity = Identity::new(&Host { mark: *b"abcdef" });
    let listen: Vec<_> = listen.iter().map(|(ip, port)| SocketAddr::new(*ip, *port)).collect();
    let tier = |tier: &&[String]| tier.iter().map(|url| url.parse().unwrap()).collect();
    let tiers = tiers.iter().map(tier).collect();
    BtTrackerClient::new(&ClientConfig { tiers, ..config }, &identity, &listen, &Arc::default())
}

fn own(names: &[Name], event: PeerEvent) -> Request {
    Request::Announce(Announce {
        event,
        left: Some(0),
        ..Announce::new(Peer::at(ourselves()), names.to_vec())
    })
}

async fn ask(client: &BtTrackerClient, request: Request) -> Result<Reply, Fault> {
    client.call(request, Instant::now() + Duration::from_secs(10)).await
}

async fn peers(client: &BtTrackerClient, request: Request) -> PeerList {
    match ask(client, request).await.unwrap() {
        Reply::Peers(list) => list,
        other => panic!("{other:?}"),
    }
}

async fn closed_port() -> u16 {
    TcpListener::bind((V4, 0)).await.unwrap().local_addr().unwrap().port()
}

fn http(address: SocketAddr) -> String {
    format!("http://{address}/announce")
}

#[tokio::test]
async fn announces_the_bridge_and_keeps_the_min_interval() {
    let swarm = Arc::new(Swarm::default());
    let client = client(&[&[http(swarm.start(V4))]], &[(V4, 6881), (V6, 6882)]);
    let name = Name::btih([1; 20]);
    let list = peers(&client, own(&[name], PeerEvent::Started)).await;
    assert_eq!((list.peers.len(), list.interval.as_secs(), list.seeders), (1, 1000, Some(1)));
    let again = peers(&client, own(&[name], PeerEvent::Regular)).await;
    assert!(again.interval <= list.interval && again.peers == list.peers);
    let find = Request::Find(Find::new(vec![name]));
    assert_eq!(peers(&client, find).await.peers, list.peers);
    assert_eq!(swarm.announces().len(), 1);
    peers(&client, own(&[name], PeerEvent::Completed)).await;
    peers(&client, own(&[name], PeerEvent::Stopped)).await;
    peers(&client, own(&[name], PeerEvent::Stopped)).await;
    let announces = swarm.announces();
    let events: Vec<_> = announces.iter().map(|announce| announce.event).collect();
    assert_eq!(events, [PeerEvent::Started, PeerEvent::Completed, PeerEvent::Stopped]);
    assert!(announces[0].peer.id.as_bytes().starts_with(b"-PB0100-abcdef"));
    assert_eq!(announces[0].peer.endpoint, SocketAddr::new(V4, 6881));
    let find = Request::Find(Find { num_want: Some(9), ..Find::new(vec![name]) });
    peers(&client, find).await;
    let last = swarm.announces().pop().unwrap();
    assert_eq!((last.left, last.num_want, last.event), (Some(1), Some(9), PeerEvent::Regular));
}

#[tokio::test]
async fn both_names_of_a_hybrid_are_announced_in_the_trackers_family() {
    let swarm = Arc::new(Swarm::default());
    let client = client(&[&[http(swarm.start(V6))]], &[(V4, 6881), (V6, 6882)]);
    let v2 = Name::with_32(Scheme::Btmh, [2; 32]).unwrap();
    let names = [Name::btih([1; 20]), v2, Name::btih([2; 20])];
    assert_eq!(peers(&client, own(&names, PeerEvent::Started)).await.peers.len(), 1);
    let announces = swarm.announces();
    assert_eq!(announces.len(), 2);
    assert!(announces.iter().all(|a| a.peer.endpoint == SocketAddr::new(V6, 6882)));
    let Ok(Reply::Swarms(swarms)) =
        ask(&client, Request::SwarmQuery(SwarmQuery { names: vec![v2] })).await
    else {
        panic!("no swarms");
    };
    assert_eq!((swarms[0].name, swarms[0].seeders, swarms[0].leechers), (v2, 3, 4));
}

#[tokio::test]
async fn the_tracker_that_answers_moves_to_the_front_of_its_tier() {
    let (dead, swarm) = (closed_port().await, Arc::new(Swarm::default()));
    let dead = format!("http://127.0.0.1:{dead}/announce");
    let alive = http(swarm.start(V4));
    let client =
        client(&[std::slice::from_ref(&dead), &[dead.clone(), alive.clone()]], &[(V4, 6881)]);
    peers(&client, own(&[Name::btih([1; 20])], PeerEvent::Started)).await;
    let health = client.health();
    let failures: Vec<_> = health.iter().map(|tracker| tracker.consecutive_failures).collect();
    assert_eq!(failures, [1, 1, 0]);
    assert!(health[0].last_error.as_ref().unwrap().contains("refused"), "{:?}", health[0]);
    assert!(health[2].last_answer.is_some() && health[2].url == alive);
    let tiers = client.tiers.lock().unwrap();
    assert_eq!(tiers[1].iter().map(|tracker| tracker.id).collect::<Vec<_>>(), [2, 1]);
}

#[tokio::test]
async fn a_refusal_is_an_answer_and_a_dead_tracker_is_left_alone() {
    let swarm = Arc::new(Swarm::default());
    let alive = client(&[&[http(swarm.start(V4))]], &[(V4, 6881)]);
    let unknown = own(&[Name::btih([0xFF; 20])], PeerEvent::Started);
    let fault = ask(&alive, unknown).await.unwrap_err();
    assert_eq!((fault.code, fault.text.as_str()), (ErrorCode::UnknownName, "not registered here"));
    assert_eq!(alive.health()[0].consecutive_failures, 0);
    let dead =
        client(&[&[format!("http://127.0.0.1:{}/announce", closed_port().await)]], &[(V4, 1)]);
    let name = [Name::btih([1; 20])];
    assert_eq!(ask(&dead, own(&name, PeerEvent::Started)).await.unwrap_err().retry_after, None);
    let fault = ask(&dead, own(&name, PeerEvent::Started)).await.unwrap_err();
    assert!(fault.text.contains("left alone") && fault.retry_after.is_some(), "{fault:?}");
    let other_family = client(&[&[http(([127, 0, 0, 1], 1).into())]], &[(V6, 1)]);
    let fault = ask(&other_family, own(&name, PeerEvent::Started)).await.unwrap_err();
    assert!(fault.text.contains("family"), "{fault}");
    let mut foreign = own(&name, PeerEvent::Started);
    if let Request::Announce(announce) = &mut foreign {
        announce.peer.endpoint = ([9, 9, 9, 9], 1).into();
    }
    assert_eq!(ask(&dead, foreign).await.unwrap_err().code, ErrorCode::Unsupported);
}

/// A UDP tracker that drops the first packet, then answers; each announce is preceded by junk.
async fn udp_tracker(socket: UdpSocket, seen: Arc<Mutex<Vec<UdpRequest>>>) {
    let mut packet = [0; 2048];
    let mut connection = 1;
    for number in 0.. {
        let (length, from) = socket.recv_from(&mut packet).await.unwrap();
        let request = UdpRequest::decode(&packet[..length]).unwrap();
        seen.lock().unwrap().push(request.clone());
        let response = match request {
            _ if number == 0 => continue,
            UdpRequest::Connect { transaction } => {
                connection += 1;
                UdpResponse::Connect { transaction, connection }
            }
            UdpRequest::Announce { transaction, connection: given, .. } if given != connection => {
                UdpResponse::Error { transaction, message: "connection id unknown".into() }
            }
            UdpRequest::Announce { transaction, announce, .. } => {
                socket.send_to(b"junk", from).await.unwrap();
                let other = UdpResponse::Error { transaction: !transaction, message: "no".into() };
                socket.send_to(&other.encode(false), from).await.unwrap();
                if announce.info_hash[0] == 0xFF {
                    socket
                        .send_to(&[&[0, 0, 0, 1], &transaction.to_be_bytes()[..]].concat(), from)
                        .await
                        .unwrap();
                    continue;
                }
                let response = AnnounceResponse {
                    interval: Duration::from_secs(60),
                    peers: vec![Peer::at(([127, 0, 0, 1], announce.port).into())],
                    ..AnnounceResponse::default()
                };
                // From here on the connection id is forgotten.
                connection += 1;
                UdpResponse::Announce { transaction, response }
            }
            UdpRequest::Scrape { transaction, info_hashes, .. } => UdpResponse::Scrape {
                transaction,
                swarms: vec![
                    SwarmCounts { complete: 5, ..SwarmCounts::default() };
                    info_hashes.len()
                ],
            },
        };
        socket.send_to(&response.encode(false), from).await.unwrap();
    }
}

#[tokio::test]
async fn udp_survives_loss_junk_and_a_forgotten_connection() {
    let socket = UdpSocket::bind((V4, 0)).await.unwrap();
    let url = format!("udp://{}/announce?key=1", socket.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    tokio::spawn(udp_tracker(socket, seen.clone()));
    let client = client(&[&[url]], &[(V4, 6881)]);
    for first in [1, 2] {
        let list = peers(&client, own(&[Name::btih([first; 20])], PeerEvent::Started)).await;
        assert_eq!(list.peers, [Peer::at(([127, 0, 0, 1], 6881).into())]);
    }
    let fault = ask(&client, own(&[Name::btih([0xFF; 20])], PeerEvent::Started)).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::UnknownName);
    let names: Vec<_> = (0..200u8).map(|n| Name::btih([n; 20])).collect();
    let Ok(Reply::Swarms(swarms)) = ask(&client, Request::SwarmQuery(SwarmQuery { names })).await
    else {
        panic!("no swarms");
    };
    assert_eq!((swarms.len(), swarms[199].seeders), (200, 5));
    let seen = seen.lock().unwrap();
    let urls: Vec<_> = seen
        .iter()
        .filter_map(|request| match request {
            UdpRequest::Announce { url_data, .. } => Some(url_data.as_str()),
            _ => None,
        })
        .collect();
    assert!(urls.len() >= 3 && urls.iter().all(|url| *url == "/announce?key=1"), "{urls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_tracker_costs_the_deadline_and_no_more() {
    let socket = UdpSocket::bind((V4, 0)).await.unwrap();
    let client = client(&[&[format!("udp://{}", socket.local_addr().unwrap())]], &[(V4, 6881)]);
    let start = Instant::now();
    let fault = ask(&client, own(&[Name::btih([1; 20])], PeerEvent::Started)).await.unwrap_err();
    assert_eq!((fault.code, fault.text.as_str()), (ErrorCode::Unavailable, "no answer in time"));
    assert_eq!(start.elapsed().as_secs(), 10);
    // 1 s, 2 s, 4 s, and what is left.
    let mut packets = 0;
    while socket.try_recv(&mut [0; 99]).is_ok() {
        packets += 1;
    }
    assert_eq!(packets, 4);
}
