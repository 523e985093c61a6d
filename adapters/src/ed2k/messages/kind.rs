//! The kinds of messages.

use super::native::Native;
use crate::{
    ed2k::wire::{
        server::{ClientMessage, ServerMessage},
        udp::{ClientDatagram, ServerDatagram},
    },
    message::dialect::{self, Kind as _},
};

/// A kind of message between client and server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Login,
    GetServerList,
    Offer,
    Search,
    MoreResults,
    Disconnect,
    GetSources,
    GetSourcesObfuscated,
    Callback,
    Reject,
    ServerList,
    Found,
    Status,
    CallbackRequested,
    CallbackFailed,
    Text,
    Id,
    Ident,
    Sources,
    SourcesObfuscated,
    UdpAskStatus,
    UdpAskDescription,
    UdpGetSources,
    UdpGetSourcesOld,
    UdpSearch,
    UdpCallback,
    UdpGetServerList,
    UdpStatus,
    UdpDescription,
    UdpSources,
    UdpFound,
    UdpInvalidId,
    UdpServerList,
}

impl dialect::Kind for Kind {
    const ROWS: &'static [(Self, &'static str, &'static str)] = &[
        (Kind::Login, "tcp-login-request", "login"),
        (Kind::GetServerList, "tcp-get-server-list-request", "question for servers"),
        (Kind::Offer, "tcp-offer-request", "offer of files"),
        (Kind::Search, "tcp-search-request", "search"),
        (Kind::MoreResults, "tcp-more-results-request", "question for more results"),
        (Kind::Disconnect, "tcp-disconnect-request", "farewell"),
        (Kind::GetSources, "tcp-get-sources-request", "question for sources"),
        (
            Kind::GetSourcesObfuscated,
            "tcp-get-sources-obfuscated-request",
            "question for sources and how they obfuscate",
        ),
        (Kind::Callback, "tcp-callback-request", "question for a call back"),
        (Kind::Reject, "tcp-reject-answer", "rejection"),
        (Kind::ServerList, "tcp-server-list-answer", "list of servers"),
        (Kind::Found, "tcp-found-answer", "result of a search"),
        (Kind::Status, "tcp-status-answer", "status of a server"),
        (Kind::CallbackRequested, "tcp-callback-requested-answer", "call back to somebody"),
        (Kind::CallbackFailed, "tcp-callback-failed-answer", "failed call back"),
        (Kind::Text, "tcp-message-answer", "text of a server"),
        (Kind::Id, "tcp-id-answer", "id of a client"),
        (Kind::Ident, "tcp-ident-answer", "identity of a server"),
        (Kind::Sources, "tcp-sources-answer", "sources of a file"),
        (
            Kind::SourcesObfuscated,
            "tcp-sources-obfuscated-answer",
            "sources of a file and how they obfuscate",
        ),
        (Kind::UdpAskStatus, "udp-ask-status-request", "UDP question for the status"),
        (Kind::UdpAskDescription, "udp-ask-description-request", "UDP question for a description"),
        (Kind::UdpGetSources, "udp-get-sources-request", "UDP question for sources"),
        (
            Kind::UdpGetSourcesOld,
            "udp-get-sources-old-request",
            "UDP question for sources without sizes",
        ),
        (Kind::UdpSearch, "udp-search-request", "UDP search"),
        (Kind::UdpCallback, "udp-callback-request", "UDP question for a call back"),
        (Kind::UdpGetServerList, "udp-get-server-list-request", "UDP question for servers"),
        (Kind::UdpStatus, "udp-status-answer", "UDP status of a server"),
        (Kind::UdpDescription, "udp-description-answer", "UDP description of a server"),
        (Kind::UdpSources, "udp-sources-answer", "UDP sources of files"),
        (Kind::UdpFound, "udp-found-answer", "UDP result of a search"),
        (Kind::UdpInvalidId, "udp-invalid-id-answer", "UDP failed call back"),
        (Kind::UdpServerList, "udp-server-list-answer", "UDP list of servers"),
    ];
}

/// The words of all kinds.
pub(super) static WORDS: [&str; Kind::ROWS.len()] = dialect::words::<Kind, { Kind::ROWS.len() }>();

impl Kind {
    pub(super) fn is_udp(self) -> bool {
        self.word().starts_with("udp-")
    }

    /// Whether bytes begin as a datagram does: its opcodes are above those of TCP.
    pub(super) fn may_be_udp(bytes: &[u8]) -> bool {
        matches!(bytes, [0xE3, 0x90..=0xA4, ..])
    }

    /// The kind of a native message.
    pub(super) fn of(native: &Native) -> Self {
        match native {
            Native::TcpClient(message) => match message {
                ClientMessage::Login(_) => Self::Login,
                ClientMessage::GetServerList => Self::GetServerList,
                ClientMessage::Offer(_) => Self::Offer,
                ClientMessage::Search(_) => Self::Search,
                ClientMessage::MoreResults => Self::MoreResults,
                ClientMessage::Disconnect => Self::Disconnect,
                ClientMessage::GetSources(_) => Self::GetSources,
                ClientMessage::GetSourcesObfuscated(_) => Self::GetSourcesObfuscated,
                ClientMessage::Callback(_) => Self::Callback,
            },
            Native::TcpServer(message) => match message {
                ServerMessage::Reject => Self::Reject,
                ServerMessage::ServerList(_) => Self::ServerList,
                ServerMessage::SearchResult(_) => Self::Found,
                ServerMessage::Status { .. } => Self::Status,
                ServerMessage::CallbackRequested(_) => Self::CallbackRequested,
                ServerMessage::CallbackFailed => Self::CallbackFailed,
                ServerMessage::Message(_) => Self::Text,
                ServerMessage::IdChange(_) => Self::Id,
                ServerMessage::Ident(_) => Self::Ident,
                ServerMessage::FoundSources(_) => Self::Sources,
                ServerMessage::FoundSourcesObfuscated(_) => Self::SourcesObfuscated,
            },
            Native::UdpClient(datagram) => match datagram {
                ClientDatagram::Status { .. } => Self::UdpAskStatus,
                ClientDatagram::Description { .. } => Self::UdpAskDescription,
                ClientDatagram::GetSources(_) => Self::UdpGetSourcesOld,
                ClientDatagram::GetSources2(_) => Self::UdpGetSources,
                ClientDatagram::Search { .. } => Self::UdpSearch,
                ClientDatagram::Callback { .. } => Self::UdpCallback,
                ClientDatagram::ServerList(_) | ClientDatagram::ServerList2 => {
                    Self::UdpGetServerList
                }
            },
            Native::UdpServer(datagram) => match datagram {
                ServerDatagram::Status(_) => Self::UdpStatus,
                ServerDatagram::Description(_) => Self::UdpDescription,
                ServerDatagram::FoundSources(_) => Self::UdpSources,
                ServerDatagram::SearchResult(_) => Self::UdpFound,
                ServerDatagram::InvalidLowId(_) => Self::UdpInvalidId,
                ServerDatagram::ServerList(_) => Self::UdpServerList,
            },
        }
    }
}
