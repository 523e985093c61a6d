//! One tracker: how it is doing, when it may be asked again, and how often.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use p2pbridge_proto::{ErrorCode, Fault};
use tokio::{net::lookup_host, time::Instant};

use super::{Problem, http::Pool, udp::Lines};
use crate::{
    BadInput, Budget, Flaw, Party, TrackerHealth, bittorrent::config::TrackerUrl, budget::Limiter,
};

/// The longest time for which a tracker that does not answer is left alone.
pub(super) const MAX_REST: Duration = Duration::from_secs(1800);
/// How long its addresses are believed.
const ADDRESSES_LIFE: Duration = Duration::from_secs(60);
/// The most of its addresses that are tried in turn.
const MAX_ADDRESSES: usize = 16;
/// The weight of one more question in the share of those that were answered.
const WEIGHT: f64 = 1.0 / 16.0;

pub(super) struct Tracker {
    /// Its place in the configuration.
    pub(super) id: usize,
    pub(super) url: TrackerUrl,
    /// Connections over UDP.
    pub(super) lines: Lines,
    /// Connections over TCP.
    pub(super) pool: Pool,
    pub(super) limiter: Limiter,
    max_rest: Duration,
    addresses: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
    resolving: tokio::sync::Mutex<()>,
    bad_input: Arc<BadInput>,
    state: Mutex<State>,
}

/// A circuit breaker: after failures the tracker rests, then one question probes it, and the others wait for what comes
/// of that.
#[derive(Default)]
struct State {
    health: TrackerHealth,
    /// Failures in a row, where those of questions that were under way at the same time count once.
    rounds: u32,
    rests_until: Option<Instant>,
    probed: bool,
}

/// Leave to ask a tracker once.
pub(super) struct Pass<'a> {
    tracker: &'a Tracker,
    rounds: u32,
    probe: bool,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.tracker.state().probed = false;
        }
    }
}

/// How long an answer may take at least, where there is time for it.
const ANSWER_TIME: Duration = Duration::from_secs(1);

impl Tracker {
    pub(super) fn new(
        id: usize,
        url: TrackerUrl,
        budget: Budget,
        max_rest: Duration,
        bad_input: Arc<BadInput>,
    ) -> Self {
        Self {
            id,
            pool: Pool::new(&url, budget.in_flight),
            url,
            lines: Lines::default(),
            limiter: Limiter::new(budget),
            max_rest,
            addresses: Mutex::default(),
            resolving: tokio::sync::Mutex::default(),
            bad_input,
            state: Mutex::default(),
        }
    }

    /// Its addresses; the first of each family changes after failures.
    pub(super) async fn addresses(&self) -> Result<Vec<SocketAddr>, Problem> {
        let known = self.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut addresses = match known {
            Some((until, addresses)) if Instant::now() < until => addresses,
            known => self.resolve(known.map(|(_, addresses)| addresses)).await?,
        };
        let failures = usize::try_from(self.state().rounds).unwrap_or(0);
        let shift = failures.checked_rem(addresses.len()).unwrap_or(0);
        addresses.rotate_left(shift);
        Ok(addresses)
    }

    /// Looks its name up; one question at a time does, and while nobody tells, the addresses of before are good.
    async fn resolve(&self, before: Option<Vec<SocketAddr>>) -> Result<Vec<SocketAddr>, Problem> {
        let turn = match (self.resolving.try_lock(), before.clone()) {
            (Ok(turn), _) => turn,
            (Err(_), Some(before)) => return Ok(before),
            (Err(_), None) => self.resolving.lock().await,
        };
        let known = self.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((until, found)) = known
            && Instant::now() < until
        {
            return Ok(found);
        }
        let found: Vec<_> = match (lookup_host((self.url.host(), self.url.port())).await, before) {
            (Ok(found), _) => found.take(MAX_ADDRESSES).collect(),
            (Err(_), Some(before)) => before,
            (Err(error), None) => {
                let text = format!("cannot resolve {}: {error}", self.url.host());
                return Err(Problem::failed(ErrorCode::Unavailable, text));
            }
        };
        let until = Instant::now().checked_add(ADDRESSES_LIFE);
        *self.addresses.lock().unwrap_or_else(PoisonError::into_inner) =
            until.map(|until| (until, found.clone()));
        drop(turn);
        Ok(found)
    }

