//! The form of an overlay in the file, and what must fit together in it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use p2pbridge_proto::Ed2kServerLink;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{Ed2kConfig, Obfuscation, ServerTable, servers::servers};
use crate::{
    Mode,
    config::{
        self, Misfit,
        at::Step::{Key, Place},
        misfit,
        values::{
            BudgetForm, TermsForm, addresses, count, listen, max_sessions, mode, names, no_doubles,
            public, seconds, upload_slots, within,
        },
    },
};

/// Where clients reach the bridge unless told otherwise.
const CLIENT_PORT: u16 = 4662;
/// Where clients log in unless told otherwise.
const SERVER_PORT: u16 = 4661;
/// How far a server's UDP port is above its TCP port: clients know it by that.
const UDP_ABOVE: u16 = 4;

const FAMILY: &str = "eD2k has addresses of IPv4 only";

/// An overlay, as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Form {
    #[serde(default, deserialize_with = "mode")]
    mode: Mode,
    #[serde(default, deserialize_with = "servers")]
    servers: Vec<Ed2kServerLink>,
    #[serde(default = "default_listen", deserialize_with = "listen")]
    listen: Vec<SocketAddr>,
    #[serde(default, deserialize_with = "public")]
    public: Vec<IpAddr>,
    #[serde(default = "default_nick", deserialize_with = "text::<_, 1, 50>")]
    nick: String,
    #[serde(default = "max_sessions", deserialize_with = "within::<_, 1, 10_000>")]
    max_sessions: usize,
    #[serde(default = "upload_slots", deserialize_with = "within::<_, 1, 1000>")]
    upload_slots: usize,
    #[serde(default)]
    obfuscation: Obfuscation,
    server: Option<ServerForm>,
    #[serde(default)]
    budget: BudgetForm,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ServerForm {
    #[serde(default, deserialize_with = "addresses")]
    tcp: Option<Vec<SocketAddr>>,
    #[serde(default, deserialize_with = "addresses")]
    udp: Option<Vec<SocketAddr>>,
    #[serde(default = "default_name", deserialize_with = "text::<_, 1, 200>")]
    name: String,
    #[serde(default, deserialize_with = "text::<_, 0, 200>")]
    description: String,
    #[serde(default, deserialize_with = "text::<_, 0, 4000>")]
    welcome: String,
    #[serde(default = "default_logins", deserialize_with = "within::<_, 1, 1_000_000>")]
    max_sessions: usize,
    #[serde(default = "default_files", deserialize_with = "within::<_, 1, 1_000_000>")]
    max_files_per_client: usize,
    #[serde(default, deserialize_with = "seconds")]
    interval: Option<Duration>,
    #[serde(default, deserialize_with = "count::<_, 100_000_000>")]
    swarms: Option<usize>,
    #[serde(default, deserialize_with = "count::<_, 1_000_000_000>")]
    peers: Option<usize>,
    #[serde(default, deserialize_with = "count::<_, 1_000_000_000>")]
    peers_per_swarm: Option<usize>,
    #[serde(default, deserialize_with = "names")]
    names: bool,
}

impl config::Form for Form {
    const PROTOCOL: &'static str = "ed2k";
    type Config = Ed2kConfig;

    fn check(self) -> Result<Ed2kConfig, Misfit> {
        self.check_addresses()?;
        let server = match (self.mode, self.server) {
            (Mode::Inline, _) => {
                let problem = "no eD2k overlay can be joined inline: a server answers its clients \
                               over the session that each of them keeps with it, so there is \
                               nothing to stand before; use \"presence\" or \"front\"";
                return misfit(&[Key("mode")], problem);
            }
            (Mode::Presence, None) => None,
            (Mode::Presence, Some(_)) => {
                let problem = "the bridge is no server with mode = \"presence\": set mode = \
                               \"front\", or leave this table out";
                return misfit(&[Key("server")], problem);
            }
            (Mode::Front, None) => {
                let problem = "mode = \"front\" needs a table `server` beside it: where the bridge \
                               listens as a server";
                return misfit(&[Key("mode")], problem);
            }
            (Mode::Front, Some(form)) => Some(form.check()?),
        };
        if self.mode == Mode::Presence && self.servers.is_empty() {
            let problem = "an overlay needs at least one server in `servers`; only with mode = \
                           \"front\" it may have none";
            return misfit(&[Key("servers")], problem);
        }
        if self.mode == Mode::Front
            && let Some(place) = self.servers.iter().position(|server| !is_address(server))
        {
            let problem = "clients are told of other servers by their addresses: write it with one";
            return misfit(&[Key("servers"), Place(place)], problem);
        }
        let config = Ed2kConfig {
            mode: self.mode,
            servers: self.servers,
            listen: self.listen,
            public: self.public,
            nick: self.nick,
            max_sessions: self.max_sessions,
            upload_slots: self.upload_slots,
            obfuscation: self.obfuscation,
            server,
            budget: self.budget.budget(),
        };
        if config.mode == Mode::Front && config.reachable(&config.listen).is_empty() {
            return misfit(&[Key("mode")], config::nowhere(config.mode));
        }
        Ok(config)
    }
}

