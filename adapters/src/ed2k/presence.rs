//! The seeder of an overlay in which the bridge is logged in to a server: the session lives as long as it serves.

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use p2pbridge_proto::Name;
use tokio_util::sync::CancellationToken;

use super::{seeder::Ed2kSeeder, tracker_client::Ed2kTrackerClient};
use crate::{Library, Seeder};

/// A seeder beside which the tracker client runs: a server that is logged in to tries at once whether it can be reached.
pub(super) struct Presence {
    pub(super) seeder: Arc<Ed2kSeeder>,
    pub(super) client: Arc<Ed2kTrackerClient>,
}

#[async_trait]
impl Seeder for Presence {
    fn endpoints(&self) -> Vec<SocketAddr> {
        self.seeder.endpoints()
    }

    async fn serve(self: Arc<Self>, library: Arc<dyn Library>, stop: CancellationToken) {
        let serving = self.seeder.clone().serve(library, stop.clone());
        tokio::join!(serving, self.client.run(stop));
    }

    fn invite(&self, name: Name, peers: &[SocketAddr]) {
        self.seeder.invite(name, peers);
    }
}
