//! What the demo says at the end.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use p2pbridge_adapters::Description;
use p2pbridge_nametable::Binding;
use p2pbridge_proto::v1;

use super::{
    super::{table::exact, usage::table},
    main_name,
};
use crate::{
    config::human,
    status::export::{Exporter, Format},
};

/// Everything that the demo has found.
pub(super) struct Report<'a> {
    pub(super) file: &'a Path,
    pub(super) length: u64,
    pub(super) sha256: &'a str,
    pub(super) took: Duration,
    pub(super) a: &'a Description,
    pub(super) b: &'a Description,
    pub(super) holder: SocketAddr,
    pub(super) bridge: SocketAddr,
    pub(super) binding: Option<Arc<Binding>>,
    pub(super) usage: Vec<v1::UsageRecord>,
}

impl Report<'_> {
    /// Prints it, for people or for programs.
    pub(super) fn print(&self, json: bool) -> Result<(), super::Failure> {
        if json { self.print_json() } else { self.print_text() }
    }

    fn bytes_per_second(&self) -> u64 {
        let millis = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX).max(1);
        self.length.saturating_mul(1_000) / millis
    }

    fn verified(&self) -> u64 {
        self.usage.iter().map(|record| record.bytes_verified).sum()
    }

    fn print_text(&self) -> Result<(), super::Failure> {
        let evidence =
            self.binding.as_ref().map_or_else(|| "unbound".into(), |b| b.evidence.to_string());
        println!();
        println!("The peer in b has the file, byte for byte.");
        println!("  file        {}", self.file.display());
        println!("  size        {}", exact(self.length));
        println!("  SHA-256     {}", self.sha256);
        println!("  name in a   {}  pieces of {}", main_name(self.a), human(self.a.unit));
        println!("  name in b   {}  pieces of {}", main_name(self.b), human(self.b.unit));
        println!("  binding     {evidence}: all bytes matched the hashes of both names");
        println!(
            "  throughput  {}/s ({:.2} s)",
            human(self.bytes_per_second()),
            self.took.as_secs_f64()
        );
        println!();
        let byte = self.length / 2;
        println!("The way of byte {byte}");
        println!(
            "  peer {} in a       piece {} of a, byte {} in it",
            self.holder,
            byte / self.a.unit,
            byte % self.a.unit
        );
        println!(
            "  → bridge                      verified by the hash of piece {} of a",
            byte / self.a.unit
        );
        println!(
            "  → spool                       verified by the hash of piece {} of b, kept",
            byte / self.b.unit
        );
        println!(
            "  → {} in b          announced as piece {} of b, byte {} in it",
            self.bridge,
            byte / self.b.unit,
            byte % self.b.unit
        );
        println!("  → peer in b                   verified once more, written");
        println!();
        println!("The usage records in the ledger of {}", self.operator());
        print!("{}", table(&self.usage, false));
        Ok(())
    }

    fn operator(&self) -> String {
        let id = self.usage.first().and_then(|record| record.id.as_ref());
        id.map_or_else(String::new, |id| format!("{}/{}", id.operator, id.bridge))
    }

    fn print_json(&self) -> Result<(), super::Failure> {
        let mut lines = Vec::new();
        let mut out = Exporter::new(Format::Jsonl, &mut lines)?;
        for record in &self.usage {
            out.write(record)?;
        }
        out.finish()?;
        let usage: Vec<serde_json::Value> =
            serde_json::Deserializer::from_slice(&lines).into_iter().collect::<Result<_, _>>()?;
        let report = serde_json::json!({
            "file": self.file,
            "size": self.length,
            "sha256": self.sha256,
            "seconds": self.took.as_secs_f64(),
            "bytes_per_second": self.bytes_per_second(),
            "name_a": main_name(self.a).to_string(),
            "name_b": main_name(self.b).to_string(),
            "evidence": self.binding.as_ref().map(|binding| binding.evidence.to_string()),
            "bytes_verified": self.verified(),
            "usage": usage,
        });
        println!("{}", serde_json::to_string_pretty(&report)?);
        Ok(())
    }
}
