use proptest::prelude::*;

use super::*;
use crate::ed2k::wire::{
    ClientId, Hash, Packet, Protocol, Tag, search::tests::expression, tags::TagName, tags::TagValue,
};

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Zäöü .]{0,30}"
}

fn tags() -> impl Strategy<Value = Vec<Tag>> {
    let value = prop_oneof![
        text().prop_map(TagValue::Text),
        any::<u32>().prop_map(|number| TagValue::Number(number.into())),
    ];
    let tag = (any::<u8>(), value).prop_map(|(id, value)| Tag { name: TagName::Id(id), value });
    prop::collection::vec(tag, 0..5)
}

fn record() -> impl Strategy<Value = FileRecord> {
    let client = (any::<u32>(), 1u16..0xFB00)
        .prop_map(|(id, port)| Holder::Client { id: ClientId::from_number(id), port });
    let holder = prop_oneof![Just(Holder::Complete), Just(Holder::Incomplete), client];
    (any::<Hash>(), holder, tags()).prop_map(|(hash, holder, tags)| FileRecord {
        hash,
        holder,
        tags,
    })
}

fn records() -> impl Strategy<Value = Vec<FileRecord>> {
    prop::collection::vec(record(), 0..4)
}

fn wanted() -> impl Strategy<Value = Wanted> {
    (any::<Hash>(), any::<Option<u64>>()).prop_map(|(hash, size)| Wanted { hash, size })
}

fn from_client() -> impl Strategy<Value = ClientMessage> {
    prop_oneof![
        (any::<Hash>(), any::<u32>(), any::<u16>(), tags()).prop_map(|(user, id, port, tags)| {
            ClientMessage::Login(Login { user, id, port, tags })
        }),
        Just(ClientMessage::GetServerList),
        records().prop_map(ClientMessage::Offer),
        expression().prop_map(ClientMessage::Search),
        Just(ClientMessage::Disconnect),
        wanted().prop_map(ClientMessage::GetSources),
        wanted().prop_map(ClientMessage::GetSourcesObfuscated),
        any::<u32>().prop_map(|id| ClientMessage::Callback(ClientId::from_number(id))),
        Just(ClientMessage::MoreResults),
    ]
}

fn crypt() -> impl Strategy<Value = Crypt> {
    (0u8..0x80, any::<Option<Hash>>()).prop_map(|(options, user)| Crypt { options, user })
}

fn sources(crypt: impl Strategy<Value = Crypt>) -> impl Strategy<Value = FoundSources> {
    let source = (any::<u32>(), any::<u16>(), crypt).prop_map(|(id, port, crypt)| Source {
        id: ClientId::from_number(id),
        port,
        crypt,
    });
    (any::<Hash>(), prop::collection::vec(source, 0..9))
        .prop_map(|(hash, sources)| FoundSources { hash, sources })
}

fn somewhere() -> impl Strategy<Value = SocketAddrV4> {
    (any::<Ipv4Addr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddrV4::new(ip, port))
}

fn id_change() -> impl Strategy<Value = IdChange> {
    (any::<[u32; 5]>(), 0usize..5).prop_map(|([id, flags, port, seen, obfuscated], fields)| {
        let seen = Ipv4Addr::from(seen);
        IdChange {
            id,
            flags: (fields > 0).then_some(flags),
            port: (fields > 1).then_some(port),
            seen: (fields > 2).then_some(seen),
            obfuscated_port: (fields > 3).then_some(obfuscated),
        }
    })
}

fn from_server() -> impl Strategy<Value = ServerMessage> {
    let asked_crypt = prop::option::of((any::<u8>(), any::<Hash>()))
        .prop_map(|crypt| crypt.map(|(options, user)| Crypt { options, user: Some(user) }));
    prop_oneof![
        Just(ServerMessage::Reject),
        prop::collection::vec(somewhere(), 0..9).prop_map(ServerMessage::ServerList),
        (records(), any::<Option<bool>>())
            .prop_map(|(files, more)| ServerMessage::SearchResult(SearchAnswer { files, more })),
        any::<(u32, u32)>().prop_map(|(users, files)| ServerMessage::Status { users, files }),
        (somewhere(), asked_crypt).prop_map(|(client, crypt)| {
            ServerMessage::CallbackRequested(CallbackRequested { client, crypt })
        }),
        Just(ServerMessage::CallbackFailed),
        text().prop_map(ServerMessage::Message),
        id_change().prop_map(ServerMessage::IdChange),
        (any::<Hash>(), somewhere(), tags())
            .prop_map(|(hash, server, tags)| ServerMessage::Ident(Ident { hash, server, tags })),
        sources(Just(Crypt::default())).prop_map(ServerMessage::FoundSources),
        sources(crypt()).prop_map(ServerMessage::FoundSourcesObfuscated),
    ]
}

