//! The command line.

mod serve;

use std::{
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};
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
        /// Prints the default configuration, commented, instead.
        #[arg(long)]
        print_default: bool,
    },
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
    match &cli.command {
        Command::Serve => match read_config(cli.config.as_deref()) {
            Ok(config) => {
                if let Err(problem) = start_log(&config.log) {
                    return refuse(&problem);
                }
                serve::run(config).await
            }
            Err(problem) => refuse(&problem),
        },
        Command::CheckConfig { print_default: true, .. } => {
            print!("{DEFAULT}");
            ExitCode::SUCCESS
        }
        Command::CheckConfig { file, .. } => {
            let file = file.clone().or(cli.config.clone());
            match read_config(file.as_deref()) {
                Ok(config) => {
                    println!(
                        "The configuration is good: {} overlays, {} routes.",
                        config.overlays.len(),
                        config.routes.iter().count()
                    );
                    ExitCode::SUCCESS
                }
                Err(problem) => refuse(&problem),
            }
        }
    }
}

fn refuse(problem: &str) -> ExitCode {
    eprintln!("p2p-bridge: {problem}");
    ExitCode::from(REFUSED)
}

fn read_config(path: Option<&std::path::Path>) -> Result<Config, String> {
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
