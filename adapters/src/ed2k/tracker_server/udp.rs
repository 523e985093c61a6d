//! The server over UDP: clients that are logged in elsewhere ask it too.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use p2pbridge_proto::{Fault, PeerList, Reply, Request, Search};
use tokio::{
    net::UdpSocket,
    sync::Semaphore,
    time::{Instant, timeout},
};
use tracing::{debug, warn};

use super::{Front, pace::PerAddress, session::ANSWER_TIMEOUT};
use crate::{
    Answer, Asked,
    ed2k::{
        identity::PROGRAM,
        translate::{file_of_hit, find_of_wanted, query_of_expression, source_of_peer},
        wire::{
            Tag,
            search::Expression,
            server::{Crypt, FileRecord, FoundSources, Wanted, ident_tag},
            udp::{
                ClientDatagram, Description, MAX_DATAGRAM, SearchOptions, ServerDatagram,
                StatusAnswer, UdpObfuscation, decode_from_client, udp_flags,
            },
        },
    },
    tally::{Outcome, Owed},
};

/// Bytes of a question that are read.
const PACKET: usize = 2048;
/// Questions of one address in a second; those above are not answered. Nobody proves his address here: what is answered
/// may go to somebody who did not ask.
const PER_ADDRESS: u16 = 20;
/// Sources of one file in an answer.
const MAX_SOURCES: u32 = 50;
/// Files of one question that are looked for.
const MAX_FILES: usize = 16;
/// Results of a search.
const MAX_RESULTS: u32 = 30;
/// Answers that may be waited for at a time.
const MAX_LATER: usize = 256;
/// What a client can that asks with options (`CT_SERVER_UDPSEARCH_FLAGS`): new tags, and sizes of 64 bits.
const SEARCH_FLAGS: u8 = 0x0E;

/// Answers at one socket until told to stop.
pub(super) async fn serve(front: Arc<Front>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let mut packet = vec![0; PACKET];
    let mut pace = PerAddress::new(PER_ADDRESS, Instant::now());
    let room = Arc::new(Semaphore::new(MAX_LATER));
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut packet) => received,
            () = front.stop.cancelled() => return,
        };
        let (length, from) = match received {
            Ok(received) => received,
            Err(error) => {
                // Of an earlier answer that could not be delivered, for example.
                debug!(overlay = %front.server.overlay, %error, "cannot read a datagram");
                continue;
            }
        };
        front.tally.came();
        if !pace.allows(from.ip(), Instant::now()) {
            front.tally.done(Outcome::Shed);
            continue;
        }
        let question = match decode_from_client(packet.get(..length).unwrap_or_default()) {
            Ok(question) => question,
            Err(error) => {
                debug!(%from, %error, "a datagram that is not understood");
                front.tally.done(Outcome::Malformed);
                continue;
            }
        };
        let asker = Asker { front: front.clone(), socket: socket.clone(), from };
        asker.answer(question, &room);
    }
}

/// Who has sent a datagram.
struct Asker {
    front: Arc<Front>,
    socket: Arc<UdpSocket>,
    from: SocketAddr,
}

impl Asker {
    fn answer(self, question: ClientDatagram, room: &Arc<Semaphore>) {
        let server = self.front.server.clone();
        let answer = match question {
            ClientDatagram::Status { challenge } => {
                let (users, files) = server.status();
                let number = |number: usize| Some(u32::try_from(number).unwrap_or(u32::MAX));
                let most = number(server.config.max_files_per_client);
                ServerDatagram::Status(StatusAnswer {
                    challenge: challenge.unwrap_or(0),
                    users,
                    files,
                    max_users: number(server.config.max_sessions),
                    soft_files: most,
                    hard_files: most,
                    flags: Some(match server.config.obfuscation {
                        true => super::UDP_FLAGS | udp_flags::TCP_OBFUSCATION,
                        false => super::UDP_FLAGS,
                    }),
                    low_ids: number(server.roster.users().1),
                    // Datagrams are not obfuscated: there is no port and no key for such.
                    obfuscation: Some(UdpObfuscation {
                        tcp_port: server.obfuscated_port(server.seen_at(None)),
                        ..UdpObfuscation::default()
                    }),
                })
            }
            ClientDatagram::Description { challenge: None } => {
                ServerDatagram::Description(Description::Texts {
                    name: server.config.name.clone(),
                    description: server.config.description.clone(),
                })
            }
            ClientDatagram::Description { challenge: Some(challenge) } => {
                let mut tags = server.ident(server.seen_at(None)).tags;
                tags.push(Tag::text(ident_tag::VERSION, PROGRAM));
                ServerDatagram::Description(Description::Tags { challenge, tags })
            }
            ClientDatagram::ServerList(_) | ClientDatagram::ServerList2 => {
                ServerDatagram::ServerList(server.config.other_servers.clone())
            }
            ClientDatagram::Callback { client, id } => {
                // Nobody is made to connect to a third one.
                let own = self.from.ip().to_canonical() == IpAddr::V4(*client.ip());
                if own && client.port() != 0 && server.call(id, client, Crypt::default()) {
                    return self.front.tally.done(Outcome::Answered);
                }
                self.say(&ServerDatagram::InvalidLowId(id), false);
                return self.front.tally.done(Outcome::Refused);
            }
            ClientDatagram::GetSources(files) => {
                let files = files.into_iter().map(|hash| Wanted { hash, size: None });
                return self.find(files.collect(), room);
            }
            ClientDatagram::GetSources2(files) => return self.find(files, room),
            ClientDatagram::Search { options, expression } => {
                return self.search(&options, &expression, room);
            }
        };
        self.say(&answer, false);
        self.front.tally.done(Outcome::Answered);
    }

