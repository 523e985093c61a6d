//! What a server answers over UDP.

use std::net::SocketAddrV4;

use super::{begin, open, unknown};
use crate::ed2k::wire::{
    ClientId, Cursor, Protocol, Tag, WireError,
    cursor::put_text,
    server::{FileRecord, FoundSources, put_servers, read_servers},
};

/// What a server can over UDP, in its status (`SRV_UDPFLG_*`).
pub mod udp_flags {
    /// A question may have several hashes, the answer several files.
    pub const EXT_GET_SOURCES: u32 = 0x0001;
    /// The second form of searches.
    pub const EXT_GET_FILES: u32 = 0x0002;
    /// Tags of the new form.
    pub const NEW_TAGS: u32 = 0x0008;
    /// Texts are UTF-8.
    pub const UNICODE: u32 = 0x0010;
    /// Questions for sources tell the size.
    pub const EXT_GET_SOURCES2: u32 = 0x0020;
    /// Files over 4 GiB.
    pub const LARGE_FILES: u32 = 0x0100;
    /// Obfuscated datagrams.
    pub const UDP_OBFUSCATION: u32 = 0x0200;
    /// Obfuscated connections.
    pub const TCP_OBFUSCATION: u32 = 0x0400;
}

/// The first two bytes of a challenge that asks for a description with tags: no text is so long (`INV_SERV_DESC_LEN`).
const NO_LENGTH: u16 = 0xF0FF;
/// The most files in one datagram that are read.
const MAX_FILES: usize = 256;

/// An answer of a server over UDP.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerDatagram {
    /// How much it has (`OP_GLOBSERVSTATRES`, 97).
    Status(StatusAnswer),
    /// Who it is (`OP_SERVER_DESC_RES`, A3).
    Description(Description),
    /// Sources, of several files where there are several `E3 9B` in a row (`OP_GLOBFOUNDSOURCES`, 9B).
    FoundSources(Vec<FoundSources>),
    /// Files that a search found, likewise (`OP_GLOBSEARCHRES`, 99).
    SearchResult(Vec<FileRecord>),
    /// The client that shall call back is not there (`OP_INVALID_LOWID`, 9E).
    InvalidLowId(ClientId),
    /// Other servers (`OP_SERVER_LIST_RES`, A1); at most 255.
    ServerList(Vec<SocketAddrV4>),
}

/// How much a server has. Older servers end before the later fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatusAnswer {
    /// What the question said.
    pub challenge: u32,
    /// Clients that are logged in.
    pub users: u32,
    /// Files that they offer.
    pub files: u32,
    /// Clients that may be logged in at a time.
    pub max_users: Option<u32>,
    /// Files of one client from which on further ones are passed over.
    pub soft_files: Option<u32>,
    /// Files of one client from which on it is sent away.
    pub hard_files: Option<u32>,
    /// What the server can: [`udp_flags`].
    pub flags: Option<u32>,
    /// Clients with a low id.
    pub low_ids: Option<u32>,
    /// How it takes obfuscated messages.
    pub obfuscation: Option<UdpObfuscation>,
}

/// How a server takes obfuscated messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UdpObfuscation {
    /// The port for obfuscated datagrams; 0 for none.
    pub udp_port: u16,
    /// The port for obfuscated connections; 0 for none.
    pub tcp_port: u16,
    /// The key for datagrams between this client and this server.
    pub key: u32,
}

/// Who a server is.
#[derive(Debug, Clone, PartialEq)]
pub enum Description {
    /// The old form.
    Texts {
        /// Its name.
        name: String,
        /// A text about it.
        description: String,
    },
    /// The answer to a question with a challenge.
    Tags {
        /// What the question said.
        challenge: u32,
        /// What the server says of itself: [`crate::ed2k::wire::server::ident_tag`].
        tags: Vec<Tag>,
    },
}

impl StatusAnswer {
    fn read(from: &mut Cursor<'_>) -> Result<Self, WireError> {
        let challenge = from.u32("the challenge")?;
        let (users, files) = (from.u32("the number of users")?, from.u32("the number of files")?);
        let mut next = || from.u32("").ok();
        let (max_users, soft_files, hard_files) = (next(), next(), next());
        let (flags, low_ids) = (next(), next());
        let obfuscation = (low_ids.is_some() && from.left() >= 8).then(|| {
            Ok(UdpObfuscation {
                udp_port: from.u16("a port")?,
                tcp_port: from.u16("a port")?,
                key: from.u32("the key")?,
            })
        });
        Ok(Self {
            challenge,
            users,
            files,
            max_users,
            soft_files,
            hard_files,
            flags,
            low_ids,
            obfuscation: obfuscation.transpose()?,
        })
    }

