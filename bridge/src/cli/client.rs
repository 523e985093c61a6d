//! How the subcommands reach a running bridge, and what they say when they cannot.

use std::{io, path::PathBuf, time::Duration};

use p2pbridge_proto::v1::{
    name_service_client::NameServiceClient, search_service_client::SearchServiceClient,
    status_service_client::StatusServiceClient, usage_service_client::UsageServiceClient,
};
use thiserror::Error;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

use crate::{grpc::MOST_ANSWER, status::export::ExportError};

const CONNECT: Duration = Duration::from_secs(5);

/// Why a subcommand did not do what it was asked. Each says what to do.
#[derive(Debug, Error)]
pub enum CliError {
    /// Nobody answers.
    #[error(
        "no p2p-bridge answers at {endpoint}: start one with `p2p-bridge serve`, or say --server URL"
    )]
    NoServer {
        /// Where.
        endpoint: String,
    },
    /// The address is none.
    #[error("`{endpoint}` is no address of a p2p-bridge: say --server http://HOST:PORT")]
    BadEndpoint {
        /// What was given.
        endpoint: String,
    },
    /// The bridge refused.
    #[error("{0}")]
    Refused(String),
    /// A file cannot be read or written.
    #[error("{}: {problem}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// An argument is not what it should be.
    #[error("{0}")]
    Argument(String),
    /// The output cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
    /// The export cannot be written.
    #[error(transparent)]
    Export(#[from] ExportError),
}

impl CliError {
    /// Whether it is only that nobody reads the output any more (`… | head`).
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        match self {
            Self::Output(error) | Self::Export(ExportError::Write(error)) => {
                error.kind() == io::ErrorKind::BrokenPipe
            }
            Self::Export(ExportError::Json(error)) => {
                error.io_error_kind() == Some(io::ErrorKind::BrokenPipe)
            }
            Self::Export(ExportError::Csv(error)) => match error.kind() {
                csv::ErrorKind::Io(error) => error.kind() == io::ErrorKind::BrokenPipe,
                _ => false,
            },
            _ => false,
        }
    }
}

/// A connection to a running bridge.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    endpoint: String,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// When nobody answers there.
    pub async fn connect(endpoint: &str) -> Result<Self, CliError> {
        let endpoint = endpoint.to_owned();
        let bad = |_| CliError::BadEndpoint { endpoint: endpoint.clone() };
        let address = Endpoint::from_shared(endpoint.clone()).map_err(bad)?;
        match address.connect_timeout(CONNECT).connect().await {
            Ok(channel) => Ok(Self { channel, endpoint }),
            Err(error) => {
                tracing::debug!(?error, "cannot connect");
                Err(CliError::NoServer { endpoint })
            }
        }
    }

    /// The service of names.
    #[must_use]
    pub fn names(&self) -> NameServiceClient<Channel> {
        NameServiceClient::new(self.channel.clone()).max_decoding_message_size(MOST_ANSWER)
    }

    /// The service of searches.
    #[must_use]
    pub fn search(&self) -> SearchServiceClient<Channel> {
        SearchServiceClient::new(self.channel.clone()).max_decoding_message_size(MOST_ANSWER)
    }

    /// The service of status.
    #[must_use]
    pub fn status(&self) -> StatusServiceClient<Channel> {
        StatusServiceClient::new(self.channel.clone()).max_decoding_message_size(MOST_ANSWER)
    }

    /// The service of usage.
    #[must_use]
    pub fn usage(&self) -> UsageServiceClient<Channel> {
        UsageServiceClient::new(self.channel.clone()).max_decoding_message_size(MOST_ANSWER)
    }

    /// What a status means for people.
    #[must_use]
    pub fn explain(&self, status: &Status) -> CliError {
        let details = status.get_error_details();
        let ours =
            details.error_info().is_some_and(|info| info.domain == crate::grpc::fault::DOMAIN);
        match status.code() {
            Code::Unimplemented => CliError::Refused(format!(
                "what answers at {} is no p2p-bridge, or one of another version",
                self.endpoint
            )),
            Code::Unavailable if !ours => CliError::NoServer { endpoint: self.endpoint.clone() },
            Code::Unavailable => {
                CliError::Refused(format!("{}; try again in a moment", status.message()))
            }
            _ if status.message().is_empty() => CliError::Refused(status.code().to_string()),
            _ => CliError::Refused(status.message().to_owned()),
        }
    }
}
