//! The contents of the table, beside its bindings: statements, look-ups, and who wants to hear of them.

use std::{
    collections::HashSet,
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering},
};

use p2pbridge_proto::{ContentId, Evidence, Extent, Layout, Name, Scheme};

use super::{Forget, NameTable, Writer};
use crate::{
    Binding, Change, Content, EMPTY_CONTENT, FileEntry, Key, MAX_CONTENTS, NameEvent,
    NameEventKind, Outcome, Reason, Record, Statement, StoreError,
    binding::layout_of,
    digest,
    state::{Draft, statements_of},
};

/// Bindings whose contents become known together when the table catches up with an older store.
const CATCH_UP: usize = 500;

/// Who wants to hear what becomes known of names.
pub trait NameWatcher: Send + Sync {
    /// Something has become known. Called on the thread that made it known, in the order in which it happened: it must be
    /// quick, and must not change the table.
    fn hear(&self, event: &NameEvent);
    /// Whether it wants to hear now of what was merely bound; it hears always of what has proved false, and of conflicts.
    fn wants_all(&self) -> bool {
        true
    }
}

impl<F: Fn(&NameEvent) + Send + Sync> NameWatcher for F {
    fn hear(&self, event: &NameEvent) {
        self(event);
    }
}

/// Conflicts of one call that are kept in quarantine; more are only counted and told.
const MOST_CONFLICTS: usize = 100;

/// How much the table knows, and what it has seen since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Bindings in force.
    pub bindings: usize,
    /// Contents that have names of their own.
    pub contents: usize,
    /// The names of these.
    pub names: usize,
    /// Statements in quarantine.
    pub quarantined: usize,
    /// Names that have proved false since the start.
    pub disproved: u64,
    /// Verified statements that contradicted each other since the start.
    pub conflicts: u64,
}

/// What a name is in other schemes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translated<'a> {
    /// The names, and how well they are known.
    pub names: &'a [(Name, Evidence)],
    /// Number of bytes, if it is known.
    pub length: Option<u64>,
}

impl NameTable {
    /// States that names are of the same bytes. All that a call changes is durable when it returns, and up to [`MAX_CONTENTS`]
    /// contents change together or not at all. One outcome for each
    /// statement, in their order; a later one sees what the earlier ones changed.
    ///
    /// # Errors
    /// When the store does not take it; nothing has changed then.
    pub fn state(&self, statements: &[Statement]) -> Result<Vec<Outcome>, StoreError> {
        let writer = self.fresh_writer()?;
        let mut draft = Draft::new(&self.index, &self.catalog, self.is_watched());
        let outcomes = statements.iter().map(|statement| draft.state(statement)).collect();
        self.settle(writer, draft)?;
        Ok(outcomes)
    }

    /// The content with this identity, if it has names of its own.
    #[must_use]
    pub fn content(&self, id: &ContentId) -> Option<Content> {
        self.catalog.get(id)
    }

    /// The content of a name.
    #[must_use]
    pub fn content_of(&self, name: &Name) -> Option<Content> {
        self.catalog.of(name)
    }

    /// The contents of a name that have names of their own: its own, or those of the files of its binding; at most `most`.
    #[must_use]
    pub fn contents_of(&self, name: &Name, most: usize) -> Vec<Content> {
        let mut found: Vec<Content> = self.content_of(name).into_iter().collect();
        let mut seen: HashSet<ContentId> = found.iter().map(|content| content.id).collect();
        let binding = self.index.get(name);
        for file in binding.iter().flat_map(|binding| &binding.files) {
            if found.len() >= most {
                break;
            }
            if file.content != EMPTY_CONTENT && seen.insert(file.content) {
                found.extend(self.content(&file.content));
            }
        }
        found
    }

