//! Contents in memory. A plain form, until the compact one is in its place: whoever brings that one replaces this file.
use crate::Content;
use p2pbridge_proto::{ContentId, Name};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};
#[derive(Default)]
pub(crate) struct Catalog(Mutex<(HashMap<ContentId, Content>, HashMap<Name, ContentId>)>);
impl Catalog {
    pub(crate) fn new() -> Self {
        Self::default()
    }
    pub(crate) fn put(&self, content: &Content) {
        self.remove(&content.id);
        let mut me = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for k in &content.names {
            me.1.insert(k.name, content.id);
        }
        me.0.insert(content.id, content.clone());
    }
    pub(crate) fn remove(&self, id: &ContentId) {
        let mut me = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = me.0.remove(id) {
            for k in old.names {
                if me.1.get(&k.name) == Some(id) {
                    me.1.remove(&k.name);
                }
            }
        }
    }
    pub(crate) fn get(&self, id: &ContentId) -> Option<Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.get(id).cloned()
    }
    pub(crate) fn id_of(&self, name: &Name) -> Option<ContentId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.get(name).copied()
    }
    pub(crate) fn of(&self, name: &Name) -> Option<Content> {
        self.get(&self.id_of(name)?)
    }
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.len()
    }
    pub(crate) fn names(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.len()
    }
    pub(crate) fn page(&self, from: u64, limit: usize) -> (Vec<Content>, Option<u64>) {
        let me = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: Vec<_> = me.0.values().skip(from as usize).take(limit).cloned().collect();
        let next = from + all.len() as u64;
        let more = (next as usize) < me.0.len();
        (all, more.then_some(next))
    }
}
impl Catalog {
    pub(crate) fn retain(&self, keep: &std::collections::HashSet<ContentId>) {
        let ids: Vec<_> =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).0.keys().copied().collect();
        for id in ids {
            if !keep.contains(&id) {
                self.remove(&id);
            }
        }
    }
}
