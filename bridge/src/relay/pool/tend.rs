//! Tends the connections to sources: whom to try, who makes place, and who holds up the others.

use std::net::SocketAddr;

use p2pbridge_adapters::SourceError;
use tokio::time::{Duration, Instant};

use super::{
    Consumer, Origin,
    demand::Move,
    driver::{Done, Driver, State, TICK},
    sources::{Source, SourceId},
};
use crate::{relay::swarm::View, status::chooser::Way};

/// How long connections to sources are kept when nobody wants anything.
const IDLE: Duration = Duration::from_secs(60);
/// How long what was asked of a source is waited for, when others could bring it sooner.
const LAGGARD: Duration = Duration::from_secs(10);
/// How often trackers are asked for others when nobody who is connected holds what is wanted.
const SEEK: Duration = Duration::from_secs(30);
/// How often laggards are looked for.
const LOOK_FOR_LAGGARDS: Duration = Duration::from_secs(1);

impl Driver {
    /// Takes note of the peers that trackers have named.
    pub(super) fn learn_sources(&mut self) {
        let shared = self.shared.clone();
        for swarm in &shared.sources {
            let main = swarm.name();
            if let Some(name) = shared.names.iter().position(|name| name.urn() == Some(main)) {
                let origin = Origin { overlay: swarm.overlay().clone(), name };
                let view = swarm.view();
                self.sources.learn(&origin, self.score(&origin, &view), &view.peers);
            }
        }
        self.learn_at = Instant::now() + TICK;
    }

    /// How well an origin's overlay serves, for the consumer for whom it does best.
    fn score(&self, origin: &Origin, view: &View) -> f64 {
        let name = &self.shared.names[origin.name];
        let score = |to_consumer: &Consumer| {
            let (from, to) = (&origin.overlay, &to_consumer.overlay);
            let way = Way { from, to, name: name.binding.name(), class: name.class };
            let score = self.shared.common.chooser.score(way, view.facts(), None);
            // A route that is full now is of no use, however good it is.
            let blocked = self.shared.blocked_until(from, to_consumer, Instant::now()).is_some();
            if score.refusal.is_none() && !blocked { score.total } else { 0.0 }
        };
        self.shared.consumers.iter().map(score).fold(0.0, f64::max)
    }

    /// Opens connections when somebody wants something, and lets them go when nobody has for a while.
    pub(super) fn mind_sources(&mut self, wanting: bool, lonely: bool) {
        let now = Instant::now();
        if wanting {
            self.idle_since = None;
            self.follow_demand(lonely, now);
            if self.sources.is_alone() || lonely && self.seek_at <= now {
                self.shared.sources.iter().for_each(|swarm| swarm.hurry());
                self.seek_at = now + SEEK;
            }
            if lonely {
                self.wake_at = self.wake_at.min(self.seek_at);
            }
            for again in [self.sources.next_retry(now), self.sources.next_ask(now)] {
                self.wake_at = again.map_or(self.wake_at, |again| self.wake_at.min(again));
            }
            return;
        }
        let since = *self.idle_since.get_or_insert(now);
        if now.duration_since(since) >= IDLE {
            self.sources.release_all(now);
        }
    }

    /// Adds sources until they can bring what is needed, or lets the weakest go for one that was not tried.
    fn follow_demand(&mut self, lonely: bool, now: Instant) {
        let most = self.shared.common.limits.sources;
        loop {
            match self.demand.next(self.sources.places(most, lonely, now), now) {
                Move::Stay(until) => {
                    self.wake_at = until.map_or(self.wake_at, |until| self.wake_at.min(until));
                    return;
                }
                Move::Add => {
                    let Some((origin, endpoint)) = self.sources.pick(most, lonely, now) else {
                        return;
                    };
                    self.demand.added(now);
                    self.open(origin, endpoint);
                }
                Move::Replace if self.cut_leaving() => self.demand.replaced(true, now),
                Move::Replace => {
                    let Some((id, newest)) = self.sources.weakest(now) else { return };
                    self.demand.replaced(newest, now);
                    if let Some(source) = self.sources.get_mut(id) {
                        source.leaving = true;
                    }
                    self.let_go();
                    return;
                }
            }
        }
    }