    /// The latest moment at which a message may leave whose answer is waited for until a deadline.
    pub(super) fn leave_by(&self, deadline: Instant) -> Instant {
        let now = Instant::now();
        let left = deadline.saturating_duration_since(now);
        let trip = self.state().health.round_trip.unwrap_or_default();
        let reserve = trip.saturating_mul(2).max(ANSWER_TIME).min(left / 2);
        now.checked_add(left.saturating_sub(reserve)).unwrap_or(deadline)
    }

    /// Leave to ask it now; after a rest, one at a time.
    pub(super) fn pass(&self, now: Instant) -> Result<Pass<'_>, Fault> {
        let mut state = self.state();
        if let Some(fault) = self.rest(&state, now) {
            return Err(fault);
        }
        let probe = state.rests_until.is_some();
        state.probed |= probe;
        Ok(Pass { tracker: self, rounds: state.rounds, probe })
    }

    /// Takes down how it answered. What was not sent says nothing of it.
    pub(super) fn note<T>(&self, pass: Pass<'_>, result: &Result<T, Problem>) {
        let mut state = self.state();
        let answered = match result {
            Err(Problem::Shed(_)) => return drop(state),
            Ok(_) | Err(Problem::Refused(_)) => true,
            Err(Problem::Failed(fault)) => {
                if fault.code == ErrorCode::BadAnswer {
                    self.bad_input.add(Party::Tracker, Flaw::Malformed);
                }
                false
            }
        };
        let health = &mut state.health;
        let this = if answered { 1.0 } else { 0.0 };
        health.answered =
            Some(health.answered.map_or(this, |share| share + WEIGHT * (this - share)));
        health.last_error = match result {
            Ok(_) => None,
            Err(problem) => Some(problem.fault().text.clone()),
        };
        if answered {
            health.last_answer = Some(SystemTime::now());
            health.consecutive_failures = 0;
            state.rounds = 0;
            state.rests_until = None;
        } else if let Err(problem) = result {
            health.consecutive_failures = health.consecutive_failures.saturating_add(1);
            if pass.rounds == state.rounds {
                state.rounds = state.rounds.saturating_add(1);
                let asked_for = problem.fault().retry_after.unwrap_or_default();
                let rest = rest(state.rounds).max(asked_for).min(self.max_rest);
                state.rests_until = Instant::now().checked_add(rest);
            }
        }
        drop(state);
    }

    /// Takes down how long an answer took.
    pub(super) fn note_trip<T>(&self, result: &Result<T, Problem>, took: Option<Duration>) {
        if matches!(result, Ok(_) | Err(Problem::Refused(_))) {
            let mut state = self.state();
            state.health.round_trip = took.or(state.health.round_trip);
        }
    }

    /// Why it is not asked now, if it is left alone.
    pub(super) fn resting(&self, now: Instant) -> Option<Fault> {
        self.rest(&self.state(), now)
    }

    /// Whether its rest is over, and it has not answered since.
    pub(super) fn is_doubtful(&self) -> bool {
        self.state().rests_until.is_some()
    }

    fn rest(&self, state: &State, now: Instant) -> Option<Fault> {
        let left = state.rests_until?.saturating_duration_since(now);
        if left.is_zero() && !state.probed {
            return None;
        }
        let last = state.health.last_error.as_deref().unwrap_or("no answer");
        let text = format!("{} is left alone for a while: {last}", self.url.host());
        let mut fault = Fault::new(ErrorCode::Unavailable, text);
        fault.retry_after = Some(left.max(Duration::from_secs(1)));
        Some(fault)
    }

    pub(super) fn health(&self) -> TrackerHealth {
        let state = self.state();
        let left = state.rests_until.map(|until| until.saturating_duration_since(Instant::now()));
        TrackerHealth {
            url: self.url.to_string(),
            rests_for: left.filter(|left| !left.is_zero()),
            budget: self.limiter.budget(),
            sent: self.limiter.sent(),
            shed: self.limiter.shed(),
            ..state.health.clone()
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a tracker is left alone after so many failures: twice only shortly, then 15·2^n seconds (as BEP 15).
fn rest(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        1 => Duration::from_secs(1),
        2 => Duration::from_secs(5),
        more => Duration::from_secs(15 << (more - 3).min(7)).min(MAX_REST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracker(max_rest: u64) -> Tracker {
        let url = "http://t.example/announce".parse().unwrap();
        let rest = Duration::from_secs(max_rest);
        Tracker::new(0, url, Budget::default(), rest, Arc::default())
    }

    fn fail(tracker: &Tracker, pass: Pass<'_>) {
        let failed = Problem::failed(ErrorCode::Unavailable, "gone");
        tracker.note(pass, &Err::<(), _>(failed));
    }

    #[test]
    fn answers_that_cannot_be_read_are_counted() {
        let tracker = tracker(600);
        for code in [ErrorCode::Unavailable, ErrorCode::BadAnswer] {
            let pass = Pass { tracker: &tracker, rounds: 0, probe: false };
            tracker.note(pass, &Err::<(), _>(Problem::failed(code, "no")));
        }
        assert_eq!(tracker.bad_input.of(Party::Tracker, Flaw::Malformed), 1);
    }

    #[test]
    fn rests_grow_up_to_half_an_hour() {
        let rests: Vec<_> = (0..12).map(|failures| rest(failures).as_secs()).collect();
        assert_eq!(rests, [0, 1, 5, 15, 30, 60, 120, 240, 480, 960, 1800, 1800]);
        assert_eq!(rest(u32::MAX), MAX_REST);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_rest_one_question_probes_and_the_others_are_told_at_once() {
        let tracker = tracker(15);
        let (one, two) =
            (tracker.pass(Instant::now()).unwrap(), tracker.pass(Instant::now()).unwrap());
        fail(&tracker, one);
        // Under way at the same time: the same failure.
        fail(&tracker, two);
        assert_eq!(tracker.health().consecutive_failures, 2);
        assert_eq!(tracker.health().rests_for, Some(Duration::from_secs(1)));
        let fault = tracker.pass(Instant::now()).err().unwrap();
        assert_eq!(
            (fault.code, fault.retry_after),
            (ErrorCode::Unavailable, Some(Duration::from_secs(1)))
        );
        tokio::time::advance(Duration::from_secs(1)).await;
        let probe = tracker.pass(Instant::now()).unwrap();
        assert!(tracker.pass(Instant::now()).is_err() && tracker.resting(Instant::now()).is_some());
        // A probe that is taken back, or that the budget does not allow, says nothing: the next one may.
        drop(probe);
        let probe = tracker.pass(Instant::now()).unwrap();
        let shed = Problem::Shed(Fault::new(ErrorCode::Overloaded, "budget"));
        tracker.note(probe, &Err::<(), _>(shed));
        let probe = tracker.pass(Instant::now()).unwrap();
        fail(&tracker, probe);
        assert_eq!(tracker.health().rests_for, Some(Duration::from_secs(5)));
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(15)).await;
            fail(&tracker, tracker.pass(Instant::now()).unwrap());
        }
        assert_eq!(tracker.health().rests_for, Some(Duration::from_secs(15)));
        tokio::time::advance(Duration::from_secs(15)).await;
        let probe = tracker.pass(Instant::now()).unwrap();
        tracker.note(probe, &Ok(()));
        tracker.note_trip(&Ok(()), Some(Duration::from_millis(3)));
        let (one, two) = (tracker.pass(Instant::now()), tracker.pass(Instant::now()));
        assert!(one.is_ok() && two.is_ok() && !tracker.is_doubtful());
        let health = tracker.health();
        assert_eq!((health.consecutive_failures, health.rests_for), (0, None));
        assert_eq!(health.round_trip, Some(Duration::from_millis(3)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_share_of_answers_follows_what_is_answered() {
        let tracker = tracker(0);
        let ask = |good: bool| {
            let pass = tracker.pass(Instant::now()).unwrap();
            if good {
                tracker.note(pass, &Ok(()))
            } else {
                fail(&tracker, pass)
            }
            tracker.health().answered.unwrap()
        };
        assert!(tracker.health().answered.is_none());
        assert!((ask(true) - 1.0).abs() < 1e-9);
        let worse: Vec<_> = (0..40).map(|_| ask(false)).collect();
        assert!(worse.is_sorted_by(|a, b| a > b) && worse[39] < 0.1 && worse[9] > 0.5, "{worse:?}");
        let better: Vec<_> = (0..60).map(|_| ask(true)).collect();
        assert!(better[59] > 0.95, "{better:?}");
    }
}
