//! Native messages of both carriers: unified forms, bytes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use p2pbridge_proto::{Body, Name, PeerEvent, Reply, Request, Scheme};

use super::Kind;
use crate::{
    ed2k::{
        translate::{
            announce_of_offer, answer_of_result, expression_of_query, file_of_hit, find_of_wanted,
            offer_of_announce, peers_of_sources, query_of_expression, result_of_answer,
            source_of_peer, wanted_of_find,
        },
        wire::{
            Hash, Tag,
            server::{ClientMessage, FoundSources, SearchAnswer, ServerMessage, Wanted},
            udp::{ClientDatagram, SearchOptions, ServerDatagram},
        },
    },
    message::{DecodeError, Hint, dialect::Kind as _},
};

const OF_A_SESSION: &str =
    "it belongs to the session of one client with one server; it says nothing of any content";
const SEVERAL: &str = "it is about several files: each of them is a unified message of its own";

/// A message in its native form.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Native {
    TcpClient(ClientMessage),
    TcpServer(ServerMessage),
    UdpClient(ClientDatagram),
    UdpServer(ServerDatagram),
}

impl Native {
    /// A message in its frame, not compressed, or a datagram.
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::TcpClient(message) => message.to_packet(true).to_bytes(),
            Self::TcpServer(message) => message.to_packet(true).to_bytes(),
            Self::UdpClient(datagram) => datagram.encode(),
            Self::UdpServer(datagram) => datagram.encode(true),
        }
    }
}

/// The unified form, or why there is none.
pub(super) fn unified(native: &Native, hint: &Hint) -> Result<Body, &'static str> {
    let find = |wanted: &Wanted| Body::from(Request::Find(find_of_wanted(wanted)));
    let peers = |found: &FoundSources| Body::from(Reply::Peers(peers_of_sources(found)));
    Ok(match native {
        Native::TcpClient(ClientMessage::Offer(files)) => {
            let [file] = files.as_slice() else { return Err(SEVERAL) };
            let seen = hint.seen.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            let endpoint = SocketAddr::new(seen, 0);
            let announce = announce_of_offer(file, &[0; 16], endpoint, PeerEvent::Regular);
            Request::Announce(announce).into()
        }
        Native::TcpClient(ClientMessage::Search(expression))
        | Native::UdpClient(ClientDatagram::Search { expression, .. }) => {
            let (query, _) = query_of_expression(expression)?;
            Request::Search(p2pbridge_proto::Search { query, max_results: None }).into()
        }
        Native::TcpClient(
            ClientMessage::GetSources(wanted) | ClientMessage::GetSourcesObfuscated(wanted),
        ) => find(wanted),
        Native::TcpServer(
            ServerMessage::FoundSources(found) | ServerMessage::FoundSourcesObfuscated(found),
        ) => peers(found),
        Native::TcpServer(ServerMessage::SearchResult(answer)) => {
            Reply::Found(result_of_answer(answer)).into()
        }
        Native::UdpClient(ClientDatagram::GetSources(files)) => {
            let [hash] = files.as_slice() else { return Err(SEVERAL) };
            find(&Wanted { hash: *hash, size: None })
        }
        Native::UdpClient(ClientDatagram::GetSources2(files)) => {
            let [wanted] = files.as_slice() else { return Err(SEVERAL) };
            find(wanted)
        }
        Native::UdpServer(ServerDatagram::FoundSources(found)) => {
            let [found] = found.as_slice() else { return Err(SEVERAL) };
            peers(found)
        }
        Native::UdpServer(ServerDatagram::SearchResult(files)) => {
            let answer = SearchAnswer { files: files.clone(), more: None };
            Reply::Found(result_of_answer(&answer)).into()
        }
        _ => return Err(OF_A_SESSION),
    })
}

/// A unified message in the native form of a kind.
pub(super) fn native(kind: Kind, body: &Body, hint: &Hint) -> Result<Native, DecodeError> {
    let none = |what: &str| DecodeError(format!("it has no {what} of eD2k"));
    Ok(match (kind, body) {
        (Kind::Offer, Body::Request(Request::Announce(announce))) => {
            let file = offer_of_announce(announce).ok_or_else(|| none("hash, or no length,"))?;
            Native::TcpClient(ClientMessage::Offer(vec![file]))
        }
        (Kind::Search, Body::Request(Request::Search(search))) => {
            Native::TcpClient(ClientMessage::Search(expression_of_query(&search.query)))
        }
        (Kind::UdpSearch, Body::Request(Request::Search(search))) => {
            let options = SearchOptions::Third(vec![Tag::number(0x0E, 1_u32)]);
            let expression = expression_of_query(&search.query);
            Native::UdpClient(ClientDatagram::Search { options, expression })
        }
        (
            Kind::GetSources
            | Kind::GetSourcesObfuscated
            | Kind::UdpGetSources
            | Kind::UdpGetSourcesOld,
            Body::Request(Request::Find(find)),
        ) => {
            let wanted = wanted_of_find(find).ok_or_else(|| none("hash"))?;
            match kind {
                Kind::GetSources => Native::TcpClient(ClientMessage::GetSources(wanted)),
                Kind::GetSourcesObfuscated => {
                    Native::TcpClient(ClientMessage::GetSourcesObfuscated(wanted))
                }
                Kind::UdpGetSources => Native::UdpClient(ClientDatagram::GetSources2(vec![wanted])),
                _ => Native::UdpClient(ClientDatagram::GetSources(vec![wanted.hash])),
            }
        }
        (
            Kind::Sources | Kind::SourcesObfuscated | Kind::UdpSources,
            Body::Reply(Reply::Peers(list)),
        ) => {
            let with_user = |peer| {
                let mut source = source_of_peer(peer)?;
                source.crypt.user = peer.id.as_bytes().try_into().ok();
                Some(source)
            };
            let sources = list.peers.iter().filter_map(with_user).collect();
            let found = FoundSources { hash: asked(hint), sources };
            match kind {
                Kind::Sources => Native::TcpServer(ServerMessage::FoundSources(found)),
                Kind::UdpSources => Native::UdpServer(ServerDatagram::FoundSources(vec![found])),
                _ => Native::TcpServer(ServerMessage::FoundSourcesObfuscated(found)),
            }
        }
        (Kind::Found, Body::Reply(Reply::Found(result))) => {
            Native::TcpServer(ServerMessage::SearchResult(answer_of_result(result)))
        }
        (Kind::UdpFound, Body::Reply(Reply::Found(result))) => {
            let files: Vec<_> = result.hits.iter().filter_map(file_of_hit).collect();
            if files.is_empty() {
                return Err(DecodeError("over UDP nothing is said of finding nothing".to_owned()));
            }
            Native::UdpServer(ServerDatagram::SearchResult(files))
        }
        _ => {
            let text = format!("this unified message cannot be a {}", kind.title());
            return Err(DecodeError(text));
        }
    })
}

/// The file that was asked about, if it was told.
fn asked(hint: &Hint) -> Hash {
    let name = hint.names.iter().find(|name: &&Name| name.scheme() == Scheme::Ed2k);
    name.and_then(|name| name.digest().try_into().ok()).unwrap_or_default()
}
