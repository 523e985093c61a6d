//! Native messages of both carriers: packets, unified forms, bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use p2pbridge_proto::{Body, ErrorCode, Fault, Name, Reply, Request};

use super::{Kind, Message};
use crate::{
    bittorrent::{
        metainfo::wire_hash,
        translate::{
            Announcer, announce_of_find, failure_of_fault, fault_of_failure, native_announce,
            native_peers, native_swarms, peer_list, swarm_stat, unified_announce, unified_scrape,
        },
        wire::{
            http::{
                self, AnnounceRequest, AnnounceResponse, Failure, ScrapeRequest, SwarmCounts,
                write_failure, write_scrape,
            },
            udp::{self, UdpRequest, UdpResponse},
        },
    },
    message::{DecodeError, Field, Hint, dialect::Kind as _},
};

/// A message in its native form.
pub(super) enum Native {
    UdpRequest(UdpRequest),
    UdpResponse(UdpResponse),
    UdpEmpty { transaction: u32 },
    HttpAnnounce(AnnounceRequest),
    HttpScrape(ScrapeRequest),
    HttpPeers(AnnounceResponse),
    HttpSwarms(Vec<([u8; 20], SwarmCounts)>),
    HttpFailure(Failure),
}

impl Native {
    /// A packet, a query string, or bencode.
    pub(super) fn encode(&self, ipv6: bool) -> Vec<u8> {
        match self {
            Self::UdpRequest(request) => request.encode(),
            Self::UdpResponse(response) => response.encode(ipv6),
            Self::UdpEmpty { transaction } => {
                [1u32.to_be_bytes(), transaction.to_be_bytes()].concat()
            }
            Self::HttpAnnounce(announce) => announce.query().into_bytes(),
            Self::HttpScrape(scrape) => scrape.query().into_bytes(),
            Self::HttpPeers(response) => {
                let ids = response.peers.iter().any(|peer| !peer.id.is_empty());
                response.encode(!ids, !ids)
            }
            Self::HttpSwarms(swarms) => write_scrape(swarms),
            Self::HttpFailure(failure) => write_failure(failure),
        }
    }
}

/// Reads a packet.
pub(super) fn read_udp(packet: &[u8], kind: Kind, ipv6: bool) -> Result<Message, DecodeError> {
    let failed = |error: udp::UdpError| DecodeError(error.to_string());
    let native = match kind {
        Kind::UdpConnectRequest | Kind::UdpAnnounceRequest | Kind::UdpScrapeRequest => {
            Native::UdpRequest(UdpRequest::decode(packet).map_err(failed)?)
        }
        Kind::UdpEmptyAnswer if packet.len() == 8 && packet.starts_with(&1u32.to_be_bytes()) => {
            let transaction = packet.last_chunk().copied().map_or(0, u32::from_be_bytes);
            Native::UdpEmpty { transaction }
        }
        _ => Native::UdpResponse(UdpResponse::decode(packet, ipv6).map_err(failed)?),
    };
    let extra = extra(packet, &native, ipv6);
    Ok(Message { kind: kind_of(&native), native, extra })
}

/// What is in a packet, and not in its native form.
fn extra(packet: &[u8], native: &Native, ipv6: bool) -> Vec<Field> {
    let mut extra = Vec::new();
    match native {
        Native::UdpRequest(request @ UdpRequest::Announce { .. }) => {
            let address = packet.get(84..).and_then(|rest| rest.first_chunk::<4>());
            if let Some(address) = address.filter(|address| **address != [0; 4]) {
                extra.push(Field::new("address", Ipv4Addr::from(*address)));
            }
            let options = packet.get(98..).unwrap_or_default();
            if request.encode().get(98..) != Some(options) {
                extra.push(Field::bytes("options", options));
            }
        }
        Native::UdpResponse(UdpResponse::Announce { response, .. }) => {
            let sent = packet.get(8..).and_then(|rest| rest.first_chunk::<4>());
            let sent = sent.map_or(0, |sent| u32::from_be_bytes(*sent));
            if u64::from(sent) != response.interval.as_secs() {
                extra.push(Field::new("interval as sent", sent.cast_signed()));
            }
            let (stride, peers) = (if ipv6 { 18 } else { 6 }, packet.get(20..).unwrap_or_default());
            let passed = (peers.len() / stride).saturating_sub(response.peers.len());
            if passed > 0 {
                extra.push(Field::new("passed over", passed));
            }
            if peers.len() % stride > 0 {
                extra.push(Field::new("left over", peers.len() % stride));
            }
        }
        _ => {}
    }
    extra
}

