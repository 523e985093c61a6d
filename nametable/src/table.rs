use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use p2pbridge_proto::{ContentId, Evidence, Name};

use crate::{
    BindError, Binding, Change, Content, EMPTY_CONTENT, Key, NameEventKind, NameStore, Proposal,
    Quarantined, Reason, Record, Statement, StoreError, What,
    catalog::Catalog,
    index::Index,
    plan::{Refusal, plan},
    state::Draft,
};

mod contents;

pub use contents::{Counts, NameWatcher, Translated};

/// What was taken back.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Taken {
    /// The binding of the name.
    pub binding: Option<Arc<Binding>>,
    /// Of a name of bytes alone: the content without it.
    pub content: Option<Content>,
}

impl Taken {
    /// Whether the name was not known.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.binding.is_none() && self.content.is_none()
    }
}

/// A statement about a file of a proposal: its number, the file's number, and what is said of the file's bytes.
#[derive(Debug, Clone)]
pub struct AboutFile {
    /// The proposal.
    pub proposal: usize,
    /// The file in it.
    pub file: usize,
    /// What is said; its own content is not looked at.
    pub statement: Statement,
}

/// The most others that [`NameTable::resolve`] gives.
pub const MAX_EQUIVALENTS: usize = 1_000;

/// The most statements that are kept in quarantine; over it, the oldest goes.
pub const MAX_QUARANTINED: usize = 1_000;

/// Bindings that are told at once of those that there are already.
const PAGE: usize = 1_000;

/// The most letters that are kept of a reason.
const MAX_TEXT: usize = 1_000;

/// What is forgotten of contents with a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Forget {
    /// Its names, whoever said that they are of these bytes.
    All,
    /// What only it said.
    OnlyIts,
    /// Nothing: it said what was known anyway.
    Nothing,
}

type Subscriber = Box<dyn Fn() + Send + Sync>;

/// Is given a binding as it was and as it is, or none where there was or is none.
type Follower = Box<dyn Fn(Option<&Binding>, Option<&Binding>) + Send + Sync>;

/// The names that the bridge knows: an index in memory in front of a store.
///
/// Reads never wait for the store, and go on while it is out of order. Changes wait for it, one at a time: call them
/// off the async threads. What a change returned is durable; a change that failed may show after the next one, when
/// the store turns out to have taken it after all.
pub struct NameTable {
    index: Index,
    catalog: Catalog,
    quarantine: RwLock<BTreeMap<u64, Arc<Quarantined>>>,
    writer: Mutex<Writer>,
    changes: AtomicU64,
    subscribers: RwLock<Vec<Subscriber>>,
    followers: RwLock<Vec<Follower>>,
    watchers: RwLock<Vec<Arc<dyn NameWatcher>>>,
    disproved: AtomicU64,
    conflicts: AtomicU64,
}

struct Writer {
    store: Box<dyn NameStore>,
    /// A write has failed: the store may hold more than the index.
    stale: bool,
}

