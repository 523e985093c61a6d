//! BitTorrent: BEP 3 and its extensions. See the README beside this file.

pub mod config;
mod connection;
pub mod create;
pub mod describe;
pub mod identity;
pub mod leecher;
mod listen;
pub mod magnet;
pub mod merkle;
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
    tracker_client::BtTrackerClient,
};
use crate::{
    Adapter, BuildError, Capability, Configured, Descriptor, Door, Host, Seeder, TrackerTerms,
};

/// BitTorrent's row in the registry.
pub static DESCRIPTOR: Descriptor = Descriptor {
    protocol: "bittorrent",
    doors: &[Door::TrackerServer, Door::TrackerClient, Door::Seeder, Door::Leecher],
    schemes: &[Scheme::Btih, Scheme::Btmh],
    capabilities: &[Capability::Announce, Capability::Find, Capability::SwarmQuery],
    example: config::EXAMPLE,
    describe: describe::describe,
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

/// Opens an overlay in presence mode: every face but the tracker server's.
fn open(overlay: &OverlayId, config: &BtConfig, host: &Host) -> Result<Adapter, BuildError> {
    let identity = Arc::new(Identity::new(host));
    let seeder = SeederConfig {
        listen: config.listen.clone(),
        max_sessions: config.max_sessions,
        upload_slots: config.upload_slots,
    };
    let seeder = BtSeeder::bind(overlay, &seeder, identity.clone())?;
    let client = BtTrackerClient::new(&config.trackers, &identity, &seeder.endpoints());
    let client = client.map_err(|source| BuildError {
        overlay: overlay.clone(),
        what: "set up the client of its trackers".to_owned(),
        source,
    })?;
    Ok(Adapter {
        mode: config.mode,
        terms: TrackerTerms::default(),
        tracker_server: None,
        tracker_client: Some(client),
        seeder: Some(seeder),
        // A peer id of its own: clients refuse a second connection from the same peer id, and a peer of an overlay
        // that both gives and takes may meet both faces.
        leecher: Some(BtLeecher::new(Arc::new(Identity::new(host)))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_configured_overlay_can_be_opened_and_a_port_in_use_is_named() {
        let open = |listen: &str| {
            let text = format!(
                "[overlays.bittorrent.a]\ntrackers = ['http://127.0.0.1:1/announce']\nlisten = ['{listen}']"
            );
            let configured = configure(&text).unwrap().remove(0);
            assert_eq!(configured.trackers, ["http://127.0.0.1:1/announce"]);
            (configured.build)(&Host { mark: *b"abcdef" })
        };
        let adapter = open("127.0.0.1:0").unwrap();
        let endpoint = adapter.seeder.as_ref().unwrap().endpoints()[0];
        assert!(endpoint.port() != 0 && adapter.tracker_server.is_none());
        assert_eq!(adapter.tracker_client.as_ref().unwrap().health().len(), 1);
        let error = open(&endpoint.to_string()).err().unwrap().to_string();
        assert!(error.contains(&endpoint.to_string()) && error.contains("in use"), "{error}");
    }

    #[test]
    fn the_example_is_a_configuration() {
        assert_eq!(configure(DESCRIPTOR.example).unwrap().len(), 1);
    }
}
