//! How clients greet: `OP_HELLO`, `OP_HELLOANSWER`, and eMule's older `OP_EMULEINFO`, with what each of them can do.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::{Cursor, Hash, Packet, Protocol, Tag, WireError};

/// `OP_HELLO`: who connects greets.
pub const HELLO: u8 = 0x01;
/// `OP_HELLOANSWER`: the other one answers.
pub const HELLO_ANSWER: u8 = 0x4C;
/// `OP_EMULEINFO` (C5): what the client can do, from one whom the greeting did not tell that we are like eMule.
pub const EMULE_INFO: u8 = 0x01;
/// `OP_EMULEINFOANSWER` (C5).
pub const EMULE_INFO_ANSWER: u8 = 0x02;

/// The version that `CT_VERSION` says: eDonkey's own, which every client says.
const EDONKEY_VERSION: u64 = 0x3C;
/// What `OP_EMULEINFO` begins with: a version of eMule, and that of the message.
const INFO_HEAD: [u8; 2] = [0x44, 0x01];
/// The version in an `OP_EMULEINFO` that only tells of the operating system (`0xFF`).
const OS_INFO: u8 = 0xFF;

/// Names of tags, as in aMule's `ClientTags.h`.
mod tag {
    pub(super) const NAME: u8 = 0x01;
    pub(super) const PORT: u8 = 0x0F;
    pub(super) const VERSION: u8 = 0x11;
    pub(super) const MOD_VERSION: u8 = 0x55;
    pub(super) const UDP_PORTS: u8 = 0xF9;
    pub(super) const OPTIONS_1: u8 = 0xFA;
    pub(super) const EMULE_VERSION: u8 = 0xFB;
    pub(super) const OPTIONS_2: u8 = 0xFE;

    pub(super) const COMPRESSION: u8 = 0x20;
    pub(super) const UDP_PORT: u8 = 0x21;
    pub(super) const SOURCE_EXCHANGE: u8 = 0x23;
    pub(super) const EXTENDED_REQUESTS: u8 = 0x25;
    pub(super) const FEATURES: u8 = 0x27;
}

/// What a client wants of protocol obfuscation, as servers, source exchange and greetings tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Crypt {
    /// It can be spoken to so.
    pub supports: bool,
    /// It likes to be.
    pub requests: bool,
    /// It closes other connections.
    pub requires: bool,
}

impl Crypt {
    /// From the lowest three bits, as in source exchange and in `OP_FOUNDSOURCES_OBFU`.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self { supports: bits & 1 != 0, requests: bits & 2 != 0, requires: bits & 4 != 0 }
    }

    /// As three bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.supports as u8 | (self.requests as u8) << 1 | (self.requires as u8) << 2
    }
}

/// What a client can do beside eDonkey's first protocol. One that says nothing can do none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// It speaks eMule's extensions (C5).
    pub emule: bool,
    /// Its UDP port; 0 where there is none.
    pub udp_port: u16,
    /// Version of compressed parts; 0 for none.
    pub compression: u8,
    /// Version of source exchange in its first form; 0 for none.
    pub source_exchange: u8,
    /// It speaks source exchange in its second form.
    pub source_exchange2: bool,
    /// Version of what is told with a file request: 1 for the parts held, 2 for complete sources too.
    pub extended_requests: u8,
    /// It has hashes of blocks.
    pub aich: bool,
    /// Its texts are UTF-8.
    pub unicode: bool,
    /// It takes positions of 64 bits.
    pub large_files: bool,
    /// It takes several questions in one message.
    pub multipacket: bool,
    /// Versions of secure identification, as bits.
    pub secure_identification: u8,
    /// What it wants of obfuscation.
    pub crypt: Crypt,
}

impl Options {
    /// What the bridge can do. It says that it has neither multipackets nor secure identification: then nobody
    /// uses them.
    pub const OURS: Self = Self {
        emule: true,
        udp_port: 0,
        compression: 1,
        source_exchange: 3,
        source_exchange2: true,
        extended_requests: 2,
        aich: true,
        unicode: true,
        large_files: true,
        multipacket: false,
        secure_identification: 0,
        crypt: Crypt { supports: true, requests: false, requires: false },
    };

    /// `CT_EMULE_MISCOPTIONS1`.
    fn first(&self) -> u32 {
        u32::from(self.aich) << 29
            | u32::from(self.unicode) << 28
            | u32::from(self.compression & 0xF) << 20
            | u32::from(self.secure_identification & 0xF) << 16
            | u32::from(self.source_exchange & 0xF) << 12
            | u32::from(self.extended_requests & 0xF) << 8
            // Nobody needs to ask for the list of shared files.
            | 1 << 2
            | u32::from(self.multipacket) << 1
    }

