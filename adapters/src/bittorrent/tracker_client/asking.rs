//! One question to one tracker: over which families, for whom, and what came of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use futures::future::join_all;
use p2pbridge_proto::{Announce, ErrorCode, Fault};
use tokio::time::{Instant, timeout_at};

use super::{
    BtTrackerClient,
    http::{self, Trip, Way},
    tracker::{Pass, Tracker},
    udp,
};
use crate::bittorrent::{
    translate::{Announcer, native_announce},
    wire::http::{AnnounceResponse, SwarmCounts},
};

/// A family of addresses in which the overlay's peers can reach the bridge, and in which it therefore announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Family {
    /// The address; unspecified for every one of the machine.
    pub(super) source: IpAddr,
    pub(super) port: u16,
}

/// What a tracker is asked.
pub(super) enum Question<'a> {
    /// An announce of the bridge itself.
    Announce { announce: &'a Announce, hash: [u8; 20], tracker_id: Option<Vec<u8>> },
    /// An announce of a peer, for whose address the tracker is to take the one in the announce.
    Forward { announce: &'a Announce, hash: [u8; 20] },
    /// The sizes of swarms.
    Scrape(Vec<[u8; 20]>),
}

/// What a tracker has answered.
pub(super) enum Answer {
    Announced(AnnounceResponse),
    Scraped(Vec<([u8; 20], SwarmCounts)>),
}

impl Answer {
    pub(super) fn announced(self) -> Option<AnnounceResponse> {
        match self {
            Self::Announced(response) => Some(response),
            Self::Scraped(_) => None,
        }
    }

    pub(super) fn scraped(self) -> Option<Vec<([u8; 20], SwarmCounts)>> {
        match self {
            Self::Announced(_) => None,
            Self::Scraped(swarms) => Some(swarms),
        }
    }
}

/// Why a tracker did not give what it was asked for.
#[derive(Debug)]
pub(super) enum Problem {
    /// It answered, by a refusal.
    Refused(Fault),
    /// It gave no proper answer.
    Failed(Fault),
    /// It was not asked: its budget is used up.
    Shed(Fault),
}

impl Problem {
    pub(super) fn failed(code: ErrorCode, text: impl Into<String>) -> Self {
        Self::Failed(Fault::new(code, text))
    }

    pub(super) fn fault(&self) -> &Fault {
        match self {
            Self::Refused(fault) | Self::Failed(fault) | Self::Shed(fault) => fault,
        }
    }

    pub(super) fn into_fault(self) -> Fault {
        match self {
            Self::Refused(fault) | Self::Failed(fault) | Self::Shed(fault) => fault,
        }
    }
}

/// Why nobody answered: the first refusal, else the first that was shed, else the first failure; with the shortest time
/// to wait.
#[derive(Default)]
pub(super) struct Nobody {
    refusal: Option<Fault>,
    shed: Option<Fault>,
    failure: Option<Fault>,
}

impl Nobody {
    pub(super) fn add(&mut self, problem: Problem) {
        let slot = match problem {
            Problem::Refused(_) => &mut self.refusal,
            Problem::Shed(_) => &mut self.shed,
            Problem::Failed(_) => &mut self.failure,
        };
        let fault = problem.into_fault();
        match slot {
            Some(first) => {
                let both = first.retry_after.into_iter().chain(fault.retry_after);
                first.retry_after = both.min();
            }
            None => *slot = Some(fault),
        }
    }

    /// Whether one of them failed: then whoever answers instead takes its place. One that was not asked, or that
    /// refuses, keeps it.
    pub(super) fn has_failure(&self) -> bool {
        self.failure.is_some()
    }

    pub(super) fn fault(self) -> Fault {
        let none = || Fault::new(ErrorCode::Unavailable, "there is no tracker to ask");
        self.refusal.or(self.shed).or(self.failure).unwrap_or_else(none)
    }
}

/// One of the ways of a question, and what it says of the bridge there.
struct Leg {
    way: Way,
    port: u16,
    forwarded_for: Option<IpAddr>,
}

impl BtTrackerClient {
    /// Asks over each family in which it is to be asked; one answer is enough.
    pub(super) async fn in_each_family(
        &self,
        tracker: &Tracker,
        pass: Pass<'_>,
        question: &Question<'_>,
        deadline: Instant,
    ) -> Result<Vec<Answer>, Problem> {
        let result = self.answers(tracker, question, deadline).await;
        tracker.note(pass, &result);
        result
    }

    async fn answers(
        &self,
        tracker: &Tracker,
        question: &Question<'_>,
        deadline: Instant,
    ) -> Result<Vec<Answer>, Problem> {
        let late = |_| Problem::failed(ErrorCode::Unavailable, "no answer in time");
        let addresses = timeout_at(deadline, tracker.addresses()).await.map_err(late)??;
        let legs = self.legs(&addresses, question);
        if let [leg] = legs.as_slice() {
            let answer = timeout_at(deadline, self.ask(tracker, leg, question, deadline)).await;
            return Ok(vec![answer.map_err(late)??]);
        }
        let each =
            legs.iter().map(|leg| timeout_at(deadline, self.ask(tracker, leg, question, deadline)));
        let (mut answers, mut problem) = (Vec::new(), None);
        for result in join_all(each).await {
            match result.map_err(late).flatten() {
                Ok(answer) => answers.push(answer),
                Err(error) => problem = problem.or(Some(error)),
            }
        }
        if answers.is_empty() {
            return Err(problem.unwrap_or_else(|| {
                let text = "it has no address in a family in which the overlay listens";
                Problem::failed(ErrorCode::Unavailable, text)
            }));
        }
        Ok(answers)
    }

    /// By which ways a question goes to a tracker with these addresses.
    fn legs(&self, addresses: &[SocketAddr], question: &Question<'_>) -> Vec<Leg> {
        let of = |ipv6: bool| addresses.iter().find(|address| address.is_ipv6() == ipv6).copied();
        if !self.inline {
            let legs = self.families.iter().filter_map(|Family { source, port }| {
                let way = Way { source: *source, address: of(source.is_ipv6())? };
                Some(Leg { way, port: *port, forwarded_for: None })
            });
            return legs.collect();
        }
        // The tracker believes the header: it does not matter from where it is asked.
        let leg = |ip: IpAddr, port| {
            let address = of(ip.is_ipv6()).or(addresses.first().copied())?;
            let any = if address.is_ipv6() {
                IpAddr::V6(Ipv6Addr::UNSPECIFIED)
            } else {
                IpAddr::V4(Ipv4Addr::UNSPECIFIED)
            };
            Some(Leg { way: Way { source: any, address }, port, forwarded_for: Some(ip) })
        };
        let ours = self.families.iter().filter(|family| !family.source.is_unspecified());
        match question {
            Question::Announce { .. } => {
                ours.filter_map(|family| leg(family.source, family.port)).collect()
            }
            Question::Forward { announce, .. } => {
                let endpoint = announce.peer.endpoint;
                leg(endpoint.ip().to_canonical(), endpoint.port()).into_iter().collect()
            }
            // A tracker that needs the header needs it here too, and takes nothing down.
            Question::Scrape(_) => {
                let ip = ours.map(|family| family.source).next();
                leg(ip.unwrap_or(Ipv4Addr::LOCALHOST.into()), 0).into_iter().collect()
            }
        }
    }

    async fn ask(
        &self,
        tracker: &Tracker,
        leg: &Leg,
        question: &Question<'_>,
        deadline: Instant,
    ) -> Result<Answer, Problem> {
        // What waits for its turn too long is shed: that nothing comes to it then is no failure of the tracker's.
        let leave_by = tracker.leave_by(deadline);
        let ticket = tracker.limiter.admit(leave_by).await;
        let ticket = &ticket.map_err(|shed| Problem::Shed(shed.into()))?;
        let forwarded_for = leg.forwarded_for;
        let trip = Trip { way: leg.way, forwarded_for, ticket, deadline, leave_by };
        let by = Announcer { peer_id: self.peer_id, port: leg.port, key: self.key };
        let native = match question {
            Question::Announce { announce, hash, tracker_id } => {
                native_announce(announce, *hash, by, tracker_id.clone())
            }
            Question::Forward { announce, hash } => {
                let token = Some(announce.token.clone()).filter(|token| !token.is_empty());
                native_announce(announce, *hash, by, token)
            }
            Question::Scrape(hashes) => {
                let answer = if tracker.url.is_udp() {
                    udp::scrape(tracker, hashes, trip).await
                } else {
                    http::scrape(tracker, hashes, trip).await
                };
                tracker.note_trip(&answer, ticket.since_last());
                return answer.map(Answer::Scraped);
            }
        };
        let answer = if tracker.url.is_udp() {
            udp::announce(tracker, native, trip).await
        } else {
            http::announce(tracker, &native, trip).await
        };
        tracker.note_trip(&answer, ticket.since_last());
        answer.map(Answer::Announced)
    }
}
