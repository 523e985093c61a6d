//! Announces over HTTP, over connections that are kept open, with one announce under way on each.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::prctl::set_timerslack;
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, Socket, Type};

use super::bencode::{self, Body};
use super::plan::{Random, source};
use super::{Expect, Plan, Report};

/// The longest answer that is read.
const ANSWER: usize = 64 * 1_024;
/// When an answer counts as lost.
const LOST_AFTER: Duration = Duration::from_secs(3);

/// A load over HTTP.
#[derive(Clone, Debug)]
pub struct HttpLoad {
    /// The tracker.
    pub target: SocketAddr,
    /// What is asked for, before the `?`.
    pub path: String,
    /// Who announces.
    pub plan: Plan,
    /// What each answer must hold; `None`: its length must be that of the first, and no more is looked at.
    pub expect: Option<Expect>,
    /// Connections.
    pub connections: usize,
    /// Source addresses on loopback: peer `p` announces from address `p % sources`.
    pub sources: usize,
    /// Whether `X-Forwarded-For` is sent, as a proxy before the tracker would.
    pub forwarded: bool,
    /// Announces a second, whether or not answers come; `None`: as fast as answers come.
    pub rate: Option<f64>,
}

impl HttpLoad {
    /// As fast as answers come, over 32 connections.
    #[must_use]
    pub fn new(target: SocketAddr, plan: Plan) -> Self {
        let expect = Some(plan.full());
        let path = "/announce".to_owned();
        Self {
            target,
            path,
            plan,
            expect,
            connections: 32,
            sources: 8,
            forwarded: false,
            rate: None,
        }
    }

    /// Every peer of the plan announces once; panics when that takes longer than `seconds`, or when any answer is not proper.
    #[must_use]
    pub fn fill(&self, seconds: u64) -> Report {
        let mut load = self.clone();
        load.expect = Some(Expect::AtMost(self.plan.want as usize));
        load.rate = None;
        let report = load.spread(true, Duration::from_secs(seconds));
        let peers = self.plan.len() * u64::from(self.plan.peers);
        let clean = report.wrong == 0 && report.answered >= peers;
        assert!(clean, "filling {} with {peers} peers: {report}", self.target);
        report
    }

    /// Peers of the plan announce, in no order.
    #[must_use]
    pub fn run(&self, seconds: f64) -> Report {
        self.spread(false, Duration::from_secs_f64(seconds))
    }

    fn spread(&self, once: bool, time: Duration) -> Report {
        std::thread::scope(|scope| {
            let run = scope.spawn(|| Run::new(self, once).run(time));
            run.join().expect("the load's thread")
        })
    }
}

struct Run<'a> {
    load: &'a HttpLoad,
    lines: Vec<Line>,
    length: Option<usize>,
    report: Report,
}

/// One connection.
struct Line {
    stream: TcpStream,
    source: usize,
    peers: Peers,
    /// Since when an announce is under way, and for which swarm and peer.
    asked: Option<(Instant, u64, u32)>,
    /// Whether it was asked twice: a connection that is closed while it lay idle is nobody's fault.
    again: bool,
    request: Vec<u8>,
    answer: Vec<u8>,
}

/// Who announces next over one connection.
struct Peers {
    random: Random,
    cursor: Option<u64>,
    step: u64,
    mine: u64,
    swarms: u64,
    source: u64,
    sources: u64,
}

impl Peers {
    /// Connections of the same source address share its peers.
    fn new(load: &HttpLoad, number: usize, once: bool) -> Self {
        let sources = load.sources.clamp(1, load.connections) as u64;
        let source = number as u64 % sources;
        let same = (load.connections as u64 - source).div_ceil(sources);
        Self {
            random: Random::new(),
            cursor: once.then_some(number as u64 / sources),
            step: same,
            mine: u64::from(load.plan.peers).saturating_sub(source).div_ceil(sources),
            swarms: load.plan.len(),
            source,
            sources,
        }
    }

    fn next(&mut self) -> Option<(u64, u32)> {
        if self.mine == 0 {
            return None;
        }
        let (swarm, peer) = match &mut self.cursor {
            Some(at) => {
                let now = *at;
                *at += self.step;
                (now % self.swarms, now / self.swarms)
            }
            None => (self.random.below(self.swarms), self.random.below(self.mine)),
        };
        (peer < self.mine).then_some((swarm, (peer * self.sources + self.source) as u32))
    }
}

impl<'a> Run<'a> {
    fn new(load: &'a HttpLoad, once: bool) -> Self {
        let sources = load.sources.clamp(1, load.connections);
        let lines = (0..load.connections)
            .map(|number| Line {
                stream: connect(load.target, number % sources),
                source: number % sources,
                peers: Peers::new(load, number, once),
                asked: None,
                again: false,
                request: Vec::new(),
                answer: Vec::with_capacity(2_048),
            })
            .collect();
        Self { load, lines, length: None, report: Report::default() }
    }

