//! Announces over UDP (BEP 15), in batches, with a window under way.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, sendmmsg};

use super::plan::{Random, Swarms, source};
use super::{Expect, Plan, Report};

/// Packets that go to the kernel at once.
const BATCH: usize = 32;
/// An announce of BEP 15.
const ANNOUNCE: usize = 98;
/// The longest answer that is read.
const ANSWER: usize = 2_048;
/// When an announce counts as lost.
const LOST_AFTER: Duration = Duration::from_secs(1);
/// When the connection id is renewed: it need not be good for longer than a minute.
const RENEW_AFTER: Duration = Duration::from_secs(40);
/// How long a tracker may take to come up.
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);
/// The transaction of a connect; announces have others.
const CONNECT: u32 = u32::MAX;

/// A load over UDP.
#[derive(Clone, Debug)]
pub struct UdpLoad {
    /// The tracker.
    pub target: SocketAddr,
    /// Who announces.
    pub plan: Plan,
    /// What each answer must hold.
    pub expect: Expect,
    /// Sockets in all, each with an address of its own; peer `p` announces from socket `p % sockets`.
    pub sockets: usize,
    /// Threads, which share the sockets.
    pub threads: usize,
    /// Announces under way for each socket.
    pub window: usize,
    /// Announces a second in all; `None`: as fast as answers come.
    pub rate: Option<f64>,
}

impl UdpLoad {
    /// As fast as answers come: one thread, eight sockets, 32 announces under way for each.
    #[must_use]
    pub fn new(target: SocketAddr, plan: Plan) -> Self {
        let expect = plan.full();
        Self { target, plan, expect, sockets: 8, threads: 1, window: 32, rate: None }
    }

    /// Every peer of the plan announces once, and again as long as nothing comes back; panics when that takes longer than
    /// `seconds`, or when anything comes back that is no answer.
    #[must_use]
    pub fn fill(&self, seconds: u64) -> Report {
        let mut load = self.clone();
        load.expect = Expect::AtMost(self.plan.want as usize);
        let report = load.spread(true, Duration::from_secs(seconds));
        assert!(report.wrong == 0 && report.refused == 0, "filling {}: {report}", self.target);
        let peers = self.plan.len() * u64::from(self.plan.peers);
        assert!(report.answered >= peers, "filling {} with {peers} peers: {report}", self.target);
        report
    }

    /// Peers of the plan announce, in no order.
    #[must_use]
    pub fn run(&self, seconds: f64) -> Report {
        self.spread(false, Duration::from_secs_f64(seconds))
    }

    fn spread(&self, once: bool, time: Duration) -> Report {
        let threads = self.threads.clamp(1, self.sockets);
        let begun = Instant::now();
        let mut whole = Report::default();
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..threads)
                .map(|thread| {
                    scope.spawn(move || Worker::new(self, thread, threads, once, begun).run(time))
                })
                .collect();
            for thread in running {
                whole.merge(thread.join().expect("a thread of the load"));
            }
        });
        whole
    }
}

/// Announces as many names that nobody has asked for as go through, or so many a second, from 16 sockets.
#[must_use]
pub fn udp_flood(target: SocketAddr, rate: Option<f64>, seconds: f64) -> Report {
    let plan = Plan { swarms: Swarms::Fresh, peers: 1, want: 30, seeder_every: 0 };
    let mut load = UdpLoad::new(target, plan);
    load.expect = Expect::Anybody(80);
    (load.sockets, load.rate) = (16, rate);
    load.run(seconds)
}

/// The sockets of one thread.
struct Worker<'a> {
    load: &'a UdpLoad,
    doors: Vec<Door>,
    once: bool,
    begun: Instant,
    per_second: Option<f64>,
    report: Report,
}

/// One socket, and what is under way on it.
struct Door {
    socket: UdpSocket,
    connection: u64,
    renew_at: Instant,
    slots: Vec<Slot>,
    free: Vec<u16>,
    again: Vec<(u64, u32)>,
    source: Source,
    sends: MultiHeaders<()>,
    receives: MultiHeaders<()>,
    packets: Box<[[u8; ANNOUNCE]; BATCH]>,
    answers: Box<[[u8; ANSWER]; BATCH]>,
}

/// An announce that may be under way. Its transaction is its number and its generation.
#[derive(Clone, Copy)]
struct Slot {
    generation: u16,
    busy: bool,
    sent: Instant,
    swarm: u64,
    peer: u32,
}

/// Who announces next from one socket.
struct Source {
    swarms: u64,
    peers: u32,
    first: u32,
    step: u32,
    /// All once, or without end.
    cursor: Option<(u64, u32)>,
    random: Random,
    fresh: Option<u64>,
}

