//! Prints what names cost: hashing, look-ups, memory, and the way over gRPC.
//!
//! `cargo run --release -p p2pbridge-tests --example name_figures -- [service|all]` after `./tests/run`; `all` when not said.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it ends with what went wrong"
)]

mod service;

fn main() {
    let what = std::env::args().nth(1).unwrap_or_else(|| "all".to_owned());
    let all = what == "all";
    let mut known = all;
    if all || what == "service" {
        known = true;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(service::run());
    }
    assert!(known, "service or all, not {what}");
}
