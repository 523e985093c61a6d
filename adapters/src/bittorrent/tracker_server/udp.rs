//! The tracker over UDP (BEP 15). Each address has several sockets, each with a thread that takes packets in batches.
//! What the handler knows at once is answered in the same batch; what comes later is answered from the runtime.

mod packet;

use std::{
    io::{IoSlice, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike, recvmmsg},
};
use p2pbridge_proto::{ErrorCode, Fault};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg, sendto};
use tokio::{runtime, sync::Semaphore, time::timeout};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tracing::{debug, error, warn};

use self::packet::{Later, Taken, take};
use super::{
    ANSWER_TIMEOUT,
    connection_id::{ConnectionIds, Epoch},
    desk::Desk,
    tally::Outcome,
};

/// Packets that are taken, and sent, in one call.
const BATCH: usize = 32;
/// Bytes of a packet that are read: a scrape of 74 info-hashes has 1,496. Options behind that are cut (BEP 41).
const PACKET: usize = 2048;
/// After this time without a packet a thread looks whether it must stop.
const LOOK_UP: Duration = Duration::from_millis(200);
/// How long the kernel may take to make room for an answer before the answer is dropped.
const SEND_TIMEOUT: Duration = Duration::from_millis(100);
/// Answers that may be waited for at a time, of all sockets of a server.
pub(super) const MAX_LATER: usize = 4096;

/// One socket's thread.
pub(super) struct Worker {
    pub(super) socket: UdpSocket,
    pub(super) desk: Desk,
    pub(super) ids: ConnectionIds,
    /// Where answers are waited for.
    pub(super) runtime: runtime::Handle,
    /// Room for such answers.
    pub(super) room: Arc<Semaphore>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Worker {
    /// Starts the thread, which ends soon after it is told to stop. The token is dropped when it has.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn start(self, number: usize, running: TaskTrackerToken) -> std::io::Result<()> {
        self.socket.set_read_timeout(Some(LOOK_UP))?;
        self.socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        let socket = Arc::new(self.socket.try_clone()?);
        thread::Builder::new().name(format!("tracker-udp-{number}")).spawn(move || {
            self.serve(&socket);
            drop((self, socket));
            drop(running);
        })?;
        Ok(())
    }

    fn serve(&self, socket: &Arc<UdpSocket>) {
        match socket.local_addr() {
            Ok(SocketAddr::V4(_)) => self.batches::<SockaddrIn>(socket),
            Ok(SocketAddr::V6(_)) => self.batches::<SockaddrIn6>(socket),
            Err(error) => warn!(overlay = %self.desk.overlay, %error, "cannot serve over UDP"),
        }
    }

