//! A relay on loopback between a client and a tracker, which keeps what each of them says.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// A question and its answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exchange {
    pub(crate) asked: Vec<u8>,
    pub(crate) answered: Vec<u8>,
}

/// A running relay.
pub(crate) struct Recorder {
    kept: Arc<Mutex<Vec<Exchange>>>,
    task: tokio::task::JoinHandle<()>,
}

type Kept = Arc<Mutex<Vec<Exchange>>>;

impl Recorder {
    /// Listens at a free port of an address, and passes on to a port there.
    pub(crate) async fn start(udp: bool, at: IpAddr, port: u16, tracker: u16) -> Self {
        let kept = Kept::default();
        let (here, there) = (SocketAddr::new(at, port), SocketAddr::new(at, tracker));
        let task = if udp {
            let socket = UdpSocket::bind(here).await.expect("a socket");
            tokio::spawn(packets(Arc::new(socket), there, kept.clone()))
        } else {
            let listener = TcpListener::bind(here).await.expect("a listener");
            tokio::spawn(connections(listener, there, kept.clone()))
        };
        Self { kept, task }
    }

    /// What was kept so far.
    pub(crate) fn exchanges(&self) -> Vec<Exchange> {
        self.kept.lock().expect("the exchanges").clone()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connections(listener: TcpListener, there: SocketAddr, kept: Kept) {
    while let Ok((client, _)) = listener.accept().await {
        let kept = kept.clone();
        tokio::spawn(async move {
            if let Ok(tracker) = TcpStream::connect(there).await {
                let _ = connection(client, tracker, kept).await;
            }
        });
    }
}

async fn connection(
    mut client: TcpStream,
    mut tracker: TcpStream,
    kept: Kept,
) -> std::io::Result<()> {
    let (mut asked, mut answered) = (vec![0; 65536], vec![0; 65536]);
    let mut at = None;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let said = &asked[..read?];
                if said.is_empty() {
                    return Ok(());
                }
                {
                    let mut kept = kept.lock().expect("the exchanges");
                    let goes_on = at.filter(|at: &usize| kept[*at].answered.is_empty());
                    let at = *at.insert(goes_on.unwrap_or(kept.len()));
                    if at == kept.len() {
                        kept.push(Exchange::default());
                    }
                    kept[at].asked.extend_from_slice(said);
                }
                tracker.write_all(said).await?;
            }
            read = tracker.read(&mut answered) => {
                let said = &answered[..read?];
                if said.is_empty() {
                    return client.shutdown().await;
                }
                if let Some(at) = at {
                    kept.lock().expect("the exchanges")[at].answered.extend_from_slice(said);
                }
                client.write_all(said).await?;
            }
        }
    }
}

async fn packets(socket: Arc<UdpSocket>, there: SocketAddr, kept: Kept) {
    let mut clients: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut packet = vec![0; 65536];
    while let Ok((length, client)) = socket.recv_from(&mut packet).await {
        let said = &packet[..length];
        kept.lock()
            .expect("the exchanges")
            .push(Exchange { asked: said.to_vec(), answered: Vec::new() });
        let upstream = match clients.get(&client) {
            Some(upstream) => upstream.clone(),
            None => {
                let upstream = Arc::new(UdpSocket::bind((there.ip(), 0)).await.expect("a socket"));
                upstream.connect(there).await.expect("the tracker's address");
                tokio::spawn(answers(socket.clone(), client, upstream.clone(), kept.clone()));
                clients.insert(client, upstream.clone());
                upstream
            }
        };
        let _ = upstream.send(said).await;
    }
}

async fn answers(socket: Arc<UdpSocket>, client: SocketAddr, upstream: Arc<UdpSocket>, kept: Kept) {
    let mut packet = vec![0; 65536];
    while let Ok(length) = upstream.recv(&mut packet).await {
        let said = &packet[..length];
        {
            let mut kept = kept.lock().expect("the exchanges");
            // The transaction is at byte 12 of a question and at byte 4 of an answer.
            let same = |exchange: &&mut Exchange| exchange.asked.get(12..16) == said.get(4..8);
            if let Some(exchange) = kept.iter_mut().rev().find(same) {
                exchange.answered = said.to_vec();
            }
        }
        let _ = socket.send_to(said, client).await;
    }
}
