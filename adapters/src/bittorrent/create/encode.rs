//! The bencode of a planned torrent.

use super::{
    super::{
        metainfo::{MAX_SOURCE, Tree},
        wire::bencode::{DictEncoder, Encoder, encode_dict},
    },
    CreateError, Plan, Planned,
};

/// The hashes of a plan's files.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hashes<'a> {
    /// SHA-1 of each piece of version 1 over all files with their padding, 20 bytes each; not looked at without version 1.
    pub pieces: &'a [u8],
    /// For each file in the plan's order its hash tree; `None` for an empty one. The layer of a file that is not longer
    /// than a piece is not looked at, nor is anything without version 2.
    pub trees: &'a [Option<Tree>],
}

/// What stands around the `info` dictionary, and is not part of the names.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The trackers, tier by tier (BEP 12).
    pub trackers: Vec<Vec<String>>,
    /// When it was made: seconds since 1970.
    pub creation_date: Option<u64>,
    /// The program that made it.
    pub created_by: Option<String>,
}

impl Plan {
    /// The bencoded `info` dictionary: its SHA-1 is the name of version 1, its SHA-256 that of version 2.
    ///
    /// # Errors
    /// When the hashes are too many or too few for the files.
    pub fn info(&self, hashes: &Hashes<'_>) -> Result<Vec<u8>, CreateError> {
        self.check(hashes)?;
        Ok(encode_dict(|info| {
            info.bytes(b"name", self.title.as_bytes());
            info.uint(b"piece length", self.piece_length);
            if self.version.has_v1() {
                self.files_v1(info);
                info.bytes(b"pieces", hashes.pieces);
            }
            if self.version.has_v2() {
                info.uint(b"meta version", 2);
                info.entry(b"file tree", |out| out.dict(|tree| self.tree(tree, hashes.trees)));
            }
        }))
    }

    /// The whole .torrent.
    ///
    /// # Errors
    /// When the hashes are too many or too few for the files, or it would be larger than what is read.
    pub fn torrent(
        &self,
        hashes: &Hashes<'_>,
        around: &Surroundings,
    ) -> Result<Vec<u8>, CreateError> {
        let info = self.info(hashes)?;
        let torrent = encode_dict(|root| {
            root.entry(b"info", |out| out.raw(&info));
            if self.version.has_v2() {
                root.entry(b"piece layers", |out| {
                    out.dict(|layers| self.layers(layers, hashes.trees));
                });
            }
            surround(root, around);
        });
        match torrent.len() {
            0..=MAX_SOURCE => Ok(torrent),
            more => Err(CreateError::TooLarge(more)),
        }
    }

    fn check(&self, hashes: &Hashes<'_>) -> Result<(), CreateError> {
        let wrong = |what: &str, wanted, got: usize| {
            Err(CreateError::Hashes { what: what.to_owned(), wanted, got: got as u64 })
        };
        if self.version.has_v1() {
            let wanted = self.pieces();
            if wanted.checked_mul(20) != Some(hashes.pieces.len() as u64) {
                return wrong("the pieces", wanted, hashes.pieces.len() / 20);
            }
        }
        if !self.version.has_v2() {
            return Ok(());
        }
        if hashes.trees.len() != self.files.len() {
            return wrong("the files", self.files.len() as u64, hashes.trees.len());
        }
        for (file, tree) in self.files.iter().zip(hashes.trees) {
            let path = file.path.join("/");
            match tree {
                None if file.length > 0 => return wrong(&format!("`{path}`"), 1, 0),
                Some(_) if file.length == 0 => return wrong(&format!("`{path}`"), 0, 1),
                Some(tree) if file.length > self.piece_length => {
                    let wanted = file.length.div_ceil(self.piece_length);
                    if wanted.checked_mul(32) != Some(tree.layer.len() as u64) {
                        let what = format!("the pieces of `{path}`");
                        return wrong(&what, wanted, tree.layer.len() / 32);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn files_v1(&self, info: &mut DictEncoder) {
        if self.is_lone() {
            return info.uint(b"length", self.files.iter().map(|file| file.length).sum());
        }
        info.entry(b"files", |out| {
            out.list(|out| {
                for file in &self.files {
                    entry_v1(out, file.path.iter().map(String::as_str), file.length, false);
                    if file.padding > 0 {
                        let size = file.padding.to_string();
                        entry_v1(out, [".pad", &size].into_iter(), file.padding, true);
                    }
                }
            });
        });
    }

    fn tree(&self, tree: &mut DictEncoder, trees: &[Option<Tree>]) {
        let files: Vec<_> = self.files.iter().zip(trees.iter().map(Option::as_ref)).collect();
        match files.as_slice() {
            [(file, hashes)] if file.path.is_empty() => {
                tree.entry(self.title.as_bytes(), |out| leaf(out, file.length, *hashes));
            }
            files => folder(tree, files, 0),
        }
    }

    fn layers(&self, layers: &mut DictEncoder, trees: &[Option<Tree>]) {
        for (file, tree) in self.files.iter().zip(trees) {
            if let Some(tree) = tree.as_ref().filter(|_| file.length > self.piece_length) {
                layers.bytes(&tree.root, &tree.layer);
            }
        }
    }
}

fn entry_v1<'a>(out: &mut Encoder, path: impl Iterator<Item = &'a str>, length: u64, is_pad: bool) {
    out.dict(|file| {
        if is_pad {
            file.bytes(b"attr", b"p");
        }
        file.uint(b"length", length);
        file.entry(b"path", |out| {
            out.list(|out| path.for_each(|part| out.bytes(part.as_bytes())));
        });
    });
}

/// The files of one folder, which lies `depth` parts deep: they are in order, so those of a folder in it stand together.
fn folder(out: &mut DictEncoder, files: &[(&Planned, Option<&Tree>)], depth: usize) {
    for group in files.chunk_by(|one, other| one.0.path.get(depth) == other.0.path.get(depth)) {
        let Some((file, tree)) = group.first() else { continue };
        let Some(part) = file.path.get(depth) else { continue };
        out.entry(part.as_bytes(), |out| {
            if file.path.len() == depth + 1 {
                leaf(out, file.length, *tree);
            } else {
                out.dict(|out| folder(out, group, depth + 1));
            }
        });
    }
}

fn leaf(out: &mut Encoder, length: u64, tree: Option<&Tree>) {
    out.dict(|node| {
        node.entry(b"", |out| {
            out.dict(|file| {
                file.uint(b"length", length);
                if let Some(tree) = tree {
                    file.bytes(b"pieces root", &tree.root);
                }
            });
        });
    });
}

fn surround(root: &mut DictEncoder, around: &Surroundings) {
    let trackers = &around.trackers;
    if let Some(first) = trackers.iter().flatten().next() {
        root.bytes(b"announce", first.as_bytes());
    }
    if trackers.iter().flatten().nth(1).is_some() {
        root.entry(b"announce-list", |out| {
            out.list(|out| {
                for tier in trackers.iter().filter(|tier| !tier.is_empty()) {
                    out.list(|out| tier.iter().for_each(|url| out.bytes(url.as_bytes())));
                }
            });
        });
    }
    if let Some(date) = around.creation_date {
        root.uint(b"creation date", date);
    }
    if let Some(program) = &around.created_by {
        root.bytes(b"created by", program.as_bytes());
    }
}
