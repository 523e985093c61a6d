use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{Change, Cursor, Key, NameStore, Record, StoreError, check_size};

/// A store that forgets all when it is dropped: for tests, and for a bridge that is to keep nothing.
#[derive(Default)]
pub struct MemoryStore {
    records: Mutex<(HashMap<Key, Record>, u64)>,
    full: AtomicBool,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets every call fail from now on, as a full disk does, or no longer.
    pub fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Release);
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.full.load(Ordering::Acquire) {
            return Err(StoreError::Full("memory".into()));
        }
        Ok(())
    }
}

impl NameStore for MemoryStore {
    fn load(&self, each: &mut dyn FnMut(Record)) -> Result<Cursor, StoreError> {
        self.check()?;
        let state = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        state.0.values().cloned().for_each(each);
        Ok(Cursor { writer: [0; 16], sequence: state.1 })
    }

    fn write(&self, batch: &[Change]) -> Result<Cursor, StoreError> {
        self.check()?;
        check_size(batch)?;
        let mut state = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let (records, sequence) = &mut *state;
        for change in batch {
            match change {
                Change::Put(record) => records.insert(record.key(), record.clone()),
                Change::Delete(key) => records.remove(key),
            };
        }
        *sequence += 1;
        Ok(Cursor { writer: [0; 16], sequence: *sequence })
    }
}

impl<S: NameStore + ?Sized> NameStore for Arc<S> {
    fn load(&self, each: &mut dyn FnMut(Record)) -> Result<Cursor, StoreError> {
        (**self).load(each)
    }

    fn write(&self, batch: &[Change]) -> Result<Cursor, StoreError> {
        (**self).write(batch)
    }
}
