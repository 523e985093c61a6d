//! The daemon: library of the binary `p2p-bridge`.

pub mod app;
pub mod blobs;
pub mod cli;
pub mod config;
pub mod data_dir;
pub mod grpc;
pub mod handler;
pub mod names;
mod rate;
pub mod relay;
pub mod routes;
pub mod status;
pub mod web;
