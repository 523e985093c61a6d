use std::net::{Ipv4Addr, SocketAddrV4};

use bytes::BytesMut;
use p2pbridge_proto::Bits;
use proptest::prelude::*;

use super::{super::packet::MAX_PAYLOAD, *};
use crate::ed2k::wire::{ClientId, PART, Packet, Protocol, WireError};

fn read(protocol: Protocol, opcode: u8, payload: &[u8]) -> Result<Message, WireError> {
    decode(&Packet::new(protocol, opcode, payload.to_vec()))
}

fn file() -> impl Strategy<Value = Hash> {
    any::<Hash>()
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![0..u64::from(u32::MAX) - 4000, u64::from(u32::MAX)..1 << 48]
}

fn data() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 1..2000).prop_map(Bytes::from)
}

fn parts() -> impl Strategy<Value = PartStatus> {
    (1u64..40, prop::collection::vec(0u32..40, 0..40)).prop_map(|(parts, held)| {
        let mut bits = Bits::none(u32::try_from(parts).unwrap());
        for part in held {
            bits.set(part);
        }
        PartStatus::of(&bits, parts * PART - 1).unwrap()
    })
}

fn sources() -> impl Strategy<Value = (Option<u8>, Vec<SourceRecord>)> {
    let record =
        (any::<u32>(), any::<u16>(), any::<u32>(), any::<u16>(), any::<Hash>(), any::<u8>());
    let version = prop_oneof![Just(None), (1u8..=4).prop_map(Some)];
    (version, prop::collection::vec(record, 1..60)).prop_map(|(version, records)| {
        let form = version.unwrap_or(4);
        let sources =
            records.into_iter().map(|(id, port, address, at, user, crypt)| SourceRecord {
                id,
                port,
                server: SocketAddrV4::new(Ipv4Addr::from(address), at),
                user: (form >= 2).then_some(user),
                crypt: (form >= 4).then_some(crypt),
            });
        (version, sources.collect())
    })
}

fn recovery() -> impl Strategy<Value = Recovery> {
    let hash = (1u32..=u16::MAX.into(), any::<[u8; 20]>());
    (prop::collection::vec(hash, 1..MAX_RECOVERY), any::<bool>())
        .prop_map(|(hashes, wide)| Recovery { hashes, wide })
}

fn message() -> impl Strategy<Value = Message> {
    let extended = (parts(), prop::option::of(any::<u16>()))
        .prop_map(|(parts, complete_sources)| Extended { parts, complete_sources });
    let asks = prop_oneof![
        (file(), prop::option::of(extended))
            .prop_map(|(file, extended)| Message::FileNameRequest { file, extended }),
        file().prop_map(Message::FileStatusRequest),
        file().prop_map(Message::HashSetRequest),
        prop::option::of(file()).prop_map(Message::StartUpload),
        Just(Message::CancelTransfer),
        file().prop_map(Message::EndOfDownload),
        (file(), prop::collection::vec((offset(), 1u64..3000), 0..=RANGES)).prop_map(
            |(file, ranges)| {
                let ranges = ranges.into_iter().map(|(at, length)| at..at + length).collect();
                Message::RequestParts { file, ranges }
            }
        ),
        (file(), prop::option::of(any::<u8>()))
            .prop_map(|(file, version)| Message::SourcesRequest { file, version }),
        file().prop_map(Message::AichRootRequest),
        (file(), any::<u16>(), any::<AichHash>())
            .prop_map(|(file, part, root)| Message::AichRequest { file, part, root }),
    ];
    let answers = prop_oneof![
        (file(), ".{0,300}")
            .prop_filter("the mark of UTF-8 goes", |(_, name)| !name.starts_with('\u{feff}'))
            .prop_map(|(file, name)| Message::FileNameAnswer { file, name }),
        file().prop_map(Message::NoSuchFile),
        (file(), parts()).prop_map(|(file, parts)| Message::FileStatus { file, parts }),
        (file(), prop::collection::vec(any::<Hash>(), 0..90))
            .prop_map(|(file, hashes)| Message::HashSet { file, hashes }),
        Just(Message::AcceptUpload),
        Just(Message::OutOfParts),
        any::<u32>().prop_map(Message::QueueRank),
        any::<u16>().prop_map(Message::QueueRanking),
        (file(), offset(), data()).prop_map(|(file, start, data)| Message::SendingPart {
            file,
            start,
            data
        }),
        (file(), offset(), data(), 2000..1u32 << 31).prop_map(|(file, start, data, whole)| {
            Message::CompressedPart { file, start, whole, data }
        }),
        (file(), sources()).prop_map(|(file, (version, sources))| Message::Sources {
            file,
            version,
            sources
        }),
        (file(), any::<AichHash>()).prop_map(|(file, root)| Message::AichRoot { file, root }),
        (file(), prop::option::of((any::<u16>(), any::<AichHash>(), recovery())))
            .prop_map(|(file, recovery)| Message::AichAnswer { file, recovery }),
    ];
    prop_oneof![asks, answers]
}

