use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use p2pbridge_proto::{ContentId, Evidence, Name};

use super::{
    NameEvent, NameEventKind, Outcome, What, check,
    merge::{Candidate, Merge, Refusal},
    statements_of,
};
use crate::{
    Binding, Change, Content, EMPTY_CONTENT, Key, Known, Record, Statement,
    catalog::Catalog,
    index::Index,
    plan::{Plan, repointed},
};

/// The changes of some statements, on top of what is in force, before anything is written. Later statements see what the
/// earlier ones changed.
pub(crate) struct Draft<'a> {
    index: &'a Index,
    catalog: &'a Catalog,
    /// Contents that change; `None` for those that go.
    contents: HashMap<ContentId, Option<Content>>,
    /// Names that change their content.
    owners: HashMap<Name, Option<ContentId>>,
    /// Bindings that change.
    bindings: BTreeMap<Name, Arc<Binding>>,
    /// Contents that were found to be another.
    renamed: HashMap<ContentId, ContentId>,
    /// Statements that contradict verified ones and claim to be verified themselves.
    pub(crate) conflicts: Vec<(Statement, String)>,
    /// Names that proved false.
    pub(crate) disproved: u64,
    pub(crate) events: Vec<NameEvent>,
    /// Whether anybody wants to hear of what is merely bound.
    watched: bool,
    now: SystemTime,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(index: &'a Index, catalog: &'a Catalog, watched: bool) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            index,
            catalog,
            contents: HashMap::new(),
            owners: HashMap::new(),
            bindings: BTreeMap::new(),
            renamed: HashMap::new(),
            conflicts: Vec::new(),
            disproved: 0,
            events: Vec::new(),
            watched,
            now: UNIX_EPOCH + Duration::from_secs(since.as_secs()),
        }
    }

    /// Puts the bindings of a plan in force, and states what they say of their contents.
    pub(crate) fn bind_all(&mut self, plan: Plan) {
        for put in &plan.puts {
            self.bind(Arc::clone(put));
        }
        for (old, new) in &plan.renamed {
            self.renamed.insert(*old, *new);
            self.join(*old, *new);
        }
        for binding in plan.bindings {
            // That descriptions agree does not make their names names of bytes that somebody has hashed.
            for statement in statements_of(&binding, binding.evidence.min(Evidence::Attested)) {
                self.describe(&binding, &statement);
            }
        }
    }

    /// States what a description says of a file. It knows best what its own names are: who says otherwise yields.
    fn describe(&mut self, binding: &Binding, statement: &Statement) {
        let What::Refused(why) = self.state(statement).what else { return };
        let less_known = |draft: &Self, name: &Name| {
            let content = draft.owner(name).and_then(|id| draft.content(&id));
            content.and_then(|content| Some(content.known(name)?.evidence < Evidence::Verified))
        };
        let own: Vec<Name> = binding.names.clone();
        let yields: Vec<Name> =
            own.into_iter().filter(|name| less_known(self, name) == Some(true)).collect();
        for name in &yields {
            self.forget(name);
        }
        if let What::Refused(why) = self.state(statement).what {
            tracing::warn!(name = %binding.name(), %why, "the digest of a bound file is not taken");
            let own = |name: &&Name| binding.names.contains(name);
            let names: Vec<Name> = statement.names.iter().filter(own).copied().collect();
            self.state(&Statement { names, ..statement.clone() });
        }
        if !yields.is_empty() {
            self.disproved += yields.len() as u64;
            self.tell(NameEventKind::Disproved, None, yields, why);
        }
    }

    /// Lets one content's names be another's, as far as they agree.
    fn join(&mut self, old: ContentId, new: ContentId) {
        let Some(content) = self.content(&old) else { return };
        self.put(Content { names: Vec::new(), ..content.clone() });
        for known in content.names {
            self.state(&Statement {
                content: Some(new),
                names: vec![known.name],
                length: content.length,
                title: content.title.clone(),
                evidence: known.evidence.min(Evidence::Attested),
                stated_by: known.stated_by,
            });
        }
    }

    /// Takes all back but what an operator must hear of.
    pub(crate) fn abandon(&mut self) {
        self.contents.clear();
        self.owners.clear();
        self.bindings.clear();
        self.renamed.clear();
        self.disproved = 0;
        self.events.retain(|event| event.kind == NameEventKind::Conflict);
    }

    /// Raises the evidence of a binding, and states what it says of its contents with that; says whether it was lower.
    pub(crate) fn raise(&mut self, main: &Name, evidence: Evidence) -> Result<bool, String> {
        let Some(old) = self.binding(main) else { return Ok(false) };
        for statement in statements_of(&old, evidence) {
            if let What::Refused(why) = self.state(&statement).what {
                return Err(why);
            }
        }
        // It may have been renamed by that.
        let now = self.binding(main).unwrap_or(old);
        let rises = now.evidence < evidence;
        if rises {
            let (version, updated) = (now.version.saturating_add(1), SystemTime::now());
            self.bind(Arc::new(Binding { evidence, version, updated, ..(*now).clone() }));
            if evidence == Evidence::Verified {
                let text = "every byte has matched".to_owned();
                self.tell(NameEventKind::Proved, None, now.names.clone(), text);
            }
        }
        Ok(rises)
    }

    /// Puts a binding in force.
    pub(crate) fn bind(&mut self, binding: Arc<Binding>) {
        self.bindings.insert(binding.name(), binding);
    }

    /// A binding as it will be.
    pub(crate) fn binding(&self, main: &Name) -> Option<Arc<Binding>> {
        self.bindings.get(main).cloned().or_else(|| self.index.get(main))
    }

    /// All changes.
    pub(crate) fn changes(&self) -> Vec<Change> {
        let bindings = self.bindings.values();
        let bindings = bindings.map(|binding| Change::Put(Record::Binding(Arc::clone(binding))));
        let contents = self.contents.iter().map(|(id, content)| match content {
            Some(content) => Change::Put(Record::Content(Arc::new(content.clone()))),
            None => Change::Delete(Key::Content(*id)),
        });
        // What goes comes last: its names are found in others by then.
        let mut contents: Vec<_> = contents.collect();
        contents.sort_by_key(|change| matches!(change, Change::Delete(_)));
        bindings.chain(contents).collect()
    }

    /// The content with this id, as it will be.
    fn content(&self, id: &ContentId) -> Option<Content> {
        match self.contents.get(id) {
            Some(changed) => changed.clone(),
            None => self.catalog.get(id),
        }
    }

    /// The content of a name, as it will be.
    fn owner(&self, name: &Name) -> Option<ContentId> {
        match self.owners.get(name) {
            Some(changed) => *changed,
            None => self.catalog.id_of(name),
        }
    }

    /// Puts a content in the place of the one with its id; one without names goes.
    fn put(&mut self, content: Content) {
        if let Some(old) = self.content(&content.id) {
            for known in &old.names {
                if self.owner(&known.name) == Some(content.id) {
                    self.owners.insert(known.name, None);
                }
            }
        }
        for known in &content.names {
            self.owners.insert(known.name, Some(content.id));
        }
        let id = content.id;
        self.contents.insert(id, (!content.names.is_empty()).then_some(content));
    }

    /// Takes names out of the content that has them.
    pub(crate) fn forget(&mut self, name: &Name) -> Option<Content> {
        let mut content = self.content(&self.owner(name)?)?;
        content.names.retain(|known| known.name != *name);
        self.put(content.clone());
        Some(content)
    }

    /// Takes one statement in, or refuses it, changing nothing then.
    pub(crate) fn state(&mut self, statement: &Statement) -> Outcome {
        if let Err(why) = check(statement) {
            return Outcome::refused(why);
        }
        let candidates = match self.candidates(statement) {
            Ok(candidates) => candidates,
            Err(why) => return Outcome::refused(why),
        };
        let mut merge = match Merge::new(statement, candidates, self.now) {
            Ok(merge) => merge,
            Err(why) => return self.refuse(statement, why),
        };
        if merge.base.id == EMPTY_CONTENT {
            match ContentId::random() {
                Ok(id) => merge.base.id = id,
                Err(error) => {
                    return Outcome::refused(format!("no random bytes for its identity: {error}"));
                }
            }
        }
        self.take(statement, merge)
    }

    /// A statement that contradicts what is at least as well known.
    fn refuse(&mut self, statement: &Statement, why: Refusal) -> Outcome {
        if why.alarm {
            self.conflicts.push((statement.clone(), why.text.clone()));
            self.tell(NameEventKind::Conflict, None, statement.names.clone(), why.text.clone());
        }
        Outcome::refused(why.text)
    }

    /// The contents that a statement speaks of, the heaviest first.
    fn candidates(&self, statement: &Statement) -> Result<Vec<Candidate>, String> {
        let mut links: BTreeMap<ContentId, Vec<Name>> = BTreeMap::new();
        let anchor = statement.content.map(|id| self.renamed(id)).filter(|id| *id != EMPTY_CONTENT);
        if let Some(anchor) = anchor {
            links.insert(anchor, Vec::new());
        }
        for name in &statement.names {
            if let Some(id) = self.owner(name) {
                links.entry(id).or_default().push(*name);
                continue;
            }
            match self.behind(name) {
                Some((1, id)) => links.entry(id).or_default().push(*name),
                Some((files, _)) if anchor.is_none() => {
                    return Err(format!(
                        "{name} is known to name {files} files: say which of them it is of"
                    ));
                }
                _ => {}
            }
        }
        let mut found: Vec<Candidate> = links
            .into_iter()
            .map(|(id, links)| {
                let empty =
                    || Content { id, length: None, title: String::new(), names: Vec::new() };
                let content = self.content(&id).unwrap_or_else(empty);
                let bound = !self.index.having(&id).is_empty();
                let anchored = anchor == Some(id);
                let owned = bound && links.iter().any(|name| self.owns(name, &id));
                Candidate { content, links, anchored, bound, owned }
            })
            .collect();
        found.sort_by_cached_key(|candidate| std::cmp::Reverse(candidate.weight()));
        Ok(found)
    }

    /// Whether a name is that of a binding of this content alone.
    fn owns(&self, name: &Name, content: &ContentId) -> bool {
        self.behind(name) == Some((1, *content))
    }

    /// How many files that are not empty a bound name stands for, and the first one's content.
    fn behind(&self, name: &Name) -> Option<(usize, ContentId)> {
        let main = self.index.get(name).map(|binding| binding.name());
        let binding = match main {
            Some(main) => self.binding(&main),
            None => self.bindings.values().find(|b| b.names.contains(name)).cloned(),
        }?;
        let mut filled = binding.files.iter().filter(|file| file.content != EMPTY_CONTENT);
        let first = filled.next()?.content;
        Some((1 + filled.count(), first))
    }

    fn renamed(&self, mut id: ContentId) -> ContentId {
        while let Some(next) = self.renamed.get(&id) {
            id = *next;
        }
        id
    }

    /// Makes the changes of a merge.
    fn take(&mut self, statement: &Statement, merge: Merge) -> Outcome {
        let Merge { base, old, others, apart, dropped } = merge;
        let id = base.id;
        for content in apart {
            self.put(content);
        }
        for (other, proven) in &others {
            self.contents.insert(*other, None);
            self.rename(*other, id, *proven);
        }
        let nothing_yields = dropped.is_empty();
        if !nothing_yields {
            self.disproved += dropped.len() as u64;
            let text = format!("{} say otherwise", statement.stated_by);
            self.tell(NameEventKind::Disproved, Some(&base), dropped, text);
        }
        if nothing_yields && others.is_empty() && old.as_ref() == Some(&base) {
            return Outcome { content: Some(id), what: What::Known };
        }
        let fresh = |known: &&Known| {
            let before = old.as_ref().and_then(|old| old.known(&known.name));
            before.is_none_or(|before| before.evidence < known.evidence)
        };
        let news: Vec<&Known> = base.names.iter().filter(fresh).collect();
        let names: Vec<Name> = news.iter().map(|known| known.name).collect();
        let proved = news.iter().any(|known| known.evidence == Evidence::Verified);
        let what = if old.is_some() { What::Extended } else { What::Created };
        if self.watched && !names.is_empty() {
            let kind = if proved { NameEventKind::Proved } else { NameEventKind::Bound };
            self.tell(kind, Some(&base), names, format!("stated by {}", statement.stated_by));
        }
        self.put(base);
        Outcome { content: Some(id), what }
    }

    /// Lets all that refers to a content refer to the one that it was found to be.
    fn rename(&mut self, old: ContentId, new: ContentId, proven: bool) {
        self.renamed.insert(old, new);
        let staged = self
            .bindings
            .values()
            .filter(|binding| binding.files.iter().any(|file| file.content == old));
        let mut mains: BTreeSet<Name> = staged.map(|binding| binding.name()).collect();
        mains.extend(self.index.having(&old));
        let renamed = HashMap::from([(old, new)]);
        for main in mains {
            let Some(binding) = self.binding(&main) else { continue };
            let cap = if proven { Evidence::Verified } else { Evidence::Attested };
            match repointed(&binding, &renamed, cap, self.now) {
                Ok(binding) => self.bind(Arc::new(binding)),
                // Its layout was good before, and only the identity changes.
                Err(error) => {
                    tracing::error!(%error, name = %main, "a binding could not be renamed")
                }
            }
        }
    }

    /// Remembers an event.
    pub(crate) fn tell(
        &mut self,
        kind: NameEventKind,
        content: Option<&Content>,
        names: Vec<Name>,
        text: String,
    ) {
        let (content, at) = (content.cloned(), self.now);
        self.events.push(NameEvent { kind, content, names, text, at });
    }
}
