//! What a Bind changes: worked out in full before anything is written.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::SystemTime,
};

use p2pbridge_proto::{ContentId, Evidence, Layout, Name};

use crate::{
    BindError, Binding, EMPTY_CONTENT, FileEntry, MAX_BATCH, MAX_FILES, MAX_PROPOSALS, Proposal,
    binding::layout_of,
    error::MAX_NAMES,
    groups::{Groups, Identities, Involved},
    index::Index,
    pairing::{self, Node, grouped, shown},
};

/// What a Bind comes to.
pub(crate) struct Plan {
    /// Contents that are found to be another.
    pub(crate) renamed: HashMap<ContentId, ContentId>,
    /// The bindings of the proposals, in their order.
    pub(crate) bindings: Vec<Arc<Binding>>,
    /// Bindings that are new or changed, those of other names too.
    pub(crate) puts: Vec<Arc<Binding>>,
}

/// Why there is no plan.
pub(crate) enum Refusal {
    /// The proposals are no good.
    Bad(BindError),
    /// The table says otherwise of a name: the statement, and the error that says so.
    Conflict(Box<Binding>, BindError),
}

impl From<BindError> for Refusal {
    fn from(error: BindError) -> Self {
        Self::Bad(error)
    }
}

/// Works out a Bind against the index.
pub(crate) fn plan(
    index: &Index,
    proposals: &[Proposal],
    now: SystemTime,
) -> Result<Plan, Refusal> {
    check(proposals)?;
    let known = known_bindings(index, proposals, now)?;
    let pairing = pairing::pair(proposals)?;
    let groups = Groups::new(proposals, &known, &pairing.same);
    let involved = Involved::find(index, &known);
    groups.check_digests(proposals, &known, &involved)?;
    let Identities { ids, renamed } = groups.identities(&known, &involved)?;

    let mut plan = Plan { renamed: HashMap::new(), bindings: Vec::new(), puts: Vec::new() };
    for (at, proposal) in proposals.iter().enumerate() {
        let files = files_of(at, proposal, known[at].as_deref(), &ids);
        let old = known[at].as_ref();
        let binding = restate(proposal, files, pairing.evidence[at], old, now)?;
        match old {
            Some(old) if **old == binding => plan.bindings.push(Arc::clone(old)),
            _ => {
                let binding = Arc::new(binding);
                plan.bindings.push(Arc::clone(&binding));
                plan.puts.push(binding);
            }
        }
    }
    let own: HashSet<Name> = plan.bindings.iter().map(|binding| binding.name()).collect();
    for other in involved.bindings.values().filter(|other| !own.contains(&other.name())) {
        if other.files.iter().any(|file| renamed.contains_key(&file.content)) {
            plan.puts.push(Arc::new(repointed(other, &renamed, Evidence::Attested, now)?));
        }
    }
    plan.renamed = renamed;
    if plan.puts.len() > MAX_BATCH {
        let (what, count) = ("bindings that change together", plan.puts.len());
        return Err(BindError::TooMany { what, count, most: MAX_BATCH }.into());
    }
    Ok(plan)
}

/// Checks what can be checked of the proposals alone.
fn check(proposals: &[Proposal]) -> Result<(), BindError> {
    if proposals.is_empty() {
        return Err(BindError::Empty);
    }
    let files = proposals.iter().map(|proposal| proposal.files.len()).sum();
    for (what, count, most) in
        [("proposals", proposals.len(), MAX_PROPOSALS), ("files", files, MAX_FILES)]
    {
        if count > most {
            return Err(BindError::TooMany { what, count, most });
        }
    }
    let mut seen: HashMap<Name, &Proposal> = HashMap::new();
    for proposal in proposals {
        let (label, count) = (proposal.label.clone(), proposal.names.len());
        if count == 0 || count > MAX_NAMES {
            return Err(BindError::Names { label, count });
        }
        for name in proposal.names.iter().collect::<BTreeSet<_>>() {
            if let Some(other) = seen.insert(*name, proposal) {
                return Err(same_name(*name, other, proposal));
            }
        }
        let files = bare_files(proposal);
        layout_of(proposal.length, proposal.unit, &files)
            .map_err(|source| BindError::Layout { label, source })?;
    }
    Ok(())
}

fn same_name(name: Name, one: &Proposal, other: &Proposal) -> BindError {
    BindError::SameName { name, label: one.label.clone(), other_label: other.label.clone() }
}

/// The binding in force of each proposal, if there is one, once it is sure that it says the same.
fn known_bindings(
    index: &Index,
    proposals: &[Proposal],
    now: SystemTime,
) -> Result<Vec<Option<Arc<Binding>>>, Refusal> {
    let mut owners: HashMap<Name, &Proposal> = HashMap::new();
    let mut all = Vec::new();
    for proposal in proposals {
        let mut known: Option<Arc<Binding>> = None;
        for name in &proposal.names {
            let Some(found) = index.get(name) else { continue };
            let difference = match &known {
                Some(first) if first.name() != found.name() => {
                    Some(format!("{} is another binding's name", first.name()))
                }
                _ => difference(&found, proposal),
            };
            if let Some(difference) = difference {
                let (name, label) = (*name, proposal.label.clone());
                let conflict = BindError::Conflict { name, label, difference };
                let layout =
                    layout_of(proposal.length, proposal.unit, &bare_files(proposal)).map_err(
                        |source| BindError::Layout { label: proposal.label.clone(), source },
                    )?;
                let statement = stated(proposal, bare_files(proposal), layout, now);
                return Err(Refusal::Conflict(Box::new(statement), conflict));
            }
            known = Some(found);
        }
        if let Some(found) = &known
            && let Some(other) = owners.insert(found.name(), proposal)
        {
            return Err(same_name(found.name(), other, proposal).into());
        }
        all.push(known);
    }
    Ok(all)
}

