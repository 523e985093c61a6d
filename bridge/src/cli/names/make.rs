//! Torrents made of files on a disk.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
pub(super) use p2pbridge_adapters::bittorrent::create::{Surroundings, Version};
use p2pbridge_adapters::{
    Description,
    bittorrent::{
        create::{CreateError, Hashes, Plan, default_piece_length},
        describe::describe,
        magnet::magnet_of,
        metainfo::{Metainfo, Tree},
    },
};
use p2pbridge_nametable::digest::{Digests, Rules, TorrentWanted, Wanted, hash_files};
use p2pbridge_proto::Name;
use serde_json::{Value, json};

use super::{
    super::{client::CliError, progress::Progress, table::size},
    scan::Scan,
};
use crate::config::ByteSize;

/// What a torrent is to be like.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Making {
    /// Its versions.
    pub(in crate::cli) version: Version,
    /// The name inside; `None` for that of the file or folder.
    pub(in crate::cli) title: Option<String>,
    /// Bytes of a piece; `None` for what fits the files.
    pub(in crate::cli) piece_length: Option<u64>,
    /// What stands around the `info` dictionary.
    pub(in crate::cli) around: Surroundings,
}

/// How large pieces are, in every command that makes torrents.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct PieceArgs {
    /// Bytes of a piece, such as 262144 or 256KiB: in v2 and hybrids a power of two from 16 KiB on; chosen by the size of
    /// the files when left out
    #[arg(long, value_name = "N")]
    piece_length: Option<ByteSize>,
}

impl PieceArgs {
    /// The number, if one was given.
    pub(super) fn bytes(self) -> Option<u64> {
        self.piece_length.map(|size| size.0)
    }
}

/// A torrent that was made, and what else was computed of its files on the way.
#[derive(Debug)]
pub(in crate::cli) struct Made {
    /// The .torrent.
    pub(in crate::cli) source: Vec<u8>,
    /// What it says.
    pub(in crate::cli) description: Description,
    /// Its versions.
    pub(in crate::cli) version: Version,
    /// Its files in its order.
    pub(in crate::cli) files: Vec<(PathBuf, Digests)>,
}

impl Making {
    /// Makes the torrent, and computes the names of each file by these rules, in one pass over the files.
    ///
    /// # Errors
    /// When something in the scan cannot be taken or read, changes meanwhile, or cannot be in a torrent.
    pub(in crate::cli) fn make(&self, scan: &Scan, rules: Rules) -> Result<Made, CliError> {
        let title = self.title.clone().map_or_else(|| scan.title(), Ok)?;
        let length = scan.length();
        let Scan { root, files, .. } = scan;
        scan.check()?;
        let refused =
            |error: CreateError| CliError::File { path: root.clone(), problem: error.to_string() };
        let piece_length = self.piece_length.unwrap_or_else(|| default_piece_length(length));
        let listed = files.iter().map(|file| (file.parts.clone(), file.length)).collect();
        let plan = Plan::new(self.version, &title, piece_length, listed).map_err(refused)?;
        let path = |parts: &[String]| parts.iter().fold(root.clone(), |path, part| path.join(part));
        let paths: Vec<_> = plan.files().iter().map(|file| path(&file.path)).collect();

        let progress = Progress::of_bytes(length);
        progress.say(&title);
        let torrent = TorrentWanted {
            piece_length,
            v1: self.version.has_v1(),
            v2: self.version.has_v2(),
            align: plan.is_padded(),
        };
        let wanted = Wanted { rules, torrent: Some(torrent), threads: 0 };
        let hashed = hash_files(&paths, &wanted, &|more| progress.advance(more));
        let (digests, pieces) = hashed.map_err(|error| CliError::Argument(error.to_string()))?;
        drop(progress);

        let mut found = plan.files().iter().zip(&digests);
        if let Some((file, _)) = found.find(|(file, digests)| file.length != digests.length) {
            let problem = "its length changed before it was read".to_owned();
            return Err(CliError::File { path: path(&file.path), problem });
        }
        let trees: Vec<_> = digests.iter().map(tree).collect();
        let hashes = Hashes { pieces: pieces.as_deref().unwrap_or_default(), trees: &trees };
        let source = plan.torrent(&hashes, &self.around).map_err(refused)?;
        let description = describe(&source).map_err(|error| CliError::File {
            path: root.clone(),
            problem: format!("what was made of it cannot be read again: {error}"),
        })?;
        let files = paths.into_iter().zip(digests).collect();
        Ok(Made { source, description, version: self.version, files })
    }
}

fn tree(digests: &Digests) -> Option<Tree> {
    let pieces = digests.pieces.as_ref()?;
    Some(Tree { root: pieces.root, layer: pieces.layer.concat().into() })
}

impl Made {
    /// Its magnet link, with the trackers.
    pub(in crate::cli) fn magnet(&self) -> String {
        magnet(&self.description, &[]).unwrap_or_default()
    }

    /// Bytes of its files, padding apart.
    fn length(&self) -> u64 {
        self.files.iter().map(|(_, digests)| digests.length).sum()
    }

    /// What it is, for people: a line, and its names.
    pub(super) fn text(&self) -> String {
        let Description { title, unit, files, names, .. } = &self.description;
        let files = match files.len() {
            1 => "1 file".to_owned(),
            more => format!("{more} files"),
        };
        let title = super::super::table::plain(title);
        let mut text = format!(
            "{title}: {} torrent of {files}, {}, pieces of {}\n",
            self.version,
            size(self.length()),
            size(*unit)
        );
        for name in names {
            text.push_str(&format!("  {name}\n"));
        }
        text.push_str(&format!("  {}\n", self.magnet()));
        text
    }

    /// The same for programs.
    pub(super) fn json(&self) -> Value {
        let Description { title, unit, files, names, .. } = &self.description;
        json!({
            "title": title,
            "version": self.version.to_string(),
            "length": self.length(),
            "piece_length": unit,
            "files": files.len(),
            "names": names.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "magnet": self.magnet(),
        })
    }
}

/// The magnet link of a description, if it is a torrent's, with other names of the same.
pub(super) fn magnet(description: &Description, others: &[Name]) -> Option<String> {
    let metainfo: Arc<Metainfo> = Arc::clone(&description.native).downcast().ok()?;
    let mut magnet = magnet_of(&metainfo);
    for name in others {
        if !magnet.names.contains(name) {
            magnet.names.push(*name);
        }
    }
    Some(magnet.to_string())
}
