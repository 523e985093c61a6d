//! What a server says to its clients.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::{FileRecord, address, endpoint, put_endpoint};
use crate::ed2k::wire::{
    ClientId, Cursor, Hash, Packet, Protocol, Tag, WireError, cursor, cursor::put_text,
};

/// Names of the tags of an [`Ident`], and of a server's description over UDP.
pub mod ident_tag {
    /// The server's name (`ST_SERVERNAME`).
    pub const NAME: u8 = 0x01;
    /// A text about it (`ST_DESCRIPTION`).
    pub const DESCRIPTION: u8 = 0x0B;
    /// Its version: a text, or a number with the greater part in the upper 16 bits (`ST_VERSION`).
    pub const VERSION: u8 = 0x91;
    /// Its other ports (`ST_AUXPORTSLIST`).
    pub const AUX_PORTS: u8 = 0x93;
}

/// The bit of crypt options that says that a user hash follows.
const WITH_HASH: u8 = 0x80;
/// The most sources, and servers, of one message: they are counted in a byte.
const MOST: usize = 255;

/// A message of a server to its client.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerMessage {
    /// It did not do what it was told last (`OP_REJECT`, 05).
    Reject,
    /// Other servers (`OP_SERVERLIST`, 32); at most 255.
    ServerList(Vec<SocketAddrV4>),
    /// Files that a search found (`OP_SEARCHRESULT`, 33).
    SearchResult(SearchAnswer),
    /// How much it has (`OP_SERVERSTATUS`, 34).
    Status {
        /// Clients that are logged in.
        users: u32,
        /// Files that they offer.
        files: u32,
    },
    /// The client shall connect to another one (`OP_CALLBACKREQUESTED`, 35).
    CallbackRequested(CallbackRequested),
    /// The client that shall call back is not there (`OP_CALLBACK_FAIL`, 36).
    CallbackFailed,
    /// A text for people, in lines (`OP_SERVERMESSAGE`, 38).
    Message(String),
    /// The client's id, and what the server can (`OP_IDCHANGE`, 40).
    IdChange(IdChange),
    /// Who the server is (`OP_SERVERIDENT`, 41).
    Ident(Ident),
    /// Clients that have a file (`OP_FOUNDSOURCES`, 42).
    FoundSources(FoundSources),
    /// The same, and how they obfuscate (`OP_FOUNDSOURCES_OBFU`, 44).
    FoundSourcesObfuscated(FoundSources),
}

/// What a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchAnswer {
    /// The files.
    pub files: Vec<FileRecord>,
    /// Whether there are more, if it is told: the client may ask for them.
    pub more: Option<bool>,
}

/// A client that wants to be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallbackRequested {
    /// Where it listens.
    pub client: SocketAddrV4,
    /// How it obfuscates, if it is told.
    pub crypt: Option<Crypt>,
}

/// A client's id, and what the server can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IdChange {
    /// The id; 0 when the server does not take the client.
    pub id: u32,
    /// What the server can: [`super::server_flags`].
    pub flags: Option<u32>,
    /// The server's main port.
    pub port: Option<u32>,
    /// The client's address, as the server sees it.
    pub seen: Option<Ipv4Addr>,
    /// The server's port for obfuscated connections; 0 when it has none.
    pub obfuscated_port: Option<u32>,
}

/// Who a server is.
#[derive(Debug, Clone, PartialEq)]
pub struct Ident {
    /// Its hash.
    pub hash: Hash,
    /// Where it listens.
    pub server: SocketAddrV4,
    /// What it says of itself: [`ident_tag`].
    pub tags: Vec<Tag>,
}

/// Clients that have a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundSources {
    /// The file.
    pub hash: Hash,
    /// The clients; at most 255.
    pub sources: Vec<Source>,
}

/// A client that has a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Its id.
    pub id: ClientId,
    /// Its port.
    pub port: u16,
    /// How it obfuscates; of use only in an answer that tells it.
    pub crypt: Crypt,
}

