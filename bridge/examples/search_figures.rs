//! Prints what searches cost: titles that peers announce, and titles of what is bound.
//!
//! `cargo run --release -p p2p-bridge --example search_figures -- [TITLES]`; 1,000,000 when not said.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "it ends with what went wrong"
)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use p2p_bridge::{
    handler::{MessageHandler, OverlayParts},
    routes::{Route, Routes},
    status::{choice::Weights, chooser::Chooser},
};
use p2pbridge_adapters::{Answer, Asked, Handler, Mode, TrackerTerms};
use p2pbridge_nametable::{MemoryStore, NameTable, Proposal, ProposedFile};
use p2pbridge_proto::{
    Announce, FileKind, Name, OverlayId, Peer, Query, Reply, Request, Scheme, Search,
};
use tokio::runtime::Runtime;

/// Words that titles are made of.
const WORDS: u64 = 200_000;
/// Bindings, one for each so many announced titles.
const BOUND: u64 = 10;

fn main() {
    let titles = std::env::args().nth(1);
    let titles = titles.map_or(1_000_000, |text| text.parse().expect("a number of titles"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // Searches run on threads of their own.
    let _inside = runtime.enter();
    run(&runtime, titles);
}

/// Prints the costs with so many announced titles, and a tenth of that bound.
fn run(runtime: &Runtime, titles: u64) {
    let id = |text: &str| text.parse::<OverlayId>().unwrap();
    let table = Arc::new(NameTable::open(Box::new(MemoryStore::new())).unwrap());
    let count = usize::try_from(titles).unwrap();
    let terms = TrackerTerms { swarms: 2 * count, peers: 4 * count, ..TrackerTerms::default() };
    let overlay = OverlayParts {
        id: id("a"),
        protocol: "p",
        schemes: &[Scheme::Ed2k, Scheme::Btih],
        mode: Mode::Front,
        terms,
        client: None,
        reachable: Vec::new(),
        own: Vec::new(),
    };
    let routes = Arc::new(Routes::new(vec![Route::new(id("b"), id("a"), String::new(), None)]));
    let chooser = Chooser::new(Weights::default(), routes.clone(), Default::default());
    let handler = MessageHandler::new(vec![overlay], &table, &routes, &Arc::new(chooser));

    let asked = |request| {
        let overlay = id("a");
        let asked = Asked { overlay: &overlay, hop_limit: Asked::ALL, one_family: false };
        match handler.handle(asked, request) {
            Answer::Now(answer) => answer.unwrap(),
            Answer::Later(answer) => runtime.block_on(answer).unwrap(),
        }
    };
    let announce = |number: u64, title: String| {
        let [.., a, b, c] = number.to_be_bytes();
        let peer = Peer::at(([10, a, b, c], 4662).into());
        let length = Some(1_000_000 + number * 977);
        let announce = Announce::new(peer, vec![name(Scheme::Ed2k, number)]);
        asked(Request::Announce(Announce { title, length, left: Some(0), ..announce }))
    };
    for (what, title) in
        [("with a title", true), ("again, as sessions do", true), ("without", false)]
    {
        let begun = Instant::now();
        for number in 0..titles {
            announce(number, if title { self::title(number) } else { String::new() });
        }
        let took = begun.elapsed().as_secs_f64() * 1e6 / titles as f64;
        println!("announces {what}: {took:.2} us each");
    }
    let counts = handler.titles();
    let each = counts.memory as f64 / counts.titles as f64;
    println!("announced: {} titles, {each:.0} bytes of memory each", counts.titles);

    let begun = Instant::now();
    for number in 0..titles / BOUND {
        let (title, length) = (title(titles + number), 5_000_000 + number);
        table.bind(&[proposal(number, title, length)]).unwrap();
    }
    let rate = begun.elapsed().as_secs_f64() * 1e6 * BOUND as f64 / titles as f64;
    println!("bound: {} titles, {rate:.1} us each, index and table", titles / BOUND);
    let more = handler.titles();
    let each = (more.memory - counts.memory) as f64 / (more.titles - counts.titles) as f64;
    println!("bound: {each:.0} bytes of memory each");

    let words = |words: &str| Query::Words(words.to_owned());
    for (what, query) in [
        ("no title has the word", words("zzzz")),
        ("a rare word", words("w150000")),
        ("two common words", words("w0 w1")),
        ("a rare and a common word", words("w0 w20000")),
        ("a very common word", words("mkv")),
        (
            "very common, and a size that few have",
            Query::All(vec![
                words("mkv w0"),
                Query::MinSize(900_000_000),
                Query::MaxSize(901_000_000),
            ]),
        ),
        (
            "one of two, but not a third, and a kind",
            Query::All(vec![
                Query::ButNot(
                    Box::new(Query::Any(vec![words("w3000"), words("w4000 w1")])),
                    Box::new(words("w2")),
                ),
                Query::Kind(FileKind::Video),
            ]),
        ),
        ("no word, only a size", Query::MinSize(u64::MAX)),
        ("the most that may be asked", Query::Any(vec![words("w0 w1 mkv"); 63])),
    ] {
        let search = Search { query, max_results: Some(200) };
        let (mut times, mut found) = (Vec::new(), None);
        let begun = Instant::now();
        while times.len() < 5 || (begun.elapsed() < Duration::from_secs(1) && times.len() < 1_000) {
            let begun = Instant::now();
            let Reply::Found(result) = asked(Request::Search(search.clone())) else {
                panic!("something else");
            };
            times.push(begun.elapsed());
            found = Some(result);
        }
        times.sort_unstable();
        let found = found.unwrap();
        let more = if found.truncated { ", there is more" } else { "" };
        println!(
            "{what}: {} us (slowest {}), {} hits{more}",
            times[times.len() / 2].as_micros(),
            times[times.len() - 1].as_micros(),
            found.hits.len(),
        );
    }
}

fn proposal(number: u64, title: String, length: u64) -> Proposal {
    Proposal {
        names: vec![name(Scheme::Btih, number)],
        files: vec![ProposedFile { path: title.clone(), offset: 0, length, digest: None }],
        label: title.clone(),
        title,
        length,
        unit: 1 << 20,
        overlays: vec!["b".parse().unwrap()],
        stated_by: "figures".to_owned(),
        description: None,
    }
}

fn name(scheme: Scheme, number: u64) -> Name {
    let mut digest = vec![0; scheme.digest_len()];
    digest[..8].copy_from_slice(&(number.wrapping_mul(0x9E37_79B9_7F4A_7C15)).to_le_bytes());
    Name::new(scheme, &digest).unwrap()
}

/// Six words, of which some are in many titles and most in few, a number and an ending.
fn title(number: u64) -> String {
    let mut dice = number.wrapping_mul(0xD134_2543_DE82_EF95) | 1;
    let mut roll = || {
        dice ^= dice >> 12;
        dice ^= dice << 25;
        dice ^= dice >> 27;
        (dice.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut title = String::new();
    for _ in 0..6 {
        // Of rank r, about 1 in r.
        let word = (WORDS as f64).powf(roll()) as u64 - 1;
        title += &format!("w{word}.");
    }
    title + &format!("{number}.mkv")
}
