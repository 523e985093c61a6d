//! A socket towards a UDP tracker, for packets that no client sends.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

/// How long a tracker may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a connect begins with (BEP 15).
const MAGIC: u64 = 0x417_2710_1980;

/// A socket towards a tracker.
#[derive(Debug)]
pub struct UdpDoor {
    socket: UdpSocket,
    connects: u32,
}

impl UdpDoor {
    /// A socket at an address.
    pub async fn new(server: SocketAddr, from: IpAddr) -> Self {
        let socket = UdpSocket::bind((from, 0)).await.expect("a socket");
        socket.connect(server).await.expect("an address");
        Self { socket, connects: 0 }
    }

    /// Asks for a connection id.
    pub async fn connect(&mut self) -> u64 {
        self.connected().await.1
    }

    /// Sends a packet, and gives what came for it: a connect is sent after it, and what comes before that one's answer is for the packet.
    pub async fn answers(&mut self, packet: &[u8]) -> Vec<Vec<u8>> {
        self.socket.send(packet).await.expect("sent");
        self.connected().await.0
    }

    /// The answer to a connect, and what came before it.
    async fn connected(&mut self) -> (Vec<Vec<u8>>, u64) {
        self.connects += 1;
        let transaction = (0xc0de_0000 | self.connects).to_be_bytes();
        let connect = [&MAGIC.to_be_bytes()[..], &[0; 4], &transaction].concat();
        self.socket.send(&connect).await.expect("sent");
        let (mut before, mut answer) = (Vec::new(), [0; 2048]);
        loop {
            let got = timeout(PATIENCE, self.socket.recv(&mut answer)).await;
            let got = &answer[..got.expect("an answer to a connect").expect("an answer")];
            if got.len() == 16 && got[..4] == [0; 4] && got[4..8] == transaction {
                return (before, u64::from_be_bytes(got[8..].try_into().expect("8 bytes")));
            }
            before.push(got.to_vec());
        }
    }
}
