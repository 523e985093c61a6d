//! The tracker server's face: an eD2k server.
