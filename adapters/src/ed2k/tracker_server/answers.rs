//! What a client that is logged in asks for, and what it is answered.

use std::net::{SocketAddr, SocketAddrV4};

use p2pbridge_proto::{Announce, Fault, PeerList, Reply, Request, Search, SearchResult};
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::{
    Front,
    offers::Taken,
    roster::Seat,
    session::{ANSWER_TIMEOUT, Later, Session},
};
use crate::{
    Answer, Asked,
    ed2k::{
        translate::{file_of_hit, find_of_wanted, query_of_expression, source_of_peer},
        wire::{
            ClientId,
            search::Expression,
            server::{
                CallbackRequested, ClientMessage, Crypt, FileRecord, FoundSources, SearchAnswer,
                ServerMessage, Source, Wanted,
            },
        },
    },
    tally::Outcome,
};

/// Sources that one answer names.
const MAX_SOURCES: u32 = 200;
/// Results of a search that are kept, and that one message has.
const MAX_RESULTS: usize = 600;
const RESULTS_AT_ONCE: usize = 200;
/// What a search costs beside another question.
const SEARCH_COST: f64 = 5.0;

impl Session {
    /// Answers a message, now or later.
    pub(super) fn answer(&mut self, message: ClientMessage) {
        let cost = if matches!(message, ClientMessage::Search(_)) { SEARCH_COST } else { 1.0 };
        self.pace.take(cost, Instant::now());
        let outcome = match message {
            ClientMessage::Offer(files) => self.offer(&files),
            ClientMessage::GetSources(wanted) => self.find(wanted, false),
            ClientMessage::GetSourcesObfuscated(wanted) => self.find(wanted, true),
            ClientMessage::Search(expression) => self.search(&expression),
            ClientMessage::MoreResults => {
                self.say_results(false);
                Some(Outcome::Answered)
            }
            ClientMessage::Callback(id) => Some(self.call_back(id)),
            ClientMessage::GetServerList => {
                let others = self.front.server.config.other_servers.clone();
                self.say(&ServerMessage::ServerList(others));
                Some(Outcome::Answered)
            }
            ClientMessage::Login(_) => {
                self.say(&ServerMessage::Reject);
                Some(Outcome::Refused)
            }
            ClientMessage::Disconnect => Some(Outcome::Answered),
        };
        if let Some(outcome) = outcome {
            self.front.tally.done(outcome);
        }
    }

    /// Says what came later.
    pub(super) fn later(&mut self, later: Later) {
        match later {
            Later::Say(message, outcome, owed) => {
                self.say(&message);
                owed.done(outcome);
            }
            Later::Found(result, owed) => {
                self.found(result);
                owed.done(Outcome::Answered);
            }
        }
    }

    /// Tells the handler of an offer; `false` when it does not take it.
    pub(super) fn announce(&self, announce: Announce) -> bool {
        match self.ask(Request::Announce(announce)) {
            // What would come later are peers, and none are wanted.
            Answer::Now(Ok(_)) | Answer::Later(_) => true,
            Answer::Now(Err(fault)) => {
                debug!(%fault, "an offer is not taken");
                false
            }
        }
    }

    fn ask(&self, request: Request) -> Answer {
        let hop_limit = if self.is_bridge { Asked::PASS_ON } else { Asked::ALL };
        self.front.ask(hop_limit, request)
    }

    fn offer(&mut self, files: &[FileRecord]) -> Option<Outcome> {
        let (now, seat) = (Instant::now(), self.seat.clone());
        let (mut passed_over, mut refused) = (0_usize, 0_usize);
        for file in files {
            let roster = &self.front.server.roster;
            let new = !self.offers.has(&file.hash);
            if new && !roster.take_file() {
                passed_over += 1;
                continue;
            }
            match self.offers.take(file, &seat, now) {
                Taken::New(announce) => refused += usize::from(!self.announce(*announce)),
                Taken::Known => {}
                Taken::TooMany => {
                    roster.give_files(1);
                    passed_over += 1;
                }
            }
        }
        if passed_over > 0 && !self.told_too_many {
            self.told_too_many = true;
            let most = self.front.server.config.max_files_per_client;
            let text = format!(
                "WARNING : only {} of your files are listed here; at most {most} of one user are",
                self.offers.len()
            );
            self.say(&ServerMessage::Message(text));
        }
        let all_lost = !files.is_empty() && passed_over + refused == files.len();
        Some(if all_lost { Outcome::Refused } else { Outcome::Answered })
    }

    fn find(&mut self, wanted: Wanted, obfuscated: bool) -> Option<Outcome> {
        let mut find = find_of_wanted(&wanted);
        find.num_want = Some(MAX_SOURCES);
        let asker = self.seat.clone();
        let front = self.front.clone();
        let tell = move |answered: Result<Reply, Fault>| {
            let (sources, outcome) = match answered {
                Ok(Reply::Peers(list)) => (front.sources(&list, &asker), Outcome::Answered),
                Ok(_) => (Vec::new(), Outcome::Refused),
                Err(fault) => {
                    debug!(%fault, "sources are not told");
                    (Vec::new(), Outcome::Refused)
                }
            };
            let found = FoundSources { hash: wanted.hash, sources };
            let message = if obfuscated {
                ServerMessage::FoundSourcesObfuscated(found)
            } else {
                ServerMessage::FoundSources(found)
            };
            (message, outcome)
        };
        match self.ask(Request::Find(find)) {
            Answer::Now(answered) => {
                let (message, outcome) = tell(answered);
                self.say(&message);
                Some(outcome)
            }
            Answer::Later(answer) => {
                let owed = self.front.tally.owed();
                self.waiting.push(Box::pin(async move {
                    let (message, outcome) = tell(in_time(answer).await);
                    Later::Say(message, outcome, owed)
                }));
                None
            }
        }
    }

