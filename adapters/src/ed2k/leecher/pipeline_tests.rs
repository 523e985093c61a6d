#![allow(clippy::single_range_in_vec_init, reason = "ranges are what is asked for")]

use proptest::prelude::*;

use super::*;
use crate::ed2k::wire::packet::deflate;

type Answer = oneshot::Receiver<Result<Bytes, SourceError>>;

fn fetch(pipeline: &mut Pipeline, range: Range<u64>) -> Answer {
    let (reply, answer) = oneshot::channel();
    pipeline.add(range, reply);
    answer
}

fn content(range: Range<u64>) -> Bytes {
    range.map(|at| (at / 7 % 251) as u8).collect()
}

fn all_asked(pipeline: &mut Pipeline, now: Instant) -> Vec<Range<u64>> {
    let mut ranges = Vec::new();
    loop {
        let more = pipeline.ask(now);
        if more.is_empty() {
            return ranges;
        }
        ranges.extend(more);
    }
}

#[tokio::test]
async fn a_fetch_is_cut_into_blocks_and_put_together_from_pieces_in_any_order() {
    let now = Instant::now();
    let mut pipeline = Pipeline::new(Asked::default(), Waste::default());
    let mut answer = fetch(&mut pipeline, 100..262_244);
    let ranges = pipeline.ask(now);
    assert_eq!(ranges, [100..100 + BLOCK, 100 + BLOCK..262_244]);
    let mut pieces: Vec<u64> = (100..262_244).step_by(10_000).collect();
    pieces.reverse();
    for at in pieces {
        assert!(answer.try_recv().is_err());
        let end = (at + 10_000).min(262_244);
        assert_eq!(pipeline.take(at, &content(at..end), now), Ok(end - at));
        // Once more: nothing new.
        assert_eq!(pipeline.take(at, &content(at..end), now), Ok(0));
    }
    assert_eq!(answer.try_recv().unwrap(), Ok(content(100..262_244)));
    assert!(!pipeline.is_waiting() && pipeline.fetches() == 0);
    assert_eq!((pipeline.unasked, pipeline.waste.total()), (262_144, 262_144));
}

#[tokio::test]
async fn compressed_and_plain_ranges_come_interleaved() {
    let now = Instant::now();
    let mut pipeline = Pipeline::new(Asked::default(), Waste::default());
    let mut one = fetch(&mut pipeline, 0..100_000);
    let mut two = fetch(&mut pipeline, 100_000..200_000);
    let mut three = fetch(&mut pipeline, 200_000..300_000);
    assert_eq!(pipeline.ask(now).len(), 3);
    let first = Bytes::from(deflate(&content(0..100_000)).unwrap());
    let third = Bytes::from(deflate(&content(200_000..300_000)).unwrap());
    let half = |zlib: &Bytes| (zlib.slice(..zlib.len() / 2), zlib.slice(zlib.len() / 2..));
    let mut brought = 0;
    for piece in [half(&first).0, half(&first).1] {
        let length = u32::try_from(first.len()).unwrap();
        brought += pipeline.take_compressed(0, length, &piece, now).unwrap();
        let length = u32::try_from(third.len()).unwrap();
        let of_third = if piece == half(&first).0 { half(&third).0 } else { half(&third).1 };
        pipeline.take_compressed(200_000, length, &of_third, now).unwrap();
        pipeline
            .take(
                100_000 + brought / 2,
                &content(100_000 + brought / 2..100_100 + brought / 2),
                now,
            )
            .unwrap();
    }
    assert_eq!(brought, 100_000);
    assert_eq!(one.try_recv().unwrap(), Ok(content(0..100_000)));
    assert_eq!(three.try_recv().unwrap(), Ok(content(200_000..300_000)));
    assert!(two.try_recv().is_err());
    pipeline.take(100_000, &content(100_000..200_000), now).unwrap();
    assert_eq!(two.try_recv().unwrap(), Ok(content(100_000..200_000)));
}

#[tokio::test]
async fn bad_streams_and_floods_are_errors() {
    let now = Instant::now();
    let mut pipeline = Pipeline::new(Asked::default(), Waste::default());
    let _answer = fetch(&mut pipeline, 0..1000);
    pipeline.ask(now);
    let bad = Bytes::from_static(b"this is no zlib stream");
    assert!(pipeline.take_compressed(0, 22, &bad, now).is_err());
    let mut pipeline = Pipeline::new(Asked::default(), Waste::default());
    let _answer = fetch(&mut pipeline, 0..1000);
    pipeline.ask(now);
    let block = Bytes::from(vec![0; 1 << 20]);
    for _ in 0..8 {
        assert_eq!(pipeline.take(5000, &block, now), Ok(0));
    }
    assert!(pipeline.take(5000, &Bytes::from_static(b"x"), now).is_err());
}

