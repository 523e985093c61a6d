//! Writing a batch: all of it at once, or nothing.

use std::{collections::HashMap, sync::Arc};

use super::{
    Change, Engine, Record, SEQUENCE_KEY, StoreError,
    pages::Plan,
    value::{
        Body, DEAD_KEY, Head, PART, PARTS_PER_BATCH, Parts, PartsId, binding_key, dead_key,
        page_key, quarantined_key,
    },
};
use crate::{Key, store::record};

/// Pages of one batch of sled, whose memory grows with it: some 30 KB for each page that was there before.
pub(super) const PAGES_AT_ONCE: usize = if cfg!(test) { 20 } else { 1_000 };

/// A batch on its way to sled.
struct Draft {
    sequence: u64,
    /// What nothing refers to yet.
    ahead: Vec<::sled::Batch>,
    /// What makes the batch true.
    commit: ::sled::Batch,
    parts: Parts,
    /// Values so far that could have parts.
    values: u32,
    /// Parts of what is replaced.
    old: Vec<(PartsId, u32)>,
}

impl Engine {
    pub(super) fn write(&mut self, batch: &[Change]) -> Result<(), StoreError> {
        // Also removes what a write that was cut short left, which the next number would make true.
        let mut pages = match self.pages.take() {
            Some(pages) => pages,
            None => self.read_pages(&mut HashMap::new(), &mut |_| {})?,
        };
        let mut draft = Draft::new(self.cursor.sequence.saturating_add(1));
        let mut contents = Vec::new();
        for change in batch {
            match change {
                Change::Put(Record::Content(content)) => {
                    contents.push((content.id, Some(Arc::clone(content))));
                }
                Change::Delete(Key::Content(id)) => contents.push((*id, None)),
                Change::Put(Record::Binding(binding)) => {
                    let key = binding_key(&binding.name());
                    draft.put(self, key, &record::encode_binding(binding))?;
                }
                Change::Put(Record::Quarantined(row)) => {
                    draft.put(self, quarantined_key(row.id), &record::encode_quarantined(row))?;
                }
                Change::Delete(Key::Binding(name)) => draft.delete(self, binding_key(name))?,
                Change::Delete(Key::Quarantined(id)) => draft.delete(self, quarantined_key(*id))?,
            }
        }
        let plan = pages.plan(&contents, PAGES_AT_ONCE, |page| self.page(page))?;
        drop(contents);
        let aside = plan.aside;
        draft.pages(self, plan)?;
        self.make(draft, aside)?;
        self.pages = Some(pages);
        Ok(())
    }

    /// First what nothing refers to yet, then all that refers to it at once.
    fn make(&mut self, draft: Draft, aside: bool) -> Result<(), StoreError> {
        let Draft { sequence, mut ahead, mut commit, parts, old, .. } = draft;
        ahead.extend(parts.batches);
        if !ahead.is_empty() {
            for batch in ahead {
                self.apply(batch)?;
            }
            self.sync()?;
        }
        commit.insert(SEQUENCE_KEY, &sequence.to_le_bytes());
        self.apply(commit)?;
        self.sync()?;
        self.cursor.sequence = sequence;
        if aside {
            self.bury()?;
        }
        self.remove_parts(&old);
        Ok(())
    }

    /// Removes the pages that a batch has said are of no more use. It comes before anything else may take their numbers.
    pub(super) fn bury(&self) -> Result<(), StoreError> {
        for row in self.db.scan_prefix([DEAD_KEY]) {
            let (key, list) = row.map_err(|error| self.sled_error(error))?;
            let (numbers, rest) = list.as_chunks();
            if !rest.is_empty() {
                return Err(self.damaged("a list of pages"));
            }
            self.delete_pages(
                &numbers.iter().map(|page| u32::from_be_bytes(*page)).collect::<Vec<_>>(),
            )?;
            self.db.remove(key).map_err(|error| self.sled_error(error))?;
        }
        Ok(())
    }

