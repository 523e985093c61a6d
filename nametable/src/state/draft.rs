use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use p2pbridge_proto::{ContentId, Evidence, Name};

use super::{NameEvent, NameEventKind, Outcome, What, best, check, clash::Clash, statements_of};
use crate::{
    Binding, Change, Content, EMPTY_CONTENT, Key, Known, MAX_CONTENT_NAMES, Record, Statement,
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

/// A content to which a statement may belong.
struct Candidate {
    content: Content,
    /// The names by which it is linked; empty for the one that the statement is said to be of.
    links: Vec<Name>,
    anchored: bool,
    /// In use by bindings, meant, best known, having most names.
    weight: (bool, bool, Evidence, usize, ContentId),
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
                let outcome = self.state(&statement);
                if let What::Refused(why) = outcome.what {
                    tracing::warn!(name = %binding.name(), %why, "a name of a bound content is not taken");
                }
            }
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
            } else if let Some(files) = self.files_behind(name)
                && anchor.is_none()
            {
                return Err(format!(
                    "{name} is known to name {files} files: say which of them it is of"
                ));
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
                let weight = (bound, anchored, best(&content), content.names.len(), id);
                Candidate { content, links, anchored, weight }
            })
            .collect();
        found.sort_by(|one, other| other.weight.cmp(&one.weight));
        Ok(found)
    }

    /// How many files a bound name stands for, unless it is one.
    fn files_behind(&self, name: &Name) -> Option<usize> {
        let binding = self.bindings.values().find(|binding| binding.names.contains(name)).cloned();
        let binding = binding.or_else(|| self.index.get(name))?;
        let files = binding.files.iter().filter(|file| file.content != EMPTY_CONTENT).count();
        (files != 1).then_some(files)
    }

    fn renamed(&self, mut id: ContentId) -> ContentId {
        while let Some(next) = self.renamed.get(&id) {
            id = *next;
        }
        id
    }

    /// Makes the changes of a merge.
    fn take(&mut self, statement: &Statement, merge: Merge) -> Outcome {
        let Merge { base, old, others, apart, dropped, proven } = merge;
        let id = base.id;
        for content in apart {
            self.put(content);
        }
        for other in &others {
            self.contents.insert(*other, None);
            self.rename(*other, id, proven);
        }
        if !dropped.is_empty() {
            self.disproved += dropped.len() as u64;
            let text = format!("{} say otherwise", statement.stated_by);
            self.tell(NameEventKind::Disproved, Some(&base), dropped, text);
        }
        if others.is_empty() && old.as_ref() == Some(&base) {
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

/// Why a statement is not taken.
struct Refusal {
    text: String,
    /// What it contradicts is verified, and so is it.
    alarm: bool,
}

/// A statement and the contents that it is of, becoming one.
struct Merge {
    /// What is known then.
    base: Content,
    /// The content with this id, as it was.
    old: Option<Content>,
    /// Contents that become this one.
    others: Vec<ContentId>,
    /// Contents that were linked by a name that proved not to be theirs, without it.
    apart: Vec<Content>,
    /// Names that proved false.
    dropped: Vec<Name>,
    /// Whether it is proven that the others are the same bytes.
    proven: bool,
}

impl Merge {
    fn new(
        statement: &Statement,
        candidates: Vec<Candidate>,
        now: SystemTime,
    ) -> Result<Self, Refusal> {
        let none = Content { id: EMPTY_CONTENT, length: None, title: String::new(), names: vec![] };
        let mut merge = Self {
            base: none,
            old: None,
            others: Vec::new(),
            apart: Vec::new(),
            dropped: Vec::new(),
            proven: false,
        };
        let mut cap = statement.evidence;
        let mut names = statement.names.clone();
        for candidate in candidates {
            let Some(candidate) = merge.fit(statement, &names, candidate)? else { continue };
            let (joined, link) = candidate;
            if merge.base.id == EMPTY_CONTENT {
                cap = link.cap(statement, &joined);
                names.extend(joined.names.iter().map(|known| known.name));
                merge.old = Some(joined.clone()).filter(|old| !old.names.is_empty());
                merge.base = joined;
            } else {
                let second = link.cap(statement, &joined).min(cap);
                merge.proven =
                    link.strong && (second == Evidence::Verified || statement.content.is_some());
                merge.absorb(joined, second);
            }
        }
        merge.add(statement, cap, now);
        if merge.base.names.len() > MAX_CONTENT_NAMES {
            let text = format!("the content would have more than {MAX_CONTENT_NAMES} names");
            return Err(Refusal { text, alarm: false });
        }
        Ok(merge)
    }

    /// Looks whether a content agrees with the statement. Gives it, without what yields; or nothing, when it turns out that
    /// it is not meant.
    fn fit(
        &mut self,
        statement: &Statement,
        names: &[Name],
        candidate: Candidate,
    ) -> Result<Option<(Content, Link)>, Refusal> {
        let Candidate { mut content, links, anchored, .. } = candidate;
        let of_link = links.iter().filter_map(|name| content.known(name));
        let linked = of_link.map(|known| known.evidence).max().unwrap_or(Evidence::Hint);
        let linked = if anchored { Evidence::Verified } else { linked };
        let strong = anchored || links.iter().any(|name| name.scheme().is_strong());
        let length = statement.length.or(self.base.length);
        let clash = Clash::of(&content, names, length);
        let link = Link { evidence: linked, strong, anchored };
        let Some(against) = clash.evidence else { return Ok(Some((content, link))) };
        let says = statement.evidence;
        let shown = links.first().or(statement.names.first()).copied();
        let refusal = || Refusal {
            text: shown.map_or_else(String::new, |name| clash.words(&name)),
            alarm: says == Evidence::Verified,
        };
        let by_statement = clash.length.is_some()
            || clash.names.iter().all(|(_, rival)| statement.names.contains(rival));
        if !by_statement && says < Evidence::Verified {
            // It would make one of two contents that are known to differ.
            return Err(refusal());
        }
        if linked < against {
            if says <= linked {
                return Err(refusal());
            }
            // The link is what is least well known: the name was never of that content.
            content.names.retain(|known| !links.contains(&known.name));
            self.dropped.extend(links);
            self.apart.push(content);
            return Ok(None);
        }
        if says <= against {
            return Err(refusal());
        }
        let length_yields = clash.length.is_some();
        let yields = |known: &Known| {
            let rivals = clash.names.iter().any(|(old, _)| *old == known.name);
            rivals || (length_yields && known.evidence < says && !names.contains(&known.name))
        };
        self.dropped.extend(content.names.iter().filter(|k| yields(k)).map(|known| known.name));
        content.names.retain(|known| !yields(known));
        if length_yields {
            content.length = statement.length;
        }
        Ok(Some((content, link)))
    }

    /// Takes another content's names over.
    fn absorb(&mut self, other: Content, cap: Evidence) {
        self.others.push(other.id);
        self.base.length = self.base.length.or(other.length);
        if self.base.title.is_empty() {
            self.base.title = other.title;
        }
        for known in other.names {
            let evidence = known.evidence.min(cap);
            match self.base.names.iter_mut().find(|mine| mine.name == known.name) {
                Some(mine) => mine.evidence = mine.evidence.max(evidence),
                None => self.base.names.push(Known { evidence, ..known }),
            }
        }
    }

    /// Adds what the statement says.
    fn add(&mut self, statement: &Statement, cap: Evidence, now: SystemTime) {
        self.base.length = self.base.length.or(statement.length);
        if self.base.title.is_empty() {
            self.base.title.clone_from(&statement.title);
        }
        for name in &statement.names {
            let stated_by = Arc::clone(&statement.stated_by);
            let new = Known { name: *name, evidence: cap, stated_by, since: now };
            match self.base.names.iter_mut().find(|known| known.name == *name) {
                Some(known) if known.evidence >= cap => {}
                Some(known) => *known = new,
                None => self.base.names.push(new),
            }
        }
    }
}

/// How a statement is linked to a content.
struct Link {
    evidence: Evidence,
    strong: bool,
    anchored: bool,
}

impl Link {
    /// How well what the statement says is known to be of the content.
    fn cap(&self, statement: &Statement, content: &Content) -> Evidence {
        if self.anchored || content.names.is_empty() {
            return statement.evidence;
        }
        let top = best(content);
        let cap = if self.evidence == top {
            statement.evidence
        } else {
            statement.evidence.min(self.evidence)
        };
        // Hashes that can be forged do not prove that what was hashed here and there is the same.
        let elsewhere = |known: &Known| {
            known.evidence == Evidence::Verified && !statement.names.contains(&known.name)
        };
        if !self.strong && content.names.iter().any(elsewhere) {
            cap.min(Evidence::Attested)
        } else {
            cap
        }
    }
}
