use std::{collections::VecDeque, sync::Arc};

use futures::future::join_all;
use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// The most messages in any second, both ends counted, by looking at each.
fn busiest_second(times: &[Instant]) -> usize {
    let mut window = VecDeque::new();
    let mut most = 0;
    for time in times {
        window.push_back(*time);
        while window.front().is_some_and(|first| *time - *first > SECOND) {
            window.pop_front();
        }
        most = most.max(window.len());
    }
    most
}

proptest! {
    #[test]
    fn no_second_has_more_than_the_budget(
        per_second in 1u32..400,
        gaps in prop::collection::vec(prop_oneof![
            Just(0u64), 0u64..3_000_000, 0u64..200_000_000, Just(1_000_000_000), Just(999_999_999),
        ], 1..600),
    ) {
        let mut pace = Pace::new(per_second);
        let mut now = Instant::now();
        let mut left = Vec::new();
        for gap in gaps {
            now += Duration::from_nanos(gap);
            let promised = pace.after(0, now);
            match pace.take(now) {
                Ok(()) => {
                    prop_assert_eq!(promised, now);
                    left.push(now);
                }
                Err(at) => {
                    prop_assert!(at > now && at == promised && at - now <= SECOND.mul_f64(1.1));
                    // One that waits as long as it is told, leaves.
                    if gap % 2 == 0 {
                        now = at;
                        prop_assert!(pace.take(now).is_ok());
                        left.push(now);
                    }
                }
            }
        }
        prop_assert!(busiest_second(&left) <= per_second as usize);
    }

    #[test]
    fn most_of_the_budget_can_be_used(per_second in 1u32..5000) {
        let (mut pace, start) = (Pace::new(per_second), Instant::now());
        let mut now = start;
        for _ in 0..per_second * 10 {
            now = pace.after(0, now);
            prop_assert!(pace.take(now).is_ok());
        }
        let rate = f64::from(per_second * 10) / (now - start).as_secs_f64();
        prop_assert!(rate >= 0.5 * f64::from(per_second), "{} {}", per_second, rate);
        if per_second >= 10 {
            prop_assert!(rate >= 0.85 * f64::from(per_second), "{} {}", per_second, rate);
        }
    }
}

#[test]
fn what_is_behind_others_is_foretold() {
    let (mut pace, mut now) = (Pace::new(10), Instant::now());
    pace.take(now).unwrap();
    let third = pace.after(2, now);
    for _ in 0..3 {
        now = pace.after(0, now);
        pace.take(now).unwrap();
    }
    assert_eq!(now, third);
}

/// Asks as often as told at once; each message that left, when it did, and how many were shed.
async fn flood(limiter: &Arc<Limiter>, questions: usize, patience: Duration) -> Vec<Instant> {
    let deadline = Instant::now() + patience;
    let each = (0..questions).map(|_| async {
        let ticket = limiter.admit(deadline).await.ok()?;
        ticket.message(deadline).await.ok()?;
        Some(Instant::now())
    });
    let mut left: Vec<_> = join_all(each).await.into_iter().flatten().collect();
    left.sort();
    left
}

#[tokio::test(start_paused = true)]
async fn a_flood_leaves_in_order_within_the_budget_and_the_rest_is_shed() {
    let limiter = Arc::new(Limiter::new(Budget { per_second: 10, in_flight: 16 }));
    let left = flood(&limiter, 5000, 5 * SECOND).await;
    assert!((25..=50).contains(&left.len()), "{}", left.len());
    assert!(busiest_second(&left) <= 10);
    assert_eq!((limiter.sent(), limiter.shed()), (left.len() as u64, 5000 - left.len() as u64));
    // The queues are empty again, and what could not wait was not kept waiting.
    assert_eq!(limiter.queue.load(Ordering::Relaxed), 0);
    assert_eq!(limiter.waiting.load(Ordering::Relaxed), 0);
    let start = Instant::now();
    assert_eq!(flood(&limiter, 1, Duration::ZERO).await.len(), 0);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn questions_in_flight_are_bounded_and_those_taken_back_leave_no_trace() {
    let limiter = Limiter::new(Budget { per_second: 1000, in_flight: 2 });
    let soon = || Instant::now() + SECOND;
    let (one, two) = (limiter.admit(soon()).await.unwrap(), limiter.admit(soon()).await.unwrap());
    let shed = limiter.admit(soon()).await.err().unwrap();
    let fault = Fault::from(shed);
    assert_eq!((fault.code, fault.retry_after), (ErrorCode::Overloaded, Some(SECOND)));
    assert_eq!(limiter.shed(), 1);
    let third = limiter.admit(soon());
    drop(one);
    let third = third.await.unwrap();
    assert!(third.message(soon()).await.is_ok() && third.begun() && !two.begun());
    assert!(timeout_at(Instant::now(), limiter.admit(soon())).await.is_err());
    assert_eq!(limiter.waiting.load(Ordering::Relaxed), 0);
    drop((two, third));
    assert!(limiter.admit(soon()).await.is_ok());
    assert_eq!((limiter.sent(), limiter.shed()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_turn_is_not_on_its_way() {
    let limiter = Limiter::new(Budget { per_second: 1, in_flight: 2 });
    let ticket = limiter.admit(Instant::now() + 9 * SECOND).await.unwrap();
    assert_eq!(ticket.since_last(), None);
    let start = Instant::now();
    for _ in 0..2 {
        ticket.message(Instant::now() + 9 * SECOND).await.unwrap();
        assert_eq!(ticket.since_last(), Some(Duration::ZERO));
    }
    assert!(start.elapsed() >= SECOND);
    tokio::time::advance(SECOND / 4).await;
    assert_eq!(ticket.since_last(), Some(SECOND / 4));
}

#[tokio::test(start_paused = true)]
async fn a_repetition_that_may_not_leave_is_no_question_shed() {
    let limiter = Limiter::new(Budget { per_second: 1, in_flight: 2 });
    let ticket = limiter.admit(Instant::now() + SECOND).await.unwrap();
    ticket.message(Instant::now() + SECOND).await.unwrap();
    let shed = ticket.message(Instant::now() + SECOND / 2).await.unwrap_err();
    assert!(shed.retry_after > SECOND / 2 && limiter.shed() == 0);
    let other = limiter.admit(Instant::now() + SECOND).await.unwrap();
    assert!(other.message(Instant::now() + SECOND / 2).await.is_err());
    assert_eq!((limiter.sent(), limiter.shed()), (1, 1));
}
