//! Whether a client can be reached: the server connects to the port that the client names, and asks who is there.

use std::{
    net::{IpAddr, SocketAddr, SocketAddrV4},
    time::Duration,
};

use tokio::time::timeout;
use tracing::debug;

use super::super::{
    clients::ask_who,
    wire::{hello::Greeting, server::Login},
};

/// How long it may take: clients wait 25 s for their id.
const PATIENCE: Duration = Duration::from_secs(9);

/// Whether the client that has logged in answers at its address, plainly or, where it can, obfuscated. `from` is the
/// address at which it reached the server: where a client takes messages from, its server is known to be.
pub(super) async fn is_reachable(
    login: &Login,
    client: SocketAddrV4,
    from: SocketAddr,
    ours: &Greeting,
) -> bool {
    let to = SocketAddr::from(client);
    let from = (!from.ip().is_unspecified()).then_some(from);
    let asking = async {
        let mut answered = ask_who(to, from, ours, None).await;
        if answered.is_err() && login.crypt_options() != 0 {
            answered = ask_who(to, from, ours, Some(&login.user)).await;
        }
        answered
    };
    match timeout(PATIENCE, asking).await {
        Ok(Ok(there)) if there.hash == login.user => true,
        Ok(Ok(_)) => {
            debug!(%client, "another client than the one that logged in listens there");
            false
        }
        Ok(Err(error)) => {
            debug!(%client, %error, "the client that logged in cannot be reached");
            false
        }
        Err(_) => {
            debug!(%client, "the client that logged in does not answer in time");
            false
        }
    }
}

/// The address of a client, if the protocol has it.
pub(super) fn in_ipv4(remote: SocketAddr, port: u16) -> Option<SocketAddrV4> {
    match remote.ip().to_canonical() {
        IpAddr::V4(ip) => Some(SocketAddrV4::new(ip, port)),
        IpAddr::V6(_) => None,
    }
}
