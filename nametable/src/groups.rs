//! Which files of a Bind, and of the table, are one content; and which identity that has from then on.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use p2pbridge_proto::{ContentId, Evidence, Name};

use crate::{
    BindError, Binding, EMPTY_CONTENT, Proposal,
    index::Index,
    pairing::{Node, shown},
    state::excludes,
};

/// Files that are the same content, as sets of nodes.
pub(crate) struct Groups {
    number_of: HashMap<Node, usize>,
    sets: Vec<Vec<Node>>,
}

impl Groups {
    /// Joins what pairing found with what the table knows to be one content.
    pub(crate) fn new(
        proposals: &[Proposal],
        known: &[Option<Arc<Binding>>],
        same: &[(Node, Node)],
    ) -> Self {
        let mut nodes: Vec<Node> = Vec::new();
        let mut number_of = HashMap::new();
        for (at, proposal) in proposals.iter().enumerate() {
            for (file, _) in proposal.files.iter().enumerate().filter(|(_, file)| file.length > 0) {
                number_of.insert((at, file), nodes.len());
                nodes.push((at, file));
            }
        }
        let mut parents: Vec<usize> = (0..nodes.len()).collect();
        for (one, other) in same {
            if let (Some(one), Some(other)) = (number_of.get(one), number_of.get(other)) {
                join(&mut parents, *one, *other);
            }
        }
        let mut first = HashMap::new();
        for (number, node) in nodes.iter().enumerate() {
            if let Some(id) = known_content(known, *node) {
                join(&mut parents, *first.entry(id).or_insert(number), number);
            }
        }
        let mut sets: Vec<Vec<Node>> = vec![Vec::new(); nodes.len()];
        for (number, node) in nodes.iter().enumerate() {
            sets[root(&mut parents, number)].push(*node);
        }
        sets.retain(|set| !set.is_empty());
        let numbers = sets.iter().enumerate();
        number_of = numbers.flat_map(|(at, set)| set.iter().map(move |node| (*node, at))).collect();
        Self { number_of, sets }
    }

    /// The contents that the table knows of a set.
    fn known_contents(&self, set: &[Node], known: &[Option<Arc<Binding>>]) -> BTreeSet<ContentId> {
        set.iter().filter_map(|node| known_content(known, *node)).collect()
    }

    /// Refuses to join what digests tell apart, be it in proposals or in bindings in force.
    pub(crate) fn check_digests(
        &self,
        proposals: &[Proposal],
        known: &[Option<Arc<Binding>>],
        involved: &Involved,
    ) -> Result<(), BindError> {
        for set in &self.sets {
            let length = set.first().map(|(at, file)| proposals[*at].files[*file].length);
            let mut seen: BTreeMap<Name, (String, String)> = BTreeMap::new();
            let mut add = |digest: Name, label: String, path: &str| {
                let path = shown(path);
                let rival = seen.iter().find(|(other, _)| excludes(other, &digest, length));
                if let Some((_, (other_label, other_path))) = rival {
                    let (other_label, other_path) = (other_label.clone(), other_path.clone());
                    return Err(BindError::DigestsDiffer { label, path, other_label, other_path });
                }
                seen.entry(digest).or_insert((label, path));
                Ok(())
            };
            for (at, file) in set {
                let proposal = &proposals[*at];
                if let Some(digest) = proposal.files[*file].digest {
                    add(digest, proposal.label.clone(), &proposal.files[*file].path)?;
                }
            }
            for id in self.known_contents(set, known) {
                for (digest, name, path) in involved.digests.get(&id).into_iter().flatten() {
                    add(*digest, name.to_string(), path)?;
                }
            }
        }
        Ok(())
    }

    /// The content of each node, and which contents become which other.
    pub(crate) fn identities(
        &self,
        known: &[Option<Arc<Binding>>],
        involved: &Involved,
    ) -> Result<Identities, BindError> {
        let mut of_set = Vec::with_capacity(self.sets.len());
        let mut renamed = HashMap::new();
        for set in &self.sets {
            let known = self.known_contents(set, known);
            // The best proven stays; then the one that more bindings have. Ids are random: the last word is as good as any.
            let kept = known.iter().max_by_key(|id| (involved.weight(id), **id)).copied();
            let id = match kept {
                Some(id) => id,
                None => {
                    ContentId::random().map_err(|error| BindError::Random(error.to_string()))?
                }
            };
            renamed.extend(known.into_iter().filter(|old| *old != id).map(|old| (old, id)));
            of_set.push(id);
        }
        let ids = self.number_of.iter().map(|(node, number)| (*node, of_set[*number])).collect();
        Ok(Identities { ids, renamed })
    }
}

/// Which content is which, once a Bind is done.
pub(crate) struct Identities {
    /// The content of each file of the proposals.
    pub(crate) ids: HashMap<Node, ContentId>,
    /// Contents that are found to be another: the old one, and the one that stays.
    pub(crate) renamed: HashMap<ContentId, ContentId>,
}

fn root(parents: &mut [usize], mut at: usize) -> usize {
    while parents[at] != at {
        parents[at] = parents[parents[at]];
        at = parents[at];
    }
    at
}

fn join(parents: &mut [usize], one: usize, other: usize) {
    let (one, other) = (root(parents, one), root(parents, other));
    // The earlier one is the root, so that groups keep the order of their files.
    parents[one.max(other)] = one.min(other);
}

fn known_content(known: &[Option<Arc<Binding>>], (at, file): Node) -> Option<ContentId> {
    let id = known.get(at)?.as_ref()?.files.get(file)?.content;
    (id != EMPTY_CONTENT).then_some(id)
}

/// The bindings in force that share content with the proposals.
pub(crate) struct Involved {
    pub(crate) bindings: BTreeMap<Name, Arc<Binding>>,
    /// The digests of a content: digest, whose, and path.
    digests: HashMap<ContentId, Vec<(Name, Name, String)>>,
    /// Strongest evidence of a content, and how many bindings have it.
    weights: HashMap<ContentId, (Evidence, usize)>,
}

impl Involved {
    pub(crate) fn find(index: &Index, known: &[Option<Arc<Binding>>]) -> Self {
        let files = known.iter().flatten().flat_map(|binding| &binding.files);
        let ids: HashSet<ContentId> =
            files.map(|file| file.content).filter(|id| *id != EMPTY_CONTENT).collect();
        let names: BTreeSet<Name> = ids.iter().flat_map(|id| index.having(id)).collect();
        let bindings: BTreeMap<_, _> =
            names.into_iter().filter_map(|name| Some((name, index.get(&name)?))).collect();
        let (mut digests, mut weights) = (HashMap::<_, Vec<_>>::new(), HashMap::new());
        for (name, binding) in &bindings {
            let mut seen = HashSet::new();
            for file in binding.files.iter().filter(|file| ids.contains(&file.content)) {
                if !seen.insert(file.content) {
                    continue;
                }
                if let Some(digest) = file.digest {
                    let row = (digest, *name, file.path.clone());
                    digests.entry(file.content).or_default().push(row);
                }
                let weight = weights.entry(file.content).or_insert((Evidence::Hint, 0));
                *weight = (weight.0.max(binding.evidence), weight.1 + 1);
            }
        }
        Self { bindings, digests, weights }
    }

    fn weight(&self, id: &ContentId) -> (Evidence, usize) {
        self.weights.get(id).copied().unwrap_or((Evidence::Hint, 0))
    }
}
