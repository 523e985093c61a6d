//! A file that is downloaded from a client.

use std::{net::SocketAddr, sync::Arc};

use tokio::sync::mpsc;

use super::{
    Clients, ConnectError,
    client::{Client, Incoming},
    link::Link,
};
#[cfg(test)]
use crate::ed2k::wire::Hash;

/// A file that is downloaded from a client. What the client says about it comes by `inbox`, until this is dropped.
pub(crate) struct Download {
    pub(super) clients: Arc<Clients>,
    pub(super) client: Arc<Client>,
    pub(super) endpoint: SocketAddr,
    pub(super) id: u64,
    /// The connection by which the client is spoken to; [`Incoming::Linked`] brings another.
    pub(crate) link: Arc<Link>,
    /// What comes from the client.
    pub(crate) inbox: mpsc::Receiver<Incoming>,
}

impl Download {
    /// The user hash by which the client knows the bridge.
    #[cfg(test)]
    pub(crate) fn own_hash(&self) -> Hash {
        self.clients.identity.hash
    }

    /// Connects again, unless the client has; `link` is the new connection then.
    ///
    /// # Errors
    /// When it cannot be reached, or another client is there now.
    pub(crate) async fn reconnect(&mut self) -> Result<(), ConnectError> {
        if let Some(link) = self.client.link() {
            self.link = link;
            return Ok(());
        }
        let link = self.clients.link_to(self.endpoint).await?;
        if link.client().key() != self.client.key() {
            return Err(ConnectError::Protocol("another client is there now".to_owned()));
        }
        self.link = link;
        Ok(())
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.client.unsubscribe(self.id);
    }
}
