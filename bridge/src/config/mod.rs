//! Configuration: TOML → checked [`Config`]. What is not there has its default; what is unknown or wrong is refused with
//! its line.

mod metrics;
mod names;
mod routes;
mod size;

use std::{net::SocketAddr, path::PathBuf};

use p2pbridge_adapters::{Configured, registry};
use serde::Deserialize;
use thiserror::Error;
use toml::Spanned;

pub use metrics::MetricsConfig;
pub use names::{NamesConfig, Threads};
pub use size::{ByteSize, human};

use self::routes::RouteForm;
use crate::{routes::Routes, status::choice::Weights};

/// The default configuration, commented: what `check-config --print-default` prints.
pub const DEFAULT: &str = include_str!("default.toml");

/// Why a configuration is refused; the text has the line, and a caret below what is wrong.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What came of it.
        source: std::io::Error,
    },
    /// The text is no TOML, or not of this form.
    #[error("{0}")]
    Toml(#[from] toml::de::Error),
    /// The form is right, but the values do not fit together.
    #[error("{0}")]
    Meaning(String),
}

/// A checked configuration.
pub struct Config {
    /// Names, ledger, spool and descriptions are kept here.
    pub data_dir: PathBuf,
    /// The gRPC server.
    pub grpc: Grpc,
    /// The page of metrics.
    pub metrics: MetricsConfig,
    /// Who operates the bridge.
    pub identity: Identity,
    /// Verified bytes on disk.
    pub spool: SpoolConfig,
    /// Bounds of the relay.
    pub relay: RelayConfig,
    /// The names that the bridge finds out itself.
    pub names: NamesConfig,
    /// What weighs in the choice between overlays.
    pub selection: Weights,
    /// Metering.
    pub usage: UsageConfig,
    /// Logging.
    pub log: LogConfig,
    /// Shutting down.
    pub shutdown: ShutdownConfig,
    /// The overlays, not yet opened, each with its protocol's word.
    pub overlays: Vec<(&'static str, Configured)>,
    /// What may cross.
    pub routes: Routes,
}

/// The gRPC server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grpc {
    /// Where it listens.
    pub listen: SocketAddr,
}

impl Default for Grpc {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 7400)) }
    }
}

/// Who operates the bridge: both words stand in every usage record.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    /// The operator.
    pub operator: String,
    /// This bridge among the operator's.
    pub bridge: String,
}

impl Default for Identity {
    fn default() -> Self {
        Self { operator: "local".into(), bridge: "bridge-1".into() }
    }
}

/// Verified bytes on disk.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpoolConfig {
    /// Bytes at most.
    pub max_size: ByteSize,
}

impl Default for SpoolConfig {
    fn default() -> Self {
        Self { max_size: ByteSize(10 << 30) }
    }
}

/// Bounds of the relay.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelayConfig {
    /// Bytes fetched ahead of the peer that is furthest on.
    pub read_ahead: ByteSize,
    /// Bytes of verified blocks kept in memory.
    pub memory_cache: ByteSize,
    /// Bytes that all transfers together have asked for, or not yet stored.
    pub in_memory: ByteSize,
    /// Peers that one content is downloaded from at once.
    pub sources: usize,
    /// Bytes asked of one source at once.
    pub per_source: ByteSize,
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self {
            read_ahead: ByteSize(24 << 20),
            memory_cache: ByteSize(24 << 20),
            in_memory: ByteSize(48 << 20),
            sources: 8,
            per_source: ByteSize(4 << 20),
        }
    }
}

/// Metering.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UsageConfig {
    /// Seconds between two writes to the ledger, 1 to 300.
    pub flush_seconds: Seconds<1, 300>,
}

impl Default for UsageConfig {
    fn default() -> Self {
        Self { flush_seconds: Seconds(5) }
    }
}

/// Logging.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// How lines look.
    pub format: LogFormat,
    /// What is logged: a level, or tracing's filter directives.
    pub filter: String,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".into() }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Shutting down.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShutdownConfig {
    /// Seconds until the daemon ends, whatever still hangs; 1 to 300.
    pub deadline_seconds: Seconds<1, 300>,
}

