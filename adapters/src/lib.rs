//! One folder per P2P protocol, all of the same shape, behind one [contract](Descriptor).

mod admission;
mod availability;
mod bad_input;
pub mod bittorrent;
pub mod budget;
mod config;
mod contract;
pub mod ed2k;
mod listen;
pub mod message;
pub mod registry;
mod tally;
mod waste;

pub use availability::Availability;
pub use bad_input::{BadInput, Flaw, Party};
pub use contract::{
    AboutFile, Adapter, Answer, Asked, Attendance, Budget, BuildError, Capability, Configured,
    ContentReader, DescribeError, Description, Descriptor, Door, FileSpan, Handler, Host,
    Integrity, Learned, Leecher, Library, Links, Mode, ReadError, Seeder, ServerCounts,
    SourceError, SourceSession, TrackerClient, TrackerHealth, TrackerServer, TrackerTerms,
};
pub use waste::Waste;