    fn say(&self, answer: &ServerDatagram, new_tags: bool) {
        let bytes = answer.encode(new_tags);
        if !bytes.is_empty()
            && let Err(error) = self.socket.try_send_to(&bytes, self.from)
        {
            debug!(from = %self.from, %error, "an answer could not be sent");
        }
    }

    /// Who has none of the files is not heard of, as with all servers.
    fn find(self, files: Vec<Wanted>, room: &Arc<Semaphore>) {
        let (mut found, mut later) = (Vec::new(), Vec::new());
        for wanted in files.into_iter().take(MAX_FILES) {
            let mut find = find_of_wanted(&wanted);
            find.num_want = Some(MAX_SOURCES);
            match self.front.ask(Asked::ALL, Request::Find(find)) {
                Answer::Now(answered) => found.extend(sources(&wanted, answered)),
                Answer::Later(answer) => later.push((wanted, answer)),
            }
        }
        let owed = self.front.tally.owed();
        if later.is_empty() {
            return self.say_found(&found, owed);
        }
        let Ok(permit) = room.clone().try_acquire_owned() else { return };
        let front = self.front.clone();
        front.clone().tasks.spawn(async move {
            let _permit = permit;
            let until = Instant::now() + ANSWER_TIMEOUT;
            for (wanted, answer) in later {
                let waited = tokio::select! {
                    waited = tokio::time::timeout_at(until, answer) => waited,
                    () = front.stop.cancelled() => return,
                };
                found.extend(waited.ok().and_then(|answered| sources(&wanted, answered)));
            }
            self.say_found(&found, owed);
        });
    }

    fn say_found(&self, found: &[FoundSources], owed: Owed) {
        for part in in_parts(found, |one| 19 + 6 * one.sources.len()) {
            self.say(&ServerDatagram::FoundSources(part.to_vec()), false);
        }
        owed.done(Outcome::Answered);
    }

    fn search(self, options: &SearchOptions, expression: &Expression, room: &Arc<Semaphore>) {
        let new_tags = matches!(options, SearchOptions::Third(tags)
            if tags.iter().any(|tag| tag.as_number(SEARCH_FLAGS).is_some_and(|flags| flags & 1 != 0)));
        let Ok((query, _)) = query_of_expression(expression) else {
            return self.front.tally.done(Outcome::Refused);
        };
        let owed = self.front.tally.owed();
        let search = Search { query, max_results: Some(MAX_RESULTS) };
        match self.front.ask(Asked::ALL, Request::Search(search)) {
            Answer::Now(answered) => self.say_results(answered, new_tags, owed),
            Answer::Later(answer) => {
                let Ok(permit) = room.clone().try_acquire_owned() else { return };
                let front = self.front.clone();
                front.clone().tasks.spawn(async move {
                    let _permit = permit;
                    let waited = front.stop.run_until_cancelled(timeout(ANSWER_TIMEOUT, answer));
                    if let Some(Ok(answered)) = waited.await {
                        self.say_results(answered, new_tags, owed);
                    }
                });
            }
        }
    }

    fn say_results(&self, answered: Result<Reply, Fault>, new_tags: bool, owed: Owed) {
        let Ok(Reply::Found(result)) = answered else { return owed.done(Outcome::Refused) };
        let files: Vec<FileRecord> = result.hits.iter().filter_map(file_of_hit).collect();
        // A name has up to 255 bytes; the rest of a record is known.
        for part in in_parts(&files, |file| 80 + file.name().map_or(0, str::len)) {
            self.say(&ServerDatagram::SearchResult(part.to_vec()), new_tags);
        }
        owed.done(Outcome::Answered);
    }
}

/// Sources of a file that can be reached by a client of another server: those with a high id.
fn sources(wanted: &Wanted, answered: Result<Reply, Fault>) -> Option<FoundSources> {
    let list: PeerList = match answered {
        Ok(Reply::Peers(list)) => list,
        Ok(_) => return None,
        Err(fault) => {
            debug!(%fault, "sources are not told");
            return None;
        }
    };
    let sources = list.peers.iter().filter_map(source_of_peer);
    let sources: Vec<_> = sources.filter(|source| !source.id.is_low()).collect();
    (!sources.is_empty()).then_some(FoundSources { hash: wanted.hash, sources })
}

/// Things in as few datagrams as they fit into, in order.
fn in_parts<T>(all: &[T], size: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let (mut parts, mut start, mut sum) = (Vec::new(), 0, 0);
    for (at, one) in all.iter().enumerate() {
        let size = size(one);
        if at > start && sum + size > MAX_DATAGRAM {
            parts.extend(all.get(start..at));
            (start, sum) = (at, 0);
        }
        sum += size;
    }
    parts.extend(all.get(start..).filter(|part| !part.is_empty()));
    parts
}

/// Opens a socket for questions.
pub(super) fn open(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let mut one = crate::listen::udp_group(address, 1)?;
    let socket = one.pop().ok_or(std::io::ErrorKind::NotFound)?;
    if let Err(error) = socket.set_nonblocking(true) {
        warn!(%address, %error, "cannot take datagrams without waiting");
        return Err(error);
    }
    UdpSocket::from_std(socket)
}

#[cfg(test)]
mod tests {
    use super::in_parts;

    #[test]
    fn answers_are_parted_where_a_datagram_is_full() {
        let sizes = [700, 700, 1, 5000, 10, 10];
        let parts: Vec<_> =
            in_parts(&sizes, |size| *size).into_iter().map(<[usize]>::to_vec).collect();
        assert_eq!(parts, [vec![700, 700], vec![1], vec![5000], vec![10, 10]]);
        assert!(in_parts(&[] as &[usize], |size| *size).is_empty());
    }
}