    pub(super) fn delete_pages(&self, pages: &[u32]) -> Result<(), StoreError> {
        for pages in pages.chunks(PAGES_AT_ONCE) {
            let mut batch = ::sled::Batch::default();
            pages.iter().for_each(|page| batch.remove(page_key(*page)));
            self.apply(batch)?;
        }
        Ok(())
    }

    /// Removes parts of replaced values. What fails here is found by the next sweep, and by the next write.
    fn remove_parts(&self, old: &[(PartsId, u32)]) {
        let keys = old.iter().flat_map(|(id, count)| (0..*count).map(|at| id.key(at)));
        let keys: Vec<_> = keys.collect();
        for keys in keys.chunks(PARTS_PER_BATCH) {
            let mut batch = ::sled::Batch::default();
            keys.iter().for_each(|key| batch.remove(key.as_slice()));
            if let Err(error) = self.apply(batch) {
                tracing::warn!(%error, "parts of a replaced record could not be removed yet");
                return;
            }
        }
    }
}

impl Draft {
    fn new(sequence: u64) -> Self {
        Self {
            sequence,
            ahead: Vec::new(),
            commit: ::sled::Batch::default(),
            parts: Parts::default(),
            values: 0,
            old: Vec::new(),
        }
    }

    fn put(&mut self, engine: &Engine, key: Vec<u8>, bytes: &[u8]) -> Result<(), StoreError> {
        self.replace(engine, &key)?;
        let value = self.value(bytes);
        self.commit.insert(key, value);
        Ok(())
    }

    fn delete(&mut self, engine: &Engine, key: Vec<u8>) -> Result<(), StoreError> {
        self.replace(engine, &key)?;
        self.commit.remove(key);
        Ok(())
    }

    /// Remembers the parts of what a key has now.
    fn replace(&mut self, engine: &Engine, key: &[u8]) -> Result<(), StoreError> {
        if let Some(value) = engine.get(key)?
            && let Some(Head { body: Body::Parts(id, count), .. }) = Head::parse(&value)
        {
            self.old.push((id, count));
        }
        Ok(())
    }

    /// A value with its head; when it is too long, its parts go ahead.
    fn value(&mut self, bytes: &[u8]) -> Vec<u8> {
        let sequence = self.sequence;
        let id = PartsId { sequence, number: self.values };
        self.values = self.values.saturating_add(1);
        let body = match u32::try_from(bytes.len().div_ceil(PART)).unwrap_or(u32::MAX) {
            0 | 1 => Body::Inline(bytes),
            count => Body::Parts(id, count),
        };
        if bytes.len() > PART {
            self.parts.push(id, bytes);
        }
        Head { sequence, body }.to_bytes()
    }

    /// Pages that change in their places are part of the commit. Others go ahead, under a number of a batch that is not
    /// true before the commit, which also says which pages are of no more use.
    fn pages(&mut self, engine: &Engine, plan: Plan) -> Result<(), StoreError> {
        if !plan.aside {
            for (page, bytes) in plan.put {
                self.put(engine, page_key(page), &bytes)?;
            }
            for page in plan.delete {
                self.delete(engine, page_key(page))?;
            }
            return Ok(());
        }
        for put in plan.put.chunks(PAGES_AT_ONCE) {
            let mut batch = ::sled::Batch::default();
            for (page, bytes) in put {
                batch.insert(page_key(*page), self.value(bytes));
            }
            self.ahead.push(batch);
        }
        for (dead, at) in plan.delete.chunks(PART / 4).zip(0..) {
            for page in dead {
                self.replace(engine, &page_key(*page))?;
            }
            let list: Vec<u8> = dead.iter().flat_map(|page| page.to_be_bytes()).collect();
            self.commit.insert(dead_key(self.sequence, at), list);
        }
        Ok(())
    }
}
