//! The tracker server's face: an eD2k server.

use std::net::{SocketAddr, SocketAddrV4};

/// Where an eD2k server listens, and what it says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// Addresses at which clients log in; IPv4, since the protocol has no other. Port 0 takes any free port.
    pub tcp: Vec<SocketAddr>,
    /// Addresses for questions over UDP. Clients ask at the TCP port + 4, whatever is said here.
    pub udp: Vec<SocketAddr>,
    /// The server's name in clients' lists.
    pub name: String,
    /// A line about it, in clients' lists.
    pub description: String,
    /// Lines that clients show when they log in; may be empty.
    pub welcome: String,
    /// Clients that may be logged in at a time.
    pub max_sessions: usize,
    /// Files that one client may offer; those above are passed over, and the client is told.
    pub max_files_per_client: usize,
    /// Servers that clients are told of.
    pub other_servers: Vec<SocketAddrV4>,
    /// Where clients reach the bridge's own seeder.
    pub reachable: Vec<SocketAddr>,
}

impl Default for ServerConfig {
    /// Listens nowhere.
    fn default() -> Self {
        Self {
            tcp: Vec::new(),
            udp: Vec::new(),
            name: "P2P-Bridge".to_owned(),
            description: "A bridge between file-sharing networks".to_owned(),
            welcome: String::new(),
            max_sessions: 4096,
            max_files_per_client: 5000,
            other_servers: Vec::new(),
            reachable: Vec::new(),
        }
    }
}
