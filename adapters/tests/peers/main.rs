//! The seeder's and the leecher's face of BitTorrent, against each other and against scripted peers, over loopback.

// clippy.toml allows this in tests; clippy does not see that their helpers are tests too.
#![allow(clippy::expect_used)]

mod leecher;
mod memory;
mod raw;
mod seeder;