impl Source {
    fn new(plan: &Plan, number: usize, sockets: usize, once: bool) -> Self {
        let first = number as u32;
        let mut random = Random::new();
        Self {
            swarms: plan.len(),
            peers: plan.peers,
            first,
            step: sockets as u32,
            cursor: once.then_some((0, first)),
            fresh: matches!(plan.swarms, Swarms::Fresh).then(|| random.below(u64::MAX)),
            random,
        }
    }

    /// A swarm, and a peer of it; `None` when all have announced.
    fn next(&mut self) -> Option<(u64, u32)> {
        if let Some(fresh) = &mut self.fresh {
            *fresh = fresh.wrapping_add(1);
            return Some((*fresh, 0));
        }
        if let Some((swarm, peer)) = self.cursor {
            // All swarms get one more peer, then all another: swarms grow side by side, as they do in the field.
            self.cursor = Some(if swarm + 1 == self.swarms {
                (0, peer.saturating_add(self.step))
            } else {
                (swarm + 1, peer)
            });
            return (peer < self.peers).then_some((swarm, peer));
        }
        let mine = self.peers.saturating_sub(self.first).div_ceil(self.step);
        if mine == 0 {
            return None;
        }
        let peer = self.first + self.step * self.random.below(u64::from(mine)) as u32;
        Some((self.random.below(self.swarms), peer))
    }
}

impl<'a> Worker<'a> {
    fn new(load: &'a UdpLoad, thread: usize, threads: usize, once: bool, begun: Instant) -> Self {
        let numbers = (thread..load.sockets).step_by(threads);
        Self {
            load,
            doors: numbers.map(|number| Door::open(load, number, once)).collect(),
            once,
            begun,
            per_second: load.rate.map(|rate| rate / threads as f64),
            report: Report::default(),
        }
    }

    fn run(mut self, time: Duration) -> Report {
        let begun = Instant::now();
        let (mut last, mut looked) = (begun, begun);
        loop {
            let now = Instant::now();
            let asking = now - begun < time;
            let mut room = self.per_second.map_or(usize::MAX, |rate| {
                let due = (rate * (now - begun).as_secs_f64()) as u64;
                due.saturating_sub(self.report.asked) as usize
            });
            let (mut moved, mut busy) = (false, false);
            for door in &mut self.doors {
                let asked = if asking {
                    door.send(self.load, room, now, self.once, &mut self.report)
                } else {
                    0
                };
                room -= asked.min(room);
                let got = door.receive(self.load, &mut self.report);
                if got > 0 {
                    last = Instant::now();
                }
                moved |= asked + got > 0;
                busy |= door.free.len() < door.slots.len();
            }
            if !moved || now - looked > LOST_AFTER / 10 {
                looked = now;
                for door in &mut self.doors {
                    door.give_up(now, self.once, &mut self.report);
                }
            }
            if moved {
                continue;
            }
            if !busy && (!asking || self.once) || now - begun > time + 2 * LOST_AFTER {
                break;
            }
            self.wait(busy);
        }
        self.report.seconds = (last - self.begun).as_secs_f64();
        self.report
    }

    /// Until something comes, or it is time to send.
    fn wait(&self, busy: bool) {
        let mut fds: Vec<PollFd<'_>> = self
            .doors
            .iter()
            .map(|door| PollFd::new(door.socket.as_fd(), PollFlags::POLLIN))
            .collect();
        let most: u8 = if self.per_second.is_some() || !busy { 1 } else { 20 };
        // An interrupted wait is as good as one that has ended.
        let _ = poll(&mut fds, PollTimeout::from(most));
    }
}

impl Door {
    fn open(load: &UdpLoad, number: usize, once: bool) -> Self {
        let socket = UdpSocket::bind((source(load.target.ip(), number), 0)).expect("a UDP socket");
        socket.connect(load.target).expect("a UDP target");
        let connection = connect(&socket);
        socket.set_nonblocking(true).expect("a socket that does not block");
        let now = Instant::now();
        let slot = Slot { generation: 0, busy: false, sent: now, swarm: 0, peer: 0 };
        let window = load.window.clamp(1, 60_000);
        Self {
            socket,
            connection,
            renew_at: now + RENEW_AFTER,
            slots: vec![slot; window],
            free: (0..window as u16).collect(),
            again: Vec::new(),
            source: Source::new(&load.plan, number, load.sockets, once),
            sends: MultiHeaders::preallocate(BATCH, None),
            receives: MultiHeaders::preallocate(BATCH, None),
            packets: Box::new([[0; ANNOUNCE]; BATCH]),
            answers: Box::new([[0; ANSWER]; BATCH]),
        }
    }

