//! Prints what names cost: hashing, look-ups, memory, and the way over gRPC.
//!
//! `cargo run --release -p p2pbridge-tests --example name_figures -- [hashing|service|all] [ROUNDS]` after `./tests/run`; `all` and 5 rounds
//! when not said.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it ends with what went wrong"
)]

mod hashing;
mod service;

fn main() {
    let what = std::env::args().nth(1).unwrap_or_else(|| "all".to_owned());
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
    assert!(known, "hashing, service or all, not {what}");
}