impl Form {
    fn check_addresses(&self) -> Result<(), Misfit> {
        for (place, server) in self.servers.iter().enumerate() {
            if self.servers.iter().take(place).any(|other| other == server) {
                return misfit(
                    &[Key("servers"), Place(place)],
                    format!("`{server}` is there twice"),
                );
            }
        }
        if let Some(place) = self.listen.iter().position(SocketAddr::is_ipv6) {
            return misfit(&[Key("listen"), Place(place)], FAMILY);
        }
        if let Some(place) = self.public.iter().position(IpAddr::is_ipv6) {
            return misfit(&[Key("public"), Place(place)], FAMILY);
        }
        Ok(())
    }
}

impl ServerForm {
    fn check(self) -> Result<ServerTable, Misfit> {
        let tcp = self.tcp.unwrap_or_else(|| vec![([0, 0, 0, 0], SERVER_PORT).into()]);
        if tcp.is_empty() {
            let problem = "as a server, the bridge needs at least one address to listen at";
            return misfit(&[Key("server"), Key("tcp")], problem);
        }
        let udp = match self.udp {
            Some(udp) => udp,
            None => beside(&tcp)?,
        };
        for (key, addresses) in [("tcp", &tcp), ("udp", &udp)] {
            if let Some(place) = addresses.iter().position(SocketAddr::is_ipv6) {
                return misfit(&[Key("server"), Key(key), Place(place)], FAMILY);
            }
        }
        no_doubles("server", [("tcp", &tcp), ("udp", &udp)])?;
        let terms = TermsForm {
            interval: self.interval,
            swarms: self.swarms,
            peers: self.peers,
            peers_per_swarm: self.peers_per_swarm,
            bound_only: self.names,
            ..TermsForm::default()
        };
        Ok(ServerTable {
            tcp,
            udp,
            name: self.name,
            description: self.description,
            welcome: self.welcome,
            max_sessions: self.max_sessions,
            max_files_per_client: self.max_files_per_client,
            terms: terms.check(Key("server"))?,
        })
    }
}

fn is_address(server: &Ed2kServerLink) -> bool {
    server.host.parse::<Ipv4Addr>().is_ok()
}

/// Where a server's clients look for it over UDP; where the system chooses the TCP port, it chooses this one too.
fn beside(tcp: &[SocketAddr]) -> Result<Vec<SocketAddr>, Misfit> {
    let each = tcp.iter().enumerate().map(|(place, at)| match at.port() {
        0 => Ok(*at),
        port => match port.checked_add(UDP_ABOVE) {
            Some(port) => Ok(SocketAddr::new(at.ip(), port)),
            None => {
                let problem = format!("there is no UDP port {UDP_ABOVE} above {port}: give `udp`");
                misfit(&[Key("server"), Key("tcp"), Place(place)], problem)
            }
        },
    });
    each.collect()
}

/// A text of so many bytes, without control characters but line breaks.
fn text<'de, D: Deserializer<'de>, const LEAST: usize, const MOST: usize>(
    deserializer: D,
) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if !(LEAST..=MOST).contains(&text.len()) {
        let problem = format!("{} bytes are not within {LEAST} and {MOST}", text.len());
        return Err(D::Error::custom(problem));
    }
    match text.chars().find(|letter| letter.is_control() && *letter != '\n') {
        Some(letter) => Err(D::Error::custom(format!("{letter:?} cannot be told to clients"))),
        None => Ok(text),
    }
}

fn default_listen() -> Vec<SocketAddr> {
    vec![([0, 0, 0, 0], CLIENT_PORT).into()]
}

fn default_nick() -> String {
    "p2p-bridge".to_owned()
}

fn default_name() -> String {
    "P2P-Bridge".to_owned()
}

const fn default_logins() -> usize {
    10_000
}

const fn default_files() -> usize {
    10_000
}