    fn read_first(&mut self, bits: u64) {
        let four = |at: u32| u8::try_from(bits >> at & 0xF).unwrap_or(0);
        self.aich = bits >> 29 & 7 != 0;
        self.unicode = bits >> 28 & 1 != 0;
        self.compression = four(20);
        self.secure_identification = four(16);
        self.source_exchange = four(12);
        self.extended_requests = four(8);
        self.multipacket = bits >> 1 & 1 != 0;
    }

    /// `CT_EMULE_MISCOPTIONS2`.
    fn second(&self) -> u32 {
        u32::from(self.source_exchange2) << 10
            | u32::from(self.crypt.bits()) << 7
            | u32::from(self.large_files) << 4
    }

    fn read_second(&mut self, bits: u64) {
        self.source_exchange2 = bits >> 10 & 1 != 0;
        self.crypt = Crypt::from_bits(u8::try_from(bits >> 7 & 7).unwrap_or(0));
        self.large_files = bits >> 4 & 1 != 0;
    }
}

/// Who a client is, in its own words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Greeting {
    /// Its user hash.
    pub hash: Hash,
    /// What its server calls it, as a number (`ClientId`); 0 for one that has no server.
    pub id: u32,
    /// Where it listens, at the address that it comes from.
    pub port: u16,
    /// What its user calls it.
    pub nick: String,
    /// Its server.
    pub server: Option<SocketAddrV4>,
    /// What it can do.
    pub options: Options,
}

impl Greeting {
    /// As `OP_HELLO`.
    #[must_use]
    pub fn hello(&self) -> Packet {
        let mut out = vec![16];
        self.put(&mut out);
        Packet::new(Protocol::EDonkey, HELLO, out)
    }

    /// As `OP_HELLOANSWER`.
    #[must_use]
    pub fn answer(&self) -> Packet {
        let mut out = Vec::new();
        self.put(&mut out);
        Packet::new(Protocol::EDonkey, HELLO_ANSWER, out)
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.hash);
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.port.to_le_bytes());
        let mut tags = vec![
            Tag::text(tag::NAME, self.nick.as_str()),
            Tag::number(tag::VERSION, EDONKEY_VERSION),
        ];
        if self.options.emule {
            tags.push(Tag::text(
                tag::MOD_VERSION,
                concat!("P2P-Bridge ", env!("CARGO_PKG_VERSION")),
            ));
            tags.push(Tag::number(tag::UDP_PORTS, self.options.udp_port));
            // Like eMule (0 in the highest byte) 0.50.
            tags.push(Tag::number(tag::EMULE_VERSION, 50_u32 << 10));
            tags.push(Tag::number(tag::OPTIONS_1, self.options.first()));
            tags.push(Tag::number(tag::OPTIONS_2, self.options.second()));
        }
        Tag::put_list(out, &tags, false);
        let server = self.server.unwrap_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));
        out.extend_from_slice(&server.ip().octets());
        out.extend_from_slice(&server.port().to_le_bytes());
    }

    /// Reads the payload of `OP_HELLO`.
    ///
    /// # Errors
    /// When it is cut, or its hash has another length than 16.
    pub fn read_hello(payload: &[u8]) -> Result<Self, WireError> {
        let mut from = Cursor::new(payload);
        let length = from.u8("the length of the user hash")?;
        if length != 16 {
            return Err(from.bad("the length of the user hash", 1, format!("{length} is not 16")));
        }
        Self::read(&mut from)
    }

    /// Reads the payload of `OP_HELLOANSWER`.
    ///
    /// # Errors
    /// When it is cut.
    pub fn read_answer(payload: &[u8]) -> Result<Self, WireError> {
        Self::read(&mut Cursor::new(payload))
    }

    fn read(from: &mut Cursor<'_>) -> Result<Self, WireError> {
        let mut greeting = Self {
            hash: from.hash("the user hash")?,
            id: from.u32("the client id")?,
            port: from.u16("the port")?,
            ..Self::default()
        };
        let options = &mut greeting.options;
        for each in Tag::read_list(from)? {
            if let Some(nick) = each.as_text(tag::NAME) {
                greeting.nick = nick.chars().take(64).collect();
            } else if let Some(port) = each.as_number(tag::PORT) {
                greeting.port = low_16(port);
            } else if let Some(ports) = each.as_number(tag::UDP_PORTS) {
                options.udp_port = low_16(ports);
            } else if each.as_number(tag::EMULE_VERSION).is_some() {
                options.emule = true;
            } else if let Some(bits) = each.as_number(tag::OPTIONS_1) {
                options.read_first(bits);
            } else if let Some(bits) = each.as_number(tag::OPTIONS_2) {
                options.read_second(bits);
            }
        }
        // Some old clients stop here.
        if from.left() >= 6 {
            let [a, b, c, d] = from.u32("the server's address")?.to_le_bytes();
            let server =
                SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), from.u16("the server's port")?);
            greeting.server = (!server.ip().is_unspecified()).then_some(server);
        }
        Ok(greeting)
    }
}