/// What a native message really is, whatever it was taken for.
fn kind_of(native: &Native) -> Kind {
    match native {
        Native::UdpRequest(UdpRequest::Connect { .. }) => Kind::UdpConnectRequest,
        Native::UdpRequest(UdpRequest::Announce { .. }) => Kind::UdpAnnounceRequest,
        Native::UdpRequest(UdpRequest::Scrape { .. }) => Kind::UdpScrapeRequest,
        Native::UdpResponse(UdpResponse::Connect { .. }) => Kind::UdpConnectAnswer,
        Native::UdpResponse(UdpResponse::Announce { .. }) => Kind::UdpAnnounceAnswer,
        Native::UdpResponse(UdpResponse::Scrape { .. }) => Kind::UdpScrapeAnswer,
        Native::UdpResponse(UdpResponse::Error { .. }) => Kind::UdpError,
        Native::UdpEmpty { .. } => Kind::UdpEmptyAnswer,
        Native::HttpAnnounce(_) => Kind::HttpAnnounceRequest,
        Native::HttpScrape(_) => Kind::HttpScrapeRequest,
        Native::HttpPeers(_) => Kind::HttpAnnounceAnswer,
        Native::HttpSwarms(_) => Kind::HttpScrapeAnswer,
        Native::HttpFailure(_) => Kind::HttpFailure,
    }
}

/// The unified form, or why there is none.
pub(super) fn unified(native: Native, hint: &Hint) -> Result<Body, &'static str> {
    let nobody: IpAddr = match hint.ipv6 {
        true => Ipv6Addr::UNSPECIFIED.into(),
        false => Ipv4Addr::UNSPECIFIED.into(),
    };
    let seen = hint.seen.unwrap_or(nobody);
    Ok(match native {
        Native::UdpRequest(UdpRequest::Connect { .. })
        | Native::UdpResponse(UdpResponse::Connect { .. }) => {
            return Err(
                "a connect proves the asker's address to one tracker; it says nothing of any content",
            );
        }
        Native::UdpRequest(UdpRequest::Announce { announce, .. })
        | Native::HttpAnnounce(announce) => unified_announce(announce, seen).into(),
        Native::UdpRequest(UdpRequest::Scrape { info_hashes, .. }) => {
            unified_scrape(ScrapeRequest { info_hashes }).into()
        }
        Native::HttpScrape(scrape) => unified_scrape(scrape).into(),
        Native::UdpResponse(UdpResponse::Announce { response, .. })
        | Native::HttpPeers(response) => Reply::Peers(peer_list(response)).into(),
        Native::UdpResponse(UdpResponse::Scrape { swarms, .. }) => {
            // Nobody asks a tracker of BitTorrent about other names.
            let is_ours = hint.names.iter().all(|name| wire_hash(name).is_some());
            if swarms.len() != hint.names.len() || !is_ours {
                return Err(
                    "of which swarms it speaks is in the request alone: tell the names that were asked about",
                );
            }
            let stats =
                hint.names.iter().zip(swarms).map(|(name, counts)| swarm_stat(*name, counts));
            Reply::Swarms(stats.collect()).into()
        }
        Native::HttpSwarms(swarms) => {
            let stats =
                swarms.into_iter().map(|(hash, counts)| swarm_stat(Name::btih(hash), counts));
            Reply::Swarms(stats.collect()).into()
        }
        Native::UdpResponse(UdpResponse::Error { message, .. }) => {
            fault_of_failure(Failure { reason: message, retry_in: None }).into()
        }
        Native::HttpFailure(failure) => fault_of_failure(failure).into(),
        Native::UdpEmpty { .. } => {
            let text = "the info-hash is not listed: the tracker's answer is empty";
            Fault::new(ErrorCode::UnknownName, text).into()
        }
    })
}