proptest! {
    #[test]
    fn what_is_written_is_read(message in message()) {
        let mut bytes = Vec::new();
        message.put(&mut bytes);
        let packet = Packet::take(&mut BytesMut::from(&bytes[..]), MAX_PAYLOAD).unwrap().unwrap();
        prop_assert_eq!(decode(&packet), Ok(message));
    }

    #[test]
    fn a_cut_message_is_an_error_or_another_message(message in message(), cut: prop::sample::Index) {
        let packet = message.packet().unwrap();
        // These two end in zeros that say nothing.
        let padded = matches!(message, Message::QueueRanking(_) | Message::AichAnswer { .. });
        if !packet.payload.is_empty() && !padded {
            let payload = packet.payload.slice(..cut.index(packet.payload.len()));
            prop_assert_ne!(decode(&Packet { payload, ..packet }), Ok(message));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(
        mule: bool, packed: bool, opcode: u8, payload in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let protocol = if mule { Protocol::EMule } else { Protocol::EDonkey };
        let _ = decode(&Packet { packed, ..Packet::new(protocol, opcode, payload) });
    }

    #[test]
    fn the_head_of_data_is_the_frame_without_the_data(file in file(), start in offset(), data in data()) {
        let mut bytes = Vec::new();
        Message::SendingPart { file, start, data: data.clone() }.put(&mut bytes);
        prop_assert_eq!(bytes, [sending_part_head(&file, start, data.len()), data.to_vec()].concat());
        let mut bytes = Vec::new();
        Message::CompressedPart { file, start, whole: 9000, data: data.clone() }.put(&mut bytes);
        let head = compressed_part_head(&file, start, 9000, data.len());
        prop_assert_eq!(bytes, [head, data.to_vec()].concat());
    }

    #[test]
    fn parts_are_those_of_the_set(parts in 1u32..70, held in prop::collection::vec(0u32..70, 0..70), whole: bool) {
        let length = u64::from(parts) * PART - u64::from(!whole);
        let mut bits = Bits::none(parts);
        for part in held {
            bits.set(part);
        }
        let status = PartStatus::of(&bits, length).unwrap();
        prop_assert_eq!(u32::from(status.count()), parts + u32::from(whole));
        prop_assert_eq!(status.to_bits(length), Some(bits.clone()));
        prop_assert_eq!(status.to_bits(length + 2 * PART), None);
        prop_assert!((0..parts).all(|part| status.has(part) == bits.has(part)) && !status.has(parts));
    }
}

#[test]
fn a_count_of_no_parts_is_a_complete_file() {
    let status = PartStatus::complete();
    assert_eq!(status.to_bits(3 * PART), Some(Bits::all(3)));
    // Without the empty part at the end, as some count.
    let read = read(Protocol::EDonkey, 0x50, &[&[7; 16][..], &[3, 0, 0b101]].concat()).unwrap();
    let Message::FileStatus { parts, .. } = read else { panic!("{read:?}") };
    let bits = parts.to_bits(3 * PART).unwrap();
    assert_eq!(bits.ones().collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn what_cannot_be_is_refused_where_it_is_wrong() {
    let hash = [7; 16];
    let at = |result: Result<Message, WireError>| match result.unwrap_err() {
        WireError::Bad { at, .. } | WireError::Cut { at, .. } => at,
        other => panic!("{other}"),
    };
    let part = |end: u8| [&hash[..], &[0, 0, 0, 0, end, 0, 0, 0, 1, 2, 3]].concat();
    assert!(read(Protocol::EDonkey, 0x46, &part(3)).is_ok());
    assert_eq!(at(read(Protocol::EDonkey, 0x46, &part(4))), 24);
    assert_eq!(at(read(Protocol::EDonkey, 0x46, &part(3)[..24])), 24);
    let stream = [&hash[..], &[0, 0, 0, 0, 2, 0, 0, 0, 1, 2, 3]].concat();
    assert_eq!(at(read(Protocol::EMule, 0x40, &stream)), 24);
    assert_eq!(at(read(Protocol::EDonkey, 0x52, &[&hash[..], &[255, 255, 1]].concat())), 19);
    assert_eq!(at(read(Protocol::EMule, 0x82, &[&hash[..], &[255, 255, 1]].concat())), 16);
    assert_eq!(at(read(Protocol::EMule, 0x84, &[&[4][..], &hash, &[1, 0], &[0; 28]].concat())), 19);
    let hashes = [&hash[..], &[0, 0], &[1; 20], &[100, 0]].concat();
    assert_eq!(at(read(Protocol::EMule, 0x9C, &hashes)), 38);
    assert!(matches!(read(Protocol::EMule, 0x46, &part(3)), Err(WireError::Opcode { .. })));
    assert_eq!(read(Protocol::EMule, 0x87, &[]), Ok(Message::Ignored("OP_SECIDENTSTATE")));
}

#[test]
fn a_source_has_its_first_octet_highest_from_version_3_on() {
    let client = ClientId::High(Ipv4Addr::new(198, 51, 100, 3));
    assert_eq!(SourceRecord::id(client, 2), 0x0364_33C6);
    assert_eq!(SourceRecord::id(client, 3), 0xC633_6403);
    let server = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 4661);
    let record = |id| SourceRecord { id, port: 4662, server, user: None, crypt: None };
    assert_eq!(record(0xC633_6403).client(4), client);
    assert_eq!(record(0x0364_33C6).client(1), client);
    assert_eq!(record(77).client(4), ClientId::Low(77));
}
