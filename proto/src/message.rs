use std::time::Duration;

use thiserror::Error;

use crate::{Name, Peer, Search, SearchResult};

/// Where in its life a peer says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PeerEvent {
    /// A regular announce.
    #[default]
    Regular,
    /// The peer joins.
    Started,
    /// The peer has just finished its download.
    Completed,
    /// The peer leaves.
    Stopped,
    /// The peer stays, but wants no more (BEP 21).
    Paused,
}

/// A peer tells of itself and asks for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announce {
    /// Who announces.
    pub peer: Peer,
    /// What it announces; all names stand for one content. Never empty.
    pub names: Vec<Name>,
    /// Where in its life the peer is.
    pub event: PeerEvent,
    /// Payload bytes sent to other peers since it started.
    pub uploaded: u64,
    /// Payload bytes received from other peers since it started.
    pub downloaded: u64,
    /// Bytes that the peer still lacks, if it said so.
    pub left: Option<u64>,
    /// How many peers it wants, if it said so.
    pub num_want: Option<u32>,
    /// What proves, after a change of address, that it is still the same peer.
    pub key: Option<u32>,
    /// What the tracker wanted to be told again; empty when it wanted nothing.
    pub token: Vec<u8>,
    /// What the peer calls the content, a file name as a rule; empty when it did not say.
    pub title: String,
    /// Bytes of the content, if it said so.
    pub length: Option<u64>,
}

impl Announce {
    /// A regular announce that says nothing more than who and what.
    #[must_use]
    pub fn new(peer: Peer, names: Vec<Name>) -> Self {
        Self {
            peer,
            names,
            event: PeerEvent::Regular,
            uploaded: 0,
            downloaded: 0,
            left: None,
            num_want: None,
            key: None,
            token: Vec::new(),
            title: String::new(),
            length: None,
        }
    }
}

/// Somebody asks for peers and tells nothing of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Find {
    /// What is looked for; all names stand for one content. Never empty.
    pub names: Vec<Name>,
    /// How many peers are wanted.
    pub num_want: Option<u32>,
    /// Bytes of the content, if that is known.
    pub length: Option<u64>,
}

impl Find {
    /// Asks for as many peers as there are.
    #[must_use]
    pub fn new(names: Vec<Name>) -> Self {
        Self { names, num_want: None, length: None }
    }
}

/// Asks for the size of swarms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwarmQuery {
    /// The swarms' names.
    pub names: Vec<Name>,
}

/// Peers that hold, or want, a name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerList {
    /// The peers.
    pub peers: Vec<Peer>,
    /// How long to wait before the next regular announce.
    pub interval: Duration,
    /// How long to wait before any announce, if that was said.
    pub min_interval: Option<Duration>,
    /// Peers that hold everything, if that was said.
    pub seeders: Option<u32>,
    /// Peers that lack something, if that was said.
    pub leechers: Option<u32>,
    /// What the tracker wants to be told again; empty when it wants nothing.
    pub token: Vec<u8>,
    /// A text of the tracker for people; empty when there is none.
    pub warning: String,
    /// How old the answer is, when it is given again because nobody answers now.
    pub stale: Option<Duration>,
}

/// Size of one swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SwarmStat {
    /// The swarm's name.
    pub name: Name,
    /// Peers that hold everything.
    pub seeders: u32,
    /// Peers that lack something.
    pub leechers: u32,
    /// Downloads that the tracker has seen complete, if that was said.
    pub completed: Option<u32>,
}

/// A question in the unified form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A peer tells of itself and asks for others.
    Announce(Announce),
    /// Somebody asks for peers.
    Find(Find),
    /// Somebody asks for the size of swarms.
    SwarmQuery(SwarmQuery),
    /// Somebody looks for contents.
    Search(Search),
}

impl Request {
    /// The names that the question is about; a search is about none.
    #[must_use]
    pub fn names(&self) -> &[Name] {
        match self {
            Self::Announce(announce) => &announce.names,
            Self::Find(find) => &find.names,
            Self::SwarmQuery(query) => &query.names,
            Self::Search(_) => &[],
        }
    }
}

/// An answer in the unified form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// To an announce or a find.
    Peers(PeerList),
    /// To a swarm query; an unknown swarm is left out.
    Swarms(Vec<SwarmStat>),
    /// To a search.
    Found(SearchResult),
}

/// What went wrong, in words that hold for every protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The request could not be understood.
    BadRequest,
    /// The name is not known, or not served here.
    UnknownName,
    /// The asker may not.
    Forbidden,
    /// Too much at once.
    Overloaded,
    /// The other side did not answer, or not in time.
    Unavailable,
    /// The other side answered with something that is not of its protocol.
    BadAnswer,
    /// This adapter cannot do that.
    Unsupported,
    /// A fault of the bridge.
    Internal,
}

/// Why a request was not answered, in the unified form.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text}")]
pub struct Fault {
    /// The reason.
    pub code: ErrorCode,
    /// The native code, if the protocol has codes.
    pub native_code: Option<i32>,
    /// The native text, or a sentence for people.
    pub text: String,
    /// How long to wait before asking again, if that was said.
    pub retry_after: Option<Duration>,
}

impl Fault {
    /// A fault with a sentence for people.
    pub fn new(code: ErrorCode, text: impl Into<String>) -> Self {
        Self { code, native_code: None, text: text.into(), retry_after: None }
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.code, ErrorCode::Overloaded | ErrorCode::Unavailable | ErrorCode::BadAnswer)
    }
}
