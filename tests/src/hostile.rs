//! Trackers that misbehave.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How a tracker misbehaves. All of them speak HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadTracker {
    /// Nothing listens.
    Down,
    /// It takes the question and never answers.
    Slow,
    /// It answers 200 with something that is no bencoding.
    Nonsense,
    /// It answers 200 with a bencoded dictionary of 10 MB.
    Huge,
    /// It sends 10 MB without saying how much will come.
    Endless,
    /// It answers everything with these bytes.
    Says(&'static [u8]),
}

/// A running bad tracker; it ends when dropped.
#[derive(Debug)]
pub struct Hostile {
    /// Its announce URL.
    pub url: String,
    asked: Arc<AtomicUsize>,
    task: Option<JoinHandle<()>>,
}

impl Hostile {
    /// Starts it.
    pub async fn start(manner: BadTracker) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let url = format!(
            "http://127.0.0.1:{}/announce",
            listener.local_addr().expect("its address").port()
        );
        let asked = Arc::new(AtomicUsize::new(0));
        let task = (manner != BadTracker::Down)
            .then(|| tokio::spawn(serve(listener, manner, Arc::clone(&asked))));
        Self { url, asked, task }
    }

    /// How many connections it has taken.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn serve(listener: TcpListener, manner: BadTracker, asked: Arc<AtomicUsize>) {
    let mut silent = Vec::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        asked.fetch_add(1, Ordering::Relaxed);
        if manner == BadTracker::Slow {
            silent.push(stream);
            continue;
        }
        tokio::spawn(async move {
            let mut question = [0; 4096];
            if stream.read(&mut question).await.is_ok() {
                answer(&mut stream, manner).await;
            }
        });
    }
}

async fn answer(stream: &mut TcpStream, manner: BadTracker) {
    const SIZE: usize = 10_000_000;
    if let BadTracker::Says(bytes) = manner {
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        return;
    }
    let mut body = match manner {
        BadTracker::Nonsense => b"<html>It works!</html>".to_vec(),
        _ => format!("d8:intervali60e5:peers{SIZE}:").into_bytes(),
    };
    if manner != BadTracker::Nonsense {
        body.resize(body.len() + SIZE, b'x');
        body.push(b'e');
    }
    let length = match manner {
        BadTracker::Endless => String::new(),
        _ => format!("Content-Length: {}\r\n", body.len()),
    };
    let head = format!("HTTP/1.1 200 OK\r\n{length}Connection: close\r\n\r\n");
    // The other side may hang up at any moment; that is its right.
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(&body).await;
    let _ = stream.shutdown().await;
}
