//! Status management: what the overlays do, what crosses between them, and the ledger in which that stands.

pub mod alarms;
pub mod board;
pub mod choice;
pub mod chooser;
pub mod export;
pub mod ledger;
pub mod meter;
pub mod recorder;
pub mod windows;
