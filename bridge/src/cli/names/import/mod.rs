//! `names import`: lists of names, row by row, and descriptions, to the daemon.

mod inputs;
mod list;
mod tally;

use std::{path::Path, sync::Arc};

use clap::{Args, ValueEnum};
use p2pbridge_nametable::exchange::Format;
use p2pbridge_proto::{OverlayId, v1};
use tonic::Code;

use self::{
    inputs::{Input, Inputs, Kind},
    tally::Tally,
};
use super::{
    super::{
        client::{CliError, Client},
        progress::Progress,
    },
    source::read,
};

/// What to import.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// Lists of names, description files, folders with .torrent files; `-` is the standard input
    #[arg(required = true, value_name = "FILE|DIR")]
    files: Vec<String>,
    /// The format of the lists [default: told by how each begins]
    #[arg(long, value_name = "csv|jsonl|magnets|ed2k|metalink")]
    format: Option<Format>,
    /// How sure the lists are, where they do not say it themselves [default: attested]
    #[arg(long, value_enum)]
    evidence: Option<Sure>,
    /// The overlay of the descriptions [default: that of their trackers]
    #[arg(long)]
    overlay: Option<OverlayId>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sure {
    /// Anything that somebody says
    Hint,
    /// What somebody says whom you trust
    Attested,
}

impl From<Sure> for v1::Evidence {
    fn from(sure: Sure) -> Self {
        match sure {
            Sure::Hint => Self::Hint,
            Sure::Attested => Self::Attested,
        }
    }
}

/// `import FILE…`. What is wrong with a row or a file is told at the end; the others are taken.
pub(super) async fn import(args: ImportArgs, endpoint: &str, json: bool) -> Result<(), CliError> {
    let inputs = Inputs::of(&args.files)?;
    let client = Client::connect(endpoint).await?;
    let progress = Arc::new(match inputs.length() {
        Some(bytes) => Progress::of_bytes(bytes),
        None => Progress::of_unknown("bytes"),
    });
    let mut tally = Tally::default();
    for (path, problem) in inputs.problems {
        tally.refuse(&path, None, problem);
    }
    let mut ended = Ok(());
    for input in inputs.found {
        progress.say(&input.label);
        ended = one(&client, &input, &args, &progress, &mut tally).await;
        if ended.is_err() {
            break;
        }
    }
    drop(progress);
    tally.show(json)?;
    ended?;
    match tally.refused() {
        0 => Ok(()),
        refused => Err(CliError::Refused(format!("not all was taken; refused: {refused}"))),
    }
}

/// Imports one input. An error is one that no other input would escape.
async fn one(
    client: &Client,
    input: &Input,
    args: &ImportArgs,
    progress: &Arc<Progress>,
    tally: &mut Tally,
) -> Result<(), CliError> {
    let opened = match input.open(args.format, progress) {
        Ok(opened) => opened,
        Err(problem) => {
            tally.refuse(&input.label, None, problem);
            return Ok(());
        }
    };
    match opened {
        Kind::List(format, reader) => {
            let evidence = args.evidence.map(v1::Evidence::from).unwrap_or_default();
            list::send(client, &input.label, (format, reader), evidence, tally).await
        }
        Kind::Description(path) => {
            let overlay = args.overlay.as_ref().map(ToString::to_string).unwrap_or_default();
            progress.advance(input.length.unwrap_or_default());
            describe(client, &input.label, &path, overlay, tally).await
        }
    }
}

/// Binds what one description says.
async fn describe(
    client: &Client,
    label: &str,
    path: &Path,
    overlay: String,
    tally: &mut Tally,
) -> Result<(), CliError> {
    let description = match read(path) {
        Ok(description) => description,
        Err(CliError::File { problem, .. }) => {
            tally.refuse(label, None, problem);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let item = v1::BindItem { description, label: label.to_owned(), overlay, ..Default::default() };
    let request = v1::BindRequest { items: vec![item], ..Default::default() };
    match client.names().bind(request).await {
        Ok(answer) => tally.bound(answer.get_ref().bindings.len()),
        Err(status) if is_about_input(status.code()) => {
            let text = status.message();
            let own = text.strip_prefix(label).and_then(|rest| rest.strip_prefix(": "));
            tally.refuse(label, None, own.unwrap_or(text).to_owned());
        }
        Err(status) => return Err(client.explain(&status)),
    }
    Ok(())
}

/// Whether another input may do better.
fn is_about_input(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::AlreadyExists
            | Code::NotFound
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Aborted
    )
}
