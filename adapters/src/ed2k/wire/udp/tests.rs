use std::net::{Ipv4Addr, SocketAddrV4};

use proptest::prelude::*;

use super::*;
use crate::ed2k::wire::{
    ClientId, Hash, Tag,
    search::tests::expression,
    server::{Crypt, FileRecord, FoundSources, Holder, Source, Wanted},
};

fn somewhere() -> impl Strategy<Value = SocketAddrV4> {
    (any::<Ipv4Addr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddrV4::new(ip, port))
}

fn tags() -> impl Strategy<Value = Vec<Tag>> {
    let tag = (any::<u8>(), "[a-z ]{0,20}").prop_map(|(id, text)| Tag::text(id, text));
    prop::collection::vec(tag, 0..4)
}

/// One whose lower two bytes are as a client of today draws them.
fn challenge() -> impl Strategy<Value = u32> {
    any::<u16>().prop_map(|high| u32::from(high) << 16 | 0xF0FF)
}

fn from_client() -> impl Strategy<Value = ClientDatagram> {
    let options = prop_oneof![
        Just(SearchOptions::First),
        Just(SearchOptions::Second),
        tags().prop_map(SearchOptions::Third),
    ];
    let wanted = (any::<Hash>(), any::<u64>())
        .prop_map(|(hash, size)| Wanted { hash, size: Some(size.max(1)) });
    prop_oneof![
        any::<Option<u32>>().prop_map(|challenge| ClientDatagram::Status { challenge }),
        prop::option::of(challenge())
            .prop_map(|challenge| ClientDatagram::Description { challenge }),
        prop::collection::vec(any::<Hash>(), 1..9).prop_map(ClientDatagram::GetSources),
        prop::collection::vec(wanted, 1..9).prop_map(ClientDatagram::GetSources2),
        (options, expression())
            .prop_map(|(options, expression)| ClientDatagram::Search { options, expression }),
        (somewhere(), any::<u32>()).prop_map(|(client, id)| ClientDatagram::Callback {
            client,
            id: ClientId::from_number(id)
        }),
        somewhere().prop_map(ClientDatagram::ServerList),
        Just(ClientDatagram::ServerList2),
    ]
}

fn status() -> impl Strategy<Value = StatusAnswer> {
    (any::<[u32; 8]>(), 0usize..7, any::<(u16, u16, u32)>()).prop_map(|(fields, there, more)| {
        let [challenge, users, files, more_fields @ ..] = fields;
        let field = |at: usize| (there > at).then_some(more_fields[at]);
        let (udp_port, tcp_port, key) = more;
        StatusAnswer {
            challenge,
            users,
            files,
            max_users: field(0),
            soft_files: field(1),
            hard_files: field(2),
            flags: field(3),
            low_ids: field(4),
            obfuscation: (there > 5).then_some(UdpObfuscation { udp_port, tcp_port, key }),
        }
    })
}

fn from_server() -> impl Strategy<Value = ServerDatagram> {
    let source = (any::<u32>(), any::<u16>()).prop_map(|(id, port)| Source {
        id: ClientId::from_number(id),
        port,
        crypt: Crypt::default(),
    });
    let found = (any::<Hash>(), prop::collection::vec(source, 0..4))
        .prop_map(|(hash, sources)| FoundSources { hash, sources });
    let file = (any::<Hash>(), "[a-z]{1,20}", any::<u64>())
        .prop_map(|(hash, name, size)| FileRecord::new(hash, Holder::NOBODY, &name, size));
    prop_oneof![
        status().prop_map(ServerDatagram::Status),
        ("[a-z ]{0,20}", "[a-z ]{6,20}").prop_map(|(name, description)| {
            ServerDatagram::Description(Description::Texts { name, description })
        }),
        (challenge(), tags()).prop_map(|(challenge, tags)| {
            ServerDatagram::Description(Description::Tags { challenge, tags })
        }),
        prop::collection::vec(found, 1..4).prop_map(ServerDatagram::FoundSources),
        prop::collection::vec(file, 1..4).prop_map(ServerDatagram::SearchResult),
        any::<u32>().prop_map(|id| ServerDatagram::InvalidLowId(ClientId::from_number(id))),
        prop::collection::vec(somewhere(), 0..4).prop_map(ServerDatagram::ServerList),
    ]
}

proptest! {
    #[test]
    fn what_a_client_writes_is_read(datagram in from_client()) {
        let bytes = datagram.encode();
        for end in 0..bytes.len() {
            let _ = decode_from_client(&bytes[..end]);
        }
        prop_assert_eq!(decode_from_client(&bytes), Ok(datagram));
    }

    #[test]
    fn what_a_server_writes_is_read(datagram in from_server(), new: bool) {
        let bytes = datagram.encode(new);
        for end in 0..bytes.len() {
            let _ = decode_from_server(&bytes[..end]);
        }
        prop_assert_eq!(decode_from_server(&bytes), Ok(datagram));
    }

    #[test]
    fn no_bytes_make_it_panic(
        opcode in 0x90u8..0xA5, rest in prop::collection::vec(prop_oneof![0u8..9, any::<u8>()], 0..200)
    ) {
        let mut datagram = vec![0xE3, opcode];
        datagram.extend_from_slice(&rest);
        let _ = decode_from_client(&datagram);
        let _ = decode_from_server(&datagram);
    }
}

#[test]
fn a_datagram_asks_for_no_more_files_than_the_bound() {
    let mut bytes = vec![0xE3, 0x9A];
    bytes.extend_from_slice(&[7; 16 * 100]);
    match decode_from_client(&bytes) {
        Ok(ClientDatagram::GetSources(files)) => assert_eq!(files.len(), MAX_WANTED),
        other => panic!("{other:?}"),
    }
    assert!(decode_from_client(&[0xE3, 0x9A]).is_err() && decode_from_client(&[0xE3]).is_err());
    assert_eq!(decode_from_client(&[0xC5, 0x96]), Err(WireError::Protocol(0xC5)));
}