    /// Gives for each name, in order, what names of these schemes are of the same bytes (all, when none is said). A name
    /// that is not known gives nothing. What is called must be quick, and must not ask the table.
    pub fn translate(
        &self,
        names: &[Name],
        to: &[Scheme],
        each: &mut dyn FnMut(usize, Translated<'_>),
    ) {
        let to = if to.is_empty() { &Scheme::ALL } else { to };
        let (mut row, mut next) = (Vec::new(), 0);
        let nothing = Translated { names: &[], length: None };
        self.catalog.translate(names, to, &mut |at, found| {
            (next..at).for_each(|at| each(at, nothing));
            next = at + 1;
            row.clear();
            found.names(&mut row);
            each(at, Translated { names: &row, length: found.length() });
        });
        (next..names.len()).for_each(|at| each(at, nothing));
    }

    /// The bindings that have a content, by main name; at most `most`.
    #[must_use]
    pub fn bindings_of(&self, content: &ContentId, most: usize) -> Vec<Arc<Binding>> {
        let mut names = self.index.having(content);
        names.sort_unstable();
        names.iter().filter_map(|name| self.index.get(name)).take(most).collect()
    }

    /// How a name sees its bytes: as its binding says, or as its scheme cuts a content of known length.
    #[must_use]
    pub fn layout(&self, name: &Name) -> Option<Arc<Layout>> {
        if let Some(binding) = self.index.get(name) {
            return Some(Arc::clone(&binding.layout));
        }
        let content = self.content_of(name)?;
        let (length, id) = (content.length?, content.id);
        let unit = digest::unit(name.scheme(), length)?;
        let whole = Extent { offset: 0, length, content: id, content_offset: 0 };
        let extents = if length > 0 { vec![whole] } else { Vec::new() };
        Layout::new(length, unit, extents).ok().map(Arc::new)
    }

    /// At most `limit` contents behind a cursor, which is 0 at first; and the cursor to go on from, when there are more.
    #[must_use]
    pub fn contents_page(&self, cursor: u64, limit: usize) -> (Vec<Content>, Option<u64>) {
        self.catalog.page(cursor, limit)
    }

    /// How much is known.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            bindings: self.index.len(),
            contents: self.catalog.len(),
            names: self.catalog.names(),
            quarantined: self.quarantine.read().unwrap_or_else(PoisonError::into_inner).len(),
            disproved: self.disproved.load(Ordering::Relaxed),
            conflicts: self.conflicts.load(Ordering::Relaxed),
        }
    }

    /// Bytes of memory that contents and their names take; what the store needs beside is not counted.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.catalog.memory()
    }

    /// Tells somebody everything that becomes known of names.
    pub fn watch(&self, watcher: Arc<dyn NameWatcher>) {
        self.watchers.write().unwrap_or_else(PoisonError::into_inner).push(watcher);
    }

    pub(super) fn is_watched(&self) -> bool {
        let watchers = self.watchers.read().unwrap_or_else(PoisonError::into_inner);
        watchers.iter().any(|watcher| watcher.wants_all())
    }

    /// Makes a draft durable and true, and tells of it.
    pub(super) fn settle(
        &self,
        mut writer: MutexGuard<'_, Writer>,
        mut draft: Draft<'_>,
    ) -> Result<(), StoreError> {
        let mut batch = draft.changes();
        let conflicts = std::mem::take(&mut draft.conflicts);
        let (disproved, events) = (draft.disproved, std::mem::take(&mut draft.events));
        drop(draft);
        let contradicted = conflicts.len() as u64;
        let mut kept: Vec<Binding> = Vec::new();
        for (statement, text) in conflicts {
            tracing::error!(%text, "two verified statements of names differ");
            if kept.len() < MOST_CONFLICTS
                && let Some(binding) = as_binding(&statement)
                && !self.is_in_quarantine(&binding)
                && !kept.iter().any(|other| other.names == binding.names)
            {
                kept.push(binding.clone());
                batch.extend(self.quarantining(Arc::new(binding), Reason::Conflict, &text, &batch));
            }
        }
        let of_binding = |change: &Change| {
            matches!(change, Change::Put(Record::Binding(_)) | Change::Delete(Key::Binding(_)))
        };
        let changed = batch.iter().any(of_binding);
        if !batch.is_empty() {
            self.commit_large(&mut writer, batch)?;
        }
        self.conflicts.fetch_add(contradicted, Ordering::Relaxed);
        self.disproved.fetch_add(disproved, Ordering::Relaxed);
        let watchers = self.watchers.read().unwrap_or_else(PoisonError::into_inner);
        for event in &events {
            if event.kind == NameEventKind::Disproved {
                let names: Vec<_> = event.names.iter().map(ToString::to_string).collect();
                tracing::warn!(names = names.join(" "), text = %event.text, "names have proved false");
            }
            watchers.iter().for_each(|watcher| watcher.hear(event));
        }
        drop(watchers);
        drop(writer);
        if changed {
            self.tell();
        }
        Ok(())
    }

    /// Writes a batch in one, or, when it is larger than the store takes: what is merely known of contents before the rest,
    /// and the contents that go behind it.
    pub(super) fn commit_large(
        &self,
        writer: &mut Writer,
        batch: Vec<Change>,
    ) -> Result<(), StoreError> {
        let is_put = |change: &Change| matches!(change, Change::Put(Record::Content(_)));
        let goes = |change: &Change| matches!(change, Change::Delete(Key::Content(_)));
        if batch.len() <= MAX_CONTENTS {
            return self.commit(writer, &batch);
        }
        let (contents, rest): (Vec<_>, Vec<_>) = batch.into_iter().partition(is_put);
        for contents in contents.chunks(MAX_CONTENTS) {
            self.commit(writer, contents)?;
        }
        let (gone, rest): (Vec<_>, Vec<_>) = rest.into_iter().partition(goes);
        self.commit(writer, &rest)?;
        gone.chunks(MAX_CONTENTS).try_for_each(|gone| self.commit(writer, gone))
    }

    /// States what bindings say of whose contents nothing is known: the store was written before there were contents.
    pub(super) fn catch_up(&self) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let (page, next) = self.list(after.as_ref(), CATCH_UP);
            let of = |binding: &Arc<Binding>| {
                statements_of(binding, binding.evidence.min(Evidence::Attested))
            };
            let mut said: Vec<_> = page.iter().flat_map(of).collect();
            said.retain(|statement| {
                statement.content.is_some_and(|id| self.content(&id).is_none())
            });
            if !said.is_empty() {
                self.state(&said)?;
            }
            match next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Takes out of contents what a binding that goes said of them. A name of bytes stays when somebody else said it.
    pub(super) fn forget_names_of(&self, draft: &mut Draft<'_>, binding: &Binding, forget: Forget) {
        if forget == Forget::Nothing {
            return;
        }
        for name in &binding.names {
            let others = forget == Forget::OnlyIts
                && name.scheme().is_of_bytes()
                && self.catalog.of(name).is_some_and(|content| {
                    content.known(name).is_some_and(|it| *it.stated_by != *binding.stated_by)
                });
            if !others {
                draft.forget(name);
            }
        }
        for file in binding.files.iter().filter(|file| file.content != EMPTY_CONTENT) {
            let alone = self.index.having(&file.content).iter().all(|main| *main == binding.name());
            let known = file.digest.and_then(|digest| {
                Some((digest, self.catalog.of(&digest)?.known(&digest)?.stated_by.clone()))
            });
            if let Some((digest, stated_by)) = known
                && alone
                && *stated_by == *binding.stated_by
            {
                draft.forget(&digest);
            }
        }
    }
}

/// A statement in the form in which the quarantine keeps it.
fn as_binding(statement: &Statement) -> Option<Binding> {
    let length = statement.length.unwrap_or(0);
    let file = FileEntry {
        path: statement.title.clone(),
        length,
        offset: 0,
        content: EMPTY_CONTENT,
        digest: None,
    };
    let unit = length.max(1);
    let layout = layout_of(length, unit, std::slice::from_ref(&file)).ok()?;
    let now = std::time::SystemTime::now();
    Some(Binding {
        names: statement.names.clone(),
        layout: Arc::new(layout),
        files: vec![file],
        evidence: statement.evidence,
        overlays: Vec::new(),
        title: statement.title.clone(),
        stated_by: statement.stated_by.to_string(),
        created: now,
        updated: now,
        version: 1,
        description: None,
    })
}