impl Default for ShutdownConfig {
    fn default() -> Self {
        Self { deadline_seconds: Seconds(10) }
    }
}

/// A number of seconds within bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u64")]
pub struct Seconds<const LEAST: u64, const MOST: u64>(u64);

impl<const LEAST: u64, const MOST: u64> Seconds<LEAST, MOST> {
    /// As a duration.
    #[must_use]
    pub fn duration(self) -> std::time::Duration {
        std::time::Duration::from_secs(self.0)
    }
}

impl<const LEAST: u64, const MOST: u64> TryFrom<u64> for Seconds<LEAST, MOST> {
    type Error = String;

    fn try_from(seconds: u64) -> Result<Self, String> {
        if (LEAST..=MOST).contains(&seconds) {
            Ok(Self(seconds))
        } else {
            Err(format!("expected {LEAST} to {MOST} seconds, not {seconds}"))
        }
    }
}

/// The form of the file. Overlays are read by their adapters, out of the same text.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Form {
    data_dir: PathBuf,
    grpc: Grpc,
    metrics: MetricsConfig,
    identity: Identity,
    spool: SpoolConfig,
    relay: RelayConfig,
    names: NamesConfig,
    selection: Weights,
    usage: UsageConfig,
    log: LogConfig,
    shutdown: ShutdownConfig,
    overlays: std::collections::BTreeMap<Spanned<String>, toml::Table>,
    routes: Vec<RouteForm>,
}

impl Default for Form {
    fn default() -> Self {
        Self {
            data_dir: "p2p-bridge-data".into(),
            grpc: Grpc::default(),
            metrics: MetricsConfig::default(),
            identity: Identity::default(),
            spool: SpoolConfig::default(),
            relay: RelayConfig::default(),
            names: NamesConfig::default(),
            selection: Weights::default(),
            usage: UsageConfig::default(),
            log: LogConfig::default(),
            shutdown: ShutdownConfig::default(),
            overlays: std::collections::BTreeMap::new(),
            routes: Vec::new(),
        }
    }
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or is refused.
    pub fn read(path: &std::path::Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text)
    }

    /// Reads a text; the empty one gives the defaults.
    ///
    /// # Errors
    /// When it is refused.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let form: Form = toml::from_str(text)?;
        for protocol in form.overlays.keys() {
            if registry::protocol(protocol.as_ref()).is_none() {
                let known: Vec<_> = registry::PROTOCOLS.iter().map(|p| p.protocol).collect();
                return Err(complaint(
                    text,
                    &protocol.span(),
                    &format!("unknown protocol, expected one of: {}", known.join(", ")),
                ));
            }
        }
        let mut overlays: Vec<(&'static str, Configured)> = Vec::new();
        for descriptor in registry::PROTOCOLS {
            for configured in (descriptor.configure)(text)? {
                if overlays.iter().any(|(_, other)| other.id == configured.id) {
                    return Err(ConfigError::Meaning(format!(
                        "two overlays of different protocols are called `{}`",
                        configured.id
                    )));
                }
                overlays.push((descriptor.protocol, configured));
            }
        }
        for (field, value) in [
            ("identity.operator", &form.identity.operator),
            ("identity.bridge", &form.identity.bridge),
        ] {
            if value.is_empty() || value.contains('/') || value.chars().any(char::is_control) {
                return Err(ConfigError::Meaning(format!(
                    "{field} is `{value}`: expected a word without `/` and control characters"
                )));
            }
        }
        for (field, value, least) in [
            ("relay.read_ahead", form.relay.read_ahead, 1 << 20),
            ("relay.memory_cache", form.relay.memory_cache, 1 << 20),
            ("relay.in_memory", form.relay.in_memory, 1 << 20),
            ("relay.per_source", form.relay.per_source, 256 << 10),
            ("spool.max_size", form.spool.max_size, 64 << 20),
        ] {
            if value.0 < least {
                let least = ByteSize(least);
                return Err(ConfigError::Meaning(format!(
                    "{field} is {value}: expected {least} at least"
                )));
            }
        }
        form.selection.check().map_err(ConfigError::Meaning)?;
        let routes = routes::checked(text, form.routes, &overlays)?;
        Ok(Self {
            data_dir: form.data_dir,
            grpc: form.grpc,
            metrics: form.metrics,
            identity: form.identity,
            spool: form.spool,
            relay: form.relay,
            names: form.names,
            selection: form.selection,
            usage: form.usage,
            log: form.log,
            shutdown: form.shutdown,
            overlays,
            routes: Routes::new(routes),
        })
    }
}

