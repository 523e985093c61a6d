//! Time that passes in tests over real sockets: bounds need a clock that can be put forward, sockets one that runs.

use std::time::Duration;

use tokio::{net::TcpStream, time};

/// Lets so much time pass at once.
pub(crate) async fn passes(time: Duration) {
    time::pause();
    time::advance(time).await;
    time::resume();
}

/// Lets time pass, so much at a step, until something is so.
pub(crate) async fn passes_until(step: Duration, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        // Whoever has to do something by now does it.
        for _ in 0..5 {
            time::sleep(Duration::from_millis(2)).await;
        }
        if is_so() {
            return;
        }
        passes(step).await;
    }
    panic!("in vain");
}

/// Whether the other side has ended the connection; what it said before is passed over.
pub(crate) fn has_ended(stream: &TcpStream) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match stream.try_read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}
