//! `p2p-bridge names`: what is called what. One file for each group of subcommands.

mod ask;
mod bind;
mod descriptions;
mod export;
mod import;
mod link;
mod magnet;
pub(super) mod make;
mod of;
mod publish;
pub(super) mod scan;
mod search;
mod show;
mod source;
mod torrent;

use clap::{Args, Subcommand};
use tonic::Code;

use super::client::CliError;

pub(super) use show::print_json;

/// What to do with names.
#[derive(Debug, Args)]
pub struct NamesArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// States that descriptions (.torrent files) and names are of the same content; with one, makes it known
    Bind {
        /// Description files (`OVERLAY=FILE` says in which overlay the name is used), URNs, magnet and eD2k links
        #[arg(required = true, value_name = "[OVERLAY=]FILE|NAME")]
        files: Vec<String>,
    },
    /// Takes a name back
    Unbind {
        /// A URN, a magnet link, an info-hash, or a description file
        #[arg(value_name = "NAME|FILE")]
        name: String,
    },
    /// Shows which names stand for the same content
    Resolve(ask::ResolveArgs),
    /// Shows where the bytes of one name are in another
    Map(ask::MapArgs),
    /// Finds contents by the words of their titles, their size and their kind
    Search(search::SearchArgs),
    /// Lists all bindings
    List,
    /// Takes lists of names (CSV, JSON lines, magnet and ed2k links, Metalink) and .torrent files
    Import(import::ImportArgs),
    /// Writes all names as a list, or all bound .torrent files
    Export(export::ExportArgs),
    /// Tells what becomes known of names, as it happens
    Watch,
    /// Computes what files are called in each system, and their torrents; needs no daemon
    Of(of::OfArgs),
    /// Makes a .torrent of a file or folder: v1, v2, or both; needs no daemon
    Torrent(torrent::TorrentArgs),
    /// Prints a magnet link with every verified name
    Magnet(magnet::MagnetArgs),
    /// Computes the names of files, and binds all of them as verified
    Publish(publish::PublishArgs),
}

impl NamesArgs {
    /// Whether it asks a daemon.
    pub(super) fn needs_daemon(&self) -> bool {
        !matches!(self.command, Command::Of(_) | Command::Torrent(_))
    }
}

/// Does it.
///
/// # Errors
/// When no bridge answers, it refuses, or a file cannot be read.
pub async fn run(args: NamesArgs, endpoint: &str, json: bool) -> Result<(), CliError> {
    match args.command {
        Command::Bind { files } => bind::bind(&files, endpoint, json).await,
        Command::Unbind { name } => bind::unbind(&name, endpoint, json).await,
        Command::Resolve(args) => ask::resolve(args, endpoint, json).await,
        Command::Map(args) => ask::map(args, endpoint, json).await,
        Command::Search(args) => search::search(args, endpoint, json).await,
        Command::List => ask::list(endpoint, json).await,
        Command::Import(args) => import::import(args, endpoint, json).await,
        Command::Export(args) => export::export(args, endpoint, json).await,
        Command::Watch => ask::watch(endpoint, json).await,
        Command::Of(args) => of::of(&args, json),
        Command::Torrent(args) => torrent::torrent(args, json),
        Command::Magnet(args) => magnet::magnet(&args, endpoint, json).await,
        Command::Publish(args) => publish::publish(&args, endpoint, json).await,
    }
}

/// Asks for one name after the other, until one is known.
async fn first_known<T>(
    names: &[String],
    ask: impl AsyncFn(String) -> Result<T, tonic::Status>,
) -> Result<T, tonic::Status> {
    let mut last = tonic::Status::not_found("there is no name to ask for");
    for name in names {
        match ask(name.clone()).await {
            Err(status) if status.code() == Code::NotFound => last = status,
            answer => return answer,
        }
    }
    Err(last)
}
