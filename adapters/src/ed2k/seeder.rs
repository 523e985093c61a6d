//! The seeder's face: eD2k clients download from the bridge.
