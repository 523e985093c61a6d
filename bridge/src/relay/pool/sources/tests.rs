//! Whom to try, who makes place, and who is waited for.

use std::{ops::Range, sync::atomic::AtomicBool};

use bytes::Bytes;
use tokio::sync::watch;

use super::*;

struct Idle;

/// It holds something, and gives it when it is told to.
#[derive(Default)]
struct Queue(AtomicBool);

#[async_trait::async_trait]
impl SourceSession for Queue {
    fn has(&self, _: u32) -> bool {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn held(&self) -> u32 {
        7
    }

    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }

    async fn fetch(&self, range: Range<u64>) -> Result<Bytes, SourceError> {
        Err(SourceError::Refused(range))
    }
}

#[async_trait::async_trait]
impl SourceSession for Idle {
    fn has(&self, _: u32) -> bool {
        true
    }

    fn held(&self) -> u32 {
        1
    }

    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }

    async fn fetch(&self, range: Range<u64>) -> Result<Bytes, SourceError> {
        Err(SourceError::Refused(range))
    }
}

fn origin(overlay: &str) -> Origin {
    Origin { overlay: overlay.parse().unwrap(), name: 0 }
}

fn peer(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

/// Connects, and lets the source bring a block in so many milliseconds, for ten seconds.
fn connect(sources: &mut Sources, port: u16, millis: u64, now: Instant) -> SourceId {
    let took = Duration::from_millis(1);
    let id = sources.opened(origin("a"), peer(port), Arc::new(Idle), took, now);
    let pace = &mut sources.get_mut(id).unwrap().pace;
    let mut at = now;
    while at < now + Duration::from_secs(10) {
        pace.asked(1000, at);
        at += Duration::from_millis(millis);
        pace.ended(1000, true, at);
    }
    id
}

#[test]
fn peers_of_the_overlay_that_serves_best_come_first() {
    let now = Instant::now();
    let mut sources = Sources::default();
    sources.learn(&origin("a"), 20.0, &[peer(1)]);
    sources.learn(&origin("b"), 70.0, &[peer(2), peer(3)]);
    let mut picked = Vec::new();
    while let Some((origin, _)) = sources.pick(3, false, now) {
        picked.push(origin.overlay.to_string());
    }
    assert_eq!(picked, ["b", "b", "a"]);
    assert!(sources.pick(9, false, now).is_none());
}

#[test]
fn the_newest_stays_when_it_is_clearly_better_than_the_weakest() {
    let now = Instant::now();
    let mut sources = Sources::default();
    let only = connect(&mut sources, 1, 100, now);
    assert_eq!(sources.weakest(now), None);
    let weak = connect(&mut sources, 2, 500, now);
    assert_eq!(sources.weakest(now), Some((weak, true)));
    let strong = connect(&mut sources, 3, 50, now);
    assert_eq!(sources.weakest(now), Some((weak, false)));
    sources.get_mut(strong).unwrap().leaving = true;
    assert_eq!(sources.weakest(now), Some((weak, true)));
    let same = connect(&mut sources, 4, 490, now);
    assert_eq!(sources.weakest(now), Some((same, true)));
    assert!(sources.connected().contains_key(&only));
}

#[test]
fn what_made_place_is_tried_again_only_after_a_rest_or_in_need() {
    let now = Instant::now();
    let mut sources = Sources::default();
    sources.learn(&origin("a"), 1.0, &[peer(1)]);
    sources.pick(8, false, now).unwrap();
    let id = connect(&mut sources, 1, 100, now);
    let gone = sources.connected()[&id].gone.clone();
    sources.replace(id, now).unwrap();
    assert!(gone.is_cancelled());
    assert!(!sources.places(8, false, now).untried && sources.places(8, true, now).untried);
    assert_eq!(sources.next_retry(now), Some(now + REST));
    assert!(sources.pick(8, false, now).is_none());
    assert!(sources.pick(8, true, now).is_some());
    assert!(sources.pick(8, true, now).is_none());
}

#[test]
fn a_slow_source_is_asked_for_less_ahead() {
    let now = Instant::now();
    let mut sources = Sources::default();
    let slow = connect(&mut sources, 1, 100, now);
    let new = sources.opened(origin("a"), peer(2), Arc::new(Idle), Duration::ZERO, now);
    sources.measure(4 << 20, now);
    let (slow, new) = (&sources.connected()[&slow], &sources.connected()[&new]);
    assert_eq!((slow.allowance, new.allowance), (256 << 10, 512 << 10));
    assert!((slow.throughput / 10_000.0 - 1.0).abs() < 0.1);
    assert!((new.throughput / ASSUMED - 1.0).abs() < 1e-9);
    assert!(slow.has_room(1) && sources.places(8, false, now).unmeasured);
}

#[test]
fn queues_take_no_place_and_are_bounded_on_their_own() {
    let now = Instant::now();
    let mut sources = Sources::default();
    let ports: Vec<_> = (1..=100).map(peer).collect();
    sources.learn(&origin("a"), 1.0, &ports);
    let mut queues = Vec::new();
    while let Some((origin, at)) = sources.pick(2, false, now) {
        let queue = Arc::new(Queue::default());
        sources.opened(origin, at, queue.clone(), Duration::ZERO, now);
        assert_eq!(sources.note_waiting(2, |_| 9, now), None);
        queues.push(queue);
    }
    assert_eq!((queues.len(), sources.waiting()), (8, 8));
    let places = sources.places(2, false, now);
    assert_eq!((places.open, places.untried, places.unmeasured), (0, false, false));
    assert_eq!(sources.weakest(now), None);
    sources.release_all(now);
    assert_eq!(sources.connected().len(), 8);
    let later = now + QUEUE_PATIENCE;
    assert!(sources.note_waiting(2, |_| 9, later).is_some());
    queues[0].0.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(sources.note_waiting(2, |_| 9, later), None);
    assert_eq!(sources.places(2, false, now).open, 1);
}

#[test]
fn who_refuses_again_and_again_is_let_go() {
    let mut now = Instant::now();
    let mut sources = Sources::default();
    let id = sources.opened(origin("a"), peer(1), Arc::new(Idle), Duration::ZERO, now);
    let source = sources.get_mut(id).unwrap();
    let mut rounds = 0;
    while let Some(again) = source.refused(now) {
        assert_eq!(source.refused(now), Some(again), "what is refused at one time counts once");
        assert!(again > now && !source.has_room(1));
        now = again;
        rounds += 1;
    }
    assert_eq!(rounds, MOST_REFUSALS);
    source.gave();
    assert!(source.has_room(1) && source.refused(now).is_some());
}