    fn batches<S: SockaddrLike + Copy>(&self, socket: &Arc<UdpSocket>)
    where
        SocketAddr: From<S>,
    {
        let mut headers = MultiHeaders::<S>::preallocate(BATCH, None);
        let mut packets = vec![[0; PACKET]; BATCH];
        let mut arrived: Vec<(usize, SocketAddr)> = Vec::with_capacity(BATCH);
        let mut outbox = Outbox::default();
        while !self.stop.is_cancelled() {
            arrived.clear();
            let mut slices: Vec<_> =
                packets.iter_mut().map(|packet| [IoSliceMut::new(packet)]).collect();
            let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_WAITFORONE);
            match recvmmsg(fd, &mut headers, slices.iter_mut(), flags, None) {
                Ok(received) => arrived.extend(received.map(|message| {
                    // A socket of one family has senders of that family only.
                    let from = message.address.map_or_else(nobody, SocketAddr::from);
                    (message.bytes, from)
                })),
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                Err(error) => {
                    warn!(overlay = %self.desk.overlay, %error, "cannot read packets");
                    thread::park_timeout(LOOK_UP);
                    continue;
                }
            }
            let epoch = self.ids.epoch(Instant::now());
            for (packet, (length, from)) in packets.iter().zip(&arrived) {
                self.desk.tally.came();
                let packet = packet.get(..*length).unwrap_or(packet);
                match self.take(epoch, packet, *from, &mut outbox.bytes) {
                    Taken::Written(outcome) => {
                        self.desk.tally.done(outcome);
                        outbox.close(*from);
                    }
                    Taken::Dropped => self.desk.tally.done(Outcome::Malformed),
                    Taken::Later(later) => self.later(later, *from, socket, &mut outbox),
                }
            }
            let lost = outbox.send(socket);
            if lost > 0 {
                debug!(overlay = %self.desk.overlay, lost, "answers could not be sent");
            }
        }
    }

    /// Takes a packet. One at which the handler panics is lost; those beside it are not.
    fn take(&self, epoch: Epoch, packet: &[u8], from: SocketAddr, out: &mut Vec<u8>) -> Taken {
        let start = out.len();
        let taking = || take(&self.desk, &self.ids, epoch, packet, from, out);
        catch_unwind(AssertUnwindSafe(taking)).unwrap_or_else(|_| {
            error!(overlay = %self.desk.overlay, "the tracker has panicked at a packet");
            out.truncate(start);
            Taken::Dropped
        })
    }

    /// Waits for an answer on the runtime and sends it; there is room for [`MAX_LATER`] such.
    fn later(&self, later: Later, from: SocketAddr, socket: &Arc<UdpSocket>, outbox: &mut Outbox) {
        let Ok(permit) = self.room.clone().try_acquire_owned() else {
            later.asker.refuse(&mut outbox.bytes, "overloaded; try again later");
            self.desk.tally.done(Outcome::Shed);
            outbox.close(from);
            return;
        };
        let (socket, tally) = (socket.clone(), self.desk.tally.clone());
        let stop = self.stop.clone();
        let wait = async move {
            let _permit = permit;
            let late = || Fault::new(ErrorCode::Overloaded, "the answer took too long; try again");
            let Some(waited) =
                stop.run_until_cancelled(timeout(ANSWER_TIMEOUT, later.answer)).await
            else {
                return;
            };
            let mut bytes = Vec::new();
            let outcome = later.asker.write(&mut bytes, waited.unwrap_or_else(|_| Err(late())));
            tally.done(outcome);
            if let Err(error) = sendto(&*socket, &bytes, SendFlags::DONTWAIT, &from) {
                debug!(%from, %error, "an answer could not be sent");
            }
        };
        self.tasks.spawn_on(wait, &self.runtime);
    }
}

/// Stands where the kernel tells no sender: nothing is sent there.
fn nobody() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 0))
}

/// Packets that are sent in one call.
#[derive(Default)]
struct Outbox {
    bytes: Vec<u8>,
    /// Where each packet ends, and where it goes.
    packets: Vec<(usize, SocketAddrAny)>,
}

impl Outbox {
    /// What was written since the last packet is a packet.
    fn close(&mut self, to: SocketAddr) {
        self.packets.push((self.bytes.len(), to.into()));
    }

    /// Sends all, and says how many could not be sent: one that fails does not keep back the others.
    fn send(&mut self, socket: &UdpSocket) -> usize {
        let (mut start, mut lost) = (0, 0);
        let slices: Vec<_> = self
            .packets
            .iter()
            .map(|(end, _)| {
                let packet = self.bytes.get(start..*end).unwrap_or_default();
                start = *end;
                [IoSlice::new(packet)]
            })
            .collect();
        let mut controls: Vec<_> =
            self.packets.iter().map(|_| SendAncillaryBuffer::default()).collect();
        let mut messages: Vec<_> = slices
            .iter()
            .zip(&self.packets)
            .zip(&mut controls)
            .map(|((slice, (_, to)), control)| MMsgHdr::new_with_addr(to, slice, control))
            .collect();
        let mut left = messages.as_mut_slice();
        while !left.is_empty() {
            let sent = match sendmmsg(socket, left, SendFlags::empty()) {
                Ok(sent) if sent > 0 => sent,
                _ => {
                    lost += 1;
                    1
                }
            };
            left = left.get_mut(sent..).unwrap_or_default();
        }
        drop(messages);
        self.bytes.clear();
        self.packets.clear();
        lost
    }
}

#[cfg(test)]
#[path = "udp_tests.rs"]
mod tests;
