//! Files named by the SHA-256 of what is in them.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// SHA-256 of a blob.
pub type BlobId = [u8; 32];

/// A directory of files named by the SHA-256 of what is in them. All calls block.
#[derive(Debug)]
pub struct Blobs {
    dir: PathBuf,
}

/// Why a blob is not there.
#[derive(Debug, Error)]
pub enum BlobError {
    /// The disk does not take it or give it.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What came of it.
        source: io::Error,
    },
    /// What is in the file is not what was put there.
    #[error("{0} is damaged: bind its description again")]
    Damaged(PathBuf),
}

impl Blobs {
    /// Opens the directory, and makes it when there is none. What an interrupted write left is removed.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn open(dir: &Path) -> Result<Self, BlobError> {
        let failed = |source| BlobError::Io { path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(failed)?;
        for entry in fs::read_dir(dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "part") {
                fs::remove_file(&path).map_err(failed)?;
            }
        }
        Ok(Self { dir: dir.to_owned() })
    }

    /// Keeps bytes; they are on the disk when this returns.
    ///
    /// # Errors
    /// When the disk does not take them.
    pub fn put(&self, bytes: &[u8]) -> Result<BlobId, BlobError> {
        let id: BlobId = Sha256::digest(bytes).into();
        let path = self.path(&id);
        if fs::read(&path).is_ok_and(|there| there == bytes) {
            return Ok(id);
        }
        let mut mark = [0; 8];
        // Without random bytes, two writers of the same blob at once may disturb each other; the hash finds that.
        let _ = getrandom::fill(&mut mark);
        let part = self.dir.join(format!("{}.part", HEXLOWER.encode(&mark)));
        let written = File::create(&part)
            .and_then(|mut file| {
                file.write_all(bytes)?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&part, &path))
            .and_then(|()| File::open(&self.dir)?.sync_all());
        written.map_err(|source| {
            // It may never have been made.
            let _ = fs::remove_file(&part);
            BlobError::Io { path, source }
        })?;
        Ok(id)
    }

    /// Gives bytes back.
    ///
    /// # Errors
    /// When the disk does not give them, or they are not what was put there.
    pub fn get(&self, id: &BlobId) -> Result<Bytes, BlobError> {
        let path = self.path(id);
        match fs::read(&path) {
            Ok(bytes) if BlobId::from(Sha256::digest(&bytes)) == *id => Ok(bytes.into()),
            Ok(_) => Err(BlobError::Damaged(path)),
            Err(source) => Err(BlobError::Io { path, source }),
        }
    }

    fn path(&self, id: &BlobId) -> PathBuf {
        self.dir.join(HEXLOWER.encode(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_comes_back_or_is_called_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(&dir.path().join("new/blobs")).unwrap();
        let id = blobs.put(b"one").unwrap();
        assert_eq!(blobs.put(b"one").unwrap(), id);
        assert_eq!(blobs.get(&id).unwrap(), "one");
        fs::write(blobs.path(&id), b"two").unwrap();
        assert!(matches!(blobs.get(&id), Err(BlobError::Damaged(_))));
        blobs.put(b"one").unwrap();
        assert_eq!(blobs.get(&id).unwrap(), "one", "it is put right again");
        assert!(matches!(blobs.get(&[0; 32]), Err(BlobError::Io { .. })));
        fs::write(dir.path().join("new/blobs/77.part"), b"x").unwrap();
        Blobs::open(&dir.path().join("new/blobs")).unwrap();
        assert!(!dir.path().join("new/blobs/77.part").exists());
    }
}
