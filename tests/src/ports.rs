//! Free ports on 127.0.0.1 and ::1.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// First port given, and how many there are: below the range from which the kernel takes ports for outgoing connections.
const FIRST: u32 = 10_000;
const COUNT: u32 = 20_000;

static GIVEN: AtomicU32 = AtomicU32::new(0);

/// A port that is free for both TCP and UDP on both addresses, and that this process gives only once.
///
/// # Panics
/// When none is free.
#[must_use]
pub fn free_port() -> u16 {
    // Processes begin at different places, so that two of them rarely try the same port at the same time.
    let start = std::process::id().wrapping_mul(97);
    for _ in 0..COUNT {
        let step = GIVEN.fetch_add(1, Ordering::Relaxed);
        let port = (FIRST + start.wrapping_add(step) % COUNT) as u16;
        let free = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)]
            .into_iter()
            .all(|ip| {
                let address = (ip, port);
                TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
            });
        if free {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT)
}
