//! A peer that says what a test wants it to say.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use p2pbridge_adapters::bittorrent::wire::peer::{
    Block, Features, Handshake, Limits, MAX_BLOCK, Message, decode,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::memory::{Memory, UNIT, soon};

pub(crate) struct Raw {
    stream: TcpStream,
    inbox: BytesMut,
}

impl Raw {
    /// Connects and greets.
    pub(crate) async fn dial(at: SocketAddr, hash: [u8; 20], features: Features) -> Self {
        let stream = soon(TcpStream::connect(at)).await.expect("it listens");
        Self::greet(stream, hash, features).await.expect("it answers the greeting")
    }

    /// Greets; `None` when the other side closes instead.
    pub(crate) async fn greet(
        mut stream: TcpStream,
        hash: [u8; 20],
        features: Features,
    ) -> Option<Self> {
        let ours = Handshake { features, info_hash: hash, peer_id: *b"-XX0000-abcdefghijkl" };
        stream.write_all(&ours.encode()).await.ok()?;
        let mut theirs = [0; Handshake::LEN];
        soon(stream.read_exact(&mut theirs)).await.ok()?;
        assert_eq!(Handshake::decode(&theirs).expect("a handshake").info_hash, hash);
        Some(Self { stream, inbox: BytesMut::new() })
    }

    pub(crate) async fn say(&mut self, message: Message) {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        self.stream.write_all(&out).await.expect("the other side reads");
    }

    /// The next message; `None` when the other side has closed.
    pub(crate) async fn hear(&mut self) -> Option<Message> {
        let limits = Limits { bitfield: 1000, block: MAX_BLOCK, other: 1 << 20 };
        loop {
            if let Some(message) = decode(&mut self.inbox, &limits).expect("good messages") {
                return Some(message);
            }
            match soon(self.stream.read_buf(&mut self.inbox)).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// Passes over messages until there comes one as wanted.
    pub(crate) async fn until<T>(&mut self, wanted: impl Fn(&Message) -> Option<T>) -> T {
        loop {
            let message = self.hear().await.expect("the other side goes on");
            if let Some(found) = wanted(&message) {
                return found;
            }
        }
    }

    /// Waits for the next request.
    pub(crate) async fn request(&mut self) -> Block {
        self.until(|message| match message {
            Message::Request(block) => Some(*block),
            _ => None,
        })
        .await
    }

    /// Gives a block of a content.
    pub(crate) async fn give(&mut self, memory: &Memory, block: Block) {
        let data = bytes_of(memory, block);
        self.say(Message::Piece { piece: block.piece, begin: block.begin, data }).await;
    }

    /// Passes over messages until the other side closes.
    pub(crate) async fn closed(&mut self) {
        while self.hear().await.is_some() {}
    }
}

/// The bytes of a block.
pub(crate) fn bytes_of(memory: &Memory, block: Block) -> Bytes {
    let start = block.piece as usize * UNIT + block.begin as usize;
    memory.data.slice(start..start + block.length as usize)
}
