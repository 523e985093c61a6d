use proptest::prelude::*;

use super::*;

fn id(text: &str) -> OverlayId {
    text.parse().unwrap()
}

fn good(from: &str) -> Candidate {
    Candidate {
        from: id(from),
        to: id("z"),
        name: Name::btih([1; 20]),
        class: ContentClass::Video,
        route: Some(RouteFacts {
            direct: false,
            spare: Some(5 << 20),
            cost: 0.05,
            meant_for: Some(true),
        }),
        trackers: Some(TrackerFacts {
            answered: Some(0.9),
            round_trip: Some(Duration::from_millis(200)),
            rest: None,
        }),
        swarm: Some(SwarmFacts { seeds: Some(3), peers: 10 }),
        closed: None,
    }
}

#[test]
fn a_score_is_the_sum_of_its_terms_and_each_can_be_read() {
    let score = score(&Weights::default(), good("a"));
    let told: Vec<_> =
        score.terms.iter().map(|t| format!("{} {} {:.1}", t.what, t.value, t.points)).collect();
    assert_eq!(
        told,
        [
            "health 90 % answered 27.0",
            "round_trip 200.0 ms 5.0",
            "seeds 3 seeds, 10 peers known 10.0",
            "bandwidth 5.00 MiB/s spare 5.0",
            "cost 0.05 a GiB 7.5",
            "class meant for video 10.0",
        ]
    );
    assert!((score.total - 64.5).abs() < 1e-9 && score.refusal.is_none());
}

#[test]
fn what_cannot_serve_says_why_and_stands_last() {
    let weights = Weights::default();
    let no_route = Candidate { route: None, ..good("a") };
    let closed = Candidate { closed: Some("it is private (BEP 27)".into()), ..good("b") };
    let rest = Some((Duration::from_millis(11_200), "connection refused".to_owned()));
    let trackers = Some(TrackerFacts { rest, ..TrackerFacts::default() });
    let down = Candidate { swarm: None, trackers: trackers.clone(), ..good("c") };
    let new = Candidate { swarm: None, ..good("d") };
    let empty = Candidate { swarm: Some(SwarmFacts::default()), ..good("e") };
    let known = Candidate { trackers, ..good("f") };
    let ranked = rank(&weights, [no_route, closed, down, new, empty, known]);
    assert_eq!(ranked[0].from, id("f"));
    assert_eq!(ranked[0].terms[0].value, "its trackers rest for 12 s: connection refused");
    let refusal = |from: &str| {
        let of = ranked.iter().find(|score| score.from == id(from)).unwrap();
        of.refusal.clone().unwrap_or_default()
    };
    assert_eq!(refusal("a"), "no route from a to z");
    assert_eq!(refusal("b"), "it is private (BEP 27)");
    assert_eq!(refusal("c"), "no peer is known: its trackers rest for 12 s: connection refused");
    assert_eq!(refusal("d"), "no peer is known: its trackers have not answered yet");
    assert_eq!(refusal("e"), "no peer is known");
    assert_eq!(refusal("f"), "");
}

#[test]
fn those_that_are_alike_stand_in_the_order_of_their_ids() {
    let ranked = rank(&Weights::default(), [good("c"), good("a"), good("b")]);
    let order: Vec<_> = ranked.iter().map(|score| score.from.as_str()).collect();
    assert_eq!(order, ["a", "b", "c"]);
}

#[test]
fn a_class_is_that_of_the_biggest_file() {
    use ContentClass as C;
    let of = |files: &[(&str, u64)]| C::of(files.iter().copied());
    assert_eq!(of(&[("a/b.MKV", 9), ("a/b.nfo", 1)]), C::Video);
    assert_eq!(of(&[("x.flac", 5), ("y.flac", 6), ("cover.png", 1)]), C::Audio);
    assert_eq!(of(&[("debian.iso", 1)]), C::Archive);
    assert_eq!(of(&[("a.pdf", 2), ("b.mkv", 2)]), C::Document);
    assert_eq!(of(&[("a.deb", 2)]), C::Software);
    assert_eq!(of(&[("holiday.v2/photo.jpg", 2)]), C::Image);
    assert_eq!(of(&[("holiday.mkv/photo", 2)]), C::Other);
    assert_eq!(of(&[]), C::Other);
}