impl NameTable {
    /// Loads what the store holds.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(store: Box<dyn NameStore>) -> Result<Self, StoreError> {
        let table = Self {
            index: Index::new(),
            catalog: Catalog::new(),
            quarantine: RwLock::default(),
            writer: Mutex::new(Writer { store, stale: true }),
            changes: AtomicU64::new(0),
            subscribers: RwLock::default(),
            followers: RwLock::default(),
            watchers: RwLock::default(),
            disproved: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
        };
        drop(table.fresh_writer()?);
        table.catch_up()?;
        Ok(table)
    }

    /// States that proposals name the same contents, or makes one known alone; gives their bindings, in order. All or
    /// nothing, and repeating it changes nothing. A name of which the table says otherwise goes to quarantine.
    ///
    /// # Errors
    /// When files have no counterpart, a name is bound otherwise, or the store does not take it.
    pub fn bind(&self, proposals: &[Proposal]) -> Result<Vec<Arc<Binding>>, BindError> {
        Ok(self.bind_with(proposals, &[], Evidence::Attested)?.0)
    }

    /// As [`Self::bind`], with so much evidence at least; and states of files of the proposals what names their bytes have
    /// besides. Gives the identities of these files' contents too.
    ///
    /// # Errors
    /// As [`Self::bind`], and when a statement contradicts what is known.
    pub fn bind_with(
        &self,
        proposals: &[Proposal],
        about: &[AboutFile],
        evidence: Evidence,
    ) -> Result<(Vec<Arc<Binding>>, Vec<ContentId>), BindError> {
        let mut writer = self.fresh_writer()?;
        let plan = match plan(&self.index, proposals, SystemTime::now()) {
            Ok(plan) => plan,
            Err(Refusal::Bad(error)) => return Err(error),
            Err(Refusal::Conflict(statement, error)) => {
                self.keep_conflict(&mut writer, *statement, &error);
                return Err(error);
            }
        };
        let mains: Vec<Name> = plan.bindings.iter().map(|binding| binding.name()).collect();
        let mut draft = Draft::new(&self.index, &self.catalog, self.is_watched());
        draft.bind_all(plan);
        let mut contents = Vec::with_capacity(about.len());
        for AboutFile { proposal, file, statement } in about {
            let binding = mains.get(*proposal).and_then(|main| draft.binding(main));
            let content = binding.and_then(|binding| Some(binding.files.get(*file)?.content));
            let outcome = draft.state(&Statement { content, ..statement.clone() });
            match (outcome.content, outcome.what) {
                (Some(content), _) => contents.push(content),
                (None, What::Refused(why)) => return self.give_up(writer, draft, why),
                (None, _) => return Err(BindError::Empty),
            }
        }
        for main in mains.iter().filter(|_| evidence > Evidence::Attested) {
            if let Err(why) = draft.raise(main, evidence) {
                return self.give_up(writer, draft, why);
            }
        }
        let bindings = mains.iter().filter_map(|main| draft.binding(main)).collect();
        self.settle(writer, draft)?;
        Ok((bindings, contents))
    }

    /// Changes nothing, but for what an operator must hear of.
    fn give_up<T>(
        &self,
        writer: MutexGuard<'_, Writer>,
        mut draft: Draft<'_>,
        why: String,
    ) -> Result<T, BindError> {
        draft.abandon();
        self.settle(writer, draft)?;
        Err(BindError::Statement(why))
    }

    /// The binding of a name.
    #[must_use]
    pub fn get(&self, name: &Name) -> Option<Arc<Binding>> {
        self.index.get(name)
    }

    /// The binding of a name as peers say it: in full, or in its short form.
    #[must_use]
    pub fn find(&self, name: &Name) -> Option<Arc<Binding>> {
        self.index.find(name)
    }

    /// The binding of a name, and those of other names that share a content with it, by main name; of these at most
    /// [`MAX_EQUIVALENTS`].
    #[must_use]
    pub fn resolve(&self, name: &Name) -> Option<(Arc<Binding>, Vec<Arc<Binding>>)> {
        let binding = self.index.get(name)?;
        let mut names = BTreeSet::new();
        let contents: HashSet<_> = binding.files.iter().map(|file| file.content).collect();
        for content in contents.iter().filter(|content| **content != EMPTY_CONTENT) {
            for other in self.index.having(content) {
                if other != binding.name() && names.len() < MAX_EQUIVALENTS {
                    names.insert(other);
                }
            }
        }
        let others = names.iter().filter_map(|name| self.index.get(name)).collect();
        Some((binding, others))
    }

    /// Raises the evidence of a name's binding, and of what it says of its contents; `false` when the binding's was not
    /// lower, the name is not known, or what it says contradicts what is verified.
    ///
    /// # Errors
    /// When the store does not take it.
    pub fn raise(&self, name: &Name, evidence: Evidence) -> Result<bool, StoreError> {
        let writer = self.fresh_writer()?;
        let Some(old) = self.index.get(name) else { return Ok(false) };
        let mut draft = Draft::new(&self.index, &self.catalog, self.is_watched());
        let raised = draft.raise(&old.name(), evidence).unwrap_or_else(|why| {
            tracing::error!(%name, %why, "the evidence of a binding is not raised");
            draft.abandon();
            false
        });
        self.settle(writer, draft)?;
        Ok(raised)
    }

    /// Takes a binding that was proved false out of use, and keeps it in quarantine; `false` when the name is not known.
    ///
    /// # Errors
    /// When the store does not take it.
    pub fn quarantine(&self, name: &Name, text: &str) -> Result<bool, StoreError> {
        let mut writer = self.fresh_writer()?;
        let Some(binding) = self.index.get(name) else { return Ok(false) };
        let mut batch = self.unbinding(&binding, Forget::All);
        batch.extend(self.quarantining(binding.clone(), Reason::Disproved, text, &[]));
        self.commit_large(&mut writer, batch)?;
        let mut told = Draft::new(&self.index, &self.catalog, false);
        told.disproved = 1;
        let names = binding.names.clone();
        told.tell(NameEventKind::Disproved, None, names, text.to_owned());
        self.settle(writer, told)?;
        self.tell();
        Ok(true)
    }

    /// Takes a name back: its binding, or, when it has none, what is said of it as a name of bytes. With a binding that
    /// the bridge made itself, both: it would make it again.
    ///
    /// # Errors
    /// When the store does not take it.
    pub fn unbind(&self, name: &Name) -> Result<Taken, StoreError> {
        let mut writer = self.fresh_writer()?;
        let mut draft = Draft::new(&self.index, &self.catalog, self.is_watched());
        let Some(binding) = self.index.get(name) else {
            let content = draft.forget(name);
            draft.tell(NameEventKind::Unbound, content.as_ref(), vec![*name], String::new());
            if content.is_some() {
                self.settle(writer, draft)?;
            }
            return Ok(Taken { binding: None, content });
        };
        let names = binding.names.clone();
        draft.tell(NameEventKind::Unbound, None, names, binding.title.clone());
        let forget = if binding.is_composed() { Forget::All } else { Forget::OnlyIts };
        self.commit_large(&mut writer, self.unbinding(&binding, forget))?;
        self.settle(writer, draft)?;
        self.tell();
        Ok(Taken { binding: Some(binding), content: None })
    }

    /// Takes back a binding that the bridge made itself; what is known of its names stays. `false` when there is none.
    ///
    /// # Errors
    /// When the store does not take it.
    pub fn decompose(&self, name: &Name) -> Result<bool, StoreError> {
        let mut writer = self.fresh_writer()?;
        let Some(binding) = self.index.get(name).filter(|binding| binding.is_composed()) else {
            return Ok(false);
        };
        self.commit_large(&mut writer, self.unbinding(&binding, Forget::Nothing))?;
        drop(writer);
        self.tell();
        Ok(true)
    }

    /// What taking a binding out changes: it, and what was said of contents with it.
    fn unbinding(&self, binding: &Binding, forget: Forget) -> Vec<Change> {
        let mut draft = Draft::new(&self.index, &self.catalog, false);
        self.forget_names_of(&mut draft, binding, forget);
        let mut batch = vec![Change::Delete(Key::Binding(binding.name()))];
        batch.extend(draft.changes());
        batch
    }

    /// At most `limit` bindings behind a main name, in the order of these; and, when there are more, the name to go on
    /// after.
    #[must_use]
    pub fn list(&self, after: Option<&Name>, limit: usize) -> (Vec<Arc<Binding>>, Option<Name>) {
        let mut names = self.index.names_after(after, limit.saturating_add(1));
        let more = names.len() > limit;
        names.truncate(limit);
        let next = names.last().copied().filter(|_| more);
        (names.iter().filter_map(|name| self.index.get(name)).collect(), next)
    }

    /// What is in quarantine, the oldest first: conflicts, and alarms.
    #[must_use]
    pub fn quarantined(&self) -> Vec<Arc<Quarantined>> {
        self.quarantine.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// How many bindings there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no binding.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A number that rises with every change.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Calls a function after every change of bindings, on the thread that made it. It must be quick, and must not
    /// subscribe.
    pub fn subscribe(&self, subscriber: Subscriber) {
        self.subscribers.write().unwrap_or_else(PoisonError::into_inner).push(subscriber);
    }

    /// Calls a function for every binding now, and after each change of one, on the thread that made it, when the table has
    /// it. It must be quick, must not change the table, and may be told of a binding more than once.
    pub fn follow(&self, follower: Follower) {
        let mut after = None;
        let follower = {
            let mut followers = self.followers.write().unwrap_or_else(PoisonError::into_inner);
            followers.push(follower);
            followers.len() - 1
        };
        loop {
            let (page, next) = self.list(after.as_ref(), PAGE);
            let followers = self.followers.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(follower) = followers.get(follower) {
                page.iter().for_each(|binding| follower(None, Some(binding)));
            }
            match next {
                Some(next) => after = Some(next),
                None => return,
            }
        }
    }

    fn tell_followers(&self, changed: &[(Option<Arc<Binding>>, Option<Arc<Binding>>)]) {
        let followers = self.followers.read().unwrap_or_else(PoisonError::into_inner);
        for (old, new) in changed {
            followers.iter().for_each(|follower| follower(old.as_deref(), new.as_deref()));
        }
    }

    /// The one that may write, once the index is what the store holds.
    fn fresh_writer(&self) -> Result<MutexGuard<'_, Writer>, StoreError> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.stale {
            let (mut bindings, mut quarantine) = (HashMap::new(), BTreeMap::new());
            let mut contents = self.catalog.reload();
            writer.store.load(&mut |record| match record {
                Record::Binding(binding) => {
                    bindings.insert(binding.name(), binding);
                }
                Record::Content(content) => contents.put(&content),
                Record::Quarantined(row) => {
                    quarantine.insert(row.id, row);
                }
            })?;
            self.tell_followers(&self.index.become_as(&bindings));
            contents.finish();
            *self.quarantine.write().unwrap_or_else(PoisonError::into_inner) = quarantine;
            self.changes.fetch_add(1, Ordering::AcqRel);
            writer.stale = false;
        }
        Ok(writer)
    }

    /// Writes a batch; when it is durable, it comes into the index.
    fn commit(&self, writer: &mut Writer, batch: &[Change]) -> Result<(), StoreError> {
        if let Err(error) = writer.store.write(batch) {
            tracing::warn!(%error, "the name table's store did not take a change");
            // What was too large was not tried.
            writer.stale = !matches!(error, StoreError::TooLarge { .. });
            return Err(error);
        }
        let mut quarantine = self.quarantine.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = Vec::new();
        for change in batch {
            match change {
                Change::Put(Record::Binding(binding)) => {
                    changed.push((self.index.put(binding), Some(Arc::clone(binding))));
                }
                Change::Delete(Key::Binding(name)) => changed.push((self.index.remove(name), None)),
                Change::Put(Record::Content(content)) => self.catalog.put(content),
                Change::Delete(Key::Content(id)) => {
                    self.catalog.remove(id);
                }
                Change::Put(Record::Quarantined(row)) => {
                    quarantine.insert(row.id, Arc::clone(row));
                }
                Change::Delete(Key::Quarantined(id)) => {
                    quarantine.remove(id);
                }
            }
        }
        drop(quarantine);
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.tell_followers(&changed);
        Ok(())
    }

    /// Puts a conflicting statement in quarantine, once.
    fn keep_conflict(&self, writer: &mut Writer, statement: Binding, error: &BindError) {
        tracing::warn!(%error, "two statements of a name differ");
        if self.is_in_quarantine(&statement) {
            return;
        }
        let text = error.to_string();
        let batch = self.quarantining(Arc::new(statement), Reason::Conflict, &text, &[]);
        // When this fails, the caller still hears of the conflict, and the log of the store.
        let _ = self.commit(writer, &batch);
    }

    /// Whether the same statement is in quarantine as a conflict.
    fn is_in_quarantine(&self, statement: &Binding) -> bool {
        self.quarantined().iter().any(|row| {
            row.reason == Reason::Conflict
                && row.binding.names == statement.names
                && row.binding.layout == statement.layout
                && row.binding.files == statement.files
        })
    }

    /// The changes that put a statement in quarantine, behind those of `before`, and take the oldest out when there is no
    /// room.
    fn quarantining(
        &self,
        binding: Arc<Binding>,
        reason: Reason,
        text: &str,
        before: &[Change],
    ) -> Vec<Change> {
        let quarantine = self.quarantine.read().unwrap_or_else(PoisonError::into_inner);
        let is_row = |change: &&Change| matches!(change, Change::Put(Record::Quarantined(_)));
        let others = before.iter().filter(is_row).count() as u64;
        let last = quarantine.last_key_value().map_or(0, |(last, _)| *last);
        let id = last.saturating_add(others).saturating_add(1);
        let (text, at) = (text.chars().take(MAX_TEXT).collect(), SystemTime::now());
        let row = Quarantined { id, binding, reason, text, at };
        let mut batch = vec![Change::Put(Record::Quarantined(Arc::new(row)))];
        let going = |id: &u64| before.contains(&Change::Delete(Key::Quarantined(*id)));
        if quarantine.len() + before.iter().filter(is_row).count() >= MAX_QUARANTINED
            && let Some(oldest) = oldest(&quarantine, going)
        {
            batch.push(Change::Delete(Key::Quarantined(oldest)));
        }
        batch
    }

    fn tell(&self) {
        for subscriber in &*self.subscribers.read().unwrap_or_else(PoisonError::into_inner) {
            subscriber();
        }
    }
}

/// The oldest conflict that is not going yet; alarms go only when there is nothing else.
fn oldest(
    quarantine: &BTreeMap<u64, Arc<Quarantined>>,
    going: impl Fn(&u64) -> bool,
) -> Option<u64> {
    let mut left = quarantine.values().filter(|row| !going(&row.id));
    let first = left.clone().next();
    left.find(|row| row.reason == Reason::Conflict).or(first).map(|row| row.id)
}

#[cfg(test)]
mod tests;
