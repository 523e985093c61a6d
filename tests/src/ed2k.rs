//! An eD2k overlay of the bridge's configuration.

use std::net::{Ipv4Addr, SocketAddr};

use crate::MULE_PORT;

/// Where eD2k servers listen if nobody says otherwise.
const SERVER_PORT: u16 = 4661;

/// One eD2k overlay, at an address of its own of the namespace, at the usual ports.
#[derive(Clone, Debug)]
pub struct Ed2kOverlay {
    /// Its id.
    pub id: String,
    /// Where clients, and in front mode those that log in, reach the bridge.
    pub at: Ipv4Addr,
    /// Where its clients reach it.
    pub port: u16,
    /// Servers to log in to; none in front.
    pub servers: Vec<SocketAddr>,
    /// More keys of its table, a line each.
    pub more: String,
    front: bool,
}

impl Ed2kOverlay {
    /// The bridge as a client of this server.
    #[must_use]
    pub fn presence(id: &str, at: Ipv4Addr, server: SocketAddr) -> Self {
        Self { servers: vec![server], front: false, ..Self::front(id, at) }
    }

    /// The bridge as a server.
    #[must_use]
    pub fn front(id: &str, at: Ipv4Addr) -> Self {
        let (id, more) = (id.to_owned(), String::new());
        Self { id, at, port: MULE_PORT, servers: Vec::new(), more, front: true }
    }

    /// With more keys in its table.
    #[must_use]
    pub fn with(mut self, more: &str) -> Self {
        self.more.push_str(more);
        self
    }

    /// Where its clients reach it.
    #[must_use]
    pub fn endpoint(&self) -> SocketAddr {
        (self.at, self.port).into()
    }

    /// Where clients log in.
    ///
    /// # Panics
    /// In presence.
    #[must_use]
    pub fn server(&self) -> SocketAddr {
        assert!(self.front, "{} is no server", self.id);
        (self.at, SERVER_PORT).into()
    }

    pub(crate) fn toml(&self) -> String {
        let Self { id, at, servers, more, .. } = self;
        let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
        let mode = if self.front { "front" } else { "presence" };
        let mut text = format!(
            "[overlays.ed2k.{id}]\nmode = {mode:?}\nlisten = [{:?}]\nservers = {servers:?}\n{more}",
            self.endpoint().to_string()
        );
        if self.front {
            text += &format!(
                "[overlays.ed2k.{id}.server]\ntcp = [\"{at}:{SERVER_PORT}\"]\nudp = [\"{at}:{}\"]\nwelcome = \"hello\"\ndescription = \"crosses over\"\n",
                SERVER_PORT + 4
            );
        }
        text
    }
}
