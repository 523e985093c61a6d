use proptest::prelude::*;

use super::*;

fn block() -> impl Strategy<Value = Block> {
    (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(piece, begin, length)| Block {
        piece,
        begin,
        length,
    })
}

fn hash_range() -> impl Strategy<Value = HashRange> {
    (any::<[u8; 32]>(), any::<[u32; 4]>()).prop_map(|(pieces_root, [a, b, c, d])| HashRange {
        pieces_root,
        base_layer: a,
        index: b,
        length: c,
        proof_layers: d,
    })
}

fn bytes(most: usize) -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..most).prop_map(Bytes::from)
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        Just(Message::KeepAlive),
        Just(Message::Choke),
        Just(Message::Unchoke),
        Just(Message::Interested),
        Just(Message::NotInterested),
        Just(Message::HaveAll),
        Just(Message::HaveNone),
        any::<u32>().prop_map(Message::Have),
        any::<u32>().prop_map(Message::Suggest),
        any::<u32>().prop_map(Message::AllowedFast),
        any::<u16>().prop_map(Message::Port),
        bytes(100).prop_map(Message::Bitfield),
        block().prop_map(Message::Request),
        block().prop_map(Message::Cancel),
        block().prop_map(Message::Reject),
        (any::<u32>(), any::<u32>(), bytes(300)).prop_map(|(piece, begin, data)| Message::Piece {
            piece,
            begin,
            data
        }),
        (any::<u8>(), bytes(300)).prop_map(|(id, payload)| Message::Extended { id, payload }),
        hash_range().prop_map(Message::HashRequest),
        hash_range().prop_map(Message::HashReject),
        (hash_range(), bytes(100)).prop_map(|(range, hashes)| Message::Hashes { range, hashes }),
    ]
}

const LIMITS: Limits = Limits { bitfield: 100, block: 300, other: 400 };

proptest! {
    #[test]
    fn what_is_sent_is_received_however_the_stream_is_cut(
        messages in prop::collection::vec(message(), 0..20),
        cuts in prop::collection::vec(1usize..40, 1..50),
    ) {
        let mut stream = BytesMut::new();
        for message in &messages {
            message.encode(&mut stream);
        }
        let mut inbox = BytesMut::new();
        let mut received = Vec::new();
        let mut cuts = cuts.into_iter().cycle();
        while !stream.is_empty() {
            let cut = cuts.next().unwrap_or(1).min(stream.len());
            inbox.extend_from_slice(&stream.split_to(cut));
            while let Some(message) = decode(&mut inbox, &LIMITS).unwrap() {
                received.push(message);
            }
        }
        prop_assert!(inbox.is_empty());
        prop_assert_eq!(received, messages);
    }

    #[test]
    fn random_bytes_are_a_message_or_an_error(noise in prop::collection::vec(any::<u8>(), 0..600), kind in 0u8..30) {
        let mut inbox = BytesMut::from(noise.as_slice());
        while let Ok(Some(_)) = decode(&mut inbox, &LIMITS) {}
        let mut framed = BytesMut::new();
        put(&mut framed, kind, &noise);
        while let Ok(Some(_)) = decode(&mut framed, &LIMITS) {}
    }

    #[test]
    fn handshakes_survive(
        info_hash in any::<[u8; 20]>(), peer_id in any::<[u8; 20]>(),
        extended in any::<bool>(), fast in any::<bool>(), v2 in any::<bool>(),
    ) {
        let handshake = Handshake { features: Features { extended, fast, v2 }, info_hash, peer_id };
        prop_assert_eq!(Handshake::decode(&handshake.encode()), Ok(handshake));
    }
}

#[test]
fn a_handshake_of_another_protocol_is_refused() {
    let mut bytes = [7; 68];
    assert_eq!(Handshake::decode(&bytes), Err(PeerWireError::NotBitTorrent));
    bytes[0] = 19;
    assert_eq!(Handshake::decode(&bytes), Err(PeerWireError::NotBitTorrent));
    assert_eq!(Handshake::decode_head(&bytes[..30]), Err(PeerWireError::NotBitTorrent));
}

#[test]
fn a_length_that_is_not_acceptable_is_refused_before_the_bytes_come() {
    let refused = |bytes: &[u8]| decode(&mut BytesMut::from(bytes), &LIMITS).unwrap_err();
    assert_eq!(
        refused(&[0xFF, 0xFF, 0xFF, 0xFF, 20]),
        PeerWireError::TooLong { kind: 20, length: u32::MAX, limit: 401 }
    );
    assert_eq!(refused(&[0, 0, 0, 4, 4]), PeerWireError::WrongLength { kind: 4, length: 4 });
    assert_eq!(refused(&[0, 0, 0, 14, 6]), PeerWireError::WrongLength { kind: 6, length: 14 });
    assert_eq!(
        refused(&[0, 0, 0, 102, 5]).to_string(),
        "a message of kind 5 has 102 bytes; at most 101 are taken"
    );
    assert_eq!(refused(&[0, 0, 0, 1, 20]), PeerWireError::WrongLength { kind: 20, length: 1 });
}

#[test]
fn a_message_of_unknown_kind_is_skipped() {
    let mut inbox = BytesMut::from(&[0, 0, 0, 3, 99, 1, 2, 0, 0, 0, 1, 2][..]);
    assert_eq!(decode(&mut inbox, &LIMITS), Ok(Some(Message::Unknown(99))));
    assert_eq!(decode(&mut inbox, &LIMITS), Ok(Some(Message::Interested)));
    assert_eq!(decode(&mut inbox, &LIMITS), Ok(None));
}
