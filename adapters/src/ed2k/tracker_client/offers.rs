//! The files that the bridge offers its server.

use std::collections::HashMap;

use crate::ed2k::wire::{Hash, server::FileRecord};

/// The most files that are offered.
pub(super) const MAX_OFFERS: usize = 20_000;

#[derive(Default)]
pub(super) struct Offers {
    files: HashMap<Hash, Offer>,
    /// Files that there was no room for.
    pub(super) shed: u64,
}

struct Offer {
    file: FileRecord,
    /// The session in which the server was told of it as it is now; 0 for none.
    told: u64,
}

impl Offers {
    /// Offers a file, or says something else of it; says whether the server must be told.
    pub(super) fn put(&mut self, file: FileRecord) -> bool {
        let full = self.files.len() >= MAX_OFFERS;
        match self.files.get_mut(&file.hash) {
            Some(known) if known.file == file => false,
            Some(known) => {
                *known = Offer { file, told: 0 };
                true
            }
            None if full => {
                self.shed = self.shed.saturating_add(1);
                false
            }
            None => {
                self.files.insert(file.hash, Offer { file, told: 0 });
                true
            }
        }
    }

    /// Offers a file no more. The protocol cannot take an offer back: the server forgets it with the session.
    pub(super) fn remove(&mut self, file: &Hash) {
        self.files.remove(file);
    }

    /// Files of which the server has not been told in this session, at most so many; it counts as told of them.
    /// `large` says whether it knows files over 4 GiB.
    pub(super) fn batch(&mut self, session: u64, most: usize, large: bool) -> Vec<FileRecord> {
        let untold = self.files.values_mut().filter(|offer| offer.is_untold(session, large));
        let batch = untold.take(most).map(|offer| {
            offer.told = session;
            offer.file.clone()
        });
        batch.collect()
    }

    /// Whether there is something of which the server has not been told in this session.
    pub(super) fn is_untold(&self, session: u64, large: bool) -> bool {
        self.files.values().any(|offer| offer.is_untold(session, large))
    }
}

impl Offer {
    fn is_untold(&self, session: u64, large: bool) -> bool {
        let small = || self.file.size().is_some_and(|size| u32::try_from(size).is_ok());
        self.told != session && (large || small())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ed2k::wire::server::Holder;

    fn file(number: u32, size: u64) -> FileRecord {
        let mut hash = [0; 16];
        hash[..4].copy_from_slice(&number.to_le_bytes());
        FileRecord::new(hash, Holder::Incomplete, "a", size)
    }

    #[test]
    fn a_server_is_told_of_each_file_once_in_a_session() {
        let mut offers = Offers::default();
        assert!(offers.put(file(1, 7)) && offers.put(file(2, 7)) && offers.put(file(3, 1 << 33)));
        assert!(!offers.put(file(1, 7)));
        assert_eq!(offers.batch(1, 1, false).len(), 1);
        assert_eq!(offers.batch(1, 9, false).len(), 1);
        assert!(offers.batch(1, 9, false).is_empty());
        assert_eq!(offers.batch(2, 9, true).len(), 3);
        let complete = FileRecord { holder: Holder::Complete, ..file(1, 7) };
        assert!(offers.put(complete.clone()));
        assert_eq!(offers.batch(2, 9, true), [complete]);
        offers.remove(&file(2, 7).hash);
        assert_eq!(offers.batch(3, 9, true).len(), 2);
    }

    #[test]
    fn there_is_room_for_so_many_files() {
        let mut offers = Offers::default();
        for number in 0..20_010 {
            offers.put(file(number, 7));
        }
        assert_eq!((offers.files.len(), offers.shed), (MAX_OFFERS, 10));
    }
}
