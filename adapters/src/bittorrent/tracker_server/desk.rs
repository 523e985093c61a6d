//! Where the tracker's doors meet: native questions become unified ones and go to the handler.

use std::{net::IpAddr, sync::Arc};

use p2pbridge_proto::{OverlayId, PeerEvent, Reply, Request};

use super::{
    super::{
        identity,
        translate::{unified_announce, unified_scrape},
        wire::http::{AnnounceRequest, ScrapeRequest},
    },
    tally::Tally,
};
use crate::{Answer, Asked, Handler};

/// What one thread of a tracker server works with.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) overlay: OverlayId,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) tally: Arc<Tally>,
    /// Answers have room for addresses of the asker's family only, as over UDP.
    pub(super) one_family: bool,
}

impl Desk {
    /// Brings an announce to the handler; the peer's address is the one that was seen.
    pub(super) fn announce(
        &self,
        mut native: AnnounceRequest,
        seen: IpAddr,
        passed_on: bool,
    ) -> Answer {
        let hop_limit = match (passed_on, identity::is_a_bridge(&native.peer_id)) {
            (true, _) => Asked::ANSWER_HERE,
            // Another bridge that asks must not be answered with what this bridge would ask others for.
            (false, true) => Asked::PASS_ON,
            (false, false) => Asked::ALL,
        };
        if native.event == PeerEvent::Stopped {
            native.num_want = Some(0);
        }
        self.ask(hop_limit, unified_announce(native, seen))
    }

    /// Brings a scrape to the handler.
    pub(super) fn scrape(&self, native: ScrapeRequest, passed_on: bool) -> Answer {
        let hop_limit = if passed_on { Asked::ANSWER_HERE } else { Asked::ALL };
        self.ask(hop_limit, unified_scrape(native))
    }

    fn ask(&self, hop_limit: u32, request: Request) -> Answer {
        self.handler.handle(
            Asked { overlay: &self.overlay, hop_limit, one_family: self.one_family },
            request,
        )
    }
}

/// Takes the peers out of an answer to a peer that leaves.
pub(super) fn without_peers(reply: Reply) -> Reply {
    match reply {
        Reply::Peers(mut list) => {
            list.peers.clear();
            Reply::Peers(list)
        }
        other @ (Reply::Swarms(_) | Reply::Found(_)) => other,
    }
}
