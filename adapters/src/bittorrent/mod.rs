//! BitTorrent: BEP 3 and its extensions. See the README beside this file.

pub mod config;
mod connection;
pub mod create;
pub mod describe;
pub mod identity;
pub mod leecher;
pub mod magnet;
pub mod merkle;
pub mod messages;
pub mod metainfo;
pub mod seeder;
pub mod tracker_client;
pub mod tracker_server;
pub mod translate;
pub mod wire;

use std::sync::Arc;

use p2pbridge_proto::{OverlayId, Scheme};

use self::{
    config::BtConfig,
    identity::Identity,
    leecher::BtLeecher,
    seeder::{BtSeeder, SeederConfig},
    tracker_client::{BtTrackerClient, ClientConfig},
    tracker_server::{BtTrackerServer, ServerConfig},
};
use crate::{
    Adapter, BadInput, BuildError, Capability, Configured, Descriptor, Door, Host, Mode, Seeder,
    TrackerClient, TrackerServer, listen,
};

/// BitTorrent's row in the registry.
pub static DESCRIPTOR: Descriptor = Descriptor {
    protocol: "bittorrent",
    doors: &[Door::TrackerServer, Door::TrackerClient, Door::Seeder, Door::Leecher],
    schemes: &[Scheme::Btih, Scheme::Btmh],
    capabilities: &[Capability::Announce, Capability::Find, Capability::SwarmQuery],
    example: config::EXAMPLE,
    describe: describe::describe,
    compose: None,
    // Magnet links call no file by its bytes alone, and describe nothing.
    links: None,
    messages: &messages::MESSAGES,
    configure,
};

fn configure(text: &str) -> Result<Vec<Configured>, toml::de::Error> {
    let configured = config::parse(text)?.into_iter().map(|(id, config)| Configured {
        id: id.clone(),
        mode: config.mode,
        trackers: config.trackers.iter().flatten().map(ToString::to_string).collect(),
        build: Box::new(move |host| open(&id, &config, host)),
    });
    Ok(configured.collect())
}

/// Opens an overlay with the faces that its mode has: all but the tracker server's in presence mode; the tracker client's
/// only if there are trackers.
fn open(overlay: &OverlayId, config: &BtConfig, host: &Host) -> Result<Adapter, BuildError> {
    let identity = Arc::new(Identity::new(host));
    let seeder = SeederConfig {
        listen: config.listen.clone(),
        max_sessions: config.max_sessions,
        upload_slots: config.upload_slots,
    };
    let bad_input = Arc::new(BadInput::default());
    let seeder = BtSeeder::bind(overlay, &seeder, identity.clone(), bad_input.clone())?;
    let server = config.tracker.as_ref().map(|tracker| {
        let server = ServerConfig {
            http: tracker.http.clone(),
            udp: tracker.udp.clone(),
            trust_forwarded_for: tracker.trust_forwarded_for,
            ..ServerConfig::default()
        };
        BtTrackerServer::bind(overlay, &server)
    });
    let server = server.transpose()?;
    let reachable = config.reachable(&seeder.endpoints());
    let inline = config.mode == Mode::Inline;
    let client = ClientConfig { tiers: config.trackers.clone(), budget: config.budget, inline };
    // Where the tracker sees the bridge is what it takes down, but for one that is told.
    let announced = if inline { reachable.clone() } else { seeder.endpoints() };
    let client = (!config.trackers.is_empty())
        .then(|| BtTrackerClient::new(&client, &identity, &announced, &bad_input));
    Ok(Adapter {
        mode: config.mode,
        own: listen::seen_at(&seeder.endpoints(), &config.public),
        reachable,
        terms: config.tracker.as_ref().map(|tracker| tracker.terms).unwrap_or_default(),
        tracker_server: server.map(|server| server as Arc<dyn TrackerServer>),
        tracker_client: client.map(|client| client as Arc<dyn TrackerClient>),
        seeder: Some(seeder),
        // A peer id of its own: clients refuse a second connection from the same peer id, and a peer of an overlay
        // that both gives and takes may meet both faces.
        leecher: Some(BtLeecher::new(Arc::new(Identity::new(host)), bad_input.clone())),
        bad_input,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(keys: &str) -> Result<Adapter, BuildError> {
        let configured = configure(&format!("[overlays.bittorrent.a]\n{keys}")).unwrap().remove(0);
        (configured.build)(&Host { mark: *b"abcdef" })
    }

    const TRACKERS: &str = "trackers = ['http://127.0.0.1:1/announce']\n";

    #[tokio::test]
    async fn a_configured_overlay_can_be_opened_and_a_port_in_use_is_named() {
        let open = |listen: &str| build(&format!("{TRACKERS}listen = ['{listen}']"));
        let adapter = open("127.0.0.1:0").unwrap();
        let endpoint = adapter.seeder.as_ref().unwrap().endpoints()[0];
        assert!(endpoint.port() != 0 && adapter.tracker_server.is_none());
        assert_eq!(adapter.mode, Mode::Presence);
        assert_eq!(adapter.tracker_client.as_ref().unwrap().health().len(), 1);
        let error = open(&endpoint.to_string()).err().unwrap().to_string();
        assert!(error.contains(&endpoint.to_string()) && error.contains("in use"), "{error}");
        let clash = format!(
            "mode = 'front'\nlisten = ['127.0.0.1:0']\n[overlays.bittorrent.a.tracker]\nhttp = ['{endpoint}']\nudp = []"
        );
        let error = build(&clash).err().unwrap().to_string();
        assert!(error.contains(&format!("{endpoint} as a tracker")), "{error}");
    }

    #[tokio::test]
    async fn front_and_inline_have_a_tracker_and_their_terms() {
        let table = "listen = ['127.0.0.1:0']\n[overlays.bittorrent.a.tracker]\nhttp = ['127.0.0.1:0']\ninterval = 90\n";
        let front = build(&format!("mode = 'front'\n{table}udp = []")).unwrap();
        assert!(front.tracker_client.is_none());
        assert_eq!((front.mode, front.terms.interval.as_secs()), (Mode::Front, 90));
        assert_ne!(front.tracker_server.unwrap().endpoints()[0].port(), 0);
        let inline = build(&format!("{TRACKERS}mode = 'inline'\n{table}")).unwrap();
        assert_eq!(inline.mode, Mode::Inline);
        assert!(inline.tracker_client.is_some() && inline.tracker_server.is_some());
    }

    #[test]
    fn the_example_is_a_configuration() {
        let configured = configure(DESCRIPTOR.example).unwrap().remove(0);
        assert_eq!((configured.mode, configured.trackers.len()), (Mode::Presence, 3));
    }
}