    /// Ends connections that were to make place long ago, and still have not brought what they were asked for. Says
    /// whether there were any.
    fn cut_leaving(&mut self) -> bool {
        let connected = self.sources.connected().iter();
        let stuck: Vec<_> = connected.filter(|(_, s)| s.leaving).map(|(id, _)| *id).collect();
        for id in &stuck {
            self.replace_source(*id, "it does not come to an end");
        }
        !stuck.is_empty()
    }

    /// Ends connections that were to make place, and have brought what they were asked for.
    pub(super) fn let_go(&mut self) {
        let done = |source: &Source| source.leaving && source.pace.in_flight() == 0;
        let connected = self.sources.connected().iter();
        let done: Vec<_> = connected.filter(|(_, s)| done(s)).map(|(id, _)| *id).collect();
        for id in done {
            self.replace_source(id, "it is the weakest");
        }
    }

    /// Gives up sources that hold up what others could bring sooner.
    pub(super) fn give_up_laggards(&mut self) {
        let now = Instant::now();
        if self.look_for_laggards_at > now {
            return;
        }
        self.look_for_laggards_at = now + LOOK_FOR_LAGGARDS;
        let shared = self.shared.clone();
        let chunks = |name: usize| shared.names[name].binding.layout.chunk_count();
        if let Some(id) = self.sources.note_waiting(shared.common.limits.sources, chunks, now) {
            self.replace_source(id, "it has not given anything for long, and others may");
        }
        let connected = self.sources.connected().iter();
        let late = connected.filter(|(_, source)| source.pace.waits(now) >= LAGGARD);
        let late: Vec<SourceId> = late.map(|(id, _)| *id).collect();
        for id in late {
            if self.others_are_sooner(id, now) {
                self.replace_source(id, "others bring sooner what it was asked for");
            }
        }
    }

    /// Whether others hold all that a source was asked for, and would bring it in half the time that it has had.
    fn others_are_sooner(&self, id: SourceId, now: Instant) -> bool {
        let shared = &self.shared;
        let Some(late) = self.sources.connected().get(&id) else { return false };
        let patience = late.pace.waits(now).as_secs_f64() / 2.0;
        let quick = |other: &&Source| {
            !other.leaving
                && other.pace.waits(now) < LAGGARD
                && other.pace.expected(late.pace.in_flight(), other.throughput) <= patience
                && shared.may_stand_in(&other.origin.overlay, &late.origin.overlay)
        };
        let others = self.sources.connected().iter().filter(|(other, _)| **other != id);
        let others: Vec<&Source> = others.map(|(_, source)| source).filter(quick).collect();
        let asked = |(number, state): (usize, &State)| {
            matches!(state, State::Fetching { source } if *source == id).then_some(number)
        };
        self.blocks.iter().enumerate().filter_map(asked).all(|number| {
            let block = &shared.grid.blocks()[number];
            others.iter().any(|other| {
                let chunk = shared.names[other.origin.name].places.chunks(block).next();
                chunk.is_some_and(|chunk| other.session.has(chunk))
            })
        })
    }

    fn open(&mut self, origin: Origin, endpoint: SocketAddr) {
        let description = self.shared.names[origin.name].description.clone();
        let leecher = self.shared.common.leechers.get(&origin.overlay).cloned();
        self.jobs.spawn(async move {
            let start = Instant::now();
            let result = match leecher {
                Some(leecher) => leecher.open(description, endpoint).await,
                None => Err(SourceError::Unreachable("the overlay has no leecher face".into())),
            };
            Done::Opened { origin, endpoint, took: start.elapsed(), result }
        });
    }
}