/// What a proposal says otherwise than the binding in force.
fn difference(known: &Binding, proposal: &Proposal) -> Option<String> {
    let differs = |what: &str, old: u64, new: u64| {
        let (old, new) = (grouped(old), grouped(new));
        (old != new).then(|| format!("its {what} is {old}, not {new}"))
    };
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    differs("length", known.layout.length(), proposal.length)
        .or_else(|| differs("unit length", known.layout.unit(), proposal.unit))
        .or_else(|| {
            differs("number of files", count(known.files.len()), count(proposal.files.len()))
        })
        .or_else(|| {
            known.files.iter().zip(&proposal.files).find_map(|(old, new)| {
                let path = shown(&new.path);
                let clash = |(old, new): (Name, Name)| old.scheme() == new.scheme() && old != new;
                if (old.offset, old.length) != (new.offset, new.length) {
                    Some(format!("its file `{path}` lies elsewhere"))
                } else if old.digest.zip(new.digest).is_some_and(clash) {
                    Some(format!("its file `{path}` has another digest"))
                } else {
                    None
                }
            })
        })
}

/// A proposal's files, without contents.
fn bare_files(proposal: &Proposal) -> Vec<FileEntry> {
    let bare = proposal.files.iter().map(|file| FileEntry {
        path: file.path.clone(),
        length: file.length,
        offset: file.offset,
        content: EMPTY_CONTENT,
        digest: file.digest,
    });
    bare.collect()
}

/// A proposal's files with their contents. What is known of a file beyond the proposal is kept.
fn files_of(
    at: usize,
    proposal: &Proposal,
    known: Option<&Binding>,
    ids: &HashMap<Node, ContentId>,
) -> Vec<FileEntry> {
    let mut files = match known {
        Some(known) => known.files.clone(),
        None => bare_files(proposal),
    };
    for (number, (file, new)) in files.iter_mut().zip(&proposal.files).enumerate() {
        file.content = ids.get(&(at, number)).copied().unwrap_or(EMPTY_CONTENT);
        file.digest = file.digest.or(new.digest);
    }
    files
}

/// A proposal as a first statement.
fn stated(proposal: &Proposal, files: Vec<FileEntry>, layout: Layout, now: SystemTime) -> Binding {
    Binding {
        names: distinct(&proposal.names),
        layout: Arc::new(layout),
        files,
        evidence: Evidence::Attested,
        overlays: distinct(&proposal.overlays),
        title: proposal.title.clone(),
        stated_by: proposal.stated_by.clone(),
        created: now,
        updated: now,
        version: 1,
        description: proposal.description,
    }
}

/// The binding of a proposal, on top of the one in force; equal to it when nothing changes.
fn restate(
    proposal: &Proposal,
    files: Vec<FileEntry>,
    evidence: Evidence,
    old: Option<&Arc<Binding>>,
    now: SystemTime,
) -> Result<Binding, BindError> {
    let layout = layout_of(proposal.length, proposal.unit, &files)
        .map_err(|source| BindError::Layout { label: proposal.label.clone(), source })?;
    let Some(old) = old else {
        let new = stated(proposal, files, layout, now);
        return Ok(Binding { evidence, ..new });
    };
    let joined = old.files.iter().zip(&files).any(|(old, new)| old.content != new.content);
    let kept = if joined { old.evidence.min(Evidence::Attested) } else { old.evidence };
    let layout = if joined { Arc::new(layout) } else { Arc::clone(&old.layout) };
    let mut binding = Binding {
        names: distinct(old.names.iter().chain(&proposal.names)),
        layout,
        files,
        evidence: kept.max(evidence),
        overlays: distinct(old.overlays.iter().chain(&proposal.overlays)),
        description: proposal.description.or(old.description),
        // What somebody states is no longer the bridge's own.
        stated_by: match old.is_composed() {
            true => proposal.stated_by.clone(),
            false => old.stated_by.clone(),
        },
        ..(**old).clone()
    };
    if binding != **old {
        binding.version = old.version.saturating_add(1);
        binding.updated = now;
    }
    Ok(binding)
}

/// A binding whose contents have become others: no better known than `most`.
pub(crate) fn repointed(
    other: &Binding,
    renamed: &HashMap<ContentId, ContentId>,
    most: Evidence,
    now: SystemTime,
) -> Result<Binding, BindError> {
    let mut binding = other.clone();
    for file in &mut binding.files {
        file.content = renamed.get(&file.content).copied().unwrap_or(file.content);
    }
    let (length, unit) = (binding.layout.length(), binding.layout.unit());
    let layout = layout_of(length, unit, &binding.files)
        .map_err(|source| BindError::Layout { label: other.title.clone(), source })?;
    binding.layout = Arc::new(layout);
    binding.evidence = binding.evidence.min(most);
    binding.version = binding.version.saturating_add(1);
    binding.updated = now;
    Ok(binding)
}

fn distinct<'a, T: Clone + PartialEq + 'a>(items: impl IntoIterator<Item = &'a T>) -> Vec<T> {
    let mut list: Vec<T> = Vec::new();
    for item in items {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
    list
}