#[test]
fn weights_that_make_no_sense_are_refused() {
    assert_eq!(Weights::default().check(), Ok(()));
    for (weights, word) in [
        (Weights { seeds: -1.0, ..Weights::default() }, "selection.seeds is -1: expected 0"),
        (Weights { class: f64::NAN, ..Weights::default() }, "selection.class is NaN"),
        (Weights { usual_cost: 0.0, ..Weights::default() }, "selection.usual_cost is 0"),
    ] {
        assert!(weights.check().unwrap_err().starts_with(word));
    }
}

/// One respect in which a candidate can be better.
#[derive(Debug, Clone, Copy)]
enum Better {
    Answered(f64),
    RoundTrip(u64),
    NoRest,
    Seeds(u32),
    Peers(u32),
    Spare(u64),
    NoLimit,
    Cheaper(f64),
    MeantFor,
}

fn better() -> impl Strategy<Value = Better> {
    prop_oneof![
        (0.0..1.0f64).prop_map(Better::Answered),
        (0..5_000u64).prop_map(Better::RoundTrip),
        Just(Better::NoRest),
        (0..1_000u32).prop_map(Better::Seeds),
        (0..1_000u32).prop_map(Better::Peers),
        (0..u64::MAX / 2).prop_map(Better::Spare),
        Just(Better::NoLimit),
        (0.0..1.0f64).prop_map(Better::Cheaper),
        Just(Better::MeantFor),
    ]
}

fn any_candidate() -> impl Strategy<Value = Candidate> {
    let route = (prop::option::of(0..u64::MAX / 2), 0.0..10.0f64, prop::option::of(any::<bool>()));
    let rest = prop::option::of((0..1_000u64).prop_map(|s| (Duration::from_secs(s), "x".into())));
    let trackers = (prop::option::of(0.0..1.0f64), prop::option::of(0..10_000u64), rest);
    let swarm = (prop::option::of(0..1_000u32), 0..1_000u32);
    (route, trackers, swarm).prop_map(|(route, trackers, swarm)| Candidate {
        route: Some(RouteFacts {
            direct: false,
            spare: route.0,
            cost: route.1,
            meant_for: route.2,
        }),
        trackers: Some(TrackerFacts {
            answered: trackers.0,
            round_trip: trackers.1.map(Duration::from_millis),
            rest: trackers.2,
        }),
        swarm: Some(SwarmFacts { seeds: swarm.0, peers: swarm.1 }),
        ..good("a")
    })
}

fn improve(candidate: &Candidate, how: Better) -> Candidate {
    let mut after = candidate.clone();
    let trackers = after.trackers.as_mut().unwrap();
    let (route, swarm) = (after.route.as_mut().unwrap(), after.swarm.as_mut().unwrap());
    match how {
        Better::Answered(by) => trackers.answered = trackers.answered.map(|a| (a + by).min(1.0)),
        Better::RoundTrip(by) => {
            let less = |took: Duration| took.saturating_sub(Duration::from_millis(by));
            trackers.round_trip = trackers.round_trip.map(less);
        }
        Better::NoRest => trackers.rest = None,
        Better::Seeds(by) => swarm.seeds = swarm.seeds.map(|seeds| seeds + by),
        Better::Peers(by) => swarm.peers += by,
        Better::Spare(by) => route.spare = route.spare.map(|spare| spare.saturating_add(by)),
        Better::NoLimit => route.spare = None,
        Better::Cheaper(by) => route.cost = (route.cost - by).max(0.0),
        Better::MeantFor => route.meant_for = Some(true),
    }
    after
}

proptest! {
    #[test]
    fn what_is_better_in_one_respect_never_ranks_lower(
        candidate in any_candidate(),
        how in better(),
        weights in prop::array::uniform6(0.0..100.0f64),
    ) {
        let [health, round_trip, seeds, bandwidth, cost, class] = weights;
        let weights =
            Weights { health, round_trip, seeds, bandwidth, cost, class, usual_cost: 0.05 };
        let after = improve(&candidate, how);
        let ranked = rank(&weights, [Candidate { from: id("b"), ..candidate }, after]);
        prop_assert_eq!(&ranked[0].from, &id("a"));
        prop_assert!(ranked[0].total >= ranked[1].total || ranked[1].refusal.is_some());
    }
}
