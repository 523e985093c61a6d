//! eDonkey2000 (eD2k), as eMule and aMule speak it. See the README beside this file.

pub mod aich;
mod callback;
pub mod clients;
pub mod config;
pub mod describe;
pub mod identity;
pub mod leecher;
pub mod messages;
mod presence;
pub mod seeder;
pub mod sources;
#[cfg(test)]
mod testing;
pub mod tracker_client;
pub mod tracker_server;
pub mod translate;
pub mod wire;

use std::{net::SocketAddrV4, sync::Arc};

use p2pbridge_proto::{OverlayId, Scheme};

use self::{
    clients::{Clients, ClientsConfig},
    config::{Ed2kConfig, Obfuscation, ServerTable},
    identity::Identity,
    leecher::Ed2kLeecher,
    presence::Presence,
    seeder::Ed2kSeeder,
    sources::SourceBook,
    tracker_client::{ClientConfig, Ed2kTrackerClient},
    tracker_server::{Ed2kTrackerServer, ServerConfig},
};
use crate::{
    Adapter, BuildError, Capability, Configured, Descriptor, Door, Host, Links, Seeder,
    TrackerClient, TrackerServer, listen,
};

/// eD2k's row in the registry.
pub static DESCRIPTOR: Descriptor = Descriptor {
    protocol: "ed2k",
    doors: &[Door::TrackerServer, Door::TrackerClient, Door::Seeder, Door::Leecher],
    schemes: &[Scheme::Ed2k],
    capabilities: &[Capability::Announce, Capability::Find, Capability::Search],
    example: config::EXAMPLE,
    describe: describe::describe,
    compose: Some(describe::compose),
    links: Some(Links { begins: "ed2k://", scheme: Scheme::Ed2k, read: describe::read_link }),
    messages: &messages::MESSAGES,
    configure,
};

fn configure(text: &str) -> Result<Vec<Configured>, toml::de::Error> {
    let configured = config::parse(text)?.into_iter().map(|(id, config)| Configured {
        id: id.clone(),
        mode: config.mode,
        trackers: config.servers.iter().map(ToString::to_string).collect(),
        build: Box::new(move |host| open(&id, &config, host)),
    });
    Ok(configured.collect())
}

/// Opens an overlay: both data faces over one hub of connections; in front with a server, in presence with a client of
/// servers.
fn open(overlay: &OverlayId, config: &Ed2kConfig, host: &Host) -> Result<Adapter, BuildError> {
    let identity = Arc::new(Identity::new(host, overlay));
    let clients = ClientsConfig {
        listen: config.listen.clone(),
        max_sessions: config.max_sessions,
        nick: config.nick.clone(),
        obfuscation: config.obfuscation,
    };
    let clients = Clients::bind(overlay, &clients, identity.clone())?;
    let sources = Arc::new(SourceBook::default());
    // In front nobody would use what clients say of sources.
    let book = config.server.is_none().then(|| sources.clone());
    let endpoints = clients.endpoints();
    let mut adapter = Adapter {
        mode: config.mode,
        terms: config.server.as_ref().map(|server| server.terms).unwrap_or_default(),
        reachable: config.reachable(&endpoints),
        own: listen::seen_at(&endpoints, &config.public),
        tracker_server: None,
        tracker_client: None,
        seeder: None,
        leecher: Some(Ed2kLeecher::new(clients.clone(), book)),
        bad_input: clients.bad_input().clone(),
    };
    let slots = config.upload_slots;
    let seeder = Ed2kSeeder::new(clients.clone(), slots, sources.clone(), adapter.own.clone());
    match &config.server {
        Some(table) => {
            let server = server_config(config, table, &adapter);
            let server = Ed2kTrackerServer::bind(overlay, &server, &identity, &clients)?;
            adapter.tracker_server = Some(server as Arc<dyn TrackerServer>);
            adapter.seeder = Some(seeder as Arc<dyn Seeder>);
        }
        None => {
            let client = ClientConfig {
                servers: config.servers.clone(),
                nick: config.nick.clone(),
                public: config.public.clone(),
                budget: config.budget,
            };
            let client = Ed2kTrackerClient::new(overlay, &client, identity, clients, sources);
            adapter.seeder = Some(Arc::new(Presence { seeder, client: client.clone() }));
            adapter.tracker_client = Some(client as Arc<dyn TrackerClient>);
        }
    }
    Ok(adapter)
}

fn server_config(config: &Ed2kConfig, table: &ServerTable, adapter: &Adapter) -> ServerConfig {
    let others = config.servers.iter();
    let others =
        others.filter_map(|server| Some(SocketAddrV4::new(server.host.parse().ok()?, server.port)));
    ServerConfig {
        tcp: table.tcp.clone(),
        udp: table.udp.clone(),
        name: table.name.clone(),
        description: table.description.clone(),
        welcome: table.welcome.clone(),
        max_sessions: table.max_sessions,
        max_files_per_client: table.max_files_per_client,
        interval: table.terms.interval,
        obfuscation: config.obfuscation != Obfuscation::Off,
        other_servers: others.collect(),
        reachable: adapter.reachable.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mode;

    fn build(keys: &str) -> Result<Adapter, BuildError> {
        let configured = configure(&format!("[overlays.ed2k.a]\n{keys}")).unwrap().remove(0);
        (configured.build)(&Host { mark: *b"abcdef" })
    }

    #[tokio::test]
    async fn a_configured_overlay_can_be_opened_and_a_port_in_use_is_named() {
        let open =
            |listen: &str| build(&format!("servers = ['127.0.0.1:1']\nlisten = ['{listen}']"));
        let adapter = open("127.0.0.1:0").unwrap();
        let endpoint = adapter.seeder.as_ref().unwrap().endpoints()[0];
        assert!(endpoint.port() != 0 && adapter.tracker_server.is_none());
        assert_eq!((adapter.mode, adapter.own), (Mode::Presence, vec![endpoint]));
        let health = adapter.tracker_client.as_ref().unwrap().health();
        assert_eq!(health[0].url, "ed2k://|server|127.0.0.1|1|/");
        let error = open(&endpoint.to_string()).err().unwrap().to_string();
        assert!(error.contains(&endpoint.to_string()) && error.contains("in use"), "{error}");
    }

    #[tokio::test]
    async fn a_front_has_a_server_and_its_terms() {
        let keys = "mode = 'front'\nlisten = ['127.0.0.1:0']\n[overlays.ed2k.a.server]\ntcp = ['127.0.0.1:0']\ninterval = 90";
        let front = build(keys).unwrap();
        assert!(front.tracker_client.is_none());
        assert_eq!((front.mode, front.terms.interval.as_secs()), (Mode::Front, 90));
        let server = front.tracker_server.unwrap();
        let at = server.endpoints()[0];
        assert_eq!(server.urls(), [format!("ed2k://|server|127.0.0.1|{}|/", at.port())]);
        assert_eq!(front.reachable, front.seeder.unwrap().endpoints());
        let clash = keys.replace("tcp = ['127.0.0.1:0']", &format!("tcp = ['{at}']"));
        let error = build(&clash).err().unwrap().to_string();
        assert!(error.contains(&format!("{at} as a server")), "{error}");
    }

    #[test]
    fn the_example_is_a_configuration() {
        let configured = configure(DESCRIPTOR.example).unwrap().remove(0);
        assert_eq!((configured.mode, configured.trackers.len()), (Mode::Presence, 2));
    }
}
