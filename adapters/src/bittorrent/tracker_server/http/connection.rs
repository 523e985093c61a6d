//! One connection: bytes in, bytes out, and deadlines.

use std::{
    cell::RefCell,
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use p2pbridge_proto::{ErrorCode, Fault};
use tokio::{
    io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until, timeout},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    super::ANSWER_TIMEOUT,
    Site,
    exchange::{Pending, Turn, Written, turn},
    head::MAX_HEAD,
    reply::{After, plain},
};

/// How long a request may take from its first byte to its last, and a new connection to its first request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be idle.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long either may take when there is little room left.
const CROWDED_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an asker may take to receive answers.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection is read from after its last answer: closed at once, unread bytes would destroy the answer.
const FAREWELL: Duration = Duration::from_secs(1);
/// Bytes that are read then.
const FAREWELL_BYTES: usize = 64 << 10;
/// Bytes that are read at a time.
const CHUNK: usize = 2 * MAX_HEAD;

thread_local! {
    /// What every connection of the thread reads into and writes from, one after the other.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        input: vec![0; CHUNK],
        written: Written::default(),
    });
}

struct Scratch {
    input: Vec<u8>,
    written: Written,
}

/// A connection that is served.
pub(super) struct Connection {
    site: Arc<Site>,
    stream: TcpStream,
    peer: IpAddr,
    /// Bytes that came and are not done with: a part of a request, or requests behind one that waits. At most as many
    /// as a chunk and a head have.
    rest: Vec<u8>,
    /// Answers that the socket did not take yet.
    unsent: Vec<u8>,
}

/// What came of reading.
enum Step {
    Turn(Turn),
    Closed,
}

impl Connection {
    pub(super) fn new(site: Arc<Site>, stream: TcpStream, peer: IpAddr) -> Self {
        Self { site, stream, peer, rest: Vec::new(), unsent: Vec::new() }
    }

    /// Serves to the end.
    pub(super) async fn serve(mut self) {
        // Answers are written whole: nothing is gained by waiting for more.
        let _ = self.stream.set_nodelay(true);
        let mut deadline = Instant::now() + self.patience(HEAD_TIMEOUT);
        let timer = sleep_until(deadline);
        tokio::pin!(timer);
        let mut turn = Turn::Read;
        loop {
            turn = match turn {
                Turn::Read => match self.read(timer.as_mut(), deadline).await {
                    Step::Turn(turn) => turn,
                    Step::Closed => return,
                },
                Turn::Flush => self.again(),
                Turn::Wait(pending) => {
                    if self.wait(pending).await == After::Ends {
                        Turn::End
                    } else {
                        self.again()
                    }
                }
                Turn::End => {
                    if self.flush().await.is_ok() {
                        farewell(self.stream).await;
                    }
                    return;
                }
            };
            if self.flush().await.is_err() {
                return;
            }
            deadline = Instant::now() + self.patience(self.usual_patience());
        }
    }

    fn usual_patience(&self) -> Duration {
        if self.rest.is_empty() { IDLE_TIMEOUT } else { HEAD_TIMEOUT }
    }

    fn patience(&self, usual: Duration) -> Duration {
        if self.site.room.is_crowded() { CROWDED_TIMEOUT } else { usual }
    }

    /// Reads, answers, and writes what the socket takes, until there is something else to do. The deadline of a request
    /// does not move while it is incomplete.
    async fn read(&mut self, mut timer: Pin<&mut Sleep>, mut deadline: Instant) -> Step {
        loop {
            if deadline < timer.deadline() {
                timer.as_mut().reset(deadline);
            }
            let was_incomplete = !self.rest.is_empty();
            let step = tokio::select! {
                biased;
                step = std::future::poll_fn(|cx| self.poll_turn(cx)) => step,
                () = timer.as_mut() => {
                    if Instant::now() < deadline {
                        timer.as_mut().reset(deadline);
                        continue;
                    }
                    self.late().await;
                    return Step::Closed;
                }
            };
            match step {
                Ok(Some((Turn::Read, answered))) if self.unsent.is_empty() => {
                    let same_request = was_incomplete && !answered;
                    if !same_request {
                        deadline = Instant::now() + self.patience(self.usual_patience());
                    }
                }
                Ok(Some((turn, _))) => return Step::Turn(turn),
                Ok(None) | Err(_) => return Step::Closed,
            }
        }
    }

