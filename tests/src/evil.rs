//! A seeder that misbehaves: `programs/evil.py`.

use std::path::Path;

use crate::process::script;
use crate::wait::eventually;
use crate::{Launch, Program, Scene, Torrent, free_port};

/// How it misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Every third piece is wrong.
    Corrupt,
    /// It ends after 16 blocks.
    Vanish,
    /// It takes connections and says nothing.
    Silent,
}

/// A running bad seeder.
#[derive(Debug)]
pub struct Evil {
    /// The program.
    pub program: Program,
    /// Where it listens for peers.
    pub port: u16,
}

impl Evil {
    /// Starts it and waits until the torrent's tracker knows it as a seeder. The torrent has one file, in `dir`.
    pub async fn start(scene: &Scene, manner: Manner, torrent: &Torrent, dir: &Path) -> Self {
        let port = free_port();
        let manner = format!("{manner:?}").to_lowercase();
        let program = Launch::new("evil", "/usr/bin/python3")
            .arg(script("evil.py"))
            .args([&manner, &port.to_string()])
            .arg(&torrent.path)
            .arg(dir)
            .start(scene);
        let mut this = Self { program, port };
        this.said("announced", 20).await;
        this
    }

    /// Waits until it has said this.
    pub async fn said(&mut self, word: &str, seconds: u64) {
        eventually(&format!("the evil seeder saying {word}"), seconds, async || {
            let said = self.program.said().contains(word);
            if !said {
                self.program.assert_runs();
            }
            said.then_some(())
        })
        .await;
    }

    /// How often it has said this.
    #[must_use]
    pub fn times(&self, word: &str) -> usize {
        self.program.said().lines().filter(|line| line.starts_with(word)).count()
    }
}