#[tokio::test]
async fn what_runs_over_the_end_is_cut_and_counted() {
    let now = Instant::now();
    let mut pipeline = Pipeline::new(Asked::default(), Waste::default());
    let mut answer = fetch(&mut pipeline, 1000..2000);
    pipeline.ask(now);
    assert_eq!(pipeline.take(500, &content(500..2500), now), Ok(1000));
    assert_eq!(answer.try_recv().unwrap(), Ok(content(1000..2000)));
    assert_eq!((pipeline.unasked, pipeline.waste.total()), (1000, 1000));
}

#[tokio::test]
async fn the_same_range_is_asked_once_for_two_and_later_in_other_pieces() {
    let now = Instant::now();
    let asked = Asked::default();
    let mut pipeline = Pipeline::new(asked.clone(), Waste::default());
    let mut one = fetch(&mut pipeline, 0..1000);
    let mut two = fetch(&mut pipeline, 0..1000);
    assert_eq!(all_asked(&mut pipeline, now), [0..1000]);
    pipeline.take(0, &content(0..400), now).unwrap();
    let mut three = fetch(&mut pipeline, 0..1000);
    assert_eq!(all_asked(&mut pipeline, now), [0..500, 500..1000]);
    pipeline.take(400, &content(400..1000), now).unwrap();
    assert_eq!(one.try_recv().unwrap(), Ok(content(0..1000)));
    assert_eq!(two.try_recv().unwrap(), Ok(content(0..1000)));
    pipeline.take(0, &content(0..1000), now).unwrap();
    assert_eq!(three.try_recv().unwrap(), Ok(content(0..1000)));
    let _four = fetch(&mut pipeline, 0..1000);
    assert_eq!(all_asked(&mut pipeline, now), [0..501, 501..1000]);
    // Other files of the client, which begin alike.
    for _ in 0..400 {
        let mut pipeline = Pipeline::new(asked.clone(), Waste::default());
        let _other = fetch(&mut pipeline, 0..1000);
        assert_eq!(all_asked(&mut pipeline, now).len(), 2);
    }
    assert_eq!(asked.count(), 1 + 2 * 402);
}

#[tokio::test]
async fn a_lost_slot_refuses_and_excuses_what_was_under_way() {
    let now = Instant::now();
    let mut pipeline = Pipeline::new(Asked::default(), Waste::default());
    let mut one = fetch(&mut pipeline, 0..1000);
    pipeline.ask(now);
    pipeline.take(0, &content(0..100), now).unwrap();
    pipeline.take(900, &content(900..1000), now).unwrap();
    assert_eq!(pipeline.waste.total(), 0);
    pipeline.refuse();
    assert_eq!(one.try_recv().unwrap(), Err(SourceError::Refused(0..1000)));
    assert_eq!(pipeline.waste.total(), 200, "what it had is lost");
    pipeline.take(100, &content(100..900), now).unwrap();
    assert_eq!((pipeline.unasked, pipeline.is_waiting()), (0, false));
    assert_eq!(pipeline.waste.total(), 1000);
    let _again = fetch(&mut pipeline, 0..1000);
    assert_eq!(all_asked(&mut pipeline, now), [0..1000]);
}

#[tokio::test]
async fn what_nobody_waits_for_is_not_asked_and_not_counted_when_it_comes() {
    let now = Instant::now();
    let mut pipeline = Pipeline::new(Asked::default(), Waste::default());
    let one = fetch(&mut pipeline, 0..1000);
    pipeline.ask(now);
    pipeline.take(0, &content(0..10), now).unwrap();
    let two = fetch(&mut pipeline, 5000..6000);
    drop((one, two));
    pipeline.withdraw();
    assert!(!pipeline.has_todo() && pipeline.fetches() == 0 && pipeline.is_waiting());
    assert_eq!(pipeline.waste.total(), 10);
    assert_eq!(pipeline.take(10, &content(10..1000), now), Ok(990));
    assert!(!pipeline.is_waiting());
    assert_eq!((pipeline.unasked, pipeline.waste.total()), (0, 1000));
}

