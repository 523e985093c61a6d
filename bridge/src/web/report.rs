//! What stands on the page. Labels come from the configuration (ids of overlays, URLs of trackers) and from short lists of
//! words: never a name, a peer or a title.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use p2pbridge_nametable::Counts;
use p2pbridge_proto::v1::{
    BadInput, Crossing, Health, OverlayStatus, SwarmStatus, TrackerServerStatus, TrackerStatus,
};
use prometheus_client::{
    collector::Collector, encoding::DescriptorEncoder, encoding::text::encode, registry::Registry,
    registry::Unit,
};

use super::families::{Families, Title};
use crate::{grpc::Snapshot, handler::TitleCounts, relay::ProofCounts};

const HEALTHS: [(Health, &str); 4] = [
    (Health::Unspecified, "unknown"),
    (Health::Up, "up"),
    (Health::Degraded, "degraded"),
    (Health::Down, "down"),
];

/// The state, when it was asked for.
#[derive(Debug, Clone)]
pub struct Report {
    /// When the daemon started.
    pub started: SystemTime,
    /// What the status service tells.
    pub snapshot: Snapshot,
    /// The relay.
    pub relay: RelayReport,
    /// The ledger, and what waits for it.
    pub ledger: LedgerReport,
    /// The name table.
    pub names: Counts,
    /// What can be searched.
    pub search: TitleCounts,
}

/// How much the relay has in hand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RelayReport {
    /// Pools: groups of names whose bytes are being brought.
    pub pools: usize,
    /// Bytes asked for, or not yet stored, and the most there may be.
    pub in_memory: (u64, u64),
    /// Bytes that the spool holds, and the most it may.
    pub spool: (u64, u64),
    /// What came of the proof by traffic.
    pub proofs: ProofCounts,
}

/// The ledger, and what waits for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LedgerReport {
    /// Records written since the start.
    pub records: u64,
    /// Of these, gaps that the last end left.
    pub gaps: u64,
    /// Windows that are counted and not written yet.
    pub waiting: usize,
    /// Transfers that are counted.
    pub transfers: usize,
    /// Whether it does not take what was counted.
    pub failing: bool,
}

impl Report {
    /// As OpenMetrics text.
    ///
    /// # Errors
    /// Writing to a string does not fail.
    pub(super) fn text(self) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("p2pbridge");
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }

    fn bridge(&self, out: &mut Families) -> fmt::Result {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        out.info(("build", "The program that runs"), [version])?;
        out.gauge(
            seconds("start_time", "When the daemon started, in seconds since 1970"),
            since_1970(self.started),
        )?;
        out.gauge(
            count("alarms", "What needs an operator's eye: see `p2p-bridge overlays`"),
            self.snapshot.alarms.len(),
        )
    }

    fn relay(&self, out: &mut Families) -> fmt::Result {
        let RelayReport { pools, in_memory, spool, proofs } = self.relay;
        out.gauge(count("relay_pools", "Groups of names whose bytes are being brought"), pools)?;
        out.gauge(bytes("relay_in_memory", "Bytes asked for, or not yet stored"), in_memory.0)?;
        out.gauge(
            bytes(
                "relay_in_memory_limit",
                "The most bytes asked for, or not yet stored (relay.in_memory)",
            ),
            in_memory.1,
        )?;
        out.gauge(bytes("spool_used", "Verified bytes on disk"), spool.0)?;
        out.gauge(bytes("spool_limit", "The most bytes on disk (spool.max_size)"), spool.1)?;
        out.counters(
            count(
                "proofs",
                "Contents whose bytes have passed: what came of the proof of their names",
            ),
            [
                ([("outcome", "whole")], proofs.proven),
                ([("outcome", "in_part")], proofs.in_part),
                ([("outcome", "given_up")], proofs.given_up),
            ],
        )?;
        out.gauge(count("proofs_open", "Contents of which a part has passed"), proofs.open)?;
        out.gauge(bytes("proofs_queued", "Bytes in memory that wait to be hashed"), proofs.queued)?;
        out.gauge(
            count("proofs_unstated", "Proofs that the name table has not taken yet"),
            proofs.unstated,
        )
    }

    fn ledger(&self, out: &mut Families) -> fmt::Result {
        let LedgerReport { records, gaps, waiting, transfers, failing } = self.ledger;
        out.counter(count("ledger_records", "Usage records written"), records)?;
        out.gauge(
            count("ledger_gaps", "Gap records that this start wrote: the last end was not clean"),
            gaps,
        )?;
        out.gauge(
            count("ledger_waiting_windows", "Windows of usage in memory that are not written yet"),
            waiting,
        )?;
        out.gauge(
            count("ledger_failing", "1 while the ledger does not take usage records"),
            u32::from(failing),
        )?;
        out.gauge(count("transfers", "Transfers that are counted"), transfers)
    }

    fn names(&self, out: &mut Families) -> fmt::Result {
        let Counts { bindings, contents, names, quarantined, disproved, conflicts } = self.names;
        out.gauge(count("names_bindings", "Bindings in force"), bindings)?;
        out.gauge(count("names_contents", "Contents that have names of their own"), contents)?;
        out.gauge(count("names_known", "Names of these contents"), names)?;
        out.gauge(count("names_quarantined", "Statements in quarantine"), quarantined)?;
        out.counter(count("names_disproved", "Names that have proved false"), disproved)?;
        out.counter(
            count("names_conflicts", "Verified statements that contradicted each other"),
            conflicts,
        )
    }

    fn search(&self, out: &mut Families) -> fmt::Result {
        let TitleCounts { titles, memory } = self.search;
        out.gauge(count("search_titles", "Titles that searches look through"), titles)?;
        out.gauge(bytes("search_memory", "Memory that the titles and their words take"), memory)
    }
}

