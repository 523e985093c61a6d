//! The checked types ⇄ the generated ones.

use std::time::Duration;

use thiserror::Error;

use crate::{
    Announce, ContentId, ContentIdError, ErrorCode, Extent, Fault, Find, Layout, LayoutError, Name,
    NameError, Peer, PeerEvent, PeerId, PeerList, Reply, Request, Scheme, SwarmQuery, SwarmStat,
    v1,
};

/// Why a protobuf message is not valid.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConvertError {
    /// A field that must be there is not.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A field has a value that it cannot have.
    #[error("`{field}`: {problem}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A name is no name.
    #[error("`name`: {0}")]
    Name(#[from] NameError),
    /// A layout is no layout.
    #[error("`layout`: {0}")]
    Layout(#[from] LayoutError),
    /// A content id is no content id.
    #[error("`content_id`: {0}")]
    Content(#[from] ContentIdError),
}

fn invalid(field: &'static str, problem: impl ToString) -> ConvertError {
    ConvertError::Invalid { field, problem: problem.to_string() }
}

impl From<Name> for v1::Name {
    fn from(name: Name) -> Self {
        Self { scheme: v1::Scheme::from(name.scheme()).into(), digest: name.digest().to_vec() }
    }
}

impl TryFrom<&v1::Name> for Name {
    type Error = ConvertError;

    fn try_from(name: &v1::Name) -> Result<Self, ConvertError> {
        let scheme = u8::try_from(name.scheme)
            .ok()
            .and_then(Scheme::from_number)
            .ok_or_else(|| invalid("scheme", format!("{} is no known scheme", name.scheme)))?;
        Ok(Self::new(scheme, &name.digest)?)
    }
}

fn names(names: &[v1::Name]) -> Result<Vec<Name>, ConvertError> {
    if names.is_empty() {
        return Err(ConvertError::Missing("names"));
    }
    names.iter().map(Name::try_from).collect()
}

fn native_names(names: Vec<Name>) -> Vec<v1::Name> {
    names.into_iter().map(v1::Name::from).collect()
}

impl From<&Layout> for v1::Layout {
    fn from(layout: &Layout) -> Self {
        let extents = layout.extents().iter().map(|extent| v1::Extent {
            offset: extent.offset,
            length: extent.length,
            content_id: extent.content.as_bytes().to_vec(),
            content_offset: extent.content_offset,
        });
        Self { length: layout.length(), unit: layout.unit(), extents: extents.collect() }
    }
}

impl TryFrom<&v1::Layout> for Layout {
    type Error = ConvertError;

    fn try_from(layout: &v1::Layout) -> Result<Self, ConvertError> {
        let extents = layout.extents.iter().map(|extent| {
            Ok(Extent {
                offset: extent.offset,
                length: extent.length,
                content: ContentId::try_from(extent.content_id.as_slice())?,
                content_offset: extent.content_offset,
            })
        });
        let extents = extents.collect::<Result<_, ConvertError>>()?;
        Ok(Self::new(layout.length, layout.unit, extents)?)
    }
}

impl From<Peer> for v1::Peer {
    fn from(peer: Peer) -> Self {
        Self { peer_id: peer.id.as_bytes().to_vec(), endpoint: peer.endpoint.to_string() }
    }
}

impl TryFrom<&v1::Peer> for Peer {
    type Error = ConvertError;

    fn try_from(peer: &v1::Peer) -> Result<Self, ConvertError> {
        let endpoint = peer.endpoint.parse().map_err(|_| {
            invalid("endpoint", format!("`{}` is no address and port", peer.endpoint))
        })?;
        let id = PeerId::try_from(&peer.peer_id[..]).map_err(|error| invalid("peer_id", error))?;
        Ok(Self { id, endpoint })
    }
}

impl From<PeerEvent> for v1::PeerEvent {
    fn from(event: PeerEvent) -> Self {
        match event {
            PeerEvent::Regular => Self::Unspecified,
            PeerEvent::Started => Self::Started,
            PeerEvent::Completed => Self::Completed,
            PeerEvent::Stopped => Self::Stopped,
            PeerEvent::Paused => Self::Paused,
        }
    }
}

impl From<v1::PeerEvent> for PeerEvent {
    fn from(event: v1::PeerEvent) -> Self {
        match event {
            v1::PeerEvent::Unspecified => Self::Regular,
            v1::PeerEvent::Started => Self::Started,
            v1::PeerEvent::Completed => Self::Completed,
            v1::PeerEvent::Stopped => Self::Stopped,
            v1::PeerEvent::Paused => Self::Paused,
        }
    }
}

impl From<Request> for v1::envelope::Body {
    fn from(request: Request) -> Self {
        match request {
            Request::Announce(announce) => Self::Announce(v1::Announce {
                peer: Some(announce.peer.into()),
                names: native_names(announce.names),
                event: v1::PeerEvent::from(announce.event).into(),
                uploaded: announce.uploaded,
                downloaded: announce.downloaded,
                left: announce.left,
                num_want: announce.num_want,
                key: announce.key,
                token: announce.token,
            }),
            Request::Find(find) => {
                Self::Find(v1::Find { names: native_names(find.names), num_want: find.num_want })
            }
            Request::SwarmQuery(query) => {
                Self::SwarmQuery(v1::SwarmQuery { names: native_names(query.names) })
            }
        }
    }
}

impl TryFrom<&v1::envelope::Body> for Request {
    type Error = ConvertError;

    fn try_from(body: &v1::envelope::Body) -> Result<Self, ConvertError> {
        use v1::envelope::Body;
        Ok(match body {
            Body::Announce(announce) => Self::Announce(Announce {
                peer: announce.peer.as_ref().ok_or(ConvertError::Missing("peer"))?.try_into()?,
                names: names(&announce.names)?,
                event: v1::PeerEvent::try_from(announce.event)
                    .map_err(|error| invalid("event", error))?
                    .into(),
                uploaded: announce.uploaded,
                downloaded: announce.downloaded,
                left: announce.left,
                num_want: announce.num_want,
                key: announce.key,
                token: announce.token.clone(),
            }),
            Body::Find(find) => {
                Self::Find(Find { names: names(&find.names)?, num_want: find.num_want })
            }
            Body::SwarmQuery(query) => Self::SwarmQuery(SwarmQuery { names: names(&query.names)? }),
            _ => return Err(invalid("body", "it is not a question to a tracker")),
        })
    }
}

impl From<Reply> for v1::envelope::Body {
    fn from(reply: Reply) -> Self {
        match reply {
            Reply::Peers(list) => Self::PeerList(v1::PeerList {
                peers: list.peers.into_iter().map(v1::Peer::from).collect(),
                interval: Some(proto_duration(list.interval)),
                min_interval: list.min_interval.map(proto_duration),
                seeders: list.seeders,
                leechers: list.leechers,
                token: list.token,
                warning: list.warning,
                stale: list.stale.map(proto_duration),
            }),
            Reply::Swarms(swarms) => Self::SwarmStats(v1::SwarmStats {
                swarms: swarms
                    .into_iter()
                    .map(|swarm| v1::SwarmStat {
                        name: Some(swarm.name.into()),
                        seeders: swarm.seeders,
                        leechers: swarm.leechers,
                        completed: swarm.completed,
                    })
                    .collect(),
            }),
        }
    }
}

impl TryFrom<&v1::envelope::Body> for Reply {
    type Error = ConvertError;

    fn try_from(body: &v1::envelope::Body) -> Result<Self, ConvertError> {
        use v1::envelope::Body;
        Ok(match body {
            Body::PeerList(list) => Self::Peers(PeerList {
                peers: list.peers.iter().map(Peer::try_from).collect::<Result<_, _>>()?,
                interval: list
                    .interval
                    .map(|interval| checked_duration("interval", interval))
                    .transpose()?
                    .unwrap_or_default(),
                min_interval: list
                    .min_interval
                    .map(|interval| checked_duration("min_interval", interval))
                    .transpose()?,
                seeders: list.seeders,
                leechers: list.leechers,
                token: list.token.clone(),
                warning: list.warning.clone(),
                stale: list.stale.map(|age| checked_duration("stale", age)).transpose()?,
            }),
            Body::SwarmStats(stats) => Self::Swarms(
                stats
                    .swarms
                    .iter()
                    .map(|swarm| {
                        let name = swarm.name.as_ref().ok_or(ConvertError::Missing("name"))?;
                        Ok(SwarmStat {
                            name: name.try_into()?,
                            seeders: swarm.seeders,
                            leechers: swarm.leechers,
                            completed: swarm.completed,
                        })
                    })
                    .collect::<Result<_, ConvertError>>()?,
            ),
            _ => return Err(invalid("body", "it is not a tracker's answer")),
        })
    }
}

impl From<ErrorCode> for v1::ErrorCode {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::BadRequest => Self::BadRequest,
            ErrorCode::UnknownName => Self::UnknownName,
            ErrorCode::Forbidden => Self::Forbidden,
            ErrorCode::Overloaded => Self::Overloaded,
            ErrorCode::Unavailable => Self::Unavailable,
            ErrorCode::BadAnswer => Self::BadAnswer,
            ErrorCode::Unsupported => Self::Unsupported,
            ErrorCode::Internal => Self::Internal,
        }
    }
}

