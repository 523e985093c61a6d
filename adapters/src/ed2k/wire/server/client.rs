//! What a client says to its server.

use super::{FileRecord, client_flags, login_tag};
use crate::ed2k::wire::{
    ClientId, Cursor, Hash, Packet, Protocol, Tag, WireError, search::Expression,
};

/// The most bytes of a file whose length is told in 32 bits: whole parts below 4 GiB (`OLD_MAX_FILE_SIZE`).
pub const MAX_32_BIT_LENGTH: u64 = 4_290_048_000;

/// A message of a client to its server.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientMessage {
    /// It introduces itself (`OP_LOGINREQUEST`, 01).
    Login(Login),
    /// It asks for other servers (`OP_GETSERVERLIST`, 14).
    GetServerList,
    /// It has these files (`OP_OFFERFILES`, 15); none of them says that it is still there.
    Offer(Vec<FileRecord>),
    /// It looks for files (`OP_SEARCHREQUEST`, 16).
    Search(Expression),
    /// It leaves (`OP_DISCONNECT`, 18).
    Disconnect,
    /// It looks for clients that have a file (`OP_GETSOURCES`, 19).
    GetSources(Wanted),
    /// The same; it also wants to know how they obfuscate (`OP_GETSOURCES_OBFU`, 23).
    GetSourcesObfuscated(Wanted),
    /// A client with a low id shall connect to it (`OP_CALLBACKREQUEST`, 1C).
    Callback(ClientId),
    /// It wants more results of its last search (`OP_QUERY_MORE_RESULT`, 21).
    MoreResults,
}

/// How a client introduces itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Login {
    /// Its user hash.
    pub user: Hash,
    /// The id that it believes to have; of no meaning.
    pub id: u32,
    /// The TCP port at which it listens for clients.
    pub port: u16,
    /// What else it says of itself: [`login_tag`].
    pub tags: Vec<Tag>,
}

/// A file of which somebody wants sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Its hash.
    pub hash: Hash,
    /// Its size in bytes; old clients do not say it.
    pub size: Option<u64>,
}

impl Login {
    /// Its nick; empty when it has none.
    #[must_use]
    pub fn nick(&self) -> &str {
        self.tags.iter().find_map(|tag| tag.as_text(login_tag::NICK)).unwrap_or_default()
    }

    /// What it can: [`client_flags`].
    #[must_use]
    pub fn flags(&self) -> u32 {
        let flags = self.tags.iter().find_map(|tag| tag.as_number(login_tag::FLAGS));
        flags.and_then(|flags| u32::try_from(flags).ok()).unwrap_or(0)
    }

    /// How it obfuscates, as the byte that other clients are told: 1 it can, 2 it asks for it, 4 it insists.
    #[must_use]
    pub fn crypt_options(&self) -> u8 {
        let bits = [
            (client_flags::CRYPT_SUPPORTED, 1),
            (client_flags::CRYPT_REQUESTED, 2),
            (client_flags::CRYPT_REQUIRED, 4),
        ];
        let flags = self.flags();
        bits.iter().filter(|(flag, _)| flags & flag != 0).fold(0, |sum, (_, bit)| sum | bit)
    }

    fn read(from: &mut Cursor<'_>) -> Result<Self, WireError> {
        let (user, id) = (from.hash("the user hash")?, from.u32("the client's id")?);
        let port = from.u16("the client's port")?;
        let tags = if from.left() == 0 { Vec::new() } else { Tag::read_list(from)? };
        Ok(Self { user, id, port, tags })
    }

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.user);
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.port.to_le_bytes());
        Tag::put_list(out, &self.tags, false);
    }
}

impl Wanted {
    /// Reads a hash, and the size where it is told: in 32 bits, or as 0 and 64 bits behind it.
    ///
    /// # Errors
    /// When it is cut.
    pub fn read(from: &mut Cursor<'_>) -> Result<Self, WireError> {
        let hash = from.hash("the wanted file")?;
        if from.left() == 0 {
            return Ok(Self { hash, size: None });
        }
        let size = match from.u32("the wanted file's size")? {
            0 if from.left() >= 8 => from.u64("the wanted file's size")?,
            size => size.into(),
        };
        Ok(Self { hash, size: Some(size) })
    }

    /// Writes it as clients do.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.hash);
        let Some(size) = self.size else { return };
        match u32::try_from(size) {
            // A 0 in 32 bits says that 64 follow.
            Ok(small) if (1..=MAX_32_BIT_LENGTH).contains(&size) => {
                out.extend_from_slice(&small.to_le_bytes())
            }
            _ => {
                out.extend_from_slice(&[0; 4]);
                out.extend_from_slice(&size.to_le_bytes());
            }
        }
    }
}

impl ClientMessage {
    /// The message in its frame. `new_tags` says that the server reads tags of the new form.
    #[must_use]
    pub fn to_packet(&self, new_tags: bool) -> Packet {
        let mut out = Vec::new();
        let opcode = match self {
            Self::Login(login) => {
                login.put(&mut out);
                0x01
            }
            Self::GetServerList => 0x14,
            Self::Offer(files) => {
                FileRecord::put_list(&mut out, files, new_tags);
                0x15
            }
            Self::Search(expression) => {
                expression.put(&mut out);
                0x16
            }
            Self::Disconnect => 0x18,
            Self::GetSources(wanted) => {
                wanted.put(&mut out);
                0x19
            }
            Self::GetSourcesObfuscated(wanted) => {
                wanted.put(&mut out);
                0x23
            }
            Self::Callback(id) => {
                out.extend_from_slice(&id.number().to_le_bytes());
                0x1C
            }
            Self::MoreResults => 0x21,
        };
        Packet::new(Protocol::EDonkey, opcode, out)
    }
}

/// Reads a message of a client. Bytes behind what is known are passed over: newer clients may say more.
///
/// # Errors
/// [`WireError::Opcode`] when nobody here knows what it is; others when it is not well made.
pub fn decode_from_client(packet: &Packet) -> Result<ClientMessage, WireError> {
    let unknown = WireError::Opcode { protocol: packet.protocol.byte(), opcode: packet.opcode };
    if packet.protocol != Protocol::EDonkey {
        return Err(unknown);
    }
    let from = &mut Cursor::new(&packet.payload);
    Ok(match packet.opcode {
        0x01 => ClientMessage::Login(Login::read(from)?),
        0x14 => ClientMessage::GetServerList,
        0x15 => ClientMessage::Offer(FileRecord::read_list(from)?),
        0x16 => ClientMessage::Search(Expression::read(from)?),
        0x18 => ClientMessage::Disconnect,
        0x19 => ClientMessage::GetSources(Wanted::read(from)?),
        0x23 => ClientMessage::GetSourcesObfuscated(Wanted::read(from)?),
        0x1C => ClientMessage::Callback(ClientId::from_number(from.u32("the wanted client")?)),
        0x21 => ClientMessage::MoreResults,
        _ => return Err(unknown),
    })
}