    /// Sends one batch at most, and gives its size.
    fn send(
        &mut self,
        load: &UdpLoad,
        room: usize,
        now: Instant,
        once: bool,
        report: &mut Report,
    ) -> usize {
        self.renew(now);
        let mut batch = [0u16; BATCH];
        let mut count = 0;
        while count < BATCH.min(room) && !self.free.is_empty() {
            let Some((swarm, peer)) = self.again.pop().or_else(|| self.source.next()) else {
                break;
            };
            let Some(number) = self.free.pop() else { break };
            let slot = &mut self.slots[usize::from(number)];
            *slot = Slot {
                generation: slot.generation.wrapping_add(1) & 0x7fff,
                busy: true,
                sent: now,
                swarm,
                peer,
            };
            let transaction = u32::from(slot.generation) << 16 | u32::from(number);
            announce(
                &mut self.packets[count],
                self.connection,
                transaction,
                &load.plan,
                swarm,
                peer,
            );
            batch[count] = number;
            count += 1;
        }
        if count == 0 {
            return 0;
        }
        let slices: [[IoSlice<'_>; 1]; BATCH] =
            std::array::from_fn(|at| [IoSlice::new(&self.packets[at])]);
        let sent = sendmmsg(
            self.socket.as_raw_fd(),
            &mut self.sends,
            &slices[..count],
            [None; BATCH],
            [],
            MsgFlags::empty(),
        )
        .map_or(0, Iterator::count);
        // What the kernel had no room for is taken back.
        for number in &batch[sent..count] {
            let slot = &mut self.slots[usize::from(*number)];
            slot.busy = false;
            self.free.push(*number);
            if once {
                self.again.push((slot.swarm, slot.peer));
            }
        }
        report.asked += sent as u64;
        sent
    }

    /// Receives one batch at most, and gives its size.
    fn receive(&mut self, load: &UdpLoad, report: &mut Report) -> usize {
        let mut lengths = [0; BATCH];
        let mut count = 0;
        let mut buffers = self.answers.iter_mut();
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] = std::array::from_fn(|_| {
            [IoSliceMut::new(buffers.next().map_or(&mut [][..], |buffer| &mut buffer[..]))]
        });
        let flags = MsgFlags::MSG_DONTWAIT;
        let got = recvmmsg(self.socket.as_raw_fd(), &mut self.receives, &mut slices, flags, None);
        match got {
            Ok(messages) => {
                for message in messages {
                    lengths[count] = message.bytes;
                    count += 1;
                }
            }
            Err(Errno::EAGAIN | Errno::EINTR) => return 0,
            // The tracker is not there (any more): its announces count as lost.
            Err(Errno::ECONNREFUSED) => return 0,
            Err(error) => panic!("receiving from {}: {error}", load.target),
        }
        let now = Instant::now();
        for (at, length) in lengths.iter().take(count).enumerate() {
            let packet = &self.answers[at][..*length];
            let Some(word) = first_words(packet) else {
                report.blame(format!("a packet of {length} bytes"));
                continue;
            };
            if word.1 == CONNECT {
                if let (0, Some(id)) = (word.0, packet.get(8..16)) {
                    self.connection = u64::from_be_bytes(id.try_into().unwrap_or_default());
                    self.renew_at = now + RENEW_AFTER;
                }
                continue;
            }
            let number = word.1 as u16;
            let slot = self.slots.get_mut(usize::from(number));
            let Some(slot) =
                slot.filter(|slot| slot.busy && u32::from(slot.generation) == word.1 >> 16)
            else {
                // Late answers to what was given up are not wrong.
                continue;
            };
            slot.busy = false;
            self.free.push(number);
            match judge(load, word.0, packet, slot.swarm) {
                Ok(Some(peers)) => {
                    report.answered += 1;
                    report.peers += peers as u64;
                    report.latency.add(now - slot.sent);
                }
                Ok(None) => report.refuse(&packet[8..]),
                Err(what) => report.blame(what),
            }
        }
        count
    }

    /// Frees what was asked too long ago.
    fn give_up(&mut self, now: Instant, once: bool, report: &mut Report) {
        for (number, slot) in self.slots.iter_mut().enumerate() {
            if slot.busy && now.saturating_duration_since(slot.sent) > LOST_AFTER {
                slot.busy = false;
                self.free.push(number as u16);
                report.lost += 1;
                if once {
                    self.again.push((slot.swarm, slot.peer));
                }
            }
        }
    }

    fn renew(&mut self, now: Instant) {
        if now >= self.renew_at {
            // When it is lost, the next one is sent as late as an announce would be.
            self.renew_at = now + LOST_AFTER;
            let _ = self.socket.send(&connect_request());
        }
    }
}

/// Asks for a connection id, and waits for it.
fn connect(socket: &UdpSocket) -> u64 {
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a time to wait");
    let begun = Instant::now();
    while begun.elapsed() < CONNECTED_WITHIN {
        let _ = socket.send(&connect_request());
        let mut answer = [0; 64];
        if let Ok(16) = socket.recv(&mut answer)
            && first_words(&answer) == Some((0, CONNECT))
        {
            return u64::from_be_bytes(answer[8..16].try_into().unwrap_or_default());
        }
        // As long as nobody listens, the kernel says so at once.
        std::thread::park_timeout(Duration::from_millis(20));
    }
    panic!("{:?} gives no connection id", socket.peer_addr())
}

fn connect_request() -> [u8; 16] {
    let mut packet = [0; 16];
    packet[..8].copy_from_slice(&0x417_2710_1980_u64.to_be_bytes());
    packet[12..].copy_from_slice(&CONNECT.to_be_bytes());
    packet
}

/// BEP 15: connection, action 1, transaction, name, peer, downloaded, left, uploaded, event, address, key, want, port.
fn announce(
    packet: &mut [u8; ANNOUNCE],
    connection: u64,
    transaction: u32,
    plan: &Plan,
    swarm: u64,
    peer: u32,
) {
    packet[..8].copy_from_slice(&connection.to_be_bytes());
    packet[8..12].copy_from_slice(&1_u32.to_be_bytes());
    packet[12..16].copy_from_slice(&transaction.to_be_bytes());
    packet[16..36].copy_from_slice(&plan.name(swarm));
    packet[36..56].copy_from_slice(&plan.peer_id(swarm, peer));
    packet[64..72].copy_from_slice(&plan.left(peer).to_be_bytes());
    packet[92..96].copy_from_slice(&plan.want.to_be_bytes());
    packet[96..].copy_from_slice(&plan.port(swarm, peer).to_be_bytes());
}

/// Action and transaction.
fn first_words(packet: &[u8]) -> Option<(u32, u32)> {
    let word = |at: usize| Some(u32::from_be_bytes(packet.get(at..at + 4)?.try_into().ok()?));
    Some((word(0)?, word(4)?))
}

/// How many peers a proper answer names; `None` for a refusal.
fn judge(load: &UdpLoad, action: u32, packet: &[u8], swarm: u64) -> Result<Option<usize>, String> {
    let stride = if load.target.is_ipv4() { 6 } else { 18 };
    match (action, packet.get(20..)) {
        (1, Some(peers)) => {
            if packet[8..12] == [0; 4] {
                return Err("an interval of 0".into());
            }
            load.plan.check(swarm, peers, stride, load.expect)?;
            Ok(Some(peers.len() / stride))
        }
        (3, _) => Ok(None),
        _ => Err(format!("action {action}, {} bytes", packet.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    /// A tracker that answers with these peers of the swarm, every fourth announce not at all.
    fn scripted(plan: Plan, wrong: bool) -> SocketAddr {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        std::thread::spawn(move || {
            let mut packet = [0; 200];
            let mut seen = 0;
            while let Ok((length, from)) = socket.recv_from(&mut packet) {
                let mut answer = packet[8..16].to_vec();
                if length == 16 {
                    answer.extend(7_u64.to_be_bytes());
                } else {
                    seen += 1;
                    if seen % 4 == 0 {
                        continue;
                    }
                    answer.extend([0, 0, 0, 60, 0, 0, 0, 0, 0, 0, 0, 3]);
                    let swarm =
                        (0..plan.len()).find(|at| plan.name(*at) == packet[16..36]).unwrap();
                    for peer in 0..3 {
                        answer.extend([127, 0, 0, 1]);
                        answer.extend(plan.port(swarm + u64::from(wrong), peer).to_be_bytes());
                    }
                }
                socket.send_to(&answer, from).unwrap();
            }
        });
        address
    }

    #[test]
    fn answers_are_counted_and_lost_announces_come_again() {
        let plan = Plan { want: 3, ..Plan::numbered(4, 6) };
        let mut load = UdpLoad::new(scripted(plan.clone(), false), plan);
        load.sockets = 4;
        let report = load.fill(60);
        assert_eq!((report.answered, report.wrong), (24, 0));
        assert!(report.lost > 0 && report.asked == report.answered + report.lost, "{report}");
        load.rate = Some(200.0);
        let report = load.run(0.5);
        assert!((20..=101).contains(&report.asked) && report.wrong == 0, "{report}");
    }

    #[test]
    fn peers_of_another_swarm_are_wrong() {
        let plan = Plan { want: 3, ..Plan::numbered(4, 6) };
        let load = UdpLoad::new(scripted(plan.clone(), true), plan);
        let report = load.run(0.2);
        assert!(report.wrong > 0 && report.answered == 0, "{report}");
        assert!(report.first_wrong.unwrap().contains("not of swarm"));
    }
}
