//! eDonkey2000 (eD2k), as eMule and aMule speak it. See the README beside this file.

pub mod aich;
mod callback;
pub mod clients;
pub mod config;
pub mod describe;
pub mod identity;
pub mod leecher;
pub mod messages;
pub mod seeder;
pub mod sources;
pub mod tracker_client;
pub mod tracker_server;
pub mod translate;
pub mod wire;
