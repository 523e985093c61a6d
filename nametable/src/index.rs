use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    ops::Bound,
    sync::{Arc, PoisonError, RwLock},
};

use dashmap::DashMap;
use p2pbridge_proto::{ContentId, Name};

use crate::{Binding, EMPTY_CONTENT};

const SHARDS: usize = 256;

/// The bindings in memory: by each of their names, by content, and in the order of their main names. One thread at a
/// time changes it; readers never wait for longer than a change of one entry takes.
pub(crate) struct Index {
    by_name: DashMap<Name, Arc<Binding>>,
    /// Names by their short forms, where these differ.
    by_short: DashMap<Name, Name>,
    /// The main names of the bindings that have a content.
    by_content: DashMap<ContentId, Vec<Name>>,
    order: RwLock<BTreeSet<Name>>,
}

impl Index {
    pub(crate) fn new() -> Self {
        Self {
            by_name: sharded(),
            by_short: sharded(),
            by_content: sharded(),
            order: RwLock::new(BTreeSet::new()),
        }
    }

    pub(crate) fn get(&self, name: &Name) -> Option<Arc<Binding>> {
        self.by_name.get(name).map(|entry| Arc::clone(&entry))
    }

    /// The binding of a name, or of one whose short form this is.
    pub(crate) fn find(&self, name: &Name) -> Option<Arc<Binding>> {
        self.get(name).or_else(|| {
            let long = *self.by_short.get(name)?;
            self.get(&long)
        })
    }

    /// How many bindings there are.
    pub(crate) fn len(&self) -> usize {
        self.order.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The main names of the bindings that have a content.
    pub(crate) fn having(&self, content: &ContentId) -> Vec<Name> {
        self.by_content.get(content).map(|names| names.clone()).unwrap_or_default()
    }

    /// At most `limit` main names behind `after`, rising.
    pub(crate) fn names_after(&self, after: Option<&Name>, limit: usize) -> Vec<Name> {
        let order = self.order.read().unwrap_or_else(PoisonError::into_inner);
        let start = after.map_or(Bound::Unbounded, |name| Bound::Excluded(*name));
        order.range((start, Bound::Unbounded)).take(limit).copied().collect()
    }

    /// Puts a binding in the place of the one with its main name, and gives that, if there is one.
    pub(crate) fn put(&self, binding: &Arc<Binding>) -> Option<Arc<Binding>> {
        let old = self.get(&binding.name());
        for name in &binding.names {
            self.by_name.insert(*name, Arc::clone(binding));
            if name.short() != *name {
                self.by_short.insert(name.short(), *name);
            }
        }
        let contents = contents_of(binding);
        for content in &contents {
            let mut names = self.by_content.entry(*content).or_default();
            if !names.contains(&binding.name()) {
                names.push(binding.name());
            }
        }
        self.order.write().unwrap_or_else(PoisonError::into_inner).insert(binding.name());
        if let Some(old) = &old {
            for name in old.names.iter().filter(|name| !binding.names.contains(name)) {
                self.forget_name(name, old);
            }
            for content in contents_of(old).difference(&contents) {
                self.forget(content, &old.name());
            }
        }
        old
    }

    /// Takes a binding out, by its main name, and gives it.
    pub(crate) fn remove(&self, main: &Name) -> Option<Arc<Binding>> {
        let old = self.get(main)?;
        self.order.write().unwrap_or_else(PoisonError::into_inner).remove(main);
        for name in &old.names {
            self.forget_name(name, &old);
        }
        for content in contents_of(&old) {
            self.forget(&content, main);
        }
        Some(old)
    }

    /// Makes the index what `truth` says, changing only what differs; gives the bindings that were and are in the place
    /// of what differed.
    pub(crate) fn become_as(
        &self,
        truth: &HashMap<Name, Arc<Binding>>,
    ) -> Vec<(Option<Arc<Binding>>, Option<Arc<Binding>>)> {
        let mut changed = Vec::new();
        for name in self.names_after(None, usize::MAX) {
            if !truth.contains_key(&name) {
                changed.push((self.remove(&name), None));
            }
        }
        for (name, binding) in truth {
            if self.get(name).is_none_or(|known| known != *binding) {
                changed.push((self.put(binding), Some(Arc::clone(binding))));
            }
        }
        changed
    }

    /// Takes a name out, unless it has come to be another binding's.
    fn forget_name(&self, name: &Name, old: &Binding) {
        if self.by_name.remove_if(name, |_, binding| binding.name() == old.name()).is_some() {
            self.by_short.remove_if(&name.short(), |_, long| long == name);
        }
    }

    fn forget(&self, content: &ContentId, main: &Name) {
        if let Some(mut names) = self.by_content.get_mut(content) {
            names.retain(|name| name != main);
        }
        self.by_content.remove_if(content, |_, names| names.is_empty());
    }
}

/// The contents of a binding that have bytes.
fn contents_of(binding: &Binding) -> BTreeSet<ContentId> {
    binding.files.iter().map(|file| file.content).filter(|id| *id != EMPTY_CONTENT).collect()
}

fn sharded<K: Eq + Hash, V>() -> DashMap<K, V> {
    DashMap::with_shard_amount(SHARDS)
}
