//! The composition root: reads top to bottom as the house is built, and is left in the opposite order.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use p2pbridge_adapters::{Adapter, BuildError, Host, registry};
use p2pbridge_nametable::{NameTable, SledStore, StoreError};
use p2pbridge_proto::OverlayId;
use thiserror::Error;
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    blobs::{BlobError, Blobs},
    config::Config,
    data_dir::{DataDir, DataDirError},
    grpc::{self, ServeError, Services},
    handler::{MessageHandler, OverlayParts},
    names::{Composer, NameDesk, NameFault, OverlayInfo},
    relay::{DataFaces, Limits, Proving, Relay, RelayError, RelayParts},
    status::{
        alarms::Alarms,
        board::{Board, BoardOverlay},
        chooser::Chooser,
        ledger::{Ledger, LedgerError, RedbLedger},
        meter::Meter,
        recorder::Recorder,
    },
    web,
};

/// Why the daemon cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The address of gRPC or of the metrics is not to be had.
    #[error(
        "{door}: listen on {address}: {source}: set another `{door}.listen`, or stop what listens there"
    )]
    Listen {
        /// The table of the configuration.
        door: &'static str,
        /// The address.
        address: SocketAddr,
        /// What came of it.
        source: io::Error,
    },
    /// The data directory is not to be had.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The names cannot be opened.
    #[error("names: {0}")]
    Names(#[from] StoreError),
    /// The descriptions cannot be opened.
    #[error("descriptions: {0}")]
    Blobs(#[from] BlobError),
    /// What was composed cannot be taken back.
    #[error("names that were composed: {0}")]
    Composed(#[from] NameFault),
    /// The ledger cannot be opened.
    #[error("ledger: {0}")]
    Ledger(#[from] LedgerError),
    /// An overlay cannot be opened.
    #[error(transparent)]
    Overlay(#[from] BuildError),
    /// The relay cannot start.
    #[error(transparent)]
    Relay(#[from] RelayError),
}

/// A running daemon.
pub struct App {
    /// Where its gRPC server listens.
    pub grpc: SocketAddr,
    /// Where it tells its metrics, if it does.
    pub metrics: Option<SocketAddr>,
    /// Where the peers of each overlay reach it.
    pub seeders: HashMap<OverlayId, Vec<SocketAddr>>,
    /// Where the bridge is a tracker of an overlay.
    pub trackers: HashMap<OverlayId, Vec<String>>,
    /// The names.
    pub names: Arc<NameDesk>,
    /// How it is doing.
    pub board: Arc<Board>,
    /// Its ledger.
    pub ledger: Arc<dyn Ledger>,
    /// Writes the ledger.
    pub recorder: Recorder,
    stops: Stops,
    grpc_task: JoinHandle<Result<(), ServeError>>,
    relay_task: JoinHandle<()>,
    tasks: TaskTracker,
    deadline: Duration,
    _data_dir: DataDir,
}

/// What is told to stop, in the order in which it is told.
struct Stops {
    grpc: CancellationToken,
    relay: CancellationToken,
    faces: CancellationToken,
    recorder: CancellationToken,
}

impl App {
    /// Builds the house and opens its doors.
    ///
    /// # Errors
    /// When an address, a file or a directory is not to be had; nothing is left running then.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let (listener, grpc_address) = listen("grpc", config.grpc.listen).await?;
        let metrics = match config.metrics.listen {
            Some(address) => Some(listen("metrics", address).await?),
            None => None,
        };

        // What is kept.
        let data_dir = DataDir::open(&config.data_dir)?;
        let store = SledStore::open(&data_dir.join("names"))?;
        let table = Arc::new(NameTable::open(Box::new(store))?);
        let blobs = Blobs::open(&data_dir.join("descriptions"))?;
        let identity = &config.identity;
        let ledger: Arc<dyn Ledger> = Arc::new(RedbLedger::open(
            &data_dir.join("ledger.redb"),
            &identity.operator,
            &identity.bridge,
            Timestamp::now(),
        )?);
        // A new epoch begins with the gaps that the last one left.
        let gaps = ledger.next_seq().saturating_sub(1);

        // The overlays: every socket is bound before anything runs.
        let host = Host { mark: data_dir.mark()? };
        let mut overlays = Vec::new();
        let mut infos = Vec::new();
        for (protocol, configured) in config.overlays {
            let id = configured.id.clone();
            infos.push(OverlayInfo { id: id.clone(), protocol, trackers: configured.trackers });
            overlays.push(BoardOverlay { id, protocol, adapter: (configured.build)(&host)? });
        }
        overlays.sort_by(|one, other| one.id.cmp(&other.id));

        // From the tracker's door to the byte's: handler, names, relay.
        let stops = Stops::new();
        let meter = Meter::new();
        let alarms = Arc::new(Alarms::default());
        let flush = config.usage.flush_seconds.duration();
        let recorder =
            Recorder::start(meter.clone(), ledger.clone(), flush, stops.recorder.clone());
        let routes = Arc::new(config.routes);
        let parts = overlays.iter().map(|overlay| OverlayParts {
            id: overlay.id.clone(),
            protocol: overlay.protocol,
            schemes: registry::protocol(overlay.protocol).map_or(&[], |protocol| protocol.schemes),
            mode: overlay.adapter.mode,
            terms: overlay.adapter.terms,
            client: overlay.adapter.tracker_client.clone(),
            reachable: overlay.adapter.reachable.clone(),
            own: overlay.adapter.own.clone(),
        });
        let chooser = Arc::new(Chooser::new(
            config.selection,
            routes.clone(),
            by_overlay(&overlays, |adapter| adapter.tracker_client.clone()),
        ));
        let handler = Arc::new(MessageHandler::new(parts.collect(), &table, &routes, &chooser));
        let desk = Arc::new(NameDesk::new(table.clone(), blobs, infos));
        let describe = desk.clone();
        if !config.names.compose {
            Composer::undo(&desk)?;
        }
        let composing = routes.clone();
        let relay = Relay::new(RelayParts {
            names: table.clone(),
            describe: Arc::new(move |binding| {
                describe.description(binding).map_err(|error| error.to_string())
            }),
            routes,
            chooser,
            faces: by_overlay(&overlays, |adapter| {
                let (seeder, leecher) = (adapter.seeder.clone(), adapter.leecher.clone());
                Some(DataFaces { seeder, leecher })
            }),
            handler: handler.clone(),
            meter: meter.clone(),
            alarms: alarms.clone(),
            spool: &data_dir.join("spool"),
            spool_bound: config.spool.max_size.0,
            limits: Limits {
                read_ahead: config.relay.read_ahead.0,
                memory_cache: config.relay.memory_cache.0,
                in_memory: config.relay.in_memory.0,
                sources: config.relay.sources.max(1),
                per_source: config.relay.per_source.0,
            },
            proving: config.names.prove.then(|| Proving {
                rules: config.names.prove_schemes,
                threads: config.names.prove_threads.count(),
            }),
        })?;

        // The doors open.
        let tasks = TaskTracker::new();
        let (mut seeders, mut trackers) = (HashMap::new(), HashMap::new());
        for overlay in &overlays {
            if let Some(seeder) = &overlay.adapter.seeder {
                seeders.insert(overlay.id.clone(), seeder.endpoints());
                let library = relay.library(overlay.id.clone());
                tasks.spawn(seeder.clone().serve(library, stops.faces.clone()));
            }
            if let Some(server) = &overlay.adapter.tracker_server {
                trackers.insert(overlay.id.clone(), server.urls());
                tasks.spawn(server.clone().serve(handler.clone(), stops.faces.clone()));
            }
        }
        if config.names.compose {
            let follows = relay.clone();
            let in_use = Arc::new(move |name: &_| follows.in_use(name));
            let composer = Composer::new(desk.clone(), composing, in_use, alarms.clone());
            tasks.spawn(composer.run(stops.relay.clone()));
        }
        let relay_task = tokio::spawn(relay.clone().run(stops.relay.clone()));
        let board = Arc::new(Board {
            overlays,
            handler,
            relay,
            meter,
            ledger: ledger.clone(),
            gaps,
            recorder: recorder.clone(),
            names: table,
            alarms,
            started: SystemTime::now(),
        });
        let metrics = metrics.map(|(listener, address)| {
            let (draining, stop) = (stops.grpc.clone(), stops.faces.clone());
            tasks.spawn(web::serve(listener, board.clone(), draining, stop));
            address
        });
        let services = Services {
            names: desk.clone(),
            search: board.handler.clone(),
            status: board.clone(),
            explain: board.clone(),
            ledger: ledger.clone(),
            recorder: Some(recorder.clone()),
        };
        let deadline = config.shutdown.deadline_seconds.duration();
        let drain = deadline / 4;
        let grpc_task = tokio::spawn(grpc::serve(listener, services, stops.grpc.clone(), drain));
        Ok(Self {
            grpc: grpc_address,
            metrics,
            seeders,
            trackers,
            names: desk,
            board,
            ledger,
            recorder,
            stops,
            grpc_task,
            relay_task,
            tasks,
            deadline,
            _data_dir: data_dir,
        })
    }

    /// Leaves the house in order: no more calls, farewells to the trackers, sessions ended, the ledger written. Ends at
    /// the deadline whatever still hangs, and gives whether all was done by then.
    pub async fn stop(self) -> bool {
        let Self { stops, grpc_task, relay_task, tasks, recorder, deadline, .. } = self;
        let drain = async move {
            stops.grpc.cancel();
            stops.relay.cancel();
            let (grpc, relay) = tokio::join!(grpc_task, relay_task);
            if let Ok(Err(error)) = grpc {
                tracing::error!(%error, "the gRPC server broke down");
            }
            if let Err(error) = relay {
                tracing::error!(%error, "the relay broke down");
            }
            stops.faces.cancel();
            tasks.close();
            tasks.wait().await;
            stops.recorder.cancel();
            // It writes the rest, and closes the ledger when nothing was lost.
            recorder.join().await;
        };
        timeout(deadline, drain).await.is_ok()
    }
}

impl Stops {
    fn new() -> Self {
        Self {
            grpc: CancellationToken::new(),
            relay: CancellationToken::new(),
            faces: CancellationToken::new(),
            recorder: CancellationToken::new(),
        }
    }
}

async fn listen(
    door: &'static str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { door, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

fn by_overlay<T>(
    overlays: &[BoardOverlay],
    face: impl Fn(&Adapter) -> Option<T>,
) -> HashMap<OverlayId, T> {
    overlays
        .iter()
        .filter_map(|overlay| Some((overlay.id.clone(), face(&overlay.adapter)?)))
        .collect()
}
