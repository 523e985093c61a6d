use p2pbridge_proto::{Name, Peer, PeerEvent, Query, Request, SearchHit};

use tokio::io::AsyncReadExt as _;

use super::{testing::*, *};
use crate::ed2k::wire::{
    Packet, Protocol,
    agreement::{PUBLIC, Secret},
    obfuscation::Ciphers,
    search::Expression,
    server::{ClientMessage, FileRecord, FoundSources, Holder, ServerMessage, Wanted},
    udp::{ClientDatagram, Description, SearchOptions, ServerDatagram},
};

fn wanted(file: u8) -> Wanted {
    Wanted { hash: hash(file), size: Some(7) }
}

async fn sources(raw: &mut Raw, message: ClientMessage) -> FoundSources {
    match raw.ask(&message).await {
        ServerMessage::FoundSources(found) | ServerMessage::FoundSourcesObfuscated(found) => found,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_can_be_reached_gets_a_high_id_and_others_a_low_one() {
    let running = Running::start();
    let (_high, listening) = running.high(1, 0x119).await;
    let mut low = running.connect().await;
    low.login(2, 9, 0x119).await;
    let change = match low.hear().await {
        ServerMessage::IdChange(change) => change,
        other => panic!("{other:?}"),
    };
    assert!(change.id > 0 && change.id < 1 << 24, "{change:?}");
    assert_eq!((change.flags, change.seen), (Some(FLAGS), Some(Ipv4Addr::LOCALHOST)));
    assert_eq!(change.port, Some(running.tcp().port().into()));
    assert_eq!(low.hear().await, ServerMessage::Message("welcome".to_owned()));
    assert!(matches!(low.hear().await, ServerMessage::Message(text) if text.contains("low id")));
    let ServerMessage::Ident(ident) = low.hear().await else { panic!("no ident") };
    assert_eq!(ident.name(), Some("P2P-Bridge"));
    assert_eq!(low.hear().await, ServerMessage::Status { users: 2, files: 0 });
    // At the port of another user nobody is reached either.
    let mut other = running.connect().await;
    other.login(3, listening.port, 0x119).await;
    assert!(other.welcomed().await.id < 1 << 24);
    assert_eq!(running.counts().sessions, Some(3));
    running.end().await;
}

#[tokio::test]
async fn a_connection_may_be_obfuscated() {
    let running = Running::start();
    let secret = Secret::new([7; 16]);
    let mut client = running.connect().await;
    client.send(&[&[0x11][..], &secret.public(), &[2, 9, 9]].concat()).await;
    let mut public = [0; PUBLIC];
    client.stream.read_exact(&mut public).await.unwrap();
    let mut ciphers = Ciphers::of_client(&secret.shared(&public).unwrap());
    let mut offer = [0; 7];
    client.stream.read_exact(&mut offer).await.unwrap();
    ciphers.receive.apply(&mut offer);
    assert_eq!(offer[..6], [0xC4, 0x6F, 0x5E, 0x83, 0, 0]);
    let mut padding = vec![0; offer[6].into()];
    client.stream.read_exact(&mut padding).await.unwrap();
    ciphers.receive.apply(&mut padding);
    // The answer goes with the first message.
    let login = Login { user: hash(1), id: 0, port: 9, tags: Vec::new() };
    let mut login = ClientMessage::Login(login).to_packet(false).to_bytes();
    let answer = ciphers.answer(b"padded");
    ciphers.send.apply(&mut login);
    client.send(&[answer, login].concat()).await;
    let mut head = [0; 10];
    client.stream.read_exact(&mut head).await.unwrap();
    ciphers.receive.apply(&mut head);
    assert_eq!((head[0], head[5]), (0xE3, 0x40), "an id");
    until("it is logged in", || running.server.status().0 == 1).await;
    let mut nonsense = running.connect().await;
    nonsense.send(&[&[0x11; 97][..], &[0; 41]].concat()).await;
    nonsense.ends_obscurely().await;
    let plain = Running::with(ServerConfig { obfuscation: false, ..ServerConfig::default() });
    let mut client = plain.connect().await;
    client.send(&[0x11]).await;
    client.ends().await;
    plain.end().await;
    running.end().await;
}

#[tokio::test]
async fn offers_are_announced_while_a_client_stays() {
    let running = Running::start();
    let (mut client, listening) = running.high(1, 0x119).await;
    client.offer(&[7, 8]).await;
    client.offer(&[]).await;
    client.settled().await;
    let announces = running.handler.of(7);
    assert_eq!(announces.len(), 1);
    let announce = &announces[0];
    assert_eq!((announce.peer.endpoint, announce.left), (listening.at(), Some(0)));
    assert_eq!((announce.title.as_str(), announce.length), ("film.avi", Some(7)));
    assert_eq!(running.server.status(), (1, 2));
    drop(client);
    until("it has left", || running.server.status() == (0, 0)).await;
    assert!(running.handler.of(7).is_empty() && running.handler.of(8).is_empty());
    running.end().await;
}

#[tokio::test]
async fn packed_offers_are_taken_and_what_is_over_the_bounds_is_told() {
    let running =
        Running::with(ServerConfig { max_files_per_client: 3, ..ServerConfig::default() });
    let (mut client, _listening) = running.high(1, 0x119).await;
    let record = |file: u8| FileRecord::new(hash(file), Holder::Incomplete, "a film", 7);
    let offer = ClientMessage::Offer((10..15).map(record).collect());
    let mut bytes = Vec::new();
    offer.to_packet(false).put_packed(&mut bytes);
    assert_eq!(bytes[0], 0xD4);
    client.send(&bytes).await;
    let ServerMessage::Message(text) = client.hear().await else { panic!("no message") };
    assert!(text.contains("only 3 of your files"), "{text}");
    client.offer(&[20]).await;
    client.settled().await;
    assert_eq!(running.server.status(), (1, 3));
    assert_eq!(running.handler.of(10)[0].left, Some(1));
    // What the handler has no room for stays offered, for next time.
    let (mut other, _listening) = running.high(2, 0x119).await;
    other.offer(&[SHED]).await;
    other.settled().await;
    assert_eq!((running.counts().refused, running.counts().malformed), (2, 0));
    running.end().await;
}

#[tokio::test]
async fn sources_are_those_that_the_asker_can_use() {
    let running = Running::start();
    let (mut asker, here) = running.high(1, 0x319).await;
    let (mut other, there) = running.high(2, 0x719).await;
    let mut low = running.low(3).await;
    for client in [&mut asker, &mut other, &mut low] {
        client.offer(&[7, LATER]).await;
        client.settled().await;
    }
    // The bridge itself, a number of another server, and what is no address.
    let own = running.hub.endpoints()[0];
    for at in [own, "9.0.0.0:1".parse().unwrap(), "0.0.0.0:0".parse().unwrap()] {
        running.handler.more.lock().unwrap().push(Peer::at(at));
    }
    let found = sources(&mut asker, ClientMessage::GetSources(wanted(7))).await;
    let low_id = running.handler.of(7)[2].peer.endpoint;
    let endpoints = |found: &FoundSources| -> Vec<SocketAddr> {
        found.sources.iter().map(|source| source.id.endpoint(source.port)).collect()
    };
    assert_eq!(endpoints(&found), [there.at(), low_id, own]);
    assert!(ClientId::of(low_id).unwrap().is_low());
    let found = sources(&mut asker, ClientMessage::GetSourcesObfuscated(wanted(LATER))).await;
    assert_eq!(endpoints(&found), [there.at(), low_id, own]);
    let crypt: Vec<_> = found.sources.iter().map(|source| source.crypt).collect();
    assert_eq!(crypt[0], Crypt { options: 3, user: Some(hash(2)) });
    assert_eq!(crypt[1], Crypt::default());
    assert_eq!((crypt[2].options, crypt[2].user.is_some()), (1, true));
    let found = sources(&mut low, ClientMessage::GetSources(wanted(7))).await;
    assert_eq!(endpoints(&found), [here.at(), there.at(), own], "none that it would have to call");
    let found = sources(&mut low, ClientMessage::GetSources(wanted(99))).await;
    assert_eq!(endpoints(&found), [own]);
    let find = {
        let asked = running.handler.asked.lock().unwrap();
        asked.iter().rev().find_map(|(hops, request)| match request {
            Request::Find(find) => Some((*hops, find.length)),
            _ => None,
        })
    };
    assert_eq!(find, Some((Asked::ALL, Some(7))));
    running.end().await;
}

#[tokio::test]
async fn a_question_of_another_bridge_does_not_go_in_circles() {
    let running = Running::start();
    let mut bridge = running.connect().await;
    let tags = vec![Tag::text(login_tag::PROGRAM, crate::ed2k::identity::PROGRAM)];
    bridge.say(&ClientMessage::Login(Login { user: hash(1), id: 0, port: 9, tags })).await;
    bridge.welcomed().await;
    sources(&mut bridge, ClientMessage::GetSources(wanted(7))).await;
    assert_eq!(running.handler.asked.lock().unwrap()[0].0, Asked::PASS_ON);
    running.end().await;
}

#[tokio::test]
async fn clients_with_a_low_id_are_called() {
    let running = Running::start();
    let (mut asker, here) = running.high(1, 0x319).await;
    let mut low = running.low(2).await;
    low.offer(&[7]).await;
    low.settled().await;
    let id = ClientId::of(running.handler.of(7)[0].peer.endpoint).unwrap();
    asker.say(&ClientMessage::Callback(id)).await;
    match low.hear().await {
        ServerMessage::CallbackRequested(asked) => {
            assert_eq!((SocketAddr::from(asked.client), asked.crypt), (here.at(), None));
        }
        other => panic!("{other:?}"),
    }
    let nobody = ClientMessage::Callback(ClientId::Low(id.number() + 1));
    assert_eq!(asker.ask(&nobody).await, ServerMessage::CallbackFailed);
    assert_eq!(low.ask(&ClientMessage::Callback(id)).await, ServerMessage::CallbackFailed);
    // The bridge itself.
    running.server.call_back(id.number()).await.unwrap();
    match low.hear().await {
        ServerMessage::CallbackRequested(asked) => {
            assert_eq!(SocketAddr::from(asked.client), running.hub.endpoints()[0]);
        }
        other => panic!("{other:?}"),
    }
    let error = running.server.call_back(id.number() + 1).await.unwrap_err();
    assert!(error.contains("no client with id"), "{error}");
    running.end().await;
}

#[tokio::test]
async fn a_search_is_answered_in_portions() {
    let running = Running::start();
    let mut client = running.low(1).await;
    let hit = |number: u16| SearchHit {
        names: vec![Name::ed2k([number.to_le_bytes()[0]; 16])],
        title: format!("film {number}.avi"),
        length: 7 << 32,
        sources: 3,
        complete_sources: 2,
    };
    *running.handler.hits.lock().unwrap() = (0..450).map(hit).collect();
    let search = ClientMessage::Search(Expression::Words("film".to_owned()));
    let mut seen = Vec::new();
    for (message, count) in
        [(search, 200), (ClientMessage::MoreResults, 200), (ClientMessage::MoreResults, 50)]
    {
        client.say(&message).await;
        let packet = client.packet().await.unwrap();
        assert!(packet.packed, "it reads compressed messages");
        let Ok(ServerMessage::SearchResult(answer)) =
            crate::ed2k::wire::server::decode_from_server(&packet)
        else {
            panic!("no result");
        };
        assert_eq!((answer.files.len(), answer.more), (count, Some(seen.len() + count < 450)));
        assert_eq!(answer.files[0].size(), Some(7 << 32));
        seen.extend(answer.files.iter().filter_map(|file| file.name().map(str::to_owned)));
    }
    assert_eq!(
        (seen.len(), seen[0].as_str(), seen[449].as_str()),
        (450, "film 0.avi", "film 449.avi")
    );
    let (hops, asked) = running.handler.asked.lock().unwrap().last().cloned().unwrap();
    let Request::Search(asked) = asked else { panic!("no search") };
    assert_eq!((hops, asked.query), (Asked::ALL, Query::Words("film".to_owned())));
    // One that says nothing is answered too.
    client.say(&ClientMessage::Search(Expression::Words("*".to_owned()))).await;
    assert!(
        matches!(client.hear().await, ServerMessage::Message(text) if text.starts_with("ERROR"))
    );
    assert!(
        matches!(client.hear().await, ServerMessage::SearchResult(answer) if answer.files.is_empty())
    );
    running.end().await;
}

#[tokio::test]
async fn who_logs_in_again_takes_the_place_of_the_session_before() {
    let running = Running::start();
    let (mut first, listening) = running.high(1, 0x119).await;
    first.offer(&[7]).await;
    first.settled().await;
    let mut again = running.connect().await;
    again.login(1, listening.port, 0x119).await;
    assert_eq!(again.welcomed().await.id, u32::from_le_bytes([127, 0, 0, 1]));
    assert!(running.handler.of(7).is_empty(), "taken back before it is offered again");
    again.offer(&[7]).await;
    again.settled().await;
    first.ends().await;
    assert_eq!(running.handler.of(7).len(), 1);
    assert_eq!(running.server.status(), (1, 1));
    running.end().await;
}

#[tokio::test]
async fn what_is_no_login_ends_the_connection() {
    // Where obfuscation is taken, what begins as nothing else may become that, until the time for logging in is over.
    let running = Running::with(ServerConfig { obfuscation: false, ..ServerConfig::default() });
    let get_list = ClientMessage::GetServerList.to_packet(true).to_bytes();
    let cut_login = Packet::new(Protocol::EDonkey, 0x01, vec![1; 20]).to_bytes();
    let bad_tag = {
        let mut payload = vec![1; 22];
        payload.extend_from_slice(&[1, 0, 0, 0, 0x7F, 1, 0, 1]);
        Packet::new(Protocol::EDonkey, 0x01, payload).to_bytes()
    };
    let bomb = {
        let zeros = crate::ed2k::wire::packet::deflate(&vec![0; 1 << 20]).unwrap();
        let mut bomb = Vec::new();
        crate::ed2k::wire::packet::put_header(&mut bomb, 0xD4, 0x01, zeros.len());
        bomb.extend_from_slice(&zeros);
        bomb
    };
    let long = [0xE3, 0xFF, 0xFF, 0xFF, 0x7F, 0x01];
    for bytes in [&get_list, &cut_login, &bad_tag, &bomb, &long[..], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut raw = running.connect().await;
        raw.send(bytes).await;
        raw.ends().await;
    }
    let counts = running.counts();
    assert_eq!((counts.malformed, counts.answered, counts.sessions), (6, 0, Some(0)));
    running.end().await;
}

#[tokio::test]
async fn messages_that_are_not_understood_are_rejected_and_too_many_end_the_session() {
    let running = Running::start();
    let mut client = running.low(1).await;
    // Cut, with wrong counts, with a bad tag.
    let bad_offer = [&[1, 0, 0, 0][..], &[7; 22], &[1, 0, 0, 0, 0x7F]].concat();
    for (opcode, payload) in [
        (0x15, vec![0xFF; 40]),
        (0x15, bad_offer),
        (0x16, vec![0x00, 0x09]),
        (0x19, vec![1; 9]),
        (0x1C, vec![1]),
    ] {
        client.send(&Packet::new(Protocol::EDonkey, opcode, payload).to_bytes()).await;
        assert_eq!(client.hear().await, ServerMessage::Reject, "{opcode:#x}");
    }
    // What nobody knows is passed over.
    client.send(&Packet::new(Protocol::EDonkey, 0x77, vec![1]).to_bytes()).await;
    client.send(&Packet::new(Protocol::EMule, 0x01, vec![1]).to_bytes()).await;
    client.settled().await;
    assert_eq!(running.counts().malformed, 7);
    let again = ClientMessage::Login(Login { user: hash(1), id: 0, port: 1, tags: Vec::new() });
    assert_eq!(client.ask(&again).await, ServerMessage::Reject);
    for _ in 0..60 {
        if client
            .stream
            .try_write(&Packet::new(Protocol::EDonkey, 0x78, vec![]).to_bytes())
            .is_err()
        {
            break;
        }
    }
    client.ends().await;
    until("it has left", || running.server.status() == (0, 0)).await;
    running.end().await;
}

#[tokio::test]
async fn there_is_room_for_so_many_and_no_more() {
    let running = Running::with(ServerConfig { max_sessions: 1, ..ServerConfig::default() });
    let mut client = running.low(1).await;
    running.connect().await.ends().await;
    assert_eq!(running.counts().shed, 1);
    client.settled().await;
    running.end().await;
}

#[tokio::test]
async fn questions_over_udp_are_answered() {
    let running = Running::start();
    let (mut client, listening) = running.high(1, 0x119).await;
    let mut low = running.low(2).await;
    for client in [&mut client, &mut low] {
        client.offer(&[7, 8, LATER]).await;
        client.settled().await;
    }
    let ask = async |question: ClientDatagram| running.ask(&question.encode()).await;
    let Some(ServerDatagram::Status(status)) =
        ask(ClientDatagram::Status { challenge: Some(5) }).await
    else {
        panic!("no status");
    };
    assert_eq!((status.challenge, status.users, status.files), (5, 2, 6));
    let flags = UDP_FLAGS | udp_flags::TCP_OBFUSCATION;
    assert_eq!((status.flags, status.low_ids), (Some(flags), Some(1)));
    assert_eq!(status.obfuscation.unwrap().tcp_port, running.tcp().port());
    let challenge = 0x1234_F0FF;
    let description = ask(ClientDatagram::Description { challenge: Some(challenge) }).await;
    assert!(
        matches!(description, Some(ServerDatagram::Description(Description::Tags { challenge: 0x1234_F0FF, tags })) if tags.len() == 3)
    );
    let description = ask(ClientDatagram::Description { challenge: None }).await;
    assert!(matches!(description, Some(ServerDatagram::Description(Description::Texts { .. }))));
    let questions = [
        ClientDatagram::GetSources(vec![hash(7), hash(99), hash(8)]),
        ClientDatagram::GetSources2(vec![wanted(7), wanted(99), wanted(8)]),
        ClientDatagram::GetSources2(vec![wanted(LATER), wanted(8)]),
    ];
    for question in questions {
        let answered = running.ask_alone(&question.encode()).await;
        let ServerDatagram::FoundSources(found) = answered else { panic!("no sources") };
        assert_eq!(found.len(), 2);
        for file in found {
            let at: Vec<_> = file.sources.iter().map(|s| s.id.endpoint(s.port)).collect();
            assert_eq!(at, [listening.at()], "high ids only");
        }
    }
    assert_eq!(ask(ClientDatagram::GetSources(vec![hash(99)])).await, None);
    running.handler.hits.lock().unwrap().push(SearchHit {
        names: vec![Name::ed2k(hash(7))],
        title: "film.avi".to_owned(),
        length: 7,
        sources: 1,
        complete_sources: 1,
    });
    for options in [SearchOptions::First, SearchOptions::Third(Vec::new())] {
        let expression = Expression::Words("film".to_owned());
        let found = ask(ClientDatagram::Search { options, expression }).await;
        assert!(
            matches!(found, Some(ServerDatagram::SearchResult(files)) if files[0].name() == Some("film.avi"))
        );
    }
    running.end().await;
}

#[tokio::test]
async fn nobody_is_made_to_connect_to_a_third_one() {
    let running = Running::start();
    let mut low = running.low(2).await;
    low.offer(&[7]).await;
    low.settled().await;
    let id = ClientId::of(running.handler.of(7)[0].peer.endpoint).unwrap();
    let call = |client: &str, id| ClientDatagram::Callback { client: client.parse().unwrap(), id };
    let ask = async |question: ClientDatagram| running.ask(&question.encode()).await;
    let refused = Some(ServerDatagram::InvalidLowId(id));
    assert_eq!(ask(call("198.51.100.9:80", id)).await, refused);
    assert_eq!(ask(call("127.0.0.1:0", id)).await, refused);
    assert_eq!(ask(call("127.0.0.1:4662", id)).await, None);
    match low.hear().await {
        ServerMessage::CallbackRequested(asked) => assert_eq!(asked.client.port(), 4662),
        other => panic!("{other:?}"),
    }
    running.end().await;
}

#[tokio::test]
async fn datagrams_that_are_not_understood_are_not_answered() {
    let running = Running::start();
    for bad in [
        &b""[..],
        b"\xE3",
        b"\xE3\x9A\x01",
        b"\xE3\x94",
        b"\xE3\x77",
        b"\xC5\x96",
        b"\xE3\x92\x00\x00",
    ] {
        assert_eq!(running.ask(bad).await, None, "{bad:?}");
    }
    assert_eq!((running.counts().malformed, running.counts().answered), (7, 7));
    running.end().await;
}

#[tokio::test]
async fn offers_are_announced_again_before_they_are_forgotten() {
    let interval = Duration::from_secs(1);
    let running = Running::with(ServerConfig { interval, ..ServerConfig::default() });
    let mut client = running.low(1).await;
    client.offer(&[7]).await;
    client.settled().await;
    assert_eq!(running.handler.of(7)[0].event, PeerEvent::Started);
    until("it is announced again", || running.handler.of(7)[0].event == PeerEvent::Regular).await;
    running.end().await;
}

mod bounds;
