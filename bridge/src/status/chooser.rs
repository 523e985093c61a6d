//! Gathers what the choice between overlays stands on: routes, and how the trackers are doing.

use std::{collections::HashMap, sync::Arc, time::Duration};

use p2pbridge_adapters::{TrackerClient, TrackerHealth};
use p2pbridge_nametable::Binding;
use p2pbridge_proto::{Name, OverlayId};
use tokio::time::Instant;

use super::choice::{
    Candidate, ContentClass, RouteFacts, Score, SwarmFacts, TrackerFacts, Weights, score,
};
use crate::routes::Routes;

/// Scores overlays by what is known of them now.
pub struct Chooser {
    weights: Weights,
    routes: Arc<Routes>,
    trackers: HashMap<OverlayId, Arc<dyn TrackerClient>>,
}

/// A way by which a content could cross.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    /// The overlay that would give.
    pub from: &'a OverlayId,
    /// The overlay that would take.
    pub to: &'a OverlayId,
    /// The name by which the content is had there.
    pub name: Name,
    /// What kind of content it is.
    pub class: ContentClass,
}

impl Chooser {
    /// A chooser over the routes and the tracker clients of all overlays. An overlay without a client, or with one that
    /// has no tracker, has the bridge as its tracker.
    #[must_use]
    pub fn new(
        weights: Weights,
        routes: Arc<Routes>,
        trackers: HashMap<OverlayId, Arc<dyn TrackerClient>>,
    ) -> Self {
        Self { weights, routes, trackers }
    }

    /// How well a way serves. `swarm` is what is known of the giving swarm; `closed` says why its name may not leave its
    /// overlay, if it may not.
    #[must_use]
    pub fn score(&self, way: Way<'_>, swarm: Option<SwarmFacts>, closed: Option<String>) -> Score {
        let Way { from, to, name, class } = way;
        let route = self.routes.between(from, to).and_then(|number| self.routes.get(number));
        let candidate = Candidate {
            from: from.clone(),
            to: to.clone(),
            name,
            class,
            route: route.map(|route| RouteFacts {
                direct: route.direct,
                spare: route.spare(Instant::now()),
                cost: route.cost,
                meant_for: (!route.classes.is_empty()).then(|| route.classes.contains(&class)),
            }),
            trackers: self.trackers.get(from).and_then(|client| facts(&client.health())),
            swarm,
            closed,
        };
        score(&self.weights, candidate)
    }
}

/// The class of what a binding names.
#[must_use]
pub fn class_of(binding: &Binding) -> ContentClass {
    ContentClass::of(binding.files.iter().map(|file| (file.path.as_str(), file.length)))
}

/// What several trackers are together: the best of those that are not left alone. `None` when there is none.
fn facts(health: &[TrackerHealth]) -> Option<TrackerFacts> {
    if health.is_empty() {
        return None;
    }
    let awake = || health.iter().filter(|tracker| tracker.rests_for.is_none());
    let Some(best) = awake().max_by(|one, other| goodness(one).total_cmp(&goodness(other))) else {
        let rest = |tracker: &TrackerHealth| {
            Some((tracker.rests_for?, tracker.last_error.clone().unwrap_or_default()))
        };
        let rest = health.iter().filter_map(rest).min_by_key(|(left, _)| *left);
        return Some(TrackerFacts { rest, ..TrackerFacts::default() });
    };
    Some(TrackerFacts { answered: best.answered, round_trip: best.round_trip, rest: None })
}

/// Which of two trackers is better: the one that answers more often; of those that do alike, the quicker one.
fn goodness(tracker: &TrackerHealth) -> f64 {
    let slowness = tracker.round_trip.unwrap_or(Duration::MAX).as_secs_f64().min(60.0);
    tracker.answered.unwrap_or(-1.0) - slowness / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracker(answered: Option<f64>, took: u64, rests: Option<u64>) -> TrackerHealth {
        TrackerHealth {
            answered,
            round_trip: Some(Duration::from_millis(took)),
            rests_for: rests.map(Duration::from_secs),
            last_error: rests.map(|seconds| format!("error {seconds}")),
            ..TrackerHealth::default()
        }
    }

    #[test]
    fn an_overlay_is_as_well_as_the_best_of_its_trackers() {
        assert_eq!(facts(&[]), None);
        let best = facts(&[
            tracker(Some(0.5), 5, None),
            tracker(Some(0.9), 70, None),
            tracker(Some(0.9), 30, None),
            tracker(Some(1.0), 1, Some(9)),
        ]);
        let best = best.unwrap();
        assert_eq!(best.answered, Some(0.9));
        assert_eq!(best.round_trip, Some(Duration::from_millis(30)));
        assert_eq!(best.rest, None);
        let resting = [tracker(None, 1, Some(9)), tracker(Some(1.0), 1, Some(4))];
        let rest = facts(&resting).unwrap().rest;
        assert_eq!(rest, Some((Duration::from_secs(4), "error 4".to_owned())));
    }
}