    fn run(mut self, time: Duration) -> Report {
        // At a rate, being late by the usual 50 µs of a timer would be counted against the tracker.
        let _ = set_timerslack(1);
        let begun = Instant::now();
        let mut last = begun;
        let mut due = begun;
        let every = self.load.rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
        let mut ready: Vec<usize> = Vec::new();
        loop {
            let now = Instant::now();
            let asking = now - begun < time;
            let mut busy = false;
            for at in 0..self.lines.len() {
                if self.lines[at].asked.is_none() && asking && (every.is_none() || due <= now) {
                    // Who had to wait for a free connection has waited since it was due.
                    let since = if every.is_some() { due } else { now };
                    if self.ask(at, since)
                        && let Some(every) = every
                    {
                        due += every;
                    }
                }
                busy |= self.lines[at].asked.is_some();
            }
            if !busy && (!asking || every.is_none()) {
                break;
            }
            let wait = match every {
                Some(_) if asking => due.saturating_duration_since(Instant::now()),
                _ => Duration::from_millis(50),
            };
            self.wait(wait, &mut ready);
            for at in &ready {
                if self.receive(*at) {
                    last = Instant::now();
                }
            }
            if ready.is_empty() {
                self.give_up();
            }
        }
        self.report.seconds = (last - begun).as_secs_f64();
        self.report
    }

    /// Whether anything was asked.
    fn ask(&mut self, at: usize, since: Instant) -> bool {
        let load = self.load;
        let line = &mut self.lines[at];
        let Some((swarm, peer)) = line.peers.next() else { return false };
        write_request(&mut line.request, load, line.source, swarm, peer);
        line.asked = Some((since, swarm, peer));
        line.again = false;
        self.report.asked += 1;
        // Requests are far smaller than a socket's buffer: it takes all or the connection is gone.
        if line.stream.write_all(&line.request).is_err() {
            self.renew(at);
        }
        true
    }

    /// A closed connection is replaced, and what was under way on it asked once more.
    fn renew(&mut self, at: usize) {
        self.report.closed += 1;
        let line = &mut self.lines[at];
        line.answer.clear();
        line.stream = connect(self.load.target, line.source);
        if line.asked.is_none() {
            return;
        }
        if line.again || line.stream.write_all(&line.request).is_err() {
            line.asked = None;
            self.report.lost += 1;
        }
        line.again = true;
    }

    fn wait(&self, most: Duration, ready: &mut Vec<usize>) {
        let mut fds: Vec<PollFd<'_>> = self
            .lines
            .iter()
            .map(|line| PollFd::new(line.stream.as_fd(), PollFlags::POLLIN))
            .collect();
        ready.clear();
        if ppoll(&mut fds, Some(TimeSpec::from_duration(most)), None).is_ok_and(|count| count > 0) {
            ready.extend((0..fds.len()).filter(|at| fds[*at].any() == Some(true)));
        }
    }

    /// Reads what has come; whether an answer is complete.
    fn receive(&mut self, at: usize) -> bool {
        let line = &mut self.lines[at];
        let mut part = [0; 4_096];
        let closed = match line.stream.read(&mut part) {
            Ok(0) => true,
            Ok(length) => {
                line.answer.extend_from_slice(&part[..length]);
                line.answer.len() > ANSWER
            }
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        let (Some((since, swarm, _)), Some(head)) = (line.asked, Head::read(&line.answer)) else {
            // Also when it says what nobody asked.
            if closed || line.asked.is_none() {
                self.renew(at);
            }
            return false;
        };
        line.asked = None;
        let body = &line.answer[head.length..];
        match judge(self.load, &mut self.length, &head, body, swarm) {
            Ok(Verdict::Peers(count)) => {
                self.report.answered += 1;
                self.report.peers += count as u64;
                self.report.latency.add(since.elapsed());
            }
            Ok(Verdict::Refusal(text)) => self.report.refuse(&text),
            Err(what) => self.report.blame(what),
        }
        line.answer.clear();
        if closed || head.closes {
            self.report.closed += 1;
            line.stream = connect(self.load.target, line.source);
        }
        true
    }

    fn give_up(&mut self) {
        for line in &mut self.lines {
            if line.asked.is_some_and(|(since, ..)| since.elapsed() > LOST_AFTER) {
                line.asked = None;
                line.answer.clear();
                line.stream = connect(self.load.target, line.source);
                self.report.lost += 1;
            }
        }
    }
}

enum Verdict {
    Peers(usize),
    Refusal(Vec<u8>),
}

fn judge(
    load: &HttpLoad,
    length: &mut Option<usize>,
    head: &Head,
    body: &[u8],
    swarm: u64,
) -> Result<Verdict, String> {
    if head.status == 503 {
        return Ok(Verdict::Refusal(b"status 503".to_vec()));
    }
    if head.status != 200 {
        return Err(format!("status {}", head.status));
    }
    let Some(expect) = load.expect else {
        let first = *length.get_or_insert(body.len());
        return if body.len() == first {
            Ok(Verdict::Peers(0))
        } else {
            Err(format!("{} bytes, not {first}", body.len()))
        };
    };
    match bencode::read(body)? {
        Body::Peers(peers) => {
            load.plan.check(swarm, peers, 6, expect)?;
            Ok(Verdict::Peers(peers.len() / 6))
        }
        Body::Refusal(text) => Ok(Verdict::Refusal(text.to_vec())),
    }
}

/// What is read of an answer's head.
struct Head {
    status: u16,
    length: usize,
    closes: bool,
}

impl Head {
    /// Reads the head of an answer that is there as a whole.
    fn read(answer: &[u8]) -> Option<Self> {
        let length = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let text = std::str::from_utf8(&answer[..length]).ok()?;
        let mut lines = text.split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let (mut body, mut closes) = (None, false);
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            if name.eq_ignore_ascii_case("content-length") {
                body = value.trim().parse::<usize>().ok();
            } else if name.eq_ignore_ascii_case("connection") {
                closes = value.trim().eq_ignore_ascii_case("close");
            }
        }
        (answer.len() == length.checked_add(body?)?).then_some(Self { status, length, closes })
    }
}

