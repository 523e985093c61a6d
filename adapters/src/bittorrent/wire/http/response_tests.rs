use proptest::prelude::*;

use super::*;

fn ok(body: &[u8]) -> AnnounceResponse {
    parse_announce(body).unwrap().unwrap()
}

#[test]
fn reads_every_form_of_peers() {
    let compact = ok(b"d8:intervali900e5:peers12:\x7f\0\0\x01\x1a\xe1\x0a\0\0\x01\x00\x006:peers618:\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x1a\xe1e");
    let endpoints: Vec<_> = compact.peers.iter().map(|peer| peer.endpoint.to_string()).collect();
    assert_eq!(endpoints, ["127.0.0.1:6881", "[::1]:6881"]);
    let dicts = ok(b"d8:intervali9e5:peersld2:ip9:127.0.0.17:peer id20:aaaaaaaaaaaaaaaaaaaa4:porti1eed2:ip4:host4:porti1eeee");
    assert_eq!(dicts.peers.len(), 1);
    assert_eq!(dicts.peers[0].id.as_bytes(), b"aaaaaaaaaaaaaaaaaaaa");
}

#[test]
fn bounds_what_a_tracker_says() {
    let interval = |text: &str| ok(format!("d8:intervali{text}e5:peers0:e").as_bytes()).interval;
    assert_eq!(interval("0"), DEFAULT_INTERVAL);
    assert_eq!(interval("-5"), DEFAULT_INTERVAL);
    assert_eq!(interval("9000000000"), MAX_INTERVAL);
    assert_eq!(interval("2"), Duration::from_secs(2));
    assert_eq!(ok(b"d5:peers0:e").interval, DEFAULT_INTERVAL);
    let many = [b"d5:peers60000:".as_slice(), &[1; 60_000], b"e"].concat();
    assert_eq!(ok(&many).peers.len(), MAX_PEERS);
    assert_eq!(ok(b"d8:completei-1e5:peers0:e").seeders, None);
}

#[test]
fn passes_over_the_end_of_a_line_behind_it() {
    // aquatic_http 0.9 sends one, and counts it in Content-Length.
    assert_eq!(ok(b"d8:intervali5e5:peers0:e\r\n"), ok(b"d8:intervali5e5:peers0:e"));
    assert_eq!(parse_scrape(b"d5:filesdee\r\n"), Ok(Ok(Vec::new())));
    assert!(parse_announce(b"d8:intervali5e5:peers0:ex").is_err());
}

#[test]
fn reads_refusals() {
    let failure = |body: &[u8]| parse_announce(body).unwrap().unwrap_err();
    let never = failure(b"d14:failure reason4:gone8:retry in5:nevere");
    assert_eq!(never, Failure { reason: "gone".into(), retry_in: Some(RetryIn::Never) });
    let later = failure(b"d14:failure reason4:busy8:retry ini5ee");
    assert_eq!(later.retry_in, Some(RetryIn::After(Duration::from_secs(300))));
    assert_eq!(failure(b"d14:failure reason4:busy8:retry in1:2e").retry_in, {
        Some(RetryIn::After(Duration::from_secs(120)))
    });
    for failure in [never, later] {
        assert_eq!(parse_announce(&write_failure(&failure)), Ok(Err(failure)));
    }
}

#[test]
fn says_what_is_no_answer() {
    let text = |body: &[u8]| parse_announce(body).unwrap_err().to_string();
    assert_eq!(text(b"<html>"), "no answer of a tracker: byte 0: no value begins with byte 0x3c");
    assert_eq!(text(b"de"), "`interval` is missing or of a wrong kind");
    assert_eq!(text(b"i1e"), "`the answer` is missing or of a wrong kind");
    assert_eq!(text(b"d5:peersi1ee"), "`peers` is missing or of a wrong kind");
    assert!(parse_scrape(b"de").is_err());
}

