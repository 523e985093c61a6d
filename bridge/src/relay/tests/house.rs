//! Two overlays with a relay between them.

use super::*;

/// Two overlays, a route between them, and a relay.
pub(super) struct House {
    pub(super) relay: Arc<Relay>,
    pub(super) table: Arc<NameTable>,
    pub(super) meter: Arc<Meter>,
    pub(super) sent: Arc<AtomicU64>,
    pub(super) stop: CancellationToken,
    pub(super) task: tokio::task::JoinHandle<()>,
}

pub(super) struct Setup<'a> {
    pub(super) a: &'a Arc<Description>,
    pub(super) b: &'a Arc<Description>,
    pub(super) peers: Vec<(u16, Bytes)>,
    pub(super) fickle: Option<u16>,
    pub(super) folder: &'a Path,
    pub(super) table: Arc<NameTable>,
    pub(super) spool_bound: u64,
}

pub(super) fn table() -> Arc<NameTable> {
    Arc::new(NameTable::open(Box::new(MemoryStore::default())).unwrap())
}

pub(super) fn handler(
    trackers: &HashMap<OverlayId, Arc<dyn TrackerClient>>,
    names: &Arc<NameTable>,
    chooser: &Arc<Chooser>,
) -> Arc<MessageHandler> {
    let parts = trackers.iter().map(|(id, client)| OverlayParts {
        id: id.clone(),
        protocol: "p",
        schemes: &[p2pbridge_proto::Scheme::Btih],
        mode: Mode::Presence,
        terms: TrackerTerms::default(),
        client: Some(client.clone()),
        reachable: Vec::new(),
        own: Vec::new(),
    });
    Arc::new(MessageHandler::new(parts.collect(), names, &Routes::default(), chooser))
}

pub(super) async fn house(setup: Setup<'_>) -> House {
    let sent = Arc::new(AtomicU64::new(0));
    let leecher = Arc::new(Peers {
        by_port: setup.peers.iter().cloned().collect(),
        sent: sent.clone(),
        fickle: setup.fickle,
    });
    house_with(setup, leecher, sent, 4)
}

/// A house with another way to the peers, and so many sources at most.
pub(super) fn house_with(
    setup: Setup<'_>,
    leecher: Arc<dyn Leecher>,
    sent: Arc<AtomicU64>,
    sources: usize,
) -> House {
    house_between(setup, leecher, sent, sources, None)
}

/// The same; bytes cross the other way too when there are peers of b, which are at port 8.
pub(super) fn house_between(
    setup: Setup<'_>,
    leecher: Arc<dyn Leecher>,
    sent: Arc<AtomicU64>,
    sources: usize,
    back: Option<Arc<dyn Leecher>>,
) -> House {
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let mut ports: Vec<_> = setup.peers.iter().map(|(port, _)| at(*port)).collect();
    ports.push(at(9));
    let trackers: HashMap<OverlayId, Arc<dyn TrackerClient>> = HashMap::from([
        (id("a"), Arc::new(Tracker(ports)) as Arc<dyn TrackerClient>),
        (id("b"), Arc::new(Tracker(back.iter().map(|_| at(8)).collect()))),
    ]);
    let descriptions: HashMap<Name, Arc<Description>> = [setup.a, setup.b]
        .into_iter()
        .map(|description| (description.names[0], description.clone()))
        .collect();
    setup.table.bind(&[proposal(setup.a, "a"), proposal(setup.b, "b")]).unwrap();
    let meter = Meter::new();
    let way = |from: &str, to: &str| Route::new(id(from), id(to), "x".into(), None);
    let mut ways = vec![way("a", "b")];
    ways.extend(back.iter().map(|_| way("b", "a")));
    let routes = Arc::new(Routes::new(ways));
    let chooser = Arc::new(Chooser::new(Weights::default(), routes.clone(), trackers.clone()));
    let face = |leecher| DataFaces { seeder: None, leecher: Some(leecher) };
    let mut faces = HashMap::from([(id("a"), face(leecher))]);
    faces.extend(back.map(|leecher| (id("b"), face(leecher))));
    let relay = Relay::new(RelayParts {
        names: setup.table.clone(),
        describe: Arc::new(move |binding| Ok(descriptions[&binding.name()].clone())),
        routes,
        chooser: chooser.clone(),
        faces,
        handler: handler(&trackers, &setup.table, &chooser),
        meter: meter.clone(),
        alarms: Arc::default(),
        spool: setup.folder,
        spool_bound: setup.spool_bound,
        limits: Limits {
            read_ahead: 1 << 20,
            memory_cache: 1 << 20,
            in_memory: 4 << 20,
            sources,
            per_source: 1 << 20,
        },
        proving: Some(Proving { rules: Rules::all(), threads: 1 }),
    })
    .unwrap();
    let stop = CancellationToken::new();
    let task = tokio::spawn(relay.clone().run(stop.clone()));
    House { relay, table: setup.table, meter, sent, stop, task }
}

impl House {
    /// The way in for a peer of b, as soon as the relay has followed the name table.
    pub(super) async fn reader(&self, name: &Name) -> Arc<dyn ContentReader> {
        let library = self.relay.library(id("b"));
        soon(|| library.open(name)).await
    }

    /// Waits until a binding is verified.
    pub(super) async fn verified(&self, name: &Name) {
        until(|| self.table.get(name).unwrap().evidence == Evidence::Verified).await;
    }

    /// Downloads as a client does that asks for each chunk as soon as it is announced.
    pub(super) async fn download(&self, description: &Description) -> Vec<u8> {
        self.download_at(description, None).await
    }

    /// The same, at so many bytes a second at most.
    pub(super) async fn download_at(
        &self,
        description: &Description,
        rate: Option<u32>,
    ) -> Vec<u8> {
        let reader = self.reader(&description.names[0]).await;
        let chunks = u32::try_from(description.length.div_ceil(description.unit)).unwrap();
        let peer = reader.attend(SocketAddr::from(([127, 0, 0, 1], 1)));
        peer.holds(Bits::none(chunks));
        let mut got = vec![0; description.length as usize];
        let mut seen = 0;
        let mut news = reader.availability().watch();
        while seen < chunks as usize {
            for chunk in reader.availability().since(seen) {
                seen += 1;
                let start = u64::from(chunk) * description.unit;
                let end = (start + description.unit).min(description.length);
                let bytes = timeout(PATIENCE, reader.read(start..end)).await.unwrap().unwrap();
                got[start as usize..end as usize].copy_from_slice(&bytes);
                if let Some(rate) = rate {
                    tokio::time::sleep(Duration::from_secs(end - start) / rate).await;
                }
                peer.served(start..end);
                peer.gained(chunk);
            }
            if seen < chunks as usize {
                timeout(PATIENCE, news.changed()).await.expect("it goes on").unwrap();
            }
        }
        got
    }

    pub(super) async fn end(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}