/// How a client obfuscates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Crypt {
    /// Bits: 1 it can, 2 it asks for it, 4 it insists.
    pub options: u8,
    /// Its user hash, which is the key.
    pub user: Option<Hash>,
}

impl Ident {
    /// The server's name, if it is told.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.tags.iter().find_map(|tag| tag.as_text(ident_tag::NAME))
    }

    /// The text about it, if there is one.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.tags.iter().find_map(|tag| tag.as_text(ident_tag::DESCRIPTION))
    }
}

impl IdChange {
    fn read(from: &mut Cursor<'_>) -> Result<Self, WireError> {
        let id = from.u32("the client's id")?;
        let mut next = || from.u32("").ok();
        let (flags, port) = (next(), next());
        let seen = next().map(|seen| Ipv4Addr::from(seen.to_le_bytes()));
        Ok(Self { id, flags, port, seen, obfuscated_port: next() })
    }

    /// Writes it up to the first field that is not there.
    fn put(&self, out: &mut Vec<u8>) {
        let seen = self.seen.map(|seen| u32::from_le_bytes(seen.octets()));
        let fields = [Some(self.id), self.flags, self.port, seen, self.obfuscated_port];
        for field in fields.into_iter().map_while(|field| field) {
            out.extend_from_slice(&field.to_le_bytes());
        }
    }
}

impl Crypt {
    fn read(from: &mut Cursor<'_>) -> Result<Self, WireError> {
        let options = from.u8("a source's crypt options")?;
        let user = (options & WITH_HASH != 0).then(|| from.hash("a source's user hash"));
        Ok(Self { options: options & !WITH_HASH, user: user.transpose()? })
    }

    fn put(self, out: &mut Vec<u8>) {
        let options = self.options & !WITH_HASH;
        match self.user {
            Some(user) => {
                out.push(options | WITH_HASH);
                out.extend_from_slice(&user);
            }
            None => out.push(options),
        }
    }
}

impl FoundSources {
    /// Reads a file and its sources.
    ///
    /// # Errors
    /// When they are cut.
    pub fn read(from: &mut Cursor<'_>, obfuscated: bool) -> Result<Self, WireError> {
        let hash = from.hash("the wanted file")?;
        let said = from.u8("the number of sources")?;
        let each = if obfuscated { 7 } else { 6 };
        let count = super::count(from, "the number of sources", said.into(), each)?;
        let source = |_| {
            let id = ClientId::from_number(from.u32("a source")?);
            let port = from.u16("a source")?;
            let crypt = if obfuscated { Crypt::read(from)? } else { Crypt::default() };
            Ok(Source { id, port, crypt })
        };
        Ok(Self { hash, sources: (0..count).map(source).collect::<Result<_, _>>()? })
    }

    /// Writes the file and its sources, the first 255.
    pub fn put(&self, out: &mut Vec<u8>, obfuscated: bool) {
        let sources = self.sources.get(..MOST).unwrap_or(&self.sources);
        out.extend_from_slice(&self.hash);
        out.push(u8::try_from(sources.len()).unwrap_or(u8::MAX));
        for source in sources {
            out.extend_from_slice(&source.id.number().to_le_bytes());
            out.extend_from_slice(&source.port.to_le_bytes());
            if obfuscated {
                source.crypt.put(out);
            }
        }
    }
}

/// Reads servers behind a byte of count.
pub(in super::super) fn read_servers(
    from: &mut Cursor<'_>,
) -> Result<Vec<SocketAddrV4>, WireError> {
    let said = from.u8("the number of servers")?;
    let count = super::count(from, "the number of servers", said.into(), 6)?;
    (0..count).map(|_| endpoint(from, "a server")).collect()
}

/// Writes servers, the first 255.
pub(in super::super) fn put_servers(out: &mut Vec<u8>, servers: &[SocketAddrV4]) {
    let servers = servers.get(..MOST).unwrap_or(servers);
    out.push(u8::try_from(servers.len()).unwrap_or(u8::MAX));
    servers.iter().for_each(|server| put_endpoint(out, *server));
}

