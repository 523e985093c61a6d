//! The leecher's face: the bridge downloads from eD2k clients.
