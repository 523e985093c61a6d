//! How a connection begins: plain or obfuscated, and with a greeting both ways.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use super::{
    super::wire::{
        Hash, Packet, Protocol,
        hello::{self, Greeting},
        obfuscation::{ANSWER_HEAD, Ciphers, REQUEST_HEAD, is_message},
    },
    socket::{LinkError, Reader, Writer},
};

/// How long a connection may take to be made.
pub(super) const CONNECTING: Duration = Duration::from_secs(8);
/// How long a greeting may take, its obfuscation included.
pub(super) const GREETING: Duration = Duration::from_secs(15);
/// Messages that may come before the answer to a greeting: `OP_EMULEINFO`, a question for our address.
const BEFORE_ANSWER: usize = 8;

/// A connection on which both sides have greeted.
pub(super) struct Greeted {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    pub(super) theirs: Greeting,
    pub(super) obfuscated: bool,
}

/// Connects, from the address at which the bridge listens where that is a single one.
pub(super) async fn connect(
    to: SocketAddr,
    from: Option<SocketAddr>,
) -> std::io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from.ip(), 0))?;
    }
    match timeout(CONNECTING, socket.connect(to)).await {
        Ok(connected) => connected,
        Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
    }
}

/// Greets a client that was connected to; under keys of its user hash, where that is given.
pub(super) async fn greet(
    stream: TcpStream,
    ours: &Greeting,
    theirs: Option<&Hash>,
) -> Result<Greeted, LinkError> {
    in_time(async {
        let (mut reader, mut writer) = halves(stream)?;
        if let Some(hash) = theirs {
            begin(&mut reader, &mut writer, hash).await?;
        }
        writer.write_now(&ours.hello()).await?;
        let mut told = None;
        for _ in 0..BEFORE_ANSWER {
            let packet = reader.next().await?;
            match (packet.protocol, packet.opcode) {
                (Protocol::EDonkey, hello::HELLO_ANSWER) => {
                    let mut theirs = Greeting::read_answer(&packet.payload)?;
                    if let (false, Some(told)) = (theirs.options.emule, told) {
                        theirs.options = told;
                    }
                    let obfuscated = writer.cipher.is_some();
                    return Ok(Greeted { reader, writer, theirs, obfuscated });
                }
                (Protocol::EMule, hello::EMULE_INFO) => {
                    let mut options = hello::Options::default();
                    hello::read_info(&packet.payload, &mut options)?;
                    told = Some(options);
                    writer.write_now(&hello::info(true)).await?;
                }
                _ => {}
            }
        }
        Err(LinkError::Unfit("it does not answer the greeting"))
    })
    .await
}

/// Who listens at an address, by its answer to a greeting; the connection ends with it. A server asks so.
pub(crate) async fn ask_who(
    to: SocketAddr,
    from: Option<SocketAddr>,
    ours: &Greeting,
    theirs: Option<&Hash>,
) -> Result<Greeting, String> {
    let stream = connect(to, from).await.map_err(|error| error.to_string())?;
    let greeted = greet(stream, ours, theirs).await.map_err(|error| error.to_string())?;
    Ok(greeted.theirs)
}

/// Which ways of speaking are taken from a client that connects.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taken {
    pub(super) plain: bool,
    pub(super) obfuscated: bool,
}

/// Takes the greeting of a client that has connected, and answers it.
pub(super) async fn answer(
    stream: TcpStream,
    ours: &Greeting,
    taken: Taken,
) -> Result<Greeted, LinkError> {
    in_time(async {
        let (mut reader, mut writer) = halves(stream)?;
        reader.more().await?;
        let is_plain = reader.inbox.first().copied().is_some_and(is_message);
        match is_plain {
            true if taken.plain => {}
            false if taken.obfuscated => take(&mut reader, &mut writer, &ours.hash).await?,
            _ => return Err(LinkError::Unfit("not the way of speaking that is taken")),
        }
        let Packet { protocol, opcode, payload, .. } = reader.next().await?;
        if (protocol, opcode) != (Protocol::EDonkey, hello::HELLO) {
            return Err(LinkError::NoGreeting(opcode));
        }
        let theirs = Greeting::read_hello(&payload)?;
        writer.write_now(&ours.answer()).await?;
        let obfuscated = writer.cipher.is_some();
        Ok(Greeted { reader, writer, theirs, obfuscated })
    })
    .await
}

async fn in_time<T>(greeting: impl Future<Output = Result<T, LinkError>>) -> Result<T, LinkError> {
    timeout(GREETING, greeting).await.unwrap_or(Err(LinkError::Silent(GREETING)))
}

fn halves(stream: TcpStream) -> Result<(Reader, Writer), LinkError> {
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    Ok((Reader::new(read), Writer::new(write)))
}

/// Begins an obfuscated stream.
async fn begin(reader: &mut Reader, writer: &mut Writer, hash: &Hash) -> Result<(), LinkError> {
    let [marker, length, seed @ ..] = random::<6>();
    let padding = random::<16>();
    let padding = padding.get(..usize::from(length % 16)).unwrap_or_default();
    let mut ciphers = Ciphers::of_requester(hash, seed);
    writer.write_raw(&ciphers.request(marker, seed, padding)).await?;
    let head = exactly::<ANSWER_HEAD>(reader).await?;
    let padding = ciphers.read_answer(head)?;
    go_on(reader, writer, ciphers, padding, None).await
}

/// Takes part in an obfuscated stream that the client has begun.
async fn take(reader: &mut Reader, writer: &mut Writer, hash: &Hash) -> Result<(), LinkError> {
    let [_, seed @ ..] = exactly::<5>(reader).await?;
    let mut ciphers = Ciphers::of_responder(hash, seed);
    let head = exactly::<REQUEST_HEAD>(reader).await?;
    let padding = ciphers.read_request(head)?;
    let [length, pad @ ..] = random::<17>();
    let pad = pad.get(..usize::from(length % 16)).unwrap_or_default();
    let answer = ciphers.answer(pad);
    go_on(reader, writer, ciphers, padding, Some(answer)).await
}

/// Passes over the padding, says the last word, and puts all that follows under the keys.
async fn go_on(
    reader: &mut Reader,
    writer: &mut Writer,
    mut ciphers: Ciphers,
    padding: usize,
    answer: Option<Vec<u8>>,
) -> Result<(), LinkError> {
    while reader.inbox.len() < padding {
        reader.more().await?;
    }
    ciphers.receive.apply(&mut reader.inbox.split_to(padding));
    ciphers.receive.apply(&mut reader.inbox);
    if let Some(answer) = answer {
        writer.write_raw(&answer).await?;
    }
    reader.cipher = Some(ciphers.receive);
    writer.cipher = Some(ciphers.send);
    Ok(())
}

async fn exactly<const N: usize>(reader: &mut Reader) -> Result<[u8; N], LinkError> {
    while reader.inbox.len() < N {
        reader.more().await?;
    }
    Ok(reader.inbox.split_to(N).first_chunk().copied().unwrap_or([0; N]))
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Without random bytes the stream is as well hidden as its user hash is.
    let _ = getrandom::fill(&mut bytes);
    bytes
}