impl ServerMessage {
    /// The message in its frame. `new_tags` says that the client reads tags of the new form.
    #[must_use]
    pub fn to_packet(&self, new_tags: bool) -> Packet {
        let mut out = Vec::new();
        let opcode = match self {
            Self::Reject => 0x05,
            Self::ServerList(servers) => {
                put_servers(&mut out, servers);
                0x32
            }
            Self::SearchResult(answer) => {
                FileRecord::put_list(&mut out, &answer.files, new_tags);
                out.extend(answer.more.map(u8::from));
                0x33
            }
            Self::Status { users, files } => {
                out.extend_from_slice(&users.to_le_bytes());
                out.extend_from_slice(&files.to_le_bytes());
                0x34
            }
            Self::CallbackRequested(asked) => {
                put_endpoint(&mut out, asked.client);
                if let Some(Crypt { options, user: Some(user) }) = asked.crypt {
                    out.push(options);
                    out.extend_from_slice(&user);
                }
                0x35
            }
            Self::CallbackFailed => 0x36,
            Self::Message(text) => {
                put_text(&mut out, text);
                0x38
            }
            Self::IdChange(change) => {
                change.put(&mut out);
                0x40
            }
            Self::Ident(ident) => {
                out.extend_from_slice(&ident.hash);
                put_endpoint(&mut out, ident.server);
                Tag::put_list(&mut out, &ident.tags, false);
                0x41
            }
            Self::FoundSources(found) => {
                found.put(&mut out, false);
                0x42
            }
            Self::FoundSourcesObfuscated(found) => {
                found.put(&mut out, true);
                0x44
            }
        };
        Packet::new(Protocol::EDonkey, opcode, out)
    }
}

/// Reads a message of a server. Bytes behind what is known are passed over: newer servers may say more.
///
/// # Errors
/// [`WireError::Opcode`] when nobody here knows what it is; others when it is not well made.
pub fn decode_from_server(packet: &Packet) -> Result<ServerMessage, WireError> {
    let unknown = WireError::Opcode { protocol: packet.protocol.byte(), opcode: packet.opcode };
    if packet.protocol != Protocol::EDonkey {
        return Err(unknown);
    }
    let from = &mut Cursor::new(&packet.payload);
    Ok(match packet.opcode {
        0x05 => ServerMessage::Reject,
        0x32 => ServerMessage::ServerList(read_servers(from)?),
        0x33 => {
            let files = FileRecord::read_list(from)?;
            let more = (from.left() == 1).then(|| from.u8("whether there are more"));
            ServerMessage::SearchResult(SearchAnswer {
                files,
                more: more.transpose()?.map(|more| more != 0),
            })
        }
        0x34 => ServerMessage::Status {
            users: from.u32("the number of users")?,
            files: from.u32("the number of files")?,
        },
        0x35 => {
            let client = SocketAddrV4::new(
                address(from, "the client to call")?,
                from.u16("the client to call")?,
            );
            let crypt = if from.left() >= 17 {
                let options = from.u8("the client's crypt options")?;
                Some(Crypt { options, user: Some(from.hash("the client's user hash")?) })
            } else {
                None
            };
            ServerMessage::CallbackRequested(CallbackRequested { client, crypt })
        }
        0x36 => ServerMessage::CallbackFailed,
        0x38 => {
            let length = from.u16("the text")?;
            // Some servers say a wrong length; clients read what is there.
            let bytes = from.rest();
            let bytes = bytes.get(..usize::from(length)).unwrap_or(bytes);
            ServerMessage::Message(cursor::text(bytes))
        }
        0x40 => ServerMessage::IdChange(IdChange::read(from)?),
        0x41 => ServerMessage::Ident(Ident {
            hash: from.hash("the server's hash")?,
            server: endpoint(from, "the server's address")?,
            tags: Tag::read_list(from)?,
        }),
        0x42 => ServerMessage::FoundSources(FoundSources::read(from, false)?),
        0x44 => ServerMessage::FoundSourcesObfuscated(FoundSources::read(from, true)?),
        _ => return Err(unknown),
    })
}
