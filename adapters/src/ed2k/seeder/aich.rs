//! Hashes of a part's blocks, out of the bytes: for clients that have got a corrupt part from somebody.

use std::sync::Arc;

use super::super::{
    describe::Ed2kFile,
    wire::transfer::{AichHash, Recovery},
};
use crate::ContentReader;

/// The hashes that prove the blocks of a part by a root, which is the file's.
pub(super) async fn recovery(
    _reader: Arc<dyn ContentReader>,
    _file: Arc<Ed2kFile>,
    _part: u16,
    _root: AichHash,
) -> Option<(u16, AichHash, Recovery)> {
    None
}
