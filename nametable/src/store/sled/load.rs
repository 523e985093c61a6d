//! Reading all that is kept.

use std::{
    collections::HashMap,
    panic::resume_unwind,
    sync::mpsc::{Receiver, sync_channel},
    thread,
};

use super::{
    Engine, StoreError,
    page::unpack,
    pages::{Pages, Rows},
    value::{
        BINDING, Body, Head, PAGE_KEY, PART_KEY, PARTS_PER_BATCH, PartsId, QUARANTINED, page_key,
        page_number,
    },
};
use crate::{Record, store::record};

/// Pages that wait to be taken while others are read.
const PAGES_AHEAD: usize = 256;

/// The parts that are in use: their number by their id.
pub(super) type Live = HashMap<PartsId, u32>;

impl Engine {
    pub(super) fn load(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), StoreError> {
        let mut live = Live::new();
        for (prefix, decode) in [
            (BINDING, record::decode_binding as fn(&[u8]) -> _),
            (QUARANTINED, record::decode_quarantined),
        ] {
            for row in self.db.scan_prefix([prefix]) {
                let (_, value) = row.map_err(|error| self.sled_error(error))?;
                let head = Head::parse(&value).ok_or_else(|| self.damaged("a record's head"))?;
                let decoded = decode(&self.body(&head, &mut live)?);
                each(decoded.map_err(|error| self.damaged(&error.to_string()))?);
            }
        }
        let pages = self.load_contents(&mut live, each)?;
        self.pages = Some(pages);
        self.sweep(&live)
    }

    /// Gives all contents. A second thread reads and unpacks them, since whoever takes them has as much to do.
    fn load_contents(
        &self,
        live: &mut Live,
        each: &mut dyn FnMut(Record),
    ) -> Result<Pages, StoreError> {
        thread::scope(|scope| {
            let (give, take) = sync_channel::<Rows>(PAGES_AHEAD);
            let read = move || self.read_pages(live, &mut |rows| drop(give.send(rows)));
            let reader = thread::Builder::new().name("names-load".to_owned());
            let reader = reader.spawn_scoped(scope, read).map_err(|source| StoreError::Io {
                what: "start a thread that reads the name table".to_owned(),
                source,
            })?;
            take_all(take, each);
            reader.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Reads all pages; removes those of writes that were cut short.
    pub(super) fn read_pages(
        &self,
        live: &mut Live,
        out: &mut dyn FnMut(Rows),
    ) -> Result<Pages, StoreError> {
        let mut pages = Pages::new();
        let mut cut_short = Vec::new();
        for row in self.db.scan_prefix([PAGE_KEY]) {
            let (key, value) = row.map_err(|error| self.sled_error(error))?;
            let number = page_number(&key).ok_or_else(|| self.damaged("a page's key"))?;
            let head = Head::parse(&value).ok_or_else(|| self.damaged("a page's head"))?;
            if head.sequence > self.cursor.sequence {
                cut_short.push(number);
                continue;
            }
            let bytes = self.body(&head, live)?;
            let rows = unpack(&bytes).ok_or_else(|| self.damaged("a page of contents"))?;
            pages.know(number, bytes.len(), rows.iter().map(|row| row.id));
            out(rows);
            // sled lets go of what it read after so and so many accesses: without these it would hold on to hundreds
            // of MB.
            self.get(&key)?;
        }
        pages.all_known();
        self.delete_pages(&cut_short)?;
        Ok(pages)
    }

    /// What is in a page.
    pub(super) fn page(&self, number: u32) -> Result<Rows, StoreError> {
        let missing = || self.damaged("a page is missing");
        let value = self.get(&page_key(number))?.ok_or_else(missing)?;
        let head = Head::parse(&value).ok_or_else(|| self.damaged("a page's head"))?;
        let bytes = self.body(&head, &mut Live::new())?;
        unpack(&bytes).ok_or_else(|| self.damaged("a page of contents"))
    }

    /// The bytes of a value, with its parts if it was cut; these are live.
    fn body(&self, head: &Head<'_>, live: &mut Live) -> Result<Vec<u8>, StoreError> {
        let (id, count) = match head.body {
            Body::Inline(bytes) => return Ok(bytes.to_vec()),
            Body::Parts(id, count) => (id, count),
        };
        live.insert(id, count);
        let mut bytes = Vec::new();
        for at in 0..count {
            let part = self.get(&id.key(at))?.ok_or_else(|| self.damaged("a part is missing"))?;
            bytes.extend_from_slice(&part);
        }
        Ok(bytes)
    }

    /// Removes parts that nothing refers to: those of writes that were cut short.
    fn sweep(&self, live: &Live) -> Result<(), StoreError> {
        let mut dead = ::sled::Batch::default();
        let mut count = 0;
        for key in self.db.scan_prefix([PART_KEY]).keys() {
            let key = key.map_err(|error| self.sled_error(error))?;
            let (id, at) = PartsId::parse(&key).ok_or_else(|| self.damaged("a part's key"))?;
            if live.get(&id).is_none_or(|parts| at >= *parts) {
                dead.remove(key);
                count += 1;
            }
            if count == PARTS_PER_BATCH {
                self.apply(std::mem::take(&mut dead))?;
                count = 0;
            }
        }
        self.apply(dead)
    }
}

fn take_all(rows: Receiver<Rows>, each: &mut dyn FnMut(Record)) {
    for content in rows.into_iter().flatten() {
        each(Record::Content(content));
    }
}