    fn search(&mut self, expression: &Expression) -> Option<Outcome> {
        self.rest.clear();
        let query = match query_of_expression(expression) {
            Ok((query, _)) => query,
            Err(why) => return Some(self.no_results(why)),
        };
        let max_results = u32::try_from(MAX_RESULTS).ok();
        match self.ask(Request::Search(Search { query, max_results })) {
            Answer::Now(Ok(Reply::Found(result))) => {
                self.found(result);
                Some(Outcome::Answered)
            }
            Answer::Now(Ok(_)) => {
                Some(self.no_results("the search was answered with something else"))
            }
            Answer::Now(Err(fault)) => Some(self.no_results(&fault.text)),
            Answer::Later(answer) => {
                let owed = self.front.tally.owed();
                self.waiting.push(Box::pin(async move {
                    match in_time(answer).await {
                        Ok(Reply::Found(result)) => Later::Found(result, owed),
                        Ok(_) | Err(_) => Later::Say(nothing_found(), Outcome::Refused, owed),
                    }
                }));
                None
            }
        }
    }

    /// Clients wait for an answer to each search.
    fn no_results(&mut self, why: &str) -> Outcome {
        self.say(&ServerMessage::Message(format!("ERROR : {why}")));
        self.say(&nothing_found());
        Outcome::Refused
    }

    fn found(&mut self, result: SearchResult) {
        self.rest = result.hits;
        self.rest.truncate(MAX_RESULTS);
        // They are given from the end.
        self.rest.reverse();
        self.say_results(true);
    }

    fn say_results(&mut self, first: bool) {
        let mut files = Vec::new();
        while files.len() < RESULTS_AT_ONCE
            && let Some(hit) = self.rest.pop()
        {
            files.extend(file_of_hit(&hit));
        }
        if first || !files.is_empty() {
            let more = Some(!self.rest.is_empty());
            self.say(&ServerMessage::SearchResult(SearchAnswer { files, more }));
        }
    }

    /// Has the client with a low id connect to this one.
    fn call_back(&mut self, id: ClientId) -> Outcome {
        let asker = match (self.seat.id, self.seat.endpoint) {
            // Who cannot be reached itself cannot be called back.
            (ClientId::High(_), SocketAddr::V4(asker)) => Some(asker),
            _ => None,
        };
        let called =
            asker.is_some_and(|asker| self.front.server.call(id, asker, self.seat.crypt()));
        if called {
            return Outcome::Answered;
        }
        self.say(&ServerMessage::CallbackFailed);
        Outcome::Refused
    }
}

fn nothing_found() -> ServerMessage {
    ServerMessage::SearchResult(SearchAnswer { files: Vec::new(), more: Some(false) })
}

async fn in_time(
    answer: futures::future::BoxFuture<'static, Result<Reply, Fault>>,
) -> Result<Reply, Fault> {
    let late = || Fault::new(p2pbridge_proto::ErrorCode::Overloaded, "the answer took too long");
    timeout(ANSWER_TIMEOUT, answer).await.unwrap_or_else(|_| Err(late()))
}

impl Front {
    /// Peers as sources for a client: not itself; one with a low id only if it is logged in here, and the asker can be
    /// reached.
    pub(super) fn sources(&self, list: &PeerList, asker: &Seat) -> Vec<Source> {
        let source = |source: Source| {
            let endpoint = source.id.endpoint(source.port);
            if endpoint == asker.endpoint {
                return None;
            }
            let seat = self.server.roster.at(endpoint);
            if source.id.is_low() && (asker.id.is_low() || seat.is_none()) {
                return None;
            }
            let crypt = match seat {
                Some(seat) => seat.crypt(),
                None if self.server.config.reachable.contains(&endpoint) => self.server.own_crypt(),
                None => Crypt::default(),
            };
            Some(Source { crypt, ..source })
        };
        list.peers.iter().filter_map(source_of_peer).filter_map(source).collect()
    }
}

impl super::Ed2kTrackerServer {
    /// Tells the client with a low id to connect to another; `false` when it is not there.
    pub(super) fn call(&self, id: ClientId, asker: SocketAddrV4, crypt: Crypt) -> bool {
        let ClientId::Low(low) = id else { return false };
        let Some(seat) = self.roster.low(low) else { return false };
        // Who does not obfuscate does not read how others do.
        let crypt = Some(crypt).filter(|crypt| seat.options != 0 && crypt.user.is_some());
        seat.tell(ServerMessage::CallbackRequested(CallbackRequested { client: asker, crypt }))
    }
}
