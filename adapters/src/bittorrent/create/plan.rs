//! What a torrent is to hold, and where its bytes lie.

use super::{
    super::{
        merkle,
        metainfo::{MAX_FILES, MAX_PIECE_LENGTH, part_problem},
    },
    CreateError, Version,
};

/// The most parts of a path: readers bound how deep a file tree is.
const MAX_PARTS: usize = 64;

/// A torrent whose bytes are not hashed yet: checked, and in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub(super) version: Version,
    pub(super) title: String,
    pub(super) piece_length: u64,
    pub(super) files: Vec<Planned>,
    length: u64,
}

/// A file of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The parts of its path below the folder that the torrent is of; none when the torrent is of this file alone, whose
    /// name is then the title.
    pub path: Vec<String>,
    /// Its bytes.
    pub length: u64,
    /// Bytes of padding behind it in the layout of version 1 (BEP 47).
    pub padding: u64,
}

impl Plan {
    /// Plans a torrent of files, each with the parts of its path below the folder `title`, and its length. A lone file
    /// without parts is called `title` itself.
    ///
    /// # Errors
    /// When readers would refuse it: for its piece length, a path, or for holding no bytes.
    pub fn new(
        version: Version,
        title: &str,
        piece_length: u64,
        files: Vec<(Vec<String>, u64)>,
    ) -> Result<Self, CreateError> {
        check_piece_length(version, piece_length)?;
        check_part(title, title)?;
        let lone = matches!(files.as_slice(), [(path, _)] if path.is_empty());
        let mut files: Vec<_> =
            files.into_iter().map(|(path, length)| Planned { path, length, padding: 0 }).collect();
        if !lone {
            files.iter().try_for_each(|file| check_path(&file.path))?;
        }
        files.sort_by(|one, other| one.path.cmp(&other.path));
        let mut pairs = files.iter().zip(files.iter().skip(1));
        if let Some((_, clash)) = pairs.find(|(one, next)| next.path.starts_with(&one.path)) {
            return Err(CreateError::Clash(clash.path.join("/")));
        }
        if version == Version::V1 {
            files.sort_by_cached_key(|file| file.path.join("/"));
        }
        if version == Version::Hybrid && files.len() > 1 {
            files.iter_mut().for_each(|file| file.padding = padding(file.length, piece_length));
        }
        let length = files.iter().try_fold(0u64, |sum, file| {
            let sum = sum.checked_add(file.length)?.checked_add(file.padding)?;
            (sum <= i64::MAX as u64).then_some(sum)
        });
        let entries = files.len() + files.iter().filter(|file| file.padding > 0).count();
        match length {
            None => Err(CreateError::TooLong),
            Some(0) => Err(CreateError::Empty),
            Some(_) if entries > MAX_FILES => Err(CreateError::TooManyFiles(entries)),
            Some(length) => {
                Ok(Self { version, title: title.to_owned(), piece_length, files, length })
            }
        }
    }

    /// The files in the order in which their bytes are hashed: that of the file tree (each part as raw bytes); of version
    /// 1 alone that of the whole paths, as mktorrent has it.
    #[must_use]
    pub fn files(&self) -> &[Planned] {
        &self.files
    }

    /// Bytes of a piece.
    #[must_use]
    pub const fn piece_length(&self) -> u64 {
        self.piece_length
    }

    /// The versions.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Whether zeros fill each file up to a piece border in the pieces of version 1, the last file too. So it is in a
    /// hybrid of more than one file (libtorrent pads the last one too since 2.0).
    #[must_use]
    pub fn is_padded(&self) -> bool {
        self.version == Version::Hybrid && self.files.len() > 1
    }

    /// How many pieces version 1 has.
    #[must_use]
    pub const fn pieces(&self) -> u64 {
        self.length.div_ceil(self.piece_length)
    }

    /// Whether it is of one file that lies in no folder.
    pub(super) fn is_lone(&self) -> bool {
        matches!(self.files.as_slice(), [file] if file.path.is_empty())
    }
}

fn check_piece_length(version: Version, length: u64) -> Result<(), CreateError> {
    if version.has_v2() {
        let good = length.is_power_of_two() && (merkle::LEAF..=MAX_PIECE_LENGTH).contains(&length);
        return if good { Ok(()) } else { Err(CreateError::PieceLengthV2(length)) };
    }
    match length {
        1..=MAX_PIECE_LENGTH => Ok(()),
        _ => Err(CreateError::PieceLength(length)),
    }
}

fn check_path(parts: &[String]) -> Result<(), CreateError> {
    let problem = match parts.len() {
        0 => Some("a file of a folder has no path".to_owned()),
        1..=MAX_PARTS => None,
        more => Some(format!("its path has {more} parts, more than {MAX_PARTS}")),
    };
    match problem {
        Some(problem) => Err(CreateError::Path { path: parts.join("/"), problem }),
        None => parts.iter().try_for_each(|part| check_part(&parts.join("/"), part)),
    }
}

fn check_part(path: &str, part: &str) -> Result<(), CreateError> {
    let Some(problem) = part_problem(part.as_bytes()) else { return Ok(()) };
    let shown: String = part.chars().take(80).collect();
    Err(CreateError::Path {
        path: path.chars().take(1024).collect(),
        problem: format!("the part {shown:?} {problem}"),
    })
}

/// Bytes from the end of a file to the next border.
fn padding(length: u64, piece_length: u64) -> u64 {
    match length % piece_length {
        0 => 0,
        over => piece_length - over,
    }
}
