//! `p2p-bridge serve`: the daemon.

use std::process::ExitCode;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use crate::{app::App, config::Config};

/// Exit code of a daemon that cannot start, or had to cut its shutdown short.
const FAILED: u8 = 1;

/// Runs the daemon until TERM or INT.
pub(super) async fn run(config: Config) -> ExitCode {
    let (mut term, mut int) =
        match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
            (Ok(term), Ok(int)) => (term, int),
            (Err(error), _) | (_, Err(error)) => {
                eprintln!("p2p-bridge: signals cannot be handled: {error}");
                return ExitCode::from(FAILED);
            }
        };
    raise_file_limit();
    let overlays = config.overlays.len();
    let routes = config.routes.iter().count();
    let app = match App::start(config).await {
        Ok(app) => app,
        Err(error) => {
            eprintln!("p2p-bridge: {error}");
            return ExitCode::from(FAILED);
        }
    };
    tracing::info!(grpc = %app.grpc, overlays, routes, "p2p-bridge is ready");
    if let Some(metrics) = app.metrics {
        tracing::info!(url = %format_args!("http://{metrics}/metrics"), "telling metrics");
    }
    for (overlay, endpoints) in &app.seeders {
        tracing::info!(%overlay, ?endpoints, "listening for peers");
    }
    for (overlay, urls) in &app.trackers {
        tracing::info!(%overlay, ?urls, "serving as a tracker");
    }
    if routes == 0 {
        tracing::warn!("no route is configured: nothing will cross");
    }
    let name = tokio::select! {
        _ = term.recv() => "TERM",
        _ = int.recv() => "INT",
    };
    tracing::info!(signal = name, "draining; a second signal ends at once");
    let drained = tokio::select! {
        drained = app.stop() => drained,
        _ = term.recv() => false,
        _ = int.recv() => false,
    };
    if drained {
        tracing::info!("p2p-bridge has stopped");
        ExitCode::SUCCESS
    } else {
        tracing::error!("p2p-bridge was stopped before all was done");
        ExitCode::from(FAILED)
    }
}

/// Each connection takes a file descriptor: as many are asked for as the system lets the user have.
fn raise_file_limit() {
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => return tracing::warn!(%error, "the number of open files is not known"),
    };
    if soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(soft, hard, %error, "the number of open files cannot be raised");
    }
}
