//! What the status service tells: gathered from the adapters, the relay, the meter and the alarms when asked.

use std::{sync::Arc, time::SystemTime};

use p2pbridge_adapters::{Adapter, Flaw, Mode, Party, TrackerHealth};
use p2pbridge_nametable::{Binding, NameTable};
use p2pbridge_proto::{OverlayId, v1};

use super::{alarms::Alarms, ledger::Ledger, meter::Meter, recorder::Recorder};
use crate::{
    grpc::{Explain, Explained, Snapshot, StatusSource},
    handler::MessageHandler,
    relay::Relay,
    web::{LedgerReport, Report, ReportSource},
};

/// Failures after which a tracker that has answered before counts as down.
const DOWN_AFTER: u32 = 3;

/// Ways that are explained at once.
const MOST_CHOICES: usize = 1_000;

/// An overlay, as the board sees it.
pub struct BoardOverlay {
    /// Its id.
    pub id: OverlayId,
    /// The protocol that it speaks.
    pub protocol: &'static str,
    /// Its faces.
    pub adapter: Adapter,
}

/// Gathers the state of everything.
pub struct Board {
    /// The overlays, by id.
    pub overlays: Vec<BoardOverlay>,
    /// Keeps the swarms of which the bridge is a tracker.
    pub handler: Arc<MessageHandler>,
    /// The relay.
    pub relay: Arc<Relay>,
    /// What crosses.
    pub meter: Arc<Meter>,
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// Gap records that this start wrote into it.
    pub gaps: u64,
    /// Writes the ledger.
    pub recorder: Recorder,
    /// The names.
    pub names: Arc<NameTable>,
    /// What needs an operator's eye.
    pub alarms: Arc<Alarms>,
    /// When the daemon started.
    pub started: SystemTime,
}

impl StatusSource for Board {
    fn snapshot(&self) -> Snapshot {
        let mut alarms = self.alarms.list();
        alarms.extend(self.recorder.trouble().map(|trouble| format!("ledger: {trouble}")));
        let quarantined = self.names.quarantined();
        alarms.extend(
            quarantined
                .iter()
                .rev()
                .take(100)
                .map(|entry| format!("quarantined: {} ({})", entry.binding.name(), entry.text)),
        );
        Snapshot {
            overlays: self.overlays.iter().map(|overlay| self.overlay(overlay)).collect(),
            crossings: self.meter.crossings(),
            alarms,
        }
    }
}

impl ReportSource for Board {
    fn report(&self) -> Report {
        Report {
            started: self.started,
            snapshot: self.snapshot(),
            relay: self.relay.report(),
            ledger: LedgerReport {
                records: self.ledger.next_seq().saturating_sub(1),
                gaps: self.gaps,
                waiting: self.meter.waiting(),
                transfers: self.meter.transfers(),
                failing: self.recorder.trouble().is_some(),
            },
            names: self.names.counts(),
            search: self.handler.titles(),
        }
    }
}

impl Explain for Board {
    fn explain(&self, binding: &Binding, others: &[Arc<Binding>]) -> Explained {
        Explained {
            choices: self.relay.ways(binding, others, MOST_CHOICES),
            held_bytes: self.relay.held_bytes(binding),
        }
    }
}

impl Board {
    fn overlay(&self, overlay: &BoardOverlay) -> v1::OverlayStatus {
        let trackers: Vec<v1::TrackerStatus> = overlay
            .adapter
            .tracker_client
            .iter()
            .flat_map(|client| client.health())
            .map(tracker)
            .collect();
        let health = match overlay.adapter.mode {
            // What the bridge itself answers does not depend on other trackers.
            Mode::Front => v1::Health::Up,
            Mode::Presence | Mode::Inline => best(trackers.iter().map(v1::TrackerStatus::health)),
        };
        let seeder = overlay.adapter.seeder.iter().flat_map(|seeder| seeder.endpoints());
        v1::OverlayStatus {
            id: overlay.id.to_string(),
            protocol: overlay.protocol.to_owned(),
            mode: overlay.adapter.mode.to_string(),
            health: health.into(),
            trackers,
            swarms: self.relay.swarms(&overlay.id),
            endpoints: seeder.map(|endpoint| endpoint.to_string()).collect(),
            tracker_server: self.tracker_server(overlay),
            bad_input: overlay.adapter.bad_input.all().map(bad_input).collect(),
        }
    }

    fn tracker_server(&self, overlay: &BoardOverlay) -> Option<v1::TrackerServerStatus> {
        let server = overlay.adapter.tracker_server.as_ref()?;
        let (counts, size) = (server.counts(), self.handler.size(&overlay.id).unwrap_or_default());
        Some(v1::TrackerServerStatus {
            urls: server.urls(),
            swarms: size.swarms as u64,
            peers: size.peers as u64,
            requests: counts.requests,
            answered: counts.answered,
            refused: counts.refused,
            malformed: counts.malformed,
            shed: counts.shed,
            sessions: counts.sessions,
        })
    }
}

fn tracker(health: TrackerHealth) -> v1::TrackerStatus {
    let state = match (health.consecutive_failures, &health.last_answer) {
        (0, None) => v1::Health::Unspecified,
        (0, Some(_)) => v1::Health::Up,
        (failures, Some(_)) if failures < DOWN_AFTER => v1::Health::Degraded,
        _ => v1::Health::Down,
    };
    v1::TrackerStatus {
        url: health.url,
        health: state.into(),
        last_answer_time: health.last_answer.map(prost_types::Timestamp::from),
        round_trip: health.round_trip.and_then(|took| took.try_into().ok()),
        consecutive_failures: health.consecutive_failures,
        last_error: health.last_error.unwrap_or_default(),
        answered_share: health.answered,
        rest: health.rests_for.and_then(|rest| rest.try_into().ok()),
        budget_per_second: health.budget.per_second,
        budget_in_flight: health.budget.in_flight,
        sent: health.sent,
        shed: health.shed,
        standing: health.standing,
        users: health.users,
        contents: health.contents,
    }
}

fn bad_input((sender, flaw, count): (Party, Flaw, u64)) -> v1::BadInput {
    v1::BadInput { sender: sender.to_string(), flaw: flaw.to_string(), count }
}

/// An overlay is as well as the best of its trackers.
fn best(states: impl Iterator<Item = v1::Health>) -> v1::Health {
    let rank = |state: &v1::Health| match state {
        v1::Health::Up => 3,
        v1::Health::Degraded => 2,
        v1::Health::Down => 1,
        v1::Health::Unspecified => 0,
    };
    states.max_by_key(rank).unwrap_or(v1::Health::Unspecified)
}