fn write_request(request: &mut Vec<u8>, load: &HttpLoad, number: usize, swarm: u64, peer: u32) {
    request.clear();
    request.extend_from_slice(b"GET ");
    request.extend_from_slice(load.path.as_bytes());
    request.extend_from_slice(b"?info_hash=");
    percent(request, &load.plan.name(swarm));
    request.extend_from_slice(b"&peer_id=");
    percent(request, &load.plan.peer_id(swarm, peer));
    // Writing into memory does not fail.
    let _ = write!(
        request,
        "&port={}&uploaded=0&downloaded=0&left={}&compact=1&numwant={} HTTP/1.1\r\nHost: {}\r\nUser-Agent: load/1\r\n",
        load.plan.port(swarm, peer),
        load.plan.left(peer),
        load.plan.want,
        load.target,
    );
    if load.forwarded {
        let _ = write!(request, "X-Forwarded-For: {}\r\n", source(load.target.ip(), number));
    }
    request.extend_from_slice(b"\r\n");
}

fn percent(request: &mut Vec<u8>, bytes: &[u8; 20]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || *byte == b'-' {
            request.push(*byte);
        } else {
            let digit = |half: u8| DIGITS[usize::from(half)];
            request.extend([b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

fn connect(target: SocketAddr, number: usize) -> TcpStream {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP));
    let socket = socket.expect("a TCP socket");
    let from = SocketAddr::new(source(target.ip(), number), 0);
    socket.bind(&from.into()).expect("an address of this machine");
    socket
        .connect_timeout(&target.into(), Duration::from_secs(5))
        .unwrap_or_else(|error| panic!("connecting to {target}: {error}"));
    socket.set_tcp_nodelay(true).expect("no delay");
    socket.set_nonblocking(true).expect("a socket that does not block");
    socket.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::net::{Ipv4Addr, TcpListener};

    /// A tracker that gives this body to every request, and closes each connection after three.
    fn scripted(body: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                std::thread::spawn(move || {
                    for _ in 0..3 {
                        let mut line = String::new();
                        while line != "\r\n" {
                            line.clear();
                            if stream.read_line(&mut line).unwrap_or(0) == 0 {
                                return;
                            }
                        }
                        let head =
                            format!("HTTP/1.1 200 OK\r\ncontent-LENGTH: {}\r\n\r\n", body.len());
                        let answer = [head.as_bytes(), body].concat();
                        let _ = stream.get_mut().write_all(&answer);
                    }
                });
            }
        });
        address
    }

    #[test]
    fn answers_are_counted_and_closed_connections_replaced() {
        let target = scripted(b"d8:intervali60e5:peers0:e");
        let mut load = HttpLoad::new(target, Plan::numbered(3, 7));
        (load.connections, load.sources) = (4, 2);
        let report = load.fill(30);
        assert_eq!((report.wrong, report.refused), (0, 0), "{report}");
        assert!(report.answered == 21 && report.closed > 0, "{report}");
        load.expect = Some(Expect::AtMost(30));
        load.rate = Some(200.0);
        let report = load.run(0.5);
        assert!((20..=101).contains(&report.asked) && report.wrong == 0, "{report}");
    }

    #[test]
    fn refusals_and_nonsense_are_told_apart() {
        let target = scripted(b"d14:failure reason2:noe");
        let report = HttpLoad::new(target, Plan::numbered(3, 7)).run(0.1);
        assert!(report.refused > 0 && report.wrong == 0, "{report}");
        let report = HttpLoad::new(scripted(b"<html>"), Plan::numbered(3, 7)).run(0.1);
        assert!(report.wrong > 0 && report.answered == 0, "{report}");
    }
}