impl Collector for Report {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let out = &mut Families(encoder);
        self.bridge(out)?;
        overlays(&self.snapshot.overlays, out)?;
        trackers(&self.snapshot.overlays, out)?;
        servers(&self.snapshot.overlays, out)?;
        crossings(&self.snapshot.crossings, out)?;
        self.relay(out)?;
        self.ledger(out)?;
        self.names(out)?;
        self.search(out)
    }
}

fn overlays(all: &[OverlayStatus], out: &mut Families) -> fmt::Result {
    let words = all.iter().map(|OverlayStatus { id, protocol, mode, .. }| {
        [("overlay", id.as_str()), ("protocol", protocol.as_str()), ("mode", mode.as_str())]
    });
    out.info(("overlay", "The overlays of the configuration"), words)?;
    out.gauges(
        count("overlay_health", "1 for the state in which the overlay is, 0 for the others"),
        all.iter().flat_map(|overlay| {
            HEALTHS.iter().map(|(state, word)| {
                let labels = [("overlay", overlay.id.as_str()), ("state", word)];
                (labels, u32::from(overlay.health() == *state))
            })
        }),
    )?;
    let mut sums = |title, of: &dyn Fn(&SwarmStatus) -> u64| {
        out.gauges(
            title,
            all.iter().map(|overlay| {
                let sum = overlay.swarms.iter().map(of).fold(0, u64::saturating_add);
                ([("overlay", overlay.id.as_str())], sum)
            }),
        )
    };
    sums(count("swarms", "Swarms in which the bridge takes part"), &|_| 1)?;
    sums(count("swarms_announced", "Swarms in which the bridge is announced"), &|swarm| {
        u64::from(swarm.announced)
    })?;
    sums(count("swarms_troubled", "Swarms in which something is in the way"), &|swarm| {
        u64::from(!swarm.trouble.is_empty())
    })?;
    sums(count("relay_sources", "Peers that the bridge downloads from"), &|swarm| {
        swarm.sources.into()
    })?;
    sums(count("relay_served_peers", "Peers that the bridge serves"), &|swarm| {
        swarm.served_peers.into()
    })?;
    out.counters(
        count("bad_input", "What peers and trackers sent that was not taken, by what was wrong"),
        all.iter().flat_map(|overlay| {
            overlay.bad_input.iter().map(|BadInput { sender, flaw, count }| {
                let id = ("overlay", overlay.id.as_str());
                ([id, ("sender", sender.as_str()), ("flaw", flaw)], *count)
            })
        }),
    )
}

