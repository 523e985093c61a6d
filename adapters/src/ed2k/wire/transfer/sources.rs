use std::net::{Ipv4Addr, SocketAddrV4};

use super::super::{ClientId, Cursor, Hash, WireError, id::FIRST_HIGH};

/// The most clients that one answer may name.
pub const MAX_SOURCES: usize = 1000;

/// A client in an answer of source exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceRecord {
    /// Its id as it was written: what it means depends on the version.
    pub id: u32,
    /// Its port.
    pub port: u16,
    /// The server at which it is logged in.
    pub server: SocketAddrV4,
    /// Its user hash (from version 2).
    pub user: Option<Hash>,
    /// Whether it can obfuscate (1), asks for it (2), insists on it (4) (from version 4).
    pub crypt: Option<u8>,
}

impl SourceRecord {
    /// The client, in records of this version. From version 3 on an address is written with its first octet highest.
    #[must_use]
    pub const fn client(&self, version: u8) -> ClientId {
        if version >= 3 && self.id >= FIRST_HIGH {
            let [d, c, b, a] = self.id.to_le_bytes();
            ClientId::High(Ipv4Addr::new(a, b, c, d))
        } else {
            ClientId::from_number(self.id)
        }
    }

    /// The id of a client, as it is written in records of this version.
    #[must_use]
    pub const fn id(client: ClientId, version: u8) -> u32 {
        match client {
            ClientId::High(address) if version >= 3 => u32::from_be_bytes(address.octets()),
            other => other.number(),
        }
    }

    fn read(from: &mut Cursor<'_>, user: bool, crypt: bool) -> Result<Self, WireError> {
        let what = "a source";
        let (id, port) = (from.u32(what)?, from.u16(what)?);
        let address = Ipv4Addr::from(from.u32(what)?.to_le_bytes());
        let server = SocketAddrV4::new(address, from.u16(what)?);
        let user = if user { Some(from.hash(what)?) } else { None };
        let crypt = if crypt { Some(from.u8(what)?) } else { None };
        Ok(Self { id, port, server, user, crypt })
    }

    fn put(&self, out: &mut Vec<u8>, user: bool, crypt: bool) {
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.port.to_le_bytes());
        out.extend_from_slice(&self.server.ip().octets());
        out.extend_from_slice(&self.server.port().to_le_bytes());
        if user {
            out.extend_from_slice(&self.user.unwrap_or_default());
        }
        if crypt {
            out.push(self.crypt.unwrap_or_default());
        }
    }
}

/// Bytes of a record, by what it has.
const PLAIN: usize = 12;
const WITH_USER: usize = PLAIN + 16;
const WITH_CRYPT: usize = WITH_USER + 1;

/// Reads the records behind their count. Which form they have follows from their size, as in aMule; a version that says
/// otherwise is an error.
pub(super) fn read(
    from: &mut Cursor<'_>,
    version: Option<u8>,
) -> Result<Vec<SourceRecord>, WireError> {
    let count = usize::from(from.u16("the number of sources")?);
    if count > MAX_SOURCES {
        let problem = format!("{count} sources; at most {MAX_SOURCES} are read");
        return Err(from.bad("the number of sources", 2, problem));
    }
    if count == 0 {
        return Ok(Vec::new());
    }
    let left = from.left();
    let size = left / count;
    let fits = left.is_multiple_of(count)
        && match version {
            Some(1) => size == PLAIN,
            Some(2 | 3) => size == WITH_USER,
            Some(4) => size == WITH_CRYPT,
            Some(_) => false,
            None => matches!(size, PLAIN | WITH_USER | WITH_CRYPT),
        };
    if !fits {
        let problem = format!("{left} bytes are no {count} sources of version {version:?}");
        return Err(from.bad("the sources", 0, problem));
    }
    let (user, crypt) = (size >= WITH_USER, size >= WITH_CRYPT);
    (0..count).map(|_| SourceRecord::read(from, user, crypt)).collect()
}

/// Writes the records behind their count, [`MAX_SOURCES`] at most.
pub(super) fn put(out: &mut Vec<u8>, version: Option<u8>, sources: &[SourceRecord]) {
    let sources = sources.get(..MAX_SOURCES).unwrap_or(sources);
    let (user, crypt) = match version {
        Some(version) => (version >= 2, version >= 4),
        None => {
            sources.first().map_or((false, false), |one| (one.user.is_some(), one.crypt.is_some()))
        }
    };
    out.extend_from_slice(&u16::try_from(sources.len()).unwrap_or(u16::MAX).to_le_bytes());
    for source in sources {
        source.put(out, user || crypt, crypt);
    }
}