#[tokio::test]
async fn what_no_fetch_gives_is_wasted_in_every_form() {
    let now = Instant::now();
    let zlib = Bytes::from(deflate(&content(0..1000)).unwrap());
    let whole = u32::try_from(zlib.len()).unwrap();
    let asked = || {
        let mut pipeline = Pipeline::new(Asked::default(), Waste::default());
        let answer = fetch(&mut pipeline, 0..1000);
        pipeline.ask(now);
        (pipeline, answer)
    };
    let (mut pipeline, answer) = asked();
    assert_eq!(pipeline.take_compressed(5000, whole, &zlib, now), Ok(0));
    assert_eq!(pipeline.waste.total(), u64::from(whole), "a stream of nothing that was asked for");
    drop(answer);
    pipeline.withdraw();
    assert_eq!(pipeline.take_compressed(0, whole, &zlib, now), Ok(1000));
    assert_eq!(pipeline.waste.total(), u64::from(whole) + 1000);

    let (mut pipeline, answer) = asked();
    drop(answer);
    pipeline.take(0, &content(0..1000), now).unwrap();
    assert_eq!(pipeline.waste.total(), 1000, "nobody waits for the answer");

    let (mut pipeline, _answer) = asked();
    pipeline.take(0, &content(0..300), now).unwrap();
    pipeline.fail(&SourceError::Closed("test".into()));
    assert_eq!((pipeline.waste.total(), pipeline.is_waiting()), (300, true));
    assert_eq!(pipeline.take(300, &content(300..1000), now), Ok(700));
    assert_eq!((pipeline.waste.total(), pipeline.is_waiting()), (1000, false));
    assert_eq!(pipeline.unasked, 0, "it was asked for");
}

#[tokio::test]
async fn the_window_follows_the_speed() {
    let start = Instant::now();
    let mut pipeline = Pipeline::new(Asked::default(), Waste::default());
    let mut answers: Vec<Answer> =
        (0..200).map(|at| fetch(&mut pipeline, at * BLOCK..(at + 1) * BLOCK)).collect();
    let mut out: VecDeque<Range<u64>> = all_asked(&mut pipeline, start).into();
    assert_eq!(out.len(), 3);
    for _ in 0..100 {
        let range = out.pop_front().unwrap();
        pipeline.take(range.start, &content(range), start).unwrap();
        out.extend(all_asked(&mut pipeline, start));
    }
    assert_eq!(out.len() as u64, MAX_WINDOW / BLOCK);
    for _ in 0..60 {
        let range = out.pop_front().unwrap();
        let later = start + LATE * 2;
        pipeline.take(range.start, &content(range), later).unwrap();
        out.extend(all_asked(&mut pipeline, start));
    }
    assert_eq!(out.len(), 3);
    answers.clear();
}

proptest! {
    #[test]
    fn every_fetch_gets_its_bytes_whatever_comes_in_between(
        fetches in prop::collection::vec((0u64..400_000, 1u64..200_000), 1..6),
        noise in prop::collection::vec((0u64..700_000, 1usize..50_000), 0..30),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let now = runtime.block_on(async { Instant::now() });
        let mut pipeline = Pipeline::new(Asked::default(), Waste::default());
        let mut answers: Vec<(Range<u64>, Answer)> = Vec::new();
        for (at, length) in fetches {
            answers.push((at..at + length, fetch(&mut pipeline, at..at + length)));
        }
        let mut noise = noise.into_iter();
        let mut came = 0;
        loop {
            let ranges = pipeline.ask(now);
            if ranges.is_empty() && !pipeline.is_waiting() {
                break;
            }
            if let Some((at, length)) = noise.next() {
                came += length as u64;
                pipeline.take(at, &content(at..at + length as u64), now).unwrap();
            }
            for range in ranges {
                let middle = (range.start + range.end) / 2;
                came += range.end - range.start + 1;
                pipeline.take(middle, &content(middle..range.end), now).unwrap();
                pipeline.take(range.start, &content(range.start..middle + 1), now).unwrap();
            }
        }
        let mut given = 0;
        for (range, mut answer) in answers {
            given += range.end - range.start;
            prop_assert_eq!(answer.try_recv().unwrap(), Ok(content(range)));
        }
        // What is in two fetches came once for both.
        prop_assert!(came <= given + pipeline.waste.total(), "{} came", came);
    }
}
