//! Load for trackers: many announces, each answer checked, all of it bounded in time.
//!
//! A [`Plan`] says which swarms there are and who is in them, so that any answer can be checked without a table. [`udp`] speaks
//! BEP 15 in batches with a window of announces under way, [`http`] speaks BEP 3 over connections that are kept open. Both give a
//! [`Report`]. [`Cost`] reads what a process has used.

mod bencode;
pub mod http;
mod latency;
mod plan;
mod process;
mod report;
pub mod udp;

pub use latency::Latency;
pub use plan::{Expect, Plan, Swarms};
pub use process::{Cost, pin_to};
pub use report::Report;
pub use udp::udp_flood;
