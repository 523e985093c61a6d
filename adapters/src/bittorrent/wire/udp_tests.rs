use std::{net::SocketAddr, time::Duration};

use proptest::prelude::*;

use super::*;

fn announce() -> AnnounceRequest {
    AnnounceRequest {
        info_hash: [7; 20],
        peer_id: [8; 20],
        port: 6881,
        uploaded: 1,
        downloaded: 2,
        left: None,
        event: PeerEvent::Started,
        num_want: None,
        key: Some(9),
        tracker_id: None,
        compact: true,
        no_peer_id: true,
    }
}

#[test]
fn an_announce_has_98_bytes_and_then_its_options() {
    let request = |url_data: &str| UdpRequest::Announce {
        connection: 5,
        transaction: 6,
        announce: announce(),
        url_data: url_data.into(),
    };
    assert_eq!(request("").encode().len(), 98);
    let long = format!("/announce?key={}", "x".repeat(300));
    assert_eq!(request(&long).encode().len(), 98 + 314 + 4);
    for url_data in ["", "/a", &long] {
        assert_eq!(UdpRequest::decode(&request(url_data).encode()), Ok(request(url_data)));
    }
}

#[test]
fn short_packets_are_told_apart() {
    // What Debian's opentracker says of an info-hash that it does not list.
    let unlisted =
        include_bytes!("../../../../tests/fixtures/bittorrent/opentracker-udp-unlisted.bin");
    let error = UdpResponse::decode(unlisted, false).unwrap_err();
    assert!(matches!(error, UdpError::Short { action: 1, length: 8, .. }), "{error:?}");
    assert!(error.transaction().is_some());
    assert!(UdpResponse::decode(b"", false).unwrap_err().transaction().is_none());
    assert_eq!(UdpResponse::decode(&[0, 0, 0, 9, 0, 0, 0, 1], false), Err(UdpError::Action(9)));
    assert_eq!(UdpRequest::decode(&[0; 16]), Err(UdpError::Magic));
    let listed =
        include_bytes!("../../../../tests/fixtures/bittorrent/opentracker-udp-announce.bin");
    let Ok(UdpResponse::Announce { response, .. }) = UdpResponse::decode(listed, false) else {
        panic!("no announce");
    };
    assert!(response.peers.iter().any(|peer| peer.endpoint.port() == 7001), "{response:?}");
}

#[test]
fn addresses_are_read_by_the_family_of_the_packet() {
    let peers = ["127.0.0.1:1", "[::1]:2"].map(|text| Peer::at(text.parse().unwrap()));
    let response = UdpResponse::Announce {
        transaction: 1,
        response: AnnounceResponse {
            interval: Duration::from_secs(60),
            seeders: Some(1),
            leechers: Some(2),
            peers: peers.to_vec(),
            ..AnnounceResponse::default()
        },
    };
    for (ipv6, endpoint, length) in [(false, "127.0.0.1:1", 26), (true, "[::1]:2", 38)] {
        let packet = response.encode(ipv6);
        assert_eq!(packet.len(), length);
        let Ok(UdpResponse::Announce { response, .. }) = UdpResponse::decode(&packet, ipv6) else {
            panic!("no announce");
        };
        let endpoints: Vec<SocketAddr> = response.peers.iter().map(|peer| peer.endpoint).collect();
        assert_eq!(endpoints, [endpoint.parse().unwrap()]);
    }
}

proptest! {
    #[test]
    fn scrapes_can_be_read_back(
        (connection, transaction) in any::<(u64, u32)>(),
        info_hashes in prop::collection::vec(any::<[u8; 20]>(), 1..MAX_SCRAPE),
        counts in prop::collection::vec(any::<(u32, u32, u32)>(), 0..MAX_SCRAPE),
        message in "[ -~]{0,40}",
    ) {
        let request = UdpRequest::Scrape { connection, transaction, info_hashes };
        prop_assert_eq!(UdpRequest::decode(&request.encode()), Ok(request));
        let swarms = counts.into_iter().map(|(complete, incomplete, downloaded)| SwarmCounts {
            complete, incomplete, downloaded: Some(downloaded), downloaders: None,
        });
        for response in [
            UdpResponse::Scrape { transaction, swarms: swarms.collect() },
            UdpResponse::Error { transaction, message },
            UdpResponse::Connect { transaction, connection },
        ] {
            prop_assert_eq!(UdpResponse::decode(&response.encode(false), false), Ok(response));
        }
    }

    #[test]
    fn no_packet_makes_it_panic(action in 0u8..5, mut packet in prop::collection::vec(any::<u8>(), 0..200), ipv6: bool) {
        let _ = UdpResponse::decode(&packet, ipv6);
        let _ = UdpRequest::decode(&packet);
        for at in [3, 11] {
            if let Some(byte) = packet.get_mut(at) { *byte = action }
            if let Some(head) = packet.get_mut(at - 3..at) { head.fill(0) }
        }
        let _ = UdpResponse::decode(&packet, ipv6);
        let _ = UdpRequest::decode(&packet);
    }
}