impl From<Fault> for v1::Error {
    fn from(fault: Fault) -> Self {
        Self {
            retryable: fault.is_retryable(),
            code: v1::ErrorCode::from(fault.code).into(),
            native_code: fault.native_code,
            text: fault.text,
            retry_after: fault.retry_after.map(proto_duration),
        }
    }
}

fn proto_duration(duration: Duration) -> prost_types::Duration {
    // The longest protobuf duration is 10,000 years; longer ones are cut to it.
    const MOST: u64 = 315_576_000_000;
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs().min(MOST)).unwrap_or(0),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

fn checked_duration(
    field: &'static str,
    duration: prost_types::Duration,
) -> Result<Duration, ConvertError> {
    Duration::try_from(duration).map_err(|error| invalid(field, error))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_name() -> impl Strategy<Value = Name> {
        (0usize..8, any::<[u8; 32]>()).prop_map(|(index, digest)| {
            let scheme = Scheme::ALL[index];
            Name::new(scheme, &digest[..scheme.digest_len()]).unwrap()
        })
    }

    fn any_event() -> impl Strategy<Value = PeerEvent> {
        prop_oneof![
            Just(PeerEvent::Regular),
            Just(PeerEvent::Started),
            Just(PeerEvent::Completed),
            Just(PeerEvent::Stopped),
            Just(PeerEvent::Paused),
        ]
    }

    prop_compose! {
        fn any_announce()(
            id in prop::collection::vec(any::<u8>(), 0..33),
            endpoint in any::<std::net::SocketAddrV4>(),
            names in prop::collection::vec(any_name(), 1..3),
            event in any_event(),
            uploaded: u64,
            downloaded: u64,
            left: Option<u64>,
            (num_want, key, token) in any::<(Option<u32>, Option<u32>, Vec<u8>)>(),
        ) -> Announce {
            let id = PeerId::try_from(&id[..]).unwrap();
            let peer = Peer { id, endpoint: endpoint.into() };
            Announce { peer, names, event, uploaded, downloaded, left, num_want, key, token }
        }
    }

    proptest! {
        #[test]
        fn an_announce_survives_the_protobuf(announce in any_announce()) {
            let request = Request::Announce(announce);
            let body = v1::envelope::Body::from(request.clone());
            prop_assert_eq!(Request::try_from(&body), Ok(request));
        }

        #[test]
        fn a_peer_list_survives_the_protobuf(
            peers in prop::collection::vec(any::<std::net::SocketAddrV4>(), 0..9),
            interval in 0u64..1 << 38,
            min_interval in prop::option::of(0u64..1 << 38),
            seeders: Option<u32>,
            (token, warning, stale) in any::<(Vec<u8>, String, Option<u32>)>(),
        ) {
            let reply = Reply::Peers(PeerList {
                peers: peers.into_iter().map(|at| Peer::at(at.into())).collect(),
                interval: Duration::from_secs(interval),
                min_interval: min_interval.map(Duration::from_secs),
                seeders,
                leechers: None,
                token,
                warning,
                stale: stale.map(|age| Duration::from_secs(age.into())),
            });
            let body = v1::envelope::Body::from(reply.clone());
            prop_assert_eq!(Reply::try_from(&body), Ok(reply));
        }
    }

    #[test]
    fn refuses_what_is_missing() {
        let body = v1::envelope::Body::Find(v1::Find::default());
        assert_eq!(Request::try_from(&body), Err(ConvertError::Missing("names")));
        let name = v1::Name { scheme: 1, digest: vec![0; 19] };
        assert_eq!(
            Name::try_from(&name).unwrap_err().to_string(),
            "`name`: a btih digest has 20 bytes, not 19"
        );
    }
}