fn trackers(all: &[OverlayStatus], out: &mut Families) -> fmt::Result {
    fn each<T>(
        all: &[OverlayStatus],
        of: impl Fn(&TrackerStatus) -> Option<T>,
    ) -> impl Iterator<Item = ([(&'static str, &str); 2], T)> {
        all.iter()
            .flat_map(|overlay| overlay.trackers.iter().map(move |tracker| (overlay, tracker)))
            .filter_map(move |(overlay, tracker)| {
                let labels = [("overlay", overlay.id.as_str()), ("tracker", tracker.url.as_str())];
                Some((labels, of(tracker)?))
            })
    }
    let health = |(labels, is): ([(&'static str, _); 2], Health)| {
        HEALTHS.into_iter().map(move |(state, word)| {
            let [overlay, tracker] = labels;
            ([overlay, tracker, ("state", word)], u32::from(is == state))
        })
    };
    out.gauges(
        count("tracker_health", "1 for the state in which the tracker is, 0 for the others"),
        each(all, |tracker| Some(tracker.health())).flat_map(health),
    )?;
    out.counters(
        count("tracker_sent", "Messages sent to the tracker"),
        each(all, |tracker| Some(tracker.sent)),
    )?;
    out.counters(
        count("tracker_shed", "Questions that the tracker's budget did not allow"),
        each(all, |tracker| Some(tracker.shed)),
    )?;
    out.gauges(
        count("tracker_failures_in_a_row", "Questions to the tracker since its last answer"),
        each(all, |tracker| Some(tracker.consecutive_failures)),
    )?;
    out.gauges(
        ratio("tracker_answered", "Share of the questions of late that the tracker answered"),
        each(all, |tracker| tracker.answered_share),
    )?;
    out.gauges(
        seconds("tracker_round_trip", "How long the tracker's last answer took"),
        each(all, |tracker| as_seconds(tracker.round_trip?)),
    )?;
    out.gauges(
        seconds(
            "tracker_last_answer_time",
            "When the tracker last answered, in seconds since 1970",
        ),
        each(all, |tracker| Some(since_1970(tracker.last_answer_time?.try_into().ok()?))),
    )?;
    out.gauges(
        seconds("tracker_rest", "How long the tracker is still left alone after failures"),
        each(all, |tracker| match tracker.rest {
            Some(rest) => as_seconds(rest),
            None => Some(0.0),
        }),
    )?;
    out.gauges(
        count("tracker_budget_per_second", "Messages that the tracker may be sent in any second"),
        each(all, |tracker| Some(tracker.budget_per_second)),
    )?;
    out.gauges(
        count("tracker_budget_in_flight", "Questions without an answer that the tracker may have"),
        each(all, |tracker| Some(tracker.budget_in_flight)),
    )?;
    out.gauges(
        count("tracker_users", "Peers that the tracker says it has"),
        each(all, |tracker| tracker.users),
    )?;
    out.gauges(
        count("tracker_contents", "Contents that the tracker says it has"),
        each(all, |tracker| tracker.contents),
    )
}

fn servers(all: &[OverlayStatus], out: &mut Families) -> fmt::Result {
    let servers = || {
        all.iter().filter_map(|overlay| {
            Some(([("overlay", overlay.id.as_str())], overlay.tracker_server.as_ref()?))
        })
    };
    let each =
        |of: fn(&TrackerServerStatus) -> u64| servers().map(move |(labels, s)| (labels, of(s)));
    out.gauges(
        count("server_swarms", "Swarms that the bridge keeps as a tracker"),
        each(|server| server.swarms),
    )?;
    out.gauges(
        count("server_peers", "Peers that the bridge keeps as a tracker, in all swarms"),
        each(|server| server.peers),
    )?;
    out.gauges(
        count("server_sessions", "Peers that are logged in to the bridge as a tracker"),
        servers().filter_map(|(labels, server)| Some((labels, server.sessions?))),
    )?;
    out.counters(
        count("server_requests", "Messages that came to the bridge as a tracker"),
        each(|server| server.requests),
    )?;
    out.counters(
        count(
            "server_results",
            "Messages that came to the bridge as a tracker, by what became of them",
        ),
        servers().flat_map(|([overlay], server)| {
            [
                ("answered", server.answered),
                ("refused", server.refused),
                ("malformed", server.malformed),
                ("shed", server.shed),
            ]
            .map(|(result, number)| ([overlay, ("result", result)], number))
        }),
    )
}

fn crossings(all: &[Crossing], out: &mut Families) -> fmt::Result {
    let each = |of: fn(&Crossing) -> u64| {
        all.iter().map(move |crossing| {
            let Crossing { from_overlay, to_overlay, .. } = crossing;
            ([("from", from_overlay.as_str()), ("to", to_overlay)], of(crossing))
        })
    };
    out.counters(
        bytes("crossing_fetched", "Bytes that came from peers of the overlay that gives"),
        each(|crossing| crossing.fetched_bytes),
    )?;
    out.counters(
        bytes("crossing_verified", "Bytes fetched that were verified"),
        each(|crossing| crossing.verified_bytes),
    )?;
    out.counters(
        bytes("crossing_rejected", "Bytes fetched that were wrong, or came twice"),
        each(|crossing| crossing.rejected_bytes),
    )?;
    out.counters(
        bytes("crossing_served", "Bytes that went to peers of the overlay that takes"),
        each(|crossing| crossing.served_bytes),
    )
}

fn count(name: &'static str, help: &'static str) -> Title {
    (name, help, None)
}

fn bytes(name: &'static str, help: &'static str) -> Title {
    (name, help, Some(Unit::Bytes))
}

fn seconds(name: &'static str, help: &'static str) -> Title {
    (name, help, Some(Unit::Seconds))
}

fn ratio(name: &'static str, help: &'static str) -> Title {
    (name, help, Some(Unit::Other("ratio".to_owned())))
}

fn as_seconds(time: prost_types::Duration) -> Option<f64> {
    Duration::try_from(time).ok().map(|time| time.as_secs_f64())
}

fn since_1970(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
