//! The command line.

mod choices;
pub mod client;
mod demo;
pub mod message;
pub mod names;
mod output;
pub mod overlays;
mod progress;
mod serve;
mod table;
pub mod usage;

use std::{
    fmt,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use p2pbridge_adapters::registry;
use tracing_subscriber::EnvFilter;

use crate::config::{Config, DEFAULT, LogConfig, LogFormat};

/// Exit code of a refused configuration or command line.
const REFUSED: u8 = 2;

/// Makes P2P systems act as one: what peers of one hold, peers of another can download.
#[derive(Debug, Parser)]
#[command(name = "p2p-bridge", version, about, max_term_width = 100)]
pub struct Cli {
    /// The daemon to talk to.
    #[arg(long, global = true, value_name = "URL", env = "P2P_BRIDGE_SERVER")]
    server: Option<String>,

    /// The daemon's configuration file; for other commands, it tells where the daemon is.
    #[arg(long, global = true, value_name = "FILE", env = "P2P_BRIDGE_CONFIG")]
    config: Option<PathBuf>,

    /// Prints JSON.
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the daemon; without --config, with the defaults.
    Serve,
    /// Checks a configuration file, and says where it is wrong.
    CheckConfig {
        /// The file; the one of --config when it is left out.
        file: Option<PathBuf>,
        /// Prints the default configuration, commented, instead; with a protocol, the keys of its overlays.
        #[arg(long, value_name = "PROTOCOL", num_args = 0..=1, default_missing_value = "")]
        print_default: Option<String>,
    },
    /// Binds names, and asks the name table.
    Names(names::NamesArgs),
    /// Shows the overlays, their trackers and swarms, and what crosses.
    Overlays(overlays::OverlaysArgs),
    /// Lists and exports usage records.
    Usage(usage::UsageArgs),
    /// Shows what a captured tracker message says; needs no daemon.
    Message(message::MessageArgs),
    /// Shows a file crossing between two overlays on this machine; needs nothing else.
    Demo(demo::DemoArgs),
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("p2p-bridge: the runtime cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(cli));
    // What hangs in a blocking call does not hold the end up.
    runtime.shutdown_background();
    code
}

async fn run(cli: Cli) -> ExitCode {
    let Cli { server, config, json, command } = cli;
    let endpoint = match &command {
        Command::Names(args) if !args.needs_daemon() => String::new(),
        Command::Names(_) | Command::Overlays(_) | Command::Usage(_) => {
            match daemon_address(server, config.as_deref()) {
                Ok(endpoint) => endpoint,
                Err(problem) => return refuse(&problem),
            }
        }
        Command::Serve | Command::CheckConfig { .. } | Command::Message(_) | Command::Demo(_) => {
            String::new()
        }
    };
    match command {
        Command::Serve => serve(config.as_deref()).await,
        Command::CheckConfig { print_default: Some(protocol), .. } => print_default(&protocol),
        Command::CheckConfig { file, .. } => check_config(file.or(config).as_deref()),
        Command::Names(args) => asked(names::run(args, &endpoint, json).await),
        Command::Overlays(args) => asked(overlays::run(args, &endpoint, json).await),
        Command::Usage(args) => asked(usage::run(args, &endpoint, json).await),
        Command::Message(args) => asked(message::run(args, json)),
        Command::Demo(args) => told(demo::run(args, json).await),
    }
}

async fn serve(config: Option<&Path>) -> ExitCode {
    match read_config(config) {
        Ok(config) => match start_log(&config.log) {
            Ok(()) => serve::run(config).await,
            Err(problem) => refuse(&problem),
        },
        Err(problem) => refuse(&problem),
    }
}

fn check_config(file: Option<&Path>) -> ExitCode {
    match read_config(file) {
        Ok(config) => {
            let (overlays, routes) = (config.overlays.len(), config.routes.iter().count());
            let several = |count: usize| if count == 1 { "" } else { "s" };
            println!(
                "The configuration is good: {overlays} overlay{}, {routes} route{}.",
                several(overlays),
                several(routes)
            );
            ExitCode::SUCCESS
        }
        Err(problem) => refuse(&problem),
    }
}

fn print_default(protocol: &str) -> ExitCode {
    let text = match registry::protocol(protocol) {
        _ if protocol.is_empty() => DEFAULT,
        Some(descriptor) => descriptor.example,
        None => {
            let known: Vec<_> = registry::PROTOCOLS.iter().map(|known| known.protocol).collect();
            return refuse(&format!(
                "no protocol is called `{protocol}`; known: {}",
                known.join(", ")
            ));
        }
    };
    print!("{text}");
    ExitCode::SUCCESS
}

/// Where the daemon is: as said, or as its configuration file says, or where it is by default.
fn daemon_address(server: Option<String>, config: Option<&Path>) -> Result<String, String> {
    match server {
        Some(server) => Ok(server),
        None => read_config(config).map(|config| format!("http://{}", config.grpc.listen)),
    }
}

/// What a daemon was asked: a reader that hangs up early (`… | head`) is no failure.
fn asked(result: Result<(), client::CliError>) -> ExitCode {
    match result {
        Err(error) if error.is_broken_pipe() => ExitCode::SUCCESS,
        result => told(result),
    }
}

fn told(result: Result<(), impl fmt::Display>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("p2p-bridge: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn refuse(problem: &str) -> ExitCode {
    eprintln!("p2p-bridge: {problem}");
    ExitCode::from(REFUSED)
}

fn read_config(path: Option<&Path>) -> Result<Config, String> {
    match path {
        None => Config::parse("").map_err(|error| error.to_string()),
        Some(path) => Config::read(path).map_err(|error| match error {
            crate::config::ConfigError::Read { .. } => error.to_string(),
            other => format!("{}: {other}", path.display()),
        }),
    }
}

fn start_log(log: &LogConfig) -> Result<(), String> {
    let filter = EnvFilter::try_new(&log.filter)
        .map_err(|error| format!("log.filter `{}`: {error}", log.filter))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match log.format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|error| format!("the log cannot start: {error}"))
}