/// `OP_EMULEINFO`, or the answer to it, with what the bridge can do.
#[must_use]
pub fn info(answer: bool) -> Packet {
    let ours = Options::OURS;
    let mut out = INFO_HEAD.to_vec();
    let tags = [
        Tag::number(tag::COMPRESSION, ours.compression),
        Tag::number(tag::SOURCE_EXCHANGE, ours.source_exchange),
        Tag::number(tag::EXTENDED_REQUESTS, ours.extended_requests),
        Tag::number(tag::FEATURES, ours.secure_identification),
    ];
    Tag::put_list(&mut out, &tags, false);
    Packet::new(Protocol::EMule, if answer { EMULE_INFO_ANSWER } else { EMULE_INFO }, out)
}

/// Reads the payload of `OP_EMULEINFO` or of the answer to it, into what is known of a client. `false` when it tells
/// nothing of what the client can do.
///
/// # Errors
/// When it is cut.
pub fn read_info(payload: &[u8], options: &mut Options) -> Result<bool, WireError> {
    let mut from = Cursor::new(payload);
    from.u8("the version of eMule")?;
    if from.u8("the version of the message")? == OS_INFO {
        return Ok(false);
    }
    options.emule = true;
    let byte = |value: u64| u8::try_from(value & 0xFF).unwrap_or(0);
    for each in Tag::read_list(&mut from)? {
        if let Some(version) = each.as_number(tag::COMPRESSION) {
            options.compression = byte(version);
        } else if let Some(port) = each.as_number(tag::UDP_PORT) {
            options.udp_port = low_16(port);
        } else if let Some(version) = each.as_number(tag::SOURCE_EXCHANGE) {
            options.source_exchange = byte(version);
        } else if let Some(version) = each.as_number(tag::EXTENDED_REQUESTS) {
            options.extended_requests = byte(version);
        } else if let Some(features) = each.as_number(tag::FEATURES) {
            options.secure_identification = byte(features) & 3;
        }
    }
    Ok(true)
}

fn low_16(value: u64) -> u16 {
    u16::try_from(value & 0xFFFF).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_greeting_without_emules_tags_has_no_options() {
        let bare = Greeting { hash: [7; 16], port: 4662, ..Greeting::default() };
        let read = Greeting::read_hello(&bare.hello().payload).unwrap();
        assert_eq!(read, bare);
        assert_eq!(read.options, Options::default());
    }

    #[test]
    fn info_tells_what_an_old_greeting_did_not() {
        let mut options = Options::default();
        assert_eq!(read_info(&info(false).payload, &mut options), Ok(true));
        assert_eq!((options.emule, options.compression, options.extended_requests), (true, 1, 2));
        let before = options;
        assert_eq!(read_info(&[0x44, 0xFF, 0, 0, 0, 0], &mut options), Ok(false));
        assert_eq!(options, before);
        assert!(read_info(&[0x44, 1, 1], &mut options).is_err());
    }

    fn options() -> impl Strategy<Value = Options> {
        (any::<[u8; 5]>(), any::<[bool; 5]>(), 0_u8..8, any::<u16>()).prop_map(
            |(numbers, flags, crypt, udp_port)| Options {
                emule: true,
                udp_port,
                compression: numbers[0] & 0xF,
                source_exchange: numbers[1] & 0xF,
                extended_requests: numbers[2] & 0xF,
                secure_identification: numbers[3] & 0xF,
                source_exchange2: flags[0],
                aich: flags[1],
                unicode: flags[2],
                large_files: flags[3],
                multipacket: flags[4],
                crypt: Crypt::from_bits(crypt),
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(hash: Hash, id: u32, port: u16, server: u32, options in options()) {
            let server = (server != 0).then(|| SocketAddrV4::new(server.into(), 4661));
            let greeting = Greeting { hash, id, port, nick: "näme".to_owned(), server, options };
            prop_assert_eq!(&Greeting::read_hello(&greeting.hello().payload).unwrap(), &greeting);
            prop_assert_eq!(&Greeting::read_answer(&greeting.answer().payload).unwrap(), &greeting);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Greeting::read_hello(&bytes);
            let _ = Greeting::read_answer(&bytes);
            let _ = read_info(&bytes, &mut Options::default());
        }
    }
}
