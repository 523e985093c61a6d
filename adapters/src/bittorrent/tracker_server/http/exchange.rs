//! Questions in the bytes of a connection, and their answers: pure, but for the handler.

use std::net::IpAddr;

use futures::future::BoxFuture;
use p2pbridge_proto::{ErrorCode, Fault, PeerEvent, Reply};

use super::{
    super::{
        super::{
            translate::{failure_of_fault, failure_of_query, native_peers, native_swarms},
            wire::http::{AnnounceRequest, QueryError, ScrapeRequest, write_failure, write_scrape},
        },
        desk::{Desk, without_peers},
        tally::Outcome,
    },
    head::{Head, parse},
    reply::{After, bencode, head_error, plain},
};
use crate::Answer;

/// When so many bytes of answers are written, they are sent before more questions are looked at.
const ENOUGH: usize = 16 << 10;

/// What there is to do after the questions that were there.
pub(super) enum Turn {
    /// More bytes are needed.
    Read,
    /// Send what is written, then go on with the rest.
    Flush,
    /// Send what is written, then wait for an answer, then go on with the rest.
    Wait(Pending),
    /// Send what is written, then end.
    End,
}

/// A question whose answer comes later.
pub(super) struct Pending {
    pub(super) asker: Asker,
    pub(super) answer: BoxFuture<'static, Result<Reply, Fault>>,
}

/// All that an answer needs to know of its question.
pub(super) struct Asker {
    question: Question,
    pub(super) after: After,
}

enum Question {
    Announce { seen: IpAddr, stopped: bool, compact: bool, no_peer_id: bool },
    Scrape,
}

/// Buffers that are used again and again.
#[derive(Default)]
pub(super) struct Written {
    /// Answers.
    pub(super) out: Vec<u8>,
    /// The body of one.
    body: Vec<u8>,
}

/// Answers the questions in these bytes one after the other, and says how many bytes are done with.
pub(super) fn turn(
    desk: &Desk,
    peer: IpAddr,
    trust_forwarded_for: bool,
    bytes: &[u8],
    written: &mut Written,
) -> (Turn, usize) {
    let mut at = 0;
    loop {
        let left = bytes.get(at..).unwrap_or_default();
        let head = match parse(left) {
            Ok(Some((head, length))) => {
                at += length;
                head
            }
            Ok(None) => return (Turn::Read, at),
            Err(error) => {
                desk.tally.came();
                desk.tally.done(Outcome::Malformed);
                head_error(&mut written.out, error);
                return (Turn::End, at);
            }
        };
        desk.tally.came();
        let after = after(&head);
        if let Some(pending) = answer(desk, peer, trust_forwarded_for, &head, after, written) {
            return (Turn::Wait(pending), at);
        }
        if after == After::Ends {
            return (Turn::End, at);
        }
        if written.out.len() > ENOUGH {
            return (Turn::Flush, at);
        }
    }
}

fn after(head: &Head<'_>) -> After {
    match (head.keep_alive, head.old) {
        (false, _) => After::Ends,
        (true, true) => After::StaysAsAsked,
        (true, false) => After::Stays,
    }
}

/// Answers one question, or says what it waits for.
fn answer(
    desk: &Desk,
    peer: IpAddr,
    trust_forwarded_for: bool,
    head: &Head<'_>,
    after: After,
    written: &mut Written,
) -> Option<Pending> {
    let asked = match head.path {
        "/announce" => {
            let seen = if trust_forwarded_for { forwarded(head.forwarded) } else { Some(peer) };
            let Some(seen) = seen else {
                desk.tally.done(Outcome::Malformed);
                let text = "X-Forwarded-For does not end with an address\n";
                plain(&mut written.out, "400 Bad Request", text, after);
                return None;
            };
            announce(desk, head, seen)
        }
        "/scrape" => ScrapeRequest::parse(head.query)
            .map(|native| (Question::Scrape, desk.scrape(native, head.passed_on))),
        _ => {
            desk.tally.done(Outcome::Refused);
            let text = "a tracker: /announce and /scrape\n";
            plain(&mut written.out, "404 Not Found", text, after);
            return None;
        }
    };
    match asked {
        Ok((question, Answer::Now(result))) => {
            let asker = Asker { question, after };
            desk.tally.done(asker.write(written, result));
            None
        }
        Ok((question, Answer::Later(answer))) => {
            Some(Pending { asker: Asker { question, after }, answer })
        }
        Err(error) => {
            desk.tally.done(Outcome::Malformed);
            if error.is_answerable() {
                let failure = write_failure(&failure_of_query(&error));
                bencode(&mut written.out, &failure, after);
            } else {
                plain(&mut written.out, "414 URI Too Long", &format!("{error}\n"), after);
            }
            None
        }
    }
}

fn announce(desk: &Desk, head: &Head<'_>, seen: IpAddr) -> Result<(Question, Answer), QueryError> {
    let native = AnnounceRequest::parse(head.query)?;
    let stopped = native.event == PeerEvent::Stopped;
    let (compact, no_peer_id) = (native.compact, native.no_peer_id);
    let question = Question::Announce { seen, stopped, compact, no_peer_id };
    Ok((question, desk.announce(native, seen, head.passed_on)))
}

/// The address that the nearest proxy saw: the last one of the list. What stands before it may be invented.
fn forwarded(list: Option<&[u8]>) -> Option<IpAddr> {
    let last = list?.rsplit(|byte| *byte == b',').next()?;
    let address: IpAddr = std::str::from_utf8(last.trim_ascii()).ok()?.parse().ok()?;
    let address = address.to_canonical();
    (!address.is_unspecified() && !address.is_multicast()).then_some(address)
}

impl Asker {
    /// Writes the answer.
    pub(super) fn write(&self, written: &mut Written, result: Result<Reply, Fault>) -> Outcome {
        let Written { out, body } = written;
        body.clear();
        let unfit = || Fault::new(ErrorCode::Internal, "the bridge found no fitting answer");
        let fault = match (&self.question, result) {
            (Question::Announce { seen, stopped, compact, no_peer_id }, Ok(reply)) => {
                match if *stopped { without_peers(reply) } else { reply } {
                    Reply::Peers(list) => {
                        native_peers(list, *seen).encode_into(body, *compact, *no_peer_id);
                        bencode(out, body, self.after);
                        return Outcome::Answered;
                    }
                    Reply::Swarms(_) | Reply::Found(_) => unfit(),
                }
            }
            (Question::Scrape, Ok(Reply::Swarms(swarms))) => {
                bencode(out, &write_scrape(&native_swarms(&swarms)), self.after);
                return Outcome::Answered;
            }
            (Question::Scrape, Ok(Reply::Peers(_) | Reply::Found(_))) => unfit(),
            (_, Err(fault)) => fault,
        };
        bencode(out, &write_failure(&failure_of_fault(&fault)), self.after);
        Outcome::Refused
    }
}