    /// Writes it up to the first field that is not there.
    fn put(&self, out: &mut Vec<u8>) {
        let first = [self.challenge, self.users, self.files].map(Some);
        let more = [self.max_users, self.soft_files, self.hard_files, self.flags, self.low_ids];
        let whole = more.iter().all(Option::is_some);
        for field in first.into_iter().chain(more).map_while(|field| field) {
            out.extend_from_slice(&field.to_le_bytes());
        }
        if let Some(obfuscation) = self.obfuscation.filter(|_| whole) {
            out.extend_from_slice(&obfuscation.udp_port.to_le_bytes());
            out.extend_from_slice(&obfuscation.tcp_port.to_le_bytes());
            out.extend_from_slice(&obfuscation.key.to_le_bytes());
        }
    }
}

impl Description {
    fn read(from: &mut Cursor<'_>) -> Result<Self, WireError> {
        if from.left() >= 8 && from.clone().u16("")? == NO_LENGTH {
            let challenge = from.u32("the challenge")?;
            return Ok(Self::Tags { challenge, tags: Tag::read_list(from)? });
        }
        let name = from.text("the server's name")?;
        Ok(Self::Texts { name, description: from.text("the server's description")? })
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Texts { name, description } => {
                put_text(out, name);
                put_text(out, description);
            }
            Self::Tags { challenge, tags } => {
                out.extend_from_slice(&challenge.to_le_bytes());
                Tag::put_list(out, tags, false);
            }
        }
    }
}

impl ServerDatagram {
    /// The datagram. Files have tags of the new form where `new_tags` says that the client reads them.
    #[must_use]
    pub fn encode(&self, new_tags: bool) -> Vec<u8> {
        match self {
            Self::Status(status) => {
                let mut out = begin(0x97);
                status.put(&mut out);
                out
            }
            Self::Description(description) => {
                let mut out = begin(0xA3);
                description.put(&mut out);
                out
            }
            Self::FoundSources(files) => {
                let mut out = Vec::new();
                for found in files {
                    out.extend_from_slice(&begin(0x9B));
                    found.put(&mut out, false);
                }
                out
            }
            Self::SearchResult(files) => {
                let mut out = Vec::new();
                for file in files {
                    out.extend_from_slice(&begin(0x99));
                    file.put(&mut out, new_tags);
                }
                out
            }
            Self::InvalidLowId(id) => {
                let mut out = begin(0x9E);
                out.extend_from_slice(&id.number().to_le_bytes());
                out
            }
            Self::ServerList(servers) => {
                let mut out = begin(0xA1);
                put_servers(&mut out, servers);
                out
            }
        }
    }
}

/// Reads an answer of a server.
///
/// # Errors
/// [`WireError::Opcode`] when nobody here knows what it is; others when it is not well made.
pub fn decode_from_server(datagram: &[u8]) -> Result<ServerDatagram, WireError> {
    let (opcode, mut from) = open(datagram)?;
    let from = &mut from;
    Ok(match opcode {
        0x97 => ServerDatagram::Status(StatusAnswer::read(from)?),
        0xA3 => ServerDatagram::Description(Description::read(from)?),
        0x9B => {
            let read = |from: &mut Cursor<'_>| FoundSources::read(from, false);
            ServerDatagram::FoundSources(in_a_row(from, opcode, read)?)
        }
        0x99 => ServerDatagram::SearchResult(in_a_row(from, opcode, FileRecord::read)?),
        0x9E => ServerDatagram::InvalidLowId(ClientId::from_number(from.u32("the wanted client")?)),
        0xA1 => ServerDatagram::ServerList(read_servers(from)?),
        other => return Err(unknown(other)),
    })
}

/// Reads one thing, and more of them where each begins as a datagram does.
fn in_a_row<T>(
    from: &mut Cursor<'_>,
    opcode: u8,
    read: impl Fn(&mut Cursor<'_>) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    let mut all = vec![read(from)?];
    while from.left() > 2 && all.len() < MAX_FILES {
        let next = (from.u8("the protocol")?, from.u8("the opcode")?);
        if next != (Protocol::EDonkey.byte(), opcode) {
            let problem = format!("{:#04x} {:#04x} begin no further answer", next.0, next.1);
            return Err(from.bad("what follows the first answer", 2, problem));
        }
        all.push(read(from)?);
    }
    Ok(all)
}
