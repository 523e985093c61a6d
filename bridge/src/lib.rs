//! The daemon: library of the binary `p2p-bridge`.

pub mod status;
