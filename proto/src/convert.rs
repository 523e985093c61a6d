//! The checked types ⇄ the generated ones.

mod search;

use std::time::{Duration, SystemTime};

use thiserror::Error;

use crate::{
    Announce, Body, ContentId, ContentIdError, Envelope, ErrorCode, Extent, Fault, Find, Layout,
    LayoutError, MAX_MESSAGE_ID, Name, NameError, OverlayId, Peer, PeerEvent, PeerId, PeerList,
    Reply, Request, Scheme, SwarmQuery, SwarmStat, v1,
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

pub(crate) fn invalid(field: &'static str, problem: impl ToString) -> ConvertError {
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

pub(crate) fn names(names: &[v1::Name]) -> Result<Vec<Name>, ConvertError> {
    if names.is_empty() {
        return Err(ConvertError::Missing("names"));
    }
    names.iter().map(Name::try_from).collect()
}

pub(crate) fn native_names(names: Vec<Name>) -> Vec<v1::Name> {
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
                title: announce.title,
                length: announce.length,
            }),
            Request::Find(find) => Self::Find(v1::Find {
                names: native_names(find.names),
                num_want: find.num_want,
                length: find.length,
            }),
            Request::Search(search) => Self::Search(search.into()),
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
                title: announce.title.clone(),
                length: announce.length,
            }),
            Body::Find(find) => Self::Find(Find {
                names: names(&find.names)?,
                num_want: find.num_want,
                length: find.length,
            }),
            Body::Search(search) => Self::Search(search.try_into()?),
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
            Reply::Found(result) => Self::SearchResult(result.into()),
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
            Body::SearchResult(result) => Self::Found(result.try_into()?),
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

impl TryFrom<&v1::Error> for Fault {
    type Error = ConvertError;

    fn try_from(error: &v1::Error) -> Result<Self, ConvertError> {
        let code = match v1::ErrorCode::try_from(error.code) {
            Ok(v1::ErrorCode::BadRequest) => ErrorCode::BadRequest,
            Ok(v1::ErrorCode::UnknownName) => ErrorCode::UnknownName,
            Ok(v1::ErrorCode::Forbidden) => ErrorCode::Forbidden,
            Ok(v1::ErrorCode::Overloaded) => ErrorCode::Overloaded,
            Ok(v1::ErrorCode::Unavailable) => ErrorCode::Unavailable,
            Ok(v1::ErrorCode::BadAnswer) => ErrorCode::BadAnswer,
            Ok(v1::ErrorCode::Unsupported) => ErrorCode::Unsupported,
            Ok(v1::ErrorCode::Internal) => ErrorCode::Internal,
            Ok(v1::ErrorCode::Unspecified) => return Err(ConvertError::Missing("code")),
            Err(error) => return Err(invalid("code", error)),
        };
        let retry_after = error.retry_after.map(|time| checked_duration("retry_after", time));
        let fault = Self {
            code,
            native_code: error.native_code,
            text: error.text.clone(),
            retry_after: retry_after.transpose()?,
        };
        if error.retryable != fault.is_retryable() {
            let problem = format!("{} does not go with the code", error.retryable);
            return Err(invalid("retryable", problem));
        }
        Ok(fault)
    }
}

impl From<Body> for v1::envelope::Body {
    fn from(body: Body) -> Self {
        match body {
            Body::Request(request) => request.into(),
            Body::Reply(reply) => reply.into(),
            Body::Fault(fault) => Self::Error(fault.into()),
        }
    }
}

impl TryFrom<&v1::envelope::Body> for Body {
    type Error = ConvertError;

    fn try_from(body: &v1::envelope::Body) -> Result<Self, ConvertError> {
        use v1::envelope::Body as Native;
        Ok(match body {
            Native::Announce(_) | Native::Find(_) | Native::SwarmQuery(_) | Native::Search(_) => {
                Self::Request(body.try_into()?)
            }
            Native::PeerList(_) | Native::SwarmStats(_) | Native::SearchResult(_) => {
                Self::Reply(body.try_into()?)
            }
            Native::Error(error) => Self::Fault(error.try_into()?),
            _ => return Err(invalid("body", "it is of no conversation with a tracker")),
        })
    }
}

impl From<Envelope> for v1::Envelope {
    fn from(envelope: Envelope) -> Self {
        Self {
            id: envelope.id,
            correlation_id: envelope.correlation_id,
            origin_overlay: envelope.origin.map(|id| id.to_string()).unwrap_or_default(),
            hop_limit: envelope.hop_limit,
            deadline: envelope.deadline.map(prost_types::Timestamp::from),
            body: Some(envelope.body.into()),
        }
    }
}

impl TryFrom<&v1::Envelope> for Envelope {
    type Error = ConvertError;

    fn try_from(envelope: &v1::Envelope) -> Result<Self, ConvertError> {
        let origin = match envelope.origin_overlay.as_str() {
            "" => None,
            id => {
                let id: Result<OverlayId, _> = id.parse();
                Some(id.map_err(|error| invalid("origin_overlay", error))?)
            }
        };
        let body = envelope.body.as_ref().ok_or(ConvertError::Missing("body"))?;
        Ok(Self {
            id: message_id("id", &envelope.id)?,
            correlation_id: message_id("correlation_id", &envelope.correlation_id)?,
            origin,
            hop_limit: envelope.hop_limit,
            deadline: envelope.deadline.map(checked_time).transpose()?,
            body: body.try_into()?,
        })
    }
}

fn message_id(field: &'static str, id: &str) -> Result<String, ConvertError> {
    if id.len() > MAX_MESSAGE_ID {
        return Err(invalid(field, format!("{} bytes are more than {MAX_MESSAGE_ID}", id.len())));
    }
    Ok(id.to_owned())
}

/// The longest protobuf duration, in seconds: about 10,000 years.
const MOST_SECONDS: u64 = 315_576_000_000;

/// Longer ones are cut to the longest.
fn proto_duration(duration: Duration) -> prost_types::Duration {
    let duration = duration.min(Duration::from_secs(MOST_SECONDS));
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(0),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

fn checked_duration(
    field: &'static str,
    duration: prost_types::Duration,
) -> Result<Duration, ConvertError> {
    let problem = || format!("{} s and {} ns are no time", duration.seconds, duration.nanos);
    let seconds = u64::try_from(duration.seconds).ok();
    let nanos = u32::try_from(duration.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    match (seconds, nanos) {
        (Some(seconds), Some(nanos)) if Duration::new(seconds, nanos).as_secs() < MOST_SECONDS => {
            Ok(Duration::new(seconds, nanos))
        }
        (Some(MOST_SECONDS), Some(0)) => Ok(Duration::from_secs(MOST_SECONDS)),
        _ => Err(invalid(field, problem())),
    }
}

/// A moment from 1970 to 9999.
fn checked_time(time: prost_types::Timestamp) -> Result<SystemTime, ConvertError> {
    const LAST: u64 = 253_402_300_799;
    let seconds = u64::try_from(time.seconds).ok().filter(|seconds| *seconds <= LAST);
    let nanos = u32::try_from(time.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    let since = seconds.zip(nanos).map(|(seconds, nanos)| Duration::new(seconds, nanos));
    since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since)).ok_or_else(|| {
        let problem = format!("{} s and {} ns are no moment", time.seconds, time.nanos);
        invalid("deadline", problem)
    })
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
