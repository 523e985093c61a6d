//! Prints what names cost: hashing, look-ups, memory, and the way over gRPC.
//!
//! `cargo run --release -p p2pbridge-tests --example name_figures -- [hashing|service|scale|all] [ROUNDS]` after `./tests/run`; `all` and 5
//! rounds when not said. `scale NAMES` stops at so many names.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it ends with what went wrong"
)]

mod hashing;
mod scale;
mod service;

fn main() {
    let what = std::env::args().nth(1).unwrap_or_else(|| "all".to_owned());
    if let ("scale-fill" | "scale-open", Some(dir), Some(names)) =
        (what.as_str(), std::env::args().nth(2), std::env::args().nth(3))
    {
        let child = if what == "scale-fill" { scale::fill } else { scale::reopen };
        return child(&dir, names.parse().expect("a number of names"));
    }
    let all = what == "all";
    let mut known = all;
    if all || what == "hashing" {
        known = true;
        let rounds = std::env::args().nth(2).map_or(5, |text| text.parse().expect("rounds"));
        hashing::run(rounds);
    }
    if all || what == "service" {
        known = true;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(service::run());
    }
    if all || what == "scale" {
        known = true;
        let most = if all { None } else { std::env::args().nth(2) };
        scale::run(most.map_or(u64::MAX, |text| text.parse().expect("a number of names")));
    }
    assert!(known, "hashing, service, scale or all, not {what}");
}
