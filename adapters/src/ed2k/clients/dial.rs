//! How a client is connected to: in the way of speaking that it is said to want, and else in the other one.

use std::{net::SocketAddr, sync::Arc};

use tracing::debug;

use super::{Clients, ConnectError, Link, connect_error, greet, socket::LinkError};
use crate::{
    Flaw, Party,
    ed2k::{config::Obfuscation, wire::Hash},
};

/// Why an attempt has failed.
struct Failed {
    error: ConnectError,
    /// What the client did wrong, if it was the client.
    flaw: Option<Flaw>,
    /// Whether another way of speaking may help.
    other_way: bool,
}

impl From<ConnectError> for Failed {
    fn from(error: ConnectError) -> Self {
        Self { error, flaw: None, other_way: false }
    }
}

impl From<LinkError> for Failed {
    fn from(error: LinkError) -> Self {
        let other_way = matches!(
            error,
            LinkError::Closed | LinkError::Io(_) | LinkError::Obfuscation(_) | LinkError::Silent(_)
        );
        Self { flaw: error.flaw(), error: connect_error(error), other_way }
    }
}

impl Clients {
    /// Connects and greets; in the way that the client is said to want, and else in the other one.
    pub(super) async fn dial(
        self: &Arc<Self>,
        endpoint: SocketAddr,
    ) -> Result<Arc<Link>, ConnectError> {
        if endpoint.port() == 0 || endpoint.ip().is_unspecified() {
            return Err(ConnectError::Unreachable("no such address".to_owned()));
        }
        let hint = self.hint_of(&endpoint);
        let wanted = hint.crypt.requests || hint.crypt.requires;
        let hidden = match self.obfuscation {
            Obfuscation::Off => None,
            Obfuscation::Accepted => hint.hash.filter(|_| wanted),
            Obfuscation::Required => {
                let unknown = || ConnectError::Protocol("its user hash is not known".to_owned());
                Some(hint.hash.ok_or_else(unknown)?)
            }
        };
        let other = match (hidden, self.obfuscation) {
            // What it is said to require may be wrong.
            (Some(_), Obfuscation::Accepted) => Some(None),
            (None, Obfuscation::Accepted) => hint.hash.map(Some),
            _ => None,
        };
        let mut made = self.try_dial(endpoint, hidden).await;
        if let (Err(first @ Failed { other_way: true, .. }), Some(other)) = (&made, other) {
            debug!(overlay = %self.overlay, %endpoint, obfuscated = other.is_some(), "tried again");
            let flaw = first.flaw;
            made = self.try_dial(endpoint, other).await;
            if let Err(last) = &mut made {
                last.flaw = last.flaw.or(flaw);
            }
        }
        made.map_err(|Failed { error, flaw, .. }| {
            // Who answers one of the two ways as it should has done nothing wrong.
            if let Some(flaw) = flaw {
                self.bad_input.add(Party::Peer, flaw);
            }
            error
        })
    }

    /// One attempt.
    async fn try_dial(
        self: &Arc<Self>,
        endpoint: SocketAddr,
        hash: Option<Hash>,
    ) -> Result<Arc<Link>, Failed> {
        let ticket = self.admission.admit(endpoint).ok_or(ConnectError::Full)?;
        let stream = greet::connect(endpoint, self.source_for(&endpoint))
            .await
            .map_err(|error| ConnectError::Unreachable(error.to_string()))?;
        let greeted = greet::greet(stream, &self.ours(), hash.as_ref()).await?;
        let met = self.meet(endpoint, greeted, ticket, Some(endpoint)).await;
        met.map_err(|error| connect_error(error).into())
    }
}
