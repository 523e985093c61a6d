//! The files of the captures, and the page that says where they come from.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use p2pbridge_adapters::message::{Decoded, Hint};
use p2pbridge_adapters::registry;
use p2pbridge_tests::{run, tools};

use crate::recorder::Exchange;

/// The files so far, each with its row of the page.
pub(crate) struct Book {
    dir: PathBuf,
    files: BTreeMap<String, (Vec<u8>, String)>,
    origin: String,
}

fn read(bytes: &[u8]) -> Option<Decoded> {
    registry::decode(bytes, &Hint::default()).ok().map(|(_, decoded)| decoded)
}

/// What a question is: `connect`, `scrape`, `announce-started`, …; empty when it is none.
pub(crate) fn what(asked: &[u8]) -> String {
    let Some(decoded) = read(asked) else { return String::new() };
    if decoded.kind.contains("announce") {
        let event = decoded.fields.iter().find(|field| field.name == "event");
        return format!("announce-{}", event.map_or("regular", |event| event.value.as_str()));
    }
    let word = if decoded.kind.contains("scrape") { "scrape" } else { "connect" };
    word.to_owned()
}

impl Book {
    pub(crate) async fn new() -> Self {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bittorrent/captures");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("a directory");
        Self { dir, files: BTreeMap::new(), origin: origin().await }
    }

    /// Keeps each kind of question of a client, and each kind of answer of a tracker, once.
    pub(crate) fn keep(
        &mut self,
        who: &str,
        tracker: &str,
        udp: bool,
        ipv6: bool,
        seen: &[Exchange],
    ) {
        let carrier = match (udp, ipv6) {
            (false, _) => "http",
            (true, false) => "udp",
            (true, true) => "udp6",
        };
        for exchange in seen.iter().filter(|exchange| !exchange.answered.is_empty()) {
            let asked = what(&exchange.asked);
            let answer = read(&exchange.answered);
            let answered = match answer.as_ref().map(|answer| answer.kind) {
                Some("udp-error" | "http-failure") => "refusal",
                Some("udp-empty-answer") => "unlisted",
                Some(_) if asked.starts_with("announce-stopped") => "stopped",
                Some(_) if asked.starts_with("announce") => "announce",
                Some(_) => &asked,
                None => "unread",
            };
            // Nonsense that was answered as if it were none tells nothing.
            if answered.is_empty() {
                continue;
            }
            // Questions by hand are there for their answers.
            let by_hand = asked.is_empty() || exchange.asked.windows(8).any(|at| at == b"-XX0001-");
            let asker = if by_hand { "a question by hand" } else { who };
            let row = format!("{asker} to {tracker} |");
            if !by_hand {
                let name = format!("{who}-{carrier}-{asked}.request");
                self.files.entry(name).or_insert((exchange.asked.clone(), row.clone()));
            }
            let name = format!("{tracker}-{carrier}-{answered}.answer");
            if self.files.contains_key(&name) {
                continue;
            }
            let mut remark = format!("{tracker} to {asker} |");
            if udp && answered == "scrape" {
                // Which swarms it speaks of is in the question alone.
                let question = format!("{tracker}-{carrier}-scrape.request");
                remark.push_str(&format!(" to `{question}`"));
                self.files.insert(question, (exchange.asked.clone(), row));
            }
            self.files.insert(name, (exchange.answered.clone(), remark));
        }
    }

    /// Writes all files and the page.
    pub(crate) async fn close(self) {
        let mut page = format!(
            "# What real clients and trackers say to each other\n\nWhole HTTP messages and UDP packets, as they went over loopback. {}\n\n\
             | file | kind | from whom | remark |\n|---|---|---|---|\n",
            self.origin
        );
        for (name, (bytes, row)) in &self.files {
            fs::write(self.dir.join(name), bytes).expect("a file");
            let kind = read(bytes).map_or("none that is read", |decoded| decoded.kind);
            page.push_str(&format!("| `{name}` | {kind} | {row} |\n"));
        }
        fs::write(self.dir.join("README.md"), page).expect("the page");
        println!("{} files in {}", self.files.len(), self.dir.display());
    }
}

/// The programs, their versions, the day.
async fn origin() -> String {
    let said = async |program: &str, args: &[&str]| {
        let output = run(20, program, args).await;
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned()
    };
    let npm = fs::read_to_string(tools().join("npm/node_modules/bittorrent-tracker/package.json"));
    let npm: serde_json::Value =
        serde_json::from_str(&npm.expect("./tests/install")).expect("JSON");
    let dpkg = async |package: &str| said("dpkg-query", &["-W", "-f", "${Version}", package]).await;
    format!(
        "Made on {} by `cargo run -p p2pbridge-tests --example capture`, with Debian's aria2 {}, transmission {}, \
         libtorrent {} (Python), opentracker {}, with npm's bittorrent-tracker {} as tracker and as client (it is \
         WebTorrent's), and with aquatic_udp and aquatic_http 0.9.0.",
        said("date", &["-u", "+%F"]).await,
        dpkg("aria2").await,
        dpkg("transmission-daemon").await,
        dpkg("python3-libtorrent").await,
        dpkg("opentracker").await,
        npm["version"].as_str().unwrap_or_default(),
    )
}