#[test]
fn reads_the_answers_of_opentracker_and_npm_bittorrent_tracker() {
    let listed =
        ok(include_bytes!("../../../../../tests/fixtures/bittorrent/opentracker-announce.bin"));
    let endpoints: Vec<_> = listed.peers.iter().map(|peer| peer.endpoint.to_string()).collect();
    assert!(endpoints.contains(&"127.0.0.1:7001".to_owned()), "{endpoints:?}");
    assert!(listed.min_interval.is_some_and(|min| min < listed.interval));
    let unlisted =
        include_bytes!("../../../../../tests/fixtures/bittorrent/opentracker-unlisted.bin");
    let reason = parse_announce(unlisted).unwrap().unwrap_err().reason;
    assert!(reason.contains("not authorized"), "{reason}");
    let swarms = parse_scrape(include_bytes!(
        "../../../../../tests/fixtures/bittorrent/opentracker-scrape.bin"
    ));
    let counts = swarms.unwrap().unwrap()[0].1;
    assert_eq!((counts.complete, counts.incomplete), (1, 1));
    let npm = ok(include_bytes!("../../../../../tests/fixtures/bittorrent/npm-announce.bin"));
    assert_eq!((npm.seeders, npm.leechers, npm.peers.len()), (Some(1), Some(1), 2));
    let dicts =
        ok(include_bytes!("../../../../../tests/fixtures/bittorrent/npm-announce-dicts.bin"));
    assert_eq!(
        dicts.peers.iter().filter(|peer| peer.id.as_bytes().len() == 20).count(),
        dicts.peers.len()
    );
    let npm = include_bytes!("../../../../../tests/fixtures/bittorrent/npm-scrape.bin");
    assert_eq!(parse_scrape(npm).unwrap().unwrap()[0].1.complete, 1);
}

#[test]
fn an_info_hash_that_npm_wrote_as_text_is_one() {
    let npm =
        include_bytes!("../../../../../tests/fixtures/bittorrent/captures/npm-http-scrape.answer");
    let body = npm.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let (hash, counts) = parse_scrape(&npm[body..]).unwrap().unwrap()[0];
    assert_eq!(hash[..4], [0xF9, 0x4C, 0xFD, 0x79]);
    assert_eq!((counts.complete, counts.incomplete), (1, 1));
}

prop_compose! {
    fn any_response()(
        (interval, min_interval) in (1u64..86_400, prop::option::of(1u64..86_400)),
        (seeders, leechers) in any::<(Option<u32>, Option<u32>)>(),
        mut peers in prop::collection::vec((any::<IpAddr>(), 1u16.., any::<[u8; 20]>()), 0..9),
        tracker_id in any::<Option<Vec<u8>>>(),
        warning in prop::option::of("[a-z ]{0,20}"),
        external_ip in any::<Option<IpAddr>>(),
    ) -> AnnounceResponse {
        // The compact form has IPv4 first.
        peers.sort_by_key(|(ip, ..)| ip.to_canonical().is_ipv6());
        let peer = |(ip, port, id): (IpAddr, u16, [u8; 20])| Peer {
            id: id.into(), endpoint: SocketAddr::new(ip.to_canonical(), port),
        };
        AnnounceResponse {
            interval: Duration::from_secs(interval),
            min_interval: min_interval.map(Duration::from_secs),
            seeders, leechers, tracker_id, warning,
            peers: peers.into_iter().map(peer).collect(),
            external_ip: external_ip.map(|ip| ip.to_canonical()),
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_can_be_read(mut response in any_response()) {
        prop_assert_eq!(ok(&response.encode(false, false)), response.clone());
        response.peers.iter_mut().for_each(|peer| peer.id = PeerId::NONE);
        prop_assert_eq!(ok(&response.encode(true, false)), response.clone());
        prop_assert_eq!(ok(&response.encode(false, true)), response);
    }

    #[test]
    fn scrapes_too(swarms in prop::collection::btree_map(any::<[u8; 20]>(), any::<(u32, u32, u32, Option<u32>)>(), 0..9)) {
        let counts = |(complete, incomplete, downloaded, downloaders)| SwarmCounts {
            complete, incomplete, downloaded: Some(downloaded), downloaders,
        };
        let swarms: Vec<_> = swarms.into_iter().map(|(hash, four)| (hash, counts(four))).collect();
        prop_assert_eq!(parse_scrape(&write_scrape(&swarms)), Ok(Ok(swarms)));
    }

    #[test]
    fn no_answer_makes_it_panic(body in "d?(8:intervali[0-9-]{1,3}e|5:peers[0-9]:|5:filesd|.|e){0,9}", noise in any::<Vec<u8>>()) {
        let _ = parse_announce(body.as_bytes());
        let _ = parse_scrape(body.as_bytes());
        let _ = parse_announce(&noise);
    }
}