    /// Tells an asker that its request takes too long to come.
    async fn late(&mut self) {
        if !self.rest.is_empty() {
            let text = "the request took too long to come\n";
            plain(&mut self.unsent, "408 Request Timeout", text, After::Ends);
            let _ = self.flush().await;
        }
    }

    /// Reads once and answers what came; says also whether anything was answered. Nothing at the end of the stream.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<(Turn, bool)>>> {
        SCRATCH.with_borrow_mut(|Scratch { input, written }| {
            let mut buffer = ReadBuf::new(input);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(None));
            }
            let turn = if self.rest.is_empty() {
                let bytes = buffer.filled();
                let (turn, done) = self.turn(bytes, written);
                self.rest.extend_from_slice(bytes.get(done..).unwrap_or_default());
                turn
            } else {
                self.rest.extend_from_slice(buffer.filled());
                self.rest_turn(written)
            };
            let answered = !written.out.is_empty();
            let mut sent = 0;
            if answered
                && let Poll::Ready(wrote) = Pin::new(&mut self.stream).poll_write(cx, &written.out)
            {
                sent = wrote?;
            }
            self.unsent.extend_from_slice(written.out.get(sent..).unwrap_or_default());
            written.out.clear();
            Poll::Ready(Ok(Some((turn, answered))))
        })
    }

    fn turn(&self, bytes: &[u8], written: &mut Written) -> (Turn, usize) {
        turn(&self.site.desk, self.peer, self.site.trust_forwarded_for, bytes, written)
    }

    /// A turn over the bytes that are left.
    fn rest_turn(&mut self, written: &mut Written) -> Turn {
        let rest = std::mem::take(&mut self.rest);
        let (turn, done) = self.turn(&rest, written);
        // A buffer is held only as long as there is something in it.
        if let Some(left) = rest.get(done..).filter(|left| !left.is_empty()) {
            self.rest = left.to_vec();
        }
        turn
    }

    /// A turn over the bytes that are left, whose answers are sent with the next flush.
    fn again(&mut self) -> Turn {
        SCRATCH.with_borrow_mut(|Scratch { written, .. }| {
            let turn = self.rest_turn(written);
            self.unsent.append(&mut written.out);
            turn
        })
    }

    /// Waits for an answer, which is sent with the next flush.
    async fn wait(&mut self, pending: Pending) -> After {
        let _busy = self.site.busy.token();
        let answer = timeout(ANSWER_TIMEOUT, pending.answer);
        // A task of its own: when it breaks down, the connection does not. On this thread, which saves two changes of
        // threads for each answer.
        let answer = AbortOnDropHandle::new(tokio::spawn(answer));
        let late = || Fault::new(ErrorCode::Overloaded, "the answer took too long; try again");
        let result = match answer.await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(late()),
            Err(_) => Err(Fault::new(ErrorCode::Internal, "the bridge failed to answer")),
        };
        SCRATCH.with_borrow_mut(|Scratch { written, .. }| {
            self.site.desk.tally.done(pending.asker.write(written, result));
            self.unsent.append(&mut written.out);
        });
        // Before the token is dropped: a server that stops waits for it.
        if self.flush().await.is_err() {
            return After::Ends;
        }
        pending.asker.after
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.unsent.is_empty() {
            return Ok(());
        }
        let unsent = std::mem::take(&mut self.unsent);
        let written = timeout(WRITE_TIMEOUT, self.stream.write_all(&unsent)).await;
        written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Sends a last answer, and ends.
pub(super) async fn dismiss(mut stream: TcpStream, answer: &[u8]) {
    if let Ok(Ok(())) = timeout(FAREWELL, stream.write_all(answer)).await {
        farewell(stream).await;
    }
}

/// Ends a connection so that the last answer arrives: reads a little until the other side ends it too.
async fn farewell(mut stream: TcpStream) {
    let reading = async {
        stream.shutdown().await?;
        let mut sink = [0; 1024];
        let mut left = FAREWELL_BYTES;
        while left > 0 {
            match stream.read(&mut sink).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        io::Result::Ok(())
    };
    let _ = timeout(FAREWELL, reading).await;
}
