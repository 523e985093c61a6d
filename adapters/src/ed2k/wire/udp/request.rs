//! What clients ask a server over UDP.

use std::net::SocketAddrV4;

use super::{begin, open, unknown};
use crate::ed2k::wire::{
    ClientId, Hash, Tag, WireError,
    search::Expression,
    server::{Wanted, endpoint, put_endpoint},
};

/// The most files that one datagram asks for; those behind them are passed over.
pub const MAX_WANTED: usize = 64;

/// A question of a client over UDP.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientDatagram {
    /// How much the server has (`OP_GLOBSERVSTATREQ`, 96).
    Status {
        /// What the answer repeats; old clients send none.
        challenge: Option<u32>,
    },
    /// Who the server is (`OP_SERVER_DESC_REQ`, A2).
    Description {
        /// What the answer repeats. Its lower two bytes are `F0FF`; without one, the answer has the old form.
        challenge: Option<u32>,
    },
    /// Sources of files whose size is not told (`OP_GLOBGETSOURCES`, 9A).
    GetSources(Vec<Hash>),
    /// Sources of files (`OP_GLOBGETSOURCES2`, 94).
    GetSources2(Vec<Wanted>),
    /// A search (`OP_GLOBSEARCHREQ` 98, `OP_GLOBSEARCHREQ2` 92, `OP_GLOBSEARCHREQ3` 90).
    Search {
        /// Which of the three it is.
        options: SearchOptions,
        /// What is looked for.
        expression: Expression,
    },
    /// A client with a low id shall connect (`OP_GLOBCALLBACKREQ`, 9C).
    Callback {
        /// To whom.
        client: SocketAddrV4,
        /// The client that shall.
        id: ClientId,
    },
    /// Other servers (`OP_SERVER_LIST_REQ`, A0); a server asks so, and tells its address.
    ServerList(SocketAddrV4),
    /// Other servers (`OP_SERVER_LIST_REQ2`, A4).
    ServerList2,
}

/// The form of a search over UDP.
#[derive(Debug, Clone, PartialEq)]
pub enum SearchOptions {
    /// 98: the oldest.
    First,
    /// 92: the answer may have several results.
    Second,
    /// 90: with options; tag `0E` says 1 where the client reads new tags and 64-bit sizes.
    Third(Vec<Tag>),
}

impl ClientDatagram {
    /// The datagram.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Status { challenge } => with_challenge(0x96, *challenge),
            Self::Description { challenge } => with_challenge(0xA2, *challenge),
            Self::GetSources(files) => {
                let mut out = begin(0x9A);
                files.iter().for_each(|hash| out.extend_from_slice(hash));
                out
            }
            Self::GetSources2(files) => {
                let mut out = begin(0x94);
                files.iter().for_each(|wanted| wanted.put(&mut out));
                out
            }
            Self::Search { options, expression } => {
                let mut out = match options {
                    SearchOptions::First => begin(0x98),
                    SearchOptions::Second => begin(0x92),
                    SearchOptions::Third(tags) => {
                        let mut out = begin(0x90);
                        Tag::put_list(&mut out, tags, true);
                        out
                    }
                };
                expression.put(&mut out);
                out
            }
            Self::Callback { client, id } => {
                let mut out = begin(0x9C);
                put_endpoint(&mut out, *client);
                out.extend_from_slice(&id.number().to_le_bytes());
                out
            }
            Self::ServerList(server) => {
                let mut out = begin(0xA0);
                put_endpoint(&mut out, *server);
                out
            }
            Self::ServerList2 => begin(0xA4),
        }
    }
}

/// Reads a question of a client.
///
/// # Errors
/// [`WireError::Opcode`] when nobody here knows what it is; others when it is not well made.
pub fn decode_from_client(datagram: &[u8]) -> Result<ClientDatagram, WireError> {
    let (opcode, mut from) = open(datagram)?;
    let from = &mut from;
    Ok(match opcode {
        0x96 => ClientDatagram::Status { challenge: from.u32("the challenge").ok() },
        0xA2 => ClientDatagram::Description { challenge: from.u32("the challenge").ok() },
        0x9A => {
            let mut files = vec![from.hash("the wanted file")?];
            while from.left() >= 16 && files.len() < MAX_WANTED {
                files.push(from.hash("the wanted file")?);
            }
            ClientDatagram::GetSources(files)
        }
        0x94 => {
            let mut files = Vec::new();
            while (files.is_empty() || from.left() >= 20) && files.len() < MAX_WANTED {
                files.push(Wanted::read(from)?);
            }
            ClientDatagram::GetSources2(files)
        }
        0x98 | 0x92 | 0x90 => {
            let options = match opcode {
                0x98 => SearchOptions::First,
                0x92 => SearchOptions::Second,
                _ => SearchOptions::Third(Tag::read_list(from)?),
            };
            ClientDatagram::Search { options, expression: Expression::read(from)? }
        }
        0x9C => ClientDatagram::Callback {
            client: endpoint(from, "the client to call")?,
            id: ClientId::from_number(from.u32("the wanted client")?),
        },
        0xA0 => ClientDatagram::ServerList(endpoint(from, "the server's address")?),
        0xA4 => ClientDatagram::ServerList2,
        other => return Err(unknown(other)),
    })
}

fn with_challenge(opcode: u8, challenge: Option<u32>) -> Vec<u8> {
    let mut out = begin(opcode);
    out.extend(challenge.into_iter().flat_map(u32::to_le_bytes));
    out
}
