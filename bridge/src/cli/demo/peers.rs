//! The demo's overlays: a tracker, a peer that holds a file, and a peer that wants one, made of the adapters' own faces.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{FuturesOrdered, StreamExt as _};
use indicatif::ProgressBar;
use p2pbridge_adapters::{
    Adapter, Attendance, Availability, ContentReader, Description, Host, Library, ReadError,
    SourceSession, TrackerServer, TrackerTerms,
    bittorrent::tracker_server::{BtTrackerServer, ServerConfig},
    registry,
};
use p2pbridge_proto::{Announce, Bits, Name, OverlayId, Peer, PeerEvent, Reply, Request};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Failure;
use crate::handler::SwarmTable;

/// How long a tracker has to answer.
const TRACKER: Duration = Duration::from_secs(5);
/// How often the wanting peer asks its tracker, until somebody is there.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// Chunks that the wanting peer has asked for at once.
const AHEAD: usize = 6;

/// A tracker on loopback.
pub(super) struct DemoTracker {
    pub(super) url: String,
}

impl DemoTracker {
    pub(super) async fn start(stop: &CancellationToken) -> Result<Self, Failure> {
        let id: OverlayId = "demo".parse()?;
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = ServerConfig { http: vec![loopback], workers: 1, ..ServerConfig::default() };
        let server: Arc<dyn TrackerServer> = BtTrackerServer::bind(&id, &config)?;
        let url = server.urls().into_iter().next().ok_or("the tracker has no address")?;
        let interval = Duration::from_secs(5);
        let terms = TrackerTerms { interval, ..TrackerTerms::default() };
        tokio::spawn(server.serve(Arc::new(SwarmTable::new(terms)), stop.clone()));
        Ok(Self { url })
    }
}

/// A peer on loopback.
pub(super) struct DemoPeer {
    adapter: Adapter,
}

impl DemoPeer {
    pub(super) fn build(id: &str, tracker: &str) -> Result<Self, Failure> {
        let text = format!(
            "[overlays.bittorrent.{id}]\ntrackers = [\"{tracker}\"]\nlisten = [\"127.0.0.1:0\"]\n"
        );
        // Another mark than the bridge's: to the bridge this is a stranger.
        let mut host = Host { mark: [0; 6] };
        getrandom::fill(&mut host.mark)?;
        let protocol = registry::protocol("bittorrent").ok_or("the protocol is not built in")?;
        let configured = (protocol.configure)(&text)?.pop().ok_or("no overlay is configured")?;
        Ok(Self { adapter: (configured.build)(&host)? })
    }