/// A unified message in the native form of a kind. What belongs to a conversation is 0.
pub(super) fn native(kind: Kind, body: &Body, hint: &Hint) -> Result<Native, DecodeError> {
    let (connection, transaction) = (0, 0);
    Ok(match (kind, body) {
        (
            Kind::UdpAnnounceRequest | Kind::HttpAnnounceRequest,
            Body::Request(request @ (Request::Announce(_) | Request::Find(_))),
        ) => {
            let announce = announce(request)?;
            match kind {
                Kind::HttpAnnounceRequest => Native::HttpAnnounce(announce),
                _ => Native::UdpRequest(UdpRequest::Announce {
                    connection,
                    transaction,
                    announce,
                    url_data: String::new(),
                }),
            }
        }
        (Kind::UdpScrapeRequest, Body::Request(Request::SwarmQuery(query))) => {
            let info_hashes = hashes(&query.names, udp::MAX_SCRAPE)?;
            Native::UdpRequest(UdpRequest::Scrape { connection, transaction, info_hashes })
        }
        (Kind::HttpScrapeRequest, Body::Request(Request::SwarmQuery(query))) => {
            let info_hashes = hashes(&query.names, http::MAX_SCRAPE)?;
            Native::HttpScrape(ScrapeRequest { info_hashes })
        }
        (Kind::UdpAnnounceAnswer | Kind::HttpAnnounceAnswer, Body::Reply(Reply::Peers(list))) => {
            let seen = hint.seen.unwrap_or(Ipv4Addr::UNSPECIFIED.into());
            let mut response = native_peers(list.clone(), seen);
            response.external_ip = hint.seen;
            match kind {
                Kind::HttpAnnounceAnswer => Native::HttpPeers(response),
                _ => Native::UdpResponse(UdpResponse::Announce { transaction, response }),
            }
        }
        (Kind::UdpScrapeAnswer, Body::Reply(Reply::Swarms(swarms))) => {
            let swarms = native_swarms(swarms).into_iter().map(|(_, counts)| counts).collect();
            Native::UdpResponse(UdpResponse::Scrape { transaction, swarms })
        }
        (Kind::HttpScrapeAnswer, Body::Reply(Reply::Swarms(swarms))) => {
            Native::HttpSwarms(native_swarms(swarms))
        }
        (Kind::UdpError | Kind::UdpEmptyAnswer, Body::Fault(fault)) => {
            let message = failure_of_fault(fault).reason;
            Native::UdpResponse(UdpResponse::Error { transaction, message })
        }
        (Kind::HttpFailure, Body::Fault(fault)) => Native::HttpFailure(failure_of_fault(fault)),
        _ => {
            let text = format!("this unified message cannot be a {}", kind.title());
            return Err(DecodeError(text));
        }
    })
}

fn announce(request: &Request) -> Result<AnnounceRequest, DecodeError> {
    let announce = match request {
        Request::Find(find) => announce_of_find(find.clone()),
        Request::Announce(announce) => announce.clone(),
        Request::SwarmQuery(_) | Request::Search(_) => {
            return Err(DecodeError("it is no announce".to_owned()));
        }
    };
    let [info_hash] = hashes(&announce.names, 1)?[..] else {
        return Err(DecodeError("an announce of BitTorrent has one name".to_owned()));
    };
    let nobody = Announcer { peer_id: [0; 20], port: 0, key: 0 };
    let token = Some(announce.token.clone()).filter(|token| !token.is_empty());
    Ok(native_announce(&announce, info_hash, nobody, token))
}

fn hashes(names: &[Name], most: usize) -> Result<Vec<[u8; 20]>, DecodeError> {
    if names.is_empty() || names.len() > most {
        return Err(DecodeError(format!("{} names: it takes 1 to {most}", names.len())));
    }
    let hash = |name| {
        wire_hash(name).ok_or_else(|| DecodeError(format!("{name} is no name of BitTorrent")))
    };
    names.iter().map(hash).collect()
}