/// Every message cut at every byte is an error or another message, and never more.
fn cut<T>(packet: &Packet, decode: impl Fn(&Packet) -> Result<T, WireError>) {
    for end in 0..packet.payload.len() {
        let cut = Packet { payload: packet.payload.slice(..end), ..packet.clone() };
        let _ = decode(&cut);
    }
}

proptest! {
    #[test]
    fn what_a_client_writes_is_read(message in from_client(), new: bool) {
        let packet = message.to_packet(new);
        cut(&packet, decode_from_client);
        prop_assert_eq!(decode_from_client(&packet), Ok(message));
    }

    #[test]
    fn what_a_server_writes_is_read(message in from_server(), new: bool) {
        let packet = message.to_packet(new);
        cut(&packet, decode_from_server);
        prop_assert_eq!(decode_from_server(&packet), Ok(message));
    }

    #[test]
    fn no_bytes_make_it_panic(
        opcode in 0u8..0x50, payload in prop::collection::vec(prop_oneof![0u8..9, any::<u8>()], 0..200)
    ) {
        let packet = Packet::new(Protocol::EDonkey, opcode, payload);
        let _ = decode_from_client(&packet);
        let _ = decode_from_server(&packet);
    }
}

#[test]
fn sizes_are_told_in_32_and_in_64_bits() {
    let size = |size| FileRecord::new([1; 16], Holder::Complete, "a", size).size();
    for length in [0, 1, u32::MAX.into(), 1 << 32, (5 << 32) + 7, (1 << 40) - 1] {
        assert_eq!(size(length), Some(length));
    }
    let mut record = FileRecord::new([1; 16], Holder::Complete, "a", 1);
    record.tags = vec![Tag::number(file_tag::SIZE, 6u64 << 32)];
    assert_eq!(record.size(), Some(6 << 32), "one tag of 64 bits");
    // A 0 in 32 bits says that 64 follow.
    for (size, bytes) in [(Some(0), 28), (Some(MAX_32_BIT_LENGTH), 20), (None, 16)] {
        let wanted = Wanted { hash: [2; 16], size };
        let packet = ClientMessage::GetSources(wanted).to_packet(true);
        assert_eq!(packet.payload.len(), bytes);
    }
    let large = Wanted { hash: [2; 16], size: Some(MAX_32_BIT_LENGTH + 1) };
    assert_eq!(ClientMessage::GetSources(large).to_packet(true).payload.len(), 28);
}

#[test]
fn counts_that_cannot_be_are_refused_before_they_cost_anything() {
    let packet = |opcode, payload: &[u8]| Packet::new(Protocol::EDonkey, opcode, payload.to_vec());
    let error = decode_from_client(&packet(0x15, &[0xFF; 40])).unwrap_err().to_string();
    assert!(error.contains("the number of files at byte 0"), "{error}");
    let mut offer = vec![1, 0, 0, 0];
    offer.extend_from_slice(&[7; 22]);
    offer.extend_from_slice(&[0xFF; 4]);
    let error = decode_from_client(&packet(0x15, &offer)).unwrap_err().to_string();
    assert!(error.contains("the number of tags at byte 26"), "{error}");
    let mut found = vec![9; 16];
    found.push(200);
    let error = decode_from_server(&packet(0x42, &found)).unwrap_err().to_string();
    assert!(error.contains("room for 0"), "{error}");
    assert!(matches!(
        decode_from_client(&packet(0x77, b"")),
        Err(WireError::Opcode { protocol: 0xE3, opcode: 0x77 })
    ));
    assert!(decode_from_client(&Packet::new(Protocol::EMule, 0x01, vec![0; 40])).is_err());
}

#[test]
fn a_login_tells_how_its_client_obfuscates() {
    let login = |flags: u32| Login {
        user: [0; 16],
        id: 0,
        port: 4662,
        tags: vec![Tag::text(login_tag::NICK, "me"), Tag::number(login_tag::FLAGS, flags)],
    };
    assert_eq!((login(0x119).nick(), login(0x119).crypt_options()), ("me", 0));
    assert_eq!(login(0x0F19).crypt_options(), 7);
    assert_eq!(login(0x0319).crypt_options(), 1);
}
