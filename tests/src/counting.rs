//! A proxy before a tracker that notes when each message passes.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Builder;
use tokio::sync::oneshot;

/// A running proxy, with a thread of its own, so that a busy test does not make it note late. It ends when dropped.
#[derive(Debug)]
pub struct Counting {
    /// Its port on 127.0.0.1, of TCP and UDP.
    pub port: u16,
    seen: Arc<Mutex<Vec<Instant>>>,
    _stop: oneshot::Sender<()>,
}

impl Counting {
    /// Starts it before the tracker at this port: what comes to the one port over TCP or UDP goes to the other.
    #[must_use]
    pub fn before(tracker: u16) -> Self {
        let port = crate::free_port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let noted = Arc::clone(&seen);
        std::thread::Builder::new()
            .name("counting".into())
            .spawn(move || {
                let runtime =
                    Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(async {
                    let here = (Ipv4Addr::LOCALHOST, port);
                    let tcp = TcpListener::bind(here).await.expect("the port");
                    let udp = UdpSocket::bind(here).await.expect("the port");
                    ready.send(()).expect("somebody who waits");
                    let tracker = (Ipv4Addr::LOCALHOST, tracker).into();
                    tokio::select! {
                        () = connections(tcp, tracker, Arc::clone(&noted)) => {}
                        () = packets(Arc::new(udp), tracker, noted) => {}
                        _ = stopped => {}
                    }
                });
            })
            .expect("a thread");
        is_ready.recv().expect("the proxy listening");
        Self { port, seen, _stop: stop }
    }

    /// How many messages have passed to the tracker.
    #[must_use]
    pub fn seen(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The most messages that have passed to the tracker in any one second.
    #[must_use]
    pub fn busiest_second(&self) -> usize {
        busiest(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn busiest(times: &[Instant]) -> usize {
    let second = Duration::from_secs(1);
    let (mut first, mut most) = (0, 0);
    for (last, time) in times.iter().enumerate() {
        while time.duration_since(times[first]) >= second {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

type Seen = Arc<Mutex<Vec<Instant>>>;

fn note(seen: &Seen, messages: usize) {
    let now = Instant::now();
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.extend(std::iter::repeat_n(now, messages));
}

async fn connections(listener: TcpListener, tracker: SocketAddr, seen: Seen) {
    while let Ok((client, _)) = listener.accept().await {
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            // A tracker that is not there is not there through the proxy either.
            let Ok(tracker) = TcpStream::connect(tracker).await else { return };
            let ((from_client, to_client), (from_tracker, to_tracker)) =
                (client.into_split(), tracker.into_split());
            tokio::join!(
                forward(from_client, to_tracker, Some(seen)),
                forward(from_tracker, to_client, None)
            );
        });
    }
}

/// Forwards until one side ends. A request without a body ends with an empty line: these are counted.
async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, seen: Option<Seen>) {
    let (mut buffer, mut matched) = (vec![0; 16 * 1024], 0);
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if let Some(seen) = &seen {
            let mut ends = 0;
            for byte in &buffer[..length] {
                matched = match (matched, byte) {
                    (0 | 2, b'\r') | (1 | 3, b'\n') => matched + 1,
                    (_, b'\r') => 1,
                    _ => 0,
                };
                if matched == 4 {
                    (ends, matched) = (ends + 1, 0);
                }
            }
            note(seen, ends);
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// Each asker gets a socket of its own towards the tracker, so that answers find their way.
async fn packets(udp: Arc<UdpSocket>, tracker: SocketAddr, seen: Seen) {
    let mut sockets: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut buffer = vec![0; 2048];
    while let Ok((length, asker)) = udp.recv_from(&mut buffer).await {
        note(&seen, 1);
        let socket = match sockets.get(&asker) {
            Some(socket) => Arc::clone(socket),
            None => {
                let socket =
                    Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a socket"));
                socket.connect(tracker).await.expect("an address");
                sockets.insert(asker, Arc::clone(&socket));
                tokio::spawn(answers(Arc::clone(&socket), Arc::clone(&udp), asker));
                socket
            }
        };
        // Nobody listens there: the asker will find out by itself.
        let _ = socket.send(&buffer[..length]).await;
    }
}

async fn answers(from: Arc<UdpSocket>, to: Arc<UdpSocket>, asker: SocketAddr) {
    let mut buffer = vec![0; 2048];
    loop {
        if let Ok(length) = from.recv(&mut buffer).await {
            let _ = to.send_to(&buffer[..length], asker).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_second_is_a_sliding_one() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        assert_eq!(busiest(&[]), 0);
        assert_eq!(busiest(&[at(0), at(999), at(1000)]), 2);
        assert_eq!(busiest(&[at(0), at(900), at(950), at(1800), at(1899)]), 4);
    }
}