/// An error in the form of the TOML reader's own: line, column, the line itself, and a caret.
fn complaint(text: &str, span: &std::ops::Range<usize>, problem: &str) -> ConfigError {
    let before = text.get(..span.start).unwrap_or(text);
    let line_number = before.matches('\n').count() + 1;
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = text.get(line_start..).unwrap_or("").lines().next().unwrap_or("");
    let column = before.get(line_start..).map_or(0, |head| head.chars().count());
    let width = text.get(span.clone()).map_or(1, |word| word.chars().count()).max(1);
    let margin = " ".repeat(line_number.to_string().len());
    ConfigError::Meaning(format!(
        "TOML parse error at line {line_number}, column {}\n{margin} |\n{line_number} | {line}\n{margin} | {}{}\n{problem}\n",
        column + 1,
        " ".repeat(column),
        "^".repeat(width),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Config::parse(text).err().expect("a refusal").to_string()
    }

    #[test]
    fn the_printed_default_is_the_default() {
        let printed = Config::parse(DEFAULT).unwrap();
        let silent = Config::parse("").unwrap();
        assert_eq!(printed.data_dir, silent.data_dir);
        assert_eq!(printed.grpc, silent.grpc);
        assert_eq!(printed.metrics, silent.metrics);
        assert_eq!(printed.identity, silent.identity);
        assert_eq!(printed.spool, silent.spool);
        assert_eq!(printed.relay, silent.relay);
        assert_eq!(printed.names, silent.names);
        assert_eq!(printed.selection, silent.selection);
        assert_eq!(printed.usage, silent.usage);
        assert_eq!(printed.log, silent.log);
        assert_eq!(printed.shutdown, silent.shutdown);
        assert!(printed.overlays.is_empty() && printed.routes.iter().next().is_none());
    }

    #[test]
    fn every_protocols_example_is_accepted() {
        for descriptor in registry::PROTOCOLS {
            let config = Config::parse(descriptor.example);
            assert!(config.is_ok_and(|config| !config.overlays.is_empty()));
        }
    }

    #[test]
    fn a_refusal_shows_line_caret_and_what_was_expected() {
        let unknown = refusal("[grpc]\nlisten = \"127.0.0.1:1\"\nlissen = 3\n");
        assert!(unknown.contains("line 3") && unknown.contains("^^^^^^"), "{unknown}");
        assert!(unknown.contains("expected `listen`"), "{unknown}");
        let metrics = refusal("[metrics]\nlisten = \"9464\"\n");
        assert!(metrics.contains("line 2") && metrics.contains("127.0.0.1:9464"), "{metrics}");
        let small = refusal("[relay]\nper_source = 0\n");
        assert_eq!(small, "relay.per_source is 0 B: expected 256.00 KiB at least");
        let size = refusal("[spool]\nmax_size = \"10 GB of\"\n");
        assert!(size.contains("line 2") && size.contains("KiB"), "{size}");
        let seconds = refusal("[usage]\nflush_seconds = 301\n");
        assert!(seconds.contains("expected 1 to 300 seconds, not 301"), "{seconds}");
        let weight = refusal("[selection]\nseeds = -1\n");
        assert_eq!(weight, "selection.seeds is -1: expected 0 to 1000000");
        let rule = refusal("[names]\nprove_schemes = [\"sha1\", \"md5\"]\n");
        assert!(rule.contains("line 2") && rule.contains("called `md5`; known: sha1"), "{rule}");
        let threads = refusal("[names]\nprove_threads = 0\n");
        assert!(threads.contains("expected 1 to 64 threads, not 0"), "{threads}");
        let protocol = refusal("[overlays.gopher.x]\n");
        assert!(protocol.contains("expected one of: bittorrent"), "{protocol}");
        assert!(protocol.contains("line 1, column 11"), "{protocol}");
    }
}
