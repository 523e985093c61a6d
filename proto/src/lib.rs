//! The vocabulary of P2P-Bridge, in both forms: the generated protobuf types ([`v1`]), and the checked types that are
//! parsed once at the edge and are valid from then on.

/// The generated types of the package `p2pbridge.v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("p2pbridge.v1");
}

mod bits;
mod content;
mod convert;
mod envelope;
mod layout;
mod link;
mod message;
mod name;
mod overlay;
mod peer;
mod scheme;
mod search;

pub use bits::Bits;
pub use content::{ContentId, ContentIdError};
pub use convert::ConvertError;
pub use envelope::{Body, Envelope, MAX_MESSAGE_ID};
pub use layout::{Extent, Layout, LayoutError};
pub use link::{
    ED2K_PART, Ed2kFileLink, Ed2kLink, Ed2kParts, Ed2kServerLink, LinkError, MAX_ED2K_LINK,
    MAX_LINK_SOURCES,
};
pub use message::{
    Announce, ErrorCode, Fault, Find, PeerEvent, PeerList, Reply, Request, SwarmQuery, SwarmStat,
};
pub use name::{Name, NameError, parse_magnet_names};
pub use overlay::{Evidence, OverlayId, OverlayIdError};
pub use peer::{MAX_PEER_ID, Peer, PeerId, PeerIdError};
pub use scheme::Scheme;
pub use search::{
    FileKind, MAX_QUERY_DEPTH, MAX_QUERY_TERMS, MAX_QUERY_TEXT, Query, Search, SearchHit,
    SearchResult,
};

/// The compiled descriptors of all .proto files, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
