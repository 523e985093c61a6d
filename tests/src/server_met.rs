//! `server.met`, in which an amuled keeps what it knows of servers.

use std::net::{Ipv4Addr, SocketAddr};

/// What an amuled knows of a server; what it does not know is empty, or 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownServer {
    /// Where it is.
    pub at: Option<SocketAddr>,
    /// What it is called.
    pub name: String,
    /// What it says of itself.
    pub description: String,
    /// Which program it is.
    pub version: String,
    /// Clients that are logged in.
    pub users: u32,
    /// Files that they offer.
    pub files: u32,
    /// Clients that may be logged in.
    pub max_users: u32,
    /// Files that one client may offer.
    pub soft_files: u32,
}

/// Reads the file's bytes; `None` when they are cut.
pub(crate) fn read(bytes: &[u8]) -> Option<Vec<KnownServer>> {
    let mut rest = Rest(bytes.get(1..)?);
    let count = rest.u32()?;
    (0..count).map(|_| rest.server()).collect()
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_le_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }

    fn server(&mut self) -> Option<KnownServer> {
        let ip: [u8; 4] = self.take(4)?.try_into().ok()?;
        let at = SocketAddr::from((Ipv4Addr::from(ip), self.u16()?));
        let mut server = KnownServer { at: Some(at), ..KnownServer::default() };
        for _ in 0..self.u32()? {
            let kind = self.take(1)?;
            let name = self.bytes()?;
            match kind {
                [0x02] => {
                    let text = String::from_utf8_lossy(self.bytes()?).into_owned();
                    match name {
                        [0x01] => server.name = text,
                        [0x0B] => server.description = text,
                        [0x91] => server.version = text,
                        _ => {}
                    }
                }
                [0x03] => {
                    let number = self.u32()?;
                    match name {
                        b"users" => server.users = number,
                        b"files" => server.files = number,
                        [0x87] => server.max_users = number,
                        [0x88] => server.soft_files = number,
                        _ => {}
                    }
                }
                [0x08] => drop(self.u16()?),
                [0x09] => drop(self.take(1)?),
                other => panic!("server.met: a tag of kind {other:?}"),
            }
        }
        Some(server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_amuled_writes() {
        let mut bytes = vec![0xE0, 1, 0, 0, 0, 198, 51, 100, 2, 0x35, 0x12, 4, 0, 0, 0];
        bytes.extend(b"\x02\x01\x00\x01\x02\x00ab\x03\x05\x00users\x07\x00\x00\x00");
        bytes.extend(b"\x08\x01\x00\x97\x35\x12\x03\x01\x00\x87\x10\x27\x00\x00");
        let known = KnownServer {
            at: Some((Ipv4Addr::new(198, 51, 100, 2), 4661).into()),
            name: "ab".to_owned(),
            users: 7,
            max_users: 10_000,
            ..KnownServer::default()
        };
        assert_eq!(read(&bytes), Some(vec![known]));
        assert_eq!(read(&bytes[..40]), None);
    }
}
