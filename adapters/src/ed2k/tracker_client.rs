//! The tracker client's face: the bridge is logged in to an eD2k server.