    /// Where the peer listens.
    pub(super) fn endpoint(&self) -> SocketAddr {
        let seeder = self.adapter.seeder.as_ref();
        seeder
            .and_then(|seeder| seeder.endpoints().first().copied())
            .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Seeds a file from now on.
    pub(super) async fn hold(
        &self,
        description: Arc<Description>,
        path: PathBuf,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        let seeder = self.adapter.seeder.clone().ok_or("the protocol has no seeder face")?;
        let content: Arc<dyn ContentReader> = Arc::new(HeldFile::new(description.clone(), path)?);
        let library = OneContent { names: description.names.clone(), content };
        tokio::spawn(seeder.serve(Arc::new(library), stop.clone()));
        self.announce(&description, PeerEvent::Started, 0).await?;
        Ok(())
    }

    /// Downloads a file from the first peer that the tracker names and that speaks with us.
    pub(super) async fn download(
        &self,
        description: Arc<Description>,
        target: &Path,
        bar: &ProgressBar,
        patience: Duration,
    ) -> Result<SocketAddr, Failure> {
        let deadline = Instant::now() + patience;
        let (session, from) = loop {
            if let Some(found) = self.find(&description).await? {
                break found;
            }
            if Instant::now() >= deadline {
                return Err("nobody in overlay b offers the file".into());
            }
            sleep(ASK_AGAIN).await;
        };
        self.fetch(&description, session, target, bar, patience).await?;
        Ok(from)
    }

    async fn find(
        &self,
        description: &Arc<Description>,
    ) -> Result<Option<(Arc<dyn SourceSession>, SocketAddr)>, Failure> {
        let peers = self.announce(description, PeerEvent::Started, description.length).await?;
        let leecher = self.adapter.leecher.as_ref().ok_or("the protocol has no leecher face")?;
        for peer in peers {
            if let Ok(session) = leecher.open(description.clone(), peer.endpoint).await {
                return Ok(Some((session, peer.endpoint)));
            }
        }
        Ok(None)
    }

    async fn fetch(
        &self,
        description: &Arc<Description>,
        session: Arc<dyn SourceSession>,
        target: &Path,
        bar: &ProgressBar,
        patience: Duration,
    ) -> Result<(), Failure> {
        let file = Arc::new(File::create(target)?);
        file.set_len(description.length)?;
        let mut changes = session.changes();
        let chunks = u32::try_from(description.length.div_ceil(description.unit))?;
        let mut next = 0;
        let mut under_way = FuturesOrdered::new();
        loop {
            while next < chunks && under_way.len() < AHEAD && session.has(next) {
                let (session, chunk) = (session.clone(), next);
                let start = u64::from(chunk) * description.unit;
                let range = start..(start + description.unit).min(description.length);
                under_way.push_back(async move { (chunk, start, session.fetch(range).await) });
                next += 1;
            }
            if under_way.is_empty() {
                if next == chunks {
                    return Ok(());
                }
                timeout(patience, changes.changed())
                    .await
                    .map_err(|_| "nothing comes any more")??;
                continue;
            }
            let fetched = tokio::select! {
                fetched = under_way.next() => fetched,
                _ = changes.changed(), if next < chunks => continue,
            };
            let Some((chunk, start, bytes)) = fetched else { continue };
            let bytes = bytes?;
            let (file, description, length) = (file.clone(), description.clone(), bytes.len());
            let work = tokio::task::spawn_blocking(move || -> Result<(), Failure> {
                if !description.integrity.check(chunk, std::slice::from_ref(&bytes)) {
                    return Err(format!("chunk {chunk} does not match its hash").into());
                }
                Ok(file.write_all_at(&bytes, start)?)
            });
            work.await??;
            bar.inc(length as u64);
        }
    }

    async fn announce(
        &self,
        description: &Description,
        event: PeerEvent,
        left: u64,
    ) -> Result<Vec<Peer>, Failure> {
        let client = self.adapter.tracker_client.as_ref().ok_or("the protocol has no trackers")?;
        let request = Request::Announce(Announce {
            event,
            left: Some(left),
            ..Announce::new(
                Peer::at(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0)),
                description.names.clone(),
            )
        });
        match client.call(request, Instant::now() + TRACKER).await? {
            Reply::Peers(list) => Ok(list.peers),
            Reply::Swarms(_) | Reply::Found(_) => Ok(Vec::new()),
        }
    }
}

/// A file on disk, all of it available.
struct HeldFile {
    description: Arc<Description>,
    availability: Availability,
    file: Arc<File>,
    retired: CancellationToken,
}

impl HeldFile {
    fn new(description: Arc<Description>, path: PathBuf) -> Result<Self, Failure> {
        let chunks = u32::try_from(description.length.div_ceil(description.unit))?;
        let availability = Availability::new(chunks);
        (0..chunks).for_each(|chunk| {
            availability.add(chunk);
        });
        let file = Arc::new(File::open(path)?);
        Ok(Self { description, availability, file, retired: CancellationToken::new() })
    }
}

#[async_trait]
impl ContentReader for HeldFile {
    fn description(&self) -> &Arc<Description> {
        &self.description
    }

    fn availability(&self) -> &Availability {
        &self.availability
    }

    fn retired(&self) -> &CancellationToken {
        &self.retired
    }

    async fn prepare(&self, _chunk: u32) -> Result<(), ReadError> {
        Ok(())
    }

    async fn read(&self, range: Range<u64>) -> Result<Bytes, ReadError> {
        if range.start > range.end || range.end > self.description.length {
            return Err(ReadError::NotAvailable(range));
        }
        let file = self.file.clone();
        let read = move || {
            let mut bytes = vec![0; usize::try_from(range.end - range.start).unwrap_or(0)];
            file.read_exact_at(&mut bytes, range.start).map(|()| Bytes::from(bytes))
        };
        let failed = |error: String| ReadError::Failed(error);
        let done =
            tokio::task::spawn_blocking(read).await.map_err(|error| failed(error.to_string()))?;
        done.map_err(|error| failed(error.to_string()))
    }

    fn attend(&self, _peer: SocketAddr) -> Box<dyn Attendance> {
        Box::new(Unwatched)
    }
}

/// The holder has everything: it does not matter what its peers lack.
struct Unwatched;

impl Attendance for Unwatched {
    fn holds(&self, _chunks: Bits) {}

    fn gained(&self, _chunk: u32) {}

    fn served(&self, _range: Range<u64>) {}
}

/// A library of one content.
struct OneContent {
    names: Vec<Name>,
    content: Arc<dyn ContentReader>,
}

impl Library for OneContent {
    fn open(&self, name: &Name) -> Option<Arc<dyn ContentReader>> {
        self.names.contains(name).then(|| self.content.clone())
    }
}
