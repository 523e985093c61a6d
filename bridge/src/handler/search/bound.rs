//! What the name table calls the contents that are bound: follows it.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, RwLock},
};

use p2pbridge_nametable::{Binding, EMPTY_CONTENT, FileEntry, NameTable};
use p2pbridge_proto::{ContentId, Name};

use super::{Index, TitleCounts};

/// Bindings whose names of a file are gathered, and different names of a file that are kept.
const BINDINGS: usize = 16;
const TITLES: usize = 4;

/// The titles of what is bound.
pub(in crate::handler) struct Bound {
    /// Files, by the names that bindings give them.
    pub(super) files: RwLock<Index<ContentId>>,
    /// Bindings of several files, and those that have a title other than their file's name; by main name.
    pub(super) wholes: RwLock<Index<Name>>,
}

impl Bound {
    /// The titles of all that is bound, now and from now on. Takes as long as reading them takes.
    pub(in crate::handler) fn follow(names: &Arc<NameTable>) -> Arc<Self> {
        let bound =
            Arc::new(Self { files: RwLock::new(Index::new()), wholes: RwLock::new(Index::new()) });
        let (weak, table) = (Arc::downgrade(&bound), Arc::downgrade(names));
        names.follow(Box::new(move |old, new| {
            if let (Some(bound), Some(names)) = (weak.upgrade(), table.upgrade()) {
                bound.hear(&names, old, new);
            }
        }));
        bound
    }

    pub(in crate::handler) fn counts(&self) -> TitleCounts {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let wholes = self.wholes.read().unwrap_or_else(PoisonError::into_inner);
        TitleCounts::of(&files).plus(TitleCounts::of(&wholes))
    }

    /// A binding has changed. What it is now is read from the table, under the lock: so the last to write has read the
    /// last change.
    fn hear(&self, names: &NameTable, old: Option<&Binding>, new: Option<&Binding>) {
        if let (Some(old), Some(new)) = (old, new)
            && (&old.title, &old.files) == (&new.title, &new.files)
        {
            return;
        }
        if let Some(binding) = old.or(new) {
            let main = binding.name();
            let mut wholes = self.wholes.write().unwrap_or_else(PoisonError::into_inner);
            let now = names.get(&main);
            match now.filter(|binding| !is_its_file(binding)) {
                Some(now) => wholes.set(main, &[&now.title], now.layout.length()),
                None => wholes.remove(&main),
            }
        }
        let files = [old, new].into_iter().flatten().flat_map(|binding| &binding.files);
        let contents: BTreeSet<ContentId> =
            files.map(|file| file.content).filter(|id| *id != EMPTY_CONTENT).collect();
        for content in contents {
            let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
            let bindings = names.bindings_of(&content, BINDINGS);
            let entries = bindings.iter().flat_map(|binding| &binding.files);
            let entries = entries.filter(|file| file.content == content);
            let (mut titles, mut length) = (Vec::new(), 0);
            for file in entries {
                length = file.length;
                if titles.len() < TITLES && !titles.contains(&file_name(file)) {
                    titles.push(file_name(file));
                }
            }
            files.set(content, &titles, length);
        }
    }
}

/// The last part of a file's path.
fn file_name(file: &FileEntry) -> &str {
    file.path.rsplit('/').next().unwrap_or_default()
}

/// Whether a binding is found by its only file.
fn is_its_file(binding: &Binding) -> bool {
    match binding.files.as_slice() {
        [file] => binding.title.is_empty() || binding.title == file_name(file),
        _ => binding.title.is_empty(),
    }
}
